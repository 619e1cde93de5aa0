//! [`Enumerate`]: numbers the items.

use std::marker::PhantomData;

use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Pairs each item with its number, counted from 0 in each run.
///
/// Error items are forwarded without a number. The order is kept, and nothing is held.
///
/// ```
/// use streamz::{Enumerate, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("lines");
/// let lines = Stream::from_iter(&pipeline, ["a", "b"])
///     .through(&Enumerate::new())
///     .collect::<Vec<_>>()?;
/// assert_eq!(lines, [(0, "a"), (1, "b")]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
pub struct Enumerate<T> {
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T> Enumerate<T> {
    /// Creates an operator that numbers the items. Default name: `enumerate`.
    #[allow(clippy::new_without_default)] // `default` would not say what of
    pub fn new() -> Self {
        Self { options: Options::new("enumerate"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> EnumerateOperator<T> {
        EnumerateOperator { next: 0, types: PhantomData }
    }
}

stage! {
    [T] Enumerate<T> where { T: Send + 'static }
    T => (u64, T), EnumerateOperator<T>
}

/// Runs an [`Enumerate`] as an [`Operator`].
pub struct EnumerateOperator<T> {
    next: u64,
    types: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Operator for EnumerateOperator<T> {
    type In = T;
    type Out = (u64, T);

    const SHAPE: Shape = Shape::ONE_TO_ONE;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<(u64, T)>) {
        let number = self.next;
        self.next += 1;
        out.emit((number, item));
    }
}

shorthand! {
    group {
        /// # Changing items
    }
    /// Pairs each item with its number, counted from 0: an [`Enumerate`].
    pub fn enumerate(self) -> Enumerate<T> => Stream<(u64, T)> {
        Enumerate::new()
    }
}

opaque_debug! { [T] Enumerate<T>: options }
opaque_debug! { [T] EnumerateOperator<T>: next }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, StreamError};

    #[test]
    fn errors_have_no_number_and_each_run_counts_from_zero() {
        let enumerate = Enumerate::new();
        for _ in 0..2 {
            let mut run = Harness::new(&enumerate);
            run.item("a");
            run.error(StreamError::new(ErrorKind::Failed, "before"));
            run.item("b");
            let outputs = run.outputs();
            let seen: Vec<_> = outputs.iter().map(|output| output.as_ref().ok()).collect();
            assert_eq!(seen, [Some(&(0, "a")), None, Some(&(1, "b"))]);
            assert!(run.steps()[0].balances());
        }
    }
}
