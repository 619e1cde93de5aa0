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
    for args in [&["-"][..], &["-", "--sequential"]] {
        let place = Place::new();
        let mut child = place.command(args).stdin(Stdio::piped()).spawn().unwrap();
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
}

#[test]
fn a_dropped_result_stops_no_run_that_leaves_files() {
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        place.write("a.log", probe("a", 0) + "oops\n" + &probe("b", 1) + "oops\n");
        for (output, file) in [("--json", "report.json"), ("--rejects", "rejects.jsonl")] {
            let args = [&["a.log", output, file], more].concat();
            let mut child = place.command(&args).spawn().unwrap();
            drop(child.stdout.take());
            let ran: Ran = in_time(move || child.wait_with_output().unwrap()).into();
            assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
        }
        assert_eq!((&place.report()["read"], place.rejects().len()), (&json!(4), 2));
    }
}

#[test]
fn an_output_removed_or_replaced_during_a_run_is_a_failure() {
    for more in [&[][..], &["--sequential"]] {
        for (is_replaced, option, what) in [
            (false, "--json", "cannot write report out"),
            (true, "--json", "cannot write report out"),
            (false, "--rejects", "cannot write to rejects file out"),
            (true, "--rejects", "cannot write to rejects file out"),
        ] {
            let place = Place::new();
            let args = [&["-", option, "out"], more].concat();
            let mut child = place.command(&args).stdin(Stdio::piped()).spawn().unwrap();
            let out = lines(child.stdout.take().unwrap());
            let file = place.path("out");
            let ran: Ran = in_time(move || {
                let mut stdin = child.stdin.take().unwrap();
                stdin.write_all(("oops\n".to_owned() + &probe("a", 0)).as_bytes()).unwrap();
                // The alert tells that the file is open.
                assert!(out.recv_timeout(LIMIT).unwrap().contains("probe"));
                std::fs::remove_file(&file).unwrap();
                if is_replaced {
                    std::fs::write(&file, "another one").unwrap();
                }
                drop(stdin);
                let ran = child.wait_with_output().unwrap();
                drop(out);
                ran
            })
            .into();
            ran.fails_with(&format!("{what}: it has been removed or replaced"));
        }
    }
}

#[test]
fn an_output_may_be_renamed_during_a_run() {
    let place = Place::new();
    let args = ["-", "--json", "report.json", "--rejects", "rejects.jsonl"];
    let mut child = place.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    let out = lines(child.stdout.take().unwrap());
    let (old, new) = (
        ["report.json", "rejects.jsonl"].map(|name| place.path(name)),
        ["a", "b"].map(|name| place.path(name)),
    );
    let ran: Ran = in_time(move || {
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(probe("a", 0).as_bytes()).unwrap();
        assert!(out.recv_timeout(LIMIT).unwrap().contains("probe"));
        for (old, new) in old.iter().zip(&new) {
            std::fs::rename(old, new).unwrap();
        }
        stdin.write_all(b"oops\n").unwrap();
        drop(stdin);
        let ran = child.wait_with_output().unwrap();
        drop(out);
        ran
    })
    .into();
    // Both are where they have been moved to.
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    assert_eq!((place.json_lines("a").len(), place.json_lines("b").len()), (1, 1));
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
