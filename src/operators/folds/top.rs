//! [`top`] and [`top_by`]: the `k` largest items.

use std::cmp::Ordering;

use super::fold::Fold;
use crate::panic::{self, Held};

/// Finds the `k` greatest values that `of` returns, exactly, greatest first; fewer if there are fewer items.
///
/// For the least ones, return a [`Reverse`](std::cmp::Reverse). To know what the values belong to, return a tuple that
/// begins with the value, or use [`top_by`]. A value that is equal to another is a value of its own. One that cannot be
/// compared, such as not-a-number, is left out.
///
/// # Memory
/// `k` values. An item that is not among the greatest costs one comparison; one that is costs a binary search, and a
/// move of up to `k` values: meant for a `k` up to some thousands. For more, use [`sorted_by`](super::sorted_by).
///
/// # Panics
/// If `k` is 0.
///
/// ```
/// use streamz::{Pipeline, Stream, folds};
///
/// let pipeline = Pipeline::new("scores");
/// let scores = [(7, "ann"), (9, "bob"), (8, "cid"), (2, "dan")];
/// let top_two = folds::top(2, |score: &(u32, &str)| *score);
/// let best = Stream::from_iter(&pipeline, scores).fold_by(top_two)?;
/// assert_eq!(best, [(9, "bob"), (8, "cid")]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[track_caller]
#[doc(alias("top_k", "topk", "top_n", "largest", "max_n", "leaderboard"))]
pub fn top<T, N>(k: usize, of: impl Fn(&T) -> N + Send + Sync + 'static) -> impl Fold<T, Result = Vec<N>>
where
    N: PartialOrd + Clone + Send + 'static,
{
    let values = |entries: Entries<N, ()>| entries.into_iter().map(|(by, ())| by).collect();
    Top { k: at_least_1(k), by: of, of: |_: &T| (), result: values }
}

/// Finds the `k` items for which `by` is greatest, exactly, and returns what `of` returns for them, greatest first; of
/// equal ones those that came first.
///
/// `of` is called only for items that are among the greatest so far: `T::clone` keeps whole items. Otherwise as
/// [`top`].
///
/// # Panics
/// If `k` is 0.
///
/// ```
/// use streamz::{Pipeline, Stream, folds};
///
/// let pipeline = Pipeline::new("words");
/// let words = ["to", "question", "be", "or", "not"];
/// let longest = folds::top_by(2, |word: &&str| word.len(), |word| *word);
/// assert_eq!(Stream::from_iter(&pipeline, words).fold_by(longest)?, ["question", "not"]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[track_caller]
#[doc(alias("top_k", "topk", "top_n", "largest", "max_by", "leaderboard"))]
pub fn top_by<T, N, V>(
    k: usize,
    by: impl Fn(&T) -> N + Send + Sync + 'static,
    of: impl Fn(&T) -> V + Send + Sync + 'static,
) -> impl Fold<T, Result = Vec<V>>
where
    N: PartialOrd + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    let values = |entries: Entries<N, V>| {
        let value = |(by, value)| {
            panic::guard_drop(by);
            value
        };
        entries.into_iter().map(value).collect()
    };
    Top { k: at_least_1(k), by, of, result: values }
}

#[track_caller]
pub(super) fn at_least_1(k: usize) -> usize {
    assert!(k > 0, "`k` must be at least 1");
    k
}

type Entries<N, V> = Vec<(N, V)>;

/// The state has at most `k` entries, the largest first; of equal ones the earlier comes first.
struct Top<B, F, R> {
    k: usize,
    by: B,
    of: F,
    result: R,
}

impl<T, N, V, Out, B, F, R> Fold<T> for Top<B, F, R>
where
    N: PartialOrd + Clone + Send + 'static,
    V: Clone + Send + 'static,
    Out: Send + 'static,
    B: Fn(&T) -> N + Send + Sync + 'static,
    F: Fn(&T) -> V + Send + Sync + 'static,
    R: Fn(Entries<N, V>) -> Vec<Out> + Send + Sync + 'static,
{
    type State = Held<Entries<N, V>>;
    type Result = Vec<Out>;

    fn init(&self) -> Self::State {
        Held::default()
    }

    fn fold(&self, top: &mut Self::State, item: &T) {
        let by = (self.by)(item);
        let is_full = top.len() >= self.k;
        let is_among_them = top.last().filter(|_| is_full).is_none_or(|(least, _)| by > *least);
        // A pair with not-a-number in it may be greater than another and still not be comparable.
        if is_among_them && by.partial_cmp(&by).is_some() {
            let value = (self.of)(item);
            let at = top.partition_point(|(other, _)| *other >= by);
            top.insert(at, (by, value));
            top.truncate(self.k);
        }
    }

    fn merge(&self, top: &mut Self::State, later: &Self::State) {
        top.extend(later.iter().cloned());
        // Stable, and fast for two sorted runs.
        top.sort_by(|(one, _), (other, _)| other.partial_cmp(one).unwrap_or(Ordering::Equal));
        top.truncate(self.k);
    }

    fn finish(&self, mut top: Self::State) -> Vec<Out> {
        (self.result)(top.take())
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use super::*;
    use crate::operators::folds::check::result;

    #[test]
    fn the_greatest_come_first_and_equal_ones_in_order() {
        assert_eq!(result(top(3, |n: &i32| *n), &[1, 5, 3, 5, 4]), [5, 5, 4]);
        assert_eq!(result(top(3, |n: &i32| *n), &[1, 2]), [2, 1]);
        assert_eq!(result(top(2, |n: &i32| Reverse(*n)), &[4, 1, 3]), [Reverse(1), Reverse(3)]);
        let words = ["a", "bb", "c", "dd", "ee", "f"];
        assert_eq!(result(top_by(2, |word: &&str| word.len(), |word| *word), &words), ["bb", "dd"]);
        assert_eq!(result(top_by(4, |word: &&str| word.len(), |word| *word), &words), ["bb", "dd", "ee", "a"]);
    }

    #[test]
    fn values_that_cannot_be_compared_are_left_out() {
        let numbers = [f64::NAN, 1.0, f64::NAN, 3.0, 2.0, f64::NAN];
        assert_eq!(result(top(2, |n: &f64| *n), &numbers), [3.0, 2.0]);
        assert_eq!(result(top(5, |n: &f64| *n), &numbers), [3.0, 2.0, 1.0]);
        for pairs in [[(1.0, 0.0), (2.0, f64::NAN)], [(2.0, f64::NAN), (1.0, 0.0)]] {
            assert_eq!(result(top(1, |pair: &(f64, f64)| *pair), &pairs), [(1.0, 0.0)]);
        }
    }

    #[test]
    fn agrees_with_sorting_everything_on_random_input() {
        for seed in 0..200 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let items: Vec<(u8, usize)> = (0..rng.usize(..60)).map(|place| (rng.u8(..20), place)).collect();
            let k = rng.usize(1..12);
            let mut sorted = items.clone();
            sorted.sort_by_key(|(n, _)| Reverse(*n));
            sorted.truncate(k);
            assert_eq!(result(top_by(k, |item: &(u8, usize)| item.0, |item| *item), &items), sorted, "seed {seed}");
        }
    }

    #[test]
    #[should_panic(expected = "`k` must be at least 1")]
    fn none_at_all_are_refused() {
        let _ = top(0, |n: &i32| *n);
    }
}
