//! [`Gather`]: the outputs of all groups as one stream; and the [`Exchange`] between it and the dispatcher.
//!
//! # Invariants
//!
//! - A group has ended when its output has been read to its end. The dispatcher is notified, and woken.
//! - The first input is that of the errors, and belongs to no group. Ending it is the last thing that the dispatcher
//!   does, so when it has ended no group will arrive that is not in the exchange.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::super::herald::Herald;
use super::super::merge::Merge;
use crate::clock::Clock;
use crate::clock::wait::{Waiter, Wake};
use crate::edge::Polled;
use crate::operators::key_table::Slot;
use crate::stage::input::{Feed, Input};
use crate::stage::thread::StageThread;

/// The groups that have arrived, and those that have ended.
pub(super) struct Exchange<T> {
    /// Set under the lock when something arrives, and cleared under it: a hint to readers without it.
    has_arrivals: AtomicBool,
    /// The same for those that have ended.
    has_ended: AtomicBool,
    state: Mutex<State<T>>,
}

struct State<T> {
    arrived: Vec<(Slot, Input<T>)>,
    ended: Vec<Slot>,
    /// The group of each input of the merge.
    inputs: Vec<Option<Slot>>,
    gather: Option<Arc<Wake>>,
    dispatcher: Option<Arc<Wake>>,
}

impl<T> Exchange<T> {
    pub(super) fn new() -> Arc<Self> {
        let (arrived, ended, inputs) = (Vec::new(), Vec::new(), vec![None]);
        Arc::new(Self {
            has_arrivals: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            state: Mutex::new(State { arrived, ended, inputs, gather: None, dispatcher: None }),
        })
    }

    /// Adds the output of a new group, which keeps its slot until it has ended. `dispatcher` is woken when it has
    /// ended.
    pub(super) fn add(&self, group: Slot, output: Input<T>, dispatcher: &Arc<Wake>) {
        let mut state = self.state.lock();
        state.arrived.push((group, output));
        // Release: the merge that sees it may be past its last check under the lock.
        self.has_arrivals.store(true, Ordering::Release);
        state.dispatcher.get_or_insert_with(|| Arc::clone(dispatcher));
        let wake = state.gather.take();
        drop(state);
        if let Some(wake) = wake {
            wake.post();
        }
    }

    /// Whether a group has ended since the last check.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Returns the groups that have ended since the last check.
    pub(super) fn take_ended(&self) -> Vec<Slot> {
        let mut state = self.state.lock();
        self.has_ended.store(false, Ordering::Relaxed);
        std::mem::take(&mut state.ended)
    }

    fn has_arrivals(&self) -> bool {
        self.has_arrivals.load(Ordering::Acquire)
    }

    /// Whether a poll would find an arrival. If not, `wake` is posted at the next one.
    fn want_arrivals(&self, wake: &Arc<Wake>) -> bool {
        let mut state = self.state.lock();
        state.gather = Some(Arc::clone(wake));
        !state.arrived.is_empty()
    }

    fn input_ended(&self, index: usize) {
        let mut state = self.state.lock();
        let Some(group) = state.inputs.remove(index) else { return };
        state.ended.push(group);
        self.has_ended.store(true, Ordering::Release);
        let wake = state.dispatcher.clone();
        drop(state);
        if let Some(wake) = wake {
            wake.post();
        }
    }
}

pub(super) struct Gather<T> {
    merge: Merge<T>,
    exchange: Arc<Exchange<T>>,
}

impl<T: Send + 'static> Gather<T> {
    pub(super) fn new(errors: Input<T>, clock: Clock, exchange: &Arc<Exchange<T>>) -> Self {
        let told = Arc::clone(exchange);
        let merge =
            Merge::new(vec![errors], Herald::silent(clock)).with_on_end(Box::new(move |index| told.input_ended(index)));
        Self { merge, exchange: Arc::clone(exchange) }
    }

    /// Takes in the groups that have arrived. Returns false if there are none.
    #[cold]
    fn admit(&mut self) -> bool {
        let mut state = self.exchange.state.lock();
        self.exchange.has_arrivals.store(false, Ordering::Relaxed);
        let arrived = std::mem::take(&mut state.arrived);
        let any = !arrived.is_empty();
        for (group, input) in arrived {
            state.inputs.push(Some(group));
            self.merge.add(input);
        }
        any
    }
}

impl<T: Send + 'static> Feed for Gather<T> {
    type Item = T;

    #[inline(always)]
    fn poll(&mut self) -> Polled<T> {
        if self.exchange.has_arrivals() {
            self.admit();
        }
        match self.merge.poll() {
            // Its last input has ended, after which nothing arrives; but something may have arrived before.
            Polled::Ended(_) if self.admit() => self.merge.poll(),
            polled => polled,
        }
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        mut hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        let hint = || self.exchange.has_arrivals() || hint();
        let register = |waiter: &Waiter| self.exchange.want_arrivals(waiter.wake()) | register(waiter);
        self.merge.wait(thread, until, hint, register);
    }

    fn settle(&self) {
        self.merge.settle();
    }
}
