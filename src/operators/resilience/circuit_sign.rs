//! [`Sign`]: the part of a circuit that a call reads without taking its lock.
//!
//! A closed circuit admits every call, and a success changes nothing in a window that is full of successes: one leaves
//! and one enters. So in the normal case a call only reads, and the workers share no cache line that one of them
//! writes.
//!
//! # Why this is correct
//!
//! The sign is one word that is computed from the state. It is stored under the lock of the state, after each change,
//! so its values follow one another as the states do. A call acts on it alone in three cases, and in none of them would
//! it change the state: it is admitted by a closed circuit, it succeeds in a steady window, or it returns after its
//! generation has ended. Such a step is equivalent to one made under the lock, between the store that it has read and
//! the next one.
//!
//! A call may read the sign just before another thread stores a new one, as it may take a lock just before another
//! thread. It does not read a sign older than one whose store happened before the call, such as that of a `force_open`
//! that has returned: that is the coherence of a single atomic. A generation never recurs.

use std::sync::atomic::{AtomicU64, Ordering};

const ADMITS: u64 = 1;
const STEADY: u64 = 2;
const GENERATION: u64 = 4;

pub(super) struct Sign(AtomicU64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading(u64);

impl Sign {
    pub(super) fn new(reading: Reading) -> Self {
        Self(AtomicU64::new(reading.0))
    }

    /// Must be called under the lock of the state.
    pub(super) fn show(&self, reading: Reading) {
        // Most changes of the state do not change its sign: then the cache line stays with its readers.
        if self.0.load(Ordering::Relaxed) != reading.0 {
            // Pairs with the load of `read`: everything before a change is visible to a call that acts on it.
            self.0.store(reading.0, Ordering::Release);
        }
    }

    #[inline]
    pub(super) fn read(&self) -> Reading {
        Reading(self.0.load(Ordering::Acquire))
    }
}

impl Reading {
    pub(super) fn new(generation: u64, admits: bool, is_steady: bool) -> Self {
        Self(generation * GENERATION + u64::from(is_steady) * STEADY + u64::from(admits) * ADMITS)
    }

    #[inline]
    pub(super) fn generation(self) -> u64 {
        self.0 / GENERATION
    }

    /// Whether every call is admitted.
    #[inline]
    pub(super) fn admits(self) -> bool {
        self.0 & ADMITS != 0
    }

    /// Whether a success that was not slow changes nothing.
    #[inline]
    pub(super) fn is_steady(self) -> bool {
        self.0 & STEADY != 0
    }
}
