//! [`Retry`]: retries a failed call with exponential backoff.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::budget::Budget;
use super::occupancy::Occupancy;
use crate::clock::Backoff;
use crate::error::Result;
use crate::operators::call::{PoolOptions, call_stage, pool_options};
use crate::operators::options::live_debug;
use crate::operators::pool::combine::combine;
use crate::operators::{Call, CallError, CallFailure, CallStage};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::pipeline::stats::Counter;

/// Retries a failed call with exponential backoff.
///
/// It wraps a call, not a stream: an [`AsyncMapper`](crate::AsyncMapper), a
/// [`Mapper::fallible`](crate::Mapper::fallible), or another wrapper. Together they are one stage with one pool, in
/// which each worker makes its call as often as needed. An item that finally fails becomes an error item that carries
/// it, with the last error and the number of [attempts](crate::StreamError::attempts).
///
/// ```
/// use std::time::Duration;
/// use streamz::{AsyncMapper, CancelToken, Pipeline, Retry, Stream};
///
/// #[derive(Debug, thiserror::Error)]
/// enum ApiError {
///     #[error("busy")]
///     Busy,
///     #[error("no such order")]
///     Unknown,
/// }
///
/// # let left = std::sync::atomic::AtomicU32::new(2);
/// # let charge = move |order: &u32| match order {
/// #     0 => Err(ApiError::Unknown),
/// #     _ if left.fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst,
/// #                            |left| left.checked_sub(1)).is_ok() => Err(ApiError::Busy),
/// #     _ => Ok(order * 10),
/// # };
/// let calls = AsyncMapper::new(move |_: &CancelToken, order: &u32| charge(order))
///     .with_workers(10);
/// let retry = Retry::new(calls)
///     .max_attempts(5)
///     .base_delay(Duration::from_micros(100))
///     .on_error(|error, _attempt| matches!(error, ApiError::Busy));
///
/// let pipeline = Pipeline::new("payments");
/// let charged = Stream::from_iter(&pipeline, [0, 7]).through(&retry);
/// let results: Vec<_> = charged.into_iter().collect();
/// assert_eq!(results[0].as_ref().unwrap_err().attempts(), 1); // an unknown order stays unknown
/// // After two attempts that found the service busy.
/// assert_eq!(*results[1].as_ref().unwrap(), 70);
/// ```
///
/// # What is retried
///
/// | the call | is retried |
/// |---|---|
/// | returned an error | if [`on_error`](Self::on_error) returns `true`; by default always |
/// | exceeded [its time limit](crate::AsyncMapper::with_timeout) | always |
/// | panicked, or was rejected by a [`CircuitBreaker`](crate::CircuitBreaker) or a limit inside | never |
/// | was cancelled | never |
///
/// # Ordering
/// Same as the pool. If the order is kept, the items after a retried one wait for it, up to the window.
///
/// # Back-pressure
/// A worker that waits before a retry makes no other call; the other workers continue. Give the pool enough workers for
/// the calls that may be waiting.
///
/// # Cancellation
/// Ends a wait at once. A cancelled call is not a failure: it is neither retried nor does it become an error item; see
/// [`AsyncMapper`](crate::AsyncMapper).
///
/// # Memory
/// Same as the pool.
///
/// # Panics
/// A panic in `on_error` fails the item with kind [`Panicked`](crate::ErrorKind::Panicked).
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("backoff", "exponential_backoff", "jitter", "repeat", "retry_backoff"))]
pub struct Retry<S: CallStage> {
    inner: S,
    pool: PoolOptions<S::In>,
    rules: Rules<S::Error>,
    seed: Option<u64>,
    /// The share and the reserve of the budget.
    funding: Option<(f64, u32)>,
    stats: RetryStats,
}

type OnError<E> = Arc<dyn Fn(&E, u32) -> bool + Send + Sync>;

struct Rules<E> {
    max_attempts: u32,
    backoff: Backoff,
    on_error: Option<OnError<E>>,
    budget: Option<Arc<Budget>>,
    total_timeout: Option<Duration>,
}

/// The number of retries with which a budget starts, and the maximum that it saves.
const DEFAULT_RESERVE: u32 = 10;

impl<S: CallStage> Retry<S> {
    /// Retries a failed call of `inner`, up to twice by default. Keeps the stage name and the pool of `inner` unless
    /// you set others.
    pub fn new(inner: S) -> Self {
        let backoff = Backoff { base: Duration::from_millis(100), max: None, jitter: true };
        Self {
            pool: inner.pool(),
            inner,
            rules: Rules { max_attempts: 3, backoff, on_error: None, budget: None, total_timeout: None },
            seed: None,
            funding: None,
            stats: RetryStats::default(),
        }
    }

    pool_options!();
    combine! { S::In, S::Out, S::Error }

    /// Sets the greatest number of attempts, including the first. Defaults to 3. With 1, nothing is retried.
    ///
    /// # Panics
    /// If `max_attempts` is 0.
    #[track_caller]
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        assert!(max_attempts > 0, "`max_attempts` must be at least 1");
        self.rules.max_attempts = max_attempts;
        self
    }

    /// Sets the pause before the first retry. Defaults to 100 ms. Before retry `k` the pause is `delay * 2^(k-1)`, up
    /// to [`max_delay`](Self::max_delay), which is never less than this unless you set it. With zero, there are no
    /// pauses.
    pub fn base_delay(mut self, delay: Duration) -> Self {
        self.rules.backoff.base = delay;
        self
    }

    /// Sets the longest pause. Defaults to 30 s, or to the [base delay](Self::base_delay) if that is longer.
    ///
    /// # Panics
    /// If `delay` is less than the [base delay](Self::base_delay); when the retry is used.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.rules.backoff.max = Some(delay);
        self
    }

    /// Sets whether each pause is shortened by a random part of up to one half, so that calls that failed together are
    /// not retried together. Defaults to true.
    pub fn with_jitter(mut self, jitter: bool) -> Self {
        self.rules.backoff.jitter = jitter;
        self
    }

    /// Makes the jitter repeatable: each run draws the same numbers. The order in which the workers draw them may vary;
    /// with one worker, it is repeatable, too.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Asks `f` whether to retry a call that returned an error. It is given the error itself and the number of the
    /// attempt, from 1; it is called after the last attempt, too. Defaults to always retrying.
    pub fn on_error(mut self, f: impl Fn(&S::Error, u32) -> bool + Send + Sync + 'static) -> Self {
        self.rules.on_error = Some(Arc::new(f));
        self
    }

    /// Allows at most `share` retries for each call, on average, so that many failures do not multiply the load on a
    /// failing service. Defaults to no limit; 0.1 to 0.2 is usual. A retry counts from the moment it is decided upon,
    /// so during its pause, too. A call that may not be retried fails with its last error.
    ///
    /// Over any `n` calls there are at most `reserve + share * n` retries; the [reserve](Self::with_budget_reserve) is 10.
    /// Without a reserve the first retry comes after `1 / share` calls.
    /// The budget is one for all runs of this retry.
    ///
    /// The scheme is that of [gRPC](https://github.com/grpc/proposal/blob/master/A6-client-retries.md) and of Finagle's
    /// `RetryBudget`, without the time in the latter.
    ///
    /// # Panics
    /// If `share` is negative or not finite.
    #[track_caller]
    pub fn with_budget(mut self, share: f64) -> Self {
        assert!(share.is_finite() && share >= 0.0, "`share` must be finite and at least 0.0, not {share}");
        self.funding = Some((share, self.funding.map_or(DEFAULT_RESERVE, |(_, reserve)| reserve)));
        self.fund()
    }

    /// Sets how many retries the [budget](Self::with_budget) starts with, and can save up. Defaults to 10. With 0, it
    /// starts empty, and saves up one at most.
    pub fn with_budget_reserve(mut self, retries: u32) -> Self {
        self.funding = Some((self.funding.map_or(0.0, |(share, _)| share), retries));
        self.fund()
    }

    fn fund(mut self) -> Self {
        self.rules.budget = self.funding.map(|(share, reserve)| Arc::new(Budget::new(share, reserve)));
        self
    }

    /// Sets the total time for all attempts of one item, pauses included. Defaults to no limit.
    ///
    /// The limit is passed to the calls as the deadline of their token. If it cuts the last attempt short, the item
    /// fails with kind [`TimedOut`](crate::ErrorKind::TimedOut). If the next pause would not end before the limit, the
    /// item fails at once, with the error that it has; so it does before a deadline of the pipeline.
    ///
    /// # Panics
    /// If `total_timeout` is zero.
    #[track_caller]
    pub fn with_total_timeout(mut self, total_timeout: Duration) -> Self {
        assert!(!total_timeout.is_zero(), "`total_timeout` must be greater than zero");
        self.rules.total_timeout = Some(total_timeout);
        self
    }

    /// Returns live statistics, across all runs.
    pub fn stats(&self) -> RetryStats {
        self.stats.clone()
    }

    #[track_caller]
    fn layered(&self) -> RetryCall<S::Call> {
        if let Backoff { base, max: Some(max), .. } = self.rules.backoff {
            assert!(base <= max, "`max_delay` ({max:?}) must not be less than `base_delay` ({base:?})");
        }
        let random = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        RetryCall {
            inner: self.inner.to_call(),
            rules: self.rules.clone(),
            random: Mutex::new(random),
            counts: Arc::clone(&self.stats.counts),
        }
    }
}

call_stage! {
    [S] Retry<S> where { S: CallStage } S::In => S::Out, S::Error, RetryCall<S::Call>
}

/// Makes a call with the attempts of a [`Retry`].
pub struct RetryCall<C: Call> {
    inner: C,
    rules: Rules<C::Error>,
    random: Mutex<fastrand::Rng>,
    counts: Arc<Counts>,
}

impl<C: Call> Call for RetryCall<C> {
    type In = C::In;
    type Out = C::Out;
    type Error = C::Error;

    fn call(&self, cancel: &CancelToken, item: &C::In) -> Result<C::Out, CallError<C::Error>> {
        let limited = self.rules.total_timeout.map(|timeout| cancel.with_timeout(timeout));
        let token = limited.as_ref().unwrap_or(cancel);
        if let Some(budget) = &self.rules.budget {
            budget.earn();
        }
        match self.inner.call(token, item) {
            Ok(out) => Ok(out),
            Err(error) => {
                count_if_cut(cancel, &error);
                self.again(cancel, token, item, error)
            }
        }
    }
}

/// Counts a call that was cut short by the time limit of the retry; `cancel` is the token without it.
fn count_if_cut<E>(cancel: &CancelToken, error: &CallError<E>) {
    if error.is_cancelled() && !cancel.is_cancelled() {
        cancel.call_failed();
    }
}

impl<C: Call> RetryCall<C> {
    /// The first attempt has failed. `token` is `cancel`, or a child of it with the deadline.
    #[cold]
    fn again(
        &self,
        cancel: &CancelToken,
        token: &CancelToken,
        item: &C::In,
        mut error: CallError<C::Error>,
    ) -> Result<C::Out, CallError<C::Error>> {
        let (mut attempt, mut attempts) = (1, error.attempts);
        // The last error, if it is not `error`.
        let mut before = None;
        loop {
            let pause = match panic::catch(|| self.pause(token, &error, attempt)) {
                Ok(Some(pause)) => pause,
                Ok(None) => break,
                Err(payload) => return Err(CallError::new(CallFailure::Panicked(payload.into()), attempts)),
            };
            let waiting = self.counts.waiting.enter();
            let slept = token.sleep(pause);
            drop(waiting);
            if slept.is_err() {
                let last = std::mem::replace(&mut error, CallError::new(CallFailure::Cancelled, attempts));
                before = last.into_error().or(before);
                break;
            }
            attempt += 1;
            match self.inner.call(token, item) {
                Ok(out) => {
                    self.counts.recovered.add_shared(1);
                    return Ok(out);
                }
                Err(next) => {
                    count_if_cut(cancel, &next);
                    attempts = attempts.saturating_add(next.attempts);
                    before = std::mem::replace(&mut error, next).into_error();
                }
            }
        }
        let failure = match (error.failure, self.rules.total_timeout) {
            // So it was cut by the limit. The previous error is the most informative one.
            (CallFailure::Cancelled, Some(limit)) if !cancel.is_cancelled() => {
                CallFailure::TimedOut { limit, error: before }
            }
            (failure, _) => failure,
        };
        Err(CallError::new(failure, attempts))
    }

    /// The delay before the retry; `None` if there is none.
    fn pause(&self, token: &CancelToken, error: &CallError<C::Error>, attempt: u32) -> Option<Duration> {
        let rules = &self.rules;
        let again = match (&error.failure, &rules.on_error) {
            (CallFailure::Failed(error), Some(on_error)) => on_error(error, attempt),
            (CallFailure::Failed(_) | CallFailure::TimedOut { .. }, _) => true,
            _ => false,
        };
        if !again {
            return None;
        }
        if attempt >= rules.max_attempts {
            self.counts.exhausted.add_shared(1);
            return None;
        }
        let pause = rules.backoff.delay(attempt, |most| self.random.lock().u128(0..=most));
        let ends = token.now().checked_add(pause);
        if token.deadline().is_some_and(|deadline| ends.is_none_or(|ends| ends >= deadline)) {
            self.counts.out_of_time.add_shared(1);
            return None;
        }
        // Before the wait, so that waiting retries count, too.
        if rules.budget.as_ref().is_some_and(|budget| !budget.spend()) {
            self.counts.over_budget.add_shared(1);
            return None;
        }
        self.counts.retries.add_shared(1);
        Some(pause)
    }
}

/// Live statistics of a [`Retry`]. Clones show the same numbers.
#[derive(Clone, Default)]
pub struct RetryStats {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    retries: Counter,
    waiting: Occupancy,
    recovered: Counter,
    exhausted: Counter,
    out_of_time: Counter,
    over_budget: Counter,
}

impl RetryStats {
    /// Returns the number of retries that were made, or are about to be made.
    pub fn retries(&self) -> u64 {
        self.counts.retries.get()
    }

    /// Returns the number of retries that are waiting at present.
    pub fn waiting(&self) -> u64 {
        self.counts.waiting.get()
    }

    /// Returns the number of items for which a retry brought a result.
    pub fn recovered(&self) -> u64 {
        self.counts.recovered.get()
    }

    /// Returns the number of items that failed in [all attempts](Retry::max_attempts).
    pub fn exhausted(&self) -> u64 {
        self.counts.exhausted.get()
    }

    /// Returns the number of items that were given up because the next pause would have exceeded a [time
    /// limit](Retry::with_total_timeout).
    pub fn out_of_time(&self) -> u64 {
        self.counts.out_of_time.get()
    }

    /// Returns the number of items that were given up because the [budget](Retry::with_budget) was spent.
    pub fn over_budget(&self) -> u64 {
        self.counts.over_budget.get()
    }
}

live_debug! { RetryStats: retries, waiting, recovered, exhausted, out_of_time, over_budget }

impl<E> Clone for Rules<E> {
    fn clone(&self) -> Self {
        Self { on_error: self.on_error.clone(), budget: self.budget.clone(), ..*self }
    }
}

/// The clone shares the budget and the statistics.
impl<S: CallStage + Clone> Clone for Retry<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            pool: self.pool.clone(),
            rules: self.rules.clone(),
            stats: self.stats.clone(),
            ..*self
        }
    }
}

impl<S: CallStage + fmt::Debug> fmt::Debug for Retry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("inner", &self.inner)
            .field("max_attempts", &self.rules.max_attempts)
            .field("backoff", &self.rules.backoff)
            .field("budget", &self.rules.budget)
            .field("total_timeout", &self.rules.total_timeout)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl<C: Call> fmt::Debug for RetryCall<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryCall").finish_non_exhaustive()
    }
}
