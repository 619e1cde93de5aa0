//! [`Retention`]: which records are kept.

use std::time::Duration;

use rusqlite::Connection;

use crate::group;
use crate::journal::{records, write};
use crate::record::duration_millis;

/// Which records of a topic are kept. A record is removed if it exceeds *any* of the limits and all groups have
/// acknowledged it; removal starts at the oldest record.
///
/// ```
/// use std::time::Duration;
/// use streamz_journal::Retention;
///
/// // Records are removed once all groups have acknowledged them.
/// let lean = Retention::acknowledged();
/// // They are kept for a day, for replays, but not more than a million of them.
/// let history = Retention::new().max_age(Duration::from_secs(86_400)).max_records(1_000_000);
/// # assert_ne!(lean, history);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    max_records: u64,
    max_age: Duration,
    max_bytes: u64,
    even_unacknowledged: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self::new()
    }
}

impl Retention {
    /// Keeps everything, until limits are set.
    pub fn new() -> Self {
        Self { max_records: u64::MAX, max_age: Duration::MAX, max_bytes: u64::MAX, even_unacknowledged: false }
    }

    /// Keeps only records that a group has not acknowledged.
    pub fn acknowledged() -> Self {
        Self::new().max_records(0)
    }

    /// Keeps at most this number of records.
    pub fn max_records(mut self, records: u64) -> Self {
        self.max_records = records;
        self
    }

    /// Keeps records for this long after their time.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Keeps at most this number of bytes of keys, payloads and headers. The file is larger, by about 20 bytes a
    /// record.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Also removes records that a group has **not** acknowledged: the group loses them. It then continues after them,
    /// and counts them as [`skipped`](crate::GroupStatus::skipped).
    pub fn even_unacknowledged(mut self) -> Self {
        self.even_unacknowledged = true;
        self
    }

    fn keeps_everything(&self) -> bool {
        (self.max_records, self.max_age, self.max_bytes) == (u64::MAX, Duration::MAX, u64::MAX)
    }
}

/// The number of records removed in one transaction, which takes some milliseconds in which other connections wait.
const AT_ONCE: i64 = 4_096;

/// The number of records after which a writer or an acker trims. As it removes at most twice as many, it keeps up.
const EVERY: usize = 4_096;

/// Counts until it is time to trim.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    records: usize,
}

impl Turn {
    pub(crate) fn is_due(&mut self, retention: &Retention, records: usize) -> bool {
        if retention.keeps_everything() {
            return false;
        }
        self.records += records;
        let due = self.records >= EVERY;
        if due {
            self.records = 0;
        }
        due
    }
}

/// Trims a little. An error is ignored: the next call that matters reports it.
pub(crate) fn trim_in_passing(file: &mut Connection, topic: i64, retention: &Retention, now: i64) {
    for _ in 0..2 {
        let removed = write(file, |file| trim_some(file, topic, retention, now));
        if !matches!(removed, Ok(1..)) {
            return;
        }
    }
}

/// Removes up to 4,096 records, and returns how many. Zero if there is nothing to remove.
pub(crate) fn trim_some(file: &Connection, topic: i64, retention: &Retention, now: i64) -> rusqlite::Result<u64> {
    if retention.keeps_everything() {
        return Ok(0);
    }
    let sql = "SELECT first, next, bytes FROM topics WHERE id = ?1";
    let columns = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (first, end, bytes): (i64, i64, i64) = file.prepare_cached(sql)?.query_row([topic], columns)?;
    let groups = groups(file, topic)?;
    let mut limit = end;
    if !retention.even_unacknowledged {
        limit = first;
        for (index, group) in groups.iter().enumerate() {
            let low = group::low_water(file, *group)?;
            limit = if index == 0 { low } else { limit.min(low) };
        }
    }
    let oldest = now.saturating_sub(duration_millis(retention.max_age));
    let (mut kept, mut size) = ((end - first).unsigned_abs(), bytes.unsigned_abs());
    let mut cut = first;
    {
        let table = records(topic);
        let sql = format!(
            "SELECT time, length(key) + length(payload) + length(headers) FROM {table} WHERE position < ?1 ORDER BY position LIMIT {AT_ONCE}"
        );
        let mut select = file.prepare_cached(&sql)?;
        let mut rows = select.query([limit])?;
        while let Some(row) = rows.next()? {
            let (time, length): (i64, i64) = (row.get(0)?, row.get(1)?);
            if kept <= retention.max_records && size <= retention.max_bytes && time >= oldest {
                break;
            }
            kept -= 1;
            size = size.saturating_sub(length.unsigned_abs());
            cut += 1;
        }
    }
    if cut == first {
        return Ok(0);
    }
    file.prepare_cached(&format!("DELETE FROM {} WHERE position < ?1", records(topic)))?.execute([cut])?;
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    file.prepare_cached("UPDATE topics SET first = ?2, bytes = ?3 WHERE id = ?1")?.execute([topic, cut, size])?;
    if retention.even_unacknowledged {
        for group in groups {
            group::skip(file, group, cut)?;
        }
    }
    Ok((cut - first).unsigned_abs())
}

fn groups(file: &Connection, topic: i64) -> rusqlite::Result<Vec<i64>> {
    file.prepare_cached("SELECT id FROM groups WHERE topic = ?1")?.query_map([topic], |row| row.get(0))?.collect()
}
