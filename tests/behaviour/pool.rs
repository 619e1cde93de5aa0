//! Pools: what `AsyncMapper` and `ParMapper` promise beyond what every operator does.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use streamz::{
    AsyncMapper, CancelToken, Cause, ErrorKind, Outcome, ParMapper, Pipeline, Processor, Retry, Stream, StreamError,
};

use crate::{ms, virtual_pipeline};

/// Sleeps as many milliseconds as the item says.
fn nap(cancel: &CancelToken, item: &u64) -> Result<u64, streamz::Cancelled> {
    cancel.sleep(ms(*item))?;
    Ok(*item)
}

#[test]
fn a_pool_has_its_default_name_or_the_given_one() {
    let double = || AsyncMapper::new(|_: &CancelToken, n: &u64| streamz::ok(2 * n));
    let pair = |n: u64, doubled: Result<u64, _>| doubled.map(|doubled| (n, doubled)).map_err(|error| (n, error));
    let (one, many) = (double(), ParMapper::new(|n: u64| n));
    assert_eq!((one.name(), many.name()), ("async_map", "par_map"));
    assert_eq!(one.combine(pair).name(), "async_map");
    let (one, many) = (double().with_name("double"), many.with_name("many"));
    assert_eq!((one.name(), many.name()), ("double", "many"));
    assert_eq!(one.combine(pair).name(), "double");
}

#[test]
fn an_error_before_the_timeout_is_not_a_timeout() {
    let (_clock, pipeline) = virtual_pipeline();
    let mapper = AsyncMapper::new(|_: &CancelToken, _: &u64| Err::<u64, _>("refused")).with_timeout(ms(10));
    let result = Stream::from_iter(&pipeline, [1]).through(&mapper).recv().unwrap();
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Failed);
}

#[test]
fn results_keep_the_order_of_the_input_whatever_finishes_first() {
    let (clock, pipeline) = virtual_pipeline();
    let mut results = Stream::from_iter(&pipeline, [30, 10, 20]).through(&AsyncMapper::new(nap).with_workers(3));
    clock.advance(ms(29));
    assert!(results.try_recv().is_err());
    clock.advance(ms(1));
    let all: Vec<u64> = std::iter::from_fn(|| results.try_recv().ok()).map(Result::unwrap).collect();
    assert_eq!(all, [30, 10, 20]);
    pipeline.abort();
}

#[test]
fn unordered_results_come_as_they_are_finished() {
    let (clock, pipeline) = virtual_pipeline();
    let mapper = AsyncMapper::new(nap).with_workers(3).with_ordered(false);
    let mut results = Stream::from_iter(&pipeline, [30, 10, 20]).through(&mapper);
    let mut came = Vec::new();
    for _ in 0..3 {
        clock.advance(ms(10));
        came.push(results.try_recv().unwrap().unwrap());
    }
    assert_eq!(came, [10, 20, 30]);
    pipeline.abort();
}

#[test]
fn every_worker_works() {
    let (clock, pipeline) = virtual_pipeline();
    let results = Stream::from_iter(&pipeline, vec![10; 100]).async_map(50, nap);
    clock.advance(ms(20));
    // Two rounds of fifty: all done at 20 ms, not one call later.
    assert_eq!(results.count().unwrap(), 100);
    assert_eq!(clock.elapsed(), ms(20));
    pipeline.join();
}

#[test]
fn a_slow_item_lets_the_others_continue_within_the_window() {
    let (clock, pipeline) = virtual_pipeline();
    let started = Arc::new(AtomicUsize::new(0));
    let mapper = AsyncMapper::new({
        let started = Arc::clone(&started);
        move |cancel: &CancelToken, item: &u64| {
            started.fetch_add(1, Ordering::SeqCst);
            nap(cancel, item)
        }
    });
    let items = std::iter::once(1_000).chain(std::iter::repeat_n(1, 99));
    let results = Stream::from_iter(&pipeline, items).through(&mapper.with_workers(2).with_window(10));
    clock.advance(ms(999));
    assert_eq!(started.load(Ordering::SeqCst), 10);
    clock.advance(ms(100));
    assert_eq!(results.count().unwrap(), 100);
    pipeline.join();
}

#[test]
fn without_a_consumer_intake_stops_at_window_and_capacity() {
    let (clock, pipeline) = virtual_pipeline();
    let started = Arc::new(AtomicUsize::new(0));
    let mapper = AsyncMapper::new({
        let started = Arc::clone(&started);
        move |_: &CancelToken, item: &u64| {
            started.fetch_add(1, Ordering::SeqCst);
            streamz::ok(*item)
        }
    });
    let results = Stream::from_iter(&pipeline, 0..).through(&mapper.with_workers(3).with_window(8).with_capacity(4));
    clock.settle();
    assert_eq!(started.load(Ordering::SeqCst), 8 + 4);
    drop(results);
    pipeline.join();
}

#[test]
fn a_failed_call_keeps_its_place_and_its_item() {
    let pipeline = Pipeline::new("pool");
    let check = |_: &CancelToken, n: &u32| if n.is_multiple_of(3) { Err(format!("{n} is bad")) } else { Ok(n * 10) };
    let results: Vec<_> =
        Stream::from_iter(&pipeline, 1..=6).through(&AsyncMapper::new(check).with_workers(4)).into_iter().collect();
    let shown: Vec<_> = results
        .iter()
        .map(|result| match result {
            Ok(n) => n.to_string(),
            Err(error) => {
                let source = std::error::Error::source(error).unwrap().to_string();
                format!("{} {:?}: {source}", error.stage(), error.take_item::<u32>().unwrap())
            }
        })
        .collect();
    assert_eq!(shown, ["10", "20", "async_map 3: 3 is bad", "40", "50", "async_map 6: 6 is bad"]);
    pipeline.join();
}

#[test]
fn a_call_past_its_time_limit_is_cancelled_and_times_out() {
    let (clock, pipeline) = virtual_pipeline();
    let mapper = AsyncMapper::new(nap).with_workers(2).with_timeout(ms(50));
    let results = Stream::from_iter(&pipeline, [49, 51]).through(&mapper);
    clock.advance(ms(50));
    let results: Vec<_> = results.into_iter().collect();
    assert_eq!(*results[0].as_ref().unwrap(), 49);
    let error = results[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.take_item::<u64>()), (ErrorKind::TimedOut, Some(51)));
    pipeline.join();
}

#[test]
fn cancellation_is_not_a_failure() {
    let (clock, pipeline) = virtual_pipeline();
    let results = Stream::from_iter(&pipeline, [10_000; 5]).async_map(2, nap);
    clock.settle();
    pipeline.cancel();
    let last: Vec<_> = results.into_iter().collect();
    assert!(last.len() == 1 && last[0].as_ref().unwrap_err().is_cancelled());
    let report = pipeline.join();
    let step = &report.stage("async_map").unwrap().steps[0];
    assert_eq!((step.failed, step.abandoned, step.received), (0, 2, 2));
    assert!(matches!(report.outcome, Outcome::Cancelled(_)));
}

#[test]
fn a_dropped_consumer_stops_the_workers_and_the_source() {
    let pipeline = Pipeline::new("pool");
    let mut results = Stream::from_iter(&pipeline, 0u64..).async_map(4, |_: &CancelToken, n: &u64| streamz::ok(*n));
    for n in 0..1_000 {
        assert_eq!(results.recv().unwrap().unwrap(), n);
    }
    drop(results);
    let report = pipeline.join();
    assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{report}");
}

#[test]
fn a_pool_may_read_a_foreign_channel_itself() {
    let (sender, receiver) = crossbeam_channel::bounded(4);
    let pipeline = Pipeline::new("pool");
    let results =
        Stream::from_receiver(&pipeline, receiver).async_map(3, |_: &CancelToken, n: &u32| streamz::ok(n + 1));
    let feeder = std::thread::spawn(move || (0..1_000).for_each(|n| sender.send(n).unwrap()));
    assert_eq!(results.collect::<Vec<_>>().unwrap(), (1..=1_000).collect::<Vec<_>>());
    feeder.join().unwrap();
    pipeline.join();
}

// D-33: the feeder of a mapper that was cancelled while it was idle sat in its loop, and its workers with it.
#[test]
fn cancelling_an_idle_pool_ends_its_output_at_once() {
    let (clock, pipeline) = virtual_pipeline();
    let (input, stream) = Stream::channel(&pipeline, 4);
    let results = stream.through(&AsyncMapper::new(nap).with_workers(3));
    clock.settle();
    assert_eq!(pipeline.threads(), 3);
    pipeline.cancel();
    clock.settle();
    assert_eq!((pipeline.threads(), input.is_closed()), (0, true));
    assert!(results.into_iter().next().unwrap().unwrap_err().is_cancelled());
}

// D-34: the size of the queue was stored and never used.
#[test]
fn the_queue_before_the_workers_has_the_requested_length() {
    let (clock, pipeline) = virtual_pipeline();
    let (input, stream) = Stream::channel(&pipeline, 100);
    let results = stream.map(|n: u64| n).through(&AsyncMapper::new(nap).with_workers(2).with_queue_size(3));
    (0..50).for_each(|_| input.send(1_000).unwrap());
    clock.settle();
    let report = pipeline.report();
    assert_eq!(report.stage("async_map").unwrap().received(), 2);
    assert_eq!(report.stage("map").unwrap().outputs[0].queued, 3);
    pipeline.abort();
    drop(results);
}

// D-35: the item in an error was the result, and each stage that an error passed wrote its own name over the first.
#[test]
fn errors_keep_item_and_stage_through_typed_pools() {
    let pipeline = Pipeline::new("pool");
    let parse = AsyncMapper::new(|_: &CancelToken, text: &&str| text.parse::<u32>()).with_name("parse");
    let results = Stream::from_iter(&pipeline, ["1", "x"])
        .through(&parse)
        .async_map(2, |_: &CancelToken, n: &u32| streamz::ok(n.to_string()))
        .async_map(2, |_: &CancelToken, text: &String| streamz::ok(text.len()));
    let results: Vec<_> = results.into_iter().collect();
    assert_eq!(*results[0].as_ref().unwrap(), 1);
    let error = results[1].as_ref().unwrap_err();
    assert_eq!((error.stage(), error.take_item::<&str>()), ("parse", Some("x")));
    assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
    pipeline.join();
}

#[test]
fn threads_are_named_after_stage_index_and_pipeline() {
    let pipeline = Pipeline::new("pool");
    let names = Arc::new(Mutex::new(HashSet::new()));
    let barrier = std::sync::Barrier::new(2);
    let mapper = AsyncMapper::new({
        let names = Arc::clone(&names);
        move |_: &CancelToken, _: &u32| {
            names.lock().unwrap().insert(std::thread::current().name().unwrap().to_owned());
            barrier.wait();
            streamz::ok(())
        }
    });
    Stream::from_iter(&pipeline, 0..2).through(&mapper.with_workers(2).with_name("call")).count().unwrap();
    let expected = ["call-0 pool", "call-1 pool"].map(str::to_owned);
    assert_eq!(*names.lock().unwrap(), HashSet::from(expected));
}

#[test]
#[should_panic(expected = "`workers` must be at least 1")]
fn no_workers_are_refused() {
    let _ = AsyncMapper::new(nap).with_workers(0);
}

/// Panics when it is dropped, if it is 2.
struct Touchy(u64);

impl Drop for Touchy {
    fn drop(&mut self) {
        assert_ne!(self.0, 2, "dropped");
    }
}

#[test]
fn an_item_that_panics_when_dropped_fails_alone() {
    let pipeline = Pipeline::new("pool");
    let results: Vec<_> = Stream::from_iter(&pipeline, (1..=4).map(Touchy))
        .async_map(1, |_: &CancelToken, item: &Touchy| streamz::ok(item.0))
        .into_iter()
        .collect();
    let kinds = results.iter().map(|result| result.as_ref().map_err(StreamError::kind));
    assert_eq!(kinds.collect::<Vec<_>>(), [Ok(&1), Err(ErrorKind::Panicked), Ok(&3), Ok(&4)]);
    let report = pipeline.join();
    let step = &report.stage("async_map").unwrap().steps[0];
    assert_eq!((step.delivered, step.failed), (3, 1));
    assert!(report.is_complete(), "{report}");
}

#[test]
fn an_abandoned_item_may_panic_when_dropped() {
    let (clock, pipeline) = virtual_pipeline();
    let results = Stream::from_iter(&pipeline, [Touchy(2)])
        .async_map(1, |cancel: &CancelToken, item: &Touchy| nap(cancel, &item.0));
    clock.settle();
    let report = pipeline.abort();
    drop(results);
    assert_eq!(report.stage("async_map").unwrap().steps[0].abandoned, 1);
    assert!(report.faults.is_empty(), "{report}");
}

#[test]
#[should_panic(expected = "`window` (1024) must not be less than `workers` (1025)")]
fn a_window_that_is_asked_for_is_never_corrected() {
    let pipeline = Pipeline::new("pool");
    drop(Stream::from_iter(&pipeline, [1]).through(&AsyncMapper::new(nap).with_workers(1025).with_window(1024)));
}

#[test]
#[should_panic(expected = "`window` (2) must not be less than `workers` (4)")]
fn a_window_smaller_than_the_pool_is_refused() {
    let pipeline = Pipeline::new("pool");
    drop(Stream::from_iter(&pipeline, [1]).through(&AsyncMapper::new(nap).with_workers(4).with_window(2)));
}

#[test]
fn par_map_keeps_order_and_survives_panics() {
    let pipeline = Pipeline::new("par");
    let results: Vec<_> = Stream::from_iter(&pipeline, 0..10_000u64)
        .par_map(|n| if n == 5_000 { panic!("middle") } else { n * 2 })
        .into_iter()
        .collect();
    assert_eq!(results.len(), 10_000);
    for (n, result) in results.iter().enumerate() {
        match result {
            Ok(doubled) => assert_eq!(*doubled, n as u64 * 2),
            Err(error) => assert_eq!((n, error.kind()), (5_000, ErrorKind::Panicked)),
        }
    }
    pipeline.join();
}

#[test]
fn par_map_on_a_custom_pool_ends_after_its_tasks() {
    let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let pipeline = Pipeline::new("par");
    let busy = Arc::new(AtomicUsize::new(0));
    let mapper = ParMapper::new({
        let busy = Arc::clone(&busy);
        move |n: u64| {
            busy.fetch_add(1, Ordering::SeqCst);
            let sum = (0..50_000u64).fold(n, |sum, i| sum.wrapping_mul(31).wrapping_add(i));
            busy.fetch_sub(1, Ordering::SeqCst);
            sum
        }
    })
    .with_pool(pool)
    .with_window(16);
    let mut results = Stream::from_iter(&pipeline, 0u64..).through(&mapper);
    results.recv().unwrap().unwrap();
    pipeline.cancel();
    pipeline.join();
    assert_eq!(busy.load(Ordering::SeqCst), 0);
}

/// As many quick items as make a pool take them in runs.
const QUICK: u64 = 5_000;

#[test]
fn items_taken_in_runs_are_emitted_once_and_in_order() {
    for workers in [1, 2, 5] {
        for window in [workers, 7, 100, 5_000].into_iter().filter(|&window| window >= workers) {
            let pipeline = Pipeline::new("runs");
            let double = |_: &CancelToken, n: &u64| streamz::ok(n * 2);
            let ordered = AsyncMapper::new(double).with_workers(workers).with_window(window);
            let results = Stream::from_iter(&pipeline, 0..QUICK).through(&ordered).collect::<Vec<_>>().unwrap();
            assert_eq!(results, (0..QUICK).map(|n| n * 2).collect::<Vec<_>>());
            let unordered = AsyncMapper::new(double).with_workers(workers).with_window(window).with_ordered(false);
            let mut results = Stream::from_iter(&pipeline, 0..QUICK).through(&unordered).collect::<Vec<_>>().unwrap();
            results.sort_unstable();
            assert_eq!(results, (0..QUICK).map(|n| n * 2).collect::<Vec<_>>());
            let report = pipeline.join();
            assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{report}");
        }
    }
}

#[test]
fn failures_in_runs_are_emitted_once_in_place_and_counted() {
    for (workers, ordered) in [(1, true), (2, true), (5, true), (2, false)] {
        let pipeline = Pipeline::new("failures in runs");
        let call = |_: &CancelToken, n: &u64| if n.is_multiple_of(3) { Err(format!("no {n}")) } else { Ok(*n) };
        let mapper = AsyncMapper::new(call).with_workers(workers).with_ordered(ordered);
        let results = Stream::from_iter(&pipeline, 0..QUICK).through(&mapper);
        let mut results: Vec<_> = results
            .into_iter()
            .map(|result| match result {
                Ok(n) => (n, true),
                Err(error) => (error.take_item::<u64>().unwrap(), false),
            })
            .collect();
        if !ordered {
            results.sort_unstable();
        }
        assert!(results.into_iter().eq((0..QUICK).map(|n| (n, n % 3 != 0))), "{workers} workers, ordered: {ordered}");
        let report = pipeline.join();
        let step = &report.stage("async_map").unwrap().steps[0];
        let failed = QUICK.div_ceil(3);
        assert_eq!((step.failed, step.emitted), (failed, QUICK - failed), "{report}");
        assert!(step.balances(), "{report}");
    }
}

/// A call that does not return before the gate is opened.
fn gated(slow: u64) -> (crossbeam_channel::Sender<()>, impl Fn(u64)) {
    let (open, gate) = crossbeam_channel::bounded::<()>(0);
    (open, move |n| {
        if n == slow {
            let _ = gate.recv();
        }
    })
}

#[test]
fn a_slow_item_in_a_run_holds_up_no_other_result() {
    for slow in [QUICK, QUICK + 1, QUICK + 40] {
        let (open, pass) = gated(slow);
        let pipeline = Pipeline::new("slow in a run");
        let mapper = AsyncMapper::new(move |_: &CancelToken, n: &u64| {
            pass(*n);
            streamz::ok(*n)
        });
        let mapper = mapper.with_workers(2).with_ordered(false).with_window(10_000);
        let mut results = Stream::from_iter(&pipeline, 0..2 * QUICK).through(&mapper);
        // All but the slow one come while it is being worked on.
        let mut seen: Vec<u64> = (1..2 * QUICK).map(|_| results.recv().unwrap().unwrap()).collect();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq((0..2 * QUICK).filter(|&n| n != slow)));
        drop(open);
        assert_eq!(results.recv().unwrap().unwrap(), slow);
        assert!(results.recv().is_none());
        pipeline.join();
    }
}

#[test]
fn a_slow_item_in_a_run_does_not_delay_the_rest() {
    const WINDOW: u64 = 700;
    for slow in [QUICK, QUICK + 1, QUICK + 40] {
        let (open, pass) = gated(slow);
        let (began, begun) = crossbeam_channel::unbounded();
        let pipeline = Pipeline::new("slow head");
        let mapper = AsyncMapper::new(move |_: &CancelToken, n: &u64| {
            began.send(*n).unwrap();
            pass(*n);
            streamz::ok(*n)
        });
        let window = usize::try_from(WINDOW).unwrap();
        let mut results =
            Stream::from_iter(&pipeline, 0..3 * QUICK).through(&mapper.with_workers(3).with_window(window));
        // Items before the slow one are emitted, whichever worker had them.
        for n in 0..slow {
            assert_eq!(results.recv().unwrap().unwrap(), n);
        }
        // The whole window has started, and nothing beyond it.
        let mut numbers: Vec<u64> = begun.iter().take(usize::try_from(slow + WINDOW).unwrap()).collect();
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..slow + WINDOW));
        assert!(begun.is_empty());
        drop(open);
        for n in slow..3 * QUICK {
            assert_eq!(results.recv().unwrap().unwrap(), n);
        }
        pipeline.join();
    }
}

#[test]
fn the_rest_of_a_stopped_run_is_abandoned_and_dropped_once() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for stop_at in [QUICK, QUICK + 3, QUICK + 77] {
        let dropped = Arc::new(AtomicUsize::new(0));
        let made = Arc::new(AtomicUsize::new(0));
        let pipeline = Pipeline::new("stopped in a run");
        let items = (0..).map({
            let (dropped, made) = (Arc::clone(&dropped), Arc::clone(&made));
            move |n: u64| {
                made.fetch_add(1, Ordering::Relaxed);
                (n, Counted(Arc::clone(&dropped)))
            }
        });
        let token = pipeline.token();
        let mapper = AsyncMapper::new(move |_: &CancelToken, (n, _): &(u64, Counted)| {
            if *n == stop_at {
                token.cancel();
            }
            streamz::ok(*n)
        });
        let results = Stream::from_iter(&pipeline, items).through(&mapper.with_workers(2));
        let mut next = 0;
        results
            .for_each(|result| {
                assert_eq!(result.unwrap(), next);
                next += 1;
            })
            .unwrap_err();
        let report = pipeline.join();
        assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{report}");
        assert_eq!(dropped.load(Ordering::Relaxed), made.load(Ordering::Relaxed));
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// Stops the pipeline; no drop of a user's value is a fault of the library.
#[track_caller]
fn cancel_without_a_fault(pipeline: Pipeline, results: Stream<Bomb>, stage: &str) {
    pipeline.cancel();
    drop(results);
    let report = pipeline.join();
    assert!(report.faults.is_empty(), "{report}");
    assert!(report.stage(stage).unwrap().steps[0].balances(), "{report}");
}

#[test]
fn results_waiting_at_a_stop_may_panic_when_dropped() {
    let (clock, pipeline) = virtual_pipeline();
    let mapper = AsyncMapper::new(|cancel: &CancelToken, n: &u64| {
        nap(cancel, &(1_000 * u64::from(*n == 0)))?;
        Ok::<_, streamz::Cancelled>(Bomb)
    });
    let results = Stream::from_iter(&pipeline, 0..6).through(&mapper.with_workers(2));
    clock.settle();
    assert_eq!(pipeline.report().stage("async_map").unwrap().received(), 6);
    cancel_without_a_fault(pipeline, results, "async_map");
}

#[test]
fn results_that_wait_for_room_at_a_stop_may_panic_when_dropped() {
    let (clock, pipeline) = virtual_pipeline();
    let mapper = AsyncMapper::new(|cancel: &CancelToken, n: &u64| {
        nap(cancel, &u64::from(*n == 0))?;
        Ok::<_, streamz::Cancelled>(Bomb)
    });
    let results = Stream::from_iter(&pipeline, 0..6).through(&mapper.with_workers(2).with_capacity(1));
    clock.advance(ms(1));
    // One is in the edge, one is in hand, and four are the rest of its run.
    assert_eq!(pipeline.report().stage("async_map").unwrap().steps[0].emitted, 2);
    cancel_without_a_fault(pipeline, results, "async_map");
}

#[test]
fn closures_may_own_values_that_panic_when_dropped() {
    let pipeline = Pipeline::new("captures");
    let (of_key, of_call, of_map) = (Bomb, Bomb, Bomb);
    let key = move |n: &u64| {
        let _ = &of_key;
        *n
    };
    let call = move |_: &CancelToken, n: &u64| {
        let _ = &of_call;
        streamz::ok(*n)
    };
    let map = move |n| {
        let _ = &of_map;
        n
    };
    let (input, stream) = Stream::channel(&pipeline, 6);
    let results = stream.through(&AsyncMapper::keyed(key, call).with_workers(2)).par_map(map);
    // The processors are gone by now: the stages are the last to own the closures.
    (0..6).for_each(|n| input.send(n).unwrap());
    drop(input);
    assert_eq!(results.count().unwrap(), 6);
    let report = pipeline.join();
    assert!(report.faults.is_empty() && report.is_complete(), "{report}");
}

fn rayon_pool(threads: usize) -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
}

/// Keeps a pool of one thread busy until the gate is dropped.
fn busy_pool() -> (Arc<rayon::ThreadPool>, crossbeam_channel::Sender<()>) {
    let pool = rayon_pool(1);
    let (gate, wait) = crossbeam_channel::bounded::<()>(0);
    let (begin, begun) = crossbeam_channel::bounded(0);
    pool.spawn(move || {
        begin.send(()).unwrap();
        let _ = wait.recv();
    });
    begun.recv().unwrap();
    (pool, gate)
}

#[test]
fn par_map_holds_nothing_back_behind_a_slow_item_in_a_run() {
    for slow in [0, 3, 7] {
        let pipeline = Pipeline::new("slow in a run");
        let (open, pass) = gated(slow);
        let (began, begun) = crossbeam_channel::unbounded();
        let (input, stream) = Stream::channel(&pipeline, 10_000);
        let mapper = ParMapper::new(move |n: u64| {
            if n < 8 {
                began.send(n).unwrap();
            }
            pass(n);
            n
        });
        let mut results = stream.through(&mapper.with_pool(rayon_pool(4)));
        // Many quick items: from now on they go to the pool in runs.
        for _ in 0..20 {
            (1_000..2_000).for_each(|n| input.send(n).unwrap());
            (1_000..2_000).for_each(|n| assert_eq!(results.recv().unwrap().unwrap(), n));
        }
        (0..8).for_each(|n| input.send(n).unwrap());
        let mut all: Vec<u64> = (0..8).map(|_| begun.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7]);
        for n in 0..slow {
            assert_eq!(results.recv_timeout(Duration::from_secs(60)).unwrap().unwrap(), n);
        }
        drop(open);
        (slow..8).for_each(|n| assert_eq!(results.recv().unwrap().unwrap(), n));
        drop(input);
        pipeline.join();
    }
}

#[test]
fn par_map_does_not_wait_for_the_work_of_others_when_it_stops() {
    let (_clock, pipeline) = virtual_pipeline();
    let (pool, gate) = busy_pool();
    let owned = Arc::new(());
    let kept = Arc::clone(&owned);
    let mapper = ParMapper::new(move |n: u32| {
        let _ = &kept;
        n
    });
    let results = Stream::from_iter(&pipeline, 0..10).through(&mapper.with_pool(pool));
    while pipeline.report().stage("par_map").unwrap().received() < 10 {
        std::thread::yield_now();
    }
    let report = pipeline.abort();
    assert_eq!(report.stage("par_map").unwrap().steps[0].abandoned, 10);
    assert_eq!(Arc::strong_count(&owned), 1);
    drop((results, gate));
}

#[test]
fn par_map_continues_while_its_pool_is_busy() {
    let pipeline = Pipeline::new("busy pool");
    let (pool, gate) = busy_pool();
    let results = Stream::from_iter(&pipeline, 0..1_000u32).through(&ParMapper::new(|n| n + 1).with_pool(pool));
    assert_eq!(results.collect::<Vec<_>>().unwrap(), (1..=1_000).collect::<Vec<_>>());
    drop(gate);
    assert!(pipeline.join().is_complete());
}

/// A pipeline with a `par_map` on a pool, read on the calling thread.
fn sum_on(pool: &Arc<rayon::ThreadPool>, pipeline: &Pipeline, n: u64) -> u64 {
    let mapper = ParMapper::new(move |m| m * n).with_pool(Arc::clone(pool));
    Stream::from_iter(pipeline, 0..100u64).through(&mapper).fold(0, |sum, m| sum + m).unwrap()
}

#[test]
fn a_par_map_may_run_in_the_closure_of_another_on_the_same_pool() {
    for threads in [1, 2] {
        let (pool, outer) = (rayon_pool(threads), Pipeline::new("outer"));
        let inner = Arc::clone(&pool);
        let mapper = ParMapper::new(move |n| sum_on(&inner, &Pipeline::new("inner"), n)).with_pool(pool);
        let sums = Stream::from_iter(&outer, 0..8u64).through(&mapper).collect::<Vec<_>>().unwrap();
        assert_eq!(sums, (0..8).map(|n| n * 4_950).collect::<Vec<_>>());
    }
}

#[test]
fn a_par_map_may_run_inside_another_under_virtual_time() {
    let (clock, outer) = virtual_pipeline();
    let pool = rayon_pool(1);
    let inner = Arc::clone(&pool);
    let mapper = ParMapper::new(move |n| sum_on(&inner, &Pipeline::builder("inner").clock(&clock).build(), n));
    let sums = Stream::from_iter(&outer, 0..8u64).through(&mapper.with_pool(pool)).collect::<Vec<_>>().unwrap();
    assert_eq!(sums, (0..8).map(|n| n * 4_950).collect::<Vec<_>>());
}

#[test]
fn a_par_map_may_be_read_on_a_thread_of_its_own_pool() {
    let (pool, pipeline) = (rayon_pool(1), Pipeline::new("read on the pool"));
    let mapper = ParMapper::new(|n| n + 1).with_pool(Arc::clone(&pool));
    let results = Stream::from_iter(&pipeline, 0..100u64).through(&mapper);
    assert_eq!(pool.install(|| results.count()).unwrap(), 100);
}

#[test]
fn a_pipeline_with_nested_par_maps_can_be_stopped() {
    let (pool, outer) = (rayon_pool(1), Pipeline::new("outer"));
    let inner = Arc::clone(&pool);
    let (began, begun) = crossbeam_channel::unbounded();
    let mapper = ParMapper::new(move |n| {
        began.send(()).unwrap();
        sum_on(&inner, &Pipeline::new("inner"), n)
    });
    let results = Stream::from_iter(&outer, 0u64..).through(&mapper.with_pool(pool));
    begun.recv().unwrap();
    drop(results);
    let report = outer.join();
    assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{report}");
}

#[test]
fn par_map_takes_no_more_than_window_and_capacity_hold() {
    for (window, capacity) in [(1, 1), (8, 4), (3, 20)] {
        let (clock, pipeline) = virtual_pipeline();
        let started = Arc::new(AtomicUsize::new(0));
        let begun = Arc::clone(&started);
        let mapper = ParMapper::new(move |n: u64| {
            begun.fetch_add(1, Ordering::SeqCst);
            n
        });
        let mapper = mapper.with_window(window).with_capacity(capacity).with_pool(rayon_pool(2));
        let results = Stream::from_iter(&pipeline, 0..).through(&mapper);
        clock.settle();
        assert_eq!(started.load(Ordering::SeqCst), window + capacity);
        let report = pipeline.abort();
        assert_eq!(report.stage("par_map").unwrap().received(), (window + capacity) as u64);
        drop(results);
    }
}

#[test]
fn par_map_results_waiting_at_a_stop_may_panic_when_dropped() {
    // Behind one that is slow, and for room.
    for (slow, capacity) in [(true, 100), (false, 1)] {
        let pipeline = Pipeline::new("bombs");
        let (open, pass) = gated(u64::from(!slow));
        let (began, begun) = crossbeam_channel::unbounded();
        let mapper = ParMapper::new(move |n: u64| {
            began.send(()).unwrap();
            if slow {
                pass(n);
            }
            Bomb
        });
        let results =
            Stream::from_iter(&pipeline, 0..6).through(&mapper.with_pool(rayon_pool(2)).with_capacity(capacity));
        (0..6).for_each(|_| begun.recv().unwrap());
        pipeline.cancel();
        drop(open);
        cancel_without_a_fault(pipeline, results, "par_map");
    }
}

thread_local! {
    /// The last item that a worker had, and how many it has had in a row.
    static ROW: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

#[test]
fn a_busy_worker_emits_the_results_of_a_slow_one() {
    const ITEMS: u64 = 200_000;
    let pipeline = Pipeline::new("never rests");
    let (open, gate) = crossbeam_channel::bounded::<()>(0);
    let (pick, picked) = crossbeam_channel::bounded(1);
    // The third item of a run, when runs are long: two results lie before it in the slot.
    let mapper = AsyncMapper::new(move |_: &CancelToken, n: &u64| {
        let (last, row) = ROW.get();
        let row = if last + 1 == *n { row + 1 } else { 1 };
        ROW.set((*n, row));
        if *n > QUICK && row == 3 && pick.try_send(*n).is_ok() {
            let _ = gate.recv();
        }
        streamz::ok(*n)
    });
    // The other worker finds something to take to the last, and always has room.
    let capacity = usize::try_from(ITEMS).unwrap();
    let (input, stream) = Stream::channel(&pipeline, capacity);
    (0..ITEMS).for_each(|n| input.send(n).unwrap());
    drop(input);
    let mapper = mapper.with_workers(2).with_ordered(false).with_capacity(capacity);
    let mut results = stream.through(&mapper);
    let came: Vec<u64> = (1..ITEMS).map(|_| results.recv().unwrap().unwrap()).collect();
    let slow = picked.recv().unwrap();
    for before in [slow - 2, slow - 1] {
        let place = came.iter().position(|n| *n == before).unwrap();
        assert!(place < came.len() - 1_000, "{before} of {ITEMS} came as number {place}, while {slow} was slow");
    }
    drop(open);
    assert_eq!(results.recv().unwrap().unwrap(), slow);
    pipeline.join();
}

/// The clock stands still after the first item: a call that is not notified would sleep forever.
#[test]
fn a_call_that_cancels_its_token_cuts_the_stream_with_the_cause() {
    for (workers, fails) in [(1, false), (1, true), (3, true)] {
        let (_, pipeline) = virtual_pipeline();
        let call = move |cancel: &CancelToken, n: &u64| match n {
            5 => {
                cancel.cancel_because("enough");
                if fails { Err(cancel.check().unwrap_err()) } else { Ok(*n) }
            }
            n => Ok(*n),
        };
        let mapper = AsyncMapper::new(call).with_workers(workers);
        let results: Vec<_> = Stream::from_iter(&pipeline, 0..10).through(&mapper).into_iter().collect();
        let Some(Err(error)) = results.last() else { panic!("{results:?}") };
        assert!(error.is_cancelled() && format!("{error:#}").ends_with("enough"), "{error:#}");
        assert!(results.iter().take(results.len() - 1).all(Result::is_ok), "{results:?}");
        let report = pipeline.join();
        assert!(matches!(report.outcome, Outcome::Cut(_)), "{report}");
        assert!(!pipeline.is_cancelled());
    }
}

#[test]
fn calls_in_progress_learn_that_their_consumer_has_left() {
    let (clock, pipeline) = virtual_pipeline();
    let causes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&causes);
    let call = move |cancel: &CancelToken, item: &u64| {
        let slept = cancel.sleep(if *item == 0 { ms(1) } else { Duration::from_secs(3_600) });
        slept.inspect_err(|cancelled| noted.lock().unwrap().push(cancelled.cause().clone())).map(|()| *item)
    };
    // Two pools, of which the second goes by the wish of its consumer, and the first by that of the second.
    let call = AsyncMapper::new(call).with_workers(3);
    let numbers = Stream::from_iter(&pipeline, 0..).through(&call).through(&Retry::new(call));
    let mut first = numbers.take(1);
    // When time passes, all workers of the first pool and one of the second are in calls.
    clock.advance(ms(2));
    assert_eq!(first.recv().unwrap().unwrap(), 0);
    assert!(first.recv().is_none());
    let report = pipeline.join();
    assert!(report.is_complete(), "{report}");
    let causes = causes.lock().unwrap();
    assert!(causes.len() >= 2 && causes.iter().all(|cause| matches!(cause, Cause::ConsumerGone)), "{causes:?}");
    assert!(!pipeline.is_cancelled());
}
