//! [`SlidingBuffer`]: evicts the oldest item when full.
//!
//! The output's edge is the buffer, and an eager one: items that the consumer has not asked for are in its queue, under
//! its lock. Checking for room, finding the oldest item and replacing it is one critical section. So the consumer
//! cannot take the oldest in between, which would evict one too many, and the stage never waits for room that exists.
//! The stage waits for room only with an error item in hand.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::hook::{DropHook, OnDrop};
use crate::clock::wait::Wake;
use crate::edge::{EdgeSender, End, Gauge, Refused};
use crate::error::{Result, StreamError};
use crate::operators::options::{common_options, opaque_debug};
use crate::panic::{Held, guard_drop};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::{DropReason, StageKind, StageStats, StepStats};
use crate::pipeline::timing::Phase;
use crate::stage::own_loop::{Desk, Way, Work};
use crate::stage::thread::StageThread;
use crate::stream::Processor;
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_loop};

/// Buffers up to `n` items for a slow consumer, and evicts the oldest item when it is full.
///
/// The stage before it never waits for the consumer, which always finds the latest items. Its own output is the buffer,
/// so the number is exact: while the consumer takes nothing, the last `n` items are kept and no others. Dropped items
/// are counted as [overflow](DropReason::Overflow), and shown to [`on_drop`](Self::on_drop). An item that is evicted by an
/// error item is counted as [undelivered](crate::OutputReport::undelivered) instead. With `n` = 1 it keeps the latest item.
/// To keep the oldest items, use a [`DroppingBuffer`](crate::DroppingBuffer); to drop nothing, a [`Buffer`](crate::Buffer).
///
/// It is a stage with a thread of its own, and cannot be fused: where the consumer shares its thread there is nothing
/// to buffer. (A `Buffer` behind it adds to its capacity, and a stage behind it with its own queue size replaces it.)
///
/// # Ordering
/// The order is kept.
///
/// # Back-pressure
/// None for items. An error item is never dropped: if there is no room, it evicts the oldest item. If the buffer holds
/// only errors, another error waits for room, and no input is taken while it does; a new item is then the oldest item,
/// and is dropped itself.
///
/// # Cancellation
/// Items that wait in the buffer are counted as undelivered.
///
/// # Memory
/// `n` items, error items included.
///
/// ```
/// use streamz::{ManualClock, Pipeline, SlidingBuffer, Stream};
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("live").clock(&clock).build();
/// let kept = Stream::from_iter(&pipeline, 1..=100).through(&SlidingBuffer::new(3));
/// clock.settle(); // nothing has been read yet
/// assert_eq!(kept.collect::<Vec<_>>()?, [98, 99, 100]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("drop_oldest", "ring_buffer", "conflate", "latest"))]
pub struct SlidingBuffer<T> {
    n: usize,
    name: Cow<'static, str>,
    on_drop: Option<OnDrop<T>>,
}

impl<T> SlidingBuffer<T> {
    /// Creates a buffer of `n` items. Default name: `sliding_buffer`.
    ///
    /// # Panics
    /// If `n` is 0.
    #[track_caller]
    pub fn new(n: usize) -> Self {
        assert!(n > 0, "`n` must be at least 1");
        Self { n, name: "sliding_buffer".into(), on_drop: None }
    }

    common_options! { with_name: name }

    /// Calls `f` with each item that is dropped, on the stage's thread: while `f` runs, no input is taken. A panic in
    /// `f` is logged and otherwise ignored.
    pub fn on_drop(mut self, f: impl Fn(T) + Send + Sync + 'static) -> Self {
        self.on_drop = Some(Arc::new(f));
        self
    }
}

impl<T: Send + 'static> Processor for SlidingBuffer<T> {
    type In = T;
    type Out = T;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<T>) -> Stream<T> {
        let registered = Registered::with_input(cancel, &input, &self.name, StageKind::Processor, &[], 1);
        let (sender, stream) = registered.output_with("", Some(self.n), true);
        let slot = Slot { sender, stuck: Held::default(), stats: Arc::clone(&registered.stats) };
        spawn_loop(registered, input, vec![slot], Slider { hook: DropHook::new(self.on_drop.as_ref()) });
        stream
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Buffers up to `n` items, and evicts the oldest item when it is full: a [`SlidingBuffer`].
    ///
    /// # Panics
    /// If `n` is 0, or the pipeline has finished.
    #[track_caller]
    pub fn sliding_buffer(self, n: usize) -> Self {
        self.through_once(SlidingBuffer::new(n))
    }
}

/// The output. Nothing is open in it but an error item that has found only errors.
struct Slot<T> {
    sender: EdgeSender<T>,
    stuck: Held<Option<StreamError>>,
    stats: Arc<StageStats>,
}

impl<T> Slot<T> {
    /// Inserts the item, and returns the one evicted for it: the oldest item, or itself.
    fn offer(&mut self, item: Result<T>) -> Option<T> {
        let (step, edge, is_data) = (&self.stats.steps[0], self.sender.shared(), item.is_ok());
        match edge.offer_in_place_of_oldest(item, |displaces| count(step, edge.gauge(), is_data, displaces)) {
            Ok(oldest) => oldest,
            Err((Refused::Full, Ok(item))) => {
                step.dropped[DropReason::Overflow as usize].add(1);
                Some(item)
            }
            Err((Refused::Full, Err(error))) => {
                *self.stuck = Some(error);
                None
            }
            // The consumer has left, and the stage stops.
            Err((Refused::Closed, item)) => {
                guard_drop(item);
                None
            }
        }
    }
}

impl<T> Way for Slot<T> {
    fn start(&mut self, thread: &StageThread) {
        self.sender.watch(thread.wake());
    }

    fn is_gone(&self) -> bool {
        self.sender.is_gone()
    }

    fn hand_over(&mut self) {
        if let Some(error) = self.stuck.take() {
            // While it waited nothing was inserted, so the only possible candidates are errors.
            let displaced = self.offer(Err(error));
            debug_assert!(displaced.is_none());
        }
    }

    /// The edge is eager: every inserted item is handed over.
    fn hand_over_if_hungry(&mut self) -> bool {
        false
    }

    fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    fn may_have_room(&self) -> bool {
        self.sender.may_have_room()
    }

    fn want_room(&self, wake: &Arc<Wake>) -> bool {
        self.sender.want_room(wake)
    }

    /// The stage has no other output, and its own account has the same times.
    fn note_wait(&self, _phase: Phase, _now: Instant) {}

    /// An error item that is stuck has found room before anything else arrives.
    fn put_mark(&mut self, mark: StreamError) {
        self.sender.put_mark(mark);
    }

    fn end(&mut self, end: End) {
        self.sender.end(end);
    }
}

struct Slider<T> {
    hook: DropHook<T>,
}

impl<T: Send + 'static> Slider<T> {
    fn offer(&mut self, item: Result<T>, desk: &Desk<Vec<Slot<T>>>) {
        let dropped = desk.ways()[0].offer(item);
        // The loop waits for a stuck error before it continues.
        desk.pushed(desk.ways()[0].is_stuck());
        if let Some(dropped) = dropped {
            self.hook.call(dropped, &desk.thread.stats.name);
        }
    }
}

impl<T: Send + 'static> Work for Slider<T> {
    type Item = T;
    type Ways = Vec<Slot<T>>;

    fn item(&mut self, item: T, desk: &Desk<Self::Ways>) {
        self.offer(Ok(item), desk);
    }

    fn error(&mut self, error: StreamError, desk: &Desk<Self::Ways>) {
        self.offer(Err(error), desk);
    }
}

/// Called under the edge's lock, so that no item is visible before it is counted. No counter falls: the item that was evicted
/// stays counted as emitted, in place of the one that evicts it; if that is an error item, it is undelivered.
fn count(step: &StepStats, gauge: &Gauge, is_data: bool, displaces: bool) {
    match (is_data, displaces) {
        (true, true) => step.dropped[DropReason::Overflow as usize].add(1),
        (true, false) => {
            step.delivered.add(1);
            step.emitted.add(1);
        }
        (false, _) => {
            gauge.undelivered.fetch_add(u64::from(displaces), Ordering::Relaxed);
            step.errors_out.add(1);
        }
    }
}

opaque_debug! { [T] SlidingBuffer<T>: n, name }

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::{Buffer, ErrorKind, ManualClock, Pipeline, StreamError};

    fn error() -> StreamError {
        StreamError::new(ErrorKind::Failed, "before")
    }

    /// The number of items left of a thousand without a consumer, and the report's count of dropped ones.
    fn kept(build: impl FnOnce(Stream<u32>) -> Stream<u32>, manual: bool) -> (Vec<u32>, u64) {
        let clock = ManualClock::new();
        let builder = Pipeline::builder("kept").capacity(16);
        let pipeline = if manual { builder.clock(&clock) } else { builder }.build();
        let stream = build(Stream::from_iter(&pipeline, 0..1_000));
        while pipeline.threads() > 0 {
            std::thread::yield_now(); // its end does not depend on a reader
        }
        let kept: Vec<u32> = stream.collect().unwrap();
        let report = pipeline.join();
        let steps = &report.stages[1].steps[0];
        assert!(steps.balances());
        assert_eq!(steps.emitted, kept.len() as u64);
        (kept, steps.total_dropped())
    }

    #[test]
    fn with_no_consumer_exactly_the_last_n_are_kept() {
        for manual in [true, false] {
            for n in [1, 2, 16, 17, 64, 300, 999, 1_000] {
                let (kept, dropped) = kept(|stream| stream.sliding_buffer(n as usize), manual);
                assert_eq!((kept, dropped), ((1_000 - n..1_000).collect(), u64::from(1_000 - n)), "{n}, {manual}");
            }
        }
    }

    #[test]
    fn a_buffer_behind_it_adds_to_its_room() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("both").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 20);
        let stream = stream.sliding_buffer(5).through(&Buffer::new(3));
        (0..20).for_each(|n| sender.send(n).unwrap());
        clock.settle();
        drop(sender);
        assert_eq!(stream.collect::<Vec<_>>().unwrap(), (12..20).collect::<Vec<_>>());
    }

    /// The consumer takes items while the stage pushes, with room for one: whichever comes first, neither blocks, and
    /// every item is accounted for.
    #[test]
    fn a_consumer_that_drains_it_at_any_moment_blocks_no_sender() {
        for round in 0..20 {
            let pipeline = Pipeline::builder("race").capacity(round % 3).build();
            let dropped = Arc::new(Mutex::new(Vec::new()));
            let notes = Arc::clone(&dropped);
            let buffer = SlidingBuffer::new(1 + round % 2).on_drop(move |n| notes.lock().push(n));
            let mut seen = Stream::from_iter(&pipeline, 0..2_000).through(&buffer).collect::<Vec<_>>().unwrap();
            assert!(seen.is_sorted());
            assert_eq!(seen.last(), Some(&1_999));
            pipeline.join();
            seen.append(&mut dropped.lock());
            seen.sort_unstable();
            assert_eq!(seen, (0..2_000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_item_evicts_the_oldest_item_and_is_never_evicted() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("errors").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 20);
        let dropped = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&dropped);
        let buffer = SlidingBuffer::new(3).on_drop(move |n| {
            notes.lock().push(n);
            panic!("the hook");
        });
        let mut stream = stream.through(&buffer);
        let mut next = |wait| {
            clock.settle();
            if wait { stream.recv().unwrap().ok() } else { stream.try_recv().ok().and_then(Result::ok) }
        };
        (0..2).for_each(|n| sender.send(n).unwrap());
        sender.send_error(error()).unwrap();
        (2..4).for_each(|n| sender.send(n).unwrap());
        // The error is the oldest entry, and stays.
        assert_eq!((next(true), next(true), next(true), next(false)), (None, Some(2), Some(3), None));
        assert_eq!(*dropped.lock(), [0, 1]);
        // Only errors: an item is evicted, an error waits.
        (0..3).for_each(|_| sender.send_error(error()).unwrap());
        sender.send(4).unwrap();
        sender.send_error(error()).unwrap();
        sender.send(5).unwrap();
        clock.settle();
        assert_eq!(*dropped.lock(), [0, 1, 4]);
        assert_eq!(next(true), None);
        clock.settle();
        // The error that waited has taken the place, and the item behind it has found none.
        assert_eq!(*dropped.lock(), [0, 1, 4, 5]);
        assert_eq!((next(true), next(true), next(true)), (None, None, None));
        drop(sender);
        clock.settle();
        let report = pipeline.join();
        let step = &report.stage("sliding_buffer").unwrap().steps[0];
        assert_eq!((step.received, step.delivered, step.emitted, step.errors_in, step.errors_out), (6, 2, 2, 5, 5));
    }

    #[test]
    fn no_counter_falls_whatever_is_evicted() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("counters").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 64);
        let mut stream = stream.sliding_buffer(3);
        let counts = |report: &crate::Report| {
            let row = report.stage("sliding_buffer").unwrap();
            let step = &row.steps[0];
            assert!(step.balances(), "{step:?}");
            let output = &row.outputs[0];
            let counts = [step.received, step.delivered, step.emitted, step.total_dropped(), step.errors_out];
            (counts, output.undelivered, output.queued as u64)
        };
        let (mut before, mut taken) = ([0; 5], 0);
        let mut rng = fastrand::Rng::with_seed(7);
        for n in 0..300_u32 {
            // Fewer errors than are taken, or the stage would wait.
            match rng.u32(..6) {
                0..3 => sender.send(n).unwrap(),
                3 => sender.send_error(error()).unwrap(),
                _ => taken += u64::from(stream.try_recv().is_ok_and(|item| item.is_ok())),
            }
            clock.settle();
            let (now, undelivered, queued) = counts(&pipeline.report());
            assert!(now.iter().zip(&before).all(|(now, before)| now >= before), "{before:?}, then {now:?}");
            // Errors that wait are among those queued.
            assert!((taken + undelivered..=taken + undelivered + queued).contains(&now[2]), "{now:?}");
            before = now;
        }
        drop(sender);
        taken += stream.into_iter().filter(std::result::Result::is_ok).count() as u64;
        let (now, undelivered, _) = counts(&pipeline.join());
        assert_eq!(now[2], taken + undelivered);
        assert_eq!(now[0], taken + undelivered + now[3]);
        assert!(undelivered > 0 && now[3] > 0, "{now:?}");
    }

    #[test]
    fn a_cancel_ends_the_wait_of_an_error_item() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("cancelled").clock(&clock).build();
        let (sender, stream) = Stream::<u8>::channel(&pipeline, 20);
        let stream = stream.sliding_buffer(1);
        (0..3).for_each(|_| sender.send_error(error()).unwrap());
        clock.settle();
        assert_eq!(pipeline.threads(), 1);
        pipeline.cancel();
        clock.settle();
        assert_eq!(pipeline.threads(), 0);
        assert!(stream.into_iter().last().unwrap().unwrap_err().is_cancelled());
    }

    #[test]
    #[should_panic(expected = "`n` must be at least 1")]
    fn no_room_is_refused() {
        let _ = SlidingBuffer::<u8>::new(0);
    }
}
