//! [`TumblingWindow`]: consecutive windows.

use std::time::Duration;

use super::WindowConfig;
use super::content::{Content, Folded, Items, Unfit, Window};
use super::correcting::Apart;
use super::keys::NoKey;
use super::operator::{At, Closed, Layout, Shape};
use super::pieces::{Piece, Pieces};
use super::time::{ArrivalTime, Nanos, span};
use super::windows::Windows;
use crate::folds::FoldWith;
use crate::operators::shorthand;

/// Groups items into consecutive windows of time: `T` in, [`Window<T>`](crate::Window) out.
///
/// Windows follow one another without a gap. They are aligned to the Unix epoch: one of an hour begins when the hour does,
/// in UTC, whenever the run began. An item exactly at the end of a window belongs to the next. A window without
/// items is not sent.
///
/// The time of an item is that of its arrival, unless [`with_event_time`](Self::with_event_time) is set. Then a window
/// is emitted at its end, even if no more items arrive. A slow consumer lengthens neither this window nor any later
/// one. Times of arrival are measured from the start of the run with a monotonic clock: setting the system time does
/// not affect windows.
///
/// A window is also emitted when it has [`max_count`](Self::max_count) items, and at the end of the input.
/// [`with_key`](Self::with_key) keeps windows for each key apart; [`aggregate`](Self::aggregate) keeps a state instead
/// of the items. For other windows see [`SlidingWindow`](crate::SlidingWindow), which overlap,
/// [`SessionWindow`](crate::SessionWindow), which end after a gap without items, and [`Aggregate`](crate::Aggregate),
/// which counts.
///
/// An item counts as delivered when its window is emitted.
///
/// # Ordering
/// Windows come in the order of their ends, the items in a window in the order of their times. Error items are
/// forwarded at once: one that arrives after an item precedes the window of that item. They do not close windows.
///
/// # Back-pressure
/// While the output is full, no input is taken, and a window that is due waits for room. With the time of arrival,
/// items that have waited before this stage count from the moment they enter it.
///
/// # Cancellation
/// The items of open windows are dropped, and counted as abandoned.
///
/// # Memory
/// The items of the open windows, or one state for each of them. By the time of arrival there is one open window, or one
/// for each key; with event time as many as the allowed lateness and one window cover. Beside them the windows in the
/// output.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use streamz::{Pipeline, Stream, TumblingWindow};
///
/// // When, and how many degrees.
/// let readings = [(1, 20.5), (4, 21.0), (12, 22.0), (9, 21.5)];
/// let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
///
/// let by_ten_seconds = TumblingWindow::new(Duration::from_secs(10))
///     .with_event_time(move |(time, _): &(u64, f64)| at(*time), Duration::from_secs(5));
/// let pipeline = Pipeline::new("readings");
/// let windows = Stream::from_iter(&pipeline, readings)
///     .through(&by_ten_seconds)
///     .collect::<Vec<_>>()?;
///
/// assert_eq!((windows[0].start, windows[0].end), (at(0), at(10)));
/// assert_eq!(windows[0].items, [(1, 20.5), (4, 21.0), (9, 21.5)]);
/// assert_eq!(windows[1].items, [(12, 22.0)]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[doc(alias("fixed_window", "windowed", "time_window"))]
pub type TumblingWindow<T, K = NoKey, S = ArrivalTime, C = Items> = Windows<Tumbling, T, K, S, C>;

impl<T> TumblingWindow<T> {
    /// Creates windows of length `size`. Default name: `tumbling_window`.
    ///
    /// # Panics
    /// If `size` is zero or more than 10,000 years.
    #[track_caller]
    pub fn new(size: Duration) -> Self {
        let shape = Tumbling { size: span("size", size), max_count: u64::MAX };
        Self::with_shape("tumbling_window", shape, NoKey)
    }

    /// Creates the windows that `config` describes.
    ///
    /// # Panics
    /// If `size` is zero or more than 10,000 years; if `slide` is given and is not the size; if `max_count` is 0.
    #[track_caller]
    pub fn from_config(config: WindowConfig) -> Self {
        let WindowConfig { size, slide, max_count } = config;
        assert!(slide.is_none_or(|slide| slide == size), "`slide` must be `size`, or use a `SlidingWindow`");
        let window = Self::new(size);
        match max_count {
            Some(items) => window.max_count(items),
            None => window,
        }
    }
}

impl<T, K, S> TumblingWindow<T, K, S, Items> {
    /// Keeps a state for each window instead of its items, and emits [`AggregateWindow`](crate::AggregateWindow)s.
    ///
    /// `init` makes the state of a window, `fold` changes it for each item, in the order of arrival, and the result is
    /// the state. If `fold` panics, the item becomes an error item that carries it, and the state stays as it was left:
    /// change it last. There are ready-made [`folds`](crate::folds) for [`aggregate_by`](Self::aggregate_by).
    ///
    /// ```
    /// use std::time::Duration;
    /// use streamz::{Pipeline, Stream, TumblingWindow};
    ///
    /// let longest = TumblingWindow::new(Duration::from_secs(3600))
    ///     .aggregate(|| 0, |longest, word: &&str| *longest = word.len().max(*longest));
    /// let pipeline = Pipeline::new("words");
    /// let windows = Stream::from_iter(&pipeline, ["to", "be", "or", "not"])
    ///     .through(&longest)
    ///     .collect::<Vec<_>>()?;
    /// assert_eq!(windows.iter().map(|window| window.result).max(), Some(3));
    /// assert_eq!(windows.iter().map(|window| window.count).sum::<u64>(), 4);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    pub fn aggregate<A, I, F>(self, init: I, fold: F) -> TumblingWindow<T, K, S, Folded<FoldWith<A, I, F>>>
    where
        A: Send + 'static,
        I: Fn() -> A + Send + Sync + 'static,
        F: Fn(&mut A, &T) + Send + Sync + 'static,
    {
        // A tumbling window is never made of several states.
        self.aggregate_by(FoldWith::new(init, fold))
    }
}

shorthand! {
    /// Groups items into consecutive windows of time: a [`TumblingWindow`].
    pub fn tumbling_window(self, size: Duration) -> TumblingWindow<T> => Stream<Window<T>> {
        TumblingWindow::new(size)
    }
}

/// Shapes consecutive windows of a fixed size: the windows of a [`TumblingWindow`].
// A piece is a window, from its start to its end.
#[derive(Debug, Clone)]
pub struct Tumbling {
    size: Nanos,
    max_count: u64,
}

impl Tumbling {
    /// The start of the window that contains this time.
    fn start(&self, time: Nanos) -> Nanos {
        time.div_euclid(self.size) * self.size
    }
}

impl Apart for Tumbling {
    fn end<P>(&self, piece: &Piece<P>) -> Nanos {
        piece.end()
    }
}

fn close<T, Tag, C: Content<T, Tag>>(content: &C, piece: Option<Piece<C::Pane>>) -> Closed<C::Window> {
    let settled = piece.as_ref().map_or(0, |piece| content.unsettled(&piece.pane, piece.count));
    Closed::new(settled, || {
        piece.map(|piece| {
            let (start, end) = (piece.start(), piece.end());
            content.window(piece.pane, start, end, piece.count)
        })
    })
}

impl<T, Tag, C: Content<T, Tag>> Shape<T, Tag, C> for Tumbling {}

impl<T, Tag, C: Content<T, Tag>> Layout<T, Tag, C> for Tumbling {
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
        let mut index = open.len().wrapping_sub(1);
        if !open.last_mut().is_some_and(|piece| piece.covers(time)) {
            index = open.count_before(|piece| piece.start() <= time).wrapping_sub(1);
        }
        if let Some(piece) = open.get_mut(index).filter(|piece| piece.covers(time)) {
            // Counted once it has been added: an item on which the fold panics is in no window.
            content.add(&mut piece.pane, tag, item)?;
            piece.count += 1;
            if piece.count >= self.max_count {
                closed.push(close(content, open.remove(index)));
            }
            return Ok(false);
        }
        let pane = content.open(tag, item)?;
        let start = self.start(time);
        let piece = Piece::new(start, start + self.size, epoch, pane);
        if self.max_count == 1 {
            closed.push(close(content, Some(piece)));
        } else {
            open.insert(index.wrapping_add(1), piece);
        }
        Ok(index == usize::MAX)
    }

    fn span(&self) -> Nanos {
        self.size
    }

    fn is_late(&self, _open: Option<&Self::Open>, time: Nanos, limit: Nanos) -> bool {
        self.start(time) + self.size <= limit
    }

    fn due(&self, open: &Self::Open) -> Nanos {
        open.first().map_or(Nanos::MAX, Piece::end)
    }

    fn close(&self, content: &C, open: &mut Self::Open) -> Closed<C::Window> {
        close(content, open.remove(0))
    }

    fn is_empty(open: &Self::Open) -> bool {
        open.is_empty()
    }
}

#[cfg(test)]
mod tests;
