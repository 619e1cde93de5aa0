//! [`SessionWindow`]: windows that end after a period without items.

use std::hash::Hash;
use std::time::Duration;

use super::content::{Content, FoldedBy, Items, Unfit, Window};
use super::correcting::Apart;
use super::keys::{ByKey, Keyed};
use super::operator::{At, Closed, Layout, Shape};
use super::pieces::{Piece, Pieces};
use super::time::{ArrivalTime, NEVER, Nanos, span};
use super::windows::Windows;
use crate::folds::MergeWith;
use crate::operators::shorthand;

/// The gap that ends a session, unless another is set.
const GAP: Duration = Duration::from_secs(30 * 60);

/// Groups the items of each key into sessions, which end after a gap without items: `T` in, [`Keyed<K,
/// Window<T>>`](crate::Keyed) out.
///
/// Two items of a key that are less than the [`gap`](Self::with_gap) apart are in one session; if they are the gap apart or
/// more, and no other item lies between them, they are in two. A session begins at its first item and ends a gap after its
/// last. It is also ended by [`with_max_duration`](Self::with_max_duration), [`max_count`](Self::max_count),
/// [`with_max_keys`](Self::with_max_keys) and the end of the input.
///
/// The time of an item is that of its arrival, unless [`with_event_time`](Self::with_event_time) is set. With event
/// time, a key may have several open sessions, and an item that arrives out of order may join two of them.
///
/// An item counts as delivered when its session is emitted.
///
/// # Ordering
/// Sessions come in the order of their ends; those that end together, in the order in which their keys first appeared.
/// The items in a session come in the order of their times. Error items are forwarded at once: one that arrives after
/// an item precedes the session of that item. They neither end a session nor keep one open.
///
/// # Back-pressure
/// While the output is full, no input is taken, and a session that is due waits for room.
///
/// # Cancellation
/// The items of open sessions are dropped, and counted as abandoned.
///
/// # Memory
/// The items of the open sessions, or one state for each of them, the key of each, and the sessions in the output. The
/// cost per item does not depend on how many sessions are open, and none is looked at before it may be due. When the
/// last session of a key has been emitted, the key takes no memory.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use streamz::{Pipeline, SessionWindow, Stream};
///
/// let minutes = |n| Duration::from_secs(60 * n);
/// // Who clicked, and in which minute.
/// let clicks = [("ann", 0), ("bob", 3), ("ann", 20), ("ann", 50), ("bob", 32)];
/// let visits = SessionWindow::new(|(who, _): &(&str, u64)| *who)
///     .with_gap(minutes(30))
///     .with_event_time(
///         move |(_, when): &(&str, u64)| SystemTime::UNIX_EPOCH + minutes(*when),
///         minutes(20),
///     )
///     .aggregate(|| 0, |clicks, _| *clicks += 1, |clicks, later| *clicks += later);
/// let pipeline = Pipeline::new("visits");
/// let mut visits = Stream::from_iter(&pipeline, clicks).through(&visits).collect::<Vec<_>>()?;
/// let found: Vec<_> = visits.iter().map(|visit| (visit.key, visit.window.result)).collect();
/// assert_eq!(found, [("ann", 2), ("bob", 2), ("ann", 1)]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[doc(alias("sessionize", "inactivity_gap"))]
pub type SessionWindow<T, K, S = ArrivalTime, C = Items> = Windows<Session, T, K, S, C>;

impl<T, K, F> SessionWindow<T, ByKey<K, F>>
where
    K: Eq + Hash + Clone + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    /// Creates sessions of items with the same key. Default name: `session_window`.
    ///
    /// `key` is called once for each item, in their order. With many keys, it may be called for up to 16 items before the
    /// first of them is processed, so it must not wait for the outcome of earlier items.
    ///
    /// An item on which `key` panics, or the `Hash` or `Eq` of its key, becomes an error item that carries it. If the
    /// `Clone` of a key panics, the session is in the error item, and its items count as failed. For sessions without a key
    /// let it be `()`.
    pub fn new(key: F) -> Self {
        let shape = Session { gap: span("gap", GAP), max_duration: NEVER, max_count: u64::MAX };
        Self::with_shape("session_window", shape, ByKey::new(key))
    }
}

impl<T, K, S, C> SessionWindow<T, K, S, C> {
    /// Sets the inactivity gap that ends a session. Defaults to 30 minutes.
    ///
    /// # Panics
    /// If `gap` is zero or more than 10,000 years.
    #[track_caller]
    pub fn with_gap(mut self, gap: Duration) -> Self {
        self.shape.gap = span("gap", gap);
        self
    }

    /// Sets the greatest duration of a session; when it is reached, the session is emitted, and the next item begins
    /// another one. Defaults to no limit: then a key that is never inactive has one session that never ends, and grows.
    ///
    /// With event time, where a session that is too long is cut may depend on the order in which its items come.
    ///
    /// # Panics
    /// If `max_duration` is zero or more than 10,000 years.
    #[track_caller]
    pub fn with_max_duration(mut self, max_duration: Duration) -> Self {
        self.shape.max_duration = span("max_duration", max_duration);
        self
    }
}

impl<T, K, S> SessionWindow<T, K, S, Items> {
    /// Keeps a state for each session instead of its items, and emits [`AggregateWindow`](crate::AggregateWindow)s.
    ///
    /// `init` makes the state of a session, `fold` changes it for each item, in the order of arrival, and `merge` adds
    /// to a state that of a later session, when an item out of order joins the two; only event time needs it. The
    /// result is the state. There are ready-made [`folds`](crate::folds) for [`aggregate_by`](Self::aggregate_by).
    ///
    /// If `fold` panics, the item becomes an error item that carries it, and the state stays as it was left: change it
    /// last. If `merge` panics, an error item takes the place of the later session, and its items count as failed.
    pub fn aggregate<A, I, F, M>(self, init: I, fold: F, merge: M) -> SessionWindow<T, K, S, FoldedBy<A, I, F, M>>
    where
        A: Send + 'static,
        I: Fn() -> A + Send + Sync + 'static,
        F: Fn(&mut A, &T) + Send + Sync + 'static,
        M: Fn(&mut A, &A) + Send + Sync + 'static,
    {
        self.aggregate_by(MergeWith::new(init, fold, merge))
    }
}

shorthand! {
    group {
        /// # Windows and folds
    }
    /// Groups the items of each key into sessions, which end after a gap without items: a [`SessionWindow`].
    pub fn session_window<K, F>(
        self,
        key: F,
        gap: Duration,
    ) -> SessionWindow<T, ByKey<K, F>> => Stream<Keyed<K, Window<T>>>
    where
        K: Eq + Hash + Clone + Send + 'static,
        F: Fn(&T) -> K + Send + Sync + 'static,
    {
        SessionWindow::new(key).with_gap(gap)
    }
}

/// Shapes windows as sessions, which end after a gap without items: the windows of a [`SessionWindow`].
///
/// Sessions of one key do not overlap, so they end in the order in which they begin. An item belongs to the last session
/// that begins before it, or to the one after that; sessions that come too close are joined.
// A piece is a session, from the time of its first item to that of its last.
#[derive(Debug, Clone)]
pub struct Session {
    gap: Nanos,
    max_duration: Nanos,
    max_count: u64,
}

impl Session {
    /// Whether the two periods belong to one session. The first one starts earlier.
    fn are_one(&self, (start, end): (Nanos, Nanos), (later_start, later_end): (Nanos, Nanos)) -> bool {
        later_start - end < self.gap && end.max(later_end) - start < self.max_duration
    }

    fn takes<P>(&self, piece: &Piece<P>, time: Nanos) -> bool {
        if piece.start() <= time {
            self.are_one((piece.start(), piece.end()), (time, time))
        } else {
            self.are_one((time, time), (piece.start(), piece.end()))
        }
    }

    /// The session that takes an item of this time, if any: the last one that starts before it, or otherwise the next
    /// one. If there is none, the place of a new one.
    fn seat<P>(&self, open: &Pieces<P>, time: Nanos) -> (usize, bool) {
        let after = open.count_before(|piece| piece.start() <= time);
        let takes = |index: usize| open.get(index).is_some_and(|piece| self.takes(piece, time));
        match after.checked_sub(1).filter(|before| takes(*before)) {
            Some(before) => (before, true),
            None => (after, takes(after)),
        }
    }

    fn window<T, Tag, C: Content<T, Tag>>(&self, content: &C, piece: Option<Piece<C::Pane>>) -> Closed<C::Window> {
        let settled = piece.as_ref().map_or(0, |piece| content.unsettled(&piece.pane, piece.count));
        Closed::new(settled, || {
            piece.map(|piece| {
                let end = self.end(&piece);
                let start = piece.start();
                content.window(piece.pane, start, end, piece.count)
            })
        })
    }

    /// Merges the session at `index` with the next one if they are one.
    fn join<T, Tag, C: Content<T, Tag>>(
        &self,
        content: &C,
        open: &mut Pieces<C::Pane>,
        index: usize,
        closed: &mut Vec<Closed<C::Window>>,
    ) {
        let stretch = |piece: &mut Piece<C::Pane>| (piece.start(), piece.end());
        let (Some(first), Some(next)) = (open.get_mut(index).map(stretch), open.get_mut(index + 1).map(stretch)) else {
            return;
        };
        if !self.are_one(first, next) {
            return;
        }
        // Removed before the merge, which is user code: if it panics, the later session is lost and its items have
        // failed.
        let Some(later) = open.remove(index + 1) else { return };
        let Some(piece) = open.get_mut(index) else { return };
        let count = later.count;
        let joined = Closed::new(content.unsettled(&later.pane, count), || {
            content.merge(&mut piece.pane, later.pane);
            None
        });
        if joined.window.is_ok() {
            piece.epoch.keep_older(later.epoch);
            piece.count += count;
            piece.stretch(first.0, first.1.max(next.1));
        } else {
            closed.push(joined);
        }
    }
}

impl Apart for Session {
    fn end<P>(&self, piece: &Piece<P>) -> Nanos {
        (piece.end() + self.gap).min(piece.start().saturating_add(self.max_duration))
    }
}

impl<T, Tag, C: Content<T, Tag>> Shape<T, Tag, C> for Session {}

impl<T, Tag, C: Content<T, Tag>> Layout<T, Tag, C> for Session {
    type Open = Pieces<C::Pane>;

    fn bounded(&self, max_count: u64) -> Self {
        Self { max_count, ..*self }
    }

    #[inline]
    fn add(
        &self,
        content: &C,
        open: &mut Self::Open,
        (time, tag, epoch): At<'_, Tag>,
        item: T,
        _limit: Nanos,
        closed: &mut Vec<Closed<C::Window>>,
    ) -> Result<bool, Box<Unfit<T>>> {
        let (mut index, is_taken) = self.seat(open, time);
        let mut is_earlier = false;
        match open.get_mut(index).filter(|_| is_taken) {
            Some(piece) => {
                content.add(&mut piece.pane, tag, item)?;
                piece.count += 1;
                is_earlier = time < piece.start();
                piece.stretch(piece.start().min(time), piece.end().max(time));
            }
            None => {
                let pane = content.open(tag, item)?;
                open.insert(index, Piece::new(time, time, epoch, pane));
                is_earlier |= index == 0;
            }
        }
        if open.len() > 1 {
            // With the next one first: `index` is still that of the item's session afterwards.
            self.join(content, open, index, closed);
            if let Some(before) = index.checked_sub(1) {
                let count = open.len();
                self.join(content, open, before, closed);
                index -= count - open.len();
            }
        }
        if open.get_mut(index).is_some_and(|piece| piece.count >= self.max_count) {
            closed.push(self.window(content, open.remove(index)));
        }
        Ok(is_earlier)
    }

    fn span(&self) -> Nanos {
        self.gap.min(self.max_duration)
    }

    fn is_late(&self, open: Option<&Self::Open>, time: Nanos, limit: Nanos) -> bool {
        let is_taken = open.is_some_and(|open| self.seat(open, time).1);
        !is_taken && time + self.gap.min(self.max_duration) <= limit
    }

    fn due(&self, open: &Self::Open) -> Nanos {
        open.first().map_or(NEVER, |piece| self.end(piece))
    }

    fn close(&self, content: &C, open: &mut Self::Open) -> Closed<C::Window> {
        self.window(content, open.remove(0))
    }

    fn is_empty(open: &Self::Open) -> bool {
        open.is_empty()
    }
}

#[cfg(test)]
mod tests;
