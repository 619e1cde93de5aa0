//! The view of fabricated reports, as text.

use std::time::Duration;

use super::history::History;
use super::keys::Key;
use super::panel::Size;
use super::text::{Line, width};
use super::view::View;
use crate::pipeline::{OutputReport, Pipeline, Report, StageKind, StageReport};
use crate::stream::Stream;

/// A report of these stages at that time.
pub(super) fn report(elapsed: Duration, stages: Vec<StageReport>) -> Report {
    Report { elapsed, stages, ..Pipeline::new("orders").report() }.numbered()
}

/// A stage with the given numbers of items in and out.
pub(super) fn stage(name: &str, received: u64, emitted: u64) -> StageReport {
    let pipeline = Pipeline::new("template");
    assert_eq!(Stream::from_iter(&pipeline, 0..0).count().unwrap(), 0);
    let mut stage = pipeline.join().stages.remove(0);
    stage.name = name.into();
    stage.kind = if received == 0 { StageKind::Source } else { StageKind::Processor };
    (stage.idle, stage.busy, stage.blocked) = Default::default();
    stage.steps[0].received = received;
    stage.steps[0].emitted = emitted;
    stage.outputs.truncate(1);
    stage
}

fn output(name: &str, template: &StageReport, queued: usize, capacity: usize) -> OutputReport {
    OutputReport { name: name.into(), queued, capacity, ..template.outputs[0].clone() }
}

/// Sets the shares of time that it was busy and blocked, in percent, after `seconds` of all its threads.
fn timed(mut stage: StageReport, seconds: u64, busy: u64, blocked: u64) -> StageReport {
    let share = |percent| Duration::from_millis(10 * percent * seconds);
    (stage.busy, stage.blocked, stage.idle) = (share(busy), share(blocked), share(100 - busy - blocked));
    stage
}

/// A pipeline of orders, after `seconds`.
fn orders(seconds: u64) -> Report {
    let mut parse = timed(stage("parse", 0, 5_000 * seconds), seconds, 40, 55);
    parse.outputs = vec![output("", &parse, 256, 256)];
    let mut enrich = timed(stage("enrich", 4_900 * seconds, 4_900 * seconds), 8 * seconds, 97, 0);
    enrich.threads = 8;
    enrich.outputs = vec![output("", &enrich, 12, 256)];
    enrich.steps[0].failed = 3 * seconds;
    let mut split = timed(stage("dead letters", 4_900 * seconds, 4_897 * seconds), seconds, 2, 0);
    split.outputs = vec![output("items", &split, 96, 256), output("failed", &split, 0, 256)];
    let mut load = timed(stage("load", 4_800 * seconds, 0), seconds, 31, 0);
    load.kind = StageKind::Sink;
    load.outputs.clear();
    report(Duration::from_secs(seconds), vec![parse, enrich, split, load])
}

fn history(reports: impl IntoIterator<Item = Report>) -> History {
    let mut reports = reports.into_iter();
    let mut history = History::new(reports.next().unwrap());
    reports.for_each(|report| history.add(report));
    history
}

fn screen(history: &History, columns: u16, rows: u16) -> Vec<String> {
    screen_of(&mut View::default(), history, columns, rows)
}

fn screen_of(view: &mut View, history: &History, columns: u16, rows: u16) -> Vec<String> {
    let lines = view.lines(history, "running", columns.into(), Size { columns, rows }.room());
    for line in &lines {
        assert!(width(&line.text()) <= columns.into(), "{:?} is wider than {columns}", line.text());
    }
    lines.into_iter().map(|line| line.text().trim_end().to_owned()).collect()
}

#[test]
fn stages_are_rows_at_80_columns() {
    assert_eq!(
        screen(&history((0..=12).map(orders)), 80, 24),
        [
            "orders  running  12s                                         q leaves  p freezes",
            "stage           in/s   out/s  busy  blocked  queue     failed  history",
            "parse                   5000   40%      55%  ████████          ████████████",
            "enrich x8       4900    4900   97%       0%  ▍·······      36  ████████████",
            "dead letters    4900    4897    2%       0%  █▌······          ████████████",
            "  -> items                                   ███·····",
            "  -> failed                                  ········",
            "load            4800           31%       0%                    ████████████",
            "bottleneck: enrich (busy 97 % of the time)",
        ]
    );
}

#[test]
fn wide_screens_show_counts() {
    let screen = screen(&history((0..=30).map(orders)), 200, 50);
    assert_eq!(
        screen[1],
        "stage           in/s   out/s  busy  blocked  queue          queued           in          out    removed  failed  \
         history"
    );
    assert_eq!(
        screen[3],
        "enrich x8       4900    4900   97%       0%  ▍·······       12/256       147000       147000                 90  \
         ██████████████████████████████"
    );
}

#[test]
fn a_bottleneck_whose_closures_sleep_says_so() {
    let sleeping = |seconds| {
        let mut report = orders(seconds);
        let enrich = &mut report.stages[1];
        (enrich.busy, enrich.asleep, enrich.idle) = (Duration::ZERO, enrich.busy, enrich.busy + enrich.idle);
        report
    };
    let screen = screen(&history((0..=12).map(sleeping)), 80, 24);
    assert_eq!(screen.last().unwrap(), "bottleneck: enrich (busy 0 %, asleep 97 % of the time)");
}

/// Whether the screen contains the text in this style, given as parameters of the escape sequence.
fn is_printed(lines: &[Line], style: &str, text: &str) -> bool {
    let mut out = Vec::new();
    lines.iter().for_each(|line| line.print(true, &mut out));
    String::from_utf8(out).unwrap().contains(&format!("\x1b[{style}m{text}\x1b["))
}

#[test]
fn problems_stand_out() {
    let lines = |history: &History| View::default().lines(history, "running", 80, 18);
    let running = lines(&history((0..=12).map(orders)));
    assert!(is_printed(&running, "0;33", "████████"), "a full queue");
    assert!(is_printed(&running, "0;1", "▍·······"), "a queue with room");
    assert!(is_printed(&running, "0;31", "    36"), "items that have just failed");
    assert!(is_printed(&running, "0;1", "enrich x8   "), "the bottleneck");
    assert!(is_printed(&running, "0", "parse       "), "not the bottleneck");
    let mut later = orders(13);
    later.stages[1].steps[0].failed = 36;
    let later = lines(&history((0..=12).map(orders).chain([later])));
    assert!(is_printed(&later, "0;33", "    36"), "items that failed before");
}

#[test]
fn queues_without_a_bound_are_shown_together() {
    let unbounded = |seconds| {
        let mut report = orders(seconds);
        report.stages[2].outputs.iter_mut().for_each(|output| output.capacity = usize::MAX);
        report
    };
    let screen = screen(&history((0..=12).map(unbounded)), 80, 24);
    assert!(screen.iter().any(|line| line.starts_with("dead letters")), "{screen:#?}");
}

#[test]
fn a_view_that_is_frozen_says_so() {
    let history = history((0..=12).map(orders));
    let mut view = View::default();
    let mut title = |key| {
        view.press(key);
        screen_of(&mut view, &history, 80, 24)[0][..15].to_owned()
    };
    assert_eq!(
        [Key::Freeze, Key::Up, Key::Freeze].map(&mut title),
        ["orders  frozen ", "orders  frozen ", "orders  running"]
    );
}

#[test]
fn failed_calls_behind_which_items_did_not_fail_have_a_column() {
    let retried = |seconds| {
        let mut report = orders(seconds);
        report.stages[1].steps[0].failed_calls = 50 * seconds;
        report
    };
    let screen = screen(&history((0..=12).map(retried)), 80, 24);
    assert_eq!(screen[1], "stage           in/s   out/s  busy  blocked  queue     failed  errors  history");
    assert_eq!(screen[3], "enrich x8       4900    4900   97%       0%  ▍·······      36     600  █████████");
}

#[test]
fn small_screens_show_names_and_rates() {
    let history = history((0..=12).map(orders));
    assert_eq!(screen(&history, 20, 5), ["orders  running  12s", "parse           5000", "enrich x8       4900"]);
    assert_eq!(screen(&history, 20, 3), ["orders  running  12s"]);
    assert_eq!(screen(&history, 20, 2), [""; 0]);
    assert_eq!(screen(&history, 1, 24)[..3], ["…", "…", "…"]);
}

#[test]
fn every_size_has_room_for_its_content() {
    let history = history((0..=12).map(orders).chain([stalled()]));
    for rows in [1, 2, 3, 4, 5, 6, 24, 100] {
        for columns in (1..=140).chain([200, 300]) {
            let lines = screen(&history, columns, rows);
            assert!(lines.len() <= Size { columns, rows }.room(), "{columns}x{rows}");
        }
    }
}

/// The orders of the twelfth second, ten seconds later; the failed ones are not read.
fn stalled() -> Report {
    let mut report = orders(12);
    report.elapsed += Duration::from_secs(10);
    let failed = &mut report.stages[2].outputs[1];
    (failed.queued, failed.is_blocking, failed.reader) = (256, true, None);
    report
}

#[test]
fn a_pipeline_that_stands_still_says_why() {
    let history = history((0..=12).map(orders).chain([stalled()]));
    let screen = screen(&history, 80, 24);
    assert_eq!(
        screen[screen.len() - 2..],
        ["no progress for 10s: `dead letters -> failed` is not read (256 of 256); `dead", "letters` waits for it"]
    );
    // With few rows, the diagnosis takes them.
    let screen = screen_of(&mut View::default(), &history, 40, 5);
    assert_eq!(
        screen,
        ["orders  running  22s", "no progress for 10s: `dead letters ->", "failed` is not read (256 of 256); `dead…"]
    );
}

#[test]
fn rows_scroll_as_far_as_there_are_any() {
    let stages = |n: u32| (0..30).map(|stage| self::stage(&format!("stage {stage}"), n.into(), n.into())).collect();
    let history = history((0..3).map(|n| report(Duration::from_secs(n.into()), stages(n))));
    let mut view = View::default();
    let mut names = |keys: &[Key]| {
        keys.iter().for_each(|key| view.press(*key));
        let screen = screen_of(&mut view, &history, 80, 24);
        let name = |line: &String| line[..8].trim().to_owned();
        (screen[0].split_once("rows ").unwrap().1.to_owned(), name(&screen[2]), name(&screen[16]))
    };
    let place = |place: &str| format!("{place}: arrows  q leaves  p freezes");
    assert_eq!(names(&[]), (place("1-15 of 30"), "stage 0".into(), "stage 14".into()));
    assert_eq!(names(&[Key::Down, Key::Down]), (place("3-17 of 30"), "stage 2".into(), "stage 16".into()));
    assert_eq!(names(&[Key::Down; 99]), (place("16-30 of 30"), "stage 15".into(), "stage 29".into()));
    assert_eq!(names(&[Key::Up]), (place("15-29 of 30"), "stage 14".into(), "stage 28".into()));
}
