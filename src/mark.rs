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

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

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

/// One copy of the mark of an epoch.
pub(crate) struct Mark(Option<Arc<dyn Epoch>>);

impl Mark {
    pub(crate) fn new(epoch: Arc<dyn Epoch>) -> Self {
        Self(Some(epoch))
    }

    /// See [`Epoch::emitted`].
    pub(crate) fn emitted(&self) -> Option<Instant> {
        self.0.as_ref()?.emitted()
    }

    /// See [`Epoch::label`].
    pub(crate) fn label(&self) -> Option<Label> {
        self.0.as_ref()?.label()
    }

    /// Whether it stands behind records, and is neither a stamp nor a label: losing one of those does no harm.
    pub(crate) fn is_of_records(&self) -> bool {
        self.emitted().is_none() && self.label().is_none()
    }

    /// Everything before this copy has been processed.
    pub(crate) fn complete(mut self) {
        self.0 = None;
    }
}

impl Clone for Mark {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(epoch) = &self.0 {
            epoch.lose();
        }
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

    /// An epoch that knows whether one of its marks was lost.
    #[derive(Clone, Default)]
    pub(crate) struct Probe(Arc<AtomicBool>);

    impl Probe {
        pub(crate) fn mark(&self) -> StreamError {
            StreamError::mark(Mark::new(Arc::new(self.clone())))
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
            StreamError::mark(Mark::new(Arc::new(Says)))
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
            StreamError::mark(Mark::new(Arc::new(Measures(emitted))))
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
