//! [`CallWindow`]: the recent calls from which a circuit breaker computes its rates.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Which calls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// The last calls, by number.
    Calls(usize),
    /// The calls of the last such period, to a tenth of it.
    Time(Duration),
}

/// The number of buckets of a span of time.
const BUCKETS: u128 = 10;

/// The outcome of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// The number of calls of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

impl Sums {
    fn add(&mut self, call: Judged) {
        self.requests += 1;
        self.failures += u64::from(call.failed);
        self.slow += u64::from(call.slow);
    }

    fn remove(&mut self, others: Sums) {
        self.requests -= others.requests;
        self.failures -= others.failures;
        self.slow -= others.slow;
    }
}

#[derive(Debug)]
pub(super) struct CallWindow {
    sums: Sums,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Calls {
        most: usize,
        calls: VecDeque<Judged>,
    },
    /// The buckets in which there is something, by number, in ascending order.
    Time {
        bucket: u128,
        origin: Option<Instant>,
        buckets: VecDeque<(u128, Sums)>,
    },
}

impl CallWindow {
    pub(super) fn new(span: Span) -> Self {
        let kept = match span {
            Span::Calls(most) => Kept::Calls { most, calls: VecDeque::new() },
            Span::Time(length) => {
                Kept::Time { bucket: (length.as_nanos() / BUCKETS).max(1), origin: None, buckets: VecDeque::new() }
            }
        };
        Self { sums: Sums::default(), kept }
    }

    pub(super) fn sums(&self) -> Sums {
        self.sums
    }

    /// Whether another call that neither fails nor is slow would change nothing, because it would replace one like it.
    pub(super) fn is_steady(&self) -> bool {
        match self.kept {
            Kept::Calls { most, .. } => self.sums == Sums { requests: most as u64, ..Sums::default() },
            Kept::Time { .. } => false,
        }
    }

    /// Adds a call that ended at `now()`, which is called only if it matters.
    pub(super) fn add(&mut self, call: Judged, now: impl FnOnce() -> Instant) {
        match &mut self.kept {
            Kept::Calls { most, calls } => {
                if calls.len() == *most
                    && let Some(oldest) = calls.pop_front()
                {
                    let mut sums = Sums::default();
                    sums.add(oldest);
                    self.sums.remove(sums);
                }
                calls.push_back(call);
            }
            Kept::Time { bucket, origin, buckets } => {
                let now = now();
                let passed = now.saturating_duration_since(*origin.get_or_insert(now));
                // Threads may arrive here in another order than that in which they read the clock.
                let number = (passed.as_nanos() / *bucket).max(buckets.back().map_or(0, |&(last, _)| last));
                while let Some(&(oldest, sums)) = buckets.front()
                    && oldest + BUCKETS <= number
                {
                    self.sums.remove(sums);
                    buckets.pop_front();
                }
                match buckets.back_mut() {
                    Some((last, sums)) if *last == number => sums.add(call),
                    _ => {
                        let mut sums = Sums::default();
                        sums.add(call);
                        buckets.push_back((number, sums));
                    }
                }
            }
        }
        self.sums.add(call);
    }

    pub(super) fn clear(&mut self) {
        self.sums = Sums::default();
        match &mut self.kept {
            Kept::Calls { calls, .. } => calls.clear(),
            Kept::Time { origin, buckets, .. } => {
                *origin = None;
                buckets.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    const GOOD: Judged = Judged { failed: false, slow: false };
    const BAD: Judged = Judged { failed: true, slow: false };
    const SLOW: Judged = Judged { failed: false, slow: true };

    fn sums(requests: u64, failures: u64, slow: u64) -> Sums {
        Sums { requests, failures, slow }
    }

    #[test]
    fn the_last_calls_count_and_no_others() {
        let never = || unreachable!("the time does not matter");
        let mut window = CallWindow::new(Span::Calls(3));
        for (call, expected) in [
            (BAD, sums(1, 1, 0)),
            (SLOW, sums(2, 1, 1)),
            (GOOD, sums(3, 1, 1)),
            (GOOD, sums(3, 0, 1)),
            (BAD, sums(3, 1, 0)),
            (GOOD, sums(3, 1, 0)),
            (GOOD, sums(3, 1, 0)),
            (GOOD, sums(3, 0, 0)),
        ] {
            assert!(!window.is_steady());
            window.add(call, never);
            assert_eq!(window.sums(), expected);
        }
        assert!(window.is_steady());
        window.clear();
        assert_eq!(window.sums(), sums(0, 0, 0));
    }

    #[test]
    fn the_calls_of_the_last_time_count_to_a_tenth_of_it() {
        let clock = ManualClock::new();
        let mut window = CallWindow::new(Span::Time(Duration::from_secs(10)));
        let mut at = |after: u64, call| {
            clock.advance(Duration::from_millis(after));
            window.add(call, || clock.now());
            window.sums()
        };
        assert_eq!(at(0, BAD), sums(1, 1, 0));
        assert_eq!(at(500, BAD), sums(2, 2, 0));
        assert_eq!(at(9_499, GOOD), sums(3, 2, 0)); // at 9.999 s
        assert_eq!(at(1, GOOD), sums(2, 0, 0)); // at 10 s the first second is gone
        assert_eq!(at(60_000, SLOW), sums(1, 0, 1));
    }

    #[test]
    fn it_agrees_with_the_plain_list_of_all_calls() {
        fn sum(calls: impl Iterator<Item = Judged>) -> Sums {
            let mut sums = Sums::default();
            calls.for_each(|call| sums.add(call));
            sums
        }
        let start = ManualClock::new().now();
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (most, mut now, mut all) = (random.usize(1..20), 0, Vec::new());
            let mut by_count = CallWindow::new(Span::Calls(most));
            let mut by_time = CallWindow::new(Span::Time(Duration::from_nanos(100)));
            for _ in 0..200 {
                now += random.u64(0..30);
                let call = Judged { failed: random.bool(), slow: random.bool() };
                all.push((now, call));
                by_count.add(call, || unreachable!());
                by_time.add(call, || start + Duration::from_nanos(now));
                let bucket = |time: u64| (time - all[0].0) / 10;
                let recent = all.iter().filter(|&&(time, _)| bucket(time) + 10 > bucket(now));
                assert_eq!(by_count.sums(), sum(all.iter().rev().take(most).map(|&(_, call)| call)), "seed {seed}");
                assert_eq!(by_time.sums(), sum(recent.map(|&(_, call)| call)), "seed {seed}");
            }
        }
    }
}
