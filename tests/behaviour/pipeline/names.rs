//! One rule for names: `named` names what is built next.

use std::panic::{AssertUnwindSafe, catch_unwind};

use streamz::{BatchConfig, CancelToken, Inline, Mapper, Pipeline, Processor, ProcessorFn, StageKind, Stream};

use super::SECOND;
use crate::virtual_pipeline;

/// The names of the stages, in the order in which they were built.
fn names(pipeline: &Pipeline) -> Vec<String> {
    pipeline.report().stages.iter().map(|stage| stage.name.to_string()).collect()
}

fn numbers(pipeline: &Pipeline) -> Stream<u64> {
    Stream::from_iter(pipeline, 0..3)
}

type Source = fn(&CancelToken);

#[test]
fn every_source_has_the_name_of_its_token() {
    let sources: [(&str, Source); 8] = [
        ("from_iter", |t| drop(Stream::from_iter(t, 0..3))),
        ("lines", |t| drop(Stream::lines(t, &b"a"[..]))),
        ("byte_lines", |t| drop(Stream::byte_lines(t, &b"a"[..]))),
        ("interval", |t| drop(Stream::interval(t, SECOND))),
        ("channel", |t| drop(Stream::<u8>::channel(t, 1))),
        ("from_receiver", |t| drop(Stream::from_receiver(t, crossbeam_channel::never::<u8>()))),
        ("Inline::from_iter", |t| drop(Inline::from_iter(t, 0..3).named("sink").count())),
        ("Inline::lines", |t| drop(Inline::lines(t, &b"a"[..]).named("sink").count())),
    ];
    for (what, source) in sources {
        let pipeline = Pipeline::new("sources");
        source(&pipeline.named("orders"));
        source(&pipeline.named("orders"));
        let report = pipeline.report();
        let names = report.stages.iter().filter(|stage| stage.kind == StageKind::Source).map(|stage| &*stage.name);
        assert_eq!(names.collect::<Vec<_>>(), ["orders", "orders-2"], "{what}");
    }
}

#[test]
fn a_name_applies_to_one_stage_and_none_downstream() {
    let pipeline = Pipeline::new("once");
    let config = BatchConfig { max_size: 2, max_latency: SECOND };
    let token = pipeline.named("read");
    let stream = Stream::from_iter(&token, 0..9u64).map(|n| n).named("odd").filter(|n| n % 2 == 1);
    let stream = stream.async_map(1, |_: &CancelToken, n: &u64| streamz::ok(*n)).named("pack").batch(config);
    stream.named("load").try_for_each(|_| streamz::ok(())).unwrap();
    assert_eq!(names(&pipeline), ["read", "map", "odd", "async_map", "pack", "load"]);
}

#[test]
fn a_name_takes_precedence_over_the_one_of_the_processor() {
    let pipeline = Pipeline::new("precedence");
    let double = Mapper::new(|n: u64| 2 * n).with_name("double");
    let twice = double.then(Mapper::new(|n: u64| n).with_name("same"));
    let outer = ProcessorFn::new("outer", |_: &CancelToken, stream: Stream<u64>| stream.map(|n| n).filter(|_| true));
    let stream = numbers(&pipeline).named("first").through(&twice).named("third").through(&outer);
    let stream = stream.named("steps").stage("stage", |s| s.map(|n| n + 1).map(|n| n - 1));
    assert_eq!(stream.count().unwrap(), 3);
    assert_eq!(names(&pipeline), ["source", "first", "same", "third", "filter", "steps", "count"]);
}

#[test]
fn every_sink_has_the_name_of_its_stream() {
    let (_clock, pipeline) = virtual_pipeline();
    let named = |name: &'static str| numbers(&pipeline).named(name);
    named("for_each").for_each(drop).unwrap();
    named("try_for_each").try_for_each(|_| streamz::ok(())).unwrap();
    named("collect").collect::<Vec<_>>().unwrap();
    named("consume").consume(|items| items.max()).unwrap();
    named("first").first().unwrap();
    assert_eq!(named("iter").into_iter().count(), 3);
    named("receiver").into_receiver(4).iter().for_each(drop);
    named("spawned").spawn(|s| s.count()).join().unwrap();
    named("spawn_for_each").spawn_for_each(drop);
    let pairs = numbers(&pipeline).zip(named("second"));
    pairs.count().unwrap();
    pipeline.join();
    let sinks = names(&pipeline).into_iter().filter(|name| !name.starts_with("source"));
    assert_eq!(
        sinks.collect::<Vec<_>>(),
        [
            "for_each",
            "try_for_each",
            "collect",
            "consume",
            "first",
            "iter",
            "receiver",
            "spawned",
            "spawn_for_each",
            "second",
            "count"
        ]
    );
}

#[test]
fn steps_of_a_stage_and_of_a_piece_have_names() {
    let pipeline = Pipeline::new("steps");
    let steps = |name: &str| -> Vec<String> {
        let report = pipeline.report();
        report.stage(name).unwrap().steps.iter().map(|step| step.name.to_string()).collect()
    };
    let add = || Mapper::new(|n: u64| n + 1).with_name("add");
    let stage = numbers(&pipeline)
        .stage("clean", |s| s.named("odd").filter(|n| n % 2 == 1).map(|n| n).named("twice").with(add().fuse(add())));
    stage.named("piece").inline().named("half").map(|n| n / 2).named("sum").fold(0, |a, b| a + b).unwrap();
    assert_eq!(steps("clean"), ["odd", "map", "twice/add", "twice/add"]);
    assert_eq!(steps("piece"), ["half", "sum"]);
    numbers(&pipeline).inline().map(|n| n).named("whole").spawn("spawned").named("end").count().unwrap();
    assert_eq!(steps("whole"), ["whole"]);
}

#[test]
fn a_name_for_a_step_that_does_not_follow_is_refused() {
    let pipeline = Pipeline::new("refused");
    let stream = numbers(&pipeline);
    let refused = catch_unwind(AssertUnwindSafe(|| drop(stream.stage("clean", |s| s.map(|n| n).named("odd")))));
    let said = refused.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(*said, "no step follows `named(\"odd\")` in stage `clean`");
}

#[test]
fn tasks_on_a_named_token_have_its_name() {
    let pipeline = Pipeline::new("tasks");
    pipeline.named("heartbeat").every(SECOND, || {});
    pipeline.named("given").spawn("own", |cancel| drop(Stream::from_iter(cancel, 0..3)));
    pipeline.join();
    assert_eq!(names(&pipeline), ["heartbeat", "given", "source"]);
}
