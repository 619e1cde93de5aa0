//! [`Monitor`]: tells, at regular times, what goes through a stream.
//!
//! The stage only counts. A thread beside it looks at the counts when it is time and calls the user's closure, so the
//! report comes on time whatever the stage waits for, and whatever the closure does, the stage goes on.
//!
//! # What must hold
//!
//! - Counts that both threads see are never reset by one while the other writes: the quick one only grows, and the rest is
//!   taken under a lock. So the sum of all reports is what went through.
//! - The reporter ends after the stage, for whatever reason that ends, with a last report: the operator tells it when it is
//!   dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::clock::wait::{Waiter, Wake};
use crate::clock::{Ticks, from_nanos};
use crate::error::Result;
use crate::error::StreamError;
use crate::operators::options::{Options, common_options, opaque_debug};
use crate::panic::{self, Held, guard_drop};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::stage::operator::{Emit, Operator};
use crate::stream::Processor;
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_driver};

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

type OnStats = Arc<dyn Fn(StreamStats) + Send + Sync>;
type Timestamp<T> = Arc<dyn Fn(&T) -> SystemTime + Send + Sync>;

/// Passes everything on, and tells at regular times how much that was, and how long it took.
///
/// A report is given to [`on_stats`](Self::on_stats) at each whole multiple of the interval, counted from the start of the
/// run, whether anything came or not, and also while the consumer stalls: that is when one wants to know. A last one follows
/// when the run is over, however it ended, before [`join`](crate::Pipeline::join) returns.
///
/// The closure is called on a thread of its own. While one call takes its time, items go on, and reports that fall due
/// meanwhile are left out: the next one tells of all the time since. A panic in it is logged, once, and does no harm.
/// (A call that never returns keeps the pipeline from finishing.)
///
/// What an item takes here is the time until the next stage has room for it: back-pressure. It is next to nothing as long as
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
/// The item that waited for room is counted as abandoned. The last report comes all the same.
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
/// clock.advance(Duration::from_secs(2)); // nobody has read yet
///
/// let stats = reports.recv()?;
/// assert_eq!((stats.count, stats.rate), (3, 1.5));
/// # drop(stream);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
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
            let reporter = Reporter {
                on_stats: Arc::clone(on_stats),
                stage: Arc::clone(&registered.stats.name),
                token: cancel.clone(),
                counts: Arc::clone(&counts),
                last: cancel.now(),
                quick: 0,
                errors: 0,
                total: 0,
                warned: false,
            };
            let thread = format!("{}-report", registered.stats.name);
            // What cannot be started has been logged; the stream goes on without reports.
            cancel.scope().spawn(&thread, true, move |started| match started {
                Ok(()) => reporter.run(ticks),
                Err(_) => guard_drop(reporter),
            });
        }
        let operator =
            Watch { timestamp: self.timestamp.clone(), counts: Ended(counts), waiting: Held::default(), warned: false };
        spawn_driver(registered, self.options.capacity, operator, input.into_input())
    }

    fn name(&self) -> &str {
        &self.options.name
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Tells `on_stats` every `interval` what has gone through: a [`Monitor`].
    ///
    /// # Panics
    /// If `interval` is zero, or the pipeline has finished.
    #[track_caller]
    pub fn monitor(self, interval: Duration, on_stats: impl Fn(StreamStats) + Send + Sync + 'static) -> Self {
        self.through_once(Monitor::new(interval).on_stats(on_stats))
    }
}

/// What the stage counts and the reporter reads.
#[derive(Default)]
struct Counts {
    /// Items that found room at once and told no age, ever. The stage is its only writer.
    quick: AtomicU64,
    /// Error items, ever. The stage is its only writer.
    errors: AtomicU64,
    rest: Mutex<Rest>,
}

#[derive(Default)]
struct Rest {
    /// Items that are not among the quick ones.
    times: Times,
    ages: Times,
    waiting_since: Option<Instant>,
    /// The stage is over.
    ended: bool,
    reporter: Option<Arc<Wake>>,
}

/// A number of times, since they were last taken.
#[derive(Default)]
struct Times {
    count: u64,
    sum: Duration,
    least: Duration,
    most: Duration,
}

impl Times {
    fn note(&mut self, time: Duration) {
        self.least = if self.count == 0 { time } else { self.least.min(time) };
        self.most = self.most.max(time);
        self.sum = self.sum.saturating_add(time);
        self.count += 1;
    }
}

fn mean(sum: Duration, count: u64) -> Duration {
    from_nanos(sum.as_nanos().checked_div(u128::from(count)).unwrap_or(0))
}

/// The stage's hold of the counts: tells the reporter when it is over.
struct Ended(Arc<Counts>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut rest = self.0.rest.lock();
        rest.ended = true;
        rest.waiting_since = None;
        let reporter = rest.reporter.take();
        drop(rest);
        if let Some(reporter) = reporter {
            reporter.post();
        }
    }
}

/// The operator: passes everything on, and counts.
struct Watch<T> {
    timestamp: Option<Timestamp<T>>,
    counts: Ended,
    /// What waits for room, and since when.
    waiting: Held<Option<(Result<T>, Instant)>>,
    warned: bool,
}

impl<T: Send + 'static> Watch<T> {
    /// There is room for it.
    #[inline]
    fn pass(&mut self, item: Result<T>, since: Option<Instant>, out: &mut impl Emit<T>) {
        match item {
            Ok(item) => {
                let began = if self.timestamp.is_some() { self.timestamp_of(&item, out) } else { None };
                let counts = &self.counts.0;
                if since.is_none() && began.is_none() {
                    add_one(&counts.quick);
                } else {
                    let time = since.map_or(Duration::ZERO, |since| out.now().saturating_duration_since(since));
                    let now = out.context().clock.wall();
                    let age = began.map(|began| now.duration_since(began).unwrap_or_default());
                    let mut rest = counts.rest.lock();
                    rest.waiting_since = None;
                    rest.times.note(time);
                    age.into_iter().for_each(|age| rest.ages.note(age));
                }
                out.emit(item);
            }
            Err(error) => {
                add_one(&self.counts.0.errors);
                if since.is_some() {
                    self.counts.0.rest.lock().waiting_since = None;
                }
                out.error(error);
            }
        }
    }

    fn timestamp_of(&mut self, item: &T, out: &impl Emit<T>) -> Option<SystemTime> {
        let timestamp = self.timestamp.as_ref()?;
        match panic::catch(|| timestamp(item)) {
            Ok(began) => Some(began),
            Err(payload) => {
                if !std::mem::replace(&mut self.warned, true) {
                    let (stage, message) = (&out.context().stats.name, payload.message());
                    log::warn!("streamz: the timestamp of stage `{stage}` panicked: {message}; the item passed");
                }
                None
            }
        }
    }

    #[inline]
    fn take(&mut self, item: Result<T>, out: &mut impl Emit<T>) {
        if out.is_full() {
            let now = out.now();
            self.counts.0.rest.lock().waiting_since = Some(now);
            *self.waiting = Some((item, now));
        } else {
            self.pass(item, None, out);
        }
    }
}

/// For counters that the stage's thread alone writes.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

impl<T: Send + 'static> Operator for Watch<T> {
    type In = T;
    type Out = T;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        self.take(Ok(item), out);
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<T>) {
        self.take(Err(error), out);
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<T>) -> bool {
        if self.waiting.is_some()
            && !out.is_full()
            && let Some((item, since)) = self.waiting.take()
        {
            self.pass(item, Some(since), out);
        }
        self.waiting.is_some()
    }

    fn settles_in_order(&self) -> bool {
        true
    }

    #[inline]
    fn held(&self) -> u64 {
        u64::from(matches!(*self.waiting, Some((Ok(_), _))))
    }
}

/// The thread beside the stage.
struct Reporter {
    on_stats: OnStats,
    stage: Arc<str>,
    token: CancelToken,
    counts: Arc<Counts>,
    /// When the last report was, and what had been counted then.
    last: Instant,
    quick: u64,
    errors: u64,
    total: u64,
    warned: bool,
}

impl Reporter {
    fn run(mut self, mut ticks: Ticks) {
        let waiter = Waiter::current(self.token.clock());
        loop {
            let ended = self.is_over(waiter.wake());
            if ended || ticks.take(self.token.now()).is_some() {
                self.report();
            } else {
                waiter.park(ticks.next);
            }
            if ended {
                return guard_drop(self.on_stats);
            }
        }
    }

    /// Whether the stage has ended; if not, it is going to wake this thread when it does.
    fn is_over(&self, wake: &Arc<Wake>) -> bool {
        let mut rest = self.counts.rest.lock();
        rest.reporter = Some(Arc::clone(wake));
        rest.ended
    }

    fn report(&mut self) {
        let stats = self.take();
        if let Err(payload) = panic::catch(|| (self.on_stats)(stats))
            && !std::mem::replace(&mut self.warned, true)
        {
            let (stage, message) = (&self.stage, payload.message());
            log::error!("streamz: `on_stats` of stage `{stage}` panicked: {message}; further panics are not logged");
        }
    }

    fn take(&mut self) -> StreamStats {
        let mut rest = self.counts.rest.lock();
        let (times, ages) = (std::mem::take(&mut rest.times), std::mem::take(&mut rest.ages));
        let waiting_since = rest.waiting_since;
        drop(rest);
        let (all_quick, all_errors) =
            (self.counts.quick.load(Ordering::Relaxed), self.counts.errors.load(Ordering::Relaxed));
        let quick = all_quick - std::mem::replace(&mut self.quick, all_quick);
        let errors = all_errors - std::mem::replace(&mut self.errors, all_errors);
        let now = self.token.now();
        let elapsed = now.saturating_duration_since(std::mem::replace(&mut self.last, now));
        let count = quick + times.count;
        self.total += count;
        StreamStats {
            count,
            errors,
            total: self.total,
            rate: if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() },
            avg_latency: mean(times.sum, count),
            min_latency: if quick > 0 { Duration::ZERO } else { times.least },
            max_latency: times.most,
            stalled: waiting_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
            avg_age: (ages.count > 0).then(|| mean(ages.sum, ages.count)),
            max_age: (ages.count > 0).then_some(ages.most),
            elapsed,
            last_update: self.token.clock().wall(),
        }
    }
}

opaque_debug! { [T] Monitor<T>: interval, options }

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{ErrorKind, ManualClock, Pipeline};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A monitor and its reports.
    fn monitored<T>(interval: Duration) -> (Monitor<T>, mpsc::Receiver<StreamStats>) {
        let (sender, reports) = mpsc::channel();
        (Monitor::new(interval).on_stats(move |stats| drop(sender.send(stats))), reports)
    }

    fn manual() -> (ManualClock, Pipeline) {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("monitored").clock(&clock).build();
        (clock, pipeline)
    }

    #[test]
    fn reports_come_on_time_while_nothing_comes_and_at_the_end() {
        let (clock, pipeline) = manual();
        let (monitor, reports) = monitored(ms(100));
        let (sender, stream) = Stream::channel(&pipeline, 10);
        let stream = stream.through(&monitor);
        let start = clock.now();
        clock.advance(ms(250));
        sender.send(1).unwrap();
        sender.send_error(StreamError::new(ErrorKind::Failed, "before")).unwrap();
        clock.advance(ms(70));
        sender.send(2).unwrap();
        drop(sender);
        clock.settle();
        drop(stream);
        pipeline.join();
        let told: Vec<_> = reports
            .try_iter()
            .map(|stats| (stats.elapsed, stats.count, stats.errors, stats.total, stats.rate))
            .collect();
        assert_eq!(
            told,
            [(ms(100), 0, 0, 0, 0.0), (ms(100), 0, 0, 0, 0.0), (ms(100), 1, 1, 1, 10.0), (ms(20), 1, 0, 2, 50.0)]
        );
        assert_eq!(clock.now() - start, ms(320));
    }

    #[test]
    fn reports_come_on_time_while_the_consumer_stalls_and_say_for_how_long() {
        let (clock, pipeline) = manual();
        let (monitor, reports) = monitored(ms(100));
        let (sender, stream) = Stream::channel(&pipeline, 10);
        let mut stream = stream.through(&monitor.with_capacity(2));
        clock.advance(ms(30));
        (0..4).for_each(|n| sender.send(n).unwrap());
        clock.advance(ms(270));
        let told: Vec<_> = reports.try_iter().map(|stats| (stats.count, stats.stalled)).collect();
        assert_eq!(told, [(2, ms(70)), (0, ms(170)), (0, ms(270))]);
        // The third found room after 270 ms, the fourth 10 ms after that.
        stream.recv().unwrap().unwrap();
        clock.advance(ms(10));
        stream.recv().unwrap().unwrap();
        clock.advance(ms(90));
        let stats = reports.try_iter().next().unwrap();
        assert_eq!((stats.count, stats.total, stats.stalled), (2, 4, Duration::ZERO));
        assert_eq!((stats.min_latency, stats.avg_latency, stats.max_latency), (ms(10), ms(140), ms(270)));
        assert_eq!(stats.last_update, clock.clone().wall());
        sender.send(4).unwrap();
        clock.settle();
        assert_eq!(pipeline.threads(), 2);
        // One waits: a cancel ends that, and is told of as well.
        pipeline.cancel();
        clock.settle();
        assert_eq!(pipeline.threads(), 0);
        assert_eq!(reports.try_iter().map(|stats| stats.total).collect::<Vec<_>>(), [4]);
        drop((sender, stream));
        assert_eq!(pipeline.join().stage("monitor").unwrap().abandoned(), 1);
    }

    #[test]
    fn no_item_is_lost_from_the_counts_and_runs_share_none() {
        let (monitor, reports) = monitored(Duration::from_micros(50));
        let pipeline = Pipeline::builder("counts").capacity(2).build();
        let runs = [20_000u64, 300].map(|count| {
            let stream = Stream::from_iter(&pipeline, 0..count).through(&monitor);
            std::thread::spawn(move || assert_eq!(stream.count().unwrap(), count))
        });
        runs.into_iter().for_each(|run| run.join().unwrap());
        pipeline.join();
        drop(monitor);
        let reports: Vec<StreamStats> = reports.iter().collect();
        assert_eq!(reports.iter().map(|stats| stats.count).sum::<u64>(), 20_300);
        let totals: Vec<u64> = reports.iter().map(|stats| stats.total).collect();
        assert!(totals.contains(&20_000) && totals.contains(&300), "{totals:?}");
    }

    #[test]
    fn a_slow_callback_holds_up_nothing_and_the_next_report_tells_of_all_the_time_since() {
        let (started, has_started) = mpsc::sync_channel(0);
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let may_go_on = Mutex::new(Some(may_go_on));
        let monitor = Monitor::new(Duration::from_micros(10)).on_stats(move |_| {
            // The first call waits until everything has gone through.
            if let Some(may_go_on) = may_go_on.lock().take() {
                started.send(()).unwrap();
                may_go_on.recv().unwrap();
            }
        });
        let pipeline = Pipeline::new("slow");
        let (sender, stream) = Stream::channel(&pipeline, 10);
        let mut stream = stream.through(&monitor);
        has_started.recv().unwrap();
        for n in 0..1_000 {
            sender.send(n).unwrap();
            assert_eq!(stream.recv().unwrap().unwrap(), n);
        }
        go_on.send(()).unwrap();
        drop(sender);
        assert!(stream.recv().is_none());
        assert!(pipeline.join().is_complete());
    }

    #[test]
    fn a_callback_that_panics_is_called_again_and_the_stream_goes_on() {
        let (clock, pipeline) = manual();
        let calls = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&calls);
        let (sender, stream) = Stream::channel(&pipeline, 10);
        let mut stream = stream.monitor(ms(100), move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            panic!("the callback");
        });
        clock.advance(ms(350));
        sender.send(7).unwrap();
        assert_eq!(stream.recv().unwrap().unwrap(), 7);
        drop((sender, stream));
        assert!(pipeline.join().is_complete());
        assert_eq!(calls.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn ages_are_told_by_those_who_know_them() {
        let (clock, pipeline) = manual();
        let (monitor, reports) = monitored(ms(1_000));
        let began = clock.wall();
        let monitor = monitor.with_timestamp(move |millis: &u64| {
            assert!(*millis != 13, "unlucky");
            began + ms(*millis)
        });
        let (sender, stream) = Stream::channel(&pipeline, 10);
        let stream = stream.through(&monitor);
        clock.advance(ms(500));
        // 400 ms old, 100 ms old, from the future, and one that does not say.
        [100, 400, 600, 13].into_iter().for_each(|millis| sender.send(millis).unwrap());
        clock.advance(ms(1_500));
        let ages: Vec<_> = reports.try_iter().map(|stats| (stats.count, stats.avg_age, stats.max_age)).collect();
        let third = Duration::from_nanos(500_000_000 / 3);
        assert_eq!(ages, [(4, Some(third), Some(ms(400))), (0, None, None)]);
        drop(sender);
        assert_eq!(stream.count().unwrap(), 4);
    }

    #[test]
    fn without_anybody_to_tell_it_has_no_second_thread() {
        let (clock, pipeline) = manual();
        let (sender, stream) = Stream::<u8>::channel(&pipeline, 10);
        let _stream = stream.through(&Monitor::new(Duration::MAX));
        clock.settle();
        assert_eq!(pipeline.threads(), 1);
        drop(sender);
    }

    #[test]
    #[should_panic(expected = "`interval` must be greater than zero")]
    fn no_interval_is_refused() {
        let _ = Monitor::<u8>::new(Duration::ZERO);
    }
}
