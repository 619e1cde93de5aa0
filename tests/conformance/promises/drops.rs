//! Items whose drop panics: wherever they are dropped, the pipeline and its other branches go on, nothing is counted as a
//! fault of the library, and every other item is dropped, too.

use std::sync::Arc;

use streamz::Stream;

use super::List;
use crate::common::faults::Faults;
use crate::rig::{Ended, Output, Rig, Time, items};
use crate::subject::{Site, Subject};

const COUNT: u64 = 31;

pub fn add<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>) {
    list.add_timed("items whose drop panics, read to the end", |subject, time| {
        let rig = armed(subject, time, 64);
        let (sender, mut output) = rig.fed_by_hand(subject, Faults::None, 64);
        rig.put(subject, &sender, items(COUNT));
        drop(sender);
        output.rest();
        drop(output);
        let closed = rig.close();
        assert_eq!(closed.outcome, Ended::Completed);
        assert_eq!(closed.abandoned, if subject.ends_early { closed.abandoned } else { 0 });
    });
    list.add_timed("items whose drop panics, not read", |subject, time| {
        let rig = armed(subject, time, 64);
        let (sender, output) = rig.fed_by_hand(subject, Faults::None, 64);
        rig.put(subject, &sender, items(COUNT));
        settle(&rig);
        drop(output);
        drop(sender);
        assert_eq!(rig.close().outcome, Ended::Completed);
    });
    list.add_timed("items whose drop panics, held at a stop", |subject, time| {
        let rig = armed(subject, time, 64);
        let (sender, input) = Stream::channel(&rig.pipeline, 64);
        stopped(subject, rig, input, |rig| {
            rig.put(subject, &sender, items(COUNT));
            drop(sender);
        });
    });
    list.add_timed("items whose drop panics, stopped while blocked on output", |subject, time| {
        let rig = armed(subject, time, 1);
        let input = rig.endless_input(subject);
        stopped(subject, rig, input, |_| {});
    });
}

fn armed<In: Send + 'static, Out: Send + 'static>(subject: &Subject<In, Out>, time: Time, capacity: usize) -> Rig {
    let rig = Rig::new(time, capacity);
    rig.census.arm(if subject.groups { |number| number == 7 } else { |_| true });
    rig
}

/// The operator under a child token, which is cancelled when it has been fed.
fn stopped<In, Out>(subject: &Arc<Subject<In, Out>>, rig: Rig, input: Stream<In>, feed: impl FnOnce(&Rig))
where
    In: Send + 'static,
    Out: Send + 'static,
{
    let child = rig.pipeline.child();
    let site = Site { faults: Faults::None, asleep: false };
    let stream = subject.processor(&site).process(&child, input).with_token(&rig.pipeline);
    let output: Output<Out> = rig.output(subject, stream);
    feed(&rig);
    settle(&rig);
    child.cancel();
    // What comes after it is told that it was cut, and ends by itself.
    drop(output);
    let outcome = rig.close().outcome;
    assert!(matches!(outcome, Ended::Completed | Ended::Cut), "{outcome:?}");
}

/// On the system clock it may be anywhere.
fn settle(rig: &Rig) {
    if rig.clock.is_some() {
        rig.settle();
    }
}
