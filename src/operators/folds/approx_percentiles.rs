//! [`approx_percentiles`]: median, p99 and others, in constant memory.

use hdrhistogram::Histogram;

use super::fold::Fold;
use super::percentiles::check;

/// Estimates the given percentiles of what `of` returns for each item, in the order in which they are given; `None` if
/// there is no item. Requires the feature `sketches`.
///
/// Each estimate differs from the exact value, which is that of [`percentiles`](super::percentiles()), by at most one
/// part in 10<sup>`digits`</sup>: with 2 digits, a p99 of 1,000 is reported as 990 to 1,010. Values are whole numbers:
/// choose a unit that is fine enough, such as microseconds.
///
/// # Memory
/// It depends on `digits` and the greatest value, not on how many there are. With 2 digits, 10 kB for values up to
/// 60,000 and 60 kB for any; with 3 digits, 60 kB and 450 kB.
///
/// # Source
/// An [HDR histogram](https://hdrhistogram.github.io/HdrHistogram/) by Gil Tene. Its error is bounded for each value,
/// also after the parts of overlapping windows are merged; a t-digest promises neither.
///
/// # Panics
/// If a percent is not in `0.0..=100.0`, or `digits` is not in `1..=5`.
///
/// ```
/// use streamz::{Pipeline, Stream, folds};
///
/// let pipeline = Pipeline::new("latencies");
/// let micros = Stream::from_iter(&pipeline, 1..=200_000_u64);
/// let percentiles = folds::approx_percentiles([50.0, 99.0], 2, |micros: &u64| *micros);
/// let [median, p99] = micros.fold_by(percentiles)?.unwrap();
/// assert!((100_000..=101_000).contains(&median));
/// assert!((198_000..=200_000).contains(&p99));
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[track_caller]
#[doc(alias("quantile", "quantiles", "median", "p99", "hdrhistogram", "histogram"))]
pub fn approx_percentiles<T, const P: usize>(
    percents: [f64; P],
    digits: u8,
    of: impl Fn(&T) -> u64 + Send + Sync + 'static,
) -> impl Fold<T, Result = Option<[u64; P]>> {
    check(&percents);
    assert!((1..=5).contains(&digits), "`digits` must be from 1 to 5");
    ApproxPercentiles { percents, digits, of }
}

struct ApproxPercentiles<F, const P: usize> {
    percents: [f64; P],
    digits: u8,
    of: F,
}

impl<T, F: Fn(&T) -> u64 + Send + Sync + 'static, const P: usize> Fold<T> for ApproxPercentiles<F, P> {
    type State = Histogram<u64>;
    type Result = Option<[u64; P]>;

    fn init(&self) -> Histogram<u64> {
        let Ok(histogram) = Histogram::new(self.digits) else { unreachable!("the digits were checked") };
        histogram
    }

    #[inline]
    fn fold(&self, histogram: &mut Histogram<u64>, item: &T) {
        // It grows as needed, up to any number.
        if histogram.record((self.of)(item)).is_err() {
            unreachable!("it grows with its values");
        }
    }

    fn merge(&self, histogram: &mut Histogram<u64>, later: &Histogram<u64>) {
        if histogram.add(later).is_err() {
            unreachable!("it grows with its values");
        }
    }

    fn finish(&self, histogram: Histogram<u64>) -> Self::Result {
        (!histogram.is_empty()).then(|| self.percents.map(|percent| histogram.value_at_percentile(percent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::folds::check::result;
    use crate::operators::folds::percentiles;

    #[test]
    fn estimates_stay_within_the_stated_error_on_random_input() {
        let percents = [0.0, 10.0, 50.0, 90.0, 99.0, 99.9, 100.0];
        for seed in 0..20 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let most = [1, 100, 100_000, u64::MAX][rng.usize(..4)];
            let items: Vec<u64> = (0..rng.usize(1..30)).map(|_| rng.u64(..=most)).collect();
            let exact = result(percentiles(percents, |n: &u64| *n), &items).unwrap();
            for digits in 1..=3 {
                let found = result(approx_percentiles(percents, digits, |n: &u64| *n), &items).unwrap();
                for (found, exact) in found.into_iter().zip(exact) {
                    let most = exact / 10_u64.pow(digits.into());
                    assert!(found.abs_diff(exact) <= most, "{found} instead of {exact}, {digits} digits, seed {seed}");
                }
            }
        }
        assert_eq!(result(approx_percentiles([50.0], 2, |n: &u64| *n), &[]), None);
    }

    #[test]
    #[should_panic(expected = "`digits` must be from 1 to 5")]
    fn no_digits_are_refused() {
        let _ = approx_percentiles([50.0], 0, |n: &u64| *n);
    }
}
