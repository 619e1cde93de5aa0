//! [`CallTimeout`]: a time limit for a call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::layered::LayerCall;
use crate::error::Result;
use crate::operators::call::{PoolOptions, call_stage, pool_options};
use crate::operators::pool::combine::combine;
use crate::operators::{Call, CallError, CallFailure, CallLayer, CallStage};
use crate::pipeline::CancelToken;

/// Limits the duration of a call: cancels its token at the deadline, and fails the item if it then returns no result.
///
/// It wraps a call, not a stream: an [`AsyncMapper`](crate::AsyncMapper), a
/// [`Mapper::fallible`](crate::Mapper::fallible), or another layer. Together they are one stage with one pool; each
/// worker runs all the layers. The limit covers everything inside: the waits of a [`RateLimit`](crate::RateLimit) or a
/// [`Bulkhead`](crate::Bulkhead), and all attempts of a [`Retry`](crate::Retry) with its pauses. To limit only the call
/// itself, its own [`AsyncMapper::with_timeout`](crate::AsyncMapper::with_timeout) does the same.
///
/// ```
/// use std::time::Duration;
/// use streamz::testing::Recorder;
/// use streamz::{
///     AsyncMapper, Bulkhead, CallTimeout, CancelToken, ErrorKind, ManualClock, Pipeline,
///     Stream,
/// };
///
/// let secs = Duration::from_secs;
/// let calls = AsyncMapper::new(|cancel: &CancelToken, n: &u64| {
///     cancel.sleep(Duration::from_secs(*n)).map(|()| *n)
/// });
/// // Two seconds for the call, and for its wait until no other is in progress.
/// let limited = CallTimeout::new(Bulkhead::new(calls.with_workers(2), 1), secs(2));
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("impatient").clock(&clock).build();
/// let results = Recorder::new(Stream::from_iter(&pipeline, [1, 60]).through(&limited));
/// clock.advance(secs(10));
/// let results = results.timed_outputs();
/// assert_eq!((results[0].0, results[0].1.as_ref().ok()), (secs(1), Some(&1)));
/// assert_eq!(
///     (results[1].0, results[1].1.as_ref().unwrap_err().kind()),
///     (secs(2), ErrorKind::TimedOut)
/// );
/// ```
///
/// To notice that a stream is silent, see [`Timeout`](crate::Timeout); to stop a pipeline after a time,
/// [`PipelineBuilder::timeout`](crate::PipelineBuilder::timeout).
///
/// # What happens at the deadline
/// The token of the call is cancelled. A call that waits through its token, in [`CancelToken::sleep`] or in a layer of
/// this library, ends at once. A thread cannot be interrupted, though: a call that never checks its token is not cut
/// short, and its worker makes no other call. So give sockets and clients time limits of their own;
/// [`CancelToken::deadline`] tells the call how much time is left.
///
/// A call that returns an error after the deadline fails with kind [`TimedOut`](crate::ErrorKind::TimedOut); one that returns a
/// result keeps it.
///
/// # Ordering
/// Same as the pool.
///
/// # Back-pressure
/// Same as the pool.
///
/// # Cancellation
/// As for the wrapped call. If the stage is cancelled as well, the call counts as cancelled.
///
/// # Memory
/// Same as the pool.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("timeout", "deadline", "time_limiter"))]
pub struct CallTimeout<S: CallStage> {
    inner: S,
    pool: PoolOptions<S::In>,
    limit: Duration,
}

impl<S: CallStage> CallTimeout<S> {
    /// Limits each call of `inner` to the duration `limit`. A limit too long to add never passes. Keeps the stage name
    /// and the pool of `inner` unless you set others.
    ///
    /// # Panics
    /// If `limit` is zero.
    #[track_caller]
    pub fn new(inner: S, limit: Duration) -> Self {
        assert!(!limit.is_zero(), "`limit` must be greater than zero");
        Self { pool: inner.pool(), inner, limit }
    }

    pool_options!();
    combine! { S::In, S::Out, S::Error }

    fn layered(&self) -> LayerCall<S::Call, TimeoutLayer> {
        LayerCall::new(self.inner.to_call(), Arc::new(TimeoutLayer { limit: self.limit }))
    }
}

call_stage! {
    [S] CallTimeout<S> where { S: CallStage } S::In => S::Out, S::Error, LayerCall<S::Call, TimeoutLayer>
}

/// Wraps a call for a [`CallTimeout`].
#[derive(Debug)]
pub struct TimeoutLayer {
    limit: Duration,
}

impl<C: Call> CallLayer<C> for TimeoutLayer {
    type Out = C::Out;
    type Error = C::Error;

    fn call(&self, inner: &C, cancel: &CancelToken, item: &C::In) -> Result<C::Out, CallError<C::Error>> {
        let token = cancel.with_timeout(self.limit);
        match inner.call(&token, item) {
            Err(error) if error.is_cancelled() && token.is_cancelled() && !cancel.is_cancelled() => {
                let failure = CallFailure::TimedOut { limit: self.limit, error: None };
                Err(CallError::raised(cancel, failure, error.attempts))
            }
            result => result,
        }
    }
}

impl<S: CallStage + Clone> Clone for CallTimeout<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), pool: self.pool.clone(), limit: self.limit }
    }
}

impl<S: CallStage + fmt::Debug> fmt::Debug for CallTimeout<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallTimeout").field("inner", &self.inner).field("limit", &self.limit).finish_non_exhaustive()
    }
}
