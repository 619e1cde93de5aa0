//! [`Progress`]: exactly once, into a database.

use std::sync::Arc;

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, OptionalExtension};

use crate::error::{JournalError, Place, Reason};

/// The position of a job, stored in the database that it writes to.
///
/// A job that stores its rows and its position *in one transaction* writes each row exactly once: after a crash, either
/// both are stored or neither is, and the job continues after the position. That works with any source that can be read
/// from a position: a topic of a journal ([`Journal::read`](crate::Journal::read)), a line number of a file, an offset.
///
/// ```
/// use rusqlite::Connection;
/// use streamz_journal::Progress;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut database = Connection::open_in_memory()?;
/// database.execute_batch("CREATE TABLE words (word TEXT)")?;
/// let lines = ["one", "two", "three"];
///
/// for run in 0..2 {
///     // The second run finds everything done.
///     let progress = Progress::open(&database, "import words")?;
///     let done: i64 = progress.load(&database)?.unwrap_or(0);
///     for (number, line) in (1..).zip(lines).skip(done as usize) {
///         let transaction = database.transaction()?;
///         transaction.execute("INSERT INTO words VALUES (?1)", [line])?;
///         progress.store(&transaction, number)?;
///         transaction.commit()?;
///     }
/// }
/// let count: i64 = database.query_row("SELECT count(*) FROM words", [], |row| row.get(0))?;
/// assert_eq!(count, 3);
/// # Ok(())
/// # }
/// ```
///
/// # Two instances
/// Each instance that opens the progress of a job takes over from the previous one. If that is still running, its next
/// [`store`](Self::store) fails, and so does its transaction: the two never both write.
///
/// # With a consumer group
/// The sink of a pipeline can store its progress, too, if the pipeline keeps the order of the records and is the only
/// consumer of its group. Records redelivered after a crash are then at or below the position, and the sink skips them.
///
/// # Several positions
/// A source with several positions, such as the partitions of a topic, has a job for each: `import/3`.
///
/// The table is called `streamz_progress`.
#[derive(Debug, Clone)]
pub struct Progress {
    place: Place,
    job: Arc<str>,
    /// Counts the instances of the job.
    instance: i64,
}

impl Progress {
    /// Takes over the progress of `job` in the database of `connection`. Creates the table if it is missing.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn open(connection: &Connection, job: &str) -> Result<Self, JournalError> {
        let place = place(connection, job);
        let take_over = || -> rusqlite::Result<i64> {
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS streamz_progress (
                    job TEXT PRIMARY KEY, instance INTEGER NOT NULL, position ANY
                ) STRICT, WITHOUT ROWID",
            )?;
            let sql = "INSERT INTO streamz_progress (job, instance) VALUES (?1, 1)
                ON CONFLICT (job) DO UPDATE SET instance = instance + 1 RETURNING instance";
            connection.query_row(sql, [job], |row| row.get(0))
        };
        let instance = take_over().map_err(|e| place.error("take over the progress", e))?;
        Ok(Self { place, job: job.into(), instance })
    }

    /// Returns the position that `job` stored last in the database of `connection`, without taking the job over and
    /// without writing. `None` if the job has not stored any yet.
    ///
    /// # Errors
    /// If the database cannot be read, or the position has another type.
    pub fn peek<P: FromSql>(connection: &Connection, job: &str) -> Result<Option<P>, JournalError> {
        let exists = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'streamz_progress'";
        let look = || match connection.query_row(exists, [], |row| row.get::<_, i64>(0))? {
            0 => Ok(None),
            _ => position(connection, job),
        };
        look().map_err(|e| place(connection, job).error("load the progress", e))
    }

    /// Returns the position that was stored last, or `None` if the job has not stored any yet.
    ///
    /// # Errors
    /// If the database cannot be read, or the position has another type.
    pub fn load<P: FromSql>(&self, connection: &Connection) -> Result<Option<P>, JournalError> {
        position(connection, &self.job).map_err(|e| self.place.error("load the progress", e))
    }

    /// Stores a position. Call it in the transaction that stores the rows, and commit that.
    ///
    /// # Errors
    /// If another instance of the job has taken over ([`TakenOver`](crate::JournalErrorKind::TakenOver)), or the
    /// database cannot be written. In that case, roll back.
    pub fn store(&self, transaction: &Connection, position: impl ToSql) -> Result<(), JournalError> {
        let store = || -> Result<(), Reason> {
            let sql = "UPDATE streamz_progress SET position = ?3 WHERE job = ?1 AND instance = ?2";
            let mut update = transaction.prepare_cached(sql)?;
            let changed = update.execute((&*self.job, self.instance, position))?;
            if changed == 1 { Ok(()) } else { Err(Reason::TakenOver) }
        };
        store().map_err(|e| self.place.error("store the progress", e))
    }
}

fn place(connection: &Connection, job: &str) -> Place {
    let path = std::path::Path::new(connection.path().unwrap_or_default());
    Place::new(path.into()).job(job)
}

fn position<P: FromSql>(connection: &Connection, job: &str) -> rusqlite::Result<Option<P>> {
    let sql = "SELECT position FROM streamz_progress WHERE job = ?1";
    connection.query_row(sql, [job], |row| row.get::<_, Option<P>>(0)).optional().map(Option::flatten)
}
