//! Tests what an input contains: plain text or gzip, a header that must name the columns, and the tables of airlines and
//! airports. Inputs that cannot be used are named in the error.

use std::fs;

use serde_json::json;

use super::{
    BAD, CANCELLED, GOOD, HEADER, Place, assert_balanced, count, csv, data, etl, gzip, json,
};
use crate::program;

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
    // More than a line may have.
    let many_returns = csv(&[GOOD; 200]).replace('\n', "\r");
    let binary_with_return = [b"\x01\0\r\x02", &*binary].concat();
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
        (
            many_returns.as_bytes(),
            "is not a file of flights: its lines end in a carriage return alone",
        ),
        (
            &gzip(many_returns.as_bytes()),
            "convert them with `tr '\\r' '\\n' < FILE | etl --input -`",
        ),
        (&binary_with_return, "is not a file of flights: its first line is `\\u{1}\\0\\r"),
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
fn an_input_that_fails_is_how_the_pipeline_ended() {
    let bytes = fs::read(data("flights-2013-01.csv.gz")).unwrap();
    let place = Place::new();
    let truncated = place.write("truncated.csv.gz", &bytes[..bytes.len() / 2]);
    let rows = csv(&[GOOD, GOOD]);
    let padded = place.write("padded.csv.gz", [&*gzip(rows.as_bytes()), b"x"].concat());
    for input in [truncated, padded] {
        let mut command = etl(["--force", "--input"]);
        command.arg(&input).arg("--database").arg(place.database());
        let ran = program::run(command);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        for line in
            ["\nnot complete: stopped by an error\n", "\netl: stopped at the first error: "]
        {
            assert!(ran.stdout.contains(line), "`{line}` is not in: {}", ran.stdout);
        }
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
fn a_header_that_is_too_long_is_refused() {
    let place = Place::new();
    let long = format!("{HEADER},{}\n{GOOD}\n", "x".repeat(8 * 1024));
    let input = place.write("in.csv", long);
    place.run(&input, &[]).fails_with("its first line is longer than 8 kB");
    assert!(!place.database().exists());
}

/// The first bytes of a tar archive, which has the name of its first file there.
fn tar() -> Vec<u8> {
    let mut head = vec![0; 512];
    head[..8].copy_from_slice(b"jan1.csv");
    head[257..262].copy_from_slice(b"ustar");
    [&head, csv(&[GOOD]).as_bytes()].concat()
}

#[test]
fn an_archive_is_named_with_the_command_that_unpacks_it() {
    let tar = tar();
    let cases: [(&[u8], &str, &str); 13] = [
        (b"\xfd7zXZ\0\0\x04\r..", "xz", "xz -dc FILE"),
        (b"PK\x03\x04\x14\0\r..", "zip", "unzip -p FILE"),
        (b"PK\x05\x06\0\0\r..", "zip", "unzip -p FILE"),
        (b"\x28\xb5\x2f\xfd\r..", "zstd", "zstd -dc FILE"),
        (b"BZh91AY&SY\r..", "bzip2", "bzip2 -dc FILE"),
        (b"7z\xbc\xaf\x27\x1c\r..", "7z", "7z x -so FILE"),
        (b"\x04\x22\x4d\x18\r..", "lz4", "lz4 -dc FILE"),
        (b"LZIP\x01\r..", "lzip", "lzip -dc FILE"),
        (b"Rar!\x1a\x07\r..", "rar", "unrar p -inul FILE"),
        (b"\x1f\x9d\x90\r..", "compress", "gzip -dc FILE"),
        (&tar, "tar", "tar -xOf FILE"),
        (&gzip(&tar), "tar", "tar -xOf FILE"),
        (&gzip(b"\xfd7zXZ\0\0\x04\r.."), "xz", "xz -dc FILE"),
    ];
    for (content, name, command) in cases {
        let place = Place::new();
        let input = place.write("in.csv", content);
        let said = |whose: &str| {
            [
                format!("cannot read {whose}: it is packed with {name}; unpack it first: "),
                format!("`{command} | etl --input -`\n"),
            ]
        };
        for text in said(&input.display().to_string()) {
            place.run(&input, &[]).fails_with(&text);
        }
        for text in said("standard input") {
            place.run_stdin(content, &[]).fails_with(&text);
        }
        assert!(!place.database().exists());
        if name != "tar" {
            let csv = place.write("good.csv", csv(&[GOOD]));
            let ran = place.run(&csv, &["--airports", input.to_str().unwrap()]);
            ran.fails_with(&format!(
                "cannot read {}: it is packed with {name}; unpack it first: `{command}`\n",
                input.display()
            ));
        }
    }
}
