//! [`Mark`]: follows a group of records, an *epoch*, in the stream.
//!
//! The source puts a mark behind the records of each epoch; see `delivery/mod.rs` for the whole mechanism. A mark
//! travels in a stream in place of an error item, in [`StreamError`](crate::StreamError), so that it takes the same way
//! as the records before it and costs the items nothing. User code never sees one.
//!
//! # Invariants
//!
//! 1. A stage forwards a mark only behind everything that was made of the items it received before the mark.
//! 2. A mark may be copied, and every copy is a mark of its own: the epoch ends when all of them have ended.
//! 3. A copy ends in one of two ways. The sink that has processed everything before it *completes* it. A copy that is
//!    dropped in any other way, because a stage was cut or its consumer has left, *loses* the epoch.
//! 4. So an epoch that has not been lost when its last copy ends has been processed entirely. It then notifies the
//!    ledger.
//! 5. *Reach.* The epochs of a source are numbered. What passes between two marks of a source is made of records of later
//!    epochs than the first mark's, and of none beyond the *reach* of the second. Usually that is the second mark's own
//!    epoch, but a batch or a window may hold records of several, and comes before all of their marks.
//! 6. A stage that drops something because its consumer has left loses the mark of each epoch that it may have been made of:
//!    see `losses.rs`.

mod losses;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub(crate) use losses::{Losses, Reached};

/// The records behind which a mark was put. It is settled when it is dropped.
pub(crate) trait Epoch: Send + Sync {
    /// One of the copies was lost.
    fn lose(&self);

    /// For a stamp, which only measures the ages of items: when the item before it was emitted.
    fn emitted(&self) -> Option<Instant> {
        None
    }

    /// For a label, which only says where the items behind it come from.
    fn label(&self) -> Option<Label> {
        None
    }
}

/// The information that a merge sends about its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// Subsequent items are of that origin, or of an unknown one.
    Follows(Option<usize>),
    /// The state of that input from now on.
    State(usize, InputState),
}

/// Whether an input of a merge is expected to have more items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputState {
    /// As at the start.
    Active,
    /// It has had no items for some time.
    Idle,
    Ended,
}

/// Numbers the epochs of one source.
#[derive(Default)]
pub(crate) struct Series {
    /// The number of the epoch to which the source's next record belongs.
    open: AtomicU64,
}

/// Where a mark stands in its series.
#[derive(Clone)]
struct Place {
    series: Arc<Series>,
    number: u64,
    /// Invariant 5.
    reach: u64,
}

/// One copy of the mark of an epoch.
#[derive(Clone)]
pub(crate) struct Mark {
    /// `None` once it has been completed or lost.
    epoch: Option<Arc<dyn Epoch>>,
    /// `None` for a stamp or a label.
    place: Option<Place>,
}

impl Mark {
    /// A stamp or a label, which stands behind no records: losing it does no harm.
    pub(crate) fn note(note: Arc<dyn Epoch>) -> Self {
        Self { epoch: Some(note), place: None }
    }

    /// Ends the open epoch of the series. Must be called by its source, between two records.
    pub(crate) fn end(epoch: Arc<dyn Epoch>, series: &Arc<Series>) -> Self {
        // Relaxed: a thread that has something made of a record was synchronized with its source since the epoch began.
        let number = series.open.fetch_add(1, Ordering::Relaxed);
        Self { epoch: Some(epoch), place: Some(Place { series: Arc::clone(series), number, reach: number }) }
    }

    /// Extends the reach to the open epoch of the source. For a mark from one of several inputs: if the same source is
    /// behind another one, this one's marks do not tell how far the other has come.
    pub(crate) fn widen(&mut self) {
        if let Some(place) = &mut self.place {
            place.reach = place.reach.max(place.series.open.load(Ordering::Relaxed));
        }
    }

    /// See [`Epoch::emitted`].
    pub(crate) fn emitted(&self) -> Option<Instant> {
        self.epoch.as_ref()?.emitted()
    }

    /// See [`Epoch::label`].
    pub(crate) fn label(&self) -> Option<Label> {
        self.epoch.as_ref()?.label()
    }

    /// Whether it stands behind records, and is neither a stamp nor a label.
    pub(crate) fn is_of_records(&self) -> bool {
        self.place.is_some()
    }

    /// Everything before this copy has been processed.
    pub(crate) fn complete(mut self) {
        self.epoch = None;
    }

    /// Loses the epoch. The mark still tells where the epoch ends.
    pub(crate) fn lose(&mut self) {
        if let Some(epoch) = self.epoch.take() {
            epoch.lose();
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.lose();
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::error::StreamError;

    /// An epoch that knows whether one of its marks was lost. By default, it is the first of its source.
    #[derive(Clone, Default)]
    pub(crate) struct Probe(Arc<AtomicBool>);

    impl Probe {
        pub(crate) fn mark(&self) -> StreamError {
            self.mark_of(&Arc::default())
        }

        /// The mark of the open epoch of that source.
        pub(crate) fn mark_of(&self, source: &Arc<Series>) -> StreamError {
            StreamError::mark(Mark::end(Arc::new(self.clone()), source))
        }

        /// A label, which stands behind no records.
        pub(crate) fn label() -> StreamError {
            struct Says;
            impl Epoch for Says {
                fn lose(&self) {}

                fn label(&self) -> Option<Label> {
                    Some(Label::Follows(Some(0)))
                }
            }
            StreamError::mark(Mark::note(Arc::new(Says)))
        }

        /// A stamp, which stands behind no records either.
        pub(crate) fn stamp(emitted: Instant) -> StreamError {
            struct Measures(Instant);
            impl Epoch for Measures {
                fn lose(&self) {}

                fn emitted(&self) -> Option<Instant> {
                    Some(self.0)
                }
            }
            StreamError::mark(Mark::note(Arc::new(Measures(emitted))))
        }

        pub(crate) fn is_lost(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }

        /// Whether all of its marks were completed.
        pub(crate) fn is_complete(&self) -> bool {
            !self.is_lost() && Arc::strong_count(&self.0) == 1
        }
    }

    impl Epoch for Probe {
        fn lose(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
