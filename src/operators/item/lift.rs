//! [`Lift`]: results become items and error items.

use std::marker::PhantomData;

use crate::Stream;
use crate::error::{BoxError, ErrorKind, StreamError};
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Turns each `Ok` into an item and each `Err` into an error item; made by [`Stream::lift`](crate::Stream::lift).
///
/// A [`StreamError`] is kept as it is, with its stage, time and item. One that reports that [its stream was
/// cut](StreamError::is_cancelled) becomes the source of a new error, since this stream continues.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("transpose"))]
pub struct Lift<T, E> {
    options: Options,
    types: PhantomData<fn(T, E)>,
}

impl<T, E> Lift<T, E> {
    /// Default name: `lift`.
    pub fn new() -> Self {
        Self { options: Options::new("lift"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> LiftOperator<T, E> {
        LiftOperator { types: PhantomData }
    }
}

impl<T, E> Default for Lift<T, E> {
    fn default() -> Self {
        Self::new()
    }
}

stage! {
    [T, E] Lift<T, E> where { T: Send + 'static, E: Into<BoxError> + Send + 'static }
    Result<T, E> => T, LiftOperator<T, E>
}

/// Runs a [`Lift`] as an [`Operator`].
pub struct LiftOperator<T, E> {
    types: PhantomData<fn(T, E)>,
}

impl<T, E> Operator for LiftOperator<T, E>
where
    T: Send + 'static,
    E: Into<BoxError> + Send + 'static,
{
    type In = Result<T, E>;
    type Out = T;

    const SHAPE: Shape = Shape::PLAIN;

    fn item(&mut self, item: Result<T, E>, out: &mut impl Emit<T>) {
        match item {
            Ok(item) => out.emit(item),
            Err(error) => {
                let error = match error.into().downcast::<StreamError>() {
                    Ok(kept) if !kept.is_cancelled() => *kept,
                    Ok(cut) => out.error_of(ErrorKind::Failed).with_source(*cut),
                    Err(error) => out.error_of(ErrorKind::Failed).with_source(error),
                };
                out.failed(1);
                out.error(error);
            }
        }
    }
}

/// # Errors and failures
impl<T: Send + 'static, E: Into<BoxError> + 'static> Stream<Result<T, E>> {
    /// Turns each `Err` among the items into an error item. A [`StreamError`] is kept as it is; see [`Lift`].
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn lift(self) -> Stream<T>
    where
        E: Send,
    {
        self.through_once(Lift::new())
    }
}

opaque_debug! { [T, E] Lift<T, E>: options }
opaque_debug! { [T, E] LiftOperator<T, E> }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pipeline;

    #[test]
    fn a_stream_error_is_kept_and_a_cut_becomes_a_source() {
        let pipeline = Pipeline::new("lift");
        let failed = StreamError::new(ErrorKind::TimedOut, "fetch").with_item(7_u32);
        let cut = StreamError::new(ErrorKind::Cancelled, "elsewhere");
        let items: [Result<u32, BoxError>; 4] =
            [Ok(1), Err(failed.clone().into()), Err(cut.into()), Err("plain".into())];
        let mut items = Stream::from_iter(&pipeline, items).lift().into_iter();
        assert_eq!(items.next().unwrap().unwrap(), 1);
        let kept = items.next().unwrap().unwrap_err();
        assert!(kept.ptr_eq(&failed));
        assert_eq!((kept.stage(), kept.take_item::<u32>()), ("fetch", Some(7)));
        let cut = items.next().unwrap().unwrap_err();
        assert_eq!((cut.kind(), cut.stage()), (ErrorKind::Failed, "lift"));
        assert!(cut.downcast_ref::<StreamError>().is_some_and(StreamError::is_cancelled));
        let plain = items.next().unwrap().unwrap_err();
        assert_eq!((plain.kind(), plain.stage()), (ErrorKind::Failed, "lift"));
        assert!(items.next().is_none());
    }
}
