//! The times of items and calls in the report, and the ages of items.

use std::time::Duration;

use streamz::{
    AgeMeter, AsyncMapper, CancelToken, ErrorKind, Inline, Latencies, Latency, ManualClock, Mapper, ParMapper,
    Pipeline, Processor, Report, Retry, Stream,
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
fn the_printed_report_shows_recorded_latencies() {
    let (clock, pipeline) = recorded(Latencies::of(["async_map"]));
    Stream::from_iter(&pipeline, vec![10; 50]).through(&AsyncMapper::new(nap)).spawn_for_each(drop);
    clock.advance(ms(1_000));
    let report = pipeline.join();
    let (normal, wide) = (report.to_string(), format!("{report:#}"));
    assert!(normal.contains("\n      item: p50 10.0ms, p90 10.0ms, p99 10.0ms, max 10.0ms\n"), "{normal}");
    assert!(wide.contains("\n      item: p50 10.000ms, p90 10.000ms, p99 10.000ms, max 10.000ms\n"), "{wide}");
    assert!(normal.contains("\n      age: p50 ") == report.stage("async_map").unwrap().age.is_some());
    assert_eq!(normal.matches("item: ").count(), 1);
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
fn waits_for_input_and_room_are_not_part_of_an_items_time() {
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

/// The ages in a stage: how many, their mean, and the greatest.
type Ages<'a> = (&'a str, Option<(u64, Duration, Duration)>);

fn ages(report: &Report) -> Vec<Ages<'_>> {
    let range = |age: &Latency| (age.count, age.mean, age.max);
    report.stages.iter().map(|stage| (&*stage.name, stage.age.as_ref().map(range))).collect()
}

/// A source of that many items, with 100 ms before each.
fn tenth_seconds(pipeline: &Pipeline, items: u64) -> Stream<u64> {
    let token = pipeline.token();
    Stream::from_iter(pipeline, (0..items).inspect(move |_| token.sleep(ms(100)).unwrap()))
}

fn always(
    millis: u64,
) -> AsyncMapper<u64, u64, streamz::Cancelled, impl Fn(&CancelToken, &u64) -> Result<u64, streamz::Cancelled>> {
    AsyncMapper::new(move |cancel: &CancelToken, item: &u64| cancel.sleep(ms(millis)).map(|()| *item))
}

#[test]
fn the_age_of_items_grows_from_stage_to_stage() {
    let (clock, pipeline) = recorded(Latencies::all());
    let (map, end) = (pipeline.token(), pipeline.token());
    let mapped = tenth_seconds(&pipeline, 9).map(move |item| {
        map.sleep(ms(10)).unwrap();
        item
    });
    let called = mapped.through(&always(20).with_workers(2)).through(&ParMapper::new(|item| item));
    called.spawn_for_each(move |_| end.sleep(ms(5)).unwrap());
    clock.advance(Duration::from_secs(1));
    let exactly = |millis| Some((9, ms(millis), ms(millis)));
    let expected = [
        ("source", None),
        ("map", exactly(10)),
        ("async_map", exactly(30)),
        ("par_map", exactly(30)),
        ("for_each", exactly(35)),
    ];
    assert_eq!(ages(&pipeline.join()), expected);
}

#[test]
fn waits_in_streams_and_in_batches_are_part_of_an_age() {
    let (clock, pipeline) = recorded(Latencies::all());
    let batches = Stream::from_iter(&pipeline, 0..6).through(&always(10).with_workers(1)).chunk(3);
    batches.spawn_for_each(drop);
    clock.advance(Duration::from_secs(1));
    let report = pipeline.join();
    // They are all made at once, and called one after the other.
    assert_eq!(numbers(report.stage("async_map").unwrap().age.as_ref().unwrap()).1[0], ms(35));
    assert_eq!(report.stage("async_map").unwrap().age.as_ref().unwrap().max, ms(60));
    let batches = report.stage("chunk").unwrap().age.as_ref().unwrap();
    assert_eq!((batches.count, batches.mean, batches.max), (6, ms(45), ms(60)));
}

#[test]
fn in_an_unordered_pool_the_age_is_that_of_the_slowest_item() {
    let (clock, pipeline) = recorded(Latencies::all());
    let pool = AsyncMapper::new(nap).with_workers(2).with_ordered(false);
    Stream::from_iter(&pipeline, [50, 10]).through(&pool).spawn_for_each(drop);
    clock.advance(Duration::from_secs(1));
    let report = pipeline.join();
    assert_eq!(numbers(report.stage("async_map").unwrap().age.as_ref().unwrap()), (2, [ms(50); 5]));
}

/// Stamps, which measure the ages, hold up no worker.
#[test]
fn the_workers_of_par_fold_are_measured() {
    let (clock, pipeline) = recorded(Latencies::all());
    let work = {
        let token = pipeline.token().clone();
        move |count, item: u64| {
            token.sleep(ms(item)).unwrap();
            count + 1
        }
    };
    let items = Stream::from_iter(&pipeline, vec![10; 50]);
    let folding = pipeline.spawn("fold", move |_| items.par_fold(5, || 0, work, |a, b| a + b));
    clock.advance(ms(100));
    assert_eq!(folding.join().unwrap(), 50);
    let report = pipeline.join();
    assert_eq!(numbers(latency(&report, "par_fold")), (50, [ms(10); 5]));
    let age = report.stage("par_fold").unwrap().age.as_ref().unwrap();
    assert_eq!((age.count, age.max), (50, ms(100)));
}

/// As for other sinks, there is time to measure an item that has been waited for. Without a buffer, each one is.
#[test]
fn par_fold_measures_each_item_that_it_waits_for() {
    let pipeline = Pipeline::builder("test").latencies(Latencies::all()).build();
    let (sender, items) = Stream::channel(&pipeline, 0);
    let folding = pipeline.spawn("fold", move |_| items.par_fold(1, || 0, |count, _| count + 1, |a, b| a + b));
    (0..20).for_each(|item| sender.send(item).unwrap());
    drop(sender);
    assert_eq!(folding.join().unwrap(), 20);
    assert_eq!(latency(&pipeline.join(), "par_fold").count, 20);
}

#[test]
fn each_branch_and_each_kind_of_source_has_ages() {
    let (clock, pipeline) = recorded(Latencies::of(["sink"]));
    let named = |stream: Stream<u64>| {
        let end = stream.token().clone();
        stream.through(&always(10)).named("sink").spawn_for_each(move |_| end.sleep(ms(5)).unwrap());
    };
    let (sender, sent) = Stream::channel(&pipeline, 16);
    named(sent);
    named(Stream::interval(&pipeline, ms(100)));
    let token = pipeline.token();
    let items = (0..3).inspect(move |_| token.sleep(ms(100)).unwrap());
    named(Inline::from_iter(&pipeline, items).with(Mapper::new(|item| item)).spawn("inline"));
    let (even, odd) = tenth_seconds(&pipeline, 3).split(|item| item % 2 == 0);
    named(even);
    named(odd);
    let received = tenth_seconds(&pipeline, 3).named("sink").into_receiver(16);
    for item in 0..3 {
        sender.send(item).unwrap();
        clock.advance(ms(100));
    }
    clock.advance(ms(50));
    pipeline.drain();
    drop((sender, received));
    let report = pipeline.join();
    let ages: Vec<_> = ages(&report).into_iter().filter(|(_, age)| age.is_some()).collect();
    let exactly = |millis| Some((3, ms(millis), ms(millis)));
    // A branch has the stamps of the items of the others, too: those that are not followed by one of its own wait for nothing.
    let expected = ["sink", "sink-2", "sink-3"].map(|name| (name, exactly(15)));
    assert_eq!(ages[..3], expected, "{report}");
    assert_eq!(ages[3..5].iter().map(|(_, age)| age.unwrap().2).collect::<Vec<_>>(), [ms(15); 2]);
    assert_eq!(ages[5..], [("sink-6", exactly(0))]);
}

#[test]
fn the_age_of_a_received_item_begins_at_its_channel() {
    let (clock, pipeline) = recorded(Latencies::all());
    let channel = || crossbeam_channel::bounded(16);
    let [(one, first), (other, second), (third, last)] = [channel(), channel(), channel()];
    Stream::from_receiver(&pipeline, first).through(&always(10).with_workers(1)).spawn_for_each(drop);
    let mapped = Stream::from_receiver(&pipeline, second).map(|item| item);
    mapped.through(&always(10).with_workers(1)).spawn_for_each(drop);
    let mut read = Stream::from_receiver(&pipeline, last);
    for sender in [&one, &other, &third] {
        (0..3).for_each(|item| sender.send(item).unwrap());
    }
    assert!((0..3).all(|item| read.recv().unwrap().unwrap() == item));
    clock.advance(Duration::from_secs(1));
    // The senders are alive: no stamp waits for the item after its own.
    let report = pipeline.report();
    let age = |name: &str| report.stage(name).unwrap().age.as_ref().map(|age| (age.count, age.mean, age.max));
    assert_eq!(age("async_map"), Some((3, ms(10), ms(10))), "the time in the channel does not count");
    assert_eq!((age("map"), age("async_map-2")), (Some((3, ms(0), ms(0))), Some((3, ms(20), ms(30)))));
    pipeline.abort();
}

#[test]
fn ages_are_recorded_only_where_they_were_asked_for() {
    let (clock, pipeline) = recorded(Latencies::none());
    tenth_seconds(&pipeline, 3).through(&always(10)).spawn_for_each(drop);
    clock.advance(Duration::from_secs(1));
    assert!(ages(&pipeline.join()).iter().all(|(_, age)| age.is_none()));
}

#[test]
fn an_age_may_be_that_by_a_time_that_the_items_carry() {
    let clock = ManualClock::new();
    // It does not need to be asked for elsewhere.
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let start = pipeline.clock().wall();
    clock.advance(ms(500));
    let age = move |item: &u64| start + ms(*item);
    let measured = Stream::from_iter(&pipeline, [0, 100, 500, 9_000]).measure_age(age);
    measured.stage("again", move |steps| steps.map(|item| item).measure_age(age)).spawn_for_each(drop);
    let report = pipeline.join();
    // The last one is from the future.
    let expected = Some((4, Duration::from_micros(225_000), ms(500)));
    assert_eq!(ages(&report), [("source", None), ("age", expected), ("again", expected), ("for_each", None)]);
    assert!(report.stages.iter().all(|stage| stage.latency.is_none()));
}

#[test]
fn an_age_that_panics_fails_its_item() {
    let (_clock, pipeline) = recorded(Latencies::all());
    let start = pipeline.clock().wall();
    let ages = Stream::from_iter(&pipeline, 0..3_u64).through(&AgeMeter::new(move |item: &u64| {
        assert_ne!(*item, 1);
        start
    }));
    let results: Vec<_> = ages.into_iter().map(|item| item.map_err(|error| error.kind())).collect();
    assert_eq!(results, [Ok(0), Err(ErrorKind::Panicked), Ok(2)]);
    assert_eq!(pipeline.join().stage("age").unwrap().age.as_ref().unwrap().count, 2);
}

#[test]
fn stamps_are_not_counted_as_items_or_errors() {
    let (clock, pipeline) = recorded(Latencies::all());
    let (input, stream) = Stream::channel(&pipeline, 2);
    let mut stream = stream.map(|item: u64| item);
    for item in 0..2 {
        input.try_send(item).unwrap();
    }
    clock.settle();
    assert_eq!((stream.try_recv().unwrap().unwrap(), stream.try_recv().unwrap().unwrap()), (0, 1));
    assert!(stream.try_recv().is_err());
    drop(input);
    assert_eq!(stream.count().unwrap(), 0);
    let report = pipeline.join();
    let map = &report.stage("map").unwrap().steps[0];
    assert_eq!((map.received, map.emitted, map.errors_in, map.errors_out), (2, 2, 0, 0));
}

#[test]
fn the_latency_between_two_reports() {
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
