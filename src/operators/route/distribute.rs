//! The distributor: a stage with one input and several ways out, and a [`Rule`] that says where each item goes.
//!
//! # What must hold
//!
//! - An item is sent to all the ways it belongs to before the stage waits for room in any of them: a slow reader keeps no
//!   item from the others, only the next one. While it waits, all ways have been handed over, and whichever has room
//!   first is served first.
//! - An item that is sent on nowhere is counted: as undeliverable if those who were to read it have gone, else by the rule.
//! - An error item goes one way: that of the errors, or if nobody reads it any more, the next that is read.
//! - A rule calls user code before it sends anything. If that panics, the item becomes an error item and nothing else.
//! - When nobody reads any of the ways, the stage stops.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::counts::{Counts, Runs, WayCounts};
use crate::clock::wait::before_park;
use crate::edge::{EdgeSender, End, Polled};
use crate::error::{BoxError, ErrorKind, PanicMessage, Result, StreamError};
use crate::operators::options::Options;
use crate::panic;
use crate::pipeline::CancelToken;
use crate::pipeline::stats::{Counter, DropReason, StageKind, StepStats};
use crate::stage::branch::{Branch, wait_for_room};
use crate::stage::input::{Feed, Input};
use crate::stage::operator::sealed::Context;
use crate::stage::thread::{StageThread, spawn_error};
use crate::stream::Stream;
use crate::stream::start::Registered;

/// How many items may pass before the counters are brought up to date.
const TURNS: u32 = 64;

/// Says where items go.
pub(super) trait Rule<T>: Send + 'static {
    /// Settles one item: sends it, or says why not, by one call of `ways`.
    fn item(&mut self, item: T, ways: &mut Ways<T>);
}

/// One way out.
struct Way<T> {
    branch: Branch<T>,
    /// Not yet in the counters.
    sent: u64,
    lost: u64,
}

/// The ways out, as a rule sees them.
pub(super) struct Ways<T> {
    /// Shared with the thread's hook, which hands over what is open before the thread parks in a closure of the user's.
    ways: Rc<RefCell<Vec<Way<T>>>>,
    counts: Arc<Counts>,
    context: Context,
    /// The way of the errors.
    errors: usize,
    /// Not yet in the counters.
    received: u64,
    delivered: u64,
    emitted: u64,
    undeliverable: u64,
    /// Something was handed over, or should have been.
    handed_over: bool,
    /// Copies of the item at hand.
    copies: Vec<T>,
}

impl<T: Send + 'static> Ways<T> {
    fn step(&self) -> &StepStats {
        &self.context.stats.steps[0]
    }

    /// Sends the item one way.
    #[inline]
    pub(super) fn send(&mut self, index: usize, item: T) {
        let mut ways = self.ways.borrow_mut();
        let way = &mut ways[index];
        if way.branch.is_gone() {
            way.lost += 1;
            self.undeliverable += 1;
            drop(ways);
            drop(item);
        } else {
            way.sent += 1;
            self.delivered += 1;
            self.emitted += 1;
            self.handed_over |= way.branch.push(Ok(item));
        }
    }

    /// Sends the item all the `wanted` ways; makes as many copies as there are readers, less one.
    pub(super) fn send_copies(&mut self, wanted: &mut Vec<usize>, item: T, copy: fn(&T) -> T) {
        let mut ways = self.ways.borrow_mut();
        wanted.retain(|&index| {
            let is_gone = ways[index].branch.is_gone();
            ways[index].lost += u64::from(is_gone);
            !is_gone
        });
        drop(ways);
        let Some((&last, others)) = wanted.split_last() else {
            self.undeliverable += 1;
            return drop(item);
        };
        let copies = &mut self.copies;
        if let Err(payload) = panic::catch(|| copies.extend(others.iter().map(|_| copy(&item)))) {
            self.copies.clear();
            return self.fail(ErrorKind::Panicked, PanicMessage::from(payload), item);
        }
        ways = self.ways.borrow_mut();
        let mut push = |index: usize, item| {
            ways[index].sent += 1;
            self.handed_over |= ways[index].branch.push(Ok(item));
        };
        for (&index, copy) in others.iter().zip(self.copies.drain(..)) {
            push(index, copy);
        }
        push(last, item);
        self.delivered += 1;
        self.emitted += wanted.len() as u64;
    }

    /// No way is the item's.
    pub(super) fn unmatched(&mut self, item: T) {
        self.step().dropped[DropReason::Unmatched as usize].add(1);
        self.counts.unmatched.add(1);
        drop(item);
    }

    /// Sends an error item in place of the item, which it carries.
    #[cold]
    pub(super) fn fail(&mut self, kind: ErrorKind, source: impl Into<BoxError>, item: T) {
        let error = self.context.error(kind, 0).with_source(source).with_item(item);
        self.step().failed.add(1);
        self.counts.failed.add(1);
        self.error(error);
    }

    #[cold]
    fn error(&mut self, error: StreamError) {
        let mut ways = self.ways.borrow_mut();
        let mut order = (self.errors..ways.len()).chain(0..self.errors);
        match order.find(|&index| !ways[index].branch.is_gone()) {
            Some(index) => {
                self.step().errors_out.add(1);
                self.handed_over |= ways[index].branch.push(Err(error));
            }
            None => self.step().errors_absorbed.add(1),
        }
    }

    fn is_gone(&self) -> bool {
        self.ways.borrow().iter().all(|way| way.branch.is_gone())
    }

    #[inline]
    fn hand_over_if_hungry(&mut self) {
        for way in self.ways.borrow_mut().iter_mut() {
            self.handed_over |= way.branch.hand_over_if_hungry();
        }
    }

    fn hand_over(&self) {
        self.ways.borrow_mut().iter_mut().for_each(|way| way.branch.hand_over());
    }

    fn is_stuck(&self) -> bool {
        self.ways.borrow().iter().any(|way| way.branch.is_stuck())
    }

    /// Brings the shared counters up to date.
    fn publish(&mut self) {
        self.handed_over = false;
        let received = std::mem::take(&mut self.received);
        let (delivered, emitted) = (std::mem::take(&mut self.delivered), std::mem::take(&mut self.emitted));
        let undeliverable = std::mem::take(&mut self.undeliverable);
        let (step, counts) = (self.step(), &self.counts);
        step.received.add(received);
        counts.received.add(received);
        step.delivered.add(delivered);
        step.emitted.add(emitted);
        step.dropped[DropReason::Undeliverable as usize].add(undeliverable);
        for (way, shared) in self.ways.borrow_mut().iter_mut().zip(&counts.ways) {
            shared.sent.add(std::mem::take(&mut way.sent));
            shared.lost.add(std::mem::take(&mut way.lost));
        }
    }
}

/// What a distributor is made of.
pub(super) struct Plan<'a> {
    pub(super) options: &'a Options,
    /// The ways out, by name.
    pub(super) names: &'a [Arc<str>],
    /// The way of the errors.
    pub(super) errors: usize,
    /// How many items each may hold.
    pub(super) buffer: Option<usize>,
    /// The counts of all runs.
    pub(super) runs: &'a Runs,
}

/// Starts a distributor: gives its outputs, in the order of the plan, and the counts of this run.
#[track_caller]
pub(super) fn distribute<T: Send + 'static>(
    plan: &Plan<'_>,
    cancel: &CancelToken,
    input: Stream<T>,
    rule: impl Rule<T>,
) -> (Vec<Stream<T>>, Arc<Counts>) {
    let registered = Registered::with_input(cancel, &input, &plan.options.name, StageKind::Processor, &[], 1);
    let outputs = plan.names.iter().map(|name| registered.output::<T>(name, plan.buffer));
    let (senders, streams): (Vec<EdgeSender<T>>, Vec<Stream<T>>) = outputs.unzip();
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
    let (errors, run) = (plan.errors, Arc::clone(&counts));
    let name = registered.thread_name(0);
    cancel.scope().spawn(&name, true, move |started| {
        let context = registered.context();
        let Registered { token, stats, .. } = registered;
        if let Err(error) = started {
            let error = spawn_error(&token, &stats, &error);
            return senders.into_iter().for_each(|mut sender| sender.end(End::Cut(error.clone())));
        }
        let thread = StageThread::new(token, stats, 0);
        let way = |sender| Way { branch: Branch::new(sender, &thread), sent: 0, lost: 0 };
        let ways = Ways {
            ways: Rc::new(RefCell::new(senders.into_iter().map(way).collect())),
            counts: run,
            context,
            errors,
            received: 0,
            delivered: 0,
            emitted: 0,
            undeliverable: 0,
            handed_over: false,
            copies: Vec::new(),
        };
        Distributor { input: input.into_input(), ways, rule, thread }.run();
    });
    (streams, counts)
}

struct Distributor<T, R> {
    input: Input<T>,
    ways: Ways<T>,
    rule: R,
    thread: StageThread,
}

/// The token was cancelled, or nobody reads any more.
struct Stopped;

impl<T: Send + 'static, R: Rule<T>> Distributor<T, R> {
    fn run(mut self) {
        let ways = Rc::downgrade(&self.ways.ways);
        let announce = self.input.announcer();
        before_park(move || {
            if let Some(ways) = ways.upgrade()
                && let Ok(mut ways) = ways.try_borrow_mut()
            {
                ways.iter_mut().for_each(|way| way.branch.hand_over());
            }
            announce();
        });
        let end = self.work().unwrap_or_else(|Stopped| End::Cut(self.thread.cut()));
        self.ways.publish();
        self.ways.ways.borrow_mut().iter_mut().for_each(|way| way.branch.end(end.clone()));
    }

    fn work(&mut self) -> Result<End, Stopped> {
        loop {
            self.check()?;
            self.ways.hand_over_if_hungry();
            self.ways.publish();
            let (input, ways, rule, thread) = (&mut self.input, &mut self.ways, &mut self.rule, &self.thread);
            let polled = panic::catch(|| {
                for _ in 0..thread.stretch(TURNS) {
                    match input.poll() {
                        Polled::Item(Ok(item)) => {
                            ways.received += 1;
                            rule.item(item, ways);
                        }
                        Polled::Item(Err(error)) => {
                            ways.step().errors_in.add(1);
                            ways.error(error);
                        }
                        other => return Some(other),
                    }
                    ways.hand_over_if_hungry();
                    if ways.handed_over || thread.is_alarmed() {
                        break;
                    }
                }
                None
            });
            match polled {
                Ok(None | Some(Polled::Item(_))) => {}
                Ok(Some(Polled::Empty)) => self.wait_for_input(),
                Ok(Some(Polled::Ended(end))) => return Ok(end),
                Err(payload) => self.panicked(payload.into()),
            }
            if self.ways.is_stuck() {
                self.wait_for_room()?;
            }
            if cfg!(debug_assertions) {
                self.ways.publish();
                assert_eq!(self.ways.step().unsettled(), 0, "stage `{}` miscounts", self.thread.stats.name);
            }
        }
    }

    fn check(&self) -> Result<(), Stopped> {
        if self.thread.is_stopped() || self.ways.is_gone() { Err(Stopped) } else { Ok(()) }
    }

    /// Something panicked that is no closure: the drop of an item, for one. If it was not sent yet, it is lost.
    #[cold]
    fn panicked(&mut self, message: PanicMessage) {
        self.ways.publish();
        let lost = self.ways.step().unsettled();
        self.ways.step().failed.add(lost);
        self.ways.counts.failed.add(lost);
        let error = self.ways.context.error(ErrorKind::Panicked, 0).with_source(message);
        self.ways.error(error);
    }

    fn wait_for_input(&mut self) {
        self.ways.hand_over();
        self.ways.publish();
        self.input.settle();
        let gone = || self.ways.is_gone();
        self.thread.wait_for_input(&self.input, None, gone, |_| gone());
    }

    /// Returns when everything that was sent has found room.
    #[cold]
    fn wait_for_room(&mut self) -> Result<(), Stopped> {
        self.ways.publish();
        loop {
            self.check()?;
            self.ways.hand_over();
            if !self.ways.is_stuck() {
                return Ok(());
            }
            self.input.settle();
            let ways = self.ways.ways.borrow();
            wait_for_room(&self.thread, ways.iter().map(|way| &way.branch));
        }
    }
}
