//! Sliding windows with corrections.
//!
//! A slice is kept until the last window that covers it is removed. A late item goes to one slice, like any other; its
//! windows that were emitted are those that start in a range, `again`, and are due at once. They are emitted one by
//! one, as there is room, before another item is taken. The emissions of a window are in a table by start.
//!
//! A window that is full restarts with the next part, as without corrections; its emitted results are not replaced.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Corrected, Correcting, Emissions, Revised};
use crate::operators::window::content::{Content, Shared, Unfit};
use crate::operators::window::operator::{At, Closed, Layout, Shape};
use crate::operators::window::pieces::{Piece, Pieces};
use crate::operators::window::sliding::Sliding;
use crate::operators::window::time::{NEVER, Nanos};
use crate::panic;

/// The open windows of one key.
pub(in crate::operators::window) struct Open<P> {
    slices: Pieces<Slice<P>>,
    /// No window that starts before this has yet to be emitted for the first time.
    floor: Nanos,
    /// The starts of the windows that must be emitted again.
    again: Range<Nanos>,
    part: u64,
    /// By start. All that were emitted, and if there is a `max_count`, all that have an item.
    windows: BTreeMap<Nanos, Known>,
}

struct Slice<P> {
    pane: P,
    /// The number of its items that have not been emitted with the last window that covers it.
    unsettled: u64,
    /// The part that its items belong to.
    part: u64,
}

/// The record of a window.
#[derive(Default)]
struct Known {
    /// The part from which it starts.
    from: u64,
    /// The number of its items; counted only if there is a `max_count`.
    items: u64,
    emissions: Emissions,
}

impl<P> Default for Open<P> {
    fn default() -> Self {
        Self { slices: Pieces::default(), floor: Nanos::MIN, again: 0..0, part: 0, windows: BTreeMap::new() }
    }
}

/// The next task for a key.
enum Task {
    Emit { start: Nanos },
    Forget { start: Nanos },
}

impl Correcting<Sliding> {
    /// The next task, and when it is due. The watermark has reached the ends of windows that must be emitted again.
    fn next_task<P>(&self, open: &Open<P>) -> Option<(Nanos, Task)> {
        let shape = &self.shape;
        if !open.again.is_empty() {
            return Some((open.again.start + shape.size, Task::Emit { start: open.again.start }));
        }
        let start = shape.last_window(open.slices.first()?.start());
        let forget = (start + shape.size + self.keep, Task::Forget { start });
        let unsent = open.slices.count_before(|slice| slice.start() < open.floor);
        let Some(slice) = open.slices.get(unsent) else { return Some(forget) };
        let start = shape.first_window(slice.start()).max(open.floor);
        let emit = (start + shape.size, Task::Emit { start });
        Some(if emit.0 <= forget.0 { emit } else { forget })
    }

    /// Emits a window as it is, unless all of its items were in one that was full.
    fn emit_window<T, G, C: Content<T, G> + Shared<T, G>>(
        &self,
        content: &C,
        open: &mut Open<C::Pane>,
        start: Nanos,
        settled: u64,
    ) -> Closed<Revised<C::Window>> {
        let end = start + self.shape.size;
        let first = open.slices.count_before(|slice| slice.start() < start);
        let (slices, known) = (&open.slices, open.windows.entry(start).or_default());
        Closed::new(settled, || {
            let slices = (first..).map_while(|index| slices.get(index)).take_while(|slice| slice.start() < end);
            let (mut whole, mut items) = (None, 0);
            for slice in slices.filter(|slice| slice.pane.part >= known.from) {
                items += slice.count;
                match &mut whole {
                    None => whole = Some(content.copy(&slice.pane.pane)),
                    Some(whole) => content.merge_copy(whole, &slice.pane.pane),
                }
            }
            let window = content.window(whole?, start, end, items);
            Some(known.emissions.revise(window, start, end))
        })
    }

    /// The number of items whose last window starts at `start`, and that have not been settled.
    fn settle<P>(&self, open: &mut Open<P>, start: Nanos) -> u64 {
        let mut settled = 0;
        let mut index = open.slices.count_before(|slice| slice.start() < start);
        while let Some(slice) = open.slices.get_mut(index).filter(|slice| slice.start() < start + self.shape.slide) {
            settled += std::mem::take(&mut slice.pane.unsettled);
            index += 1;
        }
        settled
    }

    /// Counts an item in its windows, and emits those that are full.
    fn count<T, G, C: Content<T, G> + Shared<T, G>>(
        &self,
        content: &C,
        open: &mut Open<C::Pane>,
        windows: Range<Nanos>,
        closed: &mut Vec<Closed<Revised<C::Window>>>,
    ) {
        let part = open.part;
        for start in self.shape.starts(windows) {
            let known = open.windows.entry(start).or_default();
            known.items += 1;
            if known.items >= self.shape.max_count {
                // Settled later: other windows may still need them.
                closed.push(self.emit_window(content, open, start, 0));
                open.windows.insert(start, Known { from: part + 1, ..Known::default() });
                open.part = part + 1;
            }
        }
    }

    /// Drops the slices that no window from `kept` on will use again.
    fn drop_spent<P, W>(&self, open: &mut Open<P>, kept: Nanos, closed: &mut Vec<Closed<W>>) {
        let mut index = 0;
        while let Some(slice) = open.slices.get(index) {
            let (start, part) = (slice.start(), slice.pane.part);
            let begins = |window: Nanos| open.windows.get(&window).map_or(0, |known| known.from);
            let windows = self.shape.first_window(start).max(kept)..self.shape.last_window(start) + self.shape.slide;
            if self.shape.starts(windows).any(|window| begins(window) <= part) {
                index += 1;
            } else if let Some(spent) = open.slices.remove(index) {
                closed.push(Closed { window: Ok(None), settled: spent.pane.unsettled });
                panic::guard_drop(spent);
            }
        }
    }

    /// Removes a window, and the slices that no later one covers.
    fn forget<P, W>(&self, open: &mut Open<P>, start: Nanos) -> Closed<W> {
        let next = start + self.shape.slide;
        open.windows = open.windows.split_off(&next);
        let (mut gone, mut settled) = (Vec::new(), 0);
        while open.slices.first().is_some_and(|slice| slice.start() < next) {
            let slice = open.slices.remove(0).expect("there is a first one");
            settled += slice.pane.unsettled;
            gone.push(slice);
        }
        panic::discard(gone);
        Closed { window: Ok(None), settled }
    }
}

impl<T, G, C: Content<T, G> + Shared<T, G>> Shape<T, G, Corrected<C>> for Correcting<Sliding> {}

impl<T, G, C: Content<T, G> + Shared<T, G>> Layout<T, G, Corrected<C>> for Correcting<Sliding> {
    type Open = Open<C::Pane>;

    fn bounded(&self, max_count: u64) -> Self {
        Self { shape: Sliding { max_count, ..self.shape }, keep: self.keep }
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
        let Corrected(content) = content;
        let (part, slices) = (open.part, open.slices.len());
        let after = open.slices.count_before(|slice| (slice.start(), slice.pane.part) <= (time, part));
        let is_right = |slice: &&mut Piece<Slice<C::Pane>>| slice.pane.part == part && time < slice.end();
        if let Some(slice) = after.checked_sub(1).and_then(|index| open.slices.get_mut(index)).filter(is_right) {
            content.add(&mut slice.pane.pane, tag, item)?;
            slice.count += 1;
            slice.pane.unsettled += 1;
        } else {
            let pane = Slice { pane: content.open(tag, item)?, unsettled: 1, part };
            let (start, end) = self.shape.slice(time);
            open.slices.insert(after, Piece::new(start, end, epoch, pane));
        }
        let mut windows = self.shape.first_window(time)..self.shape.last_window(time) + self.shape.slide;
        let mut kept = Nanos::MIN;
        if time < limit {
            // Those that ended without an item of this key count as emitted.
            open.floor = open.floor.max(self.shape.first_window(limit));
            kept = self.shape.first_window(limit - self.keep);
            windows.start = windows.start.max(kept);
            open.again = windows.start..windows.end.min(open.floor);
        }
        let is_new = open.slices.len() > slices;
        if self.shape.max_count != u64::MAX {
            self.count(content, open, windows, closed);
            if open.part != part {
                self.drop_spent(open, kept, closed);
            }
        }
        Ok(is_new || time < limit)
    }

    fn span(&self) -> Nanos {
        self.shape.size + self.keep
    }

    fn is_late(&self, _open: Option<&Self::Open>, time: Nanos, limit: Nanos) -> bool {
        self.shape.last_window(time) + self.shape.size + self.keep <= limit
    }

    fn due(&self, open: &Self::Open) -> Nanos {
        self.next_task(open).map_or(NEVER, |(due, _)| due)
    }

    fn close(&self, content: &Corrected<C>, open: &mut Self::Open) -> Closed<Revised<C::Window>> {
        match self.next_task(open) {
            Some((_, Task::Emit { start })) => {
                let next = start + self.shape.slide;
                // Before the merges, which are user code: if one panics, the window counts as emitted nevertheless.
                if open.again.is_empty() {
                    open.floor = next;
                } else {
                    open.again.start = next;
                }
                let settled = self.settle(open, start);
                self.emit_window(&content.0, open, start, settled)
            }
            Some((_, Task::Forget { start })) => self.forget(open, start),
            None => Closed { window: Ok(None), settled: 0 },
        }
    }

    fn is_empty(open: &Self::Open) -> bool {
        open.slices.is_empty()
    }
}
