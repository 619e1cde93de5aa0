//! The allocation behind a [`StreamError`]: its details and its item.

use std::any::{Any, type_name};
use std::mem;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::{BoxError, ErrorKind, StreamError};
use crate::mark::Mark;

pub(super) struct Inner<S: ?Sized> {
    pub(super) details: Details,
    pub(super) slot: S,
}

/// The content of an error, apart from its item. Also an error under construction, for which nothing is allocated yet.
pub(crate) struct Details {
    pub(super) kind: ErrorKind,
    pub(super) attempts: u32,
    pub(super) stage: Arc<str>,
    pub(super) step: Option<Arc<str>>,
    pub(super) time: SystemTime,
    pub(super) reason: Reason,
}

pub(super) enum Reason {
    None,
    Source(BoxError),
    /// Not an error, but a mark in transit: see `mark/mod.rs`.
    Mark(Box<Mark>),
}

/// The place of the item.
pub(super) trait Slot: Any + Send + Sync {
    fn item_type(&self) -> Option<&str>;
}

/// An item, until it is taken.
pub(super) struct Holding<T>(pub(super) Mutex<Option<T>>);

/// There never was an item here. A deserialized error still knows the type of its item.
pub(super) struct Empty {
    pub(super) item_type: Option<Box<str>>,
}

impl<T: Send + 'static> Slot for Holding<T> {
    fn item_type(&self) -> Option<&str> {
        Some(type_name::<T>())
    }
}

impl Slot for Empty {
    fn item_type(&self) -> Option<&str> {
        self.item_type.as_deref()
    }
}

impl Details {
    #[inline]
    pub(crate) fn new(kind: ErrorKind, stage: Arc<str>) -> Self {
        Self { kind, attempts: 1, stage, step: None, time: SystemTime::UNIX_EPOCH, reason: Reason::None }
    }

    #[inline]
    pub(crate) fn with_step(self, step: Option<Arc<str>>) -> Self {
        Self { step, ..self }
    }

    #[inline]
    pub(crate) fn with_time(self, time: SystemTime) -> Self {
        Self { time, ..self }
    }

    #[inline]
    pub(crate) fn with_attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    #[inline]
    pub(crate) fn with_source(self, source: impl Into<BoxError>) -> Self {
        Self { reason: Reason::Source(source.into()), ..self }
    }

    /// Leaves an empty one behind.
    pub(super) fn take(&mut self) -> Self {
        mem::replace(self, Self::new(ErrorKind::Internal, Arc::default()))
    }

    /// The error, with the failed item.
    #[inline]
    pub(crate) fn about<T: Send + 'static>(self, item: T) -> StreamError {
        StreamError { inner: Arc::new(Inner { details: self, slot: Holding(Mutex::new(Some(item))) }) }
    }

    /// The error, without an item, whose type may be known nevertheless.
    pub(super) fn about_lost(self, item_type: Option<Box<str>>) -> StreamError {
        StreamError { inner: Arc::new(Inner { details: self, slot: Empty { item_type } }) }
    }
}

impl From<Details> for StreamError {
    fn from(details: Details) -> Self {
        details.about_lost(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The GNU allocator takes back up to 128 bytes, of which it needs 8 itself, from another thread without a lock.
    #[test]
    fn an_error_with_a_small_item_is_a_small_allocation() {
        let counts = 2 * size_of::<usize>();
        assert!(counts + size_of::<Inner<Holding<u64>>>() <= 120);
    }
}
