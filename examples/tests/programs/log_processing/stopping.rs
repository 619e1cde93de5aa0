//! Tests what stops a run before its input ends: an interrupt, or a closed output.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use super::control::{LIMIT, fifo, lines, signal};
use super::{Place, assert_balanced, good, probe};
use crate::program::{Ran, in_time};

#[test]
fn an_interrupt_ends_the_wait_for_the_writer_of_a_pipe() {
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        place.write("a.log", probe("a", 0));
        fifo(&place, "b.log");
        let mut child = place
            .command(&[&["a.log", "b.log", "--json", "report.json"], more].concat())
            .spawn()
            .unwrap();
        let out = lines(child.stdout.take().unwrap());
        assert!(out.recv_timeout(LIMIT).unwrap().contains("probe"));
        signal(&child, "-INT");
        assert_eq!(in_time(move || child.wait().unwrap()).code(), Some(130));
        assert_eq!(
            (&place.report()["read"], &place.report()["complete"]),
            (&json!(1), &json!(false))
        );
    }
}

#[test]
fn reading_stops_when_the_result_is_dropped() {
    let place = Place::new();
    let mut child = place.command(&["-"]).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran: Ran = in_time(move || {
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(probe("a", 0).as_bytes()).unwrap();
        // Until it has ended it could read on.
        let status = child.wait().unwrap();
        drop(stdin);
        assert_eq!(status.code(), Some(0));
        child.wait_with_output().unwrap()
    })
    .into();
    assert_eq!(ran.stderr, "");
}

#[test]
fn an_interrupt_reports_results_while_the_input_is_silent() {
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        let args = [&["-", "--json", "report.json"], more].concat();
        let mut child = place.command(&args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (out, notes) =
            (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        // What follows the last line end is no line.
        stdin.write_all((good(0) + "oops\n" + &probe("a", 1) + "10.0.0").as_bytes()).unwrap();
        assert!(out.recv_timeout(LIMIT).unwrap().contains("probe"));
        signal(&child, "-INT");
        assert!(notes.recv_timeout(LIMIT).unwrap().contains("interrupted"));
        let status = in_time(move || child.wait().unwrap());
        // Until here the program could have read on.
        drop(stdin);
        assert_eq!(status.code(), Some(130));
        let report = place.report();
        assert_balanced(&report);
        assert_eq!((&report["read"], &report["complete"]), (&json!(3), &json!(false)));
        assert!(out.into_iter().any(|line| line == "not complete: interrupted"));
    }
}
