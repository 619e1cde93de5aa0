//! Tests interrupts: the first one stops reading and loads what has been read, the second one discards it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::control::{first_line, interrupt, named_pipe};
use super::{BAD, CANCELLED, GOOD, Place, assert_balanced, count, csv, json};
use crate::program::{Ran, in_time};

#[test]
fn the_first_interrupt_loads_rows_while_the_input_is_silent() {
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        let letters = named_pipe(&place, "failed.jsonl");
        let mut child =
            place.command(Path::new("-"), more).stdin(Stdio::piped()).spawn().unwrap();
        let ran: Ran = in_time(move || {
            let mut stdin = child.stdin.take().unwrap();
            // The bad row comes last: its letter tells that those before it have been read. What follows it is no row,
            // for its line has no end.
            stdin.write_all(csv(&[GOOD, CANCELLED, GOOD, GOOD, BAD]).as_bytes()).unwrap();
            stdin.write_all(&GOOD.as_bytes()[..20]).unwrap();
            let mut letters = fs::File::open(letters).unwrap();
            let letter: Value = serde_json::from_str(&first_line(&mut letters)).unwrap();
            assert_eq!((&letter["line"], &letter["raw"]), (&json!(6), &json!(BAD)));
            interrupt(&child);
            let output = child.wait_with_output().unwrap();
            // Until here the program could have read on.
            drop(stdin);
            output
        })
        .into();
        assert_eq!(ran.code, Some(130), "{}", ran.stderr);
        assert_eq!(
            json(&ran),
            json!({"read": 5, "loaded": 3, "cancelled_flights": 1, "failed": 1, "complete": false})
        );
        assert_eq!(count(&place.database()), 3);
    }
}

#[test]
fn an_interrupt_within_a_file_loses_nothing() {
    let place = Place::new();
    let letters = named_pipe(&place, "failed.jsonl");
    // More than the pipe for the dead letters and all queues can take: the program waits for us until we read on.
    let bad = "x".repeat(4000);
    let rows: Vec<&str> = std::iter::repeat_n([GOOD, &bad], 20_000).flatten().collect();
    let input = place.write("in.csv", csv(&rows));
    let mut child = place.command(&input, &[]).spawn().unwrap();
    let (ran, letters): (Ran, usize) = in_time(move || {
        let mut letters = fs::File::open(letters).unwrap();
        first_line(&mut letters);
        interrupt(&child);
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("interrupted"), "{line}");
        let rest = BufReader::new(letters).lines().count();
        (child.wait_with_output().unwrap().into(), 1 + rest)
    });
    let totals = json(&ran);
    assert_eq!(ran.code, Some(130), "{totals}");
    assert_balanced(&totals);
    assert_eq!((&totals["complete"], &totals["abandoned"]), (&json!(false), &Value::Null));
    assert!(totals["read"].as_u64().unwrap() < 40_000);
    assert_eq!(totals["failed"], letters);
    assert_eq!(totals["loaded"], count(&place.database()));
}

#[test]
fn the_second_interrupt_discards_rows_and_reports_how_many() {
    let place = Place::new();
    let letters = named_pipe(&place, "failed.jsonl");
    let bad = "x".repeat(4000);
    let input = place.write("in.csv", csv(&vec![&*bad; 20_000]));
    let mut child = place.command(&input, &[]).spawn().unwrap();
    let ran: Ran = in_time(move || {
        let mut letters = fs::File::open(letters).unwrap();
        first_line(&mut letters);
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        // The letters are not read, so the program cannot finish what it has read.
        interrupt(&child);
        assert!(said.next().unwrap().contains("interrupted"));
        interrupt(&child);
        assert!(said.next().unwrap().contains("aborted"));
        // The write that was under way goes through; nothing follows it.
        BufReader::new(letters).lines().for_each(drop);
        child.wait_with_output().unwrap()
    })
    .into();
    assert_eq!(ran.code, Some(130));
    let totals = json(&ran);
    assert_balanced(&totals);
    assert_eq!((&totals["complete"], &totals["loaded"]), (&json!(false), &json!(0)));
    assert!(totals["abandoned"].as_u64().unwrap() > 0, "{totals}");
    let order = ["read", "loaded", "cancelled_flights", "failed", "complete", "abandoned"]
        .map(|key| ran.stdout.find(&format!("\"{key}\"")));
    assert!(order.is_sorted() && order[0].is_some(), "{}", ran.stdout);
}
