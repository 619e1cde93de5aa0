//! [`Backoff`]: the delay before a retry or a restart.

use std::time::Duration;

use super::from_nanos;

const DEFAULT_MAX: Duration = Duration::from_secs(30);

/// The delay before retry `k` is `base * 2^(k-1)`, at most `max`; with jitter, a random value between half and all of
/// that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) base: Duration,
    /// `None` for [`DEFAULT_MAX`], or `base` if that is longer.
    pub(crate) max: Option<Duration>,
    pub(crate) jitter: bool,
}

impl Backoff {
    /// The delay before retry `retry`, counted from 1, without jitter. Correct for every number up to the maximum.
    pub(crate) fn full(&self, retry: u32) -> Duration {
        let max = self.max.unwrap_or(DEFAULT_MAX.max(self.base));
        let (base, doublings) = (self.base.as_nanos(), retry.saturating_sub(1));
        // As long as the highest bit stays inside, the shift loses nothing.
        let nanos = if doublings < base.leading_zeros() { base << doublings } else { u128::MAX };
        if base == 0 {
            Duration::ZERO
        } else if nanos >= max.as_nanos() {
            max
        } else {
            from_nanos(nanos)
        }
    }

    /// The delay before retry `retry`.
    pub(crate) fn delay(&self, retry: u32, random: impl FnOnce(u128) -> u128) -> Duration {
        let full = self.full(retry);
        if !self.jitter {
            return full;
        }
        let nanos = full.as_nanos();
        from_nanos(nanos - random(nanos / 2).min(nanos / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn backoff(base: Duration, max: Duration) -> Backoff {
        Backoff { base, max: Some(max), jitter: false }
    }

    #[test]
    fn delays_start_at_the_base_and_double_up_to_the_maximum() {
        let backoff = backoff(Duration::from_millis(100), Duration::from_secs(30));
        let delays: Vec<u128> = (1..=11).map(|retry| backoff.full(retry).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn a_base_above_the_default_limit_raises_it() {
        let delays = |base| [1, 2, 3].map(|retry| Backoff { base, max: None, jitter: false }.full(retry).as_secs());
        assert_eq!(delays(Duration::from_secs(60)), [60, 60, 60]);
        assert_eq!(delays(Duration::from_secs(10)), [10, 20, 30]);
    }

    #[test]
    fn no_attempt_number_is_too_large() {
        let bases = [Duration::from_nanos(1), Duration::from_millis(100), Duration::from_secs(1), Duration::MAX];
        for base in bases {
            for max in [Duration::from_secs(30), Duration::MAX] {
                let backoff = backoff(base.min(max), max);
                let mut last = Duration::ZERO;
                for retry in (1..=200).chain([u32::MAX - 1, u32::MAX]) {
                    let delay = backoff.full(retry);
                    assert!(delay >= last && delay <= max && !delay.is_zero(), "{base:?}, retry {retry}: {delay:?}");
                    last = delay;
                }
                assert_eq!(last, max);
            }
        }
        assert_eq!(backoff(Duration::ZERO, Duration::MAX).full(u32::MAX), Duration::ZERO);
    }

    #[test]
    fn jitter_leaves_between_half_and_all_of_the_delay() {
        for nanos in [0, 1, 2, 3, 100_000_001] {
            let backoff = Backoff { jitter: true, ..backoff(Duration::from_nanos(nanos), Duration::from_secs(30)) };
            let full = backoff.full(1);
            assert_eq!(backoff.delay(1, |_| 0), full);
            let least = backoff.delay(1, |most| most);
            assert!(least * 2 >= full && least <= full, "{least:?} of {full:?}");
            let mut random = fastrand::Rng::with_seed(nanos);
            for _ in 0..1_000 {
                let delay = backoff.delay(1, |most| random.u128(0..=most));
                assert!(delay >= least && delay <= full);
            }
        }
    }
}
