//! The edge: the queue between two stages.
//!
//! Items wait in a queue of chunks behind one lock. Neither side takes the lock for every item: the producer collects
//! items in an *open chunk* of its own and hands that over; the consumer takes all available chunks as one *batch* and
//! processes them. Used chunks are returned to the producer, so a running edge allocates nothing and copies no large
//! item.
//!
//! # Invariants
//!
//! 1. *Order.* The queue is first in, first out, and so are chunk and batch. Items in the batch are older than those in
//!    the queue, and these are older than those in the open chunk.
//! 2. *Capacity.* `sent - taken <= capacity`, where `sent` counts all items ever put into the queue and `taken` all
//!    items ever taken out of the batch. Items in the batch still count, whatever the chunks. The open chunk counts
//!    too, except for items that one call of an operator emits beyond the available room: these are the producer's item
//!    in hand. With capacity 0 there is room for one item, and only while the consumer asks for it. A lowered capacity
//!    applies from the producer's next chunk on: room that a producer has been promised stays its own, because it no
//!    longer waits for it.
//! 3. *No item waits for company.* The producer hands over when its chunk is full, when the consumer is hungry, and
//!    before it parks or ends. `hungry` is set under the lock by a consumer that found nothing and asks; a consumer
//!    that is about to wait yields a few times first, and asks before it parks. The producer reads it without the lock
//!    after each emission and each call, and may see it one check late. So an item waits for at most one call of the
//!    producer's own closure. Producers that may wait elsewhere (sources, pools) hand over at once.
//! 4. *No producer waits for room that exists.* A producer that found no room sets `room_wanted` under the lock and
//!    reads `taken` again; the consumer reads the flag after each item it takes. Without a fence either may miss the
//!    other's store, so the consumer checks again after its next item, and under the lock (or behind a fence) before it
//!    parks, asks for more, or returns to a caller: the announcement may come late by one call of the consumer's
//!    closure. A consumer that goes on announces room once half of the capacity is free, not for every item. One that
//!    stops announces any room, and wakes no producer if there is none.
//! 5. *Wakes.* A side that parks leaves its wake here under the lock after it has checked; the other side takes it
//!    under the lock together with the change it was waiting for, and posts it after unlocking.
//! 6. *The end is explicit.* A producer calls `finish` or `cut` after its last item. One that is dropped without either
//!    has cut the stream. The consumer sees the end only when queue and batch are empty.
//! 7. *A consumer that leaves* empties queue and batch by popping, outside the lock; the data items it finds are
//!    counted as undelivered. Items offered after that are returned to the producer, which counts them in the same
//!    place. So emitted = taken + undelivered, exactly.
//! 8. No user value is dropped and no wake posted while the lock is held.
//! 9. *Undelivered items* are dropped one by one. An item whose drop panics affects neither the others nor the thread,
//!    which may have other outputs.
//! 10. *Registrations are bounded.* The consumer has one wake here. Each thread of the producing stage has one in
//!     `owners` until the stream ends, and one in `wanting_room` once it has waited; the stage has one `when_gone`. A
//!     sender has one in `wanting_room` while it waits: senders come and go, so each removes its own ([`RoomWanted`]).
//! 11. *Marks* (see `mark/mod.rs`) are not items: they are not counted as undelivered, need no room, occupy none in the
//!     queue, and keep their place. If the consumer leaves before it has seen a mark, the mark is lost, unless there
//!     was never an item before it.
//!
//! Under virtual time the edge is *eager*: chunks of one, batches of one. Then 3 and 4 hold without the delay of one
//! call, and what is visible at a given moment does not depend on the scheduler.

mod gauge;
mod queue;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use crossbeam_utils::CachePadded;

use crate::clock::wait::Wake;
use crate::error::{Result, StreamError};
use crate::sync::{Arc, AtomicBool, Mutex, MutexGuard, Ordering, fence};

pub(crate) use gauge::Gauge;
use queue::{Batch, Queue};
pub(crate) use receiver::EdgeReceiver;
pub(crate) use sender::EdgeSender;

/// How a stream ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// Everything was delivered.
    Finished,
    /// Something is missing; the error, of kind cancelled, says why.
    Cut(StreamError),
}

/// The result of polling an input.
pub(crate) enum Polled<T> {
    Item(Result<T>),
    Empty,
    Ended(End),
}

pub(crate) struct Edge<T> {
    hungry: CachePadded<AtomicBool>,
    room_wanted: CachePadded<AtomicBool>,
    gone: AtomicBool,
    /// The producer has ended the stream. A hint; the end itself is in the state.
    ended: AtomicBool,
    eager: bool,
    gauge: Arc<Gauge>,
    state: CachePadded<Mutex<State<T>>>,
}

struct State<T> {
    queue: Queue<Result<T>>,
    /// A copy of the gauge's `sent`, which only this lock's holder writes.
    sent: usize,
    capacity: usize,
    /// Marks in the queue, which take no room there.
    marks: usize,
    /// The capacity was lowered since the producer last checked: the room it remembers does not apply to its next
    /// chunk.
    shrunk: bool,
    end: Option<End>,
    /// The wake of the consumer, while it is parked or about to park.
    consumer: Option<Arc<Wake>>,
    /// Wakes of producers that are parked for room, or about to park.
    wanting_room: Vec<Arc<Wake>>,
    /// Threads to wake when the consumer leaves.
    owners: Vec<Arc<Wake>>,
    /// Called when the consumer leaves.
    when_gone: Option<Box<dyn FnOnce() + Send>>,
}

/// Creates an edge; `eager` as explained at the top.
pub(crate) fn edge<T>(capacity: usize, eager: bool) -> (EdgeSender<T>, EdgeReceiver<T>) {
    let gauge = Arc::new(Gauge::default());
    gauge.capacity.store(capacity, Ordering::Relaxed);
    let edge = Arc::new(Edge {
        hungry: CachePadded::new(AtomicBool::new(false)),
        room_wanted: CachePadded::new(AtomicBool::new(false)),
        gone: AtomicBool::new(false),
        ended: AtomicBool::new(false),
        eager,
        gauge,
        state: CachePadded::new(Mutex::new(State {
            queue: Queue::new(),
            sent: 0,
            capacity,
            marks: 0,
            shrunk: false,
            end: None,
            consumer: None,
            wanting_room: Vec::new(),
            owners: Vec::new(),
            when_gone: None,
        })),
    });
    (EdgeSender::new(Arc::clone(&edge)), EdgeReceiver::new(edge))
}

/// The capacity that an edge needs to lose items and say so: an error item for the missing ones, and two items.
pub(crate) const LOSSY: usize = 3;

/// Why an item was not accepted.
pub(crate) enum Refused {
    Full,
    /// The consumer has gone, or the stream has been ended.
    Closed,
}

impl<T> Edge<T> {
    pub(crate) fn gauge(&self) -> &Arc<Gauge> {
        &self.gauge
    }

    /// Invariant 2. The lock makes `sent` exact; `taken` can only grow in the meantime.
    fn room(&self, state: &State<T>) -> usize {
        self.room_within(state, state.capacity)
    }

    fn room_within(&self, state: &State<T>, capacity: usize) -> usize {
        let in_flight = state.sent.wrapping_sub(self.gauge.taken.load(Ordering::Acquire));
        if capacity == 0 {
            usize::from(in_flight == 0 && self.hungry.load(Ordering::Relaxed))
        } else {
            capacity.saturating_sub(in_flight.saturating_sub(state.marks))
        }
    }

    /// Moves as many items of `chunk` into the queue as there is room for, and wakes the consumer.
    ///
    /// `credit` is room that the producer knows of from an earlier check. While it suffices, `taken` is not read: the
    /// consumer writes it for every item, and reading it would cost both sides a cache miss each time. It also suffices
    /// for the `marks` of the chunk, which need no room.
    fn accept(
        &self,
        mut state: MutexGuard<'_, State<T>>,
        credit: usize,
        chunk: &mut Vec<Result<T>>,
        marks: &mut usize,
    ) -> usize {
        // A chunk covered by credit is in the edge by right and needs no wait for room, even if the capacity has been
        // lowered since the credit was given.
        let covered = credit >= chunk.len();
        let shrunk = std::mem::take(&mut state.shrunk);
        let room = if covered { credit } else { self.room(&state) };
        let (count, marked) = match *marks {
            marks if covered => (chunk.len(), marks),
            0 => (room.min(chunk.len()), 0),
            _ => fitting(chunk, room),
        };
        if count == 0 {
            return room;
        }
        let left = match (covered, shrunk) {
            (true, true) => self.room(&state).saturating_sub(count - marked),
            (true, false) => room - count,
            (false, _) => room - (count - marked),
        };
        if marked > 0 {
            *marks -= marked;
            self.set_marks(&mut state, |before| before + marked);
        }
        state.queue.append(chunk, count);
        self.accepted(state, count);
        left
    }

    /// Counts `count` items that have been put into the queue, and wakes the consumer.
    #[inline]
    fn accepted(&self, mut state: MutexGuard<'_, State<T>>, count: usize) {
        state.sent = state.sent.wrapping_add(count);
        self.gauge.sent.store(state.sent, Ordering::Release);
        // The consumer is no longer hungry. Written only if it changes, because the consumer watches it.
        if self.hungry.load(Ordering::Relaxed) {
            self.hungry.store(false, Ordering::Relaxed);
        }
        let consumer = state.consumer.take();
        drop(state);
        if let Some(consumer) = consumer {
            consumer.post();
        }
    }

    /// Registers one of a varying number of producers for room; the registration ends with the wait.
    pub(crate) fn room_wanted<'a>(&'a self, wake: &'a Arc<Wake>) -> RoomWanted<'a, T> {
        RoomWanted { edge: self, wake }
    }

    /// Invariant 4, the producer's side. Returns true if there is room after all.
    pub(crate) fn want_room(&self, wake: &Arc<Wake>) -> bool {
        let mut state = self.state.lock();
        self.room_wanted.store(true, Ordering::Relaxed);
        // Store the flag, fence, load `taken`; pairs with `settle`: store `taken`, fence, load the flag. One of the two sees the
        // other's store.
        fence(Ordering::SeqCst);
        if self.room(&state) > 0 || self.is_gone() || state.end.is_some() {
            return true;
        }
        push_unique(&mut state.wanting_room, wake);
        false
    }

    /// Whether there is enough room to be worth waking a producer. A hint, without the lock.
    pub(crate) fn has_worthwhile_room(&self) -> bool {
        let capacity = self.gauge.capacity.load(Ordering::Relaxed);
        if capacity == 0 {
            return self.is_hungry();
        }
        let worthwhile = if self.eager { 1 } else { (capacity / 2).max(1) };
        self.gauge.len() + worthwhile <= capacity
    }

    /// Wakes the producers that wait for room, if there is any: one that is woken for nothing would park again at once.
    #[cold]
    fn announce_room(&self) {
        let mut state = self.state.lock();
        if self.room(&state) == 0 {
            return;
        }
        self.room_wanted.store(false, Ordering::Relaxed);
        let wakes = std::mem::take(&mut state.wanting_room);
        drop(state);
        post_all(wakes);
    }

    /// Invariant 4, the consumer's side.
    pub(crate) fn settle(&self) {
        // Pairs with the fence in `want_room`: `taken` was stored before it, by `poll`.
        fence(Ordering::SeqCst);
        if self.room_wanted.load(Ordering::Relaxed) {
            self.announce_room();
        }
    }

    /// Whether the consumer waits for an item. May be out of date by a moment.
    #[inline]
    pub(crate) fn is_hungry(&self) -> bool {
        self.hungry.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn end(&self, end: End) {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        // A copy for readers without the lock. Stored after the last `sent`, which the same lock guards.
        self.ended.store(true, Ordering::Release);
        let consumer = state.consumer.take();
        let wakes = std::mem::take(&mut state.wanting_room);
        // The producer has ended the stream and needs no more notifications.
        let unneeded = (std::mem::take(&mut state.owners), state.when_gone.take());
        drop(state);
        drop(unneeded);
        if let Some(consumer) = consumer {
            consumer.post();
        }
        post_all(wakes);
    }

    fn count_undelivered(&self, items: u64) {
        // Both sides may get here, once each.
        self.gauge.undelivered.fetch_add(items, Ordering::Relaxed);
    }

    /// Offers one item without an open chunk, for producers that share an edge. Calls `accepted` under the lock if the
    /// item was accepted.
    pub(crate) fn offer(&self, item: Result<T>, accepted: impl FnOnce()) -> Result<(), (Refused, Result<T>)> {
        let mut state = self.state.lock();
        if self.is_gone() || state.end.is_some() {
            return Err((Refused::Closed, item));
        }
        if self.room(&state) == 0 {
            return Err((Refused::Full, item));
        }
        accepted();
        state.queue.push(item);
        self.accepted(state, 1);
        Ok(())
    }

    /// As [`offer`](Self::offer), but if there is no room, evicts and returns the oldest data item. Only an eager edge,
    /// which has nothing in a batch, knows which that is. `accepted` is told whether an item is evicted. Refuses the
    /// item as `Full` if the edge holds only error items.
    pub(crate) fn offer_in_place_of_oldest(
        &self,
        item: Result<T>,
        accepted: impl FnOnce(bool),
    ) -> Result<Option<T>, (Refused, Result<T>)> {
        debug_assert!(self.eager, "the oldest item may be in the consumer's batch");
        let mut state = self.state.lock();
        if self.is_gone() || state.end.is_some() {
            return Err((Refused::Closed, item));
        }
        let mut oldest = None;
        // Whatever the capacity, there is room for the newest item.
        if self.room_within(&state, state.capacity.max(1)) == 0 {
            oldest = state.queue.remove_first(|item| item.is_ok()).and_then(Result::ok);
            if oldest.is_none() {
                return Err((Refused::Full, item));
            }
            state.sent = state.sent.wrapping_sub(1);
        }
        accepted(oldest.is_some());
        state.queue.push(item);
        self.accepted(state, 1);
        Ok(oldest)
    }

    /// As [`offer_in_place_of_oldest`](Self::offer_in_place_of_oldest), but with an error item in the place of missing
    /// items. If there is no room, the two oldest items are evicted, and `gap(2)` takes their place. If there is such an
    /// error before the oldest item already, which `widen` detects and increments, a single item is evicted: the
    /// oldest, or if there is none, the new one. Evicted items are added to `dropped`, and count as undelivered.
    ///
    /// Refuses the item as `Full` if there are too few items to evict, because error items take up the room. There is room
    /// for [`LOSSY`] entries, whatever the capacity.
    pub(crate) fn offer_leaving_gap(
        &self,
        item: Result<T>,
        widen: impl Fn(&StreamError) -> bool,
        gap: impl FnOnce(u64) -> StreamError,
        dropped: &mut Vec<T>,
    ) -> Result<(), (Refused, Result<T>)> {
        debug_assert!(self.eager, "the oldest item may be in the consumer's batch");
        let mut state = self.state.lock();
        if self.is_gone() || state.end.is_some() {
            return Err((Refused::Closed, item));
        }
        if self.room_within(&state, state.capacity.max(LOSSY)) == 0 {
            let items = state.queue.iter().filter(|item| item.is_ok()).take(2).count();
            // Other errors and marks may be in front of it.
            let is_widened =
                (items > 0 || item.is_ok()) && state.queue.iter().map_while(|entry| entry.as_ref().err()).any(widen);
            if is_widened && items == 0 {
                self.gauge.undelivered.fetch_add(1, Ordering::Relaxed);
                drop(state);
                dropped.extend(item.ok());
                return Ok(());
            }
            if !is_widened {
                if items < 2 {
                    return Err((Refused::Full, item));
                }
                dropped.extend(state.queue.replace_first(Result::is_ok, Err(gap(2))).and_then(Result::ok));
                self.gauge.undelivered.fetch_add(1, Ordering::Relaxed);
            }
            dropped.extend(state.queue.remove_first(Result::is_ok).and_then(Result::ok));
            self.gauge.undelivered.fetch_add(1, Ordering::Relaxed);
            state.sent = state.sent.wrapping_sub(1);
        }
        state.queue.push(item);
        self.accepted(state, 1);
        Ok(())
    }

    /// Adds a mark, whether there is room or not: the number of marks is bounded where they are created. While it is in
    /// the queue, it takes no room from the items behind it, so a buffer that drops items holds the same number with
    /// marks as without.
    pub(crate) fn put_mark(&self, mark: StreamError) {
        let mut state = self.state.lock();
        if self.is_gone() || state.end.is_some() {
            // Dropped, and so lost, outside the lock.
            drop(state);
            return;
        }
        state.queue.push(Err(mark));
        self.set_marks(&mut state, |marks| marks + 1);
        self.accepted(state, 1);
    }

    fn set_marks(&self, state: &mut State<T>, change: impl FnOnce(usize) -> usize) {
        let marks = change(state.marks);
        if marks != state.marks {
            state.marks = marks;
            self.gauge.marks.store(marks, Ordering::Relaxed);
        }
    }

    pub(crate) fn finish(&self) {
        self.end(End::Finished);
    }

    pub(crate) fn cut(&self, error: StreamError) {
        self.end(End::Cut(error));
    }

    /// Registers `wake`, which is posted when the consumer leaves.
    pub(crate) fn watch(&self, wake: &Arc<Wake>) {
        push_unique(&mut self.state.lock().owners, wake);
    }

    /// Calls `react` once the consumer has left, on the thread that drops it, or on this one if it has left already.
    /// For callers that wait for something else. It is dropped without being called if the producer ends the stream
    /// first. A second call replaces the first.
    pub(crate) fn when_gone(&self, react: impl FnOnce() + Send + 'static) {
        let mut state = self.state.lock();
        if self.is_gone() {
            drop(state);
            return react();
        }
        let before = if state.end.is_some() { None } else { state.when_gone.replace(Box::new(react)) };
        drop(state);
        drop(before);
    }

    /// Why the stream was cut, if it was and the edge is empty.
    pub(crate) fn cut_error(&self) -> Option<StreamError> {
        let state = self.state.lock();
        match &state.end {
            Some(End::Cut(error)) if self.gauge.len() == 0 => Some(error.clone()),
            _ => None,
        }
    }

    /// How many producers are registered for room.
    #[cfg(test)]
    pub(crate) fn waiting_for_room(&self) -> usize {
        self.state.lock().wanting_room.len()
    }

    /// Whether the edge accepts no more items.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_gone() || self.state.lock().end.is_some()
    }
}

/// Returns how many items of a chunk fit into the given room, and how many of those are marks.
fn fitting<T>(chunk: &[Result<T>], room: usize) -> (usize, usize) {
    let (mut items, mut marks) = (0, 0);
    for item in chunk {
        match is_mark(item) {
            true => marks += 1,
            false if items < room => items += 1,
            false => break,
        }
    }
    (items + marks, marks)
}

fn is_mark<T>(item: &Result<T>) -> bool {
    matches!(item, Err(error) if error.is_mark())
}

/// A registration for room, from the first check to the end of the wait.
pub(crate) struct RoomWanted<'a, T> {
    edge: &'a Edge<T>,
    wake: &'a Arc<Wake>,
}

impl<T> RoomWanted<'_, T> {
    /// Registers for room. Returns true if there is some, so that the caller must not park.
    pub(crate) fn is_met(&self) -> bool {
        self.edge.want_room(self.wake)
    }
}

impl<T> Drop for RoomWanted<'_, T> {
    fn drop(&mut self) {
        let mut state = self.edge.state.lock();
        let own = state.wanting_room.iter().position(|wake| Arc::ptr_eq(wake, self.wake));
        let own = own.map(|own| state.wanting_room.swap_remove(own));
        drop(state);
        drop(own);
    }
}

fn push_unique(wakes: &mut Vec<Arc<Wake>>, wake: &Arc<Wake>) {
    if !wakes.iter().any(|other| Arc::ptr_eq(other, wake)) {
        wakes.push(Arc::clone(wake));
    }
}

fn post_all(wakes: Vec<Arc<Wake>>) {
    for wake in wakes {
        wake.post();
    }
}
