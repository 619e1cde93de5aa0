//! The progress of a consumer group, in the tables `groups` and `held`.
//!
//! # Invariants
//!
//! 1. A position below the group's `next` is acknowledged if and only if no row of `held` covers it. So acknowledged
//!    records cost nothing, however many there are, and in whatever order they were acknowledged: only records in
//!    flight have rows.
//! 2. The ranges of a group do not overlap, and lie below `next`.
//! 3. A range is free if it has expired (`expires <= now`); one that was given back counts as expired long ago
//!    ([`FREE`]). `look_at` is no later than the earliest `expires`, so the ranges need not be checked before that
//!    time.
//! 4. Every function here runs in a transaction that has the write lock from its beginning.
//!
//! # Clocks
//!
//! Leases are measured in wall time, the only time that processes share. If it jumps ahead, leases expire early:
//! records are delivered twice. If it jumps back, they would expire late, by as much as the jump: `looked`, the latest
//! time at which the ranges were checked, reveals it, and each lease that has more left than its whole length is
//! restarted.

use rusqlite::{Connection, Row, params};

/// The expiry time of a range that was given back: earlier than any clock shows.
const FREE: i64 = i64::MIN;

/// A consumer that takes records.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    /// Different for each inbox that is opened.
    pub(crate) id: i64,
    /// The readable name of the consumer.
    pub(crate) consumer: String,
    /// In milliseconds.
    pub(crate) lease: i64,
}

/// A range of positions that a group has taken and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// How many times it has been delivered.
    pub(crate) attempt: u32,
    pub(crate) owner: i64,
    pub(crate) expires: i64,
    lease: i64,
}

impl Held {
    pub(crate) fn len(&self) -> u64 {
        (self.last - self.first + 1).unsigned_abs()
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            first: row.get(0)?,
            last: row.get(1)?,
            attempt: row.get(2)?,
            owner: row.get(3)?,
            expires: row.get(4)?,
            lease: row.get(5)?,
        })
    }
}

/// The progress of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    /// The first position that has not been taken.
    pub(crate) next: i64,
    /// The first position that does not exist yet.
    pub(crate) end: i64,
    look_at: i64,
    looked: i64,
}

impl Cursor {
    pub(crate) fn read(file: &Connection, group: i64) -> rusqlite::Result<Self> {
        let sql =
            "SELECT g.next, t.next, g.look_at, g.looked FROM groups g JOIN topics t ON t.id = g.topic WHERE g.id = ?1";
        file.prepare_cached(sql)?.query_row([group], |row| {
            Ok(Self { next: row.get(0)?, end: row.get(1)?, look_at: row.get(2)?, looked: row.get(3)? })
        })
    }

    /// Whether a range may have become free, or the clock was moved back.
    pub(crate) fn must_look(&self, now: i64) -> bool {
        now >= self.look_at || now < self.looked
    }
}

/// The records that a consumer took.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// In the order of their positions.
    pub(crate) ranges: Vec<Held>,
    /// The time until which ranges of other consumers are leased, if they hold everything that remains below the bound.
    pub(crate) others_until: Option<i64>,
    /// Whether every record below the bound has been taken by a consumer.
    pub(crate) at_end: bool,
}

/// Takes up to `max` records with positions below `bound`: first those that have become free, then those never taken.
pub(crate) fn take(
    file: &Connection,
    group: i64,
    owner: &Owner,
    now: i64,
    max: usize,
    bound: i64,
) -> rusqlite::Result<Taken> {
    let cursor = Cursor::read(file, group)?;
    let mut left = i64::try_from(max).unwrap_or(i64::MAX);
    let mut taken = Taken::default();
    let (mut look_at, mut redelivered) = (cursor.look_at, 0);
    let end = cursor.end.min(bound);
    if cursor.must_look(now) || (bound < i64::MAX && cursor.next >= end) {
        look_at = i64::MAX;
        for mut range in ranges(file, group)? {
            if range.expires.saturating_sub(now) > range.lease {
                range.expires = now.saturating_add(range.lease);
                let sql = "UPDATE held SET expires = ?3 WHERE group_id = ?1 AND first = ?2";
                file.prepare_cached(sql)?.execute([group, range.first, range.expires])?;
            }
            if range.expires > now || range.first >= bound || left == 0 {
                look_at = look_at.min(range.expires);
                if range.expires > now && range.first < bound && range.owner != owner.id {
                    taken.others_until = taken.others_until.max(Some(range.expires));
                }
                continue;
            }
            let rest = Held { first: range.first.saturating_add(left).min(bound), ..range };
            remove(file, group, range.first)?;
            if rest.first <= range.last {
                insert(file, group, &rest, "")?;
                look_at = look_at.min(rest.expires);
                range.last = rest.first - 1;
            }
            range.attempt = range.attempt.saturating_add(1);
            left -= range.last - range.first + 1;
            redelivered += range.last - range.first + 1;
            taken.ranges.push(range);
        }
    }
    let mut next = cursor.next;
    if left > 0 && next < end {
        let last = next.saturating_add(left).min(end) - 1;
        taken.ranges.push(Held { first: next, last, attempt: 1, owner: owner.id, expires: 0, lease: owner.lease });
        next = last + 1;
    }
    let expires = now.saturating_add(owner.lease);
    for range in &mut taken.ranges {
        (range.owner, range.expires, range.lease) = (owner.id, expires, owner.lease);
        insert(file, group, range, &owner.consumer)?;
        look_at = look_at.min(expires);
    }
    taken.at_end = next >= bound;
    let sql = "UPDATE groups SET next = ?2, look_at = ?3, looked = ?4, redelivered = redelivered + ?5 WHERE id = ?1";
    file.prepare_cached(sql)?.execute([group, next, look_at, now, redelivered])?;
    Ok(taken)
}

/// Acknowledges the positions from `first` to `last`, whichever consumer holds them. Positions that are not held have
/// been acknowledged.
pub(crate) fn acknowledge(file: &Connection, group: i64, first: i64, last: i64) -> rusqlite::Result<()> {
    cut(file, group, first, last, |_| true).map(drop)
}

/// Gives back the positions from `first` to `last`, if they are still held from that attempt. Each attempt is made by
/// one consumer.
pub(crate) fn give_back(file: &Connection, group: i64, attempt: u32, first: i64, last: i64) -> rusqlite::Result<()> {
    let mut given = cut(file, group, first, last, |range| range.attempt == attempt)?;
    for range in &mut given {
        range.expires = FREE;
        insert(file, group, range, "")?;
    }
    if !given.is_empty() {
        look_soon(file, group)?;
    }
    Ok(())
}

/// Restarts the lease of everything that `owner` holds.
pub(crate) fn keep_alive(file: &Connection, group: i64, owner: &Owner, now: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE held SET expires = ?3 WHERE group_id = ?1 AND owner = ?2 AND expires > ?4";
    file.prepare_cached(sql)?.execute([group, owner.id, now.saturating_add(owner.lease), FREE]).map(drop)
}

/// Frees everything that the consumers of this name hold.
pub(crate) fn free(file: &Connection, group: i64, consumer: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE held SET expires = ?3 WHERE group_id = ?1 AND consumer = ?2";
    if file.prepare_cached(sql)?.execute((group, consumer, FREE))? > 0 {
        look_soon(file, group)?;
    }
    Ok(())
}

/// Notes that a range has become free.
fn look_soon(file: &Connection, group: i64) -> rusqlite::Result<()> {
    file.prepare_cached("UPDATE groups SET look_at = ?2 WHERE id = ?1")?.execute([group, FREE]).map(drop)
}

/// Removes the positions from `first` to `last` from the `wanted` ranges, and returns what was removed.
fn cut(
    file: &Connection,
    group: i64,
    first: i64,
    last: i64,
    wanted: impl Fn(&Held) -> bool,
) -> rusqlite::Result<Vec<Held>> {
    let mut found = Vec::new();
    {
        // Backwards: because they do not overlap, the scan can stop at the first one that ends too early.
        let sql = "SELECT first, last, attempt, owner, expires, lease, consumer FROM held
            WHERE group_id = ?1 AND first <= ?2 ORDER BY first DESC";
        let mut select = file.prepare_cached(sql)?;
        let mut rows = select.query([group, last])?;
        while let Some(row) = rows.next()? {
            let range = Held::read(row)?;
            if range.last < first {
                break;
            }
            if wanted(&range) {
                found.push((range, row.get::<_, String>(6)?));
            }
        }
    }
    let mut taken = Vec::with_capacity(found.len());
    for (range, consumer) in found {
        remove(file, group, range.first)?;
        if range.first < first {
            insert(file, group, &Held { last: first - 1, ..range }, &consumer)?;
        }
        if range.last > last {
            insert(file, group, &Held { first: last + 1, ..range }, &consumer)?;
        }
        taken.push(Held { first: range.first.max(first), last: range.last.min(last), ..range });
    }
    Ok(taken)
}

/// All ranges of a group, in order.
pub(crate) fn ranges(file: &Connection, group: i64) -> rusqlite::Result<Vec<Held>> {
    let sql = "SELECT first, last, attempt, owner, expires, lease FROM held WHERE group_id = ?1 ORDER BY first";
    file.prepare_cached(sql)?.query_map([group], Held::read)?.collect()
}

/// The first position that has not been acknowledged.
pub(crate) fn low_water(file: &Connection, group: i64) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce((SELECT min(first) FROM held WHERE group_id = ?1), next) FROM groups WHERE id = ?1";
    file.prepare_cached(sql)?.query_row([group], |row| row.get(0))
}

fn remove(file: &Connection, group: i64, first: i64) -> rusqlite::Result<()> {
    file.prepare_cached("DELETE FROM held WHERE group_id = ?1 AND first = ?2")?.execute([group, first]).map(drop)
}

fn insert(file: &Connection, group: i64, range: &Held, consumer: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO held (group_id, first, last, attempt, owner, expires, lease, consumer)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let Held { first, last, attempt, owner, expires, lease } = range;
    let values = params![group, first, last, attempt, owner, expires, lease, consumer];
    file.prepare_cached(sql)?.execute(values).map(drop)
}

/// Adjusts the group: the records below `cut` no longer exist.
pub(crate) fn skip(file: &Connection, group: i64, cut: i64) -> rusqlite::Result<()> {
    let gone: u64 = self::cut(file, group, i64::MIN, cut - 1, |_| true)?.iter().map(Held::len).sum();
    let gone = i64::try_from(gone).unwrap_or(i64::MAX);
    let sql = "UPDATE groups SET skipped = skipped + ?2 + max(0, ?3 - next), next = max(next, ?3) WHERE id = ?1";
    file.prepare_cached(sql)?.execute([group, gone, cut]).map(drop)
}
