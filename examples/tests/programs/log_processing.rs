//! Runs the log processor as a user would, and checks what it prints, its report and its rejects.
//!
//! Each module tests one theme. This file contains the helpers they share.

mod clocks;
mod command_line;
#[cfg(target_os = "linux")]
mod control;
mod counts;
#[cfg(target_os = "linux")]
mod demo;
#[cfg(target_os = "linux")]
mod follow;
mod formats;
mod inputs;
mod malformed_lines;
mod outputs;
#[cfg(target_os = "linux")]
mod special_files;
#[cfg(target_os = "linux")]
mod stopping;
mod watch;

use std::fs;
use std::io::Write;
use std::ops::Deref;
use std::process::Command;

use crate::program::{self, Ran};
use crate::scratch::Scratch;
use serde_json::Value;

fn tool() -> Command {
    program::command::<&str>(program::program("log_processing"), [])
}

/// A line of the Common Log Format, this many seconds after nine o'clock.
fn line(client: &str, second: u32, target: &str, status: u16) -> String {
    let (hour, minute, second) = (9 + second / 3600, second / 60 % 60, second % 60);
    let time = format!("14/Mar/2026:{hour:02}:{minute:02}:{second:02} +0000");
    format!("{client} - - [{time}] \"GET {target} HTTP/1.1\" {status} 100\n")
}

fn good(second: u32) -> String {
    line("10.0.0.1", second, "/", 200)
}

/// A line that gives an alert, which names the client.
fn probe(client: &str, second: u32) -> String {
    line(client, second, "/.env", 404)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with the files of a run, in which the program is run, so that names are short.
struct Place {
    scratch: Scratch,
}

impl Deref for Place {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        &self.scratch
    }
}

impl Place {
    fn new() -> Self {
        Self { scratch: Scratch::new() }
    }

    fn append(&self, name: &str, content: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new().append(true).open(self.path(name)).unwrap();
        file.write_all(content.as_ref()).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = tool();
        command.args(args).current_dir(self.folder());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        program::run(self.command(args))
    }

    fn run_stdin(&self, input: &[u8], args: &[&str]) -> Ran {
        program::run_with_input(self.command(args), input)
    }

    fn report(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path("report.json")).unwrap()).unwrap()
    }

    fn rejects(&self) -> Vec<Value> {
        self.json_lines("rejects.jsonl")
    }
}

/// The report of a run on one text.
fn report(text: impl AsRef<[u8]>, more: &[&str]) -> Value {
    let place = Place::new();
    place.write("access.log", text);
    let args = [&["access.log", "--json", "-"], more].concat();
    let ran = place.run(&args);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_balanced(&report);
    report
}

/// `read = parsed + malformed + given up`, and the parts are the whole.
#[track_caller]
fn assert_balanced(report: &Value) {
    let get = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(get("read"), get("parsed") + get("malformed") + get("given_up"), "{report}");
    let sum = |values: &Value| {
        values.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(sum(&report["statuses"]), get("parsed"), "{report}");
    assert_eq!(sum(&report["reasons"]), get("malformed"), "{report}");
    let minutes = report["minutes"].as_array().unwrap();
    let minutes: u64 = minutes.iter().map(|minute| minute["requests"].as_u64().unwrap()).sum();
    assert_eq!(
        minutes + report["forgotten"]["minutes"]["requests"].as_u64().unwrap(),
        get("parsed"),
        "{report}"
    );
}

/// Kind and client of each alert.
fn alerts(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    report["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| (text(&alert["kind"]), text(&alert["client"])))
        .collect()
}

fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    pairs.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}
