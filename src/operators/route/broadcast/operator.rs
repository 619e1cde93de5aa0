//! The public side: [`Broadcast`] and its options.

use std::marker::PhantomData;

use super::hub::{Hub, Shared};
use super::stage::{Broadcaster, Ways};
use crate::operators::options::{Options, common_options, opaque_debug};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_loop};

/// Sends every item to all subscribers, which may join and leave at any time.
///
/// It gives a [`Hub`], whose [`subscribe`](Hub::subscribe) makes a stream for one more subscriber, on any thread and
/// while items flow. If the number of readers is known when the pipeline is built, a [`FanOut`](crate::FanOut) is
/// simpler.
///
/// A subscriber gets the items that the stage takes from its input after `subscribe` has returned, and before them the
/// last ones if the stage [replays](Self::with_replay) them. An item is cloned for each subscriber but one, or for each
/// if it may be replayed: put large items into an `Arc` first. A subscriber that is dropped leaves without disturbing
/// the others.
///
/// ```
/// use streamz::{Broadcast, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("prices");
/// let (sender, prices) = Stream::channel(&pipeline, 16);
/// let hub = prices.through_hub(&Broadcast::new().with_replay(1));
///
/// let mut first = hub.subscribe();
/// sender.send(10)?;
/// assert_eq!(first.recv().unwrap()?, 10);
///
/// let late = hub.subscribe();
/// sender.send(11)?;
/// drop((sender, hub));
/// assert_eq!(late.collect::<Vec<_>>()?, [10, 11]);
/// assert_eq!(first.collect::<Vec<_>>()?, [11]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Ordering
/// Each subscriber gets the items in the order of the input.
///
/// # Back-pressure
/// The slowest subscriber sets the pace, unless [`with_slow_subscriber`](Self::with_slow_subscriber) is set. An item is
/// sent to all before the stage waits for any. Until the first subscriber arrives, the stage waits, holding the first
/// item, unless [`with_no_subscriber`](Self::with_no_subscriber) is set; when the last has left, items are dropped and
/// counted as [undeliverable](crate::DropReason::Undeliverable).
///
/// # Errors
/// An error item goes to each subscriber; clones of an error share the item that it carries, so the first one to
/// [take](crate::StreamError::take_item) it has it. If `clone` panics, the item becomes such an error. If it panics on an item that is to be
/// replayed, the new subscriber gets an error item of kind [`Panicked`](crate::ErrorKind::Panicked) instead of the replay. If the input was cut, so
/// are all streams.
///
/// # Ending
/// The end of the input ends all streams. A subscriber that joins after it receives the replayed items and then the
/// end. When all hubs and all streams have been dropped, the stage stops, and so does everything upstream. So drop the
/// hub when no more subscribers will join.
///
/// # Cancellation
/// All streams are cut. Items that were sent and not read are counted as undelivered.
///
/// # Memory
/// Each subscriber's stream holds up to its [buffer size](Self::with_buffer_size), and the stage what it replays. The report
/// has one row for the outputs to all subscribers.
///
/// # Source
/// What a subscriber may miss, and how it learns of it, follows `tokio::sync::broadcast` (`Lagged`); `with_replay` is Reactor's `replay(n)`.
#[must_use = "it does nothing until it is given a stream"]
#[doc(alias("publish", "multicast", "share", "replay", "topic", "subject", "pubsub", "fan_out", "tee"))]
pub struct Broadcast<T> {
    options: Options,
    settings: Settings,
    types: PhantomData<fn(T)>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settings {
    pub(super) buffer: Option<usize>,
    pub(super) replay: usize,
    pub(super) slow: SlowSubscriber,
    pub(super) no_subscriber: NoSubscriber,
}

/// Selects what a [`Broadcast`] does when the stream of a subscriber is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SlowSubscriber {
    /// Waits for room, and so do the other subscribers.
    #[default]
    Block,
    /// Evicts the oldest items in the stream, and puts an error item of kind [`Failed`](crate::ErrorKind::Failed) in
    /// their place, whose source is [`Lagged`](crate::Lagged) and says how many are missing. Each item that is dropped
    /// is counted as undelivered in the report, and as processed by [delivery](crate::delivery). Error items are not evicted:
    /// if they fill the stream, the stage waits.
    DropOldest,
    /// Cuts the stream behind what is in it: its last error is of kind [`Cancelled`](crate::ErrorKind::Cancelled), from
    /// [`TooSlow`](crate::TooSlow). The outcome of the pipeline does not change. The buffer is what a subscriber may lag behind;
    /// with a buffer of 0 it is cut unless it waits at that moment. With [delivery](crate::delivery), the record for which
    /// there was no room is redelivered.
    Disconnect,
}

/// Selects what a [`Broadcast`] does with items that arrive before the first subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum NoSubscriber {
    /// Waits for the first subscriber, holding one item.
    #[default]
    Wait,
    /// Drops the items, and counts them as [undeliverable](crate::DropReason::Undeliverable). Those to be
    /// [replayed](Broadcast::with_replay) are kept all the same.
    Discard,
}

impl<T: Clone + Send + 'static> Broadcast<T> {
    /// Creates a broadcast to any number of subscribers. Default name: `broadcast`.
    #[allow(clippy::new_without_default)] // `default` would not say what of
    pub fn new() -> Self {
        Self { options: Options::new("broadcast"), settings: Settings::default(), types: PhantomData }
    }

    common_options! {
        with_name: options.name,
        /// Sets how many items may wait in the stream of each subscriber. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity). There is extra room for [replayed](Self::with_replay) items, and with
        /// [`SlowSubscriber::DropOldest`] there is room for at least three.
        with_buffer_size(items): settings.buffer,
    }

    /// Sets how many earlier items a new subscriber receives: the last `n`, or all if there were fewer. Defaults to 0.
    pub fn with_replay(mut self, n: usize) -> Self {
        self.settings.replay = n;
        self
    }

    /// Sets what to do when the stream of a subscriber is full. Defaults to [`SlowSubscriber::Block`].
    pub fn with_slow_subscriber(mut self, slow: SlowSubscriber) -> Self {
        self.settings.slow = slow;
        self
    }

    /// Sets what to do with items that arrive before the first subscriber. Defaults to [`NoSubscriber::Wait`].
    pub fn with_no_subscriber(mut self, no_subscriber: NoSubscriber) -> Self {
        self.settings.no_subscriber = no_subscriber;
        self
    }

    /// Returns the name of the stage in reports and errors.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Starts a run, and returns its hub. Streams of subscribers are in the scope of `cancel`.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, to one that has finished, or to another one than `input`.
    #[track_caller]
    pub fn process(&self, cancel: &CancelToken, input: Stream<T>) -> Hub<T> {
        let registered = Registered::with_input(cancel, &input, &self.options.name, StageKind::Processor, &[], 1);
        let shared = Shared::new(&registered, self.settings);
        let ways = Ways::new(&registered.stats, &shared);
        let hub = Hub::new(&shared);
        spawn_loop(registered, input, ways, Broadcaster::new(shared, self.settings));
        hub
    }
}

/// # One stream into several
impl<T: Clone + Send + 'static> Stream<T> {
    /// Sends every item to subscribers that may join at any time: a [`Broadcast`].
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn broadcast(self) -> Hub<T> {
        self.through_hub(&Broadcast::new())
    }

    /// Sends every item to subscribers that may join at any time, with the options of `broadcast`.
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn through_hub(self, broadcast: &Broadcast<T>) -> Hub<T> {
        let token = self.token().clone();
        broadcast.process(&token, self)
    }
}

opaque_debug! { [T] Broadcast<T>: options, settings }
