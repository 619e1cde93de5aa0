//! [`Partition`]: distributes items by key, each key always to the same stream.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use super::counts::Runs;
use super::distribute::{Plan, Rule, Ways, distribute};
use super::fan_in::{IDLE_TIMEOUT, merge};
use super::hash::{fixed_hash, jump};
use crate::error::{ErrorKind, PanicMessage};
use crate::operators::options::{Options, check_threads, common_options, opaque_debug};
use crate::panic::{self, guard_drop};
use crate::pipeline::CancelToken;
use crate::stream::Processor;
use crate::stream::Stream;

/// Divides a stream into partitions by a key: items with the same key go to the same partition, in order.
///
/// By default, the partition of a key is its hash modulo the number of partitions. The hash is fixed: a key has the
/// same partition in every run and in every process, as long as its type implements [`Hash`] in the same way. Slices,
/// vectors and arrays of integers longer than a byte do so only on machines of the same byte order; numbers, strings,
/// bytes and tuples of them on all. [`with_consistent_hashing`](Self::with_consistent_hashing) keeps the partition of
/// most keys when the number changes, and [`with_partitioner`](Self::with_partitioner) accepts any other rule.
///
/// An item on which the key closure or the partitioner panics, or for which the partitioner gives an index that does not
/// exist, becomes an error item that carries it. Error items go to partition 0.
///
/// The partitions are bounded, so they must be read together: by further stages, or with [`Stream::spawn_for_each`].
/// One that is not read stops the others when it is full; [`stats`](Self::stats) and the report name it.
/// [`each`](Self::each) combines partitioning, processing and merging into one processor.
///
/// ```
/// use streamz::{Mapper, Partition, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("visits");
/// let count_by_user = Partition::by_ref(|(user, _): &(String, u32)| user.as_str())
///     .with_partitions(2)
///     .each(|_| Mapper::new(|(user, visits): (String, u32)| format!("{user}: {visits}")));
/// let visits = [("ann", 1), ("bob", 7), ("ann", 2)].map(|(user, n)| (user.to_owned(), n));
/// let seen =
///     Stream::from_iter(&pipeline, visits).through(&count_by_user).collect::<Vec<_>>()?;
/// let ann: Vec<_> = seen.iter().filter(|line| line.starts_with("ann")).collect();
/// assert_eq!(ann, ["ann: 1", "ann: 2"]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// Each partition is in the order of the input. Between partitions, no order is kept.
///
/// # Back-pressure
/// A full partition holds up all others. One that has been dropped blocks nothing: its items are counted as
/// undeliverable. If it is partition 0, errors go to the next. When all have been dropped, the stage stops.
///
/// # Cancellation
/// All partitions are cut.
///
/// # Memory
/// Each partition holds up to its [buffer size](Self::with_buffer_size) of items.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("shard", "group_by", "groupBy", "key_by", "scatter", "hash_partition"))]
pub struct Partition<T, F, P = ByHash> {
    key: Arc<F>,
    partitioner: Arc<P>,
    partitions: usize,
    options: Options,
    buffer: Option<usize>,
    runs: Runs,
    types: PhantomData<fn(T)>,
}

/// Returns the key of an item: a closure that returns it by value, or by reference ([`Partition::by_ref`]). Sealed.
#[allow(private_bounds)] // seals the trait
pub trait KeyOf<T>: sealed::Key<T, Made = <Self as KeyOf<T>>::Key> {
    /// The key of an item.
    type Key: ?Sized;
}

/// Selects one of `n` partitions for a key: by hash, or by a closure `Fn(&key, n) -> index`. Sealed.
#[allow(private_bounds)] // seals the trait
pub trait Partitioner<K: ?Sized>: sealed::Place<K> {}

/// Computes the key from the item.
#[derive(Debug, Clone, Copy)]
pub struct ByValue<F, K>(F, PhantomData<fn() -> K>);

/// Borrows the key from the item.
pub struct ByRef<F, K: ?Sized>(F, PhantomData<fn() -> Box<K>>);

/// Selects partitions by the default rule: a fixed hash, modulo the number of partitions or by jump consistent hashing.
#[derive(Debug, Clone, Copy)]
pub struct ByHash {
    seed: u64,
    is_consistent: bool,
}

/// Selects partitions by a closure of your own.
#[derive(Debug, Clone, Copy)]
pub struct ByRule<F>(F);

pub(crate) mod sealed {
    pub(crate) trait Key<T>: Send + Sync + 'static {
        type Made: ?Sized;

        fn with<R>(&self, item: &T, f: impl FnOnce(&Self::Made) -> R) -> R;
    }

    pub(crate) trait Place<K: ?Sized>: Send + Sync + 'static {
        fn place(&self, key: &K, partitions: usize) -> usize;
    }
}

impl<T, K: 'static, F: Fn(&T) -> K + Send + Sync + 'static> KeyOf<T> for ByValue<F, K> {
    type Key = K;
}

impl<T, K: ?Sized + 'static, F: Fn(&T) -> &K + Send + Sync + 'static> KeyOf<T> for ByRef<F, K> {
    type Key = K;
}

impl<K: ?Sized, P: sealed::Place<K>> Partitioner<K> for P {}

impl<T, K: 'static, F: Fn(&T) -> K + Send + Sync + 'static> sealed::Key<T> for ByValue<F, K> {
    type Made = K;

    #[inline]
    fn with<R>(&self, item: &T, f: impl FnOnce(&K) -> R) -> R {
        f(&(self.0)(item))
    }
}

impl<T, K: ?Sized + 'static, F: Fn(&T) -> &K + Send + Sync + 'static> sealed::Key<T> for ByRef<F, K> {
    type Made = K;

    #[inline]
    fn with<R>(&self, item: &T, f: impl FnOnce(&K) -> R) -> R {
        f((self.0)(item))
    }
}

impl<K: Hash + ?Sized> sealed::Place<K> for ByHash {
    #[inline]
    fn place(&self, key: &K, partitions: usize) -> usize {
        let hash = fixed_hash(self.seed, key);
        if self.is_consistent { jump(hash, partitions) } else { (hash % partitions as u64) as usize }
    }
}

impl<K: ?Sized, F: Fn(&K, usize) -> usize + Send + Sync + 'static> sealed::Place<K> for ByRule<F> {
    #[inline]
    fn place(&self, key: &K, partitions: usize) -> usize {
        (self.0)(key, partitions)
    }
}

/// A partitioner returned an index that does not exist.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("there is no partition {index}: there are {partitions}, counted from 0")]
struct NoSuchPartition {
    index: usize,
    partitions: usize,
}

/// Holds the partitions of a stream, made by a [`Partition`].
#[derive(Debug)]
#[must_use = "dropping all partitions stops what feeds them"]
pub struct PartitionOutput<T> {
    /// The partitions, by index.
    pub partitions: Vec<Stream<T>>,
    /// Live statistics of this run.
    pub stats: PartitionStats,
}

/// Live statistics of a [`Partition`], of one run or of all. Clones show the same numbers.
#[derive(Clone)]
pub struct PartitionStats {
    partitions: usize,
    runs: Runs,
}

impl PartitionStats {
    /// Returns the number of partitions.
    pub fn num_partitions(&self) -> usize {
        self.partitions
    }

    /// Returns the number of items that arrived, without error items.
    pub fn total_items(&self) -> u64 {
        self.runs.sum(self.partitions).received
    }

    /// Returns the number of items that went to each partition.
    pub fn items_per_partition(&self) -> Vec<u64> {
        self.runs.sum(self.partitions).ways.iter().map(|way| way.items).collect()
    }

    /// Returns the number of items that became errors, because the key closure or the partitioner panicked or returned
    /// an index that does not exist.
    pub fn failed(&self) -> u64 {
        self.runs.sum(self.partitions).failed
    }

    /// Returns the number of items of each partition that were never read, because it was dropped or everything was
    /// stopped.
    pub fn undeliverable(&self) -> Vec<u64> {
        self.runs.sum(self.partitions).ways.iter().map(|way| way.undeliverable).collect()
    }

    /// Returns the partitions in which the stage is waiting for room at this moment.
    pub fn blocking(&self) -> Vec<usize> {
        let ways = self.runs.sum(self.partitions).ways.into_iter().enumerate();
        ways.filter(|(_, way)| way.is_blocking).map(|(index, _)| index).collect()
    }

    /// Returns how uneven the partitions are: the coefficient of variation of their counts, which is the standard
    /// deviation divided by the mean. 0.0 if all are equal, or no item has arrived; for n partitions, at most the
    /// square root of n - 1, if one has everything. Chance alone causes about the square root of n / items.
    pub fn distribution_balance(&self) -> f64 {
        let counts = self.items_per_partition();
        let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        if mean == 0.0 {
            return 0.0;
        }
        let squares: f64 = counts.iter().map(|&count| (count as f64 - mean).powi(2)).sum();
        (squares / counts.len() as f64).sqrt() / mean
    }
}

impl fmt::Debug for PartitionStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionStats")
            .field("items_per_partition", &self.items_per_partition())
            .field("failed", &self.failed())
            .field("distribution_balance", &self.distribution_balance())
            .finish_non_exhaustive()
    }
}

impl<T, F, K> Partition<T, ByValue<F, K>>
where
    T: Send + 'static,
    K: 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    /// Partitions items by the key that `key` returns, into 4 partitions unless you set another number. Default name:
    /// `partition`.
    pub fn new(key: F) -> Self {
        Self::of(ByValue(key, PhantomData))
    }
}

impl<T, F, K> Partition<T, ByRef<F, K>>
where
    T: Send + 'static,
    K: ?Sized + 'static,
    F: Fn(&T) -> &K + Send + Sync + 'static,
{
    /// Partitions items by a key that is a part of the item, without copying it. Otherwise as [`new`](Self::new).
    pub fn by_ref(key: F) -> Self {
        Self::of(ByRef(key, PhantomData))
    }
}

impl<T, F> Partition<T, F> {
    fn of(key: F) -> Self {
        Self {
            key: Arc::new(key),
            partitioner: Arc::new(ByHash { seed: 0, is_consistent: false }),
            partitions: 4,
            options: Options::new("partition"),
            buffer: None,
            runs: Runs::default(),
            types: PhantomData,
        }
    }

    /// Sets the seed of the hash. Defaults to 0. To partition the items of a partition once more by the same key, use
    /// another seed: with the same one, all of them would go to the same place.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.partitioner = Arc::new(ByHash { seed, ..*self.partitioner });
        self
    }

    /// Selects partitions by the [jump consistent hash](https://arxiv.org/abs/1406.2294) of Lamping and Veach: when the
    /// number of partitions goes from n to n + 1, only one key in n + 1 moves, and all of these move to the new
    /// partition. It takes a little longer, growing with the logarithm of n.
    pub fn with_consistent_hashing(mut self) -> Self {
        self.partitioner = Arc::new(ByHash { is_consistent: true, ..*self.partitioner });
        self
    }
}

impl<T: Send + 'static, F: KeyOf<T>, P: 'static> Partition<T, F, P> {
    /// Sets the number of partitions. Defaults to 4.
    ///
    /// # Panics
    /// If `partitions` is 0 or more than 65,536.
    #[track_caller]
    pub fn with_partitions(mut self, partitions: usize) -> Self {
        check_threads("partitions", partitions);
        self.partitions = partitions;
        self
    }

    /// Selects partitions by `partitioner`, which is given the key and the number of partitions, and returns an index
    /// counted from 0. An index that does not exist turns the item into an error item.
    pub fn with_partitioner<R>(self, partitioner: R) -> Partition<T, F, ByRule<R>>
    where
        R: Fn(&F::Key, usize) -> usize + Send + Sync + 'static,
    {
        let Self { key, partitions, options, buffer, runs, types, .. } = self;
        Partition { key, partitioner: Arc::new(ByRule(partitioner)), partitions, options, buffer, runs, types }
    }

    common_options! {
        with_name: options.name,
        /// Sets how many items may wait in each branch for a slow consumer. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity); with 0, every item is handed over directly.
        with_buffer_size(items): buffer,
    }

    /// Returns the name of the stage in reports and errors.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Returns live statistics, across all runs.
    pub fn stats(&self) -> PartitionStats {
        PartitionStats { partitions: self.partitions, runs: self.runs.clone() }
    }
}

impl<T, F, P> Partition<T, F, P>
where
    T: Send + 'static,
    F: KeyOf<T>,
    P: Partitioner<F::Key>,
{
    /// Starts a run, and returns the partitions, which the report names `0`, `1` and so on.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, to one that has finished, or to another one than `input`.
    #[track_caller]
    pub fn process(&self, cancel: &CancelToken, input: Stream<T>) -> PartitionOutput<T> {
        let names: Vec<Arc<str>> = (0..self.partitions).map(|index| index.to_string().into()).collect();
        let (options, runs) = (&self.options, &self.runs);
        let plan = Plan { options, names: &names, errors: 0, buffer: self.buffer, runs };
        let (key, partitioner) = (Arc::clone(&self.key), Arc::clone(&self.partitioner));
        let rule = ByKey { key, partitioner, partitions: self.partitions };
        let (partitions, counts) = distribute(&plan, cancel, input, rule);
        let stats = PartitionStats { partitions: self.partitions, runs: Runs::of(&counts) };
        PartitionOutput { partitions, stats }
    }

    /// Builds one processor that partitions a stream, sends partition `i` through the processor that `processor(i)`
    /// returns, and merges the outputs. The items of one key stay in order.
    pub fn each<Q: Processor<In = T>>(self, processor: impl FnMut(usize) -> Q) -> PartitionEach<T, F, P, Q> {
        let processors = (0..self.partitions).map(processor).collect();
        PartitionEach { partition: self, processors, capacity: None }
    }
}

struct ByKey<F, P> {
    key: Arc<F>,
    partitioner: Arc<P>,
    partitions: usize,
}

impl<T, F, P> Rule<T> for ByKey<F, P>
where
    T: Send + 'static,
    F: KeyOf<T>,
    P: Partitioner<F::Key>,
{
    #[inline]
    fn item(&mut self, item: T, ways: &mut Ways<'_, T>) {
        let partitions = self.partitions;
        match panic::catch(|| self.key.with(&item, |key| self.partitioner.place(key, partitions))) {
            Ok(index) if index < partitions => ways.send(index, item),
            Ok(index) => ways.fail(ErrorKind::Failed, NoSuchPartition { index, partitions }, item),
            Err(payload) => ways.fail(ErrorKind::Panicked, PanicMessage::from(payload), item),
        }
    }

    fn discard(self) {
        guard_drop(self.key);
        guard_drop(self.partitioner);
    }
}

/// Partitions a stream, processes each partition, and merges the outputs; made by [`Partition::each`].
#[must_use = "a processor does nothing until it is given a stream"]
pub struct PartitionEach<T, F, P, Q> {
    partition: Partition<T, F, P>,
    processors: Vec<Q>,
    capacity: Option<usize>,
}

impl<T: Send + 'static, F: KeyOf<T>, P: 'static, Q> PartitionEach<T, F, P, Q> {
    common_options! {
        /// Sets how many items may wait in the merged output for a slow consumer. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity); with 0, every item is handed over directly.
        with_capacity(items): capacity,
    }

    /// Returns live statistics of the partitions, across all runs.
    pub fn stats(&self) -> PartitionStats {
        self.partition.stats()
    }
}

impl<T, F, P, Q> Processor for PartitionEach<T, F, P, Q>
where
    T: Send + 'static,
    F: KeyOf<T>,
    P: Partitioner<F::Key>,
    Q: Processor<In = T>,
{
    type In = T;
    type Out = Q::Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<T>) -> Stream<Q::Out> {
        let (cancel, input) = input.enter(cancel);
        let partitions = self.partition.process(&cancel, input).partitions.into_iter();
        let processed = partitions.zip(&self.processors).map(|(stream, processor)| processor.process(&cancel, stream));
        let processed = processed.collect();
        merge(&cancel, processed, &format!("{}-merge", self.partition.name()), self.capacity, Some(IDLE_TIMEOUT))
    }

    fn name(&self) -> &str {
        self.partition.name()
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Divides the stream by a key into `partitions` streams, which must be read together: a [`Partition`].
    ///
    /// # Panics
    /// If the pipeline has finished, or `partitions` is 0 or more than 65,536.
    #[track_caller]
    pub fn partition<K: Hash + 'static>(
        self,
        partitions: usize,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> Vec<Stream<T>> {
        let token = self.token().clone();
        let partition = Partition::new(key).with_partitions(partitions);
        let output = partition.process(&token, self);
        // It may hold the last reference to the closure.
        guard_drop(partition);
        output.partitions
    }
}

impl<F: fmt::Debug, K: ?Sized> fmt::Debug for ByRef<F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByRef").field(&self.0).finish()
    }
}

opaque_debug! { [T, F, P] Partition<T, F, P>: partitions, options, buffer }
opaque_debug! { [T, F, P, Q] PartitionEach<T, F, P, Q>: partition, capacity }
