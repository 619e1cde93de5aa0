//! [`Gauge`]: the fill level of an edge.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Shared by the edge, which writes it, and the report.
#[derive(Default)]
pub(crate) struct Gauge {
    /// The number of items and marks handed over so far. Written under the edge's lock.
    pub(crate) sent: CachePadded<AtomicUsize>,
    /// The number of items and marks taken so far. Written by the consumer.
    pub(crate) taken: CachePadded<AtomicUsize>,
    /// Marks in the queue, which take no room: a copy of what the edge's lock guards.
    pub(crate) marks: AtomicUsize,
    pub(crate) capacity: AtomicUsize,
    /// Data items that were emitted and never taken, counted when the edge ends.
    pub(crate) undelivered: AtomicU64,
    /// The name of the stage that reads it. Not loom's lock: no thread synchronizes by it.
    reader: Mutex<Option<Arc<str>>>,
}

impl Gauge {
    /// Records the stage that reads the edge from now on.
    pub(crate) fn set_reader(&self, name: &Arc<str>) {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(name));
    }

    /// Called when the stage that reads the edge may have changed its name.
    pub(crate) fn rename_reader(&self, rename: impl FnOnce(&mut Arc<str>)) {
        if let Some(reader) = &mut *self.reader.lock().unwrap_or_else(PoisonError::into_inner) {
            rename(reader);
        }
    }

    pub(crate) fn reader(&self) -> Option<Arc<str>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of items that occupy room. Marks are not among them, except those that the consumer has taken with
    /// its batch.
    pub(crate) fn items(&self) -> usize {
        // A hint: a mark may come or go between the two reads.
        self.len().saturating_sub(self.marks.load(Ordering::Relaxed))
    }

    /// The number of items and marks that have been handed over and not been taken.
    pub(crate) fn len(&self) -> usize {
        // Taken first: `sent` is never behind a `taken` that was read before it.
        let taken = self.taken.load(Ordering::Acquire);
        self.sent.load(Ordering::Acquire).wrapping_sub(taken)
    }
}
