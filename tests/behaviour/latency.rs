//! The times of items and calls in the report, and the ages of items.

use std::time::Duration;

use streamz::{
    AsyncMapper, CancelToken, Latencies, Latency, ManualClock, Mapper, ParMapper, Pipeline, Processor, Report, Retry,
    Stream,
};

use crate::ms;

/// Sleeps as many milliseconds as the item says.
fn nap(cancel: &CancelToken, item: &u64) -> Result<u64, streamz::Cancelled> {
    cancel.sleep(ms(*item))?;
    Ok(*item)
}

fn recorded(stages: Latencies) -> (ManualClock, Pipeline) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).latencies(stages).build();
    (clock, pipeline)
}

#[track_caller]
fn latency<'a>(report: &'a Report, stage: &str) -> &'a Latency {
    report.stage(stage).expect("such a stage").latency.as_ref().expect("it is recorded")
}

/// How many, the mean, the percentiles, and the maximum.
fn numbers(latency: &Latency) -> (u64, [Duration; 5]) {
    (latency.count, [latency.mean, latency.p50, latency.p90, latency.p99, latency.max])
}

#[track_caller]
fn assert_close(actual: Duration, expected: Duration) {
    let difference = actual.abs_diff(expected);
    assert!(difference * 100 <= expected, "{actual:?} is not within 1 % of {expected:?}");
}

#[test]
fn every_call_of_a_pool_is_measured() {
    let (clock, pipeline) = recorded(Latencies::all());
    let pool = AsyncMapper::new(nap).with_workers(4);
    Stream::from_iter(&pipeline, vec![10; 50]).through(&pool).spawn_for_each(drop);
    clock.advance(ms(1_000));
    assert_eq!(numbers(latency(&pipeline.join(), "async_map")), (50, [ms(10); 5]));
}

#[test]
fn percentiles_are_exact_to_one_percent_and_the_rest_is_exact() {
    let (clock, pipeline) = recorded(Latencies::all());
    let pool = AsyncMapper::new(nap).with_workers(3).with_ordered(false);
    Stream::from_iter(&pipeline, 1..=1_000).through(&pool).spawn_for_each(drop);
    clock.advance(Duration::from_secs(1_000));
    let report = pipeline.join();
    let latency = latency(&report, "async_map");
    assert_eq!((latency.count, latency.mean, latency.max), (1_000, Duration::from_micros(500_500), ms(1_000)));
    for (actual, expected) in
        [(latency.p50, 500), (latency.p90, 900), (latency.p99, 990), (latency.quantile(0.25), 250)]
    {
        assert_close(actual, ms(expected));
    }
    assert_eq!([latency.quantile(1.0), latency.quantile(7.0)], [ms(1_000); 2]);
    assert_eq!(latency.quantile(-1.0), latency.quantile(0.0));
}

#[test]
fn the_retries_of_a_call_and_their_pauses_are_part_of_its_time() {
    let (clock, pipeline) = recorded(Latencies::all());
    let call = AsyncMapper::new(|cancel: &CancelToken, item: &u64| {
        nap(cancel, item)?;
        Err::<u64, streamz::BoxError>("refused".into())
    });
    let retry = Retry::new(call).max_attempts(3).base_delay(ms(100)).with_jitter(false);
    Stream::from_iter(&pipeline, [10]).through(&retry).spawn_for_each(drop);
    clock.advance(ms(1_000));
    assert_eq!(numbers(latency(&pipeline.join(), "async_map")), (1, [ms(330); 5]));
}

/// Each of them has a loop of its own.
#[test]
fn the_items_of_every_kind_of_stage_are_measured() {
    let (clock, pipeline) = recorded(Latencies::all());
    let napping = |millis| {
        let token = pipeline.token();
        move |item: u64| {
            token.sleep(ms(millis)).unwrap();
            item
        }
    };
    let (fast, slow) = (napping(1), napping(2));
    let (even, fail) = (napping(3), napping(4));
    let (several, end) = (napping(5), napping(6));
    let source = napping(7);
    let fused = Mapper::new(fast).fuse(Mapper::new(slow)).with_name("fused");
    let split = Stream::from_iter(&pipeline, (0..20).map(source))
        .through(&fused)
        .flat_map(move |item| [several(item); 2])
        .split(move |item: &u64| even(*item) < 5);
    let fail = move |item: &u64| Err::<u64, _>(format!("{} is refused", fail(*item)));
    split.1.try_map(fail).spawn_for_each(drop);
    split.0.named("sink").spawn_for_each(move |item| _ = item.map(&end));
    clock.advance(Duration::from_secs(10));

    let report = pipeline.join();
    let actual = report.stages.iter().map(|stage| (&*stage.name, stage.latency.as_ref().map(numbers)));
    let expected = [
        ("source", Some((20, [ms(7); 5]))),
        ("fused", Some((20, [ms(3); 5]))),
        ("flat_map", Some((20, [ms(5); 5]))),
        ("split", Some((40, [ms(3); 5]))),
        // All of its calls fail.
        ("map", Some((30, [ms(4); 5]))),
        ("for_each", None),
        ("sink", Some((10, [ms(6); 5]))),
    ];
    assert_eq!(actual.collect::<Vec<_>>(), expected, "{report}");
}

#[test]
fn waits_for_input_and_for_room_are_no_part_of_an_items_time() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).capacity(1).latencies(Latencies::all()).build();
    let (slow_source, slow_sink) = (pipeline.token(), pipeline.token());
    let first = (0..5).inspect(move |_| slow_source.sleep(ms(20)).unwrap());
    Stream::from_iter(&pipeline, first).map(|item| item).spawn_for_each(move |_| slow_sink.sleep(ms(50)).unwrap());
    clock.advance(Duration::from_secs(1));
    let report = pipeline.join();
    assert_eq!(numbers(latency(&report, "source")), (5, [ms(20); 5]));
    assert_eq!(numbers(latency(&report, "map")), (5, [Duration::ZERO; 5]));
    assert_eq!(numbers(latency(&report, "for_each")), (5, [ms(50); 5]));
    let map = report.stage("map").unwrap();
    assert!(map.idle > Duration::ZERO && map.blocked > Duration::ZERO, "{report}");
}

#[test]
fn only_the_stages_that_were_asked_for_are_measured() {
    let names = |stages: Latencies| {
        let (clock, pipeline) = recorded(stages);
        let twice = || AsyncMapper::new(nap).with_name("nap");
        Stream::from_iter(&pipeline, [1]).through(&twice()).through(&twice()).map(|n| n).spawn_for_each(drop);
        clock.advance(ms(10));
        let report = pipeline.join();
        let measured = report.stages.iter().filter(|stage| stage.latency.is_some());
        measured.map(|stage| stage.name.to_string()).collect::<Vec<_>>()
    };
    assert!(names(Latencies::none()).is_empty());
    assert!(names(Latencies::default()).is_empty());
    assert!(names(Latencies::of(["no such stage"])).is_empty());
    assert_eq!(names(Latencies::of(["nap"])), ["nap", "nap-2"]);
    assert_eq!(names(Latencies::of(["nap-2", "map"])), ["nap-2", "map"]);
    assert_eq!(names(Latencies::all()), ["source", "nap", "nap-2", "map", "for_each"]);
}

#[test]
fn a_stage_that_has_done_nothing_yet_has_no_latency() {
    let (_clock, pipeline) = recorded(Latencies::all());
    let (sender, stream) = Stream::channel(&pipeline, 1);
    stream.map(|item: u64| item).spawn_for_each(drop);
    assert!(pipeline.report().stages.iter().all(|stage| stage.latency.is_none()));
    drop(sender);
    pipeline.join();
}

#[test]
fn a_rayon_pool_measures_its_closure() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).latencies(Latencies::all()).build();
    let count = Stream::from_iter(&pipeline, 0..100_u64).through(&ParMapper::new(|n| n * 2)).count().unwrap();
    assert_eq!(numbers(latency(&pipeline.join(), "par_map")), (count, [Duration::ZERO; 5]));
}

#[test]
fn what_was_added_between_two_reports() {
    let (clock, pipeline) = recorded(Latencies::all());
    let (sender, stream) = Stream::channel(&pipeline, 16);
    stream.through(&AsyncMapper::new(nap)).spawn_for_each(drop);
    let send = |naps: &[u64]| {
        naps.iter().for_each(|nap| sender.send(*nap).unwrap());
        clock.advance(Duration::from_secs(1));
        latency(&pipeline.report(), "async_map").clone()
    };
    let first = send(&[10, 20, 70]);
    let same = send(&[]);
    let second = send(&[30, 30, 30]);
    let third = send(&[90]);
    assert!(same.since(&first).is_none());
    assert!(first.since(&second).is_none(), "they are in the wrong order");
    let added = second.since(&first).unwrap();
    assert_eq!((added.count, added.mean), (3, ms(30)));
    assert_close(added.p50, ms(30));
    assert_close(added.max, ms(30));
    assert_eq!(numbers(&third.since(&second).unwrap()), (1, [ms(90); 5]));
    pipeline.abort();
}

#[test]
fn the_report_of_an_interval_has_its_latencies() {
    let (clock, pipeline) = recorded(Latencies::all());
    let (sender, stream) = Stream::channel(&pipeline, 16);
    stream.through(&AsyncMapper::new(nap)).spawn_for_each(drop);
    let send = |nap| {
        sender.send(nap).unwrap();
        clock.advance(Duration::from_secs(1));
        pipeline.report()
    };
    let (first, second) = (send(10), send(40));
    assert_eq!(numbers(latency(&second.since(&first), "async_map")), (1, [ms(40); 5]));
    assert!(second.since(&second).stage("async_map").unwrap().latency.is_none());
    assert!(first.since(&second).stage("async_map").unwrap().latency.is_none());
    pipeline.abort();
}

#[test]
fn a_latency_is_printed_in_one_line() {
    let (clock, pipeline) = recorded(Latencies::all());
    Stream::from_iter(&pipeline, [10, 10]).through(&AsyncMapper::new(nap)).spawn_for_each(drop);
    clock.advance(ms(100));
    let report = pipeline.join();
    assert_eq!(latency(&report, "async_map").to_string(), "p50 10.0ms, p90 10.0ms, p99 10.0ms, max 10.0ms");
}
