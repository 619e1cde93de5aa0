//! [`Rate`]: at most `burst + rate * t` items, or calls, in any period `t`.
//!
//! It is the *generic cell rate algorithm* (ITU-T I.371; the virtual-scheduling form), which is a token bucket that
//! stores one number: the time at which the bucket is full again. An item is admitted once that time is no further away
//! than the burst less one allows, and postpones it by one interval. So for the first and the last of any `k` admitted
//! items, `last - first >= (k - burst) * interval`: no interval has more than `burst + rate * time`.
//!
//! Time is counted in 2^-32 nanoseconds, in integers, and the interval is rounded up to the next of them: long sums do
//! not drift, and no rate is exceeded. (An item is admitted at a whole nanosecond, even if its turn comes between two.)

use std::time::{Duration, Instant};

/// The number of binary places of a nanosecond.
const PLACES: u32 = 32;

/// No interval exceeds the range of any clock, and no sum overflows: an item is admitted at `2^96` at most.
const LONGEST: u128 = 1 << 96;
const MOST_TOLERANCE: u128 = 1 << 126;

const SECOND: f64 = 1e9 * (1u64 << PLACES) as f64;

/// The default burst is the number of items in this fraction of a second, plus one: longer than a thread usually waits
/// for a core.
const BURSTS_PER_SECOND: f64 = 50.0;

/// Time since the start of a limit, in 2^-32 nanoseconds.
pub(super) type Ticks = u128;

#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    interval: Ticks,
    /// The maximum by which the full time may be ahead of an item that is admitted.
    tolerance: Ticks,
}

impl Rate {
    /// The burst of a rate for which none is set.
    ///
    /// # Panics
    /// If `per_second` is not positive and finite.
    #[track_caller]
    pub(super) fn default_burst(per_second: f64) -> usize {
        assert!(
            per_second > 0.0 && per_second.is_finite(),
            "`per_second` must be greater than zero and finite, not {per_second}"
        );
        // A quotient that is out of range becomes the largest burst.
        ((per_second / BURSTS_PER_SECOND) as usize).saturating_add(1)
    }

    /// `per_second` is positive and finite, `burst` is at least 1.
    pub(super) fn new(per_second: f64, burst: usize) -> Self {
        let interval = interval(per_second);
        Self { interval, tolerance: interval.saturating_mul(burst as u128 - 1).min(MOST_TOLERANCE) }
    }

    /// The time from which the next item is admitted if the bucket is full at `full_at`.
    #[inline]
    pub(super) fn due(self, full_at: Ticks) -> Ticks {
        full_at.saturating_sub(self.tolerance)
    }

    /// When the bucket is full again if the next item is admitted at `now`. The item may be emitted later, when it is
    /// [due](Self::due).
    #[inline]
    pub(super) fn take(self, full_at: Ticks, now: Ticks) -> Ticks {
        full_at.max(now) + self.interval
    }
}

/// The time since `start`.
#[inline]
pub(super) fn ticks(start: Instant, now: Instant) -> Ticks {
    now.saturating_duration_since(start).as_nanos() << PLACES
}

/// The first time of the clock that is no earlier than `at`; `None` if it is beyond the clock's range.
#[inline]
pub(super) fn instant(start: Instant, at: Ticks) -> Option<Instant> {
    let nanos = (at >> PLACES) + u128::from(at & ((1 << PLACES) - 1) > 0);
    u64::try_from(nanos).ok().and_then(|nanos| start.checked_add(Duration::from_nanos(nanos)))
}

/// A rate and its bucket.
#[derive(Debug)]
pub(super) struct Limit {
    rate: Rate,
    start: Option<Instant>,
    /// When the bucket is full again.
    full_at: Ticks,
}

impl Limit {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, start: None, full_at: 0 }
    }

    /// The time from which the next item is admitted; `None` if that is beyond the range of the clock. Time starts with
    /// the first call.
    #[inline]
    pub(super) fn due(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        let start = *self.start.get_or_insert_with(now);
        instant(start, self.rate.due(self.full_at))
    }

    /// Admits an item at `now`, which must be allowed.
    pub(super) fn take(&mut self, now: Instant) {
        let start = *self.start.get_or_insert(now);
        self.full_at = self.rate.take(self.full_at, ticks(start, now));
    }
}

/// The time between two items, rounded up.
fn interval(per_second: f64) -> u128 {
    let nearest = SECOND / per_second;
    // The remainder of a fused operation is exact enough to have the right sign.
    let is_short = nearest.mul_add(per_second, -SECOND) < 0.0;
    let interval = if is_short { nearest.next_up() } else { nearest };
    (interval.ceil() as u128).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_exact_in_nanoseconds_or_rounded_up() {
        for (rate, nanos) in [(0.1, 10_000_000_000), (0.5, 2_000_000_000), (1.0, 1_000_000_000), (1e6, 1_000), (1e9, 1)]
        {
            assert_eq!(interval(rate), nanos << PLACES, "{rate}");
        }
        // Three intervals are a second and less than a quarter of a millionth of a nanosecond.
        assert!((1_000_000_000 << PLACES..(1_000_000_000 << PLACES) + 1_000).contains(&(3 * interval(3.0))));
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let rate = random.u64(1..10_000_000);
            assert!(interval(rate as f64) * u128::from(rate) >= 1_000_000_000 << PLACES, "{rate}");
        }
    }

    #[test]
    fn extreme_rates_are_handled() {
        let now = crate::clock::real_now();
        for (rate, burst, count) in [
            (f64::MIN_POSITIVE, 1, 1),
            (f64::MIN_POSITIVE, 5, 5),
            (f64::MIN_POSITIVE, usize::MAX, 1_000),
            (1e-9, 3, 3),
            (f64::MAX, 1, 1),
            (f64::MAX, usize::MAX, 1_000),
        ] {
            let mut limit = Limit::new(Rate::new(rate, burst));
            let goes = |limit: &mut Limit| limit.due(|| now).is_some_and(|due| due <= now);
            let went = (0..1_000).take_while(|_| goes(&mut limit).then(|| limit.take(now)).is_some()).count();
            assert_eq!(went, count, "{rate} {burst}");
        }
    }
}
