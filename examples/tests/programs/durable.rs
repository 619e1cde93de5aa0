//! `durable`: processes that are killed lose nothing.

use crate::program::{self, command};
use crate::scratch::Scratch;

#[test]
fn killed_processes_lose_nothing() {
    for workers in ["1", "4"] {
        let args = ["--payments", "4000", "--kills", "6", "--seed", workers, "--workers", workers];
        let ran = program::run(command(program::program("durable"), args));
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains("missing:           0"), "{}", ran.stdout);
        assert!(ran.stdout.contains("put aside:         8"), "{}", ran.stdout);
        assert!(ran.stdout.ends_with("nothing lost\n"), "{}", ran.stdout);
    }
}

#[test]
fn nothing_to_do_is_nothing_lost() {
    let ran = program::run(command(program::program("durable"), ["--payments", "0"]));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_journal_that_is_there_is_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.write("payments.journal", b"mine");
    let ran = program::run(command(program::program("durable"), ["--journal".as_ref(), path.as_os_str()]));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("payments.journal is there already"), "{}", ran.stderr);
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}
