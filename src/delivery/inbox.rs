//! [`Inbox`] and [`Acker`]: what a store must be able to do.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::error::{BoxError, PanicMessage};
use crate::panic;

/// Where records come from that must not be lost: a queue, log or table that keeps a record until it has been
/// acknowledged, and gives it out again if it was not.
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

    /// Takes up to `max` records, and adds them to `records` in the order of the store. If there are none, waits for up to
    /// `wait`, and returns as soon as there are some.
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

    /// Whether there will never be any more records: the stream then ends. Asked after each fetch. Defaults to `false`.
    fn is_exhausted(&self) -> bool {
        false
    }

    /// How long the store keeps a record for this consumer without hearing from it. [`Stream::deliver`](crate::Stream::deliver)
    /// then has leases [extended](Acker::keep_alive) in time, and refuses a
    /// [`keep_alive`](super::DeliveryConfig::keep_alive) that is too long. Asked once, when the stream is made. Defaults to
    /// `None`: the store has no leases, or they have no fixed length.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// The way back to the store, which is used on a thread of its own. Called once, when the stream is made.
    ///
    /// # Errors
    /// If the store cannot be reached: [`Stream::deliver`](crate::Stream::deliver) then fails.
    fn acker(&mut self) -> Result<Self::Acker, StoreError>;
}

/// A record as the store gave it out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery<R, P> {
    /// The record.
    pub record: R,
    /// What the store needs to acknowledge it.
    pub receipt: P,
    /// How many times the store has given it out, this time included. 1 if the store does not count.
    pub attempt: u32,
}

impl<R, P> Delivery<R, P> {
    /// A record that is given out for the first time.
    pub fn new(record: R, receipt: P) -> Self {
        Self { record, receipt, attempt: 1 }
    }

    /// Sets how many times the record has been given out.
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }
}

/// Tells a store what became of its records.
///
/// All calls come from one thread of the pipeline. A call may block; records wait for it only when
/// [`max_unacked`](super::DeliveryConfig::max_unacked) is reached.
pub trait Acker: Send + 'static {
    /// As of the [`Inbox`].
    type Receipt;

    /// Acknowledges records: they have been processed, and are not given out again. Takes out of `receipts` what has been
    /// acknowledged; what is left when it fails is tried again.
    ///
    /// The receipts of one fetch may come in any order and in several calls.
    ///
    /// # Errors
    /// A [transient](StoreError::transient) error is logged, and the call made again after a pause. A
    /// [permanent](StoreError::permanent) one cancels the pipeline.
    fn acknowledge(&mut self, receipts: &mut Vec<Self::Receipt>) -> Result<(), StoreError>;

    /// Gives records back that were not processed, so that they are given out again at once instead of when their lease
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

/// What went wrong in a store, and whether it is worth trying again.
///
/// It shows as the error it was made of. That one should name the store, the stream and, if there is one, the position.
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
    /// The same call may succeed later: the server is down, the file is locked, the disk is full.
    pub fn transient(reason: impl Into<BoxError>) -> Self {
        Self { kind: Kind::Transient, reason: reason.into() }
    }

    /// It will not: the password is wrong, the key is not a stream, the table is missing.
    pub fn permanent(reason: impl Into<BoxError>) -> Self {
        Self { kind: Kind::Permanent, reason: reason.into() }
    }

    /// An [`Outbox`](super::Outbox) will never take the record at this index of the batch, as [`write`](super::Outbox::write)
    /// has left it: it is too large, or not allowed. The others of the batch may be written. From an inbox or an acker, it
    /// counts as [permanent](Self::permanent).
    pub fn refused(index: usize, reason: impl Into<BoxError>) -> Self {
        Self { kind: Kind::Refused(index), reason: reason.into() }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        self.kind == Kind::Transient
    }

    /// The index in the batch of the record that the store [refuses](Self::refused).
    pub fn refused_index(&self) -> Option<usize> {
        match self.kind {
            Kind::Refused(index) => Some(index),
            _ => None,
        }
    }

    /// The error that it was made of.
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
