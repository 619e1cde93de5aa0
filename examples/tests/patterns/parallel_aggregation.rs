//! Parallel aggregation.

use std::time::{Duration, SystemTime};

use streamz::testing::{Recorder, TestSource};
use streamz::{ErrorKind, ManualClock, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../parallel_aggregation.rs"]
mod example;

use example::{Event, Minute, minutes, one_after_the_other};

fn event(second: u64, kind: &'static str, user: u32, cents: u64) -> Event {
    Event { time: SystemTime::UNIX_EPOCH + Duration::from_secs(second), kind, user, cents }
}

fn events() -> Vec<Event> {
    vec![
        event(1, "view", 1, 0),
        event(30, "purchase", 1, 500),
        event(60, "view", 2, 0),   // exactly at the boundary
        event(59, "cart", 3, 250), // out of order
        event(70, "view", 2, 0),
        event(250, "purchase", 4, 100), // minutes without an event lie before it
    ]
}

fn run(pipeline: &Pipeline) -> (TestSource<Event>, Recorder<Minute>) {
    let (source, stream) = TestSource::new(pipeline);
    (source, Recorder::new(minutes(stream)))
}

#[test]
fn a_minute_has_all_its_figures_and_each_window_its_own_state() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, found) = run(&pipeline);
    source.push_all(events());
    source.end();
    assert!(pipeline.join().is_complete());
    let found = found.items();
    assert_eq!(found, one_after_the_other(&events()));
    let of =
        |minute: &Minute| (minute.events.values().sum::<u64>(), minute.revenue, minute.users);
    assert_eq!(found.iter().map(of).collect::<Vec<_>>(), [(3, 500, 2), (2, 0, 1), (1, 100, 1)]);
}

#[test]
fn a_minute_is_sent_once_all_three_watermarks_passed_it() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, found) = run(&pipeline);
    source.push_all([event(5, "view", 1, 0), event(69, "view", 1, 0)]);
    assert_eq!(found.items(), []);
    source.push(event(70, "view", 1, 0));
    assert_eq!(found.items().len(), 1);
}

#[test]
fn late_items_are_reported_by_each_of_the_three_aggregates() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, found) = run(&pipeline);
    source.push_all([event(130, "view", 1, 0), event(80, "view", 1, 0)]);
    source.end();
    assert!(pipeline.join().is_complete());
    let (minutes, late): (Vec<_>, Vec<_>) =
        found.timed_outputs().into_iter().map(|(_, it)| it).partition(Result::is_ok);
    assert_eq!(minutes[0].as_ref().unwrap().events["view"], 1);
    let kinds: Vec<_> = late.iter().map(|error| error.as_ref().unwrap_err().kind()).collect();
    assert_eq!(kinds, [ErrorKind::Late; 3]);
}

#[test]
fn no_input_gives_no_output() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, found) = run(&pipeline);
    source.end();
    assert!(pipeline.join().is_complete());
    assert_eq!(found.items(), []);
}
