//! [`percentiles`]: median, p99 and others.

use std::cmp::Ordering;

use super::fold::Fold;
use crate::panic::Held;

/// Computes the given percentiles of what `of` returns for each item exactly, in the order in which they are given;
/// `None` if there is no value.
///
/// Each is one of the values, by the *nearest rank*: the least value that is not exceeded by `percent` percent of all.
/// 50 is the median, 0 the least value, 100 the greatest. A value that cannot be compared, such as not-a-number, is
/// left out.
///
/// # Memory
/// Every value of the window: 8 MB for a million numbers of type `f64`, and up to twice that while the vector grows.
/// Limit the window's items if there may be more than you have room for.
///
/// # Panics
/// If a percent is not in `0.0..=100.0`.
///
/// ```
/// use streamz::{Pipeline, Stream, folds};
///
/// let pipeline = Pipeline::new("latencies");
/// let millis = Stream::from_iter(&pipeline, (1..=200).map(f64::from));
/// let percentiles = folds::percentiles([50.0, 99.0], |millis: &f64| *millis);
/// let [median, p99] = millis.fold_by(percentiles)?.unwrap();
/// assert_eq!((median, p99), (100.0, 198.0));
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[track_caller]
#[doc(alias("quantile", "quantiles", "median", "p99"))]
pub fn percentiles<T, N, const P: usize>(
    percents: [f64; P],
    of: impl Fn(&T) -> N + Send + Sync + 'static,
) -> impl Fold<T, Result = Option<[N; P]>>
where
    N: PartialOrd + Clone + Send + 'static,
{
    check(&percents);
    Percentiles { percents, of }
}

#[track_caller]
pub(super) fn check(percents: &[f64]) {
    assert!(percents.iter().all(|percent| (0.0..=100.0).contains(percent)), "`percents` must be from 0 to 100");
}

struct Percentiles<F, const P: usize> {
    percents: [f64; P],
    of: F,
}

impl<T, N, F, const P: usize> Fold<T> for Percentiles<F, P>
where
    N: PartialOrd + Clone + Send + 'static,
    F: Fn(&T) -> N + Send + Sync + 'static,
{
    type State = Held<Vec<N>>;
    type Result = Option<[N; P]>;

    fn init(&self) -> Self::State {
        Held::default()
    }

    #[inline]
    fn fold(&self, values: &mut Self::State, item: &T) {
        let value = (self.of)(item);
        if value.partial_cmp(&value).is_some() {
            values.push(value);
        }
    }

    fn merge(&self, values: &mut Self::State, later: &Self::State) {
        values.extend_from_slice(later);
    }

    fn finish(&self, mut values: Self::State) -> Self::Result {
        if values.is_empty() {
            return None;
        }
        values.sort_unstable_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
        Some(self.percents.map(|percent| values[rank(percent, values.len()) - 1].clone()))
    }
}

/// The nearest rank, from 1 to `count`.
fn rank(percent: f64, count: usize) -> usize {
    // 99.9 is stored as slightly more: a whole rank must not be rounded up because of that.
    let exact = percent * count as f64 / 100.0;
    ((exact - exact * 4.0 * f64::EPSILON).ceil() as usize).clamp(1, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::folds::check::result;

    #[test]
    fn each_is_the_nearest_rank() {
        let of = |n: &u32| *n;
        assert_eq!(result(percentiles([0.0, 50.0, 75.0, 76.0, 100.0], of), &[4, 1, 3, 2]), Some([1, 2, 3, 4, 4]));
        assert_eq!(result(percentiles([0.0, 50.0, 100.0], of), &[7]), Some([7, 7, 7]));
        assert_eq!(result(percentiles([50.0], of), &[]), None);
        assert_eq!(result(percentiles([50.0], |n: &f64| *n), &[f64::NAN, 2.0, 1.0, 3.0]), Some([2.0]));
    }

    #[test]
    fn a_whole_rank_is_not_rounded_up() {
        for count in [1_000, 10_000, 1_000_000_usize] {
            for tenths in 1..=1_000_usize {
                assert_eq!(rank(tenths as f64 / 10.0, count), tenths * count / 1_000, "{tenths} tenths of {count}");
            }
        }
        assert_eq!(rank(50.001, 2), 2);
    }

    #[test]
    #[should_panic(expected = "`percents` must be from 0 to 100")]
    fn more_than_all_is_refused() {
        let _ = percentiles([101.0], |n: &f64| *n);
    }
}
