//! [`WindowOperator`]: the operator of all windows.
//!
//! # Invariants
//!
//! - Windows whose end has been reached are closed before the current item is put into its own. If there is no room for
//!   all of them at once, the item waits in `waiting`, and no other is taken.
//! - Every key in the table has an entry in `due` under the time that it has noted, which is not after that at which its
//!   next window is due. It may be before it: a session that is extended leaves its entry as it is, and when the entry's
//!   time comes it is moved to its place. So an item accesses nothing but its own key. All other entries are outdated.
//! - User code is called under a guard, and before anything is changed for its item. So nothing here panics: an item on
//!   which user code panics fails, and so does a window whose key cannot be cloned, or whose result cannot be made;
//!   each is carried by its error item, if it is still whole. Nothing else is affected.
//! - `held` counts the items in the table: those that are in no window that has been sent, and those that are in one
//!   and will be in another. An item is settled by the last window that has it.

use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use super::content::{Content, Unfit};
use super::due::{Due, DueList, GROUP, Refresh};
use super::keys::{Keying, Keys, Label, Table};
use super::packed::Packed;
use super::time::{END, NEVER, Nanos, Refusal, Tag, TimeSource};
use crate::error::{ErrorKind, PanicMessage, Result, StreamError};
use crate::operators::epochs::{Epoch, Epochs};
use crate::operators::key_table::{Place, Slot};
use crate::operators::prefetch::Prefetched;
use crate::panic::{self, PanicPayload};
use crate::stage::operator::{Emit, Operator, sealed};
use crate::stage::origins::Origins;

/// Selects how windows lie in time: [`Tumbling`](super::windows::Tumbling), [`Sliding`](super::windows::Sliding) or
/// [`Session`](super::windows::Session). Sealed.
#[allow(private_bounds)] // seals the trait
pub trait Shape<T, Tag, C: Content<T, Tag>>: Layout<T, Tag, C> {}

/// The functions of a [`Shape`]: adding an item to the open windows of its key, and closing them.
pub(super) trait Layout<T, Tag, C: Content<T, Tag>>: Clone + Send + Sync + 'static {
    /// The open windows of one key.
    type Open: Default + Send + 'static;

    /// The same shape, with windows of at most `max_count` items.
    fn bounded(&self, max_count: u64) -> Self;

    /// Whether an item of this time, which is before `limit`, belongs to no open window: to none that ends after
    /// `limit`. `open` contains the open windows of its key.
    fn is_late(&self, open: Option<&Self::Open>, time: Nanos, limit: Nanos) -> bool;

    /// Adds an item that is not late. Returns whether a window may be due earlier than before. Windows that this closes
    /// are added to `closed`.
    fn add(
        &self,
        content: &C,
        open: &mut Self::Open,
        at: At<'_, Tag>,
        item: T,
        limit: Nanos,
        closed: &mut Vec<Closed<C::Window>>,
    ) -> Result<bool, Box<Unfit<T>>>;

    /// When the next window must be closed. Not called if none is open.
    fn due(&self, open: &Self::Open) -> Nanos;

    /// Closes that window.
    fn close(&self, content: &C, open: &mut Self::Open) -> Closed<C::Window>;

    /// How long most windows are open.
    fn span(&self) -> Nanos;

    fn is_empty(open: &Self::Open) -> bool;
}

/// The place of an item: its time, and the epoch in which it came.
pub(super) type At<'a, Tag> = (Nanos, Tag, &'a Epoch);

/// A window that was closed.
pub(super) struct Closed<W> {
    /// `None` if all of its content has been sent already.
    pub(super) window: Result<Option<W>, PanicPayload>,
    /// The number of items that are in no other window any more.
    pub(super) settled: u64,
}

impl<W> Closed<W> {
    pub(super) fn new(settled: u64, make: impl FnOnce() -> Option<W>) -> Self {
        Self { window: panic::catch(make), settled }
    }
}

/// What [`Windows`](super::windows::Windows) run.
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
    due: DueList,
    /// The first of them.
    next: Nanos,
    opened: u64,
    /// Windows that are due up to then must be closed.
    limit: Nanos,
    waiting: Option<Waiting<T, K, H::Open>>,
    prefetched: Prefetched<ProbeOf<T, K, H::Open>>,
    /// The number of due keys that were prefetched and have not been looked at since.
    due_prefetched: usize,
    held: u64,
    /// Of the pieces.
    epochs: Epochs,
    /// Empty between any two calls.
    closed: Vec<Closed<C::Window>>,
}

type ProbeOf<T, K, O> = <<K as Keys<T>>::Table<Entry<O>> as Table<<K as Keys<T>>::Key, Entry<O>>>::Probe;

/// An item that has not been put into its window.
struct Waiting<T, K: Keying<T>, O: Send + 'static> {
    probe: ProbeOf<T, K, O>,
    time: Nanos,
    item: T,
}

/// The value of a key.
struct Entry<O> {
    /// The time under which it is listed.
    at: Packed,
    /// Of the key.
    number: u64,
    open: O,
}

impl<O> Entry<O> {
    /// The place where it is listed.
    fn due(&self) -> Due {
        (self.at.into(), self.number)
    }
}

/// What the list of due times is told about its entries. `X` are the types in the bounds of the implementation that
/// neither `H` nor `V` determines.
struct Refreshing<'a, H, V, X> {
    shape: &'a H,
    table: &'a mut V,
    types: PhantomData<fn() -> X>,
}

fn refresh<'a, H, V, X>(shape: &'a H, table: &'a mut V) -> Refreshing<'a, H, V, X> {
    Refreshing { shape, table, types: PhantomData }
}

impl<T, K, Tag, C, H, V> Refresh for Refreshing<'_, H, V, (T, K, Tag, C)>
where
    C: Content<T, Tag>,
    H: Layout<T, Tag, C>,
    V: Table<K, Entry<H::Open>>,
{
    #[inline]
    fn refresh(&mut self, slot: Slot, due: &mut Due) -> bool {
        match self.table.get_mut(slot) {
            Some(entry) if entry.due() == *due => {
                due.0 = due.0.max(self.shape.due(&entry.open));
                entry.at = due.0.into();
                true
            }
            _ => false,
        }
    }

    fn prefetch(&self, slots: impl Iterator<Item = Slot>) {
        self.table.prefetch_entries(slots, |entry| _ = black_box((entry.number, H::is_empty(&entry.open))));
    }
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
            due: DueList::new(shape.span()),
            keying,
            time,
            content,
            shape,
            max_keys,
            table: K::Table::default(),
            next: NEVER,
            opened: 0,
            limit: Nanos::MIN,
            waiting: None,
            prefetched: Prefetched::default(),
            due_prefetched: 0,
            held: 0,
            epochs: Epochs::new(),
            closed: Vec::new(),
        }
    }

    /// Closes the due windows, as far as there is room, and then puts the waiting item into its window. Returns true if
    /// there is more.
    fn go_on(&mut self, out: &mut impl Emit<K::Labelled<C::Window>>) -> bool {
        while self.next <= self.limit {
            if out.is_full() {
                return true;
            }
            self.prefetch_due();
            self.close_next(out);
            self.look_ahead();
        }
        if let Some(Waiting { probe, time, item }) = self.waiting.take() {
            self.place(probe, time, item, out);
        }
        false
    }

    /// Prefetches the keys that are due next, unless that has been done.
    #[inline]
    fn prefetch_due(&mut self) {
        if self.due_prefetched == 0 {
            refresh(&self.shape, &mut self.table).prefetch(self.due.upcoming());
            self.table.prefetch_removals(self.due.upcoming());
            self.due_prefetched = GROUP;
        }
        self.due_prefetched -= 1;
    }

    /// Closes the window that is due first, or finds that it is not due yet.
    fn close_next(&mut self, out: &mut impl Emit<K::Labelled<C::Window>>) {
        let Some(slot) = self.take_due() else { return };
        let Some(entry) = self.table.get_mut(slot) else { unreachable!("it has just been found") };
        let closed = self.shape.close(&self.content, &mut entry.open);
        if H::is_empty(&entry.open) {
            if let Some((key, _)) = self.table.remove(slot) {
                self.send_last(key, Some(closed), out);
            }
        } else {
            entry.at = self.shape.due(&entry.open).into();
            self.due.insert(entry.due(), slot);
            self.send(slot, closed, out);
        }
    }

    /// Takes the first key off the list. `None` if it is not due yet, or no longer.
    fn take_due(&mut self) -> Option<Slot> {
        let (due, slot) = self.due.pop_first(refresh(&self.shape, &mut self.table))?;
        let entry = self.table.get_mut(slot).filter(|entry| entry.due() == due)?;
        let really = self.shape.due(&entry.open);
        if really > due.0 {
            // The session was extended since: only now is its entry moved to its place.
            entry.at = really.into();
            self.due.insert(entry.due(), slot);
            return None;
        }
        Some(slot)
    }

    fn look_ahead(&mut self) {
        let next = self.due.first().unwrap_or(NEVER);
        if next != self.next {
            self.next = next;
            self.time.set_due(next);
        }
    }

    /// Sends a window of a key that has more.
    fn send(&mut self, slot: Slot, closed: Closed<C::Window>, out: &mut impl Emit<K::Labelled<C::Window>>) {
        self.settle(closed, out, |table| table.key(slot).map(|key| panic::catch(|| key.clone())));
    }

    /// Sends the last windows of a key, which is removed with them.
    fn send_last(
        &mut self,
        key: K::Key,
        closed: impl IntoIterator<Item = Closed<C::Window>>,
        out: &mut impl Emit<K::Labelled<C::Window>>,
    ) {
        let mut closed = closed.into_iter().peekable();
        let mut key = Some(key);
        while let Some(one) = closed.next() {
            if closed.peek().is_some() {
                self.settle(one, out, |_| key.as_ref().map(|key| panic::catch(|| key.clone())));
            } else {
                self.settle(one, out, |_| key.take().map(Ok));
            }
        }
        panic::guard_drop(key);
    }

    /// Settles the items of a window, and sends it with its key, which is requested only if there is something to send.
    fn settle(
        &mut self,
        closed: Closed<C::Window>,
        out: &mut impl Emit<K::Labelled<C::Window>>,
        key: impl FnOnce(&K::Table<Entry<H::Open>>) -> Option<Result<K::Key, PanicPayload>>,
    ) {
        let Closed { window, settled } = closed;
        // Whatever the outcome for the window, these items are in no other one: each arm below counts them once.
        self.held -= settled;
        let window = match window {
            Ok(Some(window)) => window,
            Ok(None) => return out.delivered(settled),
            Err(payload) => {
                let error = out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload));
                out.failed(settled);
                return out.error(error);
            }
        };
        match key(&self.table) {
            Some(Ok(key)) => out.emit_from(Label::new(key, window), settled),
            Some(Err(payload)) => {
                let error = out.error_of(ErrorKind::Panicked).with_source(PanicMessage::from(payload));
                out.failed(settled);
                out.error(error.with_item(window));
            }
            None => unreachable!("a key is removed with its last window"),
        }
    }

    #[inline]
    fn place(
        &mut self,
        probe: ProbeOf<T, K, H::Open>,
        time: Nanos,
        item: T,
        out: &mut impl Emit<K::Labelled<C::Window>>,
    ) {
        let slot = match self.table.find(probe) {
            Ok(Place::Taken(slot)) => slot,
            Ok(Place::Free(probe)) => return self.place_first(probe, time, item, out),
            Err(panicked) => return out.fail_panicked(panicked.0.into(), item),
        };
        let Some(entry) = self.table.get_mut(slot) else { unreachable!("it was found") };
        if time < self.limit && self.shape.is_late(Some(&entry.open), time, self.limit) {
            return Refusal::late(time, self.limit).fail(item, out);
        }
        let at = (time, S::Tag::of(time), self.epochs.present());
        match self.shape.add(&self.content, &mut entry.open, at, item, self.limit, &mut self.closed) {
            Ok(is_earlier) => {
                // Before anything is sent: items of windows that this item has closed are subtracted from `held`.
                self.held += 1;
                self.time.accepted();
                if is_earlier || !self.closed.is_empty() {
                    self.follow_up(slot, out);
                }
            }
            Err(unfit) => out.fail_panicked(unfit.payload.into(), unfit.item),
        }
    }

    /// The first item of a key without open windows.
    fn place_first(
        &mut self,
        probe: ProbeOf<T, K, H::Open>,
        time: Nanos,
        item: T,
        out: &mut impl Emit<K::Labelled<C::Window>>,
    ) {
        if time < self.limit && self.shape.is_late(None, time, self.limit) {
            panic::guard_drop(probe);
            return Refusal::late(time, self.limit).fail(item, out);
        }
        let (at, mut open) = ((time, S::Tag::of(time), self.epochs.present()), H::Open::default());
        if let Err(unfit) = self.shape.add(&self.content, &mut open, at, item, self.limit, &mut self.closed) {
            panic::guard_drop(probe);
            return out.fail_panicked(unfit.payload.into(), unfit.item);
        }
        self.held += 1;
        self.time.accepted();
        if H::is_empty(&open) {
            let closed = std::mem::take(&mut self.closed);
            return self.send_last(K::Table::into_key(probe), closed, out);
        }
        // Not before the item is in a window, because an item that fails must not close those of another key; and not
        // after the insertion, which might close those of this one.
        self.make_room_for_a_key(out);
        self.opened += 1;
        let (at, number) = (self.shape.due(&open), self.opened);
        let slot = self.table.insert(probe, Entry { at: at.into(), number, open });
        self.due.insert((at, number), slot);
        self.follow_up(slot, out);
    }

    /// Sends the windows that an item has closed, and updates when its key is due.
    fn follow_up(&mut self, slot: Slot, out: &mut impl Emit<K::Labelled<C::Window>>) {
        let closed = std::mem::take(&mut self.closed);
        let Some(entry) = self.table.get_mut(slot) else { unreachable!("it has just been used") };
        if H::is_empty(&entry.open) {
            let removed = self.table.remove(slot);
            self.due.outdate(refresh(&self.shape, &mut self.table));
            if let Some((key, _)) = removed {
                self.send_last(key, closed, out);
            }
        } else {
            let due = self.shape.due(&entry.open);
            if due < entry.due().0 {
                entry.at = due.into();
                let due = entry.due();
                self.due.outdate(refresh(&self.shape, &mut self.table));
                self.due.insert(due, slot);
            }
            for closed in closed {
                self.send(slot, closed, out);
            }
        }
        self.look_ahead();
    }

    fn make_room_for_a_key(&mut self, out: &mut impl Emit<K::Labelled<C::Window>>) {
        while self.table.len() >= self.max_keys && self.due.first().is_some() {
            let Some(slot) = self.take_due() else { continue };
            // All windows of the key: if only one of several were closed, later items would not know.
            if let Some((key, mut entry)) = self.table.remove(slot) {
                let Self { shape, content, .. } = self;
                let mut closed = Vec::new();
                while !H::is_empty(&entry.open) {
                    closed.push(shape.close(content, &mut entry.open));
                }
                out.evicted_keys(1);
                self.send_last(key, closed, out);
            }
        }
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

    const SHAPE: sealed::Shape = sealed::Shape::ANY.prefetching();

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<Self::Out>) {
        let key = |item: &T| self.keying.key(item);
        let probe = match self.prefetched.next(|| self.table.probe_of(key, &item)) {
            Ok(probe) => probe,
            Err(panicked) => return out.fail_panicked(panicked.0.into(), item),
        };
        let time = match self.time.stamp(&item, out) {
            Ok(time) => time,
            Err(refused) => {
                panic::guard_drop(probe);
                return refused.fail(item, out);
            }
        };
        // All user code has been called: an item on which it panics does not move the watermark.
        self.time.advance(time);
        self.limit = self.time.watermark();
        if self.next <= self.limit {
            self.waiting = Some(Waiting { probe, time, item });
            self.go_on(out);
        } else {
            self.place(probe, time, item, out);
        }
    }

    fn looks_ahead(&self) -> bool {
        self.table.is_large()
    }

    fn prefetch(&mut self, next: &[Result<T>]) {
        self.table.prefetch(&mut self.prefetched, |item| self.keying.key(item), next);
    }

    fn timer(&mut self, now: Instant, out: &mut impl Emit<Self::Out>) {
        self.limit = self.time.rung(now);
        self.go_on(out);
    }

    fn end(&mut self, out: &mut impl Emit<Self::Out>) {
        self.limit = END;
        self.go_on(out);
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<Self::Out>) -> bool {
        if (self.waiting.is_some() || self.next <= self.limit) && self.go_on(out) {
            return true;
        }
        // Only now have all due windows been sent: a mark must not pass a window with an item that came before it, and
        // the silence begins when there is nothing left to do.
        self.epochs.release(out);
        !self.time.listen(out)
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        self.waiting.is_some() || self.next <= self.limit || !self.epochs.is_empty() || self.time.has_to_listen()
    }

    fn attach(&mut self, origins: &Arc<Origins>) -> bool {
        self.time.attach(origins);
        false
    }

    fn take_mark(&mut self, mark: StreamError, out: &mut impl Emit<Self::Out>) -> Option<StreamError> {
        let Some(label) = mark.label() else { return self.epochs.end(mark) };
        mark.complete_mark();
        self.time.note(label, out);
        self.limit = self.time.watermark();
        self.go_on(out);
        None
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

impl<T, K, S, C, H> Drop for WindowOperator<T, K, S, C, H>
where
    K: Keying<T>,
    S: TimeSource<T>,
    C: Content<T, S::Tag>,
    H: Shape<T, S::Tag, C>,
{
    fn drop(&mut self) {
        if let Some(Waiting { probe, item, .. }) = self.waiting.take() {
            // One by one: two panics at once would abort.
            panic::guard_drop(probe);
            panic::guard_drop(item);
        }
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
