//! [`Gauge`]: how full an edge is.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Shared by the edge, which writes it, and the report.
#[derive(Default)]
pub(crate) struct Gauge {
    /// Items ever handed over. Written under the edge's lock.
    pub(crate) sent: CachePadded<AtomicUsize>,
    /// Items ever taken. Written by the consumer.
    pub(crate) taken: CachePadded<AtomicUsize>,
    pub(crate) capacity: AtomicUsize,
    /// Data items that were emitted and never taken, counted when the edge ends.
    pub(crate) undelivered: AtomicU64,
}

impl Gauge {
    pub(crate) fn len(&self) -> usize {
        // Taken first: `sent` is never behind a `taken` that was read before it.
        let taken = self.taken.load(Ordering::Acquire);
        self.sent.load(Ordering::Acquire).wrapping_sub(taken)
    }
}
