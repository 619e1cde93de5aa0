//! The counts that a stage with several outputs keeps for each of them.
//!
//! Counters belong to a run, and only the run's thread writes them. A handle over all runs of a processor adds them up;
//! a finished run whose numbers are final is folded into one sum, so handles do not grow with the runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::edge::Gauge;
use crate::pipeline::stats::Counter;
use crate::pipeline::timing::Timing;

/// The counts of one run.
pub(super) struct Counts {
    pub(super) received: Counter,
    pub(super) unmatched: Counter,
    pub(super) failed: Counter,
    pub(super) ways: Box<[WayCounts]>,
    pub(super) clock: Clock,
}

/// The counts of one output.
pub(super) struct WayCounts {
    /// Items that were sent.
    pub(super) sent: Counter,
    /// Items that were not, because the reader had left.
    pub(super) lost: Counter,
    /// Knows the items in it when the reader left.
    pub(super) gauge: Arc<Gauge>,
    pub(super) waits: Arc<Timing>,
}

/// The sum over some runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum {
    pub(super) received: u64,
    pub(super) unmatched: u64,
    pub(super) failed: u64,
    pub(super) ways: Vec<WaySum>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct WaySum {
    /// Items that were meant for it.
    pub(super) items: u64,
    /// Those among them that were never read.
    pub(super) undeliverable: u64,
    pub(super) blocked: Duration,
    pub(super) is_blocking: bool,
}

/// The counts of a run, or of all runs of a processor. Clones show the same.
#[derive(Clone, Default)]
pub(super) struct Runs(Arc<Mutex<(Sum, Vec<Arc<Counts>>)>>);

impl Runs {
    pub(super) fn of(run: &Arc<Counts>) -> Self {
        Self(Arc::new(Mutex::new((Sum::default(), vec![Arc::clone(run)]))))
    }

    pub(super) fn add(&self, run: &Arc<Counts>) {
        let mut state = self.0.lock();
        let (sum, runs) = &mut *state;
        for over in runs.extract_if(.., |run| run.is_over()) {
            sum.add(&over);
        }
        runs.push(Arc::clone(run));
    }

    /// The sum for a processor that has `ways` outputs.
    pub(super) fn sum(&self, ways: usize) -> Sum {
        let state = self.0.lock();
        let (sum, runs) = &*state;
        let mut sum = sum.clone();
        runs.iter().for_each(|run| sum.add(run));
        sum.ways.resize(ways.max(sum.ways.len()), WaySum::default());
        sum
    }
}

impl Counts {
    /// Whether nothing will change any more: the stage has ended, and no item is in flight.
    fn is_over(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1 && self.ways.iter().all(|way| way.gauge.len() == 0)
    }
}

impl Sum {
    fn add(&mut self, run: &Counts) {
        self.received += run.received.get();
        self.unmatched += run.unmatched.get();
        self.failed += run.failed.get();
        self.ways.resize(run.ways.len().max(self.ways.len()), WaySum::default());
        for (sum, way) in self.ways.iter_mut().zip(&run.ways) {
            let lost = way.lost.get();
            sum.items += way.sent.get() + lost;
            sum.undeliverable += lost + way.gauge.undelivered.load(Ordering::Relaxed);
            sum.blocked += way.waits.read(run.clock.now()).blocked;
            sum.is_blocking |= way.waits.is_blocked();
        }
    }
}

/// `part` of `whole`, 0.0 if that is nothing.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
