//! Counters: what went in and out of each stage and step.
//!
//! Each counter has one writer at a time: the stage's one thread, or in a pool the holder of the lock under which the
//! counted event happens. So counting is a plain load and store, and readers may read at any time.
//!
//! The balance that holds for every step, at every moment between two calls of its operator:
//!
//! ```text
//! received = delivered + filtered + failed + dropped + abandoned + held
//! ```
//!
//! where *delivered* counts items that went into the output (for a batcher the items in the batches, not the batches;
//! those are *emitted*), and *held* is the operator's own count of the items it holds. Forwarded error items are
//! counted separately, as *passed errors*; an error that the step itself makes of an item counts as *failed*.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::recording::{Latencies, Recordings};
use super::report::InputReport;
use super::striped::Striped;
use super::timing::Timing;
use crate::edge::Gauge;

/// A counter, which any thread may read.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// For a counter that has one writer at a time.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        // One writer: no update can come between the load and the store. Readers need no ordering.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// For a counter that several threads write.
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// Why a stage dropped an item that it could have forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum DropReason {
    /// A buffer was full, and its policy was to drop rather than to wait.
    Overflow,
    /// The branch it was meant for no longer exists.
    Undeliverable,
    /// A newer item replaced it.
    Superseded,
    /// It exceeded a rate.
    RateLimited,
    /// No route matched it.
    Unmatched,
}

impl DropReason {
    pub(crate) const ALL: [Self; 5] =
        [Self::Overflow, Self::Undeliverable, Self::Superseded, Self::RateLimited, Self::Unmatched];

    /// Returns the reason in words: `rate limited`, for example.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Undeliverable => "undeliverable",
            Self::Superseded => "superseded",
            Self::RateLimited => "rate limited",
            Self::Unmatched => "unmatched",
        }
    }
}

/// The counters of one step: a stage has one step, or several if it was fused.
pub(crate) struct StepStats {
    pub(crate) name: Arc<str>,
    pub(crate) received: Counter,
    pub(crate) emitted: Counter,
    pub(crate) delivered: Counter,
    pub(crate) filtered: Counter,
    pub(crate) failed: Counter,
    pub(crate) dropped: [Counter; DropReason::ALL.len()],
    pub(crate) abandoned: Counter,
    pub(crate) errors_in: Counter,
    pub(crate) errors_out: Counter,
    pub(crate) errors_absorbed: Counter,
    /// Written by all threads that make calls for the stage; not part of the balance.
    pub(crate) failed_calls: Striped,
    /// Not part of the balance, nor is the next.
    pub(crate) evicted_keys: Counter,
    pub(crate) expired_keys: Counter,
    /// The number of panics in a row without progress, and the progress until then.
    futile: Counter,
    done: Counter,
}

/// The number of panics in a row without any progress after which an operator counts as stuck.
const PATIENCE: u64 = 16;

impl StepStats {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            received: Counter::default(),
            emitted: Counter::default(),
            delivered: Counter::default(),
            filtered: Counter::default(),
            failed: Counter::default(),
            dropped: Default::default(),
            abandoned: Counter::default(),
            errors_in: Counter::default(),
            errors_out: Counter::default(),
            errors_absorbed: Counter::default(),
            failed_calls: Striped::default(),
            evicted_keys: Counter::default(),
            expired_keys: Counter::default(),
            futile: Counter::default(),
            done: Counter::default(),
        }
    }

    /// The visible progress of the operator of the step: grows with everything it emits or settles.
    fn progress(&self) -> u64 {
        let settled = self.received.get().wrapping_sub(self.unsettled());
        settled.wrapping_add(self.emitted.get()).wrapping_add(self.errors_out.get())
    }

    /// Notes a panic, before its error item is counted. Returns false if the operator is stuck.
    pub(crate) fn may_go_on(&self) -> bool {
        let done = self.progress();
        if done == self.done.get() {
            self.futile.add(1);
        } else {
            self.futile.set(1);
        }
        // The error item of this panic is counted next, and is no progress.
        self.done.set(done.wrapping_add(1));
        self.futile.get() < PATIENCE
    }

    /// The number of items that the step must hold, according to the balance.
    pub(crate) fn unsettled(&self) -> u64 {
        self.received.get().wrapping_sub(self.settled())
    }

    fn settled(&self) -> u64 {
        let dropped: u64 = self.dropped.iter().map(Counter::get).sum();
        self.delivered.get() + self.filtered.get() + self.failed.get() + dropped + self.abandoned.get()
    }

    /// Panics if the operator does not account for each item once.
    pub(crate) fn check(&self, held: u64) {
        if self.unsettled() != held {
            self.unbalanced(held);
        }
    }

    #[cold]
    fn unbalanced(&self, held: u64) {
        let (name, received, settled) = (&self.name, self.received.get(), self.settled());
        let difference = i128::from(settled) + i128::from(held) - i128::from(received);
        let cure = if difference < 0 {
            "return what it still has from `held`, and settle the rest with `emit_from`, `filtered`, `dropped` or `failed`"
        } else {
            "settle an item once: `emit` settles one, `emit_from(item, 0)` none, and a settled item is no longer `held`"
        };
        panic!(
            "step `{name}` miscounts: it received {received}, settled {settled} and holds {held}, \
             which is {difference:+}; {cure}"
        );
    }
}

/// How a stage handles items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum StageKind {
    /// Produces items.
    Source,
    /// Takes items and emits items.
    Processor,
    /// Takes items and emits none: `for_each`, `collect`, `fold` and the like.
    Sink,
    /// Code outside the library that takes items one by one, with [`recv`](crate::Stream::recv) or from an
    /// [iterator](crate::IntoIter). It is idle during a call that waits, and busy between two calls.
    Consumer,
    /// Work on a thread of the pipeline that has no items of its own: [`spawn`](crate::CancelToken::spawn),
    /// [`every`](crate::CancelToken::every).
    Task,
}

/// One output of a stage.
#[derive(Clone)]
pub(crate) struct OutputStats {
    /// Empty if it is the only one.
    pub(crate) name: Arc<str>,
    pub(crate) gauge: Arc<Gauge>,
    /// The time that the stage waited for room in it; only for stages with several outputs.
    pub(crate) waits: Arc<Timing>,
}

/// The live statistics of one stage.
#[allow(missing_debug_implementations, unnameable_types)] // only an argument of a hidden method of `Operator`
pub struct StageStats {
    pub(crate) name: Arc<str>,
    /// Without the number that makes it unique.
    pub(crate) given_name: Arc<str>,
    pub(crate) kind: StageKind,
    pub(crate) steps: Box<[StepStats]>,
    pub(crate) threads: Box<[Timing]>,
    /// The outputs that it reads.
    pub(crate) inputs: Mutex<Vec<InputReport>>,
    pub(crate) outputs: Mutex<Vec<OutputStats>>,
    /// The number of senders of a channel.
    pub(crate) senders: AtomicUsize,
    /// How many of them wait for room.
    pub(crate) blocked_senders: AtomicUsize,
    pub(crate) recordings: Recordings,
}

impl StageStats {
    /// For outputs of one name that come and go: adds one that stands for those that have gone. Waits of the stage for
    /// any of them are recorded in the returned timing.
    pub(crate) fn open_outputs(&self, name: &str) -> Arc<Timing> {
        let waits = Arc::new(Timing::new());
        self.outputs.lock().push(OutputStats { name: name.into(), gauge: Arc::default(), waits: Arc::clone(&waits) });
        waits
    }

    /// Sums up those outputs that have gone.
    pub(crate) fn sum_up_outputs(&self, name: &str) {
        let mut outputs = self.outputs.lock();
        let Some(sum) = outputs.iter().position(|output| *output.name == *name) else { return };
        let has_gone = |output: &mut OutputStats| *output.name == *name && Arc::get_mut(&mut output.gauge).is_some();
        let gone: Vec<_> = outputs.extract_if(sum + 1.., has_gone).collect();
        let lost = gone.iter().map(|output| output.gauge.undelivered.load(Ordering::Relaxed)).sum();
        outputs[sum].gauge.undelivered.fetch_add(lost, Ordering::Relaxed);
    }

    pub(crate) fn new(name: Arc<str>, kind: StageKind, steps: &[Arc<str>], threads: usize) -> Self {
        Self {
            given_name: Arc::clone(&name),
            name,
            kind,
            steps: steps.iter().map(|step| StepStats::new(Arc::clone(step))).collect(),
            threads: (0..threads).map(|_| Timing::new()).collect(),
            inputs: Mutex::default(),
            outputs: Mutex::default(),
            senders: AtomicUsize::new(0),
            blocked_senders: AtomicUsize::new(0),
            recordings: Recordings::default(),
        }
    }

    /// For a stage that was given this name, with the latencies that the pipeline records for it.
    pub(super) fn given(self, name: &str, which: &Latencies) -> Self {
        let recordings = Recordings::new(which, [name, &self.name], self.threads.len(), self.kind);
        Self { given_name: name.into(), recordings, ..self }
    }

    /// Whether it has been built: it runs, or it is a source without a thread that has its output, or runs on that of its
    /// reader.
    pub(super) fn has_begun(&self) -> bool {
        self.threads.iter().any(Timing::has_started)
            || self.threads.is_empty() && (self.steps[0].emitted.get() > 0 || !self.outputs.lock().is_empty())
    }

    /// Grows with each panic that leaves an operator stuck.
    pub(crate) fn futile(&self) -> u64 {
        self.steps.iter().map(|step| step.futile.get().saturating_sub(PATIENCE - 1)).sum()
    }

    /// The step in which an error happened, if that is more specific than the stage's name.
    pub(crate) fn step_name(&self, step: usize) -> Option<Arc<str>> {
        (self.steps.len() > 1).then(|| Arc::clone(&self.steps[step].name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_neither_forwarded_nor_lost_are_unsettled() {
        let step = StepStats::new("step".into());
        step.received.add(100_000);
        step.emitted.add(9);
        for (counter, count) in
            [(&step.delivered, 1), (&step.filtered, 20), (&step.failed, 300), (&step.abandoned, 4_000)]
        {
            counter.add(count);
        }
        step.dropped.iter().for_each(|reason| reason.add(10_000));
        assert_eq!(step.unsettled(), 45_679);
    }

    #[test]
    fn a_miscount_is_a_signed_number_with_its_cure() {
        let message = |received, delivered, held| {
            let step = StepStats::new("step".into());
            step.received.add(received);
            step.delivered.add(delivered);
            crate::panic::catch(|| step.check(held)).map_err(|panic| panic.message().to_owned())
        };
        assert_eq!(message(5, 3, 2), Ok(()));
        let few = message(5, 3, 0).unwrap_err();
        assert!(few.contains("received 5, settled 3 and holds 0, which is -2; return what it still has"), "{few}");
        let many = message(0, 1, 2).unwrap_err();
        assert!(many.contains("received 0, settled 1 and holds 2, which is +3; settle an item once"), "{many}");
    }

    /// Everything it settles or emits in between is progress; the error item of a panic is not.
    #[test]
    fn an_operator_is_stuck_after_sixteen_panics_without_progress() {
        let step = StepStats::new("step".into());
        let panic = || {
            let goes_on = step.may_go_on();
            step.errors_out.add(1);
            goes_on
        };
        let does: [fn(&StepStats); 4] = [
            |_| {},
            |step| step.emitted.add(1),
            |step| step.errors_out.add(1),
            |step| {
                step.received.add(1);
                step.failed.add(1);
            },
        ];
        for progress in does {
            progress(&step);
            let in_a_row = std::iter::from_fn(|| panic().then_some(())).count() as u64;
            assert_eq!(in_a_row, PATIENCE - 1);
        }
    }
}
