//! [`CircuitBreaker`]: stops calling a failing service until it recovers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::call_window::Span;
use super::circuit::{Circuit, CircuitState, CircuitStats, Permit, Verdict};
use crate::error::Result;
use crate::operators::call::{PoolOptions, call_stage, pool_options};
use crate::operators::pool::combine::combine;
use crate::operators::{Call, CallError, CallFailure, CallStage};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::trace::event;

/// Rejects calls for a while after too many have failed, so that the service can recover and callers fail fast.
///
/// It wraps a call, not a stream: an [`AsyncMapper`](crate::AsyncMapper), a
/// [`Mapper::fallible`](crate::Mapper::fallible), a [`Retry`](crate::Retry), or another wrapper. Together they are one
/// stage with one pool; each worker runs all the layers. While the circuit is open, items become error items of kind
/// [`CircuitOpen`](crate::ErrorKind::CircuitOpen) at once; they carry the item, so a
/// [`DeadLetterQueue`](crate::DeadLetterQueue) can set it aside for later.
///
/// ```
/// use streamz::{AsyncMapper, CancelToken, CircuitBreaker, ErrorKind, Pipeline, Retry, Stream};
///
/// # fn charge(_: &CancelToken, _: &u32) -> Result<String, std::io::Error> { Err(std::io::ErrorKind::Other.into()) }
/// let calls = AsyncMapper::new(charge).with_workers(10);
/// let retry = Retry::new(calls).max_attempts(3).base_delay(std::time::Duration::ZERO);
/// let breaker = CircuitBreaker::new(retry)
///     .failure_threshold(0.5)
///     .min_requests(10)
///     .on_open(|stats| println!("{} of {} payments failed", stats.failures, stats.requests));
///
/// let pipeline = Pipeline::new("payments");
/// let results = Stream::from_iter(&pipeline, 0..1_000u32).through(&breaker).into_iter();
/// let rejected = results
///     .filter_map(Result::err)
///     .filter(|error| error.kind() == ErrorKind::CircuitOpen);
/// // Ten failed, and at most those that the other workers had started by then.
/// assert!(rejected.count() >= 980);
/// ```
///
/// # The states
///
/// | state | calls | ends, and changes to |
/// |---|---|---|
/// | closed | are made | when, among the recent calls, there are at least [`min_requests`](Self::min_requests) and the share of failures reaches [`failure_threshold`](Self::failure_threshold), or the share of slow calls its limit: open |
/// | open | are rejected | with the first call after the [`recovery_timeout`](Self::recovery_timeout): half-open, and this call is the first probe |
/// | half-open | up to [`half_open_requests`](Self::half_open_requests) are made, as probes; the others are rejected | with the first probe that fails or is slow: open, for the same time again. When all have succeeded: closed, with nothing counted |
/// | forced | as forced through [`Circuit`] | with [`Circuit::reset`]: closed |
///
/// A probe that has not returned after the recovery time counts as failed when the next call arrives. So choose a
/// recovery time that is longer than any call.
///
/// Results of calls that started in an earlier state do not count in this one.
///
/// # What counts
///
/// A failure is an error that [`ignore_if`](Self::ignore_if) does not ignore, a call that exceeded [its time
/// limit](crate::AsyncMapper::with_timeout), or a panic. Neither a failure nor a success is a call that was cancelled
/// (also one by a time limit *around* the breaker), an error that is ignored, or one that a breaker or a limit inside
/// rejected; such a probe gives its place back.
///
/// # One state
///
/// All runs of a breaker, and its clones, share its state, because they call the same service.
/// [`circuit`](Self::circuit) is a handle to it.
///
/// # Ordering
/// Same as the pool. Rejected items keep their place like results. The calls that a worker rejects in a row, within some 50
/// microseconds, have the time of the first.
///
/// # Back-pressure
/// A rejected call takes no time: while the circuit is open, items are processed as fast as they arrive. To slow the
/// source down instead, retry around the breaker, or throttle.
///
/// # Cancellation
/// As for the wrapped call.
///
/// # Memory
/// Same as the pool, and two bytes for each call of a window of calls.
///
/// # Panics
/// Hooks are called without holding a lock, one at a time, in the order of events. A panic in one is logged. A panic in
/// `ignore_if` is logged, and the error counts.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("breaker", "trip", "circuit breaker", "fail_fast"))]
pub struct CircuitBreaker<S: CallStage> {
    inner: S,
    pool: PoolOptions<S::In>,
    circuit: Circuit,
    ignore_if: Option<IgnoreIf<S::Error>>,
}

type IgnoreIf<E> = Arc<dyn Fn(&E) -> bool + Send + Sync>;

impl<S: CallStage> CircuitBreaker<S> {
    /// Creates a closed breaker around `inner`. Keeps the stage name and the pool of `inner` unless you set others.
    pub fn new(inner: S) -> Self {
        Self { pool: inner.pool(), inner, circuit: Circuit::new(), ignore_if: None }
    }

    pool_options!();
    combine! { S::In, S::Out, S::Error }

    /// Sets the share of failures that opens the circuit. Defaults to 0.5. Reaching the share is enough. With 1.0, the
    /// circuit opens only if all calls in the window have failed.
    ///
    /// # Panics
    /// If `failure_threshold` is not greater than 0.0 and at most 1.0; and, as all setters of a breaker's rules, if the
    /// breaker has been cloned or is in use.
    #[track_caller]
    pub fn failure_threshold(mut self, failure_threshold: f64) -> Self {
        check_share("failure_threshold", failure_threshold);
        self.circuit.set(|rules| rules.failure_threshold = failure_threshold);
        self
    }

    /// Sets how many calls must be in the window before the shares are evaluated. Defaults to 10.
    ///
    /// # Panics
    /// If `min_requests` is 0; and, when the breaker is used, if it is more than the window holds.
    #[track_caller]
    pub fn min_requests(mut self, min_requests: u64) -> Self {
        assert!(min_requests > 0, "`min_requests` must be at least 1");
        self.circuit.set(|rules| rules.min_requests = min_requests);
        self
    }

    /// Sets how long the circuit stays open, and how long a probe may take. Defaults to 30 s. A time too long to add never
    /// ends.
    ///
    /// # Panics
    /// If `recovery_timeout` is zero.
    #[track_caller]
    pub fn recovery_timeout(mut self, recovery_timeout: Duration) -> Self {
        assert!(!recovery_timeout.is_zero(), "`recovery_timeout` must be greater than zero");
        self.circuit.set(|rules| rules.recovery_timeout = recovery_timeout);
        self
    }

    /// Sets how many calls must succeed while the circuit is half-open before it closes. No more than that are in
    /// progress then. Defaults to 3.
    ///
    /// # Panics
    /// If `half_open_requests` is 0.
    #[track_caller]
    pub fn half_open_requests(mut self, half_open_requests: usize) -> Self {
        assert!(half_open_requests > 0, "`half_open_requests` must be at least 1");
        self.circuit.set(|rules| rules.half_open_requests = half_open_requests);
        self
    }

    /// Evaluates the shares over the last `count_window` calls. This is the default, with 100.
    ///
    /// # Panics
    /// If `count_window` is 0.
    #[track_caller]
    pub fn with_count_window(mut self, count_window: usize) -> Self {
        assert!(count_window > 0, "`count_window` must be at least 1");
        self.circuit.set(|rules| rules.span = Span::Calls(count_window));
        self
    }

    /// Evaluates the shares over the calls that returned within the last `time_window`, to a tenth of it, instead of
    /// over a number of calls.
    ///
    /// # Panics
    /// If `time_window` is zero.
    #[track_caller]
    pub fn with_time_window(mut self, time_window: Duration) -> Self {
        assert!(!time_window.is_zero(), "`time_window` must be greater than zero");
        self.circuit.set(|rules| rules.span = Span::Time(time_window));
        self
    }

    /// Also opens the circuit when the share of calls that took `time` or longer, with a result or without, reaches
    /// `share`. Defaults to no such limit.
    ///
    /// # Panics
    /// If `time` is zero, or `share` is not greater than 0.0 and at most 1.0.
    #[track_caller]
    pub fn slow_call(mut self, time: Duration, share: f64) -> Self {
        assert!(!time.is_zero(), "`time` must be greater than zero");
        check_share("share", share);
        self.circuit.set(|rules| rules.slow = Some((time, share)));
        self
    }

    /// Ignores errors for which `f` returns `true`: they say nothing about the health of the service, such as "no such
    /// order", and are not counted. They are forwarded like all others. Defaults to ignoring none.
    pub fn ignore_if(mut self, f: impl Fn(&S::Error) -> bool + Send + Sync + 'static) -> Self {
        self.ignore_if = Some(Arc::new(f));
        self
    }

    /// Calls `f` with the old and the new state at each change.
    #[track_caller]
    pub fn on_state_change(mut self, f: impl Fn(CircuitState, CircuitState) + Send + Sync + 'static) -> Self {
        self.circuit.set(|rules| rules.on_state_change = Some(Box::new(f)));
        self
    }

    /// Calls `f` when the circuit has opened, after [`on_state_change`](Self::on_state_change), with the counts that
    /// opened it.
    #[track_caller]
    pub fn on_open(mut self, f: impl Fn(CircuitStats) + Send + Sync + 'static) -> Self {
        self.circuit.set(|rules| rules.on_open = Some(Box::new(f)));
        self
    }

    /// Returns a handle to the state, for a dashboard or a manual switch. Call it after the rules are set.
    pub fn circuit(&self) -> Circuit {
        self.circuit.clone()
    }

    /// Returns the state as of the last call.
    pub fn state(&self) -> CircuitState {
        self.circuit.state()
    }

    /// Returns the counts as of the last call.
    pub fn stats(&self) -> CircuitStats {
        self.circuit.stats()
    }

    #[track_caller]
    fn layered(&self) -> BreakerCall<S::Call> {
        let rules = self.circuit.rules();
        if let Span::Calls(window) = rules.span {
            let least = rules.min_requests;
            assert!(least <= window as u64, "`min_requests` ({least}) must not be more than `count_window` ({window})");
        }
        BreakerCall { inner: self.inner.to_call(), circuit: self.circuit.clone(), ignore_if: self.ignore_if.clone() }
    }
}

#[track_caller]
fn check_share(name: &str, share: f64) {
    assert!(share > 0.0 && share <= 1.0, "`{name}` must be greater than 0.0 and at most 1.0, not {share}");
}

call_stage! {
    [S] CircuitBreaker<S> where { S: CallStage } S::In => S::Out, S::Error, BreakerCall<S::Call>
}

/// Makes a call through a [`CircuitBreaker`].
pub struct BreakerCall<C: Call> {
    inner: C,
    circuit: Circuit,
    ignore_if: Option<IgnoreIf<C::Error>>,
}

impl<C: Call> Call for BreakerCall<C> {
    type In = C::In;
    type Out = C::Out;
    type Error = C::Error;

    const IS_BREAKER: bool = true;

    fn call(&self, cancel: &CancelToken, item: &C::In) -> Result<C::Out, CallError<C::Error>> {
        let Some(permit) = self.circuit.admit(cancel) else {
            return Err(CallError::raised(cancel, CallFailure::CircuitOpen, 0));
        };
        // A call that unwinds is a failure.
        let mut admitted = Admitted { circuit: &self.circuit, permit, cancel, verdict: Verdict::Failure };
        let result = self.inner.call(cancel, item);
        admitted.verdict = match &result {
            Ok(_) => Verdict::Success,
            Err(error) => self.judge(&error.failure),
        };
        result
    }
}

impl<C: Call> BreakerCall<C> {
    fn judge(&self, failure: &CallFailure<C::Error>) -> Verdict {
        match failure {
            CallFailure::Cancelled | CallFailure::CircuitOpen | CallFailure::Rejected(_) => Verdict::Nothing,
            CallFailure::Failed(error) if self.is_ignored(error) => Verdict::Nothing,
            _ => Verdict::Failure,
        }
    }

    fn is_ignored(&self, error: &C::Error) -> bool {
        let Some(ignore_if) = &self.ignore_if else { return false };
        panic::catch(|| ignore_if(error)).unwrap_or_else(|payload| {
            event!(
                error,
                { panic = %payload.message() },
                "streamz: `ignore_if` of a circuit breaker panicked: {}",
                payload.message()
            );
            false
        })
    }
}

/// An admitted call that has not returned.
struct Admitted<'a> {
    circuit: &'a Circuit,
    permit: Permit,
    cancel: &'a CancelToken,
    verdict: Verdict,
}

impl Drop for Admitted<'_> {
    #[inline]
    fn drop(&mut self) {
        self.circuit.settle(&self.permit, self.verdict, self.cancel);
    }
}

/// The clone shares the state.
impl<S: CallStage + Clone> Clone for CircuitBreaker<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            pool: self.pool.clone(),
            circuit: self.circuit.clone(),
            ignore_if: self.ignore_if.clone(),
        }
    }
}

impl<S: CallStage + fmt::Debug> fmt::Debug for CircuitBreaker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("inner", &self.inner)
            .field("circuit", &self.circuit)
            .finish_non_exhaustive()
    }
}

impl<C: Call> fmt::Debug for BreakerCall<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerCall").field("circuit", &self.circuit).finish_non_exhaustive()
    }
}
