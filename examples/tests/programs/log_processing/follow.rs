//! Tests `--follow`: files that grow, and are rotated, emptied, removed or replaced.

use std::fs;
use std::process::Child;
use std::sync::mpsc::Receiver;

use serde_json::{Value, json};

use super::control::{LIMIT, fifo, lines, signal};
use super::{Place, assert_balanced, good, gzip, probe};
use crate::program::in_time;

/// A run that follows, and what it says.
struct Follow<'a> {
    place: &'a Place,
    child: Child,
    out: Receiver<String>,
    notes: Receiver<String>,
}

impl<'a> Follow<'a> {
    fn start(place: &'a Place, args: &[&str]) -> Self {
        let args = [&["--follow", "--json", "report.json", "--rejects", "rejects.jsonl"], args]
            .concat();
        let mut child = place.command(&args).spawn().unwrap();
        let (out, notes) =
            (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { place, child, out, notes }
    }

    /// Waits for the next line on standard error.
    #[track_caller]
    fn notes(&self, expected: &str) {
        let line = self.notes.recv_timeout(LIMIT).expect("a note");
        assert_eq!(line, format!("log_processing: {expected}"));
    }

    /// Waits for the next line on standard output, which must be the alert for this client and line.
    #[track_caller]
    fn alerts(&self, client: &str, at: &str) {
        let line = self.out.recv_timeout(LIMIT).expect("an alert");
        assert!(
            line.ends_with(&format!("probe   {client}: hunt for secrets ({at})")),
            "{line}"
        );
    }

    /// Ends it, and returns its report.
    #[track_caller]
    fn end(mut self, how: &str) -> Value {
        signal(&self.child, how);
        let status = in_time(move || self.child.wait().unwrap());
        let notes: Vec<String> = self.notes.into_iter().collect();
        assert_eq!((status.code(), notes), (Some(0), vec![]));
        assert!(
            self.out.into_iter().any(|line| line.starts_with("lines read")),
            "a report at the end"
        );
        let report = self.place.report();
        assert_balanced(&report);
        assert_eq!(report["complete"], true);
        report
    }
}

#[test]
fn follow_starts_at_the_end_and_reads_new_lines() {
    let place = Place::new();
    place.write("a.log", probe("old", 0) + "an unfinished");
    let run = Follow::start(&place, &["a.log"]);
    run.notes("following a.log");
    place.append("a.log", " line that began before\n".to_owned() + &probe("one", 1));
    run.alerts("one", "a.log:+1");
    // A line comes in two pieces.
    let two = probe("two", 2);
    place.append("a.log", "oops\n".to_owned() + &two[..20]);
    place.append("a.log", &two[20..]);
    run.alerts("two", "a.log:+3");
    let report = run.end("-INT");
    assert_eq!(
        (&report["read"], &report["parsed"], &report["malformed"]),
        (&json!(3), &json!(2), &json!(1))
    );
    assert_eq!(place.rejects()[0]["at"], "a.log:+2");
}

#[test]
fn follow_may_begin_at_the_beginning_and_terminate_ends_it_too() {
    let place = Place::new();
    place.write("a.log", "oops\n".to_owned() + &probe("old", 0));
    let run = Follow::start(&place, &["a.log", "--from-start"]);
    run.notes("following a.log");
    run.alerts("old", "a.log:2");
    place.append("a.log", probe("new", 1));
    run.alerts("new", "a.log:3");
    assert_eq!(run.end("-TERM")["read"], 3);
}

#[test]
fn follow_survives_rotation_and_reads_the_old_file_to_its_end() {
    let place = Place::new();
    place.write("a.log", "");
    let run = Follow::start(&place, &["a.log"]);
    run.notes("following a.log");
    place.append("a.log", probe("one", 0));
    run.alerts("one", "a.log:1");

    fs::rename(place.path("a.log"), place.path("a.log.1")).unwrap();
    // Still open in the program that writes, which does not know yet.
    place.append("a.log.1", probe("two", 1));
    run.alerts("two", "a.log:2");
    place.write("a.log", probe("three", 2));
    run.notes("renamed and created again: a.log");
    run.alerts("three", "a.log:1");
    place.append("a.log.1", probe("four", 3));
    run.alerts("four", "a.log:3");
    place.append("a.log", probe("five", 4));
    run.alerts("five", "a.log:2");

    // Once more: now the first one is let go, with its last line, to which no end will come.
    place.append("a.log.1", probe("six", 5).trim_end());
    fs::rename(place.path("a.log"), place.path("a.log.2")).unwrap();
    place.write("a.log", "");
    run.notes("renamed and created again: a.log");
    run.alerts("six", "a.log:4");
    // A file that is deleted is let go, too.
    place.append("a.log.2", probe("seven", 6).trim_end());
    fs::remove_file(place.path("a.log.2")).unwrap();
    run.alerts("seven", "a.log:3");
    place.append("a.log", probe("eight", 7));
    run.alerts("eight", "a.log:1");
    let report = run.end("-INT");
    assert_eq!((&report["read"], &report["parsed"]), (&json!(8), &json!(8)));
}

#[test]
fn follow_survives_truncation() {
    let place = Place::new();
    place.write("a.log", "");
    let run = Follow::start(&place, &["a.log"]);
    run.notes("following a.log");
    place.append("a.log", good(0) + &good(1) + &probe("one", 2));
    run.alerts("one", "a.log:3");
    place.write("a.log", probe("two", 3));
    run.notes("emptied: a.log");
    run.alerts("two", "a.log:1");
    place.append("a.log", probe("three", 4));
    run.alerts("three", "a.log:2");
    assert_eq!(run.end("-INT")["read"], 5);
}

#[test]
fn follow_waits_for_files_and_takes_turns() {
    let place = Place::new();
    place.write("b.log", "");
    let run = Follow::start(&place, &["a.log", "b.log"]);
    run.notes("waiting for a.log");
    run.notes("following b.log");
    place.append("b.log", probe("b", 0));
    run.alerts("b", "b.log:1");
    place.write("a.log", probe("a", 1));
    run.notes("following a.log");
    run.alerts("a", "a.log:1");
    fs::remove_file(place.path("a.log")).unwrap();
    place.append("b.log", probe("c", 2));
    run.alerts("c", "b.log:2");
    place.write("a.log", probe("d", 3));
    run.notes("renamed and created again: a.log");
    run.alerts("d", "a.log:1");
    assert_eq!(run.end("-INT")["read"], 4);
}

#[test]
fn follow_reads_files_renamed_twice_between_two_polls() {
    let place = Place::new();
    place.write("a.log", "");
    // It was there before, and is older.
    place.write("a.log.3", probe("zero", 0));
    let run = Follow::start(&place, &["a.log"]);
    run.notes("following a.log");
    place.append("a.log", probe("one", 1));
    run.alerts("one", "a.log:1");
    signal(&run.child, "-STOP");
    // Several generations, while the program is stopped.
    for (n, client) in [(2, "two"), (3, "three"), (4, "four")] {
        for number in (1..=4).rev() {
            let (from, to) = (format!("a.log.{number}"), format!("a.log.{}", number + 1));
            if place.path(&from).exists() {
                fs::rename(place.path(&from), place.path(&to)).unwrap();
            }
        }
        place.append("a.log", probe(&format!("last-{client}"), n).trim_end());
        fs::rename(place.path("a.log"), place.path("a.log.1")).unwrap();
        place.write("a.log", probe(client, n));
    }
    signal(&run.child, "-CONT");
    run.notes("renamed and created again: a.log");
    run.notes("renamed 3 times since it was last looked at: a.log");
    run.alerts("last-two", "a.log:2");
    run.alerts("two", "a.log:1");
    run.alerts("last-three", "a.log:2");
    run.alerts("three", "a.log:1");
    run.alerts("four", "a.log:1");
    let report = run.end("-INT");
    // The last line without an end is not counted: its file may still be written to.
    assert_eq!(
        (&report["read"], &report["parsed"], &report["unfinished"]),
        (&json!(6), &json!(6), &json!(1))
    );
}

#[test]
fn follow_tells_when_lines_may_be_missing() {
    let place = Place::new();
    place.write("a.log", "");
    let mut run = Follow::start(&place, &["a.log"]);
    run.notes("following a.log");
    signal(&run.child, "-STOP");
    // Only one old file is kept.
    for client in ["one", "two", "three"] {
        fs::rename(place.path("a.log"), place.path("a.log.1")).unwrap();
        place.write("a.log", probe(client, 1));
    }
    signal(&run.child, "-CONT");
    run.notes("renamed and created again: a.log");
    run.notes("renamed 2 times since it was last looked at: a.log");
    run.notes("lines may be missing of a.log");
    run.alerts("two", "a.log:1");
    run.alerts("three", "a.log:1");
    signal(&run.child, "-INT");
    run.notes("error: lines of a.log may be missing: it was rotated before they were read");
    assert_eq!(in_time(move || run.child.wait().unwrap()).code(), Some(1));
    assert_eq!(place.report()["complete"], false);
}

#[test]
fn a_file_that_becomes_a_pipe_makes_follow_wait_for_nothing() {
    let place = Place::new();
    place.write("a.log", "");
    let mut run = Follow::start(&place, &["a.log"]);
    run.notes("following a.log");
    fs::rename(place.path("a.log"), place.path("b.log")).unwrap();
    fifo(&place, "a.log");
    run.notes("for now cannot read (only files can be followed) a.log");
    place.append("b.log", probe("one", 0));
    run.alerts("one", "a.log:1");
    signal(&run.child, "-INT");
    run.notes("error: cannot read a.log: only files can be followed");
    assert_eq!(in_time(move || run.child.wait().unwrap()).code(), Some(1));
    assert_eq!(place.report()["parsed"], 1);
    place
        .run(&["--follow", "a.log"])
        .fails_with("cannot follow a.log: only files can be followed");
}

#[test]
fn a_file_that_cannot_be_followed_is_named_at_once() {
    let place = Place::new();
    place.write("a.gz", gzip(b"hello"));
    place
        .run(&["--follow", "a.gz"])
        .fails_with("error: cannot follow a.gz: a gzip file cannot be followed");
    place
        .run(&["--follow", "."])
        .fails_with("error: cannot follow .: only files can be followed");
}

#[test]
fn an_unreadable_file_is_named_and_may_come_back() {
    let place = Place::new();
    place.write("a.log", "");
    let mut run = Follow::start(&place, &["a.log"]);
    run.notes("following a.log");
    fs::remove_file(place.path("a.log")).unwrap();
    fs::create_dir(place.path("a.log")).unwrap();
    run.notes("for now cannot read (only files can be followed) a.log");
    fs::remove_dir(place.path("a.log")).unwrap();
    place.write("a.log", probe("one", 0));
    run.notes("renamed and created again: a.log");
    run.alerts("one", "a.log:1");
    signal(&run.child, "-INT");
    run.notes("error: cannot read a.log: only files can be followed");
    assert_eq!(in_time(move || run.child.wait().unwrap()).code(), Some(1));
    assert_eq!(place.report()["parsed"], 1);
}

#[test]
fn follow_ends_with_its_consumer() {
    let place = Place::new();
    place.write("a.log", "");
    let mut child =
        place.command(&["--follow", "a.log", "--json", "report.json"]).spawn().unwrap();
    let notes = lines(child.stderr.take().unwrap());
    assert_eq!(notes.recv_timeout(LIMIT).unwrap(), "log_processing: following a.log");
    drop(child.stdout.take());
    place.append("a.log", good(0) + &probe("one", 1));
    let status = in_time(move || child.wait().unwrap());
    assert_eq!((status.code(), notes.into_iter().collect::<Vec<_>>()), (Some(0), vec![]));
    assert_eq!(place.report()["read"], 2);
}
