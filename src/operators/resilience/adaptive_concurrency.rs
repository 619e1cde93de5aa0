//! [`AdaptiveConcurrency`]: adapts the number of concurrent calls to the capacity of a service.
//!
//! # Invariants
//!
//! - No call is in progress without a permit of the gate, whose limit is what the gradient allows after each call.
//! - A limit is passed to the gate under the lock of the gradient, so that the gate has the last one. User code runs
//!   under no lock.
//! - A call that unwinds returns its permit and does not count as an observation of the service.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::gate::{Gate, Permit};
use super::gradient::{Begun, Gradient};
use crate::error::Result;
use crate::operators::call::{PoolOptions, call_stage, pool_options};
use crate::operators::options::live_debug;
use crate::operators::pool::combine::combine;
use crate::operators::{Call, CallError, CallFailure, CallStage};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::trace::event;

/// Limits the calls in progress to as many as the service can handle, a number that it measures by itself.
///
/// A fixed number of workers is right for one state of the service. When it slows down, excess calls wait in its
/// queues, and every call takes longer. This layer measures the latency of calls, and holds calls back as soon as more
/// of them make each call slower without increasing the throughput. Give the pool as many workers as may be useful in
/// the best case.
///
/// It wraps a call, not a stream: an [`AsyncMapper`](crate::AsyncMapper), a [`Mapper::fallible`](crate::Mapper::fallible), or
/// another wrapper. Together they are one stage with one pool; a call that is held back waits on its worker.
///
/// ```
/// use streamz::{AdaptiveConcurrency, AsyncMapper, CancelToken, Pipeline, Stream};
///
/// # fn fetch(id: &u32) -> std::io::Result<u32> { Ok(id * 2) }
/// let calls = AsyncMapper::new(|_: &CancelToken, id: &u32| fetch(id)).with_workers(64);
/// let adaptive = AdaptiveConcurrency::new(calls).with_initial_limit(8);
/// let stats = adaptive.stats();
///
/// let pipeline = Pipeline::new("users");
/// let users = Stream::from_iter(&pipeline, 0..100).through(&adaptive).collect::<Vec<_>>()?;
/// assert_eq!(users.len(), 100);
/// println!("{} calls at a time", stats.limit());
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # How the limit is found
///
/// The limit follows the gradient of latencies, as in Netflix's
/// [concurrency-limits](https://github.com/Netflix/concurrency-limits) and in
/// [Envoy](https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/adaptive_concurrency_filter):
///
/// - It starts at the [initial limit](Self::with_initial_limit), and doubles until latencies rise.
/// - After each window of calls it becomes `limit * base / latency` plus 4 % of it or one call, whichever is more;
///   `base` is the mean latency without a queue. It shrinks to no less than half, and grows by no more than a tenth
///   plus that headroom.
/// - It grows only if it was reached. So it does not grow much beyond the number of workers, whatever the
///   [maximum](Self::with_max_limit).
/// - Every 40 windows, and sooner after a change, half of the limit is allowed for one window, to measure the base. This tells a
///   queue from a service that has become slower by itself. It costs 1 % to 2 % of the throughput.
/// - A failed call reduces it by a tenth, or by one call if that is more. Calls that started before that no longer
///   count. Failures for reasons other than overload should be [ignored](Self::ignore_if): failures of more than about
///   one call in a hundred keep the limit low.
///
/// A window is three rounds of calls if all take about the same time. If latencies vary by as much as their mean, it is 1,000 calls,
/// or three rounds if that is more. A change of the service is seen after one window or two.
///
/// # What counts
///
/// The latencies of successful calls count, without the time for which they were held back. A failure is an error that
/// [`ignore_if`](Self::ignore_if) does not ignore, or a call that exceeded [its time
/// limit](crate::AsyncMapper::with_timeout). Panics, cancelled calls, and those that a layer inside has rejected count
/// as neither. Put a [`Retry`](crate::Retry) around this layer: otherwise its pauses are part of the latency.
///
/// # One limit
/// All runs and clones share the limit, since they call the same service. [`stats`](Self::stats) shows it.
///
/// # Ordering
/// Same as the pool. Calls are admitted in the order in which their workers ask.
///
/// # Back-pressure
/// A call that is held back occupies its worker. When all workers are occupied, no input is taken.
///
/// # Cancellation
/// Ends the wait of a call that is held back at once; it is not made.
///
/// # Memory
/// Same as the pool.
///
/// # Panics
/// A panic in `ignore_if` is logged, and the error counts.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("concurrency_limit", "adaptive_limit", "AIMD", "gradient", "vegas", "congestion_control"))]
pub struct AdaptiveConcurrency<S: CallStage> {
    inner: S,
    pool: PoolOptions<S::In>,
    rules: Rules,
    shared: Arc<Shared>,
    ignore_if: Option<IgnoreIf<S::Error>>,
}

type IgnoreIf<E> = Arc<dyn Fn(&E) -> bool + Send + Sync>;

#[derive(Debug, Clone, Copy)]
struct Rules {
    initial: usize,
    min: usize,
    max: usize,
}

#[derive(Debug)]
struct Shared {
    gradient: Mutex<Gradient>,
    gate: Gate,
}

impl Shared {
    fn new(rules: Rules) -> Self {
        let gradient = Gradient::new(rules.initial, rules.min, rules.max);
        Self { gate: Gate::new(gradient.allowed()), gradient: Mutex::new(gradient) }
    }
}

impl<S: CallStage> AdaptiveConcurrency<S> {
    /// Limits the calls of `inner` adaptively. Keeps the stage name and the pool of `inner` unless you set others.
    pub fn new(inner: S) -> Self {
        let rules = Rules { initial: 4, min: 1, max: usize::MAX };
        Self { pool: inner.pool(), inner, rules, shared: Arc::new(Shared::new(rules)), ignore_if: None }
    }

    pool_options!();
    combine! { S::In, S::Out, S::Error }

    /// Sets the limit at the start. Defaults to 4. A value outside the minimum and maximum is moved to the nearer of
    /// them.
    ///
    /// # Panics
    /// If `initial_limit` is 0; and, as all setters of the limit, if the layer has been cloned, watched or used.
    #[track_caller]
    pub fn with_initial_limit(self, initial_limit: usize) -> Self {
        assert!(initial_limit > 0, "`initial_limit` must be at least 1");
        self.with_rules(|rules| rules.initial = initial_limit)
    }

    /// Sets the lower bound of the limit, which holds however slow or broken the service is. Defaults to 1.
    ///
    /// # Panics
    /// If `min_limit` is 0; and, when the layer is used, if it is more than the maximum.
    #[track_caller]
    pub fn with_min_limit(self, min_limit: usize) -> Self {
        assert!(min_limit > 0, "`min_limit` must be at least 1");
        self.with_rules(|rules| rules.min = min_limit)
    }

    /// Sets the upper bound of the limit. Defaults to none: then the number of workers bounds it.
    ///
    /// # Panics
    /// If `max_limit` is 0.
    #[track_caller]
    pub fn with_max_limit(self, max_limit: usize) -> Self {
        assert!(max_limit > 0, "`max_limit` must be at least 1");
        self.with_rules(|rules| rules.max = max_limit)
    }

    #[track_caller]
    fn with_rules(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.rules);
        let shared = Arc::get_mut(&mut self.shared);
        let shared = shared.expect("the limits must be set before the layer is used, cloned, or watched");
        *shared = Shared::new(self.rules);
        self
    }

    /// Ignores errors for which `f` returns `true`: they are not caused by overload, such as "no such order", and do
    /// not lower the limit. They are forwarded like all others. Defaults to ignoring none.
    pub fn ignore_if(mut self, f: impl Fn(&S::Error) -> bool + Send + Sync + 'static) -> Self {
        self.ignore_if = Some(Arc::new(f));
        self
    }

    #[track_caller]
    fn layered(&self) -> AdaptiveCall<S::Call> {
        let Rules { min, max, .. } = self.rules;
        assert!(min <= max, "`min_limit` ({min}) must not be more than `max_limit` ({max})");
        AdaptiveCall {
            inner: self.inner.to_call(),
            shared: Arc::clone(&self.shared),
            ignore_if: self.ignore_if.clone(),
        }
    }

    /// Returns live statistics, across all runs. Call it after the limits are set.
    pub fn stats(&self) -> ConcurrencyStats {
        ConcurrencyStats { shared: Arc::clone(&self.shared) }
    }
}

call_stage! { [S] AdaptiveConcurrency<S> where { S: CallStage } S::In => S::Out, S::Error, AdaptiveCall<S::Call> }

/// Makes a call when an [`AdaptiveConcurrency`] admits it.
pub struct AdaptiveCall<C: Call> {
    inner: C,
    shared: Arc<Shared>,
    ignore_if: Option<IgnoreIf<C::Error>>,
}

/// The observation of the service that a call makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Success,
    Overload,
    Nothing,
}

impl<C: Call> Call for AdaptiveCall<C> {
    type In = C::In;
    type Out = C::Out;
    type Error = C::Error;

    fn call(&self, cancel: &CancelToken, item: &C::In) -> Result<C::Out, CallError<C::Error>> {
        let Ok(permit) = self.shared.gate.enter(cancel, None) else {
            return Err(CallError::new(CallFailure::Cancelled, 0));
        };
        let mut admitted = Admitted::new(&self.shared, permit, cancel);
        let result = self.inner.call(cancel, item);
        admitted.verdict = match &result {
            Ok(_) => Verdict::Success,
            Err(error) => self.judge(&error.failure),
        };
        result
    }
}

impl<C: Call> AdaptiveCall<C> {
    fn judge(&self, failure: &CallFailure<C::Error>) -> Verdict {
        match failure {
            CallFailure::Failed(error) if self.is_ignored(error) => Verdict::Nothing,
            CallFailure::Failed(_) | CallFailure::TimedOut { .. } => Verdict::Overload,
            _ => Verdict::Nothing,
        }
    }

    fn is_ignored(&self, error: &C::Error) -> bool {
        let Some(ignore_if) = &self.ignore_if else { return false };
        panic::catch(|| ignore_if(error)).unwrap_or_else(|payload| {
            event!(
                error,
                { panic = %payload.message() },
                "streamz: `ignore_if` of an adaptive limit panicked: {}",
                payload.message()
            );
            false
        })
    }
}

/// An admitted call that has not returned.
struct Admitted<'a> {
    shared: &'a Shared,
    /// Released after the limit has been set.
    _permit: Permit<'a>,
    cancel: &'a CancelToken,
    begun: Begun,
    at: Instant,
    verdict: Verdict,
}

impl<'a> Admitted<'a> {
    fn new(shared: &'a Shared, permit: Permit<'a>, cancel: &'a CancelToken) -> Self {
        let begun = shared.gradient.lock().begin(permit.inside);
        Self { shared, _permit: permit, cancel, begun, at: cancel.now(), verdict: Verdict::Nothing }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let latency = self.cancel.now().saturating_duration_since(self.at);
        let mut gradient = self.shared.gradient.lock();
        match self.verdict {
            Verdict::Success => gradient.succeed(self.begun, latency),
            Verdict::Overload => gradient.fail(self.begun),
            Verdict::Nothing => return,
        }
        self.shared.gate.set_limit(gradient.allowed());
    }
}

/// Live statistics of an [`AdaptiveConcurrency`]: its limit and its calls. Clones show the same numbers.
#[derive(Clone)]
pub struct ConcurrencyStats {
    shared: Arc<Shared>,
}

impl ConcurrencyStats {
    /// Returns the present limit: how many calls the service can handle at a time, as far as known. While the latency
    /// without a queue is being measured, half as many are admitted; this value does not show that.
    pub fn limit(&self) -> usize {
        self.shared.gradient.lock().limit()
    }

    /// Returns the number of calls in progress.
    pub fn in_progress(&self) -> usize {
        self.shared.gate.inside()
    }

    /// Returns the number of calls that are waiting to be admitted.
    pub fn waiting(&self) -> usize {
        self.shared.gate.waiting()
    }

    /// Returns the mean latency of a call without a queue, as last measured; `None` before the first window of calls
    /// has ended.
    pub fn base_latency(&self) -> Option<Duration> {
        self.shared.gradient.lock().base()
    }
}

live_debug! { ConcurrencyStats: limit, in_progress, waiting, base_latency }

/// The clone shares the limit.
impl<S: CallStage + Clone> Clone for AdaptiveConcurrency<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            pool: self.pool.clone(),
            rules: self.rules,
            shared: Arc::clone(&self.shared),
            ignore_if: self.ignore_if.clone(),
        }
    }
}

impl<S: CallStage + fmt::Debug> fmt::Debug for AdaptiveConcurrency<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveConcurrency")
            .field("inner", &self.inner)
            .field("rules", &self.rules)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl<C: Call> fmt::Debug for AdaptiveCall<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveCall").finish_non_exhaustive()
    }
}
