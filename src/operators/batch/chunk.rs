//! [`Chunk`]: a fixed number of items at a time.

use std::time::Duration;

use super::batcher::BatcherOperator;
use super::open::Limits;
use super::{BatchConfig, capacity};
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;

/// Gathers items into chunks of exactly `n` items: `T` in, `Vec<T>` out.
///
/// Two things make a chunk shorter: the end of the input, which emits the rest, and an error item, which must not
/// overtake the items before it and so ends their chunk. Time does not: a chunk waits for its last item without limit.
/// For a limit in time or weight, use a [`Batcher`](crate::Batcher).
///
/// Back-pressure, cancellation and memory are as for a [`Batcher`](crate::Batcher).
///
/// ```
/// use streamz::{Chunk, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("pairs");
/// let pairs = Stream::from_iter(&pipeline, 0..5).through(&Chunk::new(2)).collect::<Vec<_>>()?;
/// assert_eq!(pairs, [vec![0, 1], vec![2, 3], vec![4]]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("buffer_count", "chunks", "grouped", "batch", "tuples"))]
pub struct Chunk<T> {
    limits: Limits<T>,
    options: Options,
}

impl<T> Chunk<T> {
    /// Creates chunks of `n` items. Default name: `chunk`.
    ///
    /// # Panics
    /// If `n` is 0.
    #[track_caller]
    pub fn new(n: usize) -> Self {
        assert!(n > 0, "`n` must be at least 1");
        let limits = Limits::new(&BatchConfig { max_size: n, max_latency: Duration::MAX });
        Self { limits, options: Options { capacity: Some(capacity(n)), ..Options::new("chunk") } }
    }

    common_options! {
        with_name: options.name,
        /// Sets how many batches may wait in the output for a slow consumer. Defaults to 16, or for batches of less than 64
        /// items to as many as have 1,024 items, whatever the pipeline's [capacity](crate::PipelineBuilder::capacity),
        /// because batches are big. With 0, every batch is handed over directly.
        with_capacity(batches): options.capacity,
    }

    fn operator(&self) -> BatcherOperator<T> {
        BatcherOperator::new(self.limits.clone())
    }
}

stage! {
    [T] Chunk<T> where { T: Send + 'static }
    T => Vec<T>, BatcherOperator<T>
}

shorthand! {
    /// Gathers items into chunks of exactly `n` items: a [`Chunk`].
    #[doc(alias("chunks"))]
    pub fn chunk(self, n: usize) -> Chunk<T> => Stream<Vec<T>> {
        Chunk::new(n)
    }
}

opaque_debug! { [T] Chunk<T>: options }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, StreamError};

    #[test]
    fn chunks_have_exactly_n_items_and_the_last_may_be_short() {
        let mut chunk = Harness::new(&Chunk::new(3));
        (0..7).for_each(|n| chunk.item(n));
        chunk.advance(Duration::from_secs(1_000_000));
        assert_eq!(chunk.items(), [[0, 1, 2], [3, 4, 5]]);
        chunk.end();
        assert_eq!(chunk.items(), [[6]]);
    }

    #[test]
    fn an_error_ends_its_chunk_and_keeps_its_place() {
        let mut chunk = Harness::new(&Chunk::new(2));
        chunk.item(0);
        chunk.error(StreamError::new(ErrorKind::Failed, "before"));
        chunk.item(1);
        chunk.item(2);
        let seen: Vec<_> = chunk.outputs().into_iter().map(Result::ok).collect();
        assert_eq!(seen, [Some(vec![0]), None, Some(vec![1, 2])]);
    }

    #[test]
    #[should_panic(expected = "`n` must be at least 1")]
    fn chunks_of_0_are_refused() {
        let _ = Chunk::<u8>::new(0);
    }
}
