//! One worker of a pool: its loop, and what it does for the others.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};

use super::crew::Relieved;
use super::intake::{Taken, Why};
use super::lanes::Lane;
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
        let site = Site { token: &thread.token, context: &self.context };
        let mut worker = Worker {
            pool: self,
            thread,
            done: Vec::new(),
            raw: Vec::new(),
            last_seen: vec![None; self.slots.len()],
            looked_at: thread.index(),
        };
        // Under virtual time what is seen at a given moment must not depend on the real one.
        let mut length = if thread.token.clock().is_manual() { None } else { Some(RunLength::new()) };
        loop {
            if self.is_halted(thread) {
                return self.halt();
            }
            let most = length.map_or(1, RunLength::get);
            // Quick items need no such care: their slots are empty in no time.
            if most == 1 && worker.takes_over(&site, work) {
                continue;
            }
            match self.take(thread.index(), most, &mut worker.raw) {
                Taken::Run(mut relieved) => {
                    let begun = length.map(|_| real_now());
                    if let Some(keyed) = &self.keyed {
                        relieved = worker.sort(keyed, relieved);
                    }
                    let items = worker.work_off(self.slots.next(thread.index()), &relieved, &site, work);
                    if let (Some(length), Some(begun)) = (&mut length, begun) {
                        length.adapt(begun.elapsed(), items);
                        worker.look_after_others(&relieved);
                    }
                }
                Taken::Nothing(why, relieved) => {
                    // Before the look into the slots: what has been sorted is there.
                    let all_sorted = self.is_all_sorted();
                    if worker.helps(relieved, &site, work) {
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

/// A worker at work.
struct Worker<'a, In: Send + 'static, Out: Send + 'static> {
    pool: &'a Pool<In, Out>,
    thread: &'a StageThread,
    /// A buffer.
    done: Vec<Numbered<Ready<Out>>>,
    /// What has been taken and is to be sorted.
    raw: Vec<Numbered<Result<In>>>,
    /// What each worker was last seen to have in hand, and which of them was looked at.
    last_seen: Vec<Option<u64>>,
    looked_at: usize,
}

impl<In: Send + 'static, Out: Send + 'static> Worker<'_, In, Out> {
    /// Works off what is in the slot, beginning with `next`. Returns how many items it was.
    fn work_off<W>(
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
        while let Some((number, job)) = next {
            items += 1;
            let (result, lane) = match job {
                Job::Work(item, lane) => (Ready::Outcome(work(site, item)), lane),
                Job::Pass(error) => (Ready::Passed(error), None),
                Job::Fail(error) => (Ready::Outcome(Outcome::Failed(error)), None),
            };
            match lane.and_then(|lane| self.pool.keyed.as_ref()?.lanes.leave(lane)) {
                None => next = self.pool.slots.swap(own, (number, result)),
                Some(follower) => {
                    next = self.pool.slots.swap_with(own, (number, result), follower);
                    // A run that grows must not keep its results until it ends.
                    self.pass_on(own, relieved);
                }
            }
            if next.is_some() && self.pool.is_halted(self.thread) {
                // Dropped outside of any lock; it is counted with the rest.
                panic::guard_drop(next);
                return items;
            }
        }
        self.pass_on(own, relieved);
        items
    }

    /// Invariant 8: finds the lanes of what has been taken, and puts what may be begun into the slot.
    fn sort(&mut self, keyed: &Keyed<In>, relieved: Relieved) -> Relieved {
        let pool = self.pool;
        let count = self.raw.len() as u64;
        let key = |(number, item): Numbered<Result<In>>| match item {
            Err(error) => (number, None, Job::Pass(error)),
            Ok(item) => match panic::catch(|| Lane::of((keyed.lane_of)(&item))) {
                Ok(lane) => (number, Some(lane), Job::Work(item, Some(lane))),
                Err(payload) => {
                    let error = pool.context.error(ErrorKind::Panicked, 0);
                    let error = error.with_source(PanicMessage::from(payload)).with_item(item);
                    (number, None, Job::Fail(error))
                }
            },
        };
        // Before the lock.
        let keyed_items: Vec<_> = self.raw.drain(..).map(key).collect();
        let mut ready = VecDeque::new();
        keyed.lanes.arrive(keyed_items.into_iter(), &mut ready);
        let more = ready.len() > 1;
        pool.slots.put(self.thread.index(), &mut ready);
        keyed.sorted.fetch_add(count, Ordering::Release);
        // Pairs with the fence in `take`: either we see that the input has ended, or those who see the end see what is sorted.
        fence(Ordering::SeqCst);
        if more {
            pool.crew.leave_spare();
        }
        if pool.ended.load(Ordering::Relaxed) {
            pool.crew.lock().dismiss_resting()
        } else if more {
            pool.crew.lock().relieve()
        } else {
            relieved
        }
    }

    /// Invariant 7, at the end of a run: a look at one of the others.
    fn look_after_others(&mut self, relieved: &Relieved) {
        let other = (self.looked_at + 1) % self.last_seen.len();
        self.looked_at = other;
        let at_work = self.pool.slots.at_work(other);
        if at_work.is_some() && std::mem::replace(&mut self.last_seen[other], at_work) == at_work {
            self.pass_on(other, relieved);
        }
    }

    /// Passes on what is finished in one slot.
    fn pass_on(&mut self, slot: usize, relieved: &Relieved) {
        self.pool.slots.take_done(slot, &mut self.done);
        if !self.done.is_empty() {
            self.pool.complete(self.thread, &mut self.done, relieved);
        }
    }

    /// Passes on what is finished in all slots.
    fn sweep(&mut self, relieved: &Relieved) {
        for slot in 0..self.pool.slots.len() {
            self.pool.slots.take_done(slot, &mut self.done);
        }
        if !self.done.is_empty() {
            self.pool.complete(self.thread, &mut self.done, relieved);
        }
    }

    /// Does what another worker has taken and not begun, and passes on what is finished: false if there was nothing.
    fn helps<W>(&mut self, relieved: Relieved, site: &Site<'_>, work: &W) -> bool
    where
        W: Fn(&Site<'_>, In) -> Outcome<Out>,
    {
        self.pool.crew.take_spare();
        if let Some((item, more)) = self.pool.slots.steal(self.thread.index()) {
            let relieved = if more { self.leave_spare() } else { relieved };
            self.work_off(Some(item), &relieved, site, work);
            return true;
        }
        let empty = self.pool.slots.are_empty();
        self.sweep(&relieved);
        !empty
    }

    /// In a keyed pool: does what others have in their slots, if there may be anything, before something new is taken: it
    /// was taken before that, and is to be begun before it.
    fn takes_over<W: Fn(&Site<'_>, In) -> Outcome<Out>>(&mut self, site: &Site<'_>, work: &W) -> bool {
        let crew = &self.pool.crew;
        if self.pool.keyed.is_none() || !crew.may_have_spare() || !crew.take_spare() {
            return false;
        }
        let Some((item, more)) = self.pool.slots.steal(self.thread.index()) else { return false };
        let relieved = if more { self.leave_spare() } else { crew.lock().relieve() };
        self.work_off(Some(item), &relieved, site, work);
        true
    }

    fn leave_spare(&self) -> Relieved {
        self.pool.crew.leave_spare();
        self.pool.crew.lock().relieve()
    }
}
