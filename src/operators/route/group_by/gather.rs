//! [`Gather`]: the outputs of all groups as one stream; and the [`Exchange`] between it and the dispatcher.
//!
//! # Invariants
//!
//! - A group has ended when its output has been read to its end. The dispatcher is notified, and woken.
//! - The first input is that of the errors, and belongs to no group. Ending it is the last thing that the dispatcher
//!   does, so when it has ended no group will arrive that is not in the exchange, and no mark.
//! - Marks that came while a group was ending follow its last result. Not with the errors: if the consumer leaves, a mark
//!   that was sent before any error would be completed there, although the results are not processed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::super::herald::Herald;
use super::super::merge::Merge;
use crate::clock::Clock;
use crate::clock::wait::{Waiter, Wake};
use crate::edge::Polled;
use crate::error::StreamError;
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
    /// Of groups that have ended.
    marks: VecDeque<StreamError>,
    ended: Vec<Slot>,
    /// The group of each input of the merge.
    inputs: Vec<Option<Slot>>,
    gather: Option<Arc<Wake>>,
    dispatcher: Option<Arc<Wake>>,
}

impl<T> Exchange<T> {
    pub(super) fn new() -> Arc<Self> {
        let (arrived, marks, ended, inputs) = (Vec::new(), VecDeque::new(), Vec::new(), vec![None]);
        Arc::new(Self {
            has_arrivals: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            state: Mutex::new(State { arrived, marks, ended, inputs, gather: None, dispatcher: None }),
        })
    }

    /// Adds the output of a new group, which keeps its slot until it has ended. `dispatcher` is woken when it has
    /// ended.
    pub(super) fn add(&self, group: Slot, output: Input<T>, dispatcher: &Arc<Wake>) {
        let mut state = self.state.lock();
        state.arrived.push((group, output));
        state.dispatcher.get_or_insert_with(|| Arc::clone(dispatcher));
        self.announce(state);
    }

    /// Adds the marks of a group that has ended.
    pub(super) fn put_marks(&self, marks: Vec<StreamError>) {
        if !marks.is_empty() {
            let mut state = self.state.lock();
            state.marks.extend(marks);
            self.announce(state);
        }
    }

    /// Something has arrived.
    fn announce(&self, mut state: MutexGuard<'_, State<T>>) {
        // Release: the merge that sees it may be past its last check under the lock.
        self.has_arrivals.store(true, Ordering::Release);
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
        !(state.arrived.is_empty() && state.marks.is_empty())
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

    /// Takes in the groups that have arrived, if any. Returns the next mark, which goes before anything else.
    #[cold]
    fn admit(&mut self) -> Option<Polled<T>> {
        let mut state = self.exchange.state.lock();
        for (group, input) in std::mem::take(&mut state.arrived) {
            state.inputs.push(Some(group));
            self.merge.add(input);
        }
        let mark = state.marks.pop_front();
        self.exchange.has_arrivals.store(!state.marks.is_empty(), Ordering::Relaxed);
        drop(state);
        Some(Polled::Item(Err(mark?.widened())))
    }
}

impl<T: Send + 'static> Feed for Gather<T> {
    type Item = T;
    type Hand = ();

    #[inline(always)]
    fn poll(&mut self) -> Polled<T> {
        if self.exchange.has_arrivals()
            && let Some(mark) = self.admit()
        {
            return mark;
        }
        match self.merge.poll() {
            // Its last input has ended, after which nothing arrives; but something may have arrived before.
            Polled::Ended(_) => self.admit().unwrap_or_else(|| self.merge.poll()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::{EdgeSender, edge};
    use crate::mark::testing::Probe;

    fn gather() -> (Arc<Exchange<u32>>, Gather<u32>, EdgeSender<u32>) {
        let (errors, receiver) = edge(8, true);
        let exchange = Exchange::new();
        let gather = Gather::new(Input::Edge(receiver), Clock::default(), &exchange);
        (exchange, gather, errors)
    }

    #[test]
    fn the_marks_of_a_group_that_has_ended_go_before_the_end() {
        let (exchange, mut gather, errors) = gather();
        exchange.put_marks(vec![Probe::default().mark(), Probe::default().mark()]);
        drop(errors);
        for _ in 0..2 {
            assert!(matches!(gather.poll(), Polled::Item(Err(mark)) if mark.is_mark()));
        }
        assert!(matches!(gather.poll(), Polled::Ended(_)));
    }

    #[test]
    fn the_marks_of_a_group_that_has_ended_are_lost_with_the_consumer() {
        let (before, after) = (Probe::default(), Probe::default());
        let (exchange, gather, _errors) = gather();
        exchange.put_marks(vec![before.mark()]);
        drop(gather);
        exchange.put_marks(vec![after.mark()]);
        drop(exchange);
        assert!(before.is_lost() && after.is_lost());
    }
}
