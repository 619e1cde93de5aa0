//! Tests the inputs: one or several files or standard input, plain or gzip, are read to their end. Inputs that cannot be
//! used are named in the error.

use std::fs;

use serde_json::{Value, json};

use super::{Place, assert_balanced, good, gzip, line};
use crate::program::{self, Ran};

#[test]
fn an_empty_log_is_complete() {
    let place = Place::new();
    place.write("empty", "");
    place.run(&["empty", "--json", "report.json"]);
    let report = place.report();
    assert_balanced(&report);
    assert_eq!(
        (&report["read"], &report["complete"], &report["first"]),
        (&json!(0), &json!(true), &Value::Null)
    );
    let ran = place.run(&["empty"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.contains("lines read               0"), "{}", ran.stdout);
}

#[test]
fn an_empty_log_is_remarked_on() {
    let place = Place::new();
    place.write("empty", "");
    for args in [&["empty"][..], &["empty", "--quiet"], &["-"], &["-", "--sequential"]] {
        let ran = place.run_stdin(b"", args);
        assert_eq!(
            (ran.code, &*ran.stderr),
            (Some(0), "log_processing: warning: there is no request: the input is empty\n"),
            "{args:?}"
        );
    }
}

#[test]
fn standard_input_may_be_plain_or_gzip() {
    let text = good(0) + "oops\n" + &good(1);
    let (head, tail) = text.as_bytes().split_at(30);
    // Several gzip files in a row are one, as `cat` makes them.
    for input in
        [text.as_bytes().to_vec(), gzip(text.as_bytes()), [gzip(head), gzip(tail)].concat()]
    {
        let place = Place::new();
        let ran = place
            .run_stdin(&input, &["-", "--json", "report.json", "--rejects", "rejects.jsonl"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        assert_eq!(
            (&place.report()["read"], &place.report()["parsed"]),
            (&json!(3), &json!(2))
        );
        assert_eq!(place.rejects()[0]["at"], "standard input:2");
    }
}

#[test]
fn several_files_are_one_log() {
    let place = Place::new();
    place.write("a.log.gz", gzip((good(0) + &good(1)).as_bytes()));
    place.write("b.log", "oops\n".to_owned() + good(61).trim_end());
    place.write("c.log", good(62));
    let ran = place.run(&[
        "a.log.gz",
        "b.log",
        "c.log",
        "--json",
        "report.json",
        "--rejects",
        "rejects.jsonl",
    ]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let report = place.report();
    assert_eq!((&report["read"], &report["parsed"]), (&json!(5), &json!(4)));
    let minutes: Vec<_> = report["minutes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["requests"].as_u64())
        .collect();
    assert_eq!(minutes, [Some(2), Some(2)]);
    assert_eq!(place.rejects()[0]["at"], "b.log:1");
}

/// Ends in which there is something to miss, and how many lines they make.
pub(super) const ENDS: [(&[u8], u64); 6] =
    [(b"", 0), (b"x", 1), (b"\n", 1), (b"\r", 1), (b"oops\nx", 2), (b"oops\r\n", 1)];

#[test]
fn every_input_comes_to_its_end() {
    for (bytes, lines) in ENDS {
        for more in [&[][..], &["--sequential"]] {
            let place = Place::new();
            let args = |file| [&[file, "--json", "report.json"], more].concat();
            let ended = |ran: Ran, how: &str| {
                assert_eq!(ran.code, Some(0), "{how} {bytes:?}: {}", ran.stderr);
                let report = place.report();
                assert_balanced(&report);
                let (read, complete) = (report["read"].as_u64(), report["complete"].as_bool());
                assert_eq!((read, complete), (Some(lines), Some(true)), "{how} {bytes:?}");
                fs::remove_file(place.path("report.json")).unwrap();
            };
            ended(place.run_stdin(bytes, &args("-")), "pipe");
            ended(place.run_stdin(&gzip(bytes), &args("-")), "packed pipe");
            place.write("a.log", bytes);
            ended(place.run(&args("a.log")), "file");
            place.write("a.gz", gzip(bytes));
            ended(place.run(&args("a.gz")), "packed file");
            let mut command = place.command(&args("-"));
            command.stdin(fs::File::open(place.path("a.log")).unwrap());
            ended(program::run(command), "file as standard input");
        }
    }
}

#[test]
fn packings_that_cannot_be_undone_are_named() {
    for (start, name, command) in [
        (&b"\x28\xb5\x2f\xfd"[..], "zstd", "zstd -dc"),
        (b"\xfd7zXZ\0", "xz", "xz -dc"),
        (b"BZh9", "bzip2", "bzip2 -dc"),
        (b"PK\x03\x04", "zip", "unzip -p"),
        (b"PK\x05\x06", "zip", "unzip -p"),
        (b"7z\xbc\xaf\x27\x1c", "7z", "7z x -so"),
        (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
        (b"LZIP\x01", "lzip", "lzip -dc"),
        (b"Rar!\x1a\x07", "rar", "unrar p -inul"),
        (b"\x1f\x9d\x90", "compress", "gzip -dc"),
    ] {
        let place = Place::new();
        place.write("a.log", [start, b"..."].concat());
        let said = format!(
            "it is packed with {name}; unpack it first: `{command} FILE | log_processing -`"
        );
        place.run(&["a.log"]).fails_with(&format!("cannot open a.log: {said}"));
        place.run(&["a.log", "--follow"]).fails_with(&format!("cannot follow a.log: {said}"));
        let start = [start, b"..."].concat();
        place
            .run_stdin(&start, &["-"])
            .fails_with(&format!("cannot open standard input: {said}"));
    }
}

#[test]
fn zeros_after_gzip_are_padding_and_other_bytes_an_error() {
    let (head, tail) = (gzip(good(0).as_bytes()), gzip(good(1).trim_end().as_bytes()));
    let zeros = vec![0; 300_000];
    let cut = &tail[..tail.len() / 2];
    for (packed, parsed, fault) in [
        ([&*head, &tail, &zeros].concat(), 2, None),
        ([&*head, &[0], &tail, &[0]].concat(), 2, None),
        ([&*head, &gzip(b""), &tail].concat(), 2, None),
        (
            [&*head, &tail, b"rest"].concat(),
            2,
            Some("a.gz: bytes after the end of the gzip data are not gzip"),
        ),
        (
            [&*head, &tail, &zeros, b"rest"].concat(),
            2,
            Some("a.gz: bytes after the end of the gzip data are not gzip"),
        ),
        ([&*head, cut].concat(), 1, Some("cannot read a.gz after line 1: ")),
        (head[..2].to_vec(), 0, Some("cannot read a.gz after line 0: ")),
    ] {
        for more in [&[][..], &["--sequential"]] {
            let place = Place::new();
            place.write("a.gz", &packed);
            place.write("b.log", good(2));
            let ran = place.run(&[&["a.gz", "b.log", "--json", "report.json"], more].concat());
            match fault {
                None => assert_eq!((ran.code, &*ran.stderr), (Some(0), "")),
                Some(fault) => ran.fails_with(fault),
            }
            let report = place.report();
            assert_balanced(&report);
            assert_eq!(
                (&report["parsed"], &report["complete"]),
                (&json!(parsed + 1), &json!(fault.is_none())),
                "{report}"
            );
        }
    }
}

#[test]
fn missing_or_unusable_inputs_are_named_before_the_start() {
    let place = Place::new();
    place.write("a.log", good(0));
    fs::create_dir(place.path("folder")).unwrap();
    place
        .run(&["a.log", "none.log", "--json", "x"])
        .fails_with("error: cannot open none.log: No such file");
    place
        .run(&["a.log", "folder", "--json", "x"])
        .fails_with("error: cannot read folder: it is a directory");
    place
        .run(&["-", "a.log", "-", "--json", "x"])
        .fails_with("standard input can be read once only");
    place
        .run(&["a.log", "--rejects", "-", "--json", "x"])
        .fails_with("the rejects need a file");
    place
        .run(&["-", "--follow", "--json", "x"])
        .fails_with("standard input cannot be followed");
    assert!(!place.path("x").exists());
    place
        .run(&["a.log", "--json", "nowhere/x"])
        .fails_with("cannot create report nowhere/x: No such file");
    place
        .run(&["a.log", "--rejects", "nowhere/x"])
        .fails_with("cannot create rejects file nowhere/x: No such file");
}

#[test]
fn a_truncated_gzip_file_does_not_block_the_next_one() {
    let text: String =
        (0..3000).map(|n| line(&format!("client-{}", n * 7919 % 3001), n, "/", 200)).collect();
    let packed = gzip(text.as_bytes());
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        place.write("a.gz", &packed[..packed.len() / 2]);
        place.write("b.log", line("b", 0, "/", 201));
        let ran = place.run(&[&["a.gz", "b.log", "--json", "report.json"], more].concat());
        ran.fails_with("error: cannot read a.gz after line ");
        let report = place.report();
        assert_balanced(&report);
        assert_eq!(
            (&report["complete"], &report["statuses"]["201"]),
            (&json!(false), &json!(1))
        );
        assert!(report["parsed"].as_u64().unwrap() > 100, "{report}");
        assert!(ran.stdout.contains("not complete: stopped by an error"), "{}", ran.stdout);
    }
}
