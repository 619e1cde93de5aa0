//! [`Occupancy`]: the current number of calls at some point.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub(super) struct Occupancy(AtomicU64);

/// One of them, until it is dropped.
#[must_use = "it is counted until it is dropped"]
pub(super) struct Occupant<'a>(&'a AtomicU64);

impl Occupancy {
    pub(super) fn enter(&self) -> Occupant<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Occupant(&self.0)
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Occupant<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
