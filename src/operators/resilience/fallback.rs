//! [`Fallback`]: another result for a failed call.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::operators::call::{PoolOptions, call_stage, pool_options};
use crate::operators::pool::combine::combine;
use crate::operators::{Call, CallError, CallFailure, CallStage};
use crate::panic;
use crate::pipeline::CancelToken;

/// Replaces the result of a failed call by another one: a cached value, a default, or the result of another service.
///
/// It wraps a call, not a stream: an [`AsyncMapper`](crate::AsyncMapper), a
/// [`Mapper::fallible`](crate::Mapper::fallible), or another wrapper, such as a
/// [`CircuitBreaker`](crate::CircuitBreaker). Together they are one stage with one pool. The closure is given the
/// token, the item and the error; it returns the other result, or `None` to let the item fail with that error.
///
/// ```
/// use streamz::{CircuitBreaker, Fallback, Mapper, Pipeline, Stream};
///
/// let parse = Mapper::fallible(|text: &&str| text.parse::<i32>());
/// let fallback = Fallback::new(CircuitBreaker::new(parse), |_cancel, text, error| {
///     (error.is_circuit_open() || text.is_empty()).then_some(0)
/// });
/// let pipeline = Pipeline::new("numbers");
/// let results: Vec<_> = Stream::from_iter(&pipeline, ["1", "", "x"])
///     .through(&fallback)
///     .into_iter()
///     .collect();
/// assert_eq!(*results[1].as_ref().unwrap(), 0);
/// assert_eq!(results[2].as_ref().unwrap_err().take_item::<&str>(), Some("x"));
/// ```
///
/// The report counts the failed calls, in [`failed_calls`](crate::StepReport::failed_calls), with and without another result.
///
/// To handle errors of other stages, too, use [`Recover`](crate::Recover).
///
/// # Ordering
/// Same as the pool.
///
/// # Back-pressure
/// The closure runs in place of the call, on the worker, which it occupies.
///
/// # Cancellation
/// A call that was cancelled has not failed, and the closure is not called. The closure should stop when its own token
/// is cancelled.
///
/// # Memory
/// Same as the pool.
///
/// # Panics
/// A panic in the closure fails the item with kind [`Panicked`](crate::ErrorKind::Panicked).
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("or_else", "default_value"))]
pub struct Fallback<S: CallStage, F> {
    inner: S,
    pool: PoolOptions<S::In>,
    f: Arc<F>,
}

impl<S: CallStage, F> Fallback<S, F>
where
    F: Fn(&CancelToken, &S::In, &CallError<S::Error>) -> Option<S::Out> + Send + Sync + 'static,
{
    /// Asks `f` for a result when a call of `inner` has failed. Keeps the stage name and the pool of `inner` unless you
    /// set others.
    pub fn new(inner: S, f: F) -> Self {
        Self { pool: inner.pool(), inner, f: Arc::new(f) }
    }

    pool_options!();
    combine! { S::In, S::Out, S::Error }

    fn layered(&self) -> FallbackCall<S::Call, F> {
        FallbackCall { inner: self.inner.to_call(), f: Arc::clone(&self.f) }
    }
}

call_stage! {
    [S, F] Fallback<S, F> where {
        S: CallStage,
        F: Fn(&CancelToken, &S::In, &CallError<S::Error>) -> Option<S::Out> + Send + Sync + 'static
    }
    S::In => S::Out, S::Error, FallbackCall<S::Call, F>
}

/// Makes a call, and asks the [`Fallback`] if it fails.
pub struct FallbackCall<C, F> {
    inner: C,
    f: Arc<F>,
}

impl<C: Call, F> Call for FallbackCall<C, F>
where
    F: Fn(&CancelToken, &C::In, &CallError<C::Error>) -> Option<C::Out> + Send + Sync + 'static,
{
    type In = C::In;
    type Out = C::Out;
    type Error = C::Error;

    fn call(&self, cancel: &CancelToken, item: &C::In) -> Result<C::Out, CallError<C::Error>> {
        let error = match self.inner.call(cancel, item) {
            Err(error) if !error.is_cancelled() => error,
            result => return result,
        };
        match panic::catch(|| (self.f)(cancel, item, &error)) {
            Ok(Some(out)) => Ok(out),
            Ok(None) => Err(error),
            Err(payload) => Err(CallError::new(CallFailure::Panicked(payload.into()), error.attempts)),
        }
    }
}

impl<S: CallStage + Clone, F> Clone for Fallback<S, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), pool: self.pool.clone(), f: Arc::clone(&self.f) }
    }
}

impl<S: CallStage + fmt::Debug, F> fmt::Debug for Fallback<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<C, F> fmt::Debug for FallbackCall<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackCall").finish_non_exhaustive()
    }
}
