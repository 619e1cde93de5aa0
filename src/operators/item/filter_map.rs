//! [`FilterMap`]: converts items and leaves some out, in one step.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Turns each item into another one, or drops it.
///
/// The closure takes the item by value. An item for which it returns `None` is counted as filtered. If it panics, the
/// item is lost; an error item of kind [`Panicked`](crate::ErrorKind::Panicked) takes its place. If a missing result is
/// a failure rather than a choice, use [`Mapper::fallible`](crate::Mapper::fallible): it keeps the item and the reason.
///
/// ```
/// use streamz::{FilterMap, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("numbers");
/// let numbers = Stream::from_iter(&pipeline, ["1", "x", "3"])
///     .through(&FilterMap::new(|text: &str| text.parse::<u32>().ok()))
///     .collect::<Vec<_>>()?;
/// assert_eq!(numbers, [1, 3]);
/// assert_eq!(pipeline.join().stage("filter_map").unwrap().removed(), 1);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("choose", "collect_some"))]
pub struct FilterMap<In, Out, F> {
    f: Arc<F>,
    options: Options,
    types: PhantomData<fn(In) -> Out>,
}

impl<In, Out, F: Fn(In) -> Option<Out>> FilterMap<In, Out, F> {
    /// Emits the item that `f` returns, if it returns one. Default name: `filter_map`.
    pub fn new(f: F) -> Self {
        Self { f: Arc::new(f), options: Options::new("filter_map"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> FilterMapOperator<In, Out, F> {
        FilterMapOperator { f: Arc::clone(&self.f), types: PhantomData }
    }
}

stage! {
    [In, Out, F] FilterMap<In, Out, F> where {
        In: Send + 'static, Out: Send + 'static, F: Fn(In) -> Option<Out> + Send + Sync + 'static
    }
    In => Out, FilterMapOperator<In, Out, F>
}

/// Runs a [`FilterMap`] as an [`Operator`].
pub struct FilterMapOperator<In, Out, F> {
    f: Arc<F>,
    types: PhantomData<fn(In) -> Out>,
}

impl<In, Out, F> Operator for FilterMapOperator<In, Out, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    F: Fn(In) -> Option<Out> + Send + Sync + 'static,
{
    type In = In;
    type Out = Out;

    const SHAPE: Shape = Shape::PLAIN;

    #[inline]
    fn item(&mut self, item: In, out: &mut impl Emit<Out>) {
        match (self.f)(item) {
            Some(item) => out.emit(item),
            None => out.filtered(1),
        }
    }
}

shorthand! {
    /// Turns each item into another one, or drops it: a [`FilterMap`].
    pub fn filter_map<Out, F>(self, f: F) -> FilterMap<T, Out, F> => Stream<Out>
    where
        Out: Send + 'static,
        F: Fn(T) -> Option<Out> + Send + Sync + 'static,
    {
        FilterMap::new(f)
    }
}

opaque_debug! { [In, Out, F] FilterMap<In, Out, F>: options }
opaque_debug! { [In, Out, F] FilterMapOperator<In, Out, F> }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, StreamError};

    #[test]
    fn items_mapped_to_nothing_are_counted_as_filtered() {
        let mut parse = Harness::new(&FilterMap::new(|text: &str| text.parse::<u32>().ok()));
        ["1", "x", "3"].into_iter().for_each(|text| parse.item(text));
        assert_eq!(parse.items(), [1, 3]);
        let step = &parse.steps()[0];
        assert_eq!((step.received, step.delivered, step.filtered, step.failed), (3, 2, 1, 0));
    }

    #[test]
    fn a_panic_fails_its_item_alone_and_errors_pass() {
        let mut checked = Harness::new(&FilterMap::new(|n: u32| Some(n).filter(|_| n != 2 || panic!("two"))));
        checked.item(1);
        checked.item(2);
        checked.error(StreamError::new(ErrorKind::Failed, "before"));
        checked.item(3);
        let seen: Vec<_> = checked.outputs().into_iter().map(|output| output.map_err(|error| error.kind())).collect();
        assert!(matches!(seen[..], [Ok(1), Err(ErrorKind::Panicked), Err(ErrorKind::Failed), Ok(3)]), "{seen:?}");
        assert!(checked.steps()[0].balances());
    }
}
