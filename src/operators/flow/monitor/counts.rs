//! [`Counts`]: what the stage counts and the reporter reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::wait::Wake;
use crate::pipeline::stats::Counter;

/// What the stage counts and the reporter reads.
#[derive(Default)]
pub(super) struct Counts {
    /// Items that found room at once and told no age, ever. The stage is its only writer.
    pub(super) quick: Counter,
    /// Error items, ever. The stage is its only writer.
    pub(super) errors: Counter,
    pub(super) rest: Mutex<Rest>,
}

#[derive(Default)]
pub(super) struct Rest {
    /// Items that are not among the quick ones.
    pub(super) times: Times,
    pub(super) ages: Times,
    pub(super) waiting_since: Option<Instant>,
    /// The stage is over.
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

/// The stage's hold of the counts: tells the reporter when it is over.
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
