//! Damaged and foreign files, full disks, and locks that are held.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Bench, acknowledge, append, fetch, inbox, positions};
use rusqlite::{Connection, TransactionBehavior};
use streamz::delivery::{Acker, Inbox, Outbox, StoreError};
use streamz_journal::{Journal, JournalError, JournalErrorKind as Kind, Record};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Checks the kind, and that the error names the file.
fn refused(path: &Path, kind: Kind) -> JournalError {
    let error = Journal::open(path).expect_err("the file was opened");
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.path(), path);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert_eq!(error.is_transient(), matches!(kind, Kind::Busy | Kind::Full | Kind::Io));
    error
}

#[test]
fn an_empty_file_becomes_a_journal() {
    let directory = directory();
    let path = directory.path().join("empty");
    std::fs::write(&path, "").unwrap();
    append(&Journal::open(&path).unwrap(), 0..3);
    assert_eq!(Journal::open(&path).unwrap().read("t", 0, 10).unwrap().len(), 3);
}

#[test]
fn a_file_other_than_a_database_is_refused_and_left_alone() {
    let directory = directory();
    let path = directory.path().join("notes.txt");
    let text = "not a database ".repeat(100);
    std::fs::write(&path, &text).unwrap();
    refused(&path, Kind::NotAJournal);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_foreign_database_is_refused_and_left_alone() {
    let directory = directory();
    let path = directory.path().join("app.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE users (name TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = refused(&path, Kind::NotAJournal);
    assert!(error.to_string().contains("not a journal"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_newer_schema_is_refused() {
    let directory = directory();
    let path = directory.path().join("newer");
    Journal::open(&path).unwrap();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let error = refused(&path, Kind::NewerSchema);
    assert!(error.to_string().contains("version 7"), "{error}");
}

#[test]
fn a_missing_directory_and_a_directory_are_refused() {
    let directory = directory();
    refused(&directory.path().join("missing/file"), Kind::CannotOpen);
    refused(directory.path(), Kind::CannotOpen);
}

#[test]
fn a_database_in_memory_is_refused() {
    let error = Journal::open(":memory:").unwrap_err();
    assert!(error.to_string().contains("write-ahead log"), "{error}");
}

/// Root may write everywhere, so the file is opened by a child that is not root.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_written_is_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    let directory = directory();
    let path = directory.path().join("read-only");
    // The WAL is removed with the last connection.
    append(&Journal::open(&path).unwrap(), 0..3);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child_that_opens_a_file", "--ignored", "--nocapture"]).env("JOURNAL", &path);
    if std::fs::metadata(directory.path()).unwrap().uid() == 0 {
        child.uid(65_534);
    }
    match child.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("kind: ReadOnly, transient: false"), "{text}");
        }
        Err(error) => eprintln!("skipped: the test program cannot be started by another user: {error}"),
    }
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "run by `a_file_that_cannot_be_written_is_refused`"]
fn child_that_opens_a_file() {
    let Some(path) = std::env::var_os("JOURNAL") else { return };
    match Journal::open(path) {
        Ok(_) => println!("opened"),
        Err(error) => println!("kind: {:?}, transient: {}: {error}", error.kind(), error.is_transient()),
    }
}

/// Holds the write lock of a journal.
fn locked(path: &Path, work: impl FnOnce()) {
    let mut other = Connection::open(path).unwrap();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    work();
    drop(lock);
}

fn transient(result: Result<(), StoreError>, parts: &[&str]) {
    let error = result.expect_err("it succeeded");
    assert!(error.is_transient(), "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error} does not name {part}");
    }
}

#[test]
fn a_locked_file_is_busy_and_nothing_is_lost() {
    let directory = directory();
    let path = directory.path().join("locked");
    let journal = Journal::options().busy_timeout(Duration::from_millis(20)).open(&path).unwrap();
    append(&journal, 0..10);
    let mut writer = journal.writer("t").unwrap();
    let (mut inbox, mut other) = (inbox(&journal, "a"), inbox(&journal, "b"));
    let mut acker = inbox.acker().unwrap();
    let held = fetch(&mut inbox, 5);
    let mut batch = vec![Record::new("late")];
    let mut receipts = common::receipts(&held);
    locked(&path, || {
        let mut records = Vec::new();
        transient(other.fetch(10, Duration::ZERO, &mut records), &["topic `t`", "group `g`"]);
        assert!(records.is_empty());
        transient(acker.acknowledge(&mut receipts), &["topic `t`", "group `g`", "position 1:", "acknowledge"]);
        assert_eq!(receipts.len(), 5);
        transient(acker.give_back(receipts.clone()), &["give records back"]);
        transient(acker.keep_alive(), &["extend the lease"]);
        transient(writer.write(&mut batch), &["topic `t`", "append"]);
        assert_eq!(batch.len(), 1);
        // Reading takes no lock.
        assert_eq!(journal.group_status("t", "g").unwrap().unwrap().in_flight, 5);
        assert_eq!(journal.read("t", 0, 100).unwrap().len(), 10);
    });
    writer.write(&mut batch).unwrap();
    acknowledge(&mut acker, &held);
    assert_eq!(common::positions(&fetch(&mut other, 10)), [6, 7, 8, 9, 10, 11]);
}

/// On a file system of 2 MB. Needs the right to mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_transient_and_loses_nothing() {
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }

    let directory = directory();
    let disk = directory.path();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "streamz-test"]).arg(disk).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: cannot mount a small file system here");
        return;
    }
    let _mounted = Mounted(disk);
    let journal = Journal::open(disk.join("full")).unwrap();
    let mut writer = journal.writer("t").unwrap();
    let record = Record::new([7; 1_000]);
    let mut written = 0;
    let error = loop {
        match writer.append(&vec![record.clone(); 50]) {
            Ok(_) => written += 50,
            Err(error) => break error,
        }
        assert!(written < 10_000, "the disk is not full");
    };
    assert!(error.is_transient(), "{error}");
    assert!(matches!(error.kind(), Kind::Full | Kind::Io), "{error}");

    // Confirmed records are there. Once there is room again, everything continues.
    assert_eq!(journal.read("t", 0, usize::MAX).unwrap().len(), written);
    let grown = Command::new("mount").args(["-o", "remount,size=16m"]).arg(disk).status();
    assert!(grown.unwrap().success());
    let end = writer.append(&vec![record; 50]).unwrap().end;
    assert_eq!(end, written as i64 + 51);
    let mut inbox = inbox(&journal, "a");
    let all = fetch(&mut inbox, 100_000);
    acknowledge(&mut inbox.acker().unwrap(), &all);
    assert_eq!(all.len(), written + 50);
}

#[test]
fn a_record_that_is_too_large_is_refused_by_name() {
    let directory = directory();
    let journal = Journal::options().max_record_bytes(100).open(directory.path().join("large")).unwrap();
    let mut writer = journal.writer("t").unwrap();
    writer.append(&[Record::new([0; 90]).with_key([0; 10]), Record::new("")]).unwrap();
    let batch = [Record::new("fits"), Record::new([0; 95]).with_key([0; 6])];
    let error = writer.append(&batch).unwrap_err();
    assert_eq!((error.kind(), error.topic()), (Kind::TooLarge, Some("t")));
    assert!(error.to_string().ends_with("record 1 of the batch has 101 bytes, and 100 are allowed"), "{error}");
    assert!(!error.is_transient());
    // Nothing of the batch was appended.
    assert_eq!(journal.read("t", 0, 10).unwrap().len(), 2);
}

#[test]
fn a_huge_record_goes_through() {
    let directory = directory();
    let journal = Journal::open(directory.path().join("huge")).unwrap();
    let payload: Vec<u8> = (0..10u32 << 20).map(|n| (n % 253) as u8).collect();
    journal.writer("t").unwrap().append(&[Record::new(payload.clone()), Record::new("next")]).unwrap();
    let mut inbox = inbox(&journal, "a");
    // One fetch reads at most 8 MiB, but at least one record.
    let first = fetch(&mut inbox, 10);
    assert!(first.len() == 1 && first[0].record.payload == payload);
    assert_eq!(fetch(&mut inbox, 10)[0].record.payload, b"next");
}

#[test]
fn a_missing_table_is_permanent() {
    let directory = directory();
    let path = directory.path().join("damaged");
    let journal = Journal::open(&path).unwrap();
    append(&journal, 0..10);
    let (mut inbox, mut writer) = (inbox(&journal, "a"), journal.writer("t").unwrap());
    Connection::open(&path).unwrap().execute_batch("DROP TABLE records_1").unwrap();
    let error = inbox.fetch(10, Duration::ZERO, &mut Vec::new()).unwrap_err();
    assert!(!error.is_transient());
    assert!(error.to_string().contains("topic `t`, group `g`, position 1:"), "{error}");
    assert!(error.to_string().contains("no such table"), "{error}");
    let error = writer.append(&[Record::new("x")]).unwrap_err();
    assert!(!error.is_transient(), "{error}");
}

#[test]
fn a_removed_group_is_permanent() {
    let directory = directory();
    let journal = Journal::open(directory.path().join("removed")).unwrap();
    let mut inbox = inbox(&journal, "a");
    journal.remove_group("t", "g").unwrap();
    // Not even with a new group, whatever number that gets.
    append(&journal, 0..10);
    journal.inbox("t", "another", common::options("b")).unwrap();
    let error = inbox.fetch(10, Duration::ZERO, &mut Vec::new()).unwrap_err();
    assert!(!error.is_transient(), "{error}");
}

/// Damage in the file. The records before it are delivered, and the error says where it is.
#[test]
fn damaged_headers_are_permanent_and_named() {
    let bench = Bench::new();
    let record = |n: u32| Record::new(n.to_string()).with_header("a", "b");
    bench.journal.writer("t").unwrap().append(&[record(1), record(2), record(3)]).unwrap();
    bench.sqlite().execute("UPDATE records_1 SET headers = x'ff' WHERE position = 2", []).unwrap();
    let mut inbox = bench.inbox("a");
    assert_eq!(positions(&fetch(&mut inbox, 1)), [1]);
    let error = inbox.fetch(10, Duration::ZERO, &mut Vec::new()).unwrap_err();
    assert!(!error.is_transient());
    let text = error.to_string();
    assert!(text.contains("topic `t`, group `g`, position 2: cannot"), "{text}");
    assert!(text.contains("the headers are damaged"), "{text}");

    bench.sqlite().execute("UPDATE records_1 SET headers = x'' WHERE position = 2", []).unwrap();
    assert_eq!(positions(&fetch(&mut inbox, 10)), [2, 3]);
}

#[test]
fn several_open_a_new_file_at_once() {
    for _ in 0..20 {
        let directory = directory();
        let path = directory.path().join("new");
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    append(&Journal::open(&path).unwrap(), 0..5);
                });
            }
        });
        assert_eq!(Journal::open(&path).unwrap().read("t", 0, 100).unwrap().len(), 20);
    }
}
