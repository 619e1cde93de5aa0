//! [`Sides`]: the two inputs of a join; the operator decides which one is read.
//!
//! # Invariants
//!
//! - The input whose watermark is behind is read first, so that the other one fills the state no more than necessary.
//!   If it has nothing, the other one is read, unless its items in the state have reached their maximum.
//! - An input that has nothing when its turn comes is asked, so that its producer hands over the next item at once,
//!   although the stage is busy with the other one.
//! - The operator is told that an input has ended before anything else is read: see `steering.rs`.
//! - A label of a merge (see `stage/origins.rs`) reaches the operator with the side that it came from: see [`side_of`].
//! - If an input is cut, the output is cut: items without a partner so far cannot be told from those that never get
//!   one.

use std::time::Instant;

use crate::clock::wait::Waiter;
use crate::edge::{End, Polled};
use crate::error::StreamError;
use crate::mark::Label;
use crate::operators::steering::Steering;
use crate::stage::input::{Feed, Input, Inputs, announcer};
use crate::stage::origins::Labels;
use crate::stage::thread::StageThread;

/// An item of one of the inputs.
pub(super) enum Arrived<L, R> {
    Left(L),
    Right(R),
}

/// The numbers of the inputs, for [`Steering::tell_end`].
pub(super) const LEFT: usize = 0;
pub(super) const RIGHT: usize = 1;

/// Which input is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Turn {
    LeftFirst,
    RightFirst,
    LeftOnly,
    RightOnly,
}

impl Turn {
    #[inline]
    fn of(steering: &Steering) -> Self {
        match steering.turn() {
            0 => Self::LeftFirst,
            1 => Self::RightFirst,
            2 => Self::LeftOnly,
            _ => Self::RightOnly,
        }
    }
}

/// The inputs. An input that has ended is removed.
pub(super) struct Sides<L, R> {
    inputs: (Option<Input<L>>, Option<Input<R>>),
    steering: Steering,
    labels: Labels,
}

impl<L: Send + 'static, R: Send + 'static> Sides<L, R> {
    pub(super) fn new(left: Input<L>, right: Input<R>, steering: Steering) -> Self {
        Self { inputs: (Some(left), Some(right)), steering, labels: Labels::default() }
    }

    #[inline]
    fn poll_left(&mut self, is_beside: bool) -> Polled<Arrived<L, R>> {
        poll((LEFT, &mut self.inputs.0), is_beside, (&self.steering, &self.labels), Arrived::Left)
    }

    #[inline]
    fn poll_right(&mut self, is_beside: bool) -> Polled<Arrived<L, R>> {
        poll((RIGHT, &mut self.inputs.1), is_beside, (&self.steering, &self.labels), Arrived::Right)
    }
}

/// Polls one of the inputs. `is_beside` if the other one is read in case this one has nothing.
#[inline]
fn poll<T: Send + 'static, O>(
    (number, input): (usize, &mut Option<Input<T>>),
    is_beside: bool,
    (steering, labels): (&Steering, &Labels),
    arrived: impl FnOnce(T) -> O,
) -> Polled<O> {
    let Some(open) = input else { return Polled::Empty };
    if is_beside && open.ask_beside() {
        return Polled::Empty;
    }
    match open.poll() {
        Polled::Item(item) => Polled::Item(item.map(arrived).map_err(|error| of_side(error, number, labels))),
        Polled::Empty => Polled::Empty,
        Polled::Ended(End::Finished) => {
            *input = None;
            steering.tell_end(number);
            Polled::Empty
        }
        Polled::Ended(cut) => Polled::Ended(cut),
    }
}

/// Stands for an unknown origin: no merge has this many inputs.
const UNKNOWN: usize = usize::MAX >> 1;

/// An error item or a mark of that side.
#[inline]
fn of_side(error: StreamError, side: usize, labels: &Labels) -> StreamError {
    let Some(label) = error.label() else { return error.widened() };
    error.complete_mark();
    let of_side = |origin: usize| 2 * origin + side;
    labels.mark(match label {
        Label::Follows(origin) => Label::Follows(Some(of_side(origin.unwrap_or(UNKNOWN)))),
        Label::State(origin, state) => Label::State(of_side(origin), state),
    })
}

/// The side from which a label came, and the label of the merge there.
pub(super) fn side_of(label: Label) -> (usize, Label) {
    match label {
        Label::Follows(None) => unreachable!("each label that the feed gives has a side"),
        Label::Follows(Some(origin)) => (origin % 2, Label::Follows(Some(origin / 2).filter(|it| *it != UNKNOWN))),
        Label::State(origin, state) => (origin % 2, Label::State(origin / 2, state)),
    }
}

impl<L: Send + 'static, R: Send + 'static> Feed for Sides<L, R> {
    type Item = Arrived<L, R>;
    type Hand = ();

    #[inline]
    fn poll(&mut self) -> Polled<Arrived<L, R>> {
        let polled = match Turn::of(&self.steering) {
            Turn::LeftOnly => self.poll_left(false),
            Turn::RightOnly => self.poll_right(false),
            Turn::LeftFirst => match self.poll_left(true) {
                Polled::Empty if !self.steering.has_news() => self.poll_right(false),
                polled => polled,
            },
            Turn::RightFirst => match self.poll_right(true) {
                Polled::Empty if !self.steering.has_news() => self.poll_left(false),
                polled => polled,
            },
        };
        match (&polled, &self.inputs) {
            (Polled::Empty, (None, None)) => Polled::Ended(End::Finished),
            _ => polled,
        }
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        if self.steering.has_news() {
            return;
        }
        match Turn::of(&self.steering) {
            Turn::LeftOnly => thread.wait_for_inputs(&self.inputs.0, until, hint, register),
            Turn::RightOnly => thread.wait_for_inputs(&self.inputs.1, until, hint, register),
            Turn::LeftFirst | Turn::RightFirst => thread.wait_for_inputs(&self.inputs, until, hint, register),
        }
    }

    fn settle(&self) {
        self.inputs.settle();
    }

    fn announcer(&self) -> Box<dyn Fn()> {
        announcer(&self.inputs)
    }
}
