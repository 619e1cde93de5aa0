//! `etl --resume`: a job that was killed at any moment ends like one that nothing has disturbed.
//!
//! The programs are killed after they have been given part of their input, or when their database shows how far they have
//! come; never after a time.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use super::control::{first_line, interrupt, named_pipe};
use super::{
    BAD, CANCELLED, GOOD, HEADER, Place, assert_balanced, csv, etl, gzip, january, json,
    program, table,
};
use crate::program::{Ran, in_time};

/// Flights of January, again and again, with a bad row after every 20th, and some blank lines.
fn input(rows: usize) -> String {
    let january = january();
    let mut text = format!("{HEADER}\n");
    for (index, line) in january.lines().skip(1).cycle().take(rows).enumerate() {
        text.extend([line, "\n"]);
        match index % 20 {
            7 => text.push_str(&format!("{BAD},{index}\n")),
            13 => text.push('\n'),
            _ => {}
        }
    }
    text
}

/// What a job leaves.
#[derive(PartialEq)]
struct Left {
    flights: Vec<Vec<String>>,
    dead_letters: Vec<Vec<String>>,
    file: String,
}

impl Left {
    fn of(place: &Place) -> Self {
        Self {
            flights: place.rows(),
            dead_letters: table(&place.database(), "dead_letters"),
            file: fs::read_to_string(place.path("failed.jsonl")).unwrap(),
        }
    }

    /// By a run that nothing disturbs, and what it says.
    fn undisturbed(input: &[u8]) -> (Self, Value) {
        let place = Place::new();
        let ran = place.run(&place.write("in.csv", input), &[]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let left = Self::of(&place);
        assert!(!left.flights.is_empty() && !left.dead_letters.is_empty());
        (left, json(&ran))
    }
}

/// The totals and the files of a job that has been resumed equal those of a run that nothing has disturbed.
#[track_caller]
fn assert_same(place: &Place, ran: &Ran, (left, totals): &(Left, Value)) {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut found = json(ran);
    found.as_object_mut().unwrap().remove("resumed_after");
    assert_eq!(&found, totals);
    let found = Left::of(place);
    assert!(found.flights == left.flights, "the flights differ");
    assert!(found.dead_letters == left.dead_letters, "the dead letters in the database differ");
    assert!(found.file == left.file, "the dead-letter files differ");
}

/// The line up to which a job has committed its rows; 0 before it has.
fn position(database: &Path) -> u64 {
    let look = || -> rusqlite::Result<String> {
        let connection =
            Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.query_row("SELECT position FROM streamz_progress", [], |row| row.get(0))
    };
    look().map_or(0, |json| {
        serde_json::from_str::<Value>(&json).unwrap()["line"].as_u64().unwrap()
    })
}

/// Looks at the position of a job that runs.
fn wait_for_position(child: &mut Child, database: &Path, is_reached: impl Fn(u64) -> bool) {
    // Before there is a log, the database is being made, and must not be locked.
    let log = log(database);
    while !log.exists() || !is_reached(position(database)) {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("it ended with {status}: {said}");
        }
        std::thread::yield_now();
    }
}

fn log(database: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", database.display()))
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), None, "it was not killed");
}

/// Runs a job on a pipe that gives the first `bytes` of its input, and kills it at once or, if so `asked`, when it has
/// committed some of them.
fn killed_after(place: &Place, input: &[u8], bytes: usize, commits: bool, more: &[&str]) {
    let before = position(&place.database());
    let mut child = place.command(Path::new("-"), more).stdin(Stdio::piped()).spawn().unwrap();
    let (database, input) = (place.database(), input[..bytes].to_vec());
    in_time(move || {
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&input).unwrap();
        if commits {
            wait_for_position(&mut child, &database, |line| line > before);
        }
        kill(child);
    });
}

/// More rows than a job is given on its way from one kill to the next.
const STRIDE: usize = 2500;

/// Kills a job again and again, at random places; every second time it has committed something before. It takes
/// `kills * STRIDE` rows.
fn killed(place: &Place, input: &[u8], kills: usize, seed: u64) {
    let ends: Vec<usize> =
        (1..).zip(input).filter(|(_, byte)| **byte == b'\n').map(|(end, _)| end).collect();
    let mut rng = fastrand::Rng::with_seed(seed);
    for kill in 0..kills {
        let done = position(&place.database()) as usize;
        let commits = kill % 2 == 1;
        // A batch is committed when it has 1,000 rows; a fifth of the lines may be none.
        let least = if commits { ends[done + STRIDE / 2] } else { 0 };
        let bytes = rng.usize(least..ends[done + STRIDE]);
        let mode: &[&str] =
            if rng.bool() { &["--resume"] } else { &["--resume", "--sequential"] };
        killed_after(place, input, bytes, commits, mode);
    }
}

#[test]
fn a_job_killed_repeatedly_ends_like_an_undisturbed_one() {
    // How many is a matter of time: 100 take about a minute.
    let kills = std::env::var("STREAMZ_ETL_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let text = input((kills + 1) * STRIDE);
    let expected = Left::undisturbed(text.as_bytes());
    let place = Place::new();
    killed(&place, text.as_bytes(), kills, 41);
    let line = position(&place.database());
    assert!(line > kills as u64 / 2 * 1000, "{line}: hardly anything had been committed");
    let failed = table(&place.database(), "dead_letters").len();
    assert!(
        failed > 0 && failed < expected.0.dead_letters.len(),
        "rows fail before and after the last kill"
    );
    let ran = place.run_stdin(text.as_bytes(), &["--resume"]);
    assert_eq!(json(&ran)["resumed_after"], line);
    assert_same(&place, &ran, &expected);
}

#[test]
fn a_log_that_cannot_be_copied_at_the_end_is_an_error_and_loses_nothing() {
    let text = input(4 * STRIDE);
    let expected = Left::undisturbed(text.as_bytes());
    let place = Place::new();
    let file = place.write("in.csv", &text);
    // Almost all of it is in the database, so that the rest is less than that.
    let [given, stored] = [text.len() * 9 / 10, text.lines().count() * 8 / 10];
    let mut child = place.command(Path::new("-"), &[]).stdin(Stdio::piped()).spawn().unwrap();
    let (database, bytes) = (place.database(), text.as_bytes()[..given].to_vec());
    in_time(move || {
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&bytes).unwrap();
        wait_for_position(&mut child, &database, |line| line > stored as u64);
        kill(child);
    });
    let connection = Connection::open(place.database()).unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    connection.close().unwrap();
    // The log fits on the disk, but the database does not grow any more.
    let size = fs::metadata(place.database()).unwrap().len();
    let mut limited = Command::new("sh");
    let script = format!("trap '' XFSZ; exec prlimit --fsize={size} -- \"$@\"");
    limited.args(["-c", &script, "sh"]).arg(program()).args(["--json", "--resume", "--input"]);
    limited.arg(&file).arg("--database").arg(place.database());
    limited.arg("--dead-letters").arg(place.path("failed.jsonl"));
    let ran = program::run(limited);
    ran.fails_with(&format!("cannot copy {} into database", log(&place.database()).display()));
    let ran = place.run(&file, &["--resume"]);
    assert_same(&place, &ran, &expected);
}

/// A file that stops the program in the middle if its dead letters are not read, and one of whose rows fails before that.
fn stopping() -> String {
    let long = &*"x".repeat(4000);
    let rows =
        [&[BAD, CANCELLED][..], &[GOOD; 2500], &[long; 40], &[GOOD; 1500], &[BAD, CANCELLED]];
    csv(&rows.concat())
}

/// Runs a job on a file, and kills it in the middle.
fn killed_in_the_middle(place: &Place, file: &Path, more: &[&str]) {
    killed_behind(0, place, file, more);
}

/// The same, when lines behind this one have been loaded.
fn killed_behind(loaded: u64, place: &Place, file: &Path, more: &[&str]) {
    let letters = named_pipe(place, "failed.jsonl");
    let (mut child, database) = (place.command(file, more).spawn().unwrap(), place.database());
    let pipe = letters.clone();
    in_time(move || {
        let mut letters = fs::File::open(pipe).unwrap();
        first_line(&mut letters);
        wait_for_position(&mut child, &database, |line| line > loaded);
        kill(child);
    });
    fs::remove_file(letters).unwrap();
}

#[test]
fn either_mode_continues_the_others_job_even_with_gzip() {
    let text = stopping();
    let expected = Left::undisturbed(text.as_bytes());
    let modes = [&["--sequential"][..], &["--workers", "3"]];
    for (first, second) in [(modes[0], modes[1]), (modes[1], modes[0])] {
        for packed in [false, true] {
            let place = Place::new();
            let content = if packed { gzip(text.as_bytes()) } else { text.as_bytes().to_vec() };
            let file = place.write("in", content);
            killed_in_the_middle(&place, &file, first);
            let ran = place.run(&file, &[&["--resume"], second].concat());
            assert!(json(&ran)["resumed_after"].as_u64().unwrap() > 0);
            assert_same(&place, &ran, &expected);
        }
    }
}

#[test]
fn a_file_may_be_moved_or_come_through_a_pipe() {
    let text = stopping();
    let expected = Left::undisturbed(text.as_bytes());
    let place = Place::new();
    let file = place.write("in.csv", &text);
    killed_in_the_middle(&place, &file, &[]);
    // Once it has been read, and closed, it is one file.
    place.rows();
    assert!(!log(&place.database()).exists());
    let copy = place.path("copy.db");
    fs::copy(place.database(), &copy).unwrap();
    fs::rename(&file, place.path("moved.csv")).unwrap();
    let ran = place.run_stdin(text.as_bytes(), &["--resume"]);
    assert!(json(&ran)["resumed_after"].as_u64().unwrap() > 0);
    assert_same(&place, &ran, &expected);

    fs::rename(&copy, place.database()).unwrap();
    let ran = place.run(&place.path("moved.csv"), &["--resume"]);
    assert!(json(&ran)["resumed_after"].as_u64().unwrap() > 0);
    assert_same(&place, &ran, &expected);
}

#[test]
fn the_dead_letter_file_is_restored_from_the_database() {
    let text = stopping();
    let expected = Left::undisturbed(text.as_bytes());
    let place = Place::new();
    let file = place.write("in.csv", &text);
    killed_in_the_middle(&place, &file, &[]);
    // As after a power failure.
    place.write("failed.jsonl", "{\"line\":1");
    assert_same(&place, &place.run(&file, &["--resume"]), &expected);
    fs::remove_file(place.path("failed.jsonl")).unwrap();
    assert_same(&place, &place.run(&file, &["--resume"]), &expected);
}

#[test]
fn an_interrupted_job_is_continued() {
    let text = input(5000);
    let expected = Left::undisturbed(text.as_bytes());
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        let mut child =
            place.command(Path::new("-"), more).stdin(Stdio::piped()).spawn().unwrap();
        let (database, half) = (place.database(), text[..text.len() / 2].to_owned());
        let ran: Ran = in_time(move || {
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(half.as_bytes()).unwrap();
            wait_for_position(&mut child, &database, |line| line > 0);
            interrupt(&child);
            child.wait_with_output().unwrap()
        })
        .into();
        assert_eq!((ran.code, &json(&ran)["complete"]), (Some(130), &json!(false)));
        assert_balanced(&json(&ran));
        let ran = place.run_stdin(text.as_bytes(), &[&["--resume"], more].concat());
        assert_same(&place, &ran, &expected);
    }
}

#[test]
fn a_complete_job_says_so_and_does_nothing() {
    for rows in [&[GOOD, BAD, CANCELLED][..], &[]] {
        let place = Place::new();
        let file = place.write("in.csv", csv(rows));
        let first = place.run(&file, &["--resume"]);
        assert_eq!(first.code, Some(0), "{}", first.stderr);
        let left = Left::of(&place);
        for more in [&["--resume"][..], &["--resume", "--sequential"]] {
            let again = place.run(&file, more);
            let (mut found, line) = (json(&again), if rows.is_empty() { 0 } else { 3 });
            assert_eq!(
                found.as_object_mut().unwrap().remove("resumed_after"),
                Some(json!(line))
            );
            assert_eq!((again.code, &*again.stderr, found), (Some(0), "", json(&first)));
            assert!(Left::of(&place) == left);
        }
        let mut command = etl(["--resume", "--input"]);
        command.arg(&file).arg("--database").arg(place.database());
        let said = program::run(command).stdout;
        assert!(said.contains("complete already: nothing was left to do"), "{said}");
    }
}

#[test]
fn a_job_whose_rows_all_failed_still_fails_when_resumed() {
    let place = Place::new();
    let file = place.write("in.csv", csv(&[BAD]));
    for _ in 0..2 {
        place.run(&file, &["--resume"]).fails_with("no row was loaded: all 1 failed");
    }
}

#[test]
fn another_input_is_refused_by_both_names() {
    let place = Place::new();
    let text = stopping();
    let file = place.write("in.csv", &text);
    // Behind the first 64 KiB, which are compared. The first transaction has less if a thousand rows take more than a second.
    killed_behind(800, &place, &file, &[]);
    let content = || {
        (place.rows(), table(&place.database(), "dead_letters"), position(&place.database()))
    };
    let before = content();

    let (begun, database) = (file.display(), place.database().display().to_string());
    let other = place.write("other.csv", csv(&[GOOD]));
    let size = text.len();
    let message = |other: &str, why: &str| {
        format!(
            "database {database} is loaded from {begun}, and {other} is a different input: {why}\n"
        )
    };
    let shown = other.display().to_string();
    let why = format!("it has {} bytes instead of {size}", csv(&[GOOD]).len());
    place.run(&other, &["--resume"]).fails_with(&message(&shown, &why));
    let differ = "its first 65536 bytes differ";
    fs::write(&other, text.replacen("2013", "2014", 1)).unwrap();
    place.run(&other, &["--resume"]).fails_with(&message(&shown, differ));
    for input in ["", HEADER, &csv(&[GOOD])] {
        place
            .run_stdin(input.as_bytes(), &["--resume"])
            .fails_with(&message("standard input", differ));
    }
    let changed = |why: &str| {
        format!(
            "{begun} has changed since it was first loaded into database {database}: {why}\n"
        )
    };
    fs::write(&file, format!("{text}{GOOD}\n")).unwrap();
    let why = format!("it has {} bytes instead of {size}", size + GOOD.len() + 1);
    place.run(&file, &["--resume"]).fails_with(&changed(&why));
    fs::write(&file, text.replacen("2013", "2014", 1)).unwrap();
    place.run(&file, &["--resume"]).fails_with(&changed(differ));
    // What was read of it is the same, but there is less of it than was loaded: 795 lines.
    let short = &text[..70_000];
    let message = format!(
        "standard input ends at line {}; it was loaded up to line ",
        short.lines().count()
    );
    place.run_stdin(short.as_bytes(), &["--resume"]).fails_with(&message);

    assert!(content() == before, "the database was touched");
    assert!(!place.path("failed.jsonl").exists());
    fs::write(&file, &text).unwrap();
    assert_eq!(place.run(&file, &["--resume"]).code, Some(0));
}

/// Rows that have been added must not be taken for loaded ones.
#[test]
fn an_input_that_has_grown_since_it_was_complete_is_refused() {
    let (short, long) = (csv(&[GOOD]), csv(&[GOOD, GOOD]));
    let january = january();
    let place = Place::new();
    assert_eq!(place.run_stdin(short.as_bytes(), &[]).code, Some(0));
    let message = format!("it has more than {} bytes", short.len());
    place.run_stdin(long.as_bytes(), &["--resume"]).fails_with(&message);
    assert_eq!(place.run_stdin(short.as_bytes(), &["--resume"]).code, Some(0));

    // A file has a size, even as standard input.
    let place = Place::new();
    let file = place.write("in.csv", &january);
    assert_eq!(place.run(&file, &[]).code, Some(0));
    fs::write(&file, january + GOOD + "\n").unwrap();
    let mut command = place.command(Path::new("-"), &["--resume"]);
    command.stdin(fs::File::open(&file).unwrap());
    crate::program::run(command).fails_with(" bytes instead of ");
}

#[test]
fn a_job_killed_before_its_tables_existed_starts_again() {
    let text = csv(&[GOOD, BAD]);
    let expected = Left::undisturbed(text.as_bytes());
    let nothing = |_: &Path| {};
    let empty = |path: &Path| drop(fs::File::create(path).unwrap());
    let no_tables = |path: &Path| {
        Connection::open(path).unwrap().execute_batch("PRAGMA journal_mode = WAL").unwrap();
        assert_ne!(fs::metadata(path).unwrap().len(), 0);
    };
    for left_behind in [&nothing as &dyn Fn(&Path), &empty, &no_tables] {
        for more in [&["--resume"][..], &["--resume", "--sequential"]] {
            let place = Place::new();
            left_behind(&place.database());
            let ran = place.run(&place.write("in.csv", &text), more);
            assert_eq!(json(&ran)["resumed_after"], Value::Null);
            assert_same(&place, &ran, &expected);
        }
    }
}

#[test]
fn the_log_of_a_replaced_database_does_not_reappear() {
    let text = stopping();
    let expected = Left::undisturbed(text.as_bytes());
    let place = Place::new();
    let file = place.write("in.csv", &text);
    killed_in_the_middle(&place, &file, &[]);
    // A run with --force removes the database, then its log. This one was killed in between.
    fs::remove_file(place.database()).unwrap();
    assert!(log(&place.database()).exists());
    let ran = place.run(&file, &["--resume"]);
    assert_eq!(json(&ran)["resumed_after"], Value::Null);
    assert_same(&place, &ran, &expected);
}

#[test]
fn a_database_of_another_kind_is_not_resumed_and_left_alone() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD]));
    fs::write(place.database(), "my notes").unwrap();
    place
        .run(&input, &["--resume"])
        .fails_with("is not an SQLite database; it cannot be resumed");
    fs::remove_file(place.database()).unwrap();
    Connection::open(place.database())
        .unwrap()
        .execute_batch("CREATE TABLE notes (note TEXT)")
        .unwrap();
    let before = fs::read(place.database()).unwrap();
    let why = "it does not say how far it was loaded; --force replaces it";
    place
        .run(&input, &["--resume"])
        .fails_with(&format!("cannot resume database {}: {why}", place.database().display()));
    assert!(fs::read(place.database()).unwrap() == before);
}

#[test]
fn resume_and_force_exclude_each_other() {
    let ran = program::run(etl(["--resume", "--force"]));
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("'--resume' cannot be used with '--force'"), "{}", ran.stderr);
}

#[test]
fn a_running_job_stops_when_another_resumes_its_database() {
    let rows = [GOOD; 1500];
    let text = csv(&[&[BAD][..], &rows].concat());
    let expected = Left::undisturbed(text.as_bytes());
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        let mut old = etl(["--json", "--input", "-", "--database"]);
        old.arg(place.database()).arg("--dead-letters").arg(place.path("old.jsonl")).args(more);
        let mut old = old.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = old.stdin.take().unwrap();
        let (database, first) = (place.database(), csv(&[&[BAD][..], &rows[..999]].concat()));
        let (old, stdin) = in_time(move || {
            stdin.write_all(first.as_bytes()).unwrap();
            // One batch, and nothing else is under way.
            wait_for_position(&mut old, &database, |line| line == 1001);
            (old, stdin)
        });
        let new = place.run_stdin(text.as_bytes(), &["--resume"]);
        assert_same(&place, &new, &expected);
        let ran: Ran = in_time(move || {
            let mut stdin = stdin;
            stdin.write_all(GOOD.as_bytes()).unwrap();
            drop(stdin);
            old.wait_with_output().unwrap()
        })
        .into();
        ran.fails_with("another instance of the job has taken over");
        assert_balanced(&json(&ran));
        assert!(Left::of(&place) == expected.0);
    }
}

#[test]
fn a_database_that_another_run_is_writing_is_not_resumed() {
    let (text, rows) = (csv(&[]), |count: usize| format!("{GOOD}\n").repeat(count));
    let place = Place::new();
    let start = |letters: &str| {
        let mut command = etl(["--json", "--resume", "--input", "-", "--database"]);
        command.arg(place.database()).arg("--dead-letters").arg(place.path(letters));
        command.stdin(Stdio::piped()).spawn().unwrap()
    };
    let feed = |child: &mut Child, text: &str| {
        let (mut stdin, text) = (child.stdin.take().unwrap(), text.to_owned());
        child.stdin = Some(in_time(move || {
            stdin.write_all(text.as_bytes()).unwrap();
            stdin
        }));
    };
    let wait = |mut child: Child, line| {
        let database = place.database();
        in_time(move || {
            wait_for_position(&mut child, &database, |it| it == line);
            child
        })
    };
    let end = |child: Child| Ran::from(in_time(move || child.wait_with_output().unwrap()));

    let mut old = start("old.jsonl");
    feed(&mut old, &(text.clone() + &rows(2000)));
    let mut old = wait(old, 2001);
    // More than a pipe holds, so that it has started to read, and less than it has to skip.
    let mut new = start("new.jsonl");
    feed(&mut new, &(text + &rows(1500)));
    feed(&mut old, &rows(1000));
    let old = wait(old, 3001);
    // It stops when it has skipped what was loaded before, which may be before it has read all of this.
    let mut stdin = new.stdin.take().unwrap();
    let more = rows(1500);
    in_time(move || _ = stdin.write_all(more.as_bytes()));
    let message = format!(
        "cannot resume database {}: another run is writing to it",
        place.database().display()
    );
    end(new).fails_with(&message);
    let ran = end(old);
    assert_eq!((ran.code, &json(&ran)["loaded"]), (Some(0), &json!(3000)));
}
