//! [`SkipWhile`]: all items from the first that does not match.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::panic;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Skips items as long as a predicate returns `true`, and forwards all others from the first for which it does not.
///
/// From then on, the predicate is not called again. Skipped items are counted as filtered. Error items are forwarded.
/// An item on which the predicate panics becomes an error item that carries it, and changes nothing.
///
/// ```
/// use streamz::{Pipeline, SkipWhile, Stream};
///
/// let pipeline = Pipeline::new("rows");
/// let rows = Stream::from_iter(&pipeline, ["# made", "# by hand", "1", "# 2"])
///     .through(&SkipWhile::new(|line: &&str| line.starts_with('#')))
///     .collect::<Vec<_>>()?;
/// assert_eq!(rows, ["1", "# 2"]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("drop_while", "skip_until"))]
pub struct SkipWhile<T, P> {
    predicate: Arc<P>,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T, P: Fn(&T) -> bool> SkipWhile<T, P> {
    /// Skips items as long as `predicate` returns `true`. Default name: `skip_while`.
    pub fn new(predicate: P) -> Self {
        Self { predicate: Arc::new(predicate), options: Options::new("skip_while"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> SkipWhileOperator<T, P> {
        SkipWhileOperator { predicate: Arc::clone(&self.predicate), skipping: true, types: PhantomData }
    }
}

stage! {
    [T, P] SkipWhile<T, P> where { T: Send + 'static, P: Fn(&T) -> bool + Send + Sync + 'static }
    T => T, SkipWhileOperator<T, P>
}

/// Runs a [`SkipWhile`] as an [`Operator`].
pub struct SkipWhileOperator<T, P> {
    predicate: Arc<P>,
    skipping: bool,
    types: PhantomData<fn(T)>,
}

impl<T, P> Operator for SkipWhileOperator<T, P>
where
    T: Send + 'static,
    P: Fn(&T) -> bool + Send + Sync + 'static,
{
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::PLAIN;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        if !self.skipping {
            return out.emit(item);
        }
        match panic::catch(|| (self.predicate)(&item)) {
            Ok(true) => {
                drop(item);
                out.filtered(1);
            }
            Ok(false) => {
                self.skipping = false;
                out.emit(item);
            }
            Err(payload) => out.fail_panicked(payload.into(), item),
        }
    }
}

shorthand! {
    /// Skips items as long as `predicate` returns `true`: a [`SkipWhile`].
    pub fn skip_while<P>(self, predicate: P) -> SkipWhile<T, P> => Stream<T>
    where
        P: Fn(&T) -> bool + Send + Sync + 'static,
    {
        SkipWhile::new(predicate)
    }
}

opaque_debug! { [T, P] SkipWhile<T, P>: options }
opaque_debug! { [T, P] SkipWhileOperator<T, P>: skipping }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, StreamError};

    #[test]
    fn asks_no_more_once_an_item_has_passed() {
        let mut skip = Harness::new(&SkipWhile::new(|n: &i32| *n < 3));
        [1, 2, 3, 1, 2].into_iter().for_each(|n| skip.item(n));
        assert_eq!(skip.items(), [3, 1, 2]);
        assert_eq!(skip.steps()[0].filtered, 2);
    }

    #[test]
    fn errors_pass_and_a_panic_fails_its_item_alone() {
        let mut skip = Harness::new(&SkipWhile::new(|n: &i32| *n < 3 && (*n != 2 || panic!("two"))));
        skip.error(StreamError::new(ErrorKind::Failed, "before"));
        [1, 2, 1, 3].into_iter().for_each(|n| skip.item(n));
        let outputs = skip.outputs();
        assert_eq!(outputs.len(), 3);
        assert_eq!(outputs[1].as_ref().unwrap_err().take_item::<i32>(), Some(2));
        assert_eq!(*outputs[2].as_ref().unwrap(), 3);
        assert!(skip.steps()[0].balances());
    }
}
