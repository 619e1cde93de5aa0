//! [`JournalInbox`]: the records of a topic for a consumer group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use streamz::delivery::{Delivery, Inbox, StoreError};

use crate::acker::{JournalAcker, Receipt};
use crate::error::{JournalError, Place};
use crate::file;
use crate::group::{self, Cursor, Held, Owner};
use crate::journal::{Shared, Start, make_group, make_topic, read_entry, select_entries, write};
use crate::record::{Entry, duration_millis};

/// How a consumer takes records.
#[derive(Debug, Clone)]
pub struct JournalInboxOptions {
    consumer: String,
    lease: Duration,
    start: Start,
    bounded: bool,
    take_over: bool,
    fetch_bytes: usize,
}

impl Default for JournalInboxOptions {
    fn default() -> Self {
        Self {
            consumer: format!("process-{}", std::process::id()),
            lease: Duration::from_secs(30),
            start: Start::Earliest,
            bounded: false,
            take_over: false,
            fetch_bytes: 8 << 20,
        }
    }
}

impl JournalInboxOptions {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name under which [`GroupStatus`](crate::GroupStatus) lists what this consumer holds. Two consumers may
    /// have the same name. Default name: `process-` and the process ID.
    pub fn consumer(mut self, name: impl Into<String>) -> Self {
        self.consumer = name.into();
        self
    }

    /// Sets how long records are reserved for the consumer that has taken them. If it has neither acknowledged a record
    /// nor extended its lease by then, the record is delivered to any consumer of the group. Defaults to 30 s; a
    /// pipeline extends leases [in time](streamz::delivery::DeliveryConfig::keep_alive). Precise to the millisecond;
    /// with zero, records are redelivered at once, until they are acknowledged.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets where the group starts if it does not exist yet. Defaults to [`Start::Earliest`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Makes the inbox end at the newest record of this moment: the stream ends when all records up to it have been
    /// delivered. For batch jobs. Defaults to `false`.
    ///
    /// For records that another consumer of the group holds at that point, the inbox waits as long as their lease, in
    /// case that consumer has died; records that a live consumer still holds then are left to it.
    pub fn bounded(mut self, bounded: bool) -> Self {
        self.bounded = bounded;
        self
    }

    /// Takes over at once what an earlier consumer of the same name holds, instead of waiting for its lease to expire.
    /// Defaults to `false`.
    ///
    /// For a process that is restarted under its old name. In that case, give every running consumer a name of its own:
    /// one that is still running continues with its records, and they are processed twice.
    pub fn take_over(mut self, take_over: bool) -> Self {
        self.take_over = take_over;
        self
    }

    /// Sets the maximum number of bytes of keys, payloads and headers that one fetch reads; at least one record is
    /// read. Defaults to 8 MiB.
    pub fn fetch_bytes(mut self, bytes: usize) -> Self {
        self.fetch_bytes = bytes;
        self
    }
}

/// The records of a topic, for one consumer of a group. Returned by [`Journal::inbox`](crate::Journal::inbox); pass it
/// to [`Stream::deliver`](streamz::Stream::deliver).
///
/// # Ordering
/// A fetch returns records in the order of their positions: first redelivered ones, then new ones. With a single
/// consumer and no crash, that is the order in which they were appended.
///
/// # Memory
/// One fetch: [`fetch_bytes`](JournalInboxOptions::fetch_bytes) and a record.
///
/// # Cancellation
/// A waiting fetch checks for records every 2 to 25 ms, and at once when this process appends some. It cannot be
/// interrupted before its time limit. Dropping the inbox gives back the records that it has taken and not delivered.
#[derive(Debug)]
pub struct JournalInbox {
    shared: Arc<Shared>,
    place: Place,
    file: Connection,
    name: Arc<str>,
    topic: i64,
    group: i64,
    owner: Owner,
    select: String,
    fetch_bytes: usize,
    /// Taken, but not read yet.
    taken: VecDeque<Held>,
    /// The first position beyond the end of the inbox.
    bound: i64,
    /// How long to wait for the leases of other consumers, once nothing is left to take below the bound.
    others_until: Option<i64>,
    exhausted: bool,
}

/// How long a fetch waits for the write lock.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// The pause between two checks, at first and at most.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(25));

impl JournalInbox {
    pub(crate) fn open(
        shared: Arc<Shared>,
        topic: &str,
        group: &str,
        options: JournalInboxOptions,
    ) -> Result<Self, JournalError> {
        let place = shared.place.topic(topic).group(group);
        let name = Arc::from(topic);
        let mut file = shared.connect(&place)?;
        let topic = make_topic(&mut file, topic).map_err(|e| place.error("make the topic", e))?;
        let group = make_group(&mut file, topic, group, options.start).map_err(|e| place.error("make the group", e))?;
        let mut opened = || -> rusqlite::Result<_> {
            if options.take_over {
                write(&mut file, |file| group::free(file, group, &options.consumer))?;
            }
            file::set_busy_timeout(&mut file, shared.options.busy_timeout.min(BUSY_TIMEOUT))?;
            let id = file.query_row("SELECT random()", [], |row| row.get(0))?;
            let bound = if options.bounded { Cursor::read(&file, group)?.end } else { i64::MAX };
            Ok((id, bound))
        };
        let (id, bound) = opened().map_err(|e| place.error("read the group", e))?;
        Ok(Self {
            shared,
            place,
            file,
            name,
            topic,
            group,
            owner: Owner { id, consumer: options.consumer, lease: duration_millis(options.lease) },
            select: format!("{} WHERE position BETWEEN ?1 AND ?2 ORDER BY position", select_entries(topic)),
            fetch_bytes: options.fetch_bytes,
            taken: VecDeque::new(),
            bound,
            others_until: None,
            exhausted: false,
        })
    }

    /// Takes records for this consumer, if there are any.
    fn take(&mut self, max: usize) -> rusqlite::Result<()> {
        let Self { shared, file, group, owner, bound, .. } = self;
        let cursor = Cursor::read(file, *group)?;
        let at_end = cursor.next >= *bound;
        // Most checks find nothing, and need no write lock.
        if cursor.next >= cursor.end.min(*bound) && !cursor.must_look(shared.now()) && !at_end {
            return Ok(());
        }
        let taken = write(file, |file| group::take(file, *group, owner, shared.now(), max, *bound))?;
        let found_none = taken.ranges.is_empty();
        self.taken.extend(taken.ranges);
        if found_none && taken.at_end {
            let until = self.others_until.or(taken.others_until);
            self.others_until = until;
            self.exhausted = taken.others_until.is_none() || until.is_some_and(|until| until <= self.shared.now());
        }
        Ok(())
    }

    /// Reads up to `max` of the taken records.
    fn read(&mut self, max: usize, out: &mut Vec<Delivery<Entry, Receipt>>) -> rusqlite::Result<()> {
        let Self { file, name, select, taken, fetch_bytes, .. } = self;
        let mut select = file.prepare_cached(select)?;
        let (mut count, mut bytes) = (0, 0);
        while let Some(range) = taken.front_mut() {
            let mut rows = select.query([range.first, range.last])?;
            while let Some(row) = rows.next()? {
                if count == max || (count > 0 && bytes >= *fetch_bytes) {
                    return Ok(());
                }
                let entry = read_entry(row, name)?;
                count += 1;
                bytes += entry.bytes();
                let receipt = Receipt { position: entry.position, attempt: range.attempt };
                range.first = entry.position + 1;
                out.push(Delivery::new(entry, receipt).with_attempt(receipt.attempt));
            }
            taken.pop_front();
        }
        Ok(())
    }

    /// Gives back the records that were taken and not read.
    fn give_back(&mut self) -> rusqlite::Result<()> {
        let Self { file, group, taken, .. } = self;
        write(file, |file| {
            taken.iter().try_for_each(|it| group::give_back(file, *group, it.attempt, it.first, it.last))
        })
    }

    fn data_version(&self) -> rusqlite::Result<i64> {
        self.file.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    fn error(&self, what: &'static str, reason: rusqlite::Error) -> StoreError {
        self.place.error_at(what, self.taken.front().map(|range| range.first), reason).into()
    }
}

impl Inbox for JournalInbox {
    type Record = Entry;
    type Receipt = Receipt;
    type Acker = JournalAcker;

    fn fetch(
        &mut self,
        max: usize,
        wait: Duration,
        records: &mut Vec<Delivery<Entry, Receipt>>,
    ) -> Result<(), StoreError> {
        let start = file::now();
        let mut interval = INTERVALS.0;
        loop {
            // Before the check: the next one sees later changes.
            let seen = self.shared.changed.count();
            let version = self.data_version().map_err(|e| self.error("fetch", e))?;
            if self.taken.is_empty() {
                self.take(max).map_err(|e| self.error("fetch", e))?;
            }
            self.read(max, records).map_err(|e| self.error("read the records", e))?;
            if !records.is_empty() || self.exhausted {
                return Ok(());
            }
            let cursor = Cursor::read(&self.file, self.group).map_err(|e| self.error("fetch", e))?;
            loop {
                let left = wait.saturating_sub(file::now().saturating_duration_since(start));
                if left.is_zero() {
                    return Ok(());
                }
                let notified = self.shared.changed.wait(seen, left.min(interval));
                interval = (interval * 3 / 2).min(INTERVALS.1);
                let now = self.shared.now();
                let due = cursor.must_look(now) || self.others_until.is_some_and(|until| until <= now);
                if notified || due || self.data_version().map_err(|e| self.error("fetch", e))? != version {
                    break;
                }
            }
        }
    }

    fn is_exhausted(&self) -> bool {
        self.exhausted && self.taken.is_empty()
    }

    fn lease(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.owner.lease.unsigned_abs()))
    }

    fn acker(&mut self) -> Result<JournalAcker, StoreError> {
        let file = self.shared.connect(&self.place)?;
        let (shared, place) = (Arc::clone(&self.shared), self.place.clone());
        Ok(JournalAcker::new(shared, place, file, self.topic, self.group, self.owner.clone()))
    }
}

impl Drop for JournalInbox {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            // If it fails, the lease expires in time.
            let _ = self.give_back();
            self.shared.changed.notify();
        }
    }
}
