//! [`RouteStats`]: the statistics of a router or a switch.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::counts::{Runs, Sum, WaySum, share};

/// The counts of a [`Router`](crate::Router) or [`Switch`](crate::Switch), live: of one run, or of all. Clones show the same.
///
/// Counts are brought up to date with every chunk that is handed over, and before the router waits.
#[derive(Clone)]
pub struct RouteStats {
    names: Arc<[Arc<str>]>,
    runs: Runs,
}

impl RouteStats {
    pub(super) fn new(names: Vec<Arc<str>>, runs: Runs) -> Self {
        Self { names: names.into(), runs }
    }

    fn sum(&self) -> Sum {
        self.runs.sum(self.names.len())
    }

    #[track_caller]
    fn way(&self, name: &str) -> (Sum, WaySum) {
        let Some(index) = self.names.iter().position(|route| **route == *name) else {
            panic!("there is no route `{name}`; the routes are {:?}", self.names);
        };
        let sum = self.sum();
        let way = sum.ways[index].clone();
        (sum, way)
    }

    /// The names of the routes, in order, the default last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// All items that came; errors are not among them.
    pub fn total_items(&self) -> u64 {
        self.sum().received
    }

    /// Items that matched no route and were dropped, because there is no default.
    pub fn unmatched(&self) -> u64 {
        self.sum().unmatched
    }

    /// Items on which a predicate panicked.
    pub fn failed(&self) -> u64 {
        self.sum().failed
    }

    /// Items that went to the route of that name.
    ///
    /// # Panics
    /// If there is no such route.
    #[track_caller]
    pub fn items(&self, name: &str) -> u64 {
        self.way(name).1.items
    }

    /// The share of all items that went to the route of that name, 0.0 to 1.0; 0.0 before anything came.
    ///
    /// # Panics
    /// If there is no such route.
    #[track_caller]
    pub fn match_rate(&self, name: &str) -> f64 {
        let (sum, way) = self.way(name);
        share(way.items, sum.received)
    }

    /// Items for the route of that name that its processor will not see, because it had ended, or everything was stopped.
    ///
    /// # Panics
    /// If there is no such route.
    #[track_caller]
    pub fn undeliverable(&self, name: &str) -> u64 {
        self.way(name).1.undeliverable
    }

    /// How long the router has waited for room in the route of that name, the wait in progress included.
    ///
    /// # Panics
    /// If there is no such route.
    #[track_caller]
    pub fn blocked(&self, name: &str) -> Duration {
        self.way(name).1.blocked
    }

    /// The routes in which the router waits for room at this moment.
    pub fn blocking(&self) -> Vec<&str> {
        let ways = self.sum().ways.into_iter();
        ways.zip(self.names()).filter(|(way, _)| way.is_blocking).map(|(_, name)| name).collect()
    }
}

impl fmt::Debug for RouteStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.sum();
        let routes: Vec<(&str, u64)> = self.names().zip(sum.ways.iter().map(|way| way.items)).collect();
        f.debug_struct("RouteStats")
            .field("total_items", &sum.received)
            .field("unmatched", &sum.unmatched)
            .field("failed", &sum.failed)
            .field("routes", &routes)
            .finish_non_exhaustive()
    }
}
