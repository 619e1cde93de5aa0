//! [`Lead`]: hands an input from one worker to the next.
//!
//! Each worker takes items from the input itself, but one worker at a time: the one that has the input *leads*. It takes a
//! run of items, puts the input back, and processes its run while another worker leads. So the input may block, and it may
//! be user code, which must not be called under a lock. This is the pattern of [Leader/Followers], with a run in place of
//! an event.
//!
//! # Invariants
//!
//! 1. The input is in one place: here, in the hands of the leader, or, once it is over, nowhere.
//! 2. *Waiting.* A worker waits only while another one leads. The leader wakes a waiting worker when it puts the input back.
//!    A worker that leads without having been woken does the same in its turn. So while the input is here and a worker
//!    waits, another one has been woken and will ask.
//! 3. *End.* Once it is over, no worker gets the input, and none waits.
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
    /// Set under the lock.
    is_over: AtomicBool,
}

struct State<I> {
    input: Option<I>,
    waiting: Vec<Arc<Wake>>,
    /// Of all workers.
    all: Vec<Arc<Wake>>,
}

/// The answer to a worker that wants to lead.
pub(super) enum Turn<I> {
    /// It leads.
    Yours(I),
    /// Another one leads.
    NotYet,
    Over,
}

impl<I> Lead<I> {
    pub(super) fn new(input: I) -> Self {
        let state = State { input: Some(input), waiting: Vec::new(), all: Vec::new() };
        Self { state: Mutex::new(state), is_over: AtomicBool::new(false) }
    }

    /// Adds a worker, to be woken by [`end`](Self::end).
    pub(super) fn join(&self, wake: &Arc<Wake>) {
        self.state.lock().all.push(Arc::clone(wake));
    }

    /// Asks for the input.
    pub(super) fn ask(&self) -> Turn<I> {
        let mut state = self.state.lock();
        match state.input.take() {
            Some(input) => Turn::Yours(input),
            None if self.is_over() => Turn::Over,
            None => Turn::NotYet,
        }
    }

    /// Registers a worker that waits for the input. Returns true if it should ask instead.
    pub(super) fn wait(&self, wake: &Arc<Wake>) -> bool {
        let mut state = self.state.lock();
        if self.is_over() || state.input.is_some() {
            return true;
        }
        state.waiting.push(Arc::clone(wake));
        false
    }

    /// A worker has woken up.
    pub(super) fn rise(&self, wake: &Arc<Wake>) {
        self.state.lock().waiting.retain(|waiting| !Arc::ptr_eq(waiting, wake));
    }

    /// The leader puts the input back. Returns it if it is over.
    pub(super) fn put_back(&self, input: I) -> Option<I> {
        let mut state = self.state.lock();
        if self.is_over() {
            return Some(input);
        }
        state.input = Some(input);
        let next = state.waiting.pop();
        drop(state);
        next.into_iter().for_each(|wake| wake.post());
        None
    }

    /// Ends it: at the end of the input, or because of a stop. All workers are woken, including a leader that waits for
    /// items. Returns the input, unless a worker has it.
    pub(super) fn end(&self) -> Option<I> {
        let mut state = self.state.lock();
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
        self.is_over() || self.state.try_lock().is_some_and(|state| state.input.is_some())
    }
}
