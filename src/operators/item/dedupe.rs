//! [`Dedupe`]: forwards the first item of each key.

use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::operators::key_table::{Place, Probe, Slot};
use crate::operators::lru_table::LruTable;
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::prefetch::Prefetched;
use crate::operators::shorthand;
use crate::panic;
use crate::pipeline::stats::Counter;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// The number of remembered keys, unless another is set.
const MAX_KEYS: usize = 1_000_000;

/// Keeps the first item of each key; later items with the same key are counted as filtered.
///
/// A key is remembered until its time is up ([`with_ttl`](Self::with_ttl); by default that never happens), or until
/// there are too many keys ([`with_max_keys`](Self::with_max_keys)): then the oldest is evicted, which is counted in
/// the report ([`evicted_keys`](crate::StepReport::evicted_keys)) and in [`stats`](Self::stats). The age of a key
/// counts from the last item that *passed* with it; duplicates do not refresh it, unless
/// [`refresh_on_duplicate`](Self::refresh_on_duplicate) is set.
///
/// Each run remembers its own keys. Error items are forwarded. An item on which the key closure panics, or the `Hash`,
/// `Eq` or `Drop` of its key, becomes an error item that carries it. A panic in the `Drop` of a key that is forgotten
/// has no further consequences.
///
/// # Memory
/// Each remembered key, and about 50 bytes for it. Expired keys are removed when the next item arrives, oldest first,
/// without visiting the others.
///
/// ```
/// use streamz::{Dedupe, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("events");
/// let unique = Stream::from_iter(&pipeline, [(1, "a"), (2, "b"), (1, "c")])
///     .through(&Dedupe::new(|(id, _): &(u32, &str)| *id))
///     .collect::<Vec<_>>()?;
/// assert_eq!(unique, [(1, "a"), (2, "b")]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("distinct", "unique", "distinct_until_changed"))]
pub struct Dedupe<T, K, F> {
    key: Arc<F>,
    memory: Memory,
    stats: DedupeStats,
    options: Options,
    types: PhantomData<fn(T) -> K>,
}

/// The settings of the memory.
#[derive(Debug, Clone)]
struct Memory {
    /// `None` for no expiry.
    ttl: Option<Duration>,
    max_keys: usize,
    refresh: bool,
}

/// Live statistics of a [`Dedupe`], across all its runs; made by [`Dedupe::stats`]. Clones show the same numbers.
#[derive(Debug, Clone, Default)]
pub struct DedupeStats {
    evicted: Arc<Counter>,
}

impl DedupeStats {
    /// Returns the number of keys that were evicted early because there were too many. An item with such a key is kept
    /// again.
    pub fn evicted(&self) -> u64 {
        self.evicted.get()
    }
}

impl<T, K, F> Dedupe<T, K, F>
where
    K: Eq + Hash,
    F: Fn(&T) -> K,
{
    /// Keeps one item of each key. Default name: `dedupe`.
    ///
    /// `key` is called once for each item, in their order. With many keys, it may be called for up to 16 items before the
    /// first of them is processed, so it must not wait for the outcome of earlier items.
    pub fn new(key: F) -> Self {
        let memory = Memory { ttl: None, max_keys: MAX_KEYS, refresh: false };
        let (stats, options) = (DedupeStats::default(), Options::new("dedupe"));
        Self { key: Arc::new(key), memory, stats, options, types: PhantomData }
    }

    common_options!();

    /// Sets how long a key is remembered: after that time, an item with the key is kept again. Defaults to no limit, as
    /// does `Duration::MAX`.
    ///
    /// # Panics
    /// If `ttl` is zero.
    #[track_caller]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        assert!(!ttl.is_zero(), "`ttl` must be greater than zero");
        self.memory.ttl = Some(ttl).filter(|ttl| *ttl != Duration::MAX);
        self
    }

    /// Sets the greatest number of keys that are remembered; a new key evicts the oldest. Defaults to 1,000,000. With
    /// 1, only equal neighbours are removed. `usize::MAX` means no bound: memory then grows with the number of keys.
    ///
    /// # Panics
    /// If `max_keys` is 0.
    #[track_caller]
    pub fn with_max_keys(mut self, max_keys: usize) -> Self {
        assert!(max_keys > 0, "`max_keys` must be at least 1");
        self.memory.max_keys = max_keys;
        self
    }

    /// Sets whether a duplicate refreshes its key: then a key expires when it has not been seen for the whole time to
    /// live, and the key that has not been seen for longest is evicted. Defaults to `false`.
    pub fn refresh_on_duplicate(mut self, refresh: bool) -> Self {
        self.memory.refresh = refresh;
        self
    }

    /// Returns live statistics, across all runs.
    pub fn stats(&self) -> DedupeStats {
        self.stats.clone()
    }

    fn operator(&self) -> DedupeOperator<T, K, F> {
        DedupeOperator {
            key: Arc::clone(&self.key),
            memory: self.memory.clone(),
            stats: self.stats.clone(),
            seen: LruTable::default(),
            prefetched: Prefetched::default(),
            types: PhantomData,
        }
    }
}

stage! {
    [T, K, F] Dedupe<T, K, F> where {
        T: Send + 'static, K: Eq + Hash + Send + 'static, F: Fn(&T) -> K + Send + Sync + 'static
    }
    T => T, DedupeOperator<T, K, F>
}

/// Runs a [`Dedupe`] as an [`Operator`].
pub struct DedupeOperator<T, K, F> {
    key: Arc<F>,
    memory: Memory,
    stats: DedupeStats,
    /// The remembered keys.
    seen: LruTable<K, ()>,
    prefetched: Prefetched<Probe<K>>,
    types: PhantomData<fn(T)>,
}

impl<T, K, F> DedupeOperator<T, K, F> {
    /// Removes keys that are too old at `now`. Afterwards every key in `seen` counts.
    #[inline]
    fn forget_old(&mut self, now: Option<Instant>, out: &mut impl Emit<T>) {
        let (Some(now), Some(ttl)) = (now, self.memory.ttl) else { return };
        while let Some(oldest) = self.seen.oldest() {
            let age = self.seen.time(oldest).map(|since| now.saturating_duration_since(since));
            if age.is_none_or(|age| age < ttl) {
                return;
            }
            self.forget(oldest);
            out.expired_keys(1);
        }
    }

    fn forget(&mut self, slot: Slot) {
        panic::guard_drop(self.seen.remove(slot));
    }
}

impl<T, K, F> Operator for DedupeOperator<T, K, F>
where
    T: Send + 'static,
    K: Eq + Hash + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::PLAIN.prefetching();

    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        // All user code comes first, while the item is whole and nothing has been changed.
        let probe = match self.prefetched.next(|| self.seen.probe_of(&*self.key, &item)) {
            Ok(probe) => probe,
            Err(panicked) => return out.fail_panicked(panicked.0.into(), item),
        };
        let now = self.memory.ttl.map(|_| out.now());
        self.forget_old(now, out);
        match self.seen.find(probe) {
            Ok(Place::Taken(slot)) => {
                if self.memory.refresh {
                    self.seen.touch(slot, now);
                }
                drop(item);
                out.filtered(1);
            }
            Ok(Place::Free(probe)) => {
                if self.seen.len() >= self.memory.max_keys
                    && let Some(oldest) = self.seen.oldest()
                {
                    self.forget(oldest);
                    self.stats.evicted.add_shared(1);
                    out.evicted_keys(1);
                }
                self.seen.insert(probe, (), now);
                out.emit(item);
            }
            Err(panicked) => out.fail_panicked(panicked.0.into(), item),
        }
    }

    fn looks_ahead(&self) -> bool {
        self.seen.is_large()
    }

    fn prefetch(&mut self, next: &[Result<T>]) {
        self.seen.prefetch(&mut self.prefetched, &*self.key, next);
    }
}

shorthand! {
    group {
        /// # Selecting items
    }
    /// Keeps the first item of each key: a [`Dedupe`].
    #[doc(alias("distinct", "unique"))]
    pub fn dedupe<K, F>(self, key: F) -> Dedupe<T, K, F> => Stream<T>
    where
        K: Eq + std::hash::Hash + Send + 'static,
        F: Fn(&T) -> K + Send + Sync + 'static,
    {
        Dedupe::new(key)
    }
}

opaque_debug! { [T, K, F] Dedupe<T, K, F>: memory, stats, options }
opaque_debug! { [T, K, F] DedupeOperator<T, K, F>: memory, stats }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, StreamError};

    type Numbers = Dedupe<u32, u32, fn(&u32) -> u32>;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn numbers() -> Numbers {
        Dedupe::new(|n| *n)
    }

    #[test]
    fn passes_each_key_once_and_counts_the_rest() {
        let mut dedupe = Harness::new(&Dedupe::new(|word: &&str| word.len()));
        ["a", "bb", "c", "dd", "eee"].into_iter().for_each(|word| dedupe.item(word));
        assert_eq!(dedupe.items(), ["a", "bb", "eee"]);
        let step = &dedupe.steps()[0];
        assert_eq!((step.delivered, step.filtered), (3, 2));
    }

    #[test]
    fn the_time_counts_from_the_last_item_that_passed() {
        let mut dedupe = Harness::new(&numbers().with_ttl(ms(100)));
        let mut passed = Vec::new();
        for millis in 0..=350 {
            if millis % 10 == 0 {
                dedupe.item(7);
            }
            passed.extend(dedupe.items().iter().map(|_| millis));
            dedupe.advance(ms(1));
        }
        assert_eq!(passed, [0, 100, 200, 300]);
    }

    #[test]
    fn with_refresh_the_time_counts_from_the_last_one_seen() {
        let mut dedupe = Harness::new(&numbers().with_ttl(ms(100)).refresh_on_duplicate(true));
        for _ in 0..50 {
            dedupe.item(7);
            dedupe.advance(ms(99));
        }
        assert_eq!(dedupe.items().len(), 1);
        dedupe.advance(ms(1));
        dedupe.item(7);
        assert_eq!(dedupe.items().len(), 1);
        let step = &dedupe.steps()[0];
        assert_eq!((step.evicted_keys, step.expired_keys), (0, 1));
    }

    #[test]
    fn the_shortest_time_is_a_time() {
        let mut dedupe = Harness::new(&numbers().with_ttl(Duration::from_nanos(1)));
        dedupe.item(1);
        dedupe.item(1);
        dedupe.advance(Duration::from_nanos(1));
        dedupe.item(1);
        assert_eq!(dedupe.items(), [1, 1]);
    }

    #[test]
    fn one_key_too_many_makes_the_oldest_go_and_is_counted() {
        let dedupe = numbers().with_max_keys(2);
        let stats = dedupe.stats();
        let mut dedupe = Harness::new(&dedupe);
        [1, 2, 1, 3, 2, 1].into_iter().for_each(|n| dedupe.item(n));
        assert_eq!(dedupe.items(), [1, 2, 3, 1]);
        assert_eq!((stats.evicted(), dedupe.steps()[0].evicted_keys), (2, 2));
    }

    #[test]
    fn with_refresh_the_least_recently_seen_key_is_evicted() {
        let mut dedupe = Harness::new(&numbers().with_max_keys(2).refresh_on_duplicate(true));
        [1, 2, 1, 3, 1, 2].into_iter().for_each(|n| dedupe.item(n));
        assert_eq!(dedupe.items(), [1, 2, 3, 2]);
    }

    /// Not equal to anything, not even to itself, and panics when dropped on request.
    #[derive(Clone, Debug)]
    struct Odd {
        is_bomb: bool,
        is_equal: bool,
    }

    impl PartialEq for Odd {
        fn eq(&self, other: &Self) -> bool {
            self.is_equal && other.is_equal
        }
    }

    impl Eq for Odd {}

    impl Hash for Odd {
        fn hash<H: std::hash::Hasher>(&self, _state: &mut H) {}
    }

    impl Drop for Odd {
        fn drop(&mut self) {
            assert!(!self.is_bomb, "dropped");
        }
    }

    #[test]
    fn keys_that_cannot_be_found_again_make_room_all_the_same() {
        let dedupe = Dedupe::new(|_: &u32| Odd { is_bomb: false, is_equal: false }).with_max_keys(3);
        let stats = dedupe.stats();
        let mut dedupe = Harness::new(&dedupe);
        (0..10).for_each(|n| dedupe.item(n));
        assert_eq!(dedupe.items(), (0..10).collect::<Vec<_>>());
        assert_eq!(stats.evicted(), 7);
    }

    #[test]
    fn a_key_that_panics_when_dropped_fails_its_item_alone() {
        let mut dedupe = Harness::new(&Dedupe::new(|n: &u32| Odd { is_bomb: *n == 2, is_equal: true }));
        (1..=3).for_each(|n| dedupe.item(n));
        let outputs = dedupe.outputs();
        assert_eq!(outputs.len(), 2);
        assert_eq!(outputs[1].as_ref().unwrap_err().kind(), ErrorKind::Panicked);
        assert_eq!(outputs[1].as_ref().unwrap_err().take_item(), Some(2_u32));
        let step = &dedupe.steps()[0];
        assert_eq!((step.delivered, step.failed, step.filtered), (1, 1, 1));
    }

    #[test]
    fn agrees_with_the_simple_implementation_on_random_input() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (ttl, max_keys, refresh) = (random.u64(1..40), random.usize(1..8), random.bool());
            let dedupe = numbers().with_ttl(ms(ttl)).with_max_keys(max_keys).refresh_on_duplicate(refresh);
            let (stats, mut dedupe) = (dedupe.stats(), Harness::new(&dedupe));
            // The simple implementation: a list of keys with their times, oldest first, that is searched each time.
            let mut list: Vec<(u64, u32)> = Vec::new();
            let (mut expected, mut evicted, mut now) = (Vec::new(), 0, 0);
            for _ in 0..300 {
                let step = random.u64(0..5);
                dedupe.advance(ms(step));
                now += step;
                let key = random.u32(0..12);
                dedupe.item(key);
                list.retain(|(since, _)| now - since < ttl);
                match list.iter().position(|(_, known)| *known == key) {
                    Some(index) if refresh => {
                        list.remove(index);
                        list.push((now, key));
                    }
                    Some(_) => {}
                    None => {
                        if list.len() == max_keys {
                            list.remove(0);
                            evicted += 1;
                        }
                        list.push((now, key));
                        expected.push(key);
                    }
                }
            }
            assert_eq!((dedupe.items(), stats.evicted()), (expected, evicted), "seed {seed}");
        }
    }

    #[test]
    fn runs_share_no_keys() {
        let dedupe = numbers();
        for _ in 0..2 {
            let mut run = Harness::new(&dedupe);
            run.item(1);
            assert_eq!(run.items(), [1]);
        }
    }

    #[test]
    fn errors_pass_and_a_panic_fails_its_item_alone() {
        let mut dedupe = Harness::new(&Dedupe::new(|n: &u32| if *n == 2 { panic!("two") } else { *n }));
        dedupe.item(1);
        dedupe.error(StreamError::new(ErrorKind::Failed, "before"));
        dedupe.item(2);
        dedupe.item(1);
        let outputs = dedupe.outputs();
        assert_eq!(outputs.len(), 3);
        assert_eq!(outputs[2].as_ref().unwrap_err().take_item::<u32>(), Some(2));
        assert!(dedupe.steps()[0].balances());
    }

    #[test]
    #[should_panic(expected = "`ttl` must be greater than zero")]
    fn no_time_at_all_is_refused() {
        let _ = numbers().with_ttl(Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "`max_keys` must be at least 1")]
    fn no_keys_are_refused() {
        let _ = numbers().with_max_keys(0);
    }
}
