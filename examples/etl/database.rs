//! The SQLite database that the flights are loaded into.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Statement, ToSql};
use streamz::{BoxError, Result};

use crate::args::{BESIDE, beside, failure};
use crate::counts::Counts;
use crate::tables::Enriched;

/// Every column but the key may be NULL: what is not available in the input is not available here.
const SCHEMA: &str = "
    CREATE TABLE flights (
        line           INTEGER PRIMARY KEY, -- in the input; its header is line 1
        year           INTEGER,
        month          INTEGER,
        day            INTEGER,
        dep_time       INTEGER NOT NULL,    -- 517 is 5:17; so are the other times
        sched_dep_time INTEGER,
        dep_delay      INTEGER,             -- minutes
        arr_time       INTEGER,
        sched_arr_time INTEGER,
        arr_delay      INTEGER,
        carrier        TEXT,
        airline        TEXT,
        flight         INTEGER,
        tailnum        TEXT,
        origin         TEXT,
        origin_name    TEXT,
        origin_lat     REAL,
        origin_lon     REAL,
        dest           TEXT,
        dest_name      TEXT,
        dest_lat       REAL,
        dest_lon       REAL,
        air_time       INTEGER,             -- minutes
        distance       INTEGER,             -- miles
        hour           INTEGER,
        minute         INTEGER,
        time_hour      TEXT                 -- UTC
    ) STRICT;";

const INSERT: &str = "INSERT INTO flights VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";

/// With a write-ahead log a commit survives the end of the program, however it ends. It need not wait for the disk, so
/// that the last commits may be lost, but no more than that, when the power fails.
const SETTINGS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA cache_size = -16000;";

/// What every SQLite file that is not empty begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// A database with an empty table of flights, ready to be loaded.
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
}

/// Whether [`Database::create`] will be allowed to create it.
pub(crate) fn check(path: &Path, replace: bool) -> Result<(), BoxError> {
    let shown = path.display();
    let meta = match path.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        meta => meta.map_err(failure("cannot create database", path))?,
    };
    if meta.is_dir() {
        return Err(format!("cannot create database {shown}: it is a directory").into());
    }
    if !replace {
        return Err(format!("database {shown} exists; --force replaces it").into());
    }
    let mut start = Vec::new();
    let file = File::open(path).map_err(failure("cannot replace database", path))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut start).map_err(failure("cannot replace database", path))?;
    if !start.is_empty() && start != MAGIC {
        return Err(format!("{shown} is not an SQLite database; it is not replaced").into());
    }
    if start.is_empty() { Ok(()) } else { check_lock(path) }
}

/// Refuses a database that another program is writing: replaced, it would take that program's rows with it.
fn check_lock(path: &Path) -> Result<(), BoxError> {
    let lock = || -> rusqlite::Result<()> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(Duration::ZERO)?;
        connection.execute_batch("BEGIN EXCLUSIVE; ROLLBACK;")
    };
    match lock() {
        Err(error)
            if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) =>
        {
            Err(cannot("replace", path)(error))
        }
        // One that is damaged may be replaced.
        _ => Ok(()),
    }
}

impl Database {
    pub(crate) fn create(path: &Path, replace: bool) -> Result<Self, BoxError> {
        let failed = || failure("cannot create database", path);
        if replace {
            // A log that is left over would be taken for that of the new database.
            for file in BESIDE.map(|suffix| beside(path, suffix)).iter().map(PathBuf::as_path).chain([path]) {
                remove(file).map_err(failure("cannot replace database", path))?;
            }
        }
        // Fails if it has come into being since we looked.
        File::create_new(path).map_err(failed())?;
        // One thread at a time uses it, which Rust sees to: SQLite's own lock, taken for each value, is not needed.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(cannot("create", path))?;
        connection.execute_batch(SETTINGS).map_err(cannot("create", path))?;
        connection.execute_batch(SCHEMA).map_err(cannot("create", path))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Loads all rows in one transaction, or none of them.
    pub(crate) fn load(&mut self, rows: &[Enriched], counts: &Counts) -> Result<(), BoxError> {
        self.insert_all(rows).map_err(cannot("write to", &self.path))?;
        counts.loaded.add(rows.len() as u64);
        Ok(())
    }

    fn insert_all(&mut self, rows: &[Enriched]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut insert = transaction.prepare_cached(INSERT)?;
        for row in rows {
            bind(&mut insert, row)?;
            insert.raw_execute()?;
        }
        drop(insert);
        transaction.commit()
    }

    /// Closes the database, so that it is one file and its log is gone.
    pub(crate) fn close(self) -> Result<(), BoxError> {
        self.connection.close().map_err(|(_, error)| cannot("close", &self.path)(error))
    }
}

fn bind(insert: &mut Statement<'_>, enriched: &Enriched) -> rusqlite::Result<()> {
    let Enriched { line, flight, airline, origin, dest } = enriched;
    let mut values = Values { insert, index: 0 };
    // A file of more lines than SQLite can count has not been seen yet.
    values.add(i64::try_from(*line).unwrap_or(i64::MAX))?;
    values.add(flight.year)?;
    values.add(flight.month)?;
    values.add(flight.day)?;
    values.add(flight.dep_time)?;
    values.add(flight.sched_dep_time)?;
    values.add(flight.dep_delay)?;
    values.add(flight.arr_time)?;
    values.add(flight.sched_arr_time)?;
    values.add(flight.arr_delay)?;
    values.add(flight.carrier.as_deref())?;
    values.add(airline.as_ref().map(|airline| &*airline.name))?;
    values.add(flight.flight)?;
    values.add(flight.tailnum.as_deref())?;
    for (code, airport) in [(&flight.origin, origin), (&flight.dest, dest)] {
        values.add(code.as_deref())?;
        values.add(airport.as_ref().map(|airport| &*airport.name))?;
        values.add(airport.as_ref().map(|airport| airport.lat))?;
        values.add(airport.as_ref().map(|airport| airport.lon))?;
    }
    values.add(flight.air_time)?;
    values.add(flight.distance)?;
    values.add(flight.hour)?;
    values.add(flight.minute)?;
    values.add(flight.time_hour.as_deref())
}

/// The parameters of a statement, one after the other.
struct Values<'a, 's> {
    insert: &'a mut Statement<'s>,
    index: usize,
}

impl Values<'_, '_> {
    fn add(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.index += 1;
        self.insert.raw_bind_parameter(self.index, value)
    }
}

fn cannot(what: &str, path: &Path) -> impl FnOnce(rusqlite::Error) -> BoxError {
    move |error| format!("cannot {what} database {}: {error}", path.display()).into()
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
