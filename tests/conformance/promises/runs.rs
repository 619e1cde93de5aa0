//! State belongs to a run: `process` may be called many times on one processor, and the runs share nothing.

use std::sync::Arc;

use streamz::Stream;

use super::List;
use super::ending::as_input;
use crate::common::faults::Faults;
use crate::rig::{Event, Rig, Time};
use crate::subject::{Site, Subject};

pub fn add<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>) {
    list.add_timed("process called twice, side by side", side_by_side);
    list.add_timed("process called again after the first run ended", again);
}

fn side_by_side<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>, time: Time) {
    const COUNT: u64 = 40;
    let rig = Rig::new(time, 64);
    let processor = subject.processor(&Site { faults: Faults::None, asleep: false });
    let run = || {
        let (sender, input) = Stream::channel(&rig.pipeline, 64);
        (sender, rig.output(subject, input.through(&processor)))
    };
    let ((left, mut left_out), (right, mut right_out)) = (run(), run());
    // The right one runs behind and sees other items, so that anything shared would show.
    let both = (0..COUNT).map(|value| (Event::Item(value), Event::Item(value / 2)));
    for (one, other) in both.clone() {
        rig.put(subject, &left, [one]);
        rig.put(subject, &right, [other]);
    }
    drop((left, right));
    let (one, other): (Vec<Event>, Vec<Event>) = both.unzip();
    subject.compare(&as_input(&one), Faults::None, left_out.rest());
    subject.compare(&as_input(&other), Faults::None, right_out.rest());
    drop(left_out);
    drop(right_out);
    rig.close();
}

fn again<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>, time: Time) {
    let processor = subject.processor(&Site { faults: Faults::None, asleep: false });
    for count in [23, 23, 7] {
        let rig = Rig::new(time, 64);
        let (sender, input) = Stream::channel(&rig.pipeline, 64);
        let mut output = rig.output(subject, input.through(&processor));
        let events: Vec<Event> = (0..count).map(Event::Item).collect();
        rig.put(subject, &sender, events.iter().copied());
        drop(sender);
        subject.compare(&as_input(&events), Faults::None, output.rest());
        drop(output);
        rig.close();
    }
}
