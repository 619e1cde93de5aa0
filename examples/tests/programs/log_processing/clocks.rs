//! Tests logs whose times do not increase: clocks that are wrong, clocks that disagree, and files in the wrong order.

use serde_json::{Value, json};

use super::{Place, alerts, line, pairs, probe, report};

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
fn an_older_file_after_a_newer_one_is_watched_again() {
    let errors =
        |from: u32| (0..20).map(move |n| line("a", from + n, "/", 404)).collect::<String>();
    let report = report(errors(7200) + &errors(0), &[]);
    assert_eq!(alerts(&report), pairs([("errors", "a"), ("errors", "a")]));
}
