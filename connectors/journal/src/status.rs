//! [`TopicStatus`] and [`GroupStatus`]: for display and for alerts.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::group::{self, Held};
use crate::journal::{find_group, records};

/// The state of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStatus {
    /// Its name.
    pub topic: String,
    /// The position of the oldest record in the topic.
    pub first: i64,
    /// The position that the next record will have.
    pub next: i64,
    /// The bytes of keys, payloads and headers in the topic.
    pub bytes: u64,
    /// Its consumer groups.
    pub groups: Vec<GroupStatus>,
}

/// The state of a consumer group. Each record from the start position of the group is counted in one of `backlog`,
/// `in_flight`, `acknowledged` and `skipped`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// The name of the topic.
    pub topic: String,
    /// Its name.
    pub group: String,
    /// The number of records that could be taken now: those never taken, those given back, and those whose lease has
    /// expired. Alert when it grows.
    pub backlog: u64,
    /// The number of records that consumers have taken and not acknowledged, under a lease that has not expired.
    pub in_flight: u64,
    /// The number of acknowledged records.
    pub acknowledged: u64,
    /// The number of records that were removed before they had been acknowledged: see
    /// [`Retention::even_unacknowledged`](crate::Retention::even_unacknowledged). Alert when it is not 0.
    pub skipped: u64,
    /// The number of redeliveries. Alert when it grows continuously: a record may be killing its consumers.
    pub redelivered: u64,
    /// All records below this position have been acknowledged or skipped.
    pub low_water: i64,
    /// The age of the oldest unacknowledged record, by its time. `None` if there is none. Alert when it is longer than
    /// a record may wait.
    pub oldest_unacknowledged: Option<Duration>,
    /// The consumers that hold records, by name.
    pub consumers: Vec<ConsumerStatus>,
}

/// The records that a consumer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStatus {
    /// Its name.
    pub consumer: String,
    /// The number of records it holds.
    pub in_flight: u64,
    /// The time until the first of its leases expires.
    pub lease_left: Duration,
}

impl GroupStatus {
    /// Returns the number of records that have not been acknowledged: `backlog` and `in_flight`.
    pub fn unacknowledged(&self) -> u64 {
        self.backlog + self.in_flight
    }
}

pub(crate) fn all(file: &mut Connection, now: i64) -> rusqlite::Result<Vec<TopicStatus>> {
    // In a transaction, so that all values are of the same moment.
    let file = file.transaction()?;
    let mut select = file.prepare_cached("SELECT id, name, first, next, bytes FROM topics ORDER BY id")?;
    let topics = select.query_map([], |row| {
        let id: i64 = row.get(0)?;
        let bytes: i64 = row.get(4)?;
        let (topic, first, next) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok((id, TopicStatus { topic, first, next, bytes: bytes.unsigned_abs(), groups: Vec::new() }))
    })?;
    let mut all = Vec::new();
    for topic in topics {
        let (id, mut status) = topic?;
        let mut select = file.prepare_cached("SELECT id FROM groups WHERE topic = ?1 ORDER BY id")?;
        for group in select.query_map([id], |row| row.get(0))? {
            status.groups.push(group_status(&file, group?, now)?);
        }
        all.push(status);
    }
    Ok(all)
}

pub(crate) fn one(file: &mut Connection, topic: &str, group: &str, now: i64) -> rusqlite::Result<Option<GroupStatus>> {
    let file = file.transaction()?;
    let Some(id) = find_group(&file, topic, group)? else { return Ok(None) };
    group_status(&file, id, now).map(Some)
}

fn group_status(file: &Transaction<'_>, group: i64, now: i64) -> rusqlite::Result<GroupStatus> {
    let sql = "SELECT t.id, t.name, g.name, g.start, g.next, t.next, g.redelivered, g.skipped
        FROM groups g JOIN topics t ON t.id = g.topic WHERE g.id = ?1";
    let mut select = file.prepare_cached(sql)?;
    let (topic, mut status, start, next, end) = select.query_row([group], |row| {
        let (start, next, end): (i64, i64, i64) = (row.get(3)?, row.get(4)?, row.get(5)?);
        let (redelivered, skipped): (i64, i64) = (row.get(6)?, row.get(7)?);
        let status = GroupStatus {
            topic: row.get(1)?,
            group: row.get(2)?,
            backlog: (end - next).unsigned_abs(),
            in_flight: 0,
            acknowledged: 0,
            skipped: skipped.unsigned_abs(),
            redelivered: redelivered.unsigned_abs(),
            low_water: group::low_water(file, group)?,
            oldest_unacknowledged: None,
            consumers: Vec::new(),
        };
        Ok((row.get::<_, i64>(0)?, status, start, next, end))
    })?;
    let mut held = 0;
    let mut select = file.prepare_cached(
        "SELECT consumer, sum(last - first + 1), min(expires) FROM held WHERE group_id = ?1 AND expires > ?2
            GROUP BY owner ORDER BY consumer, owner",
    )?;
    let consumers = select.query_map([group, now], |row| {
        let (count, expires): (i64, i64) = (row.get(1)?, row.get(2)?);
        let lease_left = Duration::from_millis(expires.saturating_sub(now).unsigned_abs());
        Ok(ConsumerStatus { consumer: row.get(0)?, in_flight: count.unsigned_abs(), lease_left })
    })?;
    for consumer in consumers {
        let consumer = consumer?;
        status.in_flight += consumer.in_flight;
        status.consumers.push(consumer);
    }
    for range in group::ranges(file, group)? {
        held += range.len();
        if range.expires <= now {
            status.backlog += Held::len(&range);
        }
    }
    status.acknowledged = (next - start).unsigned_abs().saturating_sub(held).saturating_sub(status.skipped);
    if status.low_water < end {
        let sql = format!("SELECT time FROM {} WHERE position >= ?1 ORDER BY position LIMIT 1", records(topic));
        let time: Option<i64> =
            file.prepare_cached(&sql)?.query_row([status.low_water], |row| row.get(0)).optional()?;
        let age = time.map(|time| Duration::from_millis(now.saturating_sub(time).max(0).unsigned_abs()));
        status.oldest_unacknowledged = age;
    }
    Ok(status)
}
