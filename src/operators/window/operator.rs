//! [`WindowOperator`]: what all windows run.
//!
//! # What must hold
//!
//! - Windows whose end time has reached are closed before the item in hand is put into its own. If there is no room for
//!   all of them at once, the item waits in `waiting`, and no other is taken.
//! - Every key in the table has one entry in `due`, whose time is not after that at which the key's next window is due.
//!   It may be before it: a session that is extended leaves its entry as it is, and when the entry's time comes it is
//!   put where it belongs. So an item costs no look at anything but its own key.
//!   (Unless the key has panicked on the way there. Then what it has is lost at the end, and counted; no other is harmed.)
//! - `held` counts the items that lie in the table: those that are in no window that has been sent, and those that are
//!   in one and will be in another. An item is settled by the last window that has it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::content::{Content, Unfit};
use super::keys::{Keying, Table};
use super::time::{END, NEVER, Nanos, TimeSource};
use crate::error::{ErrorKind, PanicMessage};
use crate::panic::{self, PanicPayload};
use crate::stage::operator::{Emit, Operator};

/// How windows lie in time: what an item adds to the open windows of its key, and when they close. Not for users.
pub trait Shape<T, Tag, C: Content<T, Tag>>: Clone + Send + Sync + 'static {
    /// What one key has open.
    #[doc(hidden)]
    type Open: Default + Send + 'static;

    /// Adds an item; tells whether a window may be due earlier than before. What this closes goes to `closed`.
    #[doc(hidden)]
    fn add(
        &self,
        content: &C,
        open: &mut Self::Open,
        at: (Nanos, Tag),
        item: T,
        closed: &mut Vec<Closed<C::Window>>,
    ) -> Result<bool, Box<Unfit<T>>>;

    /// When the next window is to be closed. Not asked if nothing is open.
    #[doc(hidden)]
    fn due(&self, open: &Self::Open) -> Nanos;

    /// Closes that window.
    #[doc(hidden)]
    fn close(&self, content: &C, open: &mut Self::Open) -> Closed<C::Window>;

    #[doc(hidden)]
    fn is_empty(open: &Self::Open) -> bool;
}

/// A window that was closed.
#[allow(missing_debug_implementations)] // only reachable through hidden methods
pub struct Closed<W> {
    /// `None` if all that was in it has been sent already.
    pub(super) window: Result<Option<W>, PanicPayload>,
    /// How many items are in no other window any more.
    pub(super) settled: u64,
}

impl<W> Closed<W> {
    pub(super) fn new(settled: u64, make: impl FnOnce() -> Option<W>) -> Self {
        Self { window: panic::catch(make), settled }
    }
}

/// How many items a window may have, and how many keys.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) max_count: u64,
    pub(super) max_keys: usize,
}

/// What windows run.
pub struct WindowOperator<T, K, S, C, H>
where
    K: Keying<T>,
    S: TimeSource<T>,
    C: Content<T, S::Tag>,
    H: Shape<T, S::Tag, C>,
{
    keying: K,
    time: S,
    content: C,
    shape: H,
    max_keys: usize,
    table: K::Table<Entry<H::Open>>,
    due: BTreeMap<Due, K::Key>,
    /// The first of them.
    next: Nanos,
    opened: u64,
    /// Windows that are due up to then are to be closed.
    limit: Nanos,
    waiting: Option<(K::Key, Nanos, T)>,
    held: u64,
    /// Empty between any two calls.
    closed: Vec<Closed<C::Window>>,
}

/// When, and the number of the key; of two that are due together the key that came first goes first.
type Due = (Nanos, u64);

struct Entry<O> {
    due: Due,
    open: O,
}

impl<T, K, S, C, H> WindowOperator<T, K, S, C, H>
where
    T: Send + 'static,
    K: Keying<T>,
    S: TimeSource<T>,
    C: Content<T, S::Tag>,
    H: Shape<T, S::Tag, C>,
{
    pub(super) fn new(keying: K, time: S, content: C, shape: H, max_keys: usize) -> Self {
        Self {
            keying,
            time,
            content,
            shape,
            max_keys,
            table: K::Table::default(),
            due: BTreeMap::new(),
            next: NEVER,
            opened: 0,
            limit: Nanos::MIN,
            waiting: None,
            held: 0,
            closed: Vec::new(),
        }
    }

    /// Closes what is to be closed, as far as there is room, and then puts the waiting item into its window. True if
    /// there is more.
    fn go_on(&mut self, out: &mut impl Emit<K::Labelled<C::Window>>) -> bool {
        loop {
            // Before each, and not after it: a key may have panicked in between.
            self.look_ahead();
            if self.next > self.limit {
                break;
            }
            if out.is_full() {
                return true;
            }
            self.close_next(out);
        }
        if self.limit == END && self.held > 0 {
            self.lose(self.held, out);
        }
        if let Some((key, time, item)) = self.waiting.take() {
            self.place(key, time, item, out);
        }
        false
    }

    /// What is left when nothing is due any more lies under keys that cannot be found again, since they are not equal to
    /// themselves.
    #[cold]
    fn lose(&mut self, count: u64, out: &mut impl Emit<K::Labelled<C::Window>>) {
        self.table.clear();
        self.held -= count;
        out.failed(count);
        out.error(out.error_of(ErrorKind::Failed).with_source("keys that are not equal to themselves"));
    }

    /// Closes the window that is due first, or finds that it is not due yet.
    fn close_next(&mut self, out: &mut impl Emit<K::Labelled<C::Window>>) {
        let Some((due, key)) = self.due.pop_first() else { return };
        // A key that is not equal to itself cannot be found again: see `lose`.
        if let Some(entry) = self.table.get_mut(&key) {
            let really = self.shape.due(&entry.open);
            if really <= due.0 {
                let closed = self.shape.close(&self.content, &mut entry.open);
                if H::is_empty(&entry.open) {
                    self.table.remove(&key);
                } else {
                    entry.due.0 = self.shape.due(&entry.open);
                    self.due.insert(entry.due, key.clone());
                }
                self.send(&key, closed, out);
            } else {
                entry.due.0 = really;
                self.due.insert(entry.due, key);
            }
        }
    }

    fn look_ahead(&mut self) {
        let next = self.due.first_key_value().map_or(NEVER, |((at, _), _)| *at);
        if next != self.next {
            self.next = next;
            self.time.set_due(next);
        }
    }

    fn send(&mut self, key: &K::Key, closed: Closed<C::Window>, out: &mut impl Emit<K::Labelled<C::Window>>) {
        self.held -= closed.settled;
        match closed.window {
            Ok(Some(window)) => out.emit_from(K::label(key, window), closed.settled),
            Ok(None) => out.delivered(closed.settled),
            Err(payload) => {
                let error = out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload));
                out.failed(closed.settled);
                out.error(error);
            }
        }
    }

    #[inline]
    fn place(&mut self, key: K::Key, time: Nanos, item: T, out: &mut impl Emit<K::Labelled<C::Window>>) {
        let at = (time, S::tag(time));
        let Some(entry) = self.table.get_mut(&key) else { return self.place_first(key, at, item, out) };
        match self.shape.add(&self.content, &mut entry.open, at, item, &mut self.closed) {
            Ok(is_earlier) => {
                self.held += 1;
                if is_earlier || !self.closed.is_empty() {
                    self.settle(key, out);
                }
            }
            Err(unfit) => out.fail_panicked(unfit.payload.into(), unfit.item),
        }
    }

    /// The first item of a key that has nothing open.
    fn place_first(&mut self, key: K::Key, at: (Nanos, S::Tag), item: T, out: &mut impl Emit<K::Labelled<C::Window>>) {
        let mut open = H::Open::default();
        if let Err(unfit) = self.shape.add(&self.content, &mut open, at, item, &mut self.closed) {
            return out.fail_panicked(unfit.payload.into(), unfit.item);
        }
        self.held += 1;
        if !H::is_empty(&open) {
            self.make_room_for_a_key(out);
            self.opened += 1;
            let due = (self.shape.due(&open), self.opened);
            self.due.insert(due, key.clone());
            self.table.insert(key.clone(), Entry { due, open });
            self.look_ahead();
        }
        if !self.closed.is_empty() {
            self.settle(key, out);
        }
    }

    /// Sends what an item has closed, and brings its key to where it is due.
    fn settle(&mut self, key: K::Key, out: &mut impl Emit<K::Labelled<C::Window>>) {
        for closed in std::mem::take(&mut self.closed) {
            self.send(&key, closed, out);
        }
        let Some(entry) = self.table.get_mut(&key) else { return };
        if H::is_empty(&entry.open) {
            self.due.remove(&entry.due);
            self.table.remove(&key);
        } else {
            let due = self.shape.due(&entry.open);
            if due < entry.due.0 {
                self.due.remove(&entry.due);
                entry.due.0 = due;
                self.due.insert(entry.due, key);
            }
        }
        self.look_ahead();
    }

    fn make_room_for_a_key(&mut self, out: &mut impl Emit<K::Labelled<C::Window>>) {
        while self.table.len() >= self.max_keys {
            let Some((due, key)) = self.due.pop_first() else {
                // The item in hand is held already.
                return self.lose(self.held - 1, out);
            };
            let Some(mut entry) = self.table.remove(&key) else { continue };
            let really = self.shape.due(&entry.open);
            if really > due.0 {
                entry.due.0 = really;
                self.due.insert(entry.due, key.clone());
                self.table.insert(key, entry);
                continue;
            }
            // All that the key has: were it only one of several windows, what comes would not know that it was closed.
            while !H::is_empty(&entry.open) {
                let closed = self.shape.close(&self.content, &mut entry.open);
                self.send(&key, closed, out);
            }
        }
        self.look_ahead();
    }
}

impl<T, K, S, C, H> Operator for WindowOperator<T, K, S, C, H>
where
    T: Send + 'static,
    K: Keying<T>,
    S: TimeSource<T>,
    C: Content<T, S::Tag>,
    H: Shape<T, S::Tag, C>,
{
    type In = T;
    type Out = K::Labelled<C::Window>;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<Self::Out>) {
        let key = match panic::catch(|| self.keying.key(&item)) {
            Ok(key) => key,
            Err(payload) => return out.fail_panicked(payload.into(), item),
        };
        let time = match self.time.stamp(&item, out) {
            Ok(time) => time,
            Err(refused) => return refused.0.fail(item, out),
        };
        self.limit = self.time.watermark();
        if self.next <= self.limit {
            self.waiting = Some((key, time, item));
            self.go_on(out);
        } else {
            self.place(key, time, item, out);
        }
    }

    fn timer(&mut self, out: &mut impl Emit<Self::Out>) {
        self.timer_at(out.now(), out);
    }

    fn timer_at(&mut self, now: Instant, out: &mut impl Emit<Self::Out>) {
        self.limit = self.time.rung(now);
        self.go_on(out);
    }

    fn end(&mut self, out: &mut impl Emit<Self::Out>) {
        self.limit = END;
        self.go_on(out);
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<Self::Out>) -> bool {
        ((self.waiting.is_some() || self.next <= self.limit) && self.go_on(out)) || !self.time.listen(out)
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        self.time.wake()
    }

    #[inline]
    fn held(&self) -> u64 {
        self.held + u64::from(self.waiting.is_some())
    }
}

impl<T, K, S, C, H> std::fmt::Debug for WindowOperator<T, K, S, C, H>
where
    K: Keying<T>,
    S: TimeSource<T>,
    C: Content<T, S::Tag>,
    H: Shape<T, S::Tag, C>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowOperator").field("held", &self.held).finish_non_exhaustive()
    }
}
