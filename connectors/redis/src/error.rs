//! [`Error`]: what failed, where, and why.

use std::fmt;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};
use streamz::delivery::StoreError;

use crate::id::EntryId;

/// An error of a Redis store: where it happened, what was being done, and why it failed.
///
/// The source of this crate's [`StoreError`]s. Its message names the server without the password, the stream, the group
/// and, if applicable, the entry.
#[derive(Clone)]
pub struct Error(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    place: Place,
    action: &'static str,
    entry: Option<EntryId>,
    failure: Failure,
}

impl Error {
    pub(crate) fn new(place: Place, action: &'static str, failure: Failure) -> Self {
        Self(Box::new(Parts { place, action, entry: None, failure }))
    }

    pub(crate) fn at(mut self, entry: EntryId) -> Self {
        self.0.entry = Some(entry);
        self
    }

    /// Returns the URL of the server, without the password.
    pub fn url(&self) -> &str {
        &self.0.place.url
    }

    /// Returns the key of the stream, or all keys, separated by commas.
    pub fn stream(&self) -> Option<&str> {
        self.0.place.stream.as_deref()
    }

    /// Returns the consumer group.
    pub fn group(&self) -> Option<&str> {
        self.0.place.group.as_deref()
    }

    /// Returns the entry that it concerns.
    pub fn entry(&self) -> Option<EntryId> {
        self.0.entry
    }

    /// Returns whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        self.0.failure.transient
    }

    /// Returns the error of the client or the server, or `None` if this crate itself has detected the problem.
    pub fn cause(&self) -> Option<&RedisError> {
        self.0.failure.redis()
    }

    pub(crate) fn is_code(&self, code: &str) -> bool {
        self.0.failure.is(code)
    }

    pub(crate) fn says_no_such_key(&self) -> bool {
        self.is_code("ERR") && self.0.failure.detail().contains("no such key")
    }

    /// Explains why the server or the client refuses.
    fn hint(&self) -> Option<&'static str> {
        let detail = self.0.failure.detail();
        match self.0.failure.redis()?.code() {
            Some("MOVED" | "ASK" | "CROSSSLOT") => Some("Redis Cluster is not supported"),
            Some("ERR") if detail.starts_with("unknown command") || detail.starts_with("syntax error") => {
                Some("Redis 6.2 or later is needed, and no command may be disabled or renamed")
            }
            Some("OOM") => Some("the server's `maxmemory` is reached"),
            Some("NOREPLICAS") => Some("too few replicas confirm"),
            _ => None,
        }
    }
}

/// The cause is part of the message, because logs show nothing else.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.place)?;
        if let Some(entry) = self.0.entry {
            write!(f, ", entry {entry}")?;
        }
        write!(f, ": cannot {}: {}", self.0.action, self.0.failure)?;
        match self.hint() {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// As shown by a `main` that returns it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

impl std::error::Error for Error {}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        if error.is_transient() { Self::transient(error) } else { Self::permanent(error) }
    }
}

/// The server, the stream and the group that an operation concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) url: Arc<str>,
    pub(crate) stream: Option<Arc<str>>,
    pub(crate) group: Option<Arc<str>>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        if let Some(stream) = &self.stream {
            write!(f, ", stream `{stream}`")?;
        }
        match &self.group {
            Some(group) => write!(f, ", group `{group}`"),
            None => Ok(()),
        }
    }
}

/// Why something failed, and whether it is worth retrying.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    cause: Cause,
    transient: bool,
}

#[derive(Debug, Clone)]
enum Cause {
    Redis(RedisError),
    Found(String),
}

impl Failure {
    /// From a call on an established connection.
    pub(crate) fn of_call(cause: RedisError) -> Self {
        let transient = match cause.kind() {
            // An invalid reply on a connection that worked before: a new connection starts clean.
            ErrorKind::Io | ErrorKind::Parse => true,
            _ => cause.code().is_some_and(|code| passes(code, cause.detail().unwrap_or_default())),
        };
        Self { cause: Cause::Redis(cause), transient }
    }

    /// From connecting.
    pub(crate) fn of_connecting(cause: RedisError) -> Self {
        // TLS refuses the certificate, or the server does not speak Redis's protocol.
        let refused = cause.kind() == ErrorKind::Parse || io_kind(&cause) == Some(io::ErrorKind::InvalidData);
        let failure = Self::of_call(cause);
        Self { transient: failure.transient && !refused, ..failure }
    }

    /// A permanent failure that the server does not report as an error.
    pub(crate) fn found(fault: impl Into<String>) -> Self {
        Self { cause: Cause::Found(fault.into()), transient: false }
    }

    /// As [`found`](Self::found), but transient.
    pub(crate) fn found_for_now(fault: impl Into<String>) -> Self {
        Self { transient: true, ..Self::found(fault) }
    }

    pub(crate) fn is(&self, code: &str) -> bool {
        self.redis().is_some_and(|cause| cause.code() == Some(code))
    }

    fn redis(&self) -> Option<&RedisError> {
        match &self.cause {
            Cause::Redis(cause) => Some(cause),
            Cause::Found(_) => None,
        }
    }

    fn detail(&self) -> &str {
        self.redis().and_then(RedisError::detail).unwrap_or_default()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Found(fault) => f.write_str(fault),
            Cause::Redis(cause) => match cause.code() {
                Some(code) => write!(f, "{code} {}", self.detail()),
                // The system's own message is "temporarily unavailable".
                None if cause.is_timeout() => f.write_str("the server has not answered in time"),
                None => cause.fmt(f),
            },
        }
    }
}

/// The kind of the underlying I/O error.
fn io_kind(cause: &RedisError) -> Option<io::ErrorKind> {
    let source = std::error::Error::source(cause)?.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    source.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// Whether an error reply describes a temporary state.
fn passes(code: &str, detail: &str) -> bool {
    match code {
        // Starting, failing over, full, unable to save, running a script.
        "LOADING" | "MASTERDOWN" | "READONLY" | "CLUSTERDOWN" | "TRYAGAIN" | "OOM" | "MISCONF" | "BUSY"
        | "NOREPLICAS" => true,
        // The stream was removed while a call waited at it.
        "UNBLOCKED" => true,
        "ERR" => detail.contains("max number of clients"),
        _ => false,
    }
}
