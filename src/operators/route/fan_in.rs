//! [`FanIn`]: several streams as one.

use std::marker::PhantomData;

use super::merge::Merge;
use crate::operators::options::{Options, common_options, opaque_debug};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::stage::Pass;
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_driver};

/// Merges several streams into one.
///
/// It passes on whatever is there, in turn: while several streams have items, none of them gives more than 64 in a row.
/// Errors pass like items, each once. The merged stream ends when all have ended; if there are none, at once.
///
/// ```
/// use streamz::{FanIn, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("merge");
/// let streams = (0..3).map(|n| Stream::from_iter(&pipeline, [n, n + 10])).collect::<Vec<_>>();
/// let mut merged = FanIn::new().process(&pipeline, streams).collect::<Vec<_>>()?;
/// merged.sort();
/// assert_eq!(merged, [0, 1, 2, 10, 11, 12]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// What comes from one stream stays in order. Between streams there is none.
///
/// # Back-pressure
/// While the output is full nothing is read, so all streams wait.
///
/// # Cancellation
/// The output is cut. If one of the streams was cut, the others are read to their ends, and then the output is cut as
/// well, with the error of the first that was: a merged stream is complete only if all its parts are.
#[must_use = "a processor does nothing until it is given streams"]
#[doc(alias("union", "join", "select_all", "merge_all"))]
pub struct FanIn<T> {
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T: Send + 'static> FanIn<T> {
    /// A merge of any number of streams. It is called `fan_in` unless it is given another name.
    #[allow(clippy::new_without_default)] // `default` would not say what of
    pub fn new() -> Self {
        Self { options: Options::new("fan_in"), types: PhantomData }
    }

    common_options!();

    /// The name that the stage has in reports and errors.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Starts a run that merges `streams`.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, to one that has finished, or to another one than one of the streams.
    #[track_caller]
    pub fn process(&self, cancel: &CancelToken, streams: impl IntoIterator<Item = Stream<T>>) -> Stream<T> {
        let streams: Vec<Stream<T>> = streams.into_iter().collect();
        merge(cancel, streams, &self.options.name, self.options.capacity)
    }
}

/// Starts a stage that merges `streams`.
#[track_caller]
pub(super) fn merge<T: Send + 'static>(
    cancel: &CancelToken,
    streams: Vec<Stream<T>>,
    name: &str,
    capacity: Option<usize>,
) -> Stream<T> {
    let registered = Registered::with_inputs(cancel, &streams, name, StageKind::Processor, &[], 1);
    let feed = Merge::new(streams.into_iter().map(Stream::into_input).collect());
    spawn_driver(registered, capacity, Pass::new(), feed)
}

impl<T: Send + 'static> Stream<T> {
    /// Merges several streams into one: a [`FanIn`].
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, to one that has finished, or to another one than one of the streams.
    #[track_caller]
    pub fn fan_in(cancel: &CancelToken, streams: impl IntoIterator<Item = Stream<T>>) -> Stream<T> {
        FanIn::new().process(cancel, streams)
    }

    /// Merges this stream with others: a [`FanIn`].
    ///
    /// # Panics
    /// If the pipeline has finished, or one of the streams belongs to another.
    #[track_caller]
    pub fn merge(self, others: impl IntoIterator<Item = Stream<T>>) -> Stream<T> {
        let token = self.token().clone();
        FanIn::new().process(&token, std::iter::once(self).chain(others))
    }
}

opaque_debug! { [T] FanIn<T>: options }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, ManualClock, Pipeline, Sender, StreamError};

    fn virtual_pipeline() -> (ManualClock, Pipeline) {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("merge").clock(&clock).build();
        (clock, pipeline)
    }

    fn inputs(pipeline: &Pipeline, n: usize) -> (Vec<Sender<u32>>, Vec<Stream<u32>>) {
        (0..n).map(|_| Stream::channel(pipeline, 256)).unzip()
    }

    #[test]
    fn no_streams_end_at_once() {
        let pipeline = Pipeline::new("merge");
        assert_eq!(Stream::<u8>::fan_in(&pipeline, []).count().unwrap(), 0);
        assert!(pipeline.join().is_complete());
    }

    #[test]
    fn each_stream_keeps_its_order_and_nothing_is_lost() {
        let pipeline = Pipeline::new("merge");
        let streams = (0..5u32).map(|n| Stream::from_iter(&pipeline, (0..2_000).map(move |i| (n, i))));
        let merged = FanIn::new().process(&pipeline, streams).collect::<Vec<_>>().unwrap();
        for n in 0..5 {
            let own = merged.iter().filter(|(from, _)| *from == n).map(|(_, i)| *i);
            assert!(own.eq(0..2_000));
        }
        assert_eq!(merged.len(), 10_000);
    }

    #[test]
    fn no_stream_gives_more_than_64_in_a_row_while_another_has_something() {
        let (clock, pipeline) = virtual_pipeline();
        let (senders, streams) = inputs(&pipeline, 3);
        for (n, sender) in senders.iter().enumerate() {
            (0..200).for_each(|_| sender.send(n as u32).unwrap());
        }
        drop(senders);
        let merged = FanIn::new().process(&pipeline, streams);
        clock.settle();
        let merged = merged.collect::<Vec<_>>().unwrap();
        // Each has 200: three rounds of all.
        for (place, run) in merged.chunk_by(|a, b| a == b).enumerate().take(9) {
            assert_eq!(run.len(), 64, "run {place}");
        }
        assert_eq!(merged.len(), 600);
    }

    #[test]
    fn a_quiet_stream_is_served_beside_an_endless_one() {
        let pipeline = Pipeline::new("merge");
        let (sender, quiet) = Stream::channel(&pipeline, 4);
        let endless = Stream::from_iter(&pipeline, std::iter::repeat(0));
        // The map's closure never waits: what it has made for the merge must not lie in its open chunk.
        let mut merged = endless.merge([quiet.map(|n: u32| n)]);
        for n in 1..50 {
            sender.send(n).unwrap();
            while merged.recv().unwrap().unwrap() != n {}
        }
        drop(sender);
    }

    #[test]
    fn errors_pass_once() {
        let pipeline = Pipeline::new("merge");
        let (senders, streams) = inputs(&pipeline, 2);
        for sender in senders {
            sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
        }
        let tally = FanIn::new().process(&pipeline, streams).for_each(drop).unwrap();
        assert_eq!((tally.items, tally.errors), (0, 2));
    }

    #[test]
    fn when_one_is_cut_the_others_are_read_to_their_ends_and_the_whole_is_cut() {
        let pipeline = Pipeline::new("merge");
        let child = pipeline.child();
        let (_kept, cut) = Stream::channel(&pipeline, 4);
        let cut = cut.with_token(&child).map(|n: u32| n).with_token(&pipeline);
        child.cancel();
        let whole = Stream::from_iter(&pipeline, 0..1_000).merge([cut]);
        let mut seen: Vec<_> = whole.into_iter().collect();
        let last = seen.pop().unwrap().unwrap_err();
        assert!(last.is_cancelled() && last.stage() == "map");
        assert!(seen.into_iter().map(Result::unwrap).eq(0..1_000));
    }

    #[test]
    fn foreign_channels_are_merged_with_streams() {
        let (clock, pipeline) = virtual_pipeline();
        let (left, left_out) = crossbeam_channel::unbounded();
        let (right, right_out) = crossbeam_channel::unbounded();
        let (own, stream) = Stream::channel(&pipeline, 4);
        let foreign = [left_out, right_out].map(|receiver| Stream::from_receiver(&pipeline, receiver));
        let mut merged = stream.merge(foreign);
        let mut now = || {
            clock.settle();
            merged.try_recv().map(Result::unwrap)
        };
        left.send(1).unwrap();
        assert_eq!(now(), Ok(1));
        right.send(2).unwrap();
        assert_eq!(now(), Ok(2));
        own.send(3).unwrap();
        assert_eq!(now(), Ok(3));
        drop((left, right, own));
        assert_eq!(now(), Err(crate::TryRecvError::Ended));
    }
}
