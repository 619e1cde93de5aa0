//! Tests the run on the shipped data against an independent count.
//!
//! The independent count knows nothing of the example's code: it splits lines at their commas, and asks the database
//! with SQL.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{Place, data, etl, january, rows};
use crate::program;

/// What should become of a file of flights, found by other means than those of the example.
struct Expected {
    rows: Vec<Vec<String>>,
    cancelled: u64,
    failed: Vec<(i64, String)>,
}

impl Expected {
    /// For a well-formed file; only airports may be unknown.
    fn of(text: &str) -> Self {
        let table = |name: &str| -> HashMap<String, Vec<String>> {
            let text = fs::read_to_string(data(name)).unwrap();
            let fields = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
            text.lines().skip(1).map(|line| (fields(line)[0].clone(), fields(line))).collect()
        };
        let (airlines, airports) = (table("airlines.csv"), table("airports.csv"));
        let mut expected = Self { rows: Vec::new(), cancelled: 0, failed: Vec::new() };
        for (index, line) in text.lines().enumerate().skip(1) {
            let number = index as i64 + 1;
            let field: Vec<&str> = line.split(',').collect();
            let airport = |code: &str| {
                let entry = airports.get(code)?;
                let number = |text: &str| text.parse::<f64>().unwrap().to_string();
                Some([code.to_owned(), entry[1].clone(), number(&entry[2]), number(&entry[3])])
            };
            match (field[3], airport(field[12]), airport(field[13])) {
                ("NA", ..) => expected.cancelled += 1,
                (_, Some(origin), Some(dest)) => {
                    let mut row = vec![number.to_string()];
                    row.extend(field[..10].iter().map(ToString::to_string));
                    row.push(airlines[field[9]][1].clone());
                    row.extend([field[10], field[11]].map(str::to_owned));
                    row.extend(origin.into_iter().chain(dest));
                    row.extend(field[14..].iter().map(ToString::to_string));
                    expected.rows.push(row);
                }
                _ => expected.failed.push((number, line.to_owned())),
            }
        }
        expected
    }
}

#[test]
fn the_shipped_data_is_loaded_as_an_independent_count_says() {
    let _place = program::own_place_of_etl();
    let ran = program::run(etl::<&str>([]));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let place = |label: &str| {
        let line = ran.stdout.lines().find_map(|line| line.strip_prefix(label)).unwrap();
        PathBuf::from(line.trim())
    };
    let expected = Expected::of(&january());
    assert_eq!(
        (expected.rows.len(), expected.cancelled, expected.failed.len()),
        (25_804, 521, 679)
    );

    let found = rows(&place("database"));
    for (found, expected) in found.iter().zip(&expected.rows) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.rows.len());

    let failed = fs::read_to_string(place("dead letters")).unwrap();
    let failed: Vec<Value> =
        failed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |letter: &Value| {
        (letter["line"].as_i64().unwrap(), letter["raw"].as_str().unwrap().to_owned())
    };
    assert_eq!(failed.iter().map(of).collect::<Vec<_>>(), expected.failed);
    assert!(failed.iter().all(|letter| letter["stage"] == "enrich"));

    for line in [
        "read                   27004",
        "loaded                 25804",
        "cancelled flights        521",
        "failed                   679",
    ] {
        assert!(ran.stdout.contains(line), "{}", ran.stdout);
    }
    for text in ["679 unknown airport", "rows/s", "transform", "bottleneck: "] {
        assert!(ran.stdout.contains(text), "{}", ran.stdout);
    }
}

#[test]
fn the_plain_loop_gives_the_same() {
    let (place, plain) = (Place::new(), Place::new());
    let input = data("flights-2013-01.csv.gz");
    let (a, b) = (place.run(&input, &["--workers", "3"]), plain.run(&input, &["--sequential"]));
    assert_eq!((a.code, &a.stdout), (b.code, &b.stdout));
    assert!(place.rows() == plain.rows(), "the databases differ");
    assert_eq!(place.dead_letters(), plain.dead_letters());
}

#[test]
fn the_data_agrees_with_its_readme() {
    let readme = fs::read_to_string(data("README.md")).unwrap();
    let text = january();
    assert_eq!(text.lines().count(), 27_004 + 1);
    assert_eq!(text.len(), 2_481_495);
    assert!(readme.contains("27,004") && readme.contains("2,481,495"));
    assert!(text.lines().skip(1).all(|line| line.starts_with("2013,1,")));
}
