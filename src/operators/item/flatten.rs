//! [`Flatten`]: emits the content of the items.

use std::fmt;
use std::marker::PhantomData;

use super::flat_map::Unfolding;
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Emits the elements of each item, which may be anything that can be iterated: a `Vec`, an `Option`, a range.
///
/// It is a [`FlatMap`](crate::FlatMap) without a closure, with the same rules: elements are taken out lazily, an empty
/// item is counted as filtered, and a panic of the iterator fails the item.
///
/// ```
/// use streamz::{Flatten, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("pages");
/// let rows = Stream::from_iter(&pipeline, [vec![1, 2], vec![], vec![3]])
///     .through(&Flatten::new())
///     .collect::<Vec<_>>()?;
/// assert_eq!(rows, [1, 2, 3]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("concat", "unnest"))]
pub struct Flatten<C> {
    options: Options,
    types: PhantomData<fn(C)>,
}

/// Undoes a [`Batcher`](crate::Batcher): emits the items of each batch. An alias of [`Flatten`] for `Vec<T>`.
///
/// ```
/// use streamz::{Pipeline, Stream, Unbatcher};
///
/// let pipeline = Pipeline::new("batches");
/// let items = Stream::from_iter(&pipeline, 0..5)
///     .chunk(2)
///     .through(&Unbatcher::new().with_name("unbatch"))
///     .collect::<Vec<_>>()?;
/// assert_eq!(items, [0, 1, 2, 3, 4]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
pub type Unbatcher<T> = Flatten<Vec<T>>;

impl<C: IntoIterator> Flatten<C> {
    /// Default name: `flatten`.
    pub fn new() -> Self {
        Self { options: Options::new("flatten"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> FlattenOperator<C> {
        FlattenOperator { unfolding: Unfolding::default() }
    }
}

impl<C: IntoIterator> Default for Flatten<C> {
    fn default() -> Self {
        Self::new()
    }
}

stage! {
    [C] Flatten<C> where { C: IntoIterator<Item: Send + 'static, IntoIter: Send + 'static> + Send + 'static }
    C => C::Item, FlattenOperator<C>
}

/// Runs a [`Flatten`] as an [`Operator`].
pub struct FlattenOperator<C: IntoIterator> {
    unfolding: Unfolding<C::IntoIter>,
}

impl<C> Operator for FlattenOperator<C>
where
    C: IntoIterator<Item: Send + 'static, IntoIter: Send + 'static> + Send + 'static,
{
    type In = C;
    type Out = C::Item;

    const SHAPE: Shape = Shape::KEEPS_ORIGINS;

    #[inline]
    fn item(&mut self, item: C, out: &mut impl Emit<C::Item>) {
        self.unfolding.start(item, out);
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<C::Item>) -> bool {
        self.unfolding.go_on(out)
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        self.unfolding.held() > 0
    }

    fn settles_in_order(&self) -> bool {
        true
    }

    fn held(&self) -> u64 {
        self.unfolding.held()
    }

    fn discard(self) {
        self.unfolding.discard();
    }
}

shorthand! {
    /// Emits the elements of each item, which can be iterated: a [`Flatten`].
    pub fn flatten(self) -> Flatten<T> => Stream<T::Item>
    where
        T: IntoIterator<Item: Send + 'static, IntoIter: Send + 'static>,
    {
        Flatten::new()
    }
}

opaque_debug! { [C] Flatten<C>: options }

impl<C: IntoIterator> fmt::Debug for FlattenOperator<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlattenOperator").field("in_progress", &(self.unfolding.held() > 0)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;

    #[test]
    fn contents_come_in_order_and_empty_ones_are_filtered() {
        let mut flatten = Harness::new(&Unbatcher::new());
        for batch in [vec![1, 2], vec![], vec![3]] {
            flatten.item(batch);
        }
        assert_eq!(flatten.items(), [1, 2, 3]);
        let step = &flatten.steps()[0];
        assert_eq!((step.received, step.emitted, step.delivered, step.filtered), (3, 3, 2, 1));
    }

    #[test]
    fn a_big_batch_waits_for_room() {
        let mut flatten = Harness::new(&Flatten::new()).with_capacity(4);
        flatten.item(0..10);
        assert_eq!(flatten.items(), [0, 1, 2, 3]);
        assert_eq!((flatten.steps()[0].emitted, flatten.steps()[0].held()), (8, 1));
        assert_eq!(flatten.items(), [4, 5, 6, 7]);
        assert_eq!((flatten.steps()[0].emitted, flatten.steps()[0].held()), (10, 0));
        assert_eq!(flatten.items(), [8, 9]);
    }

    #[test]
    fn options_are_iterated_too() {
        let mut flatten = Harness::new(&Flatten::new());
        flatten.item(Some('a'));
        flatten.item(None);
        assert_eq!(flatten.items(), ['a']);
    }
}
