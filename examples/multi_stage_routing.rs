//! Multi-stage routing: events are routed by type, and the results by priority.
//!
//! The time is virtual: `cargo run --release --example multi_stage_routing`.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{Data, bar};
use streamz::prelude::*;
use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, ManualClock, RouteStats};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: u32,
    /// Such as `user.login`.
    pub kind: &'static str,
    pub time: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Normal,
    High,
    Critical,
}

/// An event that has been through the pipeline of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranked {
    pub event: Event,
    pub priority: Priority,
    pub note: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    pub id: u32,
    pub priority: Priority,
    /// The route that handled it.
    pub by: &'static str,
    pub note: String,
    /// The time from the event to the end of its processing.
    pub took: Duration,
}

// [pattern]
/// The first stage: each type of event has its own pipeline, and all of them emit the same
/// type.
pub fn by_type() -> Router<Event, Ranked> {
    Router::new()
        .with_name("by type")
        .add_route(
            "user",
            |event: &Event| event.kind.starts_with("user."),
            Mapper::new(user_event),
        )
        .add_route(
            "system",
            |event: &Event| event.kind.starts_with("system."),
            Mapper::new(system_event),
        )
        .add_route(
            "business",
            |event: &Event| event.kind.starts_with("business."),
            Mapper::new(business_event),
        )
        .with_default(Mapper::new(unknown_event))
}

/// The second stage: each priority has its own workers. Many normal events may wait without
/// blocking a critical one.
pub fn by_priority<H>(handle: H) -> Router<Ranked, Handled>
where
    H: Fn(&CancelToken, &Ranked, &'static str) -> Result<Handled, BoxError>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let pool = |name: &'static str, workers| {
        let handle = handle.clone();
        let call = move |cancel: &CancelToken, ranked: &Ranked| handle(cancel, ranked, name);
        AsyncMapper::new(call).with_name(name).with_workers(workers)
    };
    Router::new()
        .with_name("by priority")
        .with_buffer_size(2_000)
        .add_route(
            "critical",
            |ranked: &Ranked| ranked.priority >= Priority::Critical,
            pool("critical", 20),
        )
        .add_route(
            "high",
            |ranked: &Ranked| ranked.priority >= Priority::High,
            pool("high", 10),
        )
        .with_default(pool("normal", 5))
}
// [/pattern]

fn user_event(event: Event) -> Ranked {
    let priority =
        if event.kind == "user.locked_out" { Priority::High } else { Priority::Normal };
    Ranked { priority, note: format!("user {}", event.id % 100), event }
}

fn system_event(event: Event) -> Ranked {
    let priority =
        if event.kind == "system.disk_full" { Priority::Critical } else { Priority::Normal };
    Ranked { priority, note: format!("host {}", event.id % 7), event }
}

fn business_event(event: Event) -> Ranked {
    let priority =
        if event.kind == "business.large_order" { Priority::High } else { Priority::Normal };
    Ranked { priority, note: "to accounting".to_owned(), event }
}

fn unknown_event(event: Event) -> Ranked {
    Ranked { priority: Priority::Normal, note: format!("unknown type `{}`", event.kind), event }
}

/// How long an event takes to be handled, whatever its priority.
pub const WORK: Duration = Duration::from_millis(50);

pub fn handle(
    cancel: &CancelToken,
    ranked: &Ranked,
    by: &'static str,
) -> Result<Handled, BoxError> {
    cancel.sleep(WORK)?;
    let took = cancel.now().saturating_duration_since(ranked.event.time);
    Ok(Handled {
        id: ranked.event.id,
        priority: ranked.priority,
        by,
        note: ranked.note.clone(),
        took,
    })
}

fn main() -> ExitCode {
    common::run(
        "Multi-stage routing: ten seconds of events, with a burst in the third",
        |page| {
            const KINDS: [&str; 8] = [
                "user.login",
                "user.login",
                "user.locked_out",
                "system.started",
                "system.disk_full",
                "business.order",
                "business.large_order",
                "weather.rain",
            ];
            let mut data = Data::seeded(10);
            let clock = ManualClock::new();
            let start = clock.now();
            let event = |(id, (at, kind)): (usize, (Duration, &'static str))| {
                (at, Event { id: id as u32, kind, time: start + at })
            };
            let steady =
                (0..1_000).map(|n| (Duration::from_millis(n * 10), *data.pick(&KINDS)));
            let crowd = (0..600).map(|_| (Duration::from_secs(3), "user.login"));
            let mut events: Vec<_> = steady.chain(crowd).collect();
            events.sort_by_key(|(at, _)| *at);
            let events: Vec<_> = events.into_iter().enumerate().map(event).collect();

            let pipeline = Pipeline::builder("events").clock(&clock).build();
            let (source, stream) = TestSource::with_capacity(&pipeline, 2_000);
            let (types, priorities) = (by_type(), by_priority(handle));
            let recorder = Recorder::new(stream.through(&types).through(&priorities));
            source.play(events.clone());
            source.end();
            clock.advance(Duration::from_secs(60));
            let handled = recorder.items();
            let report = pipeline.join();

            let rows = |stats: &RouteStats| {
                let row = |name: &str| {
                    [
                        name.to_owned(),
                        stats.items(name).to_string(),
                        bar(stats.match_rate(name), 1.0, 40),
                    ]
                };
                stats.names().map(row).collect::<Vec<_>>()
            };
            page.say("");
            page.table(&["type", "events", ""], rows(&types.stats()));
            page.say("");
            let mut waits = BTreeMap::<&str, Vec<Duration>>::new();
            handled.iter().for_each(|it| waits.entry(it.by).or_default().push(it.took));
            waits.values_mut().for_each(|times| times.sort_unstable());
            let millis =
                |time: Option<&Duration>| format!("{} ms", time.map_or(0, Duration::as_millis));
            page.table(
                &["handled as", "events", "half of them within", "the longest took", ""],
                ["critical", "high", "normal"].map(|name| {
                    let times = waits.get(name).map_or(&[][..], Vec::as_slice);
                    let longest = times.last().map_or(0.0, Duration::as_secs_f64);
                    [
                        name.to_owned(),
                        times.len().to_string(),
                        millis(times.get(times.len() / 2)),
                        millis(times.last()),
                        bar(longest, 10.0, 25),
                    ]
                }),
            );
            page.say("");

            let ids: HashSet<u32> = handled.iter().map(|it| it.id).collect();
            page.check(
                "every event was handled once",
                ids.len() == events.len() && handled.len() == events.len(),
            );
            let right =
                |it: &Handled| it.by == ["normal", "high", "critical"][it.priority as usize];
            page.check("each by the workers of its priority", handled.iter().all(right));
            let unknown =
                events.iter().filter(|(_, event)| event.kind.starts_with("weather.")).count();
            page.check_eq(
                "events of an unknown type are kept",
                handled.iter().filter(|it| it.note.contains("unknown")).count(),
                unknown,
            );
            let quick =
                |name: &str| waits.get(name).is_some_and(|times| times.last() == Some(&WORK));
            page.check(
                "no critical or high event waited for the burst",
                quick("critical") && quick("high"),
            );
            page.check("all items are accounted for", report.is_complete());
            Ok(())
        },
    )
}
