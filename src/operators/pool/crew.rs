//! [`Crew`]: the idle workers of a pool, and which of them is woken when there is work.
//!
//! Work appears in two places: in the input, as far as the window allows, and in the slots of other workers. A worker that
//! finds nothing in either *rests*. The input knows one wake at a time, so one of those at rest *keeps watch* for all of
//! them. Each worker that is woken *looks*: it takes something, or rests again.
//!
//! # Invariants
//!
//! 1. *Watch.* Whenever the lock is free and a worker rests, a resting worker keeps watch, or one has been woken and
//!    looks. While there is something to take, one looks.
//! 2. *Baton.* A worker that looks stops looking in one of two ways. It rests: then it keeps watch itself. Or it does
//!    something else: then it passes the baton first ([`Shift::relieve`]), and a resting worker keeps watch in its
//!    place, or is woken if there is something to take already. Calls and sends, which may take any time, require the
//!    proof of that, a [`Relieved`].
//! 3. *Spare.* `spare` is set after items were left in a slot beyond the one that its worker starts at once, and before
//!    `relieve`. It is reset before a look into all slots, and set again if that leaves something. So it is set
//!    whenever there is something in a slot that no worker is about to start, and no worker is in the middle of such a
//!    look.
//! 4. *Window.* `taken - passed <= window`. `taken` changes under the lock; `passed` has one writer at a time. A
//!    resting worker that finds the window full sets `window_wanted`, and the worker that moves the window wakes a
//!    resting one.
//! 5. Waking a worker takes it off the list first; one that wakes by itself takes itself off before it looks.
//!
//! The lock is the input lock of the order in `workers.rs`. No worker's wake is posted while it is held.
//!
//! The crate in `loom/` compiles this file and tries every interleaving.

use crate::clock::wait::Wake;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, fence};

/// The source of the workers' items.
pub(super) trait Supply {
    /// Registers `wake` for the next item. Returns true if there is one already.
    fn watch(&self, wake: &Arc<Wake>) -> bool;
}

pub(super) struct Crew<S> {
    state: Mutex<State<S>>,
    window: u64,
    /// Items taken; written under the lock.
    taken: AtomicU64,
    /// Results that have left the window.
    passed: AtomicU64,
    window_wanted: AtomicBool,
    spare: AtomicBool,
}

struct State<S> {
    supply: S,
    resting: Vec<Arc<Wake>>,
    /// Wakes for all workers, used by [`dismiss_all`](Shift::dismiss_all).
    all: Vec<Arc<Wake>>,
}

/// The proof that another worker keeps watch, if one rests, and that this one is free for long operations.
#[must_use = "pass the baton before anything that may take long"]
pub(super) struct Relieved(());

impl<S: Supply> Crew<S> {
    pub(super) fn new(supply: S, window: u64) -> Self {
        Self {
            state: Mutex::new(State { supply, resting: Vec::new(), all: Vec::new() }),
            window,
            taken: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            window_wanted: AtomicBool::new(false),
            spare: AtomicBool::new(false),
        }
    }

    pub(super) fn lock(&self) -> Shift<'_, S> {
        Shift { crew: self, state: self.state.lock() }
    }

    pub(super) fn try_lock(&self) -> Option<Shift<'_, S>> {
        self.state.try_lock().map(|state| Shift { crew: self, state })
    }

    /// Adds a worker, to be woken by [`dismiss_all`](Shift::dismiss_all).
    pub(super) fn join(&self, wake: &Arc<Wake>) {
        self.state.lock().all.push(Arc::clone(wake));
    }

    /// A resting worker has woken up.
    pub(super) fn rise(&self, wake: &Arc<Wake>) {
        self.state.lock().resting.retain(|resting| !Arc::ptr_eq(resting, wake));
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Acquire)
    }

    /// The number of further items that the window allows. Under the lock it can only grow.
    pub(super) fn room(&self) -> u64 {
        // In this order: the difference is at least what it was at either read, and so never negative.
        let passed = self.passed();
        self.window.saturating_sub(self.taken() - passed)
    }

    /// Results have left the window. One caller at a time.
    pub(super) fn pass(&self, count: u64) {
        // Relaxed: the emitter is the only writer, and that role is handed over under the output lock.
        let passed = self.passed.load(Ordering::Relaxed) + count;
        self.passed.store(passed, Ordering::Release);
        // Store `passed`, fence, load the flag; pairs with `keep_watch`: store the flag, fence, load `passed`. Either
        // we see the flag, or the other one sees that the window has moved.
        fence(Ordering::SeqCst);
        if self.window_wanted.load(Ordering::Relaxed) {
            let mut state = self.state.lock();
            self.window_wanted.store(false, Ordering::Relaxed);
            // One is enough: it takes as much as there is room for, and passes the baton.
            let wake = state.resting.pop();
            drop(state);
            post(wake);
        }
    }

    /// Something was left in a slot. Must be followed by [`Shift::relieve`].
    pub(super) fn leave_spare(&self) {
        // Release, and Acquire in `keep_watch` and `take_spare`: a worker that sees the flag sees the filled slot.
        self.spare.store(true, Ordering::Release);
    }

    /// A hint that there may be something in a slot.
    pub(super) fn may_have_spare(&self) -> bool {
        self.spare.load(Ordering::Relaxed)
    }

    /// Called before a look into all slots: returns whether there may be something in one.
    pub(super) fn take_spare(&self) -> bool {
        self.spare.swap(false, Ordering::AcqRel)
    }
}

/// A turn of one worker at the input, to which it has exclusive access.
pub(super) struct Shift<'a, S> {
    crew: &'a Crew<S>,
    state: MutexGuard<'a, State<S>>,
}

impl<S: Supply> Shift<'_, S> {
    pub(super) fn supply(&mut self) -> &mut S {
        &mut self.state.supply
    }

    /// Counts items that have been taken.
    pub(super) fn take(&mut self, count: u64) {
        let taken = self.crew.taken.load(Ordering::Relaxed);
        self.crew.taken.store(taken + count, Ordering::Release);
    }

    /// Passes the baton: another worker keeps watch, or is woken.
    pub(super) fn relieve(mut self) -> Relieved {
        let found = self.state.resting.last().is_some_and(|next| self.keep_watch(next));
        let wake = if found { self.state.resting.pop() } else { None };
        // The lock first: no wake is posted under it, so that the woken worker does not block on it.
        drop(self);
        post(wake);
        Relieved(())
    }

    /// The worker rests, and keeps watch. Returns true if there is something to take, or `found` finds something: then
    /// it must not park.
    pub(super) fn rest(mut self, wake: &Arc<Wake>, found: impl FnOnce() -> bool) -> bool {
        if found() || self.keep_watch(wake) {
            return true;
        }
        // After `keep_watch`, under the same lock: a worker that finds this wake on the list also finds it registered.
        self.state.resting.push(Arc::clone(wake));
        false
    }

    /// Returns true if there is something to take already.
    fn keep_watch(&self, wake: &Arc<Wake>) -> bool {
        if self.crew.spare.load(Ordering::Acquire) {
            return true;
        }
        if self.crew.room() > 0 {
            return self.state.supply.watch(wake);
        }
        self.crew.window_wanted.store(true, Ordering::Relaxed);
        // Pairs with the fence in `pass`.
        fence(Ordering::SeqCst);
        self.crew.room() > 0
    }

    /// The input has ended: resting workers will not be woken again, so all of them look now.
    pub(super) fn dismiss_resting(mut self) -> Relieved {
        let wakes = std::mem::take(&mut self.state.resting);
        drop(self);
        wakes.into_iter().for_each(|wake| wake.post());
        Relieved(())
    }

    /// The pool stops: all workers are woken, now or when they next rest.
    pub(super) fn dismiss_all(mut self) {
        let wakes = std::mem::take(&mut self.state.all);
        drop(self);
        wakes.into_iter().for_each(|wake| wake.post());
    }
}

fn post(wake: Option<Arc<Wake>>) {
    if let Some(wake) = wake {
        wake.post();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::clock::wait::Waiter;

    /// Whether there is an item in the input.
    impl Supply for bool {
        fn watch(&self, _: &Arc<Wake>) -> bool {
            *self
        }
    }

    fn waiter() -> Waiter {
        Waiter::for_thread(&Clock::default(), "worker".into())
    }

    impl Crew<bool> {
        /// A crew in which `workers` workers rest while the input is empty.
        fn at_rest(window: u64, workers: usize) -> Self {
            let crew = Self::new(false, window);
            (0..workers).for_each(|_| assert!(!crew.lock().rest(waiter().wake(), || false)));
            crew
        }

        fn resting(&self) -> usize {
            self.state.lock().resting.len()
        }
    }

    #[test]
    fn one_at_rest_is_woken_for_an_item() {
        let crew = Crew::at_rest(9, 3);
        _ = crew.lock().relieve();
        assert_eq!(crew.resting(), 3, "there is none");
        *crew.lock().supply() = true;
        _ = crew.lock().relieve();
        assert_eq!(crew.resting(), 2);
        assert!(crew.lock().rest(waiter().wake(), || false), "it may take the item itself");
        assert_eq!(crew.resting(), 2);
    }

    /// Even if the window is full, when no item can wake it.
    #[test]
    fn a_resting_worker_is_woken_for_items_left_in_a_slot() {
        for taken in [0, 9] {
            let crew = Crew::at_rest(9, 3);
            crew.lock().take(taken);
            crew.leave_spare();
            _ = crew.lock().relieve();
            assert_eq!(crew.resting(), 2);
            assert!(crew.lock().rest(waiter().wake(), || false), "it may take what is left itself");
            assert!(crew.may_have_spare() && crew.take_spare() && !crew.may_have_spare());
            _ = crew.lock().relieve();
            assert_eq!(crew.resting(), 2, "nothing is left");
        }
    }

    #[test]
    fn one_at_rest_is_woken_when_the_window_moves() {
        let crew = Crew::at_rest(2, 0);
        *crew.lock().supply() = true;
        crew.lock().take(2);
        (0..3).for_each(|_| assert!(!crew.lock().rest(waiter().wake(), || false)));
        assert_eq!((crew.room(), crew.resting()), (0, 3));
        crew.pass(1);
        assert_eq!((crew.room(), crew.resting()), (1, 2));
        crew.pass(1);
        assert_eq!((crew.room(), crew.resting()), (2, 2), "the one that was woken passes the baton");
        _ = crew.lock().relieve();
        assert_eq!(crew.resting(), 1);
    }

    #[test]
    fn a_worker_that_finds_something_does_not_rest() {
        let crew = Crew::at_rest(9, 1);
        assert!(crew.lock().rest(waiter().wake(), || true));
        assert_eq!(crew.resting(), 1);
    }

    #[test]
    fn a_worker_that_wakes_by_itself_leaves_the_list() {
        let crew = Crew::at_rest(9, 2);
        let waiter = waiter();
        assert!(!crew.lock().rest(waiter.wake(), || false));
        crew.rise(waiter.wake());
        assert_eq!(crew.resting(), 2);
    }

    #[test]
    fn all_are_woken_at_the_end_or_at_a_stop() {
        let crew = Crew::at_rest(9, 3);
        _ = crew.lock().dismiss_resting();
        assert_eq!(crew.resting(), 0);

        let waiter = waiter();
        crew.join(waiter.wake());
        crew.lock().dismiss_all();
        let clock = Clock::default();
        let limit = clock.now() + Duration::from_secs(60);
        waiter.park(Some(limit));
        assert!(clock.now() < limit, "it was woken, although it did not rest");
    }
}
