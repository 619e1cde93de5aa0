//! Tests the command line: the run without arguments, which arguments are refused, the help, and what is printed.

use super::{Place, probe, tool};
use crate::program::{self, Ran, in_time};

#[test]
fn without_arguments_it_keeps_its_promises() {
    let ran = program::run(tool());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("\nall 7 promises kept\n"), "{}", ran.stdout);
    for text in [
        "scan    203.0.113.9: 50 different paths within 60 s (access.log.1.gz:",
        "lines/s",
        "10.0.0.0",
    ] {
        assert!(ran.stdout.contains(text), "{text} is not in {}", ran.stdout);
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let cases: [&[&str]; 9] = [
        &["a.log", "--window", "0"],
        &["a.log", "--burst", "1"],
        &["a.log", "--burst", "NaN"],
        &["a.log", "--max-errors", "many"],
        &["a.log", "--format", "xml"],
        &["a.log", "--from-start"],
        &["a.log", "--follow", "--sequential"],
        &["--follow"],
        &["--nonsense"],
    ];
    for args in cases {
        let ran = Place::new().run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn help_covers_the_essentials() {
    let ran = Place::new().run(&["--help"]);
    assert_eq!(ran.code, Some(0));
    for text in [
        "--follow",
        "Exit status:\n  0 ",
        "Memory:",
        "SIGTERM or SIGHUP",
        "tail -F",
        "read = parsed + malformed",
    ] {
        assert!(ran.stdout.contains(text), "{text}");
    }
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{}", ran.stdout);
}

#[test]
fn quiet_prints_nothing_and_json_prints_one_line() {
    let place = Place::new();
    place.write("a.log", probe("a", 0) + "oops\n");
    let ran = place.run(&["a.log", "--quiet"]);
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (Some(0), "", ""));
    let ran = place.run(&["a.log", "--json", "-"]);
    assert_eq!((ran.code, ran.stdout.lines().count(), &*ran.stderr), (Some(0), 1, ""));
    let ran = place.run(&["a.log", "--quiet", "--picture"]);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    assert!(
        ran.stdout.starts_with("flowchart LR\n") && ran.stdout.contains("not too often"),
        "{}",
        ran.stdout
    );
    let ran = place.run(&["a.log", "--stages"]);
    assert!(
        ran.stderr.contains("bottleneck: ") && ran.stderr.contains("not too often"),
        "{}",
        ran.stderr
    );
}

/// A request at that second.
fn at(time: i64) -> String {
    format!("{{\"time\":{time},\"client\":\"a\",\"path\":\"/\",\"status\":200}}\n")
}

const DAY: i64 = 86_400;

#[test]
fn the_timeline_fits_on_a_screen_however_long_the_log_is() {
    for (days, rows) in [
        (0, "each minute from"),
        (1, "each 60 minutes from"),
        (6, "each 360 minutes from"),
        (30_000, "each minute from"),
    ] {
        let place = Place::new();
        place.write("a.log", at(0) + &at(30) + &at(days * DAY));
        let ran = place.run(&["a.log"]);
        assert!(ran.stdout.contains(rows), "{days}: {}", ran.stdout);
        assert!(ran.stdout.lines().count() < 60);
    }
}

#[test]
fn the_timeline_has_every_request_of_a_long_log() {
    for (days, step, heading, rows) in [
        (20, 1, "each day from", 20),
        (400, 4, "each 28 days from", 15),
        (9000, 90, "each 365 days from", 25),
    ] {
        let place = Place::new();
        place.write("a.log", (0..days / step).map(|n| at(n * step * DAY)).collect::<String>());
        let ran = place.run(&["a.log"]);
        let timeline =
            ran.stdout.split(heading).nth(1).unwrap_or_else(|| panic!("{}", ran.stdout));
        let counts: Vec<i64> = timeline
            .lines()
            .skip(2)
            .take_while(|line| !line.trim().is_empty())
            .map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap())
            .collect();
        assert_eq!(
            (counts.len(), counts.iter().sum::<i64>()),
            (rows, days / step),
            "{timeline}"
        );
    }
}

#[test]
fn control_characters_of_strangers_do_not_reach_the_terminal() {
    let place = Place::new();
    let evil = r#"{"time":0,"client":"a","path":"/.env\u0007\u001b[2J","status":404}"#;
    let no_client = r#"{"time":0,"client":"a\u001b[2J","path":"/","status":404}"#;
    place.write("a.log", format!("{evil}\n\u{1b}[2J\n{no_client}\n"));
    let ran = place.run(&["a.log"]);
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stdout.contains("probe") && !ran.stdout.contains(['\u{1b}', '\u{7}']),
        "{:?}",
        ran.stdout
    );
}

#[test]
fn a_closed_output_of_the_report_is_not_a_failure() {
    let place = Place::new();
    place.write("a.log", probe("a", 0) + &probe("b", 1));
    let mut child = place.command(&["a.log", "--json", "report.json"]).spawn().unwrap();
    drop(child.stdout.take());
    let ran: Ran = in_time(move || child.wait_with_output().unwrap()).into();
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    assert_eq!(place.report()["parsed"], 2);
}
