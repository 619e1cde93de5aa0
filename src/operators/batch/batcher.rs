//! [`Batcher`]: collects items into batches by number, weight and time.

use std::hash::Hash;
use std::time::{Duration, Instant};

use super::capacity;
use super::keyed_batcher::KeyedBatcher;
use super::open::{Limits, Open};
use crate::error::StreamError;
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::stage::operator::{Emit, Operator};

/// Sets the limits that complete a batch of a [`Batcher`].
///
/// ```
/// use streamz::BatchConfig;
///
/// let config = BatchConfig { max_size: 500, ..BatchConfig::default() };
/// assert_eq!(config.max_latency.as_secs(), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchConfig {
    /// The greatest number of items in a batch. Defaults to 100. At least 1, with which every item is a batch of its
    /// own; with `usize::MAX` only time, weight and the end of the input complete a batch, and memory has no other
    /// bound.
    pub max_size: usize,
    /// The longest time that the first item of a batch waits for the batch to be emitted. Defaults to one second. Zero
    /// and `Duration::MAX` mean no limit.
    pub max_latency: Duration,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { max_size: 100, max_latency: Duration::from_secs(1) }
    }
}

/// Gathers items into batches: `T` in, `Vec<T>` out.
///
/// A batch is emitted as soon as one of these is true:
///
/// - it has [`max_size`](BatchConfig::max_size) items;
/// - [`max_latency`](BatchConfig::max_latency) has passed since its *first* item, no matter how many came after it: a
///   steady trickle cannot postpone it. It ends when exactly that much time has passed; an item that arrives at exactly
///   that moment belongs to the next batch;
/// - it has reached its weight ([`with_weight`](Self::with_weight));
/// - an error item arrives: it follows the batch, so that it does not overtake the items that came before it. It is
///   never part of a batch;
/// - the input ends, or is drained: a drain does not wait for the time limit.
///
/// There are no empty batches. [`with_key`](Self::with_key) makes a batcher with one batch for each key.
///
/// # Event time
/// Behind a [merge](crate::FanIn#event-time), a batch has items of several streams. So windows behind it, also behind batches that
/// are flattened again, have one watermark for all of them: put windows first, or batch each stream before the merge.
///
/// # Back-pressure
/// While the output is full, no input is taken, and a batch that is due waits for room. 16 batches may wait in the
/// output, or as many as have 1,024 items if they are small, unless [`with_capacity`](Self::with_capacity) sets another
/// number: the pipeline's capacity, which is meant for single items, does not apply.
///
/// # Cancellation
/// The items of the unfinished batch are dropped, and counted as abandoned.
///
/// # Memory
/// `max_size` items for each batch in the output, and for the one that is being gathered. A batch is given room as it
/// grows, at first as much as the one before it needed, so a large `max_size` costs nothing on a quiet stream.
///
/// ```
/// use streamz::{BatchConfig, Batcher, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("rows");
/// let batches = Stream::from_iter(&pipeline, 0..5)
///     .through(&Batcher::new(BatchConfig { max_size: 2, ..BatchConfig::default() }))
///     .collect::<Vec<_>>()?;
/// assert_eq!(batches, [vec![0, 1], vec![2, 3], vec![4]]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias(
    "group_within",
    "chunks_timeout",
    "buffer_time",
    "micro_batch",
    "bufferTimeout",
    "buffer",
    "chunk",
    "bulk"
))]
pub struct Batcher<T> {
    config: BatchConfig,
    limits: Limits<T>,
    options: Options,
}

impl<T> Batcher<T> {
    /// Creates a batcher with the given limits. Default name: `batch`.
    ///
    /// # Panics
    /// If `max_size` is 0.
    #[track_caller]
    pub fn new(config: BatchConfig) -> Self {
        let (limits, capacity) = (Limits::new(&config), capacity(config.max_size));
        Self { config, limits, options: Options { capacity: Some(capacity), ..Options::new("batch") } }
    }

    common_options! {
        with_name: options.name,
        /// Sets how many batches may wait in the output for a slow consumer. Defaults to 16, or for batches of less than 64
        /// items to as many as have 1,024 items, whatever the pipeline's [capacity](crate::PipelineBuilder::capacity),
        /// because batches are big. With 0, every batch is handed over directly.
        with_capacity(batches): options.capacity,
    }

    /// Also limits the weight of a batch, such as its size in bytes. Defaults to no limit.
    ///
    /// An item that would make the batch heavier than `max_weight` starts the next one, so only an item that is too
    /// heavy by itself makes a batch that is too heavy, alone. A batch that weighs exactly `max_weight` is emitted at
    /// once. An item on which `weigh` panics becomes an error item that carries it.
    ///
    /// ```
    /// use streamz::{BatchConfig, Batcher, Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("lines");
    /// let by_bytes =
    ///     Batcher::new(BatchConfig::default()).with_weight(|line: &&str| line.len(), 8);
    /// let words = Stream::from_iter(&pipeline, ["abc", "defg", "hi"]);
    /// let batches = words.through(&by_bytes).collect::<Vec<_>>()?;
    /// assert_eq!(batches, [vec!["abc", "defg"], vec!["hi"]]);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If `max_weight` is 0.
    #[track_caller]
    pub fn with_weight(mut self, weigh: impl Fn(&T) -> usize + Send + Sync + 'static, max_weight: usize) -> Self {
        self.limits.set_weight(weigh, max_weight);
        self
    }

    /// Gathers the items of each key into separate batches, of which at most `max_keys` are open at a time.
    ///
    /// `key` is called once for each item, in their order. With many keys, it may be called for up to 16 items before the
    /// first of them is processed, so it must not wait for the outcome of earlier items.
    ///
    /// # Panics
    /// If `max_keys` is 0.
    #[track_caller]
    pub fn with_key<K, F>(self, key: F, max_keys: usize) -> KeyedBatcher<T, K, F>
    where
        K: Eq + Hash + Send + 'static,
        F: Fn(&T) -> K + Send + Sync + 'static,
    {
        KeyedBatcher::new(self.config, self.limits, self.options, key, max_keys)
    }

    fn operator(&self) -> BatcherOperator<T> {
        BatcherOperator::new(self.limits.clone())
    }
}

stage! {
    [T] Batcher<T> where { T: Send + 'static }
    T => Vec<T>, BatcherOperator<T>
}

/// Runs a [`Batcher`] and a [`Chunk`](super::Chunk) as an [`Operator`].
pub struct BatcherOperator<T> {
    limits: Limits<T>,
    open: Open<T>,
    due: Option<Instant>,
}

impl<T> BatcherOperator<T> {
    pub(super) fn new(limits: Limits<T>) -> Self {
        Self { limits, open: Open::with_room_for(0), due: None }
    }

    fn flush(&mut self, out: &mut impl Emit<Vec<T>>) {
        let count = self.open.len();
        if count > 0 {
            // The next one is probably as long.
            let mut open = std::mem::replace(&mut self.open, Open::with_room_for(count as usize));
            self.due = None;
            out.emit_from(open.items.take(), count);
        }
    }
}

impl<T: Send + 'static> Operator for BatcherOperator<T> {
    type In = T;
    type Out = Vec<T>;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<Vec<T>>) {
        let weight = match self.limits.weigh(&item) {
            Ok(weight) => weight,
            Err(payload) => {
                self.flush(out);
                return out.fail_panicked(payload.into(), item);
            }
        };
        if self.open.is_too_full_for(weight, &self.limits) {
            self.flush(out);
        }
        if self.open.items.is_empty() {
            self.due = self.limits.due(|| out.now());
        }
        if self.open.add(item, weight, &self.limits) {
            self.flush(out);
        }
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<Vec<T>>) {
        self.flush(out);
        out.error(error);
    }

    fn timer(&mut self, _now: Instant, out: &mut impl Emit<Vec<T>>) {
        self.flush(out);
    }

    fn end(&mut self, out: &mut impl Emit<Vec<T>>) {
        self.flush(out);
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        false
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        self.due
    }

    fn settles_in_order(&self) -> bool {
        true
    }

    #[inline]
    fn held(&self) -> u64 {
        self.open.len()
    }
}

shorthand! {
    group {
        /// # Batches
    }
    /// Gathers items into batches: a [`Batcher`].
    #[doc(alias("chunks_timeout", "group_within", "buffer", "micro_batch"))]
    pub fn batch(self, config: BatchConfig) -> Batcher<T> => Stream<Vec<T>> {
        Batcher::new(config)
    }
}

opaque_debug! { [T] Batcher<T>: config, options }
opaque_debug! { [T] BatcherOperator<T>: due }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, ManualClock, Pipeline, Stream};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn batcher<T: Send + 'static>(max_size: usize, max_latency: Duration) -> Harness<BatcherOperator<T>> {
        Harness::new(&Batcher::new(BatchConfig { max_size, max_latency }))
    }

    #[test]
    fn a_batch_is_sent_when_it_is_full_and_the_rest_at_the_end() {
        let mut batcher = batcher(2, ms(0));
        (0..5).for_each(|n| batcher.item(n));
        assert_eq!(batcher.items(), [[0, 1], [2, 3]]);
        batcher.end();
        assert_eq!(batcher.items(), [[4]]);
        let step = &batcher.steps()[0];
        assert_eq!((step.received, step.emitted, step.delivered), (5, 3, 5));
    }

    #[test]
    fn no_batch_is_ever_empty() {
        let mut batcher = batcher::<u8>(2, ms(10));
        batcher.advance(ms(100));
        batcher.error(StreamError::new(ErrorKind::Failed, "before"));
        batcher.end();
        assert!(batcher.outputs().iter().all(Result::is_err));
    }

    #[test]
    fn the_time_limit_counts_from_the_first_item_of_the_batch() {
        let mut batcher = batcher(100, ms(50));
        batcher.advance(ms(500));
        batcher.item('a');
        batcher.advance(ms(49));
        assert!(batcher.items().is_empty());
        batcher.advance(ms(1));
        assert_eq!(batcher.items(), [['a']]);
        // Nor does a full batch leave its timer behind for the next one.
        batcher.advance(ms(30));
        (0..100).for_each(|_| batcher.item('b'));
        assert_eq!(batcher.items().len(), 1);
        assert_eq!(batcher.next_wake(), None);
        batcher.item('c');
        assert_eq!(batcher.next_wake(), Some(ms(50)));
    }

    #[test]
    fn a_steady_trickle_does_not_postpone_the_time_limit() {
        let mut batcher = batcher(100, ms(50));
        let mut batches = Vec::new();
        for n in 0..20 {
            batcher.item(n);
            batcher.advance(ms(10));
            batches.extend(batcher.items());
        }
        assert_eq!(batches, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [15, 16, 17, 18, 19]]);
    }

    #[test]
    fn a_latency_of_zero_or_the_maximum_means_no_limit() {
        for max_latency in [Duration::ZERO, Duration::MAX, Duration::MAX - Duration::from_nanos(1)] {
            let mut batcher = batcher(10, max_latency);
            batcher.item(1);
            assert_eq!(batcher.next_wake(), None);
            batcher.item(2);
            batcher.end();
            assert_eq!(batcher.items(), [[1, 2]]);
        }
    }

    #[test]
    fn an_error_follows_the_items_before_it_and_is_the_same_error() {
        let mut batcher = batcher(3, ms(0));
        let error = StreamError::new(ErrorKind::Failed, "before").with_item(2);
        batcher.item(0);
        batcher.item(1);
        batcher.error(error.clone());
        batcher.item(3);
        batcher.end();
        let outputs = batcher.outputs();
        assert_eq!(outputs[0].as_ref().unwrap(), &[0, 1]);
        assert!(outputs[1].as_ref().unwrap_err().ptr_eq(&error));
        assert_eq!(error.take_item::<i32>(), Some(2));
        assert_eq!(outputs[2].as_ref().unwrap(), &[3]);
    }

    #[test]
    fn an_item_too_heavy_for_this_batch_starts_the_next() {
        let config = BatchConfig { max_size: 100, max_latency: ms(0) };
        let mut batcher = Harness::new(&Batcher::new(config).with_weight(|n: &usize| *n, 10));
        for n in [4, 5, 2, 8, 30, 1, 0, usize::MAX, 3] {
            batcher.item(n);
        }
        batcher.end();
        let expected = [vec![4, 5], vec![2, 8], vec![30], vec![1, 0], vec![usize::MAX], vec![3]];
        assert_eq!(batcher.items(), expected);
    }

    #[test]
    fn weights_that_cannot_be_added_do_not_share_a_batch() {
        let config = BatchConfig { max_size: 100, max_latency: ms(0) };
        let half = usize::MAX / 2 + 1;
        let batches = |items: [usize; 4]| {
            let mut batcher = Harness::new(&Batcher::new(config.clone()).with_weight(|n: &usize| *n, usize::MAX));
            items.into_iter().for_each(|n| batcher.item(n));
            batcher.end();
            batcher.items()
        };
        assert_eq!(batches([half, half, 1, half]), [vec![half], vec![half, 1], vec![half]]);
        assert_eq!(batches([half - 1, half, usize::MAX, 1]), [vec![half - 1, half], vec![usize::MAX], vec![1]]);
    }

    #[test]
    fn a_panic_in_the_weight_fails_its_item_in_its_place() {
        let config = BatchConfig { max_size: 2, max_latency: ms(0) };
        let weigh = |n: &i32| if *n == 1 { panic!("one") } else { 1 };
        let mut batcher = Harness::new(&Batcher::new(config).with_weight(weigh, 100));
        (0..4).for_each(|n| batcher.item(n));
        let outputs = batcher.outputs();
        assert_eq!(outputs[0].as_ref().unwrap(), &[0]);
        assert_eq!(outputs[1].as_ref().unwrap_err().take_item::<i32>(), Some(1));
        assert_eq!(outputs[2].as_ref().unwrap(), &[2, 3]);
    }

    #[test]
    fn small_batches_are_not_given_room_for_the_largest() {
        let mut batcher = batcher(1_000_000, ms(10));
        batcher.item(1_u64);
        batcher.advance(ms(10));
        batcher.item(2);
        batcher.end();
        assert!(batcher.items().iter().all(|batch| batch.capacity() < 16));
        // Nor is the greatest size of all more than a number.
        let mut batcher = self::batcher(usize::MAX, ms(0));
        batcher.item(1);
        batcher.end();
        assert_eq!(batcher.items(), [[1]]);
    }

    #[test]
    #[should_panic(expected = "`max_size` must be at least 1")]
    fn a_size_of_0_is_refused() {
        let _ = Batcher::<u8>::new(BatchConfig { max_size: 0, max_latency: ms(1) });
    }

    #[test]
    #[should_panic(expected = "`max_weight` must be at least 1")]
    fn a_weight_of_0_is_refused() {
        let _ = Batcher::new(BatchConfig::default()).with_weight(|_: &u8| 1, 0);
    }

    #[test]
    fn items_held_at_a_cancel_are_counted_as_abandoned() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("cancel").clock(&clock).build();
        let (input, stream) = Stream::channel(&pipeline, 8);
        let mut batches = stream.batch(BatchConfig { max_size: 10, max_latency: ms(50) });
        (0..3).for_each(|n| input.send(n).unwrap());
        clock.advance(ms(49));
        assert!(batches.try_recv().is_err());
        let report = pipeline.abort();
        let step = &report.stage("batch").unwrap().steps[0];
        assert_eq!((step.received, step.delivered, step.abandoned), (3, 0, 3));
    }

    #[test]
    fn a_drain_flushes_at_once() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("drain").clock(&clock).build();
        let (input, stream) = Stream::channel(&pipeline, 8);
        let batches = stream.batch(BatchConfig { max_size: 10, max_latency: Duration::from_secs(3600) });
        input.send(7).unwrap();
        pipeline.drain();
        assert_eq!(batches.collect::<Vec<_>>().unwrap(), [[7]]);
        assert_eq!(clock.elapsed(), Duration::ZERO);
    }

    #[test]
    fn sixteen_batches_may_wait_by_default_or_a_thousand_items() {
        let capacity = |batcher: Batcher<u8>| {
            let pipeline = Pipeline::new("capacity");
            let (_input, stream) = Stream::channel(&pipeline, 1);
            let _batches = stream.through(&batcher);
            pipeline.report().stage("batch").unwrap().outputs[0].capacity
        };
        let batcher = |max_size| Batcher::new(BatchConfig { max_size, ..BatchConfig::default() });
        for (max_size, default) in [(1, 1_024), (4, 256), (63, 16), (64, 16), (100, 16), (usize::MAX, 16)] {
            assert_eq!(capacity(batcher(max_size)), default);
        }
        assert_eq!(capacity(batcher(1).with_capacity(2)), 2);
    }
}
