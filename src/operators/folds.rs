//! Ways to make one value of many items, for [`Aggregate`](crate::Aggregate) and the windows.
//!
//! [`count`], [`sum`], [`average`] and [`min_max`] are there; others are closures, or a [`Fold`] of your own.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use streamz::{Pipeline, Stream, TumblingWindow, folds};
//!
//! // (second, delay in minutes)
//! let flights = [(3, 10.0), (5, 20.0), (65, 0.0)];
//! let by_minute = TumblingWindow::new(Duration::from_secs(60))
//!     .with_event_time(|flight: &(u64, f64)| SystemTime::UNIX_EPOCH + Duration::from_secs(flight.0), Duration::ZERO)
//!     .aggregate_by(folds::average(|flight: &(u64, f64)| flight.1));
//! let pipeline = Pipeline::new("flights");
//! let means = Stream::from_iter(&pipeline, flights).through(&by_minute).collect::<Vec<_>>()?;
//! assert_eq!(means.iter().map(|window| window.result).collect::<Vec<_>>(), [15.0, 0.0]);
//! # Ok::<(), streamz::StreamError>(())
//! ```

use std::marker::PhantomData;
use std::ops::AddAssign;

/// How to make one value of many items, step by step.
///
/// Any method may panic; what becomes of that is said where the fold is used.
pub trait Fold<T>: Send + Sync + 'static {
    /// What is kept on the way.
    type State: Send + 'static;
    /// What comes of it.
    type Result: Send + 'static;

    /// The state before the first item.
    fn init(&self) -> Self::State;

    /// Takes an item into account.
    fn fold(&self, state: &mut Self::State, item: &T);

    /// Takes into account all items that `later` was made of: the outcome must be as if they had been folded into `state`
    /// one by one. Windows that overlap or grow together need this; others never call it.
    fn merge(&self, state: &mut Self::State, later: &Self::State);

    /// Makes the result.
    fn finish(&self, state: Self::State) -> Self::Result;
}

/// How many items there are.
pub fn count<T>() -> impl Fold<T, State = u64, Result = u64> {
    MergeWith::new(|| 0, |count: &mut u64, _: &T| *count += 1, |count: &mut u64, later: &u64| *count += later)
}

/// The sum of what `of` says of each item; `N::default()` if there is none. As with every `+`, it is yours to choose a type
/// that the sum fits in: where it does not, the addition panics in debug builds and wraps in others.
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

/// The mean of what `of` says of each item; not a number ([`f64::NAN`]) if there is none.
pub fn average<T>(of: impl Fn(&T) -> f64 + Send + Sync + 'static) -> impl Fold<T, Result = f64> {
    Average(of)
}

/// The least and the greatest of what `of` says of each item; `None` if there is none. A value that cannot be compared, such
/// as not-a-number, is passed over unless there is no other.
pub fn min_max<T, N>(
    of: impl Fn(&T) -> N + Send + Sync + 'static,
) -> impl Fold<T, State = Option<(N, N)>, Result = Option<(N, N)>>
where
    N: PartialOrd + Clone + Send + 'static,
{
    fn include<N: PartialOrd>(range: &mut Option<(N, N)>, low: N, high: N) {
        // What cannot be compared with itself gives way to whatever comes.
        let odd = |value: &N| value.partial_cmp(value).is_none();
        match range {
            None => *range = Some((low, high)),
            Some((min, max)) => {
                if low < *min || odd(min) {
                    *min = low;
                }
                if high > *max || odd(max) {
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

/// A fold of closures for windows that are never made of several states.
pub struct FoldWith<A, I, F> {
    init: I,
    fold: F,
    types: PhantomData<fn() -> A>,
}

impl<A, I, F> FoldWith<A, I, F> {
    pub(crate) fn new(init: I, fold: F) -> Self {
        Self { init, fold, types: PhantomData }
    }
}

impl<T, A, I, F> Fold<T> for FoldWith<A, I, F>
where
    A: Send + 'static,
    I: Fn() -> A + Send + Sync + 'static,
    F: Fn(&mut A, &T) + Send + Sync + 'static,
{
    type State = A;
    type Result = A;

    fn init(&self) -> A {
        (self.init)()
    }

    #[inline]
    fn fold(&self, state: &mut A, item: &T) {
        (self.fold)(state, item);
    }

    fn merge(&self, _state: &mut A, _later: &A) {
        unreachable!("a state of its own for each window");
    }

    fn finish(&self, state: A) -> A {
        state
    }
}

/// A fold of closures.
pub struct MergeWith<A, I, F, M> {
    fold: FoldWith<A, I, F>,
    merge: M,
}

impl<A, I, F, M> MergeWith<A, I, F, M> {
    pub(crate) fn new(init: I, fold: F, merge: M) -> Self {
        Self { fold: FoldWith::new(init, fold), merge }
    }
}

impl<T, A, I, F, M> Fold<T> for MergeWith<A, I, F, M>
where
    A: Send + 'static,
    I: Fn() -> A + Send + Sync + 'static,
    F: Fn(&mut A, &T) + Send + Sync + 'static,
    M: Fn(&mut A, &A) + Send + Sync + 'static,
{
    type State = A;
    type Result = A;

    fn init(&self) -> A {
        (self.fold.init)()
    }

    #[inline]
    fn fold(&self, state: &mut A, item: &T) {
        (self.fold.fold)(state, item);
    }

    fn merge(&self, state: &mut A, later: &A) {
        (self.merge)(state, later);
    }

    fn finish(&self, state: A) -> A {
        state
    }
}

impl<A, I, F> std::fmt::Debug for FoldWith<A, I, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FoldWith").finish_non_exhaustive()
    }
}

impl<A, I, F, M> std::fmt::Debug for MergeWith<A, I, F, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergeWith").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folds the items in one go, and in two halves that are merged: both must come to the same.
    #[track_caller]
    fn result<T, F: Fold<T, Result: PartialEq + std::fmt::Debug>>(fold: F, items: &[T]) -> F::Result {
        let state = |items: &[T]| {
            let mut state = fold.init();
            items.iter().for_each(|item| fold.fold(&mut state, item));
            state
        };
        let whole = fold.finish(state(items));
        for at in 0..=items.len() {
            let mut merged = state(&items[..at]);
            fold.merge(&mut merged, &state(&items[at..]));
            let merged = fold.finish(merged);
            assert!(items.is_empty() || merged == whole, "{merged:?} instead of {whole:?}");
        }
        whole
    }

    #[test]
    fn the_ready_made_folds_say_what_they_should_however_they_are_cut() {
        assert_eq!(result(count(), &['a', 'b']), 2);
        assert_eq!(result(sum(|n: &u8| u64::from(*n)), &[200, 100]), 300);
        assert_eq!(result(sum(|n: &u8| u64::from(*n)), &[]), 0);
        assert_eq!(result(average(|n: &i32| f64::from(*n)), &[1, 2, 6]), 3.0);
        assert_eq!(result(min_max(|n: &i32| *n), &[3, -1, 2]), Some((-1, 3)));
        assert_eq!(result(min_max(|n: &i32| *n), &[]), None);
        assert!(result(average(|n: &f64| *n), &[]).is_nan());
    }

    #[test]
    fn what_is_no_number_is_passed_over() {
        assert_eq!(result(min_max(|n: &f64| *n), &[f64::NAN, 2.0, f64::NAN, 1.0]), Some((1.0, 2.0)));
    }
}
