//! Reckoning with due times.

use std::time::{Duration, Instant};

#[inline]
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Due times at whole multiples of a period after a start; those that were missed are skipped.
pub(crate) struct Ticks {
    period: Duration,
    /// `None` when the next one would be beyond the range of the clock.
    pub(crate) next: Option<Instant>,
    count: u64,
}

impl Ticks {
    pub(crate) fn new(start: Instant, period: Duration) -> Self {
        Self { period, next: start.checked_add(period), count: 0 }
    }

    /// The number of the tick that is due, counted from 1, once for each.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        let due = self.next.filter(|&next| next <= now)?;
        let late = now.duration_since(due).as_nanos() / self.period.as_nanos();
        let late = u32::try_from(late).unwrap_or(u32::MAX);
        self.count += u64::from(late) + 1;
        let ahead = self.period.checked_mul(late).and_then(|missed| missed.checked_add(self.period));
        self.next = ahead.and_then(|ahead| due.checked_add(ahead));
        Some(self.count)
    }
}
