//! [`FallibleMapper`]: one item out for each item in, or an error item.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Mapper;
use crate::error::{BoxError, ErrorKind, PanicMessage};
use crate::operators::call::PoolOptions;
use crate::operators::call::sealed::Pooled;
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::{Call, CallError, CallFailure, CallStage, shorthand};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Turns each item into another one with a closure that can fail; made by [`Mapper::fallible`].
///
/// Wrapped in a [`Retry`](crate::Retry), [`CircuitBreaker`](crate::CircuitBreaker) or [`Fallback`](crate::Fallback), it
/// is a call, made by a pool of one worker unless you set more.
#[must_use = "a processor does nothing until it is given a stream"]
pub struct FallibleMapper<In, Out, E, F> {
    f: Arc<F>,
    options: Options,
    types: PhantomData<fn(In) -> (Out, E)>,
}

impl Mapper<(), (), ()> {
    /// Creates a mapper whose closure takes the item by reference and can fail.
    ///
    /// An item for which `f` returns an error, or panics, becomes an error item that carries it, of kind
    /// [`Failed`](ErrorKind::Failed) or [`Panicked`](ErrorKind::Panicked).
    ///
    /// ```
    /// use streamz::{Mapper, Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("numbers");
    /// let numbers = Stream::from_iter(&pipeline, ["1", "x"])
    ///     .through(&Mapper::fallible(|text: &&str| text.parse::<i32>()));
    /// let results: Vec<_> = numbers.into_iter().collect();
    /// assert_eq!(*results[0].as_ref().unwrap(), 1);
    /// assert_eq!(results[1].as_ref().unwrap_err().take_item::<&str>(), Some("x"));
    /// ```
    pub fn fallible<In, Out, E, F>(f: F) -> FallibleMapper<In, Out, E, F>
    where
        F: Fn(&In) -> Result<Out, E>,
        E: Into<BoxError>,
    {
        FallibleMapper { f: Arc::new(f), options: Options::new("map"), types: PhantomData }
    }
}

impl<In, Out, E, F: Fn(&In) -> Result<Out, E>> FallibleMapper<In, Out, E, F> {
    common_options!();

    fn operator(&self) -> FallibleMapperOperator<In, Out, E, F> {
        FallibleMapperOperator { f: Arc::clone(&self.f), types: PhantomData }
    }
}

stage! {
    [In, Out, E, F] FallibleMapper<In, Out, E, F> where {
        In: Send + 'static,
        Out: Send + 'static,
        E: Into<BoxError> + 'static,
        F: Fn(&In) -> Result<Out, E> + Send + Sync + 'static
    }
    In => Out, FallibleMapperOperator<In, Out, E, F>
}

/// Runs a [`FallibleMapper`] as an [`Operator`].
pub struct FallibleMapperOperator<In, Out, E, F> {
    f: Arc<F>,
    types: PhantomData<fn(In) -> (Out, E)>,
}

impl<In, Out, E, F> Operator for FallibleMapperOperator<In, Out, E, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(&In) -> Result<Out, E> + Send + Sync + 'static,
{
    type In = In;
    type Out = Out;

    const SHAPE: Shape = Shape::PLAIN;

    #[inline]
    fn item(&mut self, item: In, out: &mut impl Emit<Out>) {
        match panic::catch(|| (self.f)(&item)) {
            Ok(Ok(mapped)) => match panic::try_drop(item) {
                Ok(()) => out.emit(mapped),
                Err(payload) => {
                    // Its drop, too, may panic.
                    panic::guard_drop(mapped);
                    let error = out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload));
                    out.failed(1);
                    out.error(error);
                }
            },
            Ok(Err(error)) => out.fail(ErrorKind::Failed, error, item),
            Err(payload) => out.fail_panicked(payload.into(), item),
        }
    }
}

impl<In, Out, E, F> Pooled for FallibleMapper<In, Out, E, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(&In) -> Result<Out, E> + Send + Sync + 'static,
{
    /// One worker, as the mapper itself has one thread.
    fn pool(&self) -> PoolOptions<In> {
        PoolOptions::new(self.options.clone(), 1)
    }
}

impl<In, Out, E, F> CallStage for FallibleMapper<In, Out, E, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(&In) -> Result<Out, E> + Send + Sync + 'static,
{
    type Error = E;
    type Call = FallibleCall<In, Out, E, F>;

    fn to_call(&self) -> Self::Call {
        FallibleCall { f: Arc::clone(&self.f), types: PhantomData }
    }
}

/// What a [`FallibleMapper`] makes for each item when it is wrapped.
pub struct FallibleCall<In, Out, E, F> {
    f: Arc<F>,
    types: PhantomData<fn(In) -> (Out, E)>,
}

impl<In, Out, E, F> Call for FallibleCall<In, Out, E, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(&In) -> Result<Out, E> + Send + Sync + 'static,
{
    type In = In;
    type Out = Out;
    type Error = E;

    fn call(&self, cancel: &CancelToken, item: &In) -> Result<Out, CallError<E>> {
        let failure = match panic::catch(|| (self.f)(item)) {
            Ok(Ok(mapped)) => return Ok(mapped),
            _ if cancel.is_cancelled() => CallFailure::Cancelled,
            Ok(Err(error)) => CallFailure::Failed(error),
            Err(payload) => CallFailure::Panicked(payload.into()),
        };
        Err(CallError::raised(cancel, failure, 1))
    }
}

shorthand! {
    /// Turns each item into another one, or into an error item that carries it: a [`FallibleMapper`].
    #[doc(alias("and_then", "map_ok"))]
    pub fn try_map<Out, E, F>(self, f: F) -> FallibleMapper<T, Out, E, F> => Stream<Out>
    where
        Out: Send + 'static,
        E: Into<BoxError> + 'static,
        F: Fn(&T) -> Result<Out, E> + Send + Sync + 'static,
    {
        Mapper::fallible(f)
    }
}

impl<In, Out, E, F> Clone for FallibleMapper<In, Out, E, F> {
    fn clone(&self) -> Self {
        Self { f: Arc::clone(&self.f), options: self.options.clone(), types: PhantomData }
    }
}

opaque_debug! { [In, Out, E, F] FallibleMapper<In, Out, E, F>: options }
opaque_debug! { [In, Out, E, F] FallibleMapperOperator<In, Out, E, F> }
opaque_debug! { [In, Out, E, F] FallibleCall<In, Out, E, F> }
