//! Drain: the sources stop, everything in flight is processed and flushed, and no period delays it.

use std::sync::Arc;
use std::time::Duration;

use super::List;
use super::ending::as_input;
use crate::common::faults::Faults;
use crate::common::seen::Seen;
use crate::rig::{Ended, Event, Rig, Time, items};
use crate::subject::Subject;

pub fn add<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>) {
    list.add_timed("drain of an endless source", |subject, time| endless(subject, time, 4));
    list.add_timed("drain of an endless source, capacity 0", |subject, time| endless(subject, time, 0));
    list.add("drain while blocked on input", by_hand);
    list.add("drain_within gives up when the output is not read", gives_up);
    list.add_timed("drain before anything", |subject, time| {
        let rig = Rig::new(time, 4);
        rig.pipeline.drain();
        let mut output = rig.endless(subject);
        subject.compare(&[], Faults::None, output.rest());
        drop(output);
        assert_eq!(rig.close().outcome, Ended::Drained);
    });
}

fn endless<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>, time: Time, capacity: usize) {
    let rig = Rig::new(time, capacity);
    let mut output = rig.endless(subject);
    let mut seen: Vec<Seen> = (0..5).filter_map(|_| output.next()).collect();
    rig.pipeline.drain();
    seen.extend(output.rest());
    drop(output);
    // Everything that the source gave away came out.
    let given = rig.pipeline.report().stages[0].emitted();
    let given: Vec<Event> = (0..given).map(|n| subject.endless(n)).collect();
    subject.compare_what_was_kept(&as_input(&given), seen);
    assert_eq!(rig.close().outcome, Ended::Drained);
}

fn by_hand<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>) {
    let rig = Rig::new(Time::Manual, 8);
    let (sender, mut output) = rig.fed_by_hand(subject, Faults::None, 8);
    rig.put(subject, &sender, items(2));
    rig.settle();
    rig.pipeline.drain();
    let seen = output.rest();
    subject.compare(&as_input(&items(2)), Faults::None, seen);
    let clock = rig.clock.as_ref().expect("virtual time");
    assert_eq!(clock.elapsed(), Duration::ZERO, "a drain waits for no timer");
    assert!(sender.is_closed());
    drop(sender);
    drop(output);
    assert_eq!(rig.close().outcome, Ended::Drained);
}

fn gives_up<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>) {
    const LIMIT: Duration = Duration::from_secs(3);
    let rig = Rig::new(Time::Manual, 1);
    let output = rig.endless(subject);
    rig.settle();
    let clock = rig.clock.clone().expect("virtual time");
    let Rig { pipeline, census, .. } = rig;
    let report = pipeline.drain_within(LIMIT);
    assert!(matches!(report.outcome, streamz::Outcome::Cancelled(streamz::Cause::DrainTimedOut(LIMIT))), "{report}");
    assert_eq!(clock.elapsed(), LIMIT);
    drop((output, report));
    census.check().unwrap();
}
