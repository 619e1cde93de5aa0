//! Arithmetic on times.

use std::time::{Duration, Instant};

/// The duration of `nanos` nanoseconds; the maximum if they do not fit.
pub(crate) fn from_nanos(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    u64::try_from(nanos / SECOND).map_or(Duration::MAX, |seconds| Duration::new(seconds, (nanos % SECOND) as u32))
}

#[inline]
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// How an interval handles ticks that came due while an earlier one could not be delivered.
///
/// The policies are those of tokio's `MissedTickBehavior`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum MissedTicks {
    /// Skips them: the late tick comes at once, with the number of the last one that was due, and the next at the next
    /// multiple of the period. The default.
    #[default]
    Skip,
    /// Catches up: they come one after another without a pause, until the interval has caught up. No number is missing.
    Burst,
    /// Shifts all later ticks: the late tick comes at once, and the next a whole period later. Numbers count the ticks,
    /// not the periods.
    Delay,
}

/// Due times at whole multiples of a period after a start, unless one is missed.
pub(crate) struct Ticks {
    period: Duration,
    missed: MissedTicks,
    /// `None` if the next one would be beyond the range of the clock.
    pub(crate) next: Option<Instant>,
    count: u64,
}

impl Ticks {
    /// Creates ticks that skip missed ones.
    pub(crate) fn new(start: Instant, period: Duration) -> Self {
        Self::with_missed(start, period, MissedTicks::Skip)
    }

    pub(crate) fn with_missed(start: Instant, period: Duration, missed: MissedTicks) -> Self {
        Self { period, missed, next: start.checked_add(period), count: 0 }
    }

    /// Returns the number of the tick that is due, counted from 1, once for each.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        let due = self.next.filter(|&next| next <= now)?;
        // The time from which the next tick is one period away.
        let (missed, from) = match self.missed {
            MissedTicks::Skip => self.last_due(due, now),
            MissedTicks::Burst => (0, due),
            MissedTicks::Delay => (0, now),
        };
        self.count = self.count.saturating_add(missed).saturating_add(1);
        self.next = from.checked_add(self.period);
        Some(self.count)
    }

    /// The number of ticks that came due after `due` and up to `now`, and when the last of them did.
    fn last_due(&self, due: Instant, now: Instant) -> (u64, Instant) {
        let (late, period) = (now.duration_since(due).as_nanos(), self.period.as_nanos());
        let since = Duration::from_nanos(u64::try_from(late % period).unwrap_or(u64::MAX));
        (u64::try_from(late / period).unwrap_or(u64::MAX), now.checked_sub(since).unwrap_or(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_become_a_duration_or_the_longest_one() {
        for duration in [Duration::ZERO, Duration::from_nanos(1), Duration::new(3, 999_999_999), Duration::MAX] {
            assert_eq!(from_nanos(duration.as_nanos()), duration);
        }
        assert_eq!(from_nanos(Duration::MAX.as_nanos() + 1), Duration::MAX);
        assert_eq!(from_nanos(u128::MAX), Duration::MAX);
    }
    use crate::clock::real_now;

    fn ns(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    /// Numbers and next due times of ticks taken at these times.
    fn taken<const N: usize>(missed: MissedTicks, at: [u64; N]) -> [Option<(u64, Duration)>; N] {
        let start = real_now();
        let mut ticks = Ticks::with_missed(start, ns(10), missed);
        at.map(|at| Some((ticks.take(start + ns(at))?, ticks.next? - start)))
    }

    #[test]
    fn ticks_in_time_are_the_same_by_every_policy() {
        for missed in [MissedTicks::Skip, MissedTicks::Burst, MissedTicks::Delay] {
            let expected = [None, Some((1, ns(20))), None, Some((2, ns(30)))];
            assert_eq!(taken(missed, [9, 10, 19, 20]), expected, "{missed:?}");
        }
    }

    #[test]
    fn the_policies_differ_after_a_stall() {
        let at = [35, 35, 35, 40, 44, 45];
        let some = |number, next| Some((number, ns(next)));
        assert_eq!(taken(MissedTicks::Skip, at), [some(3, 40), None, None, some(4, 50), None, None]);
        assert_eq!(taken(MissedTicks::Burst, at), [some(1, 20), some(2, 30), some(3, 40), some(4, 50), None, None]);
        assert_eq!(taken(MissedTicks::Delay, at), [some(1, 45), None, None, None, None, some(2, 55)]);
    }

    #[test]
    fn a_stall_of_over_u32_periods_leaves_no_tick_behind() {
        let start = real_now();
        let mut ticks = Ticks::new(start, ns(1));
        let stall = Duration::from_secs(10);
        assert_eq!(ticks.take(start + stall), Some(10_000_000_000));
        assert_eq!(ticks.take(start + stall), None);
    }

    #[test]
    fn a_period_beyond_the_clock_never_ends() {
        let mut ticks = Ticks::new(real_now(), Duration::MAX);
        assert_eq!((ticks.next, ticks.take(real_now())), (None, None));
    }
}
