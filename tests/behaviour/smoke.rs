//! The thinnest slice: items through a pipeline, errors in order, a cut that shows.

use std::time::Duration;

use streamz::{ErrorKind, ManualClock, Pipeline, Stream};

#[test]
fn items_go_through_in_order() {
    let pipeline = Pipeline::new("smoke");
    let doubled: Vec<u64> = Stream::from_iter(&pipeline, 0..10_000).map(|n| n * 2).collect().unwrap();
    assert_eq!(doubled, (0..10_000).map(|n| n * 2).collect::<Vec<_>>());
    let report = pipeline.join();
    assert!(report.is_complete());
    assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{report}");
}

#[test]
fn a_panic_fails_its_item_alone() {
    let pipeline = Pipeline::new("smoke");
    let results: Vec<_> = Stream::from_iter(&pipeline, 0..3)
        .stage("check", |s| {
            s.map(|n| n + 1).try_map(|n: &i32| if *n == 2 { panic!("two") } else { streamz::ok(*n) }).map(|n| n * 10)
        })
        .into_iter()
        .collect();
    assert_eq!(results.iter().filter_map(|r| r.as_ref().ok()).collect::<Vec<_>>(), [&10, &30]);
    let error = results[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.stage(), error.step()), (ErrorKind::Panicked, "check", Some("map")));
    assert_eq!(error.take_item::<i32>(), Some(2));
}

#[test]
fn a_cut_stream_says_so() {
    let pipeline = Pipeline::new("smoke");
    let mut endless = Stream::from_iter(&pipeline, 0..).map(|n: u64| n);
    assert_eq!(endless.recv().unwrap().unwrap(), 0);
    pipeline.cancel_because("enough");
    let last = endless.recv().unwrap().unwrap_err();
    assert!(last.is_cancelled());
    assert_eq!(std::error::Error::source(&last).unwrap().to_string(), "cancelled: enough");
    assert!(endless.recv().is_none());
    pipeline.join();
}

#[test]
fn virtual_time_passes_only_when_told() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("smoke").clock(&clock).build();
    let mut ticks = Stream::interval(&pipeline, Duration::from_secs(1)).map(|tick| tick);
    clock.advance(Duration::from_millis(2_500));
    assert_eq!(ticks.recv().unwrap().unwrap(), 1);
    assert_eq!(ticks.recv().unwrap().unwrap(), 2);
    assert!(ticks.try_recv().is_err());
    assert_eq!(ticks.recv_timeout(Duration::from_millis(500)).unwrap().unwrap(), 3);
    pipeline.abort();
}
