//! Multi-stage routing: by type, then by priority; nothing is lost, and a busy route does not hold up the others.

use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, CancelToken, ManualClock, Pipeline, Processor, Stream};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../multi_stage_routing.rs"]
mod example;

use example::{Event, Handled, Ranked, WORK, by_priority, by_type, handle};

#[test]
fn each_event_is_routed_by_type_and_then_by_priority() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("events").clock(&clock).build();
    let kinds = [
        ("user.login", "normal", "user 0"),
        ("user.locked_out", "high", "user 1"),
        ("system.disk_full", "critical", "host 2"),
        ("business.large_order", "high", "to accounting"),
        ("users.login", "normal", "unknown type `users.login`"),
        ("", "normal", "unknown type ``"),
    ];
    let time = clock.now();
    let events: Vec<_> =
        kinds.iter().zip(0..).map(|((kind, ..), id)| Event { id, kind, time }).collect();
    // As one processor, as it would be used within a larger pipeline.
    let both = by_type().then(by_priority(handle));
    let recorder = Recorder::new(Stream::from_iter(&pipeline, events).through(&both));
    clock.advance(WORK);
    let mut handled = recorder.items();
    assert!(recorder.is_ended());
    handled.sort_by_key(|it| it.id);
    let found: Vec<_> = handled.iter().map(|it| (it.by, it.note.as_str())).collect();
    assert_eq!(found, kinds.map(|(_, by, note)| (by, note)));
    assert!(pipeline.join().is_complete());
}

#[test]
fn a_crowd_of_normal_events_does_not_hold_up_a_critical_one() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("events").clock(&clock).build();
    let (source, events) = TestSource::with_capacity(&pipeline, 2_000);
    let types = by_type();
    let priorities = by_priority(handle);
    let recorder = Recorder::new(events.through(&types).through(&priorities));
    let event = |id, kind| Event { id, kind, time: clock.now() };
    source.push_all((0..1_000).map(|id| event(id, "user.login")));
    source.push(event(1_000, "system.disk_full"));
    clock.advance(WORK);
    // Five workers for the crowd, twenty for this one.
    let first = recorder.items();
    assert_eq!((first.len(), first.iter().filter(|it| it.by == "critical").count()), (6, 1));
    clock.advance(WORK * 199);
    assert_eq!(recorder.items().len(), 1_000 - 5);
    assert_eq!(
        (types.stats().items("user"), priorities.stats().items("default")),
        (1_000, 1_000)
    );
    source.end();
    assert!(pipeline.join().is_complete());
}

#[test]
fn a_failed_event_is_forwarded_as_an_error_with_the_event() {
    let pipeline = Pipeline::new("events");
    let time = pipeline.now();
    let refuse =
        |_: &CancelToken, ranked: &Ranked, by: &'static str| -> Result<Handled, BoxError> {
            Err(format!("{by} refuses {}", ranked.event.id).into())
        };
    let events = [Event { id: 7, kind: "system.disk_full", time }];
    let results: Vec<_> = Stream::from_iter(&pipeline, events)
        .through(&by_type())
        .through(&by_priority(refuse))
        .into_iter()
        .collect();
    let error = results[0].as_ref().unwrap_err();
    assert_eq!((results.len(), error.take_item::<Ranked>().unwrap().event.id), (1, 7));
    assert!(pipeline.join().is_complete());
}
