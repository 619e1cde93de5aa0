//! [`FanIn`]: several streams as one.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::herald::Herald;
use super::merge::Merge;
use crate::operators::options::{Options, common_options, opaque_debug};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::stage::Pass;
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_driver};

/// How long an input may have no items before windows no longer wait for it.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Merges several streams into one.
///
/// It forwards available items in turn: while several streams have items, none of them contributes more than 64 in a
/// row. Errors are forwarded like items, each once. The merged stream ends when all streams have ended; with no
/// streams, at once.
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
/// The items of one stream stay in order. Between streams, no order is kept.
///
/// # Event time
/// Windows of event time and a [`Join`](crate::Join) behind the merge know from which of the streams an item comes, so
/// each stream has a watermark of its own: streams that are in order lose nothing because another one is faster. The
/// time of the whole is that of the stream that is furthest behind. A stream that has ended, in whatever way, does not
/// hold it back, and neither does one that has been idle for [`with_idle_timeout`](Self::with_idle_timeout). If such a
/// stream continues, event time waits for it again, but its items for closed windows are late. While no stream holds it
/// back, event time follows the greatest time seen.
///
/// This holds through stages that process each item by itself (maps, filters, `flat_map`, buffers, pools, routers,
/// further merges), for merges of merges, in the groups of a [`GroupBy`](crate::GroupBy), and through
/// [`Interleave`](crate::Interleave), [`zip`](Stream::zip) and [`chain`](Stream::chain), which document how. A pool
/// that does not keep the order disorders each stream: allow for that in the lateness. One watermark counts for all
///
/// - behind a batch, also if it is flattened again, because a batch has items of several streams. Put the window before the
///   batch, or batch each stream before the merge;
/// - behind [`MergeSorted`](crate::MergeSorted) by time, [`SortByTime`](crate::SortByTime), windows and aggregates, whose output is
///   in order;
/// - behind a [`GroupBy`](crate::GroupBy), a [`Join`](crate::Join) or a [`Debounce`](crate::Debounce), for what these emit, and
///   behind an operator of your own.
///
/// A filter or a router may drop all items of a stream. Windows wait for such a stream as long as for an idle one: if
/// none of its items has arrived for the idle timeout, although the merge has forwarded them, it no longer holds the
/// windows back. (An unordered pool between the filter and the window hides that: put the filter behind the pool.)
///
/// The items by which faster streams are ahead are held in open windows, until the slowest stream has caught up, or
/// until the idle timeout if it is silent. With an aggregate, that is one state for each window. If the items
/// themselves are too many, slow the faster streams down before the merge, for instance with a
/// [`Throttle`](crate::Throttle).
///
/// # Back-pressure
/// While the output is full, no stream is read, so all wait.
///
/// # Cancellation
/// The output is cut. If one of the streams was cut, the others are read to their ends, and then the output is cut as
/// well, with the error of the first that was: a merged stream is complete only if all its parts are.
#[must_use = "a processor does nothing until it is given streams"]
#[doc(alias("union", "select_all", "merge_all", "gather", "mux"))]
pub struct FanIn<T> {
    options: Options,
    /// `None` for never.
    idle_timeout: Option<Duration>,
    types: PhantomData<fn(T)>,
}

impl<T: Send + 'static> FanIn<T> {
    /// Creates a merge of any number of streams. Default name: `fan_in`.
    #[allow(clippy::new_without_default)] // `default` would not say what of
    pub fn new() -> Self {
        Self { options: Options::new("fan_in"), idle_timeout: Some(IDLE_TIMEOUT), types: PhantomData }
    }

    common_options!();

    /// Sets how long an input may be idle before it stops holding back event time. Defaults to 10 seconds, by the
    /// pipeline's clock. `Duration::MAX` means never.
    ///
    /// This matters to windows of event time behind the merge only: see [above](Self#event-time).
    ///
    /// # Panics
    /// If `idle_timeout` is zero.
    #[track_caller]
    pub fn with_idle_timeout(mut self, idle_timeout: Duration) -> Self {
        assert!(!idle_timeout.is_zero(), "`idle_timeout` must be greater than zero");
        self.idle_timeout = Some(idle_timeout).filter(|timeout| *timeout != Duration::MAX);
        self
    }

    /// Returns the name of the stage in reports and errors.
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
        merge(cancel, streams, &self.options.name, self.options.capacity, self.idle_timeout)
    }
}

/// Starts a stage that merges `streams`.
#[track_caller]
pub(super) fn merge<T: Send + 'static>(
    cancel: &CancelToken,
    streams: Vec<Stream<T>>,
    name: &str,
    capacity: Option<usize>,
    idle_timeout: Option<Duration>,
) -> Stream<T> {
    let mut registered = Registered::with_inputs(cancel, &streams, name, StageKind::Processor, &[], 1);
    let herald = Herald::new(streams.iter().map(Stream::origins), cancel.clock().clone(), idle_timeout);
    registered.origins = Some(Arc::clone(herald.origins()));
    let feed = Merge::new(streams.into_iter().map(Stream::into_input).collect(), herald);
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
    fn no_stream_sends_over_64_in_a_row_while_another_has_items() {
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
        // The map's closure never waits: the items it has made for the merge must not stay in its open chunk.
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
    fn after_one_input_is_cut_the_others_are_read_to_their_ends() {
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
