//! [`Inbox`] and [`Acker`]: what a store must be able to do.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::error::{BoxError, PanicMessage};
use crate::panic;

/// Reads records that must not be lost from a queue, log or table, which keeps a record until it has been acknowledged,
/// and delivers it again if it was not.
///
/// Implement it for a store of your own. [`Stream::deliver`](crate::Stream::deliver) calls it from one thread, and its
/// [`Acker`] from another.
pub trait Inbox: Send + 'static {
    /// What goes into the stream.
    type Record: Send + 'static;
    /// What the store needs to acknowledge a record.
    type Receipt: Send + 'static;
    /// The way back to the store.
    type Acker: Acker<Receipt = Self::Receipt>;

    /// Fetches up to `max` records, and adds them to `records` in the order of the store. If there are none, waits for
    /// up to `wait`, and returns as soon as there are some.
    ///
    /// The store does not give a record to anyone else before it was given back, or its lease has expired. While this
    /// blocks, the pipeline cannot be cancelled, so it must not take much longer than `wait`.
    ///
    /// # Errors
    /// A [transient](StoreError::transient) error is logged, and the call made again after a pause, for as long as the
    /// pipeline runs; what has been added to `records` by then is processed. A [permanent](StoreError::permanent) one cuts
    /// the stream; what has been added is given back.
    fn fetch(
        &mut self,
        max: usize,
        wait: Duration,
        records: &mut Vec<Delivery<Self::Record, Self::Receipt>>,
    ) -> Result<(), StoreError>;

    /// Returns whether there will be no more records, so that the stream ends. Called after each fetch. Defaults to
    /// `false`.
    fn is_exhausted(&self) -> bool {
        false
    }

    /// Returns how long the store reserves a record for this consumer without hearing from it.
    /// [`Stream::deliver`](crate::Stream::deliver) then has leases [extended](Acker::keep_alive) in time, and refuses a
    /// [`keep_alive`](super::DeliveryConfig::keep_alive) that is too long. Asked once, when the stream is made.
    /// Defaults to `None`: the store has no leases, or they have no fixed length.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// Returns the acker of the store, which is used on a thread of its own. Called once, when the stream is created.
    ///
    /// # Errors
    /// If the store cannot be reached: [`Stream::deliver`](crate::Stream::deliver) then fails.
    fn acker(&mut self) -> Result<Self::Acker, StoreError>;
}

/// Holds a record as the store delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery<R, P> {
    /// The record.
    pub record: R,
    /// The receipt with which the store acknowledges the record.
    pub receipt: P,
    /// The number of times that the store has delivered the record, including this time. 1 if the store does not count.
    pub attempt: u32,
}

impl<R, P> Delivery<R, P> {
    /// Creates a delivery for the first time.
    pub fn new(record: R, receipt: P) -> Self {
        Self { record, receipt, attempt: 1 }
    }

    /// Sets how many times the record has been delivered.
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }
}

/// Reports the outcome of records to their store.
///
/// All calls come from one thread of the pipeline. A call may block; records wait for it only when
/// [`max_unacked`](super::DeliveryConfig::max_unacked) is reached.
pub trait Acker: Send + 'static {
    /// As of the [`Inbox`].
    type Receipt;

    /// Acknowledges records that have been processed, so that they are not delivered again. Removes acknowledged
    /// receipts from `receipts`; those left after a failure are tried again.
    ///
    /// The receipts of one fetch may come in any order and in several calls.
    ///
    /// # Errors
    /// A [transient](StoreError::transient) error is logged, and the call made again after a pause. A
    /// [permanent](StoreError::permanent) one cancels the pipeline.
    fn acknowledge(&mut self, receipts: &mut Vec<Self::Receipt>) -> Result<(), StoreError>;

    /// Gives back records that were not processed, so that they are delivered again at once instead of when their lease
    /// expires. Does nothing by default.
    ///
    /// # Errors
    /// They are logged; the records come again when the lease expires.
    fn give_back(&mut self, receipts: Vec<Self::Receipt>) -> Result<(), StoreError> {
        drop(receipts);
        Ok(())
    }

    /// Extends the lease of every record that was fetched and has neither been acknowledged nor given back. Called every
    /// [`keep_alive`](super::DeliveryConfig::keep_alive). Does nothing by default.
    ///
    /// # Errors
    /// They are logged; the next call comes in its own time.
    fn keep_alive(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Describes an error of a store, and whether to try again.
///
/// It is displayed as its reason, which should name the store, the stream and, if there is one, the position.
pub struct StoreError {
    kind: Kind,
    reason: BoxError,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Transient,
    Permanent,
    Refused(usize),
}

impl StoreError {
    /// Creates an error after which the same call may succeed later: the server is down, the file is locked, the disk
    /// is full.
    pub fn transient(reason: impl Into<BoxError>) -> Self {
        Self { kind: Kind::Transient, reason: reason.into() }
    }

    /// Creates an error after which the same call will never succeed: the password is wrong, the key is not a stream,
    /// the table is missing.
    pub fn permanent(reason: impl Into<BoxError>) -> Self {
        Self { kind: Kind::Permanent, reason: reason.into() }
    }

    /// Creates an error for a record that an [`Outbox`](super::Outbox) will never take, at this index of the batch as
    /// [`write`](super::Outbox::write) has left it: it is too large, or not allowed. The others of the batch may be
    /// written. From an inbox or an acker, it counts as [permanent](Self::permanent).
    pub fn refused(index: usize, reason: impl Into<BoxError>) -> Self {
        Self { kind: Kind::Refused(index), reason: reason.into() }
    }

    /// Returns whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        self.kind == Kind::Transient
    }

    /// Returns the index in the batch of the record that the store [refuses](Self::refused).
    pub fn refused_index(&self) -> Option<usize> {
        match self.kind {
            Kind::Refused(index) => Some(index),
            _ => None,
        }
    }

    /// Returns the error that was given as the reason.
    pub fn into_reason(self) -> BoxError {
        self.reason
    }
}

/// Calls a store. A panic is a permanent error.
pub(super) fn guarded<R>(call: impl FnOnce() -> Result<R, StoreError>) -> Result<R, StoreError> {
    panic::catch(call).unwrap_or_else(|payload| Err(StoreError::permanent(PanicMessage::from(payload))))
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError").field("kind", &self.kind).field("reason", &self.reason).finish()
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}
