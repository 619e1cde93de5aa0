//! Tests what other programs do to the files of a run: they read, lock, replace or remove the database, or remove the
//! dead-letter file.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use rusqlite::Connection;

use super::control::{count_in_file, first_line, named_pipe, run_stepwise};
use super::{BAD, GOOD, Place, assert_balanced, count, csv, json};
use crate::program::{Ran, in_time};

#[test]
fn a_database_that_another_program_has_open_is_not_replaced() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD]));
    assert_eq!(place.run(&input, &[]).code, Some(0));
    let other = Connection::open(place.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; DELETE FROM flights").unwrap();
    let message =
        format!("cannot replace database {}: database is locked", place.database().display());
    place.run(&input, &["--force"]).fails_with(&message);
    other.execute_batch("ROLLBACK").unwrap();
    // Between two transactions.
    place.run(&input, &["--force"]).fails_with(&message);
    drop(other);
    assert_eq!(count(&place.database()), 1);
    assert_eq!(place.run(&input, &["--force"]).code, Some(0));
}

/// Even if it is opened after the run has begun.
#[test]
fn what_another_program_stores_is_not_lost_to_force() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD]));
    assert_eq!(place.run(&input, &[]).code, Some(0));
    let (pipe, database) = (named_pipe(&place, "rows"), place.database());
    let child = place.command(&pipe, &["--force"]).spawn().unwrap();
    let ran: Ran = in_time(move || {
        // Waits until the program opens it, which has checked the database then.
        let mut rows = fs::OpenOptions::new().write(true).open(pipe).unwrap();
        let other = Connection::open(database).unwrap();
        other.execute_batch("BEGIN IMMEDIATE; CREATE TABLE mine (x)").unwrap();
        rows.write_all(csv(&[GOOD]).as_bytes()).unwrap();
        drop(rows);
        let output = child.wait_with_output().unwrap();
        other.execute_batch("COMMIT").unwrap();
        output
    })
    .into();
    ran.fails_with(&format!(
        "cannot replace database {}: database is locked",
        place.database().display()
    ));
    let database = Connection::open(place.database()).unwrap();
    database.execute_batch("SELECT x FROM mine").unwrap();
    assert_eq!(count(&place.database()), 1);
}

#[test]
fn of_two_runs_that_replace_a_database_at_once_no_success_is_false() {
    let place = Place::new();
    let old = place.write("old.csv", csv(&[GOOD]));
    let new = place.write("new.csv", csv(&[GOOD; 300]));
    for round in 0..20 {
        if count_in_file(&place.database()) != 1 {
            assert_eq!(place.run(&old, &["--force"]).code, Some(0));
        }
        let start = || place.command(&new, &["--force"]).spawn().unwrap();
        let runs = [start(), start()]
            .map(|child| -> Ran { in_time(move || child.wait_with_output().unwrap()).into() });
        let successes = runs.iter().filter(|ran| ran.code == Some(0)).count();
        let expected = if successes == 0 { 1 } else { 300 };
        let said = runs.map(|ran| ran.stderr);
        assert_eq!(count(&place.database()), expected, "round {round}: {said:?}");
    }
}

#[test]
fn a_database_that_stays_locked_stops_the_job_and_is_named() {
    let place = Place::new();
    let letters = named_pipe(&place, "failed.jsonl");
    let mut child = place.command(Path::new("-"), &[]).stdin(Stdio::piped()).spawn().unwrap();
    let database = place.database();
    let ran: Ran = in_time(move || {
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(csv(&[BAD]).as_bytes()).unwrap();
        // The letter tells that the database is there.
        let mut letters = fs::File::open(letters).unwrap();
        first_line(&mut letters);
        let other = Connection::open(database).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        stdin.write_all(GOOD.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    })
    .into();
    ran.fails_with(&format!(
        "cannot write to database {}: database is locked",
        place.database().display()
    ));
    assert_balanced(&json(&ran));
    assert_eq!(json(&ran)["loaded"], 0);
}

#[test]
fn a_database_that_is_removed_or_replaced_stops_the_job() {
    for (is_replaced, more) in [(false, vec![]), (true, vec![]), (false, vec![GOOD])] {
        let place = Place::new();
        let ran = run_stepwise(&place, &[GOOD], move |database| {
            fs::remove_file(database).unwrap();
            if is_replaced {
                fs::write(database, "another one").unwrap();
            }
            more
        });
        let shown = place.database();
        let what = "it has been removed or replaced";
        ran.fails_with(&format!("cannot write to database {}: {what}", shown.display()));
        assert_eq!(json(&ran)["complete"], false);
    }
}

#[test]
fn a_dead_letter_file_that_is_removed_is_announced() {
    let place = Place::new();
    let letters = place.path("failed.jsonl");
    let ran = run_stepwise(&place, &[BAD, GOOD], move |_| {
        fs::remove_file(letters).unwrap();
        vec![BAD]
    });
    assert_eq!(ran.code, Some(0));
    let said = format!(
        "dead-letter file {} has been removed or replaced",
        place.path("failed.jsonl").display()
    );
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    assert_eq!(json(&ran)["failed"], 2);
}

#[test]
fn a_log_that_another_program_reads_is_announced_and_loses_nothing() {
    let place = Place::new();
    let (database, (keep, kept)) = (place.database(), std::sync::mpsc::channel());
    let ran = run_stepwise(&place, &[GOOD], move |database| {
        let reader = Connection::open(database).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM flights").unwrap();
        keep.send(reader).unwrap();
        vec![GOOD, GOOD]
    });
    let reader = kept.recv().unwrap();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("another program is using database"), "{}", ran.stderr);
    assert!(place.path("out.db-wal").exists());
    drop(reader);
    assert_eq!(count(&database), 3);
}
