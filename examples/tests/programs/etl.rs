//! The ETL example, run as a user would run it, and checked against an independent count of the same data.
//!
//! The independent count knows nothing of the example's code: it splits lines at their commas, and asks the database
//! with SQL.

#[cfg(target_os = "linux")]
mod resume;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::{self, Ran, in_time};
use crate::scratch::Scratch;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

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

fn january() -> String {
    gunzip(&fs::read(data("flights-2013-01.csv.gz")).unwrap())
}

#[test]
fn the_shipped_data_is_loaded_as_an_independent_count_says() {
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
fn json_is_one_line_with_the_totals_in_this_order() {
    let place = Place::new();
    let ran = place.run(&data("flights-2013-01.csv.gz"), &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        ran.stdout,
        "{\"read\":27004,\"loaded\":25804,\"cancelled_flights\":521,\"failed\":679,\"complete\":true}\n"
    );
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
fn the_data_agrees_with_its_readme() {
    let readme = fs::read_to_string(data("README.md")).unwrap();
    let text = january();
    assert_eq!(text.lines().count(), 27_004 + 1);
    assert_eq!(text.len(), 2_481_495);
    assert!(readme.contains("27,004") && readme.contains("2,481,495"));
    assert!(text.lines().skip(1).all(|line| line.starts_with("2013,1,")));
}

/// A flight with one field changed.
fn with(column: usize, value: &str) -> String {
    let mut fields: Vec<&str> = GOOD.split(',').collect();
    fields[column] = value;
    fields.join(",")
}

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

#[test]
fn standard_input_may_be_plain_or_gzip() {
    let text = csv(&[GOOD, CANCELLED, BAD, GOOD]);
    let (head, tail) = text.as_bytes().split_at(400);
    // Several gzip files in a row are one, as `cat` makes them.
    for input in
        [text.as_bytes().to_vec(), gzip(text.as_bytes()), [gzip(head), gzip(tail)].concat()]
    {
        let place = Place::new();
        let ran = place.run_stdin(&input, &[]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(
            json(&ran),
            json!({"read": 4, "loaded": 2, "cancelled_flights": 1, "failed": 1, "complete": true})
        );
        assert_eq!(count(&place.database()), 2);
    }
}

#[test]
fn a_file_with_nothing_but_a_header_is_complete() {
    let place = Place::new();
    for (input, more) in [
        (HEADER.to_owned(), &[][..]),
        (csv(&[]), &["--force"]),
        (csv(&[]), &["--force", "--sequential"]),
    ] {
        let ran = place.run(&place.write("in.csv", input), more);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(
            json(&ran),
            json!({"read": 0, "loaded": 0, "cancelled_flights": 0, "failed": 0, "complete": true})
        );
        assert_eq!((count(&place.database()), place.dead_letters().len()), (0, 0));
    }
}

/// UTF-16 with the low byte first.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn utf16_big(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[test]
fn a_file_without_flights_is_refused_before_the_start() {
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let all = HEADER.replace(',', "`, `");
    let others = format!(
        "is not a file of flights: it has no columns `{}`",
        all.replace("carrier`, `", "")
    );
    let shuffled = format!("{}\n", HEADER.replace("time_hour", "timehour").replace("day,", ""));
    let twice = format!("{HEADER},Year\n");
    let others_twice = format!("dest,{HEADER},day,extra,extra\n");
    let semicolons = csv(&[GOOD]).replace(',', ";");
    let tabs = csv(&[GOOD]).replace(',', "\t");
    let returns = csv(&[GOOD]).replace('\n', "\r");
    let cases: &[(&[u8], &str)] = &[
        (b"", "is empty"),
        (&gzip(b""), "is empty"),
        (b"\n", "is not a file of flights: its first line is ``, not `year,month,"),
        (b"carrier,name\nUA,United\n", &others),
        (
            shuffled.as_bytes(),
            "is not a file of flights: it has no columns `day`, `time_hour`\n",
        ),
        (HEADER.trim_end_matches(",time_hour").as_bytes(), "it has no column `time_hour`\n"),
        (twice.as_bytes(), "it has column `year` more than once\n"),
        (others_twice.as_bytes(), "it has columns `day`, `dest` more than once\n"),
        (semicolons.as_bytes(), "which seems to be separated by ';' and not by commas"),
        (
            returns.as_bytes(),
            "is not a file of flights: its lines end in a carriage return alone",
        ),
        (tabs.as_bytes(), "which seems to be separated by '\\t' and not by commas"),
        (&binary, "is not a file of flights: its first line is `\\0\\u{1}"),
        (&gzip(b"hello"), "its first line is `hello`, not `year,"),
        (&gzip(csv(&[GOOD]).as_bytes())[..20], "cannot read "),
        (
            &utf16(&format!("\u{feff}{}", csv(&[GOOD]))),
            "it is UTF-16; convert it to UTF-8 first",
        ),
        (&utf16_big(&format!("\u{feff}{}", csv(&[GOOD]))), "it is UTF-16"),
        (&utf16(&csv(&[GOOD])), "it is UTF-16"),
        (&utf16_big(&csv(&[GOOD])), "it is UTF-16"),
        (&gzip(&utf16(&csv(&[GOOD]))), "it is UTF-16"),
        (b"\xff\xfe", "it is UTF-16"),
        (b"\xff\xfe\0\0y\0\0\0", "it is UTF-32"),
    ];
    for (content, message) in cases {
        let place = Place::new();
        let ran = place.run(&place.write("in.csv", content), &[]);
        ran.fails_with(message);
        assert!(ran.stderr.contains("in.csv"), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
        assert_eq!(fs::read_dir(place.folder()).unwrap().count(), 1, "only the input is there");
    }
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

#[test]
fn inputs_that_are_missing_or_unusable_are_named() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD]));
    let airlines = place.write("airlines.csv", "carrier,title\nUA,United\n");
    let airports = place.write("airports.csv", "name,faa,lon,lat\nNewark,EWR,-74,north\n");
    let path = |name: &str| place.path(name).display().to_string();

    place
        .run(&place.path("none.csv"), &[])
        .fails_with(&format!("cannot open {}: No such file", path("none.csv")));
    place.run(place.folder(), &[]).fails_with("it is a directory");
    let ran = place.run(&input, &["--airports", &path("none.csv")]);
    ran.fails_with(&format!("cannot open {}", path("none.csv")));
    let ran = place.run(&input, &["--airlines", airlines.to_str().unwrap()]);
    ran.fails_with(&format!("cannot use {}: it has no column `name`\n", path("airlines.csv")));
    let ran = place.run(&input, &["--airports", airports.to_str().unwrap()]);
    ran.fails_with(&format!(
        "cannot read {}: line 2: not a number: `lat` is \"north\"",
        path("airports.csv")
    ));
    let tables: &[(&[u8], &str)] = &[
        (b"", "cannot use {}: it has no columns `faa`, `name`, `lat`, `lon`"),
        (b"FAA,name,lat,lon,Faa\n", "cannot use {}: it has column `faa` more than once"),
        (
            b"faa,name,lat,lon\n\nEWR,\"New\nark\",1,2\nIAH,Houston,1,nan\n",
            "line 5: not a number: `lon` is \"nan\"",
        ),
        (b"faa,name,lat,lon\nEWR,Newark\n", "cannot read {}: "),
        (&utf16("faa,name,lat,lon\n"), "cannot read {}: it is UTF-16"),
    ];
    for (content, message) in tables {
        place.write("airports.csv", content);
        let ran = place.run(&input, &["--airports", airports.to_str().unwrap()]);
        ran.fails_with(&message.replace("{}", &path("airports.csv")));
    }
    place
        .run(&input, &["--airports", place.folder().to_str().unwrap()])
        .fails_with("it is a directory");
    assert!(!place.database().exists());
}

#[test]
fn other_tables_can_be_given() {
    let place = Place::new();
    let airlines = place.write("airlines.csv", "name,carrier\n\"United, Air\",UA\n");
    let airports = "Name,FAA,lon,lat,tz\r\nNewark,EWR,-74,40.5,-5\r\nHouston,IAH,-95,30,-6";
    let airports = place.write("airports.csv.gz", gzip(airports.as_bytes()));
    let tables =
        ["--airlines", airlines.to_str().unwrap(), "--airports", airports.to_str().unwrap()];
    let ran = place.run(&place.write("in.csv", csv(&[GOOD])), &tables);
    assert_eq!(json(&ran)["loaded"], 1, "{}", ran.stderr);
    assert_eq!(place.rows()[0][11], "United, Air");
    assert_eq!(
        place.rows()[0][14..22],
        ["EWR", "Newark", "40.5", "-74", "IAH", "Houston", "30", "-95"]
    );
}

#[test]
fn a_truncated_gzip_file_fails_after_its_rows_are_loaded() {
    let bytes = fs::read(data("flights-2013-01.csv.gz")).unwrap();
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        let input = place.write("in.csv.gz", &bytes[..bytes.len() / 2]);
        let ran = place.run(&input, more);
        ran.fails_with(&format!("cannot read {} after line ", input.display()));
        let totals = json(&ran);
        assert_balanced(&totals);
        assert_eq!((&totals["complete"], &totals["abandoned"]), (&json!(false), &json!(0)));
        assert!(totals["loaded"].as_u64().unwrap() > 1000);
        assert_eq!(totals["loaded"], count(&place.database()));
    }
}

#[test]
fn bytes_after_the_end_of_gzip_are_padding_or_an_error() {
    let whole = gzip(csv(&[GOOD, GOOD]).trim_end().as_bytes());
    for more in [&[][..], &["--sequential"]] {
        for zeros in [1, 1000, 200_000] {
            let place = Place::new();
            let ran =
                place.run(&place.write("in.csv.gz", [&*whole, &vec![0; zeros]].concat()), more);
            assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
            assert_eq!(json(&ran)["loaded"], 2);
        }
        for garbage in [&b"x"[..], b"\0\0hello", b"\x1e\x8b\x08"] {
            let place = Place::new();
            let ran = place.run(&place.write("in.csv.gz", [&*whole, garbage].concat()), more);
            ran.fails_with("are not gzip");
            assert_eq!(
                (&json(&ran)["loaded"], &json(&ran)["complete"]),
                (&json!(2), &json!(false))
            );
        }
    }
}

#[test]
fn a_database_that_exists_is_replaced_only_by_force() {
    let place = Place::new();
    let one = place.write("one.csv", csv(&[GOOD]));
    let two = place.write("two.csv", csv(&[GOOD, GOOD, BAD]));
    assert_eq!(place.run(&two, &[]).code, Some(0));
    place.run(&one, &[]).fails_with(&format!(
        "database {} exists; --resume continues it, --force replaces it",
        place.database().display()
    ));
    assert_eq!(
        (count(&place.database()), place.dead_letters().len()),
        (2, 1),
        "nothing was touched"
    );
    assert_eq!(place.run(&one, &["--force"]).code, Some(0));
    assert_eq!((count(&place.database()), place.dead_letters().len()), (1, 0));
}

#[test]
fn force_replaces_databases_and_never_an_input_or_another_file() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD]));
    fs::write(place.database(), "my notes").unwrap();
    place.run(&input, &["--force"]).fails_with("is not an SQLite database; it is not replaced");
    assert_eq!(fs::read_to_string(place.database()).unwrap(), "my notes");

    let run = |database: &Path, dead_letters: &Path| -> Ran {
        let mut command = etl(["--force", "--input"]);
        command
            .arg(&input)
            .arg("--database")
            .arg(database)
            .arg("--dead-letters")
            .arg(dead_letters);
        program::run(command)
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        let link = place.path("link");
        symlink("/dev/null", &link).unwrap();
        run(&link, &place.path("letters")).fails_with("it is not a regular file");
        fs::remove_file(&link).unwrap();
        // What a link names is replaced, not the link.
        let target = place.path("target.db");
        fs::write(&target, "").unwrap();
        symlink(&target, &link).unwrap();
        for _ in 0..2 {
            assert_eq!(run(&link, &place.path("letters")).code, Some(0));
            assert!(link.is_symlink());
            assert_eq!(count(&target), 1);
        }
        // The files of SQLite are beside what the link names.
        let log = place.path("target.db-wal");
        run(&link, &log).fails_with("are the same file");
        fs::write(&log, csv(&[GOOD])).unwrap();
        let mut command = etl(["--force", "--input"]);
        command.arg(&log).arg("--database").arg(&link);
        program::run(command).fails_with("is an input");
        assert_eq!(fs::read_to_string(&log).unwrap(), csv(&[GOOD]));
        fs::remove_file(&log).unwrap();
        // What it names need not be there.
        for option in ["--quiet", "--resume", "--force"] {
            fs::remove_file(&target).unwrap();
            let mut command = etl([option, "--input"]);
            command.arg(&input).arg("--database").arg(&link);
            let ran = program::run(command);
            assert_eq!(ran.code, Some(0), "{option}: {}", ran.stderr);
            assert!(link.is_symlink());
            assert_eq!(count(&target), 1);
        }
    }

    let other = place.path("other");
    run(&input, &other).fails_with("is an input");
    run(&other, &input).fails_with("is an input");
    run(&other, &other).fails_with("are the same file");
    // Another name for it; neither is there yet.
    run(
        &other,
        &place.path(".").join("..").join(place.folder().file_name().unwrap()).join("other"),
    )
    .fails_with("are the same file");
    assert_eq!(fs::read_to_string(&input).unwrap(), csv(&[GOOD]));
}

#[test]
fn a_header_that_is_too_long_is_refused() {
    let place = Place::new();
    let long = format!("{HEADER},{}\n{GOOD}\n", "x".repeat(8 * 1024));
    let input = place.write("in.csv", long);
    place.run(&input, &[]).fails_with("its first line is longer than 8 kB");
    assert!(!place.database().exists());
}

#[test]
fn outputs_that_cannot_be_created_are_named() {
    let place = Place::new();
    let input = place.write("in.csv", csv(&[GOOD]));
    let run = |database: PathBuf, dead_letters: PathBuf| -> Ran {
        let mut command = etl(["--input"]);
        command
            .arg(&input)
            .arg("--database")
            .arg(database)
            .arg("--dead-letters")
            .arg(dead_letters);
        program::run(command)
    };
    let nowhere = place.path("nowhere/out.db");
    run(nowhere.clone(), place.path("a"))
        .fails_with(&format!("cannot create database {}", nowhere.display()));
    run(input.join("out.db"), place.path("b")).fails_with("cannot create database");
    run(place.folder().to_owned(), place.path("c")).fails_with("it is a directory");
    for left in ["a", "b", "c"] {
        assert!(!place.path(left).exists(), "an empty dead-letter file is left behind: {left}");
    }
    let nowhere = place.path("nowhere/failed.jsonl");
    run(place.path("d.db"), nowhere.clone())
        .fails_with(&format!("cannot create dead-letter file {}", nowhere.display()));
    assert!(!place.path("d.db").exists());
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

/// What happens when the disk is full, or the user has had enough; needs `/dev/full`, signals and named pipes.
#[cfg(target_os = "linux")]
mod linux {
    use std::io::{BufRead, BufReader};
    use std::process::Child;

    use super::*;

    pub(super) fn interrupt(child: &Child) {
        let sent =
            Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(super) fn named_pipe(place: &Place, name: &str) -> PathBuf {
        let path = place.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    #[expect(
        clippy::unbuffered_bytes,
        reason = "nothing but the line is to be taken out of the pipe"
    )]
    pub(super) fn first_line(reader: &mut impl Read) -> String {
        let bytes =
            reader.bytes().map(Result::unwrap).take_while(|byte| *byte != b'\n').collect();
        String::from_utf8(bytes).unwrap()
    }

    /// The kinds of input.
    #[derive(Debug, Clone, Copy)]
    enum Way {
        File,
        FileOnStdin,
        Pipe,
        NamedPipe,
        /// A link to standard input, as a shell gives one to a process substitution.
        Descriptor,
    }

    /// Runs the program on an input that comes in this way.
    fn arrives(place: &Place, way: Way, input: &[u8], more: &[&str]) -> Ran {
        let file = place.path("in");
        match way {
            Way::File => place.run(&place.write("in", input), more),
            Way::FileOnStdin => {
                place.write("in", input);
                let mut command = place.command(Path::new("-"), more);
                command.stdin(fs::File::open(file).unwrap());
                program::run(command)
            }
            Way::Pipe => place.run_stdin(input, more),
            Way::Descriptor => {
                let mut child = place
                    .command(Path::new("/dev/fd/0"), more)
                    .stdin(Stdio::piped())
                    .spawn()
                    .unwrap();
                let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
                in_time(move || {
                    stdin.write_all(&input).unwrap();
                    drop(stdin);
                    child.wait_with_output().unwrap()
                })
                .into()
            }
            Way::NamedPipe => {
                let child = place.command(&named_pipe(place, "in"), more).spawn().unwrap();
                let input = input.to_vec();
                in_time(move || {
                    fs::OpenOptions::new()
                        .write(true)
                        .open(file)
                        .unwrap()
                        .write_all(&input)
                        .unwrap();
                    child.wait_with_output().unwrap()
                })
                .into()
            }
        }
    }

    #[test]
    fn every_input_ends_whatever_it_holds_and_however_it_arrives() {
        let whole = csv(&[GOOD, CANCELLED, GOOD]);
        let totals = |read: u64, loaded: u64| json!({"read": read, "loaded": loaded, "cancelled_flights": read - loaded, "failed": 0, "complete": true});
        let cases = [
            ("", Err("is empty")),
            ("x", Err("its first line is `x`")),
            (HEADER, Ok(totals(0, 0))),
            (&*csv(&[]), Ok(totals(0, 0))),
            (whole.trim_end(), Ok(totals(3, 2))),
            (&*whole, Ok(totals(3, 2))),
        ];
        for way in [Way::File, Way::FileOnStdin, Way::Pipe, Way::NamedPipe, Way::Descriptor] {
            for (text, expected) in &cases {
                for (packed, more) in [
                    (false, &[][..]),
                    (false, &["--sequential"]),
                    (true, &[]),
                    (true, &["--sequential"]),
                ] {
                    let input =
                        if packed { gzip(text.as_bytes()) } else { text.as_bytes().to_vec() };
                    let place = Place::new();
                    let ran = arrives(&place, way, &input, more);
                    match expected {
                        Ok(totals) => {
                            assert_eq!(
                                ran.code,
                                Some(0),
                                "{way:?}, {text:?}, {more:?}: {}",
                                ran.stderr
                            );
                            assert_eq!(&json(&ran), totals, "{way:?}, {text:?}, {more:?}");
                        }
                        Err(message) => ran.fails_with(message),
                    }
                }
            }
        }
    }

    #[test]
    fn no_device_is_waited_for() {
        let place = Place::new();
        place.run(Path::new("/dev/null"), &[]).fails_with("/dev/null is empty");
        place.run(Path::new("-"), &[]).fails_with("standard input is empty");
        place.run(Path::new("/dev/zero"), &[]).fails_with("/dev/zero is not a file of flights");
    }

    #[test]
    fn no_output_destroys_an_input_whatever_it_is_called() {
        let place = Place::new();
        let path = |name: &str| place.path(name);
        let content = csv(&[GOOD]);
        let input = place.write("in.csv", &content);
        let airlines = place.write("airlines.csv", fs::read(data("airlines.csv")).unwrap());
        fs::hard_link(&input, path("hard")).unwrap();
        fs::hard_link(&airlines, path("hard-airlines")).unwrap();
        std::os::unix::fs::symlink(&input, path("soft")).unwrap();
        std::os::unix::fs::symlink(path("hard"), path("soft-hard")).unwrap();
        fs::hard_link(&input, path("q.db-wal")).unwrap();
        fs::hard_link(&input, path("r.db-journal")).unwrap();
        fs::hard_link(&input, path("s.db-shm")).unwrap();
        let names = || -> Vec<PathBuf> {
            let mut names: Vec<PathBuf> =
                fs::read_dir(place.folder()).unwrap().map(|it| it.unwrap().path()).collect();
            names.sort();
            names
        };
        let before = names();
        let run = |given: &Path, database: &str, letters: &str, appends: bool| {
            let mut command = etl(["--force", "--airlines"]);
            command
                .arg(&airlines)
                .arg("--input")
                .arg(given)
                .arg("--database")
                .arg(path(database));
            command.arg("--dead-letters").arg(path(letters));
            command.stdin(fs::File::open(&input).unwrap());
            if appends {
                command.stdout(fs::OpenOptions::new().append(true).open(path("hard")).unwrap());
            }
            let ran = program::run(command);
            assert_eq!(names(), before, "{database}, {letters}: {}", ran.stderr);
            assert_eq!(
                fs::read_to_string(&input).unwrap(),
                content,
                "{database}, {letters}: {}",
                ran.stderr
            );
            ran
        };
        for given in [input.as_path(), Path::new("-"), Path::new("/dev/stdin")] {
            for file in ["hard", "soft", "soft-hard", "in.csv", "hard-airlines"] {
                run(given, "out.db", file, false).fails_with("is an input");
                run(given, file, "letters", false).fails_with("is an input");
            }
            for database in ["q.db", "r.db", "s.db"] {
                run(given, database, "letters", false).fails_with("is an input");
            }
            run(given, "out.db", "letters", true).fails_with("standard output is an input");
        }
        for letters in ["out.db", "out.db-wal", "out.db-journal", "out.db-shm"] {
            run(&input, "out.db", letters, false).fails_with("are the same file");
        }
    }

    #[test]
    fn two_outputs_are_never_one_file() {
        let place = Place::new();
        let input = place.write("in.csv", csv(&[GOOD]));
        assert_eq!(place.run(&input, &[]).code, Some(0));
        fs::hard_link(place.database(), place.path("hard")).unwrap();
        std::os::unix::fs::symlink("none", place.path("dangling")).unwrap();
        let run = |database: &str, letters: &Path, stdout: Option<&str>| -> Ran {
            let mut command = etl(["--force", "--input"]);
            command
                .arg(&input)
                .arg("--database")
                .arg(place.path(database))
                .arg("--dead-letters")
                .arg(letters);
            if let Some(name) = stdout {
                command.stdout(
                    fs::OpenOptions::new()
                        .append(true)
                        .create(true)
                        .open(place.path(name))
                        .unwrap(),
                );
            }
            program::run(command)
        };
        run("out.db", &place.path("hard"), None).fails_with("are the same file");
        run("none", &place.path("dangling"), None).fails_with("are the same file");
        run("new.db", &place.path("said"), Some("said")).fails_with("are the same file");
        run("new.db", Path::new("/dev/stdout"), Some("said")).fails_with("are the same file");
        run("said", &place.path("letters"), Some("said")).fails_with("are the same file");
        assert_eq!(count(&place.database()), 1, "nothing was touched");
        // What stores nothing may be both.
        let mut command = etl(["--quiet", "--input"]);
        command
            .arg(&input)
            .arg("--database")
            .arg(place.path("new.db"))
            .args(["--dead-letters", "/dev/null"]);
        let ran = program::run(command);
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    }

    #[test]
    fn a_database_that_another_program_has_open_is_not_replaced() {
        let place = Place::new();
        let input = place.write("in.csv", csv(&[GOOD]));
        assert_eq!(place.run(&input, &[]).code, Some(0));
        let other = Connection::open(place.database()).unwrap();
        other.execute_batch("BEGIN IMMEDIATE; DELETE FROM flights").unwrap();
        let message = format!(
            "cannot replace database {}: database is locked",
            place.database().display()
        );
        place.run(&input, &["--force"]).fails_with(&message);
        other.execute_batch("ROLLBACK").unwrap();
        // Between two transactions.
        place.run(&input, &["--force"]).fails_with(&message);
        drop(other);
        assert_eq!(count(&place.database()), 1);
        assert_eq!(place.run(&input, &["--force"]).code, Some(0));
    }

    /// Even if it is opened after the run has begun.
    #[test]
    fn what_another_program_stores_is_not_lost_to_force() {
        let place = Place::new();
        let input = place.write("in.csv", csv(&[GOOD]));
        assert_eq!(place.run(&input, &[]).code, Some(0));
        let (pipe, database) = (named_pipe(&place, "rows"), place.database());
        let child = place.command(&pipe, &["--force"]).spawn().unwrap();
        let ran: Ran = in_time(move || {
            // Waits until the program opens it, which has checked the database then.
            let mut rows = fs::OpenOptions::new().write(true).open(pipe).unwrap();
            let other = Connection::open(database).unwrap();
            other.execute_batch("BEGIN IMMEDIATE; CREATE TABLE mine (x)").unwrap();
            rows.write_all(csv(&[GOOD]).as_bytes()).unwrap();
            drop(rows);
            let output = child.wait_with_output().unwrap();
            other.execute_batch("COMMIT").unwrap();
            output
        })
        .into();
        ran.fails_with(&format!(
            "cannot replace database {}: database is locked",
            place.database().display()
        ));
        let database = Connection::open(place.database()).unwrap();
        database.execute_batch("SELECT x FROM mine").unwrap();
        assert_eq!(count(&place.database()), 1);
    }

    #[test]
    fn of_two_runs_that_replace_a_database_at_once_no_success_is_false() {
        let place = Place::new();
        let old = place.write("old.csv", csv(&[GOOD]));
        let new = place.write("new.csv", csv(&[GOOD; 300]));
        for round in 0..20 {
            if count_in_file(&place.database()) != 1 {
                assert_eq!(place.run(&old, &["--force"]).code, Some(0));
            }
            let start = || place.command(&new, &["--force"]).spawn().unwrap();
            let runs = [start(), start()].map(|child| -> Ran {
                in_time(move || child.wait_with_output().unwrap()).into()
            });
            let successes = runs.iter().filter(|ran| ran.code == Some(0)).count();
            let expected = if successes == 0 { 1 } else { 300 };
            let said = runs.map(|ran| ran.stderr);
            assert_eq!(count(&place.database()), expected, "round {round}: {said:?}");
        }
    }

    #[test]
    fn a_database_that_stays_locked_stops_the_job_and_is_named() {
        let place = Place::new();
        let letters = named_pipe(&place, "failed.jsonl");
        let mut child =
            place.command(Path::new("-"), &[]).stdin(Stdio::piped()).spawn().unwrap();
        let database = place.database();
        let ran: Ran = in_time(move || {
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(csv(&[BAD]).as_bytes()).unwrap();
            // The letter tells that the database is there.
            let mut letters = fs::File::open(letters).unwrap();
            first_line(&mut letters);
            let other = Connection::open(database).unwrap();
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            stdin.write_all(GOOD.as_bytes()).unwrap();
            drop(stdin);
            child.wait_with_output().unwrap()
        })
        .into();
        ran.fails_with(&format!(
            "cannot write to database {}: database is locked",
            place.database().display()
        ));
        assert_balanced(&json(&ran));
        assert_eq!(json(&ran)["loaded"], 0);
    }

    #[test]
    fn the_bar_has_the_rate_and_the_time_left() {
        let place = Place::new();
        let letters = named_pipe(&place, "failed.jsonl");
        // More than the pipe takes: the program waits, and the bar stays.
        let bad = "x".repeat(4000);
        let input = place.write("in.csv", csv(&[&[GOOD][..], &vec![&*bad; 2000]].concat()));
        let mut program = etl(["--input"]);
        program
            .arg(&input)
            .arg("--database")
            .arg(place.database())
            .arg("--dead-letters")
            .arg(&letters);
        let words = std::iter::once(program.get_program()).chain(program.get_args());
        let line: String = words.map(|word| format!("'{}' ", word.display())).collect();
        // A terminal of 200 columns.
        let mut command = program::command(
            "script",
            ["-qec", &format!("stty cols 200; {line}"), "/dev/null"],
        );
        command.env("TERM", "xterm");
        let mut child = command.spawn().unwrap();
        let shown = in_time(move || {
            let letters = fs::File::open(letters).unwrap();
            let (mut shown, mut block) = (Vec::new(), [0; 1000]);
            let mut screen = child.stdout.take().unwrap();
            while !String::from_utf8_lossy(&shown).contains(" left") {
                let read = screen.read(&mut block).unwrap();
                assert_ne!(read, 0, "no bar: {}", String::from_utf8_lossy(&shown));
                shown.extend(&block[..read]);
            }
            BufReader::new(letters).lines().for_each(drop);
            std::io::copy(&mut screen, &mut shown).unwrap();
            child.wait().unwrap();
            String::from_utf8_lossy(&shown).into_owned()
        });
        assert!(shown.contains("B/s") && shown.contains("s left"), "{shown}");
    }

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
            ran.fails_with(
                "cannot write to dead-letter file /dev/full: No space left on device",
            );
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
            ran.fails_with(&format!(
                "cannot write to database {}: ",
                place.database().display()
            ));
            let totals = json(&ran);
            assert_balanced(&totals);
            assert_eq!(totals["complete"], false);
            let [loaded, failed] =
                ["loaded", "failed"].map(|key| totals[key].as_u64().unwrap());
            assert!(loaded > 0 && failed > 0, "{totals}");
            assert_eq!(loaded, count(&place.database()));
            assert_eq!(failed, table(&place.database(), "dead_letters").len() as u64);
        }
    }

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

    /// Counts the rows in the database file, ignoring the write-ahead log.
    fn count_in_file(database: &Path) -> u64 {
        let uri = format!("file:{}?immutable=1", database.display());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let count = Connection::open_with_flags(uri, flags).and_then(|connection| {
            connection.query_row("SELECT count(*) FROM flights", [], |row| row.get::<_, i64>(0))
        });
        // There is no table yet, or the file is being written to.
        count.map_or(0, i64::unsigned_abs)
    }

    #[test]
    fn rows_are_copied_from_the_log_into_the_database_while_the_job_runs() {
        let place = Place::new();
        let database = place.database();
        let mut child =
            place.command(Path::new("-"), &[]).stdin(Stdio::piped()).spawn().unwrap();
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

    /// Runs the program on its standard input, which ends after `step`. That is called when the first of `rows` are in the
    /// database, and returns more rows.
    fn run_stepwise(
        place: &Place,
        rows: &[&str],
        step: impl FnOnce(&Path) -> Vec<&'static str> + Send + 'static,
    ) -> Ran {
        let (database, rows) = (place.database(), csv(rows));
        let mut child =
            place.command(Path::new("-"), &[]).stdin(Stdio::piped()).spawn().unwrap();
        in_time(move || {
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(rows.as_bytes()).unwrap();
            while count_in_file(&database) == 0 {
                std::thread::yield_now();
            }
            for row in step(&database) {
                writeln!(stdin, "{row}").unwrap();
            }
            drop(stdin);
            child.wait_with_output().unwrap()
        })
        .into()
    }

    #[test]
    fn a_database_that_is_removed_or_replaced_stops_the_job() {
        for (is_replaced, more) in [(false, vec![]), (true, vec![]), (false, vec![GOOD])] {
            let place = Place::new();
            let ran = run_stepwise(&place, &[GOOD], move |database| {
                fs::remove_file(database).unwrap();
                if is_replaced {
                    fs::write(database, "another one").unwrap();
                }
                more
            });
            let shown = place.database();
            let what = "it has been removed or replaced";
            ran.fails_with(&format!("cannot write to database {}: {what}", shown.display()));
            assert_eq!(json(&ran)["complete"], false);
        }
    }

    #[test]
    fn a_dead_letter_file_that_is_removed_is_announced() {
        let place = Place::new();
        let letters = place.path("failed.jsonl");
        let ran = run_stepwise(&place, &[BAD, GOOD], move |_| {
            fs::remove_file(letters).unwrap();
            vec![BAD]
        });
        assert_eq!(ran.code, Some(0));
        let said = format!(
            "dead-letter file {} has been removed or replaced",
            place.path("failed.jsonl").display()
        );
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
        assert_eq!(json(&ran)["failed"], 2);
    }

    #[test]
    fn a_log_that_another_program_reads_is_announced_and_loses_nothing() {
        let place = Place::new();
        let (database, (keep, kept)) = (place.database(), std::sync::mpsc::channel());
        let ran = run_stepwise(&place, &[GOOD], move |database| {
            let reader = Connection::open(database).unwrap();
            reader.execute_batch("BEGIN; SELECT * FROM flights").unwrap();
            keep.send(reader).unwrap();
            vec![GOOD, GOOD]
        });
        let reader = kept.recv().unwrap();
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.contains("another program is using database"), "{}", ran.stderr);
        assert!(place.path("out.db-wal").exists());
        drop(reader);
        assert_eq!(count(&database), 3);
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
            let mut said =
                BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
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
}
