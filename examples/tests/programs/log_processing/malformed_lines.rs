//! Tests malformed lines: each is put aside with its place and the reason, and the other lines are counted. Fields that are
//! ignored may contain anything.

use serde_json::{Value, json};

use super::{Place, assert_balanced, good, report};

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
        // A number that is cut off is another number.
        cut(r#"{"time":0,"client":"a","path":"/","status":200,"bytes":12"#, r#"345}"#),
        cut(r#"{"bytes":5,"client":"a","path":"/","status":200,"time":12"#, r#"345}"#),
        cut(r#"{"bytes":5,"client":"a","path":"/","time":0,"status":200"#, r#"0}"#),
        cut(r#"{"time":0,"client":"a","path":"/","status":200,"bytes":1"#, r#".5}"#),
        cut(r#"{"time":0,"client":"a","path":"/","status":200,"bytes":1.0"#, r#"1}"#),
        cut(r#"{"time":0,"client":"a","path":"/","status":200,"bytes":"12"#, r#"345"}"#),
        cut(&good(0).trim_end().replace(" 100", " 12"), "345"),
        // A hole that is longer than a line may be is no blank line: there may be a request behind it.
        "\0".repeat(70_000) + &good(1),
    ];
    for text in malformed {
        let report = report(good(0) + &text, &[]);
        assert_eq!(report["reasons"], json!({"longer than 65536 bytes": 1}));
    }
}

/// A line that is cut between these two parts: blanks before it make it so long.
fn cut(before: &str, after: &str) -> String {
    " ".repeat(64 * 1024 - before.len()) + before + after + "\n"
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
