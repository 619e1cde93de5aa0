//! [`CountLatch`]: how worker 0 waits for the other workers of its pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::wait::Wake;

/// Counts the workers that run beside its owner, and wakes the owner when none is left. It is open while none runs.
///
/// The one that leaves posts the wake, and still counts as running at the clock while it does: so virtual time does not
/// move between the last worker's end and the owner's return from its wait.
pub(super) struct CountLatch {
    running: AtomicUsize,
    owner: Arc<Wake>,
}

impl CountLatch {
    pub(super) fn new(owner: Arc<Wake>) -> Self {
        Self { running: AtomicUsize::new(0), owner }
    }

    /// The owner is about to start a worker.
    pub(super) fn enter(&self) {
        // Relaxed: the spawn that follows is what orders it before `leave`.
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker's last act in the pool.
    pub(super) fn leave(&self) {
        // Release, and Acquire in `is_open`: the owner sees everything that this worker did.
        if self.running.fetch_sub(1, Ordering::Release) == 1 {
            // After the count: the wake is sticky, so the owner sees zero before it parks or afterwards.
            self.owner.post();
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }
}
