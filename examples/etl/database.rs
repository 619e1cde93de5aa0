//! The SQLite database that the flights are loaded into: what an earlier run has left there, a new one, and a transaction for
//! each batch.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Statement, ToSql, TransactionBehavior};
use streamz::{BoxError, Result};
use streamz_journal::Progress;

use crate::args::{BESIDE, Existing, beside, failure};
use crate::counts::Counts;
use crate::dead_letters::Reasons;
use crate::fingerprint::Source;
use crate::position::{Earlier, Position};
use crate::same_file::Identity;
use crate::settled::Settled;
use crate::summary::note;
use crate::tables::{Airport, Enriched};

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
    ) STRICT;
    CREATE TABLE dead_letters (
        line           INTEGER PRIMARY KEY, -- as above
        json           TEXT NOT NULL,       -- the line of the dead-letter file
        category       TEXT NOT NULL        -- of the reason
    ) STRICT;";

const INSERT: &str =
    "INSERT INTO flights VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
const INSERT_LETTER: &str = "INSERT INTO dead_letters VALUES (?,?,?)";

/// What the position is stored under.
const JOB: &str = "etl";

/// With a write-ahead log a commit survives the end of the program, however it ends. It need not wait for the disk, so
/// that the last commits may be lost, but no more than that, when the power fails.
///
/// A commit that finds 1024 pages in the log, which is 16 MiB, copies them into the database. [`Checkpointer`] copies most
/// of them before that.
const SETTINGS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA wal_autocheckpoint = 1024;
    PRAGMA synchronous = NORMAL;
    PRAGMA cache_size = -16000;";

/// Rows are appended, so large pages mean fewer writes.
const PAGE_SIZE: &str = "PRAGMA page_size = 16384";

/// What every SQLite file that is not empty begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// A database that rows are stored in, together with the position of the last one.
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
    /// The file that is open. It may be removed or replaced in the meantime.
    file: Option<Identity>,
    progress: Progress,
    source: Source,
    /// The line of the last row that was stored.
    line: u64,
}

/// Finds out whether [`Database::open`] will be allowed to open it, and what an earlier run has left there for this one to
/// continue.
pub(crate) fn check(path: &Path, existing: Existing) -> Result<Option<Earlier>, BoxError> {
    let shown = path.display();
    let meta = match path.metadata() {
        // Said here, where the database is looked at first: its dead letters may lie in the same folder.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return if path.parent().is_some_and(Path::is_dir) {
                Ok(None)
            } else {
                Err(format!("cannot create database {shown}: its folder does not exist").into())
            };
        }
        meta => meta.map_err(failure("cannot create database", path))?,
    };
    let kind = if meta.is_dir() { "a directory" } else { "not a regular file" };
    if !meta.is_file() {
        return Err(format!("cannot create database {shown}: it is {kind}").into());
    }
    let (cannot_open, not_done) = match existing {
        Existing::Refuse => {
            return Err(format!(
                "database {shown} exists; --resume continues it, --force replaces it"
            )
            .into());
        }
        Existing::Replace => ("cannot replace database", "is not replaced"),
        Existing::Resume => ("cannot resume database", "cannot be resumed"),
    };
    let mut start = Vec::new();
    let file = File::open(path).map_err(failure(cannot_open, path))?;
    file.take(MAGIC.len() as u64)
        .read_to_end(&mut start)
        .map_err(failure(cannot_open, path))?;
    if start.is_empty() {
        // Made by a run that was killed right after.
        return Ok(None);
    }
    if start != MAGIC {
        return Err(format!("{shown} is not an SQLite database; it {not_done}").into());
    }
    if existing == Existing::Resume {
        return look(path);
    }
    check_lock(path)?;
    Ok(None)
}

/// What an earlier run has left in a database; nothing if it was killed before it stored anything. Stores
/// nothing, but SQLite may copy the log of a run that was killed into the database.
fn look(path: &Path) -> Result<Option<Earlier>, BoxError> {
    let cannot_read = || cannot("read", path);
    let connection = connect(path).map_err(cannot_read())?;
    let count = |table: &str| count(&connection, table).map_err(cannot_read());
    if count("sqlite_schema")? == 0 {
        return Ok(None);
    }
    let shown = path.display();
    let Some(position) = Progress::peek::<String>(&connection, JOB)? else {
        let why = "it does not say how far it was loaded";
        return Err(
            format!("cannot resume database {shown}: {why}; --force replaces it").into()
        );
    };
    let position: Position = serde_json::from_str(&position).map_err(|error| {
        format!("cannot resume database {shown}: its position is not understood: {error}")
    })?;
    Ok(Some(Earlier { position, loaded: count("flights")?, failed: count("dead_letters")? }))
}

fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM {table}");
    connection.query_row(&sql, [], |row| row.get(0)).map(i64::unsigned_abs)
}

/// Refuses a database that another program has open, before anything else is done. [`empty`] does so again.
fn check_lock(path: &Path) -> Result<(), BoxError> {
    match connect(path).and_then(|connection| lock(&connection)) {
        // One that is damaged may be replaced.
        Err(error) if !is_damage(&error) => Err(cannot("replace", path)(error)),
        _ => Ok(()),
    }
}

/// Locks a database for as long as the connection is open.
fn lock(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::ZERO)?;
    // In this mode, a database with a write-ahead log can only be used by one connection.
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT;")
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Removes everything that is in a database, unless another program has it open. The file stays the same: nothing that
/// another program stores in it in the meantime can be lost with a file that has no name any more.
fn empty(path: &Path) -> rusqlite::Result<()> {
    let connection = connect(path)?;
    lock(&connection)?;
    connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    connection.execute_batch(PAGE_SIZE)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, true)?;
    connection.execute_batch("VACUUM")
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // One thread at a time uses it, which Rust sees to: SQLite's own lock, taken for each value, is not needed.
    Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
}

/// Another program may have a lock for a moment, such as one that finds out whether it may replace the database.
fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    const TRIES: usize = 10;
    for _ in 1..TRIES {
        match connection.execute_batch(SETTINGS) {
            // SQLite waits for a transaction, but not to change the journal.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
            }
            done => return done,
        }
    }
    connection.execute_batch(SETTINGS)
}

impl Database {
    /// Opens the database after [`check`]: continues what that has found, or begins a new one.
    pub(crate) fn open(
        path: &Path,
        existing: Existing,
        earlier: Option<&Earlier>,
        source: Source,
    ) -> Result<Self, BoxError> {
        match existing {
            Existing::Resume if path.exists() => {}
            Existing::Replace if path.exists() => match empty(path) {
                Err(error) if is_damage(&error) => {
                    recreate(path).map_err(failure("cannot replace database", path))?;
                }
                emptied => emptied.map_err(cannot("replace", path))?,
            },
            // Fails if it has come into being since we looked.
            _ => drop(File::create_new(path).map_err(failure("cannot create database", path))?),
        }
        let file = Identity::of_path(path);
        let open = if earlier.is_some() { "open" } else { "create" };
        let mut connection = connect(path).map_err(cannot(open, path))?;
        connection.execute_batch(PAGE_SIZE).map_err(cannot(open, path))?;
        set_up(&connection).map_err(cannot(open, path))?;
        // The lock is taken first: what is read is what will be continued.
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(cannot("write to", path))?;
        let progress = match earlier {
            None => {
                if count(&transaction, "sqlite_schema").map_err(cannot(open, path))? > 0 {
                    let shown = path.display();
                    return Err(format!(
                        "cannot create database {shown}: another run has created it"
                    )
                    .into());
                }
                transaction.execute_batch(SCHEMA).map_err(cannot("create", path))?;
                let progress = Progress::open(&transaction, JOB)?;
                let position = Position { line: 0, rows: None, input: source.fingerprint() };
                progress.store(&transaction, serde_json::to_string(&position)?)?;
                progress
            }
            Some(earlier) => {
                let progress = Progress::open(&transaction, JOB)?;
                if progress.load(&transaction)?
                    != Some(serde_json::to_string(&earlier.position)?)
                {
                    return Err(format!(
                        "cannot resume database {}: another run is writing to it",
                        path.display()
                    )
                    .into());
                }
                progress
            }
        };
        transaction.commit().map_err(cannot("write to", path))?;
        let line = earlier.map_or(0, |earlier| earlier.position.line);
        let database = Self { connection, path: path.to_owned(), file, progress, source, line };
        // The log was opened by its name, too: both belong to the same file.
        database.check_file()?;
        Ok(database)
    }

    /// Stores rows and the position behind them in one transaction, or nothing at all.
    pub(crate) fn store(&mut self, batch: &[Settled], counts: &Counts) -> Result<(), BoxError> {
        let line = batch.iter().map(|settled| settled.line).fold(self.line, u64::max);
        self.transact(batch, line, None)?;
        for settled in batch {
            counts.loaded.add(settled.rows.len() as u64);
            counts.failed.add(settled.letters.len() as u64);
        }
        Ok(())
    }

    fn transact(
        &mut self,
        batch: &[Settled],
        line: u64,
        rows: Option<u64>,
    ) -> Result<(), BoxError> {
        self.check_file()?;
        let cannot_write = || cannot("write to", &self.path);
        let position = Position { line, rows, input: self.source.fingerprint() };
        let immediate = TransactionBehavior::Immediate;
        let transaction =
            self.connection.transaction_with_behavior(immediate).map_err(cannot_write())?;
        // First: it fails if another run has taken over, which may have stored these rows.
        self.progress.store(&transaction, serde_json::to_string(&position)?)?;
        insert(&transaction, batch).map_err(cannot_write())?;
        transaction.commit().map_err(cannot_write())?;
        self.line = line;
        Ok(())
    }

    /// Rows in a file without a name would be lost.
    fn check_file(&self) -> Result<(), BoxError> {
        if Identity::of_path(&self.path) == self.file {
            return Ok(());
        }
        let shown = self.path.display();
        Err(format!("cannot write to database {shown}: it has been removed or replaced").into())
    }

    /// Opens a second connection, to copy the log into the database while rows are being stored. None if that fails: it
    /// only saves time.
    pub(crate) fn checkpointer(&self) -> Option<Checkpointer> {
        let connection = connect(&self.path).ok()?;
        connection.busy_timeout(Duration::ZERO).ok()?;
        let checkpointer = Checkpointer(connection);
        // The log is opened by its name, so at once: later, the name could be that of another one.
        checkpointer.run();
        Some(checkpointer)
    }

    /// Shows each line of the dead-letter file.
    pub(crate) fn for_each_letter(
        &self,
        mut f: impl FnMut(&str) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let cannot_read = || cannot("read", &self.path);
        let sql = "SELECT json FROM dead_letters ORDER BY line";
        let mut select = self.connection.prepare(sql).map_err(cannot_read())?;
        let mut letters = select.query([]).map_err(cannot_read())?;
        while let Some(letter) = letters.next().map_err(cannot_read())? {
            let json: String = letter.get(0).map_err(cannot_read())?;
            f(&json)?;
        }
        Ok(())
    }

    /// Closes the database, so that it is one file and its log is gone, unless another program is using it. Notes first
    /// that the job is complete, if it is: then `rows` is how many rows the input has.
    pub(crate) fn finish(mut self, rows: Option<u64>) -> Result<Reasons, BoxError> {
        if rows.is_some() {
            self.transact(&[], self.line, rows)?;
        }
        let reasons = self.reasons().map_err(cannot("read", &self.path))?;
        // The log may be that of another file by now, which must not lose it.
        self.check_file()?;
        self.empty_log()?;
        self.check_file()?;
        self.connection.close().map_err(|(_, error)| cannot("close", &self.path)(error))?;
        Ok(reasons)
    }

    /// Copies all of the log into the database. SQLite does so when it closes a database, but does not report a failure.
    fn empty_log(&self) -> Result<(), BoxError> {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let is_used = self
            .connection
            .busy_timeout(Duration::from_secs(1))
            .and_then(|()| self.connection.query_row(sql, [], |row| row.get::<_, bool>(0)));
        let (shown, log) = (self.path.display(), beside(&self.path, "-wal"));
        let log = log.display();
        match is_used {
            Ok(false) => Ok(()),
            Ok(true) => {
                note(&format!(
                    "another program is using database {shown}, so its log {log} remains; keep both together"
                ));
                Ok(())
            }
            Err(error) => {
                let why = format!("cannot copy {log} into database {shown}: {error}");
                Err(format!("{why}; keep both together").into())
            }
        }
    }

    fn reasons(&self) -> rusqlite::Result<Reasons> {
        let sql = "SELECT category, count(*) FROM dead_letters GROUP BY category";
        self.connection
            .prepare(sql)?
            .query_map([], |row| Ok((row.get(0)?, row.get(1).map(i64::unsigned_abs)?)))?
            .collect()
    }
}

/// Copies the log into the database, on a different thread from the one that stores rows, so that rows need not wait for
/// the disk.
pub(crate) struct Checkpointer(Connection);

impl Checkpointer {
    /// Copies all commits so far, unless the other thread is copying them. An error is ignored, because the last copy,
    /// made by [`Database::finish`], reports it.
    pub(crate) fn run(&self) {
        let _ = self.0.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }
}

/// Removes a damaged database, and puts an empty file in its place.
fn recreate(path: &Path) -> io::Result<()> {
    // Itself first: if the program is killed in between, no log is taken away from a database that is still there. One that is
    // left over would be taken for that of the new database.
    remove(path)?;
    BESIDE.iter().try_for_each(|suffix| remove(&beside(path, suffix)))?;
    File::create_new(path).map(drop)
}

fn insert(transaction: &Connection, batch: &[Settled]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(INSERT)?;
    let mut before = None;
    for row in batch.iter().flat_map(|settled| &settled.rows) {
        bind(&mut insert, row, before)?;
        insert.raw_execute()?;
        before = Some(row);
    }
    let mut insert_letter = transaction.prepare_cached(INSERT_LETTER)?;
    for letter in batch.iter().flat_map(|settled| &settled.letters) {
        insert_letter.execute((number(letter.line), &letter.json, &*letter.category))?;
    }
    Ok(())
}

/// Binds the columns of a row. Those that are as in the row `before` are bound already.
fn bind(
    insert: &mut Statement<'_>,
    row: &Enriched,
    before: Option<&Enriched>,
) -> rusqlite::Result<()> {
    let mut columns = Columns { insert, row, before, index: 0 };
    columns.add(|row| number(row.line))?;
    columns.add(|row| row.flight.year)?;
    columns.add(|row| row.flight.month)?;
    columns.add(|row| row.flight.day)?;
    columns.add(|row| row.flight.dep_time)?;
    columns.add(|row| row.flight.sched_dep_time)?;
    columns.add(|row| row.flight.dep_delay)?;
    columns.add(|row| row.flight.arr_time)?;
    columns.add(|row| row.flight.sched_arr_time)?;
    columns.add(|row| row.flight.arr_delay)?;
    columns.add(|row| row.flight.carrier.as_deref())?;
    columns.add(|row| row.airline.map(|airline| &*airline.name))?;
    columns.add(|row| row.flight.flight)?;
    columns.add(|row| row.flight.tailnum.as_deref())?;
    columns.add(|row| row.flight.origin.as_deref())?;
    columns.add_airport(|row| row.origin)?;
    columns.add(|row| row.flight.dest.as_deref())?;
    columns.add_airport(|row| row.dest)?;
    columns.add(|row| row.flight.air_time)?;
    columns.add(|row| row.flight.distance)?;
    columns.add(|row| row.flight.hour)?;
    columns.add(|row| row.flight.minute)?;
    columns.add(|row| row.flight.time_hour.as_deref())
}

/// The columns of a row, one after the other.
///
/// SQLite keeps what is bound to a statement. To bind a text means to copy it, and many columns repeat from row to row: the
/// date, the airport and its name. So they are compared, which costs less.
struct Columns<'a, 's> {
    insert: &'a mut Statement<'s>,
    row: &'a Enriched,
    before: Option<&'a Enriched>,
    index: usize,
}

impl<'a> Columns<'a, '_> {
    fn add<T: ToSql + PartialEq>(
        &mut self,
        column: impl Fn(&'a Enriched) -> T,
    ) -> rusqlite::Result<()> {
        self.index += 1;
        let value = column(self.row);
        if self.before.is_some_and(|before| column(before) == value) {
            return Ok(());
        }
        self.insert.raw_bind_parameter(self.index, value)
    }

    fn add_airport(
        &mut self,
        airport: impl Fn(&Enriched) -> Option<&'static Airport>,
    ) -> rusqlite::Result<()> {
        self.add(|row| airport(row).map(|airport| &*airport.name))?;
        self.add(|row| airport(row).map(|airport| airport.lat))?;
        self.add(|row| airport(row).map(|airport| airport.lon))
    }
}

/// The number of a line. A file of more lines than SQLite can count has not been seen yet.
fn number(line: u64) -> i64 {
    i64::try_from(line).unwrap_or(i64::MAX)
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
