//! [`DroppingBuffer`]: drops new items when full.

use std::borrow::Cow;
use std::sync::Arc;

use super::hook::{DropHook, OnDrop};
use crate::operators::options::{common_options, opaque_debug};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::{DropReason, StageKind};
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};
use crate::stream::Processor;
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_driver};

/// Buffers up to `n` items for a slow consumer, and drops new items while it is full.
///
/// The stage before it never waits for the consumer. Its own output is the buffer, so the number is exact: while the
/// consumer takes nothing, the first `n` items are kept and no others. Dropped items are counted as
/// [overflow](DropReason::Overflow), and shown to [`on_drop`](Self::on_drop). To keep the newest items, use a
/// [`SlidingBuffer`](crate::SlidingBuffer); to drop nothing, a [`Buffer`](crate::Buffer).
///
/// It is a stage with a thread of its own, and cannot be fused: where the consumer shares its thread there is nothing
/// to buffer. (A `Buffer` behind it adds to its capacity, and a stage behind it with its own queue size replaces it.)
///
/// # Ordering
/// The order is kept.
///
/// # Back-pressure
/// None for items. An error item is never dropped: if there is no room, it waits, and no input is taken while it does.
/// The items that have queued up by then are dropped or kept, depending on the room.
///
/// # Cancellation
/// Items that wait in the buffer are counted as undelivered.
///
/// # Memory
/// `n` items, error items included.
///
/// ```
/// use streamz::{DroppingBuffer, ManualClock, Pipeline, Stream};
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("live").clock(&clock).build();
/// let kept = Stream::from_iter(&pipeline, 1..=100).through(&DroppingBuffer::new(3));
/// clock.settle(); // nothing has been read yet
/// assert_eq!(kept.collect::<Vec<_>>()?, [1, 2, 3]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("drop_newest", "load_shedding", "onBackpressureDrop"))]
pub struct DroppingBuffer<T> {
    n: usize,
    name: Cow<'static, str>,
    on_drop: Option<OnDrop<T>>,
}

impl<T> DroppingBuffer<T> {
    /// Creates a buffer of `n` items; with 0, an item is forwarded only if the consumer is waiting for one at that
    /// moment. Default name: `dropping_buffer`.
    pub fn new(n: usize) -> Self {
        Self { n, name: "dropping_buffer".into(), on_drop: None }
    }

    common_options! { with_name: name }

    /// Calls `f` with each item that is dropped, on the stage's thread: while `f` runs, no input is taken. A panic in
    /// `f` is logged and otherwise ignored.
    pub fn on_drop(mut self, f: impl Fn(T) + Send + Sync + 'static) -> Self {
        self.on_drop = Some(Arc::new(f));
        self
    }
}

impl<T: Send + 'static> Processor for DroppingBuffer<T> {
    type In = T;
    type Out = T;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<T>) -> Stream<T> {
        let registered = Registered::with_input(cancel, &input, &self.name, StageKind::Processor, &[], 1);
        let operator = DropNewest { hook: DropHook::new(self.on_drop.as_ref()) };
        spawn_driver(registered, Some(self.n), operator, input.into_input())
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Buffers up to `n` items, and drops new items while it is full: a [`DroppingBuffer`].
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn dropping_buffer(self, n: usize) -> Self {
        self.through_once(DroppingBuffer::new(n))
    }
}

struct DropNewest<T> {
    hook: DropHook<T>,
}

impl<T: Send + 'static> Operator for DropNewest<T> {
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::KEEPS_ORIGINS;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        if out.is_full() {
            self.hook.call(item, &out.context().stats.name);
            out.dropped(DropReason::Overflow, 1);
        } else {
            out.emit(item);
        }
    }
}

opaque_debug! { [T] DroppingBuffer<T>: n, name }

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::{Buffer, ErrorKind, ManualClock, Pipeline, StreamError};

    /// The number of items left of a thousand without a consumer, and the report's count of dropped ones.
    fn kept(build: impl FnOnce(Stream<u32>) -> Stream<u32>, manual: bool) -> (Vec<u32>, u64) {
        let clock = ManualClock::new();
        let builder = Pipeline::builder("kept").capacity(16);
        let pipeline = if manual { builder.clock(&clock) } else { builder }.build();
        let stream = build(Stream::from_iter(&pipeline, 0..1_000));
        while pipeline.threads() > 0 {
            std::thread::yield_now(); // its end does not depend on a reader
        }
        let kept = stream.collect().unwrap();
        let report = pipeline.join();
        let steps = &report.stages[1].steps[0];
        assert!(steps.balances());
        (kept, steps.total_dropped())
    }

    #[test]
    fn with_no_consumer_exactly_the_first_n_are_kept() {
        for manual in [true, false] {
            for n in [1, 2, 16, 17, 64, 300, 999, 1_000] {
                let (kept, dropped) = kept(|stream| stream.dropping_buffer(n as usize), manual);
                assert_eq!((kept, dropped), ((0..n).collect(), u64::from(1_000 - n)), "{n}, {manual}");
            }
        }
    }

    #[test]
    fn a_buffer_behind_it_adds_to_its_room() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("both").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 20);
        let stream = stream.dropping_buffer(5).through(&Buffer::new(3));
        (0..20).for_each(|n| sender.send(n).unwrap());
        clock.settle();
        drop(sender);
        assert_eq!(stream.collect::<Vec<_>>().unwrap(), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn without_room_an_item_passes_if_the_consumer_waits_for_it() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("direct").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 4);
        let mut stream = stream.dropping_buffer(0);
        sender.send(1).unwrap();
        clock.settle();
        assert!(stream.try_recv().is_err()); // it waits now
        sender.send(2).unwrap();
        sender.send(3).unwrap();
        clock.settle();
        assert_eq!(stream.recv().unwrap().unwrap(), 2);
        drop(sender);
        assert!(stream.recv().is_none());
        assert_eq!(pipeline.join().stage("dropping_buffer").unwrap().removed(), 2);
    }

    #[test]
    fn an_error_item_waits_for_room_and_later_items_behind_it() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("errors").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 10);
        let dropped = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&dropped);
        let mut stream = stream.through(&DroppingBuffer::new(2).on_drop(move |n| {
            notes.lock().push(n);
            panic!("the hook");
        }));
        (0..3).for_each(|n| sender.send(n).unwrap());
        sender.send_error(StreamError::new(ErrorKind::Failed, "before")).unwrap();
        (3..6).for_each(|n| sender.send(n).unwrap());
        clock.settle();
        assert_eq!(*dropped.lock(), [2]);
        assert_eq!(stream.recv().unwrap().unwrap(), 0);
        clock.settle();
        // The error has taken the room.
        assert_eq!(*dropped.lock(), [2, 3, 4, 5]);
        assert_eq!(stream.recv().unwrap().unwrap(), 1);
        sender.send(6).unwrap();
        sender.send(7).unwrap();
        clock.settle();
        drop(sender);
        assert_eq!(stream.into_iter().map(Result::ok).collect::<Vec<_>>(), [None, Some(6)]);
        assert_eq!(*dropped.lock(), [2, 3, 4, 5, 7]);
    }
}
