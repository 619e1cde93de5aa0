//! Recording of latencies: what the threads of a stage measure, and where they leave it until a report collects it.
//!
//! # What must hold
//!
//! - *Each thread has a histogram of its own*, behind a lock that only a report contends for. It is made with the first
//!   measurement.
//! - *Sampling does not distort.* Quick items are not all measured. Whether an item is measured is decided before it is
//!   begun, so the duration cannot depend on it, and it counts for those that were skipped before it.
//! - *Under virtual time every item is measured*, so a test sees exact values.
//!
//! `no_recording.rs` has the same names and does nothing; it takes the place of this file without the feature `latency`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::latency::Latency;
use super::stats::StageStats;
use crate::clock::Clock;

/// The longest duration that percentiles can tell: a year.
const HIGHEST: u64 = 365 * 24 * 3_600 * 1_000_000_000;

/// Significant decimal digits: a precision of 1 %. A histogram takes 50 KiB at most.
const DIGITS: u8 = 2;

/// How many quick items are skipped before one is measured.
const SKIPPED: u64 = 63;

/// Items that take less than this are quick: to measure each would be felt.
const QUICK: Duration = Duration::from_micros(5);

/// Which stages of a pipeline record their latencies; for [`PipelineBuilder::latencies`](crate::PipelineBuilder::latencies).
/// Defaults to none.
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing until they are given to the builder"]
pub struct Latencies(Which);

#[derive(Debug, Clone, Default)]
enum Which {
    #[default]
    None,
    All,
    Named(Vec<Arc<str>>),
}

impl Latencies {
    /// No stage.
    pub fn none() -> Self {
        Self(Which::None)
    }

    /// Every stage.
    pub fn all() -> Self {
        Self(Which::All)
    }

    /// The stages with these names, and no others. A name may be the one that the stage was given, which several may share,
    /// or the one that it has in the report. A name that no stage has is ignored.
    pub fn of(stages: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        Self(Which::Named(stages.into_iter().map(Into::into).collect()))
    }

    fn include(&self, names: [&str; 2]) -> bool {
        match &self.0 {
            Which::None => false,
            Which::All => true,
            Which::Named(wanted) => wanted.iter().any(|name| names.contains(&&**name)),
        }
    }
}

/// What a stage has recorded, if it is to record anything.
#[derive(Default)]
pub(crate) struct Recordings(Option<Box<Recorded>>);

struct Recorded {
    /// The times of items, by thread.
    times: Box<[Recorder]>,
}

impl Recordings {
    /// For a stage with that many threads, which has these names.
    pub(super) fn new(which: &Latencies, names: [&str; 2], threads: usize) -> Self {
        let recorded = || Recorded { times: (0..threads.max(1)).map(|_| Recorder::default()).collect() };
        Self(which.include(names).then(|| Box::new(recorded())))
    }

    /// The time of an item, if the stage is to record it: to be given back with [`finish`](Self::finish).
    #[inline]
    pub(crate) fn begin(&self, clock: &Clock) -> Option<Instant> {
        self.0.is_some().then(|| clock.now())
    }

    /// The item that was begun then has been processed, by that thread of the stage.
    pub(crate) fn finish(&self, begun: Option<Instant>, thread: usize, clock: &Clock) {
        if let (Some(recorded), Some(begun)) = (&self.0, begun) {
            recorded.times[thread % recorded.times.len()].record(clock.now().saturating_duration_since(begun), 1);
        }
    }

    /// The distribution of the times of items.
    pub(super) fn times(&self) -> Option<Latency> {
        Histograms::merged(&self.0.as_ref()?.times)?.latency()
    }
}

/// Times the items of one thread of a stage.
pub(crate) struct Stopwatch(Option<Box<Running>>);

struct Running {
    stats: Arc<StageStats>,
    thread: usize,
    clock: Clock,
    /// Items that were not measured, and that none has counted for yet.
    skipped: u64,
    /// The last item that was measured was quick, and the thread has not waited since.
    is_quick: bool,
}

impl Stopwatch {
    pub(crate) fn new(stats: &Arc<StageStats>, thread: usize, clock: &Clock) -> Self {
        let running =
            || Running { stats: Arc::clone(stats), thread, clock: clock.clone(), skipped: 0, is_quick: false };
        Self(stats.recordings.0.is_some().then(|| Box::new(running())))
    }

    /// For up to `most` items that are to be processed in one go: when that began, and how many they may be. One, if it
    /// is to be measured.
    #[inline]
    pub(crate) fn begin(&self, most: u32) -> (Option<Instant>, u32) {
        match &self.0 {
            None => (None, most),
            Some(running) => running.begin(most),
        }
    }

    /// As many items have been processed as `items` says, which is not asked unless something is recorded.
    #[inline]
    pub(crate) fn finish(&mut self, begun: Option<Instant>, items: impl FnOnce() -> u64) {
        if let Some(running) = &mut self.0 {
            running.finish(begun, items());
        }
    }

    /// The thread has waited for input: there is time to measure the next item.
    pub(crate) fn waited(&mut self) {
        if let Some(running) = &mut self.0 {
            running.is_quick = false;
        }
    }
}

impl Running {
    fn begin(&self, most: u32) -> (Option<Instant>, u32) {
        match SKIPPED.saturating_sub(self.skipped) {
            left if self.is_quick && left > 0 => (None, most.min(left as u32)),
            _ => (Some(self.clock.now()), 1),
        }
    }

    fn finish(&mut self, begun: Option<Instant>, items: u64) {
        let Some(begun) = begun else { return self.skipped += items };
        if items > 0 {
            self.measured(self.clock.now().saturating_duration_since(begun), items);
        }
    }

    fn measured(&mut self, took: Duration, items: u64) {
        // One that is measured before its turn, because the one before was slow or because there is time, counts for itself.
        let skipped = if self.skipped >= SKIPPED { std::mem::take(&mut self.skipped) } else { 0 };
        if let Some(recorded) = &self.stats.recordings.0 {
            recorded.times[self.thread].record(took, items + skipped);
        }
        self.is_quick = took < QUICK && !self.clock.is_manual();
    }
}

/// What one thread has measured.
#[derive(Default)]
struct Recorder(Mutex<Option<Box<Histograms>>>);

impl Recorder {
    /// That many durations of about this length.
    fn record(&self, duration: Duration, count: u64) {
        self.0.lock().get_or_insert_with(|| Box::new(Histograms::new())).record(duration, count);
    }
}

/// A histogram, and what it cannot tell exactly.
#[derive(Clone)]
struct Histograms {
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

    fn merged(recorders: &[Recorder]) -> Option<Self> {
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

    fn latency(self) -> Option<Latency> {
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

/// All that a [`Latency`] was made of.
#[derive(Clone)]
pub(super) struct Snapshot(Arc<Histograms>);

impl Snapshot {
    pub(super) fn quantile(&self, share: f64) -> Duration {
        self.0.quantile(share)
    }

    pub(super) fn since(&self, earlier: &Self) -> Option<Latency> {
        let (mut added, earlier) = ((*self.0).clone(), &*earlier.0);
        added.nanos.subtract(&earlier.nanos).ok()?;
        added.total = added.total.checked_sub(earlier.total)?;
        if added.max == earlier.max {
            added.max = Duration::from_nanos(added.nanos.max()).min(added.max);
        }
        added.latency()
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("buckets", &self.0.nanos.distinct_values()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::stats::StageKind;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn stopwatch(clock: &Clock) -> (Arc<StageStats>, Running) {
        let stats = StageStats::new("stage".into(), StageKind::Processor, &["stage".into()], 1);
        let stats = Arc::new(stats.recording(&Latencies::all(), "stage"));
        let Stopwatch(running) = Stopwatch::new(&stats, 0, clock);
        (stats, *running.unwrap())
    }

    /// Items that take as long as `took` says, in bursts of up to 64. Returns how many were measured.
    fn run(running: &mut Running, items: u64, mut took: impl FnMut() -> Duration) -> u64 {
        let (mut done, mut measured) = (0, 0);
        while done < items {
            let (begun, most) = running.begin(64);
            let all: Duration = (0..most).map(|_| took()).sum();
            match begun {
                Some(_) => running.measured(all, 1),
                None => running.skipped += u64::from(most),
            }
            done += u64::from(most);
            measured += u64::from(begun.is_some());
        }
        measured
    }

    #[test]
    fn sampling_does_not_distort() {
        let (stats, mut running) = stopwatch(&Clock::default());
        let mut random = fastrand::Rng::with_seed(1);
        let measured = run(&mut running, 1_000_000, || micros(if random.u8(..100) < 20 { 1_000 } else { 1 }));
        assert!(measured < 25_000, "{measured}");
        let latency = stats.recordings.times().unwrap();
        assert!((999_900..=1_000_100).contains(&latency.count), "{}", latency.count);
        // A fifth of 1 ms and four fifths of 1 us.
        assert!((195..206).contains(&latency.mean.as_micros()), "{latency:?}");
        assert_eq!((latency.quantile(0.78).as_micros(), latency.quantile(0.82).as_micros()), (1, 1_000));
    }

    #[test]
    fn of_quick_items_one_in_64_is_measured_and_of_slow_ones_each() {
        let (stats, mut running) = stopwatch(&Clock::default());
        assert_eq!(run(&mut running, 64_001, || micros(1)), 1_001);
        assert_eq!(stats.recordings.times().unwrap().count, 64_001);
        let (stats, mut running) = stopwatch(&Clock::default());
        assert_eq!(run(&mut running, 1_000, || QUICK), 1_000);
        assert_eq!(stats.recordings.times().unwrap().count, 1_000);
    }

    #[test]
    fn an_item_after_a_wait_is_measured_and_counts_for_itself() {
        let (stats, running) = stopwatch(&Clock::default());
        let mut stopwatch = Stopwatch(Some(Box::new(running)));
        for burst in 0..10 {
            let (begun, most) = stopwatch.begin(64);
            assert_eq!((begun.is_some(), most), (true, 1), "in burst {burst}");
            stopwatch.0.as_mut().unwrap().measured(micros(1), 1);
            let (begun, most) = stopwatch.begin(2);
            assert_eq!((begun, most), (None, 2));
            stopwatch.finish(begun, || 2);
            stopwatch.waited();
        }
        assert_eq!(stats.recordings.times().unwrap().count, 10);
    }

    #[test]
    fn a_burst_without_an_item_is_not_measured() {
        let (stats, mut running) = stopwatch(&Clock::default());
        let (begun, _) = running.begin(64);
        running.finish(begun, 0);
        assert!(stats.recordings.times().is_none());
    }

    #[test]
    fn a_clock_that_goes_back_has_taken_no_time() {
        let clock = crate::ManualClock::new();
        let (stats, mut running) = stopwatch(&(&clock).into());
        clock.advance(micros(1));
        let begun = Some(clock.now() + micros(5));
        running.finish(begun, 1);
        stats.recordings.finish(begun, 0, &(&clock).into());
        let latency = stats.recordings.times().unwrap();
        assert_eq!((latency.count, latency.max, latency.p99), (2, Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn what_takes_longer_than_a_year_counts_as_a_year_in_the_percentiles() {
        let (year, recorder) = (Duration::from_nanos(HIGHEST), Recorder::default());
        recorder.record(Duration::MAX, 1);
        recorder.record(2 * year, 2);
        let latency = Histograms::merged(&[recorder]).unwrap().latency().unwrap();
        assert_eq!((latency.count, latency.max), (3, Duration::MAX));
        assert!(latency.p50.abs_diff(year) * 100 < year, "{:?}", latency.p50);
        assert!(latency.mean > 1_000 * year);
    }

    #[test]
    fn what_the_threads_have_recorded_is_put_together() {
        let recorders: [Recorder; 3] = Default::default();
        assert!(Histograms::merged(&recorders).is_none());
        recorders[0].record(micros(1), 9);
        recorders[2].record(micros(100), 1);
        let latency = Histograms::merged(&recorders).unwrap().latency().unwrap();
        assert_eq!((latency.count, latency.mean, latency.max), (10, Duration::from_nanos(10_900), micros(100)));
        assert_eq!((latency.p90.as_micros(), latency.p99.as_micros()), (1, 100));
    }
}
