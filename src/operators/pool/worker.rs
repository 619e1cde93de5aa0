//! One worker of a pool: its loop, how it steals items that others have not started, and how it flushes items that
//! others have finished.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};

use super::crew::Relieved;
use super::intake::{Taken, Why};
use super::lanes::{self, Lane};
use super::refusals::Refusals;
use super::run_length::RunLength;
use super::slots::Numbered;
use super::workers::{Job, Keyed, Outcome, Pool, Ready, Site};
use crate::clock::real_now;
use crate::error::{ErrorKind, PanicMessage, Result};
use crate::panic;
use crate::stage::thread::StageThread;

impl<In: Send + 'static, Out: Send + 'static> Pool<In, Out> {
    pub(super) fn work<W: Fn(&Site<'_>, In) -> Outcome<Out>>(&self, thread: &StageThread, work: &W) {
        self.edge.watch(thread.wake());
        self.crew.join(thread.wake());
        let context = self.context.for_thread();
        let site =
            Site { token: &self.calls, context: &context, worker: thread.index(), refusals: Refusals::default() };
        let mut worker = Worker {
            pool: self,
            thread,
            done: Vec::new(),
            run: VecDeque::new(),
            raw: Vec::new(),
            left: Vec::new(),
            ready: VecDeque::new(),
            last_seen: vec![None; self.slots.len()],
            looked_at: thread.index(),
        };
        // Under virtual time, what is visible at a given moment must not depend on real time.
        let mut length = if thread.token.clock().is_manual() { None } else { Some(RunLength::new()) };
        loop {
            if self.is_halted(thread) {
                return self.halt();
            }
            site.refusals.end_row();
            let most = length.map_or(1, RunLength::get);
            // Not worth checking in runs of quick items, whose slots are soon empty.
            if most == 1 && worker.steal_spare(&site, work) {
                continue;
            }
            match self.take(thread.index(), most, &mut worker.raw) {
                Taken::Run(first, mut relieved) => {
                    let begun = length.map(|_| real_now());
                    let next = match &self.keyed {
                        None => self.slots.next(thread.index()),
                        Some(keyed) => {
                            let (next, sorted) = worker.sort(keyed, first, relieved);
                            relieved = sorted;
                            next
                        }
                    };
                    let items = worker.process(next, &relieved, &site, work);
                    if let (Some(length), Some(begun)) = (&mut length, begun) {
                        length.adapt(begun.elapsed(), items);
                        let next = worker.flush_stalled(&relieved);
                        worker.process(next, &relieved, &site, work);
                    }
                }
                Taken::Nothing(why, relieved) => {
                    // Before the look into the slots, not after: everything sorted by then is in a slot, and is found
                    // there. In the other order an item could be sorted in between, and this worker would leave it
                    // behind.
                    let all_sorted = self.is_all_sorted();
                    if worker.steal_or_flush(relieved, &site, work) {
                        continue;
                    }
                    if why == Why::Ended && all_sorted {
                        return self.finish_if_done();
                    }
                    self.rest(thread, why);
                }
            }
        }
    }
}

/// A running worker.
struct Worker<'a, In: Send + 'static, Out: Send + 'static> {
    pool: &'a Pool<In, Out>,
    thread: &'a StageThread,
    /// Buffers for results about to be emitted; empty in between.
    done: Vec<Numbered<Ready<Out>>>,
    run: VecDeque<Ready<Out>>,
    /// Items that were taken and must be sorted.
    raw: Vec<Result<In>>,
    /// The lanes of the results about to be emitted, and the items that may start as a consequence; empty in between.
    left: Vec<Lane>,
    ready: VecDeque<Numbered<Job<In>>>,
    /// The item that each worker was last seen to have in hand, and the worker that was looked at last.
    last_seen: Vec<Option<u64>>,
    looked_at: usize,
}

impl<In: Send + 'static, Out: Send + 'static> Worker<'_, In, Out> {
    /// Processes the content of the slot, starting with `next`. Returns the number of items processed.
    fn process<W>(
        &mut self,
        mut next: Option<Numbered<Job<In>>>,
        relieved: &Relieved,
        site: &Site<'_>,
        work: &W,
    ) -> usize
    where
        W: Fn(&Site<'_>, In) -> Outcome<Out>,
    {
        let (own, mut items) = (self.thread.index(), 0);
        while let Some((number, job)) = next.take() {
            items += 1;
            let slots = &self.pool.slots;
            match job {
                Job::Work(item, lane) => slots.swap(own, (number, work(site, item)), lane, &mut next),
                Job::Pass(error) => slots.swap_apart(own, (number, Ready::Passed(error)), &mut next),
                Job::Fail(error) => slots.swap_apart(own, (number, Ready::Outcome(Outcome::Failed(error))), &mut next),
            }
            if next.is_none() {
                next = self.flush(own, relieved);
            }
            if next.is_some() && self.pool.is_halted(self.thread) {
                // Dropped outside of any lock; it is counted with the rest.
                panic::guard_drop(next);
                return items;
            }
        }
        items
    }

    /// Invariant 8: finds the lanes of the taken items, and puts those that may start into the slot. Returns the first of
    /// these.
    fn sort(&mut self, keyed: &Keyed<In>, first: u64, relieved: Relieved) -> (Option<Numbered<Job<In>>>, Relieved) {
        let pool = self.pool;
        let count = self.raw.len() as u64;
        let mut panics = VecDeque::new();
        let mut lane = |item: &In| match panic::catch(|| Lane::of((keyed.lane_of)(item))) {
            Ok(lane) => Some(lane),
            Err(payload) => {
                panics.push_back(payload);
                None
            }
        };
        // Before the lock of the lanes: this calls user code. The items are moved later, in a loop of their own, so that none is
        // copied right after its parts have been written (see `Slots::swap`).
        let lanes: Vec<_> = self.raw.iter().map(|item| item.as_ref().ok().and_then(&mut lane)).collect();
        let job = |(item, lane): (Result<In>, &Option<Lane>)| match item {
            Err(error) => Job::Pass(error),
            Ok(item) if lane.is_some() => Job::Work(item, *lane),
            Ok(item) => {
                let error = pool.context.error(ErrorKind::Panicked, 0).with_item(item);
                Job::Fail(match panics.pop_front() {
                    Some(payload) => error.with_source(PanicMessage::from(payload)),
                    None => error,
                })
            }
        };
        let items = (first..).zip(self.raw.drain(..).zip(&lanes).map(job)).collect();
        let run = lanes::Run { lanes, items };
        keyed.lanes.arrive(first, run, &mut self.ready);
        let more = self.ready.len() > 1;
        let next = pool.slots.put(self.thread.index(), &mut self.ready);
        // After `put`, Release: a worker that reads that all items are sorted (Acquire, `is_all_sorted`) finds them in the
        // slots.
        keyed.sorted.fetch_add(count, Ordering::Release);
        // Store `sorted`, fence, load `ended`; pairs with `take`: store `ended`, fence, load `sorted`. One of the two
        // sees the other's store: either we wake the resting workers, or they see that all items are sorted and leave.
        fence(Ordering::SeqCst);
        if more {
            pool.crew.leave_spare();
        }
        let relieved = if pool.ended.load(Ordering::Relaxed) {
            pool.crew.lock().dismiss_resting()
        } else if more {
            pool.crew.lock().relieve()
        } else {
            relieved
        };
        (next, relieved)
    }

    /// Invariant 7, at the end of a run: flushes for one of the others, if it still has the item that it was last seen
    /// with.
    fn flush_stalled(&mut self, relieved: &Relieved) -> Option<Numbered<Job<In>>> {
        let other = (self.looked_at + 1) % self.last_seen.len();
        self.looked_at = other;
        let at_work = self.pool.slots.at_work(other);
        let is_stalled = at_work.is_some() && std::mem::replace(&mut self.last_seen[other], at_work) == at_work;
        if is_stalled { self.flush(other, relieved) } else { None }
    }

    /// Emits the finished items of one slot. In a keyed pool, returns the first item that may start now: see
    /// [`complete`](Self::complete).
    fn flush(&mut self, slot: usize, relieved: &Relieved) -> Option<Numbered<Job<In>>> {
        self.pool.slots.take_done(slot, &mut self.done, &mut self.left);
        self.complete(relieved)
    }

    /// Emits the finished items of all slots.
    fn flush_all(&mut self, relieved: &Relieved) -> Option<Numbered<Job<In>>> {
        for slot in 0..self.pool.slots.len() {
            self.pool.slots.take_done(slot, &mut self.done, &mut self.left);
        }
        self.complete(relieved)
    }

    /// Emits results. Before that it frees their lanes, and puts the items that may start now into the slot, which is empty.
    /// Returns the first of these, for this worker to start.
    fn complete(&mut self, relieved: &Relieved) -> Option<Numbered<Job<In>>> {
        let mut next = None;
        if let Some(keyed) = &self.pool.keyed
            && !self.left.is_empty()
        {
            keyed.lanes.leave(&mut self.left, &mut self.ready);
            let more = self.ready.len() > 1;
            if !self.ready.is_empty() {
                next = self.pool.slots.put(self.thread.index(), &mut self.ready);
            }
            if more {
                _ = self.leave_spare();
            }
        }
        if !self.done.is_empty() {
            self.pool.complete(self.thread, &mut self.done, &mut self.run, relieved);
        }
        next
    }

    /// Steals an item that another worker has taken and not started, and processes it; if there is none, emits the
    /// finished items of all slots. Returns false if the slots were empty.
    fn steal_or_flush<W>(&mut self, relieved: Relieved, site: &Site<'_>, work: &W) -> bool
    where
        W: Fn(&Site<'_>, In) -> Outcome<Out>,
    {
        // Before the look: anything left in a slot after it sets the flag again.
        self.pool.crew.take_spare();
        if let Some((item, more)) = self.pool.slots.steal(self.thread.index()) {
            let relieved = if more { self.leave_spare() } else { relieved };
            self.process(Some(item), &relieved, site, work);
            return true;
        }
        // Before the flush, which empties them: then there was something, and this worker looks again before it rests.
        let empty = self.pool.slots.are_empty();
        let next = self.flush_all(&relieved);
        self.process(next, &relieved, site, work) > 0 || !empty
    }

    /// In a keyed pool: steals before anything new is taken. Items in the slots of others have lower numbers than those
    /// still in the input, and must start before them.
    fn steal_spare<W: Fn(&Site<'_>, In) -> Outcome<Out>>(&mut self, site: &Site<'_>, work: &W) -> bool {
        let crew = &self.pool.crew;
        if self.pool.keyed.is_none() || !crew.may_have_spare() || !crew.take_spare() {
            return false;
        }
        let Some((item, more)) = self.pool.slots.steal(self.thread.index()) else { return false };
        let relieved = if more { self.leave_spare() } else { crew.lock().relieve() };
        self.process(Some(item), &relieved, site, work);
        true
    }

    /// Something was left in a slot. In this order: a worker that `relieve` wakes finds the flag set.
    fn leave_spare(&self) -> Relieved {
        self.pool.crew.leave_spare();
        self.pool.crew.lock().relieve()
    }
}
