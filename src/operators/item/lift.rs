//! [`Lift`]: results become items and error items.

use std::marker::PhantomData;

use crate::Stream;
use crate::error::{BoxError, ErrorKind};
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Turns each `Ok` into an item and each `Err` into an error item; what [`Stream::lift`](crate::Stream::lift) adds.
#[must_use = "a processor does nothing until it is given a stream"]
pub struct Lift<T, E> {
    options: Options,
    types: PhantomData<fn(T, E)>,
}

impl<T, E> Lift<T, E> {
    /// It is called `lift` unless it is given another name.
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

/// What a [`Lift`] runs.
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
                let error = out.error_of(ErrorKind::Failed).with_source(error);
                out.failed(1);
                out.error(error);
            }
        }
    }
}

impl<T: Send + 'static, E: Into<BoxError> + 'static> Stream<Result<T, E>> {
    /// Turns each `Err` among the items into an error item.
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
