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

/// Retries a failed call, with growing pauses between the attempts.
///
/// It wraps a call, not a stream: an [`AsyncMapper`](crate::AsyncMapper), a [`Mapper::fallible`](crate::Mapper::fallible),
/// or another wrapper. Together they are one stage with one pool, in which each worker makes its call as often as needed.
/// The item that fails in the end goes on as an error item that carries it, with the last error and the number of
/// [attempts](crate::StreamError::attempts).
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
/// let calls = AsyncMapper::new(move |_: &CancelToken, order: &u32| charge(order)).with_workers(10);
/// let retry = Retry::new(calls)
///     .max_attempts(5)
///     .base_delay(Duration::from_micros(100))
///     .on_error(|error, _attempt| matches!(error, ApiError::Busy));
///
/// let pipeline = Pipeline::new("payments");
/// let results: Vec<_> = Stream::from_iter(&pipeline, [0, 7]).through(&retry).into_iter().collect();
/// assert_eq!(results[0].as_ref().unwrap_err().attempts(), 1); // an unknown order stays unknown
/// assert_eq!(*results[1].as_ref().unwrap(), 70); // after two attempts that found the service busy
/// ```
///
/// # What is tried again
///
/// | the call | |
/// |---|---|
/// | returned an error | if [`on_error`](Self::on_error) says so; by default always |
/// | ran into [its time limit](crate::AsyncMapper::with_timeout) | always |
/// | panicked, or was not let through by a [`CircuitBreaker`](crate::CircuitBreaker) or a limit inside | never |
/// | was cancelled | never |
///
/// # Ordering
/// That of the pool. If it is kept, what comes after an item that is tried again waits for it, up to the window.
///
/// # Back-pressure
/// A worker that waits before a retry makes no other call meanwhile; the other workers go on. Give the pool as many workers
/// as calls may be waiting.
///
/// # Cancellation
/// Ends a wait at once. A cancelled call is no failure: it is neither tried again nor an error item; see
/// [`AsyncMapper`](crate::AsyncMapper).
///
/// # Memory
/// That of the pool.
///
/// # Panics
/// A panic in `on_error` fails the item with kind [`Panicked`](crate::ErrorKind::Panicked).
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("backoff", "exponential_backoff", "jitter"))]
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
    /// Makes a call that failed up to two more times. The stage keeps the name and the pool of `inner` unless it is given
    /// others.
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
    combine!();

    /// Sets how often the call is made at most, the first time included. Defaults to 3. With 1 nothing is tried again.
    ///
    /// # Panics
    /// If `attempts` is 0.
    #[track_caller]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        assert!(attempts > 0, "`max_attempts` must be at least 1");
        self.rules.max_attempts = attempts;
        self
    }

    /// Sets the pause before the first retry. Defaults to 100 ms. Before retry `k` the pause is `delay * 2^(k-1)`, up to
    /// [`max_delay`](Self::max_delay), which is never less than this unless you set it. With zero there are no pauses.
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

    /// Sets whether each pause is shortened by a random part of up to one half, so that calls that failed together do not
    /// come again together. Defaults to true.
    pub fn with_jitter(mut self, jitter: bool) -> Self {
        self.rules.backoff.jitter = jitter;
        self
    }

    /// Makes the jitter repeatable: each run draws the same numbers. Which retry gets which of them is up to the order
    /// in which the workers come; with one worker that is repeatable, too.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Asks `f` whether a call that returned an error is to be made again. It is given the error, as it is, and the number
    /// of the attempt, from 1; it is called after the last one, too. Defaults to yes.
    pub fn on_error(mut self, f: impl Fn(&S::Error, u32) -> bool + Send + Sync + 'static) -> Self {
        self.rules.on_error = Some(Arc::new(f));
        self
    }

    /// Allows at most `share` retries for each call, on average, so that many failures do not multiply the load on what
    /// fails. Defaults to no limit; 0.1 to 0.2 is usual. Retries count when they are decided upon, that is while they wait,
    /// too. A call that may not be made again fails with the error it has.
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

    /// Sets how many retries the [budget](Self::with_budget) has at the start, and saves at most. Defaults to 10. With 0 it
    /// starts empty, and saves one at most.
    pub fn with_budget_reserve(mut self, retries: u32) -> Self {
        self.funding = Some((self.funding.map_or(0.0, |(share, _)| share), retries));
        self.fund()
    }

    fn fund(mut self) -> Self {
        self.rules.budget = self.funding.map(|(share, reserve)| Arc::new(Budget::new(share, reserve)));
        self
    }

    /// Sets how long all attempts for one item may take together, pauses included. Defaults to no limit.
    ///
    /// The limit is passed to the calls as the deadline of their token. An item whose last attempt it cuts short fails with
    /// kind [`TimedOut`](crate::ErrorKind::TimedOut). If the next pause would not end before the limit, the item fails at
    /// once, with the error that it has; so it does before a deadline of the pipeline.
    ///
    /// # Panics
    /// If `timeout` is zero.
    #[track_caller]
    pub fn with_total_timeout(mut self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "`total_timeout` must be greater than zero");
        self.rules.total_timeout = Some(timeout);
        self
    }

    /// The counts of all runs, live.
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
    [S] Retry<S> where { S: CallStage } S => RetryCall<S::Call>
}

/// A call that a [`Retry`] makes.
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

/// The counts of a [`Retry`]: a live handle. Clones show the same.
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
    /// Calls that were made, or are about to be made, once more.
    pub fn retries(&self) -> u64 {
        self.counts.retries.get()
    }

    /// Retries that wait at present.
    pub fn waiting(&self) -> u64 {
        self.counts.waiting.get()
    }

    /// Items for which a retry brought a result.
    pub fn recovered(&self) -> u64 {
        self.counts.recovered.get()
    }

    /// Items that failed in [as many attempts](Retry::max_attempts) as are made.
    pub fn exhausted(&self) -> u64 {
        self.counts.exhausted.get()
    }

    /// Items that were given up because the next pause would have been too long for a
    /// [time limit](Retry::with_total_timeout).
    pub fn out_of_time(&self) -> u64 {
        self.counts.out_of_time.get()
    }

    /// Items that were given up because the [budget](Retry::with_budget) was spent.
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
