//! [`Filter`]: forwards the items that match.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::panic;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Keeps the items for which a predicate returns `true`; the others are counted as filtered.
///
/// An item on which the predicate panics becomes an error item that carries it.
///
/// ```
/// use streamz::{Filter, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("evens");
/// let evens = Stream::from_iter(&pipeline, 0..6)
///     .through(&Filter::new(|n| n % 2 == 0))
///     .collect::<Vec<_>>()?;
/// assert_eq!(evens, [0, 2, 4]);
/// assert_eq!(pipeline.join().stage("filter").unwrap().removed(), 3);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("retain"))]
pub struct Filter<T, P> {
    predicate: Arc<P>,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T, P: Fn(&T) -> bool> Filter<T, P> {
    /// Creates a filter that keeps the items for which `predicate` returns `true`. Default name: `filter`.
    pub fn new(predicate: P) -> Self {
        Self { predicate: Arc::new(predicate), options: Options::new("filter"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> FilterOperator<T, P> {
        FilterOperator { predicate: Arc::clone(&self.predicate), types: PhantomData }
    }
}

stage! {
    [T, P] Filter<T, P> where { T: Send + 'static, P: Fn(&T) -> bool + Send + Sync + 'static }
    T => T, FilterOperator<T, P>
}

/// Runs a [`Filter`] as an [`Operator`].
pub struct FilterOperator<T, P> {
    predicate: Arc<P>,
    types: PhantomData<fn(T)>,
}

impl<T, P> Operator for FilterOperator<T, P>
where
    T: Send + 'static,
    P: Fn(&T) -> bool + Send + Sync + 'static,
{
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::PLAIN;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        match panic::catch(|| (self.predicate)(&item)) {
            Ok(true) => out.emit(item),
            Ok(false) => {
                drop(item);
                out.filtered(1);
            }
            Err(payload) => out.fail_panicked(payload.into(), item),
        }
    }
}

shorthand! {
    /// Keeps the items for which `predicate` returns `true`: a [`Filter`].
    pub fn filter<P>(self, predicate: P) -> Filter<T, P> => Stream<T>
    where
        P: Fn(&T) -> bool + Send + Sync + 'static,
    {
        Filter::new(predicate)
    }
}

opaque_debug! { [T, P] Filter<T, P>: options }
opaque_debug! { [T, P] FilterOperator<T, P> }
