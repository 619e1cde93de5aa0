//! [`Timeout`]: an error item after a period without input.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::error::{ErrorKind, StreamError};
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Forwards everything, and emits an error item of kind [`TimedOut`](ErrorKind::TimedOut) when no item has arrived for
/// a given time.
///
/// It does so once for each silence: the next item, or error item, ends the silence and restarts the time. The first
/// silence counts from the start of the run, so that a source that never emits anything is noticed, too. The time ends
/// when exactly that much has passed; an item that arrives at exactly that moment is too late, and follows the error.
/// The end of the input ends the silence as well.
///
/// Only a silence of the input counts. While the output is full, or a later step on the same thread is slow, no input
/// is taken and the time does not run; it starts again when there is room. Nothing is dropped or interrupted: only the
/// gaps between items are watched. To limit the time of a call, use
/// [`AsyncMapper::with_timeout`](crate::AsyncMapper::with_timeout) or [`CallTimeout`](crate::CallTimeout); to stop a
/// pipeline after a time, [`PipelineBuilder::timeout`](crate::PipelineBuilder::timeout); to stop it when it falls
/// silent, end it in [`try_for_each`](crate::Stream::try_for_each) or another sink that stops at the first error.
///
/// # Ordering
/// The order is kept.
///
/// # Back-pressure
/// As in any stage: while the output is full, no input is taken.
///
/// # Cancellation
/// Nothing is held that could be lost.
///
/// # Memory
/// The output's capacity.
///
/// ```
/// use std::time::Duration;
/// use streamz::testing::Harness;
/// use streamz::{ErrorKind, Timeout};
///
/// let ms = Duration::from_millis;
/// let mut timeout = Harness::new(&Timeout::new(ms(100)));
/// timeout.play([(ms(99), 1), (ms(400), 2)]);
/// let outputs = timeout.timed_outputs();
/// assert_eq!(
///     outputs.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
///     [ms(99), ms(199), ms(400)]
/// );
/// assert_eq!(outputs[1].1.as_ref().unwrap_err().kind(), ErrorKind::TimedOut);
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("idle_timeout", "watchdog"))]
pub struct Timeout<T> {
    after: Duration,
    options: Options,
    types: PhantomData<fn(T)>,
}

/// The source of the error item.
#[derive(Debug, thiserror::Error)]
#[error("no input for {0:?}")]
struct Silence(Duration);

impl<T> Timeout<T> {
    /// Reports a silence that has lasted for `after`. A duration too large to add, such as `Duration::MAX`, never
    /// passes. Default name: `timeout`.
    ///
    /// # Panics
    /// If `after` is zero.
    #[track_caller]
    pub fn new(after: Duration) -> Self {
        assert!(!after.is_zero(), "`after` must be greater than zero");
        Self { after, options: Options::new("timeout"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> TimeoutOperator<T> {
        TimeoutOperator { after: self.after, due: None, must_restart: true, types: PhantomData }
    }
}

stage! {
    [T] Timeout<T> where { T: Send + 'static }
    T => T, TimeoutOperator<T>
}

/// Runs a [`Timeout`] as an [`Operator`].
pub struct TimeoutOperator<T> {
    after: Duration,
    due: Option<Instant>,
    /// The time restarts as soon as there is room: before that, the stage does not read its input.
    must_restart: bool,
    types: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Operator for TimeoutOperator<T> {
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::KEEPS_ORIGINS;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        (self.due, self.must_restart) = (None, true);
        out.emit(item);
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<T>) {
        (self.due, self.must_restart) = (None, true);
        out.error(error);
    }

    fn timer(&mut self, _now: Instant, out: &mut impl Emit<T>) {
        self.due = None;
        let error = out.error_of(ErrorKind::TimedOut).with_source(Silence(self.after));
        out.error(error);
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<T>) -> bool {
        if self.must_restart && !out.is_full() {
            self.must_restart = false;
            self.due = out.now().checked_add(self.after);
        }
        self.must_restart
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        self.must_restart
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        self.due
    }
}

shorthand! {
    /// Forwards everything, and emits an error item when no item has arrived for `after`: a [`Timeout`].
    ///
    /// # Panics
    /// If `after` is zero.
    pub fn timeout(self, after: Duration) -> Timeout<T> => Stream<T> {
        Timeout::new(after)
    }
}

opaque_debug! { [T] Timeout<T>: after, options }
opaque_debug! { [T] TimeoutOperator<T>: after, due }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{Delay, FlatMap, ManualClock, Pipeline, Processor, Stream};

    fn ns(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    /// The emitted items and their times; 'T' for the error item.
    fn outputs(timeout: &mut Harness<TimeoutOperator<char>>) -> Vec<(u64, char)> {
        let one = |(at, output): (Duration, Result<char, StreamError>)| {
            let item = output.unwrap_or_else(|error| if error.kind() == ErrorKind::TimedOut { 'T' } else { 'E' });
            (at.as_nanos() as u64, item)
        };
        timeout.timed_outputs().into_iter().map(one).collect()
    }

    #[test]
    fn every_silence_is_reported_once_at_its_exact_nanosecond() {
        type Times = &'static [(u64, char)];
        let cases: &[(Times, Times)] = &[
            // From the start, and once.
            (&[], &[(100, 'T')]),
            (&[(99, 'a')], &[(99, 'a'), (199, 'T')]),
            // Exactly at its end is too late.
            (&[(100, 'a')], &[(100, 'T'), (100, 'a'), (200, 'T')]),
            (&[(0, 'a'), (99, 'b'), (198, 'c')], &[(0, 'a'), (99, 'b'), (198, 'c'), (298, 'T')]),
            (&[(50, 'a'), (5_000, 'b')], &[(50, 'a'), (150, 'T'), (5_000, 'b'), (5_100, 'T')]),
        ];
        for (input, expected) in cases {
            let mut timeout = Harness::new(&Timeout::new(ns(100)));
            timeout.play(input.iter().map(|&(at, item)| (ns(at), item)));
            timeout.advance(ns(1_000));
            assert_eq!(outputs(&mut timeout), *expected, "{input:?}");
        }
    }

    #[test]
    fn an_error_item_ends_a_silence_and_so_does_the_end() {
        let mut timeout = Harness::new(&Timeout::new(ns(100)));
        timeout.advance(ns(90));
        timeout.error(StreamError::new(ErrorKind::Failed, "before"));
        timeout.advance(ns(90));
        timeout.end();
        timeout.advance(ns(90));
        assert_eq!(outputs(&mut timeout), [(90, 'E')]);
    }

    #[test]
    fn the_error_names_its_subject() {
        let mut timeout = Harness::new(&Timeout::<u8>::new(Duration::from_secs(2)).with_name("feed"));
        timeout.advance(Duration::from_secs(2));
        let error = timeout.outputs().remove(0).unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::TimedOut, "feed"));
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no input for 2s");
    }

    #[test]
    fn a_stalled_consumer_is_not_a_silence_of_the_input() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("stalled").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 10);
        let mut stream = stream.through(&Timeout::new(ns(100)).with_capacity(1));
        (0..4).for_each(|n| sender.send(n).unwrap());
        for n in 0..3 {
            clock.advance(ns(5_000));
            assert_eq!(stream.try_recv().unwrap().unwrap(), n);
        }
        clock.settle();
        assert_eq!(stream.try_recv().unwrap().unwrap(), 3);
        // The last one found room just now.
        clock.advance(ns(99));
        assert!(stream.try_recv().is_err());
        clock.advance(ns(1));
        assert_eq!(stream.try_recv().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_slow_step_is_not_a_silence_either() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("slow").clock(&clock).build();
        let token = pipeline.token();
        let slow = move |n: u32| {
            token.sleep(ns(1_000)).unwrap();
            n
        };
        let (sender, stream) = Stream::channel(&pipeline, 10);
        let mut stream = stream.stage("slow", |s| s.timeout(ns(100)).map(slow));
        (0..3).for_each(|n| sender.send(n).unwrap());
        clock.advance(ns(3_099));
        let seen: Vec<_> = std::iter::from_fn(|| stream.try_recv().ok()).map(Result::unwrap).collect();
        assert_eq!(seen, [0, 1, 2]);
    }

    /// Whatever step is next on this thread, however long it keeps the stage from its input, and wherever it runs.
    #[test]
    fn a_waiting_step_behind_it_is_not_a_silence_of_the_input() {
        let errors = |build: fn(Stream<u32>) -> Stream<u32>| {
            let clock = ManualClock::new();
            let pipeline = Pipeline::builder("waits").clock(&clock).build();
            let (sender, stream) = Stream::channel(&pipeline, 10);
            let mut stream = build(stream);
            (0..4).for_each(|n| sender.send(n).unwrap());
            drop(sender);
            let (mut items, mut errors) = (Vec::new(), 0);
            for _ in 0..200 {
                clock.advance(ns(50));
                match stream.try_recv() {
                    Ok(Ok(item)) => items.push(item),
                    Ok(Err(_)) => errors += 1,
                    Err(_) => {}
                }
            }
            assert!(items.is_sorted() && items.ends_with(&[3]), "{items:?}");
            errors
        };
        let waits_for_time =
            |stream: Stream<u32>| stream.stage("three", |s| s.map(|n| n).timeout(ns(100)).throttle(1e6));
        let holds = |stream: Stream<u32>| {
            stream.stage("both", |s| s.timeout(ns(100)).with(Delay::new(ns(400)).with_max_items(1)))
        };
        let waits_for_room = |stream: Stream<u32>| {
            let both = Timeout::new(ns(45)).fuse(FlatMap::new(|n: u32| [n; 4])).with_capacity(1);
            stream.through(&both)
        };
        assert_eq!([errors(waits_for_time), errors(holds), errors(waits_for_room)], [0; 3]);
    }

    #[test]
    fn nor_is_a_slow_reader_on_the_same_thread() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("reader").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 10);
        (0..3).for_each(|n| sender.send(n).unwrap());
        drop(sender);
        let (told, seen) = std::sync::mpsc::channel();
        pipeline.spawn("reader", move |token| {
            let slow = |item: Result<u32, StreamError>| {
                told.send(item.ok()).unwrap();
                token.sleep(ns(1_000)).unwrap();
            };
            stream.inline().timeout(ns(100)).for_each(slow).unwrap();
        });
        clock.advance(ns(10_000));
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    }

    #[test]
    #[should_panic(expected = "`after` must be greater than zero")]
    fn no_time_is_refused() {
        let _ = Timeout::<u8>::new(Duration::ZERO);
    }
}
