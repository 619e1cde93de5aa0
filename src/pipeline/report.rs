//! [`Report`]: what a pipeline has done so far.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::CancelToken;
use super::identity::Identity;
use super::latency::Latency;
use super::node::Cause;
use super::scope::Scope;
use super::stats::{Counter, DropReason, OutputStats, StageKind, StageStats, StepStats};
use super::timing::{Spent, Timing};
use crate::error::StreamError;

/// How a pipeline ended, or that it is still running.
///
/// The outcome is fixed when the last thread ends and the last stream has been read.
/// [`Pipeline::join`](crate::Pipeline::join) does not change it, nor does a later cancellation, drain or deadline. An error
/// that the closure of [`Pipeline::run`](crate::Pipeline::run) returns does.
/// (Adding a stage after that sets the pipeline running again, until it is joined.)
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", content = "detail", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Outcome {
    /// Threads are still running, or a stream has not been read to its end.
    Running,
    /// Every stage ended by itself, because its input ended or because its output was no longer needed, and no stream
    /// was cut.
    Completed,
    /// A part of it was cut (a source died, a child token was cancelled, a thread could not be started); the rest ended
    /// normally.
    Cut(StreamError),
    /// The sources were stopped by a drain; all items in flight were processed.
    Drained,
    /// It was cancelled; items in flight were abandoned.
    Cancelled(Cause),
}

/// A snapshot of a pipeline: the items that passed through each stage, and how its time was spent.
///
/// Times include the interval in progress, so a stage that has been blocked for an hour shows that hour.
///
/// `{}` prints a table of the stages, and what [limits the pace](Self::pace) of the pipeline. No line is longer than 80
/// columns: counts from ten million on are rounded to four digits and times to three, long names are shortened. `{:#}`
/// shortens and rounds nothing, and has more columns: rates per second, time asleep, and abandoned and undelivered
/// items. [`to_mermaid`](Self::to_mermaid) and [`to_dot`](Self::to_dot) draw it.
///
/// With the feature `serde` it can be serialized, with all its parts, and deserialized. Durations are numbers of
/// seconds, and their fields are named after the unit: `busy_seconds`. Outcomes and causes are objects with a `kind`
/// and, where there are details, a `detail`. See [`StreamError`] for errors. Latencies and ages are not deserialized,
/// and the cause of a cancellation loses its type: it becomes an error with the same text. Reports written by an
/// earlier version can be read: fields that it did not have are empty or zero. The `identity` of a stage is for
/// [`since`](Self::since).
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Report {
    /// The pipeline's name.
    pub name: Arc<str>,
    /// How it ended.
    pub outcome: Outcome,
    /// The time from the building of the pipeline to its end, or to now. It ends when its last thread ends, or the last
    /// sink on a thread of the caller.
    #[cfg_attr(feature = "serde", serde(rename = "elapsed_seconds", with = "crate::data::seconds"))]
    pub elapsed: Duration,
    /// The stages, in the order in which they were built.
    ///
    /// A pipeline that is used for one job after another does not keep them all. From the 256th stage on, stages that
    /// have ended are added to the row of an earlier one of the same given name and kind, with similar inputs; see
    /// [`merged`](StageReport::merged). These rows come first. So the report of a thousand similar jobs is as long as
    /// that of a few hundred stages.
    ///
    /// That holds also if each job gives its stages names of their own. When there are more than 256 rows, those of stages of the same
    /// kind, with inputs that are alike, are added up if their names differ only in words with digits, and if that is not enough,
    /// whatever their names are. Rows of names that came again are spared until there are 1,024. `import-17` and `import-18` become
    /// `import-*`: the row's name has a `*` where the names differ.
    pub stages: Vec<StageReport>,
    /// The messages of threads that died of a bug in this library. Normally empty.
    pub faults: Vec<String>,
}

/// One stage in a [`Report`].
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StageReport {
    /// The stage's name, unique in its pipeline.
    pub name: Arc<str>,
    /// What identifies the row in other reports of the pipeline.
    #[cfg_attr(feature = "serde", serde(default))]
    pub(super) identity: Identity,
    /// The number of later stages that have ended and are counted in this row, in addition to the one that gives it its
    /// name. Counts, times and items left in the outputs are then sums; `threads` is the largest number that any of the
    /// stages had.
    #[cfg_attr(feature = "serde", serde(default))]
    pub merged: u64,
    /// The kind of stage.
    pub kind: StageKind,
    /// The number of threads.
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
    /// Time spent working, summed over its threads. Time that a closure spends waiting outside this library, for a
    /// network or a lock, counts as work.
    #[cfg_attr(feature = "serde", serde(rename = "busy_seconds", with = "crate::data::seconds"))]
    pub busy: Duration,
    /// Time spent waiting for room, summed over its threads: in the output, or in
    /// [`Sender::send`](crate::Sender::send) in a closure.
    #[cfg_attr(feature = "serde", serde(rename = "blocked_seconds", with = "crate::data::seconds"))]
    pub blocked: Duration,
    /// The times of items in the stage, or of calls. `None` if the pipeline was not [configured to record
    /// it](crate::PipelineBuilder), with the feature `latency`, or if nothing has been measured yet.
    ///
    /// - *A pool*: from the moment a worker starts an item to its result, with all retries and their pauses. Every item
    ///   is measured.
    /// - *Another stage*: the time that its thread spends on an item, in all fused steps. This includes taking it from
    ///   the input, the closures, and handing over what they emit, but not a wait for input or for room. For operators
    ///   that hold items or emit many for one, such as batches, windows and flat maps, it is the time of the call that
    ///   receives the item.
    /// - *A source over an iterator*: the time that `next` takes to produce an item, waits included.
    /// - *A sink*: the time of its closure for an item. `collect`, `first`, iterators and
    ///   [`into_receiver`](crate::Stream::into_receiver) have no closure, and no latency.
    ///
    /// Failed items count; error items do not. A wait inside a closure, such as a sleep, is part of the time. Outside
    /// pools, if items take less than 5 µs, one in 64 is measured, and also counts for the 63 skipped before it. With a
    /// [`ManualClock`](crate::ManualClock) every item is measured.
    #[cfg_attr(feature = "serde", serde(skip_deserializing))]
    pub latency: Option<Latency>,
    /// The age of items when they leave the stage; for a sink, when it has processed them. `None` if the pipeline was
    /// not configured to record it, as for [`latency`](Self::latency).
    ///
    /// The age is the time since a source emitted the item, including waits in streams and for room. It is sampled:
    /// behind an item, and at most every 10 ms, a source sends a stamp, which passes a stage when all earlier items
    /// have been settled. So
    ///
    /// - the age is that of the slowest item up to the stamp: an unordered pool holds the stamp for it;
    /// - a batch holds stamps until its items leave, and a window until it closes. Then the age contains the time
    ///   during which the result was collected. An operator of your own holds them as it holds the marks of a
    ///   [delivery](crate::delivery);
    /// - a stage forwards the stamps of items that it removes. With several outputs, each output gets a copy, and with
    ///   several inputs, the stamps of all inputs are forwarded;
    /// - a source has at most 1,024 stamps in flight, and sends no more until some arrive. `count` is the number of
    ///   stamps.
    ///
    /// For a [`Sender`](crate::Sender), the age begins when the item is in the stream, after a wait for room; for
    /// [`from_receiver`](crate::Stream::from_receiver), when the item is taken from the channel. Items that a sink reads
    /// [inline](crate::Inline) from a source have no age.
    /// With a [`ManualClock`](crate::ManualClock) a stamp follows every item.
    ///
    /// To measure the age by a time that the items carry, add a step with `measure_age`. Then this is the age by that
    /// time.
    #[cfg_attr(feature = "serde", serde(skip_deserializing))]
    pub age: Option<Latency>,
    /// The number of its threads that are busy at this moment: they do not wait for anything that this library knows
    /// of.
    pub at_work: usize,
    /// The longest time for which one of those has been busy since its last wait.
    #[cfg_attr(feature = "serde", serde(rename = "at_work_for_seconds", with = "crate::data::seconds"))]
    pub at_work_for: Duration,
    /// The number of [`Sender`](crate::Sender)s that feed it, if it is a channel.
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
    /// The step's name; the stage's name if it is the only step.
    pub name: Arc<str>,
    /// Received items, not counting error items.
    pub received: u64,
    /// Emitted items, not counting error items. A batch is one item.
    pub emitted: u64,
    /// Received items that went into the output. For a step that makes one item of each, this equals `emitted`.
    pub delivered: u64,
    /// Received items that it removed because that is its purpose.
    pub filtered: u64,
    /// Received items that it turned into errors.
    pub failed: u64,
    /// Received items that it dropped, by reason; reasons that did not occur are left out.
    pub dropped: Vec<(DropReason, u64)>,
    /// Received items that it held when it was stopped.
    pub abandoned: u64,
    /// Received error items.
    pub errors_in: u64,
    /// Emitted error items: those forwarded and those it created.
    pub errors_out: u64,
    /// Error items that it received and did not emit: recovered from, or dropped for lack of room or of a consumer.
    pub errors_absorbed: u64,
    /// Calls without a result: they returned an error, panicked, timed out, or were refused, for example by a
    /// [`CircuitBreaker`](crate::CircuitBreaker). Every attempt counts. For a [`Restart`](crate::Restart), the failures
    /// of its source. Zero for other steps that make no [`Call`](crate::Call).
    ///
    /// If this exceeds the number of [`failed`](Self::failed) items, the step itself recovered from the others: with a
    /// [`Retry`](crate::Retry), a [`Fallback`](crate::Fallback) or [`combine`](crate::Combine).
    #[cfg_attr(feature = "serde", serde(default))]
    pub failed_calls: u64,
    /// Keys that a step with a state per key evicted because there were too many: their state, batch or window ended
    /// early. Zero for other steps. A growing number shows that `max_keys` is too small.
    #[cfg_attr(feature = "serde", serde(default))]
    pub evicted_keys: u64,
    /// Keys that it removed because they were not used within their time to live.
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
    /// Items that wait for the consumer, including error items. The marks of a [delivery](crate::delivery) are not
    /// counted, except, on the system clock, those that the consumer has taken together with items and not reached yet.
    pub queued: usize,
    /// The capacity: how many items may wait.
    pub capacity: usize,
    /// Data items that were emitted and never taken: because the consumer left, the stage was stopped, or others took
    /// their place (the oldest items of a subscriber, or those that an error item evicts from a
    /// [`SlidingBuffer`](crate::SlidingBuffer)).
    pub undelivered: u64,
    /// The time for which the stage has waited for room in it, including the wait in progress.
    #[cfg_attr(feature = "serde", serde(rename = "blocked_seconds", with = "crate::data::seconds"))]
    pub blocked: Duration,
    /// The stage, sink or consumer that reads it. `None` for a stream from which a caller has not yet received anything.
    pub reader: Option<Arc<str>>,
    /// Whether the stage, or a [`Sender`](crate::Sender) of a channel, waits for room in it at this moment. This shows
    /// a branch that is not read.
    pub is_blocking: bool,
}

impl CancelToken {
    /// Returns the statistics of each stage of the token's pipeline so far, for watching a pipeline while it runs.
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
        let row = |(stats, identity): (Arc<StageStats>, _)| StageReport { identity, ..StageReport::of(&stats, now) };
        stages.extend(listed.into_iter().map(row));
        Self {
            name: Arc::clone(scope.name()),
            outcome,
            elapsed: now.saturating_duration_since(scope.started()),
            stages,
            faults: scope.faults(),
        }
    }

    /// Items that were in a stage or in a stream when it was stopped, or are still in a stream that emits nothing more.
    pub(super) fn lost(&self) -> u64 {
        let left = |output: &OutputReport| output.undelivered + output.queued as u64;
        self.stages.iter().map(|stage| stage.abandoned() + stage.outputs.iter().map(left).sum::<u64>()).sum()
    }

    /// Returns whether the pipeline completed: not cancelled, not cut, not drained, not still running. A service that
    /// ends by a drain checks for [`Outcome::Drained`] instead.
    pub fn is_complete(&self) -> bool {
        matches!(self.outcome, Outcome::Completed)
    }

    /// Returns the stage with this name.
    pub fn stage(&self, name: &str) -> Option<&StageReport> {
        self.stages.iter().find(|stage| &*stage.name == name)
    }
}

impl StageReport {
    pub(super) fn of(stats: &StageStats, now: Instant) -> Self {
        // Read once, so that the times of a thread agree.
        let spent: Vec<_> = stats.threads.iter().map(|thread| thread.read(now)).collect();
        let sum = |time: fn(&Spent) -> Duration| spent.iter().map(time).sum();
        let at_work: Vec<_> = stats.threads.iter().filter_map(|thread| thread.working_for(now)).collect();
        Self {
            name: Arc::clone(&stats.name),
            identity: Identity::default(),
            kind: stats.kind,
            merged: 0,
            threads: stats.threads.len(),
            inputs: stats.inputs.lock().clone(),
            steps: stats.steps.iter().map(StepReport::of).collect(),
            idle: sum(|spent| spent.idle + spent.asleep),
            asleep: sum(|spent| spent.asleep),
            busy: sum(|spent| spent.busy),
            blocked: sum(|spent| spent.blocked + spent.blocked_elsewhere),
            latency: stats.recordings.times(),
            age: stats.recordings.ages(),
            at_work: at_work.len(),
            at_work_for: at_work.into_iter().max().unwrap_or_default(),
            senders: stats.senders.load(Ordering::Relaxed),
            outputs: OutputReport::all(stats, now),
        }
    }

    /// Returns the names of the outputs in which the stage waits for room at this moment.
    pub fn blocking(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().filter(|output| output.is_blocking).map(|output| &*output.name)
    }

    /// Returns the number of items that the first step received.
    pub fn received(&self) -> u64 {
        self.steps.first().map_or(0, |step| step.received)
    }

    /// Returns the number of items that the last step emitted.
    pub fn emitted(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.emitted)
    }

    /// Returns the number of items that any step turned into errors.
    pub fn failed(&self) -> u64 {
        sum(self.steps.iter().map(|step| step.failed))
    }

    /// Returns the number of calls without a result: see [`StepReport::failed_calls`].
    pub fn failed_calls(&self) -> u64 {
        sum(self.steps.iter().map(|step| step.failed_calls))
    }

    /// The failed calls, if there are more of them than failed items.
    pub(crate) fn hidden_failures(&self) -> Option<u64> {
        Some(self.failed_calls()).filter(|&calls| calls > self.failed())
    }

    /// Returns the number of items that any step removed on purpose or dropped.
    pub fn removed(&self) -> u64 {
        sum(self.steps.iter().map(|step| step.filtered.saturating_add(step.total_dropped())))
    }

    /// Returns the number of items that any step held when it was stopped.
    pub fn abandoned(&self) -> u64 {
        sum(self.steps.iter().map(|step| step.abandoned))
    }

    /// Returns the share of its threads' time that the stage was busy, 0.0 to 1.0. That is the time since its threads
    /// started, not since the pipeline was built.
    pub fn utilization(&self) -> f64 {
        self.share(self.busy)
    }

    /// The time in which its threads could not take the next item because they were occupied with one.
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

    /// Returns the number of items dropped for any reason.
    pub fn total_dropped(&self) -> u64 {
        sum(self.dropped.iter().map(|&(_, count)| count))
    }

    /// Returns the number of items it holds, according to the counters; 0 once the stage has ended.
    pub fn held(&self) -> u64 {
        self.received.saturating_sub(self.settled())
    }

    /// Returns whether every received item is accounted for exactly once.
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
            // The threads of the stage wait for its only output.
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

    /// A stage whose threads have each spent the given number of seconds in one phase after the other.
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
        // Time after the end of a thread does not count as its own.
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
    fn a_step_holds_its_unsettled_items() {
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
