//! [`Runs`]: the merge inputs from which the items in a pool come, if results are emitted as they are finished.
//!
//! In order, a label (see `stage/origins.rs`) keeps its place among the results. Otherwise it says nothing about the
//! results behind it. Then the pool notes the numbers to which it applies, and emits a label of its own before each
//! result whose origin differs from that of the previous one.
//!
//! # Invariants
//!
//! 1. A run begins with the number of its label and ends before that of the next. All its numbers are taken after the
//!    label, under the input lock, so the worker that completes one finds the run.
//! 2. Each number is completed once. A run is removed when all its numbers have been completed and the next run has
//!    started; so there are hardly more runs than items in the pool.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

#[derive(Default)]
pub(super) struct Runs(BTreeMap<u64, Run>);

struct Run {
    origin: Option<usize>,
    completed: u64,
}

impl Runs {
    /// Numbers greater than that of this label come from that origin.
    pub(super) fn begin(&mut self, number: u64, origin: Option<usize>) {
        let last = self.0.last_key_value().map(|(first, run)| (*first, run.completed));
        if let Some((first, completed)) = last
            && completed == number - first
        {
            self.0.remove(&first);
        }
        self.0.insert(number, Run { origin, completed: 0 });
    }

    /// An item has been completed. Returns its origin.
    pub(super) fn complete(&mut self, number: u64) -> Option<usize> {
        let (&first, run) = self.0.range_mut(..=number).next_back()?;
        run.completed += 1;
        let (origin, completed) = (run.origin, run.completed);
        let next = self.0.range((Excluded(first), Unbounded)).next();
        if next.is_some_and(|(next, _)| completed == next - first) {
            self.0.remove(&first);
        }
        origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_completed_in_any_order_keep_their_origin() {
        let mut runs = Runs::default();
        assert_eq!(runs.complete(0), None);
        runs.begin(1, Some(7));
        assert_eq!((runs.complete(3), runs.complete(1)), (Some(7), Some(7)));
        runs.begin(4, Some(8));
        runs.begin(6, None);
        assert_eq!((runs.complete(7), runs.complete(5), runs.complete(2)), (None, Some(8), Some(7)));
        assert_eq!(runs.complete(4), Some(8));
    }

    #[test]
    fn a_finished_run_is_forgotten() {
        let mut runs = Runs::default();
        for number in (0..100).step_by(2) {
            runs.begin(number, Some(0));
            runs.complete(number + 1);
            assert!(runs.0.len() <= 2);
            runs.complete(number);
        }
        assert_eq!(runs.0.len(), 1);
    }
}
