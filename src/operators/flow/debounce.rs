//! [`Debounce`]: emits an item after a period without further items.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::error::StreamError;
use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::pipeline::stats::DropReason;
use crate::stage::operator::{Emit, Operator};

/// Emits an item when no other has followed it for a given time: the last item of each burst.
///
/// Each item takes the place of the one before it, which is counted as dropped because
/// [superseded](DropReason::Superseded), and the quiet time starts again. It ends when exactly that much time has
/// passed; an item that arrives at exactly that moment finds the one before it emitted. So a stream that is never quiet
/// emits nothing. When the input ends, or is drained, the last item is emitted at once.
///
/// An error item ends the wait as well: the held item is emitted before it, so that the two stay in order. Errors are
/// never dropped.
///
/// # Ordering
/// The order is kept.
///
/// # Back-pressure
/// While the output is full, no input is taken, and nothing is superseded. Quiet time passes nevertheless.
///
/// # Cancellation
/// The held item is counted as abandoned.
///
/// # Memory
/// One item, and the output's capacity.
///
/// ```
/// use std::time::Duration;
/// use streamz::Debounce;
/// use streamz::testing::Harness;
///
/// let ms = Duration::from_millis;
/// let mut debounce = Harness::new(&Debounce::new(ms(100)));
/// debounce.play([(ms(0), "s"), (ms(50), "se"), (ms(149), "sea"), (ms(300), "seal")]);
/// debounce.end();
/// assert_eq!(debounce.timed_items(), [(ms(249), "sea"), (ms(300), "seal")]);
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("settle", "quiet_period", "throttleWithTimeout"))]
pub struct Debounce<T> {
    quiet: Duration,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T> Debounce<T> {
    /// Sets how long it must be quiet. A duration too large to add, such as `Duration::MAX`, never passes: then only
    /// the last item, and one before an error item, are emitted. Default name: `debounce`.
    ///
    /// # Panics
    /// If `quiet` is zero.
    #[track_caller]
    pub fn new(quiet: Duration) -> Self {
        assert!(!quiet.is_zero(), "`quiet` must be greater than zero");
        Self { quiet, options: Options::new("debounce"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> DebounceOperator<T> {
        DebounceOperator { quiet: self.quiet, pending: None, due: None }
    }
}

stage! {
    [T] Debounce<T> where { T: Send + 'static }
    T => T, DebounceOperator<T>
}

/// Runs a [`Debounce`] as an [`Operator`].
pub struct DebounceOperator<T> {
    quiet: Duration,
    pending: Option<T>,
    due: Option<Instant>,
}

impl<T: Send + 'static> DebounceOperator<T> {
    fn flush(&mut self, out: &mut impl Emit<T>) {
        self.due = None;
        if let Some(item) = self.pending.take() {
            out.emit(item);
        }
    }
}

impl<T: Send + 'static> Operator for DebounceOperator<T> {
    type In = T;
    type Out = T;

    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        self.due = out.now().checked_add(self.quiet);
        if let Some(superseded) = self.pending.replace(item) {
            drop(superseded);
            out.dropped(DropReason::Superseded, 1);
        }
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<T>) {
        self.flush(out);
        out.error(error);
    }

    fn timer(&mut self, _now: Instant, out: &mut impl Emit<T>) {
        self.flush(out);
    }

    fn end(&mut self, out: &mut impl Emit<T>) {
        self.flush(out);
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        false
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        self.due
    }

    fn settles_in_order(&self) -> bool {
        true
    }

    #[inline]
    fn held(&self) -> u64 {
        u64::from(self.pending.is_some())
    }
}

shorthand! {
    /// Emits an item when no other has followed it for `quiet`: a [`Debounce`].
    ///
    /// # Panics
    /// If `quiet` is zero.
    pub fn debounce(self, quiet: Duration) -> Debounce<T> => Stream<T> {
        Debounce::new(quiet)
    }
}

opaque_debug! { [T] Debounce<T>: quiet, options }
opaque_debug! { [T] DebounceOperator<T>: quiet, due }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::{ErrorKind, ManualClock, Pipeline, Stream};

    fn ns(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    #[test]
    fn an_item_is_sent_exactly_after_its_quiet_period() {
        type Times = &'static [(u64, char)];
        let cases: &[(Times, u64, Times)] = &[
            (&[(0, 'a')], 1_000, &[(100, 'a')]),
            // One nanosecond before its end restarts it; at its end does not.
            (&[(0, 'a'), (99, 'b')], 1_000, &[(199, 'b')]),
            (&[(0, 'a'), (100, 'b')], 1_000, &[(100, 'a'), (200, 'b')]),
            (&[(0, 'a'), (101, 'b')], 1_000, &[(100, 'a'), (201, 'b')]),
            // Never quiet.
            (&[(0, 'a'), (60, 'b'), (120, 'c'), (180, 'd')], 200, &[(200, 'd')]),
            // A long silence, then two items at once.
            (&[(0, 'a'), (900, 'b'), (900, 'c')], 950, &[(100, 'a'), (950, 'c')]),
            (&[], 500, &[]),
        ];
        for (input, end, expected) in cases {
            let mut debounce = Harness::new(&Debounce::new(ns(100)));
            debounce.play(input.iter().map(|&(at, item)| (ns(at), item)));
            debounce.advance_to(ns(*end));
            debounce.end();
            let outputs: Vec<_> =
                debounce.timed_items().into_iter().map(|(at, item)| (at.as_nanos() as u64, item)).collect();
            assert_eq!(outputs, *expected, "{input:?}");
        }
    }

    #[test]
    fn superseded_items_are_counted_and_an_error_flushes_the_last() {
        let mut debounce = Harness::new(&Debounce::new(ns(100)));
        debounce.item(1);
        debounce.item(2);
        debounce.error(StreamError::new(ErrorKind::Failed, "before"));
        debounce.error(StreamError::new(ErrorKind::Failed, "before"));
        debounce.advance(ns(500));
        let outputs: Vec<_> = debounce.outputs().into_iter().map(Result::ok).collect();
        assert_eq!(outputs, [Some(2), None, None]);
        let step = &debounce.steps()[0];
        assert_eq!((step.received, step.delivered, &*step.dropped), (2, 1, &[(DropReason::Superseded, 1)][..]));
    }

    /// The input ends exactly when the quiet period does.
    #[test]
    fn the_last_item_is_sent_once_at_its_time_or_at_the_end() {
        for by_end in [false, true] {
            let clock = ManualClock::new();
            let pipeline = Pipeline::builder("both").clock(&clock).build();
            let (sender, stream) = Stream::channel(&pipeline, 4);
            let stream = stream.debounce(ns(100));
            sender.send(7).unwrap();
            clock.advance(ns(if by_end { 99 } else { 100 }));
            drop(sender);
            clock.advance(ns(1));
            assert_eq!(stream.collect::<Vec<_>>().unwrap(), [7]);
        }
    }

    #[test]
    fn after_a_stall_the_quiet_period_starts_with_the_next_item() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("stalled").clock(&clock).build();
        let (sender, stream) = Stream::channel(&pipeline, 10);
        let mut stream = stream.through(&Debounce::new(ns(100)).with_capacity(1));
        let send_at = |at, item| {
            clock.advance(ns(at) - clock.elapsed());
            sender.send(item).unwrap();
        };
        // The output is full at 100, and the stage waits for room with the second item from 200 on.
        send_at(0, 'a');
        send_at(100, 'b');
        send_at(250, 'c');
        send_at(300, 'd');
        clock.advance(ns(700));
        assert_eq!(stream.try_recv().unwrap().unwrap(), 'a');
        clock.settle();
        assert_eq!(stream.try_recv().unwrap().unwrap(), 'b');
        clock.advance(ns(99));
        assert!(stream.try_recv().is_err());
        clock.advance(ns(1));
        assert_eq!(stream.try_recv().unwrap().unwrap(), 'd');
        pipeline.drain();
        assert!(stream.recv().is_none());
        let report = pipeline.join();
        assert_eq!(report.stage("debounce").unwrap().steps[0].dropped, [(DropReason::Superseded, 1)]);
    }

    #[test]
    fn no_time_is_one_that_never_passes() {
        let mut debounce = Harness::new(&Debounce::new(Duration::MAX));
        debounce.item(1);
        assert_eq!(debounce.next_wake(), None);
        debounce.end();
        assert_eq!(debounce.items(), [1]);
    }

    #[test]
    #[should_panic(expected = "`quiet` must be greater than zero")]
    fn no_quiet_time_is_refused() {
        let _ = Debounce::<u8>::new(Duration::ZERO);
    }
}
