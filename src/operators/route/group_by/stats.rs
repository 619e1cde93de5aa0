//! [`GroupByStats`]: the number of groups, and how they ended.

use std::sync::Arc;

use crate::operators::options::live_debug;
use crate::pipeline::stats::Counter;

/// Live statistics of a [`GroupBy`](crate::GroupBy), across all its runs; made by [`GroupBy::stats`](crate::GroupBy::stats). Clones
/// show the same numbers.
#[derive(Clone, Default)]
pub struct GroupByStats(Arc<Counts>);

#[derive(Default)]
pub(super) struct Counts {
    pub(super) started: Counter,
    pub(super) removed: Counter,
    pub(super) expired: Counter,
    pub(super) evicted: Counter,
    pub(super) rejected: Counter,
}

impl GroupByStats {
    /// Returns the number of groups that have been started.
    pub fn started(&self) -> u64 {
        self.0.started.get()
    }

    /// Returns the number of groups there are now. Those that are ending count until their output has drained; those
    /// that ended by themselves, until their place is needed.
    pub fn live(&self) -> u64 {
        // Removed first: it is never ahead of a `started` that is read after it.
        let removed = self.0.removed.get();
        self.started().saturating_sub(removed)
    }

    /// Returns the number of groups that were ended because they were idle.
    pub fn expired(&self) -> u64 {
        self.0.expired.get()
    }

    /// Returns the number of groups that were ended to make room for another key.
    pub fn evicted(&self) -> u64 {
        self.0.evicted.get()
    }

    /// Returns the number of items that became errors because there were too many groups.
    pub fn rejected(&self) -> u64 {
        self.0.rejected.get()
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.0)
    }
}

live_debug! { GroupByStats: started, live, expired, evicted, rejected }
