//! Errors are items: they pass in order, untouched.

use std::sync::Arc;

use streamz::ErrorKind;

use super::List;
use super::ending::as_input;
use crate::common::faults::Faults;
use crate::rig::{Event, Time, put_through};
use crate::subject::Subject;

pub fn add<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>) {
    list.add_timed("errors pass in order, untouched", |subject, time| pass(subject, time, 16, &mixed()));
    list.add_timed("errors pass in order, capacity 1", |subject, time| pass(subject, time, 1, &mixed()));
    list.add_timed("nothing but errors", |subject, time| {
        pass(subject, time, 2, &(0..20).map(Event::Error).collect::<Vec<_>>());
    });
}

/// Errors first, last, alone and in a row.
fn mixed() -> Vec<Event> {
    let mut events = vec![Event::Error(0), Event::Error(1)];
    for value in 0..30 {
        events.push(Event::Item(value));
        if value % 7 == 3 {
            events.push(Event::Error(100 + value));
        }
        if value % 10 == 9 {
            events.push(Event::Error(200 + value));
            events.push(Event::Error(300 + value));
        }
    }
    events
}

fn pass<In: Send + 'static, Out: Send + 'static>(
    subject: &Arc<Subject<In, Out>>,
    time: Time,
    capacity: usize,
    events: &[Event],
) {
    let (seen, errors_in, errors_out) = put_through(subject, time, capacity, Faults::None, events);
    subject.compare(&as_input(events), Faults::None, seen);
    let (kept, made): (Vec<_>, Vec<_>) =
        errors_out.iter().partition(|error| errors_in.iter().any(|original| original.ptr_eq(error)));
    assert!(made.iter().all(|error| error.stage() != "origin"), "an error was replaced: {made:?}");
    for error in kept {
        assert_eq!((error.stage(), error.kind(), error.step()), ("origin", ErrorKind::Failed, None));
    }
}
