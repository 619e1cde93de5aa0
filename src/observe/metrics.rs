//! Exports the counts of a pipeline to the `metrics` facade.
//!
//! The stages count for the report anyway, so an export is a report, taken and exported on its own thread: it costs the
//! items nothing.
//!
//! # Invariants
//!
//! - A counter receives its growth since the last export. So it never goes back, and pipelines of the same name add up.
//!   Growth is that of the stages in a row, whatever the row was called at the last export: see `pipeline/identity.rs`.
//! - A gauge that was exported and is not any more, because its row was added to another, is zero: it would keep its last
//!   value forever, and an alert with it.
//! - The last export comes after every other thread of the pipeline has ended, so it has the final counts.
//! - No handle of a recorder is kept: a recorder may remove a series that has not changed for a while, and a handle to
//!   it would then have no effect.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit};

use crate::clock::Ticks;
use crate::clock::wait::Waiter;
use crate::panic;
use crate::pipeline::{CancelToken, Latency, Outcome, OutputReport, Pipeline, Report, StageReport, StepReport};
use crate::trace::event;

impl Pipeline {
    /// Exports the statistics of every stage to the recorder of the [`metrics`] facade: at once, then every `period`,
    /// and a last time when the pipeline has ended.
    ///
    /// Install the recorder first; anything exported before that is lost. The export runs on a thread of the pipeline,
    /// which the report does not list. It costs the stages nothing, neither keeps the pipeline alive nor cancels it,
    /// and ends with it: when the pipeline is joined, or is cancelled or dropped and its other threads have ended.
    /// [`join`](Self::join) returns after the last export, which does not wait for the period, so no counts are
    /// missing. Items taken from a stream after that are not exported.
    ///
    /// With a period of `Duration::MAX`, it exports only at the beginning and at the end. Under a
    /// [`ManualClock`](crate::ManualClock) the period is virtual time. If there is no thread for it, or the recorder
    /// panics, that is logged and the export ends.
    ///
    /// # Metrics
    ///
    /// Every metric has the label `pipeline`. The table lists the others; `branch` is empty for a stage with one
    /// output, and `step` is the name of the stage unless several steps share it. Each number has the meaning of the
    /// field of the same name in [`StageReport`], [`StepReport`] and
    /// [`OutputReport`].
    ///
    /// | metric | type | labels | meaning |
    /// |---|---|---|---|
    /// | `streamz_pipeline_running` | gauge | | 1 while the pipeline runs, 0 when it has ended |
    /// | `streamz_pipeline_ends_total` | counter | `outcome` | pipelines that have ended |
    /// | `streamz_pipeline_faults_total` | counter | | threads that died of a bug in streamz |
    /// | `streamz_stage_received_items_total` | counter | `stage` | items that a stage received |
    /// | `streamz_stage_emitted_items_total` | counter | `stage` | items that a stage emitted |
    /// | `streamz_stage_received_errors_total` | counter | `stage` | error items that a stage received |
    /// | `streamz_stage_emitted_errors_total` | counter | `stage` | error items that a stage emitted |
    /// | `streamz_stage_time_microseconds_total` | counter | `stage`, `state` | time of the threads of a stage, in each state |
    /// | `streamz_stage_threads` | gauge | `stage` | threads of a stage |
    /// | `streamz_stage_working_threads` | gauge | `stage` | threads of a stage that are busy |
    /// | `streamz_stage_longest_work_seconds` | gauge | `stage` | longest time that a thread has been busy since its last wait |
    /// | `streamz_stage_senders` | gauge | `stage` | senders that feed a channel |
    /// | `streamz_stage_latency_seconds` | gauge | `stage`, `quantile` | time of an item or a call since the last export |
    /// | `streamz_stage_age_seconds` | gauge | `stage`, `quantile` | age of items that left a stage since the last export |
    /// | `streamz_step_delivered_items_total` | counter | `stage`, `step` | received items that went into the output |
    /// | `streamz_step_filtered_items_total` | counter | `stage`, `step` | received items that were removed on purpose |
    /// | `streamz_step_failed_items_total` | counter | `stage`, `step` | received items that became errors |
    /// | `streamz_step_dropped_items_total` | counter | `stage`, `step`, `reason` | received items that were dropped |
    /// | `streamz_step_abandoned_items_total` | counter | `stage`, `step` | received items that were held at a stop |
    /// | `streamz_step_absorbed_errors_total` | counter | `stage`, `step` | received error items that were not forwarded |
    /// | `streamz_step_failed_calls_total` | counter | `stage`, `step` | calls without a result, each attempt counted |
    /// | `streamz_step_evicted_keys_total` | counter | `stage`, `step` | keys evicted because there were too many |
    /// | `streamz_step_expired_keys_total` | counter | `stage`, `step` | keys not used within their time to live |
    /// | `streamz_step_held_items` | gauge | `stage`, `step` | received items that are held |
    /// | `streamz_output_queued_items` | gauge | `stage`, `branch` | items that wait for the consumer |
    /// | `streamz_output_capacity_items` | gauge | `stage`, `branch` | items that may wait for the consumer |
    /// | `streamz_output_undelivered_items_total` | counter | `stage`, `branch` | emitted items that were never taken |
    /// | `streamz_output_blocked_microseconds_total` | counter | `stage`, `branch` | time that a stage waited for room |
    /// | `streamz_output_blocking` | gauge | `stage`, `branch` | 1 while the stage waits for room |
    ///
    /// Latencies and ages exist for stages that [record](crate::PipelineBuilder) them, which takes the feature
    /// `latency`. `quantile` is `0.5`, `0.9`, `0.99` or `1`, of the values since the last export; without new ones, the
    /// value stays. (A histogram of the facade receives each value, so the time and memory of an export would grow with
    /// the number of items.)
    ///
    /// `state` is `busy`, `idle`, `asleep` or `blocked`; the four add up to the lifetime of the threads. Times are
    /// counted in microseconds, because the counters of the facade are integers. `outcome` is `completed`, `drained`,
    /// `cut`, `cancelled`, or `open` if a stream had not been read to its end. `reason` is that of
    /// [`DropReason`](crate::DropReason). The acknowledging thread of a delivery is a stage, too: records it
    /// *delivered* have been acknowledged, records it *abandoned* were returned.
    ///
    /// A pipeline of more than 256 stages adds the rows of stages that have ended [to
    /// others](StageReport::merged). The counters of such a row stop, and those of the other one receive its
    /// growth. Its gauges become 0.
    ///
    /// Counters receive their growth. So they add up over pipelines of the same name, whether these run one after
    /// another or at the same time. For two that run at the same time, a gauge shows the one that was exported last:
    /// give them different names. A second call for the same pipeline counts everything twice.
    ///
    /// # Panics
    /// If `period` is zero or the pipeline has finished.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("exported");
    /// pipeline.export_metrics(Duration::from_secs(10));
    /// let sum: u64 = Stream::from_iter(&pipeline, 1..=100).fold(0, |sum, n| sum + n)?;
    /// assert_eq!(sum, 5050);
    /// pipeline.join(); // the recorder has the final counts
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    #[track_caller]
    pub fn export_metrics(&self, period: Duration) {
        assert!(!period.is_zero(), "`period` must be greater than zero");
        let token = self.token();
        assert!(!self.scope().is_finished(), "pipeline `{}` has finished", self.scope().name());
        // A thread that cannot be started has been logged.
        self.scope().spawn_observer("metrics", move |started| {
            if started.is_err() {
                return;
            }
            let waiter = Waiter::current(token.clock());
            if let Err(payload) = panic::catch(|| export(&token, &waiter, period)) {
                event!(
                    error,
                    { pipeline = %token.scope().name(), panic = %payload.message() },
                    "streamz: the recorder of metrics panicked: {}",
                    payload.message()
                );
            }
            token.scope().unwatch_end(waiter.wake());
        });
    }
}

/// Exports until the pipeline has ended.
fn export(token: &CancelToken, waiter: &Waiter, period: Duration) {
    let scope = token.scope();
    let _registered = token.register(waiter.wake());
    let mut ticks = Ticks::new(token.now(), period);
    let mut exporter = Exporter::default();
    describe();
    exporter.export(&token.report());
    while !scope.watch_end(waiter.wake()) {
        match ticks.take(token.now()) {
            Some(_) => exporter.export(&token.report()),
            None => waiter.park(ticks.next),
        }
    }
    exporter.export_end(&token.report());
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

struct Metric {
    name: &'static str,
    kind: Kind,
    unit: Unit,
    help: &'static str,
}

const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit, help }
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, help }
}

macro_rules! metrics {
    ($($id:ident = $kind:ident($name:literal, $unit:ident, $help:literal);)*) => {
        $(const $id: Metric = $kind($name, Unit::$unit, $help);)*
        /// All of them, in the order of the table.
        const ALL: &[Metric] = &[$($id),*];
    };
}

// Must match the table of `export_metrics`; a test compares them.
metrics! {
    RUNNING = gauge("streamz_pipeline_running", Count, "1 while the pipeline runs, 0 when it has ended");
    ENDS = counter("streamz_pipeline_ends_total", Count, "pipelines that have ended");
    FAULTS = counter("streamz_pipeline_faults_total", Count, "threads that died of a bug in streamz");
    RECEIVED = counter("streamz_stage_received_items_total", Count, "items that a stage received");
    EMITTED = counter("streamz_stage_emitted_items_total", Count, "items that a stage emitted");
    ERRORS_IN = counter("streamz_stage_received_errors_total", Count, "error items that a stage received");
    ERRORS_OUT = counter("streamz_stage_emitted_errors_total", Count, "error items that a stage emitted");
    TIME = counter("streamz_stage_time_microseconds_total", Microseconds, "time of the threads of a stage, in each state");
    THREADS = gauge("streamz_stage_threads", Count, "threads of a stage");
    WORKING = gauge("streamz_stage_working_threads", Count, "threads of a stage that are busy");
    LONGEST_WORK = gauge(
        "streamz_stage_longest_work_seconds",
        Seconds,
        "longest time that a thread has been busy since its last wait"
    );
    SENDERS = gauge("streamz_stage_senders", Count, "senders that feed a channel");
    LATENCY = gauge("streamz_stage_latency_seconds", Seconds, "time of an item or a call since the last export");
    AGE = gauge("streamz_stage_age_seconds", Seconds, "age of items that left a stage since the last export");
    DELIVERED = counter("streamz_step_delivered_items_total", Count, "received items that went into the output");
    FILTERED = counter("streamz_step_filtered_items_total", Count, "received items that were removed on purpose");
    FAILED = counter("streamz_step_failed_items_total", Count, "received items that became errors");
    DROPPED = counter("streamz_step_dropped_items_total", Count, "received items that were dropped");
    ABANDONED = counter("streamz_step_abandoned_items_total", Count, "received items that were held at a stop");
    ABSORBED = counter("streamz_step_absorbed_errors_total", Count, "received error items that were not forwarded");
    FAILED_CALLS = counter("streamz_step_failed_calls_total", Count, "calls without a result, each attempt counted");
    EVICTED_KEYS =
        counter("streamz_step_evicted_keys_total", Count, "keys evicted because there were too many");
    EXPIRED_KEYS = counter("streamz_step_expired_keys_total", Count, "keys not used within their time to live");
    HELD = gauge("streamz_step_held_items", Count, "received items that are held");
    QUEUED = gauge("streamz_output_queued_items", Count, "items that wait for the consumer");
    CAPACITY = gauge("streamz_output_capacity_items", Count, "items that may wait for the consumer");
    UNDELIVERED = counter("streamz_output_undelivered_items_total", Count, "emitted items that were never taken");
    BLOCKED = counter("streamz_output_blocked_microseconds_total", Microseconds, "time that a stage waited for room");
    BLOCKING = gauge("streamz_output_blocking", Count, "1 while the stage waits for room");
}

const METADATA: Metadata<'static> = Metadata::new("streamz", Level::INFO, Some(module_path!()));

fn describe() {
    ::metrics::with_recorder(|recorder| {
        for metric in ALL {
            let (name, unit) = (KeyName::from_const_str(metric.name), Some(metric.unit));
            let help = SharedString::const_str(metric.help);
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, help),
                Kind::Gauge => recorder.describe_gauge(name, unit, help),
            }
        }
    });
}

/// Exports the reports of one pipeline, one after another.
#[derive(Default)]
struct Exporter {
    last: Option<Report>,
    /// The gauges of the last export.
    gauges: HashSet<Key>,
}

impl Exporter {
    fn export(&mut self, report: &Report) {
        self.export_as(report, true);
    }

    /// The last export.
    fn export_end(&mut self, report: &Report) {
        self.export_as(report, false);
        let labels =
            [Label::new("pipeline", Arc::clone(&report.name)), Label::new("outcome", outcome(&report.outcome))];
        ::metrics::with_recorder(|recorder| Series::new(recorder, labels.into()).count(&ENDS, 1, 0));
    }

    fn export_as(&mut self, report: &Report, is_running: bool) {
        let last = self.last.replace(report.clone());
        let before = match &last {
            Some(last) => report.rows_before(last),
            None => vec![None; report.stages.len()],
        };
        ::metrics::with_recorder(|recorder| {
            let mut series = Series::new(recorder, vec![Label::new("pipeline", Arc::clone(&report.name))]);
            series.set(&RUNNING, if is_running { 1.0 } else { 0.0 });
            series.count(&FAULTS, report.faults.len() as u64, last.as_ref().map_or(0, |last| last.faults.len() as u64));
            for (stage, before) in report.stages.iter().zip(&before) {
                series.with("stage", Arc::clone(&stage.name), |series| series.stage(stage, before.as_deref()));
            }
            let gauges = series.gauges;
            for gone in self.gauges.iter().filter(|gauge| !gauges.contains(gauge)) {
                recorder.register_gauge(gone, &METADATA).set(0.0);
            }
            self.gauges = gauges;
        });
    }
}

/// A value in a part of a report.
type Of<Part, Value> = fn(&Part) -> Value;

/// The series that have certain labels.
struct Series<'a> {
    recorder: &'a dyn Recorder,
    labels: Vec<Label>,
    /// The gauges so far.
    gauges: HashSet<Key>,
}

impl<'a> Series<'a> {
    fn new(recorder: &'a dyn Recorder, labels: Vec<Label>) -> Self {
        Self { recorder, labels, gauges: HashSet::new() }
    }

    /// Calls `export` with one more label.
    fn with(&mut self, label: &'static str, value: impl Into<SharedString>, export: impl FnOnce(&mut Self)) {
        self.labels.push(Label::new(label, value));
        export(self);
        self.labels.pop();
    }

    fn key(&self, metric: &Metric) -> Key {
        Key::from_parts(metric.name, self.labels.clone())
    }

    /// Exports the growth of a counter.
    fn count(&self, metric: &Metric, now: u64, before: u64) {
        debug_assert_eq!(metric.kind, Kind::Counter);
        // Even if it has not changed: a counter at zero must be visible.
        self.recorder.register_counter(&self.key(metric), &METADATA).increment(now.saturating_sub(before));
    }

    fn set(&mut self, metric: &Metric, value: f64) {
        debug_assert_eq!(metric.kind, Kind::Gauge);
        let key = self.key(metric);
        self.recorder.register_gauge(&key, &METADATA).set(value);
        self.gauges.insert(key);
    }

    /// Leaves a gauge at its value.
    fn keep(&mut self, metric: &Metric) {
        self.gauges.insert(self.key(metric));
    }

    /// Exports what was added to a distribution of a stage, if it is recorded.
    fn latency(&mut self, metric: &Metric, latency: Option<&Latency>, before: Option<&Latency>) {
        let Some(latency) = latency else { return };
        let added = match before {
            Some(before) => latency.since(before),
            None => Some(latency.clone()),
        };
        let times = added.map(|Latency { p50, p90, p99, max, .. }| [p50, p90, p99, max]);
        for (index, quantile) in ["0.5", "0.9", "0.99", "1"].into_iter().enumerate() {
            self.with("quantile", quantile, |series| match &times {
                Some(times) => series.set(metric, times[index].as_secs_f64()),
                None => series.keep(metric),
            });
        }
    }

    fn stage(&mut self, stage: &StageReport, before: Option<&StageReport>) {
        self.count(&RECEIVED, stage.received(), before.map_or(0, StageReport::received));
        self.count(&EMITTED, stage.emitted(), before.map_or(0, StageReport::emitted));
        let errors_in = |stage: &StageReport| stage.steps.first().map_or(0, |step| step.errors_in);
        self.count(&ERRORS_IN, errors_in(stage), before.map_or(0, errors_in));
        let errors_out = |stage: &StageReport| stage.steps.last().map_or(0, |step| step.errors_out);
        self.count(&ERRORS_OUT, errors_out(stage), before.map_or(0, errors_out));
        let times: [(_, Of<StageReport, Duration>); 4] = [
            ("busy", |stage| stage.busy),
            ("idle", |stage| stage.idle.saturating_sub(stage.asleep)),
            ("asleep", |stage| stage.asleep),
            ("blocked", |stage| stage.blocked),
        ];
        for (state, time) in times {
            let micros = |stage| micros(time(stage));
            self.with("state", state, |series| series.count(&TIME, micros(stage), before.map_or(0, micros)));
        }
        self.set(&THREADS, stage.threads as f64);
        self.set(&WORKING, stage.at_work as f64);
        self.set(&LONGEST_WORK, stage.at_work_for.as_secs_f64());
        self.set(&SENDERS, stage.senders as f64);
        self.latency(&LATENCY, stage.latency.as_ref(), before.and_then(|before| before.latency.as_ref()));
        self.latency(&AGE, stage.age.as_ref(), before.and_then(|before| before.age.as_ref()));
        for (index, step) in stage.steps.iter().enumerate() {
            let before = before.and_then(|before| before.steps.get(index));
            self.with("step", Arc::clone(&step.name), |series| series.step(step, before));
        }
        for output in &stage.outputs {
            let before = before.and_then(|before| before.outputs.iter().find(|before| before.name == output.name));
            self.with("branch", Arc::clone(&output.name), |series| series.output(output, before));
        }
    }

    fn step(&mut self, step: &StepReport, before: Option<&StepReport>) {
        let counts: [(_, Of<StepReport, u64>); 8] = [
            (&DELIVERED, |step| step.delivered),
            (&FILTERED, |step| step.filtered),
            (&FAILED, |step| step.failed),
            (&ABANDONED, |step| step.abandoned),
            (&ABSORBED, |step| step.errors_absorbed),
            (&FAILED_CALLS, |step| step.failed_calls),
            (&EVICTED_KEYS, |step| step.evicted_keys),
            (&EXPIRED_KEYS, |step| step.expired_keys),
        ];
        for (metric, count) in counts {
            self.count(metric, count(step), before.map_or(0, count));
        }
        self.set(&HELD, step.held() as f64);
        for &(reason, dropped) in &step.dropped {
            let before = before.and_then(|before| before.dropped.iter().find(|(other, _)| *other == reason));
            let before = before.map_or(0, |(_, dropped)| *dropped);
            self.with("reason", reason.as_str(), |series| series.count(&DROPPED, dropped, before));
        }
    }

    fn output(&mut self, output: &OutputReport, before: Option<&OutputReport>) {
        self.set(&QUEUED, output.queued as f64);
        self.set(&CAPACITY, output.capacity as f64);
        self.count(&UNDELIVERED, output.undelivered, before.map_or(0, |before| before.undelivered));
        self.count(&BLOCKED, micros(output.blocked), before.map_or(0, |before| micros(before.blocked)));
        self.set(&BLOCKING, f64::from(u8::from(output.is_blocking)));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Running => "open",
        Outcome::Completed => "completed",
        Outcome::Cut(_) => "cut",
        Outcome::Drained => "drained",
        Outcome::Cancelled(_) => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::LazyLock;

    use ::metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram};
    use parking_lot::{Condvar, Mutex};

    use super::*;
    use crate::testing::TestSource;
    use crate::{ManualClock, Stream};

    const SECOND: Duration = Duration::from_secs(1);
    /// Only at the beginning and at the end.
    const NEVER: Duration = Duration::MAX;

    /// A recorder that stores the value of each series, under `name{label=value,..}`.
    #[derive(Default)]
    struct Seen {
        values: Mutex<BTreeMap<String, f64>>,
        changed: Condvar,
        described: Mutex<BTreeMap<String, (Kind, Option<Unit>)>>,
    }

    /// One recorder for all tests, which identify their series by the name of the pipeline.
    fn seen() -> &'static Seen {
        static SEEN: LazyLock<&'static Seen> = LazyLock::new(|| {
            let seen: &'static Seen = Box::leak(Box::default());
            ::metrics::set_global_recorder(seen).unwrap_or_else(|_| panic!("no other test has a recorder"));
            seen
        });
        *SEEN
    }

    impl Seen {
        fn value(&self, name: &str, labels: &str) -> Option<f64> {
            self.values.lock().get(&format!("{name}{{{labels}}}")).copied()
        }

        fn wait_for(&self, name: &str, labels: &str) -> f64 {
            let mut values = self.values.lock();
            loop {
                if let Some(value) = values.get(&format!("{name}{{{labels}}}")) {
                    return *value;
                }
                self.changed.wait(&mut values);
            }
        }
    }

    /// A handle to one of its series.
    struct Handle {
        seen: &'static Seen,
        series: String,
    }

    impl Handle {
        fn new(seen: &'static Seen, key: &Key) -> Arc<Self> {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Arc::new(Self { seen, series: format!("{}{{{}}}", key.name(), labels.join(",")) })
        }

        fn change(&self, change: impl FnOnce(f64) -> f64) {
            let mut values = self.seen.values.lock();
            let value = values.entry(self.series.clone()).or_insert(0.0);
            *value = change(*value);
            self.seen.changed.notify_all();
        }
    }

    impl CounterFn for Handle {
        fn increment(&self, by: u64) {
            self.change(|value| value + by as f64);
        }

        fn absolute(&self, _: u64) {
            unreachable!("pipelines of one name add up");
        }
    }

    impl GaugeFn for Handle {
        fn increment(&self, by: f64) {
            self.change(|value| value + by);
        }

        fn decrement(&self, by: f64) {
            self.change(|value| value - by);
        }

        fn set(&self, to: f64) {
            self.change(|_| to);
        }
    }

    impl Recorder for &'static Seen {
        fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
            self.described.lock().insert(name.as_str().to_owned(), (Kind::Counter, unit));
        }

        fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
            self.described.lock().insert(name.as_str().to_owned(), (Kind::Gauge, unit));
        }

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
            unreachable!("the export uses none");
        }

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Handle::new(self, key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Handle::new(self, key))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            unreachable!("the export uses none");
        }
    }

    fn manual(name: &str) -> (ManualClock, Pipeline) {
        seen();
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder(name).clock(&clock).capacity(8).build();
        (clock, pipeline)
    }

    #[test]
    fn the_last_export_has_all_that_the_report_has() {
        let (clock, pipeline) = manual("all");
        pipeline.export_metrics(NEVER);
        let numbers =
            Stream::from_iter(&pipeline, 0..100_u32).try_map(|n| if n % 10 == 0 { Err("ten") } else { Ok(*n) });
        let flaky =
            crate::AsyncMapper::new(|_: &CancelToken, n: &u32| if n.is_multiple_of(2) { Err("even") } else { Ok(*n) });
        let numbers = numbers.through(&crate::Fallback::new(flaky.with_workers(1), |_, n, _| Some(*n)));
        let (even, odd) = numbers.split(|n| n % 2 == 0);
        even.named("even").spawn_for_each(drop);
        odd.filter(|n| n % 3 == 0).named("odd").spawn_for_each(drop);
        let report = pipeline.join();
        assert_eq!(clock.elapsed(), Duration::ZERO, "the end does not wait for the period");

        let value = |metric: &Metric, labels: &str| seen().value(metric.name, &format!("pipeline=all{labels}"));
        assert_eq!(value(&RUNNING, ""), Some(0.0));
        assert_eq!(value(&ENDS, ",outcome=completed"), Some(1.0));
        assert_eq!(report.stages.iter().map(StageReport::failed).sum::<u64>(), 10);
        assert_eq!(report.stages.iter().map(StageReport::failed_calls).sum::<u64>(), 40);
        for stage in &report.stages {
            let of = format!(",stage={}", stage.name);
            assert_eq!(value(&RECEIVED, &of), Some(stage.received() as f64), "{}", stage.name);
            assert_eq!(value(&EMITTED, &of), Some(stage.emitted() as f64), "{}", stage.name);
            assert_eq!(value(&THREADS, &of), Some(stage.threads as f64), "{}", stage.name);
            for step in &stage.steps {
                let of = format!("{of},step={}", step.name);
                assert_eq!(value(&DELIVERED, &of), Some(step.delivered as f64), "{}", stage.name);
                assert_eq!(value(&FAILED, &of), Some(step.failed as f64), "{}", stage.name);
                assert_eq!(value(&FAILED_CALLS, &of), Some(step.failed_calls as f64), "{}", stage.name);
                assert_eq!(value(&FILTERED, &of), Some(step.filtered as f64), "{}", stage.name);
                assert_eq!(value(&HELD, &of), Some(0.0), "{}", stage.name);
            }
            for output in &stage.outputs {
                let of = format!("{of},branch={}", output.name);
                assert_eq!(value(&CAPACITY, &of), Some(8.0), "{}", stage.name);
                assert_eq!(value(&QUEUED, &of), Some(0.0), "{}", stage.name);
            }
        }
        assert_eq!(value(&CAPACITY, ",stage=split,branch=matched"), Some(8.0));
    }

    #[test]
    fn counts_are_exported_at_once_and_every_period() {
        let (clock, pipeline) = manual("periods");
        let (source, numbers) = TestSource::new(&pipeline);
        numbers.named("sink").spawn_for_each(|_: crate::Result<u32>| ());
        pipeline.export_metrics(SECOND);
        let received = || seen().value(RECEIVED.name, "pipeline=periods,stage=sink");
        clock.advance(Duration::ZERO);
        assert_eq!(received(), Some(0.0));
        for second in 1..=3_u32 {
            source.push_all(0..5);
            clock.advance(SECOND / 2);
            assert_eq!(received(), Some(f64::from(5 * (second - 1))), "the period has not passed");
            clock.advance(SECOND / 2);
            assert_eq!(received(), Some(f64::from(5 * second)));
        }
        assert_eq!(seen().value(RUNNING.name, "pipeline=periods"), Some(1.0));
        let idle = seen().value(TIME.name, "pipeline=periods,stage=sink,state=idle");
        assert_eq!(idle, Some(3_000_000.0), "microseconds");
        pipeline.abort();
        assert_eq!(seen().value(ENDS.name, "pipeline=periods,outcome=cancelled"), Some(1.0));
    }

    #[test]
    fn a_pipeline_that_is_reused_counts_each_job_once() {
        const JOBS: u32 = 200;
        let (clock, pipeline) = manual("jobs");
        pipeline.export_metrics(SECOND);
        for _ in 0..JOBS {
            let items = Stream::from_iter(&pipeline, 0..10_u32).named("job").map(|n| n + 1).collect::<Vec<_>>();
            assert_eq!(items.unwrap().len(), 10);
            clock.advance(SECOND);
        }
        let report = pipeline.join();
        assert!(report.stages.iter().any(|stage| stage.merged > 0), "{report}");
        let of = format!("{}{{pipeline=jobs,stage=job", RECEIVED.name);
        let values = seen().values.lock();
        let counted: f64 = values.range(of.clone()..).take_while(|(key, _)| key.starts_with(&of)).map(|(_, n)| n).sum();
        assert_eq!(counted, f64::from(10 * JOBS));
    }

    /// The sum of a counter over the stages of a pipeline whose names begin so.
    fn sum(metric: &Metric, pipeline: &str, stages: &str) -> f64 {
        let of = format!("{}{{pipeline={pipeline},stage={stages}", metric.name);
        let values = seen().values.lock();
        values.range(of.clone()..).take_while(|(key, _)| key.starts_with(&of)).map(|(_, value)| value).sum()
    }

    #[test]
    fn a_name_that_recurs_is_not_counted_twice() {
        let (clock, pipeline) = manual("tenants");
        pipeline.export_metrics(SECOND);
        let job = |tenant: u32, count: u32| {
            let items = Stream::from_iter(&pipeline.named(format!("read-{tenant}")), 0..count);
            items.named(format!("map-{tenant}")).map(|n| n).named(format!("load-{tenant}")).count().unwrap();
        };
        (0..50).for_each(|tenant| job(tenant, 1_000));
        clock.advance(SECOND);
        (50..150).chain(0..50).for_each(|tenant| job(tenant, 1));
        let report = pipeline.join();
        assert!(report.stage("map-*").is_some(), "{report}");
        assert_eq!(sum(&RECEIVED, "tenants", "map"), 50_150.0);
        assert_eq!(sum(&EMITTED, "tenants", "read"), 50_150.0);
    }

    #[test]
    fn a_gauge_of_a_stage_without_a_row_is_zero() {
        let (clock, pipeline) = manual("gauges");
        pipeline.export_metrics(SECOND);
        let start = || {
            let (sender, items) = Stream::channel(&pipeline, 8);
            (sender, items.batch(crate::BatchConfig { max_size: 10, max_latency: NEVER }))
        };
        let finish = |(sender, batches): (crate::Sender<u32>, Stream<Vec<u32>>)| {
            drop(sender);
            assert_eq!(batches.count().unwrap(), 1);
        };
        let (first, second) = (start(), start());
        first.0.send(0).unwrap();
        (0..3).for_each(|n| second.0.send(n).unwrap());
        clock.advance(SECOND);
        let held = |stage: &str| seen().value(HELD.name, &format!("pipeline=gauges,stage={stage},step={stage}"));
        assert_eq!((held("batch"), held("batch-2")), (Some(1.0), Some(3.0)));
        finish(first);
        finish(second);
        // Only rows of threads that have ended are added up.
        clock.settle();
        for n in 0..300 {
            let job = start();
            job.0.send(n).unwrap();
            finish(job);
        }
        let report = pipeline.join();
        assert!(report.stage("batch-2").is_none() && report.stage("batch").unwrap().merged > 0, "{report}");
        assert_eq!((held("batch"), held("batch-2")), (Some(0.0), Some(0.0)));
    }

    #[test]
    #[cfg(feature = "latency")]
    fn latencies_are_those_since_the_last_export() {
        seen();
        let clock = ManualClock::new();
        let builder = Pipeline::builder("latencies").clock(&clock);
        let pipeline = builder.latencies(crate::Latencies::of(["slow"])).build();
        let (source, pauses) = TestSource::new(&pipeline);
        let token = pipeline.token();
        pauses.named("slow").spawn_for_each(move |pause| _ = token.sleep(pause.unwrap()));
        pipeline.export_metrics(SECOND * 10);
        let longest = || seen().value(LATENCY.name, "pipeline=latencies,stage=slow,quantile=1");
        for (pause, expected) in [(Some(SECOND * 2), 2.0), (None, 2.0), (Some(SECOND), 1.0)] {
            source.push_all(pause);
            clock.advance(SECOND * 10);
            // As precise as a percentile.
            let longest = longest().unwrap();
            assert!((longest - expected).abs() < 0.01 * expected, "{longest} for {expected}");
        }
        source.end();
        pipeline.join();
    }

    #[test]
    fn items_abandoned_by_a_cancelled_pipeline_are_exported() {
        let (_clock, pipeline) = manual("abandons");
        let (source, numbers) = TestSource::new(&pipeline);
        let batches = numbers.batch(crate::BatchConfig { max_size: 10, max_latency: NEVER });
        batches.spawn_for_each(|_: crate::Result<Vec<u32>>| ());
        pipeline.export_metrics(NEVER);
        source.push_all(0..7);
        pipeline.abort();
        assert_eq!(seen().value(ABANDONED.name, "pipeline=abandons,stage=batch,step=batch"), Some(7.0));
    }

    #[test]
    fn the_last_export_waits_for_helpers_that_count_at_the_end() {
        let (_clock, pipeline) = manual("helpers");
        pipeline.export_metrics(NEVER);
        pipeline.token().spawn_helper("acker", |token, stats| {
            let waiter = Waiter::current(token.clock());
            while !token.scope().is_closing() {
                waiter.park(None);
            }
            // The exporter has been woken, too, and would have finished by now.
            token.sleep(SECOND).unwrap();
            stats.delivered.add(5);
        });
        pipeline.drain_within(SECOND * 2);
        assert_eq!(seen().value(DELIVERED.name, "pipeline=helpers,stage=acker,step=acker"), Some(5.0));
    }

    #[test]
    fn pipelines_of_one_name_add_up() {
        for _ in 0..3 {
            let (_clock, pipeline) = manual("nightly");
            pipeline.export_metrics(NEVER);
            Stream::from_iter(&pipeline, 0..10).named("store").spawn_for_each(drop);
            pipeline.join();
        }
        assert_eq!(seen().value(RECEIVED.name, "pipeline=nightly,stage=store"), Some(30.0));
        assert_eq!(seen().value(ENDS.name, "pipeline=nightly,outcome=completed"), Some(3.0));
    }

    #[test]
    fn a_pipeline_dropped_on_its_own_thread_is_exported() {
        let (_clock, pipeline) = manual("dropped");
        let token = pipeline.token();
        pipeline.export_metrics(NEVER);
        drop(token.spawn("owner", move |_| drop(pipeline)));
        assert_eq!(seen().wait_for(ENDS.name, "pipeline=dropped,outcome=cancelled"), 1.0);
    }

    #[test]
    fn an_exporter_does_not_notice_a_deadline() {
        seen();
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("deadline").clock(&clock).timeout(SECOND).build();
        pipeline.export_metrics(SECOND);
        // No stage is running, but the pipeline has not ended.
        let open = Stream::from_iter(&pipeline, 0..10);
        clock.advance(SECOND * 5);
        assert!(pipeline.join().is_complete());
        drop(open);
    }

    #[test]
    fn the_table_lists_every_metric_as_it_is_described() {
        seen();
        let clock = ManualClock::new();
        let builder = Pipeline::builder("table").clock(&clock);
        #[cfg(feature = "latency")]
        let builder = builder.latencies(crate::Latencies::all());
        let pipeline = builder.build();
        pipeline.export_metrics(NEVER);
        let kept = Stream::from_iter(&pipeline, 0..100_u32).dropping_buffer(1);
        clock.advance(Duration::ZERO);
        drop(kept);
        pipeline.join();
        let rows = include_str!("metrics.rs").lines().filter_map(|line| line.trim().strip_prefix("/// | `"));
        let rows: Vec<_> = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>()).collect();
        assert_eq!(rows.len(), ALL.len());
        let described = seen().described.lock().clone();
        for (row, metric) in rows.iter().zip(ALL) {
            assert_eq!(row[0].trim_end_matches('`'), metric.name);
            assert_eq!(row[1], format!("{:?}", metric.kind).to_lowercase(), "{}", metric.name);
            assert_eq!(row[3], metric.help, "{}", metric.name);
            assert_eq!(described[metric.name], (metric.kind, Some(metric.unit)));
            let labels = row[2].split(", ").map(|label| label.trim_matches('`'));
            let labels: Vec<_> = ["pipeline"].into_iter().chain(labels.filter(|label| !label.is_empty())).collect();
            if [LATENCY.name, AGE.name].contains(&metric.name) && cfg!(not(feature = "latency")) {
                continue;
            }
            let values = seen().values.lock();
            let mut series = values.keys().filter_map(|key| key.strip_prefix(metric.name)?.strip_prefix('{'));
            let series = series.find(|labels| labels.starts_with("pipeline=table")).expect(metric.name);
            let names = series.trim_end_matches('}').split(',').filter_map(|label| label.split('=').next());
            assert_eq!(names.collect::<Vec<_>>(), labels, "{}", metric.name);
        }
    }

    #[test]
    #[should_panic(expected = "`period` must be greater than zero")]
    fn a_period_of_zero_is_refused() {
        Pipeline::new("zero").export_metrics(Duration::ZERO);
    }
}
