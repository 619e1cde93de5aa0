//! [`Report`]: what a pipeline did, or is doing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::CancelToken;
use super::latency::Latency;
use super::node::Cause;
use super::scope::Scope;
use super::stats::{Counter, DropReason, OutputStats, StageKind, StageStats, StepStats};
use super::summary::Common;
use super::timing::Timing;
use crate::error::StreamError;

/// How a pipeline came to its end, or that it has not.
///
/// The outcome is fixed when the last thread ends and the last stream has been read; [`Pipeline::join`](crate::Pipeline::join)
/// does not change it, nor does a cancellation, a drain, or a deadline that comes later. (A stage that is added after that
/// sets the pipeline running again, until it is joined.)
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", content = "detail", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Outcome {
    /// Threads are still at work, or a stream is still to be read.
    Running,
    /// Every stage came to its end by itself, because its input ended or because nobody wanted its output any more, and no
    /// stream was cut.
    Completed,
    /// A part of it was cut (a source died, a child token was cancelled, a thread could not be started); the rest came to
    /// its end.
    Cut(StreamError),
    /// The sources were stopped by a drain; everything that was in flight was processed.
    Drained,
    /// It was cancelled; what was in flight was abandoned.
    Cancelled(Cause),
}

/// A snapshot of a pipeline: what went through each stage and where the time went.
///
/// Times include the interval in progress, so a stage that has been blocked for an hour shows that hour.
///
/// `{}` prints a table of the stages, and what the [pace](Self::pace) of the pipeline depends on. No line is longer than 80
/// columns: counts from ten million on are rounded to four digits and times to three, long names are shortened. `{:#}`
/// shortens and rounds nothing, and has more columns: rates per second, and what was asleep, abandoned and undelivered.
/// [`to_mermaid`](Self::to_mermaid) and [`to_dot`](Self::to_dot) draw it.
///
/// With the feature `serde` it can be serialized, with all its parts, and read back. Durations are numbers of seconds, and their
/// fields are named after the unit: `busy_seconds`. Outcomes and causes are objects with a `kind` and, where there is more to
/// say, a `detail`. See [`StreamError`] for errors. What does not come back are latencies and ages, and the type of a cause of a
/// cancellation: it is an error with the same text. What an earlier version has written can be read: fields that it did not have are
/// empty or zero.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Report {
    /// The pipeline's name.
    pub name: Arc<str>,
    /// How it ended.
    pub outcome: Outcome,
    /// From the building of the pipeline to its end, or to now. The end is when its last thread ended, or the last end on a
    /// thread of the caller's.
    #[cfg_attr(feature = "serde", serde(rename = "elapsed_seconds", with = "crate::data::seconds"))]
    pub elapsed: Duration,
    /// The stages, in the order in which they were made.
    ///
    /// A pipeline that is used for one job after the other does not keep them all. From the 256th stage on, stages that have
    /// ended are added to the row of an earlier one of the same given name and kind, with inputs that are alike; see
    /// [`merged`](StageReport::merged). These rows come first. So the report of a thousand like jobs is as long as that of a few
    /// hundred stages.
    ///
    /// That holds also if each job gives its stages names of their own. When there are more than 256 rows, those of stages of the same
    /// kind, with inputs that are alike, are added up if their names differ only in words with digits, and if that is not enough,
    /// whatever their names are. Rows of names that came again are spared until there are 1,024. `import-17` and `import-18` become
    /// `import-*`: the row's name has a `*` where the names differ.
    pub stages: Vec<StageReport>,
    /// The messages of threads that died from a fault in this library. Normally empty.
    pub faults: Vec<String>,
}

/// One stage in a [`Report`].
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StageReport {
    /// The stage's name, unique in its pipeline.
    pub name: Arc<str>,
    /// The name that it was given, which other stages may have been given, too.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) given_name: Arc<str>,
    /// If the stages that are counted here had different names: what these have in common.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) common: Option<Common>,
    /// How many later stages that have ended are counted in this row, besides the one that gives it its name. Counts, times and
    /// what is left in the outputs are sums then; `threads` is that of the stage that had most.
    #[cfg_attr(feature = "serde", serde(default))]
    pub merged: u64,
    /// What sort of stage it is.
    pub kind: StageKind,
    /// How many threads it has.
    pub threads: usize,
    /// The outputs that it reads.
    pub inputs: Vec<InputReport>,
    /// The fused steps; one for a stage that is not fused.
    pub steps: Vec<StepReport>,
    /// Time spent waiting for input or for a timer, summed over its threads. Time that its closures spend in
    /// [`recv`](crate::Stream::recv) or [`sleep`](crate::CancelToken::sleep) is part of it.
    #[cfg_attr(feature = "serde", serde(rename = "idle_seconds", with = "crate::data::seconds"))]
    pub idle: Duration,
    /// The part of [`idle`](Self::idle) in which it could take no item before a certain time: because a closure
    /// [sleeps](crate::CancelToken::sleep), as [`Retry`](crate::Retry) does between two attempts, or because a
    /// [`Throttle`](crate::Throttle) or a full [`Delay`](crate::Delay) waits.
    #[cfg_attr(feature = "serde", serde(rename = "asleep_seconds", with = "crate::data::seconds"))]
    pub asleep: Duration,
    /// Time spent working, summed over its threads. Time that a closure spends waiting outside of this library, for a
    /// network or a lock, counts as work.
    #[cfg_attr(feature = "serde", serde(rename = "busy_seconds", with = "crate::data::seconds"))]
    pub busy: Duration,
    /// Time spent waiting for room, summed over its threads: in the output, or in
    /// [`Sender::send`](crate::Sender::send) in a closure.
    #[cfg_attr(feature = "serde", serde(rename = "blocked_seconds", with = "crate::data::seconds"))]
    pub blocked: Duration,
    /// The time of an item in the stage, or of a call. `None` unless the pipeline was
    /// [told to record it](crate::PipelineBuilder), with the feature `latency`, or if there was none yet.
    ///
    /// - *A pool*: from when a worker begins an item to its result, with all retries and their pauses. Every item is measured.
    /// - *Another stage*: the time that its thread spends on an item, in all steps that are fused. That is taking it from the
    ///   input, the closures, and handing over what they emit, but not a wait for input or for room. For operators
    ///   that hold items or emit many for one, such as batches, windows and flat maps, it is the call in which they are given
    ///   the item.
    /// - *A source over an iterator*: the time that `next` takes to make an item, waits included.
    /// - *A sink*: the time of its closure for an item. `collect`, `first`, iterators and
    ///   [`into_receiver`](crate::Stream::into_receiver) have no closure, and no latency.
    ///
    /// Items that fail count; error items do not. A wait of a closure, such as a sleep, is part of the time. Outside of pools,
    /// where items take less than 5 µs one of 64 is measured, and counts for the 63 that were skipped before it. With a
    /// [`ManualClock`](crate::ManualClock) every item is measured.
    #[cfg_attr(feature = "serde", serde(skip_deserializing))]
    pub latency: Option<Latency>,
    /// The age of items when they leave the stage; of a sink, when it has processed them. `None` unless the pipeline was told to
    /// record it, as for [`latency`](Self::latency).
    ///
    /// The age is the time since a source emitted the item, waits in streams and for room included. It is sampled: behind an
    /// item, and at most every 10 ms, a source sends a stamp, which passes a stage when everything that came before it has been
    /// settled. So
    ///
    /// - the age is that of the slowest item up to the stamp: an unordered pool holds the stamp for it;
    /// - a batch holds stamps until its items leave, and a window until it is closed. Then the age contains the
    ///   time for which the result was put together. An operator of your own holds them as it holds the marks of a
    ///   [delivery](crate::delivery);
    /// - a stage passes on the stamps of items that it removes. With several outputs, each output gets a copy, and with several
    ///   inputs, the stamps of all come out;
    /// - a source has at most 1,024 stamps under way, and sends no more while they are. `count` is the number of stamps.
    ///
    /// For a [`Sender`](crate::Sender), the age begins when the item is in the stream, after a wait for room; for
    /// [`from_receiver`](crate::Stream::from_receiver), when the item is taken from the channel. Items that a sink reads
    /// [inline](crate::Inline) from a source have no age.
    /// With a [`ManualClock`](crate::ManualClock) a stamp follows every item.
    ///
    /// To measure the age by a time that the items carry, add a step with `measure_age`. Then this is the age by that time.
    #[cfg_attr(feature = "serde", serde(skip_deserializing))]
    pub age: Option<Latency>,
    /// How many of its threads are at work at this moment: they do not wait for anything that this library knows of.
    pub at_work: usize,
    /// The longest time for which one of those has been at work since its last wait.
    #[cfg_attr(feature = "serde", serde(rename = "at_work_for_seconds", with = "crate::data::seconds"))]
    pub at_work_for: Duration,
    /// How many [`Sender`](crate::Sender)s feed it, if it is a channel.
    pub senders: usize,
    /// The outputs of the stage.
    pub outputs: Vec<OutputReport>,
}

/// One step of a stage in a [`Report`].
///
/// `received = delivered + filtered + failed + dropped + abandoned + held`, where `held` is 0 once the stage has ended.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StepReport {
    /// The step's name; the stage's name if there is but one.
    pub name: Arc<str>,
    /// Items it was given, error items not counted.
    pub received: u64,
    /// Items it sent on, error items not counted. A batch is one item.
    pub emitted: u64,
    /// Received items that went into the output. For a step that makes one item of each this equals `emitted`.
    pub delivered: u64,
    /// Received items that it removed because that is its purpose.
    pub filtered: u64,
    /// Received items that it turned into errors.
    pub failed: u64,
    /// Received items that it dropped, by reason; reasons that did not occur are left out.
    pub dropped: Vec<(DropReason, u64)>,
    /// Received items that it held when it was stopped.
    pub abandoned: u64,
    /// Error items it was given.
    pub errors_in: u64,
    /// Error items it sent on: those passed through and those it made.
    pub errors_out: u64,
    /// Error items that it was given and did not send on: recovered from, or dropped for want of room or of a reader.
    pub errors_absorbed: u64,
    /// Calls that had no result: they returned an error, panicked, ran into a time limit, or were refused, by a
    /// [`CircuitBreaker`](crate::CircuitBreaker) for example. Every attempt counts. For a [`Restart`](crate::Restart), the
    /// failures of its source. Zero for other steps that make no [`Call`](crate::Call).
    ///
    /// If there are more of these than [`failed`](Self::failed) items, the others were made good in the step itself: by a
    /// [`Retry`](crate::Retry), a [`Fallback`](crate::Fallback) or [`combine`](crate::Combine).
    #[cfg_attr(feature = "serde", serde(default))]
    pub failed_calls: u64,
    /// Keys that a step with a state for each key evicted because there were too many: their state, batch or window ended
    /// early. Zero for other steps. A growing number says that `max_keys` is too small.
    #[cfg_attr(feature = "serde", serde(default))]
    pub evicted_keys: u64,
    /// Keys that it removed because they were not used for their time to live.
    #[cfg_attr(feature = "serde", serde(default))]
    pub expired_keys: u64,
}

/// One input of a stage in a [`Report`]: an output of another stage.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct InputReport {
    /// The upstream stage.
    pub stage: Arc<str>,
    /// The [name](OutputReport::name) of its output; empty if that stage has no branches.
    pub output: Arc<str>,
}

/// One output of a stage in a [`Report`].
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct OutputReport {
    /// The branch; empty for a stage without branches. Names are unique within a stage.
    pub name: Arc<str>,
    /// Items that wait for the consumer, error items included. The marks of a [delivery](crate::delivery) are not counted,
    /// except on the system clock those that the consumer has taken together with items and not reached yet.
    pub queued: usize,
    /// How many may wait.
    pub capacity: usize,
    /// Data items that were emitted and never taken, because the consumer went or the stage was stopped.
    pub undelivered: u64,
    /// How long the stage has waited for room in it, the wait in progress included.
    #[cfg_attr(feature = "serde", serde(rename = "blocked_seconds", with = "crate::data::seconds"))]
    pub blocked: Duration,
    /// The stage, sink or consumer that reads it. `None` for a stream from which a caller has not yet received anything.
    pub reader: Option<Arc<str>>,
    /// Whether the stage, or a [`Sender`](crate::Sender) of a channel, waits for room in it at this moment. A branch that is not read shows here.
    pub is_blocking: bool,
}

impl CancelToken {
    /// What each stage of the token's pipeline has done so far: for whoever watches a pipeline while it runs.
    ///
    /// ```
    /// use std::time::Duration;
    /// use streamz::{ManualClock, Pipeline, Stream};
    ///
    /// let clock = ManualClock::new();
    /// let pipeline = Pipeline::builder("watched").clock(&clock).build();
    /// let (input, numbers) = Stream::channel(&pipeline, 16);
    /// numbers.map(|n: u32| n + 1).spawn_for_each(drop);
    ///
    /// let (token, (seen, counts)) = (pipeline.token(), std::sync::mpsc::channel());
    /// pipeline.every(Duration::from_secs(1), move || {
    ///     let report = token.report();
    ///     seen.send(report.stage("map").unwrap().emitted()).unwrap();
    /// });
    /// input.send(1)?;
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!(counts.recv()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If the token does not come from a pipeline.
    #[track_caller]
    pub fn report(&self) -> Report {
        Report::of(self.scope())
    }
}

impl Report {
    pub(crate) fn of(scope: &Scope) -> Self {
        let (now, outcome) = match scope.ended() {
            Some(ended) => (ended.at, ended.outcome),
            None => (scope.clock().now(), scope.cause().map_or(Outcome::Running, Outcome::Cancelled)),
        };
        let (mut stages, listed) = scope.all_stages();
        stages.extend(listed.iter().map(|stage| StageReport::of(stage, now)));
        Self {
            name: Arc::clone(scope.name()),
            outcome,
            elapsed: now.saturating_duration_since(scope.started()),
            stages,
            faults: scope.faults(),
        }
    }

    /// Items that were in a stage or in a stream when it was stopped, or still are in a stream that gives out nothing more.
    pub(super) fn lost(&self) -> u64 {
        let left = |output: &OutputReport| output.undelivered + output.queued as u64;
        self.stages.iter().map(|stage| stage.abandoned() + stage.outputs.iter().map(left).sum::<u64>()).sum()
    }

    /// Whether it ran to its end: not cancelled, not cut, not drained, not still running. A service that ends by a drain asks
    /// for [`Outcome::Drained`] instead.
    pub fn is_complete(&self) -> bool {
        matches!(self.outcome, Outcome::Completed)
    }

    /// The stage of that name.
    pub fn stage(&self, name: &str) -> Option<&StageReport> {
        self.stages.iter().find(|stage| &*stage.name == name)
    }
}

impl StageReport {
    pub(super) fn of(stats: &StageStats, now: Instant) -> Self {
        let spent = || stats.threads.iter().map(|thread| thread.read(now));
        let asleep = spent().map(|spent| spent.asleep).sum();
        let at_work: Vec<_> = stats.threads.iter().filter_map(|thread| thread.working_for(now)).collect();
        Self {
            name: Arc::clone(&stats.name),
            given_name: Arc::clone(&stats.given_name),
            common: None,
            kind: stats.kind,
            merged: 0,
            threads: stats.threads.len(),
            inputs: stats.inputs.lock().clone(),
            steps: stats.steps.iter().map(StepReport::of).collect(),
            idle: spent().map(|spent| spent.idle + spent.asleep).sum(),
            asleep,
            busy: spent().map(|spent| spent.busy).sum(),
            blocked: spent().map(|spent| spent.blocked + spent.blocked_elsewhere).sum(),
            latency: stats.recordings.times(),
            age: stats.recordings.ages(),
            at_work: at_work.len(),
            at_work_for: at_work.into_iter().max().unwrap_or_default(),
            senders: stats.senders.load(Ordering::Relaxed),
            outputs: OutputReport::all(stats, now),
        }
    }

    /// The ways out in which the stage waits for room at this moment, by name.
    pub fn blocking(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().filter(|output| output.is_blocking).map(|output| &*output.name)
    }

    /// Items that came in: what the first step received.
    pub fn received(&self) -> u64 {
        self.steps.first().map_or(0, |step| step.received)
    }

    /// Items that went out: what the last step emitted.
    pub fn emitted(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.emitted)
    }

    /// Items that any step turned into errors.
    pub fn failed(&self) -> u64 {
        sum(self.steps.iter().map(|step| step.failed))
    }

    /// Calls that had no result: see [`StepReport::failed_calls`].
    pub fn failed_calls(&self) -> u64 {
        sum(self.steps.iter().map(|step| step.failed_calls))
    }

    /// The failed calls, if there are more of them than failed items.
    pub(crate) fn hidden_failures(&self) -> Option<u64> {
        Some(self.failed_calls()).filter(|&calls| calls > self.failed())
    }

    /// Items that any step removed on purpose or dropped.
    pub fn removed(&self) -> u64 {
        sum(self.steps.iter().map(|step| step.filtered.saturating_add(step.total_dropped())))
    }

    /// Items that any step held when it was stopped.
    pub fn abandoned(&self) -> u64 {
        sum(self.steps.iter().map(|step| step.abandoned))
    }

    /// The share of its threads' time that the stage was busy, 0.0 to 1.0. That is the time since its threads started, not
    /// since the pipeline was built.
    pub fn utilization(&self) -> f64 {
        self.share(self.busy)
    }

    /// Time in which its threads could not take the next item because of the one that they had.
    pub(super) fn occupied(&self) -> Duration {
        self.busy.saturating_add(self.asleep)
    }

    fn share(&self, part: Duration) -> f64 {
        let whole = self.idle + self.busy + self.blocked;
        if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
    }
}

impl StepReport {
    pub(crate) fn of(stats: &StepStats) -> Self {
        let dropped = DropReason::ALL.into_iter().zip(stats.dropped.iter().map(Counter::get));
        Self {
            name: Arc::clone(&stats.name),
            received: stats.received.get(),
            emitted: stats.emitted.get(),
            delivered: stats.delivered.get(),
            filtered: stats.filtered.get(),
            failed: stats.failed.get(),
            dropped: dropped.filter(|&(_, count)| count > 0).collect(),
            abandoned: stats.abandoned.get(),
            errors_in: stats.errors_in.get(),
            errors_out: stats.errors_out.get(),
            errors_absorbed: stats.errors_absorbed.get(),
            failed_calls: stats.failed_calls.get(),
            evicted_keys: stats.evicted_keys.get(),
            expired_keys: stats.expired_keys.get(),
        }
    }

    /// Items dropped for any reason.
    pub fn total_dropped(&self) -> u64 {
        sum(self.dropped.iter().map(|&(_, count)| count))
    }

    /// Items it holds, as the counters have it; 0 once the stage has ended.
    pub fn held(&self) -> u64 {
        self.received.saturating_sub(self.settled())
    }

    /// Whether every received item is accounted for and none is accounted for twice.
    pub fn balances(&self) -> bool {
        self.received == self.settled()
    }

    fn settled(&self) -> u64 {
        self.delivered + self.filtered + self.failed + self.total_dropped() + self.abandoned
    }
}

impl OutputReport {
    fn all(stats: &StageStats, now: Instant) -> Vec<Self> {
        let outputs = stats.outputs.lock().clone();
        match &outputs[..] {
            // What the threads of the stage wait for is the one way out.
            [only] => {
                let blocked = stats.threads.iter().map(|thread| thread.read(now).blocked).sum();
                let has_blocked_senders = stats.blocked_senders.load(Ordering::Relaxed) > 0;
                let is_blocking = has_blocked_senders || stats.threads.iter().any(Timing::is_blocked);
                vec![Self::of(only, blocked, is_blocking)]
            }
            several => {
                let mut all: Vec<Self> = Vec::new();
                for one in several {
                    let own = Self::of(one, one.waits.read(now).blocked, one.waits.is_blocked());
                    match all.iter_mut().find(|other| other.name == own.name) {
                        Some(other) => other.add_alike(own),
                        None => all.push(own),
                    }
                }
                all
            }
        }
    }

    /// Adds another output of the stage that has the same name.
    fn add_alike(&mut self, other: Self) {
        self.queued += other.queued;
        // Each may be unbounded.
        self.capacity = self.capacity.saturating_add(other.capacity);
        self.undelivered += other.undelivered;
        self.blocked += other.blocked;
        self.is_blocking |= other.is_blocking;
        self.reader = self.reader.take().or(other.reader);
    }

    fn of(OutputStats { name, gauge, .. }: &OutputStats, blocked: Duration, is_blocking: bool) -> Self {
        Self {
            name: Arc::clone(name),
            queued: gauge.items(),
            capacity: gauge.capacity.load(Ordering::Relaxed),
            undelivered: gauge.undelivered.load(Ordering::Relaxed),
            blocked,
            reader: gauge.reader(),
            is_blocking,
        }
    }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Running => f.write_str("running"),
            Outcome::Completed => f.write_str("completed"),
            Outcome::Drained => f.write_str("drained"),
            Outcome::Cut(error) => write!(f, "cut: {error}"),
            Outcome::Cancelled(cause) => write!(f, "{cause}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::real_now;
    use crate::pipeline::timing::Phase;

    const SECOND: Duration = Duration::from_secs(1);

    /// A stage whose threads have spent that many seconds each in one phase after the other.
    fn stage(name: &str, kind: StageKind, threads: usize, phases: &[(Phase, u32)]) -> StageReport {
        let name = Arc::from(name);
        let stats = StageStats::new(Arc::clone(&name), kind, &[name], threads);
        let start = real_now();
        let mut now = start;
        for thread in &stats.threads {
            now = start;
            thread.start(now);
            for &(phase, seconds) in phases {
                thread.enter(phase, now);
                now += SECOND * seconds;
            }
            thread.end(now);
        }
        // What comes after the end of a thread is no time of its.
        StageReport::of(&stats, now + SECOND)
    }

    fn step(received: u64) -> StepReport {
        let step = StepReport::of(&StageStats::new("step".into(), StageKind::Sink, &["step".into()], 1).steps[0]);
        let dropped = vec![(DropReason::Overflow, 300), (DropReason::Unmatched, 700)];
        StepReport { received, delivered: 1, filtered: 20, failed: 4_000, dropped, abandoned: 50_000, ..step }
    }

    #[test]
    fn the_time_of_a_stage_is_the_sum_over_its_threads() {
        let phases = [
            (Phase::Busy, 1),
            (Phase::Idle, 2),
            (Phase::Asleep, 4),
            (Phase::Blocked, 8),
            (Phase::BlockedElsewhere, 16),
            (Phase::Delegated, 32),
            (Phase::Blocked, 64),
            (Phase::Idle, 128),
        ];
        let stage = stage("both", StageKind::Processor, 2, &phases);
        assert_eq!((stage.busy, stage.idle), (SECOND * 2 * 33, SECOND * 2 * 134));
        assert_eq!((stage.asleep, stage.blocked), (SECOND * 2 * 4, SECOND * 2 * 88));
        assert!((stage.utilization() - 33.0 / 255.0).abs() < 1e-9, "{}", stage.utilization());
    }

    #[test]
    fn a_stage_that_has_not_begun_was_busy_for_no_share_of_its_time() {
        let stats = StageStats::new("new".into(), StageKind::Source, &["new".into()], 1);
        assert_eq!(StageReport::of(&stats, real_now()).utilization(), 0.0);
    }

    #[test]
    fn a_step_holds_what_it_has_not_settled() {
        assert_eq!(step(55_021).total_dropped(), 1_000);
        assert_eq!([55_020, 55_021, 55_030].map(|received| step(received).held()), [0, 0, 9]);
        assert_eq!([55_020, 55_021, 55_022].map(|received| step(received).balances()), [false, true, false]);
    }

    #[test]
    fn a_stage_counts_over_all_of_its_steps() {
        let stage = stage("fused", StageKind::Processor, 1, &[]);
        let (mut first, last) = (step(60_000), step(55_000));
        first.emitted = 9;
        let stage = StageReport { steps: vec![first, StepReport { emitted: 3, ..last }], ..stage };
        assert_eq!((stage.received(), stage.emitted()), (60_000, 3));
        assert_eq!((stage.failed(), stage.removed(), stage.abandoned()), (8_000, 2_040, 100_000));
    }
}
