//! [`Bulkhead`]: a limit on the calls in progress.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::gate::{Gate, NotEntered};
use super::layered::LayerCall;
use super::limit_stats::LimitStats;
use crate::error::Result;
use crate::operators::call::{KeyHash, PoolOptions, call_stage, hash_by, hash_by_ref, pool_options};
use crate::operators::pool::combine::combine;
use crate::operators::{Call, CallError, CallFailure, CallLayer, CallStage, Rejection};
use crate::pipeline::CancelToken;

/// Limits how many calls are in progress at a time, in total or for each key. A call beyond the limit waits, or is
/// rejected.
///
/// It wraps a call, not a stream: an [`AsyncMapper`](crate::AsyncMapper), a
/// [`Mapper::fallible`](crate::Mapper::fallible), or another layer. Together they are one stage with one pool; each
/// worker runs all the layers. The number of workers limits the calls of one run anyway. A bulkhead limits those of all
/// runs together, those for each key, or a part of a nest: inside a [`Retry`](crate::Retry), a call that waits for its
/// next attempt does not count.
///
/// ```
/// use streamz::{AsyncMapper, Bulkhead, CancelToken, Pipeline, Stream};
///
/// // Sixteen calls at a time, at most two of them to the same host.
/// # let fetch = |_: &CancelToken, &(host, page): &(&'static str, u32)| streamz::ok((host, page));
/// let calls = AsyncMapper::new(fetch).with_workers(16);
/// let polite = Bulkhead::new(calls, 2).with_key(|(host, _)| *host);
/// let pipeline = Pipeline::new("crawler");
/// let pages = [("a.org", 1), ("a.org", 2), ("a.org", 3), ("b.org", 1)];
/// let pages = Stream::from_iter(&pipeline, pages);
/// assert_eq!(pages.through(&polite).count()?, 4);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// For one call of each key at a time, [`AsyncMapper::keyed`](crate::AsyncMapper::keyed) is better: there the items
/// wait, not the workers. For a limit that follows the capacity of the service, use
/// [`AdaptiveConcurrency`](crate::AdaptiveConcurrency).
///
/// The name and the behaviour are those of resilience4j's bulkhead.
///
/// # One limit
/// All runs of a bulkhead, and its clones, share its limit, because they call the same service. [`stats`](Self::stats)
/// counts the calls of all of them.
///
/// # Ordering
/// Same as the pool. Waiting calls are admitted in the order in which they arrived.
///
/// # Back-pressure
/// A waiting worker makes no other call; the other workers continue. With a key, many calls of one busy key can occupy
/// all workers. Give the pool more workers, or set a [longest wait](Self::with_max_wait).
///
/// # Errors
/// With [`with_max_wait`](Self::with_max_wait), a call that has waited that long is not made. Its item fails with kind
/// [`Rejected`](crate::ErrorKind::Rejected), the source [`Rejection::BulkheadFull`] and 0 attempts.
///
/// # Cancellation
/// Ends a wait at once; the call is not made. A cancelled call that is in progress keeps its place until it returns.
///
/// # Memory
/// Same as the pool, and with a key about 150 bytes for each key that has a call in progress or waiting: at most one
/// for each worker of all runs.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("concurrency_limit", "semaphore", "max_concurrent", "max_in_flight"))]
pub struct Bulkhead<S: CallStage> {
    inner: S,
    pool: PoolOptions<S::In>,
    layer: BulkheadLayer<S::In>,
}

impl<S: CallStage> Bulkhead<S> {
    /// Allows at most `max_calls` calls of `inner` at a time. Keeps the stage name and the pool of `inner` unless you
    /// set others.
    ///
    /// # Panics
    /// If `max_calls` is 0.
    #[track_caller]
    pub fn new(inner: S, max_calls: usize) -> Self {
        assert!(max_calls > 0, "`max_calls` must be at least 1");
        let layer =
            BulkheadLayer { key: None, max_calls, max_wait: None, gates: Arc::default(), stats: LimitStats::default() };
        Self { pool: inner.pool(), inner, layer }
    }

    pool_options!();
    combine! { S::In, S::Out, S::Error }

    /// Limits the calls of each key separately.
    ///
    /// A key is known by a 64-bit hash with a random seed; should the hashes of two keys be equal, they share a limit. `key` is
    /// called once for each call. A panic in it fails the item.
    pub fn with_key<K: Hash>(mut self, key: impl Fn(&S::In) -> K + Send + Sync + 'static) -> Self {
        self.layer.key = Some(hash_by(key));
        self
    }

    /// Does what [`with_key`](Self::with_key) does, with keys borrowed from the item: `|page: &Page|
    /// page.host.as_str()`.
    pub fn with_key_by_ref<K: Hash + ?Sized>(mut self, key: impl Fn(&S::In) -> &K + Send + Sync + 'static) -> Self {
        self.layer.key = Some(hash_by_ref(key));
        self
    }

    /// Sets how long a call may wait to be admitted. Defaults to no limit. A call that has waited that long is
    /// rejected; with zero, no call waits.
    pub fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.layer.max_wait = Some(max_wait);
        self
    }

    /// Returns live statistics, across all runs.
    pub fn stats(&self) -> LimitStats {
        self.layer.stats.clone()
    }

    fn layered(&self) -> LayerCall<S::Call, BulkheadLayer<S::In>> {
        LayerCall::new(self.inner.to_call(), Arc::new(self.layer.clone()))
    }
}

call_stage! {
    [S] Bulkhead<S> where { S: CallStage } S::In => S::Out, S::Error, LayerCall<S::Call, BulkheadLayer<S::In>>
}

/// Wraps a call for a [`Bulkhead`].
pub struct BulkheadLayer<In> {
    key: Option<KeyHash<In>>,
    max_calls: usize,
    max_wait: Option<Duration>,
    gates: Arc<Gates>,
    stats: LimitStats,
}

/// The gate of each key that has calls, and their number, by the hash of the key.
type Gates = Mutex<HashMap<u64, (Arc<Gate>, usize)>>;

impl<C: Call> CallLayer<C> for BulkheadLayer<C::In> {
    type Out = C::Out;
    type Error = C::Error;

    fn call(&self, inner: &C, cancel: &CancelToken, item: &C::In) -> Result<C::Out, CallError<C::Error>> {
        let visit = Visit::new(self, self.key.as_ref().map_or(0, |key| key(item)));
        let entered = match visit.gate.try_enter() {
            Some(permit) => Ok(permit),
            None if self.max_wait.is_some_and(|wait| wait.is_zero()) => Err(NotEntered::Full),
            None => {
                let _waiting = self.stats.wait(cancel);
                visit.gate.enter(cancel, self.max_wait)
            }
        };
        let failure = match entered {
            Ok(_inside) => {
                let _in_progress = self.stats.admit();
                return inner.call(cancel, item);
            }
            Err(NotEntered::Cancelled) => CallFailure::Cancelled,
            Err(NotEntered::Full) => {
                self.stats.reject();
                CallFailure::Rejected(Rejection::BulkheadFull { max_calls: self.max_calls })
            }
        };
        Err(CallError::raised(cancel, failure, 0))
    }
}

/// A call at the gate of its key. The last one removes the gate from the map.
struct Visit<'a> {
    gates: &'a Gates,
    stats: &'a LimitStats,
    key: u64,
    gate: Arc<Gate>,
}

impl<'a> Visit<'a> {
    fn new<In>(layer: &'a BulkheadLayer<In>, key: u64) -> Self {
        let mut gates = layer.gates.lock();
        let (gate, visits) = gates.entry(key).or_insert_with(|| (Arc::new(Gate::new(layer.max_calls)), 0));
        *visits += 1;
        let gate = Arc::clone(gate);
        layer.stats.set_keys(gates.len());
        Self { gates: &layer.gates, stats: &layer.stats, key, gate }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let mut gates = self.gates.lock();
        if let Entry::Occupied(mut entry) = gates.entry(self.key) {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                entry.remove();
                self.stats.set_keys(gates.len());
            }
        }
    }
}

impl<In> Clone for BulkheadLayer<In> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), gates: Arc::clone(&self.gates), stats: self.stats.clone(), ..*self }
    }
}

/// The clone shares the limit and the statistics.
impl<S: CallStage + Clone> Clone for Bulkhead<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), pool: self.pool.clone(), layer: self.layer.clone() }
    }
}

impl<S: CallStage + fmt::Debug> fmt::Debug for Bulkhead<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead").field("inner", &self.inner).field("layer", &self.layer).finish_non_exhaustive()
    }
}

impl<In> fmt::Debug for BulkheadLayer<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadLayer")
            .field("keyed", &self.key.is_some())
            .field("max_calls", &self.max_calls)
            .field("max_wait", &self.max_wait)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
