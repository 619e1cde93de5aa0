//! The edge: what lies between two stages.
//!
//! Items wait in a queue behind one lock. Neither side takes the lock for every item: the producer gathers an *open
//! chunk* of its own and hands it over; the consumer swaps the whole queue for its own empty one and works that *batch*
//! off. Both buffers go back and forth, so a running edge allocates nothing.
//!
//! # What must hold
//!
//! 1. *Order.* The queue is first in, first out, and so are chunk and batch. What is in the batch is older than what is
//!    in the queue, and that is older than what is in the open chunk.
//! 2. *Capacity.* `sent - taken <= capacity`, where `sent` counts what was ever put into the queue and `taken` what was
//!    ever taken out of the batch. Items in the batch still count, whatever the chunks. The open chunk counts too, except
//!    for what one call of an operator emits beyond the room there is: that is the producer's item in hand.
//!    With capacity 0 there is room for one item, and only while the consumer asks for it.
//!    A capacity that is lowered holds from the producer's next chunk on: what a producer has been promised it is given,
//!    for it does not wait for that any more.
//! 3. *No item waits for company.* The producer hands over when its chunk is full, when the consumer is hungry, and
//!    before it parks or ends. `hungry` is set under the lock by a consumer that found nothing and asks; one that is about
//!    to wait asks within a microsecond or so. The producer reads it without the lock after each emission and each
//!    call; it may see it one look late. So an item waits at most for one call of the producer's own closure.
//!    Producers that may wait elsewhere (sources, pools) hand over at once.
//! 4. *Nobody waits for room that is there.* A producer that found no room sets `room_wanted` under the lock and looks at
//!    `taken` again; the consumer reads the flag after each item it takes. Without a fence either may miss the other's
//!    store, so the consumer looks again after its next item, and under the lock (or behind a fence) before it parks, asks
//!    for more, or returns to a caller: the announcement may come late by one call of the consumer's closure.
//! 5. *Wakes.* A side that parks leaves its wake here under the lock after it has looked; the other side takes it under the
//!    lock together with the change it was waiting for, and posts it after unlocking.
//! 6. *The end is explicit.* A producer says `finish` or `cut`, after its last item. One that goes without a word
//!    has cut the stream. The consumer sees the end only when queue and batch are empty.
//! 7. *A consumer that goes* empties queue and batch by popping, outside the lock; the data items it finds are counted as
//!    undelivered. Items offered after that are given back to the producer, which counts them in the same place. So
//!    emitted = taken + undelivered, exactly.
//! 8. No user value is dropped and no wake posted while the lock is held.
//!
//! Under virtual time the edge is *eager*: chunks of one, batches of one. Then 3 and 4 hold without the "late by one
//! call", and what is seen at a given moment does not depend on the scheduler.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use crate::error::{Result, StreamError};
use crate::stage::stats::Gauge;
use crate::stage::wait::Wake;

/// The most items that are handed over together.
const CHUNK: usize = 64;

/// How a stream ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// Everything was delivered.
    Finished,
    /// Something is missing; the error, of kind cancelled or internal, says why.
    Cut(StreamError),
}

/// What a look at the way in found.
pub(crate) enum Polled<T> {
    Item(Result<T>),
    Empty,
    Ended(End),
}

pub(crate) struct Edge<T> {
    hungry: CachePadded<AtomicBool>,
    room_wanted: CachePadded<AtomicBool>,
    gone: AtomicBool,
    /// The producer has said its last word. A hint; the word itself is in the state.
    ended: AtomicBool,
    eager: bool,
    gauge: Arc<Gauge>,
    state: CachePadded<Mutex<State<T>>>,
}

struct State<T> {
    queue: VecDeque<Result<T>>,
    /// A copy of the gauge's `sent`, which only this lock's holder writes.
    sent: usize,
    capacity: usize,
    /// The capacity was lowered since the producer last looked: the room it remembers is not there for its next chunk.
    shrunk: bool,
    end: Option<End>,
    /// The consumer, while it is parked or about to.
    consumer: Option<Arc<Wake>>,
    /// Producers that are parked for room, or about to.
    wanting_room: Vec<Arc<Wake>>,
    /// Threads to wake when the consumer goes.
    owners: Vec<Arc<Wake>>,
}

/// Makes an edge; `eager` as explained at the top.
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
            queue: VecDeque::new(),
            sent: 0,
            capacity,
            shrunk: false,
            end: None,
            consumer: None,
            wanting_room: Vec::new(),
            owners: Vec::new(),
        })),
    });
    let sender = EdgeSender { edge: Arc::clone(&edge), open: VecDeque::new(), credit: 0, at_once: eager, ended: false };
    (sender, EdgeReceiver { edge, batch: VecDeque::new(), taken: 0 })
}

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

    /// Invariant 2. The lock makes `sent` exact; `taken` can only grow meanwhile.
    fn room(&self, state: &State<T>) -> usize {
        let in_flight = state.sent.wrapping_sub(self.gauge.taken.load(Ordering::Acquire));
        if state.capacity == 0 {
            usize::from(in_flight == 0 && self.hungry.load(Ordering::Relaxed))
        } else {
            state.capacity.saturating_sub(in_flight)
        }
    }

    /// Moves what there is room for from `chunk` into the queue and wakes the consumer.
    ///
    /// `credit` is room that the producer knows of from an earlier look. While it suffices, `taken` is not looked at:
    /// the consumer writes it for every item, and reading it would cost both sides a cache miss each time.
    fn accept(&self, mut state: MutexGuard<'_, State<T>>, credit: usize, chunk: &mut VecDeque<Result<T>>) -> usize {
        // Covered by credit, it is in the edge by right, and nobody waits for room for it: also if the capacity has been
        // lowered since the credit was given.
        let covered = credit >= chunk.len();
        let shrunk = std::mem::take(&mut state.shrunk);
        let room = if covered { credit } else { self.room(&state) };
        let count = room.min(chunk.len());
        if count == 0 {
            return room;
        }
        // With capacity 0 there is room when the consumer asks again.
        let left = match state.capacity {
            0 => 0,
            _ if covered && shrunk => self.room(&state).saturating_sub(count),
            _ => room - count,
        };
        if count == chunk.len() && state.queue.is_empty() {
            std::mem::swap(&mut state.queue, chunk);
        } else {
            state.queue.extend(chunk.drain(..count));
        }
        self.accepted(state, count);
        left
    }

    /// `count` items have been put into the queue: counts them and wakes the consumer.
    #[inline]
    fn accepted(&self, mut state: MutexGuard<'_, State<T>>, count: usize) {
        state.sent = state.sent.wrapping_add(count);
        self.gauge.sent.store(state.sent, Ordering::Release);
        // The consumer is hungry no more. Written only if it changes, for the consumer watches it.
        if self.hungry.load(Ordering::Relaxed) {
            self.hungry.store(false, Ordering::Relaxed);
        }
        let consumer = state.consumer.take();
        drop(state);
        if let Some(consumer) = consumer {
            consumer.post();
        }
    }

    /// Invariant 4, the producer's side: true if there is room after all.
    pub(crate) fn want_room(&self, wake: &Arc<Wake>) -> bool {
        let mut state = self.state.lock();
        self.room_wanted.store(true, Ordering::Relaxed);
        // Pairs with the fence in `settle`: one of the two sees the other's store.
        fence(Ordering::SeqCst);
        if self.room(&state) > 0 || self.is_gone() || state.end.is_some() {
            return true;
        }
        push_unique(&mut state.wanting_room, wake);
        false
    }

    #[cold]
    fn announce_room(&self) {
        let mut state = self.state.lock();
        self.room_wanted.store(false, Ordering::Relaxed);
        let wakes = std::mem::take(&mut state.wanting_room);
        drop(state);
        post_all(wakes);
    }

    /// Invariant 4, the consumer's side.
    pub(crate) fn settle(&self) {
        // Pairs with the fence in `want_room`: one of the two sees the other's store.
        fence(Ordering::SeqCst);
        if self.room_wanted.load(Ordering::Relaxed) {
            self.announce_room();
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn end(&self, end: End) {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        self.ended.store(true, Ordering::Release);
        let consumer = state.consumer.take();
        let wakes = std::mem::take(&mut state.wanting_room);
        drop(state);
        if let Some(consumer) = consumer {
            consumer.post();
        }
        post_all(wakes);
    }

    fn count_undelivered(&self, items: &VecDeque<Result<T>>) {
        let data = items.iter().filter(|item| item.is_ok()).count();
        // Both sides may come here, each once.
        self.gauge.undelivered.fetch_add(data as u64, Ordering::Relaxed);
    }

    /// Offers one item without a chunk of one's own: for producers that share an edge. Calls `accepted` under the lock if
    /// it was taken in.
    pub(crate) fn offer(&self, item: Result<T>, accepted: impl FnOnce()) -> Result<(), (Refused, Result<T>)> {
        let mut state = self.state.lock();
        if self.is_gone() || state.end.is_some() {
            return Err((Refused::Closed, item));
        }
        if self.room(&state) == 0 {
            return Err((Refused::Full, item));
        }
        accepted();
        state.queue.push_back(item);
        self.accepted(state, 1);
        Ok(())
    }

    pub(crate) fn finish(&self) {
        self.end(End::Finished);
    }

    pub(crate) fn cut(&self, error: StreamError) {
        self.end(End::Cut(error));
    }

    /// From now on `wake` is posted when the consumer goes.
    pub(crate) fn watch(&self, wake: &Arc<Wake>) {
        push_unique(&mut self.state.lock().owners, wake);
    }

    /// Whether nothing more is accepted.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_gone() || self.state.lock().end.is_some()
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

/// The producing end, for one producer.
pub(crate) struct EdgeSender<T> {
    edge: Arc<Edge<T>>,
    open: VecDeque<Result<T>>,
    /// How many items there was room for, beyond the open chunk, at the last look.
    credit: usize,
    at_once: bool,
    ended: bool,
}

impl<T> EdgeSender<T> {
    pub(crate) fn shared(&self) -> &Arc<Edge<T>> {
        &self.edge
    }

    /// Hand every item over at once: for producers that may wait elsewhere after an emission.
    pub(crate) fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    /// Emits. What there is no room for stays in the open chunk: see [`is_stuck`](Self::is_stuck).
    #[inline]
    pub(crate) fn push(&mut self, item: Result<T>) {
        if self.at_once {
            return self.push_now(item);
        }
        self.open.push_back(item);
        if self.open.len() >= CHUNK.min(self.credit) || self.edge.hungry.load(Ordering::Relaxed) {
            self.hand_over();
        }
    }

    /// Puts the item into the queue at once, if there is room that is known of; the usual way otherwise.
    #[inline]
    fn push_now(&mut self, item: Result<T>) {
        let edge = &*self.edge;
        if self.credit > 0 && self.open.is_empty() {
            let mut state = edge.state.lock();
            if std::mem::take(&mut state.shrunk) {
                // Nothing has been put on it yet.
                self.credit = 0;
            } else if !edge.is_gone() {
                state.queue.push_back(item);
                self.credit -= 1;
                return edge.accepted(state, 1);
            }
        }
        self.open.push_back(item);
        self.hand_over();
    }

    /// Hands over what there is room for.
    pub(crate) fn hand_over(&mut self) {
        if self.open.is_empty() {
            return;
        }
        if self.edge.is_gone() {
            self.give_up();
            return;
        }
        let state = self.edge.state.lock();
        // Again, under the lock: what is put into the queue after the consumer has emptied it stays there unseen.
        if self.edge.is_gone() {
            drop(state);
            self.give_up();
            return;
        }
        self.credit = self.edge.accept(state, self.credit, &mut self.open);
    }

    /// Invariant 3, between two emissions.
    #[inline]
    pub(crate) fn hand_over_if_hungry(&mut self) {
        if !self.open.is_empty() && self.edge.hungry.load(Ordering::Relaxed) {
            self.hand_over();
        }
    }

    /// Whether nothing is left in the open chunk.
    #[inline]
    pub(crate) fn is_handed_over(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether items had to stay behind for want of room.
    #[inline]
    pub(crate) fn is_stuck(&self) -> bool {
        self.open.len() > self.credit
    }

    /// Whether one more item would have to wait.
    #[inline]
    pub(crate) fn is_full(&mut self) -> bool {
        if self.open.len() < self.credit {
            return false;
        }
        self.hand_over();
        if self.open.is_empty() && self.credit == 0 {
            self.credit = self.edge.room(&self.edge.state.lock());
        }
        self.open.len() >= self.credit
    }

    /// A hint, without the lock, that room may have been made: enough of it to be worth getting up for.
    pub(crate) fn may_have_room(&self) -> bool {
        let gauge = &self.edge.gauge;
        let capacity = gauge.capacity.load(Ordering::Relaxed);
        self.is_gone()
            || if capacity == 0 {
                self.edge.hungry.load(Ordering::Relaxed)
            } else {
                gauge.len() + (capacity / 4).min(CHUNK) <= capacity.saturating_sub(1)
            }
    }

    /// Registers for room: true if there is some, so that the caller must not park.
    pub(crate) fn want_room(&self, wake: &Arc<Wake>) -> bool {
        self.edge.want_room(wake)
    }

    /// Takes back the oldest item that waits in the queue.
    pub(crate) fn evict(&mut self) -> Option<Result<T>> {
        let mut state = self.edge.state.lock();
        let item = state.queue.pop_front()?;
        state.sent = state.sent.wrapping_sub(1);
        self.edge.gauge.sent.store(state.sent, Ordering::Release);
        drop(state);
        self.credit += 1;
        Some(item)
    }

    /// From now on `wake` is posted when the consumer goes.
    pub(crate) fn watch(&self, wake: &Arc<Wake>) {
        self.edge.watch(wake);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.edge.is_gone()
    }

    fn give_up(&mut self) {
        self.edge.count_undelivered(&self.open);
        self.open.clear();
    }

    /// Ends the stream after what was emitted. What there is no room for is lost, and counted: a stage that finishes in
    /// good order has waited for room before.
    pub(crate) fn end(&mut self, end: End) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.hand_over();
        self.give_up();
        self.edge.end(end);
    }

    /// Lets go of the edge without a word about its end: somebody else feeds it from now on.
    pub(crate) fn release(&mut self) {
        self.ended = true;
    }
}

/// The consuming end.
pub(crate) struct EdgeReceiver<T> {
    edge: Arc<Edge<T>>,
    batch: VecDeque<Result<T>>,
    /// What the gauge's `taken` says; this is its only writer.
    taken: usize,
}

impl<T> EdgeReceiver<T> {
    pub(crate) fn shared(&self) -> &Arc<Edge<T>> {
        &self.edge
    }

    /// Takes the next item, if there is one. Never blocks. Finding nothing makes the consumer hungry.
    #[inline]
    pub(crate) fn poll(&mut self) -> Polled<T> {
        if let Some(item) = self.batch.pop_front() {
            self.taken = self.taken.wrapping_add(1);
            self.edge.gauge.taken.store(self.taken, Ordering::Release);
            if self.edge.room_wanted.load(Ordering::Relaxed) {
                self.edge.announce_room();
            }
            return Polled::Item(item);
        }
        self.refill()
    }

    fn refill(&mut self) -> Polled<T> {
        let edge = &*self.edge;
        let mut state = edge.state.lock();
        let item = if edge.eager {
            state.queue.pop_front()
        } else {
            std::mem::swap(&mut state.queue, &mut self.batch);
            self.batch.pop_front()
        };
        let mut wakes = Vec::new();
        let polled = match item {
            Some(item) => {
                self.taken = self.taken.wrapping_add(1);
                edge.gauge.taken.store(self.taken, Ordering::Release);
                Polled::Item(item)
            }
            None => state.end.as_ref().map_or(Polled::Empty, |end| Polled::Ended(end.clone())),
        };
        // Under the lock the flag is exact: whoever wants room has set it and looked, or will look after us.
        if edge.room_wanted.load(Ordering::Relaxed) && edge.room(&state) > 0 {
            edge.room_wanted.store(false, Ordering::Relaxed);
            wakes = std::mem::take(&mut state.wanting_room);
        }
        drop(state);
        post_all(wakes);
        polled
    }

    /// A hint, without the lock, that a poll would find something.
    pub(crate) fn may_have_items(&self) -> bool {
        let edge = &*self.edge;
        edge.gauge.sent.load(Ordering::Acquire) != self.taken || edge.ended.load(Ordering::Acquire)
    }

    /// Makes the consumer hungry, unless there is something: true then.
    pub(crate) fn ask(&self) -> bool {
        self.ask_and(|_| {})
    }

    /// `then` is done in the critical section in which nothing was found.
    fn ask_and(&self, then: impl FnOnce(&mut State<T>)) -> bool {
        let edge = &*self.edge;
        let mut state = edge.state.lock();
        if self.is_served(&state) {
            return true;
        }
        edge.hungry.store(true, Ordering::Relaxed);
        then(&mut state);
        let mut wakes = Vec::new();
        // With capacity 0 hunger makes room.
        if state.capacity == 0 && edge.room_wanted.load(Ordering::Relaxed) {
            edge.room_wanted.store(false, Ordering::Relaxed);
            wakes = std::mem::take(&mut state.wanting_room);
        }
        drop(state);
        post_all(wakes);
        false
    }

    fn is_served(&self, state: &State<T>) -> bool {
        !self.batch.is_empty() || !state.queue.is_empty() || state.end.is_some()
    }

    /// Registers for items: true if there are some, or the end, so that the caller must not park.
    pub(crate) fn want_items(&self, wake: &Arc<Wake>) -> bool {
        self.ask_and(|state| state.consumer = Some(Arc::clone(wake)))
    }

    /// Whether a poll would find something.
    pub(crate) fn has_items(&self) -> bool {
        !self.batch.is_empty() || self.is_served(&self.edge.state.lock())
    }

    /// Invariant 4, the consumer's side, before it parks or returns to a caller.
    pub(crate) fn settle(&self) {
        self.edge.settle();
    }

    /// Makes room for `more` items beside those there is room for already.
    pub(crate) fn add_capacity(&self, more: usize) {
        self.change_capacity(|capacity| capacity.saturating_add(more));
    }

    /// Room for `items` from now on. Fewer than before: what waits already may stay, and so may the open chunk that the
    /// producer fills at the moment.
    pub(crate) fn set_capacity(&self, items: usize) {
        self.change_capacity(|_| items);
    }

    fn change_capacity(&self, change: impl FnOnce(usize) -> usize) {
        let mut state = self.edge.state.lock();
        let capacity = change(state.capacity);
        state.shrunk |= capacity < state.capacity;
        state.capacity = capacity;
        self.edge.gauge.capacity.store(state.capacity, Ordering::Relaxed);
        let wakes = std::mem::take(&mut state.wanting_room);
        drop(state);
        post_all(wakes);
    }
}

impl<T> Drop for EdgeReceiver<T> {
    fn drop(&mut self) {
        let edge = &*self.edge;
        let mut state = edge.state.lock();
        edge.gone.store(true, Ordering::Release);
        let queue = std::mem::take(&mut state.queue);
        let mut wakes = std::mem::take(&mut state.owners);
        wakes.append(&mut state.wanting_room);
        state.consumer = None;
        drop(state);
        edge.count_undelivered(&queue);
        edge.count_undelivered(&self.batch);
        let left = queue.len() + self.batch.len();
        edge.gauge.taken.store(self.taken.wrapping_add(left), Ordering::Release);
        post_all(wakes);
        // The items themselves are dropped last, in order, when everybody has been told.
        self.batch.clear();
        drop(queue);
    }
}

impl<T> Drop for EdgeSender<T> {
    fn drop(&mut self) {
        if !self.ended {
            let error = StreamError::new(crate::ErrorKind::Internal, "unknown")
                .with_source("the producing stage went away without ending its stream");
            self.end(End::Cut(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::stage::wait::Waiter;

    fn drain<T>(receiver: &mut EdgeReceiver<T>) -> Vec<T> {
        std::iter::from_fn(|| match receiver.poll() {
            Polled::Item(item) => Some(item.unwrap()),
            Polled::Empty | Polled::Ended(_) => None,
        })
        .collect()
    }

    #[test]
    fn never_takes_more_than_its_capacity_whatever_the_chunks() {
        for capacity in [1, 2, 3, 64, 65, 200] {
            let (mut sender, mut receiver) = edge(capacity, false);
            (0..capacity + 5).for_each(|n| sender.push(Ok(n)));
            sender.hand_over();
            assert!(sender.is_stuck() && sender.is_full());
            assert_eq!(receiver.shared().gauge().len(), capacity);
            // What the consumer has not taken one by one still counts.
            assert!(matches!(receiver.poll(), Polled::Item(Ok(0))));
            sender.hand_over();
            assert_eq!(receiver.shared().gauge().len(), capacity);
            let mut seen = vec![0];
            while seen.len() < capacity + 5 {
                seen.extend(drain(&mut receiver));
                sender.hand_over();
            }
            assert_eq!(seen, (0..capacity + 5).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_item_waits_for_company_only_while_nobody_asks_for_it() {
        let (mut sender, mut receiver) = edge(100, false);
        assert!(!receiver.ask());
        sender.push(Ok('a')); // the consumer is hungry
        sender.push(Ok('b')); // and was fed
        assert_eq!(drain(&mut receiver), ['a']);
        assert!(!receiver.ask());
        sender.hand_over_if_hungry();
        assert_eq!(drain(&mut receiver), ['b']);
        sender.push(Ok('c'));
        assert!(!receiver.has_items());
        sender.hand_over(); // as before parking
        assert_eq!(drain(&mut receiver), ['c']);
    }

    #[test]
    fn an_eager_edge_shows_every_item_at_once() {
        let (mut sender, receiver) = edge(4, true);
        sender.push(Ok(1));
        assert!(receiver.has_items());
    }

    #[test]
    fn with_capacity_zero_there_is_room_only_for_one_who_asks() {
        let (mut sender, mut receiver) = edge(0, false);
        assert!(sender.is_full());
        sender.push(Ok(1));
        assert!(sender.is_stuck());
        assert!(matches!(receiver.poll(), Polled::Empty));
        assert!(!receiver.ask());
        sender.hand_over();
        assert!(!sender.is_stuck());
        assert!(sender.is_full());
        assert_eq!(drain(&mut receiver), [1]);
        assert!(sender.is_full());
    }

    #[test]
    fn the_end_comes_after_the_last_item() {
        let (mut sender, mut receiver) = edge(10, false);
        sender.push(Ok(1));
        sender.end(End::Finished);
        assert!(matches!(receiver.poll(), Polled::Item(Ok(1))));
        assert!(matches!(receiver.poll(), Polled::Ended(End::Finished)));
        assert!(matches!(receiver.poll(), Polled::Ended(End::Finished)));
    }

    #[test]
    fn a_producer_that_goes_without_a_word_has_cut_the_stream() {
        let (mut sender, mut receiver) = edge(10, false);
        sender.push(Ok(1));
        drop(sender);
        assert!(matches!(receiver.poll(), Polled::Item(Ok(1))));
        assert!(matches!(receiver.poll(), Polled::Ended(End::Cut(_))));
    }

    #[test]
    fn what_nobody_took_is_counted_wherever_it_was() {
        let (mut sender, mut receiver) = edge(5, false);
        (0..3).for_each(|n| sender.push(Ok(n)));
        sender.hand_over();
        assert!(matches!(receiver.poll(), Polled::Item(_))); // two are left in the batch
        sender.push(Ok(3));
        sender.hand_over(); // one in the queue
        sender.push(Err(StreamError::new(crate::ErrorKind::Failed, "not data")));
        sender.push(Ok(4)); // one in the open chunk
        let gauge = Arc::clone(receiver.shared().gauge());
        drop(receiver);
        sender.push(Ok(5));
        sender.end(End::Finished);
        assert_eq!(gauge.undelivered.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn a_lower_capacity_holds_from_the_next_chunk_on() {
        let (mut sender, mut receiver) = edge(10, false);
        (0..3).for_each(|n| sender.push(Ok(n)));
        receiver.set_capacity(2);
        sender.push(Ok(3));
        sender.hand_over();
        assert!(sender.is_full(), "the room there was does not count any more");
        sender.push(Ok(4));
        assert!(sender.is_stuck());
        assert_eq!(drain(&mut receiver), [0, 1, 2, 3]);
        sender.hand_over();
        assert!(!sender.is_stuck());
        assert_eq!(drain(&mut receiver), [4]);

        // One that hands over at once keeps to it from the next item on.
        let (sender, mut receiver) = edge(10, false);
        let mut sender = sender.at_once();
        sender.push(Ok(0));
        receiver.set_capacity(1);
        sender.push(Ok(1));
        assert!(sender.is_stuck());
        assert_eq!(drain(&mut receiver), [0]);
    }

    #[test]
    fn a_lower_capacity_loses_nothing_that_nobody_waits_for() {
        for capacity in [0, 1, 2] {
            let (mut sender, mut receiver) = edge(100, false);
            (0..10).for_each(|n| sender.push(Ok(n)));
            receiver.set_capacity(capacity);
            assert!(!sender.is_stuck());
            sender.end(End::Finished);
            assert_eq!(drain(&mut receiver), (0..10).collect::<Vec<_>>());
            assert_eq!(receiver.shared().gauge().undelivered.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn the_oldest_can_be_taken_back() {
        let (mut sender, mut receiver) = edge(2, true);
        sender.push(Ok(1));
        sender.push(Ok(2));
        assert_eq!(sender.evict().unwrap().unwrap(), 1);
        sender.push(Ok(3));
        assert_eq!(drain(&mut receiver), [2, 3]);
    }

    /// Two threads that park on every occasion: neither is ever left parked.
    #[test]
    fn no_wake_is_lost() {
        const ITEMS: u32 = 20_000;
        for capacity in [0, 1, 2, 7, 100] {
            let (mut sender, mut receiver) = edge(capacity, false);
            let producer = std::thread::spawn(move || {
                let waiter = Waiter::current(&Clock::default());
                for n in 0..ITEMS {
                    sender.push(Ok(n));
                    while sender.is_stuck() {
                        if !sender.want_room(waiter.wake()) {
                            waiter.park(None);
                        }
                        sender.hand_over();
                    }
                }
                sender.end(End::Finished);
            });
            let waiter = Waiter::current(&Clock::default());
            let mut next = 0;
            loop {
                match receiver.poll() {
                    Polled::Item(item) => {
                        assert_eq!(item.unwrap(), next);
                        next += 1;
                    }
                    Polled::Empty => {
                        receiver.settle();
                        if !receiver.want_items(waiter.wake()) {
                            waiter.park(None);
                        }
                    }
                    Polled::Ended(_) => break,
                }
            }
            assert_eq!(next, ITEMS);
            producer.join().unwrap();
        }
    }
}
