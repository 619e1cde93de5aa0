//! [`TakeWhile`]: the items up to the first that does not match, and then the end.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::panic;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Forwards items as long as a predicate returns `true`, and ends at the first for which it does not.
///
/// That item is counted as filtered. The output ends at once; the input is dropped, unread, and everything upstream
/// that feeds only this stage stops, as with [`Take`](crate::Take).
///
/// Error items are forwarded. An item on which the predicate panics becomes an error item that carries it, and does not
/// end the stream.
///
/// ```
/// use streamz::{Pipeline, Stream, TakeWhile};
///
/// let pipeline = Pipeline::new("small");
/// let small = Stream::from_iter(&pipeline, 1..)
///     .through(&TakeWhile::new(|n| *n < 4))
///     .collect::<Vec<i32>>()?;
/// assert_eq!(small, [1, 2, 3]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("take_until"))]
pub struct TakeWhile<T, P> {
    predicate: Arc<P>,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T, P: Fn(&T) -> bool> TakeWhile<T, P> {
    /// Forwards items as long as `predicate` returns `true`. Default name: `take_while`.
    pub fn new(predicate: P) -> Self {
        Self { predicate: Arc::new(predicate), options: Options::new("take_while"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> TakeWhileOperator<T, P> {
        TakeWhileOperator { predicate: Arc::clone(&self.predicate), types: PhantomData }
    }
}

stage! {
    [T, P] TakeWhile<T, P> where { T: Send + 'static, P: Fn(&T) -> bool + Send + Sync + 'static }
    T => T, TakeWhileOperator<T, P>
}

/// Runs a [`TakeWhile`] as an [`Operator`].
pub struct TakeWhileOperator<T, P> {
    predicate: Arc<P>,
    types: PhantomData<fn(T)>,
}

impl<T, P> Operator for TakeWhileOperator<T, P>
where
    T: Send + 'static,
    P: Fn(&T) -> bool + Send + Sync + 'static,
{
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::KEEPS_ORIGINS;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        match panic::catch(|| (self.predicate)(&item)) {
            Ok(true) => out.emit(item),
            Ok(false) => {
                out.finish();
                drop(item);
                out.filtered(1);
            }
            Err(payload) => out.fail_panicked(payload.into(), item),
        }
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        false
    }
}

shorthand! {
    /// Forwards items as long as `predicate` returns `true`, then ends: a [`TakeWhile`].
    pub fn take_while<P>(self, predicate: P) -> TakeWhile<T, P> => Stream<T>
    where
        P: Fn(&T) -> bool + Send + Sync + 'static,
    {
        TakeWhile::new(predicate)
    }
}

opaque_debug! { [T, P] TakeWhile<T, P>: options }
opaque_debug! { [T, P] TakeWhileOperator<T, P> }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, Pipeline, Stream, StreamError};

    #[test]
    fn ends_at_the_first_item_that_does_not_match() {
        let mut take = Harness::new(&TakeWhile::new(|n: &i32| *n < 3));
        [1, 2].into_iter().for_each(|n| take.item(n));
        take.error(StreamError::new(ErrorKind::Failed, "before"));
        assert!(!take.is_finished());
        take.item(3);
        assert!(take.is_finished());
        let seen: Vec<_> = take.outputs().into_iter().map(Result::ok).collect();
        assert_eq!(seen, [Some(1), Some(2), None]);
        assert_eq!(take.steps()[0].filtered, 1);
    }

    #[test]
    fn a_panic_fails_its_item_and_ends_nothing() {
        let mut take = Harness::new(&TakeWhile::new(|n: &i32| *n != 2 || panic!("two")));
        (1..=3).for_each(|n| take.item(n));
        assert!(!take.is_finished());
        let outputs = take.outputs();
        assert_eq!(outputs[1].as_ref().unwrap_err().take_item::<i32>(), Some(2));
        assert_eq!(*outputs[2].as_ref().unwrap(), 3);
    }

    #[test]
    fn an_endless_source_is_stopped() {
        let pipeline = Pipeline::new("endless");
        let taken: Vec<u64> = Stream::from_iter(&pipeline, 0_u64..).take_while(|n| *n < 1_000).collect().unwrap();
        assert_eq!(taken, (0..1_000).collect::<Vec<_>>());
        let report = pipeline.join();
        assert!(report.is_complete());
        assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{report}");
    }
}
