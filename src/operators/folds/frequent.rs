//! [`most_frequent`] and [`approx_most_frequent`]: the keys with the most items.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::fold::Fold;
use super::top::at_least_1;
use crate::panic::{self, Held};

/// Finds the `k` most frequent keys exactly, with the number of their items; the most frequent first, and of equally
/// frequent ones the one that came first.
///
/// # Memory
/// Every key of the window, not only `k` of them, with 16 bytes for each and the free places of the table. Where there
/// may be millions of keys, use [`approx_most_frequent`].
///
/// # Panics
/// If `k` is 0.
///
/// ```
/// use streamz::{Pipeline, Stream, folds};
///
/// let pipeline = Pipeline::new("words");
/// let words = ["to", "be", "or", "not", "to", "be", "to"];
/// let top_two = folds::most_frequent(2, |word: &&str| *word);
/// let most = Stream::from_iter(&pipeline, words).fold_by(top_two)?;
/// assert_eq!(most, [("to", 3), ("be", 2)]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[track_caller]
#[doc(alias("top_k", "topk", "mode", "value_counts", "histogram"))]
pub fn most_frequent<T, K>(
    k: usize,
    key: impl Fn(&T) -> K + Send + Sync + 'static,
) -> impl Fold<T, Result = Vec<(K, u64)>>
where
    K: Eq + Hash + Clone + Send + 'static,
{
    MostFrequent { k: at_least_1(k), key }
}

struct MostFrequent<F> {
    k: usize,
    key: F,
}

struct Counts<K> {
    counts: Held<HashMap<K, Count>>,
    /// The number of the next new key.
    next: u64,
}

#[derive(Clone, Copy)]
struct Count {
    items: u64,
    /// Grows with each new key: shows which of two keys came first.
    number: u64,
}

impl<T, K, F> Fold<T> for MostFrequent<F>
where
    K: Eq + Hash + Clone + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    type State = Counts<K>;
    type Result = Vec<(K, u64)>;

    fn init(&self) -> Counts<K> {
        Counts { counts: Held::default(), next: 0 }
    }

    fn fold(&self, state: &mut Counts<K>, item: &T) {
        let fresh = Count { items: 0, number: state.next };
        let count = state.counts.entry((self.key)(item)).or_insert(fresh);
        count.items += 1;
        // The number of a known key is skipped.
        state.next += 1;
    }

    fn merge(&self, state: &mut Counts<K>, later: &Counts<K>) {
        for (key, Count { items, number }) in later.counts.iter() {
            match state.counts.get_mut(key) {
                Some(count) => count.items += items,
                None => {
                    state.counts.insert(key.clone(), Count { items: *items, number: state.next + number });
                }
            }
        }
        state.next += later.next;
    }

    fn finish(&self, mut state: Counts<K>) -> Vec<(K, u64)> {
        let mut all: Held<Vec<(K, Count)>> = Held::from(state.counts.take().into_iter().collect::<Vec<_>>());
        let order = |(_, count): &(K, Count)| (Reverse(count.items), count.number);
        if all.len() > self.k {
            all.select_nth_unstable_by_key(self.k, order);
            all.truncate(self.k);
        }
        all.sort_unstable_by_key(order);
        all.take().into_iter().map(|(key, count)| (key, count.items)).collect()
    }
}

/// Holds a key and an estimate of how many items have it: see [`approx_most_frequent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frequency<K> {
    /// The key that the items share.
    pub key: K,
    /// The estimated number of items with the key, which is never too low.
    pub count: u64,
    /// The amount by which `count` may be too high: at least `count - max_error` items have the key.
    pub max_error: u64,
}

/// Estimates the `k` most frequent keys, with the number of their items; the most frequent first. Keeps no more than
/// `counters` keys, however many there are.
///
/// Every key of more than `n / counters` of `n` items is among the counted ones. No count is too low, and none is too
/// high by more than `n / counters`; [`Frequency::max_error`] gives the bound for each key. As long as there are no
/// more than `counters` different keys, all counts are exact. Ten times `k` is a common choice for data in which few
/// keys have most of the items; where all keys are about equally frequent, no number of counters below that of the keys
/// tells them apart.
///
/// # Memory
/// `counters` keys, kept twice, and about 100 bytes for each of them. The time for an item grows with the logarithm of
/// `counters`.
///
/// # Source
/// Space-Saving by A. Metwally, D. Agrawal and A. El Abbadi, "Efficient computation of frequent and top-k elements in
/// data streams" (ICDT 2005): a new key takes the place of the one with the lowest count, and inherits the count as its
/// error. The parts of overlapping windows are merged as in P. K. Agarwal and others, "Mergeable summaries" (PODS
/// 2012), which keeps the bound. We order the counters with a tree, not with the paper's linked buckets.
///
/// # Panics
/// If `k` is 0, or `counters` is less than `k`.
///
/// ```
/// use streamz::{Pipeline, Stream, folds};
///
/// let pipeline = Pipeline::new("requests");
/// let paths = ["/", "/cart", "/", "/a", "/", "/b", "/cart", "/"];
/// let most = folds::approx_most_frequent(1, 3, |path: &&str| *path);
/// let most = Stream::from_iter(&pipeline, paths).fold_by(most)?;
/// assert_eq!((most[0].key, most[0].count), ("/", 4));
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[track_caller]
#[doc(alias("heavy_hitters", "space_saving", "approx_top_k", "approx_top_count", "frequent_items"))]
pub fn approx_most_frequent<T, K>(
    k: usize,
    counters: usize,
    key: impl Fn(&T) -> K + Send + Sync + 'static,
) -> impl Fold<T, Result = Vec<Frequency<K>>>
where
    K: Eq + Hash + Clone + Send + 'static,
{
    let k = at_least_1(k);
    assert!(counters >= k, "`counters` must be at least `k`");
    SpaceSaving { k, counters, key }
}

struct SpaceSaving<F> {
    k: usize,
    counters: usize,
    key: F,
}

/// The counters, by their place and by their count.
struct Summary<K> {
    counters: Held<Vec<Frequency<K>>>,
    /// The place of the counter of a key.
    places: Held<HashMap<K, usize>>,
    /// Each count with its place, the smallest first.
    order: BTreeSet<(u64, usize)>,
}

impl<K: Eq + Hash + Clone> Summary<K> {
    fn of(counters: Held<Vec<Frequency<K>>>) -> Self {
        let places = counters.iter().enumerate().map(|(place, counter)| (counter.key.clone(), place));
        let places = Held::from(places.collect::<HashMap<_, _>>());
        let order = counters.iter().enumerate().map(|(place, counter)| (counter.count, place)).collect();
        Self { counters, places, order }
    }

    /// The maximum count of a key that has no counter.
    fn floor(&self, most: usize) -> u64 {
        self.order.first().filter(|_| self.counters.len() >= most).map_or(0, |(count, _)| *count)
    }

    fn get(&self, key: &K) -> Option<&Frequency<K>> {
        self.counters.get(*self.places.get(key)?)
    }

    /// Counts one more item for the key at this place.
    fn raise(&mut self, place: usize) {
        let count = &mut self.counters[place].count;
        self.order.remove(&(*count, place));
        *count += 1;
        self.order.insert((*count, place));
    }

    fn add(&mut self, key: K) {
        let place = self.counters.len();
        self.places.insert(key.clone(), place);
        self.counters.push(Frequency { key, count: 1, max_error: 0 });
        self.order.insert((1, place));
    }

    /// Reassigns the counter with the smallest count to another key.
    fn replace_least(&mut self, key: K) {
        let Some(&(least, place)) = self.order.first() else { return };
        let copy = key.clone();
        let counter = &mut self.counters[place];
        self.places.remove(&counter.key);
        self.places.insert(copy, place);
        counter.max_error = least;
        panic::guard_drop(std::mem::replace(&mut counter.key, key));
        self.raise(place);
    }
}

impl<T, K, F> Fold<T> for SpaceSaving<F>
where
    K: Eq + Hash + Clone + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    type State = Summary<K>;
    type Result = Vec<Frequency<K>>;

    fn init(&self) -> Summary<K> {
        Summary { counters: Held::default(), places: Held::default(), order: BTreeSet::new() }
    }

    fn fold(&self, summary: &mut Summary<K>, item: &T) {
        let key = (self.key)(item);
        match summary.places.get(&key) {
            Some(place) => summary.raise(*place),
            None if summary.counters.len() < self.counters => summary.add(key),
            None => summary.replace_least(key),
        }
    }

    fn merge(&self, summary: &mut Summary<K>, later: &Summary<K>) {
        let (floor, later_floor) = (summary.floor(self.counters), later.floor(self.counters));
        let mut all = Held::from(summary.counters.to_vec());
        for counter in all.iter_mut() {
            // A key without a counter may have had as many items as the smallest counter.
            let (count, error) =
                later.get(&counter.key).map_or((later_floor, later_floor), |other| (other.count, other.max_error));
            counter.count += count;
            counter.max_error += error;
        }
        for other in later.counters.iter().filter(|other| !summary.places.contains_key(&other.key)) {
            let Frequency { key, count, max_error } = other.clone();
            all.push(Frequency { key, count: count + floor, max_error: max_error + floor });
        }
        all.sort_by_key(|counter| Reverse(counter.count));
        all.truncate(self.counters);
        *summary = Summary::of(all);
    }

    fn finish(&self, mut summary: Summary<K>) -> Vec<Frequency<K>> {
        summary.counters.sort_by_key(|counter| Reverse(counter.count));
        summary.counters.truncate(self.k);
        summary.counters.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::folds::check::{merged, result};

    #[test]
    fn the_most_frequent_come_first_and_equal_ones_in_order() {
        let letters: Vec<char> = "cabbacbd".chars().collect();
        assert_eq!(result(most_frequent(2, |letter: &char| *letter), &letters), [('b', 3), ('c', 2)]);
        let all = [('b', 3), ('c', 2), ('a', 2), ('d', 1)];
        assert_eq!(result(most_frequent(9, |letter: &char| *letter), &letters), all);
        let few = result(approx_most_frequent(9, 9, |letter: &char| *letter), &letters);
        assert!(few.iter().all(|frequency| frequency.max_error == 0));
        assert_eq!(few.iter().map(|frequency| frequency.count).collect::<Vec<_>>(), [3, 2, 2, 1]);
    }

    #[test]
    fn the_new_key_inherits_the_least_count() {
        let most = approx_most_frequent(2, 2, |letter: &char| *letter);
        let mut state = most.init();
        "aaabbc".chars().for_each(|letter| most.fold(&mut state, &letter));
        let expected = [Frequency { key: 'a', count: 3, max_error: 0 }, Frequency { key: 'c', count: 3, max_error: 2 }];
        assert_eq!(most.finish(state), expected);
    }

    /// In one piece, and in several that are merged.
    #[test]
    fn estimates_keep_their_bounds_on_random_input() {
        for seed in 0..300 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let (keys, counters) = (rng.u32(1..60), rng.usize(1..20));
            let items: Vec<u32> = (0..rng.usize(1..400)).map(|_| rng.u32(..keys).min(rng.u32(..keys))).collect();
            let mut truth = HashMap::<u32, u64>::new();
            items.iter().for_each(|item| *truth.entry(*item).or_default() += 1);
            let bound = items.len() as u64 / counters as u64;
            let fold = approx_most_frequent(counters, counters, |item: &u32| *item);
            for pieces in [1, 2, 3, 7] {
                let found = merged(&fold, &items, pieces);
                for Frequency { key, count, max_error } in &found {
                    let context = format!("{key}: {count}, {max_error}, {pieces} pieces, seed {seed}");
                    assert!(*max_error <= bound, "{context}");
                    assert!((count - max_error..=*count).contains(&truth[key]), "{context}");
                }
                let counted = |key: &u32| found.iter().any(|frequency| frequency.key == *key);
                let missed = truth.iter().find(|(key, count)| **count > bound && !counted(key));
                assert_eq!(missed, None, "{pieces} pieces, seed {seed}");
                assert!(found.windows(2).all(|pair| pair[0].count >= pair[1].count));
            }
        }
    }

    #[test]
    #[should_panic(expected = "`counters` must be at least `k`")]
    fn fewer_counters_than_results_are_refused() {
        let _ = approx_most_frequent(3, 2, |n: &u32| *n);
    }
}
