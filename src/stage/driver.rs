//! The driver: runs an operator on a thread of its own.
//!
//! # One turn
//!
//! 1. *Stop conditions*: the token is cancelled, or the consumer has gone. After a stop nothing more is emitted, and what
//!    the operator holds is counted as abandoned.
//! 2. *Hand over* what the consumer is hungry for.
//! 3. *A timer* that is due. Timers go before items: an item that arrives at the moment a timer is due finds it fired.
//! 4. *One item* of the input, an error item, or the end.
//!
//! After each call of the operator its output is brought to rest: what it emitted is in the edge or in the open
//! chunk, nothing is left behind for want of room, and `resume` has returned false.
//!
//! The stage parks in two places only: for input (and timers), with the open chunk handed over; and for room. Before
//! both it announces the room it has made in its input.

use std::cell::RefCell;
use std::rc::Rc;

use super::operator::sealed::{Context, Sink};
use super::operator::{Operator, give, guarded};
use super::stats::Phase;
use super::thread::StageThread;
use super::wait::before_park;
use crate::error::Result;
use crate::stream::{EdgeSender, End, Input, Polled};

/// How many items an operator may emit in one call before it is told that the output is full, so that an endless one
/// comes back to the driver, which looks at cancellation and timers.
const QUOTA: u32 = 1024;

/// The output of a stage with one way out.
pub(crate) struct Output<T> {
    /// Shared with the thread's hook, which hands over what is open before the thread parks in a closure of the user's.
    sender: Rc<RefCell<EdgeSender<T>>>,
    context: Context,
    last_step: usize,
    quota: u32,
    closed: bool,
    /// Items emitted since the counters were brought up to date.
    emitted: u64,
    /// What they count as delivered beyond one each; wraps.
    correction: u64,
    marked: (usize, bool),
}

impl<T> Output<T> {
    pub(crate) fn new(sender: EdgeSender<T>, context: Context) -> Self {
        let last_step = context.stats.steps.len() - 1;
        Self {
            sender: Rc::new(RefCell::new(sender)),
            context,
            last_step,
            quota: QUOTA,
            closed: false,
            emitted: 0,
            correction: 0,
            marked: (0, false),
        }
    }

    /// For a stage that could not start.
    pub(crate) fn end(self, end: End) {
        self.sender.borrow_mut().end(end);
    }
}

impl<T> Sink<T> for Output<T> {
    #[inline]
    fn put(&mut self, item: Result<T>) {
        self.quota = self.quota.saturating_sub(1);
        self.emitted += u64::from(item.is_ok());
        self.sender.borrow_mut().push(item);
    }

    #[inline]
    fn full(&mut self) -> bool {
        // Each look costs, too: an operator whose items all go down a filter must come back to the driver as well.
        self.quota = self.quota.saturating_sub(1);
        self.quota == 0 || self.closed || self.sender.borrow_mut().is_full()
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    #[inline]
    fn step(&self) -> usize {
        self.last_step
    }

    #[inline]
    fn context(&self) -> &Context {
        &self.context
    }

    #[inline]
    fn mark(&mut self, step: usize, is_item: bool) {
        self.marked = (step, is_item);
    }

    fn marked(&self) -> (usize, bool) {
        self.marked
    }

    #[inline]
    fn correct(&mut self, delivered: u64) {
        self.correction = self.correction.wrapping_add(delivered);
    }

    #[inline]
    fn sync(&mut self) {
        let emitted = std::mem::take(&mut self.emitted);
        let step = &self.context.stats.steps[self.last_step];
        step.emitted.add(emitted);
        step.delivered.add(emitted.wrapping_add(std::mem::take(&mut self.correction)));
    }
}

/// Why a stage ends before its input does.
enum Stop {
    Cancelled,
    ConsumerGone,
}

pub(crate) struct Driver<O: Operator> {
    op: O,
    input: Input<O::In>,
    out: Output<O::Out>,
    thread: StageThread,
    /// Items received since the counters were brought up to date.
    received: u64,
    /// Turns since then.
    turns: u32,
}

/// How many items may pass before the counters are brought up to date.
const TURNS: u32 = 64;

impl<O: Operator> Driver<O> {
    pub(crate) fn new(op: O, input: Input<O::In>, out: Output<O::Out>, thread: StageThread) -> Self {
        out.sender.borrow().watch(thread.wake());
        let sender = Rc::downgrade(&out.sender);
        let announce = input.announcer();
        before_park(move || {
            if let Some(sender) = sender.upgrade()
                && let Ok(mut sender) = sender.try_borrow_mut()
            {
                sender.hand_over();
            }
            announce();
        });
        Self { op, input, out, thread, received: 0, turns: 0 }
    }

    pub(crate) fn run(mut self) {
        let end = match self.work() {
            Ok(end) => end,
            // Nobody will see how it ended, but the edge is told all the same.
            Err(Stop::Cancelled | Stop::ConsumerGone) => End::Cut(self.thread.cut()),
        };
        self.publish();
        self.abandon_held();
        self.out.sender.borrow_mut().end(end);
    }

    fn work(&mut self) -> Result<End, Stop> {
        // An operator may have something to say before its first item: that there will be nothing, for one.
        self.check()?;
        self.call(|_, _| {})?;
        if self.out.closed {
            return Ok(End::Finished);
        }
        loop {
            self.check()?;
            self.out.sender.borrow_mut().hand_over_if_hungry();
            self.turns += 1;
            // Once everything has been handed over, the consumer may count on what the counters say.
            if self.turns >= TURNS || self.out.sender.borrow_mut().is_handed_over() {
                self.publish();
            }
            if self.op.next_wake().is_some_and(|wake| wake <= self.thread.token.now()) {
                self.call(|op, out| op.timer(out))?;
            } else {
                match self.input.poll() {
                    Polled::Item(item) => {
                        self.count(&item);
                        self.call(|op, out| give(op, item, out))?;
                    }
                    Polled::Empty => self.wait_for_input(),
                    Polled::Ended(End::Finished) => {
                        self.call(|op, out| op.end(out))?;
                        return Ok(End::Finished);
                    }
                    Polled::Ended(cut) => return Ok(cut),
                }
            }
            if self.out.closed {
                return Ok(End::Finished);
            }
        }
    }

    #[inline]
    fn count(&mut self, item: &Result<O::In>) {
        let first = &self.thread.stats.steps[0];
        match item {
            Ok(_) if O::PLAIN => self.received += 1,
            // The guard of one that is not plain looks at what it has received.
            Ok(_) => first.received.add(1),
            Err(_) => first.errors_in.add(1),
        }
    }

    /// Brings the shared counters up to date.
    #[inline]
    fn publish(&mut self) {
        self.turns = 0;
        let stats = &self.thread.stats;
        stats.steps[0].received.add(std::mem::take(&mut self.received));
        self.op.publish(stats, self.out.last_step);
        self.out.sync();
    }

    #[inline]
    fn check(&self) -> Result<(), Stop> {
        if self.thread.is_stopped() {
            return Err(Stop::Cancelled);
        }
        if self.out.sender.borrow_mut().is_gone() {
            return Err(Stop::ConsumerGone);
        }
        Ok(())
    }

    /// One call of the operator, and all that follows from it.
    #[inline]
    fn call(&mut self, call: impl FnOnce(&mut O, &mut Output<O::Out>)) -> Result<(), Stop> {
        self.out.quota = QUOTA;
        guarded(&mut self.op, &mut self.out, call);
        loop {
            if self.out.sender.borrow_mut().is_stuck() {
                self.wait_for_room(false)?;
            }
            self.debug_check();
            if O::PLAIN || self.out.closed || !guarded(&mut self.op, &mut self.out, |op, out| op.resume(out)) {
                break;
            }
            self.check()?;
            self.out.sender.borrow_mut().hand_over_if_hungry();
            if self.out.sender.borrow_mut().is_full() {
                self.wait_for_room(true)?;
            }
            self.out.quota = QUOTA;
        }
        if !O::PLAIN {
            if self.out.sender.borrow_mut().is_stuck() {
                self.wait_for_room(false)?;
            }
            self.debug_check();
        }
        Ok(())
    }

    fn wait_for_input(&mut self) {
        self.publish();
        self.out.sender.borrow_mut().hand_over();
        self.input.settle();
        let out = self.out.sender.borrow();
        self.thread.wait_for_input(&self.input, self.op.next_wake(), || out.is_gone(), |_| out.is_gone());
    }

    /// Returns when there is room for everything that was emitted, and if `more`, for another item.
    #[cold]
    fn wait_for_room(&mut self, more: bool) -> Result<(), Stop> {
        self.publish();
        loop {
            self.check()?;
            self.out.sender.borrow_mut().hand_over();
            let waiting = self.out.sender.borrow_mut().is_stuck() || (more && self.out.sender.borrow_mut().is_full());
            if !waiting {
                return Ok(());
            }
            self.input.settle();
            let out = self.out.sender.borrow();
            let wake = self.thread.wake();
            self.thread.wait(Phase::Blocked, None, || out.may_have_room(), |_| out.want_room(wake));
        }
    }

    fn abandon_held(&mut self) {
        for step in &self.thread.stats.steps {
            step.abandoned.add(step.unsettled());
        }
    }

    #[inline]
    fn debug_check(&mut self) {
        if cfg!(debug_assertions) {
            self.publish();
            let stats = &self.thread.stats;
            self.op.held_by_step(self.out.last_step, &mut |step, held| {
                let step = &stats.steps[step];
                assert_eq!(step.unsettled(), held, "step `{}` of stage `{}` miscounts", step.name, stats.name);
            });
        }
    }
}
