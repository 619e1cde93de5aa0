//! Session state.

use std::time::Duration;

use streamz::testing::{Recorder, TestSource};
use streamz::{ManualClock, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../sessions.rs"]
mod example;

use example::{Action, Activity, Status, Update, follow_sessions};

fn activity(session: u32, action: Action) -> Activity {
    Activity { session, action }
}

fn update(session: u32, status: Status, actions: u32, cents: u32) -> Update {
    Update { session, status, actions, cents }
}

fn mins(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

#[test]
fn each_activity_updates_its_own_session_in_order() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, activities) = TestSource::new(&pipeline);
    let recorder = Recorder::new(follow_sessions(activities));
    for cents in [1, 2] {
        source.push_all((0..50).map(|session| activity(session, Action::Add(cents * session))));
    }
    source.push_all((0..50).map(|session| activity(session, Action::Pay)));
    let updates = recorder.items();
    assert_eq!(updates.len(), 150);
    for session in 0..50 {
        let own: Vec<&Update> =
            updates.iter().filter(|update| update.session == session).collect();
        let expected = [
            update(session, Status::Active, 1, session),
            update(session, Status::Active, 2, 3 * session),
            update(session, Status::Paid, 3, 3 * session),
        ];
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
    // They are forgotten: nothing waits for its time any more.
    clock.advance(mins(60));
    assert_eq!(recorder.items(), []);
}

#[test]
fn a_session_is_given_up_30_minutes_after_its_last_activity() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, activities) = TestSource::new(&pipeline);
    let updates = Recorder::new(follow_sessions(activities));
    let almost = mins(30) - Duration::from_nanos(1);
    source.play([
        (mins(0), activity(1, Action::Add(500))),
        (almost, activity(1, Action::View)), // just in time
        (almost + mins(30), activity(1, Action::View)), // at the very moment it is given up: this begins another one
    ]);
    clock.advance(mins(60));
    let expected = [
        (mins(0), update(1, Status::Active, 1, 500)),
        (almost, update(1, Status::Active, 2, 500)),
        (almost + mins(30), update(1, Status::Abandoned, 2, 500)),
        (almost + mins(30), update(1, Status::Active, 1, 0)),
        (almost + mins(60), update(1, Status::Abandoned, 1, 0)),
    ];
    assert_eq!(updates.timed_items(), expected);
}

#[test]
fn open_sessions_are_abandoned_at_the_end() {
    let clock = ManualClock::new();
    // Room for one update: a flush is no excuse to take more.
    let pipeline = Pipeline::builder("test").clock(&clock).capacity(1).build();
    let activities = (0..500).map(|session| activity(session, Action::Add(1)));
    let updates = follow_sessions(streamz::Stream::from_iter(&pipeline, activities))
        .collect::<Vec<_>>()
        .unwrap();
    let count = |status| updates.iter().filter(|update| update.status == status).count();
    assert_eq!((count(Status::Active), count(Status::Abandoned)), (500, 500));
    let report = pipeline.join();
    assert!(report.is_complete());
    assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()));
}
