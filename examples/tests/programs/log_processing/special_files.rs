//! Tests special files as inputs and outputs: named pipes, devices, a full disk, and files without permission.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::control::fifo;
use super::inputs::ENDS;
use super::{Place, assert_balanced, good, gzip};
use crate::program::{self, Ran, in_time};

#[test]
fn named_pipes_come_to_their_end() {
    for (bytes, lines) in ENDS {
        for more in [&[][..], &["--sequential"]] {
            let place = Place::new();
            fifo(&place, "pipe");
            place.write("a.log", good(0));
            let args = [&["pipe", "a.log", "--json", "report.json"], more].concat();
            let child = place.command(&args).spawn().unwrap();
            let pipe = place.path("pipe");
            let ran: Ran = in_time(move || {
                fs::write(pipe, bytes).unwrap();
                child.wait_with_output().unwrap()
            })
            .into();
            assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{bytes:?}");
            assert_eq!(place.report()["read"], lines + 1, "{bytes:?}");
        }
    }
}

#[test]
fn no_standard_input_is_an_empty_one() {
    let place = Place::new();
    let warning = "log_processing: warning: there is no request: the input is empty\n";
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" - <&-"]).arg(program::program("log_processing"));
    let ran = program::run(command);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), warning));
    let ran = place.run(&["-"]);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), warning));
    let ran = place.run(&["/dev/null", "--json", "/dev/null", "--rejects", "/dev/null"]);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), warning));
}

#[test]
fn an_output_may_be_a_pipe() {
    let place = Place::new();
    place.write("a.log", good(0));
    fifo(&place, "report");
    let (child, report) =
        (place.command(&["a.log", "--json", "report"]).spawn().unwrap(), place.path("report"));
    let (text, ran) = in_time(move || {
        (fs::read_to_string(report).unwrap(), child.wait_with_output().unwrap())
    });
    let ran: Ran = ran.into();
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["parsed"], 1);
}

#[test]
fn named_pipes_are_inputs_like_any_other() {
    let place = Place::new();
    for name in ["a", "b"] {
        assert!(Command::new("mkfifo").arg(place.path(name)).status().unwrap().success());
    }
    let child = place.command(&["a", "b", "--json", "report.json"]).spawn().unwrap();
    let (a, b) = (place.path("a"), place.path("b"));
    let ran: Ran = in_time(move || {
        fs::write(a, good(0)).unwrap();
        fs::write(b, gzip(good(1).as_bytes())).unwrap();
        child.wait_with_output().unwrap()
    })
    .into();
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    assert_eq!(place.report()["parsed"], 2);
}

#[test]
fn a_full_disk_stops_the_job_and_is_named() {
    let place = Place::new();
    let many: String = (0..2000).map(good).collect();
    place.write("a.log", many.clone() + "oops\n" + &many);
    for more in [&[][..], &["--sequential"]] {
        let ran = place.run(
            &[&["a.log", "--rejects", "/dev/full", "--json", "report.json"], more].concat(),
        );
        ran.fails_with(
            "error: cannot write to rejects file /dev/full: No space left on device",
        );
        let report = place.report();
        assert_balanced(&report);
        assert_eq!((&report["malformed"], &report["complete"]), (&json!(0), &json!(false)));
        assert!(report["given_up"].as_u64().unwrap() >= 1);

        let ran = place.run(&[&["a.log", "--json", "/dev/full"], more].concat());
        ran.fails_with("error: cannot write report /dev/full: No space left on device");

        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = place.command(&[&["a.log", "--json", "report.json"], more].concat());
        command.stdout(full);
        let ran = program::run(command);
        ran.fails_with("error: cannot write to standard output: No space left on device");
        assert_eq!(place.report()["parsed"], 4000);
    }
}

#[test]
fn files_that_may_not_be_read_are_named() {
    let place = Place::new();
    place.write("a.log", "");
    let denied = Command::new("chmod").arg("000").arg(place.path("a.log")).status().unwrap();
    assert!(denied.success());
    // Who may read everything may read this, too.
    if fs::File::open(place.path("a.log")).is_err() {
        place.run(&["a.log"]).fails_with("error: cannot open a.log: Permission denied");
    }
}
