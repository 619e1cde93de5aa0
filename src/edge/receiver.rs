//! [`EdgeReceiver`]: the consuming end.

use super::{Batch, Edge, End, Polled, Queue, State, is_mark, post_all};
use crate::clock::wait::Wake;
use crate::error::Result;
use crate::panic::guard_drop;
use crate::sync::{Arc, Ordering};

/// The consuming end.
pub(crate) struct EdgeReceiver<T> {
    edge: Arc<Edge<T>>,
    batch: Batch<Result<T>>,
    /// A copy of the gauge's `taken`; this is its only writer.
    taken: usize,
}

impl<T> EdgeReceiver<T> {
    pub(super) fn new(edge: Arc<Edge<T>>) -> Self {
        Self { edge, batch: Batch::new(), taken: 0 }
    }

    pub(crate) fn shared(&self) -> &Arc<Edge<T>> {
        &self.edge
    }

    /// Takes the next item, if there is one. Never blocks.
    #[inline(always)]
    pub(crate) fn poll(&mut self) -> Polled<T> {
        match self.next_in_chunk() {
            Some(item) => Polled::Item(item),
            None => self.poll_next_chunk(),
        }
    }

    /// Takes the next item of the chunk that is open.
    #[inline(always)]
    pub(crate) fn next_in_chunk(&mut self) -> Option<Result<T>> {
        let item = self.batch.next()?;
        self.count_taken(1);
        Some(item)
    }

    /// The items left in the chunk that is open.
    #[inline]
    pub(crate) fn in_chunk(&self) -> &[Result<T>] {
        self.batch.open()
    }

    #[cold]
    #[inline(never)]
    fn poll_next_chunk(&mut self) -> Polled<T> {
        if self.batch.open_chunk() {
            self.count_taken(1);
        } else if let Err(end) = self.refill() {
            return end.map_or(Polled::Empty, Polled::Ended);
        }
        match self.batch.next() {
            Some(item) => Polled::Item(item),
            None => unreachable!("an open chunk has an item"),
        }
    }

    /// Takes items until there are none, or `items` has `most` of them.
    pub(crate) fn poll_until(&mut self, most: usize, items: &mut Vec<Result<T>>) {
        while items.len() < most
            && let Polled::Item(item) = self.poll()
        {
            items.push(item);
            let before = items.len();
            self.batch.take_into(most - before, items);
            self.count_taken(items.len() - before);
        }
    }

    /// Called after `count` items were taken out of the batch.
    #[inline(always)]
    fn count_taken(&mut self, count: usize) {
        self.taken = self.taken.wrapping_add(count);
        // In this order and without a fence, which would cost more than the whole poll: a producer that has set the flag just
        // now may be missed here. The next poll sees it, or `settle` does, before this thread parks: invariant 4.
        self.edge.gauge.taken.store(self.taken, Ordering::Release);
        if self.edge.room_wanted.load(Ordering::Relaxed) && self.edge.has_worthwhile_room() {
            self.edge.announce_room();
        }
    }

    /// Fills the batch and opens it. Counts the first item, which the caller takes. If there is nothing, returns the end, if
    /// that has come.
    fn refill(&mut self) -> Result<(), Option<End>> {
        let edge = &*self.edge;
        let mut state = edge.state.lock();
        if edge.eager {
            if let Some(item) = state.queue.pop() {
                let mark = usize::from(is_mark(&item));
                edge.set_marks(&mut state, |marks| marks - mark);
                self.batch.put(item);
            }
        } else {
            state.queue.give_all(&mut self.batch);
            edge.set_marks(&mut state, |_| 0);
        }
        let found = match self.batch.is_empty() {
            true => Err(state.end.clone()),
            false => {
                self.taken = self.taken.wrapping_add(1);
                edge.gauge.taken.store(self.taken, Ordering::Release);
                Ok(())
            }
        };
        let mut wakes = Vec::new();
        // Under the lock the flag is exact: a producer that wants room has set it and checked, or will check after us.
        if edge.room_wanted.load(Ordering::Relaxed) && edge.has_worthwhile_room() {
            edge.room_wanted.store(false, Ordering::Relaxed);
            wakes = std::mem::take(&mut state.wanting_room);
        }
        drop(state);
        post_all(wakes);
        self.batch.open_chunk();
        found
    }

    /// Whether a poll would probably find something: a hint, without the lock.
    pub(crate) fn may_have_items(&self) -> bool {
        let edge = &*self.edge;
        edge.gauge.sent.load(Ordering::Acquire) != self.taken || edge.ended.load(Ordering::Acquire)
    }

    /// Makes the consumer hungry, unless the edge has something for it. Returns true in that case.
    pub(crate) fn ask(&self) -> bool {
        self.ask_and(|_| {})
    }

    /// Runs `then` in the critical section in which nothing was found.
    fn ask_and(&self, then: impl FnOnce(&mut State<T>)) -> bool {
        let edge = &*self.edge;
        let mut state = edge.state.lock();
        if self.is_served(&state) {
            return true;
        }
        // Relaxed: a hint to readers without the lock. A producer that hands over resets it under the lock, and takes
        // the wake that `then` leaves there.
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

    /// Registers for items. Returns true if there are some, or the end, so that the caller must not park.
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

    /// Makes room for `more` items in addition to the existing room.
    pub(crate) fn add_capacity(&self, more: usize) {
        self.change_capacity(|capacity| capacity.saturating_add(more));
    }

    /// Sets the capacity to `items`. If that is fewer than before, queued items may stay, and so may the open chunk
    /// that the producer is filling.
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
        // Under the lock: a producer that puts something into the queue has checked this flag under the lock, so
        // nothing is added after this.
        edge.gone.store(true, Ordering::Release);
        let mut queue = std::mem::replace(&mut state.queue, Queue::new());
        let mut wakes = std::mem::take(&mut state.owners);
        let when_gone = state.when_gone.take();
        wakes.append(&mut state.wanting_room);
        state.consumer = None;
        drop(state);
        let (mut left, mut items) = (0, 0);
        let mut count = |item: &Result<T>| {
            left += 1;
            items += u64::from(item.is_ok());
        };
        self.batch.each(&mut count);
        queue.each(&mut count);
        edge.count_undelivered(items);
        edge.gauge.taken.store(self.taken.wrapping_add(left), Ordering::Release);
        post_all(wakes);
        if let Some(react) = when_gone {
            react();
        }
        // The items themselves are dropped last, in order: their drops are user code, and all waiting threads have been
        // woken. Invariant 11: anything in the batch comes after something that was taken out of it.
        while self.taken == 0 && queue.first().is_some_and(is_mark) {
            if let Some(Err(mark)) = queue.pop() {
                mark.complete_mark();
            }
        }
        while let Some(item) = self.batch.pop().or_else(|| queue.pop()) {
            guard_drop(item);
        }
    }
}
