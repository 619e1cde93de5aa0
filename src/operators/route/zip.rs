//! [`Stream::zip`]: combines two streams into one of pairs.
//!
//! The feed returns the items of both inputs in turn, and an operator combines two. So each item is received and
//! settled as in every other stage, and only the input whose turn it is has to be waited for.

use std::time::Instant;

use crate::clock::wait::Waiter;
use crate::edge::{End, Polled};
use crate::error::StreamError;
use crate::panic::{Held, guard_drop};
use crate::stage::input::{Feed, Input, Inputs, announcer};
use crate::stage::operator::sealed::Shape;
use crate::stage::thread::StageThread;
use crate::stage::{Emit, Operator};
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_driver};

enum Side<A, B> {
    First(A),
    Second(B),
}

/// An item of the first input, one of the second, and so on. Errors are returned in between, when the input has its
/// turn.
///
/// When the first has ended, the second keeps its turn until it gives an item, which has no partner, or ends: so the errors
/// and marks behind its last partner pass.
///
/// A pair has the origin of the item of one input: the labels of the other input are dropped.
struct InTurn<A, B> {
    inputs: (Input<A>, Input<B>),
    turn: Turn,
    /// Whether the labels of the first input are forwarded.
    is_first_labelled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Second,
    /// The first has ended.
    Last,
    Over,
}

impl<A: Send + 'static, B: Send + 'static> Feed for InTurn<A, B> {
    type Item = Side<A, B>;
    type Hand = ();

    #[inline]
    fn poll(&mut self) -> Polled<Side<A, B>> {
        loop {
            let is_first = self.turn == Turn::First;
            let polled = match self.turn {
                Turn::First => side(self.inputs.0.poll(), Side::First),
                Turn::Second | Turn::Last => side(self.inputs.1.poll(), Side::Second),
                Turn::Over => return Polled::Ended(End::Finished),
            };
            let polled = match polled {
                Polled::Item(Err(mark)) if mark.label().is_some() && is_first != self.is_first_labelled => {
                    mark.complete_mark();
                    continue;
                }
                polled => polled,
            };
            self.turn = match (&polled, self.turn) {
                (Polled::Item(Ok(_)), Turn::First) => Turn::Second,
                (Polled::Item(Ok(_)), Turn::Second) => Turn::First,
                (Polled::Item(Ok(_)), Turn::Last | Turn::Over) => Turn::Over,
                (Polled::Ended(End::Finished), Turn::First) => {
                    self.turn = Turn::Last;
                    continue;
                }
                (_, turn) => turn,
            };
            return polled;
        }
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        match self.turn {
            Turn::First => self.inputs.0.wait(thread, until, hint, register),
            _ => self.inputs.1.wait(thread, until, hint, register),
        }
    }

    fn settle(&self) {
        self.inputs.settle();
    }

    fn announcer(&self) -> Box<dyn Fn()> {
        announcer(&self.inputs)
    }
}

#[inline]
fn side<T, S>(polled: Polled<T>, of: impl FnOnce(T) -> S) -> Polled<S> {
    match polled {
        Polled::Item(item) => Polled::Item(item.map(of).map_err(StreamError::widened)),
        Polled::Empty => Polled::Empty,
        Polled::Ended(end) => Polled::Ended(end),
    }
}

/// Combines the two items of a turn.
struct Pair<A, B> {
    first: Held<Option<A>>,
    second: std::marker::PhantomData<fn(B)>,
}

impl<A: Send + 'static, B: Send + 'static> Operator for Pair<A, B> {
    type In = Side<A, B>;
    type Out = (A, B);

    const SHAPE: Shape = Shape::KEEPS_ORIGINS;

    #[inline]
    fn item(&mut self, item: Side<A, B>, out: &mut impl Emit<(A, B)>) {
        match (item, self.first.take()) {
            (Side::First(first), _) => *self.first = Some(first),
            (Side::Second(second), Some(first)) => out.emit_from((first, second), 2),
            (Side::Second(second), None) => {
                guard_drop(second);
                out.filtered(1);
            }
        }
    }

    fn end(&mut self, out: &mut impl Emit<(A, B)>) {
        if let Some(first) = self.first.take() {
            guard_drop(first);
            out.filtered(1);
        }
    }

    fn held(&self) -> u64 {
        u64::from(self.first.is_some())
    }

    /// A label describes the pair that is made next, and does not wait for it.
    fn take_mark(&mut self, mark: StreamError, out: &mut impl Emit<(A, B)>) -> Option<StreamError> {
        if mark.label().is_some() {
            out.put_mark(mark);
            return None;
        }
        Some(mark)
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Pairs the items of two streams by position: the first with the first, the second with the second. Ends when one
    /// of them has ended and the other one has given its next item, or ended, too. Default name: `zip`.
    ///
    /// The item without a partner is counted as filtered. The error items that follow the last partner in the other stream are
    /// forwarded.
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("pairs");
    /// let names = Stream::from_iter(&pipeline, ["ada", "bo", "chen"]);
    /// let ages = Stream::from_iter(&pipeline, [36, 41]);
    /// assert_eq!(names.zip(ages).collect::<Vec<_>>()?, [("ada", 36), ("bo", 41)]);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Ordering
    /// Kept. The streams are read in turn, an item of each; the error items that arrive before it are forwarded alone.
    /// An error in place of an item shifts the partners of all that follow: where that matters, pair the items before
    /// they can fail.
    ///
    /// # Event time
    /// If one of the streams stems from a [merge](crate::FanIn#event-time), windows behind the pairs keep a watermark for each of its
    /// inputs. If both do, the inputs of this one count: take the time of a pair from its first item.
    ///
    /// # Back-pressure
    /// The faster stream waits for the slower one. Streams from one stage, such as those of a
    /// [`fan_out`](Self::fan_out), can be zipped if each of them has one item for each item of the other; if a filter
    /// thins out one of them, the other fills up and the stage before them waits forever.
    ///
    /// # Memory
    /// One item is held while it waits for its partner.
    ///
    /// # Cancellation
    /// The output is cut, as it is where one of the streams was cut.
    ///
    /// # Panics
    /// If the pipeline has finished, or the other stream belongs to another pipeline.
    #[doc(alias("zip_with", "pair", "combine"))]
    #[track_caller]
    pub fn zip<U: Send + 'static>(self, other: Stream<U>) -> Stream<(T, U)> {
        let token = self.token().clone();
        let mut registered = Registered::with_pair(&token, (&self, &other), "zip");
        let is_first_labelled = self.origins().is_some();
        registered.origins = self.origins().or(other.origins()).cloned();
        let feed = InTurn { inputs: (self.into_input(), other.into_input()), turn: Turn::First, is_first_labelled };
        let pair = Pair { first: Held::default(), second: std::marker::PhantomData };
        spawn_driver(registered, None, pair, feed)
    }
}

#[cfg(test)]
mod tests {
    use crate::{ErrorKind, Pipeline, Stream, StreamError};

    #[test]
    fn pairs_end_with_the_shorter_stream_and_no_item_is_lost() {
        for (left, right, filtered) in [(10, 7, 1), (7, 10, 1), (5, 5, 0), (0, 3, 1), (3, 0, 1), (0, 0, 0)] {
            let pipeline = Pipeline::builder("zip").capacity(3).build();
            let numbers = |n| Stream::from_iter(&pipeline, 0..n);
            let pairs = numbers(left).zip(numbers(right).map(|n| n * n)).collect::<Vec<_>>().unwrap();
            let pair_count = left.min(right);
            assert!(pairs.into_iter().eq((0..pair_count).map(|n| (n, n * n))));
            let report = pipeline.join();
            let zip = report.stage("zip").unwrap();
            assert_eq!((zip.received(), zip.removed()), (2 * pair_count + filtered, filtered), "{report}");
            assert_eq!((zip.emitted(), zip.inputs.len()), (pair_count, 2));
        }
    }

    #[test]
    fn errors_of_both_pass_once() {
        let pipeline = Pipeline::new("zip");
        let sides: Vec<_> = (0..2)
            .map(|side| {
                let (sender, stream) = Stream::channel(&pipeline, 8);
                sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
                sender.send(side).unwrap();
                stream
            })
            .collect();
        let [left, right]: [_; 2] = sides.try_into().unwrap();
        let seen: Vec<_> = left.zip(right).into_iter().map(Result::ok).collect();
        assert_eq!(seen, [None, None, Some((0, 1))]);
    }

    #[test]
    fn errors_behind_the_last_partner_pass() {
        for is_first in [true, false] {
            let pipeline = Pipeline::new("zip");
            let (sender, failing) = Stream::channel(&pipeline, 8);
            sender.send(0).unwrap();
            sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
            sender.finish();
            let whole = Stream::from_iter(&pipeline, [0]);
            let pairs = if is_first { failing.zip(whole) } else { whole.zip(failing) };
            let seen: Vec<_> = pairs.into_iter().map(Result::ok).collect();
            assert_eq!(seen, [Some((0, 0)), None]);
            assert!(pipeline.join().is_complete());
        }
    }

    #[test]
    fn a_cut_side_cuts_the_pairs() {
        let pipeline = Pipeline::new("zip");
        let broken = Stream::from_iter(&pipeline, (0..5).inspect(|n| assert!(*n < 3, "broken")));
        let mut seen: Vec<_> = Stream::from_iter(&pipeline, 0u32..).zip(broken).into_iter().collect();
        assert!(seen.pop().unwrap().unwrap_err().is_cancelled());
        assert_eq!(seen.len(), 3);
        pipeline.join();
    }

    #[test]
    #[should_panic(expected = "its input to pipeline `other`")]
    fn streams_of_two_pipelines_are_refused() {
        let (one, other) = (Pipeline::new("one"), Pipeline::new("other"));
        _ = Stream::from_iter(&one, [1]).zip(Stream::from_iter(&other, [2]));
    }
}
