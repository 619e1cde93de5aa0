//! [`Pass`]: the operator that does nothing, for a source or a sink that is a stage without steps.

use std::marker::PhantomData;

use super::operator::sealed::Shape;
use super::operator::{Emit, Operator};

/// Forwards everything.
pub(crate) struct Pass<T>(PhantomData<fn(T)>);

impl<T> Pass<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Send + 'static> Operator for Pass<T> {
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::ONE_TO_ONE;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        out.emit(item);
    }
}

impl<T> std::fmt::Debug for Pass<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pass")
    }
}
