//! Tests the kinds of input: the program reads files, pipes and named pipes to their end, packed or not, and does not
//! wait for devices.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;

use super::control::named_pipe;
use super::{CANCELLED, GOOD, HEADER, Place, csv, gzip, json};
use crate::program::{self, Ran, in_time};

/// The kinds of input.
#[derive(Debug, Clone, Copy)]
enum Way {
    File,
    FileOnStdin,
    Pipe,
    NamedPipe,
    /// A link to standard input, as a shell gives one to a process substitution.
    Descriptor,
}

/// Runs the program on an input that comes in this way.
fn arrives(place: &Place, way: Way, input: &[u8], more: &[&str]) -> Ran {
    let file = place.path("in");
    match way {
        Way::File => place.run(&place.write("in", input), more),
        Way::FileOnStdin => {
            place.write("in", input);
            let mut command = place.command(Path::new("-"), more);
            command.stdin(fs::File::open(file).unwrap());
            program::run(command)
        }
        Way::Pipe => place.run_stdin(input, more),
        Way::Descriptor => {
            let mut child = place
                .command(Path::new("/dev/fd/0"), more)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
            in_time(move || {
                stdin.write_all(&input).unwrap();
                drop(stdin);
                child.wait_with_output().unwrap()
            })
            .into()
        }
        Way::NamedPipe => {
            let child = place.command(&named_pipe(place, "in"), more).spawn().unwrap();
            let input = input.to_vec();
            in_time(move || {
                fs::OpenOptions::new()
                    .write(true)
                    .open(file)
                    .unwrap()
                    .write_all(&input)
                    .unwrap();
                child.wait_with_output().unwrap()
            })
            .into()
        }
    }
}

#[test]
fn every_input_ends_whatever_it_holds_and_however_it_arrives() {
    let whole = csv(&[GOOD, CANCELLED, GOOD]);
    let totals = |read: u64, loaded: u64| json!({"read": read, "loaded": loaded, "cancelled_flights": read - loaded, "failed": 0, "complete": true});
    let cases = [
        ("", Err("is empty")),
        ("x", Err("its first line is `x`")),
        (HEADER, Ok(totals(0, 0))),
        (&*csv(&[]), Ok(totals(0, 0))),
        (whole.trim_end(), Ok(totals(3, 2))),
        (&*whole, Ok(totals(3, 2))),
    ];
    for way in [Way::File, Way::FileOnStdin, Way::Pipe, Way::NamedPipe, Way::Descriptor] {
        for (text, expected) in &cases {
            for (packed, more) in [
                (false, &[][..]),
                (false, &["--sequential"]),
                (true, &[]),
                (true, &["--sequential"]),
            ] {
                let input =
                    if packed { gzip(text.as_bytes()) } else { text.as_bytes().to_vec() };
                let place = Place::new();
                let ran = arrives(&place, way, &input, more);
                match expected {
                    Ok(totals) => {
                        assert_eq!(
                            ran.code,
                            Some(0),
                            "{way:?}, {text:?}, {more:?}: {}",
                            ran.stderr
                        );
                        assert_eq!(&json(&ran), totals, "{way:?}, {text:?}, {more:?}");
                    }
                    Err(message) => ran.fails_with(message),
                }
            }
        }
    }
}

#[test]
fn no_device_is_waited_for() {
    let place = Place::new();
    place.run(Path::new("/dev/null"), &[]).fails_with("/dev/null is empty");
    place.run(Path::new("-"), &[]).fails_with("standard input is empty");
    place.run(Path::new("/dev/zero"), &[]).fails_with("/dev/zero is not a file of flights");
}
