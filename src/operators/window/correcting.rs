//! [`Correcting`]: windows that are kept for some time after they were emitted, and emitted again when more comes.

use std::collections::VecDeque;

use super::content::{Content, Folded, Items, Panes, Tagged, Unfit};
use super::operator::{At, Closed, Layout, Shape};
use super::time::{NEVER, Nanos, Tag};
use super::tumbling::Tumbling;
use crate::folds::Fold;
use crate::operators::epochs::Epoch;
use crate::panic::Held;

/// A window that may be emitted more than once: see [`with_corrections`](crate::TumblingWindow::with_corrections).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revised<W> {
    /// The window, with all that has come for it so far.
    pub window: W,
    /// How many times it was emitted before: 0 for the first time.
    pub revision: u32,
}

impl<W> Revised<W> {
    /// Whether it takes the place of an earlier one, with the same bounds and key.
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

/// The window holds what `C` says, and is emitted as a [`Revised`] one.
#[derive(Debug, Clone)]
pub struct Corrected<C>(pub(super) C);

impl<T, G, C: Content<T, G>> Content<T, G> for Corrected<C> {
    type Window = Revised<C::Window>;
}

impl<T, G, C: Content<T, G>> Panes<T, G> for Corrected<C> {
    type Pane = C::Pane;
    type Made = Revised<C::Window>;

    fn open(&self, tag: G, item: T) -> Result<C::Pane, Box<Unfit<T>>> {
        self.0.open(tag, item)
    }

    fn add(&self, pane: &mut C::Pane, tag: G, item: T) -> Result<(), Box<Unfit<T>>> {
        self.0.add(pane, tag, item)
    }

    fn merge(&self, pane: &mut C::Pane, later: C::Pane) {
        self.0.merge(pane, later);
    }

    fn window(&self, pane: C::Pane, start: Nanos, end: Nanos, count: u64) -> Revised<C::Window> {
        Revised { window: self.0.window(pane, start, end, count), revision: 0 }
    }
}

/// Consecutive windows that are kept for some time after their end.
///
/// Those of a key lie in the order of their times. One is emitted when its end has come; from then on each item is emitted
/// at once, with all before it. So those that were emitted come first, and what is held is what lies in the others.
#[derive(Debug, Clone)]
pub struct Correcting {
    tumbling: Tumbling,
    keep: Nanos,
}

/// What a key has open.
pub(super) struct Open<P>(Held<VecDeque<Kept<P>>>);

struct Kept<P> {
    start: Nanos,
    count: u64,
    /// `None` if it has not been emitted.
    revision: Option<u32>,
    /// Of its first item. It holds back marks until the window is forgotten: what it is made of is needed until then.
    _epoch: Epoch,
    pane: P,
}

impl<P> Default for Open<P> {
    fn default() -> Self {
        Self(Held::default())
    }
}

impl Correcting {
    pub(super) fn new(tumbling: Tumbling, keep: Nanos) -> Self {
        Self { tumbling, keep }
    }

    fn end(&self, start: Nanos) -> Nanos {
        start + self.tumbling.size
    }

    /// When something is to be done about a window: it is emitted or forgotten.
    fn due_of<P>(&self, kept: &Kept<P>) -> Nanos {
        self.end(kept.start) + if kept.revision.is_some() { self.keep } else { 0 }
    }

    /// Which window is due first: the oldest, or the oldest of those that were not emitted.
    fn next<P>(&self, open: &Open<P>) -> Option<usize> {
        let unsent = open.0.partition_point(|kept| kept.revision.is_some());
        [0, unsent].into_iter().filter(|index| *index < open.0.len()).min_by_key(|index| self.due_of(&open.0[*index]))
    }

    /// Emits a window as it is. `settled` of its items have not been before.
    fn emit<T, G, C: Again<T, G>>(
        &self,
        content: &C,
        kept: &mut Kept<C::Pane>,
        settled: u64,
    ) -> Closed<Revised<C::Window>> {
        let revision = kept.revision.map_or(0, |last| last.saturating_add(1));
        kept.revision = Some(revision);
        let (start, end) = (kept.start, self.end(kept.start));
        Closed::new(settled, || {
            let window = content.window(content.again(&kept.pane), start, end, kept.count);
            Some(Revised { window, revision })
        })
    }
}

impl<T, G, C: Again<T, G>> Shape<T, G, Corrected<C>> for Correcting {}

impl<T, G, C: Again<T, G>> Layout<T, G, Corrected<C>> for Correcting {
    type Open = Open<C::Pane>;

    fn bounded(&self, max_count: u64) -> Self {
        Self { tumbling: Tumbling { max_count, ..self.tumbling }, keep: self.keep }
    }

    fn add(
        &self,
        content: &Corrected<C>,
        open: &mut Self::Open,
        (time, tag, epoch): At<'_, G>,
        item: T,
        limit: Nanos,
        closed: &mut Vec<Closed<Revised<C::Window>>>,
    ) -> Result<bool, Box<Unfit<T>>> {
        let content = &content.0;
        let start = self.tumbling.start(time);
        let index = open.0.partition_point(|kept| kept.start < start);
        let is_new = open.0.get(index).is_none_or(|kept| kept.start != start);
        if is_new {
            let pane = content.open(tag, item)?;
            open.0.insert(index, Kept { start, count: 1, revision: None, _epoch: epoch.clone(), pane });
        } else {
            let kept = &mut open.0[index];
            content.add(&mut kept.pane, tag, item)?;
            kept.count += 1;
        }
        let kept = &mut open.0[index];
        if kept.revision.is_some() || self.end(start) <= limit {
            closed.push(self.emit(content, kept, 1));
        } else if kept.count >= self.tumbling.max_count
            && let Some(Kept { count, pane, .. }) = open.0.remove(index)
        {
            let end = self.end(start);
            closed.push(Closed::new(count, || {
                Some(Revised { window: content.window(pane, start, end, count), revision: 0 })
            }));
        }
        Ok(is_new)
    }

    fn is_late(&self, _open: Option<&Self::Open>, time: Nanos, limit: Nanos) -> bool {
        self.end(self.tumbling.start(time)) + self.keep <= limit
    }

    fn due(&self, open: &Self::Open) -> Nanos {
        self.next(open).map_or(NEVER, |index| self.due_of(&open.0[index]))
    }

    fn close(&self, content: &Corrected<C>, open: &mut Self::Open) -> Closed<Revised<C::Window>> {
        let nothing = Closed { window: Ok(None), settled: 0 };
        let Some(index) = self.next(open) else { return nothing };
        let kept = &mut open.0[index];
        if kept.revision.is_none() {
            let count = kept.count;
            return self.emit(&content.0, kept, count);
        }
        let gone = open.0.remove(index);
        Closed::new(0, || {
            drop(gone);
            None
        })
    }

    fn is_empty(open: &Self::Open) -> bool {
        open.0.is_empty()
    }
}
