//! [`Combine`]: combines an item and the result of its call, by value.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::calls;
use crate::error::Result;
use crate::operators::call::{PoolOptions, pool_options};
use crate::operators::{CallError, CallStage};
use crate::pipeline::CancelToken;
use crate::stream::Processor;
use crate::stream::Stream;

/// Combines each item with the result of its call; made by [`AsyncMapper::combine`](crate::AsyncMapper::combine) and
/// the same method of everything that wraps a call.
///
/// The closure is called once for each item, on the worker, after the last attempt. It is given the item by value and
/// what the call returned; this saves the clone that a call, which is given a reference, would need. It returns either
/// the result, or both item and error, which then become an error item.
///
/// The report counts a failed call in [`failed_calls`](crate::StepReport::failed_calls), whatever the closure returns.
///
/// ```
/// use streamz::{AsyncMapper, CancelToken, Pipeline, Stream};
///
/// struct Order { customer: u32, lines: Vec<String> }
///
/// # fn name_of(customer: u32) -> Result<String, &'static str> {
/// #     if customer == 9 { Err("no such customer") } else { Ok(format!("customer {customer}")) }
/// # }
/// let names = AsyncMapper::new(|_: &CancelToken, order: &Order| name_of(order.customer))
///     .with_workers(4);
/// let strict = names.clone().combine(|order, name| match name {
///     Ok(name) => Ok((name, order.lines)),
///     Err(error) => Err((order, error)),
/// });
/// let lenient = names.combine(|order, name| Ok((name.ok(), order.lines)));
///
/// let orders = || [3, 9].map(|customer| Order { customer, lines: vec!["tea".to_owned()] });
/// let pipeline = Pipeline::new("orders");
/// let named = Stream::from_iter(&pipeline, orders()).through(&strict);
/// let results: Vec<_> = named.into_iter().collect();
/// assert_eq!(results[0].as_ref().unwrap().0, "customer 3");
/// assert_eq!(results[1].as_ref().unwrap_err().take_item::<Order>().unwrap().customer, 9);
/// let named = Stream::from_iter(&pipeline, orders()).through(&lenient).collect::<Vec<_>>()?;
/// assert_eq!(named[1], (None, vec!["tea".to_owned()]));
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// A combined call is no longer a call: wrap first, combine last.
///
/// # Ordering
/// Same as the pool.
///
/// # Back-pressure
/// Same as the pool.
///
/// # Cancellation
/// The items of cancelled calls are abandoned; the closure does not see them.
///
/// # Memory
/// Same as the pool.
///
/// # Panics
/// If the closure panics, the item is lost: an error item of kind [`Panicked`](crate::ErrorKind::Panicked) takes its
/// place.
#[must_use = "a processor does nothing until it is given a stream"]
pub struct Combine<S: CallStage, Out, F> {
    inner: S,
    pool: PoolOptions<S::In>,
    f: Arc<F>,
    types: PhantomData<fn() -> Out>,
}

impl<S: CallStage, Out, F> Combine<S, Out, F> {
    pub(in crate::operators) fn new(inner: S, f: F) -> Self {
        Self { pool: inner.pool(), inner, f: Arc::new(f), types: PhantomData }
    }

    pool_options!();
}

impl<S, Out, F> Processor for Combine<S, Out, F>
where
    S: CallStage,
    Out: Send + 'static,
    F: Fn(S::In, Result<S::Out, CallError<S::Error>>) -> Result<Out, (S::In, CallError<S::Error>)>
        + Send
        + Sync
        + 'static,
{
    type In = S::In;
    type Out = Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<S::In>) -> Stream<Out> {
        let f = Arc::clone(&self.f);
        calls::finish(self.inner.to_call(), &self.pool, cancel, input, move |item, result| f(item, result))
    }

    fn name(&self) -> &str {
        &self.pool.options.name
    }
}

/// The method `combine`, in an `impl` block of a type that is a [`CallStage`]: with what its call takes, returns and fails
/// with.
macro_rules! combine {
    ($in:ty, $out:ty, $error:ty) => {
        /// Combines each item with the result of its call: see [`Combine`](crate::Combine).
        pub fn combine<Made, G>(self, f: G) -> $crate::Combine<Self, Made, G>
        where
            Self: $crate::CallStage,
            Made: Send + 'static,
            G: Fn($in, Result<$out, $crate::CallError<$error>>) -> Result<Made, ($in, $crate::CallError<$error>)>
                + Send
                + Sync
                + 'static,
        {
            $crate::Combine::new(self, f)
        }
    };
}

pub(in crate::operators) use combine;

impl<S: CallStage + Clone, Out, F> Clone for Combine<S, Out, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), pool: self.pool.clone(), f: Arc::clone(&self.f), types: PhantomData }
    }
}

impl<S: CallStage + fmt::Debug, Out, F> fmt::Debug for Combine<S, Out, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Combine").field("inner", &self.inner).finish_non_exhaustive()
    }
}
