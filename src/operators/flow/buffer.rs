//! [`Buffer`]: more room between two stages.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use crate::operators::Mapper;
use crate::operators::options::common_options;
use crate::pipeline::CancelToken;
use crate::stream::Processor;
use crate::stream::Stream;

/// Adds room for `n` items between two stages, so that the first can work ahead of the second.
///
/// It absorbs bursts. When it is full, the stage before it waits; nothing is dropped. To drop items instead, use a
/// [`DroppingBuffer`](crate::DroppingBuffer) or a [`SlidingBuffer`](crate::SlidingBuffer).
///
/// It is not a stage: it needs no thread and no hop. The stream that it is given may hold `n` more items, and the
/// report shows them as queued in the output of the stage before it. Only where the stream is a foreign channel
/// ([`Stream::from_receiver`]), whose capacity cannot be changed, a stage named `buffer` takes the items out of the
/// channel and holds up to `n`.
///
/// # Memory
/// `n` items, while the consumer is slow.
///
/// ```
/// use streamz::{Buffer, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("bursts");
/// let (input, stream) = Stream::channel(&pipeline, 1);
/// let stream = stream.through(&Buffer::new(2));
/// for n in 1..=3 {
///     input.send(n)?; // there is no consumer yet
/// }
/// drop(input);
/// assert_eq!(stream.collect::<Vec<_>>()?, [1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("prefetch", "queue"))]
pub struct Buffer<T> {
    n: usize,
    name: Cow<'static, str>,
    types: PhantomData<fn(T)>,
}

impl<T> Buffer<T> {
    /// Adds room for `n` items; 0 changes nothing. Default name: `buffer`.
    pub fn new(n: usize) -> Self {
        Self { n, name: "buffer".into(), types: PhantomData }
    }

    common_options! {
        /// Sets the name that the stage has in reports, if it needs a stage of its own.
        with_name: name
    }
}

impl<T: Send + 'static> Processor for Buffer<T> {
    type In = T;
    type Out = T;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<T>) -> Stream<T> {
        if input.add_capacity(self.n) {
            input.with_token(cancel)
        } else {
            let stage = Mapper::new(|item: T| item).with_name(self.name.clone()).with_capacity(self.n);
            stage.process(cancel, input)
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// # Rate, time and buffers
impl<T: Send + 'static> Stream<T> {
    /// Adds room for `n` items behind the previous stage: a [`Buffer`].
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn buffer(self, n: usize) -> Self {
        self.through_once(Buffer::new(n))
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("n", &self.n).field("name", &self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManualClock, Pipeline};
    use std::time::Duration;

    /// The number of items that a source can emit without a consumer.
    fn accepted(build: impl FnOnce(&Pipeline) -> (crate::Sender<u32>, Stream<u32>)) -> usize {
        let pipeline = Pipeline::new("full");
        let (input, stream) = build(&pipeline);
        let count = (0..100).take_while(|n| input.try_send(*n).is_ok()).count();
        drop(input);
        assert_eq!(stream.collect::<Vec<_>>().unwrap(), (0..count as u32).collect::<Vec<_>>());
        count
    }

    #[test]
    fn there_is_room_for_exactly_n_more() {
        let buffered = |capacity, n| {
            accepted(|pipeline| {
                let (input, stream) = Stream::channel(pipeline, capacity);
                (input, stream.buffer(n))
            })
        };
        assert_eq!((buffered(3, 0), buffered(3, 7), buffered(0, 5)), (3, 10, 5));
    }

    #[test]
    fn a_buffer_is_not_a_stage_and_may_be_reused() {
        let buffer = Buffer::new(5);
        for _ in 0..2 {
            let pipeline = Pipeline::new("stages");
            let (input, stream) = Stream::<u8>::channel(&pipeline, 1);
            let stream = stream.through(&buffer).through(&buffer);
            let report = pipeline.report();
            assert_eq!((report.stages.len(), report.stages[0].outputs[0].capacity), (1, 11));
            drop((input, stream));
        }
    }

    #[test]
    fn the_output_belongs_to_the_given_token() {
        let pipeline = Pipeline::new("tokens");
        let (_input, stream) = Stream::<u8>::channel(&pipeline, 1);
        let child = pipeline.child();
        let mut stream = Buffer::new(1).process(&child, stream);
        child.cancel();
        assert!(stream.recv().unwrap().unwrap_err().is_cancelled());
        assert!(!pipeline.is_cancelled());
    }

    #[test]
    fn a_foreign_channel_is_emptied_into_a_stage() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("foreign").clock(&clock).build();
        let (sender, receiver) = crossbeam_channel::bounded(10);
        (0..10).for_each(|n| sender.send(n).unwrap());
        let stream = Stream::from_receiver(&pipeline, receiver).buffer(4);
        drop(sender);
        clock.advance(Duration::from_millis(1));
        assert_eq!(pipeline.report().stage("buffer").unwrap().outputs[0].queued, 4);
        assert_eq!(stream.collect::<Vec<_>>().unwrap(), (0..10).collect::<Vec<_>>());
    }
}
