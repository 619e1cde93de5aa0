//! `Pipeline::run`: a pipeline for the time of a closure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use streamz::{BoxError, CancelToken, Cause, Outcome, Pipeline, Stream};

#[test]
fn run_waits_for_sinks_on_other_threads() {
    let sum = Arc::new(AtomicU64::new(0));
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (count, report) = Pipeline::builder("run").capacity(16).run(|pipeline| {
        // Dropped when the closure returns: the other sink processes nothing before that.
        let _release = release;
        let [here, there] = Stream::from_iter(pipeline, 1..=10u64).fan_out();
        let sum = Arc::clone(&sum);
        there.spawn_for_each(move |n| {
            _ = released.recv();
            sum.fetch_add(n.unwrap(), Ordering::Relaxed);
        });
        here.count()
    });
    assert_eq!((count.unwrap(), sum.load(Ordering::Relaxed)), (10, 55));
    assert!(report.is_complete(), "{report}");
}

#[test]
fn run_takes_a_closure_that_borrows_and_returns_nothing() {
    let mut seen = Vec::new();
    let ((), report) = Pipeline::run("unit", |pipeline| {
        Stream::from_iter(pipeline, 0..3).for_each(|n| seen.push(n.unwrap())).unwrap();
    });
    assert_eq!(seen, [0, 1, 2]);
    assert_eq!(&*report.name, "unit");
}

#[test]
fn an_error_returned_to_run_cancels_what_still_runs() {
    let (result, report) = Pipeline::run("endless", |pipeline| {
        Stream::from_iter(pipeline, 0u64..).spawn_for_each(drop);
        let port: u16 = "eighty".parse()?;
        streamz::ok(port)
    });
    let error: BoxError = result.unwrap_err();
    assert!(error.is::<std::num::ParseIntError>());
    let Outcome::Cancelled(cause) = &report.outcome else { panic!("{report}") };
    assert_eq!(cause.to_string(), format!("cancelled: {error}"));
}

#[test]
fn an_error_returned_to_run_is_the_outcome_even_if_all_threads_have_ended() {
    let (_, report) = Pipeline::run("late", |pipeline| {
        Stream::from_iter(pipeline, 0..3).count()?;
        while matches!(pipeline.report().outcome, Outcome::Running) {
            std::thread::yield_now();
        }
        Err::<(), BoxError>("disk full".into())
    });
    let Outcome::Cancelled(cause) = &report.outcome else { panic!("{report}") };
    assert_eq!(cause.to_string(), "cancelled: disk full");
}

#[test]
fn run_keeps_the_cut_that_came_before_an_error() {
    let (result, report) = Pipeline::run("cut", |pipeline| {
        Stream::from_iter(pipeline, 0u64..).spawn_for_each(drop);
        Stream::from_iter(pipeline, (0..).map(|n: u32| if n == 3 { panic!("three") } else { n })).collect::<Vec<_>>()
    });
    let error = result.unwrap_err();
    assert!(matches!(&report.outcome, Outcome::Cut(cut) if cut.ptr_eq(&error)), "{report}");
}

#[test]
fn run_keeps_the_cause_of_a_sink_that_fails() {
    let (sum, report) = Pipeline::run("failing", |pipeline| {
        Stream::from_iter(pipeline, ["1", "x"]).try_map(|n: &&str| n.parse::<u64>()).collect::<Vec<_>>()
    });
    let error = sum.unwrap_err();
    assert!(matches!(&report.outcome, Outcome::Cancelled(Cause::Failed(first)) if first.ptr_eq(&error)), "{report}");
}

#[test]
fn a_panic_in_run_cancels_joins_and_resumes() {
    let mut token = None;
    let stopped = Arc::new(AtomicU64::new(0));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        Pipeline::run("panics", |pipeline| -> () {
            token = Some(pipeline.token());
            let stopped = Arc::clone(&stopped);
            pipeline.spawn("waits", move |cancel: &CancelToken| {
                cancel.wait();
                stopped.fetch_add(1, Ordering::SeqCst);
            });
            std::panic::panic_any(String::from("no luck"));
        })
    }));
    assert_eq!(*panicked.unwrap_err().downcast::<String>().unwrap(), "no luck");
    assert_eq!(stopped.load(Ordering::SeqCst), 1);
    let cause = token.unwrap().cause().unwrap().to_string();
    assert_eq!(cause, "cancelled: the closure of `run` panicked: no luck");
}
