//! Tests how rows and dead letters are stored while a job runs, and what remains when the disk is full.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::control::count_in_file;
use super::{BAD, GOOD, Place, assert_balanced, count, csv, data, etl, json, program, table};
use crate::program::{Ran, in_time};

#[test]
fn dead_letters_on_a_full_disk_stop_the_job() {
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        let rows: Vec<&str> =
            std::iter::repeat_n(GOOD, 5000).chain([BAD]).chain([GOOD; 5000]).collect();
        let input = place.write("in.csv", csv(&rows));
        let mut command = etl(["--json", "--dead-letters", "/dev/full", "--input"]);
        command.arg(input).arg("--database").arg(place.database()).args(more);
        let ran = program::run(command);
        ran.fails_with("cannot write to dead-letter file /dev/full: No space left on device");
        let totals = json(&ran);
        assert_balanced(&totals);
        assert_eq!((&totals["failed"], &totals["complete"]), (&json!(0), &json!(false)));
        // What was committed stays.
        assert_eq!(totals["loaded"], count(&place.database()));
    }
}

#[test]
fn a_full_disk_stops_the_job_and_keeps_committed_rows() {
    for more in ["", "--sequential"] {
        let place = Place::new();
        // No file may grow beyond 1,000 or 2,000 kB, by the shell's idea of a block: about a third of what it takes.
        let limited = "trap '' XFSZ; ulimit -f 2000; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", limited, "sh"]).arg(program()).arg("--json").arg("--input");
        command.arg(data("flights-2013-01.csv.gz")).arg("--database").arg(place.database());
        command.args((!more.is_empty()).then_some(more));
        let ran = program::run(command);
        ran.fails_with(&format!("cannot write to database {}: ", place.database().display()));
        let totals = json(&ran);
        assert_balanced(&totals);
        assert_eq!(totals["complete"], false);
        let [loaded, failed] = ["loaded", "failed"].map(|key| totals[key].as_u64().unwrap());
        assert!(loaded > 0 && failed > 0, "{totals}");
        assert_eq!(loaded, count(&place.database()));
        assert_eq!(failed, table(&place.database(), "dead_letters").len() as u64);
    }
}

#[test]
fn rows_are_copied_from_the_log_into_the_database_while_the_job_runs() {
    let place = Place::new();
    let database = place.database();
    let mut child = place.command(Path::new("-"), &[]).stdin(Stdio::piped()).spawn().unwrap();
    let ran: Ran = in_time(move || {
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(csv(&[GOOD, GOOD, GOOD]).as_bytes()).unwrap();
        while count_in_file(&database) < 3 {
            std::thread::yield_now();
        }
        drop(stdin);
        child.wait_with_output().unwrap()
    })
    .into();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(json(&ran)["loaded"], 3);
}
