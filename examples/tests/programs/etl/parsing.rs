//! Tests how rows are parsed: columns are found by name, and differences in line ends, quotes and missing values do not
//! matter.

use serde_json::json;

use super::{CANCELLED, GOOD, HEADER, Place, csv, json, with};

#[test]
fn missing_values_are_null_and_midnight_may_be_2400() {
    let place = Place::new();
    let mut midnight: Vec<&str> = GOOD.split(',').collect();
    (midnight[3], midnight[6]) = ("2400", "2400");
    let nothing = ["NA", "NA", "NA", "5"]
        .iter()
        .chain(&["NA"; 15])
        .copied()
        .collect::<Vec<_>>()
        .join(",");
    let ran = place.run(&place.write("in.csv", csv(&[&midnight.join(","), &nothing])), &[]);
    assert_eq!(
        json(&ran),
        json!({"read": 2, "loaded": 2, "cancelled_flights": 0, "failed": 0, "complete": true})
    );
    let rows = place.rows();
    assert_eq!((&*rows[0][4], &*rows[0][7]), ("2400", "2400"));
    let mut nulls = vec!["NA"; 27];
    (nulls[0], nulls[4]) = ("3", "5");
    assert_eq!(rows[1], nulls);
}

#[test]
fn line_ends_quotes_and_blank_lines_make_no_difference() {
    let place = Place::new();
    let quoted: Vec<String> = GOOD.split(',').map(|field| format!("\"{field}\"")).collect();
    let header = HEADER.replace("year", "\"year\"");
    let input = format!(
        "\u{feff}{header}\r\n{GOOD}\r\n\r\n\n{}\n{}\r\n{GOOD}",
        quoted.join(","),
        with(11, "\"N,\"\"1\"")
    );
    let ran = place.run(&place.write("in.csv", input), &[]);
    assert_eq!(
        json(&ran),
        json!({"read": 4, "loaded": 4, "cancelled_flights": 0, "failed": 0, "complete": true})
    );
    let rows = place.rows();
    assert_eq!(rows.iter().map(|row| &*row[0]).collect::<Vec<_>>(), ["2", "5", "6", "7"]);
    assert_eq!(rows[0][1..], rows[1][1..]);
    assert_eq!(rows[0][1..], rows[3][1..]);
    assert_eq!(rows[2][13], "N,\"1");
}

/// Rows with their fields in another order, and other fields between them.
fn rearranged(rows: &[&str], field: impl Fn(&str) -> String) -> String {
    let line = |row: &&str| {
        let fields: Vec<String> = row.split(',').rev().map(&field).collect();
        format!("{},{}\n", fields.join(",x,"), fields.len())
    };
    rows.iter().map(line).collect()
}

#[test]
fn columns_are_found_by_their_names() {
    let (plain, place) = (Place::new(), Place::new());
    let rows = [GOOD, CANCELLED, &with(11, "N1")];
    plain.run(&plain.write("in.csv", csv(&rows)), &[]);
    let header = rearranged(&[HEADER], |name| format!("\" {} \"", name.to_uppercase()));
    let inputs = [
        rearranged(&[&[HEADER][..], &rows].concat(), str::to_owned),
        // In any case, quoted and between blanks.
        format!("\u{feff}{header}{}", rearranged(&rows, |field| format!("\"{field}\"")))
            .replace('\n', "\r\n"),
        // As pandas writes it: an index without a name, and floating point where a value is missing.
        format!(",{HEADER}\n0,{GOOD}\n1,{CANCELLED}\n2,{}\n", with(11, "N1"))
            .replace(",517,", ",517.0,")
            .replace("NA", ""),
    ];
    for (input, more) in
        inputs.iter().zip([&[][..], &["--force"], &["--force", "--sequential"]])
    {
        let ran = place.run(&place.write("in.csv", input), more);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(
            json(&ran),
            json!({"read": 3, "loaded": 2, "cancelled_flights": 1, "failed": 0, "complete": true})
        );
        assert_eq!(place.rows(), plain.rows());
    }
}

#[test]
fn an_empty_field_is_a_missing_value_as_na_is() {
    let (na, empty) = (Place::new(), Place::new());
    let missing = ["NA", "NA", "NA", "5"]
        .iter()
        .chain(&["NA"; 15])
        .copied()
        .collect::<Vec<_>>()
        .join(",");
    let input = csv(&[GOOD, CANCELLED, &missing, &with(9, "NA")]);
    let (a, b) = (
        na.run(&na.write("in.csv", &input), &[]),
        empty.run(&empty.write("in.csv", input.replace("NA", "")), &[]),
    );
    assert_eq!(
        json(&a),
        json!({"read": 4, "loaded": 3, "cancelled_flights": 1, "failed": 0, "complete": true})
    );
    assert_eq!((a.code, &a.stdout), (b.code, &b.stdout));
    assert_eq!(na.rows(), empty.rows());
}

#[test]
fn a_time_with_an_offset_is_loaded_in_utc() {
    let cases = [
        ("2013-01-01T10:00:00Z", "2013-01-01T10:00:00Z"),
        ("2013-01-01T05:00:00-05:00", "2013-01-01T10:00:00Z"),
        ("2012-12-31T23:00:00-11:00", "2013-01-01T10:00:00Z"),
        ("2013-01-01T10:00:00+00:00", "2013-01-01T10:00:00Z"),
        ("2013-01-01 10:00:00Z", "2013-01-01T10:00:00Z"),
        ("2013-01-01t10:00:00z", "2013-01-01T10:00:00Z"),
        ("20130101T100000.000Z", "2013-01-01T10:00:00Z"),
        ("2013-01-01T10:00:00.5Z", "2013-01-01T10:00:00.5Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
        ("2013-01-01T05:00:00-05:00[America/New_York]", "2013-01-01T10:00:00Z"),
        ("NA", "NA"),
    ];
    let rows: Vec<String> = cases.iter().map(|(given, _)| with(18, given)).collect();
    let rows: Vec<&str> = rows.iter().map(|row| &**row).collect();
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        let ran = place.run(&place.write("in.csv", csv(&rows)), more);
        assert_eq!(json(&ran)["loaded"], cases.len(), "{:?}", place.dead_letters());
        for (row, (given, loaded)) in place.rows().iter().zip(cases) {
            assert_eq!(row[26], loaded, "{given}");
        }
    }
}
