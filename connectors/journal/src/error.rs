//! [`JournalError`]: what failed, where, and whether to retry.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rusqlite::ErrorCode;
use streamz::delivery::StoreError;

/// A failed call of a journal. It names the file and, if applicable, the topic, the group and the position.
///
/// Its message is complete: it includes SQLite's message. It converts into a [`StoreError`] with `?`.
#[derive(Debug)]
pub struct JournalError {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    place: Place,
    position: Option<i64>,
    what: &'static str,
    reason: Reason,
}

/// The kind of failure that a [`JournalError`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JournalErrorKind {
    /// Another process held the lock for longer than the [busy timeout](crate::JournalOptions::busy_timeout).
    /// Transient.
    Busy,
    /// The disk is full, or the database has reached its size limit. Transient.
    Full,
    /// Reading or writing the file failed. Transient.
    Io,
    /// The file cannot be opened: a directory or a permission is missing.
    CannotOpen,
    /// The file, or its directory, is not writable.
    ReadOnly,
    /// The file is not an SQLite database, belongs to another application, or is damaged.
    NotAJournal,
    /// The file was created by a newer version of this crate.
    NewerSchema,
    /// A record is larger than [`max_record_bytes`](crate::JournalOptions::max_record_bytes).
    TooLarge,
    /// Another instance of the job has taken over: see [`Progress`](crate::Progress).
    TakenOver,
    /// Another error of SQLite: a table is missing, for example.
    Other,
}

/// Why a call failed, without its place.
#[derive(Debug)]
pub(crate) enum Reason {
    Sqlite(rusqlite::Error),
    NotAJournal,
    NewerSchema { found: i64, supported: i64 },
    NoWal,
    TooLarge { index: usize, bytes: usize, limit: usize },
    TakenOver,
}

impl From<rusqlite::Error> for Reason {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Where a call was made.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) path: Arc<Path>,
    pub(crate) topic: Option<Arc<str>>,
    pub(crate) group: Option<Arc<str>>,
    /// The job, in a database that is not a journal.
    pub(crate) job: Option<Arc<str>>,
}

impl Place {
    pub(crate) fn new(path: Arc<Path>) -> Self {
        Self { path, topic: None, group: None, job: None }
    }

    pub(crate) fn job(&self, job: &str) -> Self {
        Self { job: Some(job.into()), ..self.clone() }
    }

    pub(crate) fn topic(&self, topic: &str) -> Self {
        Self { topic: Some(topic.into()), ..self.clone() }
    }

    pub(crate) fn group(&self, group: &str) -> Self {
        Self { group: Some(group.into()), ..self.clone() }
    }

    /// Creates an error of a call made here.
    pub(crate) fn error(&self, what: &'static str, reason: impl Into<Reason>) -> JournalError {
        self.error_at(what, None, reason)
    }

    pub(crate) fn error_at(
        &self,
        what: &'static str,
        position: Option<i64>,
        reason: impl Into<Reason>,
    ) -> JournalError {
        let inner = Inner { place: self.clone(), position, what, reason: reason.into() };
        JournalError { inner: Box::new(inner) }
    }
}

impl JournalError {
    /// Returns the kind of failure.
    pub fn kind(&self) -> JournalErrorKind {
        match &self.inner.reason {
            Reason::NotAJournal => JournalErrorKind::NotAJournal,
            Reason::NewerSchema { .. } => JournalErrorKind::NewerSchema,
            Reason::NoWal => JournalErrorKind::Other,
            Reason::TooLarge { .. } => JournalErrorKind::TooLarge,
            Reason::TakenOver => JournalErrorKind::TakenOver,
            Reason::Sqlite(error) => sqlite_kind(error),
        }
    }

    /// Returns whether the same call may succeed later: the kind is [`Busy`](JournalErrorKind::Busy),
    /// [`Full`](JournalErrorKind::Full) or [`Io`](JournalErrorKind::Io).
    pub fn is_transient(&self) -> bool {
        use JournalErrorKind as Kind;
        matches!(self.kind(), Kind::Busy | Kind::Full | Kind::Io)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.inner.place.path
    }

    /// Returns the topic, if the call concerned one.
    pub fn topic(&self) -> Option<&str> {
        self.inner.place.topic.as_deref()
    }

    /// Returns the consumer group, if the call was made for one.
    pub fn group(&self) -> Option<&str> {
        self.inner.place.group.as_deref()
    }

    /// Returns the first position that the call concerned, if any.
    pub fn position(&self) -> Option<i64> {
        self.inner.position
    }
}

fn sqlite_kind(error: &rusqlite::Error) -> JournalErrorKind {
    use JournalErrorKind as Kind;
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => Kind::Busy,
        // A statement that ran when another process changed the schema; it is prepared again.
        Some(ErrorCode::SchemaChanged) => Kind::Busy,
        Some(ErrorCode::DiskFull) => Kind::Full,
        Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory) => Kind::Io,
        Some(ErrorCode::CannotOpen) => Kind::CannotOpen,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Kind::ReadOnly,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Kind::NotAJournal,
        Some(ErrorCode::TooBig) => Kind::TooLarge,
        _ => Kind::Other,
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { place, position, what, reason } = &*self.inner;
        match &place.job {
            None => write!(f, "journal `{}`", place.path.display())?,
            Some(job) => write!(f, "database `{}`, job `{job}`", place.path.display())?,
        }
        if let Some(topic) = &place.topic {
            write!(f, ", topic `{topic}`")?;
        }
        if let Some(group) = &place.group {
            write!(f, ", group `{group}`")?;
        }
        if let Some(position) = position {
            write!(f, ", position {position}")?;
        }
        write!(f, ": cannot {what}: ")?;
        match reason {
            Reason::Sqlite(error) => error.fmt(f),
            Reason::NotAJournal => f.write_str("it is an SQLite database, but not a journal"),
            Reason::NewerSchema { found, supported } => {
                write!(f, "its schema has version {found}, and this program knows versions up to {supported}")
            }
            Reason::NoWal => f.write_str("its file system does not support a write-ahead log"),
            Reason::TooLarge { index, bytes, limit } => {
                write!(f, "record {index} of the batch has {bytes} bytes, and {limit} are allowed")
            }
            Reason::TakenOver => f.write_str("another instance of the job has taken over"),
        }
    }
}

impl Error for JournalError {}

impl From<JournalError> for StoreError {
    fn from(error: JournalError) -> Self {
        if let Reason::TooLarge { index, .. } = error.inner.reason {
            return StoreError::refused(index, error);
        }
        if error.is_transient() { StoreError::transient(error) } else { StoreError::permanent(error) }
    }
}
