//! [`sorted_by`]: all items of a window, in order.

use super::fold::Fold;
use crate::panic::{self, Held};

/// Collects what `of` returns for each item, sorted by `by`, the least first; equal ones in the order in which they
/// came.
///
/// `T::clone` keeps whole items. To sort a stream by the time of its items, without windows, use a
/// [`SortByTime`](crate::SortByTime).
///
/// # Memory
/// All values and what they are sorted by. For the greatest only, use [`top_by`](super::top_by).
///
/// ```
/// use streamz::{Pipeline, Stream, folds};
///
/// let pipeline = Pipeline::new("words");
/// let by_length = folds::sorted_by(|word: &&str| word.len(), |word| *word);
/// let sorted =
///     Stream::from_iter(&pipeline, ["not", "to", "question", "be"]).fold_by(by_length)?;
/// assert_eq!(sorted, ["to", "be", "not", "question"]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[doc(alias("sort", "order_by", "sort_by"))]
pub fn sorted_by<T, N, V>(
    by: impl Fn(&T) -> N + Send + Sync + 'static,
    of: impl Fn(&T) -> V + Send + Sync + 'static,
) -> impl Fold<T, Result = Vec<V>>
where
    N: Ord + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    Sorted { by, of }
}

struct Sorted<B, F> {
    by: B,
    of: F,
}

impl<T, N, V, B, F> Fold<T> for Sorted<B, F>
where
    N: Ord + Clone + Send + 'static,
    V: Clone + Send + 'static,
    B: Fn(&T) -> N + Send + Sync + 'static,
    F: Fn(&T) -> V + Send + Sync + 'static,
{
    type State = Held<Vec<(N, V)>>;
    type Result = Vec<V>;

    fn init(&self) -> Self::State {
        Held::default()
    }

    fn fold(&self, entries: &mut Self::State, item: &T) {
        entries.push(((self.by)(item), (self.of)(item)));
    }

    fn merge(&self, entries: &mut Self::State, later: &Self::State) {
        entries.extend_from_slice(later);
    }

    fn finish(&self, mut entries: Self::State) -> Vec<V> {
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        let value = |(by, value)| {
            panic::guard_drop(by);
            value
        };
        entries.take().into_iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::folds::check::result;

    #[test]
    fn the_least_come_first_and_equal_ones_in_order() {
        let words = ["ccc", "bb", "a", "dd", "e"];
        assert_eq!(result(sorted_by(|word: &&str| word.len(), |word| *word), &words), ["a", "e", "bb", "dd", "ccc"]);
    }
}
