//! [`RouteStats`]: the statistics of a router or a switch.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::counts::{Runs, Sum, WaySum, share};

/// Live statistics of a [`Router`](crate::Router) or [`Switch`](crate::Switch), of one run or of all. Clones show the
/// same numbers.
///
/// Counts are updated with every chunk that is handed over, and before the router waits.
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

    /// Returns the names of the routes, in order, the default last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// Returns the number of items that arrived, without error items.
    pub fn total_items(&self) -> u64 {
        self.sum().received
    }

    /// Returns the number of items that matched no route and were dropped, because there is no default.
    pub fn unmatched(&self) -> u64 {
        self.sum().unmatched
    }

    /// Returns the number of items on which a predicate panicked.
    pub fn failed(&self) -> u64 {
        self.sum().failed
    }

    /// Returns the number of items that went to the named route.
    ///
    /// # Panics
    /// If there is no such route.
    #[track_caller]
    pub fn items(&self, name: &str) -> u64 {
        self.way(name).1.items
    }

    /// Returns the share of all items that went to the named route, 0.0 to 1.0; 0.0 before the first item.
    ///
    /// # Panics
    /// If there is no such route.
    #[track_caller]
    pub fn match_rate(&self, name: &str) -> f64 {
        let (sum, way) = self.way(name);
        share(way.items, sum.received)
    }

    /// Returns the number of items for the named route that its processor never received, because it had ended or
    /// everything was stopped.
    ///
    /// # Panics
    /// If there is no such route.
    #[track_caller]
    pub fn undeliverable(&self, name: &str) -> u64 {
        self.way(name).1.undeliverable
    }

    /// Returns how long the router has waited for room in the named route, including the wait in progress.
    ///
    /// # Panics
    /// If there is no such route.
    #[track_caller]
    pub fn blocked(&self, name: &str) -> Duration {
        self.way(name).1.blocked
    }

    /// Returns the routes in which the router is waiting for room at this moment.
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
