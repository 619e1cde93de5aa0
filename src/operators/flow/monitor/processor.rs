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

/// What went through a [`Monitor`] since its last report.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StreamStats {
    /// Items, error items not counted.
    pub count: u64,
    /// Error items.
    pub errors: u64,
    /// Items since the run began.
    pub total: u64,
    /// Items per second, over `elapsed`.
    pub rate: f64,
    /// How long the items took from when they were taken until there was room for them in the output: the mean. Zero if
    /// there were none. An item that finds room at once takes no time.
    pub avg_latency: Duration,
    /// The shortest.
    pub min_latency: Duration,
    /// The longest.
    pub max_latency: Duration,
    /// How long the item at hand has been waiting for room by now. Zero if none waits.
    pub stalled: Duration,
    /// How old the items were when they went on, by their [own times](Monitor::with_timestamp): the mean. `None` if
    /// none told its time.
    pub avg_age: Option<Duration>,
    /// The age of the oldest.
    pub max_age: Option<Duration>,
    /// The time since the last report, or since the run began.
    pub elapsed: Duration,
    /// When this was the state of things.
    pub last_update: SystemTime,
}

pub(super) type OnStats = Arc<dyn Fn(StreamStats) + Send + Sync>;
pub(super) type Timestamp<T> = Arc<dyn Fn(&T) -> SystemTime + Send + Sync>;

/// Passes everything on, and reports at regular times how much that was, and how long it took.
///
/// A report is given to [`on_stats`](Self::on_stats) at each whole multiple of the interval, counted from the start of the
/// run, whether anything came or not, and also while the consumer stalls: that is when one wants to know. A last one follows
/// when the run is over, however it ended, before [`join`](crate::Pipeline::join) returns.
///
/// The closure is called on a thread of its own. While a call is slow, items go on, and reports that fall due during the
/// call are skipped: the next one covers all the time since. A panic in the closure is logged, once, and does no harm.
/// (A call that never returns keeps the pipeline from finishing.)
///
/// Latency here is the time an item waits for room in the output: back-pressure. It is next to nothing as long as
/// there is room, and then not even the clock is read. How long items have been on their way altogether is known if they
/// tell when they began: [`with_timestamp`](Self::with_timestamp). There are no percentiles; give the times to a histogram
/// of your choice in a [`Tap`](crate::Tap) where they are wanted. What every stage has done is in the
/// [`report`](crate::Pipeline::report), without a monitor.
///
/// Each run has counts and reports of its own.
///
/// # Ordering
/// Kept.
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
/// let monitor = Monitor::new(Duration::from_secs(2)).on_stats(move |stats| drop(sender.send(stats)));
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
    /// Reports every `interval`. What is too large to add, such as `Duration::MAX`, leaves the last report only. It is
    /// called `monitor` unless it is given another name.
    ///
    /// # Panics
    /// If `interval` is zero.
    #[track_caller]
    pub fn new(interval: Duration) -> Self {
        assert!(!interval.is_zero(), "`interval` must be greater than zero");
        Self { interval, on_stats: None, timestamp: None, options: Options::new("monitor") }
    }

    common_options!();

    /// Sets who is given the reports. Defaults to no one: then it only passes everything on.
    pub fn on_stats(mut self, f: impl Fn(StreamStats) + Send + Sync + 'static) -> Self {
        self.on_stats = Some(Arc::new(f));
        self
    }

    /// Tells when an item began, so that its age is known when it goes on: by the wall time of the pipeline's clock. An
    /// item from the future has no age, that is zero. If `f` panics on an item, that item passes without an age, and the
    /// first time in each run is logged. Defaults to no ages.
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
    /// Calls `on_stats` every `interval` with what has passed through: a [`Monitor`].
    ///
    /// # Panics
    /// If `interval` is zero, or the pipeline has finished.
    #[track_caller]
    pub fn monitor(self, interval: Duration, on_stats: impl Fn(StreamStats) + Send + Sync + 'static) -> Self {
        self.through_once(Monitor::new(interval).on_stats(on_stats))
    }
}

opaque_debug! { [T] Monitor<T>: interval, options }
