//! [`Counts`]: written by the stage and read by the reporter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::wait::Wake;
use crate::pipeline::stats::Counter;

/// The counts that the stage writes and the reporter reads.
#[derive(Default)]
pub(super) struct Counts {
    /// The total of items that found room at once and had no age. Written only by the stage.
    pub(super) quick: Counter,
    /// The total of error items. Written only by the stage.
    pub(super) errors: Counter,
    pub(super) rest: Mutex<Rest>,
}

#[derive(Default)]
pub(super) struct Rest {
    /// All other items.
    pub(super) times: Times,
    pub(super) ages: Times,
    pub(super) waiting_since: Option<Instant>,
    /// The stage has ended.
    pub(super) ended: bool,
    pub(super) reporter: Option<Arc<Wake>>,
}

/// A number of times, since they were last taken.
#[derive(Default)]
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) sum: Duration,
    pub(super) least: Duration,
    pub(super) most: Duration,
}

impl Times {
    pub(super) fn note(&mut self, time: Duration) {
        self.least = if self.count == 0 { time } else { self.least.min(time) };
        self.most = self.most.max(time);
        self.sum = self.sum.saturating_add(time);
        self.count += 1;
    }
}

/// The stage's reference to the counts: notifies the reporter when the stage ends.
pub(super) struct Ended(pub(super) Arc<Counts>);

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
