//! [`StreamError`]: what failed, where, and the item it failed on.

use std::any::Any;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use std::{fmt, mem};

use parking_lot::Mutex;

use super::inner::{Details, Holding, Inner, Reason, Slot};
use crate::mark::{Label, Mark, Reached};

/// A boxed error, the type of a [`StreamError`]'s source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The content of a stream: an item, or the error that replaces it.
pub type Result<T, E = StreamError> = std::result::Result<T, E>;

/// The kind of failure that a [`StreamError`] reports: the cases a caller would treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ErrorKind {
    /// A closure or a source returned an error for this item.
    Failed,
    /// A closure panicked on this item; the source has the message of the panic.
    Panicked,
    /// A call or a wait exceeded its time limit.
    TimedOut,
    /// The circuit breaker was open, so the call was not made.
    CircuitOpen,
    /// A limit on calls was reached, so the call was not made; the source is a [`Rejection`](crate::Rejection).
    Rejected,
    /// The item came too late for the window it belongs to.
    Late,
    /// The stream was cut before its end; nothing follows this error.
    Cancelled,
    /// A stage could not start, or died of a bug in this library: the source of the error that cuts its output.
    Internal,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorKind::Failed => "failed",
            ErrorKind::Panicked => "panicked",
            ErrorKind::TimedOut => "timed out",
            ErrorKind::CircuitOpen => "circuit open",
            ErrorKind::Rejected => "rejected",
            ErrorKind::Late => "late",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Internal => "internal error",
        })
    }
}

/// An error that travels in a stream in place of the item it concerns.
///
/// It says which stage failed and how, keeps the causing error, and carries the failed item itself wherever the stage
/// still had it, so that a dead-letter queue downstream can store or retry it. The stage is the one where the failure
/// happened; no later stage overwrites it.
///
/// With the feature `serde` it can be serialized as data: `kind`, `stage`, `step`, `attempts`, `time` (in UTC, rounded
/// down to the millisecond: `2024-02-29T12:34:56.250Z`), `item_type`, and `causes`, the texts of all sources. A
/// deserialized error has the same values. It carries no item, and its sources are texts.
///
/// An error and its item are one allocation. Clones share everything, including the item: the first call of
/// [`take_item`](Self::take_item) on any of them takes it.
pub struct StreamError {
    pub(super) inner: Arc<Inner<dyn Slot>>,
}

impl StreamError {
    /// Creates an error of `kind` that happened in `stage`, for tests and for processors made from closures.
    ///
    /// Operators create theirs with [`Emit::fail`](crate::Emit::fail), which knows the stage and the time. The time of
    /// an error created here is the Unix epoch unless [`with_time`](Self::with_time) sets it.
    pub fn new(kind: ErrorKind, stage: impl Into<Arc<str>>) -> Self {
        Details::new(kind, stage.into()).into()
    }

    /// Creates a mark, in the form in which it travels.
    pub(crate) fn mark(mark: Mark) -> Self {
        let details = Details::new(ErrorKind::Internal, Arc::default());
        Details { reason: Reason::Mark(Box::new(mark)), ..details }.into()
    }

    pub(crate) fn as_mark(&self) -> Option<&Mark> {
        match &self.details().reason {
            Reason::Mark(mark) => Some(mark),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn is_mark(&self) -> bool {
        self.as_mark().is_some()
    }

    /// The mark, if it is one.
    pub(crate) fn into_mark(mut self) -> Result<Mark, Self> {
        if !self.is_mark() {
            return Err(self);
        }
        // A clone of a mark has an `Inner` of its own.
        match Arc::get_mut(&mut self.inner).map(|inner| mem::replace(&mut inner.details.reason, Reason::None)) {
            Some(Reason::Mark(mark)) => Ok(*mark),
            _ => unreachable!("a mark is not shared"),
        }
    }

    /// For a stamp: when the item before it was emitted.
    pub(crate) fn emitted(&self) -> Option<Instant> {
        self.as_mark()?.emitted()
    }

    /// For a label of a merge: its content.
    pub(crate) fn label(&self) -> Option<Label> {
        self.as_mark()?.label()
    }

    /// See [`Mark::widen`].
    #[cold]
    pub(crate) fn widened(self) -> Self {
        self.map_mark(Mark::widen)
    }

    /// See [`Reached`].
    #[cold]
    pub(crate) fn extended(self, reached: &mut Reached) -> Self {
        self.map_mark(|mark| reached.extend(mark))
    }

    /// Changes it if it is a mark.
    fn map_mark(mut self, change: impl FnOnce(&mut Mark)) -> Self {
        // A clone of a mark has an `Inner` of its own.
        if let Some(inner) = Arc::get_mut(&mut self.inner)
            && let Reason::Mark(mark) = &mut inner.details.reason
        {
            change(mark);
        }
        self
    }

    /// If it is a mark: everything before it has been processed.
    #[cold]
    pub(crate) fn complete_mark(self) {
        if let Ok(mark) = self.into_mark() {
            mark.complete();
        }
    }

    #[inline]
    pub(super) fn details(&self) -> &Details {
        &self.inner.details
    }

    /// Only while the error is not shared.
    fn edit(mut self, change: impl FnOnce(&mut Details)) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            change(&mut inner.details);
        }
        self
    }

    /// Sets the error that caused it. Has no effect on an error that has been cloned.
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        self.edit(|details| details.reason = Reason::Source(source))
    }

    /// Adds the item that failed. Has no effect on an error that has been cloned.
    pub fn with_item<T: Send + 'static>(mut self, item: T) -> Self {
        match Arc::get_mut(&mut self.inner) {
            // The rest is dropped with `self`.
            Some(inner) => inner.details.take().about(item),
            None => self,
        }
    }

    /// Sets the number of attempts. Has no effect on an error that has been cloned.
    pub fn with_attempts(self, attempts: u32) -> Self {
        self.edit(|details| details.attempts = attempts)
    }

    /// Sets the time of the failure. Has no effect on an error that has been cloned.
    pub fn with_time(self, time: SystemTime) -> Self {
        self.edit(|details| details.time = time)
    }

    /// Returns the kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.details().kind
    }

    /// Returns the name of the stage in which it happened.
    pub fn stage(&self) -> &str {
        &self.details().stage
    }

    /// Returns the name of the step in which it happened, if the stage consists of several fused steps.
    pub fn step(&self) -> Option<&str> {
        self.details().step.as_deref()
    }

    /// Returns how many times the call was made: 1 unless it was retried.
    pub fn attempts(&self) -> u32 {
        self.details().attempts
    }

    /// Returns the time of the failure, by the wall time of the pipeline's clock.
    pub fn time(&self) -> SystemTime {
        self.details().time
    }

    /// Returns whether the stream was cut here: see [`ErrorKind::Cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }

    pub(super) fn boxed_source(&self) -> Option<&BoxError> {
        match &self.details().reason {
            Reason::Source(source) => Some(source),
            _ => None,
        }
    }

    /// Returns the source error, if it is an `E`.
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.boxed_source().and_then(|source| source.downcast_ref::<E>())
    }

    /// Returns the type of the failed item, if the error was given one (even after it was taken).
    pub fn item_type(&self) -> Option<&str> {
        self.inner.slot.item_type()
    }

    /// The item, if it is a `T`, or its empty place.
    fn slot<T: 'static>(&self) -> Option<&Mutex<Option<T>>> {
        let slot: &dyn Any = &self.inner.slot;
        slot.downcast_ref::<Holding<T>>().map(|Holding(item)| item)
    }

    /// Returns whether the error still carries an item, and it is a `T`.
    pub fn has_item<T: 'static>(&self) -> bool {
        self.slot::<T>().is_some_and(|item| item.lock().is_some())
    }

    /// Takes the failed item out, if it is a `T` and has not been taken yet.
    pub fn take_item<T: 'static>(&self) -> Option<T> {
        self.slot::<T>()?.lock().take()
    }

    /// Calls `f` with the failed item, if it is a `T` and has not been taken yet.
    ///
    /// The item is set aside during the call: a concurrent call finds none.
    pub fn with_item_ref<T: 'static, R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        struct PutBack<'a, T>(&'a Mutex<Option<T>>, Option<T>);
        impl<T> Drop for PutBack<'_, T> {
            fn drop(&mut self) {
                *self.0.lock() = self.1.take();
            }
        }
        let slot = self.slot::<T>()?;
        let item = slot.lock().take()?;
        let aside = PutBack(slot, Some(item));
        aside.1.as_ref().map(f)
    }

    /// Returns whether both are the same error: clones of each other.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Clone for StreamError {
    fn clone(&self) -> Self {
        match self.as_mark() {
            None => Self { inner: Arc::clone(&self.inner) },
            // Each copy is completed or lost by itself.
            Some(mark) => Self::mark(mark.clone()),
        }
    }
}

impl std::error::Error for StreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.boxed_source().map(|source| &**source as _)
    }
}

/// The source of an error of kind [`ErrorKind::Panicked`]: the message of the panic.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct PanicMessage {
    message: String,
}

impl PanicMessage {
    pub(crate) fn new(message: String) -> Self {
        Self { message }
    }

    /// Returns the message of the panic, or a placeholder if its payload was not text. The file and the line follow in
    /// parentheses after [`locate_panics`](crate::locate_panics).
    pub fn message(&self) -> &str {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_no_burden_to_a_result_and_can_be_shared() {
        fn shared<T: Send + Sync + Clone + 'static>() {}
        shared::<StreamError>();
        assert_eq!(size_of::<Result<u64>>(), 2 * size_of::<u64>());
        assert_eq!(size_of::<Result<String>>(), size_of::<String>());
    }

    #[test]
    fn the_first_clone_that_asks_by_the_right_type_has_the_item() {
        let error = StreamError::new(ErrorKind::Failed, "parse").with_item(String::from("x"));
        let clone = error.clone();
        assert_eq!(clone.take_item::<u32>(), None);
        assert_eq!(error.with_item_ref(|text: &String| text.len()), Some(1));
        assert_eq!(clone.take_item::<String>().as_deref(), Some("x"));
        assert_eq!(error.take_item::<String>(), None);
        assert_eq!(error.item_type(), Some("alloc::string::String"));
    }
}
