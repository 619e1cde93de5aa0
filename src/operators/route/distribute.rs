//! The distributor: a stage with one input and several outputs, and a [`Rule`] that determines where each item goes.
//!
//! The loop is the one of all such stages (`stage/own_loop.rs`): an item is sent to all its outputs before the stage
//! waits for room in any of them, so a slow reader delays no item of the others, only the next one.
//!
//! # Invariants
//!
//! - An item that is sent nowhere is counted: as undeliverable if its readers have left, otherwise by the rule.
//! - An error item goes to one output: the one for errors, or if that is no longer read, the next that is.
//! - A rule calls user code before it sends anything. If that panics, the item only becomes an error item.
//! - A user's value that is dropped because it has no reader may panic: this has no effect.

use std::sync::Arc;

use super::counts::{Counts, Runs, WayCounts};
use crate::error::{BoxError, ErrorKind, PanicMessage, StreamError};
use crate::operators::options::Options;
use crate::panic::{self, Held, discard, guard_drop};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::{Counter, DropReason, StageKind};
use crate::stage::branch::Branch;
use crate::stage::own_loop::{Desk, Work};
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_loop};

/// Determines where items go.
pub(super) trait Rule<T>: Send + 'static {
    /// Settles one item with one call on `ways`: sends it, or says why not.
    fn item(&mut self, item: T, ways: &mut Ways<'_, T>);

    /// Drops the rule. One that calls more than one closure of the user's drops them one by one.
    fn discard(self)
    where
        Self: Sized,
    {
        guard_drop(self);
    }
}

/// Counts that are not in the counters yet.
struct Tally {
    counts: Arc<Counts>,
    received: u64,
    delivered: u64,
    emitted: u64,
    undeliverable: u64,
    /// For each output, items sent and lost.
    ways: Box<[(u64, u64)]>,
}

/// The outputs, as a rule sees them.
pub(super) struct Ways<'a, T> {
    desk: &'a Desk<Vec<Branch<T>>>,
    tally: &'a mut Tally,
    /// Copies of the current item.
    copies: &'a mut Held<Vec<T>>,
    /// The output for errors.
    errors: usize,
}

impl<T: Send + 'static> Ways<'_, T> {
    /// Sends the item to one output.
    #[inline]
    pub(super) fn send(&mut self, index: usize, item: T) {
        let mut ways = self.desk.ways();
        let way = &mut ways[index];
        if way.is_gone() {
            self.tally.ways[index].1 += 1;
            self.tally.undeliverable += 1;
            self.desk.undeliverable();
            drop(ways);
            guard_drop(item);
        } else {
            self.tally.ways[index].0 += 1;
            self.tally.delivered += 1;
            self.tally.emitted += 1;
            self.desk.pushed(way.push(Ok(item)));
        }
    }

    /// Sends the item to all `wanted` outputs; makes one copy less than there are readers.
    pub(super) fn send_copies(&mut self, wanted: &mut Vec<usize>, item: T, copy: fn(&T) -> T) {
        let ways = self.desk.ways();
        wanted.retain(|&index| {
            let is_gone = ways[index].is_gone();
            self.tally.ways[index].1 += u64::from(is_gone);
            if is_gone {
                self.desk.undeliverable();
            }
            !is_gone
        });
        drop(ways);
        let Some((&last, others)) = wanted.split_last() else {
            self.tally.undeliverable += 1;
            return guard_drop(item);
        };
        let copies = &mut *self.copies;
        if let Err(payload) = panic::catch(|| copies.extend(others.iter().map(|_| copy(&item)))) {
            discard(copies.drain(..));
            return self.fail(ErrorKind::Panicked, PanicMessage::from(payload), item);
        }
        let mut ways = self.desk.ways();
        let mut push = |index: usize, item| {
            self.tally.ways[index].0 += 1;
            self.desk.pushed(ways[index].push(Ok(item)));
        };
        for (&index, copy) in others.iter().zip(copies.drain(..)) {
            push(index, copy);
        }
        push(last, item);
        self.tally.delivered += 1;
        self.tally.emitted += wanted.len() as u64;
    }

    /// The item belongs to no output.
    pub(super) fn unmatched(&mut self, item: T) {
        self.desk.step().dropped[DropReason::Unmatched as usize].add(1);
        self.tally.counts.unmatched.add(1);
        guard_drop(item);
    }

    /// Sends an error item in place of the item, which it carries.
    #[cold]
    pub(super) fn fail(&mut self, kind: ErrorKind, source: impl Into<BoxError>, item: T) {
        let error = self.desk.details_of(kind).with_source(source).about(item);
        self.desk.step().failed.add(1);
        self.tally.counts.failed.add(1);
        self.error(error);
    }

    #[cold]
    fn error(&mut self, error: StreamError) {
        let mut ways = self.desk.ways();
        let mut order = (self.errors..ways.len()).chain(0..self.errors);
        match order.find(|&index| !ways[index].is_gone()) {
            Some(index) => {
                self.desk.step().errors_out.add(1);
                self.desk.pushed(ways[index].push(Err(error)));
            }
            None => {
                self.desk.step().errors_absorbed.add(1);
                self.desk.undeliverable();
                drop(ways);
                guard_drop(error);
            }
        }
    }
}

/// The parts of a distributor.
pub(super) struct Plan<'a> {
    pub(super) options: &'a Options,
    /// The outputs, by name.
    pub(super) names: &'a [Arc<str>],
    /// The output for errors.
    pub(super) errors: usize,
    /// The capacity of each.
    pub(super) buffer: Option<usize>,
    /// The counts of all runs.
    pub(super) runs: &'a Runs,
}

/// Starts a distributor: returns its outputs, in the order of the plan, and the counts of this run.
#[track_caller]
pub(super) fn distribute<T: Send + 'static>(
    plan: &Plan<'_>,
    cancel: &CancelToken,
    input: Stream<T>,
    rule: impl Rule<T>,
) -> (Vec<Stream<T>>, Arc<Counts>) {
    let registered = Registered::with_input(cancel, &input, &plan.options.name, StageKind::Processor, &[], 1);
    let outputs = plan.names.iter().map(|name| registered.output::<T>(name, plan.buffer));
    let (senders, streams): (Vec<_>, Vec<Stream<T>>) = outputs.unzip();
    let outputs = registered.stats.outputs.lock().clone().into_iter();
    let ways = outputs.map(|output| WayCounts {
        sent: Counter::default(),
        lost: Counter::default(),
        gauge: output.gauge,
        waits: output.waits,
    });
    let counts = Arc::new(Counts {
        received: Counter::default(),
        unmatched: Counter::default(),
        failed: Counter::default(),
        ways: ways.collect(),
        clock: cancel.clock().clone(),
    });
    plan.runs.add(&counts);
    let branches: Vec<_> = senders.into_iter().map(|sender| Branch::new(sender, &registered.stats)).collect();
    let tally = Tally {
        counts: Arc::clone(&counts),
        received: 0,
        delivered: 0,
        emitted: 0,
        undeliverable: 0,
        ways: vec![(0, 0); branches.len()].into(),
    };
    let work = Distributor { rule, tally, copies: Held::default(), errors: plan.errors };
    spawn_loop(registered, input, branches, work);
    (streams, counts)
}

struct Distributor<T, R> {
    rule: R,
    tally: Tally,
    copies: Held<Vec<T>>,
    errors: usize,
}

impl<T: Send + 'static, R> Distributor<T, R> {
    #[inline]
    fn with_ways<'a>(&'a mut self, desk: &'a Desk<Vec<Branch<T>>>) -> (&'a mut R, Ways<'a, T>) {
        let Self { rule, tally, copies, errors } = self;
        (rule, Ways { desk, tally, copies, errors: *errors })
    }
}

impl<T: Send + 'static, R: Rule<T>> Work for Distributor<T, R> {
    type Item = T;
    type Ways = Vec<Branch<T>>;

    #[inline]
    fn item(&mut self, item: T, desk: &Desk<Self::Ways>) {
        self.tally.received += 1;
        let (rule, mut ways) = self.with_ways(desk);
        rule.item(item, &mut ways);
    }

    fn error(&mut self, error: StreamError, desk: &Desk<Self::Ways>) {
        self.with_ways(desk).1.error(error);
    }

    fn publish(&mut self, desk: &Desk<Self::Ways>) {
        let Tally { counts, received, delivered, emitted, undeliverable, ways } = &mut self.tally;
        let step = desk.step();
        counts.received.add(std::mem::take(received));
        step.delivered.add(std::mem::take(delivered));
        step.emitted.add(std::mem::take(emitted));
        step.dropped[DropReason::Undeliverable as usize].add(std::mem::take(undeliverable));
        for ((sent, lost), shared) in ways.iter_mut().zip(&counts.ways) {
            shared.sent.add(std::mem::take(sent));
            shared.lost.add(std::mem::take(lost));
        }
    }

    fn lost(&mut self, items: u64) {
        self.tally.counts.failed.add(items);
    }

    fn discard(self) {
        self.rule.discard();
    }
}
