//! [`Aggregate`]: one value for so many items, or for so long.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::content::{Folded, Panes};
use super::time::{ArrivalTime, END, EventTime, NEVER, Nanos, Refusal, Tag, TimeSource, span};
use crate::clock::from_nanos;
use crate::error::{ErrorKind, PanicMessage, StreamError};
use crate::operators::epochs::{Epoch, Epochs};
use crate::operators::folds::{Fold, FoldWith};
use crate::operators::options::{Options, common_options};
use crate::panic::{self, Held};
use crate::stage::operator::{Emit, Operator};

/// What a fold made of the items of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AggregateWindow<A> {
    /// What came of the fold.
    pub result: A,
    /// When the window begins.
    pub start: SystemTime,
    /// When the next one begins, or would begin.
    pub end: SystemTime,
    /// How many items were folded.
    pub count: u64,
}

/// Makes one value of many items: `T` in, [`AggregateWindow<A>`] out.
///
/// A window is sent as soon as one of these is true, of those that were asked for:
///
/// - it has so many items ([`with_count_window`](Self::with_count_window));
/// - it has lasted so long ([`with_time_window`](Self::with_time_window)); an item that comes at that very moment belongs to
///   the next one;
/// - its state satisfies a condition ([`with_trigger`](Self::with_trigger));
/// - the input ends.
///
/// If nothing was asked for, there is one value, at the end of the input.
///
/// Windows follow one another without a gap: the first begins with the run, and each other one when the one before it was
/// sent, at which moment the time begins to count anew. (For windows that begin on the hour, use a
/// [`TumblingWindow`](crate::TumblingWindow).) One that is sent for another reason than its time ends at that moment: when
/// its last item came, or the input ended. So it lasts no time at all if all its items came in the same instant.
/// A window without items is not sent, unless [`with_empty_windows`](Self::with_empty_windows) says so.
///
/// Each window has a state of its own, made by `init` when its first item comes, and moved out when it is sent: nothing
/// leaks from one window to the next. An item counts as delivered when its window is sent.
///
/// # Ordering
/// Items are folded in order. Error items pass at once: one that comes after an item goes before the window of that
/// item. They close no window.
///
/// # Back-pressure
/// While the output is full no input is taken, and a window whose time has come waits for room; it does not become longer
/// by that, and nor does the next one.
///
/// # Cancellation
/// The state of the open window is dropped, and its items are counted as abandoned.
///
/// # Panics of the closures
/// If `init` or `fold` panics, the item goes on as an error item that carries it, and the state stays as it was left:
/// change it last. A trigger that panics makes an error item, and the window goes on.
///
/// # Memory
/// One state; with event time also the items that are younger than the watermark. Beside it the values in the output.
///
/// ```
/// use streamz::{Aggregate, Pipeline, Stream};
///
/// let sums = Aggregate::new(|| 0, |sum, n: &i32| *sum += n).with_count_window(2);
/// let pipeline = Pipeline::new("sums");
/// let windows = Stream::from_iter(&pipeline, 1..=5).through(&sums).collect::<Vec<_>>()?;
/// assert_eq!(windows.iter().map(|window| window.result).collect::<Vec<_>>(), [3, 7, 5]);
/// assert_eq!(windows[2].count, 1);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
pub struct Aggregate<T, F: Fold<T>, S = ArrivalTime> {
    fold: Folded<F>,
    limits: Limits<F::State>,
    time: S,
    options: Options,
    types: PhantomData<fn(T)>,
}

type Trigger<A> = Arc<dyn Fn(&A) -> bool + Send + Sync>;

/// When a window is sent.
struct Limits<A> {
    count: u64,
    duration: Option<Nanos>,
    trigger: Option<Trigger<A>>,
    empty: bool,
}

impl<A> Clone for Limits<A> {
    fn clone(&self) -> Self {
        Self { trigger: self.trigger.clone(), ..*self }
    }
}

impl<T, A, I, F> Aggregate<T, FoldWith<A, I, F>>
where
    A: Send + 'static,
    I: Fn() -> A + Send + Sync + 'static,
    F: Fn(&mut A, &T) + Send + Sync + 'static,
{
    /// Folds items with `fold` into a state that `init` makes. It is called `aggregate` unless it is given another name.
    pub fn new(init: I, fold: F) -> Self {
        Self::by(FoldWith::new(init, fold))
    }
}

impl<T, F: Fold<T>> Aggregate<T, F> {
    /// Folds items with one of the ready-made [`folds`](crate::folds), or with one of your own.
    ///
    /// ```
    /// use streamz::{Aggregate, Pipeline, Stream, folds};
    ///
    /// let means = Aggregate::by(folds::average(|n: &f64| *n)).with_count_window(3);
    /// let pipeline = Pipeline::new("means");
    /// let windows = Stream::from_iter(&pipeline, [1.0, 2.0, 6.0]).through(&means).collect::<Vec<_>>()?;
    /// assert_eq!(windows[0].result, 3.0);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    pub fn by(fold: F) -> Self {
        let limits = Limits { count: u64::MAX, duration: None, trigger: None, empty: false };
        let (fold, time, options) = (Folded::new(fold), ArrivalTime::default(), Options::new("aggregate"));
        Self { fold, limits, time, options, types: PhantomData }
    }

    /// Takes the time of each item from what `time` says, instead of the clock.
    ///
    /// Items may come out of order, up to `allowed_lateness`. They are kept until the *watermark*, the greatest time
    /// seen less `allowed_lateness`, has come to them, and then folded in the order of their times: so what comes out is
    /// the same as if they had been sorted first. The first window begins at the time of the first item.
    ///
    /// An item that is older than the watermark is folded at once, after younger ones, if it belongs to the open
    /// window. If it is older than the beginning of that window it is late, and becomes an error item of kind
    /// [`Late`](crate::ErrorKind::Late), as for a [`TumblingWindow`](crate::TumblingWindow::with_event_time); see there.
    ///
    /// # Panics
    /// If `allowed_lateness` is more than 10,000 years.
    #[track_caller]
    pub fn with_event_time<G>(self, time: G, allowed_lateness: Duration) -> Aggregate<T, F, EventTime<G>>
    where
        G: Fn(&T) -> SystemTime + Send + Sync + 'static,
    {
        let Self { fold, limits, options, types, .. } = self;
        Aggregate { fold, limits, time: EventTime::new(time, allowed_lateness), options, types }
    }
}

impl<T, F: Fold<T>, G> Aggregate<T, F, EventTime<G>> {
    /// Folds all that is kept, and sends the open window, when no item has come for so long, by the pipeline's clock.
    /// While the output is full no input is taken, and the time does not run; it counts anew when there is room.
    /// Defaults to never, as does `Duration::MAX`. The next window begins at the time of the last item; an older one that
    /// comes later and is not too late goes there.
    ///
    /// # Panics
    /// If `idle_timeout` is zero.
    #[track_caller]
    pub fn with_idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.time.set_idle_timeout(idle_timeout);
        self
    }

    /// Refuses items whose time is more than `max_ahead` later than the present time of the pipeline's clock. Defaults to
    /// no limit. See [`TumblingWindow::with_max_ahead`](crate::TumblingWindow::with_max_ahead).
    pub fn with_max_ahead(mut self, max_ahead: Duration) -> Self {
        self.time.set_max_ahead(max_ahead);
        self
    }

    /// Refuses items whose time is more than `max_jump` later than the greatest time accepted so far. Defaults to no
    /// limit. See [`TumblingWindow::with_max_jump`](crate::TumblingWindow::with_max_jump).
    ///
    /// # Panics
    /// If `max_jump` is zero.
    #[track_caller]
    pub fn with_max_jump(mut self, max_jump: Duration) -> Self {
        self.time.set_max_jump(max_jump);
        self
    }
}

impl<T, F: Fold<T>, S> Aggregate<T, F, S> {
    common_options!();

    /// Sets how many items make a window. Defaults to no limit. With 1 every item makes a window of its own.
    ///
    /// # Panics
    /// If `items` is 0.
    #[track_caller]
    pub fn with_count_window(mut self, items: usize) -> Self {
        assert!(items > 0, "`items` must be at least 1");
        self.limits.count = items as u64;
        self
    }

    /// Sets how long a window lasts, counted from its beginning. Defaults to no limit.
    ///
    /// # Panics
    /// If `duration` is zero or more than 10,000 years.
    #[track_caller]
    pub fn with_time_window(mut self, duration: Duration) -> Self {
        self.limits.duration = Some(span("duration", duration));
        self
    }

    /// Sets whether a window whose time is up is also sent when it has no items: what `init` makes, with a count of 0.
    /// Defaults to `false`; then no timer runs while nothing comes.
    ///
    /// A long silence makes many empty windows; with event time they all come when it is over.
    ///
    /// [`process`](crate::Processor::process) panics if this is set and [`with_time_window`](Self::with_time_window) is not.
    pub fn with_empty_windows(mut self, empty: bool) -> Self {
        self.limits.empty = empty;
        self
    }

    /// Sends a window when `trigger` says so of its state. It is asked after each item.
    pub fn with_trigger(mut self, trigger: impl Fn(&F::State) -> bool + Send + Sync + 'static) -> Self {
        self.limits.trigger = Some(Arc::new(trigger));
        self
    }
}

impl<T, F, S> crate::Processor for Aggregate<T, F, S>
where
    T: Send + 'static,
    F: Fold<T>,
    S: TimeSource<T>,
{
    type In = T;
    type Out = AggregateWindow<F::Result>;

    #[track_caller]
    fn process(&self, cancel: &crate::CancelToken, input: crate::Stream<T>) -> crate::Stream<Self::Out> {
        crate::stream::start::launch(self, cancel, input)
    }

    fn name(&self) -> &str {
        &self.options.name
    }
}

impl<T, F, S> crate::Stage for Aggregate<T, F, S>
where
    T: Send + 'static,
    F: Fold<T>,
    S: TimeSource<T>,
{
    type Op = AggregateOperator<T, F, S>;

    fn start(&self) -> Self::Op {
        let limits = self.limits.clone();
        assert!(!limits.empty || limits.duration.is_some(), "`with_empty_windows` needs `with_time_window`");
        AggregateOperator {
            fold: self.fold.clone(),
            limits,
            time: self.time.clone(),
            start: None,
            last: 0,
            state: Held::default(),
            count: 0,
            waiting: Held::default(),
            early: Held::default(),
            epochs: Epochs::new(),
            oldest: None,
            arrived: 0,
            limit: Nanos::MIN,
            passed: Nanos::MIN,
            ending: None,
            due: NEVER,
        }
    }

    fn capacity(&self) -> Option<usize> {
        self.options.capacity
    }
}

/// What an [`Aggregate`] runs.
pub struct AggregateOperator<T, F: Fold<T>, S> {
    fold: Folded<F>,
    limits: Limits<F::State>,
    time: S,
    /// When the open window began; known from the start of the run, or from the first item.
    start: Option<Nanos>,
    /// The greatest time of the items that were folded.
    last: Nanos,
    state: Held<Option<F::State>>,
    count: u64,
    /// The next item to be folded.
    waiting: Held<Option<(Nanos, T)>>,
    /// Items that older ones may still come before, by their times and in the order of arrival.
    early: Held<BTreeMap<(Nanos, u64), (T, Epoch)>>,
    /// Of the items in `early`; without event time, items are settled in order.
    epochs: Epochs,
    /// The oldest epoch of the items that are folded or waiting.
    oldest: Option<Epoch>,
    arrived: u64,
    /// Items up to this time are to be folded.
    limit: Nanos,
    /// Time has passed up to here.
    passed: Nanos,
    /// After that, what is open is to be sent, ending at this time or at that of its last item.
    ending: Option<Option<Nanos>>,
    /// What the time source was told.
    due: Nanos,
}

impl<T, F, S> AggregateOperator<T, F, S>
where
    T: Send + 'static,
    F: Fold<T>,
    S: TimeSource<T>,
{
    /// When the time of the open window is up.
    fn window_end(&self) -> Option<Nanos> {
        let is_wanted = self.count > 0 || self.limits.empty;
        Some(self.start? + self.limits.duration?).filter(|_| is_wanted)
    }

    /// Whether an item of that time, which is before the watermark, belongs to no open window: to none that begins at or
    /// after the end of the last one and ends after the watermark.
    fn is_late(&self, time: Nanos, watermark: Nanos) -> bool {
        let Some(start) = self.start else { return false };
        let ends = match self.limits.duration {
            // Nothing is open; the window of this item would begin a number of durations after the last one.
            Some(duration) if self.count == 0 => start + ((time - start).max(0) / duration + 1) * duration,
            _ => NEVER,
        };
        time < start || ends <= watermark
    }

    /// Does what is to be done, in the order of time, as far as there is room; true if there is more.
    fn go_on(&mut self, out: &mut impl Emit<AggregateWindow<F::Result>>) -> bool {
        loop {
            if self.waiting.is_none()
                && let Some(entry) = self.early.first_entry().filter(|entry| entry.key().0 <= self.limit)
            {
                let ((time, _), (item, epoch)) = entry.remove_entry();
                match &mut self.oldest {
                    Some(oldest) => oldest.keep_older(epoch),
                    oldest => *oldest = Some(epoch),
                }
                *self.waiting = Some((time, item));
            }
            let until = self.waiting.as_ref().map_or(self.passed, |(time, _)| *time);
            let end = self.window_end().filter(|end| *end <= until);
            if end.is_none() && self.waiting.is_none() && self.ending.is_none() {
                break;
            }
            if out.is_full() {
                return true;
            }
            if let Some(end) = end {
                self.send(end, out);
            } else if let Some((time, item)) = self.waiting.take() {
                self.take(time, item, out);
            } else if let Some(end) = self.ending.take()
                && self.count > 0
            {
                self.send(end.unwrap_or(self.last), out);
            }
        }
        self.set_timer();
        false
    }

    /// Folds an item, and sends the window if that completes it.
    fn take(&mut self, time: Nanos, item: T, out: &mut impl Emit<AggregateWindow<F::Result>>) {
        let folded = match &mut *self.state {
            Some(state) => Panes::<T, ()>::add(&self.fold, state, (), item),
            None => Panes::<T, ()>::open(&self.fold, (), item).map(|state| *self.state = Some(state)),
        };
        if let Err(unfit) = folded {
            if self.count == 0 {
                self.oldest = None;
            }
            return out.fail_panicked(unfit.payload.into(), unfit.item);
        }
        let start = self.start.get_or_insert(time);
        if self.count == 0
            && let Some(duration) = self.limits.duration
        {
            // Windows without items that nobody wants to see.
            *start += (time - *start).max(0) / duration * duration;
        }
        self.last = if self.count == 0 { time } else { self.last.max(time) };
        self.count += 1;
        let is_triggered = match (&self.limits.trigger, &*self.state) {
            (Some(trigger), Some(state)) => panic::catch(|| trigger(state)).unwrap_or_else(|payload| {
                out.error(out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload)));
                false
            }),
            _ => false,
        };
        if is_triggered || self.count >= self.limits.count {
            self.send(self.last, out);
        }
    }

    /// Sends the open window; the next one begins.
    fn send(&mut self, end: Nanos, out: &mut impl Emit<AggregateWindow<F::Result>>) {
        let (state, count) = (self.state.take(), std::mem::take(&mut self.count));
        // One that waits goes into the next window, and its epoch may be that of any item in this one.
        let oldest = self.oldest.take();
        if self.waiting.is_some() {
            self.oldest = oldest;
        }
        // After a silence, an item may be older than the window that was closed by it.
        let end = self.start.map_or(end, |start| end.max(start));
        let start = self.start.replace(end).unwrap_or(end);
        let made = panic::catch(|| {
            let state = state.unwrap_or_else(|| self.fold.empty());
            Panes::<T, ()>::window(&self.fold, state, start, end, count)
        });
        match made {
            Ok(window) => out.emit_from(window, count),
            Err(payload) => {
                let error = out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload));
                out.failed(count);
                out.error(error);
            }
        }
    }

    #[inline]
    fn set_timer(&mut self) {
        // By event time, only whether something waits matters.
        let due =
            if S::Tag::ORDERS { if self.held() > 0 { END } else { NEVER } } else { self.window_end().unwrap_or(NEVER) };
        if due != self.due {
            self.due = due;
            self.time.set_due(due);
        }
    }
}

impl<T, F, S> Operator for AggregateOperator<T, F, S>
where
    T: Send + 'static,
    F: Fold<T>,
    S: TimeSource<T>,
{
    type In = T;
    type Out = AggregateWindow<F::Result>;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<Self::Out>) {
        let time = match self.time.stamp(&item, out) {
            Ok(time) => time,
            Err(refused) => return refused.fail(item, out),
        };
        self.time.advance(time);
        let watermark = self.time.watermark();
        if time < watermark && self.is_late(time, watermark) {
            return Refusal::late(time, watermark).fail(item, out);
        }
        self.time.accepted();
        (self.limit, self.passed) = (watermark, watermark);
        if S::Tag::ORDERS {
            self.arrived += 1;
            self.early.insert((time, self.arrived), (item, self.epochs.present().clone()));
        } else {
            *self.waiting = Some((time, item));
        }
        self.go_on(out);
    }

    fn timer(&mut self, out: &mut impl Emit<Self::Out>) {
        self.timer_at(out.now(), out);
    }

    fn timer_at(&mut self, now: Instant, out: &mut impl Emit<Self::Out>) {
        let now = self.time.rung(now);
        if now == END {
            // Silence.
            self.limit = END;
            self.ending = Some(None);
        } else {
            self.passed = now;
        }
        self.go_on(out);
    }

    fn end(&mut self, out: &mut impl Emit<Self::Out>) {
        self.limit = END;
        let now = self.time.begin(out);
        self.passed = now.unwrap_or(self.passed);
        self.ending = Some(now);
        self.go_on(out);
    }

    fn resume(&mut self, out: &mut impl Emit<Self::Out>) -> bool {
        if self.start.is_none() {
            // The first call of all.
            self.start = self.time.begin(out);
            self.set_timer();
        }
        if self.go_on(out) {
            return true;
        }
        self.epochs.release(out);
        !self.time.listen(out)
    }

    fn take_mark(&mut self, mark: StreamError, _out: &mut impl Emit<Self::Out>) -> Option<StreamError> {
        if S::Tag::ORDERS { self.epochs.end(mark) } else { Some(mark) }
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        self.time.wake()
    }

    fn settles_in_order(&self) -> bool {
        !S::Tag::ORDERS
    }

    #[inline]
    fn held(&self) -> u64 {
        self.count + self.early.len() as u64 + u64::from(self.waiting.is_some())
    }
}

impl<T, F: Fold<T>, S> std::fmt::Debug for Aggregate<T, F, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aggregate")
            .field("count", &self.limits.count)
            .field("duration", &self.limits.duration.map(|nanos| from_nanos(nanos as u128)))
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<T, F: Fold<T>, S> std::fmt::Debug for AggregateOperator<T, F, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AggregateOperator").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::testing::Harness;
    use crate::{ManualClock, Pipeline, Stage, Stream, StreamError, folds};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn ns(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    fn sums() -> Aggregate<u64, impl Fold<u64, State = u64, Result = u64>> {
        Aggregate::by(folds::sum(|n: &u64| *n))
    }

    /// Nanoseconds since the start of the harness's clock.
    fn nanos(time: SystemTime) -> u64 {
        time.duration_since(ManualClock::new().wall()).unwrap().as_nanos() as u64
    }

    /// Start, end, result and count, in milliseconds.
    fn seen<A>(windows: Vec<AggregateWindow<A>>) -> Vec<(u64, u64, A, u64)> {
        let one = |window: AggregateWindow<A>| {
            (nanos(window.start) / 1_000_000, nanos(window.end) / 1_000_000, window.result, window.count)
        };
        windows.into_iter().map(one).collect()
    }

    fn by_time<F: Fold<u64>>(
        aggregate: Aggregate<u64, F>,
        lateness: u64,
    ) -> Aggregate<u64, F, EventTime<impl Fn(&u64) -> SystemTime + Send + Sync + 'static>> {
        aggregate.with_event_time(|n| ManualClock::new().wall() + ms(*n), ms(lateness))
    }

    #[test]
    fn without_any_limit_there_is_one_value_at_the_end() {
        let mut run = Harness::new(&sums());
        run.advance(ms(5));
        (1..=4).for_each(|n| run.item(n));
        run.advance(ms(5));
        assert!(run.items().is_empty());
        run.end();
        assert_eq!(seen(run.items()), [(0, 10, 10, 4)]);
        // And none of nothing.
        let mut run = Harness::new(&sums());
        run.end();
        assert!(run.items().is_empty());
    }

    #[test]
    fn to_the_nanosecond_an_item_at_the_boundary_belongs_to_the_next_window() {
        let mut run = Harness::new(&sums().with_time_window(ms(10)));
        run.item(1);
        run.advance(ms(10) - ns(1));
        run.item(2);
        assert!(run.items().is_empty());
        run.advance(ns(1));
        assert_eq!(seen(run.items()), [(0, 10, 3, 2)]);
        run.item(4);
        run.advance(ms(10));
        assert_eq!(seen(run.items()), [(10, 20, 4, 1)]);
    }

    /// D-8: of the Go counterpart, the time of a window is not counted anew after one that was full.
    #[test]
    fn after_a_full_window_the_time_counts_anew() {
        let mut run = Harness::new(&sums().with_time_window(ms(10)).with_count_window(2));
        run.item(1);
        run.advance(ms(7));
        run.item(2);
        run.item(4);
        run.advance(ms(9));
        assert_eq!(seen(run.items()), [(0, 7, 3, 2)]);
        run.advance(ms(1));
        assert_eq!(seen(run.items()), [(7, 17, 4, 1)]);
    }

    /// D-7: of the Go counterpart, all windows share what the first state was given.
    #[test]
    fn no_state_leaks_from_one_window_to_the_next() {
        let by_letter = Aggregate::new(HashMap::new, |counts: &mut HashMap<char, u32>, letter| {
            *counts.entry(*letter).or_default() += 1;
        });
        let mut run = Harness::new(&by_letter.with_count_window(2));
        "aabb".chars().for_each(|letter| run.item(letter));
        let results: Vec<_> = run.items().into_iter().map(|window| window.result).collect();
        assert_eq!(results, [HashMap::from([('a', 2)]), HashMap::from([('b', 2)])]);
    }

    #[test]
    fn runs_share_no_state() {
        let sums = sums();
        let (mut one, mut other) = (Harness::new(&sums), Harness::new(&sums));
        one.item(1);
        other.item(2);
        one.end();
        other.end();
        assert_eq!((one.items()[0].result, other.items()[0].result), (1, 2));
    }

    #[test]
    fn a_long_silence_costs_no_timer_and_windows_go_on_where_they_would() {
        let mut run = Harness::new(&sums().with_time_window(ms(10)));
        assert_eq!(run.next_wake(), None);
        run.advance(ms(1_234));
        run.item(1);
        assert_eq!(run.next_wake(), Some(ms(6)));
        run.advance(ms(6));
        assert_eq!(seen(run.items()), [(1_230, 1_240, 1, 1)]);
    }

    #[test]
    fn empty_windows_come_if_they_are_wanted() {
        let mut run = Harness::new(&sums().with_time_window(ms(10)).with_empty_windows(true));
        run.advance(ms(20));
        run.item(1);
        run.advance(ms(25));
        run.end();
        assert_eq!(seen(run.items()), [(0, 10, 0, 0), (10, 20, 0, 0), (20, 30, 1, 1), (30, 40, 0, 0)]);
    }

    #[test]
    fn a_clock_that_jumps_over_several_windows_leaves_none_out_and_stretches_none() {
        let mut run = Harness::new(&sums().with_time_window(ms(10)).with_empty_windows(true)).with_capacity(1);
        run.item(1);
        run.clock().advance(ms(35));
        run.item(2);
        let mut windows = Vec::new();
        loop {
            let some = run.items();
            if some.is_empty() {
                break;
            }
            windows.extend(some);
        }
        assert_eq!(seen(windows), [(0, 10, 1, 1), (10, 20, 0, 0), (20, 30, 0, 0)]);
        run.end();
        assert_eq!(seen(run.items()), [(30, 35, 2, 1)]);
    }

    #[test]
    fn a_consumer_that_stalls_across_boundaries_stretches_no_window_and_shifts_none() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("stall").clock(&clock).build();
        let (input, stream) = Stream::channel(&pipeline, 100);
        let mut windows = stream.through(&sums().with_time_window(ms(10)).with_capacity(1));
        for n in 0..4 {
            input.send(n).unwrap();
            clock.advance(ms(10));
        }
        clock.advance(ms(5));
        drop(input);
        let all: Vec<_> = std::iter::from_fn(|| windows.recv()).map(Result::unwrap).collect();
        // What could not be taken in, for want of room, came later by the clock.
        assert_eq!(seen(all), [(0, 10, 0, 1), (10, 20, 1, 1), (40, 45, 5, 2)]);
        pipeline.join();
    }

    #[test]
    fn a_trigger_sends_a_window_at_once() {
        let mut run = Harness::new(&sums().with_trigger(|sum| *sum >= 10));
        for n in [4, 5, 6, 9, 1, 3] {
            run.item(n);
            run.advance(ms(1));
        }
        run.end();
        assert_eq!(seen(run.items()), [(0, 2, 15, 3), (2, 4, 10, 2), (4, 6, 3, 1)]);
    }

    #[test]
    fn a_panic_fails_its_item_alone_and_one_in_the_trigger_none() {
        let fold = |sum: &mut u64, n: &u64| {
            assert!(*n != 2, "two");
            *sum += n;
        };
        let aggregate =
            Aggregate::new(|| 0, fold).with_trigger(|sum| if *sum == 4 { panic!("four") } else { *sum > 8 });
        let mut run = Harness::new(&aggregate);
        [2, 1, 3, 2, 5].into_iter().for_each(|n| run.item(n));
        let outputs = run.outputs();
        let carried: Vec<_> =
            outputs.iter().filter_map(|out| out.as_ref().err()).map(|e| e.take_item::<u64>()).collect();
        assert_eq!(carried, [Some(2), None, Some(2)]);
        assert_eq!(outputs.last().unwrap().as_ref().unwrap().result, 9);
        let step = &run.steps()[0];
        assert_eq!((step.failed, step.delivered), (2, 3));
    }

    #[test]
    fn errors_pass_at_once_and_close_no_window() {
        let mut run = Harness::new(&sums().with_count_window(2));
        run.item(1);
        run.error(StreamError::new(ErrorKind::Failed, "before"));
        assert!(run.outputs().iter().all(Result::is_err));
        run.item(2);
        assert_eq!(run.items()[0].result, 3);
    }

    #[test]
    fn what_is_held_at_a_cancel_is_counted_as_abandoned() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("cancel").clock(&clock).build();
        let (input, stream) = Stream::channel(&pipeline, 8);
        let windows = stream.through(&sums().with_time_window(ms(10)));
        (0..3).for_each(|n| input.send(n).unwrap());
        clock.advance(ms(9));
        let report = pipeline.abort();
        drop(windows);
        let step = &report.stage("aggregate").unwrap().steps[0];
        assert_eq!((step.received, step.delivered, step.abandoned), (3, 0, 3));
    }

    #[test]
    fn by_event_time_items_are_folded_in_order_when_the_watermark_has_come_to_them() {
        let list = || Aggregate::new(Vec::new, |list: &mut Vec<u64>, n: &u64| list.push(*n));
        let mut run = Harness::new(&by_time(list().with_time_window(ms(10)), 5));
        for n in [103, 101, 112, 108, 118] {
            run.item(n);
        }
        assert_eq!(seen(run.items()), [(101, 111, vec![101, 103, 108], 3)]);
        run.item(113);
        run.item(100);
        let late = run.outputs().remove(0).unwrap_err();
        assert_eq!((late.kind(), late.take_item()), (ErrorKind::Late, Some(100_u64)));
        run.end();
        assert_eq!(seen(run.items()), [(111, 118, vec![112, 113, 118], 3)]);
        // Counted windows, too, are those of the sorted input.
        let mut run = Harness::new(&by_time(list().with_count_window(2), 100));
        [5, 3, 4, 1, 2].into_iter().for_each(|n| run.item(n));
        run.end();
        let results: Vec<_> = run.items().into_iter().map(|window| window.result).collect();
        assert_eq!(results, [vec![1, 2], vec![3, 4], vec![5]]);
    }

    #[test]
    fn silence_folds_what_is_kept_and_sends_it() {
        let mut run = Harness::new(&by_time(sums(), 50).with_idle_timeout(ms(100)));
        [20, 10].into_iter().for_each(|n| run.item(n));
        run.advance(ms(99));
        assert!(run.items().is_empty());
        run.advance(ms(1));
        assert_eq!(seen(run.items()), [(10, 20, 30, 2)]);
        assert_eq!((run.next_wake(), run.steps()[0].held()), (None, 0));
        run.item(15);
        run.end();
        assert_eq!(seen(run.items()), [(20, 20, 15, 1)]);
    }

    /// One after the other: those of a list that is sorted first.
    #[test]
    fn for_any_disorder_within_the_lateness_the_windows_are_those_of_the_sorted_input() {
        for seed in 0..500 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let (lateness, count, duration) = (rng.u64(0..50), rng.usize(1..10), rng.u64(1..60));
            let empty = rng.bool();
            let mut now = 1_000;
            let mut events: Vec<(u64, u64)> = (0..rng.u32(1..100))
                .map(|_| {
                    now += [0, 0, 1, 3, 90][rng.usize(..5)];
                    (now + rng.u64(..=lateness), now)
                })
                .collect();
            events.sort_by_key(|(arrival, _)| *arrival);
            let windows = |lateness, events: &[(u64, u64)]| {
                let list = Aggregate::new(Vec::new, |list: &mut Vec<u64>, n: &u64| list.push(*n));
                let list = list.with_count_window(count).with_time_window(ms(duration)).with_empty_windows(empty);
                let mut run = Harness::new(&by_time(list, lateness));
                events.iter().for_each(|(_, n)| run.item(*n));
                run.end();
                let step = &run.steps()[0];
                assert_eq!((step.delivered, step.held()), (events.len() as u64, 0));
                seen(run.items())
            };
            let disordered = windows(lateness, &events);
            events.sort_by_key(|(_, time)| *time);
            assert_eq!(disordered, windows(0, &events), "seed {seed}");
            // Contiguous, and everything in it, in order.
            assert!(disordered.windows(2).all(|pair| pair[0].1 == pair[1].0 || !empty), "seed {seed}");
            let items: Vec<u64> = disordered.into_iter().flat_map(|window| window.2).collect();
            assert_eq!(items, events.iter().map(|(_, time)| *time).collect::<Vec<_>>(), "seed {seed}");
        }
    }

    #[test]
    #[should_panic(expected = "`items` must be at least 1")]
    fn a_count_of_0_is_refused() {
        let _ = sums().with_count_window(0);
    }

    #[test]
    #[should_panic(expected = "`duration` must be greater than zero")]
    fn no_time_at_all_is_refused() {
        let _ = sums().with_time_window(ms(0));
    }

    #[test]
    #[should_panic(expected = "`with_empty_windows` needs `with_time_window`")]
    fn empty_windows_without_a_time_are_refused() {
        let _ = sums().with_empty_windows(true).start();
    }
}
