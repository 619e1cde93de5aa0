//! Tests which rows fail: each becomes a dead letter with its line, stage and reason, and the other rows are loaded. The job
//! fails if all rows do.

use serde_json::{Value, json};

use super::{BAD, CANCELLED, GOOD, HEADER, Place, csv, json, with};

#[test]
fn each_malformed_row_is_a_dead_letter_and_stops_nothing() {
    let digits = "9".repeat(50);
    let cut = format!("not a number: `distance` is \"{}..\"", "9".repeat(40));
    let cases: &[(&str, &str, &str)] = &[
        (BAD, "parse", "wrong number of fields: 3 instead of 19"),
        (
            &format!("{GOOD},one more"),
            "parse",
            "wrong number of fields: more than 19 instead of 19",
        ),
        (
            &format!("{GOOD},a,b,c,d,e"),
            "parse",
            "wrong number of fields: more than 19 instead of 19",
        ),
        (" ", "parse", "wrong number of fields: 1 instead of 19"),
        (&with(5, "\"2"), "parse", "quote not closed: a field may not contain a line break"),
        (
            &with(18, "\"2013-01-01T10:00:00Z"),
            "parse",
            "quote not closed: a field may not contain a line break",
        ),
        (&",".repeat(18), "parse", "no values: every field is missing"),
        (&["NA"; 19].join(","), "parse", "no values: every field is missing"),
        (&with(3, "late"), "parse", "not a number: `dep_time` is \"late\""),
        (&with(3, " "), "parse", "not a number: `dep_time` is \" \""),
        (&with(3, "517.5"), "parse", "not a number: `dep_time` is \"517.5\""),
        (&with(3, "517."), "parse", "not a number: `dep_time` is \"517.\""),
        (&with(3, ".0"), "parse", "not a number: `dep_time` is \".0\""),
        (&with(3, "\r"), "parse", "not a number: `dep_time` is \"\\r\""),
        (&with(14, "99999999999"), "parse", "not a number: `air_time` is \"99999999999\""),
        (&with(15, &digits), "parse", &cut),
        (&with(2, "32"), "parse", "no such date: 2013-01-32"),
        (&with(1, "13"), "parse", "no such date: 2013-13-01"),
        (&with(0, "99999"), "parse", "no such date: 99999-01-01"),
        (
            &with(18, "2013-02-30T10:00:00Z"),
            "parse",
            "no such date: `time_hour` is \"2013-02-30T10:00:00Z\"",
        ),
        (&with(9, "ZZ"), "enrich", "unknown airline: `carrier` is \"ZZ\""),
        (&with(9, " "), "enrich", "unknown airline: `carrier` is \" \""),
        (&with(12, "XXX"), "enrich", "unknown airport: `origin` is \"XXX\""),
        (&with(13, "SJU"), "enrich", "unknown airport: `dest` is \"SJU\""),
    ];
    let mut rows = vec![GOOD];
    rows.extend(cases.iter().map(|(raw, ..)| *raw));
    rows.extend([CANCELLED, GOOD]);

    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        let ran = place.run(&place.write("in.csv", csv(&rows)), more);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(
            json(&ran),
            json!({"read": cases.len() + 3, "loaded": 2, "cancelled_flights": 1, "failed": cases.len(), "complete": true})
        );
        let expected: Vec<Value> = (3..)
            .zip(cases)
            .map(|(line, (raw, stage, reason))| json!({"line": line, "stage": stage, "reason": reason, "raw": raw}))
            .collect();
        assert_eq!(place.dead_letters(), expected);
    }
}

#[test]
fn invalid_utf8_and_endless_lines_are_dead_letters_too() {
    let place = Place::new();
    let mut input = csv(&[GOOD]).into_bytes();
    input.extend(b"2013,1,1,\xff\xfe\n");
    input.extend(vec![b'x'; 8192]);
    input.push(b'\n');
    input.extend(vec![b'x'; 100_000]);
    input.push(b'\n');
    input.extend(GOOD.as_bytes());
    let ran = place.run(&place.write("in.csv", input), &[]);
    assert_eq!(
        json(&ran),
        json!({"read": 5, "loaded": 2, "cancelled_flights": 0, "failed": 3, "complete": true})
    );
    let letters = place.dead_letters();
    assert_eq!(letters[0]["reason"], "not UTF-8");
    assert_eq!(letters[0]["raw"], "2013,1,1,\u{fffd}\u{fffd}");
    assert_eq!(letters[1]["reason"], "wrong number of fields: 1 instead of 19");
    assert_eq!(letters[2]["reason"], "line too long: more than 8192 bytes");
    assert_eq!(letters[2]["raw"].as_str().unwrap().len(), 8192);
    assert_eq!(place.rows().iter().map(|row| &*row[0]).collect::<Vec<_>>(), ["2", "6"]);
}

#[test]
fn a_row_has_as_many_fields_as_the_header() {
    let place = Place::new();
    let input = format!(
        "{HEADER},note\n{GOOD},a\n{GOOD}\n{GOOD},a,b\n{GOOD},\"a\nb\"\n{GOOD},\"a, b\""
    );
    let ran = place.run(&place.write("in.csv", input), &[]);
    assert_eq!(
        json(&ran),
        json!({"read": 6, "loaded": 2, "cancelled_flights": 0, "failed": 4, "complete": true})
    );
    let letters = place.dead_letters();
    let expected = [
        (3, "wrong number of fields: 19 instead of 20"),
        (4, "wrong number of fields: more than 20 instead of 20"),
        // A line is a row, also within quotes.
        (5, "quote not closed: a field may not contain a line break"),
        (6, "wrong number of fields: 1 instead of 20"),
    ];
    let found = letters
        .iter()
        .map(|letter| (letter["line"].as_i64().unwrap(), letter["reason"].as_str().unwrap()));
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn bytes_that_are_not_utf8_spoil_only_a_row_that_needs_them() {
    let place = Place::new();
    let mut input = format!("{HEADER},note\n{GOOD},").into_bytes();
    input.extend(b"Z\xfcrich\n");
    input.extend(with(11, "N\u{1}").replace('\u{1}', "?").as_bytes());
    input.extend(b",\xff\n");
    let mut bad = format!("{},note\n", with(11, "?")).into_bytes();
    let at = bad.iter().position(|byte| *byte == b'?').unwrap();
    bad[at] = 0xe9;
    input.extend(bad);
    let ran = place.run(&place.write("in.csv", input), &[]);
    assert_eq!(
        json(&ran),
        json!({"read": 3, "loaded": 2, "cancelled_flights": 0, "failed": 1, "complete": true})
    );
    assert_eq!(
        (&place.dead_letters()[0]["line"], &place.dead_letters()[0]["reason"]),
        (&json!(4), &json!("not UTF-8"))
    );
}

#[test]
fn that_no_row_could_be_loaded_is_a_failure() {
    for more in [&[][..], &["--sequential"], &["--quiet"]] {
        let place = Place::new();
        let ran =
            place.run(&place.write("in.csv", csv(&[BAD, CANCELLED, &with(9, "ZZ")])), more);
        ran.fails_with("error: no row was loaded: all 2 failed; the reasons are in ");
        assert_eq!(place.dead_letters().len(), 2);
    }
    let place = Place::new();
    let ran = place.run(&place.write("in.csv", csv(&[CANCELLED])), &[]);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
}
