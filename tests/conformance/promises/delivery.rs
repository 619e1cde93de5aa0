//! Delivery: a record is acknowledged when everything that was made of it has been processed, and not before.

use std::sync::Arc;
use std::time::Duration;

use streamz::Stream;
use streamz::delivery::{DeliveryConfig, Replay};

use super::List;
use super::ending::as_input;
use crate::common::faults::Faults;
use crate::common::inbox::{Fates, Letters, Records};
use crate::rig::{Ended, Output, Rig, Time, items};
use crate::subject::{Closure, Subject};

pub fn add<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>) {
    if list.subject.copies {
        return;
    }
    list.add_timed("delivery: all is acknowledged after a clean end", |subject, time| {
        for (capacity, epoch) in [(4, 1), (4, 3), (0, 2), (1, 64)] {
            clean(subject, time, capacity, epoch, Faults::None);
        }
    });
    list.add_timed("delivery: error items of the source are acknowledged when they have been taken", with_errors);
    list.add_timed(
        "delivery: dead letters are acknowledged when what was made of their records has been taken",
        replayed,
    );
    list.add("delivery: nothing is acknowledged before it was processed", step_by_step);
    list.add("delivery: after a cancel, what was processed is acknowledged, and the rest given back", cancel);
    list.add_timed("delivery: after a drain, all that was given is acknowledged", drain);
    if list.subject.closure != Closure::None {
        list.add_timed("delivery: what fails is acknowledged when the error has been taken", |subject, time| {
            let fail_percent = if subject.closure == Closure::Fails { 20 } else { 0 };
            clean(subject, time, 4, 2, Faults::Random { salt: 1, fail_percent, panic_percent: 20 });
        });
    }
    if let Some(holds) = list.subject.holds {
        list.add("delivery: held items are not acknowledged", move |subject| held(subject, holds));
    }
}

fn config(epoch: usize, max_unacked: usize) -> DeliveryConfig {
    DeliveryConfig {
        fetch: 8,
        epoch,
        max_unacked,
        ack_interval: Duration::ZERO,
        keep_alive: Some(Duration::ZERO),
        ..DeliveryConfig::default()
    }
}

fn deliver<In: Send + 'static, Out: Send + 'static>(
    rig: &Rig,
    subject: &Subject<In, Out>,
    faults: Faults,
    count: u64,
    config: DeliveryConfig,
) -> (Fates, Output<Out>) {
    let inbox = Records::new(count, subject.wrap, rig.census.clone());
    let fates = inbox.fates.clone();
    let stream = Stream::deliver(&rig.pipeline, inbox, config).expect("it has an acker");
    (fates, rig.through(subject, faults, stream))
}

/// Dead letters that are replayed; among them are some records that are none, which become error items.
fn replayed<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>, time: Time) {
    const COUNT: u64 = 40;
    for epoch in [1, 3] {
        let rig = Rig::new(time, 4);
        let inbox = Records::new(COUNT, subject.wrap, rig.census.clone());
        let fates = inbox.fates.clone();
        let replay = Replay::new().with_config(config(epoch, 1000));
        let stream = Stream::replay(&rig.pipeline, Letters(inbox), replay).expect("it has an acker");
        let output = rig.through(subject, Faults::None, stream);
        all_is_acknowledged(rig, subject, output, &fates, COUNT);
    }
}

/// Takes one thing after the other; on virtual time nothing that happens between two of them is missed.
fn all_is_acknowledged<In: Send + 'static, Out: Send + 'static>(
    rig: Rig,
    subject: &Subject<In, Out>,
    mut output: Output<Out>,
    fates: &Fates,
    count: u64,
) {
    while {
        if rig.clock.is_some() {
            rig.settle();
            fates.check().unwrap();
        }
        process(&mut output)
    } {}
    drop(output);
    rig.close();
    fates.check().unwrap();
    settled(fates);
    if !subject.ends_early && !subject.unread {
        assert_eq!(fates.acknowledged(), (0..count).collect::<Vec<_>>());
    }
}

/// Takes the next thing, and is done with it. False at the end.
fn process<Out: Send + 'static>(output: &mut Output<Out>) -> bool {
    let more = output.next().is_some();
    output.errors.clear();
    more
}

fn settled(fates: &Fates) {
    let settled = fates.acknowledged().len() + fates.given_back().len();
    assert_eq!(settled as u64, fates.fetched(), "each record has been acknowledged or given back");
}

fn clean<In: Send + 'static, Out: Send + 'static>(
    subject: &Arc<Subject<In, Out>>,
    time: Time,
    capacity: usize,
    epoch: usize,
    faults: Faults,
) {
    const COUNT: u64 = 40;
    let rig = Rig::new(time, capacity);
    let (fates, mut output) = deliver(&rig, subject, faults, COUNT, config(epoch, 1000));
    while process(&mut output) {}
    drop(output);
    assert_eq!(rig.close().outcome, Ended::Completed);
    fates.check().unwrap();
    settled(&fates);
    if !subject.ends_early && !subject.unread {
        assert_eq!(fates.acknowledged(), (0..COUNT).collect::<Vec<_>>());
    }
}

/// Records that have been delivered too often come as error items, which an operator may hold or pass by.
fn with_errors<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>, time: Time) {
    const COUNT: u64 = 40;
    for epoch in [1, 3] {
        let rig = Rig::new(time, 4);
        let mut inbox = Records::new(COUNT, subject.wrap, rig.census.clone());
        inbox.old = Some(3);
        let fates = inbox.fates.clone();
        let config = DeliveryConfig { max_deliveries: Some(1), ..config(epoch, 1000) };
        let stream = Stream::deliver(&rig.pipeline, inbox, config).expect("it has an acker");
        let output = rig.through(subject, Faults::None, stream);
        all_is_acknowledged(rig, subject, output, &fates, COUNT);
    }
}

fn step_by_step<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>) {
    for epoch in [1, 3] {
        let rig = Rig::new(Time::Manual, 4);
        let (fates, mut output) = deliver(&rig, subject, Faults::None, 30, config(epoch, 1000));
        // What is acknowledged too early is seen when the time stands, whatever the threads do.
        while {
            rig.settle();
            fates.check().unwrap();
            process(&mut output)
        } {}
        drop(output);
        rig.close();
        fates.check().unwrap();
    }
}

fn held<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>, holds: u64) {
    let rig = Rig::new(Time::Manual, 4);
    // The source waits until something has been acknowledged, so the input does not end.
    let (fates, mut output) = deliver(&rig, subject, Faults::None, holds + 1, config(1, holds as usize));
    rig.settle();
    assert_eq!((fates.fetched(), fates.acknowledged()), (holds, vec![]), "all of it is held");
    rig.pipeline.drain();
    let mut seen = Vec::new();
    while let Some(next) = output.next() {
        seen.push(next);
    }
    output.errors.clear();
    subject.compare(&as_input(&items(holds)), Faults::None, seen);
    drop(output);
    assert_eq!(rig.close().outcome, Ended::Drained);
    fates.check().unwrap();
    assert_eq!(fates.acknowledged(), (0..holds).collect::<Vec<_>>());
}

fn cancel<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>) {
    for taken in [0, 3] {
        let rig = Rig::new(Time::Manual, 2);
        let (fates, mut output) = deliver(&rig, subject, Faults::None, 1_000_000, config(2, 50));
        rig.settle();
        for _ in 0..taken {
            if output.now().is_err() {
                break;
            }
            output.errors.clear();
            rig.settle();
        }
        rig.pipeline.cancel();
        while process(&mut output) {}
        drop(output);
        rig.close();
        fates.check().unwrap();
        settled(&fates);
    }
}

fn drain<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>, time: Time) {
    let rig = Rig::new(time, 4);
    let (fates, mut output) = deliver(&rig, subject, Faults::None, 1_000_000, config(3, 64));
    for _ in 0..if subject.holds.is_some() { 0 } else { 5 } {
        process(&mut output);
    }
    rig.pipeline.drain();
    while process(&mut output) {}
    drop(output);
    // What is seen of it must be what was given to the operator, no more and no less.
    let given = rig.pipeline.report().stages[0].emitted();
    assert_eq!(rig.close().outcome, Ended::Drained);
    fates.check().unwrap();
    settled(&fates);
    if !subject.ends_early && !subject.unread {
        assert_eq!(fates.acknowledged(), (0..given).collect::<Vec<_>>());
    }
}
