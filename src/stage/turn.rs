//! [`Turns`]: an operator, the calls it has received, and the one that is next.
//!
//! This is the loop of every stage that runs an operator, written once: the driver and the reader run it on a thread,
//! and the test harness without one. They differ in what they do while the operator waits: for input, for room or for
//! its time.
//!
//! # One turn
//!
//! 1. *More to emit.* An operator that was called is resumed until it has nothing more to emit, unless it knows that it
//!    has nothing. Only then does it receive anything else.
//! 2. *The end.* When it has been notified of the end and waits for nothing, the items it has kept fail, and it has finished.
//! 3. *A drain*, of which it is notified once.
//! 4. *A timer* that is due. Timers go before items: an item that arrives at the moment a timer is due finds it fired.
//! 5. *The input*: an item, an error item, a mark, or the end; unless the operator is waiting for its time. Before that,
//!    it may be told what comes next: see [`Ahead`].

use std::time::Instant;

use super::input::Feed;
use super::marks::Marks;
use super::operator::sealed::Utterance;
use super::operator::{Emit, Operator, Shaped, Timer, give, guarded, resumed};
use crate::error::Result;
use crate::panic::Guarded;

/// The number of entries that an operator is told of at a time.
const AHEAD: usize = 16;

pub(crate) struct Turns<O: Operator> {
    /// Guarded, because a panic of the caller may unwind through a reader.
    op: Guarded<O>,
    timer: Timer,
    marks: Marks,
    /// It must be resumed. A plain operator never has to.
    pending: bool,
    ahead: Ahead,
    told_of_drain: bool,
    told_of_end: bool,
    /// The items it had left after the end have failed.
    is_settled: bool,
}

/// The result of a turn.
pub(crate) enum Next {
    /// The operator was called.
    Called,
    /// It was called, and has more to emit when there is room.
    More,
    /// It can take nothing before that time, if there is one, or before it is told of a drain.
    Asleep(Option<Instant>),
    /// It is ready for the next entry of its input.
    Input,
    /// It will emit nothing more.
    Over,
}

/// What an operator has been told of the next entries of its input.
#[derive(Default)]
pub(crate) struct Ahead {
    /// The number of entries that it has been told of and has not received; or that it does not want to be told of.
    told: usize,
    /// It is never told.
    is_off: bool,
}

impl Ahead {
    /// Tells the operator what comes next, unless it knows.
    #[inline(always)]
    pub(crate) fn look<O: Operator, F: Feed<Item = O::In>>(&mut self, op: &mut O, feed: &mut F) {
        if O::PREFETCHES && self.told == 0 && !self.is_off {
            if !op.looks_ahead() {
                self.told = AHEAD;
                return;
            }
            // A plain operator runs in bursts.
            if !O::PLAIN {
                feed.make_ahead(AHEAD);
            }
            let next = feed.at_hand();
            self.told = next.len().min(AHEAD);
            // Most feeds never have any, which the compiler knows.
            if !next.is_empty() {
                op.prefetch(&next[..self.told]);
            }
        }
    }

    /// It is given the next entry.
    #[inline(always)]
    pub(crate) fn given<O: Operator>(&mut self) {
        if O::PREFETCHES {
            self.told = self.told.saturating_sub(1);
        }
    }
}

impl<O: Operator> Turns<O> {
    /// An operator may have something to emit before its first item: that there will be nothing, for example.
    pub(crate) fn new(op: O) -> Self {
        Self {
            op: Guarded::new(op, O::discard),
            timer: Timer::default(),
            marks: Marks::default(),
            pending: !O::PLAIN,
            ahead: Ahead::default(),
            told_of_drain: false,
            told_of_end: false,
            is_settled: false,
        }
    }

    #[inline]
    pub(crate) fn op(&self) -> &O {
        &self.op
    }

    #[inline]
    pub(crate) fn op_mut(&mut self) -> &mut O {
        &mut self.op
    }

    /// For a burst.
    #[inline]
    pub(crate) fn parts(&mut self) -> (&mut O, &mut Ahead) {
        (&mut self.op, &mut self.ahead)
    }

    /// If its items are measured, each must pay for itself: then it is not told what comes next.
    pub(crate) fn measured(mut self, is_measured: bool) -> Self {
        self.ahead.is_off = is_measured;
        self
    }

    /// Tells it what the feed has at hand. Called before the feed is polled.
    #[inline]
    pub(crate) fn look_ahead<F: Feed<Item = O::In>>(&mut self, feed: &mut F) {
        self.ahead.look(&mut *self.op, feed);
    }

    /// Takes the next turn, up to the input. `is_draining` is called until it has returned true.
    #[inline]
    pub(crate) fn next<E: Emit<O::Out>>(&mut self, out: &mut E, is_draining: impl FnOnce() -> bool) -> Next {
        if out.is_closed() {
            return Next::Over;
        }
        if self.pending {
            return self.resume(out);
        }
        let is_waiting = self.timer.is_waited_for(self.op());
        if self.told_of_end && !is_waiting {
            return self.settle(out);
        }
        if !self.told_of_drain && is_draining() {
            self.drain(out);
            return Next::Called;
        }
        match self.timer.next_wake(self.op()) {
            Some(wake) if wake <= out.now() => {
                self.fire(out);
                Next::Called
            }
            wake if is_waiting => Next::Asleep(wake),
            _ => Next::Input,
        }
    }

    /// Passes it the next entry of its input.
    #[inline]
    pub(crate) fn give<E: Emit<O::Out>>(&mut self, item: Result<O::In>, out: &mut E) {
        self.ahead.given::<O>();
        match item {
            Err(mark) if !O::COMPOSITE && !O::PLAIN && mark.is_mark() => {
                self.marks.arrive(mark, &mut *self.op, out);
                // A mark that it takes may give it something to emit.
                self.pending = true;
            }
            item => self.call(out, |op, out| give(op, item, out)),
        }
    }

    /// Tells it that its input has ended.
    pub(crate) fn end<E: Emit<O::Out>>(&mut self, out: &mut E) {
        self.told_of_end = true;
        self.call(out, O::end);
    }

    /// Tells it that the pipeline is being drained.
    #[cold]
    pub(crate) fn drain<E: Emit<O::Out>>(&mut self, out: &mut E) {
        self.told_of_drain = true;
        self.call(out, O::drain);
    }

    #[inline]
    fn call<E: Emit<O::Out>>(&mut self, out: &mut E, call: impl FnOnce(&mut O, &mut E)) {
        self.timer.reset();
        let op = &mut *self.op;
        guarded(op, out, call);
        self.pending = self.marks.need_resume(op);
    }

    #[cold]
    fn fire<E: Emit<O::Out>>(&mut self, out: &mut E) {
        let now = out.now();
        self.timer.fire(&mut *self.op, now, out);
        self.pending = true;
    }

    #[inline]
    fn resume<E: Emit<O::Out>>(&mut self, out: &mut E) -> Next {
        self.pending = resumed(&mut *self.op, out);
        if self.pending {
            return Next::More;
        }
        // Only now: the operator's remaining items go before the marks.
        self.marks.release(&*self.op, out);
        Next::Called
    }

    #[cold]
    fn settle<E: Emit<O::Out>>(&mut self, out: &mut E) -> Next {
        if self.is_settled {
            return Next::Over;
        }
        self.is_settled = true;
        // In this order: the error item for the kept items goes before the marks that waited for them.
        self.op.utter(Utterance::Unsettled, out);
        self.marks.release_all(out);
        Next::Called
    }

    /// Whether it must be resumed before anything else.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.pending
    }

    pub(crate) fn is_told_of_drain(&self) -> bool {
        self.told_of_drain
    }

    pub(crate) fn is_told_of_end(&self) -> bool {
        self.told_of_end
    }

    /// Whether the items it has left no longer count: they have failed.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// When it must be woken.
    #[inline]
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.timer.next_wake(self.op())
    }

    /// Drops the operator. A panic in a user's drop is not a bug of this library.
    pub(crate) fn discard(self) {
        drop(self.op);
    }
}
