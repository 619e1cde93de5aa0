//! [`Ledger`]: the records in flight, and the outcome of the others.
//!
//! # Invariants
//!
//! 1. Every receipt that the source enters comes out once: as *settled* or as *lost*. It is in its epoch until the last
//!    copy of the epoch's mark is dropped, wherever that is, and then here until the acker takes it.
//! 2. `unacked` counts receipts from the fetch until the acker is done with them, so a source that checks it before it
//!    fetches never exceeds its limit.
//! 3. It is *over* when the source has ended and `unacked` is zero. The acker stays until then.
//! 4. Wakes are taken under the lock together with the change, and posted after it, as everywhere.
//!
//! One lock guards all of it. It is taken twice for each epoch and for each call of the acker, not for each record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::clock::wait::Wake;
use crate::mark::{Epoch, Mark, Series};

pub(super) struct Ledger<P> {
    state: Mutex<State<P>>,
    series: Arc<Series>,
}

struct State<P> {
    settled: Vec<P>,
    lost: Vec<P>,
    unacked: usize,
    source_has_ended: bool,
    source: Option<Arc<Wake>>,
    acker: Option<Arc<Wake>>,
    /// The number of settled records that the acker waits for.
    enough: usize,
}

impl<P: Send + 'static> Ledger<P> {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            settled: Vec::new(),
            lost: Vec::new(),
            unacked: 0,
            source_has_ended: false,
            source: None,
            acker: None,
            enough: 1,
        };
        Arc::new(Self { state: Mutex::new(state), series: Arc::default() })
    }

    /// The number of records that have been fetched and not been acknowledged or given back.
    pub(super) fn unacked(&self) -> usize {
        self.state.lock().unacked
    }

    /// Records have been fetched.
    pub(super) fn fetched(&self, count: usize) {
        self.state.lock().unacked += count;
    }

    /// Ends an epoch of fetched records.
    pub(super) fn mark(self: &Arc<Self>, receipts: Vec<P>) -> Mark {
        let epoch = Open { receipts: Mutex::new(receipts), lost: AtomicBool::new(false), ledger: Arc::clone(self) };
        Mark::end(Arc::new(epoch), &self.series)
    }

    /// Loses fetched records that did not get into the stream.
    pub(super) fn lose(&self, receipts: Vec<P>) {
        self.settle(receipts, true);
    }

    fn settle(&self, mut receipts: Vec<P>, lost: bool) {
        let mut state = self.state.lock();
        let todo = if lost { &mut state.lost } else { &mut state.settled };
        todo.append(&mut receipts);
        let wake = state.take_acker();
        post(wake, state);
    }

    /// Registers the source for room. Returns true if fewer than `max` records are in flight, so that it must not park.
    pub(super) fn want_room(&self, max: usize, wake: &Arc<Wake>) -> bool {
        let mut state = self.state.lock();
        if state.unacked < max {
            return true;
        }
        state.source = Some(Arc::clone(wake));
        false
    }

    /// The source will enter nothing more.
    pub(super) fn end_source(&self) {
        let mut state = self.state.lock();
        state.source_has_ended = true;
        let wake = state.take_acker();
        post(wake, state);
    }

    /// Registers the acker for `enough` settled records, lost ones, or the end. Returns true if there are any, so that
    /// it must not park.
    pub(super) fn want_work(&self, enough: usize, wake: &Arc<Wake>) -> bool {
        let mut state = self.state.lock();
        state.enough = enough;
        let found = state.has_work();
        state.acker = if found { None } else { Some(Arc::clone(wake)) };
        found
    }

    /// Takes the settled and the lost receipts. They count as unacked until [`done`](Self::done).
    pub(super) fn take(&self) -> (Vec<P>, Vec<P>) {
        let mut state = self.state.lock();
        (std::mem::take(&mut state.settled), std::mem::take(&mut state.lost))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().source_has_ended
    }

    /// Invariant 3.
    pub(super) fn is_over(&self) -> bool {
        self.state.lock().is_over()
    }

    /// The acker is done with `count` receipts.
    pub(super) fn done(&self, count: usize) {
        let mut state = self.state.lock();
        state.unacked -= count;
        let wake = state.source.take();
        post(wake, state);
    }
}

impl<P> State<P> {
    fn has_work(&self) -> bool {
        self.settled.len() >= self.enough || !self.lost.is_empty() || self.is_over()
    }

    fn is_over(&self) -> bool {
        self.source_has_ended && self.unacked == 0
    }

    fn take_acker(&mut self) -> Option<Arc<Wake>> {
        if self.has_work() { self.acker.take() } else { None }
    }
}

/// Invariant 4.
fn post<P>(wake: Option<Arc<Wake>>, state: MutexGuard<'_, State<P>>) {
    drop(state);
    if let Some(wake) = wake {
        wake.post();
    }
}

/// An epoch whose mark is in flight.
struct Open<P: Send + 'static> {
    /// Never locked: threads share the epoch only until the last of them drops it. The mutex makes it `Sync`.
    receipts: Mutex<Vec<P>>,
    /// Relaxed suffices: the last copy to be dropped sees everything stored before any other one was dropped.
    lost: AtomicBool,
    ledger: Arc<Ledger<P>>,
}

impl<P: Send + 'static> Epoch for Open<P> {
    fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }
}

impl<P: Send + 'static> Drop for Open<P> {
    fn drop(&mut self) {
        self.ledger.settle(std::mem::take(self.receipts.get_mut()), *self.lost.get_mut());
    }
}
