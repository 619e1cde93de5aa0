//! [`SlidingWindow`]: windows that overlap.
//!
//! # How items are shared
//!
//! Time is divided into slices wherever a window starts or ends: one or two slices for each step of the slide. An item
//! goes to one slice, and a window is assembled from the slices it covers when it is sent. So an item is stored, or
//! folded, once, however many windows it is in; a window costs one merge for each of its slices. This is the *paired
//! window* technique of Krishnamurthy, Wu and Franklin ("On-the-fly sharing for streamed aggregation", SIGMOD 2006),
//! which makes fewer slices than the panes of Li et al. ("No pane, no gain", SIGMOD Record 2005), whose length is the
//! greatest common divisor of size and slide; Traub et al. ("Scotty", ICDE 2018) extend such slicing to items out of
//! order, which go to the slice of their time here as there. Ours stores only slices that have items, and has no tree
//! of partial results.
//!
//! # Windows closed early
//!
//! The items of a window that was closed by `max_count` must not be in the window made of the rest; but later windows
//! still need them. So each such closing starts a new *part* of the stream of this key: items of another part go to
//! separate slices, and a window that was closed stores the part from which its rest starts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::WindowConfig;
use super::content::{Content, FoldedBy, Items, Shared, Unfit, Window};
use super::keys::NoKey;
use super::operator::{At, Closed, Layout, Shape};
use super::packed::Packed;
use super::pieces::{Piece, Pieces};
use super::time::{ArrivalTime, NEVER, Nanos, span};
use super::windows::Windows;
use crate::folds::MergeWith;
use crate::operators::shorthand;

/// The most windows that an item can be in.
const MOST_OVERLAPS: Nanos = 1_000_000;

/// Groups items into overlapping windows of time: `T` in, [`Window<T>`](crate::Window) out.
///
/// A window begins every [`slide`](Self::with_slide), and each is `size` long, so an item is in about `size / slide` of
/// them: "the last minute, every second". SQL and Kafka call such windows *hopping*. Without a slide it is a
/// [`TumblingWindow`](crate::TumblingWindow).
///
/// Windows begin at multiples of the slide, counted from the Unix epoch. Every window that covers the time of an item is
/// emitted with it, even if it began before the first item or holds no other item; windows without items are not
/// emitted. An item exactly at the end of a window is not in it.
///
/// Time, [`max_count`](Self::max_count), keys and the end of the input are as for a
/// [`TumblingWindow`](crate::TumblingWindow).
///
/// An item counts as held until the last window that covers it has been sent; then it counts as delivered, once.
///
/// # Ordering
/// Windows come in the order of their ends, also at the end of the input; the items in a window in the order of their
/// times. Error items pass at once: one that comes after an item goes before the windows of that item. They close no window.
///
/// # Back-pressure
/// While the output is full, no input is taken, and windows whose time has come wait for room.
///
/// # Cancellation
/// The items of open windows are dropped, and counted as abandoned.
///
/// # Memory
/// Each item once, until its last window has been emitted; it is cloned for each of its windows but the last. With
/// [`aggregate`](Self::aggregate) there is one state, or two if the slide does not divide the size, for each slide in a
/// window; an item is folded once, and a window costs one merge for each of these states. All this for each key, if
/// there are keys, and beside the windows in the output.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use streamz::{Pipeline, SlidingWindow, Stream, WindowConfig};
///
/// let seconds = Duration::from_secs;
/// let last_ten = SlidingWindow::new(seconds(10))
///     .with_slide(seconds(5))
///     .with_event_time(move |time: &u64| SystemTime::UNIX_EPOCH + seconds(*time), seconds(0));
/// let pipeline = Pipeline::new("readings");
/// let windows = Stream::from_iter(&pipeline, [11, 12, 18])
///     .through(&last_ten)
///     .collect::<Vec<_>>()?;
/// let items: Vec<_> = windows.into_iter().map(|window| window.items).collect();
/// assert_eq!(items, [vec![11, 12], vec![11, 12, 18], vec![18]]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[doc(alias("hopping", "HoppingWindow", "overlapping", "rolling"))]
pub type SlidingWindow<T, K = NoKey, S = ArrivalTime, C = Items> = Windows<Sliding, T, K, S, C>;

impl<T> SlidingWindow<T> {
    /// Creates windows of length `size`, one every [slide](Self::with_slide). Default name: `sliding_window`.
    ///
    /// # Panics
    /// If `size` is zero or more than 10,000 years.
    #[track_caller]
    pub fn new(size: Duration) -> Self {
        let size = span("size", size);
        let shape = Sliding { size, slide: size, max_count: u64::MAX };
        Self::with_shape("sliding_window", shape, NoKey)
    }

    /// Creates the windows that `config` describes.
    ///
    /// # Panics
    /// If `size` is zero or more than 10,000 years; if `slide` is zero, greater than the size, or less than a millionth of
    /// it; if `max_count` is 0.
    #[track_caller]
    pub fn from_config(config: WindowConfig) -> Self {
        let WindowConfig { size, slide, max_count } = config;
        let window = Self::new(size).with_slide(slide.unwrap_or(size));
        match max_count {
            Some(items) => window.max_count(items),
            None => window,
        }
    }
}

impl<T, K, S, C> SlidingWindow<T, K, S, C> {
    /// Sets the time from the start of a window to the start of the next one. Defaults to the size.
    ///
    /// # Panics
    /// If `slide` is zero or greater than the size: items between two windows would be in none. To look at a part of the
    /// time only, filter the items. Also if it is less than a millionth of the size: each item would be in more than a
    /// million windows.
    #[track_caller]
    pub fn with_slide(mut self, slide: Duration) -> Self {
        let slide = span("slide", slide);
        assert!(slide <= self.shape.size, "`slide` must be at most `size`");
        assert!(slide * MOST_OVERLAPS >= self.shape.size, "`slide` must be at least a millionth of `size`");
        self.shape.slide = slide;
        self
    }
}

impl<T, K, S> SlidingWindow<T, K, S, Items> {
    /// Keeps the states of a fold instead of items, and emits [`AggregateWindow`](crate::AggregateWindow)s.
    ///
    /// `init` makes the state of a slice of time, `fold` changes it for each item, in the order of arrival, and `merge`
    /// adds to a state that of a later slice, as if its items had been folded one by one. The result is the state. For
    /// something that cannot be merged, take the windows of items and fold each with a [`Mapper`](crate::Mapper). There
    /// are ready-made [`folds`](crate::folds) for [`aggregate_by`](Self::aggregate_by).
    ///
    /// If `fold` panics, the item becomes an error item that carries it, and the state stays as it was left: change it
    /// last. If `merge` panics, the window becomes an error item, and the items that it was the last one for count as
    /// failed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use streamz::{Pipeline, SlidingWindow, Stream};
    ///
    /// let longest = SlidingWindow::new(Duration::from_secs(3600))
    ///     .with_slide(Duration::from_secs(60))
    ///     .aggregate(
    ///         || 0,
    ///         |longest, word: &&str| *longest = word.len().max(*longest),
    ///         |longest, later| *longest = *later.max(longest),
    ///     );
    /// let pipeline = Pipeline::new("words");
    /// let windows = Stream::from_iter(&pipeline, ["to", "be", "or", "not"])
    ///     .through(&longest)
    ///     .collect::<Vec<_>>()?;
    /// assert!(windows.len() >= 60);
    /// assert_eq!(windows.iter().map(|window| window.result).max(), Some(3));
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    pub fn aggregate<A, I, F, M>(self, init: I, fold: F, merge: M) -> SlidingWindow<T, K, S, FoldedBy<A, I, F, M>>
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
    /// Groups items into overlapping windows of time: a [`SlidingWindow`].
    #[doc(alias("hopping"))]
    pub fn sliding_window(self, size: Duration, slide: Duration) -> SlidingWindow<T> => Stream<Window<T>>
    where
        T: Clone,
    {
        SlidingWindow::new(size).with_slide(slide)
    }
}

/// Shapes windows of a fixed size that may overlap: the windows of a [`SlidingWindow`].
// A piece is a slice.
#[derive(Debug, Clone)]
pub struct Sliding {
    pub(super) size: Nanos,
    pub(super) slide: Nanos,
    pub(super) max_count: u64,
}

/// The open windows of one key.
pub(super) struct Open<P> {
    slices: Pieces<Slice<P>>,
    /// No window that starts before this has yet to be sent.
    floor: Packed,
    part: u64,
    /// By the start of a window: the part from which it starts, and the number of its items. Empty unless `max_count`
    /// is set.
    counts: BTreeMap<Nanos, Count>,
}

/// A slice of time.
struct Slice<P> {
    pane: P,
    /// The part that its items belong to.
    part: u64,
}

#[derive(Default)]
struct Count {
    from: u64,
    items: u64,
}

impl<P> Default for Open<P> {
    fn default() -> Self {
        Self { slices: Pieces::default(), floor: Packed::MIN, part: 0, counts: BTreeMap::new() }
    }
}

impl Sliding {
    /// The start and end of the slice that covers `time`.
    pub(super) fn slice(&self, time: Nanos) -> (Nanos, Nanos) {
        let start = self.last_window(time);
        // A window ends in the middle of it, unless the slide divides the size.
        let cut = start + self.size % self.slide;
        if time < cut { (start, cut) } else { (cut, start + self.slide) }
    }

    /// The start of the first window that ends after `time`, and so covers it.
    pub(super) fn first_window(&self, time: Nanos) -> Nanos {
        (time - self.size).div_euclid(self.slide) * self.slide + self.slide
    }

    /// The start of the last window that covers `time`.
    pub(super) fn last_window(&self, time: Nanos) -> Nanos {
        time.div_euclid(self.slide) * self.slide
    }

    /// The starts of windows in a range that begins with one.
    pub(super) fn starts(&self, range: Range<Nanos>) -> impl Iterator<Item = Nanos> + use<> {
        let slide = self.slide;
        std::iter::successors(Some(range.start), move |start| Some(start + slide))
            .take_while(move |start| *start < range.end)
    }

    /// The start of the next window to send.
    fn next_window<P>(&self, open: &Open<P>) -> Option<Nanos> {
        open.slices.first().map(|slice| self.first_window(slice.start()).max(open.floor.into()))
    }

    /// The starts of the windows that cover `time` and have yet to be sent.
    fn windows<P>(&self, open: &Open<P>, time: Nanos) -> impl Iterator<Item = Nanos> + use<P> {
        self.starts(self.first_window(time).max(open.floor.into())..time + 1)
    }

    /// Counts an item, and closes the windows that are full.
    fn count<T, Tag, C: Content<T, Tag> + Shared<T, Tag>>(
        &self,
        content: &C,
        open: &mut Open<C::Pane>,
        time: Nanos,
        closed: &mut Vec<Closed<C::Window>>,
    ) {
        let part = open.part;
        for start in self.windows(open, time) {
            let count = open.counts.entry(start).or_default();
            count.items += 1;
            if count.items >= self.max_count {
                // Before the merges, as in `close`: a window whose merge panics is closed, too.
                let from = std::mem::replace(count, Count { from: part + 1, items: 0 }).from;
                let is_in = |slice: &&Piece<Slice<C::Pane>>| {
                    slice.pane.part >= from && (start..start + self.size).contains(&slice.start())
                };
                closed.push(Closed::new(0, || {
                    let (mut whole, mut items) = (None, 0);
                    for slice in open.slices.iter().filter(is_in) {
                        items += slice.count;
                        match &mut whole {
                            None => whole = Some(content.copy(&slice.pane.pane)),
                            Some(whole) => content.merge_copy(whole, &slice.pane.pane),
                        }
                    }
                    whole.map(|whole| content.window(whole, start, start + self.size, items))
                }));
                open.part = part + 1;
            }
        }
        // After all windows of the item have been checked: each may still need slices of the part that has ended.
        if open.part != part {
            self.drop_unneeded(open, closed);
        }
    }

    /// Drops slices that no window will use any more.
    fn drop_unneeded<P, W>(&self, open: &mut Open<P>, closed: &mut Vec<Closed<W>>) {
        let mut index = 0;
        while let Some(slice) = open.slices.get_mut(index) {
            let (start, part, count) = (slice.start(), slice.pane.part, slice.count);
            let begins = |window: Nanos| open.counts.get(&window).map_or(0, |count| count.from);
            if self.windows(open, start).any(|window| begins(window) <= part) {
                index += 1;
            } else {
                open.slices.remove(index);
                closed.push(Closed { window: Ok(None), settled: count });
            }
        }
    }
}

impl<T, Tag, C: Content<T, Tag> + Shared<T, Tag>> Shape<T, Tag, C> for Sliding {}

impl<T, Tag, C: Content<T, Tag> + Shared<T, Tag>> Layout<T, Tag, C> for Sliding {
    type Open = Open<C::Pane>;

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
        limit: Nanos,
        closed: &mut Vec<Closed<C::Window>>,
    ) -> Result<bool, Box<Unfit<T>>> {
        if time < limit {
            // Windows that ended without an item of this key have ended, too.
            open.floor = Nanos::from(open.floor).max(self.first_window(limit)).into();
        }
        let part = open.part;
        let is_right = |slice: &Piece<Slice<C::Pane>>| slice.pane.part == part && slice.covers(time);
        let mut index = open.slices.len();
        let slice = match open.slices.last_mut() {
            Some(slice) if is_right(slice) => Some(slice),
            _ => {
                index = open.slices.count_before(|slice| (slice.start(), slice.pane.part) <= (time, part));
                open.slices.get_mut(index.wrapping_sub(1)).filter(|slice| is_right(slice))
            }
        };
        let is_new = slice.is_none();
        if let Some(slice) = slice {
            content.add(&mut slice.pane.pane, tag, item)?;
            slice.count += 1;
        } else {
            let pane = Slice { pane: content.open(tag, item)?, part };
            let (start, end) = self.slice(time);
            open.slices.insert(index, Piece::new(start, end, epoch, pane));
        }
        if self.max_count != u64::MAX {
            self.count(content, open, time, closed);
        }
        Ok(is_new && index == 0)
    }

    fn span(&self) -> Nanos {
        self.size
    }

    fn is_late(&self, _open: Option<&Self::Open>, time: Nanos, limit: Nanos) -> bool {
        self.last_window(time) + self.size <= limit
    }

    fn due(&self, open: &Self::Open) -> Nanos {
        self.next_window(open).map_or(NEVER, |start| start + self.size)
    }

    fn close(&self, content: &C, open: &mut Self::Open) -> Closed<C::Window> {
        let Some(start) = self.next_window(open) else { return Closed { window: Ok(None), settled: 0 } };
        let (end, next) = (start + self.size, start + self.slide);
        let from = open.counts.remove(&start).map_or(0, |count| count.from);
        if !open.counts.is_empty() {
            open.counts = open.counts.split_off(&next);
        }
        // All of this before the merges below, which are user code: if one panics, the window is closed nevertheless.
        open.floor = next.into();
        let (mut gone, mut settled) = (Vec::new(), 0);
        while open.slices.first().is_some_and(|slice| slice.start() < next) {
            let slice = open.slices.remove(0).expect("there is a first one");
            settled += slice.count;
            gone.push(slice);
        }
        Closed::new(settled, || {
            let (mut whole, mut items) = (None, 0);
            for slice in gone.into_iter().filter(|slice| slice.pane.part >= from) {
                items += slice.count;
                match &mut whole {
                    None => whole = Some(slice.pane.pane),
                    Some(whole) => content.merge(whole, slice.pane.pane),
                }
            }
            for slice in
                open.slices.iter().take_while(|slice| slice.start() < end).filter(|slice| slice.pane.part >= from)
            {
                items += slice.count;
                match &mut whole {
                    None => whole = Some(content.copy(&slice.pane.pane)),
                    Some(whole) => content.merge_copy(whole, &slice.pane.pane),
                }
            }
            whole.map(|whole| content.window(whole, start, end, items))
        })
    }

    fn is_empty(open: &Self::Open) -> bool {
        open.slices.is_empty()
    }
}

#[cfg(test)]
mod tests;
