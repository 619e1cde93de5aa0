//! [`Mapper`]: one item out for each item in.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Turns each item into another one with a closure that cannot fail.
///
/// The closure takes the item by value. If it panics, the item is lost; an error item of kind
/// [`Panicked`](crate::ErrorKind::Panicked) takes its place. For closures that can fail there is [`Mapper::fallible`].
///
/// ```
/// use streamz::{Mapper, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("lengths");
/// let lengths = Stream::from_iter(&pipeline, ["a", "bc"])
///     .through(&Mapper::new(str::len))
///     .collect::<Vec<_>>()?;
/// assert_eq!(lengths, [1, 2]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Back-pressure
/// The closure may wait through this library, for example in [`Sender::send`](crate::Sender::send) or
/// [`CancelToken::sleep`](crate::CancelToken::sleep): the results of earlier items are handed over first. While it blocks in something else (a lock, a
/// socket, another library's channel), results of earlier items may wait for it. So it must not wait there for what a
/// consumer does with them; an [`AsyncMapper`](crate::AsyncMapper) hands over each result at once. All closures of
/// single-threaded stages have this limit.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("select", "transform"))]
pub struct Mapper<In, Out, F> {
    f: Arc<F>,
    options: Options,
    types: PhantomData<fn(In) -> Out>,
}

impl<In, Out, F: Fn(In) -> Out> Mapper<In, Out, F> {
    /// Creates a mapper that calls `f`. Default name: `map`.
    pub fn new(f: F) -> Self {
        Self { f: Arc::new(f), options: Options::new("map"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> MapperOperator<In, Out, F> {
        MapperOperator { f: Arc::clone(&self.f), types: PhantomData }
    }
}

stage! {
    [In, Out, F] Mapper<In, Out, F> where {
        In: Send + 'static, Out: Send + 'static, F: Fn(In) -> Out + Send + Sync + 'static
    }
    In => Out, MapperOperator<In, Out, F>
}

/// Runs a [`Mapper`] as an [`Operator`].
pub struct MapperOperator<In, Out, F> {
    f: Arc<F>,
    types: PhantomData<fn(In) -> Out>,
}

impl<In, Out, F> Operator for MapperOperator<In, Out, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    F: Fn(In) -> Out + Send + Sync + 'static,
{
    type In = In;
    type Out = Out;

    const SHAPE: Shape = Shape::ONE_TO_ONE;

    // A sequence of plain operators is meant to become straight-line code, however long it is.
    #[inline(always)]
    fn item(&mut self, item: In, out: &mut impl Emit<Out>) {
        out.emit((self.f)(item));
    }
}

shorthand! {
    /// Turns each item into another one: a [`Mapper`].
    pub fn map<Out, F>(self, f: F) -> Mapper<T, Out, F> => Stream<Out>
    where
        Out: Send + 'static,
        F: Fn(T) -> Out + Send + Sync + 'static,
    {
        Mapper::new(f)
    }
}

opaque_debug! { [In, Out, F] Mapper<In, Out, F>: options }
opaque_debug! { [In, Out, F] MapperOperator<In, Out, F> }
