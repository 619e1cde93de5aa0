//! Tests which errors, paths, bursts and probes raise an alert, and how often it is repeated.

use serde_json::json;

use super::{alerts, line, pairs, probe, report};

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
    // Paths that differ only far behind their beginning.
    let long = format!("/{}", "x".repeat(300));
    let long = (0..10).map(|n| line("a", n, &format!("{long}{n}"), 200));
    assert_eq!(found(long.collect()), pairs([("scan", "a")]));
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
