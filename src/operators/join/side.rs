//! [`JoinSide`]: one of the two inputs of a join: the key and the time of its items.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::operators::window::time::{EventTime, Times, time_options};

/// Describes one of the two streams of a [`Join`](crate::Join): how to read the key and the time of an item, and how
/// far out of order items may arrive.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use streamz::JoinSide;
///
/// struct Order {
///     id: u64,
///     placed: SystemTime,
/// }
///
/// let orders = JoinSide::new(
///     |order: &Order| order.id,
///     |order: &Order| order.placed,
///     Duration::from_secs(10),
/// )
/// .with_idle_timeout(Duration::from_secs(60));
/// ```
#[must_use = "it is given to a `Join`"]
pub struct JoinSide<T, K, F, G> {
    key: Arc<F>,
    time: EventTime<G>,
    types: PhantomData<fn(T) -> K>,
}

impl<T, K, F, G> JoinSide<T, K, F, G>
where
    K: Eq + Hash + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
    G: Fn(&T) -> SystemTime + Send + Sync + 'static,
{
    /// Reads the key of an item with `key`, and the time at which it happened with `time`.
    ///
    /// The items of this stream may arrive out of order, by up to `allowed_lateness`. The *watermark* of the stream is
    /// the greatest time seen in it less `allowed_lateness`. An item that is older than the watermark is *late*. With a
    /// lateness of zero, the stream must be sorted by time. In a stream that was [merged](crate::FanIn#event-time) from
    /// others, each of them has a watermark of its own, and the watermark of the stream is the least of these; so the
    /// lateness need not cover the distance between them.
    ///
    /// An item on which `key`, its `Hash` or `Eq`, or `time` panics becomes an error item that carries it. So does one
    /// whose time is more than 30,000 years off.
    ///
    /// # Panics
    /// If `allowed_lateness` is more than 10,000 years.
    #[track_caller]
    pub fn new(key: F, time: G, allowed_lateness: Duration) -> Self {
        Self { key: Arc::new(key), time: EventTime::new(time, allowed_lateness), types: PhantomData }
    }
}

impl<T, K, F, G> JoinSide<T, K, F, G> {
    time_options! {
        /// Lets the watermark of this stream follow that of the other one when no item of this stream has been accepted for
        /// `idle_timeout`, by the pipeline's clock. Defaults to never, as does `Duration::MAX`: then items of the other stream
        /// wait for partners until this stream continues or ends.
        ///
        /// Set it for a stream that may be silent while the other one is not. An item that comes after the silence is late if it
        /// is older than the watermark of the other stream. If both streams are silent, time has come to the greater of their
        /// watermarks.
        ///
        /// While the output is full, no input is taken, and the timeout does not run; it starts again when there is
        /// room.
    }
}

/// Stands for one of the two streams of a join: a [`JoinSide`]. Sealed.
#[allow(private_bounds)] // seals the trait
pub trait Side: Reads<<Self as Side>::Item, <Self as Side>::Key> {
    /// The items.
    type Item: Clone + Send + 'static;
    /// The key by which they are joined.
    type Key: Eq + Hash + Send + 'static;
}

/// The functions of a [`Side`].
pub(super) trait Reads<T, K>: Clone + Send + 'static {
    type Time: Times<T>;

    fn key(&self, item: &T) -> K;
    fn time(&self) -> &Self::Time;
    fn time_mut(&mut self) -> &mut Self::Time;
}

impl<T, K, F, G> Side for JoinSide<T, K, F, G>
where
    T: Clone + Send + 'static,
    K: Eq + Hash + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
    G: Fn(&T) -> SystemTime + Send + Sync + 'static,
{
    type Item = T;
    type Key = K;
}

impl<T, K, F, G> Reads<T, K> for JoinSide<T, K, F, G>
where
    T: 'static,
    K: 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
    G: Fn(&T) -> SystemTime + Send + Sync + 'static,
{
    type Time = EventTime<G>;

    #[inline]
    fn key(&self, item: &T) -> K {
        (self.key)(item)
    }

    #[inline]
    fn time(&self) -> &EventTime<G> {
        &self.time
    }

    #[inline]
    fn time_mut(&mut self) -> &mut EventTime<G> {
        &mut self.time
    }
}

impl<T, K, F, G> Clone for JoinSide<T, K, F, G> {
    fn clone(&self) -> Self {
        Self { key: Arc::clone(&self.key), time: self.time.clone(), types: PhantomData }
    }
}

impl<T, K, F, G> fmt::Debug for JoinSide<T, K, F, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSide").field("time", &self.time).finish_non_exhaustive()
    }
}
