//! The consumer goes: the whole upstream winds down by itself, so that `join` returns although the source is endless.

use std::sync::Arc;

use super::List;
use crate::rig::{Ended, Rig, Time};
use crate::subject::Subject;

pub fn add<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>) {
    list.add_timed("consumer dropped at once", |subject, time| dropped_after(subject, time, 16, 0));
    list.add_timed("consumer dropped after one item", |subject, time| dropped_after(subject, time, 16, 1));
    list.add_timed("consumer dropped in the middle", |subject, time| dropped_after(subject, time, 4, 5));
    list.add_timed("consumer dropped in the middle, capacity 0", |subject, time| dropped_after(subject, time, 0, 3));
    list.add("consumer dropped while the stage waits for input", dropped_while_idle);
    list.add("consumer dropped while the stage is blocked on output", dropped_while_blocked);
}

fn dropped_after<In: Send + 'static, Out: Send + 'static>(
    subject: &Arc<Subject<In, Out>>,
    time: Time,
    capacity: usize,
    count: usize,
) {
    let rig = Rig::new(time, capacity);
    let mut output = rig.endless(subject);
    for _ in 0..count {
        assert!(output.next().is_some(), "the output ended although the input is endless");
    }
    drop(output);
    assert_eq!(rig.close().outcome, Ended::Completed, "a consumer that goes is no cancellation");
}

fn dropped_while_idle<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>) {
    let rig = Rig::new(Time::Manual, 4);
    let (sender, output) = rig.fed_by_hand(subject, crate::common::faults::Faults::None, 4);
    rig.settle();
    drop(output);
    rig.settle();
    assert_eq!(rig.pipeline.threads(), 0, "the stage waits on although its consumer has left");
    assert!(sender.is_closed(), "the producer is not told");
    drop(sender);
    rig.close();
}

fn dropped_while_blocked<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>) {
    let rig = Rig::new(Time::Manual, 1);
    let output = rig.endless(subject);
    rig.settle();
    drop(output);
    rig.settle();
    assert_eq!(rig.pipeline.threads(), 0, "a stage waits on although its consumer has left");
    rig.close();
}
