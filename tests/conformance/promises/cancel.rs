//! Cancelled: the stage stops at once, whatever it waits for, and its output is cut.
//!
//! On virtual time `settle` returns when every stage waits, so what a stage is cancelled in is not left to chance.

use std::sync::Arc;
use std::time::Duration;

use streamz::{StageReport, Stream};

use super::List;
use crate::common::faults::Faults;
use crate::rig::{Ended, Event, Output, Rig, Time, items};
use crate::subject::{Site, Subject};

pub fn add<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>) {
    list.add_timed("cancel before anything", |subject, time| {
        let rig = Rig::new(time, 4);
        rig.pipeline.cancel();
        let output = rig.endless(subject);
        cut(output);
        assert_eq!(rig.close().outcome, Ended::Cancelled);
    });
    list.add("cancel while idle", |subject| waiting_for_input(subject, &[], Stop::Cancel));
    list.add("cancel while blocked on input", |subject| waiting_for_input(subject, &two(), Stop::Cancel));
    list.add("cancel of a child token while idle", |subject| waiting_for_input(subject, &[], Stop::Child));
    list.add("cancel of a child token while blocked on input", |subject| {
        waiting_for_input(subject, &two(), Stop::Child);
    });
    list.add("deadline while blocked on input", |subject| waiting_for_input(subject, &two(), Stop::Deadline));
    list.add("cancel while blocked on output", |subject| blocked_on_output(subject, 1, Stop::Cancel));
    list.add("cancel while blocked on output, capacity 0", |subject| blocked_on_output(subject, 0, Stop::Cancel));
    list.add("cancel of a child token while blocked on output", |subject| blocked_on_output(subject, 1, Stop::Child));
    list.add("deadline while blocked on output", |subject| blocked_on_output(subject, 1, Stop::Deadline));
    list.add_timed("cancel while running", |subject, time| {
        let rig = Rig::new(time, 4);
        let mut output = rig.endless(subject);
        for _ in 0..3 {
            output.next();
        }
        rig.pipeline.cancel();
        if !subject.ends_early {
            cut(output);
        } else {
            drop(output);
        }
        assert_eq!(rig.close().outcome, Ended::Cancelled);
    });
    if list.subject.holds.is_some() {
        list.add("cancel while waiting for a timer", waiting_for_timer);
    }
    if list.subject.sleeps {
        list.add("cancel while a closure waits", closure_waiting);
    }
}

type StopIt = Box<dyn FnOnce(&Rig)>;

/// How it is stopped.
#[derive(Clone, Copy)]
enum Stop {
    Cancel,
    /// The stage runs under a child of the pipeline's token, and that is cancelled.
    Child,
    /// The same, and the child's time comes.
    Deadline,
}

fn two() -> Vec<Event> {
    vec![Event::Item(0), Event::Error(0), Event::Item(2)]
}

fn cut<Out: Send + 'static>(mut output: Output<Out>) {
    output.expect_cut();
}

impl Stop {
    /// The operator under test on `input`, in the scope that is going to be stopped, and what stops it.
    fn place<In: Send + 'static, Out: Send + 'static>(
        self,
        rig: &Rig,
        subject: &Subject<In, Out>,
        site: &Site,
        input: Stream<In>,
    ) -> (Output<Out>, StopIt) {
        const TIME: Duration = Duration::from_millis(1);
        let (token, stop): (_, StopIt) = match self {
            Stop::Cancel => (rig.pipeline.token(), Box::new(|rig| rig.pipeline.cancel())),
            Stop::Child => {
                let child = rig.pipeline.child();
                (child.clone(), Box::new(move |_| child.cancel()))
            }
            Stop::Deadline => {
                let child = rig.pipeline.with_timeout(TIME);
                (child, Box::new(|rig| rig.clock.as_ref().expect("virtual time").advance(TIME)))
            }
        };
        // Read outside that scope, so that it is the stage itself that says that the stream was cut.
        let stream = subject.processor(site).process(&token, input).with_token(&rig.pipeline);
        (rig.output(subject, stream), stop)
    }

    fn outcome(self) -> Ended {
        match self {
            Stop::Cancel => Ended::Cancelled,
            Stop::Child | Stop::Deadline => Ended::Cut,
        }
    }
}

const AWAKE: Site = Site { faults: Faults::None, asleep: false };

fn waiting_for_input<In, Out>(subject: &Arc<Subject<In, Out>>, before: &[Event], stop: Stop)
where
    In: Send + 'static,
    Out: Send + 'static,
{
    let rig = Rig::new(Time::Manual, 8);
    let (sender, input) = Stream::channel(&rig.pipeline, 8);
    let (mut output, stop_it) = stop.place(&rig, subject, &AWAKE, input);
    rig.put(subject, &sender, before.iter().copied());
    rig.settle();
    let early = output.all_now();
    let threads = rig.pipeline.threads();
    assert!(threads > 0, "the stage has ended while its input is open: {early:?}");
    stop_it(&rig);
    rig.settle();
    assert_eq!(rig.pipeline.threads(), 0, "the stage waits on after it was stopped");
    assert!(sender.is_closed(), "the producer is not told");
    drop(sender);
    cut(output);
    let closed = rig.close();
    assert_eq!(closed.outcome, stop.outcome());
}

fn blocked_on_output<In, Out>(subject: &Arc<Subject<In, Out>>, capacity: usize, stop: Stop)
where
    In: Send + 'static,
    Out: Send + 'static,
{
    let rig = Rig::new(Time::Manual, capacity);
    let endless = rig.endless_input(subject);
    let (output, stop_it) = stop.place(&rig, subject, &AWAKE, endless);
    rig.settle();
    let threads = rig.pipeline.threads();
    assert!(threads > 1, "the stage has ended although its output is full");
    let report = rig.pipeline.report();
    let is_last = |stage: &&StageReport| stage.outputs.iter().any(|output| output.reader.is_none());
    let last = report.stages.iter().rev().find(is_last).expect("a stage with an output that is not read");
    let queued: usize = last.outputs.iter().map(|output| output.queued).sum();
    assert_eq!(queued, (subject.room)(capacity), "the stage waits, but not for room in its output");
    stop_it(&rig);
    rig.settle();
    assert_eq!(rig.pipeline.threads(), 0, "a stage waits on after it was stopped");
    cut(output);
    assert_eq!(rig.close().outcome, stop.outcome());
}

fn waiting_for_timer<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>) {
    let held = subject.holds.expect("an operator that holds items");
    let rig = Rig::new(Time::Manual, 8);
    let (sender, mut output) = rig.fed_by_hand(subject, Faults::None, 8);
    rig.put(subject, &sender, items(held));
    rig.settle();
    assert_eq!(output.all_now(), [], "the items must be held for this case to mean anything");
    rig.pipeline.cancel();
    rig.settle();
    assert_eq!(rig.pipeline.threads(), 0, "the stage waits on after it was cancelled");
    drop(sender);
    cut(output);
    assert_eq!(rig.close().abandoned, held, "what was held counts as abandoned");
}

fn closure_waiting<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>) {
    let rig = Rig::new(Time::Manual, 8);
    let (sender, input) = Stream::channel(&rig.pipeline, 8);
    let site = Site { faults: Faults::None, asleep: true };
    let (mut output, stop_it) = Stop::Cancel.place(&rig, subject, &site, input);
    rig.put(subject, &sender, items(3));
    rig.settle();
    assert_eq!(output.all_now(), [], "the closure must wait for this case to mean anything");
    stop_it(&rig);
    rig.settle();
    assert_eq!(rig.pipeline.threads(), 0, "the stage waits on after it was cancelled");
    drop(sender);
    cut(output);
    assert_eq!(rig.close().outcome, Ended::Cancelled);
}
