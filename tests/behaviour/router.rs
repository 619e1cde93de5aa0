//! `Router` and `Switch`: where items go, what is counted, and what a route that ends does to the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use streamz::{
    AsyncMapper, BatchConfig, Batcher, BoxProcessor, CancelToken, ErrorKind, Filter, Mapper, Pipeline, Processor,
    ProcessorFn, Router, Stream, StreamError, Switch, Take,
};

use crate::virtual_pipeline_of;

fn same() -> Mapper<u32, u32, impl Fn(u32) -> u32> {
    Mapper::new(|n: u32| n)
}

fn thirds() -> Router<u32, u32> {
    Router::new().add_route("zero", |n| n % 3 == 0, same()).add_route("one", |n| n % 3 == 1, same())
}

#[test]
fn the_first_matching_route_gets_an_item_or_the_default() {
    let pipeline = Pipeline::new("router");
    let router = Router::new()
        .add_route("small", |n| *n < 10, same())
        .add_route("even", |n| n % 2 == 0, same())
        .with_default(same());
    let mut output = router.process_to_routes(&pipeline, Stream::from_iter(&pipeline, 0..20));
    let taken = ["small", "even", "default"].map(|name| output.take(name));
    let [small, even, default] = taken.map(|route| route.collect::<Vec<_>>().unwrap());
    assert!(small.into_iter().eq(0..10));
    assert_eq!(even, [10, 12, 14, 16, 18]);
    assert_eq!(default, [11, 13, 15, 17, 19]);
    pipeline.join();
    let stats = router.stats();
    assert_eq!(stats.names().collect::<Vec<_>>(), ["small", "even", "default"]);
    assert_eq!((stats.total_items(), stats.unmatched(), stats.items("even")), (20, 0, 5));
    assert_eq!((stats.match_rate("small"), stats.match_rate("default")), (0.5, 0.25));
}

#[test]
fn unmatched_items_are_counted() {
    let pipeline = Pipeline::new("router");
    let router = thirds();
    assert_eq!(router.stats().match_rate("zero"), 0.0);
    assert_eq!(Stream::from_iter(&pipeline, 0..30).through(&router).count().unwrap(), 20);
    let report = pipeline.join();
    assert_eq!((router.stats().unmatched(), router.stats().items("one")), (10, 10));
    assert_eq!(report.stage("router").unwrap().steps[0].dropped, [(streamz::DropReason::Unmatched, 10)]);
}

#[test]
#[should_panic(expected = "there is a route `zero` already")]
fn duplicate_route_names_are_refused() {
    let _ = thirds().add_route("zero", |_| true, same());
}

#[test]
#[should_panic(expected = "the route name `default` is kept for `with_default`")]
fn a_route_called_default_is_refused() {
    let _ = thirds().add_route("default", |_| true, same());
}

#[test]
#[should_panic(expected = "there is no route `two`; the routes are [\"zero\", \"one\"]")]
fn take_names_the_routes_that_there_are() {
    let pipeline = Pipeline::new("router");
    let _ = thirds().process_to_routes(&pipeline, Stream::from_iter(&pipeline, 0..3)).take("two");
}

#[test]
#[should_panic(expected = "`router` needs at least one route")]
fn a_router_without_routes_is_refused() {
    let pipeline = Pipeline::new("router");
    let _ = Stream::from_iter(&pipeline, 0..3).through(&Router::<i32, i32>::new());
}

#[derive(Debug)]
struct Counted(u32, Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.1.fetch_add(1, Ordering::Relaxed);
        Self(self.0, Arc::clone(&self.1))
    }
}

#[test]
fn all_matches_clones_only_as_often_as_needed() {
    let pipeline = Pipeline::new("router");
    let number = || Mapper::new(|item: Counted| item.0);
    let router = Router::new()
        .add_route("all", |_| true, number())
        .add_route("even", |item: &Counted| item.0.is_multiple_of(2), number())
        .add_route("fours", |item: &Counted| item.0.is_multiple_of(4), number())
        .with_default(number())
        .all_matches();
    let clones = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&clones);
    let items = Stream::from_iter(&pipeline, (0..100).map(move |n| Counted(n, Arc::clone(&counter))));
    assert_eq!(items.through(&router).count().unwrap(), 175);
    // One for each match beyond the first: 50 even ones and 25 fours.
    assert_eq!(clones.load(Ordering::Relaxed), 75);
    let stats = router.stats();
    assert_eq!(
        (stats.total_items(), stats.items("all"), stats.items("fours"), stats.items("default")),
        (100, 100, 25, 0)
    );
}

#[test]
fn routes_are_processors_of_any_kind_and_may_change_the_type() {
    let pipeline = Pipeline::new("router");
    let text = |kind: &'static str| Mapper::new(move |n: u32| format!("{kind} {n}"));
    let batches = Batcher::new(BatchConfig { max_size: 2, max_latency: Duration::MAX });
    let boxed: BoxProcessor<u32, String> = text("boxed").boxed();
    let router = Router::new()
        .add_route("plain", |n| n % 5 == 0, text("plain"))
        .add_route("boxed", |n| n % 5 == 1, boxed)
        .add_route("batch", |n| n % 5 == 2, batches.then(Mapper::new(|batch: Vec<u32>| format!("batch {batch:?}"))))
        .add_route(
            "pool",
            |n| n % 5 == 3,
            AsyncMapper::new(|_: &CancelToken, n: &u32| streamz::ok(format!("pool {n}"))).with_workers(2),
        )
        .with_default(ProcessorFn::new("rest", |_: &CancelToken, rest: Stream<u32>| {
            rest.stage("one", |s| s.filter(|n| *n > 4).map(|n| format!("rest {n}")))
        }));
    let mut seen = Stream::from_iter(&pipeline, 0..10).through(&router).collect::<Vec<_>>().unwrap();
    seen.sort();
    let expected = ["batch [2, 7]", "boxed 1", "boxed 6", "plain 0", "plain 5", "pool 3", "pool 8", "rest 9"];
    assert_eq!(seen, expected);
    assert!(pipeline.join().is_complete());
}

#[test]
fn errors_go_once_to_the_default_or_the_first_route() {
    for (router, route) in [(thirds().with_default(same()), "default"), (thirds(), "zero")] {
        let pipeline = Pipeline::new("router");
        let (sender, input) = Stream::channel(&pipeline, 8);
        let output = router.process_to_routes(&pipeline, input);
        let error = StreamError::new(ErrorKind::Failed, "origin");
        sender.send_error(error.clone()).unwrap();
        sender.finish();
        for (name, stream) in output {
            let seen: Vec<_> = stream.into_iter().collect();
            assert_eq!(seen.len(), usize::from(*name == *route), "route {name}");
            assert!(seen.iter().all(|seen| seen.as_ref().unwrap_err().ptr_eq(&error)));
        }
    }
}

#[test]
fn a_panicking_predicate_fails_its_item() {
    for all in [false, true] {
        let pipeline = Pipeline::new("router");
        let router = Router::new().add_route("any", |_| true, same()).add_route(
            "fragile",
            |n| if *n == 5 { panic!("five") } else { false },
            same(),
        );
        // First match never gets to the second route, so it is put first there.
        let router = if all {
            router.all_matches()
        } else {
            Router::new().add_route("fragile", |n| if *n == 5 { panic!("five") } else { false }, same()).add_route(
                "any",
                |_| true,
                same(),
            )
        };
        let (mut items, mut errors) = (Vec::new(), Vec::new());
        for seen in Stream::from_iter(&pipeline, 0..10).through(&router) {
            match seen {
                Ok(item) => items.push(item),
                Err(error) => errors.push(error),
            }
        }
        items.sort_unstable();
        assert_eq!(items, [0, 1, 2, 3, 4, 6, 7, 8, 9]);
        let [error] = &errors[..] else { panic!("{errors:?}") };
        assert_eq!((error.kind(), error.stage(), error.take_item::<u32>()), (ErrorKind::Panicked, "router", Some(5)));
        assert_eq!(router.stats().failed(), 1);
    }
}

#[test]
fn a_route_that_ends_early_blocks_no_other() {
    let (clock, pipeline) = virtual_pipeline_of(4);
    let router = Router::new().add_route("few", |n| n % 2 == 0, Take::new(3)).with_default(same());
    let (sender, input) = Stream::channel(&pipeline, 4);
    let merged = input.through(&router);
    let (done, seen) = std::sync::mpsc::channel();
    merged.spawn_for_each(move |item| done.send(item.unwrap()).unwrap());
    for n in 0..1_000 {
        sender.send(n).unwrap();
    }
    sender.finish();
    clock.settle();
    let report = pipeline.join();
    let mut seen: Vec<u32> = seen.into_iter().collect();
    seen.sort_unstable();
    let mut expected: Vec<u32> = (0..1_000).filter(|n| n % 2 == 1).chain([0, 2, 4]).collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    let few = report.stage("take").unwrap();
    assert_eq!(router.stats().items("few"), 500);
    assert_eq!(router.stats().undeliverable("few") + few.received(), 500);
    assert!(report.is_complete());
}

#[test]
fn a_route_that_always_panics_blocks_no_other() {
    let pipeline = Pipeline::new("router");
    let router = Router::new()
        .add_route("bad", |n| n % 2 == 0, Mapper::new(|n: u32| if n < u32::MAX { panic!("bad {n}") } else { n }))
        .with_default(same());
    let tally = Stream::from_iter(&pipeline, 0..100).through(&router).for_each(drop).unwrap();
    assert_eq!((tally.items, tally.errors), (50, 50));
}

#[test]
fn a_part_of_the_routes_that_is_cut_makes_the_merged_output_cut() {
    let (clock, pipeline) = virtual_pipeline_of(16);
    let child = pipeline.child();
    let token = child.clone();
    let cut = ProcessorFn::new("cut", move |cancel: &CancelToken, stream: Stream<u32>| {
        stream.with_token(&token).map(|n| n).with_token(cancel)
    });
    let router = Router::new().add_route("cut", |n| n % 2 == 0, cut).with_default(same());
    let (sender, input) = Stream::channel(&pipeline, 16);
    let merged = input.through(&router);
    clock.settle();
    child.cancel();
    clock.settle();
    (0..10).for_each(|n| sender.send(n).unwrap());
    sender.finish();
    clock.settle();
    let mut seen: Vec<_> = merged.into_iter().collect();
    assert!(seen.pop().unwrap().unwrap_err().is_cancelled());
    assert!(seen.into_iter().map(Result::unwrap).eq([1, 3, 5, 7, 9]));
    assert_eq!(router.stats().undeliverable("cut"), 5);
}

#[test]
fn statistics_name_the_unread_route_while_it_blocks() {
    let (clock, pipeline) = virtual_pipeline_of(2);
    let router = thirds().with_default(same());
    let mut output = router.process_to_routes(&pipeline, Stream::from_iter(&pipeline, 0..));
    let unread = output.take("one");
    for (_, route) in output {
        route.spawn_for_each(drop);
    }
    clock.settle();
    clock.advance(Duration::from_secs(3));
    let stats = router.stats();
    assert_eq!((stats.blocking(), stats.blocked("one")), (vec!["one"], Duration::from_secs(3)));
    assert!(stats.blocked("zero").is_zero());
    pipeline.abort();
    drop(unread);
}

#[test]
fn items_cancelled_half_way_are_counted_on_every_route() {
    let (clock, pipeline) = virtual_pipeline_of(1);
    let router = Router::new().add_route("a", |_| true, same()).add_route("b", |_| true, same()).all_matches();
    let output = router.process_to_routes(&pipeline, Stream::from_iter(&pipeline, 0..));
    clock.settle();
    let stats = output.stats.clone();
    assert_eq!(stats.items("a"), stats.items("b"));
    drop(output);
    let report = pipeline.abort();
    let stage = report.stage("router").unwrap();
    assert!(stage.steps[0].balances());
    let (emitted, undelivered): (u64, u64) = (stage.emitted(), stage.outputs.iter().map(|o| o.undelivered).sum());
    let received: u64 = ["map", "map-2"].iter().map(|name| report.stage(name).unwrap().received()).sum();
    assert_eq!(emitted, undelivered + received);
}

#[test]
fn a_switch_may_be_used_again_and_has_no_key_that_is_lost() {
    let switch = Switch::new()
        .case("even", |n| n % 2 == 0, Filter::new(|n: &u32| *n > 2))
        .case("large", |n| *n > 100, same())
        .with_default(same());
    for run in 1..4u64 {
        let pipeline = Pipeline::new("switch");
        let mut seen = Stream::from_iter(&pipeline, [1, 2, 4, 101]).through(&switch).collect::<Vec<_>>().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [1, 4, 101]);
        assert!(pipeline.join().is_complete());
        let stats = switch.stats();
        assert_eq!((stats.total_items(), stats.items("even"), stats.items("large")), (4 * run, 2 * run, run));
    }
    assert_eq!((switch.stats().match_rate("even"), switch.stats().match_rate("default")), (0.5, 0.25));
}

#[test]
fn each_item_is_counted_on_its_route_however_routes_end() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let pipeline = Pipeline::builder("router").capacity([0, 1, 2, 7, 256][random.usize(..5)]).build();
        let (routes, all_matches) = (random.usize(1..6), random.bool());
        let names: Vec<String> = (0..routes).map(|route| format!("route-{route}")).collect();
        let mut router = Router::new().with_buffer_size([0, 1, 3, 64][random.usize(..4)]);
        for name in &names {
            let divisor = random.u32(1..4);
            let matches = move |n: &u32| {
                assert!(*n != 77 || divisor != 2, "77");
                n.is_multiple_of(divisor)
            };
            router = match random.u8(..3) {
                0 => router.add_route(name.as_str(), matches, Take::new(random.usize(..50)).with_name(name.clone())),
                _ => router.add_route(name.as_str(), matches, same().with_name(name.clone())),
            };
        }
        if all_matches {
            router = router.all_matches();
        }
        let output = router.process_to_routes(&pipeline, Stream::from_iter(&pipeline, 0..random.u32(..2_000)));
        for (_, stream) in output {
            match random.u8(..4) {
                0 => drop(stream),
                1 => stream.through(&Take::new(random.usize(..300))).spawn_for_each(drop),
                _ => stream.spawn_for_each(drop),
            }
        }
        if random.u8(..4) == 0 {
            pipeline.cancel();
        }
        let report = pipeline.join();
        let (stats, step) = (router.stats(), &report.stage("router").unwrap().steps[0]);
        assert!(step.balances() && report.faults.is_empty(), "seed {seed}: {report}");
        for name in &names {
            let received = report.stage(name).unwrap().received();
            assert_eq!(stats.items(name), received + stats.undeliverable(name), "seed {seed}, {name}: {report}");
        }
        if !all_matches {
            let sent: u64 = names.iter().map(|name| stats.items(name)).sum();
            assert_eq!(stats.total_items(), sent + stats.unmatched() + stats.failed(), "seed {seed}: {report}");
        }
        assert_eq!(stats.blocking(), [""; 0]);
    }
}
