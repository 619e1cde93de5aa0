//! Rows and position in one transaction.

use rusqlite::Connection;
use streamz_journal::{JournalErrorKind, Progress};

fn database() -> Connection {
    let database = Connection::open_in_memory().unwrap();
    database.execute_batch("CREATE TABLE rows (n INTEGER)").unwrap();
    database
}

fn rows(database: &Connection) -> i64 {
    database.query_row("SELECT count(*) FROM rows", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_job_starts_without_a_position_and_continues_after_it() {
    let mut database = database();
    let progress = Progress::open(&database, "job").unwrap();
    assert_eq!(progress.load::<i64>(&database).unwrap(), None);
    let transaction = database.transaction().unwrap();
    progress.store(&transaction, 7).unwrap();
    transaction.commit().unwrap();
    let again = Progress::open(&database, "job").unwrap();
    assert_eq!(again.load(&database).unwrap(), Some(7));
    let other = Progress::open(&database, "other").unwrap();
    assert_eq!(other.load::<i64>(&database).unwrap(), None);
}

#[test]
fn a_rolled_back_transaction_stores_no_rows_and_no_position() {
    let mut database = database();
    let progress = Progress::open(&database, "job").unwrap();
    for commits in [true, false] {
        let transaction = database.transaction().unwrap();
        transaction.execute("INSERT INTO rows VALUES (1)", []).unwrap();
        progress.store(&transaction, i64::from(commits)).unwrap();
        if commits {
            transaction.commit().unwrap();
        }
    }
    assert_eq!((rows(&database), progress.load(&database).unwrap()), (1, Some(1)));
}

#[test]
fn an_instance_that_was_taken_over_cannot_store() {
    let mut database = database();
    let old = Progress::open(&database, "job").unwrap();
    old.store(&database, 1).unwrap();
    let new = Progress::open(&database, "job").unwrap();
    {
        let transaction = database.transaction().unwrap();
        transaction.execute("INSERT INTO rows VALUES (1)", []).unwrap();
        let error = old.store(&transaction, 2).unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (JournalErrorKind::TakenOver, false));
        assert_eq!(
            error.to_string(),
            "database ``, job `job`: cannot store the progress: another instance of the job has taken over"
        );
    }
    assert_eq!((rows(&database), new.load(&database).unwrap()), (0, Some(1)));
    new.store(&database, 2).unwrap();
}

#[test]
fn peek_neither_writes_nor_takes_over() {
    let database = database();
    assert_eq!(Progress::peek::<i64>(&database, "job").unwrap(), None);
    let tables: i64 = database.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1, "only that of the rows");
    let progress = Progress::open(&database, "job").unwrap();
    assert_eq!(Progress::peek::<i64>(&database, "job").unwrap(), None);
    progress.store(&database, 1).unwrap();
    assert_eq!(Progress::peek(&database, "job").unwrap(), Some(1));
    assert_eq!(Progress::peek::<i64>(&database, "other").unwrap(), None);
    progress.store(&database, 2).unwrap();
    assert!(Progress::peek::<String>(&database, "job").is_err());
}

#[test]
fn positions_are_of_any_type_that_sqlite_stores() {
    let database = database();
    let progress = Progress::open(&database, "job").unwrap();
    progress.store(&database, "file-3.csv:1200").unwrap();
    assert_eq!(progress.load::<String>(&database).unwrap().as_deref(), Some("file-3.csv:1200"));
    assert!(progress.load::<i64>(&database).is_err());
    progress.store(&database, vec![0u8, 255]).unwrap();
    assert_eq!(progress.load::<Vec<u8>>(&database).unwrap(), Some(vec![0, 255]));
}
