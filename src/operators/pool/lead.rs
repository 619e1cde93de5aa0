//! [`Lead`]: hands an input from one worker to the next.
//!
//! Each worker takes items from the input by itself, but one at a time: the one that has the input *leads*. It takes a
//! run of items, puts the input back, and processes its run while another leads. So the input may block, and it may be
//! user code, which must not be called under a lock. This is the pattern of [Leader/Followers], with a run in place of an
//! event.
//!
//! # Invariants
//!
//! 1. The input is in one place: here, in the hands of the leader, or, once it is over, nowhere.
//! 2. Until it is over, `busy` is the number of runs that were taken and have not been finished.
//! 3. *Barrier.* If the leader has seen something that must wait for everything before it, the next worker gets the input
//!    when all runs are finished, and deals with that first.
//! 4. *Waiting.* A worker waits only while the input is away or the barrier is closed. Whoever puts the input back wakes
//!    one that waits. Behind a barrier, the worker that finishes the last run leads next. So whenever the input is here
//!    and free, a worker that has been woken or has not waited will look.
//! 5. *End.* Once it is over, no worker gets the input, and none waits.
//!
//! No wake is posted, and nothing is dropped, under the lock.
//!
//! The crate in `loom/` compiles this file and tries every interleaving.
//!
//! [Leader/Followers]: https://www.dre.vanderbilt.edu/~schmidt/PDF/lf.pdf

use crate::clock::wait::Wake;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};

pub(super) struct Lead<I> {
    state: Mutex<State<I>>,
    /// As in the state; changed under the lock.
    is_over: AtomicBool,
}

struct State<I> {
    input: Option<I>,
    busy: usize,
    has_barrier: bool,
    is_over: bool,
    waiting: Vec<Arc<Wake>>,
    /// Of all workers.
    all: Vec<Arc<Wake>>,
}

/// The answer to a worker that wants to lead.
pub(super) enum Turn<I> {
    /// It leads.
    Yours(I),
    /// It may wait.
    NotYet,
    Over,
}

impl<I> Lead<I> {
    pub(super) fn new(input: I) -> Self {
        let state = State {
            input: Some(input),
            busy: 0,
            has_barrier: false,
            is_over: false,
            waiting: Vec::new(),
            all: Vec::new(),
        };
        Self { state: Mutex::new(state), is_over: AtomicBool::new(false) }
    }

    /// Adds a worker, to be woken by [`end`](Self::end).
    pub(super) fn join(&self, wake: &Arc<Wake>) {
        self.state.lock().all.push(Arc::clone(wake));
    }

    /// Asks for the input. If `has_finished`, the worker has finished a run.
    pub(super) fn ask(&self, has_finished: bool) -> Turn<I> {
        let mut state = self.state.lock();
        if state.is_over {
            return Turn::Over;
        }
        state.busy -= usize::from(has_finished);
        match if state.is_closed() { None } else { state.input.take() } {
            Some(input) => {
                state.has_barrier = false;
                Turn::Yours(input)
            }
            None => Turn::NotYet,
        }
    }

    /// Registers a worker that may wait. Returns true if it should ask instead.
    pub(super) fn wait(&self, wake: &Arc<Wake>) -> bool {
        let mut state = self.state.lock();
        if state.is_over || (state.input.is_some() && !state.is_closed()) {
            return true;
        }
        state.waiting.push(Arc::clone(wake));
        false
    }

    /// A worker has woken up.
    pub(super) fn rise(&self, wake: &Arc<Wake>) {
        self.state.lock().waiting.retain(|waiting| !Arc::ptr_eq(waiting, wake));
    }

    /// The leader puts the input back. It may have taken a run, and it may have seen something that must wait for all
    /// runs. Returns the input if it is over.
    pub(super) fn put_back(&self, input: I, has_run: bool, has_barrier: bool) -> Option<I> {
        let mut state = self.state.lock();
        state.busy += usize::from(has_run);
        if state.is_over {
            return Some(input);
        }
        state.input = Some(input);
        state.has_barrier = has_barrier;
        let next = if state.is_closed() { None } else { state.waiting.pop() };
        drop(state);
        next.into_iter().for_each(|wake| wake.post());
        None
    }

    /// Ends it: at the end of the input, or because of a stop. All workers are woken, including a leader that waits for
    /// items. Returns the input, unless a worker has it.
    pub(super) fn end(&self) -> Option<I> {
        let mut state = self.state.lock();
        state.is_over = true;
        // Under the lock and before the wakes: a worker that reads false here is woken.
        self.is_over.store(true, Ordering::Release);
        state.waiting.clear();
        let (input, wakes) = (state.input.take(), std::mem::take(&mut state.all));
        drop(state);
        wakes.into_iter().for_each(|wake| wake.post());
        input
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// A hint that it is worth asking.
    pub(super) fn may_be_free(&self) -> bool {
        self.state.try_lock().is_some_and(|state| state.is_over || (state.input.is_some() && !state.is_closed()))
    }
}

impl<I> State<I> {
    /// Invariant 3.
    fn is_closed(&self) -> bool {
        self.has_barrier && self.busy > 0
    }
}
