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
        (
            &with(18, "2013-01-01T10:00:00"),
            "parse",
            "no offset from UTC: `time_hour` is \"2013-01-01T10:00:00\"",
        ),
        (
            &with(18, "2013-01-01 05:00:00"),
            "parse",
            "no offset from UTC: `time_hour` is \"2013-01-01 05:00:00\"",
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

/// A flight with other values in these columns.
fn with_all(changes: &[(usize, &str)]) -> String {
    let mut fields: Vec<&str> = GOOD.split(',').collect();
    changes.iter().for_each(|&(column, value)| fields[column] = value);
    fields.join(",")
}

/// The columns of times of day, such as 517 for 5:17.
const TIMES: [(usize, &str); 4] =
    [(3, "dep_time"), (4, "sched_dep_time"), (6, "arr_time"), (7, "sched_arr_time")];

#[test]
fn a_number_that_is_no_time_or_date_is_a_dead_letter() {
    let mut cases = Vec::new();
    for (column, name) in TIMES {
        for value in ["2360", "60", "1199", "2401", "2459", "-1", "-517", "10000", "2147483647"]
        {
            // `hour` and `minute` are those of `sched_dep_time`.
            let row = with_all(&[(16, "NA"), (17, "NA"), (column, value)]);
            cases.push((row, format!("no such time: `{name}` is {value}")));
        }
    }
    for (column, name, values) in [
        (16, "hour", ["24", "25", "-1"]),
        (17, "minute", ["60", "99", "-1"]),
        (14, "air_time", ["-1", "-227", "-2147483648"]),
        (15, "distance", ["-1", "-1400", "-2147483648"]),
    ] {
        for value in values {
            let row = with_all(&[(4, "NA"), (column, value)]);
            let kind = if column < 16 { "less than zero" } else { "no such time" };
            cases.push((row, format!("{kind}: `{name}` is {value}")));
        }
    }
    for (changes, date) in [
        (&[(0, "NA"), (1, "13")][..], "NA-13-01"),
        (&[(0, "NA"), (1, "0")], "NA-00-01"),
        (&[(0, "NA"), (1, "2"), (2, "30")], "NA-02-30"),
        (&[(1, "NA"), (2, "32")], "2013-NA-32"),
        (&[(0, "NA"), (1, "NA"), (2, "0")], "NA-NA-00"),
        (&[(1, "NA"), (2, "-1")], "2013-NA--1"),
        (&[(2, "NA"), (1, "13")], "2013-13-NA"),
        (&[(1, "NA"), (2, "NA"), (0, "99999")], "99999-NA-NA"),
    ] {
        cases.push((with_all(changes), format!("no such date: {date}")));
    }
    let parts = |sched: &str, hour: &str, minute: &str| {
        let row = with_all(&[(4, sched), (16, hour), (17, minute)]);
        let reason = "hour and minute do not match: ";
        (row, format!("{reason}`sched_dep_time` is {sched}, `hour` {hour}, `minute` {minute}"))
    };
    cases.extend([parts("515", "6", "15"), parts("515", "5", "16"), parts("0", "0", "59")]);

    // A flight that was cancelled has these columns, too.
    let rows: Vec<String> = cases
        .iter()
        .map(|(row, reason)| {
            let is_departure = reason.contains("`dep_time`");
            if is_departure { row.clone() } else { row.replacen(",517,", ",NA,", 1) }
        })
        .collect();
    for rows in [rows, cases.iter().map(|(row, _)| row.clone()).collect()] {
        let rows: Vec<&str> =
            std::iter::once(GOOD).chain(rows.iter().map(|row| &**row)).collect();
        for more in [&[][..], &["--sequential"]] {
            let place = Place::new();
            place.run(&place.write("in.csv", csv(&rows)), more);
            let letters = place.dead_letters();
            let found: Vec<&str> =
                letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
            assert_eq!(found, cases.iter().map(|(_, reason)| reason).collect::<Vec<_>>());
        }
    }
}

#[test]
fn the_first_and_the_last_time_of_a_day_are_loaded() {
    let mut rows = Vec::new();
    for (column, _) in TIMES {
        for value in ["0", "59", "100", "2359", "2400", "0000", "NA"] {
            rows.push(with_all(&[(16, "NA"), (17, "NA"), (column, value)]));
        }
    }
    for (sched, hour, minute) in [
        ("0", "0", "0"),
        ("2359", "23", "59"),
        // Midnight at the end of a day.
        ("2400", "24", "0"),
        ("2400", "0", "0"),
        ("NA", "24", "0"),
        ("NA", "23", "59"),
        ("515", "5", "NA"),
        ("515", "NA", "15"),
    ] {
        rows.push(with_all(&[(4, sched), (16, hour), (17, minute)]));
    }
    // A leap day, and a day in an unknown month or year.
    rows.push(with_all(&[(0, "2012"), (1, "2"), (2, "29")]));
    rows.push(with_all(&[(0, "NA"), (1, "2"), (2, "29")]));
    rows.push(with_all(&[(1, "NA"), (2, "31")]));
    rows.push(with_all(&[(14, "0"), (15, "0")]));
    let place = Place::new();
    let rows: Vec<&str> = rows.iter().map(|row| &**row).collect();
    let ran = place.run(&place.write("in.csv", csv(&rows)), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(place.dead_letters(), Vec::<Value>::new());
}
