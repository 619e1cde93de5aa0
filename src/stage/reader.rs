//! The reader: runs the last steps of a stream on the thread that takes what comes out.
//!
//! It is a driver without an edge behind it: it makes a turn when it is asked for the next item, and there is none left.
//! The last step is the end itself, which only passes on; what comes out of it has been delivered.
//!
//! What the caller does with an item, it does outside of any guard: a panic there is the caller's.

use std::collections::VecDeque;

use super::operator::sealed::{Context, Sink};
use super::operator::{Operator, give, guarded};
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
                match &item {
                    Ok(_) => self.tally.items += 1,
                    Err(_) => self.tally.errors += 1,
                }
                return Ok(item);
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
            Ok(_) if O::PLAIN => self.received += 1,
            // The guard of one that is not plain looks at what it has received.
            Ok(_) => first.received.add(1),
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
        stats.steps[0].received.add(std::mem::take(&mut self.received));
        self.feed.publish();
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
