//! [`Layered`]: a user-defined layer around a call.

use std::fmt;
use std::sync::Arc;

use crate::error::{BoxError, Result};
use crate::operators::call::{PoolOptions, call_stage, pool_options};
use crate::operators::pool::combine::combine;
use crate::operators::{Call, CallError, CallFailure, CallLayer, CallStage};
use crate::panic;
use crate::pipeline::CancelToken;

/// Wraps a call in a layer of your own: to measure or log it, to change its token, to cache, replace or reject its
/// result.
///
/// It wraps a call, not a stream: an [`AsyncMapper`](crate::AsyncMapper), a
/// [`Mapper::fallible`](crate::Mapper::fallible), or another layer, such as a [`Retry`](crate::Retry). Together they
/// are one stage with one pool; each worker runs all the layers. The layer is a closure, or a type that implements
/// [`CallLayer`]. It is given the call that it wraps, the token and the item, and returns the result.
///
/// ```
/// use std::sync::mpsc;
/// use std::time::Duration;
/// use streamz::testing::Recorder;
/// use streamz::{
///     AsyncMapper, Call, CancelToken, Layered, ManualClock, Pipeline, Retry, Stream,
/// };
///
/// let (slow, log) = mpsc::channel();
/// let fetch = AsyncMapper::new(|cancel: &CancelToken, id: &u64| {
///     cancel.sleep(Duration::from_secs(*id)).map(|()| *id)
/// });
/// let logged = Layered::from_fn(fetch.with_workers(2), move |call, cancel, id| {
///     let begun = cancel.now();
///     let result = call.call(cancel, id);
///     let took = cancel.now() - begun;
///     if took > Duration::from_secs(3) {
///         let _ = slow.send(format!("{id} took {took:?}, ok: {}", result.is_ok()));
///     }
///     result
/// });
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("fetch").clock(&clock).build();
/// // The layer is inside the retry, so each attempt is measured.
/// let retry = Retry::new(logged);
/// let fetched = Recorder::new(Stream::from_iter(&pipeline, [1, 5]).through(&retry));
/// clock.advance(Duration::from_secs(10));
/// assert_eq!(fetched.items(), [1, 5]);
/// assert_eq!(log.try_recv()?, "5 took 5s, ok: true");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A layer may return a result or an error of another type. The item keeps its type, because the settings of the pool, such
/// as the key of [`AsyncMapper::keyed`](crate::AsyncMapper::keyed), refer to it; to change it, map the stream before the pool.
///
/// # Ordering
/// Same as the pool.
///
/// # Back-pressure
/// The layer runs on the worker. While it waits, the worker makes no other call.
///
/// # Cancellation
/// A layer stops like a call: through its token. An error that it returns after its token has been cancelled counts as
/// a [cancelled](CallFailure::Cancelled) call, which is not a failure.
///
/// # Memory
/// Same as the pool.
///
/// # Panics
/// A panic in the layer fails the item with kind [`Panicked`](crate::ErrorKind::Panicked). A panic in the wrapped call is an
/// error that the layer is given.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("layer", "middleware", "interceptor", "decorator", "around", "service_fn", "layer_fn"))]
pub struct Layered<S: CallStage, L> {
    inner: S,
    pool: PoolOptions<S::In>,
    layer: Arc<L>,
}

impl<S: CallStage, L: CallLayer<S::Call>> Layered<S, L> {
    /// Wraps `inner` in `layer`. Keeps the stage name and the pool of `inner` unless you set others.
    ///
    /// Clones and runs share the layer.
    pub fn new(inner: S, layer: L) -> Self {
        Self { pool: inner.pool(), inner, layer: Arc::new(layer) }
    }

    /// Wraps `inner` in a closure; like [`new`](Self::new), but the types of the closure's parameters are inferred.
    pub fn from_fn<Out, E>(inner: S, layer: L) -> Self
    where
        Out: Send + 'static,
        E: Into<BoxError> + 'static,
        L: Fn(&S::Call, &CancelToken, &S::In) -> Result<Out, CallError<E>> + Send + Sync + 'static,
    {
        Self::new(inner, layer)
    }

    pool_options!();
    combine! { S::In, L::Out, L::Error }

    fn layered(&self) -> LayerCall<S::Call, L> {
        LayerCall::new(self.inner.to_call(), Arc::clone(&self.layer))
    }
}

call_stage! {
    [S, L] Layered<S, L> where { S: CallStage, L: CallLayer<S::Call> } S::In => L::Out, L::Error, LayerCall<S::Call, L>
}

/// Makes a call through a layer.
pub struct LayerCall<C, L> {
    inner: C,
    layer: Arc<L>,
}

impl<C, L> LayerCall<C, L> {
    pub(super) fn new(inner: C, layer: Arc<L>) -> Self {
        Self { inner, layer }
    }
}

impl<C: Call, L: CallLayer<C>> Call for LayerCall<C, L> {
    type In = C::In;
    type Out = L::Out;
    type Error = L::Error;

    fn call(&self, cancel: &CancelToken, item: &C::In) -> Result<L::Out, CallError<L::Error>> {
        Err(match panic::catch(|| self.layer.call(&self.inner, cancel, item)) {
            Ok(Ok(out)) => return Ok(out),
            Ok(Err(error)) if cancel.is_cancelled() => CallError::new(CallFailure::Cancelled, error.attempts),
            Ok(Err(error)) => error,
            Err(_) if cancel.is_cancelled() => CallError::new(CallFailure::Cancelled, 1),
            Err(payload) => CallError::raised(cancel, CallFailure::Panicked(payload.into()), 1),
        })
    }
}

/// The clone shares the layer.
impl<S: CallStage + Clone, L> Clone for Layered<S, L> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), pool: self.pool.clone(), layer: Arc::clone(&self.layer) }
    }
}

impl<S: CallStage + fmt::Debug, L> fmt::Debug for Layered<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<C, L> fmt::Debug for LayerCall<C, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerCall").finish_non_exhaustive()
    }
}
