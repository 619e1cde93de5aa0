//! The log processor, run as a user would run it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::Deref;
use std::process::{Command, Stdio};

use crate::program::{self, Ran, in_time};
use crate::scratch::Scratch;
use serde_json::{Value, json};

fn tool() -> Command {
    program::command::<&str>(program::program("log_processing"), [])
}

/// A line of the Common Log Format, this many seconds after nine o'clock.
fn line(client: &str, second: u32, target: &str, status: u16) -> String {
    let (hour, minute, second) = (9 + second / 3600, second / 60 % 60, second % 60);
    let time = format!("14/Mar/2026:{hour:02}:{minute:02}:{second:02} +0000");
    format!("{client} - - [{time}] \"GET {target} HTTP/1.1\" {status} 100\n")
}

fn good(second: u32) -> String {
    line("10.0.0.1", second, "/", 200)
}

/// A line that gives an alert, which names the client.
fn probe(client: &str, second: u32) -> String {
    line(client, second, "/.env", 404)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with the files of a run, in which the program is run, so that names are short.
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

    fn append(&self, name: &str, content: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new().append(true).open(self.path(name)).unwrap();
        file.write_all(content.as_ref()).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = tool();
        command.args(args).current_dir(self.folder());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        program::run(self.command(args))
    }

    fn run_stdin(&self, input: &[u8], args: &[&str]) -> Ran {
        program::run_with_input(self.command(args), input)
    }

    fn report(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path("report.json")).unwrap()).unwrap()
    }

    fn rejects(&self) -> Vec<Value> {
        self.json_lines("rejects.jsonl")
    }
}

/// The report of a run on one text.
fn report(text: impl AsRef<[u8]>, more: &[&str]) -> Value {
    let place = Place::new();
    place.write("access.log", text);
    let args = [&["access.log", "--json", "-"], more].concat();
    let ran = place.run(&args);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_balanced(&report);
    report
}

/// `read = parsed + malformed + given up`, and the parts are the whole.
#[track_caller]
fn assert_balanced(report: &Value) {
    let get = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(get("read"), get("parsed") + get("malformed") + get("given_up"), "{report}");
    let sum = |values: &Value| {
        values.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(sum(&report["statuses"]), get("parsed"), "{report}");
    assert_eq!(sum(&report["reasons"]), get("malformed"), "{report}");
    let minutes = report["minutes"].as_array().unwrap();
    let minutes: u64 = minutes.iter().map(|minute| minute["requests"].as_u64().unwrap()).sum();
    assert_eq!(
        minutes + report["forgotten"]["minutes"]["requests"].as_u64().unwrap(),
        get("parsed"),
        "{report}"
    );
}

/// Kind and client of each alert.
fn alerts(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    report["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| (text(&alert["kind"]), text(&alert["client"])))
        .collect()
}

fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    pairs.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

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
fn the_plain_loop_gives_the_same_report() {
    let place = Place::new();
    let (a, b) = (place.run(&["--json", "a"]), place.run(&["--json", "b", "--sequential"]));
    assert_eq!((a.code, b.code), (Some(0), Some(0)), "{} {}", a.stderr, b.stderr);
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    assert!(read("a").len() > 10_000);
    assert_eq!(read("a"), read("b"));
}

#[test]
fn all_formats_are_read_line_by_line() {
    let text = [
        r#"192.0.2.7 - frank [14/Mar/2026:10:00:00 +0100] "GET /a?x=1 HTTP/1.0" 200 5"#,
        r#"192.0.2.7 - a [b [14/Mar/2026:09:00:01 +0000] "GET /a HTTP/1.0" 200 5 "http://example.org/" "an agent""#,
        r#"::1 - - [14/Mar/2026:09:00:02 +0000] "GET /a\"b HTTP/1.1" 404 -"#,
        r#"::1 - - [14/Mar/2026:09:00:02 +0000] "-" 408 0"#,
        r#"::1 - - [14/Mar/2026:09:00:02 +0000] "\x16\x03\x01" 400 0"#,
        r#"{"time":"2026-03-14T10:00:03+01:00","client":"::1","path":"/a","status":200,"bytes":5}"#,
        r#" {"@timestamp":1773478803,"remote_addr":"::1","request":"GET /a HTTP/1.1","status":"200","body_bytes_sent":"5"}"#,
        r#"{"ts":1773478803.75,"remote_ip":"::1","uri":"/a#b","status_code":200,"size":5,"more":{"x":[1]}}"#,
        r#"{"timestamp":1773478803750,"ip":"::1","url":"/\u0061","code":200}"#,
        r#"{"ts":1773478803.1,"request":{"remote_ip":"::1","method":"GET","uri":"/a"},"status":200,"size":5}"#,
        r#"{"time":1773478803,"ts":"x","client":"::1","path":"/a","url":null,"uri":{},"status":200,"bytes":5}"#,
    ]
    .join("\n");
    let report = report(text, &[]);
    assert_eq!((&report["read"], &report["parsed"]), (&json!(11), &json!(11)));
    assert_eq!(report["statuses"], json!({"200": 8, "400": 1, "404": 1, "408": 1}));
    assert_eq!(
        report["paths"][0],
        json!({"path": "/a", "requests": 8, "errors": 0}),
        "{report}"
    );
    assert_eq!(report["bytes"], 35);
    assert_eq!(
        (&report["first"], &report["last"]),
        (&json!("2026-03-14T09:00:00Z"), &json!("2026-03-14T09:00:03Z"))
    );
    assert_eq!(report["clients"].as_array().unwrap().len(), 2);
}

#[test]
fn a_format_can_be_forced() {
    let text = good(0) + r#"{"time":0,"client":"a","path":"/","status":200}"#;
    let clf = report(&text, &["--format", "clf"]);
    assert_eq!(clf["reasons"], json!({"not a line of the Common Log Format: no client": 1}));
    let json = report(&text, &["--format", "json"]);
    assert_eq!(json["reasons"], json!({"not JSON": 1}));
}

#[test]
fn each_malformed_line_is_put_aside_with_where_and_why() {
    let clf = |time: &str, rest: &str| format!("a - - [{time}] {rest}");
    let at = "14/Mar/2026:09:00:00 +0000";
    let good_json = r#"{"time":0,"client":"a","path":"/","status":200}"#;
    let cases = [
        (String::new(), "blank line"),
        ("  \t".to_owned(), "blank line"),
        ("word".to_owned(), "not a line of the Common Log Format: no client"),
        ("a b c".to_owned(), "not a line of the Common Log Format: no time"),
        (clf(at, ""), "not a line of the Common Log Format: no request"),
        (clf(at, "\"GET /"), "not a line of the Common Log Format: no end of the request"),
        (
            clf(at, "\"GET / HTTP/1.1\\\" 200 5"),
            "not a line of the Common Log Format: no end of the request",
        ),
        (clf(at, "\"GET / HTTP/1.1\""), "not a line of the Common Log Format: no status"),
        (
            clf(at, "\"GET / HTTP/1.1\" 200"),
            "not a line of the Common Log Format: no number of bytes",
        ),
        (clf(at, "\"GET / HTTP/1.1\" 2x0 5"), "no such status: `2x0`"),
        (clf(at, "\"GET / HTTP/1.1\" 99 5"), "no such status: 99"),
        (clf(at, "\"GET / HTTP/1.1\" 1000 5"), "no such status: 1000"),
        (clf(at, "\"GET / HTTP/1.1\" 200 -5"), "not a number of bytes: `-5`"),
        (
            clf("31/Feb/2026:09:00:00 +0000", "\"GET / HTTP/1.1\" 200 5"),
            "no such time: `31/Feb/2026:09:00:00 +0000`",
        ),
        (
            clf("14/Mar/2026:24:00:00 +0000", "\"GET / HTTP/1.1\" 200 5"),
            "no such time: `14/Mar/2026:24:00:00 +0000`",
        ),
        (
            clf("14/Mar/2026:09:00:00 0000 ", "\"GET / HTTP/1.1\" 200 5"),
            "no such time: `14/Mar/2026:09:00:00 0000 `",
        ),
        (
            clf("14/März/2026:09:00:00 +000", "\"GET / HTTP/1.1\" 200 5"),
            "no such time: `14/März/2026:09:00:00 +000`",
        ),
        (
            format!("{} - - [{at}] \"GET / HTTP/1.1\" 200 5", "a".repeat(300)),
            "not a client: `aaaaaaaaaaaaaaaaaaaa",
        ),
        ("{".to_owned(), "not JSON: EOF while parsing an object at line 1 column 1"),
        (good_json.replace("200", "\"\""), "no such status: ``"),
        (good_json.replace("200", "2.5"), "no such status: 2.5"),
        (good_json.replace("200", "-1"), "no such status: -1"),
        (good_json.replace("200", "null"), "JSON without status"),
        (good_json.replace("client", "who"), "JSON without client"),
        (good_json.replace("\"a\"", "\"\""), "not a client: ``"),
        (good_json.replace("path", "what"), "JSON without path"),
        (good_json.replace("\"a\"", "7"), "JSON without client"),
        (good_json.replace("200", "[200, {}]"), "no such status: a value of another type"),
        (good_json.replace("200", "99999999999999999999"), "no such status: 1"),
        (good_json.replace(":0", ":true"), "no such time: a value of another type"),
        ("{}{}".to_owned(), "not JSON: trailing characters at line 1 column 3"),
        (good_json.replace("time", "when"), "JSON without time"),
        (good_json.replace(":0", ":\"today\""), "no such time: `today`"),
        (good_json.replace(":0", ":1e300"), "no such time: 1"),
        (good_json.replace('}', ",\"bytes\":-1}"), "not a number of bytes: -1"),
    ];
    let mut text = good(0);
    for (line, _) in &cases {
        text += &format!("{line}\n");
    }
    text += &good(1);
    for more in [&[][..], &["--sequential"]] {
        let place = Place::new();
        place.write("access.log", &text);
        let args =
            [&["access.log", "--rejects", "rejects.jsonl", "--json", "report.json"], more]
                .concat();
        let ran = place.run(&args);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        let report = place.report();
        assert_balanced(&report);
        assert_eq!((&report["parsed"], &report["malformed"]), (&json!(2), &json!(cases.len())));
        let rejects = place.rejects();
        assert_eq!(rejects.len(), cases.len());
        for ((entry, (raw, reason)), number) in rejects.iter().zip(&cases).zip(2..) {
            assert_eq!(
                (&entry["at"], &entry["raw"]),
                (&json!(format!("access.log:{number}")), &json!(raw))
            );
            assert!(
                entry["reason"].as_str().unwrap().starts_with(reason),
                "{entry} is not `{reason}`"
            );
        }
        assert!(ran.stdout.contains("such as access.log:2: blank line"), "{}", ran.stdout);
    }
}

#[test]
fn invalid_text_and_endless_lines_stop_nothing() {
    let mut text = good(0).into_bytes();
    text.extend(b"a - - [\xff\xfe\n");
    text.extend(vec![b'x'; 64 * 1024]);
    text.push(b'\n');
    text.extend(vec![b'x'; 1_000_000]);
    text.extend(b"\n\0\x01\x02\n");
    text.extend(good(1).as_bytes());
    let place = Place::new();
    place.write("access.log", &text);
    let ran = place.run(&["access.log", "--rejects", "rejects.jsonl"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let rejects = place.rejects();
    let reasons: Vec<&str> =
        rejects.iter().map(|entry| entry["reason"].as_str().unwrap()).collect();
    let no_client = "not a line of the Common Log Format: no client";
    assert_eq!(reasons, ["not UTF-8", no_client, "longer than 65536 bytes", no_client]);
    assert_eq!(rejects[0]["raw"], "a - - [\u{fffd}\u{fffd}");
    assert_eq!(rejects[2]["raw"].as_str().unwrap().len(), 64 * 1024);
    assert!(ran.stdout.contains("requests               2 "), "{}", ran.stdout);

    let garbage: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    place.write("garbage", garbage);
    let ran = place.run(&["garbage", "--json", "-"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_balanced(&report);
    assert_eq!((&report["parsed"], &report["read"]), (&json!(0), &report["malformed"]));
}

#[test]
fn line_ends_and_byte_order_marks_make_no_difference() {
    let text = format!("\u{feff}{}\r\n{}{}", good(0).trim_end(), good(1), good(2).trim_end());
    let report = report(text, &[]);
    assert_eq!((&report["read"], &report["parsed"]), (&json!(3), &json!(3)));
}

#[test]
fn an_empty_log_is_complete() {
    let report = report("", &[]);
    assert_eq!(
        (&report["read"], &report["complete"], &report["first"]),
        (&json!(0), &json!(true), &Value::Null)
    );
    let place = Place::new();
    place.write("empty", "");
    let ran = place.run(&["empty"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.contains("lines read               0"), "{}", ran.stdout);
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
const ENDS: [(&[u8], u64); 6] =
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
fn the_client_is_found_wherever_a_format_has_it() {
    let cases = [
        ("192.0.2.1 - -", "192.0.2.1"),
        ("192.0.2.1  -  frank", "192.0.2.1"),
        ("192.0.2.1 - John Smith", "192.0.2.1"),
        ("192.0.2.1 ident frank", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:39496 - -", "192.0.2.1"),
        ("2001:db8::1 - -", "2001:db8::1"),
        ("[2001:db8::1] - -", "2001:db8::1"),
        ("[2001:db8::1]:443 - -", "2001:db8::1"),
        ("fe80::1%eth0 - -", "fe80::1%eth0"),
        ("unix: - -", "unix:"),
        ("client.example.net - -", "client.example.net"),
        ("localhost - -", "localhost"),
        // With the virtual host before it: Apache with and without port, nginx, lighttpd.
        ("www.example.com:80 192.0.2.1 - -", "192.0.2.1"),
        ("www.example.com:80 192.0.2.1 - John Smith", "192.0.2.1"),
        ("www.example.com:443 client.example.net - -", "client.example.net"),
        ("www.example.com:443 localhost - -", "localhost"),
        ("www.example.com 192.0.2.1 - frank", "192.0.2.1"),
        ("www.example.com client.example.net - -", "client.example.net"),
        ("198.51.100.1:80 192.0.2.1 - -", "192.0.2.1"),
        ("198.51.100.1 192.0.2.1 - -", "192.0.2.1"),
        ("[2001:db8::2]:443 2001:db8::1 - -", "2001:db8::1"),
        ("_ 192.0.2.1 - -", "192.0.2.1"),
        ("- 192.0.2.1 - -", "192.0.2.1"),
        ("default:80 192.0.2.1 - -", "192.0.2.1"),
        ("192.0.2.1 www.example.com -", "192.0.2.1"),
        ("192.0.2.1 198.51.100.1 -", "192.0.2.1"),
        // Lists.
        ("203.0.113.9, 198.51.100.1 - -", "203.0.113.9"),
        ("203.0.113.9,198.51.100.1 - -", "203.0.113.9"),
        ("203.0.113.9, 198.51.100.1, 198.51.100.2 - John Smith", "203.0.113.9"),
        ("203.0.113.9:1234, [2001:db8::1]:443 - -", "203.0.113.9"),
        ("unknown, 203.0.113.9 - -", "203.0.113.9"),
        ("-, 203.0.113.9 - -", "203.0.113.9"),
        ("www.example.com:80 203.0.113.9, 198.51.100.1 - -", "203.0.113.9"),
        // Anything else before the client, or no client at all.
        ("Oct 10 13:55:36 web nginx: 192.0.2.1 - -", ""),
        ("<190>Oct 10 13:55:36 web nginx: 192.0.2.1 - -", ""),
        ("2000-10-10T13:55:36Z web nginx[7]: 192.0.2.1 - -", ""),
        ("2000-10-10 13:55:36 192.0.2.1 - -", ""),
        ("web_1  | 192.0.2.1 - -", ""),
        ("web-1 | 192.0.2.1 - -", ""),
        ("access.log:192.0.2.1 - -", ""),
        ("17:192.0.2.1 - -", ""),
        ("nginx: 192.0.2.1 - -", ""),
        ("www.example.com:80 - - -", ""),
        ("www.example.com:80 - -", ""),
        ("- - -", ""),
        ("999.0.2.1 - -", ""),
        ("192.0.2 - -", ""),
        ("12345 - -", ""),
        ("\"192.0.2.1\" - -", ""),
        ("203.0.113.9, ' or 1=1 - -", ""),
        ("203.0.113.9, -  - -", "203.0.113.9"),
    ];
    let place = Place::new();
    for (who, client) in cases {
        let at = "[14/Mar/2026:09:00:00 +0000] \"GET / HTTP/1.1\" 200 5";
        let json = json!({"time": 0, "client": who, "path": "/", "status": 200}).to_string();
        // In JSON there is only the client, as a single field.
        let is_field = !who.split(", ").any(|word| word.contains(' '));
        let lines = format!("{who} {at}\n{}\n", if is_field { json } else { String::new() });
        place.write("a.log", lines);
        let ran = place.run(&["a.log", "--json", "report.json"]);
        assert_eq!(ran.code, Some(0));
        let report = place.report();
        let found = report["clients"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["client"].as_str(), it["requests"].as_u64()));
        let expected = (Some(client), Some(1 + u64::from(is_field)));
        let expected = if client.is_empty() { vec![] } else { vec![expected] };
        assert_eq!(found.collect::<Vec<_>>(), expected, "{who}");
    }
}

#[test]
fn formats_of_many_servers_are_read() {
    let time = "14/Mar/2026:09:00:00 +0000";
    let lines = [
        // nginx, with its own times.
        json!({"time_local": time, "remote_addr": "192.0.2.1", "request": "GET /a HTTP/1.1", "status": "200", "body_bytes_sent": "5"}),
        json!({"msec": "1773478800.123", "remote_addr": "192.0.2.1", "request": "GET /a HTTP/1.1", "status": "200", "bytes_sent": "5"}),
        json!({"time_iso8601": "2026-03-14T09:00:00+00:00", "remote_addr": "192.0.2.1", "uri": "/a", "status": "000", "bytes_sent": "-"}),
        // Traefik.
        json!({"ClientAddr": "192.0.2.1:39496", "ClientHost": "192.0.2.1", "DownstreamContentSize": 5, "DownstreamStatus": 200,
            "RequestAddr": "example.com", "RequestPath": "/a?x", "StartUTC": "2026-03-14T09:00:00.5Z", "time": "2026-03-14T09:00:01Z"}),
        json!({"ClientAddr": "[2001:db8::1]:39496", "DownstreamStatus": 0, "RequestPath": "/a", "StartUTC": "2026-03-14T09:00:00.5Z"}),
        // Caddy, behind a proxy and of an older version.
        json!({"ts": 1773478800.123, "request": {"remote_ip": "10.0.0.1", "client_ip": "192.0.2.1", "uri": "/a", "headers": {"x": ["y"]}}, "size": 5, "status": 200}),
        json!({"ts": 1773478800.123, "request": {"remote_addr": "192.0.2.1:42900", "uri": "/a"}, "size": 5, "status": 200}),
        // Envoy.
        json!({"start_time": "2026-03-14T09:00:00.123Z", "downstream_remote_address": "192.0.2.1:5000", "path": "/a", "response_code": 200, "bytes_sent": 5}),
        json!({"time": 1_773_478_800_000_000_u64, "ip": "192.0.2.1", "path": "/a", "status": 200}),
        json!({"time": 1_773_478_800_000_000_000_u64, "ip": "192.0.2.1", "path": "/a", "status": 200}),
        json!({"time": 1_773_478_800_000.5, "ip": "192.0.2.1", "path": "/a", "status": "-"}),
    ];
    let clf = [
        format!(
            r#"192.0.2.1 - - [{time}] "GET /a HTTP/1.1" 200 5 "-" "-" 1 "router@docker" "http://10.0.0.1:80" 2ms"#
        ),
        format!(r#"192.0.2.1 - - [{time}] "GET /a HTTP/1.1" 0 -"#),
        format!(r#"192.0.2.1 - - [{time}] "GET /a HTTP/1.1" - -"#),
        format!(r#"192.0.2.1 - - [{time}] "" 000 0"#),
    ];
    let text = lines
        .iter()
        .map(|line| format!("{line}\n"))
        .chain(clf.iter().map(|line| format!("{line}\n")));
    let report = report(text.collect::<String>(), &[]);
    assert_eq!((&report["parsed"], &report["malformed"]), (&json!(15), &json!(0)), "{report}");
    assert_eq!(report["statuses"], json!({"0": 6, "200": 9}));
    assert_eq!(
        (&report["first"], &report["last"]),
        (&json!("2026-03-14T09:00:00Z"), &json!("2026-03-14T09:00:00Z"))
    );
    let clients = report["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["client"].as_str().unwrap(), &it["requests"]));
    assert_eq!(
        clients.collect::<Vec<_>>(),
        [("192.0.2.1", &json!(14)), ("2001:db8::1", &json!(1))]
    );
    assert_eq!(report["minutes"][0]["classes"], json!({"2xx": 9, "other": 6}));
}

#[test]
fn ignored_fields_may_contain_anything() {
    let latin1 = |line: String| {
        line.into_bytes().iter().map(|byte| if *byte == b'~' { 0xfc } else { *byte }).collect()
    };
    let long = "x".repeat(70_000);
    let line = |rest: &str| format!("{}{rest}\n", good(0).trim_end());
    let json = |rest: &str| {
        format!(
            "{{\"time\":0,\"client\":\"a\",\"path\":\"/\",\"status\":200,\"bytes\":5,{rest}}}\n"
        )
    };
    let parsed: [Vec<u8>; 7] = [
        latin1(line(" \"-\" \"M~ller\"")),
        latin1(json("\"agent\":\"M~ller\"")),
        latin1(good(0).replace("- -", "- M~ller")),
        latin1(good(0).replace("GET /", "GET /m~ller")),
        line(&format!(" \"-\" \"{long}\"")).into_bytes(),
        json(&format!("\"agent\":\"{long}\"")).into_bytes(),
        // A hole of zeros, where a file was emptied under a program that wrote on.
        ("\0".repeat(100) + &good(0)).into_bytes(),
    ];
    for text in parsed {
        let report = report(&text, &[]);
        assert_eq!(
            (&report["read"], &report["parsed"]),
            (&json!(1), &json!(1)),
            "{}",
            String::from_utf8_lossy(&text[..60])
        );
    }
    // What is cut off may be a part of what counts.
    let malformed = [
        good(0).replace("GET /", &format!("GET /{long}")),
        good(0).trim_end().to_owned() + &"0".repeat(70_000),
        format!(
            "{{\"agent\":\"{long}\",\"time\":0,\"client\":\"a\",\"path\":\"/\",\"status\":200}}\n"
        ),
        format!(
            "{{\"time\":0,\"client\":\"a\",\"path\":\"/\",\"status\":200,\"agent\":\"{long}\",\"bytes\":5}}\n"
        ),
        // A hole that is longer than a line may be is no blank line: there may be a request behind it.
        "\0".repeat(70_000) + &good(1),
    ];
    for text in malformed {
        let report = report(good(0) + &text, &[]);
        assert_eq!(report["reasons"], json!({"longer than 65536 bytes": 1}));
    }
}

#[test]
fn text_that_is_not_made_of_lines_of_utf8_is_named() {
    let utf16 = |little: bool| {
        let text = "\u{feff}".to_owned() + &good(0) + &good(1);
        let unit = |unit: u16| if little { unit.to_le_bytes() } else { unit.to_be_bytes() };
        text.encode_utf16().flat_map(unit).collect::<Vec<u8>>()
    };
    let returns = good(0) + &good(1) + &good(2);
    let cases = [
        (utf16(true), "UTF-16"),
        (utf16(false), "UTF-16"),
        (returns.replace('\n', "\r").into_bytes(), "carriage return"),
    ];
    for (text, word) in cases {
        for args in [&["a.log"][..], &["a.log", "--quiet"], &["a.log", "--json", "-"]] {
            let place = Place::new();
            place.write("a.log", &text);
            let ran = place.run(args);
            assert_eq!(ran.code, Some(0));
            assert!(
                ran.stderr.starts_with("log_processing: warning: none of ")
                    && ran.stderr.contains(word),
                "{}",
                ran.stderr
            );
        }
    }
    // Beside lines that are all right, too.
    let report = report((good(0) + &returns.replace('\n', "\r") + "\n").into_bytes(), &[]);
    assert_eq!((&report["parsed"], &report["malformed"]), (&json!(1), &json!(1)));
}

#[test]
fn packings_that_cannot_be_undone_are_named() {
    for (start, name) in [
        (&b"\x28\xb5\x2f\xfd"[..], "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh9", "bzip2"),
        (b"PK\x03\x04", "zip"),
    ] {
        let place = Place::new();
        place.write("a.log", [start, b"..."].concat());
        place
            .run(&["a.log"])
            .fails_with(&format!("cannot open a.log: it is packed with {name}"));
    }
}

#[test]
fn sizes_of_any_number_do_not_wrap() {
    let huge =
        |client: &str| line(client, 0, "/", 200).replace(" 100\n", " 18446744073709551615\n");
    let text = huge("a")
        + &huge("a")
        + r#"{"time":1773478800,"client":"b","path":"/","status":200,"bytes":18446744073709551615}"#;
    let report = report(&text, &[]);
    assert_eq!(
        (&report["bytes"], &report["clients"][0]["bytes"]),
        (&json!(u64::MAX), &json!(u64::MAX))
    );
    assert_eq!(
        (&report["parsed"], report["warnings"].as_array().unwrap().len()),
        (&json!(3), 1)
    );
    let place = Place::new();
    place.write(
        "a.log",
        text + "\n" + &huge("a").replace("615 ", "616").replace("551615", "551616"),
    );
    let ran = place.run(&["a.log"]);
    assert!(
        ran.stdout.contains("at least 18447 PB sent")
            && ran.stdout.contains("too large to be counted"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("not a number of bytes: `18446744073709551616`"),
        "{}",
        ran.stdout
    );
}

/// Twenty requests a minute for nine minutes, with a burst of two hundred in the last; and what another clock says, which comes
/// after each of them.
fn burst(other: impl Fn(u32) -> Option<String>) -> String {
    let minute = |minute: u32| {
        let count = if minute == 8 { 200 } else { 20 };
        (0..count).map(move |n| minute * 60 + n * 59 / count)
    };
    let at = |second| line("a", second, "/", 200) + &other(second).unwrap_or_default();
    (0..9).flat_map(minute).map(at).collect()
}

#[test]
fn a_clock_that_is_wrong_does_not_blind_the_watch() {
    let plain = report(burst(|_| None), &[]);
    assert_eq!((alerts(&plain), &plain["time_went_back"]), (pairs([("burst", "")]), &json!(0)));
    let years = [("2036", 1), ("2016", 1), ("1970", 1), ("9999", 1)];
    let lone = years.map(|(year, back)| {
        let wrong = line("b", 0, "/", 200).replace("2026", year);
        (burst(|second| (second == 240).then(|| wrong.clone())), back)
    });
    let first = (line("b", 0, "/", 200).replace("2026", "2036") + &burst(|_| None), 1);
    // Each request again, from a machine whose clock is off by some minutes.
    let machines = [2, 3, 60]
        .map(|off| (burst(|second| Some(line("b", second + off * 60, "/", 200))), 359));
    for (text, back) in lone.into_iter().chain([first]).chain(machines) {
        let report = report(text, &[]);
        let minutes = |report: &Value| {
            let bursts =
                report["alerts"].as_array().unwrap().iter().filter(|it| it["kind"] == "burst");
            bursts.map(|it| it["time"].as_str().unwrap()[..16].to_owned()).collect::<Vec<_>>()
        };
        assert!(minutes(&report).contains(&minutes(&plain)[0]), "{report}");
        assert_eq!(report["time_went_back"], back, "{report}");
        assert!(
            report["warnings"][0]
                .as_str()
                .unwrap()
                .starts_with("time goes back by more than 60 s "),
            "{report}"
        );
    }
    // Nor is anything found that is not there.
    for off in [2, 6, 8, 60] {
        let both =
            |second| line("a", second, "/", 200) + &line("b", second + off * 60, "/", 200);
        assert_eq!(alerts(&report((0..900).map(both).collect::<String>(), &[])), [], "{off}");
    }
    let wrong = line("b", 0, "/", 200).replace("2026", "1970");
    let start = wrong + &(0..100).map(|n| line("a", n / 2, "/", 200)).collect::<String>();
    assert_eq!(alerts(&report(start, &[])), []);
}

#[test]
fn a_client_is_watched_though_two_clocks_take_turns() {
    let (skewed, years) =
        (|second| second + 120, |year: &str, line: String| line.replace("2026", year));
    let twice = |make: &dyn Fn(u32, u32) -> String| {
        (0..20).map(|n| make(n, n) + &make(n, skewed(n))).collect::<String>()
    };
    let errors = twice(&|_, second| line("a", second, "/", 404));
    assert_eq!(alerts(&report(errors, &[]))[0], ("errors".to_owned(), "a".to_owned()));
    let scan = twice(&|n, second| line("a", second, &format!("/{second}/{n}"), 200));
    assert_eq!(
        alerts(&report(scan, &["--max-paths", "20"]))[0],
        ("scan".to_owned(), "a".to_owned())
    );
    for year in ["2036", "1970"] {
        let errors: String = (0..20)
            .map(|n| {
                line("a", n, "/", 404)
                    + &if n == 10 { years(year, line("a", n, "/", 404)) } else { String::new() }
            })
            .collect();
        assert_eq!(alerts(&report(errors, &[])), pairs([("errors", "a")]), "{year}");
        let scan: String = (0..20)
            .map(|n| {
                line("a", n, &format!("/{n}"), 200)
                    + &if n == 10 {
                        years(year, line("a", n, "/x", 200))
                    } else {
                        String::new()
                    }
            })
            .collect();
        assert_eq!(
            alerts(&report(scan, &["--max-paths", "20"])),
            pairs([("scan", "a")]),
            "{year}"
        );
    }
    // They need not take strict turns.
    let in_pairs = (0..20).step_by(2).flat_map(|n| [n, n + 1, n + 120, n + 121]);
    let scan = in_pairs
        .map(|second| line("a", second, &format!("/{second}"), 200))
        .collect::<String>();
    assert_eq!(
        alerts(&report(scan, &["--max-paths", "20"]))[0],
        ("scan".to_owned(), "a".to_owned())
    );
    // Spread over more than the window by each clock, there is nothing to say.
    let slow = (0..40)
        .map(|n| line("a", n * 4, "/", 404) + &line("a", n * 4 + 120, "/", 404))
        .collect::<String>();
    assert_eq!(alerts(&report(slow, &["--max-errors", "31"])), []);
    // The limit of each minute holds, too.
    let probes = (0..20)
        .map(|n| probe(&format!("a{n}"), n) + &probe(&format!("b{n}"), skewed(n)))
        .collect::<String>();
    let report = report(probes, &[]);
    assert_eq!((&report["alerts_said"], &report["alerts_held_back"]), (&json!(20), &json!(20)));
}

#[test]
fn a_timeline_shows_the_log_though_one_time_is_wrong() {
    let place = Place::new();
    let day: String = (0..1440).map(|minute| line("a", minute * 30, "/", 200)).collect();
    place.write("a.log", day + &line("a", 0, "/", 200).replace("2026", "2036"));
    let ran = place.run(&["a.log"]);
    assert!(
        ran.stdout.contains("each 30 minutes from")
            && ran.stdout.contains("2026-03-14T09:00:00Z  "),
        "{}",
        ran.stdout
    );
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
fn the_counts_are_those_of_a_calculation() {
    let mut expected = BTreeMap::new();
    let text: String = (0..5000_u32)
        .map(|n| {
            let status = [200, 301, 404, 500][(n * n % 7 % 4) as usize];
            *expected.entry(status.to_string()).or_insert(0) += 1;
            line(&format!("c{}", n % 13), n, &format!("/{}", n % 5), status)
        })
        .collect();
    let report = report(text, &[]);
    assert_eq!(report["statuses"], json!(expected));
    assert_eq!(report["bytes"], 500_000);
    assert_eq!(report["minutes"].as_array().unwrap().len(), 84);
    assert_eq!(report["clients"].as_array().unwrap().len(), 10);
}

#[test]
fn many_errors_of_one_client_within_the_window_are_an_alert() {
    let errors = |count: u32, apart: u32| {
        let errors = (0..count).map(|n| {
            line("bad", n * apart, "/", 404) + &line(&format!("good-{n}"), n * apart, "/", 500)
        });
        errors.collect::<String>()
    };
    let found = |text: String, more: &[&str]| alerts(&report(text, more));
    assert_eq!(found(errors(19, 1), &[]), []);
    let found_one = report(errors(20, 1), &[]);
    assert_eq!(alerts(&found_one), pairs([("errors", "bad")]));
    assert_eq!(found_one["alerts"][0]["at"], "access.log:39");
    // 20 errors span 57 seconds, then 76. The window is half open: 4 errors a minute apart are within 181 s, not 180.
    assert_eq!(found(errors(20, 3), &[]), pairs([("errors", "bad")]));
    assert_eq!(found(errors(100, 4), &[]), []);
    assert_eq!(found(errors(4, 60), &["--max-errors", "4", "--window", "180"]), []);
    assert_eq!(
        found(errors(4, 60), &["--max-errors", "4", "--window", "181"]),
        pairs([("errors", "bad")])
    );
    // What is no error does not count.
    assert_eq!(found((0..100).map(|n| line("a", n / 10, "/", 399)).collect(), &[]), []);
}

#[test]
fn many_paths_of_one_client_within_the_window_are_an_alert() {
    let visits = |paths: u32, apart: u32| {
        (0..paths).map(move |n| line("a", n * apart, &format!("/{n}?{n}"), 200))
    };
    let found = |text: String| alerts(&report(text, &["--max-paths", "10"]));
    assert_eq!(found(visits(9, 1).chain(visits(9, 1)).collect()), []);
    assert_eq!(found(visits(10, 1).collect()), pairs([("scan", "a")]));
    assert_eq!(found(visits(10, 6).collect()), pairs([("scan", "a")]));
    assert_eq!(found(visits(100, 7).collect()), []);
    // Queries make no path.
    assert_eq!(found((0..100).map(|n| line("a", 0, &format!("/?{n}"), 200)).collect()), []);
}

#[test]
fn a_minute_far_above_the_usual_is_a_burst() {
    let minutes = |counts: &[u32]| {
        let minute = |(minute, count): (u32, &u32)| {
            (0..*count)
                .map(move |n| line(&format!("c{n}"), minute * 60 + n * 59 / count, "/", 200))
                .collect::<String>()
        };
        (0..).zip(counts).map(minute).collect::<String>()
    };
    let found = |counts: &[u32], more: &[&str]| report(minutes(counts), more)["alerts"].clone();
    assert_eq!(found(&[20, 20, 20, 20, 20, 60, 20], &[]), json!([]));
    let burst = found(&[20, 20, 20, 20, 20, 61, 20], &[]);
    assert_eq!(burst.as_array().unwrap().len(), 1);
    assert_eq!(
        (&burst[0]["kind"], &burst[0]["usual"], &burst[0]["limit"]),
        (&json!("burst"), &json!(20), &json!(60))
    );
    assert_eq!(burst[0]["at"], "access.log:161");
    assert_eq!(
        found(&[20, 20, 20, 20, 20, 41], &["--burst", "2"]).as_array().unwrap().len(),
        1
    );
    // Too little is known, or it is too little.
    assert_eq!(found(&[20, 20, 20, 20, 500], &[]), json!([]));
    assert_eq!(found(&[1, 1, 1, 1, 1, 1, 30], &[]), json!([]));
    // Minutes in which nothing happens are usual, too.
    assert_eq!(found(&[20, 0, 0, 0, 0, 31], &[]).as_array().unwrap().len(), 1);
}

#[test]
fn probes_raise_alerts_however_they_are_written() {
    let cases = [
        ("/a/../../etc/passwd", Some("traversal")),
        ("/a/%2e%2e%2fb", Some("traversal")),
        ("/a/%252e%252e%252fb", Some("traversal")),
        ("/?f=/etc/passwd", Some("traversal")),
        ("/?q=1+UNION+SELECT+a", Some("sql-injection")),
        ("/?q=x%27%20or%201=1", Some("sql-injection")),
        ("/?q=%3CScRiPt%3E", Some("scripting")),
        ("/.git/config", Some("secrets")),
        ("/shop/.ENV", Some("secrets")),
        ("/union/select", None),
        ("/environment.html", None),
        ("/a.b/c..d/e%20f?x=1&y=it%27s", None),
        ("/%", None),
        ("/%zz%4", None),
    ];
    for (target, threat) in cases {
        let report = report(line("a", 0, target, 200), &[]);
        let found = report["threats"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>();
        assert_eq!(found, threat.into_iter().collect::<Vec<_>>(), "{target}");
        assert_eq!(report["alerts"].as_array().unwrap().len(), usize::from(threat.is_some()));
    }
}

#[test]
fn an_alert_is_not_repeated_and_not_too_many_come_in_a_minute() {
    // Nine o'clock is a multiple of ten minutes.
    let text =
        [0, 1, 599, 600, 601].map(|second| probe("a", second)).concat() + &probe("b", 602);
    let once = report(&text, &[]);
    assert_eq!(alerts(&once), pairs([("probe", "a"), ("probe", "a"), ("probe", "b")]));
    assert_eq!((&once["alerts_said"], &once["alerts_repeated"]), (&json!(3), &json!(3)));

    let text: String =
        (0..25).map(|n| probe(&format!("c{n}"), n)).chain([probe("late", 60)]).collect();
    let few = report(&text, &["--alerts-per-minute", "20"]);
    assert_eq!((&few["alerts_said"], &few["alerts_held_back"]), (&json!(21), &json!(5)));
    assert_eq!(alerts(&few).last().unwrap().1, "late");
}

#[test]
fn an_older_file_after_a_newer_one_is_watched_again() {
    let errors =
        |from: u32| (0..20).map(move |n| line("a", from + n, "/", 404)).collect::<String>();
    let report = report(errors(7200) + &errors(0), &[]);
    assert_eq!(alerts(&report), pairs([("errors", "a"), ("errors", "a")]));
}

#[test]
fn tables_are_bounded_and_evictions_are_counted() {
    // The client that returns again and again is kept; of the others, the last nine.
    let text: String =
        (0..100).map(|n| good(n) + &line(&format!("c{n}"), n, &format!("/{n}"), 200)).collect();
    let report = report(&text, &["--max-keys", "10"]);
    let ninety_one = json!({"keys": 91, "requests": 91});
    assert_eq!(
        (&report["forgotten"]["clients"], &report["forgotten"]["paths"]),
        (&ninety_one, &ninety_one)
    );
    assert_eq!(
        report["clients"][0],
        json!({"client": "10.0.0.1", "requests": 100, "errors": 0, "bytes": 10_000})
    );

    let place = Place::new();
    place.write("access.log", &text);
    let ran = place.run(&["access.log", "--max-keys", "10"]);
    assert!(
        ran.stdout.contains("forgotten for want of room: 91 clients with 91 requests;"),
        "{}",
        ran.stdout
    );
}

#[test]
fn alerts_are_remembered_up_to_a_bound() {
    let text: String =
        (0..10_002).chain([0, 10_001]).map(|n| probe(&format!("c{n}"), 0)).collect();
    let report = report(text, &["--alerts-per-minute", "20000"]);
    // The two oldest were evicted; the first of them returns and is reported again, which evicts another one.
    assert_eq!(
        (&report["forgotten"]["alerts"], &report["alerts_said"]),
        (&json!(3), &json!(10_003))
    );
    assert_eq!(
        (&report["alerts_repeated"], report["alerts"].as_array().unwrap().len()),
        (&json!(1), 1000)
    );
}

#[test]
fn beyond_a_week_the_oldest_minutes_are_forgotten() {
    let minute = |n: u32| {
        format!("{{\"time\":{},\"client\":\"a\",\"path\":\"/\",\"status\":200}}\n", n * 60)
    };
    let report = report((0..10_090).map(minute).collect::<String>(), &[]);
    assert_eq!(report["forgotten"]["minutes"], json!({"keys": 10, "requests": 10}));
    assert_eq!(report["minutes"][0]["minute"], "1970-01-01T00:10:00Z");
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
fn a_log_is_never_written_over() {
    let place = Place::new();
    place.write("a.log", good(0));
    place.run(&["a.log", "--json", "./a.log"]).fails_with("--json ./a.log is an input: a.log");
    place
        .run(&["a.log", "--rejects", "a.log"])
        .fails_with("--rejects a.log is an input: a.log");
    place.run(&["a.log", "--json", "x", "--rejects", "x"]).fails_with("are the same file: x");
    assert_eq!(fs::read_to_string(place.path("a.log")).unwrap(), good(0));
}

#[test]
fn outputs_that_are_one_file_are_refused() {
    let place = Place::new();
    place.write("a.log", good(0));
    place
        .run(&["a.log", "--json", "x", "--rejects", "./x"])
        .fails_with("--json and --rejects are the same file: x");
    assert!(!place.path("x").exists(), "what was created for nothing is removed");
    place.write("x", "kept");
    fs::hard_link(place.path("x"), place.path("y")).unwrap();
    place
        .run(&["a.log", "--json", "x", "--rejects", "y"])
        .fails_with("--json and --rejects are the same file: x");
    assert_eq!(fs::read_to_string(place.path("x")).unwrap(), "kept");
    place
        .run(&["--json", "x", "--rejects", "y"])
        .fails_with("--json and --rejects are the same file: x");
}

#[test]
fn a_log_is_never_written_over_by_another_name() {
    let place = Place::new();
    place.write("a.log", good(0));
    fs::hard_link(place.path("a.log"), place.path("b.log")).unwrap();
    for option in ["--json", "--rejects"] {
        place
            .run(&["a.log", option, "b.log"])
            .fails_with(&format!("{option} b.log is an input: a.log"));
        place
            .run(&["--follow", "a.log", option, "b.log"])
            .fails_with(&format!("{option} b.log is an input: a.log"));
        // A file that is not there yet would be followed as soon as it is created.
        place
            .run(&["--follow", "new", option, "new"])
            .fails_with(&format!("{option} new is an input: new"));
        assert!(!place.path("new").exists());
        let mut command = place.command(&["-", option, "a.log"]);
        command.stdin(fs::File::open(place.path("a.log")).unwrap());
        let ran = program::run(command);
        ran.fails_with(&format!("{option} a.log is an input: standard input"));
    }
    for name in ["a.log", "b.log"] {
        let mut command = place.command(&[name]);
        command.stdout(fs::OpenOptions::new().append(true).open(place.path("a.log")).unwrap());
        let ran = program::run(command);
        ran.fails_with("standard output is an input: ");
    }
    // An input that cannot be read leaves the outputs as they are.
    place.write("c", "kept");
    place.run(&["none.log", "--json", "c"]).fails_with("cannot open none.log");
    place.run(&["--follow", ".", "--json", "c"]).fails_with("cannot follow .");
    assert_eq!(fs::read_to_string(place.path("c")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(place.path("a.log")).unwrap(), good(0));
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
    for text in
        ["--follow", "Exit status:\n  0 ", "Memory:", "tail -F", "read = parsed + malformed"]
    {
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

#[test]
fn the_timeline_fits_on_a_screen_however_long_the_log_is() {
    let at = |time: i64| {
        format!("{{\"time\":{time},\"client\":\"a\",\"path\":\"/\",\"status\":200}}\n")
    };
    let day = 86_400;
    for (days, rows) in [
        (0, "each minute from"),
        (1, "each 60 minutes from"),
        (6, "each 360 minutes from"),
        (30_000, "each minute from"),
    ] {
        let place = Place::new();
        place.write("a.log", at(0) + &at(30) + &at(days * day));
        let ran = place.run(&["a.log"]);
        assert!(ran.stdout.contains(rows), "{days}: {}", ran.stdout);
        assert!(ran.stdout.lines().count() < 60);
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

/// Full disks, signals, named pipes, and files that grow.
#[cfg(target_os = "linux")]
mod linux {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Child;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    /// Far more than a line takes to come: it is there so that a hang is a failure.
    const LIMIT: Duration = Duration::from_secs(60);

    fn signal(child: &Child, signal: &str) {
        let sent =
            Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// The lines that come out of a running program, as they come.
    fn lines(reader: impl Read + Send + 'static) -> Receiver<String> {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        receiver
    }

    /// A run that follows, and what it says.
    struct Follow<'a> {
        place: &'a Place,
        child: Child,
        out: Receiver<String>,
        notes: Receiver<String>,
    }

    impl<'a> Follow<'a> {
        fn start(place: &'a Place, args: &[&str]) -> Self {
            let args =
                [&["--follow", "--json", "report.json", "--rejects", "rejects.jsonl"], args]
                    .concat();
            let mut child = place.command(&args).spawn().unwrap();
            let (out, notes) =
                (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
            Self { place, child, out, notes }
        }

        /// Waits for the next line on standard error.
        #[track_caller]
        fn notes(&self, expected: &str) {
            let line = self.notes.recv_timeout(LIMIT).expect("a note");
            assert_eq!(line, format!("log_processing: {expected}"));
        }

        /// Waits for the next line on standard output, which must be the alert for this client and line.
        #[track_caller]
        fn alerts(&self, client: &str, at: &str) {
            let line = self.out.recv_timeout(LIMIT).expect("an alert");
            assert!(
                line.ends_with(&format!("probe   {client}: hunt for secrets ({at})")),
                "{line}"
            );
        }

        /// Ends it, and returns its report.
        #[track_caller]
        fn end(mut self, how: &str) -> Value {
            signal(&self.child, how);
            let status = in_time(move || self.child.wait().unwrap());
            let notes: Vec<String> = self.notes.into_iter().collect();
            assert_eq!((status.code(), notes), (Some(0), vec![]));
            assert!(
                self.out.into_iter().any(|line| line.starts_with("lines read")),
                "a report at the end"
            );
            let report = self.place.report();
            assert_balanced(&report);
            assert_eq!(report["complete"], true);
            report
        }
    }

    #[test]
    fn follow_starts_at_the_end_and_reads_new_lines() {
        let place = Place::new();
        place.write("a.log", probe("old", 0) + "an unfinished");
        let run = Follow::start(&place, &["a.log"]);
        run.notes("following a.log");
        place.append("a.log", " line that began before\n".to_owned() + &probe("one", 1));
        run.alerts("one", "a.log:+1");
        // A line comes in two pieces.
        let two = probe("two", 2);
        place.append("a.log", "oops\n".to_owned() + &two[..20]);
        place.append("a.log", &two[20..]);
        run.alerts("two", "a.log:+3");
        let report = run.end("-INT");
        assert_eq!(
            (&report["read"], &report["parsed"], &report["malformed"]),
            (&json!(3), &json!(2), &json!(1))
        );
        assert_eq!(place.rejects()[0]["at"], "a.log:+2");
    }

    #[test]
    fn follow_may_begin_at_the_beginning_and_terminate_ends_it_too() {
        let place = Place::new();
        place.write("a.log", "oops\n".to_owned() + &probe("old", 0));
        let run = Follow::start(&place, &["a.log", "--from-start"]);
        run.notes("following a.log");
        run.alerts("old", "a.log:2");
        place.append("a.log", probe("new", 1));
        run.alerts("new", "a.log:3");
        assert_eq!(run.end("-TERM")["read"], 3);
    }

    #[test]
    fn follow_survives_rotation_and_reads_the_old_file_to_its_end() {
        let place = Place::new();
        place.write("a.log", "");
        let run = Follow::start(&place, &["a.log"]);
        run.notes("following a.log");
        place.append("a.log", probe("one", 0));
        run.alerts("one", "a.log:1");

        fs::rename(place.path("a.log"), place.path("a.log.1")).unwrap();
        // Still open in the program that writes, which does not know yet.
        place.append("a.log.1", probe("two", 1));
        run.alerts("two", "a.log:2");
        place.write("a.log", probe("three", 2));
        run.notes("renamed and created again: a.log");
        run.alerts("three", "a.log:1");
        place.append("a.log.1", probe("four", 3));
        run.alerts("four", "a.log:3");
        place.append("a.log", probe("five", 4));
        run.alerts("five", "a.log:2");

        // Once more: now the first one is let go, with its last line, to which no end will come.
        place.append("a.log.1", probe("six", 5).trim_end());
        fs::rename(place.path("a.log"), place.path("a.log.2")).unwrap();
        place.write("a.log", "");
        run.notes("renamed and created again: a.log");
        run.alerts("six", "a.log:4");
        // A file that is deleted is let go, too.
        place.append("a.log.2", probe("seven", 6).trim_end());
        fs::remove_file(place.path("a.log.2")).unwrap();
        run.alerts("seven", "a.log:3");
        place.append("a.log", probe("eight", 7));
        run.alerts("eight", "a.log:1");
        let report = run.end("-INT");
        assert_eq!((&report["read"], &report["parsed"]), (&json!(8), &json!(8)));
    }

    #[test]
    fn follow_survives_truncation() {
        let place = Place::new();
        place.write("a.log", "");
        let run = Follow::start(&place, &["a.log"]);
        run.notes("following a.log");
        place.append("a.log", good(0) + &good(1) + &probe("one", 2));
        run.alerts("one", "a.log:3");
        place.write("a.log", probe("two", 3));
        run.notes("emptied: a.log");
        run.alerts("two", "a.log:1");
        place.append("a.log", probe("three", 4));
        run.alerts("three", "a.log:2");
        assert_eq!(run.end("-INT")["read"], 5);
    }

    #[test]
    fn follow_waits_for_files_and_takes_turns() {
        let place = Place::new();
        place.write("b.log", "");
        let run = Follow::start(&place, &["a.log", "b.log"]);
        run.notes("waiting for a.log");
        run.notes("following b.log");
        place.append("b.log", probe("b", 0));
        run.alerts("b", "b.log:1");
        place.write("a.log", probe("a", 1));
        run.notes("following a.log");
        run.alerts("a", "a.log:1");
        fs::remove_file(place.path("a.log")).unwrap();
        place.append("b.log", probe("c", 2));
        run.alerts("c", "b.log:2");
        place.write("a.log", probe("d", 3));
        run.notes("renamed and created again: a.log");
        run.alerts("d", "a.log:1");
        assert_eq!(run.end("-INT")["read"], 4);
    }

    #[test]
    fn follow_reads_files_renamed_twice_between_two_polls() {
        let place = Place::new();
        place.write("a.log", "");
        // It was there before, and is older.
        place.write("a.log.3", probe("zero", 0));
        let run = Follow::start(&place, &["a.log"]);
        run.notes("following a.log");
        place.append("a.log", probe("one", 1));
        run.alerts("one", "a.log:1");
        signal(&run.child, "-STOP");
        // Several generations, while the program is stopped.
        for (n, client) in [(2, "two"), (3, "three"), (4, "four")] {
            for number in (1..=4).rev() {
                let (from, to) = (format!("a.log.{number}"), format!("a.log.{}", number + 1));
                if place.path(&from).exists() {
                    fs::rename(place.path(&from), place.path(&to)).unwrap();
                }
            }
            place.append("a.log", probe(&format!("last-{client}"), n).trim_end());
            fs::rename(place.path("a.log"), place.path("a.log.1")).unwrap();
            place.write("a.log", probe(client, n));
        }
        signal(&run.child, "-CONT");
        run.notes("renamed and created again: a.log");
        run.notes("renamed 3 times since it was last looked at: a.log");
        run.alerts("two", "a.log:1");
        run.alerts("three", "a.log:1");
        run.alerts("four", "a.log:1");
        let report = run.end("-INT");
        // The lines without an end, of files that may still be written to, are not counted.
        assert_eq!(
            (&report["read"], &report["parsed"], &report["unfinished"]),
            (&json!(4), &json!(4), &json!(3))
        );
    }

    #[test]
    fn follow_tells_when_lines_may_be_missing() {
        let place = Place::new();
        place.write("a.log", "");
        let mut run = Follow::start(&place, &["a.log"]);
        run.notes("following a.log");
        signal(&run.child, "-STOP");
        // Only one old file is kept.
        for client in ["one", "two", "three"] {
            fs::rename(place.path("a.log"), place.path("a.log.1")).unwrap();
            place.write("a.log", probe(client, 1));
        }
        signal(&run.child, "-CONT");
        run.notes("renamed and created again: a.log");
        run.notes("renamed 2 times since it was last looked at: a.log");
        run.notes("lines may be missing of a.log");
        run.alerts("two", "a.log:1");
        run.alerts("three", "a.log:1");
        signal(&run.child, "-INT");
        run.notes(
            "error: lines of a.log may be missing: it was renamed faster than it was read",
        );
        assert_eq!(in_time(move || run.child.wait().unwrap()).code(), Some(1));
        assert_eq!(place.report()["complete"], false);
    }

    fn fifo(place: &Place, name: &str) {
        assert!(Command::new("mkfifo").arg(place.path(name)).status().unwrap().success());
    }

    #[test]
    fn a_file_that_becomes_a_pipe_makes_follow_wait_for_nothing() {
        let place = Place::new();
        place.write("a.log", "");
        let mut run = Follow::start(&place, &["a.log"]);
        run.notes("following a.log");
        fs::rename(place.path("a.log"), place.path("b.log")).unwrap();
        fifo(&place, "a.log");
        run.notes("for now cannot read (only files can be followed) a.log");
        place.append("b.log", probe("one", 0));
        run.alerts("one", "a.log:1");
        signal(&run.child, "-INT");
        run.notes("error: cannot read a.log: only files can be followed");
        assert_eq!(in_time(move || run.child.wait().unwrap()).code(), Some(1));
        assert_eq!(place.report()["parsed"], 1);
        place
            .run(&["--follow", "a.log"])
            .fails_with("cannot follow a.log: only files can be followed");
    }

    #[test]
    fn an_interrupt_ends_the_wait_for_the_writer_of_a_pipe() {
        for more in [&[][..], &["--sequential"]] {
            let place = Place::new();
            place.write("a.log", probe("a", 0));
            fifo(&place, "b.log");
            let mut child = place
                .command(&[&["a.log", "b.log", "--json", "report.json"], more].concat())
                .spawn()
                .unwrap();
            let out = lines(child.stdout.take().unwrap());
            assert!(out.recv_timeout(LIMIT).unwrap().contains("probe"));
            signal(&child, "-INT");
            assert_eq!(in_time(move || child.wait().unwrap()).code(), Some(130));
            assert_eq!(
                (&place.report()["read"], &place.report()["complete"]),
                (&json!(1), &json!(false))
            );
        }
    }

    #[test]
    fn named_pipes_come_to_their_end() {
        for (bytes, lines) in ENDS {
            for more in [&[][..], &["--sequential"]] {
                let place = Place::new();
                fifo(&place, "pipe");
                place.write("a.log", good(0));
                let args = [&["pipe", "a.log", "--json", "report.json"], more].concat();
                let child = place.command(&args).spawn().unwrap();
                let pipe = place.path("pipe");
                let ran: Ran = in_time(move || {
                    fs::write(pipe, bytes).unwrap();
                    child.wait_with_output().unwrap()
                })
                .into();
                assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{bytes:?}");
                assert_eq!(place.report()["read"], lines + 1, "{bytes:?}");
            }
        }
    }

    #[test]
    fn no_standard_input_is_an_empty_one() {
        let place = Place::new();
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" - <&-"]).arg(program::program("log_processing"));
        let ran = program::run(command);
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
        let ran = place.run(&["-"]);
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
        let ran = place.run(&["/dev/null", "--json", "/dev/null", "--rejects", "/dev/null"]);
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    }

    #[test]
    fn an_input_is_known_by_any_name() {
        let place = Place::new();
        place.write("a.log", good(0));
        std::os::unix::fs::symlink("a.log", place.path("link")).unwrap();
        std::os::unix::fs::symlink("nothing", place.path("to-nothing")).unwrap();
        place.run(&["a.log", "--json", "link"]).fails_with("--json link is an input: a.log");
        place
            .run(&["link", "--rejects", "a.log"])
            .fails_with("--rejects a.log is an input: link");
        let both = ["a.log", "--json", "nothing", "--rejects", "to-nothing"];
        place.run(&both).fails_with("--json and --rejects are the same file: nothing");
        for name in ["/dev/stdin", "/proc/self/fd/0"] {
            let mut command = place.command(&["-", "--json", name]);
            command.stdin(fs::File::open(place.path("a.log")).unwrap());
            let ran = program::run(command);
            ran.fails_with(&format!("--json {name} is an input: standard input"));
            let mut command = place.command(&[name, "--json", "a.log"]);
            command.stdin(fs::File::open(place.path("a.log")).unwrap());
            let ran = program::run(command);
            ran.fails_with(&format!("--json a.log is an input: {name}"));
        }
        assert_eq!(fs::read_to_string(place.path("a.log")).unwrap(), good(0));
    }

    #[test]
    fn an_output_may_be_a_pipe() {
        let place = Place::new();
        place.write("a.log", good(0));
        fifo(&place, "report");
        let (child, report) = (
            place.command(&["a.log", "--json", "report"]).spawn().unwrap(),
            place.path("report"),
        );
        let (text, ran) = in_time(move || {
            (fs::read_to_string(report).unwrap(), child.wait_with_output().unwrap())
        });
        let ran: Ran = ran.into();
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["parsed"], 1);
    }

    #[test]
    fn a_file_that_cannot_be_followed_is_named_at_once() {
        let place = Place::new();
        place.write("a.gz", gzip(b"hello"));
        place
            .run(&["--follow", "a.gz"])
            .fails_with("error: cannot follow a.gz: a gzip file cannot be followed");
        place
            .run(&["--follow", "."])
            .fails_with("error: cannot follow .: only files can be followed");
    }

    #[test]
    fn an_unreadable_file_is_named_and_may_come_back() {
        let place = Place::new();
        place.write("a.log", "");
        let mut run = Follow::start(&place, &["a.log"]);
        run.notes("following a.log");
        fs::remove_file(place.path("a.log")).unwrap();
        fs::create_dir(place.path("a.log")).unwrap();
        run.notes("for now cannot read (only files can be followed) a.log");
        fs::remove_dir(place.path("a.log")).unwrap();
        place.write("a.log", probe("one", 0));
        run.notes("renamed and created again: a.log");
        run.alerts("one", "a.log:1");
        signal(&run.child, "-INT");
        run.notes("error: cannot read a.log: only files can be followed");
        assert_eq!(in_time(move || run.child.wait().unwrap()).code(), Some(1));
        assert_eq!(place.report()["parsed"], 1);
    }

    #[test]
    fn follow_ends_with_its_consumer() {
        let place = Place::new();
        place.write("a.log", "");
        let mut child =
            place.command(&["--follow", "a.log", "--json", "report.json"]).spawn().unwrap();
        let notes = lines(child.stderr.take().unwrap());
        assert_eq!(notes.recv_timeout(LIMIT).unwrap(), "log_processing: following a.log");
        drop(child.stdout.take());
        place.append("a.log", good(0) + &probe("one", 1));
        let status = in_time(move || child.wait().unwrap());
        assert_eq!((status.code(), notes.into_iter().collect::<Vec<_>>()), (Some(0), vec![]));
        assert_eq!(place.report()["read"], 2);
    }

    #[test]
    fn reading_stops_when_the_result_is_dropped() {
        let place = Place::new();
        let mut child = place.command(&["-"]).stdin(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ran: Ran = in_time(move || {
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(probe("a", 0).as_bytes()).unwrap();
            // Until it has ended it could read on.
            let status = child.wait().unwrap();
            drop(stdin);
            assert_eq!(status.code(), Some(0));
            child.wait_with_output().unwrap()
        })
        .into();
        assert_eq!(ran.stderr, "");
    }

    #[test]
    fn an_interrupt_reports_results_while_the_input_is_silent() {
        for more in [&[][..], &["--sequential"]] {
            let place = Place::new();
            let args = [&["-", "--json", "report.json"], more].concat();
            let mut child = place.command(&args).stdin(Stdio::piped()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let (out, notes) =
                (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
            // What follows the last line end is no line.
            stdin
                .write_all((good(0) + "oops\n" + &probe("a", 1) + "10.0.0").as_bytes())
                .unwrap();
            assert!(out.recv_timeout(LIMIT).unwrap().contains("probe"));
            signal(&child, "-INT");
            assert!(notes.recv_timeout(LIMIT).unwrap().contains("interrupted"));
            let status = in_time(move || child.wait().unwrap());
            // Until here the program could have read on.
            drop(stdin);
            assert_eq!(status.code(), Some(130));
            let report = place.report();
            assert_balanced(&report);
            assert_eq!((&report["read"], &report["complete"]), (&json!(3), &json!(false)));
            assert!(out.into_iter().any(|line| line == "not complete: interrupted"));
        }
    }

    #[test]
    fn named_pipes_are_inputs_like_any_other() {
        let place = Place::new();
        for name in ["a", "b"] {
            assert!(Command::new("mkfifo").arg(place.path(name)).status().unwrap().success());
        }
        let child = place.command(&["a", "b", "--json", "report.json"]).spawn().unwrap();
        let (a, b) = (place.path("a"), place.path("b"));
        let ran: Ran = in_time(move || {
            fs::write(a, good(0)).unwrap();
            fs::write(b, gzip(good(1).as_bytes())).unwrap();
            child.wait_with_output().unwrap()
        })
        .into();
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
        assert_eq!(place.report()["parsed"], 2);
    }

    #[test]
    fn a_full_disk_stops_the_job_and_is_named() {
        let place = Place::new();
        let many: String = (0..2000).map(good).collect();
        place.write("a.log", many.clone() + "oops\n" + &many);
        for more in [&[][..], &["--sequential"]] {
            let ran = place.run(
                &[&["a.log", "--rejects", "/dev/full", "--json", "report.json"], more].concat(),
            );
            ran.fails_with(
                "error: cannot write to rejects file /dev/full: No space left on device",
            );
            let report = place.report();
            assert_balanced(&report);
            assert_eq!((&report["malformed"], &report["complete"]), (&json!(0), &json!(false)));
            assert!(report["given_up"].as_u64().unwrap() >= 1);

            let ran = place.run(&[&["a.log", "--json", "/dev/full"], more].concat());
            ran.fails_with("error: cannot write report /dev/full: No space left on device");

            let full = fs::File::options().write(true).open("/dev/full").unwrap();
            let mut command =
                place.command(&[&["a.log", "--json", "report.json"], more].concat());
            command.stdout(full);
            let ran = program::run(command);
            ran.fails_with("error: cannot write to standard output: No space left on device");
            assert_eq!(place.report()["parsed"], 4000);
        }
    }

    #[test]
    fn files_that_may_not_be_read_are_named() {
        let place = Place::new();
        place.write("a.log", "");
        let denied =
            Command::new("chmod").arg("000").arg(place.path("a.log")).status().unwrap();
        assert!(denied.success());
        // Who may read everything may read this, too.
        if fs::File::open(place.path("a.log")).is_err() {
            place.run(&["a.log"]).fails_with("error: cannot open a.log: Permission denied");
        }
    }
}
