//! [`RedisInbox`]: the records of a consumer group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Value, cmd};
use streamz::delivery::{Delivery, Inbox, StoreError};

use crate::acker::RedisAcker;
use crate::builder::{RedisInboxBuilder, Start};
use crate::clock::now;
use crate::error::{Error, Failure};
use crate::group::Group;
use crate::id::EntryId;
use crate::monitor::RedisMonitor;
use crate::record::{Receipt, Record};
use crate::reply;
use crate::search::Search;
use crate::shared::Shared;

/// The records of one or more Redis Streams, shared among the consumers of a group.
///
/// A fetch reads new records with XREADGROUP. Before that, whenever the
/// [`claim_interval`](RedisInboxBuilder::claim_interval) has passed, it takes over records whose
/// [lease](RedisInboxBuilder::lease) has expired: those of consumers that crashed, and those that were given back. On
/// its first fetch, and on the first one of a new connection, it takes over the records that this consumer held before.
///
/// # Ordering
/// New records of a stream arrive in its order. A redelivered record arrives after some that were behind it. With
/// several consumers, each one's records are in order.
///
/// # Errors
/// - A lost connection, or a server that is unreachable, loading, full, or does not answer in time: transient. The next
///   fetch makes a new connection.
/// - A wrong password, a key that is not a stream, a command that the server refuses, Redis Cluster: permanent.
/// - If the group has disappeared, it is created again at the position of this inbox, before its oldest record in
///   flight. See [`create`](RedisInboxBuilder::create).
///
/// # Examples
/// ```no_run
/// use streamz::delivery::DeliveryConfig;
/// use streamz::{Pipeline, Stream};
/// use streamz_redis::RedisInbox;
///
/// let inbox = RedisInbox::builder("redis://localhost", "orders", "billing").consumer("billing-1").connect()?;
/// let pipeline = Pipeline::new("billing");
/// Stream::deliver(&pipeline, inbox, DeliveryConfig::default())?
///     .for_each(|order| println!("{order:?}"))?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RedisInbox {
    group: Group,
    options: Options,
    shared: Arc<Shared>,
    /// For each stream, the last entry that was delivered to the group, as far as this inbox knows.
    known: Vec<EntryId>,
    /// Records read beyond the number requested by the fetch.
    spare: VecDeque<Delivery<Record, Receipt>>,
    search: Search,
    /// Where it ends, if it does.
    bound: Option<Bound>,
    exhausted: bool,
}

/// The last entry to read of each stream, and then a time for the records that others hold.
#[derive(Debug)]
struct Bound {
    last: Vec<EntryId>,
    /// When the leases of dead consumers have expired.
    closes: Option<Instant>,
}

/// The settings of the builder.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) lease: Duration,
    pub(crate) claim_interval: Duration,
    pub(crate) start: Start,
    pub(crate) create: bool,
    pub(crate) delete: bool,
    pub(crate) bounded: bool,
}

/// The maximum number requested at a time, however many are wanted: the server builds its reply in memory.
const MOST: usize = 100_000;

impl RedisInbox {
    /// Returns a builder for an inbox: the server, the key of the stream, and the name of the consumer group.
    ///
    /// The server is a URL, such as `redis://user:password@host:6379/0`, or anything else that the `redis` crate can turn
    /// into its [`ConnectionInfo`](redis::ConnectionInfo). `rediss://` needs the feature `tls`.
    pub fn builder(
        server: impl redis::IntoConnectionInfo,
        stream: impl Into<Arc<str>>,
        group: impl Into<Arc<str>>,
    ) -> RedisInboxBuilder {
        RedisInboxBuilder::new(server.into_connection_info(), stream.into(), group.into())
    }

    pub(crate) fn connect(group: Group, options: Options) -> Result<Self, Error> {
        let streams = group.names.streams.len();
        let shared = Arc::new(Shared::new(streams));
        let known = vec![EntryId::MIN; streams];
        let search = Search::new(options.lease, options.claim_interval, options.delete);
        let (spare, bound) = (VecDeque::new(), None);
        let mut inbox = Self { group, options, shared, known, spare, search, bound, exhausted: false };
        inbox.group.link.connect().map_err(|failure| inbox.group.error_of_all("connect", failure))?;
        for stream in 0..streams {
            inbox.join(stream)?;
        }
        if inbox.options.bounded {
            let last = (0..streams).map(|stream| Ok(inbox.group.last_added(stream)?.unwrap_or_default()));
            inbox.bound = Some(Bound { last: last.collect::<Result<_, Error>>()?, closes: None });
        }
        Ok(inbox)
    }

    /// Returns a monitor of the group. It has its own connection, which it makes on first use.
    pub fn monitor(&self) -> RedisMonitor {
        RedisMonitor::new(self.group.another(), Arc::clone(&self.shared))
    }

    /// Makes sure that the group exists, and notes its position.
    fn join(&mut self, stream: usize) -> Result<(), Error> {
        if self.options.create {
            self.group.create(stream, &self.options.start.to_string())?;
        }
        match self.group.last_delivered(stream)? {
            Some(last) => self.known[stream] = last,
            None => {
                let failure = Failure::found("it does not exist");
                return Err(self.group.error(stream, "join the group", failure));
            }
        }
        Ok(())
    }

    /// Recreates groups that have disappeared, so that nothing is lost that was in flight here.
    fn rejoin(&mut self) -> Result<(), Error> {
        for stream in 0..self.known.len() {
            let oldest = self.shared.in_flight()[stream].first().copied();
            let mut from = oldest.map_or(self.known[stream], |oldest| oldest.before().min(self.known[stream]));
            // A stream whose IDs start again is another one.
            if self.group.last_added(stream)?.is_none_or(|last| last < from) {
                from = EntryId::MIN;
            }
            if self.group.create(stream, &from.to_string())? {
                let place = self.group.place(stream);
                log::warn!("streamz-redis: {place}: the group had disappeared; created again after entry {from}");
                self.known[stream] = from;
            }
        }
        Ok(())
    }

    /// Whether a stream is read further.
    fn is_open(&self, stream: usize) -> bool {
        self.bound.as_ref().is_none_or(|bound| self.known[stream] < bound.last[stream])
    }

    /// Reads new records.
    fn read(&mut self, most: usize, wait: Duration, records: &mut Vec<Delivery<Record, Receipt>>) -> Result<(), Error> {
        let names = Arc::clone(&self.group.names);
        let open: Vec<usize> = (0..names.streams.len()).filter(|stream| self.is_open(*stream)).collect();
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&*names.group).arg(&*names.consumer);
        // The number applies to each stream.
        read.arg("COUNT").arg(most.div_ceil(open.len()));
        let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        // Zero would mean no limit.
        if millis > 0 {
            read.arg("BLOCK").arg(millis);
        }
        read.arg("STREAMS");
        open.iter().for_each(|stream| _ = read.arg(&*names.streams[*stream]));
        open.iter().for_each(|_| _ = read.arg(">"));
        let reply = self.group.link.call(&read, Duration::from_millis(millis));
        let reply = reply.map_err(|failure| self.group.error_of_all("fetch records", failure))?;
        let Some(streams) = reply::streams(reply) else {
            return Err(self.group.unreadable(0));
        };
        let mut without = open;
        for (key, entries) in streams {
            let Some(stream) = names.streams.iter().position(|name| name.as_bytes() == key) else {
                return Err(self.group.unreadable(0));
            };
            without.retain(|open| *open != stream);
            self.read_stream(stream, entries, most, records)?;
        }
        if let Some(bound) = &self.bound {
            // Other consumers have read the rest, or it was deleted.
            without.into_iter().for_each(|stream| self.known[stream] = bound.last[stream]);
        }
        Ok(())
    }

    /// Ends the inbox when everything up to the bound has been delivered. Before that, waits for the leases of other
    /// consumers, which may have died.
    fn close(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut held = false;
        for stream in 0..self.known.len() {
            held |= self.group.is_held_by_others(stream)?;
        }
        let now = now();
        let Some(bound) = &mut self.bound else { return Ok(()) };
        let closes = *bound.closes.get_or_insert(now + self.options.lease);
        if !held || self.search.begun() >= closes {
            self.exhausted = true;
        } else {
            // A search finds expired leases; the last one comes when all leases that are not extended have expired.
            self.search.begin_by(closes.max(now));
            // A fetch may return early, but not late, so a stray unpark of this thread does no harm.
            std::thread::park_timeout(deadline.min(self.search.due()).saturating_duration_since(now));
        }
        Ok(())
    }

    fn read_stream(
        &mut self,
        stream: usize,
        entries: Vec<Value>,
        most: usize,
        records: &mut Vec<Delivery<Record, Receipt>>,
    ) -> Result<(), Error> {
        let key = Arc::clone(self.group.key(stream));
        let shared = Arc::clone(&self.shared);
        let mut in_flight = shared.in_flight();
        for value in entries {
            let Some(Some((id, Some(fields)))) = reply::entry(value) else {
                return Err(self.group.unreadable(stream));
            };
            self.known[stream] = self.known[stream].max(id);
            // After the group was created again, it redelivers the records in flight here.
            if !in_flight[stream].insert(id) {
                continue;
            }
            let record = Record { stream: Arc::clone(&key), id, fields };
            let delivery = Delivery::new(record, Receipt { stream, id });
            if records.len() < most {
                records.push(delivery);
            } else {
                self.spare.push_back(delivery);
            }
        }
        Ok(())
    }

    /// Takes one step: takes over records, or reads new ones.
    fn step(
        &mut self,
        most: usize,
        deadline: Instant,
        records: &mut Vec<Delivery<Record, Receipt>>,
    ) -> Result<(), Error> {
        if !self.group.link.is_open() {
            self.group.link.connect().map_err(|failure| self.group.error_of_all("connect", failure))?;
            // The records that the lost connection was about to deliver are held by this consumer, and not in flight
            // here.
            self.search.restart();
        }
        self.search.advance(&mut self.group, &self.shared, most, records)?;
        if !records.is_empty() {
            Ok(())
        } else if !(0..self.known.len()).any(|stream| self.is_open(stream)) {
            self.close(deadline)
        } else if self.bound.is_some() {
            self.read(most, Duration::ZERO, records)
        } else {
            self.read(most, deadline.min(self.search.due()).saturating_duration_since(now()), records)
        }
    }
}

impl Inbox for RedisInbox {
    type Record = Record;
    type Receipt = Receipt;
    type Acker = RedisAcker;

    fn fetch(
        &mut self,
        max: usize,
        wait: Duration,
        records: &mut Vec<Delivery<Record, Receipt>>,
    ) -> Result<(), StoreError> {
        let max = max.min(MOST);
        let mut found = Vec::new();
        found.extend(self.spare.drain(..self.spare.len().min(max)));
        let start = now();
        let deadline = start.checked_add(wait).unwrap_or(start + Duration::from_secs(u32::MAX.into()));
        let mut rejoined = false;
        while found.is_empty() && max > 0 {
            match self.step(max, deadline, &mut found) {
                Ok(()) => {}
                // The found records are in flight, so they must be delivered.
                Err(_) if !found.is_empty() => {}
                Err(error) if error.is_code("UNBLOCKED") => {}
                Err(error) if error.is_code("NOGROUP") && self.options.create && !rejoined => {
                    self.rejoin()?;
                    rejoined = true;
                }
                Err(error) => return Err(error.into()),
            }
            if self.exhausted || now() >= deadline {
                break;
            }
        }
        records.append(&mut found);
        Ok(())
    }

    fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.options.lease)
    }

    fn acker(&mut self) -> Result<RedisAcker, StoreError> {
        let (group, shared) = (self.group.another(), Arc::clone(&self.shared));
        Ok(RedisAcker::new(group, shared, self.options.lease, self.options.delete)?)
    }
}
