//! [`Shared`]: the common state of an inbox and its acker.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::EntryId;
use crate::record::Receipt;

/// - An entry is in flight from the fetch that delivered it until it has been acknowledged or given back.
/// - Only the inbox adds entries; only the acker removes them. So an entry that the inbox finds in flight may just have
///   been acknowledged, but one that it does not find is not being processed by this process.
#[derive(Debug)]
pub(crate) struct Shared {
    in_flight: Mutex<Vec<BTreeSet<EntryId>>>,
    /// Entries were given back: the inbox looks for them at its next fetch.
    given_back: AtomicBool,
    /// Entries that were deleted from the stream before they had been acknowledged.
    lost: AtomicU64,
}

impl Shared {
    pub(crate) fn new(streams: usize) -> Self {
        let in_flight = Mutex::new(vec![BTreeSet::new(); streams]);
        Self { in_flight, given_back: AtomicBool::new(false), lost: AtomicU64::new(0) }
    }

    /// The entries in flight of each stream.
    pub(crate) fn in_flight(&self) -> MutexGuard<'_, Vec<BTreeSet<EntryId>>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settle(&self, receipts: &[Receipt]) {
        let mut in_flight = self.in_flight();
        for receipt in receipts {
            in_flight[receipt.stream].remove(&receipt.id);
        }
    }

    pub(crate) fn give_back(&self) {
        // Release: pairs with `take_given_back`, which must find the entries out of flight.
        self.given_back.store(true, Ordering::Release);
    }

    /// Whether entries were given back since the last call.
    pub(crate) fn take_given_back(&self) -> bool {
        // Not a swap on each fetch: it is almost always false.
        self.given_back.load(Ordering::Acquire) && self.given_back.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn count_lost(&self, count: usize) {
        self.lost.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
