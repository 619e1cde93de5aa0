//! The reader: runs the last steps of a stream on the thread that takes what comes out.
//!
//! It is a driver without an edge behind it: it makes a turn when it is asked for the next item, and there is none left.
//! The last step is the end itself, which only passes on; what comes out of it has been delivered.
//!
//! What the caller does with an item, it does outside of any guard: a panic there is the caller's. Where its closure is
//! called from within a guard, to make one loop of a plain operator and it, the panic is sent on.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::driver::count_error;
use super::operator::sealed::{Context, Sink};
use super::operator::{Operator, give, guarded, panicked};
use super::panic;
use super::thread::StageThread;
use crate::error::Result;
use crate::stream::{End, Feed, Polled, Tally};

/// As for the driver: how often an operator may ask in one call whether there is room.
const QUOTA: u32 = 1024;

/// How many items may pass before the counters are brought up to date.
const TURNS: u64 = 64;

pub(crate) struct Reader<O: Operator, F: Feed<Item = O::In>> {
    op: O,
    feed: F,
    thread: StageThread,
    out: Outbox<O::Out>,
    /// The operator may have more to say.
    pending: bool,
    /// The operator has been ended.
    ended: bool,
    /// Items received since the counters were brought up to date.
    received: u64,
    tally: Tally,
    /// How many items of the tally the counters know of.
    published: u64,
}

/// What the operator said and nobody has taken yet.
struct Outbox<T> {
    next: Option<Result<T>>,
    /// What it said beyond one item in one call.
    more: VecDeque<Result<T>>,
    context: Context,
    last_step: usize,
    quota: u32,
    closed: bool,
    marked: (usize, bool),
}

/// What a burst came to.
enum Burst<B> {
    /// The caller has enough.
    Enough(B),
    Empty,
    Ended(End),
    /// It is time to look around.
    Over,
}

/// Marks, in place of a step, that a panic is the caller's.
const AT_THE_CALLER: usize = usize::MAX;

/// The way to the caller's closure for a plain operator, whose last act in a call is to emit.
struct Direct<'a, T, B, F> {
    f: &'a mut F,
    enough: Option<B>,
    tally: &'a mut Tally,
    out: &'a mut Outbox<T>,
}

impl<T, B, F: FnMut(Result<T>) -> ControlFlow<B>> Sink<T> for Direct<'_, T, B, F> {
    #[inline(always)]
    fn put(&mut self, item: Result<T>) {
        count_delivered(self.tally, &item);
        self.out.marked.0 = AT_THE_CALLER;
        if let ControlFlow::Break(value) = (self.f)(item) {
            self.enough = Some(value);
        }
    }

    fn full(&mut self) -> bool {
        false
    }

    fn close(&mut self) {}

    fn is_closed(&self) -> bool {
        false
    }

    #[inline]
    fn step(&self) -> usize {
        self.out.step()
    }

    #[inline]
    fn context(&self) -> &Context {
        self.out.context()
    }

    #[inline]
    fn mark(&mut self, step: usize, is_item: bool) {
        self.out.mark(step, is_item);
    }

    fn marked(&self) -> (usize, bool) {
        self.out.marked()
    }

    fn correct(&mut self, _delivered: u64) {}

    fn sync(&mut self) {}
}

#[inline]
fn count_delivered<T>(tally: &mut Tally, item: &Result<T>) {
    match item {
        Ok(_) => tally.items += 1,
        Err(_) => tally.errors += 1,
    }
}

impl<T> Outbox<T> {
    #[inline]
    fn take(&mut self) -> Option<Result<T>> {
        let next = self.next.take();
        if !self.more.is_empty() {
            self.next = self.more.pop_front();
        }
        next
    }
}

impl<T> Sink<T> for Outbox<T> {
    #[inline(always)]
    fn put(&mut self, item: Result<T>) {
        if self.next.is_none() {
            self.next = Some(item);
        } else {
            self.more.push_back(item);
        }
    }

    fn full(&mut self) -> bool {
        self.quota = self.quota.saturating_sub(1);
        self.quota == 0 || self.closed || self.next.is_some()
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

    // The end delivers one by one, when an item is taken.
    fn correct(&mut self, _delivered: u64) {}

    fn sync(&mut self) {}
}

impl<O: Operator, F: Feed<Item = O::In>> Reader<O, F> {
    pub(crate) fn new(op: O, feed: F, context: Context, thread: StageThread) -> Self {
        let last_step = context.stats.steps.len() - 1;
        let out = Outbox {
            next: None,
            more: VecDeque::new(),
            context,
            last_step,
            quota: QUOTA,
            closed: false,
            marked: (0, false),
        };
        Self {
            op,
            feed,
            thread,
            out,
            pending: !O::PLAIN,
            ended: false,
            received: 0,
            tally: Tally::default(),
            published: 0,
        }
    }

    pub(crate) fn thread(&self) -> &StageThread {
        &self.thread
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// The next item; waits for it.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Result<O::Out>, End> {
        loop {
            if !O::PLAIN && self.thread.is_stopped() {
                return Err(End::Cut(self.thread.cut()));
            }
            if let Some(item) = self.out.take() {
                return Ok(self.delivered(item));
            }
            if self.thread.is_stopped() {
                return Err(End::Cut(self.thread.cut()));
            }
            if self.tally.items - self.published >= TURNS || self.received >= TURNS {
                self.publish();
            }
            if !O::PLAIN && self.has_more_to_say()? {
                continue;
            }
            match self.feed.poll() {
                Polled::Item(item) => {
                    self.count(&item);
                    self.out.quota = QUOTA;
                    guarded(&mut self.op, &mut self.out, |op, out| give(op, item, out));
                    self.pending = !O::PLAIN;
                }
                Polled::Empty => self.wait(),
                Polled::Ended(End::Finished) if !self.ended => {
                    self.ended = true;
                    guarded(&mut self.op, &mut self.out, |op, out| op.end(out));
                    self.pending = !O::PLAIN;
                }
                Polled::Ended(end) => return Err(end),
            }
        }
    }

    /// Calls `f` with one item after another until it has enough.
    #[inline]
    pub(crate) fn each<B>(&mut self, mut f: impl FnMut(Result<O::Out>) -> ControlFlow<B>) -> Result<B, End> {
        if !O::PLAIN {
            loop {
                if let ControlFlow::Break(value) = f(self.next()?) {
                    return Ok(value);
                }
            }
        }
        loop {
            // What a panic has left.
            while let Some(item) = self.out.take() {
                if let ControlFlow::Break(value) = f(self.delivered(item)) {
                    return Ok(value);
                }
            }
            if self.thread.is_stopped() {
                return Err(End::Cut(self.thread.cut()));
            }
            match self.burst(&mut f) {
                Burst::Enough(value) => return Ok(value),
                Burst::Empty => self.wait(),
                Burst::Ended(end) => return Err(end),
                Burst::Over => self.publish(),
            }
        }
    }

    /// Many turns of a plain operator under one guard, with `f` called from within.
    #[inline]
    fn burst<B>(&mut self, f: &mut impl FnMut(Result<O::Out>) -> ControlFlow<B>) -> Burst<B> {
        let (op, feed, thread, received) = (&mut self.op, &mut self.feed, &self.thread, &mut self.received);
        let mut out = Direct { f, enough: None, tally: &mut self.tally, out: &mut self.out };
        let burst = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..TURNS {
                match feed.poll() {
                    Polled::Item(item) => {
                        match &item {
                            Ok(_) => *received += 1,
                            Err(_) => count_error(thread),
                        }
                        give(op, item, &mut out);
                        if let Some(value) = out.enough.take() {
                            return Burst::Enough(value);
                        }
                    }
                    Polled::Empty => return Burst::Empty,
                    Polled::Ended(end) => return Burst::Ended(end),
                }
                if thread.is_stopped() {
                    break;
                }
            }
            Burst::Over
        }));
        burst.unwrap_or_else(|payload| {
            if self.out.marked.0 == AT_THE_CALLER {
                // Not ours: it goes on as if it had never been caught.
                resume_unwind(payload);
            }
            panicked(&mut self.op, &mut self.out, panic::describe(payload));
            Burst::Over
        })
    }

    #[inline]
    fn delivered(&mut self, item: Result<O::Out>) -> Result<O::Out> {
        count_delivered(&mut self.tally, &item);
        item
    }

    /// Lets an operator that is not plain go on: true if it said something, or may have more to say.
    fn has_more_to_say(&mut self) -> Result<bool, End> {
        if self.out.closed {
            return Err(End::Finished);
        }
        self.out.quota = QUOTA;
        if self.pending {
            self.pending = guarded(&mut self.op, &mut self.out, |op, out| op.resume(out));
            return Ok(true);
        }
        if self.ended {
            return Err(End::Finished);
        }
        if self.op.next_wake().is_some_and(|wake| wake <= self.thread.token.now()) {
            guarded(&mut self.op, &mut self.out, |op, out| op.timer(out));
            self.pending = true;
            return Ok(true);
        }
        Ok(false)
    }

    #[inline]
    fn count(&mut self, item: &Result<O::In>) {
        let first = &self.out.context.stats.steps[0];
        match item {
            Ok(_) => {
                self.received += 1;
                if !O::PLAIN {
                    // The guard looks at what has been received.
                    first.received.add(1);
                }
            }
            Err(_) => first.errors_in.add(1),
        }
    }

    fn wait(&mut self) {
        self.settle();
        self.feed.wait(&self.thread, self.op.next_wake(), || false, |_| false);
    }

    /// To be called before the caller does anything that may take long, or is to see the books balanced.
    pub(crate) fn settle(&mut self) {
        self.publish();
        self.feed.settle();
    }

    /// Brings the shared counters up to date.
    #[cold]
    fn publish(&mut self) {
        let stats = &self.out.context.stats;
        let received = std::mem::take(&mut self.received);
        if O::PLAIN {
            stats.steps[0].received.add(received);
        }
        self.feed.publish(received);
        self.op.publish(stats, self.out.last_step);
        let delivered = self.tally.items - std::mem::replace(&mut self.published, self.tally.items);
        stats.steps[self.out.last_step].delivered.add(delivered);
    }
}

impl<O: Operator, F: Feed<Item = O::In>> Drop for Reader<O, F> {
    fn drop(&mut self) {
        self.publish();
        for step in &self.out.context.stats.steps {
            step.abandoned.add(step.unsettled());
        }
    }
}
