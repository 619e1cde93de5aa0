//! Parallel aggregation: three figures of the same minute, each computed on its own thread, are combined.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use common::{Data, Page, bar};
use streamz::prelude::*;
use streamz::{BoxError, folds};

/// An event in a shop.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub time: SystemTime,
    pub kind: &'static str,
    pub user: u32,
    pub cents: u64,
}

/// All figures of a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minute {
    pub start: SystemTime,
    pub events: BTreeMap<&'static str, u64>,
    pub revenue: u64,
    pub users: usize,
}

// [pattern]
/// One figure of a minute.
#[derive(Debug)]
enum Figure {
    Events(BTreeMap<&'static str, u64>),
    Revenue(u64),
    Users(usize),
}

/// Computes three statistics of each minute, each in its own stage, and combines them. Times
/// may be out of order by ten seconds.
pub fn minutes(events: Stream<Event>) -> Stream<Minute> {
    // The same minutes for all three: by the time of the event, not by its arrival in one or
    // the other.
    let window = || {
        TumblingWindow::new(Duration::from_secs(60))
            .with_event_time(|event: &Event| event.time, Duration::from_secs(10))
    };
    // Each window starts with a new state.
    let count = window()
        .aggregate(BTreeMap::new, |counts, event| *counts.entry(event.kind).or_default() += 1);
    let revenue = window().aggregate_by(folds::sum(|event: &Event| {
        if event.kind == "purchase" { event.cents } else { 0 }
    }));
    let users = window().aggregate(HashSet::new, |users, event| {
        users.insert(event.user);
    });

    let [a, b, c] = events.fan_out();
    let counts = a.through(&count).map(|window| (window.start, Figure::Events(window.result)));
    let revenues =
        b.through(&revenue).map(|window| (window.start, Figure::Revenue(window.result)));
    let users =
        c.through(&users).map(|window| (window.start, Figure::Users(window.result.len())));
    // The merged stream ends when all three have ended.
    counts
        .merge([revenues, users])
        .stage("join", |s| s.scan(Parts::default, Parts::add).filter_map(|minute| minute))
}

/// Minutes for which some figures are missing.
#[derive(Debug, Default)]
struct Parts(BTreeMap<SystemTime, (Minute, u32)>);

impl Parts {
    /// Adds a figure; returns the minute if it was the last of its three.
    fn add(&mut self, (start, figure): (SystemTime, Figure)) -> Option<Minute> {
        let new = || (Minute { start, events: BTreeMap::new(), revenue: 0, users: 0 }, 0);
        let (minute, figures) = self.0.entry(start).or_insert_with(new);
        match figure {
            Figure::Events(events) => minute.events = events,
            Figure::Revenue(cents) => minute.revenue = cents,
            Figure::Users(users) => minute.users = users,
        }
        *figures += 1;
        if *figures == 3 { self.0.remove(&start).map(|(minute, _)| minute) } else { None }
    }
}
// [/pattern]

fn main() -> ExitCode {
    common::run("Parallel aggregation: events, revenue and users of each minute", analyse)
}

fn analyse(page: &Page) -> Result<(), BoxError> {
    let events = a_quarter_of_an_hour();
    let (found, report) = Pipeline::run("shop", |pipeline| {
        minutes(Stream::from_iter(pipeline, events.clone())).collect::<Vec<_>>()
    });
    let found = found?;

    let most = found.iter().map(|minute| minute.revenue).max().unwrap_or(0);
    let rows = found.iter().map(|minute| {
        let since =
            minute.start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
                / 60
                % 60;
        let count = |kind| minute.events.get(kind).copied().unwrap_or(0).to_string();
        let euros = format!("{}.{:02}", minute.revenue / 100, minute.revenue % 100);
        let users = minute.users.to_string();
        let bar = bar(minute.revenue as f64, most as f64, 30);
        [
            format!("12:{since:02}"),
            count("view"),
            count("cart"),
            count("purchase"),
            users,
            euros,
            bar,
        ]
    });
    page.say("");
    page.table(&["minute", "view", "cart", "purchase", "users", "revenue", ""], rows);
    page.say("");

    page.check(
        "there is one complete result for each minute, in order",
        found.iter().map(|it| it.start).is_sorted_by(|a, b| a < b),
    );
    page.check("the last minutes are included", found == one_after_the_other(&events));
    page.check_eq(
        "no event was lost or counted twice",
        found.iter().flat_map(|it| it.events.values()).sum(),
        events.len() as u64,
    );
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}

/// The same without a pipeline.
pub fn one_after_the_other(events: &[Event]) -> Vec<Minute> {
    let mut minutes: BTreeMap<u64, (Minute, HashSet<u32>)> = BTreeMap::new();
    for event in events {
        let minute = event
            .time
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs() / 60);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(60 * minute);
        let new = || {
            (Minute { start, events: BTreeMap::new(), revenue: 0, users: 0 }, HashSet::new())
        };
        let (minute, users) = minutes.entry(minute).or_insert_with(new);
        *minute.events.entry(event.kind).or_default() += 1;
        minute.revenue += if event.kind == "purchase" { event.cents } else { 0 };
        users.insert(event.user);
        minute.users = users.len();
    }
    minutes.into_values().map(|(minute, _)| minute).collect()
}

/// The events from 12:00 to 12:15, not quite in order.
fn a_quarter_of_an_hour() -> Vec<Event> {
    let mut data = Data::seeded(18);
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(43_200);
    let event = |n: u64| {
        let kind =
            *data.pick(&["view", "view", "view", "view", "view", "cart", "cart", "purchase"]);
        let user = data.skewed(2_000) as u32;
        let time =
            noon + Duration::from_millis(n * 900 / 20 + u64::from(data.between(0..9_000)));
        Event { time, kind, user, cents: data.between(199..=9_999).into() }
    };
    (0..20_000).map(event).collect()
}
