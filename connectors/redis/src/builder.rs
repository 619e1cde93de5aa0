//! [`RedisInboxBuilder`]: options of an inbox.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionInfo, RedisError};
use streamz::delivery::StoreError;

use crate::error::{Error, Failure, Place};
use crate::group::{Group, Names};
use crate::id::EntryId;
use crate::inbox::{Options, RedisInbox};
use crate::link::{Address, Link, Timeouts, timeout_setters};

/// The shortest duration that Redis can represent.
const SHORTEST: Duration = Duration::from_millis(1);
/// Practically never, and can be added to and subtracted from any time.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where a group begins in a stream when it is created. An existing group continues where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the first entry of the stream.
    #[default]
    Earliest,
    /// With the first entry that is added from then on.
    Latest,
    /// With the entry after this one.
    After(EntryId),
}

/// As Redis writes it.
impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("0"),
            Self::Latest => f.write_str("$"),
            Self::After(id) => id.fmt(f),
        }
    }
}

/// Configures a [`RedisInbox`]; created by [`RedisInbox::builder`].
#[derive(Debug)]
#[must_use = "it does nothing until `connect` is called"]
pub struct RedisInboxBuilder {
    server: Result<ConnectionInfo, RedisError>,
    streams: Vec<Arc<str>>,
    group: Arc<str>,
    consumer: Option<Arc<str>>,
    options: Options,
    timeouts: Timeouts,
}

impl RedisInboxBuilder {
    pub(crate) fn new(server: Result<ConnectionInfo, RedisError>, stream: Arc<str>, group: Arc<str>) -> Self {
        let options = Options {
            lease: Duration::from_secs(60),
            claim_interval: Duration::from_secs(5),
            start: Start::default(),
            create: true,
            delete: false,
            bounded: false,
        };
        Self { server, streams: vec![stream], group, consumer: None, options, timeouts: Timeouts::default() }
    }

    /// Also reads another stream. A fetch takes an equal share of each.
    ///
    /// All of them must be on the same server.
    pub fn and_stream(mut self, stream: impl Into<Arc<str>>) -> Self {
        let stream = stream.into();
        if !self.streams.contains(&stream) {
            self.streams.push(stream);
        }
        self
    }

    /// Sets the name of the consumer. Defaults to the host name and the process ID.
    ///
    /// Only one running inbox at a time may have it: another one of the same name takes its records over. With a name
    /// that stays the same across restarts, a restarted process takes over at once the records it was processing when
    /// it crashed; with a new name each time, it has to wait until their lease has expired, and Redis keeps the old
    /// names until `XGROUP DELCONSUMER`.
    pub fn consumer(mut self, name: impl Into<Arc<str>>) -> Self {
        self.consumer = Some(name.into());
        self
    }

    /// Sets the time without a sign of life after which a record goes to another consumer. Defaults to 60 s; from 1 ms
    /// to a year.
    ///
    /// The pipeline gives a sign of life for all its records every third of a lease, or more often: see
    /// [`keep_alive`](streamz::delivery::DeliveryConfig::keep_alive). All consumers of a group should use the same
    /// lease. It is measured by the server's clock: if that jumps ahead, records may be delivered twice; if it is set
    /// back, they are taken over later.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease = lease.clamp(SHORTEST, LONGEST);
        self
    }

    /// Sets how often to look for records whose lease has expired. Defaults to 5 s; from 1 ms to a year.
    ///
    /// The server scans all pending records of the group each time.
    pub fn claim_interval(mut self, interval: Duration) -> Self {
        self.options.claim_interval = interval.clamp(SHORTEST, LONGEST);
        self
    }

    /// Sets where the group begins if it does not exist. Defaults to the beginning of the stream.
    pub fn start(mut self, start: Start) -> Self {
        self.options.start = start;
        self
    }

    /// Sets whether to create the group, and an empty stream, if they do not exist. Defaults to `true`. Otherwise
    /// [`connect`](Self::connect) fails without them, and so does a fetch when they disappear.
    pub fn create(mut self, create: bool) -> Self {
        self.options.create = create;
        self
    }

    /// Sets whether to delete records from the stream after they have been acknowledged. Defaults to `false`.
    ///
    /// For a stream that is a queue of one group; other groups miss deleted records. Records that others delete while
    /// they are pending are then not counted as [lost](crate::RedisMonitor::lost).
    pub fn delete_acknowledged(mut self, delete: bool) -> Self {
        self.options.delete = delete;
        self
    }

    /// Makes the inbox end at the record that is the newest at [`connect`](Self::connect): the stream of the pipeline
    /// ends when all records up to it have been delivered. For batch jobs. Defaults to `false`. The last fetch may
    /// return some newer ones.
    ///
    /// For records that another consumer of the group holds at that point, the inbox waits for the duration of a lease,
    /// in case that consumer has died; records that a live consumer still holds then are left to it.
    pub fn bounded(mut self, bounded: bool) -> Self {
        self.options.bounded = bounded;
        self
    }

    timeout_setters!("For a fetch that waits for records, this comes on top of the time it waits.");

    /// Connects, and joins the group.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses the password, the URL is invalid, the key is not a stream, or the
    /// group cannot be created. The error comes at once and gives the reason.
    pub fn connect(self) -> Result<RedisInbox, StoreError> {
        let address = self.server.and_then(|info| Address::new(info, self.timeouts)).map_err(|cause| {
            let stream = Some(self.streams.join(", ").into());
            let place = Place { url: "redis".into(), stream, group: Some(Arc::clone(&self.group)) };
            Error::new(place, "use the address", Failure::of_call(cause))
        })?;
        let consumer = self.consumer.unwrap_or_else(default_consumer);
        let names = Arc::new(Names { streams: self.streams, group: self.group, consumer });
        Ok(RedisInbox::connect(Group { link: Link::new(address), names }, self.options)?)
    }
}

fn default_consumer() -> Arc<str> {
    let host = std::fs::read_to_string("/etc/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    let host = host.as_deref().map_or("host", str::trim);
    format!("{host}-{}", std::process::id()).into()
}
