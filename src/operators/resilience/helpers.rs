//! [`Helpers`]: threads that make calls for the workers of a pool.
//!
//! # Invariants
//!
//! - They are threads of the pipeline: counted, bounded by its `max_threads`, seen by virtual time, and joined. They do
//!   not keep it alive: they end when they are closed, and when the pipeline is about to end, but never before their
//!   current job is done.
//! - There are at least as many free threads as waiting jobs: a thread is free from the end of its job until it takes
//!   the next or leaves, and it leaves only when it finds none. So an accepted job is run, once.
//! - There are at most `most` threads. A free thread is used before another is started, even if it is not parked yet: a
//!   thread is free before it reports that its job is done.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::clock::wait::{Waiter, Wake};
use crate::panic::guard_drop;
use crate::pipeline::CancelToken;

/// The work, which returns the report that it is done. Both catch their own panics.
pub(super) type Job = Box<dyn FnOnce() -> Done + Send>;
pub(super) type Done = Box<dyn FnOnce()>;

pub(super) struct Helpers {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    free: usize,
    /// The free threads that may be parked.
    idle: Vec<Arc<Wake>>,
    closed: bool,
}

impl Helpers {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    /// Runs `job` on a thread of the pipeline that `cancel` belongs to. Returns false if there is none for it; then the
    /// job has been dropped.
    pub(super) fn run(self: &Arc<Self>, cancel: &CancelToken, job: Job) -> bool {
        let Some(scope) = cancel.try_scope() else {
            guard_drop(job);
            return false;
        };
        let mut state = self.state.lock();
        if state.free > state.jobs.len() {
            state.jobs.push_back(job);
            let wake = state.idle.pop();
            drop(state);
            wake.iter().for_each(|wake| wake.post());
            return true;
        }
        let number = state.threads;
        if number >= self.most {
            drop(state);
            guard_drop(job);
            return false;
        }
        state.threads += 1;
        drop(state);
        let place = scope.place(&format!("hedge-{number}"), false);
        if !place.is_allowed() || scope.is_closing() {
            drop(place);
            self.leave();
            guard_drop(job);
            return false;
        }
        let refused = Arc::new(AtomicBool::new(false));
        let (helpers, token, told) = (Arc::clone(self), cancel.clone(), Arc::clone(&refused));
        place.spawn(move |started| match started {
            Ok(()) => helpers.work(&token, job),
            // On the thread of the caller.
            Err(_) => {
                told.store(true, Ordering::Relaxed);
                helpers.leave();
                guard_drop(job);
            }
        });
        !refused.load(Ordering::Relaxed)
    }

    /// The life of a thread.
    fn work(&self, token: &CancelToken, job: Job) {
        let waiter = Waiter::current(token.clock());
        let mut next = Some(job);
        loop {
            if let Some(job) = next {
                let done = job();
                self.state.lock().free += 1;
                done();
            }
            let is_closing = token.scope().is_closing();
            let mut state = self.state.lock();
            state.idle.retain(|wake| !Arc::ptr_eq(wake, waiter.wake()));
            next = state.jobs.pop_front();
            if next.is_some() {
                state.free -= 1;
                continue;
            }
            if state.closed || is_closing {
                state.free -= 1;
                state.threads -= 1;
                return;
            }
            state.idle.push(Arc::clone(waiter.wake()));
            drop(state);
            waiter.park(None);
        }
    }

    fn leave(&self) {
        self.state.lock().threads -= 1;
    }

    /// Ends the idle threads, and the others after their current jobs.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        idle.iter().for_each(|wake| wake.post());
    }
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers").field("threads", &self.state.lock().threads).finish_non_exhaustive()
    }
}
