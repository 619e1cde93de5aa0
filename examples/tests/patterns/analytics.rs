//! Real-time analytics.

use std::time::{Duration, SystemTime};

use streamz::testing::{Recorder, TestSink, TestSource};
use streamz::{DeadLetter, ManualClock, Pipeline, TooLate};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../analytics.rs"]
mod example;

use example::{Departure, Hour, by_hour_and_origin};

fn mins(n: i64) -> Duration {
    Duration::from_secs(60 * n.unsigned_abs())
}

/// A departure that was planned for a minute, and how many minutes later it left.
fn departure(number: u32, origin: &str, planned: i64, delay: i64) -> Departure {
    let planned = SystemTime::UNIX_EPOCH + mins(planned);
    Departure { flight: ("XX".to_owned(), number), origin: origin.to_owned(), planned, delay }
}

/// The hour, the origin, how many departures, and their mean delay.
fn summary(hour: &Hour) -> (u64, String, u64, f64) {
    let start = hour.window.start.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    (start.as_secs() / 3600, hour.key.clone(), hour.window.count, hour.window.result)
}

struct Rig {
    clock: ManualClock,
    source: TestSource<Departure>,
    hours: Recorder<Hour>,
    late: TestSink<DeadLetter>,
}

fn rig(lateness: Duration) -> (Pipeline, Rig) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, departures) = TestSource::new(&pipeline);
    let (hours, late) = by_hour_and_origin(departures, lateness);
    (pipeline, Rig { clock, source, hours: Recorder::new(hours), late: TestSink::new(late) })
}

fn summaries(rig: &Rig) -> Vec<(u64, String, u64, f64)> {
    rig.hours.items().iter().map(summary).collect()
}

#[test]
fn departures_count_in_their_hour_in_any_order() {
    let ordered = [
        departure(1, "JFK", 5, 10),
        departure(2, "LGA", 30, -5),
        departure(3, "JFK", 55, 0),
        departure(4, "JFK", 55, 5), // leaves at the full hour: it counts in the next
        departure(5, "LGA", 50, 30),
    ];
    let expected = [
        (0, "JFK".to_owned(), 2, 5.0),
        (0, "LGA".to_owned(), 1, -5.0),
        (1, "JFK".to_owned(), 1, 5.0),
        (1, "LGA".to_owned(), 1, 30.0),
    ];
    for rotation in 0..ordered.len() {
        let (pipeline, rig) = rig(mins(120));
        let mut mixed = ordered.clone();
        mixed.rotate_left(rotation);
        rig.source.push_all(mixed);
        let Rig { source, hours, mut late, .. } = rig;
        source.end();
        late.expect_end();
        pipeline.join();
        let mut found: Vec<_> = hours.items().iter().map(summary).collect();
        found.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(found, expected);
    }
}

#[test]
fn an_hour_is_sent_when_nothing_of_it_can_come_any_more() {
    let (_pipeline, rig) = rig(mins(15));
    rig.source.push_all([departure(1, "JFK", 10, 0), departure(2, "JFK", 74, 0)]);
    assert_eq!(summaries(&rig), []);
    rig.source.push(departure(3, "JFK", 75, 0));
    assert_eq!(summaries(&rig), [(0, "JFK".to_owned(), 1, 0.0)]);
}

#[test]
fn a_record_delivered_twice_counts_once() {
    let (_pipeline, rig) = rig(mins(15));
    rig.source.push_all([
        departure(1, "JFK", 10, 4),
        departure(1, "JFK", 10, 4),
        departure(2, "JFK", 10, 2),
    ]);
    // The same flight on another day is another departure.
    rig.source.push(departure(1, "JFK", 10 + 24 * 60, 4));
    assert_eq!(summaries(&rig), [(0, "JFK".to_owned(), 2, 3.0)]);
}

#[test]
fn late_items_are_stored_with_their_lateness() {
    let (_pipeline, mut rig) = rig(mins(15));
    let late = departure(2, "JFK", 59, 0);
    rig.source.push_all([departure(1, "JFK", 75, 0), late.clone()]);
    let (item, error) = rig.late.expect_item().into_item::<Departure>().unwrap();
    assert_eq!(item, late);
    assert_eq!(error.downcast_ref::<TooLate>().unwrap().by, mins(1));
}

#[test]
fn a_silent_source_holds_results_back_for_10_min_at_most() {
    let (_pipeline, rig) = rig(mins(15));
    rig.source.push(departure(1, "EWR", 10, 0));
    rig.clock.advance(mins(10) - Duration::from_nanos(1));
    assert_eq!(summaries(&rig), []);
    rig.clock.advance(Duration::from_nanos(1));
    assert_eq!(summaries(&rig), [(0, "EWR".to_owned(), 1, 0.0)]);
}
