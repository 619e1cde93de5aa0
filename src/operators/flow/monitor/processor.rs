//! [`Monitor`]: how often to report, and where.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::counts::Counts;
use super::operator::Watch;
use super::reporter::Reporter;
use crate::clock::Ticks;
use crate::operators::options::{Options, common_options, opaque_debug};
use crate::panic::guard_drop;
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::stream::start::{Registered, spawn_driver};
use crate::stream::{Processor, Stream};

/// Describes the items that went through a [`Monitor`] since its last report.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StreamStats {
    /// The number of items, without error items.
    pub count: u64,
    /// The number of error items.
    pub errors: u64,
    /// The number of items since the run began.
    pub total: u64,
    /// The number of items per second, over `elapsed`.
    pub rate: f64,
    /// The mean time that items waited for room in the output. Zero if there were none. An item that finds room at once
    /// takes no time.
    pub avg_latency: Duration,
    /// The shortest such time.
    pub min_latency: Duration,
    /// The longest such time.
    pub max_latency: Duration,
    /// The time for which the current item has been waiting for room. Zero if none is waiting.
    pub stalled: Duration,
    /// The mean age of the items when they were emitted, by their [own times](Monitor::with_timestamp). `None` if no
    /// item had a time.
    pub avg_age: Option<Duration>,
    /// The age of the oldest item. `None` if no item had a time.
    pub max_age: Option<Duration>,
    /// The time since the last report, or since the run began.
    pub elapsed: Duration,
    /// The time at which these counts were taken.
    pub last_update: SystemTime,
}

pub(super) type OnStats = Arc<dyn Fn(StreamStats) + Send + Sync>;
pub(super) type Timestamp<T> = Arc<dyn Fn(&T) -> SystemTime + Send + Sync>;

/// Forwards everything, and reports throughput, latency and stalls at a fixed interval.
///
/// A report is given to [`on_stats`](Self::on_stats) at each whole multiple of the interval, counted from the start of
/// the run, whether or not items arrived, and also while the consumer stalls. A last one follows when the run has
/// ended, in whatever way, before [`join`](crate::Pipeline::join) returns.
///
/// The closure is called on a thread of its own. During a slow call, items continue to flow, and reports that fall due
/// are skipped: the next one covers all the time since the last one. A panic in the closure is logged, once, and
/// otherwise ignored. (A call that never returns keeps the pipeline from finishing.)
///
/// Latency here is the time an item waits for room in the output: back-pressure. While there is room, it is zero, and
/// the clock is not even read. The total age of items is known if they carry a time:
/// [`with_timestamp`](Self::with_timestamp). There are no percentiles; for these, feed a histogram of your choice in a
/// [`Tap`](crate::Tap). The counts of every stage are in the [`report`](crate::Pipeline::report), without a monitor.
///
/// Each run has its own counts and reports.
///
/// # Ordering
/// The order is kept.
///
/// # Back-pressure
/// As in any stage.
///
/// # Cancellation
/// The item that waited for room is counted as abandoned. The last report is made nevertheless.
///
/// # Memory
/// One item, and the output's capacity. It has two threads, and with a thread of its own for the reports it cannot be fused.
///
/// ```
/// use std::time::Duration;
/// use streamz::{ManualClock, Monitor, Pipeline, Stream};
///
/// let (sender, reports) = std::sync::mpsc::channel();
/// let monitor = Monitor::new(Duration::from_secs(2))
///     .on_stats(move |stats| drop(sender.send(stats)));
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("watched").clock(&clock).build();
/// let (input, stream) = Stream::channel(&pipeline, 10);
/// let stream = stream.through(&monitor);
/// (0..3).try_for_each(|n| input.send(n))?;
/// clock.advance(Duration::from_secs(2)); // nothing has been read yet
///
/// let stats = reports.recv()?;
/// assert_eq!((stats.count, stats.rate), (3, 1.5));
/// # drop(stream);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("meter", "progress", "heartbeat"))]
pub struct Monitor<T> {
    interval: Duration,
    on_stats: Option<OnStats>,
    timestamp: Option<Timestamp<T>>,
    options: Options,
}

impl<T> Monitor<T> {
    /// Reports every `interval`. With one too large to add, such as `Duration::MAX`, only the last report is made.
    /// Default name: `monitor`.
    ///
    /// # Panics
    /// If `interval` is zero.
    #[track_caller]
    pub fn new(interval: Duration) -> Self {
        assert!(!interval.is_zero(), "`interval` must be greater than zero");
        Self { interval, on_stats: None, timestamp: None, options: Options::new("monitor") }
    }

    common_options!();

    /// Calls `f` with each report. Defaults to no closure: then items are only forwarded.
    pub fn on_stats(mut self, f: impl Fn(StreamStats) + Send + Sync + 'static) -> Self {
        self.on_stats = Some(Arc::new(f));
        self
    }

    /// Measures the age of each item when it is emitted: from the time that `f` returns to the wall time of the
    /// pipeline's clock. An item from the future has an age of zero. If `f` panics on an item, that item is forwarded
    /// without an age, and the first such panic in each run is logged. Defaults to no ages.
    pub fn with_timestamp(mut self, f: impl Fn(&T) -> SystemTime + Send + Sync + 'static) -> Self {
        self.timestamp = Some(Arc::new(f));
        self
    }
}

impl<T: Send + 'static> Processor for Monitor<T> {
    type In = T;
    type Out = T;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<T>) -> Stream<T> {
        let name = self.name();
        let registered = Registered::with_input(cancel, &input, name, StageKind::Processor, &[], 1);
        let counts = Arc::new(Counts::default());
        if let Some(on_stats) = &self.on_stats {
            let ticks = Ticks::new(cancel.now(), self.interval);
            let stage = Arc::clone(&registered.stats.name);
            let reporter = Reporter::new(Arc::clone(on_stats), stage, cancel.clone(), Arc::clone(&counts));
            let thread = format!("{}-report", registered.stats.name);
            // A thread that cannot be started has been logged; the stream continues without reports.
            cancel.scope().spawn(&thread, true, move |started| match started {
                Ok(()) => reporter.run(ticks),
                Err(_) => guard_drop(reporter),
            });
        }
        let operator = Watch::new(self.timestamp.clone(), counts);
        spawn_driver(registered, self.options.capacity, operator, input.into_input())
    }

    fn name(&self) -> &str {
        &self.options.name
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Calls `on_stats` every `interval` with the statistics of the items forwarded since the last call: a [`Monitor`].
    ///
    /// # Panics
    /// If `interval` is zero, or the pipeline has finished.
    #[track_caller]
    pub fn monitor(self, interval: Duration, on_stats: impl Fn(StreamStats) + Send + Sync + 'static) -> Self {
        self.through_once(Monitor::new(interval).on_stats(on_stats))
    }
}

opaque_debug! { [T] Monitor<T>: interval, options }
