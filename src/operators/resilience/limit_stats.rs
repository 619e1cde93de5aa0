//! [`LimitStats`]: the statistics of a layer that limits calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::occupancy::{Occupancy, Occupant};
use crate::operators::options::live_debug;
use crate::pipeline::CancelToken;
use crate::pipeline::stats::Counter;

/// Live statistics of a [`RateLimit`](crate::RateLimit) or a [`Bulkhead`](crate::Bulkhead). Clones show the same
/// numbers.
///
/// The counts cover all runs and clones of the layer, as its limit does. Each method reads one count at the time of the
/// call, so several of them are not a snapshot.
///
/// A call is admitted at once, or it waits and is then admitted, rejected or cancelled, or it is rejected at once.
#[derive(Clone, Default)]
pub struct LimitStats {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    admitted: Counter,
    rejected: Counter,
    in_progress: Occupancy,
    waiting: Occupancy,
    delayed: Counter,
    /// Nanoseconds.
    waited: Counter,
    keys: AtomicU64,
}

impl LimitStats {
    /// Returns the number of calls that were made, including those in progress.
    pub fn admitted(&self) -> u64 {
        self.counts.admitted.get()
    }

    /// Returns the number of calls that were [rejected](crate::ErrorKind::Rejected) instead of being made.
    pub fn rejected(&self) -> u64 {
        self.counts.rejected.get()
    }

    /// Returns the number of calls in progress.
    pub fn in_progress(&self) -> u64 {
        self.counts.in_progress.get()
    }

    /// Returns the number of calls that are waiting to be admitted.
    pub fn waiting(&self) -> u64 {
        self.counts.waiting.get()
    }

    /// Returns the number of calls that have waited. Those that are still waiting do not count yet.
    pub fn delayed(&self) -> u64 {
        self.counts.delayed.get()
    }

    /// Returns the total time that these calls have waited. Divided by [`delayed`](Self::delayed), it is the mean wait.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.counts.waited.get())
    }

    /// Returns the number of keys in the table of the layer, as of its last call: those whose limit is in use. Without
    /// keys, it is 1 or 0.
    pub fn keys(&self) -> u64 {
        self.counts.keys.load(Ordering::Relaxed)
    }

    /// A call is made: it is in progress until the guard is dropped.
    pub(super) fn admit(&self) -> Occupant<'_> {
        self.counts.admitted.add_shared(1);
        self.counts.in_progress.enter()
    }

    pub(super) fn reject(&self) {
        self.counts.rejected.add_shared(1);
    }

    /// A call waits until the guard is dropped.
    pub(super) fn wait<'a>(&'a self, cancel: &'a CancelToken) -> Wait<'a> {
        Wait { counts: &self.counts, cancel, since: cancel.now(), _waiting: self.counts.waiting.enter() }
    }

    /// Must be called under the lock of the table.
    pub(super) fn set_keys(&self, keys: usize) {
        self.counts.keys.store(keys as u64, Ordering::Relaxed);
    }
}

/// A call that waits.
pub(super) struct Wait<'a> {
    counts: &'a Counts,
    cancel: &'a CancelToken,
    since: Instant,
    _waiting: Occupant<'a>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waited = self.cancel.now().saturating_duration_since(self.since);
        self.counts.delayed.add_shared(1);
        self.counts.waited.add_shared(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
    }
}

live_debug! { LimitStats: admitted, rejected, in_progress, waiting, delayed, waited, keys }
