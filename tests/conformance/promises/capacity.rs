//! Small capacities: no hang, no loss, and never more in flight than allowed.

use std::sync::Arc;

use super::List;
use super::ending::as_input;
use crate::common::faults::Faults;
use crate::common::seen::Seen;
use crate::rig::{Rig, Time, items};
use crate::subject::Subject;

pub fn add<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>) {
    list.add_timed("capacity 0", |subject, time| through(subject, time, 0));
    list.add_timed("capacity 1", |subject, time| through(subject, time, 1));
    list.add_timed("capacity 2", |subject, time| through(subject, time, 2));
}

/// With a thread of the pipeline that feeds the operator, while the test reads.
fn through<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>, time: Time, capacity: usize) {
    const COUNT: u64 = 60;
    let rig = Rig::new(time, capacity);
    let (sender, mut output) = rig.fed_by_hand(subject, Faults::None, capacity);
    let (census, wrap) = (rig.census.clone(), subject.wrap);
    rig.pipeline.spawn("feeder", move |_| {
        for value in 0..COUNT {
            if sender.send(wrap(census.item(value))).is_err() {
                return;
            }
        }
    });
    let seen: Vec<Seen> = output.rest();
    drop(output);
    subject.compare(&as_input(&items(COUNT)), Faults::None, seen);
    rig.close();
}
