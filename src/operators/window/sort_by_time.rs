//! [`SortByTime`]: sorts slightly disordered items by their times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::clock::from_nanos;
use crate::error::{ErrorKind, StreamError};
use crate::operators::epochs::{Epoch, Epochs};
use crate::operators::options::{Options, common_options};
use crate::operators::window::time::{END, EventTime, NEVER, Nanos, TimeSource, time_options};
use crate::panic::Held;
use crate::stage::operator::{Emit, Operator};
use crate::stage::origins::Origins;

/// The number of items held, unless another is set.
const MAX_ITEMS: usize = 100_000;

/// Sorts items by their times, within an allowed lateness.
///
/// The time of an item is what a closure returns for it. An item is held until the *watermark*, the greatest time seen
/// less `allowed_lateness`, has reached its time. Then all items that may come before it have come, and it is emitted.
/// Items of the same time keep the order in which they came.
///
/// An item that is older than one that has been emitted cannot be put in its place any more. It becomes an error item
/// of kind [`Late`](crate::ErrorKind::Late) that carries it, with an [`OutOfOrder`] as its source; a
/// [`DeadLetterQueue`](crate::DeadLetterQueue) or [`Recover`](crate::Recover) can take it from there. So the items that
/// come out are always in order, and none is lost silently.
///
/// Each run begins with no items and no watermark. An item on which the closure panics becomes an error item that
/// carries it.
///
/// If the items come from several streams that were merged, each of them has a watermark of its own, and that of the
/// slowest counts: see [`FanIn`](crate::FanIn#event-time). Streams that are each in order are then put in order
/// together, however far apart they are, as long as there is room for the items that the slowest has not reached.
///
/// To sort the items of each window by something else, use the fold [`sorted_by`](crate::folds::sorted_by). To merge
/// several streams that are sorted already, no delay is needed.
///
/// # Ordering
/// Items come in the order of their times. Error items pass at once, and so overtake items that are held.
///
/// # Back-pressure
/// While the output is full, no input is taken and no item is emitted. Items that are due are emitted as soon as there
/// is room.
///
/// # Cancellation
/// The items that are held are dropped, and counted as abandoned. At the end of the input, or when the pipeline is
/// drained, they are emitted in order.
///
/// # Memory
/// At most [`max_items`](Self::with_max_items) items, with some 60 bytes for each, and those in the output. An item
/// costs the logarithm of their number.
///
/// # Source
/// The rule of the watermark is that of the windows, with a heap-like buffer in front of the output, as Flink's
/// event-time sort does it per key.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use streamz::{Pipeline, SortByTime, Stream};
///
/// let in_order = SortByTime::new(
///     |second: &u64| SystemTime::UNIX_EPOCH + Duration::from_secs(*second),
///     Duration::from_secs(5),
/// );
/// let pipeline = Pipeline::new("events");
/// let sorted = Stream::from_iter(&pipeline, [3, 1, 2, 9, 8, 4])
///     .through(&in_order)
///     .collect::<Vec<_>>()?;
/// assert_eq!(sorted, [1, 2, 3, 4, 8, 9]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("reorder", "reorder_buffer", "sort", "event_time_sort", "sort_within", "resequence"))]
pub struct SortByTime<T, F> {
    time: EventTime<F>,
    max_items: usize,
    options: Options,
    types: std::marker::PhantomData<fn(T)>,
}

/// Reports how late an item arrived at a [`SortByTime`]; the source of an error of kind
/// [`Late`](crate::ErrorKind::Late).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{by:?} older than an item that was emitted before it")]
pub struct OutOfOrder {
    /// The time by which the item is older than the last one that was emitted.
    pub by: Duration,
}

impl<T, F> SortByTime<T, F>
where
    F: Fn(&T) -> SystemTime + Send + Sync + 'static,
{
    /// Sorts items by the time that `time` returns; each may arrive up to `allowed_lateness` after a younger one.
    /// Default name: `sort_by_time`.
    ///
    /// With an `allowed_lateness` of zero no item is held: every one that is older than the one before it is late. With
    /// a very long one, everything is sorted at the end, or as much as there is room for.
    ///
    /// # Panics
    /// If `allowed_lateness` is more than 10,000 years.
    #[track_caller]
    pub fn new(time: F, allowed_lateness: Duration) -> Self {
        let time = EventTime::new(time, allowed_lateness);
        Self { time, max_items: MAX_ITEMS, options: Options::new("sort_by_time"), types: std::marker::PhantomData }
    }
}

impl<T, F> SortByTime<T, F> {
    common_options!();

    /// Sets the greatest number of items held. Defaults to 100,000. When there would be more, the oldest is emitted
    /// before the watermark has reached it; an item that is older and comes after that is late. With `usize::MAX` there
    /// is no bound: memory then grows with the number of items within the allowed lateness.
    ///
    /// # Panics
    /// If `max_items` is 0.
    #[track_caller]
    pub fn with_max_items(mut self, max_items: usize) -> Self {
        assert!(max_items > 0, "`max_items` must be at least 1");
        self.max_items = max_items;
        self
    }

    time_options! {
        /// Emits all that is held when no item has come for `idle_timeout`, by the pipeline's clock. Defaults to never,
        /// as does `Duration::MAX`: then the last items of a stream that pauses wait for the next ones. While the
        /// output is full, no input is taken, and the timeout does not run; it starts again when there is room.
    }
}

impl<T, F> crate::Processor for SortByTime<T, F>
where
    T: Send + 'static,
    F: Fn(&T) -> SystemTime + Send + Sync + 'static,
{
    type In = T;
    type Out = T;

    #[track_caller]
    fn process(&self, cancel: &crate::CancelToken, input: crate::Stream<T>) -> crate::Stream<T> {
        crate::stream::start::launch(self, cancel, input)
    }

    fn name(&self) -> &str {
        &self.options.name
    }
}

impl<T, F> crate::Stage for SortByTime<T, F>
where
    T: Send + 'static,
    F: Fn(&T) -> SystemTime + Send + Sync + 'static,
{
    type Op = SortByTimeOperator<T, EventTime<F>>;

    fn start(&self) -> Self::Op {
        SortByTimeOperator {
            time: self.time.clone(),
            max_items: self.max_items,
            held: Held::default(),
            epochs: Epochs::new(),
            arrived: 0,
            limit: Nanos::MIN,
            last: Nanos::MIN,
        }
    }

    fn capacity(&self) -> Option<usize> {
        self.options.capacity
    }
}

/// Runs a [`SortByTime`] as an [`Operator`].
pub struct SortByTimeOperator<T, S> {
    time: S,
    max_items: usize,
    /// By time, and in the order of arrival.
    held: Held<BTreeMap<(Nanos, u64), (T, Epoch)>>,
    epochs: Epochs,
    arrived: u64,
    /// Items up to this time must be emitted.
    limit: Nanos,
    /// The time of the last emitted item.
    last: Nanos,
}

impl<T, S> SortByTimeOperator<T, S>
where
    T: Send + 'static,
    S: TimeSource<T>,
{
    /// Emits due items, as far as there is room. Returns true if there is more.
    fn go_on(&mut self, out: &mut impl Emit<T>) -> bool {
        loop {
            let has_no_room = self.held.len() > self.max_items;
            let Some(entry) = self.held.first_entry().filter(|entry| has_no_room || entry.key().0 <= self.limit) else {
                break;
            };
            if out.is_full() {
                return true;
            }
            let ((time, _), (item, _)) = entry.remove_entry();
            self.last = time;
            out.emit(item);
        }
        self.time.set_due(if self.held.is_empty() { NEVER } else { END });
        false
    }
}

impl<T, S> Operator for SortByTimeOperator<T, S>
where
    T: Send + 'static,
    S: TimeSource<T>,
{
    type In = T;
    type Out = T;

    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        let time = match self.time.stamp(&item, out) {
            Ok(time) => time,
            Err(refused) => return refused.fail(item, out),
        };
        if time < self.last {
            let by = from_nanos((self.last - time) as u128);
            return out.fail(ErrorKind::Late, OutOfOrder { by }, item);
        }
        self.time.advance(time);
        self.time.accepted();
        self.limit = self.time.watermark();
        self.arrived += 1;
        self.held.insert((time, self.arrived), (item, self.epochs.present().clone()));
        self.go_on(out);
    }

    /// Silence.
    fn timer(&mut self, now: Instant, out: &mut impl Emit<T>) {
        self.limit = self.time.rung(now);
        self.go_on(out);
    }

    fn end(&mut self, out: &mut impl Emit<T>) {
        self.limit = END;
        self.go_on(out);
    }

    fn resume(&mut self, out: &mut impl Emit<T>) -> bool {
        if self.go_on(out) {
            return true;
        }
        // Not before everything due has been sent: a mark must not pass an item that came before it.
        self.epochs.release(out);
        !self.time.listen(out)
    }

    fn attach(&mut self, origins: &Arc<Origins>) -> bool {
        self.time.attach(origins);
        false
    }

    fn take_mark(&mut self, mark: StreamError, out: &mut impl Emit<T>) -> Option<StreamError> {
        let Some(label) = mark.label() else { return self.epochs.end(mark) };
        mark.complete_mark();
        self.time.note(label, out);
        self.limit = self.time.watermark();
        self.go_on(out);
        None
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        self.time.wake()
    }

    #[inline]
    fn held(&self) -> u64 {
        self.held.len() as u64
    }
}

impl<T, F> std::fmt::Debug for SortByTime<T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SortByTime")
            .field("time", &self.time)
            .field("max_items", &self.max_items)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<T, S> std::fmt::Debug for SortByTimeOperator<T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SortByTimeOperator").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;

    /// A time in seconds, and a number.
    type Event = (u64, u32);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn sorted(lateness: u64) -> SortByTime<Event, fn(&Event) -> SystemTime> {
        let time: fn(&Event) -> SystemTime = |(second, _)| SystemTime::UNIX_EPOCH + seconds(*second);
        SortByTime::new(time, seconds(lateness))
    }

    #[test]
    fn items_wait_for_the_watermark_and_ties_keep_their_order() {
        let mut run = Harness::new(&sorted(5));
        for event in [(13, 0), (10, 1), (10, 2), (14, 3)] {
            run.item(event);
        }
        assert_eq!((run.items(), run.steps()[0].held()), (vec![], 4));
        run.item((15, 4));
        assert_eq!(run.items(), [(10, 1), (10, 2)]);
        run.item((18, 5));
        assert_eq!(run.items(), [(13, 0)]);
        run.end();
        assert_eq!(run.items(), [(14, 3), (15, 4), (18, 5)]);
    }

    #[test]
    fn an_item_older_than_an_emitted_one_is_late_and_no_other() {
        let mut run = Harness::new(&sorted(5));
        run.item((10, 0));
        run.item((20, 1));
        // Older than the watermark, and still in order.
        run.item((12, 2));
        run.item((11, 3));
        let outputs = run.outputs();
        assert_eq!(outputs[0].as_ref().unwrap(), &(10, 0));
        assert_eq!(outputs[1].as_ref().unwrap(), &(12, 2));
        let late = outputs[2].as_ref().unwrap_err();
        assert_eq!((late.kind(), late.downcast_ref()), (ErrorKind::Late, Some(&OutOfOrder { by: seconds(1) })));
        assert_eq!(late.take_item(), Some((11_u64, 3_u32)));
        let step = &run.steps()[0];
        assert_eq!((step.delivered, step.failed, step.held()), (2, 1, 1));
    }

    #[test]
    fn one_item_too_many_evicts_the_oldest_early() {
        let mut run = Harness::new(&sorted(1_000).with_max_items(2));
        [(3, 0), (1, 1), (2, 2)].into_iter().for_each(|event| run.item(event));
        assert_eq!(run.items(), [(1, 1)]);
        run.end();
        assert_eq!(run.items(), [(2, 2), (3, 0)]);
    }

    #[test]
    fn silence_emits_held_items() {
        let mut run = Harness::new(&sorted(1_000).with_idle_timeout(seconds(3)));
        [(3, 0), (1, 1)].into_iter().for_each(|event| run.item(event));
        run.advance(seconds(3) - Duration::from_nanos(1));
        assert!(run.items().is_empty());
        run.advance(Duration::from_nanos(1));
        assert_eq!(run.timed_items(), [(seconds(3), (1, 1)), (seconds(3), (3, 0))]);
        assert_eq!(run.next_wake(), None);
        run.item((2, 2));
        assert_eq!(run.outputs()[0].as_ref().unwrap_err().kind(), ErrorKind::Late);
    }

    #[test]
    fn due_items_wait_for_room_in_order() {
        let mut run = Harness::new(&sorted(5)).with_capacity(1);
        [(2, 0), (1, 1), (3, 2), (99, 3)].into_iter().for_each(|event| run.item(event));
        let seen: Vec<_> = (0..3).flat_map(|_| run.items()).collect();
        assert_eq!(seen, [(1, 1), (2, 0), (3, 2)]);
    }

    #[test]
    fn errors_pass_at_once_and_a_panic_fails_its_item_alone() {
        let mut run = Harness::new(&SortByTime::new(
            |second: &u64| {
                assert!(*second != 13, "thirteen");
                SystemTime::UNIX_EPOCH + seconds(*second)
            },
            seconds(5),
        ));
        run.item(12);
        run.error(StreamError::new(ErrorKind::Failed, "before"));
        run.item(13);
        let outputs = run.outputs();
        assert_eq!(outputs.len(), 2);
        assert_eq!(outputs[1].as_ref().unwrap_err().take_item(), Some(13_u64));
        run.end();
        assert_eq!(run.items(), [12]);
    }

    #[test]
    fn agrees_with_the_simple_implementation_on_random_input() {
        for seed in 0..300 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let (lateness, most, room) = (rng.u64(..20), rng.usize(1..30), rng.usize(1..4));
            let mut run = Harness::new(&sorted(lateness).with_max_items(most)).with_capacity(room);
            // The simple implementation: a list that is sorted each time.
            let mut held: Vec<Event> = Vec::new();
            let (mut expected, mut late, mut greatest, mut last) = (Vec::new(), 0, 0, 0);
            let mut seen = Vec::new();
            for number in 0..200 {
                let event = (100 + u64::from(number) + rng.u64(..30), number);
                run.item(event);
                while let Some(some) = Some(run.outputs()).filter(|some| !some.is_empty()) {
                    seen.extend(some.into_iter().flatten());
                }
                if event.0 < last {
                    late += 1;
                    continue;
                }
                greatest = event.0.max(greatest);
                held.push(event);
                held.sort_by_key(|(time, _)| *time);
                while held.first().is_some_and(|(time, _)| time + lateness <= greatest || held.len() > most) {
                    last = held[0].0;
                    expected.push(held.remove(0));
                }
            }
            run.end();
            while let Some(some) = Some(run.items()).filter(|some| !some.is_empty()) {
                seen.extend(some);
            }
            expected.extend(held);
            assert_eq!((seen, run.steps()[0].failed), (expected, late), "seed {seed}");
        }
    }

    #[test]
    #[should_panic(expected = "`max_items` must be at least 1")]
    fn no_room_at_all_is_refused() {
        let _ = sorted(1).with_max_items(0);
    }
}
