//! [`MapErr`]: turns error items into other error items.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::{ErrorKind, PanicMessage, StreamError};
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::panic;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Replaces each error item by the result of a closure, to add context or to change its kind. Items are forwarded
/// unchanged.
///
/// The closure takes the error by value and returns the one that takes its place; an error that it returns unchanged keeps
/// its item. To turn errors into items, use [`Recover`](crate::Recover); to look at them, [`Tap`](crate::Tap).
///
/// Order is kept, and nothing is held. The last error of a stream that was cut is not an item of the stream and is not
/// given to the closure. If the closure panics, an error item of kind [`Panicked`](ErrorKind::Panicked) takes the place
/// of the error, without its item.
///
/// ```
/// use streamz::{ErrorKind, MapErr, Pipeline, Stream, StreamError};
///
/// let pipeline = Pipeline::new("readings");
/// let named = MapErr::new(|error: StreamError| {
///     let line = error.take_item::<&str>().unwrap_or_default();
///     StreamError::new(ErrorKind::Failed, "readings")
///         .with_source(format!("{line:?} is no number"))
///         .with_item(line)
/// });
/// let error = Stream::from_iter(&pipeline, ["20.5", "oops"])
///     .try_map(|line: &&str| line.parse::<f64>())
///     .through(&named)
///     .collect::<Vec<_>>()
///     .unwrap_err();
/// assert_eq!(
///     format!("{error:#}"),
///     "stage `readings` failed (item: &str): \"oops\" is no number"
/// );
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
pub struct MapErr<T, F> {
    f: Arc<F>,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T, F: Fn(StreamError) -> StreamError> MapErr<T, F> {
    /// Replaces each error by the one that `f` returns for it. Default name: `map_err`.
    pub fn new(f: F) -> Self {
        Self { f: Arc::new(f), options: Options::new("map_err"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> MapErrOperator<T, F> {
        MapErrOperator { f: Arc::clone(&self.f), types: PhantomData }
    }
}

stage! {
    [T, F] MapErr<T, F> where { T: Send + 'static, F: Fn(StreamError) -> StreamError + Send + Sync + 'static }
    T => T, MapErrOperator<T, F>
}

/// Runs a [`MapErr`] as an [`Operator`].
pub struct MapErrOperator<T, F> {
    f: Arc<F>,
    types: PhantomData<fn(T)>,
}

impl<T, F> Operator for MapErrOperator<T, F>
where
    T: Send + 'static,
    F: Fn(StreamError) -> StreamError + Send + Sync + 'static,
{
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::PLAIN;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        out.emit(item);
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<T>) {
        let mapped = panic::catch(|| (self.f)(error))
            .unwrap_or_else(|payload| out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload)));
        out.error(mapped);
    }
}

shorthand! {
    /// Replaces each error item by the one that `f` returns for it: a [`MapErr`].
    pub fn map_err<F>(self, f: F) -> MapErr<T, F> => Stream<T>
    where
        F: Fn(StreamError) -> StreamError + Send + Sync + 'static,
    {
        MapErr::new(f)
    }
}

opaque_debug! { [T, F] MapErr<T, F>: options }
opaque_debug! { [T, F] MapErrOperator<T, F> }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;

    #[test]
    fn errors_are_replaced_in_their_place_and_items_pass() {
        let mut run = Harness::new(&MapErr::new(|error: StreamError| {
            StreamError::new(ErrorKind::TimedOut, error.stage()).with_source(error)
        }));
        run.item(1);
        run.error(StreamError::new(ErrorKind::Failed, "before"));
        run.item(2);
        let outputs = run.outputs();
        let seen: Vec<_> = outputs.iter().map(|output| output.as_ref().map_err(StreamError::kind)).collect();
        assert_eq!(seen, [Ok(&1), Err(ErrorKind::TimedOut), Ok(&2)]);
        let step = &run.steps()[0];
        assert_eq!((step.errors_in, step.errors_out, step.delivered), (1, 1, 2));
    }

    #[test]
    fn a_panic_replaces_the_error() {
        let mut run = Harness::new(&MapErr::<u8, _>::new(|_| panic!("no luck")));
        run.error(StreamError::new(ErrorKind::Failed, "before").with_item(7_u8));
        let outputs = run.outputs();
        let error = outputs[0].as_ref().unwrap_err();
        assert_eq!((error.kind(), error.stage(), error.has_item::<u8>()), (ErrorKind::Panicked, "map_err", false));
        assert!(run.steps()[0].balances());
    }
}
