//! Counts of the rows, kept while the job runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Live counts, shared by the stages; each has one writer.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Rows that were read: lines, without the header and blank ones.
    pub(crate) read: Count,
    /// Rows in transactions that were committed.
    pub(crate) loaded: Count,
    /// Flights that were cancelled, and are not loaded.
    pub(crate) cancelled_flights: Count,
    /// Dead letters in transactions that were committed.
    pub(crate) failed: Count,
    /// Bytes of the input file, as they lie on disk.
    pub(crate) bytes: Count,
    /// Whether the end of the input was reached.
    pub(crate) at_end: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

// Relaxed: these are figures to look at; the final ones are read after the threads that wrote them were joined.
impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The final counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) read: u64,
    pub(crate) loaded: u64,
    pub(crate) cancelled_flights: u64,
    pub(crate) failed: u64,
    pub(crate) at_end: bool,
}

impl Counts {
    /// For the progress bar: bytes, and a message.
    pub(crate) fn progress(&self) -> (u64, String) {
        (
            self.bytes.get(),
            format!("{} rows loaded, {} failed", self.loaded.get(), self.failed.get()),
        )
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            read: self.read.get(),
            loaded: self.loaded.get(),
            cancelled_flights: self.cancelled_flights.get(),
            failed: self.failed.get(),
            at_end: self.at_end.load(Ordering::Relaxed),
        }
    }
}

impl Totals {
    /// Rows of which it is known what became of them.
    pub(crate) fn settled(&self) -> u64 {
        self.loaded.saturating_add(self.cancelled_flights).saturating_add(self.failed)
    }
}
