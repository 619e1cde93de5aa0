//! Tests the command line: which arguments are refused, and what is printed with and without `--json`, `--quiet` and
//! `--picture`.

use std::fs;
use std::path::Path;

use super::{BAD, CANCELLED, GOOD, Place, count, csv, data, etl, with};
use crate::program::{self, Ran, in_time};

#[test]
fn json_is_one_line_with_the_totals_in_this_order() {
    let place = Place::new();
    let ran = place.run(&data("flights-2013-01.csv.gz"), &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        ran.stdout,
        "{\"read\":27004,\"loaded\":25804,\"cancelled_flights\":521,\"failed\":679,\"complete\":true}\n"
    );
}

/// A line of its output without what differs from run to run: times, rates, and the spaces that line them up.
fn steady(line: &str) -> String {
    let is_time =
        |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with('s');
    if line.contains(" rows/s") || line.contains("bottleneck:") {
        return String::new();
    }
    line.split_whitespace().filter(|word| !is_time(word)).collect::<Vec<_>>().join(" ")
}

/// With `STREAMZ_UPDATE_DOCS=1` what it prints is copied into the README instead.
#[test]
fn the_readme_shows_what_it_prints() {
    let (begin, end) = ("<!-- output of etl -->\n```text\n", "```\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(begin).unwrap();
    let (shown, after) = rest.split_once(end).unwrap();

    let place = Place::new();
    let mut command = etl(["--database"]);
    command.arg(place.database()).arg("--dead-letters").arg(place.path("failed.jsonl"));
    let ran = program::run(command);
    assert_eq!(ran.code, Some(0), "{} {}", ran.stdout, ran.stderr);
    // Before that it names its files.
    let (_, printed) = ran.stdout.split_once("\n\n").unwrap();
    if std::env::var_os("STREAMZ_UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{printed}{end}{after}")).unwrap();
    } else {
        let steady = |text: &str| text.lines().map(steady).collect::<Vec<_>>();
        assert_eq!(steady(shown), steady(printed));
    }
}

#[test]
fn the_summary_counts_failures_by_their_reason() {
    let place = Place::new();
    let rows = [BAD, GOOD, &with(2, "31"), &with(2, "32"), &with(9, "ZZ"), "a,b", CANCELLED];
    let input = place.write("in.csv", csv(&rows));
    let mut command = etl(["--input"]);
    command.arg(input).arg("--database").arg(place.database());
    let ran = program::run(command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for line in [
        "failed                     4",
        "  1 no such date",
        "  1 unknown airline",
        "  2 wrong number of fields",
    ] {
        assert!(ran.stdout.contains(line), "`{line}` is not in: {}", ran.stdout);
    }
    // Without --dead-letters they lie beside the database.
    assert_eq!(fs::read_to_string(place.path("out.failed.jsonl")).unwrap().lines().count(), 4);
}

#[test]
fn databases_do_not_share_a_default_dead_letter_file() {
    let place = Place::new();
    let names = ["flights-2013.01", "flights-2013.02", "flights-2013", "a", "a.sqlite"];
    for (failed, name) in (1..).zip(names) {
        let input = place.write("in.csv", csv(&[&[GOOD][..], &vec![BAD; failed]].concat()));
        let mut command = etl(["--input"]);
        command.arg(&input).arg("--database").arg(place.path(name));
        let ran = program::run(command);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    for (failed, name) in (1..).zip(names) {
        let letters = fs::read_to_string(place.path(&format!("{name}.failed.jsonl"))).unwrap();
        assert_eq!(letters.lines().count(), failed, "{name}");
    }
}

#[test]
fn there_may_be_many_workers() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD, BAD]));
    let ran = place.run(&input, &["--workers", "100"]);
    assert_eq!((ran.code, count(&place.database())), (Some(0), 1), "{}", ran.stderr);
}

#[test]
fn wrong_arguments_are_refused() {
    let cases: [&[&str]; 5] = [
        &["--input", "in.csv"],
        &["--workers", "0"],
        &["--workers", "many"],
        &["--sequential", "--workers", "2"],
        &["in.csv"],
    ];
    for args in cases {
        let ran = program::run(etl(args));
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn help_names_the_signals_that_interrupt_it() {
    let ran = program::run(etl(["--help"]));
    assert!(
        ran.stdout.contains("interrupted with Ctrl-C, SIGTERM or SIGHUP"),
        "{}",
        ran.stdout
    );
}

#[test]
fn quiet_prints_nothing() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD, BAD]));
    let mut command = etl(["--quiet", "--input"]);
    command.arg(input).arg("--database").arg(place.database());
    let ran = program::run(command);
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (Some(0), "", ""));
    assert_eq!(count(&place.database()), 1);
}

#[test]
fn a_picture_is_all_that_is_printed() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD, BAD]));
    let mut command = etl(["--picture", "--input"]);
    command.arg(input).arg("--database").arg(place.database());
    let ran = program::run(command);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    assert!(
        ran.stdout.starts_with("flowchart LR\n") && ran.stdout.contains("[\"put aside<br/>"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_closed_output_of_the_summary_is_not_a_failure() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD]));
    let mut child = place.command(&input, &[]).spawn().unwrap();
    drop(child.stdout.take());
    let ran: Ran = in_time(move || child.wait_with_output().unwrap()).into();
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    assert_eq!(count(&place.database()), 1);
}
