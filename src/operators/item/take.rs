//! [`Take`]: the first items, and then the end.

use std::marker::PhantomData;

use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Forwards the first `n` items and ends.
///
/// The output ends right after the n-th item, whether or not another one comes; the input is dropped, and everything
/// upstream that feeds only this stage stops. `Take::new(0)` ends at once, without waiting for an item. The rest of the
/// input is not read, so endless sources are fine; items in flight at that moment are counted as undelivered by the
/// stages upstream.
///
/// Error items are forwarded and do not count, until the end.
///
/// ```
/// use streamz::{Pipeline, Stream, Take};
///
/// let pipeline = Pipeline::new("first");
/// let first =
///     Stream::from_iter(&pipeline, 1_u64..).through(&Take::new(3)).collect::<Vec<_>>()?;
/// assert_eq!(first, [1, 2, 3]);
/// assert!(pipeline.join().is_complete());
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("limit", "head"))]
pub struct Take<T> {
    n: usize,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T> Take<T> {
    /// Forwards the first `n` items. Default name: `take`.
    pub fn new(n: usize) -> Self {
        Self { n, options: Options::new("take"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> TakeOperator<T> {
        TakeOperator { left: self.n, types: PhantomData }
    }
}

stage! {
    [T] Take<T> where { T: Send + 'static }
    T => T, TakeOperator<T>
}

/// Runs a [`Take`] as an [`Operator`].
pub struct TakeOperator<T> {
    left: usize,
    types: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Operator for TakeOperator<T> {
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::KEEPS_ORIGINS;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        self.left -= 1;
        out.emit(item);
    }

    /// Called before the first item, too, so that taking none needs none.
    #[inline]
    fn resume(&mut self, out: &mut impl Emit<T>) -> bool {
        if self.left == 0 {
            out.finish();
        }
        false
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        self.left == 0
    }
}

shorthand! {
    /// Forwards the first `n` items and ends: a [`Take`].
    #[doc(alias("limit"))]
    pub fn take(self, n: usize) -> Take<T> => Stream<T> {
        Take::new(n)
    }
}

opaque_debug! { [T] Take<T>: n, options }
opaque_debug! { [T] TakeOperator<T>: left }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{BatchConfig, ErrorKind, Pipeline, Stream, StreamError};

    #[test]
    fn ends_right_after_the_nth_item() {
        let mut take = Harness::new(&Take::new(2));
        take.item('a');
        assert!(!take.is_finished());
        take.item('b');
        assert!(take.is_finished());
        assert_eq!(take.items(), ['a', 'b']);
    }

    #[test]
    fn errors_pass_and_do_not_count() {
        let mut take = Harness::new(&Take::new(2));
        take.item(1);
        take.error(StreamError::new(ErrorKind::Failed, "before"));
        take.error(StreamError::new(ErrorKind::Failed, "before"));
        assert!(!take.is_finished());
        take.item(2);
        let seen: Vec<_> = take.outputs().into_iter().map(Result::ok).collect();
        assert_eq!(seen, [Some(1), None, None, Some(2)]);
    }

    #[test]
    fn taking_none_needs_no_items() {
        assert!(Harness::new(&Take::<u8>::new(0)).is_finished());
        // In a pipeline whose source is silent, alone and in any place of a fused stage.
        let pipeline = Pipeline::new("quiet");
        let (_quiet, stream) = Stream::<u8>::channel(&pipeline, 1);
        assert_eq!(stream.take(0).count().unwrap(), 0);
        for zeros in [[0, 9], [9, 0]] {
            let pipeline = Pipeline::new("quiet");
            let (_quiet, stream) = Stream::<u8>::channel(&pipeline, 1);
            let taken = stream.stage("take", |s| s.map(|n| n).take(zeros[0]).map(|n| n).take(zeros[1]).chunk(2));
            assert_eq!(taken.count().unwrap(), 0);
        }
    }

    #[test]
    fn ends_on_a_quiet_input_without_another_item() {
        let pipeline = Pipeline::new("quiet");
        let (input, stream) = Stream::channel(&pipeline, 8);
        for n in 1..=3 {
            input.send(n).unwrap();
        }
        assert_eq!(stream.take(3).collect::<Vec<_>>().unwrap(), [1, 2, 3]);
        assert!(input.send(4).is_err(), "the sender learns that the consumer has left");
        drop(input);
        assert!(pipeline.join().is_complete());
    }

    #[test]
    fn an_endless_source_is_stopped_and_not_drained() {
        for capacity in [0, 1, 256] {
            let pipeline = Pipeline::builder("endless").capacity(capacity).build();
            let taken: Vec<u64> = Stream::from_iter(&pipeline, 0_u64..).map(|n| n).take(5).collect().unwrap();
            assert_eq!(taken, [0, 1, 2, 3, 4]);
            let report = pipeline.join();
            assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{report}");
        }
    }

    #[test]
    fn fused_before_a_batcher_it_flushes_the_last_batch() {
        let config = BatchConfig { max_size: 2, ..BatchConfig::default() };
        let pipeline = Pipeline::new("fused");
        let batches: Vec<_> =
            Stream::from_iter(&pipeline, 0_u64..).stage("batches", |s| s.take(5).batch(config)).collect().unwrap();
        assert_eq!(batches, [vec![0, 1], vec![2, 3], vec![4]]);
        let report = pipeline.join();
        assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{report}");
    }

    #[test]
    fn fused_after_a_batcher_it_counts_batches() {
        let config = BatchConfig { max_size: 2, ..BatchConfig::default() };
        let pipeline = Pipeline::new("fused");
        let batches: Vec<_> = Stream::from_iter(&pipeline, 0_u64..)
            .stage("batches", |s| s.batch(config).take(3).map(|batch| batch))
            .collect()
            .unwrap();
        assert_eq!(batches, [[0, 1], [2, 3], [4, 5]]);
        let report = pipeline.join();
        assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{report}");
    }
}
