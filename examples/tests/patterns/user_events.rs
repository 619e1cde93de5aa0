//! Keyed partitions.

use std::time::Duration;

use streamz::testing::{Recorder, TestSource};
use streamz::{ManualClock, Pipeline, Stream};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../user_events.rs"]
mod example;

use example::{Diary, Service, UserEvent, by_key, by_partition};

type Way = fn(Stream<UserEvent>, Box<dyn Service>) -> Stream<UserEvent>;

const WAYS: [Way; 2] = [
    |events, service| by_partition(events, service),
    |events, service| by_key(events, service),
];

fn event(user: u32, number: u32, ms: u64) -> UserEvent {
    UserEvent { user, number, takes: Duration::from_millis(ms) }
}

/// Runs the events through; gives the diary and what came out in which order.
fn run(
    way: Way,
    events: impl IntoIterator<Item = UserEvent>,
) -> (Diary, Vec<(Duration, UserEvent)>) {
    let (clock, diary) = (ManualClock::new(), Diary::default());
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, stream) = TestSource::with_capacity(&pipeline, 10_000);
    let done = Recorder::new(way(stream, Box::new(diary.service(&clock))));
    source.push_all(events);
    source.end();
    clock.advance(Duration::from_secs(3600));
    assert!(pipeline.join().is_complete());
    (diary, done.timed_items())
}

#[test]
fn a_users_events_are_processed_one_at_a_time_and_in_order() {
    // The first of each user takes longest: two workers on one user would overtake.
    let events = || {
        (1..=20).flat_map(|number| {
            (0..10).map(move |user| event(user, number, u64::from(30 - number)))
        })
    };
    for way in WAYS {
        let (diary, done) = run(way, events());
        assert_eq!(diary.entries().len(), 200);
        assert!(diary.is_in_order(), "{:?}", diary.entries());
        for user in 0..10 {
            let numbers = done
                .iter()
                .filter(|(_, event)| event.user == user)
                .map(|(_, event)| event.number);
            assert!(numbers.eq(1..=20));
        }
    }
}

#[test]
fn different_users_are_processed_side_by_side() {
    for way in WAYS {
        let (diary, _) = run(way, (0..40).map(|user| event(user, 1, 10)));
        let first = diary.entries().iter().filter(|(_, begun, _)| begun.is_zero()).count();
        assert_eq!(first, 4);
    }
}

#[test]
fn by_key_a_busy_user_delays_no_other() {
    let events = (1..=50)
        .map(|number| event(0, number, 100))
        .chain((1..=30).map(|user| event(user, 1, 10)));
    let (_, done) = run(WAYS[1], events);
    let others = done.iter().filter(|(_, event)| event.user != 0).map(|(time, _)| *time);
    // Three free workers: 30 events of 10 ms take 100 ms, while user 0 takes five seconds.
    assert_eq!(others.max(), Some(Duration::from_millis(100)));
}

#[test]
fn a_failed_event_is_an_error_item_and_its_user_continues() {
    for way in WAYS {
        let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
        let (source, stream) = TestSource::new(&pipeline);
        let service = |_: &streamz::CancelToken, event: &UserEvent| {
            if event.number == 2 { Err("no such page".into()) } else { Ok(*event) }
        };
        let done = Recorder::new(way(stream, Box::new(service)));
        source.push_all((1..=3).map(|number| event(7, number, 0)));
        let found: Vec<_> =
            done.timed_outputs().into_iter().map(|(_, outcome)| outcome).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(
            found[1].as_ref().unwrap_err().take_item::<UserEvent>(),
            Some(event(7, 2, 0))
        );
        assert_eq!(found[2].as_ref().unwrap().number, 3);
    }
}
