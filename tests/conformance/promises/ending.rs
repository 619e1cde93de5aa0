//! The input ends: everything comes out, in order, and then the output ends.

use std::sync::Arc;

use super::List;
use crate::common::faults::Faults;
use crate::common::seen::Seen;
use crate::rig::{Event, Time, items, put_through};
use crate::subject::Subject;

pub fn add<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>) {
    list.add_timed("empty input", |subject, time| through(subject, time, 0));
    list.add_timed("one item", |subject, time| through(subject, time, 1));
    list.add_timed("everything, in order", |subject, time| through(subject, time, 50));
    list.add_timed("everything, in order, many", |subject, time| through(subject, time, 1500));
}

fn through<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>, time: Time, n: u64) {
    let (seen, _, _) = put_through(subject, time, 16, Faults::None, &items(n));
    subject.compare(&as_input(&items(n)), Faults::None, seen);
}

/// What a model is given.
pub fn as_input(events: &[Event]) -> Vec<Seen> {
    let one = |event: &Event| match *event {
        Event::Item(value) => Seen::Value(value),
        Event::Error(number) => Seen::Passed(number),
    };
    events.iter().map(one).collect()
}
