//! [`Journal`]: a file with topics of records.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior};
use streamz::Clock;

use crate::error::{JournalError, Place, Reason};
use crate::file;
use crate::inbox::{JournalInbox, JournalInboxOptions};
use crate::record::{Entry, decode_headers, from_millis, to_millis};
use crate::retention::{self, Retention};
use crate::status::{self, GroupStatus, TopicStatus};
use crate::writer::Writer;

/// Options for opening a journal. [`Journal::open`] uses the defaults.
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `open` is called"]
pub struct JournalOptions {
    pub(crate) busy_timeout: Duration,
    pub(crate) synchronous: Synchronous,
    pub(crate) max_record_bytes: usize,
    pub(crate) retention: Retention,
    pub(crate) clock: Clock,
}

/// When a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Synchronous {
    /// Not at each commit. Appended records and acknowledgements survive when the process is killed, because they have
    /// been passed to the operating system. When the machine loses power, the last commits may be missing; the file is
    /// not damaged. The default: this crate is meant for crashes of the process, and a commit takes microseconds.
    #[default]
    Normal,
    /// At each commit, which then survives a power failure if the disk honours the sync. A commit takes as long as a
    /// sync of the disk, often milliseconds, so use large batches.
    Full,
}

impl Synchronous {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Full => "full",
        }
    }
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(5),
            synchronous: Synchronous::default(),
            max_record_bytes: 16 << 20,
            retention: Retention::new(),
            clock: Clock::default(),
        }
    }
}

impl JournalOptions {
    /// Sets how long a call waits while other processes are writing. Defaults to 5 s; zero fails at once. A fetch waits
    /// for at most 0.5 s, so that the pipeline can be cancelled.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Sets when a commit waits for the disk. Defaults to [`Synchronous::Normal`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Sets the maximum size of a record: its key, its payload and its headers, in bytes. Defaults to 16 MiB. SQLite
    /// allows about 1 GB.
    pub fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.max_record_bytes = bytes;
        self
    }

    /// Sets which records this process removes automatically: after every 4,096 records that a writer appends or a
    /// consumer acknowledges. Defaults to none. See [`Journal::trim`].
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Sets the clock that measures leases and timestamps records. Defaults to the system clock. For tests: with a
    /// [`ManualClock`](streamz::ManualClock), leases expire when the test moves the time. The wait of a fetch is always
    /// measured in real time.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Opens the journal in the file at `path`, or creates it. Its directory must exist.
    ///
    /// # Errors
    /// If the file cannot be opened or written, is not a journal, or was created by a newer version of this crate.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Journal, JournalError> {
        let path: Arc<Path> = Arc::from(path.as_ref());
        let place = Place::new(Arc::clone(&path));
        let file = file::connect(&path, self.busy_timeout, self.synchronous).map_err(|e| place.error("open it", e))?;
        let shared = Shared { place, options: self, changed: Signal::default(), file: Mutex::new(file) };
        Ok(Journal { shared: Arc::new(shared) })
    }
}

/// A journal: topics of records in one SQLite file.
///
/// Any number of threads and processes on one machine may use the same file. Clones share one connection, which the
/// methods here use; each [`Writer`], [`JournalInbox`] and acker has one of its own.
///
/// The first call that names a topic creates it.
#[derive(Debug, Clone)]
pub struct Journal {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) place: Place,
    pub(crate) options: JournalOptions,
    pub(crate) changed: Signal,
    file: Mutex<Connection>,
}

impl Shared {
    /// Opens another connection.
    pub(crate) fn connect(&self, place: &Place) -> Result<Connection, JournalError> {
        let JournalOptions { busy_timeout, synchronous, .. } = self.options;
        file::connect(&place.path, busy_timeout, synchronous).map_err(|e| place.error("open it", e))
    }

    pub(crate) fn now(&self) -> i64 {
        to_millis(self.options.clock.wall())
    }
}

/// Where a new consumer group starts. An existing one continues where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Start {
    /// At the oldest record in the topic. The default.
    #[default]
    Earliest,
    /// After the newest record.
    Latest,
    /// At this position. If that record has been trimmed, at the oldest one left.
    At(i64),
}

impl Journal {
    /// Opens the journal in the file at `path`, or creates it, with the defaults of [`JournalOptions`].
    ///
    /// # Errors
    /// As [`JournalOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        JournalOptions::default().open(path)
    }

    /// Returns options for opening a journal.
    pub fn options() -> JournalOptions {
        JournalOptions::default()
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.shared.place.path
    }

    /// Returns a writer that appends to `topic`.
    ///
    /// # Errors
    /// If another connection cannot be opened, or the topic cannot be created.
    pub fn writer(&self, topic: &str) -> Result<Writer, JournalError> {
        Writer::open(Arc::clone(&self.shared), topic)
    }

    /// Returns the records of `topic` for the consumer group `group`, which is created if it does not exist.
    ///
    /// Each record goes to one consumer of a group; each group receives all records.
    ///
    /// # Errors
    /// If another connection cannot be opened, or the topic or the group cannot be created.
    pub fn inbox(&self, topic: &str, group: &str, options: JournalInboxOptions) -> Result<JournalInbox, JournalError> {
        JournalInbox::open(Arc::clone(&self.shared), topic, group, options)
    }

    /// Reads up to `max` records of `topic` from position `from`, without a group: no record is taken or acknowledged.
    /// For inspection, and for jobs that store their [`Progress`](crate::Progress) in their own database.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self, topic: &str, from: i64, max: usize) -> Result<Vec<Entry>, JournalError> {
        let place = self.shared.place.topic(topic);
        let name = Arc::from(topic);
        let read = |file: &mut Connection| -> rusqlite::Result<Vec<Entry>> {
            let Some(id) = find_topic(file, topic)? else { return Ok(Vec::new()) };
            let max = i64::try_from(max).unwrap_or(i64::MAX);
            let sql = format!("{} WHERE position >= ?1 ORDER BY position LIMIT ?2", select_entries(id));
            file.prepare_cached(&sql)?.query_map([from, max], |row| read_entry(row, &name))?.collect()
        };
        read(&mut self.shared.file.lock()).map_err(|e| place.error_at("read", Some(from), e))
    }

    /// Removes the oldest records of `topic` that `retention` does not keep, and returns how many.
    ///
    /// Never removes records that a group has not acknowledged, unless `retention` says so; without any group, all
    /// records are unacknowledged. Works in transactions of 4,096 records, so that other connections can write in
    /// between. The space is reused for new records; the file does not shrink.
    ///
    /// # Errors
    /// If the file cannot be written. Records removed before that stay removed.
    pub fn trim(&self, topic: &str, retention: &Retention) -> Result<u64, JournalError> {
        let place = self.shared.place.topic(topic);
        let found = find_topic(&self.shared.file.lock(), topic).map_err(|e| place.error("trim", e))?;
        let Some(id) = found else { return Ok(0) };
        let mut removed = 0;
        loop {
            let now = self.shared.now();
            // Locked each time, so that other calls are not held up.
            let count = write(&mut self.shared.file.lock(), |file| retention::trim_some(file, id, retention, now));
            match count.map_err(|e| place.error("trim", e))? {
                0 => return Ok(removed),
                count => removed += count,
            }
        }
    }

    /// Removes a group, so that it no longer prevents records from being trimmed. Returns whether it existed.
    ///
    /// Call it when the group has no consumers: those that still use it receive nothing more, and fail.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn remove_group(&self, topic: &str, group: &str) -> Result<bool, JournalError> {
        let remove = |file: &Transaction<'_>| -> rusqlite::Result<bool> {
            let Some(id) = find_group(file, topic, group)? else { return Ok(false) };
            file.execute("DELETE FROM held WHERE group_id = ?1", [id])?;
            file.execute("DELETE FROM groups WHERE id = ?1", [id])?;
            Ok(true)
        };
        let removed = write(&mut self.shared.file.lock(), remove);
        removed.map_err(|e| self.shared.place.topic(topic).group(group).error("remove the group", e))
    }

    /// Returns the state of all topics and their groups, in the order in which they were created. For a table, and for
    /// alerts.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn status(&self) -> Result<Vec<TopicStatus>, JournalError> {
        let now = self.shared.now();
        status::all(&mut self.shared.file.lock(), now).map_err(|e| self.shared.place.error("read the status", e))
    }

    /// Returns the state of one group, or `None` if there is no such topic or group.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn group_status(&self, topic: &str, group: &str) -> Result<Option<GroupStatus>, JournalError> {
        let now = self.shared.now();
        let found = status::one(&mut self.shared.file.lock(), topic, group, now);
        found.map_err(|e| self.shared.place.topic(topic).group(group).error("read the status", e))
    }
}

/// Runs `work` in a transaction that has the write lock from the beginning: one that reads first and writes later fails
/// if another process writes in between.
pub(crate) fn write<R, E: From<rusqlite::Error>>(
    file: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<R, E>,
) -> Result<R, E> {
    let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

pub(crate) fn find_topic(file: &Connection, topic: &str) -> rusqlite::Result<Option<i64>> {
    file.prepare_cached("SELECT id FROM topics WHERE name = ?1")?.query_row([topic], |row| row.get(0)).optional()
}

/// Returns the number of the topic, which is created if it does not exist.
pub(crate) fn make_topic(file: &mut Connection, topic: &str) -> Result<i64, Reason> {
    if let Some(id) = find_topic(file, topic)? {
        return Ok(id);
    }
    write(file, |file| {
        if let Some(id) = find_topic(file, topic)? {
            return Ok(id);
        }
        file.execute("INSERT INTO topics (name) VALUES (?1)", [topic])?;
        let id = file.last_insert_rowid();
        file.execute_batch(&format!(
            "CREATE TABLE {} (
                position INTEGER PRIMARY KEY,
                time INTEGER NOT NULL,
                key BLOB NOT NULL,
                payload BLOB NOT NULL,
                headers BLOB NOT NULL
            ) STRICT",
            records(id)
        ))?;
        Ok(id)
    })
}

pub(crate) fn find_group(file: &Connection, topic: &str, group: &str) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT g.id FROM groups g JOIN topics t ON t.id = g.topic WHERE t.name = ?1 AND g.name = ?2";
    file.prepare_cached(sql)?.query_row([topic, group], |row| row.get(0)).optional()
}

/// Returns the number of the group, which is created if it does not exist.
pub(crate) fn make_group(file: &mut Connection, topic: i64, group: &str, start: Start) -> Result<i64, Reason> {
    write(file, |file| {
        let sql = "SELECT id FROM groups WHERE topic = ?1 AND name = ?2";
        if let Some(id) = file.query_row(sql, (topic, group), |row| row.get(0)).optional()? {
            return Ok(id);
        }
        let sql = "SELECT first, next FROM topics WHERE id = ?1";
        let (first, next): (i64, i64) = file.query_row(sql, [topic], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let start = match start {
            Start::Earliest => first,
            Start::Latest => next,
            Start::At(position) => position.clamp(first, next),
        };
        let sql = "INSERT INTO groups (topic, name, start, next) VALUES (?1, ?2, ?3, ?3)";
        file.execute(sql, (topic, group, start))?;
        Ok(file.last_insert_rowid())
    })
}

/// The name of the table with the records of a topic.
pub(crate) fn records(topic: i64) -> String {
    format!("records_{topic}")
}

pub(crate) fn select_entries(topic: i64) -> String {
    format!("SELECT position, time, key, payload, headers FROM {}", records(topic))
}

pub(crate) fn read_entry(row: &Row<'_>, topic: &Arc<str>) -> rusqlite::Result<Entry> {
    let (position, time) = (row.get(0)?, from_millis(row.get(1)?));
    let (key, payload) = (row.get(2)?, row.get(3)?);
    let headers = match row.get_ref(4)?.as_blob()? {
        [] => Vec::new(),
        bytes => decode_headers(bytes).ok_or_else(|| damaged(4))?,
    };
    Ok(Entry { topic: Arc::clone(topic), position, time, key, payload, headers })
}

fn damaged(column: usize) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, "the headers are damaged".into())
}

/// Notifies the consumers in this process of possible new records. Those in other processes poll.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    pub(crate) fn count(&self) -> u64 {
        *self.count.lock()
    }

    pub(crate) fn notify(&self) {
        *self.count.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits for a notification after the one that was `seen`, for up to `limit`. Returns whether there was one.
    pub(crate) fn wait(&self, seen: u64, limit: Duration) -> bool {
        let mut count = self.count.lock();
        if *count == seen {
            self.changed.wait_for(&mut count, limit);
        }
        *count != seen
    }
}
