//! [`approx_count_distinct`]: the approximate number of keys.

use std::hash::Hash;

use datasketches::hll::{HllSketch, HllType, HllUnion};

use super::fold::Fold;

/// Estimates the number of different keys in a fixed amount of memory, however many there are. Requires the feature
/// `sketches`.
///
/// The room is 2<sup>`precision`</sup> bytes, and the standard error 1.04 divided by the square root of that number: two
/// estimates of three are off by no more than that, and nineteen of twenty by no more than twice as much.
///
/// | precision | memory | standard error |
/// |---|---|---|
/// | 10 | 1 KiB | 3.3 % |
/// | 12 | 4 KiB | 1.6 % |
/// | 14 | 16 KiB | 0.8 % |
/// | 16 | 64 KiB | 0.4 % |
///
/// While there are few keys, memory is less and the estimate is nearly exact. The same keys give the same estimate in
/// every run: the hash has no random seed, so an attacker who chooses the keys can distort it. For an exact number, use
/// [`count_distinct`](super::count_distinct).
///
/// # Source
/// HyperLogLog by P. Flajolet and others (2007), in the implementation of [Apache
/// DataSketches](https://datasketches.apache.org). The error is the same after the parts of overlapping windows are merged.
///
/// # Panics
/// If `precision` is not in `4..=21`.
///
/// ```
/// use streamz::{Pipeline, Stream, folds};
///
/// let pipeline = Pipeline::new("visits");
/// let users = (0..100_000).map(|visit| visit % 20_000);
/// let distinct = folds::approx_count_distinct(14, |user: &u32| *user);
/// let count = Stream::from_iter(&pipeline, users).fold_by(distinct)?;
/// assert!((19_500..20_500).contains(&count));
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[track_caller]
#[doc(alias("hyperloglog", "hll", "cardinality", "approx_distinct"))]
pub fn approx_count_distinct<T, K: Hash>(
    precision: u8,
    key: impl Fn(&T) -> K + Send + Sync + 'static,
) -> impl Fold<T, Result = u64> {
    assert!((4..=21).contains(&precision), "`precision` must be from 4 to 21");
    ApproxDistinct { precision, key }
}

struct ApproxDistinct<F> {
    precision: u8,
    key: F,
}

/// One byte per register: the fastest type, and the one that is merged without conversion.
const REGISTERS: HllType = HllType::Hll8;

impl<T, K: Hash, F: Fn(&T) -> K + Send + Sync + 'static> Fold<T> for ApproxDistinct<F> {
    type State = HllSketch;
    type Result = u64;

    fn init(&self) -> HllSketch {
        let Ok(sketch) = HllSketch::new(self.precision, REGISTERS) else { unreachable!("the precision was checked") };
        sketch
    }

    fn fold(&self, sketch: &mut HllSketch, item: &T) {
        sketch.update((self.key)(item));
    }

    fn merge(&self, sketch: &mut HllSketch, later: &HllSketch) {
        let Ok(mut union) = HllUnion::new(self.precision) else { unreachable!("the precision was checked") };
        union.update(sketch);
        union.update(later);
        *sketch = union.to_sketch(REGISTERS);
    }

    fn finish(&self, sketch: HllSketch) -> u64 {
        sketch.estimate().round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::folds::check::merged;

    /// Four standard errors; the hash has no random seed, so the estimates are always the same.
    #[test]
    fn estimates_stay_within_the_stated_error_in_pieces_too() {
        for (precision, error) in [(10, 0.033), (12, 0.016), (14, 0.008)] {
            let fold = approx_count_distinct(precision, |n: &u32| *n);
            for distinct in [0, 1, 10, 1_000, 50_000] {
                let items: Vec<u32> = (0..2 * distinct).map(|n| n % distinct.max(1)).collect();
                for pieces in [1, 2, 5] {
                    let estimate = merged(&fold, &items, pieces) as f64;
                    let off = (estimate - f64::from(distinct)).abs();
                    assert!(
                        off <= 4.0 * error * f64::from(distinct),
                        "{estimate} of {distinct}, {precision}, {pieces}"
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "`precision` must be from 4 to 21")]
    fn too_little_room_is_refused() {
        let _ = approx_count_distinct(3, |n: &u32| *n);
    }
}
