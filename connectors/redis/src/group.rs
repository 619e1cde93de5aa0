//! [`Group`]: the commands of a consumer group, on its own connection.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value, cmd};

use crate::error::{Error, Failure, Place};
use crate::id::EntryId;
use crate::link::Link;
use crate::reply::{self, Pair, Pending};

/// Names of a consumer in a group of some streams.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) streams: Vec<Arc<str>>,
    pub(crate) group: Arc<str>,
    pub(crate) consumer: Arc<str>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) link: Link,
    pub(crate) names: Arc<Names>,
}

/// Which pending entries to look for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Range {
    /// Only those that were delivered at least this long ago.
    pub(crate) idle: Option<Duration>,
    /// Only those after this one.
    pub(crate) after: Option<EntryId>,
    /// Only those of this consumer.
    pub(crate) own: bool,
}

impl Group {
    /// The same on another connection.
    pub(crate) fn another(&self) -> Self {
        Self { link: self.link.another(), names: Arc::clone(&self.names) }
    }

    pub(crate) fn key(&self, stream: usize) -> &Arc<str> {
        &self.names.streams[stream]
    }

    /// The name of a stream in messages.
    pub(crate) fn place(&self, stream: usize) -> Place {
        self.place_of(Arc::clone(self.key(stream)))
    }

    fn place_of(&self, stream: Arc<str>) -> Place {
        let group = Some(Arc::clone(&self.names.group));
        Place { url: Arc::clone(self.link.url()), stream: Some(stream), group }
    }

    /// An error that concerns a stream.
    pub(crate) fn error(&self, stream: usize, action: &'static str, failure: Failure) -> Error {
        Error::new(self.place(stream), action, failure)
    }

    /// An error that concerns all streams.
    pub(crate) fn error_of_all(&self, action: &'static str, failure: Failure) -> Error {
        Error::new(self.place_of(self.names.streams.join(", ").into()), action, failure)
    }

    /// The error for an invalid reply with records.
    pub(crate) fn unreadable(&self, stream: usize) -> Error {
        self.error(stream, "fetch records", Failure::found(reply::UNREADABLE))
    }

    /// Calls a command that begins with a stream and the group.
    fn call<R>(
        &mut self,
        stream: usize,
        action: &'static str,
        command: &Cmd,
        read: impl FnOnce(Value) -> Option<R>,
    ) -> Result<R, Error> {
        let outcome = self.link.call(command, Duration::ZERO);
        let outcome = outcome.and_then(|value| read(value).ok_or_else(|| Failure::found(reply::UNREADABLE)));
        outcome.map_err(|failure| self.error(stream, action, failure))
    }

    /// Creates the group, and the stream if it is missing. Returns whether the group was missing.
    pub(crate) fn create(&mut self, stream: usize, from: &str) -> Result<bool, Error> {
        let key = &**self.key(stream);
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(key).arg(&*self.names.group).arg(from).arg("MKSTREAM");
        match self.call(stream, "create the group", &create, Some) {
            Ok(_) => Ok(true),
            Err(error) if error.is_code("BUSYGROUP") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The last entry that was delivered to the group, if the group exists.
    pub(crate) fn last_delivered(&mut self, stream: usize) -> Result<Option<EntryId>, Error> {
        let row = self.info(stream)?;
        Ok(row.as_deref().and_then(|row| reply::find(row, "last-delivered-id")).and_then(reply::id))
    }

    /// The reply of XINFO about the group, if it exists.
    pub(crate) fn info(&mut self, stream: usize) -> Result<Option<Vec<Pair>>, Error> {
        let mut info = cmd("XINFO");
        info.arg("GROUPS").arg(&**self.key(stream));
        let rows = match self.call(stream, "look up the group", &info, reply::rows) {
            Err(error) if error.says_no_such_key() => return Ok(None),
            outcome => outcome?,
        };
        let group = self.names.group.as_bytes();
        let is_ours = |row: &Vec<_>| matches!(reply::find(row, "name"), Some(Value::BulkString(name)) if name == group);
        Ok(rows.into_iter().find(is_ours))
    }

    /// The last ID that the stream has given to an entry, if the stream exists.
    pub(crate) fn last_added(&mut self, stream: usize) -> Result<Option<EntryId>, Error> {
        let mut info = cmd("XINFO");
        info.arg("STREAM").arg(&**self.key(stream));
        match self.call(stream, "look up the stream", &info, reply::pairs) {
            Ok(pairs) => Ok(reply::find(&pairs, "last-generated-id").and_then(reply::id)),
            Err(error) if error.says_no_such_key() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The number of entries in the stream.
    pub(crate) fn length(&mut self, stream: usize) -> Result<u64, Error> {
        let mut length = cmd("XLEN");
        length.arg(&**self.key(stream));
        self.call(stream, "look up the stream", &length, |value| reply::number(&value))
    }

    /// Up to `most` pending entries, in order of their IDs.
    pub(crate) fn pending(&mut self, stream: usize, range: Range, most: usize) -> Result<Vec<Pending>, Error> {
        let mut pending = cmd("XPENDING");
        pending.arg(&**self.key(stream)).arg(&*self.names.group);
        if let Some(idle) = range.idle {
            pending.arg("IDLE").arg(millis(idle));
        }
        match range.after {
            Some(after) => pending.arg(format!("({after}")),
            None => pending.arg("-"),
        };
        pending.arg("+").arg(most);
        if range.own {
            pending.arg(&*self.names.consumer);
        }
        self.call(stream, "look up pending records", &pending, reply::pending)
    }

    /// Whether another consumer has pending entries.
    pub(crate) fn is_held_by_others(&mut self, stream: usize) -> Result<bool, Error> {
        let mut pending = cmd("XPENDING");
        pending.arg(&**self.key(stream)).arg(&*self.names.group);
        let consumers = self.call(stream, "look up pending records", &pending, reply::consumers)?;
        Ok(consumers.iter().any(|consumer| *consumer != self.names.consumer.as_bytes()))
    }

    /// Takes over entries that were delivered at least `idle` ago. The reply has those that exist and could be taken over.
    pub(crate) fn claim(&mut self, stream: usize, idle: Duration, ids: &[EntryId]) -> Result<Vec<Value>, Error> {
        let claim = self.claim_command(stream, idle, ids);
        self.call(stream, "take over pending records", &claim, reply::list)
    }

    /// Sets how long ago entries of this consumer were delivered last. Passes over those that were delivered more recently
    /// than `idle`: another consumer has taken them over.
    pub(crate) fn touch(
        &mut self,
        stream: usize,
        idle: Duration,
        ids: &[EntryId],
        since: Duration,
    ) -> Result<(), Error> {
        let mut claim = self.claim_command(stream, idle, ids);
        claim.arg("IDLE").arg(millis(since)).arg("JUSTID");
        self.call(stream, "set the leases of pending records", &claim, |_| Some(()))
    }

    fn claim_command(&self, stream: usize, idle: Duration, ids: &[EntryId]) -> Cmd {
        let mut claim = cmd("XCLAIM");
        claim.arg(&**self.key(stream)).arg(&*self.names.group).arg(&*self.names.consumer).arg(millis(idle)).arg(ids);
        claim
    }

    /// Returns the entries that are no longer in the stream.
    pub(crate) fn missing(&mut self, stream: usize, ids: &[EntryId]) -> Result<Vec<EntryId>, Error> {
        let mut packed = Vec::new();
        for id in ids {
            cmd("XRANGE").arg(&**self.key(stream)).arg(id).arg(id).write_packed_command(&mut packed);
        }
        let mut missing = Vec::new();
        let outcome = self.link.exchange(&packed, ids.len(), Duration::ZERO, |number, value| {
            if reply::list(value).is_some_and(|found| found.is_empty()) {
                missing.push(ids[number]);
            }
        });
        outcome.map_err(|failure| self.error(stream, "look up records", failure))?;
        Ok(missing)
    }

    /// Acknowledges entries of one stream.
    pub(crate) fn acknowledge(&mut self, stream: usize, ids: &[EntryId]) -> Result<(), Error> {
        let mut acknowledge = cmd("XACK");
        acknowledge.arg(&**self.key(stream)).arg(&*self.names.group).arg(ids);
        self.call(stream, "acknowledge records", &acknowledge, |_| Some(()))
    }
}

/// A duration in Redis's unit.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(i64::MAX as u64 / 2)
}
