//! [`Join`]: two streams joined by key and event time.

use std::marker::PhantomData;
use std::time::Duration;

use super::feed::Sides;
use super::joins::{Inner, JoinKind, Left, Outer};
use super::lane::Lane;
use super::operator::JoinOperator;
use super::side::Side;
use crate::operators::options::{Options, common_options, opaque_debug};
use crate::operators::steering::Steering;
use crate::operators::window::time::{Nanos, span_or_zero};
use crate::pipeline::CancelToken;
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_driver};

/// The maximum number of items of each input in the state, by default.
const MAX_ITEMS: usize = 1_000_000;

/// Joins two streams by key and time: pairs each item of the left stream with each item of the right one that has the
/// same key and happened at about the same time.
///
/// This is the join that Kafka Streams calls a `KStream`-`KStream` join with `JoinWindows`, and Flink an interval join: the
/// times of two partners differ by at most `within`, whatever they are. A join of tumbling windows, in contrast, misses
/// partners on both sides of a boundary; if you want one, put the start of the window into the key.
///
/// An inner join emits pairs, as `(L, R)`. [`left`](Self::left) and [`outer`](Self::outer) also emit items that find no
/// partner. There is no right join; swap the streams.
///
/// Each stream has a [watermark](crate::JoinSide::new) of its own, so a stream that is ahead of the other does not make
/// its items late. A late item becomes an error item of kind [`Late`](crate::ErrorKind::Late) that carries it; its
/// source is [`TooLate`](crate::TooLate). Whether an item is late depends only on its own stream, so the emitted items
/// do not depend on how fast the streams are, unless one has an [idle timeout](crate::JoinSide::with_idle_timeout).
///
/// An item counts as delivered when it is in a pair or is emitted without a partner, else as filtered. Items are cloned, once
/// for each pair: put large ones into an `Arc`. If a clone panics, an error item of kind
/// [`Panicked`](crate::ErrorKind::Panicked) takes the place of the pair.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use streamz::{Join, JoinSide, Pipeline, Stream};
///
/// #[derive(Debug, Clone, PartialEq)]
/// struct Order(u64, &'static str);
/// #[derive(Debug, Clone, PartialEq)]
/// struct Payment(u64, &'static str, u32);
///
/// let at = |seconds: &u64| SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds);
/// let orders = JoinSide::new(
///     |order: &Order| order.1,
///     move |order: &Order| at(&order.0),
///     Duration::ZERO,
/// );
/// let payments = JoinSide::new(
///     |payment: &Payment| payment.1,
///     move |payment: &Payment| at(&payment.0),
///     Duration::ZERO,
/// );
/// let payment_of_order = Join::new(orders, payments, Duration::from_secs(60)).left();
///
/// let pipeline = Pipeline::new("shop");
/// let orders =
///     Stream::from_iter(&pipeline, [Order(10, "a"), Order(20, "b"), Order(30, "c")]);
/// let payments = Stream::from_iter(
///     &pipeline,
///     [Payment(15, "a", 50), Payment(80, "b", 70), Payment(95, "c", 20)],
/// );
/// let mut joined = orders.join(payments, &payment_of_order).collect::<Vec<_>>()?;
///
/// joined.sort_by_key(|(order, _)| order.0);
/// assert_eq!(joined[0], (Order(10, "a"), Some(Payment(15, "a", 50))));
/// assert_eq!(joined[1], (Order(20, "b"), Some(Payment(80, "b", 70))));
/// assert_eq!(joined[2], (Order(30, "c"), None)); // paid too late
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// A pair is emitted when the later of the two arrives; the pairs of one item are in the order of the partners' times.
/// An item without a partner is emitted when the watermark of the other stream has passed the last time at which one
/// could have come, or at the end of that stream. Error items are forwarded at once.
///
/// # Back-pressure
/// While the output is full, no input is taken. The stream whose watermark is behind is read first. The other one waits
/// if it has [`max_items`](Self::with_max_items) items in the state. So two branches of one stream can be joined,
/// unless one of them emits nothing for longer than that: then the branch that is ahead fills up, and the pipeline
/// stalls until the other one continues. [`Report::diagnosis`](crate::Report::diagnosis) then names the stages that
/// wait for one another. An [idle timeout](crate::JoinSide::with_idle_timeout) for the branch that is silent avoids it.
///
/// # Cancellation
/// The output is cut, and the items in the state are dropped and counted as abandoned. The same happens as soon as one
/// of the streams is cut: after that, no item can be known to have no partner.
///
/// # Memory
/// The items of each stream that are not older than the watermark of the other less `within`, at most
/// [`max_items`](Self::with_max_items) of each.
#[must_use = "a processor does nothing until it is given streams"]
#[doc(alias("interval join", "window join", "JoinWindows", "leftJoin", "outerJoin", "correlate"))]
pub struct Join<A, B, M = Inner> {
    left: A,
    right: B,
    /// How much earlier than an item of the left stream a partner may be, and how much later.
    before: Nanos,
    after: Nanos,
    max_items: usize,
    options: Options,
    kind: PhantomData<fn() -> M>,
}

impl<A, B> Join<A, B> {
    /// Creates an inner join of partners whose times differ by at most `within`. Default name: `join`.
    ///
    /// With zero, partners have the same time.
    ///
    /// # Panics
    /// If `within` is more than 10,000 years.
    #[track_caller]
    pub fn new(left: A, right: B, within: Duration) -> Self {
        let within = span_or_zero("within", within);
        let options = Options::new("join");
        Self { left, right, before: within, after: within, max_items: MAX_ITEMS, options, kind: PhantomData }
    }

    /// Makes it a left join: also emits the items of the left stream that find no partner, and all as `(L, Option<R>)`.
    pub fn left(self) -> Join<A, B, Left> {
        self.of_kind()
    }

    /// Makes it an outer join: also emits the items of both streams that find no partner, and all as
    /// [`Pair`](crate::Pair)s.
    #[doc(alias = "full")]
    pub fn outer(self) -> Join<A, B, Outer> {
        self.of_kind()
    }

    fn of_kind<M>(self) -> Join<A, B, M> {
        let Self { left, right, before, after, max_items, options, .. } = self;
        Join { left, right, before, after, max_items, options, kind: PhantomData }
    }
}

impl<A, B, M> Join<A, B, M> {
    common_options!();

    /// Sets how much earlier than an item of the left stream its partner in the right stream may have happened. Defaults to
    /// `within`. Zero means that a partner happened at the same time or later.
    ///
    /// # Panics
    /// If `before` is more than 10,000 years.
    #[track_caller]
    pub fn with_before(mut self, before: Duration) -> Self {
        self.before = span_or_zero("before", before);
        self
    }

    /// Sets how much later than an item of the left stream its partner in the right stream may have happened. Defaults to
    /// `within`. Zero means that a partner happened at the same time or earlier.
    ///
    /// # Panics
    /// If `after` is more than 10,000 years.
    #[track_caller]
    pub fn with_after(mut self, after: Duration) -> Self {
        self.after = span_or_zero("after", after);
        self
    }

    /// Sets how many items of each stream may be held in the state. Defaults to 1,000,000. `usize::MAX` means no limit.
    ///
    /// A stream that holds that many, and so is far ahead of the other one, is not read until the other one has caught
    /// up. If both hold that many, waiting would not help. Then each item that enters evicts the oldest item of the stream
    /// that is behind. An evicted item becomes an error item of kind [`Failed`](crate::ErrorKind::Failed) that carries it,
    /// with [`TooManyHeld`](crate::TooManyHeld) as its source, whether it has found a partner or not.
    ///
    /// # Panics
    /// If `max_items` is 0.
    #[track_caller]
    pub fn with_max_items(mut self, max_items: usize) -> Self {
        assert!(max_items > 0, "`max_items` must be at least 1");
        self.max_items = max_items;
        self
    }

    /// Returns the name of the stage in reports and errors.
    pub fn name(&self) -> &str {
        &self.options.name
    }
}

impl<A, B, M> Join<A, B, M>
where
    A: Side,
    B: Side<Key = A::Key>,
    M: JoinKind<A::Item, B::Item>,
{
    /// Starts a run that joins `left` and `right`.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, to one that has finished, or to another one than one of the streams.
    #[track_caller]
    pub fn process(&self, cancel: &CancelToken, left: Stream<A::Item>, right: Stream<B::Item>) -> Stream<M::Output> {
        let registered = Registered::with_pair(cancel, (&left, &right), self.name());
        let steering = Steering::new(cancel.now());
        let mut left_lane = Lane::new(self.left.clone(), self.before, self.after);
        let mut right_lane = Lane::new(self.right.clone(), self.after, self.before);
        left.origins().into_iter().for_each(|origins| left_lane.attach(origins));
        right.origins().into_iter().for_each(|origins| right_lane.attach(origins));
        let feed = Sides::new(left.into_input(), right.into_input(), steering.clone());
        let operator = JoinOperator::<_, _, M>::new(left_lane, right_lane, self.max_items, steering);
        spawn_driver(registered, self.options.capacity, operator, feed)
    }
}

impl<L: Clone + Send + 'static> Stream<L> {
    /// Joins this stream with another one by key and event time: a [`Join`], with this stream as the left one.
    ///
    /// # Panics
    /// If the pipeline has finished, or the other stream belongs to another pipeline.
    #[track_caller]
    pub fn join<A, B, M>(self, right: Stream<B::Item>, join: &Join<A, B, M>) -> Stream<M::Output>
    where
        A: Side<Item = L>,
        B: Side<Key = A::Key>,
        M: JoinKind<L, B::Item>,
    {
        let token = self.token().clone();
        join.process(&token, self, right)
    }
}

opaque_debug! { [A, B, M] Join<A, B, M>: options, max_items }
