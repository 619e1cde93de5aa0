//! The input of a pool: what the workers take, and how they wait for it.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::crew::{Relieved, Supply};
use super::workers::{Job, Pool};
use crate::clock::wait::{Waiter, Wake};
use crate::edge::{End, Polled};
use crate::error::Result;
use crate::mark::Label;
use crate::panic;
use crate::pipeline::timing::Phase;
use crate::stage::input::Input;
use crate::stage::thread::StageThread;

/// The source of the workers' items, under the lock of the crew.
pub(super) struct Intake<In> {
    /// `None` once the end was seen or the pool was halted.
    pub(super) stream: Option<Input<In>>,
    pub(super) end: End,
}

impl<In: Send + 'static> Supply for Intake<In> {
    fn watch(&self, wake: &Arc<Wake>) -> bool {
        // A foreign channel is watched by each idle worker itself.
        self.stream.as_ref().is_some_and(|stream| stream.has_items() || stream.arm(wake))
    }
}

/// The result of a look at the input.
pub(super) enum Taken {
    /// A run that begins with this number is in the slot or in the worker's hands.
    Run(u64, Relieved),
    Nothing(Why, Relieved),
}

/// Why nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Empty,
    WindowFull,
    Ended,
}

impl<In: Send + 'static, Out: Send + 'static> Pool<In, Out> {
    /// Takes a run of at most `length` items: into the slot, or into `raw`, which is empty, if they must be sorted.
    /// Invariants 1 and 2.
    pub(super) fn take(&self, own: usize, length: usize, raw: &mut Vec<Result<In>>) -> Taken {
        let mut shift = self.crew.lock();
        let Some(stream) = &mut shift.supply().stream else { return Taken::Nothing(Why::Ended, shift.relieve()) };
        let room = self.crew.room();
        if room == 0 {
            return Taken::Nothing(Why::WindowFull, shift.relieve());
        }
        // At most this worker's share of the available items, so that a few items are distributed.
        let share = if length > 1 { stream.len().div_ceil(self.slots.len()) } else { 1 };
        let most = length.min(share).max(1).min(usize::try_from(room).unwrap_or(usize::MAX));
        match stream.poll() {
            Polled::Item(first) => {
                raw.push(first);
                // The next poll returns the end again.
                stream.poll_until(most, raw);
                let (first, taken) = (self.crew.taken(), raw.len() as u64);
                self.note_taken(raw, first);
                // Before another worker can have them: invariant 3 of `slots.rs`.
                shift.take(taken);
                if self.keyed.is_none() {
                    self.slots.fill(own, first, raw.drain(..).map(Job::new));
                }
                shift.supply().stream.as_ref().inspect(|stream| stream.settle());
                if self.keyed.is_none() && taken > 1 {
                    self.crew.leave_spare();
                }
                Taken::Run(first, shift.relieve())
            }
            Polled::Empty => {
                stream.settle();
                stream.ask();
                // This worker may find other work in the slots, or results to emit.
                Taken::Nothing(Why::Empty, shift.relieve())
            }
            Polled::Ended(end) => {
                let intake = shift.supply();
                intake.end = end;
                let stream = intake.stream.take();
                // Before the following look at the output: invariant 6.
                self.ended.store(true, Ordering::SeqCst);
                // Store `ended`, fence, load `sorted`; pairs with the fence in `sort`.
                fence(Ordering::SeqCst);
                let relieved = shift.dismiss_resting();
                panic::guard_drop(stream);
                Taken::Nothing(Why::Ended, relieved)
            }
        }
    }

    /// Counts a run that begins with the number `first`. Under the input lock.
    fn note_taken(&self, run: &[Result<In>], first: u64) {
        let errors = run.iter().filter(|item| item.is_err()).count() as u64;
        self.step().received.add(run.len() as u64 - errors);
        if errors > 0 {
            self.note_errors(run, first, errors);
        }
    }

    #[cold]
    fn note_errors(&self, run: &[Result<In>], first: u64, errors: u64) {
        let mut count = 0;
        for (number, item) in (first..).zip(run) {
            let Err(mark) = item else { continue };
            count += u64::from(mark.is_mark());
            if let Some(runs) = &self.runs
                && let Some(Label::Follows(origin)) = mark.label()
            {
                runs.lock().begin(number, origin);
            }
        }
        self.step().errors_in.add(errors - count);
        if count > 0 {
            // The worker that completes one of them sees this.
            self.delivers.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until there may be something to take.
    pub(super) fn rest(&self, thread: &StageThread, why: Why) {
        let register = |_: &Waiter| {
            let mut shift = self.crew.lock();
            let stream = shift.supply().stream.as_ref();
            stream.inspect(|stream| stream.settle());
            let changed = match why {
                Why::Empty => stream.is_none(),
                Why::WindowFull => stream.is_none() || self.crew.room() > 0,
                Why::Ended => self.is_all_sorted(),
            };
            let stopped = || self.halted.load(Ordering::Acquire) || self.edge.is_gone();
            // Checked under the lock under which this worker goes on the list: later changes find it there.
            shift.rest(thread.wake(), || changed || !self.slots.are_empty() || stopped())
        };
        match why {
            Why::Empty => {
                let foreign = self.crew.lock().supply().stream.as_ref().and_then(Input::foreign);
                match foreign {
                    None => thread.wait(Phase::Idle, None, || self.may_have_input(), register),
                    Some(receiver) => thread.wait_for_foreign(Phase::Idle, &receiver, register),
                }
            }
            Why::WindowFull => thread.wait(Phase::Blocked, None, || self.crew.room() > 0, register),
            Why::Ended => {
                let is_over = || self.is_all_sorted() || !self.slots.are_empty();
                thread.wait(Phase::Idle, None, is_over, register);
            }
        }
        // Before it looks: otherwise it could be woken a second time, in place of a worker that rests.
        self.crew.rise(thread.wake());
    }

    /// Invariant 8: whether no worker holds an item whose lane it has not found yet.
    pub(super) fn is_all_sorted(&self) -> bool {
        let Some(keyed) = &self.keyed else { return true };
        keyed.sorted.load(Ordering::Acquire) == self.crew.taken()
    }

    /// A hint while spinning. Not worth waiting for a lock.
    fn may_have_input(&self) -> bool {
        let shift = self.crew.try_lock();
        shift.is_some_and(|mut shift| shift.supply().stream.as_ref().is_none_or(Input::may_have_items))
    }
}
