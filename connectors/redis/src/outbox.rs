//! [`RedisOutbox`]: adds records to a stream.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ConnectionInfo, RedisError, Value, cmd};
use streamz::delivery::{Outbox, StoreError};

use crate::error::{Error, Failure, Place};
use crate::group::millis;
use crate::link::{Address, Link, Timeouts, timeout_setters};
use crate::record::Fields;
use crate::reply;

/// At most this number of records, or slightly more than this number of bytes, are sent before their replies are read.
const EXCHANGE: (usize, usize) = (1000, 1 << 20);

/// Adds records to a Redis Stream, and confirms a batch when the server has answered for all of it.
///
/// A confirmed record survives a crash of this process. Whether it survives a crash of the server depends on the
/// server's persistence (`appendonly`, `appendfsync`), and whether it survives a failover on
/// [`replicas`](RedisOutboxBuilder::replicas).
///
/// # Ordering
/// In the order of the batch. If the server refuses some records of a batch and accepts others, which happens when its
/// memory is full, the retried ones come after the accepted ones.
///
/// # Errors
/// As with [`RedisInbox`](crate::RedisInbox). If a connection is lost in the middle of a batch, records whose replies
/// have arrived are confirmed. The others may or may not have been written; they are retried, so they may be stored
/// twice.
///
/// # Examples
/// ```no_run
/// use streamz::delivery::Outbox;
/// use streamz_redis::{Fields, RedisOutbox};
///
/// let mut outbox = RedisOutbox::builder("redis://localhost", "invoices").max_len(1_000_000).connect()?;
/// outbox.write(&mut vec![Fields::new().with("order", "17").with("total", "9.90")])?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RedisOutbox {
    link: Link,
    stream: Arc<str>,
    max_len: Option<u64>,
    replicas: Option<Replicas>,
    /// Whether there were enough replicas at the last check.
    replicated: bool,
    max_record_bytes: usize,
}

/// The maximum size of a value in Redis, by default (`proto-max-bulk-len`).
const MOST_BYTES: usize = 512 << 20;

#[derive(Debug, Clone, Copy)]
struct Replicas {
    least: u32,
    timeout: Duration,
}

impl RedisOutbox {
    /// Returns a builder for an outbox: the server, as for [`RedisInbox::builder`](crate::RedisInbox::builder), and the
    /// key of the stream, which is created with the first record.
    pub fn builder(server: impl redis::IntoConnectionInfo, stream: impl Into<Arc<str>>) -> RedisOutboxBuilder {
        RedisOutboxBuilder {
            server: server.into_connection_info(),
            stream: stream.into(),
            max_len: None,
            replicas: None,
            max_record_bytes: MOST_BYTES,
            timeouts: Timeouts::default(),
        }
    }

    fn error(&self, action: &'static str, failure: Failure) -> Error {
        let place = Place { url: Arc::clone(self.link.url()), stream: Some(Arc::clone(&self.stream)), group: None };
        Error::new(place, action, failure)
    }

    /// Why a record will never be accepted: Redis refuses it, or closes the connection, each time it is sent.
    fn refusal(&self, fields: &Fields) -> Option<String> {
        let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        if fields.is_empty() {
            Some("the record has no fields".to_owned())
        } else if bytes > self.max_record_bytes {
            Some(format!("the record has {bytes} bytes, and {} are allowed", self.max_record_bytes))
        } else {
            None
        }
    }

    /// Waits until enough replicas have received everything written on this connection.
    fn replicate(&mut self, replicas: Replicas) -> Result<(), Error> {
        self.replicated = false;
        let mut wait = cmd("WAIT");
        wait.arg(replicas.least).arg(millis(replicas.timeout).max(1));
        let reply = self.link.call(&wait, replicas.timeout);
        let confirmed = reply.map_err(|failure| self.error("wait for replicas", failure))?;
        match reply::number(&confirmed) {
            Some(confirmed) if confirmed >= replicas.least.into() => {
                self.replicated = true;
                Ok(())
            }
            confirmed => {
                let (confirmed, least) = (confirmed.unwrap_or(0), replicas.least);
                let failure = Failure::found_for_now(format!("{confirmed} of {least} replicas have confirmed"));
                Err(self.error("wait for replicas", failure))
            }
        }
    }

    /// Sends the first records of a batch, and reports which of them were written.
    fn send(&mut self, batch: &[Fields], written: &mut Vec<bool>) -> Result<(), Failure> {
        let mut packed = Vec::new();
        // One for all, so that its buffers are reused.
        let mut add = Cmd::new();
        let before = written.len();
        for fields in batch.iter().take(EXCHANGE.0) {
            add.clear();
            add.arg("XADD").arg(&*self.stream);
            if let Some(max_len) = self.max_len {
                add.arg("MAXLEN").arg("~").arg(max_len);
            }
            add.arg("*");
            for (name, value) in fields.iter() {
                add.arg(name).arg(value);
            }
            add.write_packed_command(&mut packed);
            written.push(false);
            if packed.len() >= EXCHANGE.1 {
                break;
            }
        }
        let calls = written.len() - before;
        self.link.exchange(&packed, calls, Duration::ZERO, |number, reply| {
            written[before + number] = !matches!(reply, Value::Nil);
        })
    }
}

impl Outbox for RedisOutbox {
    type Record = Fields;

    fn write(&mut self, batch: &mut Vec<Fields>) -> Result<(), StoreError> {
        let refused = batch.iter().enumerate().find_map(|(index, fields)| Some((index, self.refusal(fields)?)));
        if let Some((index, reason)) = refused {
            return Err(StoreError::refused(index, self.error("add a record", Failure::found(reason))));
        }
        if let Some(replicas) = self.replicas
            && !(self.replicated && self.link.is_open())
        {
            // Before anything is written: otherwise every attempt would write it again.
            self.replicate(replicas)?;
        }
        let mut written = Vec::with_capacity(batch.len());
        let mut outcome = Ok(());
        while outcome.is_ok() && written.len() < batch.len() {
            let rest = &batch[written.len()..];
            outcome = self.send(rest, &mut written);
        }
        if let (Some(replicas), true) = (self.replicas, self.link.is_open() && written.contains(&true)) {
            self.replicate(replicas)?;
        }
        let mut written = written.into_iter();
        batch.retain(|_| !written.next().unwrap_or(false));
        Ok(outcome.map_err(|failure| self.error("add records", failure))?)
    }
}

/// Configures a [`RedisOutbox`]; created by [`RedisOutbox::builder`].
#[derive(Debug)]
#[must_use = "it does nothing until `connect` is called"]
pub struct RedisOutboxBuilder {
    server: Result<ConnectionInfo, RedisError>,
    stream: Arc<str>,
    max_len: Option<u64>,
    replicas: Option<Replicas>,
    max_record_bytes: usize,
    timeouts: Timeouts,
}

impl RedisOutboxBuilder {
    /// Sets the approximate length of the stream: Redis removes the oldest entries beyond that, in whole nodes of its
    /// tree (`MAXLEN ~`). Without it, the stream grows without limit.
    ///
    /// This also removes entries that have not been read or acknowledged: choose it larger than the longest backlog. A
    /// [`RedisInbox`](crate::RedisInbox) counts pending entries that it [lost](crate::RedisMonitor::lost) that way, but
    /// does not learn of entries removed before they were read.
    pub fn max_len(mut self, entries: u64) -> Self {
        self.max_len = Some(entries);
        self
    }

    /// Sets the maximum size of a record: the names and values of its fields, in bytes. Larger ones, and those without
    /// fields, are [refused](StoreError::refused). Defaults to 512 MiB, the default limit of a server
    /// (`proto-max-bulk-len`); if the server's limit is lower, set the same here. The server closes the connection on a
    /// larger record, which would be retried forever.
    pub fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.max_record_bytes = bytes;
        self
    }

    /// Confirms a batch only when this number of replicas has it (`WAIT`), waiting for up to `timeout` each time.
    /// Without it, the server's own answer suffices, and a failover may lose entries that had not been replicated.
    ///
    /// With too few replicas, a write fails with a transient error, before it has written anything if possible. If
    /// replicas are lost in between, the batch is retried, and is stored twice.
    pub fn replicas(mut self, least: u32, timeout: Duration) -> Self {
        self.replicas = (least > 0).then_some(Replicas { least, timeout });
        self
    }

    timeout_setters!();

    /// Connects.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses the password, or the URL is invalid. The error comes at once and
    /// gives the reason. Whether the key is a stream is checked by the first write.
    pub fn connect(self) -> Result<RedisOutbox, StoreError> {
        let Self { server, stream, max_len, replicas, max_record_bytes, timeouts } = self;
        let address = server.and_then(|info| Address::new(info, timeouts)).map_err(|cause| {
            let place = Place { url: "redis".into(), stream: Some(Arc::clone(&stream)), group: None };
            Error::new(place, "use the address", Failure::of_call(cause))
        })?;
        let link = Link::new(address);
        let mut outbox = RedisOutbox { link, stream, max_len, replicas, replicated: false, max_record_bytes };
        outbox.link.connect().map_err(|failure| outbox.error("connect", failure))?;
        Ok(outbox)
    }
}
