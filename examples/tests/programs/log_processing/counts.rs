//! Tests the counts in a report: they equal those of a calculation, do not wrap, and tell what the bounded tables evicted.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use super::{Place, good, line, probe, report};

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
fn long_paths_with_the_same_beginning_are_counted_apart() {
    let paths =
        [255, 256, 257, 300, 10_000].map(|length| "/".to_owned() + &"x".repeat(length - 1));
    // Two bytes for each character, at odd and even places.
    let wide = ["/", "/x"].map(|start| start.to_owned() + &"\u{e4}".repeat(500));
    let (mut text, mut expected) = (String::new(), BTreeMap::<_, (u64, u64)>::new());
    for (count, path) in (1..).zip(paths.iter().chain(&wide)) {
        for (path, status, errors) in [(path.clone(), 200, 0), (format!("{path}y"), 404, count)]
        {
            text += &line("a", 0, &format!("{path}?query"), status).repeat(count as usize);
            let counts = expected.entry(path).or_default();
            *counts = (counts.0 + count, counts.1 + errors);
        }
    }
    let report = report(&text, &["--top", "100"]);
    let found = report["paths"].as_array().unwrap();
    let mut counts: Vec<_> = found
        .iter()
        .map(|it| (it["requests"].as_u64().unwrap(), it["errors"].as_u64().unwrap()))
        .collect();
    let mut expected: Vec<_> = expected.into_values().collect();
    counts.sort_unstable();
    expected.sort_unstable();
    assert_eq!(counts, expected);
    for path in found {
        let path = path["path"].as_str().unwrap();
        assert!(path.starts_with('/') && path.len() <= 256, "{path}");
    }
}
