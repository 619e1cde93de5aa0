//! [`Outbox`]: a store that confirms what it was given.

use super::inbox::StoreError;

/// Where records go that must not be lost: a store that has kept what it was given when `write` returns.
///
/// [`Stream::deliver_to`](crate::Stream::deliver_to) writes batches to it. What came from an [`Inbox`](super::Inbox) is
/// acknowledged there only after what was made of it has been written here.
pub trait Outbox: Send + 'static {
    /// What it takes.
    type Record: Send + 'static;

    /// Writes a batch, in order. When it returns `Ok`, all of it will survive a crash of this process.
    ///
    /// Takes out of `batch` what has been written for good; what is left when it fails is tried again. One that writes all
    /// or nothing clears the batch at the end.
    ///
    /// # Errors
    /// A [transient](StoreError::transient) error is logged, and the call made again after a pause, for as long as the
    /// pipeline runs. A [permanent](StoreError::permanent) one ends the sink with that error.
    fn write(&mut self, batch: &mut Vec<Self::Record>) -> Result<(), StoreError>;
}
