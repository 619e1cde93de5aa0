//! [`Sign`]: the part of a circuit that a call reads without taking its lock.
//!
//! A closed circuit admits every call, and a success changes nothing in a window that is full of successes: one leaves
//! and one enters. An open circuit rejects every call until its recovery time has passed. So in the normal case a call only
//! reads, and the workers share no cache line that one of them writes; apart from the count of rejected calls.
//!
//! # Why this is correct
//!
//! The sign is one word that is computed from the state, and the time until which an open circuit rejects. Both are stored
//! under the lock of the state, after each change, so their values follow one another as the states do. A call acts on the
//! sign alone in four cases, and in none of them would it change the state: it is admitted by a closed circuit, it is
//! rejected by an open one before the recovery time, it succeeds in a steady window, or it returns after its generation
//! has ended. Such a step is equivalent to one made under the lock, between the store that it has read and the next one.
//!
//! A call may read the sign just before another thread stores a new one, as it may take a lock just before another
//! thread. It does not read a sign older than one whose store happened before the call, such as that of a `force_open`
//! that has returned: that is the coherence of a single atomic. A generation never recurs.
//!
//! The time is stored before its word, and a call reads the word, the time, and the word again. If both words are the same,
//! the time is that of this word: the time of a later generation is stored after the word of the generation in between, so
//! a call that reads it also sees that other word. The crate in `loom/` compiles this file and tries every interleaving.

use std::time::Instant;

use crate::sync::{AtomicU64, Ordering};

const ADMITS: u64 = 1;
const STEADY: u64 = 2;
const REJECTS: u64 = 4;
const GENERATION: u64 = 8;

/// The time that never comes.
const NEVER: u64 = u64::MAX;

pub(super) struct Sign {
    word: AtomicU64,
    /// The time until which every call is rejected, in nanoseconds after `base`.
    until: AtomicU64,
    base: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading(u64);

/// What a circuit does with calls, as far as it can be said without its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// It admits all of them. If it is steady, a success that was not slow changes nothing.
    Admit { steady: bool },
    /// It rejects all of them until this time, or until it is told otherwise.
    Reject(Option<Instant>),
    /// That depends on the state.
    Ask,
}

impl Sign {
    /// Times before `base` are not told apart.
    pub(super) fn new(base: Instant) -> Self {
        Self { word: AtomicU64::new(0), until: AtomicU64::new(0), base }
    }

    /// Must be called under the lock of the state.
    pub(super) fn show(&self, generation: u64, rule: Rule) {
        let flags = match rule {
            Rule::Admit { steady } => ADMITS | if steady { STEADY } else { 0 },
            Rule::Reject(_) => REJECTS,
            Rule::Ask => 0,
        };
        let word = generation * GENERATION + flags;
        // Most changes of the state do not change its sign: then the cache line stays with its readers.
        if self.word.load(Ordering::Relaxed) == word {
            return;
        }
        if let Rule::Reject(until) = rule {
            // Release: a call that reads it sees the previous word, too.
            self.until.store(until.map_or(NEVER, |until| self.nanos(until)), Ordering::Release);
        }
        // Pairs with the load of `read`: everything before a change is visible to a call that acts on it.
        self.word.store(word, Ordering::Release);
    }

    #[inline]
    pub(super) fn read(&self) -> Reading {
        Reading(self.word.load(Ordering::Acquire))
    }

    /// Whether a call at the time `now` is rejected. If not, the state must be asked.
    pub(super) fn rejects(&self, reading: Reading, now: impl FnOnce() -> Instant) -> bool {
        if reading.0 & REJECTS == 0 {
            return false;
        }
        let until = self.until.load(Ordering::Acquire);
        // After that: see above.
        self.read() == reading && (until == NEVER || self.nanos(now()) < until)
    }

    fn nanos(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.base).as_nanos()).unwrap_or(NEVER)
    }
}

impl Reading {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::real_now;

    #[test]
    fn an_open_circuit_rejects_until_its_time_has_come() {
        let base = real_now();
        let sign = Sign::new(base);
        let second = Duration::from_secs(1);
        let rejects = |at: Instant| sign.rejects(sign.read(), || at);
        assert!(!rejects(base), "nothing is shown yet");
        sign.show(1, Rule::Reject(Some(base + second)));
        assert!(rejects(base) && rejects(base + second - Duration::from_nanos(1)) && !rejects(base + second));
        let old = sign.read();
        sign.show(2, Rule::Ask);
        assert!(!rejects(base));
        sign.show(3, Rule::Reject(None));
        assert!(rejects(base + second * 1_000_000));
        assert!(!sign.rejects(old, || base), "it is of an earlier generation");
    }

    /// A manual clock may begin before the circuit.
    #[test]
    fn times_before_the_base_are_left_to_the_state() {
        let base = real_now();
        let sign = Sign::new(base + Duration::from_secs(9));
        sign.show(1, Rule::Reject(Some(base + Duration::from_secs(5))));
        assert!(!sign.rejects(sign.read(), || base));
    }
}
