//! [`FlatMap`]: any number of items out for each item in.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::{ErrorKind, PanicMessage};
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::panic::{self, discard_iterator, guard_drop};
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Turns each item into the items of an iterator.
///
/// The iterator is read lazily: one item at a time, and only while there is room for it in the output. So it may be
/// huge, or endless: back-pressure and cancellation reach into it. It runs on the stage's thread, which takes no
/// further input and fires no timer while the iterator has more items. An iterator that blocks holds up the stage.
///
/// The closure takes the item by value. A received item is counted as held until its iterator has ended; then it is
/// counted as delivered, or as filtered if the iterator was empty.
///
/// # Panics of the closure and of the iterator
/// A panic becomes an error item of kind [`Panicked`](crate::ErrorKind::Panicked), and the received item counts as
/// failed. The items that the iterator returned before have been emitted; those that it might have returned later are
/// lost.
///
/// # Memory
/// One iterator at a time.
///
/// ```
/// use streamz::{FlatMap, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("words");
/// let words = Stream::from_iter(&pipeline, ["to be", "or not"])
///     .through(&FlatMap::new(|line: &'static str| line.split(' ')))
///     .collect::<Vec<_>>()?;
/// assert_eq!(words, ["to", "be", "or", "not"]);
///
/// // An endless iterator is read only as far as its consumer needs.
/// let pipeline = Pipeline::new("multiples");
/// let multiples = Stream::from_iter(&pipeline, [3_u64])
///     .through(&FlatMap::new(|n: u64| (1..).map(move |k| k * n)))
///     .take(4)
///     .collect::<Vec<_>>()?;
/// assert_eq!(multiples, [3, 6, 9, 12]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("concat_map", "flatMap", "and_then"))]
pub struct FlatMap<In, I, F> {
    f: Arc<F>,
    options: Options,
    types: PhantomData<fn(In) -> I>,
}

impl<In, I: IntoIterator, F: Fn(In) -> I> FlatMap<In, I, F> {
    /// Emits the items of the iterator that `f` returns. Default name: `flat_map`.
    pub fn new(f: F) -> Self {
        Self { f: Arc::new(f), options: Options::new("flat_map"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> FlatMapOperator<In, I, F> {
        FlatMapOperator { f: Arc::clone(&self.f), unfolding: Unfolding::default(), types: PhantomData }
    }
}

stage! {
    [In, I, F] FlatMap<In, I, F> where {
        In: Send + 'static,
        I: IntoIterator<Item: Send + 'static, IntoIter: Send + 'static> + 'static,
        F: Fn(In) -> I + Send + Sync + 'static
    }
    In => I::Item, FlatMapOperator<In, I, F>
}

/// Runs a [`FlatMap`] as an [`Operator`].
pub struct FlatMapOperator<In, I: IntoIterator, F> {
    f: Arc<F>,
    unfolding: Unfolding<I::IntoIter>,
    types: PhantomData<fn(In) -> I>,
}

impl<In, I, F> Operator for FlatMapOperator<In, I, F>
where
    In: Send + 'static,
    I: IntoIterator<Item: Send + 'static, IntoIter: Send + 'static> + 'static,
    F: Fn(In) -> I + Send + Sync + 'static,
{
    type In = In;
    type Out = I::Item;

    const SHAPE: Shape = Shape::KEEPS_ORIGINS;

    #[inline]
    fn item(&mut self, item: In, out: &mut impl Emit<I::Item>) {
        self.unfolding.start((self.f)(item), out);
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<I::Item>) -> bool {
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
        guard_drop(self.f);
    }
}

/// A received item that is being emitted as the items of an iterator; shared by all operators that do so.
pub(super) struct Unfolding<I> {
    current: Option<I>,
    /// The current iterator has returned an item.
    fruitful: bool,
}

impl<I> Default for Unfolding<I> {
    fn default() -> Self {
        Self { current: None, fruitful: false }
    }
}

impl<I: Iterator> Unfolding<I> {
    /// Starts a new item; the previous one has been finished.
    #[inline]
    pub(super) fn start(&mut self, items: impl IntoIterator<IntoIter = I>, out: &mut impl Emit<I::Item>) {
        self.current = Some(items.into_iter());
        self.fruitful = false;
        self.go_on(out);
    }

    /// Emits as many items as there is room for. Returns true if there may be more.
    #[inline]
    pub(super) fn go_on(&mut self, out: &mut impl Emit<I::Item>) -> bool {
        let Some(current) = &mut self.current else { return false };
        // Asked before each item is made: one without room may cost a lot, or wait forever.
        while !out.is_full() {
            match panic::catch(|| current.next()) {
                Ok(Some(item)) => {
                    self.fruitful = true;
                    out.emit_from(item, 0);
                }
                Ok(None) => {
                    self.close(out);
                    return false;
                }
                Err(payload) => {
                    let error = out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload));
                    out.failed(1);
                    out.error(error);
                    let broken = self.current.take();
                    // One panic is reported; a second one, from the broken iterator, is not.
                    guard_drop(broken);
                    return false;
                }
            }
        }
        true
    }

    fn close(&mut self, out: &mut impl Emit<I::Item>) {
        // Dropped before the item is settled: if that panics, the driver finds the item lost, and counts it as failed.
        drop(self.current.take());
        if self.fruitful { out.delivered(1) } else { out.filtered(1) }
    }

    pub(super) fn discard(self)
    where
        I: 'static,
        I::Item: 'static,
    {
        self.current.into_iter().for_each(discard_iterator);
    }

    #[inline]
    pub(super) fn held(&self) -> u64 {
        u64::from(self.current.is_some())
    }
}

shorthand! {
    /// Turns each item into the items of an iterator, lazily: a [`FlatMap`].
    pub fn flat_map<I, F>(self, f: F) -> FlatMap<T, I, F> => Stream<I::Item>
    where
        I: IntoIterator<Item: Send + 'static, IntoIter: Send + 'static> + 'static,
        F: Fn(T) -> I + Send + Sync + 'static,
    {
        FlatMap::new(f)
    }
}

opaque_debug! { [In, I, F] FlatMap<In, I, F>: options }

impl<In, I: IntoIterator, F> std::fmt::Debug for FlatMapOperator<In, I, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let in_progress = self.unfolding.current.is_some();
        f.debug_struct("FlatMapOperator").field("in_progress", &in_progress).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::testing::Harness;
    use crate::{Mapper, Pipeline, Processor, Stream, StreamError, Take};

    #[test]
    fn items_come_in_order_and_each_received_one_is_settled_once() {
        let mut repeat = Harness::new(&FlatMap::new(|n: usize| std::iter::repeat_n(n, n)));
        for n in [2, 0, 3] {
            repeat.item(n);
        }
        assert_eq!(repeat.items(), [2, 2, 3, 3, 3]);
        let step = &repeat.steps()[0];
        assert_eq!((step.received, step.emitted, step.delivered, step.filtered), (3, 5, 2, 1));
    }

    /// The numbers from the given one on, without end, and how many of them were made.
    fn counted_numbers()
    -> (Arc<AtomicU64>, impl Fn(u64) -> Box<dyn Iterator<Item = u64> + Send> + Send + Sync + 'static) {
        let read = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&read);
        let numbers = move |from| {
            let count = Arc::clone(&count);
            Box::new((from..).inspect(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            })) as Box<dyn Iterator<Item = u64> + Send>
        };
        (read, numbers)
    }

    #[test]
    fn nothing_is_read_from_the_iterator_without_room_for_it() {
        let (read, numbers) = counted_numbers();
        let mut endless = Harness::new(&FlatMap::new(numbers)).with_capacity(3);
        endless.item(10);
        assert_eq!(read.load(Ordering::Relaxed), 3);
        assert_eq!(endless.items(), [10, 11, 12]);
        assert_eq!(endless.items(), [13, 14, 15]);
        let step = &endless.steps()[0];
        assert_eq!((step.held(), step.emitted), (1, 9));
    }

    #[test]
    fn a_panicking_iterator_fails_its_item_and_no_other() {
        let fragile =
            FlatMap::new(|n: i32| (0..3).map(move |k| if n == 1 && k == 2 { panic!("k is 2") } else { 10 * n + k }));
        let mut fragile = Harness::new(&fragile);
        (0..3).for_each(|n| fragile.item(n));
        let outputs = fragile.outputs();
        let seen: Vec<_> = outputs.iter().map(|output| output.as_ref().map_err(StreamError::kind)).collect();
        let panicked = Err(ErrorKind::Panicked);
        assert_eq!(seen, [Ok(&0), Ok(&1), Ok(&2), Ok(&10), Ok(&11), panicked, Ok(&20), Ok(&21), Ok(&22)]);
        let step = &fragile.steps()[0];
        assert_eq!((step.delivered, step.failed, step.held()), (2, 1, 0));
    }

    #[test]
    fn a_panicking_closure_or_drop_fails_its_item_and_no_other() {
        struct Bomb(bool);
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(!self.0, "dropped");
            }
        }
        let fragile = FlatMap::new(|n: i32| {
            assert!(n != 1, "one");
            let bomb = Bomb(n == 2);
            std::iter::once(n).inspect(move |_| {
                let _ = &bomb;
            })
        });
        let mut fragile = Harness::new(&fragile);
        (0..4).for_each(|n| fragile.item(n));
        let outputs = fragile.outputs();
        let seen: Vec<_> = outputs.iter().map(|output| output.as_ref().map_err(StreamError::kind)).collect();
        let panicked = Err(ErrorKind::Panicked);
        assert_eq!(seen, [Ok(&0), panicked, Ok(&2), panicked, Ok(&3)]);
        let step = &fragile.steps()[0];
        assert_eq!((step.delivered, step.failed, step.held()), (2, 2, 0));
    }

    #[test]
    fn errors_keep_their_place() {
        let mut twice = Harness::new(&FlatMap::new(|n: u8| [n, n]));
        twice.item(1);
        twice.error(StreamError::new(ErrorKind::Failed, "before"));
        twice.item(2);
        let seen: Vec<_> = twice.outputs().into_iter().map(Result::ok).collect();
        assert_eq!(seen, [Some(1), Some(1), None, Some(2), Some(2)]);
    }

    #[test]
    fn an_endless_iterator_obeys_cancellation() {
        let pipeline = Pipeline::new("endless");
        let mut numbers = Stream::from_iter(&pipeline, [0_u64]).flat_map(|from| from..);
        assert_eq!(numbers.recv().unwrap().unwrap(), 0);
        let report = pipeline.abort();
        assert_eq!(report.stage("flat_map").unwrap().abandoned(), 1);
        assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{report}");
    }

    #[test]
    fn statistics_add_up_at_any_moment() {
        let pipeline = Pipeline::new("books");
        let mut numbers = Stream::from_iter(&pipeline, 0..1_000_u64)
            .stage("unfold", |s| s.flat_map(|n| 0..n % 50).map(|n| n).flat_map(|n| 0..n % 3));
        while numbers.recv().is_some() {
            let report = pipeline.report();
            assert!(report.stage("unfold").unwrap().steps[0].delivered <= 1_000, "{report:?}");
        }
    }

    #[test]
    fn two_fused_are_lazy_together() {
        let (read, numbers) = counted_numbers();
        let mut both = Harness::new(&FlatMap::new(numbers).fuse(FlatMap::new(|n: u64| [n; 4]))).with_capacity(6);
        both.item(1);
        assert_eq!(read.load(Ordering::Relaxed), 2);
        assert_eq!(both.items(), [1, 1, 1, 1, 2, 2]);
        assert_eq!(both.items(), [2, 2, 3, 3, 3, 3]);
        assert!(read.load(Ordering::Relaxed) <= 5);
    }

    #[test]
    fn the_iterator_is_not_read_after_a_later_step_has_finished() {
        let (read, numbers) = counted_numbers();
        let steps = FlatMap::new(numbers).fuse(Take::new(3)).fuse(Mapper::new(|n: u64| n));
        let mut steps = Harness::new(&steps);
        steps.item(1);
        assert!(steps.is_finished());
        assert_eq!(steps.items(), [1, 2, 3]);
        assert_eq!(read.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn endless_iterators_end_in_any_place_with_their_consumer() {
        for capacity in [0, 1, 2, 256] {
            let pipeline = Pipeline::builder("fused").capacity(capacity).build();
            let numbers: Vec<u64> = Stream::from_iter(&pipeline, [0_u64])
                .stage("unfold", |s| {
                    s.flat_map(|from| from..).flat_map(|n| (0..n).map(move |_| n)).take(2_000).map(|n| n * 2)
                })
                .collect()
                .unwrap();
            let expected: Vec<u64> = (0..).flat_map(|n| (0..n).map(move |_| n * 2)).take(2_000).collect();
            assert_eq!(numbers, expected);
            assert!(pipeline.join().is_complete());
        }
    }
}
