//! Folds that keep one or two numbers.

use std::ops::AddAssign;

use super::closures::MergeWith;
use super::fold::Fold;

/// Counts the items.
pub fn count<T>() -> impl Fold<T, State = u64, Result = u64> {
    MergeWith::new(|| 0, |count: &mut u64, _: &T| *count += 1, |count: &mut u64, later: &u64| *count += later)
}

/// Sums up what `of` returns for each item; `N::default()` if there is none. As with every `+`, choose a type that the
/// sum fits into: on overflow the addition panics in debug builds and wraps in others.
pub fn sum<T, N>(of: impl Fn(&T) -> N + Send + Sync + 'static) -> impl Fold<T, State = N, Result = N>
where
    N: Default + AddAssign + Clone + Send + 'static,
{
    MergeWith::new(
        N::default,
        move |sum: &mut N, item: &T| *sum += of(item),
        |sum: &mut N, later: &N| *sum += later.clone(),
    )
}

/// Computes the mean of what `of` returns for each item; not a number ([`f64::NAN`]) if there is none.
pub fn average<T>(of: impl Fn(&T) -> f64 + Send + Sync + 'static) -> impl Fold<T, Result = f64> {
    Average(of)
}

/// Finds the least and the greatest of what `of` returns for each item; `None` if there is none. A value that cannot be
/// compared, such as not-a-number, is ignored unless there is no other.
pub fn min_max<T, N>(
    of: impl Fn(&T) -> N + Send + Sync + 'static,
) -> impl Fold<T, State = Option<(N, N)>, Result = Option<(N, N)>>
where
    N: PartialOrd + Clone + Send + 'static,
{
    fn include<N: PartialOrd>(range: &mut Option<(N, N)>, low: N, high: N) {
        // A value that cannot be compared with itself is replaced by any other.
        let odd = |value: &N| value.partial_cmp(value).is_none();
        match range {
            None => *range = Some((low, high)),
            Some((min, max)) => {
                if low < *min && !odd(&low) || odd(min) {
                    *min = low;
                }
                if high > *max && !odd(&high) || odd(max) {
                    *max = high;
                }
            }
        }
    }
    MergeWith::new(
        || None,
        move |range: &mut Option<(N, N)>, item: &T| {
            let value = of(item);
            include(range, value.clone(), value);
        },
        |range: &mut Option<(N, N)>, later: &Option<(N, N)>| {
            if let Some((low, high)) = later {
                include(range, low.clone(), high.clone());
            }
        },
    )
}

/// See [`average`].
struct Average<F>(F);

impl<T, F: Fn(&T) -> f64 + Send + Sync + 'static> Fold<T> for Average<F> {
    type State = (f64, u64);
    type Result = f64;

    fn init(&self) -> (f64, u64) {
        (0.0, 0)
    }

    fn fold(&self, (sum, count): &mut (f64, u64), item: &T) {
        *sum += (self.0)(item);
        *count += 1;
    }

    fn merge(&self, (sum, count): &mut (f64, u64), later: &(f64, u64)) {
        *sum += later.0;
        *count += later.1;
    }

    fn finish(&self, (sum, count): (f64, u64)) -> f64 {
        sum / count as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::folds::check::result;

    #[test]
    fn built_in_folds_give_the_same_result_however_they_are_split() {
        assert_eq!(result(count(), &['a', 'b']), 2);
        assert_eq!(result(sum(|n: &u8| u64::from(*n)), &[200, 100]), 300);
        assert_eq!(result(sum(|n: &u8| u64::from(*n)), &[]), 0);
        assert_eq!(result(average(|n: &i32| f64::from(*n)), &[1, 2, 6]), 3.0);
        assert_eq!(result(min_max(|n: &i32| *n), &[3, -1, 2]), Some((-1, 3)));
        assert_eq!(result(min_max(|n: &i32| *n), &[]), None);
        assert!(result(average(|n: &f64| *n), &[]).is_nan());
    }

    #[test]
    fn values_that_are_not_numbers_are_skipped() {
        assert_eq!(result(min_max(|n: &f64| *n), &[f64::NAN, 2.0, f64::NAN, 1.0]), Some((1.0, 2.0)));
        let odd = (1.0, f64::NAN);
        for pairs in [[odd, (2.0, 0.0)], [(2.0, 0.0), odd]] {
            assert_eq!(result(min_max(|pair: &(f64, f64)| *pair), &pairs), Some(((2.0, 0.0), (2.0, 0.0))));
        }
    }
}
