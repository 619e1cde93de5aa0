//! Defines [`Windows`], the type behind tumbling, sliding and session windows, and its type parameters.
//!
//! [`TumblingWindow`](crate::TumblingWindow), [`SlidingWindow`](crate::SlidingWindow) and
//! [`SessionWindow`](crate::SessionWindow) are aliases of [`Windows`]. Each method that changes what a window does, such as
//! [`with_key`](Windows::with_key), changes a parameter of the type. Use the names in this module only to write such
//! a type, for example for a field:
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use streamz::TumblingWindow;
//! use streamz::windows::{ByKey, EventTime};
//!
//! struct Click {
//!     user: u64,
//!     time: SystemTime,
//! }
//!
//! struct Config {
//!     windows: TumblingWindow<
//!         Click,
//!         ByKey<u64, fn(&Click) -> u64>,
//!         EventTime<fn(&Click) -> SystemTime>,
//!     >,
//! }
//!
//! let user: fn(&Click) -> u64 = |click| click.user;
//! let time: fn(&Click) -> SystemTime = |click| click.time;
//! let windows = TumblingWindow::new(Duration::from_secs(60))
//!     .with_key(user)
//!     .with_event_time(time, Duration::ZERO);
//! let config = Config { windows };
//! ```
//!
//! If a closure has no name, write the whole as `impl Processor<In = Click, Out = ..>`.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

pub use super::content::{Content, Folded, Items};
pub use super::correcting::{Corrected, Correcting};
pub use super::keys::{ByKey, Keying, NoKey};
pub use super::operator::Shape;
use super::operator::WindowOperator;
pub use super::session::Session;
pub use super::sliding::Sliding;
use super::time::span;
pub use super::time::{ArrivalTime, EventTime, TimeSource};
pub use super::tumbling::Tumbling;
use crate::folds::Fold;
use crate::operators::options::{Options, common_options};
use crate::pipeline::CancelToken;
use crate::stream::{Processor, Stage, Stream, start};

/// The maximum number of keys with open windows, by default.
const MAX_KEYS: usize = 1_000_000;

/// Groups items of type `T` into windows; its aliases are [`TumblingWindow`](crate::TumblingWindow),
/// [`SlidingWindow`](crate::SlidingWindow) and [`SessionWindow`](crate::SessionWindow).
///
/// - `H`, the [`Shape`], selects how windows lie in time: [`Tumbling`], [`Sliding`] or [`Session`].
/// - `K`, the [`Keying`], selects whether each key has windows of its own: [`NoKey`] or [`ByKey`].
/// - `S`, the [`TimeSource`], selects what the time of an item is: [`ArrivalTime`] or [`EventTime`].
/// - `C`, the [`Content`], selects what a window holds: [`Items`], or the state of a fold, [`Folded`].
#[must_use = "a processor does nothing until it is given a stream"]
pub struct Windows<H, T, K, S, C> {
    pub(super) shape: H,
    keying: K,
    time: S,
    content: C,
    max_count: u64,
    max_keys: usize,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<H, T, K> Windows<H, T, K, ArrivalTime, Items> {
    pub(super) fn with_shape(name: &'static str, shape: H, keying: K) -> Self {
        Self {
            shape,
            keying,
            time: ArrivalTime::default(),
            content: Items,
            max_count: u64::MAX,
            max_keys: MAX_KEYS,
            options: Options::new(name),
            types: PhantomData,
        }
    }
}

impl<H, T, K, S, C> Windows<H, T, K, S, C> {
    common_options! {
        with_name: options.name,
        /// Sets how many windows may wait in the output for a slow consumer. With 0, every window is handed over directly.
        ///
        /// Defaults to 16 for windows that hold their items, because these are big, and to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity) for [folded](Self::aggregate_by) ones.
        with_capacity(windows): options.capacity,
    }

    /// Sets the greatest number of items in a window; a window is emitted as soon as it has that many. Defaults to no
    /// limit. With 1 every item makes a window of its own.
    ///
    /// Later items of the same stretch of time make another window with the same bounds.
    ///
    /// # Panics
    /// If `max_count` is 0.
    #[track_caller]
    pub fn max_count(mut self, max_count: usize) -> Self {
        assert!(max_count > 0, "`max_count` must be at least 1");
        self.max_count = max_count as u64;
        self
    }
}

impl<H, T, S, C> Windows<H, T, NoKey, S, C> {
    /// Keeps separate windows for each key, and emits them as [`Keyed`](crate::Keyed). Windows that end together come
    /// in the order in which their keys first appeared.
    ///
    /// `key` is called once for each item, in their order. With many keys, it may be called for up to 16 items before the
    /// first of them is processed, so it must not wait for the outcome of earlier items.
    ///
    /// If `key` panics on an item, or the `Hash` or `Eq` of its key does, the item becomes an error item that carries it.
    /// If the `Clone` of a key panics, the error item carries the window, and the items in it count as failed.
    pub fn with_key<L, F>(self, key: F) -> Windows<H, T, ByKey<L, F>, S, C>
    where
        L: Eq + Hash + Clone + Send + 'static,
        F: Fn(&T) -> L + Send + Sync + 'static,
    {
        let Self { shape, time, content, max_count, max_keys, options, types, .. } = self;
        Windows { shape, keying: ByKey::new(key), time, content, max_count, max_keys, options, types }
    }
}

impl<H, T, L, F, S, C> Windows<H, T, ByKey<L, F>, S, C> {
    /// Sets how many keys may have open windows at a time. Defaults to 1,000,000. `usize::MAX` means no limit.
    ///
    /// If one more key appears, all windows of the key whose window would be closed next are closed early. Nothing is
    /// lost, but a key may then have two windows where it would have had one. The report counts such keys
    /// ([`evicted_keys`](crate::StepReport::evicted_keys)).
    ///
    /// # Panics
    /// If `max_keys` is 0.
    #[track_caller]
    pub fn with_max_keys(mut self, max_keys: usize) -> Self {
        assert!(max_keys > 0, "`max_keys` must be at least 1");
        self.max_keys = max_keys;
        self
    }
}

impl<H, T, K, C> Windows<H, T, K, ArrivalTime, C> {
    /// Takes the time of each item from `time` instead of from the clock: when it happened, not when it arrived.
    ///
    /// Items may come out of order, by up to `allowed_lateness`. This has no default, because it depends on your data.
    /// The *watermark* is the greatest time seen so far less `allowed_lateness`; a window is emitted as soon as the
    /// watermark has reached its end. So the output is the same as if the items had been sorted by time first. With a
    /// lateness of zero, the items must arrive in order.
    ///
    /// If the items come from several streams that were merged, each of them has a watermark of its own, and that of
    /// the slowest counts: see [`FanIn`](crate::FanIn#event-time). So the streams may be arbitrarily far apart.
    ///
    /// An item that is older than the watermark still goes into its window if that is open. It is *late* if none of its
    /// windows is. A late item becomes an error item of kind [`Late`](crate::ErrorKind::Late) that carries
    /// it; its source says by how much it is older than the watermark ([`TooLate`](crate::TooLate)). A
    /// [`DeadLetterQueue`](crate::DeadLetterQueue) catches it. Of overlapping windows, an item goes into those
    /// that are still open. For sessions these rules apply as if each item had a session of its own, which ends a gap
    /// after it: an item is not late if that end is after the watermark, or if an open session takes the item.
    ///
    /// An item with a time far in the future makes those that follow late. If times may be wrong, set
    /// [`with_max_ahead`](Windows::with_max_ahead) or [`with_max_jump`](Windows::with_max_jump).
    ///
    /// An item on which `time` panics, or whose time is more than 30,000 years off, becomes an error item that
    /// carries it.
    ///
    /// # Panics
    /// If `allowed_lateness` is more than 10,000 years.
    #[track_caller]
    pub fn with_event_time<F>(self, time: F, allowed_lateness: Duration) -> Windows<H, T, K, EventTime<F>, C>
    where
        F: Fn(&T) -> SystemTime + Send + Sync + 'static,
    {
        let time = EventTime::new(time, allowed_lateness);
        let Self { shape, keying, content, max_count, max_keys, options, types, .. } = self;
        Windows { shape, keying, time, content, max_count, max_keys, options, types }
    }
}

impl<H, T, K, F, C> Windows<H, T, K, EventTime<F>, C> {
    /// Closes all open windows when no item has come for `idle_timeout`, by the pipeline's clock. Defaults to never, as
    /// does `Duration::MAX`: then the last windows are emitted when a later item comes, or at the end of the input.
    ///
    /// Only accepted items count; one that is late or fails does not delay the closing. While the output is full, no
    /// input is taken, and the timeout does not run; it starts again when there is room. What is accepted as not too
    /// late stays the same: an item that comes after the silence and belongs to a window that was closed makes another
    /// one with the same bounds.
    ///
    /// # Panics
    /// If `idle_timeout` is zero.
    #[track_caller]
    pub fn with_idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.time.set_idle_timeout(idle_timeout);
        self
    }

    /// Refuses items whose time is more than `max_ahead` later than the present time of the pipeline's clock.
    /// Defaults to no limit, as does `Duration::MAX`. With zero, no item may be later than the present.
    ///
    /// A refused item becomes an error item of kind [`Failed`](crate::ErrorKind::Failed) that carries it; its
    /// source is [`TooFarAhead`](crate::TooFarAhead). It does not move the watermark.
    ///
    /// Set this for events that happen while the pipeline runs. An event cannot come from the future, so a small
    /// bound, such as a minute, only has to cover the difference between clocks. There is no default because times
    /// may lie in the future on purpose, as those of bookings do. In a replay of old data, where all times are
    /// in the past, use [`with_max_jump`](Self::with_max_jump).
    pub fn with_max_ahead(mut self, max_ahead: Duration) -> Self {
        self.time.set_max_ahead(max_ahead);
        self
    }

    /// Refuses items whose time is more than `max_jump` later than the greatest time accepted so far. Defaults to
    /// no limit, as does `Duration::MAX`.
    ///
    /// A refused item becomes an error item as for [`with_max_ahead`](Self::with_max_ahead).
    ///
    /// This depends only on the data, so it also works in a replay. It has two limits. The first item is always
    /// accepted; if its time is wrong, those that follow are late. And a real gap in the data that is longer than
    /// `max_jump` cannot be told from a wrong time: everything after the gap is refused. Choose a `max_jump` that is
    /// longer than any gap that you expect.
    ///
    /// # Panics
    /// If `max_jump` is zero.
    #[track_caller]
    pub fn with_max_jump(mut self, max_jump: Duration) -> Self {
        self.time.set_max_jump(max_jump);
        self
    }
}

impl<H, T, K, F, C> Windows<H, T, K, EventTime<F>, C> {
    /// Keeps each window for the duration `allowed` after it was emitted, and emits it again, complete, for each late
    /// item that arrives for it: as a [`Revised`](crate::Revised) window, which names the results that it replaces.
    ///
    /// A window is emitted for the first time when the watermark has reached its end, and forgotten when the watermark is
    /// `allowed` beyond that, at the end of the input, and after a
    /// [silence](Self::with_idle_timeout). Until then no item of its time is late. The first item that arrives late for a window
    /// without items emits it at once, with revision 0. So a table in which each result replaces those that it names ends
    /// up with what the windows would be if the lateness given to [`with_event_time`](Self::with_event_time) were longer by
    /// `allowed`, and the same items are late. That lateness delays the results; this one does not. Flink calls it
    /// *allowed lateness*; in Beam it is a trigger with accumulating and retracting panes.
    ///
    /// - *Tumbling windows.* A correction replaces the last result with the same bounds.
    /// - *Sliding windows.* The same. A late item emits each window that covers it, one after the other: up to `size / slide` of
    ///   them.
    /// - *Sessions.* A late item may extend a session that was emitted, or join several of them. The correction names the
    ///   bounds of each. If the session ends after the watermark now, its correction is emitted when the watermark has reached
    ///   that end; until then the old results stand.
    ///
    /// Items must be `Clone`, because each emission gives away a copy. With `aggregate`, which must be called before this as
    /// all methods that change the windows, the states of tumbling windows and sessions must be `Clone`; those of sliding
    /// windows are merged into a new one. If that panics, an error item takes the place of the emission; the window stays,
    /// and its next emission replaces the results that still stand. A window with [`max_count`](Self::max_count) items is emitted
    /// when it is full, and not kept: items that arrive later for the same time make another window, which may have the
    /// same bounds and begins with revision 0.
    ///
    /// An item counts as delivered when it is emitted for the first time with the last of its windows. With
    /// [delivery](crate::delivery), its record is acknowledged only when the window is forgotten, so that a restart does not
    /// correct a result by one that lacks items.
    ///
    /// Corrections are emitted when the late item arrives. So only the first emissions are in the order of their ends.
    ///
    /// *Memory.* In addition to the open windows, those of the duration `allowed`, for each key; for each of them about 100
    /// bytes, and its items or state, which sliding windows share. Kept windows count for [`with_max_keys`](Self::with_max_keys).
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use std::time::{Duration, SystemTime};
    /// use streamz::{Pipeline, Revised, SessionWindow, Stream};
    ///
    /// let seconds = Duration::from_secs;
    /// let visits = SessionWindow::new(|_: &u64| ())
    ///     .with_gap(seconds(10))
    ///     .with_event_time(
    ///         move |second: &u64| SystemTime::UNIX_EPOCH + seconds(*second),
    ///         Duration::ZERO,
    ///     )
    ///     .with_corrections(seconds(60));
    /// let pipeline = Pipeline::new("late");
    /// let (mut table, mut replaced) = (BTreeMap::new(), Vec::new());
    /// // 9 comes late, and joins two visits that were emitted.
    /// for visit in Stream::from_iter(&pipeline, [1, 15, 40, 9]).through(&visits) {
    ///     let Revised { window, replaces, .. } = visit?.window;
    ///     replaced.push(replaces.len());
    ///     for bounds in replaces {
    ///         table.remove(&bounds.start);
    ///     }
    ///     table.insert(window.start, window.items);
    /// }
    /// assert_eq!(replaced, [0, 0, 2, 0]);
    /// assert_eq!(table.into_values().collect::<Vec<_>>(), [vec![1, 9, 15], vec![40]]);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If `allowed` is zero or more than 10,000 years.
    #[track_caller]
    #[doc(alias("allowed_lateness", "late", "update", "retraction", "accumulating"))]
    pub fn with_corrections(self, allowed: Duration) -> Windows<Correcting<H>, T, K, EventTime<F>, Corrected<C>> {
        let keep = span("allowed", allowed);
        let Self { shape, keying, time, content, max_count, max_keys, options, types } = self;
        let (shape, content) = (Correcting::new(shape, keep), Corrected(content));
        Windows { shape, keying, time, content, max_count, max_keys, options, types }
    }
}

impl<H, T, K, S> Windows<H, T, K, S, Items> {
    /// Folds the items of each window with one of the ready-made [`folds`](crate::folds), or with one of your own,
    /// instead of keeping them.
    pub fn aggregate_by<F: Fold<T>>(self, fold: F) -> Windows<H, T, K, S, Folded<F>> {
        let content = Folded::new(fold);
        let Self { shape, keying, time, max_count, max_keys, options, types, .. } = self;
        Windows { shape, keying, time, content, max_count, max_keys, options, types }
    }
}

impl<H, T, K, S, C> Processor for Windows<H, T, K, S, C>
where
    T: Send + 'static,
    K: Keying<T>,
    S: TimeSource<T>,
    C: Content<T, S::Tag>,
    H: Shape<T, S::Tag, C>,
{
    type In = T;
    type Out = K::Labelled<C::Window>;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<T>) -> Stream<K::Labelled<C::Window>> {
        start::launch(self, cancel, input)
    }

    fn name(&self) -> &str {
        &self.options.name
    }
}

impl<H, T, K, S, C> Stage for Windows<H, T, K, S, C>
where
    T: Send + 'static,
    K: Keying<T>,
    S: TimeSource<T>,
    C: Content<T, S::Tag>,
    H: Shape<T, S::Tag, C>,
{
    type Op = WindowOperator<T, K, S, C, H>;

    fn start(&self) -> Self::Op {
        let shape = self.shape.bounded(self.max_count);
        WindowOperator::new(self.keying.clone(), self.time.clone(), self.content.clone(), shape, self.max_keys)
    }

    fn capacity(&self) -> Option<usize> {
        self.options.capacity.or(C::CAPACITY)
    }
}

impl<H: fmt::Debug, T, K, S, C> fmt::Debug for Windows<H, T, K, S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows")
            .field("shape", &self.shape)
            .field("max_count", &self.max_count)
            .field("max_keys", &self.max_keys)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
