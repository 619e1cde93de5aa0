//! [`Recordings`]: the latencies that a stage has recorded.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Latencies;
use super::histograms::{Histograms, Recorder};
use crate::clock::Clock;
use crate::pipeline::latency::Latency;
use crate::pipeline::stats::StageKind;

/// The latencies that a stage has recorded, if it records any.
#[derive(Default)]
pub(crate) struct Recordings {
    pub(super) recorded: Option<Box<Recorded>>,
    /// By a time that the items carry. A step of the stage measures them, even if nothing else is recorded.
    carried_ages: OnceLock<Recorder>,
    /// Whether it is a source of a pipeline in which a stage may record the ages of items.
    sends_stamps: AtomicBool,
}

pub(super) struct Recorded {
    /// The times of items, by thread.
    pub(super) times: Box<[Recorder]>,
    /// The ages since a source emitted the items.
    ages: Recorder,
}

impl Recordings {
    /// For a stage with this number of threads and with these names.
    pub(in crate::pipeline) fn new(which: &Latencies, names: [&str; 2], threads: usize, kind: StageKind) -> Self {
        let recorded = || Recorded {
            times: (0..threads.max(1)).map(|_| Recorder::default()).collect(),
            ages: Recorder::default(),
        };
        Self {
            recorded: which.include(names).then(|| Box::new(recorded())),
            carried_ages: OnceLock::new(),
            sends_stamps: AtomicBool::new(which.are_wanted() && kind == StageKind::Source),
        }
    }

    /// The stage does the work of this source, which has no thread.
    pub(crate) fn act_for(&self, source: &Self) {
        // Before the thread of the stage is spawned, which is what makes it visible there.
        self.sends_stamps.store(source.sends_stamps(), Ordering::Relaxed);
    }

    pub(super) fn sends_stamps(&self) -> bool {
        self.sends_stamps.load(Ordering::Relaxed)
    }

    /// The start time of an item, if the stage records it; to be passed to [`finish`](Self::finish).
    #[inline]
    pub(crate) fn begin(&self, clock: &Clock) -> Option<Instant> {
        self.recorded.is_some().then(|| clock.now())
    }

    /// Records that a thread of the stage has processed the item that it started at `begun`.
    pub(crate) fn finish(&self, begun: Option<Instant>, thread: usize, clock: &Clock) {
        if let (Some(recorded), Some(begun)) = (&self.recorded, begun) {
            recorded.times[thread % recorded.times.len()].record(clock.now().saturating_duration_since(begun), 1);
        }
    }

    /// Records that a mark leaves the stage. If it is a stamp, this is when it was emitted.
    pub(crate) fn note_mark(&self, emitted: Option<Instant>, clock: &Clock) {
        if let (Some(recorded), Some(emitted)) = (&self.recorded, emitted) {
            recorded.ages.record(clock.now().saturating_duration_since(emitted), 1);
        }
    }

    /// Records the age of an item, by a time that it carries.
    pub(crate) fn note_age(&self, age: Duration) {
        self.carried_ages.get_or_init(Recorder::default).record(age, 1);
    }

    /// The distribution of the times of items.
    pub(in crate::pipeline) fn times(&self) -> Option<Latency> {
        Histograms::merged(&self.recorded.as_ref()?.times)?.latency()
    }

    /// The distribution of the ages of items.
    pub(in crate::pipeline) fn ages(&self) -> Option<Latency> {
        let ages = match self.carried_ages.get() {
            Some(ages) => ages,
            None => &self.recorded.as_ref()?.ages,
        };
        Histograms::merged(std::slice::from_ref(ages))?.latency()
    }
}
