//! [`Barriers`]: marks in a pool that emits results as they are finished.
//!
//! A mark may leave the pool when every item before it has. Its number says which these are, but not which of them are
//! still missing: without marks that is not tracked. So when a worker completes a mark, all items that have been
//! *taken* by then count as before it. The number of those missing is known: the items taken less those completed.
//!
//! # Invariants
//!
//! 1. `missing` is the number of items below `before` that have not been completed. Numbers are taken in order and each is
//!    completed once, so it falls to zero when, and only when, all of them have.
//! 2. A mark is returned after the last of them. It also waits for the few later items that other workers had in hand at
//!    that time, but not for items that are taken after it.

use std::collections::VecDeque;

use crate::error::StreamError;

pub(super) struct Barriers(VecDeque<Barrier>);

struct Barrier {
    before: u64,
    missing: u64,
    mark: StreamError,
}

impl Barriers {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    /// An item or a mark has been completed.
    pub(super) fn completed(&mut self, number: u64) {
        // The later ones wait for more. There may be many, most of which were there before this item was taken.
        for barrier in self.0.iter_mut().rev().take_while(|barrier| number < barrier.before) {
            barrier.missing -= 1;
        }
    }

    /// A mark has been completed, when `taken` items had been taken and `completed` of them completed, this one included.
    pub(super) fn arrive(&mut self, mark: StreamError, taken: u64, completed: u64) {
        self.0.push_back(Barrier { before: taken, missing: taken - completed, mark });
    }

    /// The next mark before which nothing is missing.
    pub(super) fn pop(&mut self) -> Option<StreamError> {
        // A later mark waits for everything that an earlier one waits for.
        let is_next = self.0.front().is_some_and(|barrier| barrier.missing == 0);
        if is_next { self.0.pop_front().map(|barrier| barrier.mark) } else { None }
    }
}
