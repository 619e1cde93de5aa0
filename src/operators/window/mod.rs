//! Operators that put items together by their time.
//!
//! They are one operator ([`operator`]) made of four parts: whose items go together ([`keys`]), when an item happened
//! ([`time`]), what is kept of the items ([`content`]), and how windows lie in time ([`operator::Shape`], one in the file
//! of each window).

mod aggregate;
pub(crate) mod content;
pub(crate) mod keys;
pub(crate) mod operator;
mod pieces;
mod session;
mod sliding;
#[cfg(test)]
mod tests;
pub(crate) mod time;
mod tumbling;

use std::marker::PhantomData;
use std::time::Duration;

pub use aggregate::{Aggregate, AggregateWindow};
pub use content::Window;
pub use keys::Keyed;
pub use session::SessionWindow;
pub use sliding::SlidingWindow;
pub use time::{TooFarAhead, TooLate};
pub use tumbling::TumblingWindow;

use operator::Bounds;

use crate::operators::options::Options;

/// How many windows may wait in an output. The pipeline's default is made for single items: as many windows would be
/// far more than anybody wants to hold.
const CAPACITY: usize = 16;

/// How many keys may have windows open, unless something else is asked for.
const MAX_KEYS: usize = 1_000_000;

/// How long windows are and how often they begin.
///
/// ```
/// use std::time::Duration;
/// use streamz::WindowConfig;
///
/// let config = WindowConfig { size: Duration::from_secs(10), ..WindowConfig::default() };
/// assert_eq!((config.slide, config.max_count), (None, None));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowConfig {
    /// How long a window is. Defaults to one minute. Greater than zero and at most 10,000 years.
    pub size: Duration,
    /// How long after the start of a window the next one starts. Defaults to `None`, which means the size: then windows
    /// do not overlap. Greater than zero and at most the size.
    pub slide: Option<Duration>,
    /// How many items a window has at most. Defaults to `None`: as many as come. At least 1.
    pub max_count: Option<usize>,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self { size: Duration::from_secs(60), slide: None, max_count: None }
    }
}

/// What all windows are made of, beside their shape.
pub(super) struct Setup<T, K, S, C> {
    keying: K,
    time: S,
    content: C,
    bounds: Bounds,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T, K> Setup<T, K, time::ArrivalTime, content::Items> {
    fn new(name: &'static str, keying: K) -> Self {
        let options = Options { capacity: Some(CAPACITY), ..Options::new(name) };
        let bounds = Bounds { max_count: u64::MAX, max_keys: MAX_KEYS };
        Self { keying, time: Default::default(), content: content::Items, bounds, options, types: PhantomData }
    }
}

impl<T, K, S, C> Setup<T, K, S, C> {
    fn with_keying<L>(self, keying: L) -> Setup<T, L, S, C> {
        let Self { time, content, bounds, options, types, .. } = self;
        Setup { keying, time, content, bounds, options, types }
    }

    fn with_time<U>(self, time: U) -> Setup<T, K, U, C> {
        let Self { keying, content, bounds, options, types, .. } = self;
        Setup { keying, time, content, bounds, options, types }
    }

    fn with_content<D>(self, content: D) -> Setup<T, K, S, D> {
        let Self { keying, time, bounds, options, types, .. } = self;
        Setup { keying, time, content, bounds, options, types }
    }
}

/// What all windows have, for a type with fields `shape` and `setup`.
macro_rules! window {
    ($window:ident, $content:ident) => {
        impl<T, K, S, C> $window<T, K, S, C> {
            /// Sets the name that the stage has in reports and errors, and that its threads carry.
            ///
            /// # Panics
            /// If `name` contains a NUL byte.
            #[track_caller]
            pub fn with_name(mut self, name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
                self.setup.options.name = $crate::pipeline::name::checked(name);
                self
            }

            /// Sets how many windows may wait in the output for a slow consumer. Defaults to 16, whatever the
            /// pipeline's [capacity](crate::PipelineBuilder::capacity): windows are big. With 0 every window is handed
            /// over directly.
            pub fn with_capacity(mut self, windows: usize) -> Self {
                self.setup.options.capacity = Some(windows);
                self
            }

            /// Sets how many items a window has at most; one that has so many is sent at once. Defaults to no limit.
            /// With 1 every item makes a window of its own.
            ///
            /// What comes after that and belongs to the same stretch of time makes another window of the same bounds.
            ///
            /// # Panics
            /// If `items` is 0.
            #[track_caller]
            pub fn max_count(mut self, items: usize) -> Self {
                assert!(items > 0, "`max_count` must be at least 1");
                self.setup.bounds.max_count = items as u64;
                self
            }
        }

        impl<T, K, F, C> $window<T, K, $crate::operators::window::time::EventTime<F>, C> {
            /// Closes all open windows when no item has come for so long, by the pipeline's clock. Defaults to never, as
            /// does `Duration::MAX`: then the last windows are sent when a later item comes, or at the end of the input.
            ///
            /// Only accepted items count; one that is late or fails does not put off the closing. While the output
            /// is full no input is taken, and the time does not run; it counts anew when there is room. What is
            /// accepted as not too late stays the same: an item that comes after the silence and belongs to a window
            /// that was closed makes another one of the same bounds.
            ///
            /// # Panics
            /// If `idle_timeout` is zero.
            #[track_caller]
            pub fn with_idle_timeout(mut self, idle_timeout: std::time::Duration) -> Self {
                self.setup.time.set_idle_timeout(idle_timeout);
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
            pub fn with_max_ahead(mut self, max_ahead: std::time::Duration) -> Self {
                self.setup.time.set_max_ahead(max_ahead);
                self
            }

            /// Refuses items whose time is more than `max_jump` later than the greatest time accepted so far. Defaults to
            /// no limit, as does `Duration::MAX`.
            ///
            /// A refused item becomes an error item as for [`with_max_ahead`](Self::with_max_ahead).
            ///
            /// This looks at the data alone, so it also works in a replay. It has two limits. The first item is always
            /// accepted; if its time is wrong, those that follow are late. And a real gap in the data that is longer than
            /// `max_jump` is not told from a wrong time: everything after the gap is refused. Choose a `max_jump` that is
            /// longer than any gap that you expect.
            ///
            /// # Panics
            /// If `max_jump` is zero.
            #[track_caller]
            pub fn with_max_jump(mut self, max_jump: std::time::Duration) -> Self {
                self.setup.time.set_max_jump(max_jump);
                self
            }
        }

        impl<T, K, C> $window<T, K, $crate::operators::window::time::ArrivalTime, C> {
            /// Takes the time of each item from what `time` says, instead of the clock: when it happened, not when it
            /// arrived.
            ///
            /// Items may come out of order, up to `allowed_lateness`, which has no default because nobody but you can
            /// know: the *watermark* is the greatest time seen so far less `allowed_lateness`; a window is sent as soon
            /// as the watermark has reached its end. So what comes out is the same as if the items had been sorted by
            /// time first. With a lateness of zero, the items must come in order.
            ///
            /// An item that is older than the watermark still belongs to a window that has not been sent. It is *late* if
            /// it belongs to none. A late item becomes an error item of kind [`Late`](crate::ErrorKind::Late) that carries
            /// it; its source says by how much it is older than the watermark ([`TooLate`](crate::TooLate)). A
            /// [`DeadLetterQueue`](crate::DeadLetterQueue) catches it. Of overlapping windows, an item goes into those
            /// that are still open. To sessions these rules apply as if each item had one of its own, which ends a gap after
            /// it: an item is not late if this ends after the watermark, or if an open session takes it.
            ///
            /// An item with a time far in the future makes those that follow late. If times may be wrong, set
            /// [`with_max_ahead`](Self::with_max_ahead) or [`with_max_jump`](Self::with_max_jump).
            ///
            /// An item on which `time` panics, or whose time is more than 30,000 years off, becomes an error item that
            /// carries it.
            ///
            /// # Panics
            /// If `allowed_lateness` is more than 10,000 years.
            #[track_caller]
            pub fn with_event_time<F>(
                self,
                time: F,
                allowed_lateness: std::time::Duration,
            ) -> $window<T, K, $crate::operators::window::time::EventTime<F>, C>
            where
                F: Fn(&T) -> std::time::SystemTime + Send + Sync + 'static,
            {
                let time = $crate::operators::window::time::EventTime::new(time, allowed_lateness);
                $window { shape: self.shape, setup: self.setup.with_time(time) }
            }
        }

        impl<T, K, S> $window<T, K, S, $crate::operators::window::content::Items> {
            /// As `aggregate`, with one of the ready-made [`folds`](crate::folds), or with one of your own.
            pub fn aggregate_by<F: $crate::folds::Fold<T>>(
                self,
                fold: F,
            ) -> $window<T, K, S, $crate::operators::window::content::Folded<F>> {
                let content = $crate::operators::window::content::Folded::new(fold);
                $window { shape: self.shape, setup: self.setup.with_content(content) }
            }
        }

        impl<T, K, S, C> $crate::Processor for $window<T, K, S, C>
        where
            T: Send + 'static,
            K: $crate::operators::window::keys::Keying<T>,
            S: $crate::operators::window::time::TimeSource<T>,
            C: $crate::operators::window::content::$content<T, S::Tag>,
        {
            type In = T;
            type Out = K::Labelled<C::Window>;

            #[track_caller]
            fn process(
                &self,
                cancel: &$crate::CancelToken,
                input: $crate::Stream<T>,
            ) -> $crate::Stream<K::Labelled<C::Window>> {
                $crate::stream::start::launch(self, cancel, input)
            }

            fn name(&self) -> &str {
                &self.setup.options.name
            }
        }

        impl<T, K, S, C> $crate::Stage for $window<T, K, S, C>
        where
            T: Send + 'static,
            K: $crate::operators::window::keys::Keying<T>,
            S: $crate::operators::window::time::TimeSource<T>,
            C: $crate::operators::window::content::$content<T, S::Tag>,
        {
            type Op = $crate::operators::window::operator::WindowOperator<T, K, S, C, Shape>;

            fn start(&self) -> Self::Op {
                let setup = &self.setup;
                let shape = self.shape.bounded(setup.bounds.max_count);
                let (keying, time, content) = (setup.keying.clone(), setup.time.clone(), setup.content.clone());
                Self::Op::new(keying, time, content, shape, setup.bounds.max_keys)
            }

            fn capacity(&self) -> Option<usize> {
                self.setup.options.capacity
            }
        }

        impl<T, K, S, C> std::fmt::Debug for $window<T, K, S, C> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($window))
                    .field("shape", &self.shape)
                    .field("bounds", &self.setup.bounds)
                    .field("options", &self.setup.options)
                    .finish_non_exhaustive()
            }
        }
    };
}

/// For windows that need no key: how to give them one.
macro_rules! keyed_window {
    ($window:ident) => {
        impl<T, S, C> $window<T, $crate::operators::window::keys::NoKey, S, C> {
            /// Keeps windows for each key apart, and sends them as [`Keyed`](crate::Keyed). Those that end together come
            /// in the order in which their keys came up.
            ///
            /// An item on which `key` panics, or the `Hash` or `Eq` of its key, becomes an error item that carries it. If
            /// the `Clone` of a key panics, the window is in the error item, and its items count as failed.
            pub fn with_key<L, F>(self, key: F) -> $window<T, $crate::operators::window::keys::ByKey<L, F>, S, C>
            where
                L: Eq + std::hash::Hash + Clone + Send + 'static,
                F: Fn(&T) -> L + Send + Sync + 'static,
            {
                let keying = $crate::operators::window::keys::ByKey::new(key);
                $window { shape: self.shape, setup: self.setup.with_keying(keying) }
            }
        }

        max_keys!($window);
    };
}

macro_rules! max_keys {
    ($window:ident) => {
        impl<T, L, F, S, C> $window<T, $crate::operators::window::keys::ByKey<L, F>, S, C> {
            /// Sets how many keys may have windows open at a time. Defaults to 1,000,000. `usize::MAX` means no bound.
            ///
            /// If another key comes, all windows of the key whose window would be closed next are closed early. So nothing
            /// is lost, but a key may then have two windows where it would have had one.
            ///
            /// # Panics
            /// If `max_keys` is 0.
            #[track_caller]
            pub fn with_max_keys(mut self, max_keys: usize) -> Self {
                assert!(max_keys > 0, "`max_keys` must be at least 1");
                self.setup.bounds.max_keys = max_keys;
                self
            }
        }
    };
}

use {keyed_window, max_keys, window};
