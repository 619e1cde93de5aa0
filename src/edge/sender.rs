//! [`EdgeSender`]: the producing end.

use super::{Edge, End, is_mark};
use crate::clock::wait::Wake;
use crate::error::{ErrorKind, Result, StreamError};
use crate::panic::discard;
use crate::sync::{Arc, CHUNK, Ordering};

/// The producing end, for one producer.
pub(crate) struct EdgeSender<T> {
    edge: Arc<Edge<T>>,
    open: Vec<Result<T>>,
    /// The number of marks in the open chunk.
    marks: usize,
    /// The room beyond the open chunk, as of the last check.
    credit: usize,
    at_once: bool,
    /// The maximum length of the open chunk.
    full_at: usize,
    ended: bool,
}

impl<T> EdgeSender<T> {
    pub(super) fn new(edge: Arc<Edge<T>>) -> Self {
        Self { edge, open: Vec::new(), marks: 0, credit: 0, at_once: false, full_at: 0, ended: false }
    }

    pub(crate) fn shared(&self) -> &Arc<Edge<T>> {
        &self.edge
    }

    /// Sets whether every item is handed over at once from now on: for producers that may wait elsewhere after an
    /// emission.
    pub(crate) fn set_at_once(&mut self, at_once: bool) {
        self.at_once = at_once;
        self.set_credit(self.credit);
    }

    fn set_credit(&mut self, credit: usize) {
        self.credit = credit;
        self.full_at = if self.at_once || self.edge.eager { 0 } else { CHUNK.min(credit) };
    }

    /// Emits an item. If there is no room for it, it stays in the open chunk: see [`is_stuck`](Self::is_stuck). Returns
    /// whether it handed over, or tried to.
    #[inline(always)]
    pub(crate) fn push(&mut self, item: Result<T>) -> bool {
        debug_assert!(!is_mark(&item), "it is not counted as one");
        self.open.push(item);
        let due = self.open.len() >= self.full_at || self.edge.is_hungry();
        if due {
            self.hand_over();
        }
        due
    }

    /// Emits one of several items in a row; the caller calls [`hand_over`](Self::hand_over) after the last, so that a
    /// hungry consumer gets all of them at once. Returns whether it handed over, or tried to.
    #[inline(always)]
    pub(crate) fn gather(&mut self, item: Result<T>) -> bool {
        debug_assert!(!is_mark(&item), "it is not counted as one");
        self.open.push(item);
        let due = self.open.len() >= self.full_at;
        if due {
            self.hand_over();
        }
        due
    }

    /// Returns the room beyond the open chunk. Reads the edge only if the known room is less than `wanted`.
    pub(crate) fn room_for(&mut self, wanted: usize) -> usize {
        if self.credit < self.open.len() + wanted {
            let credit = self.edge.room(&self.edge.state.lock());
            self.set_credit(credit);
        }
        self.credit.saturating_sub(self.open.len())
    }

    /// As [`gather`](Self::gather), for the first `count` of several items, for which there is [room](Self::room_for).
    pub(crate) fn gather_first(&mut self, items: &mut Vec<Result<T>>, count: usize) {
        debug_assert!(!items.iter().any(is_mark), "it is not counted as one");
        if self.open.is_empty() && count == items.len() {
            std::mem::swap(&mut self.open, items);
        } else {
            self.open.extend(items.drain(..count));
        }
        if self.open.len() >= self.full_at {
            self.hand_over();
        }
    }

    /// Emits a mark. It needs no room, but it stays behind items that wait for room.
    ///
    /// Usually it goes into the open chunk and is handed over with the items around it: invariant 3 applies to it, too.
    #[cold]
    pub(crate) fn put_mark(&mut self, mark: StreamError) {
        if self.open.len() < self.full_at && self.has_emitted() {
            self.open.push(Err(mark));
            self.marks += 1;
            // Restores the credit that it takes from the open chunk, because it needs no room.
            self.set_credit(self.credit + 1);
            if self.open.len() >= self.full_at || self.edge.is_hungry() {
                self.hand_over();
            }
            return;
        }
        self.hand_over();
        if self.open.is_empty() {
            self.edge.put_mark(mark);
        } else {
            self.open.push(Err(mark));
            self.marks += 1;
        }
    }

    /// Whether anything was ever emitted: invariant 11 looks for marks that came before all items in the queue.
    fn has_emitted(&self) -> bool {
        !self.open.is_empty() || self.edge.gauge.sent.load(Ordering::Relaxed) > 0
    }

    /// Hands over as many items as there is room for.
    #[cold]
    pub(crate) fn hand_over(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let mut state = self.edge.state.lock();
        // Under the lock: an item that is put into the queue after the consumer has emptied it would stay there
        // unnoticed.
        if self.edge.is_gone() {
            drop(state);
            self.give_up();
            return;
        }
        if self.full_at == 0 && std::mem::take(&mut state.shrunk) {
            // Items handed over at once were not collected on credit.
            self.credit = 0;
        }
        let credit = self.edge.accept(state, self.credit, &mut self.open, &mut self.marks);
        self.set_credit(credit);
    }

    /// Invariant 3, between two emissions. Returns whether it handed over, or tried to.
    #[inline]
    pub(crate) fn hand_over_if_hungry(&mut self) -> bool {
        let due = self.edge.is_hungry() && !self.open.is_empty();
        if due {
            self.hand_over();
        }
        due
    }

    /// Whether the open chunk is empty.
    #[inline]
    pub(crate) fn is_handed_over(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether items are held back for lack of room.
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
            let credit = self.edge.room(&self.edge.state.lock());
            self.set_credit(credit);
        }
        self.open.len() >= self.credit
    }

    /// Whether there may be enough room to be worth resuming: a hint, without the lock.
    pub(crate) fn may_have_room(&self) -> bool {
        self.is_gone() || self.edge.has_worthwhile_room()
    }

    /// Registers for room. Returns true if there is some, so that the caller must not park.
    pub(crate) fn want_room(&self, wake: &Arc<Wake>) -> bool {
        self.edge.want_room(wake)
    }

    /// Registers `wake`, which is posted when the consumer leaves.
    pub(crate) fn watch(&self, wake: &Arc<Wake>) {
        self.edge.watch(wake);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.edge.is_gone()
    }

    /// Counts an item that the edge has not accepted and that is dropped because there is no consumer.
    pub(crate) fn lose(&self, item: &Result<T>) {
        self.edge.count_undelivered(item.is_ok().into());
    }

    fn give_up(&mut self) {
        self.edge.count_undelivered(self.open.iter().filter(|item| item.is_ok()).count() as u64);
        self.marks = 0;
        discard(self.open.drain(..));
    }

    /// Ends the stream after the emitted items. Items without room are lost, and counted: a stage that finishes
    /// normally has waited for room before.
    pub(crate) fn end(&mut self, end: End) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.hand_over();
        self.give_up();
        self.edge.end(end);
    }

    /// Releases the edge without ending the stream: another producer feeds it from now on.
    pub(crate) fn release(&mut self) {
        self.ended = true;
    }
}

impl<T> Drop for EdgeSender<T> {
    fn drop(&mut self) {
        if !self.ended {
            let fault = StreamError::new(ErrorKind::Internal, "unknown")
                .with_source("the producing stage went away without ending its stream");
            self.end(End::Cut(StreamError::new(ErrorKind::Cancelled, "unknown").with_source(fault)));
        }
    }
}
