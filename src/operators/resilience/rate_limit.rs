//! [`RateLimit`]: a limit on the rate of calls.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::buckets::Buckets;
use super::layered::LayerCall;
use super::limit_stats::LimitStats;
use crate::error::Result;
use crate::operators::call::{KeyHash, PoolOptions, call_stage, hash_by, hash_by_ref, pool_options};
use crate::operators::limit::Rate;
use crate::operators::pool::combine::combine;
use crate::operators::{Call, CallError, CallFailure, CallLayer, CallStage, Rejection};
use crate::pipeline::CancelToken;

/// Limits the rate of calls, in total or for each key, by delaying calls, or by rejecting those that would have to wait
/// too long.
///
/// It wraps a call, not a stream: an [`AsyncMapper`](crate::AsyncMapper), a
/// [`Mapper::fallible`](crate::Mapper::fallible), or another layer. Together they are one stage with one pool; each
/// worker runs all the layers. *Inside* a [`Retry`](crate::Retry), each attempt counts, as it does for the service;
/// outside, each item counts once. To limit the rate of a stream, see [`Throttle`](crate::Throttle).
///
/// ```
/// use std::time::Duration;
/// use streamz::testing::Recorder;
/// use streamz::{AsyncMapper, CancelToken, ManualClock, Pipeline, RateLimit, Stream};
///
/// // At most two calls per second for each customer.
/// let calls = AsyncMapper::new(|_: &CancelToken, &(customer, order): &(&str, u32)| {
///     streamz::ok((customer, order))
/// });
/// let limited = RateLimit::new(calls.with_workers(8).with_ordered(false), 2.0)
///     .with_burst(1)
///     .with_key(|(customer, _)| *customer, 10_000);
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("orders").clock(&clock).build();
/// let orders = [("ann", 1), ("ann", 2), ("bob", 3)];
/// let done = Recorder::new(Stream::from_iter(&pipeline, orders).through(&limited));
/// clock.advance(Duration::from_secs(1));
/// let (now, later) = (Duration::ZERO, Duration::from_millis(500));
/// let mut done = done.timed_items();
/// done.sort();
/// assert_eq!(done, [(now, ("ann", 1)), (now, ("bob", 3)), (later, ("ann", 2))]);
/// ```
///
/// In *any* period `t`, at most `burst + rate * t` calls have their turn. A call that arrives too early waits for its
/// turn on its worker; the calls of a key take turns in the order of their arrival. After a pause, up to `burst` calls
/// follow one another without delay. The turns keep to the limit exactly. A thread may be woken late, though, by some
/// 0.1 milliseconds and more on a busy machine, so that a late call and a punctual one are closer to each other than
/// their turns.
///
/// The technique is the generic cell rate algorithm, as in [`Throttle`](crate::Throttle), with reserved turns.
///
/// # One limit
/// All runs of a `RateLimit`, and its clones, share its limit, because they call the same service.
/// [`stats`](Self::stats) counts the calls of all of them.
///
/// # Ordering
/// Same as the pool. If the order is kept, the items after a delayed one wait for it, up to the window.
///
/// # Back-pressure
/// A waiting worker makes no other call; the other workers continue. With a key, many calls of one busy key can occupy
/// all workers. [`AsyncMapper::keyed`](crate::AsyncMapper::keyed) prevents that: one call of each key is on a worker at
/// a time.
///
/// # Errors
/// With [`with_max_wait`](Self::with_max_wait), a call that would have to wait longer is not made and takes no turn.
/// Its item fails at once, with kind [`Rejected`](crate::ErrorKind::Rejected), the source [`Rejection::RateLimited`]
/// and 0 attempts. So does a call whose turn comes after the deadline of its token: that of the pipeline, or of a layer
/// outside such as [`CallTimeout`](crate::CallTimeout).
///
/// # Cancellation
/// Ends a wait at once; the call is not made. It gives its turn back if no call of the same key has a later one; otherwise
/// the turn is lost.
///
/// # Memory
/// Same as the pool, and with a key about 100 bytes for each key that has had a call in the last `burst / rate`
/// seconds, up to `max_keys`: see [`with_key`](Self::with_key).
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("rate_limiter", "throttle", "token_bucket", "leaky_bucket", "quota", "governor", "rate limit"))]
pub struct RateLimit<S: CallStage> {
    inner: S,
    pool: PoolOptions<S::In>,
    per_second: f64,
    burst: usize,
    max_keys: usize,
    layer: RateLayer<S::In>,
}

impl<S: CallStage> RateLimit<S> {
    /// Limits the calls of `inner` to `per_second` calls per second: any positive number, so 0.1 is one call in ten
    /// seconds. Keeps the stage name and the pool of `inner` unless you set others.
    ///
    /// # Panics
    /// If `per_second` is not greater than zero and finite.
    #[track_caller]
    pub fn new(inner: S, per_second: f64) -> Self {
        let burst = Rate::default_burst(per_second);
        let layer = RateLayer {
            key: None,
            max_wait: None,
            buckets: Arc::new(Mutex::new(Buckets::new(Rate::new(per_second, burst), 1))),
            stats: LimitStats::default(),
        };
        Self { pool: inner.pool(), inner, per_second, burst, max_keys: 1, layer }
    }

    pool_options!();
    combine! { S::In, S::Out, S::Error }

    /// Sets how many calls may follow one another without delay after a pause. Defaults to one call plus the calls of
    /// 20 milliseconds, rounded down: 1 for rates below 50 per second, 21 for 1,000.
    ///
    /// # Panics
    /// If `burst` is 0.
    #[track_caller]
    pub fn with_burst(mut self, burst: usize) -> Self {
        assert!(burst > 0, "`burst` must be at least 1");
        self.burst = burst;
        self.unused()
    }

    /// Limits the calls of each key separately, for at most `max_keys` keys.
    ///
    /// A key is evicted when it is idle: when it has had no call for long enough that the next one would find its whole
    /// burst. If more than `max_keys` keys are in use, a new one shares the turns of the key that is idle soonest. No
    /// key ever exceeds its limit, but some wait longer than they would have to. So choose `max_keys` greater than the
    /// number of keys that have calls within `burst / rate` seconds. A key is known by a 64-bit hash with a random
    /// seed; should the hashes of two keys be equal, they share a limit.
    ///
    /// `key` is called once for each call. A panic in it fails the item.
    ///
    /// # Panics
    /// If `max_keys` is 0.
    #[track_caller]
    pub fn with_key<K: Hash>(mut self, key: impl Fn(&S::In) -> K + Send + Sync + 'static, max_keys: usize) -> Self {
        self.layer.key = Some(hash_by(key));
        self.keyed(max_keys)
    }

    /// Does what [`with_key`](Self::with_key) does, with keys borrowed from the item: `|event: &Event|
    /// event.user.as_str()`.
    ///
    /// # Panics
    /// If `max_keys` is 0.
    #[track_caller]
    pub fn with_key_by_ref<K: Hash + ?Sized>(
        mut self,
        key: impl Fn(&S::In) -> &K + Send + Sync + 'static,
        max_keys: usize,
    ) -> Self {
        self.layer.key = Some(hash_by_ref(key));
        self.keyed(max_keys)
    }

    #[track_caller]
    fn keyed(mut self, max_keys: usize) -> Self {
        assert!(max_keys > 0, "`max_keys` must be at least 1");
        self.max_keys = max_keys;
        self.unused()
    }

    /// Sets how long a call may wait for its turn. Defaults to no limit. A call that would have to wait longer is rejected at
    /// once; with zero no call waits.
    pub fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.layer.max_wait = Some(max_wait);
        self
    }

    /// Resets the buckets and the counts, which are then shared with no earlier clone or handle.
    fn unused(mut self) -> Self {
        let buckets = Buckets::new(Rate::new(self.per_second, self.burst), self.max_keys);
        self.layer.buckets = Arc::new(Mutex::new(buckets));
        self.layer.stats = LimitStats::default();
        self
    }

    /// Returns live statistics, across all runs. Call it after the burst and the key are set: these start new counts.
    pub fn stats(&self) -> LimitStats {
        self.layer.stats.clone()
    }

    fn layered(&self) -> LayerCall<S::Call, RateLayer<S::In>> {
        LayerCall::new(self.inner.to_call(), Arc::new(self.layer.clone()))
    }
}

call_stage! {
    [S] RateLimit<S> where { S: CallStage } S::In => S::Out, S::Error, LayerCall<S::Call, RateLayer<S::In>>
}

/// Wraps a call for a [`RateLimit`].
pub struct RateLayer<In> {
    key: Option<KeyHash<In>>,
    max_wait: Option<Duration>,
    buckets: Arc<Mutex<Buckets>>,
    stats: LimitStats,
}

impl<C: Call> CallLayer<C> for RateLayer<C::In> {
    type Out = C::Out;
    type Error = C::Error;

    fn call(&self, inner: &C, cancel: &CancelToken, item: &C::In) -> Result<C::Out, CallError<C::Error>> {
        let key = self.key.as_ref().map_or(0, |key| key(item));
        let now = cancel.now();
        let mut buckets = self.buckets.lock();
        let reserved = buckets.reserve(key, now, |at| {
            let is_later_than = |limit| at > limit;
            at > now
                && (self.max_wait.and_then(|wait| now.checked_add(wait)).is_some_and(is_later_than)
                    || cancel.deadline().is_some_and(|deadline| at >= deadline))
        });
        self.stats.set_keys(buckets.len());
        drop(buckets);
        let turn = match reserved {
            Ok(turn) => turn,
            Err(at) => {
                self.stats.reject();
                let wait = at.map_or(Duration::MAX, |at| at - now);
                return Err(CallError::raised(cancel, CallFailure::Rejected(Rejection::RateLimited { wait }), 0));
            }
        };
        if turn.at > now {
            let waiting = self.stats.wait(cancel);
            if cancel.sleep(turn.at - now).is_err() {
                self.buckets.lock().give_back(turn);
                return Err(CallError::new(CallFailure::Cancelled, 0));
            }
            drop(waiting);
        }
        let _in_progress = self.stats.admit();
        inner.call(cancel, item)
    }
}

impl<In> Clone for RateLayer<In> {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
            max_wait: self.max_wait,
            buckets: Arc::clone(&self.buckets),
            stats: self.stats.clone(),
        }
    }
}

/// The clone shares the limit and the statistics.
impl<S: CallStage + Clone> Clone for RateLimit<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), pool: self.pool.clone(), layer: self.layer.clone(), ..*self }
    }
}

impl<S: CallStage + fmt::Debug> fmt::Debug for RateLimit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("per_second", &self.per_second)
            .field("burst", &self.burst)
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

impl<In> fmt::Debug for RateLayer<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLayer")
            .field("keyed", &self.key.is_some())
            .field("max_wait", &self.max_wait)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
