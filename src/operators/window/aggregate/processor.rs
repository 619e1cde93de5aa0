//! [`Aggregate`]: the options and the processor.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::operator::{AggregateOperator, Limits};
use crate::clock::from_nanos;
use crate::operators::folds::{Fold, FoldWith};
use crate::operators::options::{Options, common_options};
use crate::operators::window::content::{AggregateWindow, Folded};
use crate::operators::window::time::{ArrivalTime, EventTime, TimeSource, span, time_options};

/// Folds many items into one value: `T` in, [`AggregateWindow<A>`] out.
///
/// A window is emitted as soon as one of these conditions is met, as far as it is set:
///
/// - it has the number of items that was set ([`with_count_window`](Self::with_count_window));
/// - it has lasted the time that was set ([`with_time_window`](Self::with_time_window)); an item that comes at that very
///   moment belongs to the next one;
/// - its state satisfies a condition ([`with_trigger`](Self::with_trigger));
/// - the input ends.
///
/// If none is set, there is one value, at the end of the input.
///
/// Windows follow one another without a gap: the first begins with the run, and each other one when the one before it
/// is emitted, at which moment its time starts to run. (For windows that begin on the hour, use a
/// [`TumblingWindow`](crate::TumblingWindow).) One that is emitted for another reason than its time ends at that
/// moment: when its last item arrived, or the input ended. So its duration is zero if all its items arrived in the same
/// instant. A window without items is not emitted, unless [`with_empty_windows`](Self::with_empty_windows) is set.
///
/// Each window has its own state, created by `init` when its first item arrives, and moved out when it is emitted:
/// nothing leaks from one window to the next. An item counts as delivered when its window is emitted.
///
/// # Ordering
/// Items are folded in order. Error items are forwarded at once: one that arrives after an item precedes the window of
/// that item. They do not close windows.
///
/// # Back-pressure
/// While the output is full, no input is taken, and a window that is due waits for room; this lengthens neither that
/// window nor the next one.
///
/// # Cancellation
/// The state of the open window is dropped, and its items are counted as abandoned.
///
/// # Panics of the closures
/// If `init` or `fold` panics, the item becomes an error item that carries it, and the state stays as it was left:
/// change it last. A trigger that panics causes an error item, and the window continues.
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
#[doc(alias("reduce_by", "rollup", "summarize"))]
pub struct Aggregate<T, F: Fold<T>, S = ArrivalTime> {
    fold: Folded<F>,
    limits: Limits<F::State>,
    time: S,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T, A, I, F> Aggregate<T, FoldWith<A, I, F>>
where
    A: Send + 'static,
    I: Fn() -> A + Send + Sync + 'static,
    F: Fn(&mut A, &T) + Send + Sync + 'static,
{
    /// Folds items with `fold` into a state that `init` creates. Default name: `aggregate`.
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
    /// let windows = Stream::from_iter(&pipeline, [1.0, 2.0, 6.0])
    ///     .through(&means)
    ///     .collect::<Vec<_>>()?;
    /// assert_eq!(windows[0].result, 3.0);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    pub fn by(fold: F) -> Self {
        let limits = Limits { count: u64::MAX, duration: None, trigger: None, empty: false };
        let (fold, time, options) = (Folded::new(fold), ArrivalTime::default(), Options::new("aggregate"));
        Self { fold, limits, time, options, types: PhantomData }
    }

    /// Takes the time of each item from `time` instead of from the clock.
    ///
    /// Items may come out of order, up to `allowed_lateness`. They are kept until the *watermark*, the greatest time
    /// seen less `allowed_lateness`, has reached them, and then folded in the order of their times: so the result is
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
    time_options! {
        /// Folds all held items, and emits the open window, when no item has arrived for `idle_timeout`, by the
        /// pipeline's clock. While the output is full, no input is taken, and the timeout does not run; it starts again
        /// when there is room. Defaults to never, as does `Duration::MAX`. The next window begins at the time of the
        /// last item; an older one that comes later and is not too late goes there.
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

    /// Sets whether to emit a window whose time is up even if it has no items: with the state that `init` creates, and
    /// a count of 0. Defaults to `false`; then no timer runs while no item arrives.
    ///
    /// A long silence makes many empty windows; with event time, all of them are emitted when it ends.
    ///
    /// [`process`](crate::Processor::process) panics if this is set and [`with_time_window`](Self::with_time_window) is not.
    pub fn with_empty_windows(mut self, empty: bool) -> Self {
        self.limits.empty = empty;
        self
    }

    /// Emits a window when `trigger` returns `true` for its state. It is called after each item.
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
        AggregateOperator::new(self.fold.clone(), limits, self.time.clone())
    }

    fn capacity(&self) -> Option<usize> {
        self.options.capacity
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
