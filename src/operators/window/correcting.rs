//! Windows with corrections: kept for some time after they were emitted, and emitted again when a late item arrives.
//!
//! # Invariants
//!
//! - A window is emitted as soon as it has an item that was not emitted with it before and the watermark has reached
//!   its end. So it is emitted for the first time when it ends, and then once for each late item.
//! - An emission uses a copy. The original stays until the watermark is `keep` beyond the end of the window.
//! - An item is late if none of its windows is kept any longer. So the kept items, and the late ones, are exactly those
//!   of windows without corrections whose lateness is greater by `keep`, and so are the results that are not replaced
//!   by others.
//! - An item is settled when it is emitted for the first time with the last of its windows.
//!
//! [`Correcting`] turns the shape of tumbling windows and of sessions into one with corrections. These windows do not
//! overlap, so each is one [`Piece`], which also stores its emissions ([`Kept`]). Sliding windows share their pieces,
//! and so need a separate table of emissions: see `correcting/sliding.rs`.

pub(super) mod sliding;

use std::ops::Range;
use std::time::SystemTime;

use super::content::{Content, Folded, Items, Panes, Tagged, Unfit};
use super::operator::{At, Closed, Layout, Shape};
use super::pieces::{Piece, Pieces};
use super::time::{NEVER, Nanos, Tag, to_time};
use crate::folds::Fold;

/// Holds a window that may be emitted more than once: see
/// [`with_corrections`](crate::windows::Windows::with_corrections).
///
/// To keep a table of results by key and bounds up to date, remove the results that it [replaces](Self::replaces), and
/// insert its window:
///
/// ```
/// use std::collections::BTreeMap;
/// use std::time::SystemTime;
/// use streamz::{Keyed, Revised, Window};
///
/// type Visits = BTreeMap<(String, SystemTime), Vec<u64>>;
///
/// fn apply(
///     visits: &mut Visits,
///     Keyed { key, window: Revised { window, replaces, .. } }: Keyed<
///         String,
///         Revised<Window<u64>>,
///     >,
/// ) {
///     for bounds in replaces {
///         visits.remove(&(key.clone(), bounds.start));
///     }
///     visits.insert((key, window.start), window.items);
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revised<W> {
    /// The window, with all items that have arrived for it so far.
    pub window: W,
    /// The number of times that the window was emitted before: 0 for the first time. For a session that was joined from
    /// several, the greatest of theirs.
    pub revision: u32,
    /// The bounds of the results that this one replaces, all of them emitted before with the same key; in the order of their
    /// starts. Empty if it is not a correction.
    ///
    /// A tumbling or sliding window replaces its last revision, which has the same bounds. A session may have had other
    /// bounds, and replaces several results if it was joined from several.
    pub replaces: Vec<Range<SystemTime>>,
}

impl<W> Revised<W> {
    /// Returns whether the window replaces results that were emitted before.
    pub fn is_correction(&self) -> bool {
        self.revision > 0
    }
}

/// Contents that can be emitted more than once.
pub(super) trait Again<T, Tag>: Content<T, Tag> {
    /// May panic.
    fn again(&self, pane: &Self::Pane) -> Self::Pane;
}

impl<T: Clone + Send + 'static, G: Tag> Again<T, G> for Items {
    fn again(&self, pane: &Tagged<G, T>) -> Tagged<G, T> {
        pane.copied()
    }
}

impl<T: Send + 'static, G: Tag, F: Fold<T>> Again<T, G> for Folded<F>
where
    F::State: Clone,
{
    fn again(&self, state: &F::State) -> F::State {
        state.clone()
    }
}

/// A pane and its emissions.
pub(super) struct Kept<P> {
    pane: P,
    /// The number of its items that have not been emitted.
    unsent: u64,
    emissions: Emissions,
}

/// The emissions of a window.
#[derive(Default)]
pub(super) struct Emissions {
    /// The last revision.
    revision: Option<u32>,
    /// The current results, in the order of their starts.
    standing: Vec<Range<SystemTime>>,
}

impl Emissions {
    /// Records an emission of the window. Not called before the result has been made, which may fail.
    fn revise<W>(&mut self, window: W, start: Nanos, end: Nanos) -> Revised<W> {
        let revision = self.revision.map_or(0, |last| last.saturating_add(1));
        self.revision = Some(revision);
        let replaces = std::mem::replace(&mut self.standing, vec![to_time(start)..to_time(end)]);
        Revised { window, revision, replaces }
    }

    fn join(&mut self, mut later: Self) {
        self.revision = self.revision.max(later.revision);
        self.standing.append(&mut later.standing);
    }
}

/// Keeps what `C` selects for a window, which is emitted as a [`Revised`] window.
#[derive(Debug, Clone)]
pub struct Corrected<C>(pub(super) C);

impl<T, G, C: Content<T, G>> Content<T, G> for Corrected<C> {
    type Window = Revised<C::Window>;
}

impl<T, G, C: Content<T, G>> Panes<T, G> for Corrected<C> {
    type Pane = Kept<C::Pane>;
    type Made = Revised<C::Window>;

    const CAPACITY: Option<usize> = C::CAPACITY;

    fn open(&self, tag: G, item: T) -> Result<Self::Pane, Box<Unfit<T>>> {
        Ok(Kept { pane: self.0.open(tag, item)?, unsent: 1, emissions: Emissions::default() })
    }

    fn add(&self, kept: &mut Self::Pane, tag: G, item: T) -> Result<(), Box<Unfit<T>>> {
        self.0.add(&mut kept.pane, tag, item)?;
        kept.unsent += 1;
        Ok(())
    }

    fn merge(&self, kept: &mut Self::Pane, later: Self::Pane) {
        self.0.merge(&mut kept.pane, later.pane);
        kept.unsent += later.unsent;
        kept.emissions.join(later.emissions);
    }

    fn window(&self, mut kept: Self::Pane, start: Nanos, end: Nanos, count: u64) -> Revised<C::Window> {
        kept.emissions.revise(self.0.window(kept.pane, start, end, count), start, end)
    }

    fn unsettled(&self, kept: &Self::Pane, _count: u64) -> u64 {
        kept.unsent
    }
}

/// Shapes whose windows do not overlap: each is one piece, and those of a key end in the order in which they start.
pub(super) trait Apart: Clone + Send + Sync + 'static {
    /// When the window ends.
    fn end<P>(&self, piece: &Piece<P>) -> Nanos;
}

/// Keeps windows of shape `H` for some time after their end.
///
/// Pieces without unsent items come first, because the watermark has reached their ends, but not those of the others.
#[derive(Debug, Clone)]
pub struct Correcting<H> {
    shape: H,
    keep: Nanos,
}

impl<H> Correcting<H> {
    pub(super) fn new(shape: H, keep: Nanos) -> Self {
        Self { shape, keep }
    }

    /// When the window must be emitted or removed.
    fn due_of<P>(&self, piece: &Piece<Kept<P>>) -> Nanos
    where
        H: Apart,
    {
        self.shape.end(piece) + if piece.pane.unsent == 0 { self.keep } else { 0 }
    }

    /// The window that is due first: the oldest, or the oldest of those with unsent items.
    fn next<P>(&self, open: &Pieces<Kept<P>>) -> Option<usize>
    where
        H: Apart,
    {
        let unsent = open.count_before(|piece| piece.pane.unsent == 0);
        let due = |index: usize| open.get(index).map(|piece| (self.due_of(piece), index));
        [0, unsent].into_iter().filter_map(due).min().map(|(_, index)| index)
    }

    fn emit<T, G, C: Again<T, G>>(&self, content: &C, piece: &mut Piece<Kept<C::Pane>>) -> Closed<Revised<C::Window>>
    where
        H: Apart,
    {
        let (start, end, count) = (piece.start(), self.shape.end(piece), piece.count);
        let Kept { pane, unsent, emissions } = &mut piece.pane;
        Closed::new(std::mem::take(unsent), || {
            let window = content.window(content.again(pane), start, end, count);
            Some(emissions.revise(window, start, end))
        })
    }
}

impl<T, G, C, H> Shape<T, G, Corrected<C>> for Correcting<H>
where
    C: Again<T, G>,
    H: Apart + Layout<T, G, Corrected<C>, Open = Pieces<Kept<C::Pane>>>,
{
}

impl<T, G, C, H> Layout<T, G, Corrected<C>> for Correcting<H>
where
    C: Again<T, G>,
    H: Apart + Layout<T, G, Corrected<C>, Open = Pieces<Kept<C::Pane>>>,
{
    type Open = H::Open;

    fn bounded(&self, max_count: u64) -> Self {
        Self { shape: self.shape.bounded(max_count), keep: self.keep }
    }

    fn add(
        &self,
        content: &Corrected<C>,
        open: &mut Self::Open,
        at: At<'_, G>,
        item: T,
        limit: Nanos,
        closed: &mut Vec<Closed<Revised<C::Window>>>,
    ) -> Result<bool, Box<Unfit<T>>> {
        let time = at.0;
        let is_earlier = self.shape.add(content, open, at, item, limit, closed)?;
        let after = open.count_before(|piece| piece.start() <= time);
        let Some(piece) = after.checked_sub(1).and_then(|index| open.get_mut(index)) else { return Ok(is_earlier) };
        let is_first_unsent = piece.pane.unsent == 1;
        if piece.pane.unsent > 0 && self.shape.end(piece) <= limit {
            closed.push(self.emit(&content.0, piece));
        }
        // A late item may have merged an emitted window with one that is due later than the merged one.
        Ok(is_earlier || is_first_unsent || time < limit)
    }

    fn span(&self) -> Nanos {
        self.shape.span() + self.keep
    }

    fn is_late(&self, open: Option<&Self::Open>, time: Nanos, limit: Nanos) -> bool {
        self.shape.is_late(open, time, limit - self.keep)
    }

    fn due(&self, open: &Self::Open) -> Nanos {
        self.next(open).and_then(|index| open.get(index)).map_or(NEVER, |piece| self.due_of(piece))
    }

    fn close(&self, content: &Corrected<C>, open: &mut Self::Open) -> Closed<Revised<C::Window>> {
        let Some(index) = self.next(open) else { return Closed { window: Ok(None), settled: 0 } };
        if let Some(piece) = open.get_mut(index).filter(|piece| piece.pane.unsent > 0) {
            return self.emit(&content.0, piece);
        }
        let forgotten = open.remove(index);
        Closed::new(0, || {
            drop(forgotten);
            None
        })
    }

    fn is_empty(open: &Self::Open) -> bool {
        open.is_empty()
    }
}
