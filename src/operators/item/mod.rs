//! Operators that process one item at a time.
//!
//! An item that is not forwarded is dropped before it is counted: if its drop panics, it fails, because it is not
//! settled yet.

pub(super) mod enumerate;
pub(super) mod filter_map;
pub(super) mod flat_map;
pub(super) mod flatten;
pub(super) mod keyed_scan;
pub(super) mod map;
pub(super) mod scan;

mod chance;
pub(super) mod dedupe;
pub(super) mod filter;
pub(super) mod sample;
pub(super) mod skip;
pub(super) mod skip_while;
pub(super) mod take;
pub(super) mod take_while;

pub(super) mod tap;

#[cfg(feature = "latency")]
pub(super) mod age_meter;

pub(super) mod lift;
pub(super) mod map_err;
pub(super) mod recover;
pub(super) mod try_map;

#[cfg(feature = "latency")]
pub use age_meter::AgeMeter;
pub use dedupe::{Dedupe, DedupeStats};
pub use enumerate::Enumerate;
pub use filter::Filter;
pub use filter_map::FilterMap;
pub use flat_map::FlatMap;
pub use flatten::{Flatten, Unbatcher};
pub use keyed_scan::{KeyedScan, KeyedScanStats, Removal};
pub use lift::Lift;
pub use map::Mapper;
pub use map_err::MapErr;
pub use recover::Recover;
pub use sample::Sample;
pub use scan::Scan;
pub use skip::Skip;
pub use skip_while::SkipWhile;
pub use take::Take;
pub use take_while::TakeWhile;
pub use tap::{Tap, TapStats};
pub use try_map::FallibleMapper;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, Processor, Stage, StreamError};

    /// Panics when it is dropped, if it is 2.
    struct Touchy(u32);

    impl Drop for Touchy {
        fn drop(&mut self) {
            assert!(self.0 != 2, "dropped");
        }
    }

    /// The results for 1, 2 and 3; `None` for a panic. Followed by a step that counts, too.
    #[track_caller]
    fn outputs<S: Stage<In = Touchy>>(stage: S, number: fn(S::Out) -> u32) -> Vec<Option<u32>> {
        let mut run = Harness::new(&stage.fuse(Mapper::new(number)));
        for n in 1..=3 {
            if !run.is_finished() {
                run.item(Touchy(n));
            }
        }
        assert!(run.steps().iter().all(|step| step.balances()));
        assert_eq!((run.steps()[0].failed, run.steps()[1].failed), (1, 0));
        let outputs = run.outputs().into_iter();
        outputs.map(|output| output.map_err(|error| assert_eq!(error.kind(), ErrorKind::Panicked)).ok()).collect()
    }

    #[test]
    fn an_item_that_panics_when_dropped_fails_and_nothing_else_does() {
        let number = |item: Touchy| item.0;
        assert_eq!(outputs(Filter::new(|item: &Touchy| item.0 != 2), number), [Some(1), None, Some(3)]);
        assert_eq!(outputs(Mapper::fallible(|item: &Touchy| crate::ok(item.0)), |n| n), [Some(1), None, Some(3)]);
        assert_eq!(outputs(Skip::new(2), number), [None, Some(3)]);
        assert_eq!(outputs(SkipWhile::new(|item: &Touchy| item.0 < 3), number), [None, Some(3)]);
        assert_eq!(outputs(Sample::new(0.0), number), [None]);
        assert_eq!(outputs(Dedupe::new(|_: &Touchy| ()), number), [Some(1), None]);
        assert_eq!(outputs(TakeWhile::new(|item: &Touchy| item.0 < 2), number), [Some(1), None]);
    }

    #[test]
    fn an_error_whose_item_panics_when_dropped_stays_one_error() {
        let mut run = Harness::new(&Recover::new(|_| Some(Touchy(1))).fuse(Mapper::new(|item: Touchy| item.0)));
        run.error(StreamError::new(ErrorKind::Failed, "before").with_item(Touchy(2)));
        let outputs = run.outputs();
        assert_eq!(outputs.len(), 1);
        assert_eq!(outputs[0].as_ref().unwrap_err().kind(), ErrorKind::Panicked);
        let steps = run.steps();
        assert_eq!((steps[0].errors_in, steps[0].errors_out, steps[0].errors_absorbed), (1, 1, 0));
        assert_eq!((steps[1].received, steps[1].failed), (0, 0));
    }
}
