//! Runs the ETL example as a user would, and checks what it prints, its database and its dead letters.
//!
//! Each module tests one theme. This file contains the helpers they share.

mod command_line;
#[cfg(target_os = "linux")]
mod control;
mod dead_letters;
#[cfg(target_os = "linux")]
mod input_kinds;
mod inputs;
#[cfg(target_os = "linux")]
mod interrupts;
#[cfg(target_os = "linux")]
mod other_programs;
mod outputs;
mod parsing;
#[cfg(target_os = "linux")]
mod progress_bar;
#[cfg(target_os = "linux")]
mod resume;
#[cfg(target_os = "linux")]
mod same_file;
mod shipped_data;
#[cfg(target_os = "linux")]
mod storage;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{self, Ran};
use crate::scratch::Scratch;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value;

const HEADER: &str = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,\
                      tailnum,origin,dest,air_time,distance,hour,minute,time_hour";

/// A flight without a flaw.
const GOOD: &str =
    "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z";

/// A flight that was cancelled.
const CANCELLED: &str =
    "2013,1,1,NA,1630,NA,NA,1815,NA,EV,4308,N18120,EWR,RDU,NA,416,16,30,2013-01-01T21:00:00Z";

/// A row that is none.
const BAD: &str = "not,a,flight";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

fn program() -> PathBuf {
    program::program("etl")
}

fn etl<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    program::command(program(), args)
}

fn json(ran: &Ran) -> Value {
    assert_eq!(ran.stdout.lines().count(), 1, "{} {}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// A folder with the files of a run.
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

    fn database(&self) -> PathBuf {
        self.path("out.db")
    }

    /// A run with `--json` on a file, or on what is given as standard input if that is `-`.
    fn command(&self, input: &Path, more: &[&str]) -> Command {
        let mut command = etl(["--json"]);
        command.arg("--input").arg(input).arg("--database").arg(self.database());
        command.arg("--dead-letters").arg(self.path("failed.jsonl")).args(more);
        command
    }

    fn run(&self, input: &Path, more: &[&str]) -> Ran {
        program::run(self.command(input, more))
    }

    fn run_stdin(&self, input: &[u8], more: &[&str]) -> Ran {
        program::run_with_input(self.command(Path::new("-"), more), input)
    }

    fn dead_letters(&self) -> Vec<Value> {
        self.json_lines("failed.jsonl")
    }

    /// Each row of the database as text, in the order of the input.
    fn rows(&self) -> Vec<Vec<String>> {
        rows(&self.database())
    }
}

/// Each flight of a database as text, NULL as `NA`.
fn rows(database: &Path) -> Vec<Vec<String>> {
    table(database, "flights")
}

fn table(database: &Path, name: &str) -> Vec<Vec<String>> {
    let connection = Connection::open(database).unwrap();
    let mut statement =
        connection.prepare(&format!("SELECT * FROM {name} ORDER BY line")).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let text = |column| match row.get_ref(column).unwrap() {
            ValueRef::Null => "NA".to_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            ValueRef::Blob(_) => panic!("there are no blobs"),
        };
        found.push((0..columns).map(text).collect());
    }
    found
}

fn count(database: &Path) -> u64 {
    let connection = Connection::open(database).unwrap();
    connection
        .query_row("SELECT count(*) FROM flights", [], |row| row.get::<_, i64>(0))
        .unwrap()
        .try_into()
        .unwrap()
}

/// `read = loaded + cancelled flights + failed (+ abandoned)`.
#[track_caller]
fn assert_balanced(totals: &Value) {
    let get = |key: &str| totals[key].as_u64().unwrap_or(0);
    assert_eq!(
        get("read"),
        get("loaded") + get("cancelled_flights") + get("failed") + get("abandoned"),
        "{totals} does not balance"
    );
}

fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn csv(rows: &[&str]) -> String {
    let mut text = format!("{HEADER}\n");
    rows.iter().for_each(|row| text.extend([row, "\n"]));
    text
}

fn january() -> String {
    gunzip(&fs::read(data("flights-2013-01.csv.gz")).unwrap())
}

/// A flight with one field changed.
fn with(column: usize, value: &str) -> String {
    let mut fields: Vec<&str> = GOOD.split(',').collect();
    fields[column] = value;
    fields.join(",")
}
