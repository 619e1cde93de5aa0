//! Switch.

use std::sync::Arc;

use parking_lot::Mutex;
use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, ManualClock, Pipeline, Stream};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../switch.rs"]
mod example;

use example::{Action, Entry, Level, Services, process};

/// Notes who was called for what. There is no alert for number 13.
#[derive(Default)]
struct Calls(Mutex<Vec<(&'static str, u32)>>);

impl Services for Calls {
    fn alert(&self, entry: &Entry) -> Result<(), BoxError> {
        self.0.lock().push(("alert", entry.id));
        if entry.id == 13 { Err("the pager is broken".into()) } else { Ok(()) }
    }

    fn analyze(&self, entry: &Entry) -> Result<(), BoxError> {
        self.0.lock().push(("analyze", entry.id));
        Ok(())
    }
}

fn entry(id: u32, level: Level, message: &str) -> Entry {
    Entry { id, level, address: "10.0.0.1".to_owned(), message: message.to_owned() }
}

#[test]
fn the_first_matching_case_decides_and_others_are_logged() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, logs) = TestSource::new(&pipeline);
    let calls = Arc::new(Calls::default());
    let (processed, stats) = process(logs, &calls);
    let processed = Recorder::new(processed);
    source.push(entry(1, Level::Fatal, "out of memory"));
    source.push(entry(2, Level::Error, "unauthorized"));
    source.push(entry(3, Level::Info, "authentication failed"));
    source.push(entry(4, Level::Warn, "slow query"));
    source.end();
    assert!(pipeline.join().is_complete());

    let seen: Vec<_> =
        processed.items().into_iter().map(|it| (it.entry.id, it.action)).collect();
    assert_eq!(
        seen,
        [
            (1, Action::Alerted),
            (2, Action::Alerted),
            (3, Action::Analyzed),
            (4, Action::Logged)
        ]
    );
    // The second is a case for both, and alerted first.
    assert_eq!(*calls.0.lock(), [("alert", 1), ("alert", 2), ("analyze", 2), ("analyze", 3)]);
    assert_eq!(["critical", "security", "default"].map(|name| stats.items(name)), [2, 1, 1]);
}

#[test]
fn every_entry_is_emitted_once_and_in_order_within_a_case() {
    let pipeline = Pipeline::new("test");
    let of = |id: u32| match id % 7 {
        0 => entry(id, Level::Error, "x"),
        1 | 2 => entry(id, Level::Warn, "unauthorized"),
        _ => entry(id, Level::Info, "x"),
    };
    let (processed, _) =
        process(Stream::from_iter(&pipeline, (0..7_000).map(of)), &Arc::new(Calls::default()));
    // Number 13 is no alert, so nothing fails.
    let processed = processed.collect::<Vec<_>>().unwrap();
    for (action, share) in [(Action::Alerted, 1), (Action::Analyzed, 2), (Action::Logged, 4)] {
        let ids: Vec<u32> =
            processed.iter().filter(|it| it.action == action).map(|it| it.entry.id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert_eq!(ids.len(), 1_000 * share);
    }
}

#[test]
fn a_failed_alert_is_an_error_and_takes_no_other_case() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, logs) = TestSource::new(&pipeline);
    let calls = Arc::new(Calls::default());
    let processed = Recorder::new(process(logs, &calls).0);
    source.push(entry(13, Level::Fatal, "unauthorized"));
    let error = processed.timed_outputs().remove(0).1.unwrap_err();
    assert_eq!((error.stage(), error.take_item::<Entry>().unwrap().id), ("alert", 13));
    assert_eq!(*calls.0.lock(), [("alert", 13)]);
}
