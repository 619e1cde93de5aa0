//! [`Histograms`]: durations in constant memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::pipeline::latency::Latency;

/// The longest duration that percentiles can represent: a year.
const HIGHEST: u64 = 365 * 24 * 3_600 * 1_000_000_000;

/// Significant decimal digits: a precision of 1 %. A histogram takes 50 KiB at most.
const DIGITS: u8 = 2;

/// The durations that one thread has measured.
#[derive(Default)]
pub(super) struct Recorder(Mutex<Option<Box<Histograms>>>);

impl Recorder {
    /// Records `count` durations of about this length.
    pub(super) fn record(&self, duration: Duration, count: u64) {
        self.0.lock().get_or_insert_with(|| Box::new(Histograms::new())).record(duration, count);
    }
}

/// A histogram, with exact values for what it only approximates.
#[derive(Clone)]
pub(super) struct Histograms {
    nanos: Histogram<u64>,
    total: u128,
    max: Duration,
}

impl Histograms {
    fn new() -> Self {
        let Ok(nanos) = Histogram::new_with_bounds(1, HIGHEST, DIGITS) else { unreachable!("the bounds are in order") };
        Self { nanos, total: 0, max: Duration::ZERO }
    }

    fn record(&mut self, duration: Duration, count: u64) {
        let nanos = duration.as_nanos();
        self.nanos.saturating_record_n(u64::try_from(nanos).unwrap_or(u64::MAX), count);
        self.total = self.total.saturating_add(nanos.saturating_mul(count.into()));
        self.max = self.max.max(duration);
    }

    pub(super) fn merged(recorders: &[Recorder]) -> Option<Self> {
        let mut merged: Option<Self> = None;
        for recorder in recorders {
            let guard = recorder.0.lock();
            let Some(one) = &*guard else { continue };
            match &mut merged {
                None => merged = Some((**one).clone()),
                Some(all) => all.add(one),
            }
        }
        merged
    }

    fn add(&mut self, other: &Self) {
        let Ok(()) = self.nanos.add(&other.nanos) else { unreachable!("all have the same bounds") };
        self.total = self.total.saturating_add(other.total);
        self.max = self.max.max(other.max);
    }

    fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.nanos.value_at_quantile(share.clamp(0.0, 1.0))).min(self.max)
    }

    pub(super) fn latency(self) -> Option<Latency> {
        let count = self.nanos.len();
        let mean = self.total.checked_div(count.into())?;
        let nanos_per_second = Duration::from_secs(1).as_nanos();
        let seconds = u64::try_from(mean / nanos_per_second).unwrap_or(u64::MAX);
        Some(Latency {
            count,
            mean: Duration::new(seconds, (mean % nanos_per_second) as u32),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            max: self.max,
            snapshot: Snapshot(Arc::new(self)),
        })
    }
}

/// The data of which a [`Latency`] was made.
#[derive(Clone)]
pub(in crate::pipeline) struct Snapshot(Arc<Histograms>);

impl Snapshot {
    pub(in crate::pipeline) fn quantile(&self, share: f64) -> Duration {
        self.0.quantile(share)
    }

    pub(in crate::pipeline) fn plus(&self, other: &Self) -> Latency {
        let mut both = (*self.0).clone();
        both.add(&other.0);
        let Some(latency) = both.latency() else { unreachable!("neither is empty") };
        latency
    }

    pub(in crate::pipeline) fn since(&self, earlier: &Self) -> Option<Latency> {
        let (mut added, earlier) = ((*self.0).clone(), &*earlier.0);
        added.nanos.subtract(&earlier.nanos).ok()?;
        added.total = added.total.checked_sub(earlier.total)?;
        if added.max == earlier.max {
            added.max = Duration::from_nanos(added.nanos.max()).min(added.max);
        }
        added.latency()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("buckets", &self.0.nanos.distinct_values()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn percentiles_count_durations_over_a_year_as_a_year() {
        let (year, recorder) = (Duration::from_nanos(HIGHEST), Recorder::default());
        recorder.record(Duration::MAX, 1);
        recorder.record(2 * year, 2);
        let latency = Histograms::merged(&[recorder]).unwrap().latency().unwrap();
        assert_eq!((latency.count, latency.max), (3, Duration::MAX));
        assert!(latency.p50.abs_diff(year) * 100 < year, "{:?}", latency.p50);
        assert!(latency.mean > 1_000 * year);
    }

    #[test]
    fn recordings_of_all_threads_are_combined() {
        let recorders: [Recorder; 3] = Default::default();
        assert!(Histograms::merged(&recorders).is_none());
        recorders[0].record(micros(1), 9);
        recorders[2].record(micros(100), 1);
        let latency = Histograms::merged(&recorders).unwrap().latency().unwrap();
        assert_eq!((latency.count, latency.mean, latency.max), (10, Duration::from_nanos(10_900), micros(100)));
        assert_eq!((latency.p90.as_micros(), latency.p99.as_micros()), (1, 100));
    }
}
