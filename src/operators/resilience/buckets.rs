//! [`Buckets`]: a rate limit for each of a bounded number of keys.
//!
//! A call reserves its turn and waits for it, as in Guava's `RateLimiter` and Go's `x/time/rate`: calls for one key
//! have their turns in the order of their arrival, and nothing has to wake them.
//!
//! # Invariants
//!
//! 1. A key whose bucket is full is like one that has never been seen, so it is removed.
//! 2. If all keys are in use, a new one replaces the one whose bucket is full soonest, and takes over its bucket
//!    unchanged. (Space-Saving counts frequent items in the same way: Metwally et al., 2005.) So no bucket is ever
//!    fuller than that of an evicted key: should this key return, it has a bucket that is full no sooner than its own
//!    would have been. No key exceeds its rate, whatever the number of keys; beyond the bound some wait longer than
//!    necessary.
//! 3. A turn can be returned as long as no later one has been reserved for the key. Rule 2 holds nevertheless: the
//!    bucket is not made fuller than that of the last evicted key.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use crate::operators::limit::{Rate, Ticks, instant, ticks};

#[derive(Debug)]
pub(super) struct Buckets {
    rate: Rate,
    max_keys: usize,
    start: Option<Instant>,
    /// When the bucket of each key is full again.
    full_at: HashMap<u64, Ticks>,
    /// The same, soonest first.
    order: BTreeSet<(Ticks, u64)>,
    /// The latest full time of an evicted key.
    floor: Ticks,
}

/// A reserved turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// When it comes; in the past if it came at once.
    pub(super) at: Instant,
    key: u64,
    before: Ticks,
    after: Ticks,
}

impl Buckets {
    pub(super) fn new(rate: Rate, max_keys: usize) -> Self {
        Self { rate, max_keys, start: None, full_at: HashMap::new(), order: BTreeSet::new(), floor: 0 }
    }

    /// Reserves the next turn of `key`, unless `is_too_late` says that it would come too late: then it returns when it
    /// would have come, or `None` if that is never.
    pub(super) fn reserve(
        &mut self,
        key: u64,
        now: Instant,
        is_too_late: impl FnOnce(Instant) -> bool,
    ) -> Result<Turn, Option<Instant>> {
        let start = *self.start.get_or_insert(now);
        let now = ticks(start, now);
        self.forget_idle(now);
        let known = self.full_at.get(&key).copied();
        let (before, replaced) = match known {
            Some(full_at) => (full_at, None),
            None if self.full_at.len() < self.max_keys => (0, None),
            None => self.order.first().map_or((0, None), |&(full_at, other)| (full_at, Some(other))),
        };
        let at = instant(start, self.rate.due(before)).ok_or(None)?;
        if is_too_late(at) {
            return Err(Some(at));
        }
        if let Some(other) = replaced {
            self.floor = before;
            self.remove(other, before);
        }
        let after = self.rate.take(before, now);
        self.replace(key, known, after);
        Ok(Turn { at, key, before, after })
    }

    /// Takes back a turn that will not be used.
    pub(super) fn give_back(&mut self, turn: Turn) {
        if self.full_at.get(&turn.key) == Some(&turn.after) {
            self.replace(turn.key, Some(turn.after), turn.before.max(self.floor));
        }
    }

    /// The number of keys that are not idle, as of the last call.
    pub(super) fn len(&self) -> usize {
        self.full_at.len()
    }

    fn forget_idle(&mut self, now: Ticks) {
        while let Some(&(full_at, key)) = self.order.first().filter(|(full_at, _)| *full_at <= now) {
            self.remove(key, full_at);
        }
    }

    fn replace(&mut self, key: u64, old: Option<Ticks>, full_at: Ticks) {
        if let Some(old) = old {
            self.order.remove(&(old, key));
        }
        self.order.insert((full_at, key));
        self.full_at.insert(key, full_at);
    }

    fn remove(&mut self, key: u64, full_at: Ticks) {
        self.order.remove(&(full_at, key));
        self.full_at.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fastrand::Rng;

    use super::*;
    use crate::operators::limit::Limit;

    /// One call per microsecond.
    fn rate(burst: usize) -> Rate {
        Rate::new(1e6, burst)
    }

    fn turn(buckets: &mut Buckets, key: u64, now: Instant) -> Turn {
        buckets.reserve(key, now, |_| false).unwrap()
    }

    #[test]
    fn each_key_has_the_same_turns_as_without_others() {
        for seed in 0..200 {
            let (rng, start) = (&mut Rng::with_seed(seed), crate::clock::real_now());
            let rate = rate(rng.usize(1..4));
            let (mut buckets, mut alone) = (Buckets::new(rate, 4), HashMap::new());
            let mut now = start;
            for _ in 0..100 {
                now += Duration::from_nanos(rng.u64(..1_500));
                let key = rng.u64(..4);
                let limit = alone.entry(key).or_insert_with(|| Limit::new(rate));
                let due = limit.due(|| start).unwrap();
                limit.take(now);
                assert_eq!(turn(&mut buckets, key, now).at.max(now), due.max(now), "seed {seed}");
            }
        }
    }

    #[test]
    fn no_key_exceeds_its_rate_even_if_permits_are_returned() {
        for seed in 0..500 {
            let (rng, start) = (&mut Rng::with_seed(seed), crate::clock::real_now());
            let (burst, max_keys, keys) = (rng.usize(1..4), rng.usize(1..6), rng.u64(1..10));
            let mut buckets = Buckets::new(rate(burst), max_keys);
            let (mut now, mut turns) = (start, Vec::<(u64, Instant, Turn)>::new());
            for _ in 0..200 {
                now += Duration::from_nanos([0, 0, rng.u64(..500), rng.u64(..5_000)][rng.usize(..4)]);
                if rng.u8(..5) == 0 && !turns.is_empty() {
                    let turn = turns.swap_remove(rng.usize(..turns.len()));
                    // A turn that has come cannot be returned.
                    match turn.1 > now {
                        true => buckets.give_back(turn.2),
                        false => turns.push(turn),
                    }
                } else {
                    let key = rng.u64(..keys);
                    let turn = turn(&mut buckets, key, now);
                    turns.push((key, now.max(turn.at), turn));
                }
                assert!(buckets.len() <= max_keys && buckets.order.len() == buckets.len(), "seed {seed}");
            }
            for key in 0..keys {
                let mut times: Vec<Instant> = turns.iter().filter(|turn| turn.0 == key).map(|turn| turn.1).collect();
                times.sort();
                for pair in times.windows(burst + 1) {
                    assert!(pair[burst] - pair[0] >= Duration::from_micros(1), "seed {seed}: key {key}: {pair:?}");
                }
            }
        }
    }

    #[test]
    fn an_idle_key_is_forgotten_and_a_busy_one_is_not() {
        let (start, us) = (crate::clock::real_now(), Duration::from_micros);
        let mut buckets = Buckets::new(rate(1), 10);
        (0..3).for_each(|_| _ = turn(&mut buckets, 1, start));
        turn(&mut buckets, 2, start);
        assert_eq!(buckets.len(), 2);
        turn(&mut buckets, 3, start + us(1));
        assert_eq!(buckets.len(), 2);
        turn(&mut buckets, 4, start + us(3));
        assert_eq!(buckets.len(), 1);
    }

    #[test]
    fn a_key_beyond_the_bound_replaces_the_bucket_full_soonest() {
        let (start, us) = (crate::clock::real_now(), Duration::from_micros);
        let mut buckets = Buckets::new(rate(1), 2);
        let mut at = |key| turn(&mut buckets, key, start).at - start;
        assert_eq!([at(1), at(1), at(2)], [us(0), us(1), us(0)]);
        // Of key 2, which returns and takes over that of key 1.
        assert_eq!([at(3), at(3), at(2)], [us(1), us(2), us(2)]);
    }

    #[test]
    fn a_turn_that_is_too_late_is_not_taken_and_puts_no_key_out() {
        let (start, us) = (crate::clock::real_now(), Duration::from_micros);
        let mut buckets = Buckets::new(rate(1), 1);
        turn(&mut buckets, 1, start);
        for key in [1, 2] {
            let late = buckets.reserve(key, start, |at| at > start).unwrap_err();
            assert_eq!(late, Some(start + us(1)));
        }
        assert!(buckets.full_at.contains_key(&1));
    }

    #[test]
    fn the_last_turn_is_refunded_and_an_earlier_one_is_lost() {
        let (start, us) = (crate::clock::real_now(), Duration::from_micros);
        let mut buckets = Buckets::new(rate(1), 1);
        let turns: Vec<Turn> = (0..3).map(|_| turn(&mut buckets, 1, start)).collect();
        buckets.give_back(turns[1]);
        buckets.give_back(turns[2]);
        assert_eq!(turn(&mut buckets, 1, start).at, start + us(2));
    }
}
