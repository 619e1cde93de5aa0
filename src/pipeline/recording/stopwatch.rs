//! [`Stopwatch`]: times the items of one thread, or some of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::pipeline::stats::StageStats;

/// The number of quick items that are skipped before one is measured.
const SKIPPED: u64 = 63;

/// Items that take less than this are quick: measuring each would have a noticeable cost.
const QUICK: Duration = Duration::from_micros(5);

/// Times the items of one thread of a stage.
pub(crate) struct Stopwatch(Option<Box<Running>>);

struct Running {
    stats: Arc<StageStats>,
    thread: usize,
    clock: Clock,
    /// Items that were not measured, and that no measurement has counted for yet.
    skipped: u64,
    /// The last item that was measured was quick, and the thread has not waited since.
    is_quick: bool,
}

impl Stopwatch {
    pub(crate) fn new(stats: &Arc<StageStats>, thread: usize, clock: &Clock) -> Self {
        let running =
            || Running { stats: Arc::clone(stats), thread, clock: clock.clone(), skipped: 0, is_quick: false };
        Self(stats.recordings.recorded.is_some().then(|| Box::new(running())))
    }

    /// Whether items are measured.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Called for up to `most` items that are processed in one go. Returns when that began, and how many they may be:
    /// one, if it is measured.
    #[inline]
    pub(crate) fn begin(&self, most: u32) -> (Option<Instant>, u32) {
        match &self.0 {
            None => (None, most),
            Some(running) => running.begin(most),
        }
    }

    /// Called when `items()` items have been processed; it is evaluated only if something is recorded.
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
        // An item that is measured out of turn, because the previous one was slow or because there is time, counts only
        // for itself.
        let skipped = if self.skipped >= SKIPPED { std::mem::take(&mut self.skipped) } else { 0 };
        if let Some(recorded) = &self.stats.recordings.recorded {
            recorded.times[self.thread].record(took, items + skipped);
        }
        self.is_quick = took < QUICK && !self.clock.is_manual();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::recording::Latencies;
    use crate::pipeline::stats::StageKind;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn stopwatch(clock: &Clock) -> (Arc<StageStats>, Running) {
        let stats = StageStats::new("stage".into(), StageKind::Processor, &["stage".into()], 1);
        let stats = Arc::new(stats.given("stage", &Latencies::all()));
        let Stopwatch(running) = Stopwatch::new(&stats, 0, clock);
        (stats, *running.unwrap())
    }

    /// Items that take the time returned by `took`, in bursts of up to 64. Returns how many were measured.
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
}
