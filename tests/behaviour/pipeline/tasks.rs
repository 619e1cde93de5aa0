//! `Task`: sinks and other work on threads of the pipeline, and their results.

use std::num::ParseIntError;
use std::sync::mpsc::channel;
use std::thread;

use streamz::{CancelToken, Cancelled, ErrorKind, Outcome, PanicMessage, Pipeline, Stream};

use crate::{ms, virtual_pipeline};

#[test]
fn a_spawned_sink_returns_its_result() {
    let pipeline = Pipeline::new("split");
    let (odd, even) = Stream::from_iter(&pipeline, 0..1_000u64).split(|n| n % 2 == 1);
    let odd = odd.spawn(|odd| odd.map(|n| n * 2).fold(0, |sum, n| sum + n));
    assert_eq!(even.count().unwrap(), 500);
    assert_eq!(odd.join().unwrap(), 500_000);
    let report = pipeline.join();
    assert!(report.is_complete(), "{report}");
}

#[test]
fn a_spawned_sink_and_its_thread_have_the_name_of_the_stream() {
    let pipeline = Pipeline::new("names");
    let task = Stream::from_iter(&pipeline, 0..3).named("three").spawn(|three| {
        let name = thread::current().name().map(str::to_owned);
        three.count().map(|count| (count, name))
    });
    assert_eq!(format!("{task:?}").split(',').next(), Some("Task { name: \"three\""));
    assert_eq!(task.join().unwrap(), (3, Some("three-0 names".to_owned())));
    let report = pipeline.join();
    assert_eq!(report.stages.iter().map(|stage| &*stage.name).collect::<Vec<_>>(), ["source", "three"]);
}

#[test]
fn an_error_item_in_a_spawned_sink_stops_the_pipeline() {
    let pipeline = Pipeline::new("stops");
    let [here, there] = Stream::from_iter(&pipeline, 0u64..).fan_out();
    let there = there.try_map(|n: &u64| if *n < 5 { Ok(*n) } else { Err("too many") }).spawn(|s| s.count());
    assert!(here.for_each(drop).unwrap_err().is_cancelled());
    let error = there.join().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Failed, "map"));
    assert!(
        matches!(pipeline.join().outcome, Outcome::Cancelled(streamz::Cause::Failed(first)) if first.ptr_eq(&error))
    );
}

#[test]
fn an_error_of_the_closure_cancels_the_streams_token() {
    let pipeline = Pipeline::new("child");
    let child = pipeline.child();
    let [here, there] = Stream::from_iter(&pipeline, 0..1_000u64).fan_out();
    let task = there.with_token(&child).named("parse").spawn(|there| {
        assert_eq!(there.first()?, Some(0));
        streamz::ok("x".parse::<u64>()?)
    });
    let error = task.join().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Failed, "parse"));
    assert!(error.downcast_ref::<ParseIntError>().is_some());
    assert!(child.is_cancelled() && !pipeline.is_cancelled());
    assert_eq!(here.count().unwrap(), 1_000);
    pipeline.join();
}

#[test]
fn a_panic_in_a_spawned_sink_cancels_and_is_its_result() {
    let pipeline = Pipeline::new("panics");
    let task = Stream::from_iter(&pipeline, 0u64..)
        .named("bad")
        .spawn(|s| s.for_each(|n| assert!(n.unwrap() < 3, "no luck")).map(drop));
    let error = task.join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert_eq!(error.downcast_ref::<PanicMessage>().unwrap().message(), "no luck");
    let Outcome::Cancelled(cause) = pipeline.join().outcome else { panic!("it was not cancelled") };
    assert_eq!(cause.to_string(), "cancelled: sink `bad` panicked: no luck");
}

#[test]
fn the_pipeline_waits_for_a_task_that_was_dropped() {
    let (done, finished) = channel();
    let (release, released) = channel::<()>();
    let ((), report) = Pipeline::run("dropped", |pipeline| {
        let _release = release;
        drop(Stream::from_iter(pipeline, 0..3).spawn(move |stream| {
            _ = released.recv();
            stream.count().map(|count| done.send(count).unwrap())
        }));
    });
    assert_eq!(finished.try_recv(), Ok(3));
    assert!(report.is_complete(), "{report}");
}

/// A value whose drop panics.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_value_that_no_one_joins_may_panic_when_dropped() {
    let pipeline = Pipeline::new("bombs");
    drop(pipeline.spawn("bomb", |_| streamz::ok(Bomb)));
    let kept = pipeline.spawn("kept", |_| streamz::ok(Bomb));
    let report = pipeline.join();
    assert!(kept.is_finished());
    drop(kept);
    assert!(report.is_complete() && report.faults.is_empty(), "{report}");
}

#[test]
fn a_task_can_be_joined_on_a_thread_of_the_pipeline() {
    let (clock, pipeline) = virtual_pipeline();
    let sleeps = pipeline.spawn("sleeps", |cancel| {
        cancel.sleep(ms(10))?;
        Ok::<_, Cancelled>(cancel.now())
    });
    let waits = pipeline.spawn("waits", move |cancel| sleeps.join().map(|woken| cancel.now() - woken));
    clock.advance(ms(9));
    assert!(!waits.is_finished());
    clock.advance(ms(1));
    assert!(waits.is_finished());
    assert_eq!(waits.join().unwrap(), ms(0));
    let report = pipeline.join();
    assert_eq!(report.stages.iter().map(|stage| &*stage.name).collect::<Vec<_>>(), ["sleeps", "waits"]);
}

#[test]
fn a_task_that_stops_at_a_cancellation_is_cancelled_not_failed() {
    let pipeline = Pipeline::new("cancelled");
    let child = pipeline.child();
    let task = child.spawn("waits", |cancel: &CancelToken| Err::<(), _>(cancel.wait()));
    child.cancel_because("enough");
    let error = task.join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(error.downcast_ref::<Cancelled>().unwrap().to_string(), "cancelled: enough");
    assert!(pipeline.join().is_complete());
}

#[test]
fn a_task_that_waits_is_not_busy() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, numbers) = Stream::<u32>::channel(&pipeline, 1);
    pipeline.every(ms(1_000), || {});
    drop(pipeline.spawn("sleeps", |token| token.sleep(ms(60_000))));
    let reads = pipeline.spawn("reads", |_| numbers.into_iter().try_for_each(|item| item.map(drop)));
    drop(pipeline.spawn("joins", |_| reads.join()));
    drop(pipeline.spawn("sends", move |_| {
        (0..3).try_for_each(|n| sender.token().sleep(ms(4_000)).map(|()| _ = sender.send(n)))
    }));
    drop(pipeline.spawn("waits", |token| _ = token.wait()));
    clock.advance(ms(10_000));
    let report = pipeline.report();
    for name in ["every", "sleeps", "reads", "joins", "sends", "waits"] {
        let task = report.stage(name).unwrap();
        assert_eq!((task.busy, task.idle + task.blocked), (ms(0), ms(10_000)), "{name}");
    }
    pipeline.abort();
}
