//! [`Delay`]: delays everything by a fixed time.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::error::{Result, StreamError};
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::panic::Held;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// The number of items held, unless another is set.
const MAX_ITEMS: usize = 1_024;

/// Delays everything, error items included, by a fixed time.
///
/// The time counts from the moment at which the stage takes an item, so gaps between items stay as they are. Error
/// items are delayed like items, so that they keep their place. When the input ends, the output ends after the delay of
/// the last item. A drain does not wait: held items are emitted at once, and so are those that follow.
///
/// # Ordering
/// The order is kept.
///
/// # Back-pressure
/// While it holds [`max_items`](Self::with_max_items) items, it takes no more, and the gap before the next one grows.
/// So the rate that it can sustain is `max_items` in the time of the delay.
///
/// # Cancellation
/// Ends the wait at once; the items it holds are counted as abandoned.
///
/// # Memory
/// `max_items` items, error items included, and the output's capacity.
///
/// ```
/// use std::time::Duration;
/// use streamz::testing::Harness;
/// use streamz::Delay;
///
/// let mut delay = Harness::new(&Delay::new(Duration::from_secs(5)));
/// delay.item('a');
/// delay.advance(Duration::from_secs(2));
/// delay.item('b');
/// delay.advance(Duration::from_secs(3));
/// assert_eq!(delay.items(), ['a']);
/// delay.advance(Duration::from_secs(2));
/// assert_eq!(delay.items(), ['b']);
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("shift", "postpone"))]
pub struct Delay<T> {
    by: Duration,
    max_items: usize,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T> Delay<T> {
    /// Delays everything by `by`. Zero changes nothing; a duration too large to add, such as `Duration::MAX`, holds
    /// everything until a drain. Default name: `delay`.
    pub fn new(by: Duration) -> Self {
        Self { by, max_items: MAX_ITEMS, options: Options::new("delay"), types: PhantomData }
    }

    common_options!();

    /// Sets the greatest number of items held, error items included. Defaults to 1,024. With 1, each item waits alone.
    ///
    /// # Panics
    /// If `max_items` is 0.
    #[track_caller]
    pub fn with_max_items(mut self, max_items: usize) -> Self {
        assert!(max_items > 0, "`max_items` must be at least 1");
        self.max_items = max_items;
        self
    }

    fn operator(&self) -> DelayOperator<T> {
        DelayOperator {
            by: self.by,
            max_items: self.max_items,
            held: Held::default(),
            items: 0,
            marks: 0,
            drained: false,
            ended: false,
        }
    }
}

stage! {
    [T] Delay<T> where { T: Send + 'static }
    T => T, DelayOperator<T>
}

/// Runs a [`Delay`] as an [`Operator`].
pub struct DelayOperator<T> {
    by: Duration,
    max_items: usize,
    /// Oldest first, each with its time; `None` for never.
    held: Held<VecDeque<(Option<Instant>, Result<T>)>>,
    /// How many of them are items, not error items.
    items: u64,
    /// The number of marks, which count towards no limit.
    marks: usize,
    drained: bool,
    ended: bool,
}

impl<T: Send + 'static> DelayOperator<T> {
    fn hold(&mut self, item: Result<T>, out: &mut impl Emit<T>) {
        let now = out.now();
        let due = if self.drained { Some(now) } else { now.checked_add(self.by) };
        self.items += u64::from(item.is_ok());
        self.held.push_back((due, item));
    }
}

impl<T: Send + 'static> Operator for DelayOperator<T> {
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::KEEPS_ORIGINS;

    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        self.hold(Ok(item), out);
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<T>) {
        self.hold(Err(error), out);
    }

    /// One per call, so that at most one waits for room in the output.
    fn timer(&mut self, _now: Instant, out: &mut impl Emit<T>) {
        match self.held.pop_front() {
            Some((_, Ok(item))) => {
                self.items -= 1;
                out.emit(item);
            }
            Some((_, Err(error))) => out.error(error),
            None => {}
        }
        while self.held.front().is_some_and(|(_, item)| matches!(item, Err(mark) if mark.is_mark())) {
            self.marks -= 1;
            self.held.pop_front().and_then(|(_, mark)| mark.err()).into_iter().for_each(|mark| out.put_mark(mark));
        }
    }

    /// Error items are held as well. A mark is forwarded together with the item before it.
    fn take_mark(&mut self, mark: StreamError, _out: &mut impl Emit<T>) -> Option<StreamError> {
        if self.held.is_empty() {
            return Some(mark);
        }
        self.marks += 1;
        self.held.push_back((None, Err(mark)));
        None
    }

    fn drain(&mut self, out: &mut impl Emit<T>) {
        self.drained = true;
        let now = out.now();
        self.held.iter_mut().for_each(|(due, _)| *due = Some(now));
    }

    fn end(&mut self, _out: &mut impl Emit<T>) {
        self.ended = true;
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        false
    }

    fn next_wake(&self) -> Option<Instant> {
        self.held.front().and_then(|(due, _)| *due)
    }

    fn is_waiting(&self) -> bool {
        self.held.len() - self.marks >= self.max_items || (self.ended && !self.held.is_empty())
    }

    fn held(&self) -> u64 {
        self.items
    }
}

shorthand! {
    /// Delays everything by `by`: a [`Delay`].
    pub fn delay(self, by: Duration) -> Delay<T> => Stream<T> {
        Delay::new(by)
    }
}

opaque_debug! { [T] Delay<T>: by, max_items, options }
opaque_debug! { [T] DelayOperator<T>: by, max_items, items }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, Inline, ManualClock, Pipeline, Stream};
    use parking_lot::Mutex;
    use std::sync::Arc;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn ns(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    /// The output of a pipeline for `input`, each item with its time in nanoseconds.
    fn outputs(delay: &Delay<char>, input: &[(u64, char)]) -> Vec<(u64, char)> {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("delay").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 100);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (notes, times) = (Arc::clone(&seen), clock.clone());
        stream.through(delay).spawn_for_each(move |item| {
            notes.lock().push((times.elapsed().as_nanos() as u64, item.unwrap()));
        });
        for &(at, item) in input {
            clock.advance(ns(at) - clock.elapsed());
            sender.send(item).unwrap();
        }
        drop(sender);
        clock.advance(Duration::from_secs(3600));
        assert!(pipeline.join().is_complete());
        std::mem::take(&mut *seen.lock())
    }

    #[test]
    fn every_item_is_delayed_exactly_even_after_the_input_ended() {
        let delay = Delay::new(ns(100));
        assert_eq!(
            outputs(&delay, &[(0, 'a'), (1, 'b'), (1, 'c'), (99, 'd'), (100, 'e'), (250, 'f')]),
            [(100, 'a'), (101, 'b'), (101, 'c'), (199, 'd'), (200, 'e'), (350, 'f')]
        );
    }

    #[test]
    fn a_full_delay_takes_the_next_item_once_the_oldest_leaves() {
        let delay = Delay::new(ns(100)).with_max_items(2);
        assert_eq!(
            outputs(&delay, &[(0, 'a'), (10, 'b'), (20, 'c'), (30, 'd'), (40, 'e')]),
            [(100, 'a'), (110, 'b'), (200, 'c'), (210, 'd'), (300, 'e')]
        );
    }

    #[test]
    fn zero_passes_everything_at_once() {
        let mut delay = Harness::new(&Delay::new(Duration::ZERO).with_max_items(1));
        (0..5).for_each(|n| delay.item(n));
        assert_eq!(delay.items(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_error_item_keeps_its_place_and_counts_towards_the_limit() {
        let mut delay = Harness::new(&Delay::new(ms(10)).with_max_items(2));
        delay.item(1);
        delay.error(StreamError::new(ErrorKind::Failed, "before"));
        delay.item(2);
        delay.advance(ms(9));
        assert!(delay.outputs().is_empty());
        delay.advance(ms(1));
        let outputs = delay.outputs();
        assert_eq!((outputs[0].as_ref().ok(), outputs[1].is_err(), outputs.len()), (Some(&1), true, 2));
        delay.end();
        delay.advance(ms(9));
        assert!(delay.outputs().is_empty());
        delay.advance(ms(1));
        assert_eq!(delay.items(), [2]);
        assert_eq!(delay.steps()[0].delivered, 2);
    }

    #[test]
    fn a_drain_waits_for_no_time_whenever_it_comes() {
        for ended in [false, true] {
            let clock = ManualClock::new();
            let pipeline = Pipeline::builder("drained").clock(&clock).build();
            let (sender, stream) = Stream::channel(&pipeline, 10);
            // Two of them, one after the other on one thread.
            let mut stream = stream.stage("both", |s| s.delay(ms(1_000)).with(Delay::new(ms(500)).with_max_items(3)));
            (0..6).for_each(|n| sender.send(n).unwrap());
            if ended {
                sender.clone().finish();
            }
            clock.advance(ms(1_000));
            assert!(stream.try_recv().is_err());
            pipeline.drain();
            clock.settle();
            let now: Vec<i32> = std::iter::from_fn(|| stream.try_recv().ok()).map(Result::unwrap).collect();
            assert_eq!(now, [0, 1, 2, 3, 4, 5]);
            assert_eq!(pipeline.join().stage("both").unwrap().emitted(), 6);
            assert_eq!(clock.elapsed(), ms(1_000));
        }
    }

    #[test]
    fn a_cancel_ends_the_wait_even_after_the_end_of_the_input() {
        for ended in [false, true] {
            let clock = ManualClock::new();
            let pipeline = Pipeline::builder("cancelled").clock(&clock).build();
            let (sender, stream) = Stream::channel(&pipeline, 10);
            let mut stream = stream.delay(Duration::MAX);
            (0..3).for_each(|n| sender.send(n).unwrap());
            if ended {
                sender.clone().finish();
            }
            clock.settle();
            pipeline.cancel();
            clock.settle();
            assert_eq!(pipeline.threads(), 0);
            assert!(stream.recv().unwrap().unwrap_err().is_cancelled());
            drop(sender);
            assert_eq!(pipeline.join().stage("delay").unwrap().abandoned(), 3);
        }
    }

    #[test]
    fn it_is_also_exact_on_the_thread_of_a_sink() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("inline").clock(&clock).build();
        let (reader, seen, times) = (pipeline.token(), Mutex::new(Vec::new()), clock.clone());
        // On a thread of a pipeline, because other threads wait without moving the time.
        let (sender, receiver) = std::sync::mpsc::channel();
        pipeline.spawn("reader", move |_| {
            let delayed = Inline::from_iter(&reader, 0..4).delay(ms(7)).take(3).with(Delay::new(ms(5)));
            delayed.for_each(|item| seen.lock().push((times.elapsed(), item.unwrap()))).unwrap();
            sender.send(seen.into_inner()).unwrap();
        });
        clock.advance(ms(100));
        assert_eq!(receiver.recv().unwrap(), [(ms(12), 0), (ms(12), 1), (ms(12), 2)]);
        assert!(pipeline.join().is_complete());
    }

    /// The reader is not a thread of the pipeline, which a drain would wake.
    #[test]
    fn a_drain_ends_the_wait_of_a_reader_on_any_thread() {
        let pipeline = Pipeline::new("guest");
        let stream = Stream::from_iter(&pipeline, 0..3);
        let reader = std::thread::spawn(move || stream.inline().delay(Duration::MAX).collect::<Vec<_>>().unwrap());
        // Its input has ended, and it waits for a time that never comes.
        while pipeline.report().stages.last().is_none_or(|stage| stage.steps[0].received < 3) || pipeline.threads() > 0
        {
            std::thread::yield_now();
        }
        pipeline.drain();
        assert_eq!(reader.join().unwrap(), [0, 1, 2]);
    }

    #[test]
    #[should_panic(expected = "`max_items` must be at least 1")]
    fn no_room_is_refused() {
        let _ = Delay::<u8>::new(ms(1)).with_max_items(0);
    }
}
