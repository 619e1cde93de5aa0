//! [`KeyedScan`]: a state for each key.

use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{ErrorKind, PanicMessage, Result, StreamError};
use crate::mark::Label;
use crate::operators::key_table::{Place, Probe, Slot};
use crate::operators::lru_table::LruTable;
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::prefetch::Prefetched;
use crate::panic::{self, PanicPayload};
use crate::pipeline::stats::Counter;
use crate::stage::operator::sealed::{Origins, Shape};
use crate::stage::operator::{Emit, Operator};
use crate::stage::origins::Labels;

/// Turns each item into another one with a state that all items of its key share, such as a running total for each
/// customer. Made by [`Scan::with_key`](crate::Scan::with_key).
///
/// A key gets its state, made by `init`, with its first item. The state is removed, and the key gets a new one with its
/// next item, when
///
/// - the key had no item for the time to live ([`with_ttl`](Self::with_ttl); by default that never happens). The time
///   counts from its last item, by the pipeline's clock, and is exact: the state is removed when the time has passed,
///   not when the next item arrives;
/// - a new key would exceed `max_keys`. Then the least recently used key is evicted;
/// - the input ends.
///
/// By default a removed state is dropped. [`on_removal`](Self::on_removal) is given each one with its key and the
/// reason, and may return an item to emit. The report counts the states that expired and those that were evicted
/// ([`expired_keys`](crate::StepReport::expired_keys), [`evicted_keys`](crate::StepReport::evicted_keys)), and so does
/// [`stats`](Self::stats).
///
/// Each run has its own keys and states.
///
/// # Ordering
/// One item comes out for each that goes in, in order. The item of an evicted state precedes the output of the item
/// that evicted it. Expired states follow in the order in which they expire, and at the end, keys follow in the order
/// of their last use, oldest first. Error items are forwarded, and use no key.
///
/// # Back-pressure
/// While the output is full, no input is taken and no state is removed; those that have expired are removed as soon as
/// there is room. An item counts as delivered when it has been processed: with [delivery](crate::delivery), a state
/// holds back no acknowledgement, and is gone if the program stops.
///
/// # Cancellation
/// States are dropped and `on_removal` is not called.
///
/// # Panics of the closures
/// If the closure of the `Scan` panics, the item is lost, and an error item of kind
/// [`Panicked`](crate::ErrorKind::Panicked) takes its place. The state stays as the closure left it; a key whose first
/// item panics gets none, and evicts none. An item on which the key closure or `init` panics, or the `Hash`, `Eq` or
/// `Drop` of its key, becomes an error item that carries it. If `on_removal` panics, an error item of that kind takes
/// the place of its item, and the state is lost.
///
/// # Memory
/// At most `max_keys` keys and states, and about 50 bytes for each. As with any vector that grows, up to twice as much
/// is allocated. The memory of a removed state is reused, and freed at the end of the run.
///
/// # Source
/// The keys form a linked list in the order of their last use, as in the usual LRU cache. With one time to live for all
/// of them, that is also the order in which they expire, so both limits cost constant time for each item, and one timer
/// serves all keys.
///
/// ```
/// use std::time::Duration;
/// use streamz::{Pipeline, Scan, Stream};
///
/// let totals = Scan::new(|| 0, |total, (customer, amount): (&'static str, u32)| {
///     *total += amount;
///     (customer, *total)
/// })
/// .with_key(|(customer, _)| *customer, 100_000)
/// .with_ttl(Duration::from_secs(3_600));
/// let pipeline = Pipeline::new("orders");
/// let seen = Stream::from_iter(&pipeline, [("ann", 5), ("bob", 7), ("ann", 1)])
///     .through(&totals)
///     .collect::<Vec<_>>()?;
/// assert_eq!(seen, [("ann", 5), ("bob", 7), ("ann", 6)]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("stateful_map", "keyed_state", "map_with_state", "ttl", "session_state"))]
pub struct KeyedScan<In, Out, K, S, G, I, F> {
    key: Arc<G>,
    init: Arc<I>,
    f: Arc<F>,
    max_keys: usize,
    ttl: Option<Duration>,
    on_removal: Option<OnRemoval<K, S, Out>>,
    stats: KeyedScanStats,
    options: Options,
    types: PhantomData<fn(In)>,
}

type OnRemoval<K, S, Out> = Arc<dyn Fn(&K, S, Removal) -> Option<Out> + Send + Sync>;

/// Says why a [`KeyedScan`] removed the state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Removal {
    /// The key had no item for the [time to live](KeyedScan::with_ttl).
    Expired,
    /// There were too many keys, and this one was the least recently used.
    Evicted,
    /// The input has ended.
    Ended,
}

/// Live statistics of a [`KeyedScan`], across all its runs; made by [`KeyedScan::stats`]. Clones show the same numbers.
#[derive(Debug, Clone, Default)]
pub struct KeyedScanStats {
    expired: Arc<Counter>,
    evicted: Arc<Counter>,
}

impl KeyedScanStats {
    /// Returns the number of states that were removed because their key had no item for the time to live.
    pub fn expired(&self) -> u64 {
        self.expired.get()
    }

    /// Returns the number of states that were removed because there were too many keys.
    pub fn evicted(&self) -> u64 {
        self.evicted.get()
    }
}

impl<In, Out, K, S, G, I, F> KeyedScan<In, Out, K, S, G, I, F>
where
    K: Eq + Hash,
    G: Fn(&In) -> K,
    I: Fn() -> S,
    F: Fn(&mut S, In) -> Out,
{
    #[track_caller]
    pub(super) fn new(init: I, f: Arc<F>, options: Options, key: G, max_keys: usize) -> Self {
        assert!(max_keys > 0, "`max_keys` must be at least 1");
        let (key, init, stats) = (Arc::new(key), Arc::new(init), KeyedScanStats::default());
        Self { key, init, f, max_keys, ttl: None, on_removal: None, stats, options, types: PhantomData }
    }

    common_options!();

    /// Sets how long a key is kept after its last item. Defaults to the whole run, as does `Duration::MAX`. An item
    /// that comes exactly `ttl` after the one before it finds a new state.
    ///
    /// # Panics
    /// If `ttl` is zero.
    #[track_caller]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        assert!(!ttl.is_zero(), "`ttl` must be greater than zero");
        self.ttl = Some(ttl).filter(|ttl| *ttl != Duration::MAX);
        self
    }

    /// Calls `f` with each state that is removed, its key and the reason, on the stage's thread. If `f` returns an
    /// item, it is emitted.
    ///
    /// At the end of the input, `f` is called for every remaining key; return `None` for [`Removal::Ended`] to emit
    /// nothing then. A second call replaces the first closure.
    ///
    /// Behind a merge, windows of event time assign an item that is emitted here to no input: it does not move their
    /// watermarks.
    ///
    /// ```
    /// use streamz::{Pipeline, Removal, Scan, Stream};
    ///
    /// // Counts words, and emits the count of a word when it is removed.
    /// let counts = Scan::new(|| 0, |count: &mut u32, _: &'static str| { *count += 1; None })
    ///     .with_key(|word| *word, 1_000)
    ///     .on_removal(|word, count, why| Some(Some((*word, count, why))));
    /// let pipeline = Pipeline::new("words");
    /// let words = Stream::from_iter(&pipeline, ["a", "b", "a"])
    ///     .through(&counts)
    ///     .flatten()
    ///     .collect::<Vec<_>>()?;
    /// assert_eq!(words, [("b", 1, Removal::Ended), ("a", 2, Removal::Ended)]);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    pub fn on_removal(mut self, f: impl Fn(&K, S, Removal) -> Option<Out> + Send + Sync + 'static) -> Self {
        self.on_removal = Some(Arc::new(f));
        self
    }

    /// Returns live statistics, across all runs.
    pub fn stats(&self) -> KeyedScanStats {
        self.stats.clone()
    }

    fn operator(&self) -> KeyedScanOperator<In, Out, K, S, G, I, F> {
        KeyedScanOperator {
            key: Arc::clone(&self.key),
            init: Arc::clone(&self.init),
            f: Arc::clone(&self.f),
            max_keys: self.max_keys,
            ttl: self.ttl,
            on_removal: self.on_removal.clone(),
            stats: self.stats.clone(),
            states: LruTable::default(),
            prefetched: Prefetched::default(),
            ended: false,
            speaker: None,
            types: PhantomData,
        }
    }
}

stage! {
    [In, Out, K, S, G, I, F] KeyedScan<In, Out, K, S, G, I, F> where {
        In: Send + 'static,
        Out: Send + 'static,
        K: Eq + Hash + Send + 'static,
        S: Send + 'static,
        G: Fn(&In) -> K + Send + Sync + 'static,
        I: Fn() -> S + Send + Sync + 'static,
        F: Fn(&mut S, In) -> Out + Send + Sync + 'static
    }
    In => Out, KeyedScanOperator<In, Out, K, S, G, I, F>
}

/// Runs a [`KeyedScan`] as an [`Operator`].
pub struct KeyedScanOperator<In, Out, K, S, G, I, F> {
    key: Arc<G>,
    init: Arc<I>,
    f: Arc<F>,
    max_keys: usize,
    /// `None` if keys are kept for the whole run, and the clock is not read.
    ttl: Option<Duration>,
    on_removal: Option<OnRemoval<K, S, Out>>,
    stats: KeyedScanStats,
    states: LruTable<K, S>,
    prefetched: Prefetched<Probe<K>>,
    /// All states are being removed.
    ended: bool,
    /// Behind a merge, if anything is made of removed states.
    speaker: Option<Box<Speaker>>,
    types: PhantomData<fn(In)>,
}

/// Distinguishes items of the input, which have the origin that the merge reports, from results of removed states,
/// which have none.
#[derive(Default)]
struct Speaker {
    current: Option<usize>,
    labels: Labels,
}

/// Subsequent items are of that origin, if there is a merge upstream.
#[inline]
fn announce<T>(speaker: &mut Option<Box<Speaker>>, of_input: bool, out: &mut impl Emit<T>) {
    if let Some(speaker) = speaker {
        let origin = speaker.current.filter(|_| of_input);
        speaker.labels.before(origin).into_iter().for_each(|label| out.put_mark(label));
    }
}

impl<In, Out: Send + 'static, K, S, G, I, F> KeyedScanOperator<In, Out, K, S, G, I, F> {
    /// When the state expires, if it does. A time out of range means never.
    #[inline]
    fn expiry(&self, slot: Slot) -> Option<Instant> {
        self.states.time(slot)?.checked_add(self.ttl?)
    }

    #[inline]
    fn is_expired(&self, slot: Slot, now: Option<Instant>) -> bool {
        now.is_some_and(|now| self.expiry(slot).is_some_and(|expiry| expiry <= now))
    }

    /// Removes a state, and emits its result.
    fn remove(&mut self, slot: Slot, why: Removal, out: &mut impl Emit<Out>) {
        if let Some((key, state)) = self.states.remove(slot) {
            let made = self.conclude(Some(&key), state, why, out);
            self.emit_made(made, out);
            panic::guard_drop(key);
        }
    }

    /// A state was removed. Returns what is made of it.
    fn conclude(&self, key: Option<&K>, state: S, why: Removal, out: &mut impl Emit<Out>) -> Option<Out> {
        match why {
            Removal::Expired => {
                self.stats.expired.add_shared(1);
                out.expired_keys(1);
            }
            Removal::Evicted => {
                self.stats.evicted.add_shared(1);
                out.evicted_keys(1);
            }
            Removal::Ended => {}
        }
        let (Some(on_removal), Some(key)) = (&self.on_removal, key) else {
            panic::guard_drop(state);
            return None;
        };
        panic::catch(|| on_removal(key, state, why)).unwrap_or_else(|payload| {
            panicked(payload, out);
            None
        })
    }

    fn emit_made(&mut self, made: Option<Out>, out: &mut impl Emit<Out>) {
        if let Some(made) = made {
            announce(&mut self.speaker, false, out);
            out.emit_from(made, 0);
        }
    }

    /// Continues as far as there is room. Returns true if there is more.
    fn remove_all(&mut self, out: &mut impl Emit<Out>) -> bool {
        while let Some(oldest) = self.states.oldest() {
            if out.is_full() {
                return true;
            }
            self.remove(oldest, Removal::Ended, out);
        }
        false
    }
}

/// A panic replaces the item that would have been emitted.
#[cold]
fn panicked<T>(payload: PanicPayload, out: &mut impl Emit<T>) {
    out.error(out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload)));
}

impl<In, Out, K, S, G, I, F> Operator for KeyedScanOperator<In, Out, K, S, G, I, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    K: Eq + Hash + Send + 'static,
    S: Send + 'static,
    G: Fn(&In) -> K + Send + Sync + 'static,
    I: Fn() -> S + Send + Sync + 'static,
    F: Fn(&mut S, In) -> Out + Send + Sync + 'static,
{
    type In = In;
    type Out = Out;

    const SHAPE: Shape = Shape::KEEPS_ORIGINS.prefetching();

    fn item(&mut self, item: In, out: &mut impl Emit<Out>) {
        // The key's code comes first, while the item is whole and nothing has been changed.
        let probe = self.prefetched.next(|| self.states.probe_of(&*self.key, &item));
        let place = match probe.and_then(|probe| self.states.find(probe)) {
            Ok(place) => place,
            Err(panicked) => return out.fail_panicked(panicked.0.into(), item),
        };
        let now = self.ttl.map(|_| out.now());
        match place {
            Place::Taken(slot) => {
                // The timer has removed those that had expired when the driver checked: others may have expired since.
                if self.is_expired(slot, now) {
                    let fresh = match panic::catch(|| (self.init)()) {
                        Ok(fresh) => fresh,
                        Err(payload) => return out.fail_panicked(payload.into(), item),
                    };
                    if let Some(state) = self.states.get_mut(slot) {
                        let state = std::mem::replace(state, fresh);
                        let made = self.conclude(self.states.key(slot), state, Removal::Expired, out);
                        self.emit_made(made, out);
                    }
                }
                self.states.touch(slot, now);
                let Some(state) = self.states.get_mut(slot) else { unreachable!("it has just been found") };
                announce(&mut self.speaker, true, out);
                out.emit((self.f)(state, item));
            }
            Place::Free(probe) => {
                let mut state = match panic::catch(|| (self.init)()) {
                    Ok(state) => state,
                    Err(payload) => {
                        panic::guard_drop(probe.into_key());
                        return out.fail_panicked(payload.into(), item);
                    }
                };
                // Before an old key is evicted: an item that fails must not cost another key its state.
                let made = match panic::catch(|| (self.f)(&mut state, item)) {
                    Ok(made) => made,
                    Err(payload) => {
                        panic::guard_drop(probe.into_key());
                        panic::guard_drop(state);
                        out.failed(1);
                        return panicked(payload, out);
                    }
                };
                if self.states.len() >= self.max_keys
                    && let Some(oldest) = self.states.oldest()
                {
                    let is_expired = self.is_expired(oldest, now);
                    self.remove(oldest, if is_expired { Removal::Expired } else { Removal::Evicted }, out);
                }
                self.states.insert(probe, state, now);
                announce(&mut self.speaker, true, out);
                out.emit(made);
            }
        }
    }

    fn looks_ahead(&self) -> bool {
        self.states.is_large()
    }

    fn prefetch(&mut self, next: &[Result<In>]) {
        self.states.prefetch(&mut self.prefetched, &*self.key, next);
    }

    /// One at a time: if the next is due as well, the next call follows.
    fn timer(&mut self, _now: Instant, out: &mut impl Emit<Out>) {
        if let Some(oldest) = self.states.oldest() {
            self.remove(oldest, Removal::Expired, out);
        }
    }

    fn end(&mut self, out: &mut impl Emit<Out>) {
        self.ended = self.on_removal.is_some();
        self.resume(out);
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<Out>) -> bool {
        self.ended && self.remove_all(out)
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        self.ended
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        self.expiry(self.states.oldest()?)
    }

    fn attach(&mut self, _: &Arc<Origins>) -> bool {
        self.speaker = self.on_removal.is_some().then(Box::default);
        true
    }

    /// It holds no items, so a mark passes at once.
    fn take_mark(&mut self, mark: StreamError, out: &mut impl Emit<Out>) -> Option<StreamError> {
        if let Some(speaker) = &mut self.speaker
            && let Some(Label::Follows(origin)) = mark.label()
        {
            mark.complete_mark();
            speaker.current = origin;
            // At once: the window must also learn that nothing of an input follows its label.
            announce(&mut self.speaker, true, out);
            return None;
        }
        Some(mark)
    }

    fn discard(self) {
        panic::guard_drop(self.states);
        panic::guard_drop(self.prefetched);
        panic::guard_drop(self.key);
        panic::guard_drop(self.init);
        panic::guard_drop(self.f);
        panic::guard_drop(self.on_removal);
    }
}

opaque_debug! { [In, Out, K, S, G, I, F] KeyedScan<In, Out, K, S, G, I, F>: max_keys, ttl, stats, options }
opaque_debug! { [In, Out, K, S, G, I, F] KeyedScanOperator<In, Out, K, S, G, I, F>: max_keys, ttl, stats }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{Scan, StreamError};

    type Item = (char, u32);
    type Sums = KeyedScan<Item, (char, u32), char, u32, fn(&Item) -> char, fn() -> u32, fn(&mut u32, Item) -> Item>;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn add(sum: &mut u32, (key, n): Item) -> Item {
        *sum += n;
        assert!(n != 13, "thirteen");
        (key, *sum)
    }

    /// Running sums.
    fn sums(max_keys: usize) -> Sums {
        let scan = Scan::new((|| 0) as fn() -> u32, add as fn(&mut u32, Item) -> Item);
        scan.with_key((|(key, _)| *key) as fn(&Item) -> char, max_keys)
    }

    /// Running sums; a removed one has an upper-case key, and a number for the reason added to it.
    fn emitting(max_keys: usize) -> Sums {
        sums(max_keys).on_removal(|key, sum, why| Some((key.to_ascii_uppercase(), sum + mark(why))))
    }

    fn mark(why: Removal) -> u32 {
        match why {
            Removal::Expired => 1_000,
            Removal::Evicted => 2_000,
            Removal::Ended => 3_000,
        }
    }

    #[test]
    fn each_key_has_its_own_state_in_each_run() {
        let sums = sums(10);
        for _ in 0..2 {
            let mut run = Harness::new(&sums);
            [('a', 1), ('b', 10), ('a', 2), ('b', 20)].into_iter().for_each(|item| run.item(item));
            run.end();
            assert_eq!(run.items(), [('a', 1), ('b', 10), ('a', 3), ('b', 30)]);
        }
    }

    #[test]
    fn a_new_key_evicts_the_least_recently_used() {
        let sums = emitting(2);
        let stats = sums.stats();
        let mut run = Harness::new(&sums);
        for item in [('a', 1), ('b', 2), ('a', 3), ('c', 4), ('b', 5)] {
            run.item(item);
        }
        assert_eq!(run.items(), [('a', 1), ('b', 2), ('a', 4), ('B', 2_002), ('c', 4), ('A', 2_004), ('b', 5)]);
        assert_eq!((stats.evicted(), stats.expired()), (2, 0));
        let step = &run.steps()[0];
        assert_eq!((step.evicted_keys, step.expired_keys), (2, 0));
    }

    #[test]
    fn a_state_expires_ttl_after_its_last_item_to_the_nanosecond() {
        let sums = emitting(10).with_ttl(ms(10));
        let stats = sums.stats();
        let mut run = Harness::new(&sums);
        assert_eq!(run.next_wake(), None);
        run.item(('a', 1));
        run.advance(ms(6));
        run.item(('a', 2));
        run.item(('b', 5));
        run.advance(ms(10) - Duration::from_nanos(1));
        run.item(('b', 5));
        assert_eq!(run.items(), [('a', 1), ('a', 3), ('b', 5), ('b', 10)]);
        run.advance(Duration::from_nanos(1));
        assert_eq!(run.timed_items(), [(ms(16), ('A', 1_003))]);
        run.item(('a', 4));
        assert_eq!(run.items(), [('a', 4)]);
        assert_eq!((stats.evicted(), stats.expired()), (0, 1));
        let step = &run.steps()[0];
        assert_eq!((step.evicted_keys, step.expired_keys), (0, 1));
    }

    /// The clock may pass the expiry between the driver's check of the timer and the item.
    #[test]
    fn an_item_that_comes_before_the_timer_finds_a_new_state() {
        // The key closure is called after the check of the timer.
        let clock = Arc::new(std::sync::OnceLock::<crate::ManualClock>::new());
        let key = {
            let clock = Arc::clone(&clock);
            move |(key, n): &Item| {
                clock.get().unwrap().advance(ms(u64::from(*n)));
                *key
            }
        };
        let sums = Scan::new(|| 0, add).with_key(key, 1).with_ttl(ms(10));
        let sums = sums.on_removal(|key, sum, why| Some((key.to_ascii_uppercase(), sum + mark(why))));
        let mut run = Harness::new(&sums);
        clock.set(run.clock().clone()).unwrap();
        [('a', 1), ('a', 9), ('a', 10), ('b', 11)].into_iter().for_each(|item| run.item(item));
        assert_eq!(run.items(), [('a', 1), ('a', 10), ('A', 1_010), ('a', 10), ('A', 1_010), ('b', 11)]);
    }

    #[test]
    fn states_that_expire_together_wait_for_room_one_by_one() {
        let mut run = Harness::new(&emitting(10).with_ttl(ms(10))).with_capacity(1);
        for key in ['a', 'b', 'c'] {
            run.item((key, 1));
            assert_eq!(run.items(), [(key, 1)]);
        }
        run.advance(ms(15));
        let expired: Vec<_> = (0..3).flat_map(|_| run.items()).collect();
        assert_eq!(expired, [('A', 1_001), ('B', 1_001), ('C', 1_001)]);
        assert_eq!(run.next_wake(), None);
    }

    #[test]
    fn at_the_end_states_are_emitted_by_last_use_as_room_allows() {
        let mut run = Harness::new(&emitting(10)).with_capacity(1);
        for key in ['a', 'b', 'a'] {
            run.item((key, 1));
            run.items();
        }
        run.end();
        assert_eq!(run.items(), [('B', 3_001)]);
        assert_eq!(run.items(), [('A', 3_002)]);
        assert!(run.items().is_empty());
    }

    #[test]
    fn a_hook_that_returns_nothing_sees_every_state_that_goes() {
        let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let sums = sums(1).with_ttl(ms(10)).on_removal({
            let seen = Arc::clone(&seen);
            move |key, sum, why| {
                seen.lock().push((*key, sum, why));
                None
            }
        });
        let mut run = Harness::new(&sums);
        run.item(('a', 1));
        run.item(('b', 2));
        run.advance(ms(10));
        run.item(('c', 3));
        run.end();
        assert_eq!(run.items(), [('a', 1), ('b', 2), ('c', 3)]);
        let expected = [('a', 1, Removal::Evicted), ('b', 2, Removal::Expired), ('c', 3, Removal::Ended)];
        assert_eq!(*seen.lock(), expected);
        let step = &run.steps()[0];
        assert_eq!((step.delivered, step.emitted, step.held()), (3, 3, 0));
    }

    #[test]
    fn a_panic_keeps_the_state_of_its_key_and_of_all_others() {
        let mut run = Harness::new(&emitting(1));
        run.item(('a', 1));
        run.error(StreamError::new(ErrorKind::Failed, "before"));
        run.item(('a', 13));
        run.item(('b', 13));
        run.item(('a', 2));
        let outputs = run.outputs();
        let seen: Vec<_> = outputs.iter().map(|output| output.as_ref().map_err(StreamError::kind)).collect();
        let panicked = Err(ErrorKind::Panicked);
        assert_eq!(seen, [Ok(&('a', 1)), Err(ErrorKind::Failed), panicked, panicked, Ok(&('a', 16))]);
        let step = &run.steps()[0];
        assert_eq!((step.delivered, step.failed), (2, 2));
    }

    #[test]
    fn a_panic_in_the_hook_becomes_an_error_item_and_loses_no_item() {
        let sums = sums(1).on_removal(|key, _, _| if *key == 'a' { panic!("a") } else { None });
        let mut run = Harness::new(&sums);
        run.item(('a', 1));
        run.item(('b', 2));
        run.end();
        let outputs = run.outputs();
        assert_eq!(outputs.len(), 3);
        assert_eq!(outputs[1].as_ref().unwrap_err().kind(), ErrorKind::Panicked);
        assert_eq!(outputs[2].as_ref().unwrap(), &('b', 2));
        let step = &run.steps()[0];
        assert_eq!((step.delivered, step.failed, step.errors_out), (2, 0, 1));
    }

    #[test]
    fn agrees_with_the_simple_implementation_on_random_input() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (ttl, max_keys, room) = (random.u64(1..40), random.usize(1..8), random.usize(1..4));
            let mut run = Harness::new(&emitting(max_keys).with_ttl(ms(ttl))).with_capacity(room);
            // The simple implementation: a list of keys with their sums and times, oldest first, that is searched each
            // time.
            let mut list: Vec<(u64, char, u32)> = Vec::new();
            let (mut expected, mut seen, mut now) = (Vec::new(), Vec::new(), 0);
            let mut take_all = |run: &mut Harness<_>| {
                while let Some(some) = Some(run.items()).filter(|some| !some.is_empty()) {
                    seen.extend(some);
                }
            };
            for _ in 0..300 {
                let step = random.u64(0..5);
                run.advance(ms(step));
                take_all(&mut run);
                now += step;
                while list.first().is_some_and(|(used, ..)| now - used >= ttl) {
                    let (_, key, sum) = list.remove(0);
                    expected.push((key.to_ascii_uppercase(), 1_000 + sum));
                }
                let item = (random.char('a'..='k'), random.u32(0..10));
                run.item(item);
                take_all(&mut run);
                let mut sum = 0;
                match list.iter().position(|(_, key, _)| *key == item.0) {
                    Some(index) => sum = list.remove(index).2,
                    None if list.len() == max_keys => {
                        let (_, key, sum) = list.remove(0);
                        expected.push((key.to_ascii_uppercase(), 2_000 + sum));
                    }
                    None => {}
                }
                sum += item.1;
                list.push((now, item.0, sum));
                expected.push((item.0, sum));
            }
            run.end();
            take_all(&mut run);
            expected.extend(list.into_iter().map(|(_, key, sum)| (key.to_ascii_uppercase(), 3_000 + sum)));
            assert_eq!(seen, expected, "seed {seed}");
        }
    }

    #[test]
    #[should_panic(expected = "`ttl` must be greater than zero")]
    fn no_time_at_all_is_refused() {
        let _ = sums(1).with_ttl(Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "`max_keys` must be at least 1")]
    fn no_keys_are_refused() {
        let _ = sums(0);
    }
}
