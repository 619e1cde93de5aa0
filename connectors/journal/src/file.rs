//! Opens the file, and creates its tables.
//!
//! # The schema
//!
//! - `topics`: a row for each topic. The records at `first <= position < next` exist.
//! - `records_N`: the records of topic number `N`. Each topic has its own table, so records are always appended at the
//!   end of one.
//! - `groups`: a row for each consumer group; positions below `next` have been taken.
//! - `held`: ranges of positions that a group has taken and not acknowledged. See `group.rs`.
//!
//! The numbers of topics and groups are never reused, so a handle of a removed one does not affect another.
//!
//! `application_id` marks the file as a journal, `user_version` is the version of the schema.

use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use streamz::Clock;

use crate::error::Reason;
use crate::journal::Synchronous;

/// "strj".
const APPLICATION: i64 = 0x7374_726a;
const SCHEMA: i64 = 1;

const TABLES: &str = "
    CREATE TABLE topics (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        first INTEGER NOT NULL DEFAULT 1,
        next INTEGER NOT NULL DEFAULT 1,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE groups (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        topic INTEGER NOT NULL REFERENCES topics,
        name TEXT NOT NULL,
        start INTEGER NOT NULL,
        next INTEGER NOT NULL,
        look_at INTEGER NOT NULL DEFAULT 9223372036854775807,
        looked INTEGER NOT NULL DEFAULT -9223372036854775808,
        redelivered INTEGER NOT NULL DEFAULT 0,
        skipped INTEGER NOT NULL DEFAULT 0,
        UNIQUE (topic, name)
    ) STRICT;
    CREATE TABLE held (
        group_id INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        owner INTEGER NOT NULL,
        consumer TEXT NOT NULL,
        expires INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        PRIMARY KEY (group_id, first)
    ) STRICT, WITHOUT ROWID;
";

/// The size of the write-ahead log at which it is copied into the file, in pages of 4 KiB. SQLite's default is 1,000.
/// Each copy costs two or three syncs of the disk.
const CHECKPOINT_PAGES: i64 = 4_000;

/// The size to which a log that has grown is truncated, in bytes.
const LOG_BYTES: i64 = 64 << 20;

/// Connects to the journal in a file. Creates the file and the tables if they are missing.
pub(crate) fn connect(path: &Path, busy_timeout: Duration, synchronous: Synchronous) -> Result<Connection, Reason> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut file = Connection::open_with_flags(path, flags)?;
    set_busy_timeout(&mut file, busy_timeout)?;
    // Before anything is changed: the file may belong to another application.
    let is_new = look(&file.transaction()?)?;
    if file.is_readonly("main")? {
        return Err(read_only().into());
    }
    use_wal(&file, busy_timeout)?;
    file.pragma_update(None, "synchronous", synchronous.name())?;
    file.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    file.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    file.set_prepared_statement_cache_capacity(64);
    if is_new {
        make_tables(&mut file)?;
    }
    Ok(file)
}

/// Sets how long a call waits for a lock that another connection holds. SQLite's own handler first sleeps for a
/// millisecond, in which the other one may have committed twenty times.
pub(crate) fn set_busy_timeout(file: &mut Connection, timeout: Duration) -> rusqlite::Result<()> {
    let mut start = now();
    file.busy_handler(Some(move |tries: i32| {
        if tries == 0 {
            start = now();
        }
        if now() - start >= timeout {
            return false;
        }
        match tries {
            0..4 => std::thread::yield_now(),
            _ => pause(Duration::from_micros(50 << (tries - 4).min(6))),
        }
        true
    }))
}

/// Returns whether the file is empty. Refuses a file that is not a journal, or too new. Checks in a transaction,
/// because another process may be creating the tables.
fn look(file: &Transaction<'_>) -> Result<bool, Reason> {
    let number = |pragma| file.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let tables = file.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    let (application, version) = (number("application_id")?, number("user_version")?);
    match (application, version) {
        (0, 0) if tables == 0 => Ok(true),
        (APPLICATION, ..=SCHEMA) => Ok(false),
        (APPLICATION, found) => Err(Reason::NewerSchema { found, supported: SCHEMA }),
        _ => Err(Reason::NotAJournal),
    }
}

/// Changing the mode of the file for the first time needs exclusive access, for which SQLite does not wait by itself.
fn use_wal(file: &Connection, busy_timeout: Duration) -> Result<(), Reason> {
    let deadline = now().checked_add(busy_timeout);
    loop {
        let mode = file.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
            Ok(_) => return Err(Reason::NoWal),
            Err(error) if is_busy(&error) && deadline.is_none_or(|deadline| now() < deadline) => {
                pause(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn make_tables(file: &mut Connection) -> Result<(), Reason> {
    let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    if look(&transaction)? {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", SCHEMA)?;
    }
    Ok(transaction.commit()?)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn read_only() -> rusqlite::Error {
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
    rusqlite::Error::SqliteFailure(error, Some("the file cannot be written".into()))
}

/// Real time, whatever clock the leases use.
pub(crate) fn now() -> Instant {
    Clock::default().now()
}

fn pause(time: Duration) {
    let nothing = Mutex::new(());
    Condvar::new().wait_for(&mut nothing.lock(), time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_the_requested_settings() {
        let directory = tempfile::tempdir().unwrap();
        for (synchronous, number) in [(Synchronous::Normal, 1), (Synchronous::Full, 2)] {
            let file = connect(&directory.path().join("file"), Duration::from_secs(1), synchronous).unwrap();
            let pragma = |name| file.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(pragma("synchronous"), number);
            assert_eq!(pragma("wal_autocheckpoint"), CHECKPOINT_PAGES);
            assert_eq!((pragma("application_id"), pragma("user_version")), (APPLICATION, SCHEMA));
        }
    }
}
