//! What the edge knows of errors: that there are some.

pub(crate) type Result<T, E = StreamError> = std::result::Result<T, E>;

pub(crate) enum ErrorKind {
    Internal,
}

#[derive(Debug, Clone)]
pub(crate) struct StreamError;

impl StreamError {
    pub(crate) fn new(kind: ErrorKind, _: &str) -> Self {
        let ErrorKind::Internal = kind;
        Self
    }

    pub(crate) fn with_source(self, _: &str) -> Self {
        self
    }
}

pub(crate) struct PanicMessage;

impl PanicMessage {
    pub(crate) fn new(_: String) -> Self {
        Self
    }
}
