//! Tests the run without a file when it is cut short: by an interrupt, or by an output that cannot be written.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::control::{LIMIT, fifo, lines, signal};
use super::{Place, tool};
use crate::program::{self, in_time};

/// The demo, with its temporary folder inside another one.
fn demo(temporary: &Path, args: &[&str]) -> Command {
    let mut command = tool();
    command.args(args).env("TMPDIR", temporary);
    command
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn an_interrupted_run_is_not_checked() {
    for (name, more) in [("-INT", &[][..]), ("-TERM", &[]), ("-HUP", &["--sequential"])] {
        let place = Place::new();
        let temporary = place.path("tmp");
        fs::create_dir(&temporary).unwrap();
        fifo(&place, "rejects");
        let rejects = place.path("rejects");
        let args = [&["--rejects", rejects.to_str().unwrap()], more].concat();
        let mut child = demo(&temporary, &args).spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let notes = lines(child.stderr.take().unwrap());
        assert!(out.recv_timeout(LIMIT).unwrap().contains("working through"));
        // It cannot begin to read before its rejects have a reader.
        signal(&child, name);
        assert!(notes.recv_timeout(LIMIT).unwrap().contains("interrupted"));
        let code = in_time(move || {
            drop(fs::read(&rejects).unwrap());
            child.wait().unwrap().code()
        });
        assert_eq!(code, Some(130));
        assert_eq!(
            notes.iter().collect::<Vec<_>>(),
            ["log_processing: the promises were not checked: the run was interrupted"]
        );
        let out: Vec<String> = out.iter().collect();
        assert!(out.contains(&"not complete: interrupted".to_owned()), "{out:?}");
        assert!(!out.iter().any(|line| line.contains("romise")), "{out:?}");
        assert!(is_empty(&temporary));
    }
}

#[test]
fn an_interrupt_while_the_log_is_made_leaves_no_folder() {
    let place = Place::new();
    let temporary = place.path("tmp");
    fs::create_dir(&temporary).unwrap();
    fifo(&place, "rejects");
    let rejects = place.path("rejects");
    let mut child =
        demo(&temporary, &["--rejects", rejects.to_str().unwrap()]).spawn().unwrap();
    let notes = lines(child.stderr.take().unwrap());
    let made = temporary.clone();
    let child = in_time(move || {
        while is_empty(&made) {
            std::thread::yield_now();
        }
        child
    });
    // It cannot have come to its end: its rejects have no reader yet.
    signal(&child, "-INT");
    assert!(notes.recv_timeout(LIMIT).unwrap().contains("interrupted"));
    let _reader = fs::OpenOptions::new().read(true).write(true).open(&rejects).unwrap();
    let ran = in_time(move || child.wait_with_output().unwrap());
    assert_eq!(ran.status.code(), Some(130));
    assert!(is_empty(&temporary));
}

#[test]
fn an_output_that_cannot_be_written_is_one_error() {
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        let mut command = demo(place.folder(), more);
        command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        let ran = program::run(command);
        assert_eq!(
            (ran.code, &*ran.stderr),
            (
                Some(1),
                "log_processing: error: cannot write to standard output: No space left on device (os error 28)\n"
            )
        );
        assert!(is_empty(place.folder()));
    }
}
