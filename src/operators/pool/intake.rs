//! The way in of a pool: what the workers take, and how they wait for it.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::slots::Numbered;
use super::workers::{Job, Pool, PoolInput, Taken};
use crate::clock::wait::{Waiter, Wake};
use crate::edge::Polled;
use crate::error::Result;
use crate::pipeline::stats::Phase;
use crate::stage::input::Input;
use crate::stage::thread::StageThread;

impl<In: Send + 'static, Out: Send + 'static> Pool<In, Out> {
    /// Takes a run of at most `length` items, into `raw` if they are to be sorted. Invariants 1, 2 and 5.
    pub(super) fn take(&self, own: usize, length: usize, raw: &mut Vec<Numbered<Result<In>>>) -> Taken {
        let mut input = self.input.lock();
        let Some(stream) = &mut input.stream else { return Taken::Over };
        let next = self.next.load(Ordering::Relaxed);
        let room = self.window - (next - self.emitted.load(Ordering::Acquire));
        if room == 0 {
            return Taken::WindowFull;
        }
        // No more than one's share of what is there, so that a few items are shared out.
        let share = if length > 1 { stream.len().div_ceil(self.slots.len()) } else { 1 };
        let most = length.min(share).min(usize::try_from(room).unwrap_or(usize::MAX)).max(1);
        let polled = stream.poll();
        match polled {
            Polled::Item(first) => {
                let mut data = u64::from(first.is_ok());
                let mut further = std::iter::from_fn(|| match stream.poll() {
                    Polled::Item(item) => {
                        data += u64::from(item.is_ok());
                        Some(item)
                    }
                    // An end comes again.
                    Polled::Empty | Polled::Ended(_) => None,
                });
                let further = further.by_ref().take(most - 1);
                let taken = if self.keyed.is_some() {
                    raw.extend((next..).zip(std::iter::once(first).chain(further)));
                    raw.len() as u64
                } else {
                    self.slots.fill(own, next, Job::new(first), further.map(Job::new))
                };
                stream.settle();
                self.next.store(next + taken, Ordering::Release);
                self.step().received.add(data);
                self.step().errors_in.add(taken - data);
                let in_slot = if self.keyed.is_some() { 0 } else { taken };
                let wake = input.pass_the_baton().or_else(|| if in_slot > 1 { input.somebody() } else { None });
                drop(input);
                if let Some(wake) = wake {
                    wake.post();
                }
                Taken::Run
            }
            Polled::Empty => {
                stream.settle();
                stream.ask();
                // This worker may find other work: one that is idle is to be told of the next item.
                let wake = input.pass_the_baton();
                drop(input);
                if let Some(wake) = wake {
                    wake.post();
                }
                Taken::NothingThere
            }
            Polled::Ended(end) => {
                input.end = end;
                let stream = input.stream.take();
                let waiting = input.everybody_waiting();
                // Before the look at the output that follows: invariant 6.
                self.ended.store(true, Ordering::SeqCst);
                drop(input);
                drop(stream);
                waiting.iter().for_each(|wake| wake.post());
                Taken::Over
            }
        }
    }

    pub(super) fn wait_for_input(&self, thread: &StageThread) {
        let register = |_: &Waiter| {
            let mut input = self.input.lock();
            let Some(stream) = &input.stream else { return true };
            stream.settle();
            if stream.has_items() || !self.slots.are_empty() || stream.arm(thread.wake()) {
                return true;
            }
            input.idle.push(Arc::clone(thread.wake()));
            self.halted.load(Ordering::Acquire) || self.edge.is_gone()
        };
        // A foreign channel is watched by each idle worker itself.
        let foreign = self.input.lock().stream.as_ref().and_then(Input::foreign);
        match foreign {
            None => thread.wait(Phase::Idle, None, || self.may_have_input(), register),
            Some(receiver) => thread.wait_for_foreign(Phase::Idle, &receiver, register),
        }
        let mut input = self.input.lock();
        input.idle.retain(|wake| !Arc::ptr_eq(wake, thread.wake()));
    }

    /// Invariant 8: whether nothing is in the hands of a worker that looks for its lane.
    pub(super) fn is_all_sorted(&self) -> bool {
        let Some(keyed) = &self.keyed else { return true };
        // SeqCst: see `sort`.
        keyed.sorted.load(Ordering::SeqCst) == self.next.load(Ordering::Acquire)
    }

    /// After the end of the input.
    pub(super) fn wait_for_sorting(&self, thread: &StageThread) {
        let is_over = || self.is_all_sorted() || !self.slots.are_empty();
        thread.wait(Phase::Idle, None, is_over, |_| {
            let mut input = self.input.lock();
            if is_over() {
                return true;
            }
            input.idle.push(Arc::clone(thread.wake()));
            self.halted.load(Ordering::Acquire) || self.edge.is_gone()
        });
        let mut input = self.input.lock();
        input.idle.retain(|wake| !Arc::ptr_eq(wake, thread.wake()));
    }

    /// A hint while spinning. Not worth waiting for a lock.
    pub(super) fn may_have_input(&self) -> bool {
        self.input.try_lock().is_some_and(|input| input.stream.as_ref().is_none_or(Input::may_have_items))
    }

    pub(super) fn wait_for_window(&self, thread: &StageThread) {
        let is_open = || {
            let emitted = self.emitted.load(Ordering::Acquire);
            self.next.load(Ordering::Acquire) - emitted < self.window
        };
        thread.wait(Phase::Blocked, None, is_open, |_| {
            let mut input = self.input.lock();
            self.window_wanted.store(true, Ordering::Relaxed);
            // Pairs with the fence in `advance`: either it sees the flag, or we see that the window has moved.
            fence(Ordering::SeqCst);
            if is_open() || input.stream.is_none() || !self.slots.are_empty() {
                return true;
            }
            input.held_up.push(Arc::clone(thread.wake()));
            self.halted.load(Ordering::Acquire) || self.edge.is_gone()
        });
        let mut input = self.input.lock();
        input.held_up.retain(|wake| !Arc::ptr_eq(wake, thread.wake()));
    }

    /// Moves the window.
    pub(super) fn advance(&self, by: u64) {
        let emitted = self.emitted.load(Ordering::Relaxed) + by;
        self.emitted.store(emitted, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.window_wanted.load(Ordering::Relaxed) {
            let mut input = self.input.lock();
            self.window_wanted.store(false, Ordering::Relaxed);
            let held_up = std::mem::take(&mut input.held_up);
            drop(input);
            held_up.iter().for_each(|wake| wake.post());
        }
    }
}

impl<In: Send + 'static> PoolInput<In> {
    /// Invariant 5, when an item has been taken: the wake of the worker to look after what is left, if there is
    /// anything left.
    pub(super) fn pass_the_baton(&mut self) -> Option<Arc<Wake>> {
        let next = self.idle.last()?;
        let stream = self.stream.as_ref()?;
        if stream.has_items() || stream.arm(next) { self.idle.pop() } else { None }
    }

    /// The wake of a worker that has nothing to do, if there is one.
    pub(super) fn somebody(&mut self) -> Option<Arc<Wake>> {
        self.idle.pop().or_else(|| self.held_up.pop())
    }

    pub(super) fn everybody_waiting(&mut self) -> Vec<Arc<Wake>> {
        let mut waiting = std::mem::take(&mut self.idle);
        waiting.append(&mut self.held_up);
        waiting
    }
}
