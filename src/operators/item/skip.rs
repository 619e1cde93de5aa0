//! [`Skip`]: all but the first items.

use std::marker::PhantomData;

use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Skips the first `n` items.
///
/// Skipped items are counted as filtered. Error items are forwarded and do not count.
///
/// ```
/// use streamz::{Pipeline, Skip, Stream};
///
/// let pipeline = Pipeline::new("rows");
/// let rows = Stream::from_iter(&pipeline, ["header", "1", "2"])
///     .through(&Skip::new(1))
///     .collect::<Vec<_>>()?;
/// assert_eq!(rows, ["1", "2"]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("drop_first", "offset"))]
pub struct Skip<T> {
    n: usize,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T> Skip<T> {
    /// Skips the first `n` items; 0 skips none. Default name: `skip`.
    pub fn new(n: usize) -> Self {
        Self { n, options: Options::new("skip"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> SkipOperator<T> {
        SkipOperator { left: self.n, types: PhantomData }
    }
}

stage! {
    [T] Skip<T> where { T: Send + 'static }
    T => T, SkipOperator<T>
}

/// Runs a [`Skip`] as an [`Operator`].
pub struct SkipOperator<T> {
    left: usize,
    types: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Operator for SkipOperator<T> {
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::PLAIN;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        if self.left > 0 {
            self.left -= 1;
            drop(item);
            out.filtered(1);
        } else {
            out.emit(item);
        }
    }
}

shorthand! {
    /// Skips the first `n` items: a [`Skip`].
    pub fn skip(self, n: usize) -> Skip<T> => Stream<T> {
        Skip::new(n)
    }
}

opaque_debug! { [T] Skip<T>: n, options }
opaque_debug! { [T] SkipOperator<T>: left }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, StreamError};

    #[test]
    fn leaves_out_exactly_n_items_and_no_errors() {
        for n in 0..5 {
            let mut skip = Harness::new(&Skip::new(n));
            skip.item(0);
            skip.error(StreamError::new(ErrorKind::Failed, "before"));
            (1..4).for_each(|n| skip.item(n));
            let items: Vec<_> = skip.outputs().into_iter().filter_map(Result::ok).collect();
            assert_eq!(items, (n..4).collect::<Vec<_>>());
            let step = &skip.steps()[0];
            assert_eq!((step.filtered, step.errors_out), (n.min(4) as u64, 1));
        }
    }
}
