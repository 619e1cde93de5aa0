//! [`count_distinct`]: the number of keys.

use std::collections::HashSet;
use std::hash::Hash;

use super::fold::Fold;
use crate::panic::Held;

/// Counts the different keys exactly.
///
/// # Memory
/// Every key, once in each window, and up to some two bytes and a key's size for the free places of the table. Where
/// there may be millions of them, an estimate is enough for most purposes.
///
/// ```
/// use streamz::{Pipeline, Stream, folds};
///
/// let pipeline = Pipeline::new("visits");
/// let visits = [("ann", "/"), ("bob", "/"), ("ann", "/cart")];
/// let distinct = folds::count_distinct(|visit: &(&str, &str)| visit.0);
/// let users = Stream::from_iter(&pipeline, visits).fold_by(distinct)?;
/// assert_eq!(users, 2);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[doc(alias("distinct", "unique", "cardinality", "nunique"))]
pub fn count_distinct<T, K>(key: impl Fn(&T) -> K + Send + Sync + 'static) -> impl Fold<T, Result = u64>
where
    K: Eq + Hash + Clone + Send + 'static,
{
    Distinct(key)
}

struct Distinct<F>(F);

impl<T, K, F> Fold<T> for Distinct<F>
where
    K: Eq + Hash + Clone + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    type State = Held<HashSet<K>>;
    type Result = u64;

    fn init(&self) -> Self::State {
        Held::default()
    }

    fn fold(&self, keys: &mut Self::State, item: &T) {
        keys.insert((self.0)(item));
    }

    fn merge(&self, keys: &mut Self::State, later: &Self::State) {
        for key in later.iter() {
            if !keys.contains(key) {
                keys.insert(key.clone());
            }
        }
    }

    fn finish(&self, keys: Self::State) -> u64 {
        keys.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::folds::check::result;

    #[test]
    fn each_key_counts_once() {
        assert_eq!(result(count_distinct(|n: &u32| n % 10), &[1, 11, 2, 3, 21, 13]), 3);
        assert_eq!(result(count_distinct(|n: &u32| *n), &[]), 0);
    }
}
