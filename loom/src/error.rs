//! The part of errors that the edge needs: that they exist.

pub(crate) type Result<T, E = StreamError> = std::result::Result<T, E>;

#[derive(Clone, Copy)]
pub(crate) enum ErrorKind {
    Cancelled,
    Internal,
}

#[derive(Debug, Clone)]
pub(crate) struct StreamError;

impl StreamError {
    pub(crate) fn new(_: ErrorKind, _: &str) -> Self {
        Self
    }

    pub(crate) fn is_mark(&self) -> bool {
        false
    }

    pub(crate) fn complete_mark(self) {}

    pub(crate) fn with_source<S>(self, _: S) -> Self {
        self
    }
}

pub(crate) struct PanicMessage;

impl PanicMessage {
    pub(crate) fn new(_: String) -> Self {
        Self
    }
}
