//! [`KeyedBatcher`]: a batch for each key.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use super::BatchConfig;
use super::open::{Limits, Open};
use crate::error::{ErrorKind, PanicMessage, Result, StreamError};
use crate::mark::Reached;
use crate::operators::key_table::{KeyPanicked, Place, Probe, Slot};
use crate::operators::lru_table::LruTable;
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::prefetch::Prefetched;
use crate::panic;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Gathers the items of each key into separate batches; made by [`Batcher::with_key`](crate::Batcher::with_key).
///
/// Each key has its own batch, with its own time limit from its own first item, and every batch holds items of one key
/// only. What completes a batch is as for a [`Batcher`](crate::Batcher), with two differences:
///
/// - An item whose key would be one too many ends the batch that was opened first. So at most `max_keys` batches are
///   open at a time, however many keys there are. The report counts them
///   ([`evicted_keys`](crate::StepReport::evicted_keys)).
/// - An error item ends *all* open batches, in the order in which they were opened, so that it overtakes none of the items
///   before it. So does the end of the input. On a stream with many errors batches stay short; take the errors out
///   first if that matters.
///
/// The cost per item does not depend on how many batches are open.
///
/// # Ordering
/// The items of one key keep their order. Batches of different keys come in the order in which they are completed.
///
/// # Panics of the closures
/// An item on which the key or the weight panics, or the `Hash`, `Eq` or `Drop` of its key, becomes an error item that
/// carries it, after all open batches. If the key of a batch panics when it is dropped after the batch was emitted,
/// that has no further consequences.
///
/// # Memory
/// `max_keys` open batches of at most `max_size` items each, the key of each of them, and the batches in the output.
///
/// ```
/// use streamz::{BatchConfig, Batcher, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("rows");
/// let by_table = Batcher::new(BatchConfig { max_size: 2, ..BatchConfig::default() })
///     .with_key(|(table, _): &(char, u32)| *table, 100);
/// let batches = Stream::from_iter(&pipeline, [('a', 1), ('b', 2), ('a', 3), ('c', 4)])
///     .through(&by_table)
///     .collect::<Vec<_>>()?;
/// assert_eq!(batches, [vec![('a', 1), ('a', 3)], vec![('b', 2)], vec![('c', 4)]]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("group_by", "groupBy", "key_by"))]
pub struct KeyedBatcher<T, K, F> {
    config: BatchConfig,
    limits: Limits<T>,
    options: Options,
    key: Arc<F>,
    max_keys: usize,
    types: std::marker::PhantomData<fn() -> K>,
}

impl<T, K: Eq + Hash, F: Fn(&T) -> K> KeyedBatcher<T, K, F> {
    #[track_caller]
    pub(super) fn new(config: BatchConfig, limits: Limits<T>, options: Options, key: F, max_keys: usize) -> Self {
        assert!(max_keys > 0, "`max_keys` must be at least 1");
        Self { config, limits, options, key: Arc::new(key), max_keys, types: std::marker::PhantomData }
    }

    common_options! {
        with_name: options.name,
        /// Sets how many batches may wait in the output for a slow consumer. Defaults to 16, or for batches of less than 64
        /// items to as many as have 1,024 items, whatever the pipeline's [capacity](crate::PipelineBuilder::capacity),
        /// because batches are big. With 0, every batch is handed over directly.
        with_capacity(batches): options.capacity,
    }

    /// Also limits the weight of each batch, as [`Batcher::with_weight`](crate::Batcher::with_weight) does.
    ///
    /// # Panics
    /// If `max_weight` is 0.
    #[track_caller]
    pub fn with_weight(mut self, weigh: impl Fn(&T) -> usize + Send + Sync + 'static, max_weight: usize) -> Self {
        self.limits.set_weight(weigh, max_weight);
        self
    }

    fn operator(&self) -> KeyedBatcherOperator<T, K, F> {
        KeyedBatcherOperator {
            limits: self.limits.clone(),
            key: Arc::clone(&self.key),
            max_keys: self.max_keys,
            open: LruTable::default(),
            prefetched: Prefetched::default(),
            opened: 0,
            held: 0,
            marks: VecDeque::new(),
            reached: Reached::default(),
            flushing: false,
            error: None,
        }
    }
}

stage! {
    [T, K, F] KeyedBatcher<T, K, F> where {
        T: Send + 'static, K: Eq + Hash + Send + 'static, F: Fn(&T) -> K + Send + Sync + 'static
    }
    T => Vec<T>, KeyedBatcherOperator<T, K, F>
}

/// Runs a [`KeyedBatcher`] as an [`Operator`].
pub struct KeyedBatcherOperator<T, K, F> {
    limits: Limits<T>,
    key: Arc<F>,
    max_keys: usize,
    /// The open batches, each with its number and its due time, in the order in which they were opened. All have the
    /// same duration, so this is also the order in which they fall due.
    open: LruTable<K, (u64, Open<T>)>,
    prefetched: Prefetched<Probe<K>>,
    opened: u64,
    held: u64,
    /// Marks, each with the number of the last batch that had been opened when it arrived.
    marks: VecDeque<(u64, StreamError)>,
    reached: Reached,
    /// All open batches are being sent; then this error.
    flushing: bool,
    error: Option<StreamError>,
}

impl<T, K, F> KeyedBatcherOperator<T, K, F> {
    /// Sends the batch of a key, and removes the key.
    fn flush(&mut self, slot: Slot, out: &mut impl Emit<Vec<T>>) {
        if let Some((key, (_, open))) = self.open.remove(slot) {
            self.send(open, out);
            panic::guard_drop(key);
        }
    }

    fn flush_oldest(&mut self, out: &mut impl Emit<Vec<T>>) {
        if let Some(oldest) = self.open.oldest() {
            self.flush(oldest, out);
        }
    }

    /// Sends the batch of a key that continues with an empty one.
    fn restart(&mut self, slot: Slot, out: &mut impl Emit<Vec<T>>) {
        self.opened += 1;
        self.open.touch(slot, self.limits.due(|| out.now()));
        if let Some((number, open)) = self.open.get_mut(slot) {
            *number = self.opened;
            let full = std::mem::replace(open, Open::with_room_for(0));
            self.send(full, out);
        }
    }

    fn send(&mut self, mut open: Open<T>, out: &mut impl Emit<Vec<T>>) {
        let count = open.len();
        self.held -= count;
        out.emit_from(open.items.take(), count);
    }

    #[cold]
    fn release_marks(&mut self, out: &mut impl Emit<Vec<T>>) {
        let oldest = self.open.oldest().and_then(|slot| self.open.get(slot)).map_or(u64::MAX, |(number, _)| *number);
        while self.marks.front().is_some_and(|(last, _)| *last < oldest) {
            self.marks.pop_front().into_iter().for_each(|(_, mark)| out.put_mark(mark.extended(&mut self.reached)));
        }
    }

    /// Continues as far as there is room. Returns true if there is more.
    fn flush_all(&mut self, out: &mut impl Emit<Vec<T>>) -> bool {
        while let Some(oldest) = self.open.oldest() {
            if out.is_full() {
                return true;
            }
            self.flush(oldest, out);
        }
        self.flushing = false;
        if let Some(error) = self.error.take() {
            out.error(error);
        }
        false
    }
}

impl<T, K, F> Operator for KeyedBatcherOperator<T, K, F>
where
    T: Send + 'static,
    K: Eq + Hash + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    type In = T;
    type Out = Vec<T>;

    const SHAPE: Shape = Shape::ANY.prefetching();

    fn item(&mut self, item: T, out: &mut impl Emit<Vec<T>>) {
        // All user code comes first, while the item is whole and nothing has been changed.
        let probe = self.prefetched.next(|| self.open.probe_of(&*self.key, &item));
        let asked = probe.and_then(|probe| {
            let weight = match self.limits.weigh(&item) {
                Ok(weight) => weight,
                Err(payload) => {
                    panic::guard_drop(probe);
                    return Err(KeyPanicked(payload));
                }
            };
            Ok((self.open.find(probe)?, weight))
        });
        let (place, weight) = match asked {
            Ok(asked) => asked,
            Err(KeyPanicked(payload)) => {
                let error = out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload)).with_item(item);
                out.failed(1);
                return self.error(error, out);
            }
        };
        let slot = match place {
            Place::Taken(slot) => {
                if self.open.get(slot).is_some_and(|(_, open)| open.is_too_full_for(weight, &self.limits)) {
                    self.restart(slot, out);
                }
                slot
            }
            Place::Free(probe) => {
                if self.open.len() >= self.max_keys {
                    out.evicted_keys(1);
                    self.flush_oldest(out);
                }
                self.opened += 1;
                let (batch, due) = ((self.opened, Open::with_room_for(0)), self.limits.due(|| out.now()));
                self.open.insert(probe, batch, due)
            }
        };
        let Some((_, open)) = self.open.get_mut(slot) else { unreachable!("it has just been found") };
        let is_complete = open.add(item, weight, &self.limits);
        self.held += 1;
        if is_complete {
            self.flush(slot, out);
        }
    }

    fn looks_ahead(&self) -> bool {
        self.open.is_large()
    }

    fn prefetch(&mut self, next: &[Result<T>]) {
        self.open.prefetch(&mut self.prefetched, &*self.key, next);
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<Vec<T>>) {
        self.error = Some(error);
        self.end(out);
    }

    /// One batch for each call: if the next is due as well, the next call follows.
    fn timer(&mut self, _now: Instant, out: &mut impl Emit<Vec<T>>) {
        self.flush_oldest(out);
    }

    fn end(&mut self, out: &mut impl Emit<Vec<T>>) {
        self.flushing = true;
        self.flush_all(out);
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<Vec<T>>) -> bool {
        if self.flushing && self.flush_all(out) {
            return true;
        }
        if !self.marks.is_empty() {
            self.release_marks(out);
        }
        false
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        self.flushing || !self.marks.is_empty()
    }

    /// The mark is forwarded when all batches that are open now have been sent.
    fn take_mark(&mut self, mark: StreamError, _out: &mut impl Emit<Vec<T>>) -> Option<StreamError> {
        mark.as_mark().into_iter().for_each(|mark| self.reached.receive(mark));
        if self.open.oldest().is_none() {
            return Some(mark);
        }
        self.marks.push_back((self.opened, mark));
        None
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        self.open.time(self.open.oldest()?)
    }

    #[inline]
    fn held(&self) -> u64 {
        self.held
    }
}

opaque_debug! { [T, K, F] KeyedBatcher<T, K, F>: config, max_keys, options }
opaque_debug! { [T, K, F] KeyedBatcherOperator<T, K, F>: max_keys, held }

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Batcher;
    use crate::testing::Harness;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    type Letter = fn(&(char, u32)) -> char;

    fn by_letter(config: BatchConfig, max_keys: usize) -> KeyedBatcher<(char, u32), char, Letter> {
        Batcher::new(config).with_key(|(letter, _)| *letter, max_keys)
    }

    #[test]
    fn each_key_has_its_own_batch() {
        let mut batcher = Harness::new(&by_letter(BatchConfig { max_size: 2, max_latency: ms(0) }, 10));
        for item in [('a', 0), ('b', 0), ('b', 1), ('a', 1), ('c', 0)] {
            batcher.item(item);
        }
        assert_eq!(batcher.items(), [[('b', 0), ('b', 1)], [('a', 0), ('a', 1)]]);
        batcher.end();
        assert_eq!(batcher.items(), [[('c', 0)]]);
        let step = &batcher.steps()[0];
        assert_eq!((step.received, step.emitted, step.delivered), (5, 3, 5));
    }

    #[test]
    fn each_key_has_its_own_timer_from_its_own_first_item() {
        let mut batcher = Harness::new(&by_letter(BatchConfig { max_size: 100, max_latency: ms(50) }, 10));
        batcher.item(('a', 0));
        batcher.advance(ms(30));
        batcher.item(('b', 0));
        batcher.item(('a', 1));
        batcher.advance(ms(20));
        assert_eq!(batcher.items(), [[('a', 0), ('a', 1)]]);
        batcher.item(('a', 2));
        batcher.advance(ms(30));
        assert_eq!(batcher.items(), [[('b', 0)]]);
        assert_eq!(batcher.next_wake(), Some(ms(20)));
    }

    #[test]
    fn batches_due_together_come_in_the_order_they_were_opened() {
        let mut batcher = Harness::new(&by_letter(BatchConfig { max_size: 100, max_latency: ms(50) }, 100));
        let letters = ['q', 'a', 'z', 'k'];
        letters.into_iter().for_each(|letter| batcher.item((letter, 0)));
        batcher.advance(ms(50));
        let order: Vec<_> = batcher.items().into_iter().map(|batch| batch[0].0).collect();
        assert_eq!(order, letters);
    }

    #[test]
    fn one_key_too_many_ends_the_oldest_batch() {
        let mut batcher = Harness::new(&by_letter(BatchConfig { max_size: 100, max_latency: ms(0) }, 2));
        for item in [('a', 0), ('b', 0), ('a', 1), ('c', 0), ('b', 1)] {
            batcher.item(item);
        }
        assert_eq!(batcher.items(), [[('a', 0), ('a', 1)]]);
        assert_eq!((batcher.steps()[0].held(), batcher.steps()[0].evicted_keys), (3, 1));
    }

    #[test]
    fn an_error_follows_all_earlier_items_even_without_room() {
        let keyed = by_letter(BatchConfig { max_size: 100, max_latency: ms(0) }, 100);
        let mut batcher = Harness::new(&keyed).with_capacity(2);
        for item in [('c', 0), ('a', 0), ('b', 0), ('c', 1)] {
            batcher.item(item);
        }
        batcher.error(StreamError::new(ErrorKind::Failed, "before"));
        let mut seen: Vec<_> = batcher.outputs().into_iter().map(Result::ok).collect();
        assert_eq!(seen.len(), 2);
        seen.extend(batcher.outputs().into_iter().map(Result::ok));
        assert_eq!(seen, [Some(vec![('c', 0), ('c', 1)]), Some(vec![('a', 0)]), Some(vec![('b', 0)]), None]);
    }

    #[test]
    fn a_panic_in_the_key_fails_its_item_in_its_place() {
        let config = BatchConfig { max_size: 100, max_latency: ms(0) };
        let keyed = Batcher::new(config).with_key(|n: &i32| if *n == 1 { panic!("one") } else { n % 2 }, 10);
        let mut batcher = Harness::new(&keyed);
        (0..3).for_each(|n| batcher.item(n));
        batcher.end();
        let outputs = batcher.outputs();
        assert_eq!(outputs[0].as_ref().unwrap(), &[0]);
        assert_eq!(outputs[1].as_ref().unwrap_err().take_item::<i32>(), Some(1));
        assert_eq!(outputs[2].as_ref().unwrap(), &[2]);
        assert!(batcher.steps()[0].balances());
    }

    #[test]
    fn weight_counts_per_key() {
        let config = BatchConfig { max_size: 100, max_latency: ms(0) };
        let keyed = Batcher::new(config).with_weight(|(_, weight): &(char, usize)| *weight, 10);
        let mut batcher = Harness::new(&keyed.with_key(|(letter, _)| *letter, 10));
        for item in [('a', 6), ('b', 6), ('a', 5), ('b', 4)] {
            batcher.item(item);
        }
        assert_eq!(batcher.items(), [vec![('a', 6)], vec![('b', 6), ('b', 4)]]);
    }

    #[test]
    fn agrees_with_the_simple_implementation_on_random_input() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let max_keys = random.usize(1..6);
            let config = BatchConfig { max_size: random.usize(1..5), max_latency: ms(random.u64(0..30)) };
            let mut batcher = Harness::new(&by_letter(config.clone(), max_keys));
            // The simple implementation: a list of open batches, oldest first, that is searched each time.
            let mut open: Vec<(u64, Vec<(char, u32)>)> = Vec::new();
            let (mut expected, mut now) = (Vec::new(), 0);
            for n in 0..200 {
                let step = random.u64(0..5);
                batcher.advance(ms(step));
                now += step;
                let latency = config.max_latency.as_millis() as u64;
                while latency > 0 && open.first().is_some_and(|(since, _)| now - since >= latency) {
                    expected.push(open.remove(0).1);
                }
                let item = (random.char('a'..='h'), n);
                batcher.item(item);
                let index = open.iter().position(|(_, batch)| batch[0].0 == item.0).unwrap_or_else(|| {
                    if open.len() == max_keys {
                        expected.push(open.remove(0).1);
                    }
                    open.push((now, Vec::new()));
                    open.len() - 1
                });
                open[index].1.push(item);
                if open[index].1.len() == config.max_size {
                    expected.push(open.remove(index).1);
                }
            }
            batcher.end();
            expected.extend(open.into_iter().map(|(_, batch)| batch));
            assert_eq!(batcher.items(), expected, "seed {seed}");
        }
    }

    #[test]
    #[should_panic(expected = "`max_keys` must be at least 1")]
    fn no_keys_are_refused() {
        let _ = by_letter(BatchConfig::default(), 0);
    }
}
