//! Processes that are killed in the middle of appends and acknowledgements, and the state they leave.
#![cfg(unix)]

mod common;

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::acknowledge;
use streamz::Pipeline;
use streamz::delivery::{Acker, Inbox};
use streamz_connector_suite::crash::{self, Pool, Worker, kill_at_random};
use streamz_journal::rusqlite::Connection;
use streamz_journal::{Entry, Journal, JournalInboxOptions, Progress, Record};

/// In real time: the children are processes, and die in it.
const LEASE: Duration = Duration::from_millis(500);

/// Starts this program again, with one of the tests below as its main function.
fn child(main: &str, path: &Path, log: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", main, "--ignored", "--nocapture"]).env("JOURNAL", path).env("LOG", log);
    command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
}

fn variable(name: &str) -> std::path::PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("`{name}` is not set; this is run by another test")).into()
}

/// The reports of a child. The test runner prints something, too.
fn reports(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| line.rsplit_once("report ")?.1.parse().ok())
}

fn report(number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "report {number}").and_then(|()| out.flush()).expect("the parent has died");
}

#[test]
#[ignore = "run by `records_of_a_killed_writer_are_there`"]
fn child_that_appends() {
    let journal = Journal::open(variable("JOURNAL")).unwrap();
    let mut writer = journal.writer("t").unwrap();
    let mut random = fastrand::Rng::new();
    loop {
        // The number of a record is its position, as long as only this process appends.
        let next = journal.status().unwrap()[0].next;
        let batch: Vec<_> = (next..next + random.i64(1..64)).map(|n| Record::new(n.to_string())).collect();
        let positions = writer.append(&batch).unwrap();
        assert_eq!(positions.start, next);
        report(positions.end.unsigned_abs());
    }
}

#[test]
fn records_of_a_killed_writer_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.journal");
    for _ in 0..15 {
        let mut child = child("child_that_appends", &path, directory.path());
        let mut reports = reports(&mut child);
        let confirmed = reports.by_ref().take(fastrand::usize(1..40)).last().expect("it appended nothing");
        child.kill().unwrap();
        // What it had confirmed before it died.
        let confirmed = reports.last().unwrap_or(confirmed);
        child.wait().unwrap();

        let journal = Journal::open(&path).unwrap();
        let all = journal.read("t", 0, usize::MAX).unwrap();
        assert!(all.len() as u64 + 1 >= confirmed, "{} of {} are there", all.len(), confirmed - 1);
        for (number, entry) in (1..).zip(&all) {
            assert_eq!((entry.position, &*entry.payload), (number, number.to_string().as_bytes()));
        }
        assert_eq!(journal.status().unwrap()[0].next, all.len() as i64 + 1, "half a batch");
    }
}

/// Copies a topic into a database, with its progress.
fn import(journal: &Journal, database: &Path, mut stored: impl FnMut(u64)) {
    let mut database = Connection::open(database).unwrap();
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    database.execute_batch("CREATE TABLE IF NOT EXISTS rows (position INTEGER)").unwrap();
    let progress = Progress::open(&database, "import").unwrap();
    let mut last = progress.load::<i64>(&database).unwrap().unwrap_or(0);
    loop {
        let entries = journal.read("t", last + 1, fastrand::usize(1..50)).unwrap();
        let Some(end) = entries.last() else { return };
        last = end.position;
        let transaction = database.transaction().unwrap();
        for entry in &entries {
            transaction.execute("INSERT INTO rows VALUES (?1)", [entry.position]).unwrap();
        }
        progress.store(&transaction, last).unwrap();
        transaction.commit().unwrap();
        stored(last.unsigned_abs());
    }
}

#[test]
#[ignore = "run by `a_killed_import_writes_each_row_once`"]
fn child_that_imports() {
    let journal = Journal::open(variable("JOURNAL")).unwrap();
    import(&journal, &variable("LOG"), report);
}

#[test]
fn a_killed_import_writes_each_row_once() {
    const COUNT: i64 = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let (path, database) = (directory.path().join("test.journal"), directory.path().join("rows.db"));
    let journal = Journal::open(&path).unwrap();
    journal.writer("t").unwrap().append(&vec![Record::new("x"); COUNT as usize]).unwrap();
    for _ in 0..20 {
        let mut child = child("child_that_imports", &path, &database);
        let mut reports = reports(&mut child);
        reports.by_ref().take(fastrand::usize(1..30)).for_each(drop);
        child.kill().unwrap();
        reports.for_each(drop);
        child.wait().unwrap();
    }
    import(&journal, &database, drop);
    let database = Connection::open(&database).unwrap();
    let mut rows = database.prepare("SELECT position FROM rows ORDER BY rowid").unwrap();
    let rows: Vec<i64> = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(rows.iter().copied().eq(1..=COUNT), "{} rows, of {COUNT}", rows.len());
}

/// Writes down the records it has processed, and then acknowledges them, in two parts.
#[test]
#[ignore = "run by `killed_consumers_lose_nothing`"]
fn child_that_consumes() {
    let journal = Journal::open(variable("JOURNAL")).unwrap();
    let mut log = OpenOptions::new().create(true).append(true).open(variable("LOG")).unwrap();
    let mut inbox = journal.inbox("t", "g", JournalInboxOptions::new().lease(LEASE)).unwrap();
    let mut acker = inbox.acker().unwrap();
    let mut random = fastrand::Rng::new();
    loop {
        let mut some = Vec::new();
        inbox.fetch(random.usize(1..100), Duration::from_millis(50), &mut some).unwrap();
        random.shuffle(&mut some);
        let text: String = some.iter().map(|it| format!("{}\n", number(&it.record.payload))).collect();
        log.write_all(text.as_bytes()).unwrap();
        let (first, second) = some.split_at(some.len() / 2);
        acknowledge(&mut acker, first);
        crash::report();
        acker.keep_alive().unwrap();
        acknowledge(&mut acker, second);
    }
}

fn number(payload: &[u8]) -> u32 {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

fn copy(journal: &Journal, options: JournalInboxOptions, pool: Pool, copied: impl Fn() + Clone + Send + 'static) {
    let inbox = journal.inbox("t", "g", options.lease(LEASE)).unwrap();
    let outbox = |topic| journal.writer(topic).unwrap();
    let number = |entry: &Entry| number(&entry.payload);
    crash::copy(&Pipeline::new("copy"), inbox, (outbox("out"), outbox("dead")), pool, number, copied);
}

#[test]
#[ignore = "run by the tests below"]
fn worker_with_an_unordered_pool() {
    let journal = Journal::open(variable("JOURNAL")).unwrap();
    copy(&journal, JournalInboxOptions::new(), Pool::Unordered, crash::report);
}

#[test]
#[ignore = "run by the tests below"]
fn worker_with_a_keyed_pool() {
    let journal = Journal::open(variable("JOURNAL")).unwrap();
    copy(&journal, JournalInboxOptions::new(), Pool::Keyed, crash::report);
}

/// A journal with records in topic `t`, whose payloads are numbers.
fn journal_with(path: &Path, count: u32) -> Journal {
    let journal = Journal::open(path).unwrap();
    let records: Vec<_> = (0..count).map(|n| Record::new(n.to_string()).with_key("k")).collect();
    journal.writer("t").unwrap().append(&records).unwrap();
    journal
}

/// Kills workers, lets the last one finish with the records of the dead ones, and counts.
fn killed_workers_lose_nothing(workers: usize, main: &str, pool: Pool) {
    const COUNT: u32 = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.journal");
    let journal = journal_with(&path, COUNT);
    kill_at_random(workers, 12, |_, progress| Worker::start(main, &[("JOURNAL", path.as_ref())], progress));
    copy(&journal, JournalInboxOptions::new().bounded(true), pool, || {});
    let copied = ["out", "dead"].map(|topic| journal.read(topic, 0, usize::MAX).unwrap());
    crash::check(copied.iter().flatten().map(|entry| number(&entry.payload)), COUNT);
    let status = journal.group_status("t", "g").unwrap().unwrap();
    assert_eq!((status.acknowledged, status.unacknowledged()), (u64::from(COUNT), 0));
}

#[test]
fn a_killed_worker_loses_nothing() {
    killed_workers_lose_nothing(1, "worker_with_an_unordered_pool", Pool::Unordered);
}

#[test]
fn two_killed_workers_lose_nothing() {
    killed_workers_lose_nothing(2, "worker_with_an_unordered_pool", Pool::Unordered);
}

#[test]
fn four_killed_workers_lose_nothing() {
    killed_workers_lose_nothing(4, "worker_with_a_keyed_pool", Pool::Keyed);
}

/// Without a pipeline.
#[test]
fn killed_consumers_lose_nothing() {
    const COUNT: u32 = 30_000;
    let directory = tempfile::tempdir().unwrap();
    let (path, log) = (directory.path().join("test.journal"), directory.path().join("log"));
    let journal = journal_with(&path, COUNT);
    let variables = [("JOURNAL", path.as_ref()), ("LOG", log.as_ref())];
    kill_at_random(2, 20, |_, progress| Worker::start("child_that_consumes", &variables, progress));

    // The rest, including the records of the dead ones.
    let mut inbox = journal.inbox("t", "g", JournalInboxOptions::new().bounded(true)).unwrap();
    let mut acker = inbox.acker().unwrap();
    let mut processed: Vec<u32> = fs::read_to_string(&log).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    while !inbox.is_exhausted() {
        let mut some = Vec::new();
        inbox.fetch(1_000, Duration::from_millis(100), &mut some).unwrap();
        processed.extend(some.iter().map(|delivery| number(&delivery.record.payload)));
        acknowledge(&mut acker, &some);
    }
    crash::check(processed, COUNT);
    let status = journal.group_status("t", "g").unwrap().unwrap();
    assert_eq!((status.acknowledged, status.unacknowledged()), (u64::from(COUNT), 0));
}
