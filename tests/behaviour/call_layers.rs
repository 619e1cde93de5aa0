//! Layers around calls: those of the user, and limits.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use streamz::testing::Recorder;
use streamz::{
    AsyncMapper, Bulkhead, Call, CallError, CallFailure, CallLayer, CallStage, CallTimeout, CancelToken,
    CircuitBreaker, CircuitState, ErrorKind, Fallback, Layered, LimitStats, ManualClock, Mapper, Processor, RateLimit,
    Rejection, Retry, Stream,
};

use crate::{ms, virtual_pipeline};

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("busy")]
struct Busy;

/// A call that takes as many milliseconds as the item says.
fn waits(cancel: &CancelToken, item: &u64) -> Result<u64, Busy> {
    cancel.sleep(ms(*item)).map(|()| *item).map_err(|_| Busy)
}

/// A layer made once for all calls: measures every one.
struct Timed(Arc<Mutex<Vec<(bool, Duration)>>>);

impl<C: Call> CallLayer<C> for Timed {
    type Out = C::Out;
    type Error = C::Error;

    fn call(&self, inner: &C, cancel: &CancelToken, item: &C::In) -> Result<C::Out, CallError<C::Error>> {
        let begun = cancel.now();
        let result = inner.call(cancel, item);
        self.0.lock().unwrap().push((result.is_ok(), cancel.now() - begun));
        result
    }
}

#[test]
fn a_layer_type_wraps_any_call_at_any_place_of_a_nest() {
    let (inside, outside) = (Arc::default(), Arc::default());
    let calls = AtomicU32::new(0);
    let flaky = AsyncMapper::new(move |cancel: &CancelToken, item: &u64| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => Err(Busy),
        _ => waits(cancel, item),
    });
    let retry = Retry::new(Layered::new(flaky, Timed(Arc::clone(&inside)))).with_jitter(false);
    let nest = Layered::new(CircuitBreaker::new(retry), Timed(Arc::clone(&outside)));
    let clock = ManualClock::new();
    assert_eq!(nest.to_call().call(&CancelToken::with_clock(&clock), &7).unwrap(), 7);
    assert_eq!(*inside.lock().unwrap(), [(false, ms(0)), (true, ms(7))]);
    assert_eq!(*outside.lock().unwrap(), [(true, ms(107))]);
}

#[test]
fn a_layer_keeps_the_name_the_order_and_the_workers_of_its_pool() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = AsyncMapper::new(waits).with_workers(3).with_ordered(false).with_name("fetch");
    let layered = Layered::from_fn(calls, |call, cancel, item| call.call(cancel, item));
    let results = Recorder::new(Stream::from_iter(&pipeline, [30, 20, 10]).through(&layered));
    clock.advance(ms(100));
    assert_eq!(results.timed_items(), [(ms(10), 10), (ms(20), 20), (ms(30), 30)]);
    assert_eq!(layered.name(), "fetch");
    assert_eq!(pipeline.join().stage("fetch").unwrap().emitted(), 3);
}

#[test]
fn a_layer_may_change_the_result_and_the_error() {
    #[derive(Debug, thiserror::Error)]
    #[error("item {0}: {1}")]
    struct Other(u64, Busy);

    let call = Mapper::fallible(|item: &u64| if *item == 0 { Err(Busy) } else { Ok(*item) });
    let layered = Layered::from_fn(call, |call, cancel, item| match call.call(cancel, item) {
        Ok(out) => Ok(format!("<{out}>")),
        Err(CallError { failure: CallFailure::Failed(busy), attempts, .. }) => {
            Err(CallError::new(CallFailure::Failed(Other(*item, busy)), attempts))
        }
        Err(error) => Err(CallError::new(CallFailure::Cancelled, error.attempts)),
    });
    let (_clock, pipeline) = virtual_pipeline();
    let results: Vec<_> = Stream::from_iter(&pipeline, [0, 1]).through(&layered).into_iter().collect();
    let error = results[0].as_ref().unwrap_err();
    assert_eq!(error.downcast_ref::<Other>().unwrap().to_string(), "item 0: busy");
    assert_eq!((error.attempts(), error.take_item()), (1, Some(0u64)));
    assert_eq!(results[1].as_ref().unwrap(), "<1>");
}

#[test]
fn a_layer_may_skip_the_call_or_repeat_it_with_another_item() {
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let call = Mapper::fallible(move |item: &u64| {
        count.fetch_add(1, Ordering::Relaxed);
        streamz::ok(*item)
    });
    let layered = Layered::from_fn(call, |call, cancel, item| match item {
        0 => Ok(0),
        item => Ok(call.call(cancel, item)? + call.call(cancel, &(item * 10))?),
    });
    let (_clock, pipeline) = virtual_pipeline();
    let results = Stream::from_iter(&pipeline, [0, 1, 2]).through(&layered);
    assert_eq!(results.collect::<Vec<_>>().unwrap(), [0, 11, 22]);
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

#[test]
fn a_panic_in_a_layer_fails_the_item_and_the_worker_lives_on() {
    let call = AsyncMapper::new(waits).with_workers(1);
    let layered = Layered::from_fn(call, |call, cancel, item| {
        assert_ne!(*item, 1, "one");
        call.call(cancel, item)
    });
    let (clock, pipeline) = virtual_pipeline();
    let results = Recorder::new(Stream::from_iter(&pipeline, 0..3).through(&layered));
    clock.advance(ms(10));
    let mut results: Vec<_> = results.timed_outputs().into_iter().map(|(_, result)| result).collect();
    let error = results.remove(1).unwrap_err();
    assert_eq!((error.kind(), error.take_item()), (ErrorKind::Panicked, Some(1u64)));
    assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn an_error_after_a_cancellation_is_never_a_failure() {
    let token = CancelToken::with_clock(ManualClock::new());
    for panics in [false, true] {
        let layered = Layered::from_fn(AsyncMapper::new(waits), move |call, cancel, item| {
            call.call(cancel, item).map_err(|error| {
                assert!(!panics, "on purpose");
                CallError::new(CallFailure::Failed(Busy), error.attempts)
            })
        });
        token.cancel();
        let error = layered.to_call().call(&token, &5).unwrap_err();
        assert!(error.is_cancelled(), "{error:?}");
    }
}

#[test]
fn a_rejected_call_is_not_retried_nor_counted_by_a_breaker() {
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let rejects = Layered::from_fn(AsyncMapper::new(waits), move |_, cancel, _| -> Result<u64, CallError<Busy>> {
        count.fetch_add(1, Ordering::Relaxed);
        Err(CallError::raised(cancel, CallFailure::Rejected(Rejection::RateLimited { wait: ms(3) }), 0))
    });
    let breaker = CircuitBreaker::new(Retry::new(rejects)).min_requests(1).failure_threshold(0.01);
    let (_clock, pipeline) = virtual_pipeline();
    let error = Stream::from_iter(&pipeline, [5]).through(&breaker).first().unwrap_err();
    assert_eq!((error.kind(), error.attempts(), error.take_item()), (ErrorKind::Rejected, 0, Some(5u64)));
    assert_eq!(error.downcast_ref(), Some(&Rejection::RateLimited { wait: ms(3) }));
    assert_eq!(error.to_string(), "stage `async_map` rejected");
    assert_eq!((attempts.load(Ordering::Relaxed), breaker.state()), (1, CircuitState::Closed));
    assert_eq!(breaker.stats().requests, 0);
    assert_eq!(pipeline.join().stage("async_map").unwrap().failed_calls(), 1);

    let fallback = Fallback::new(breaker, |_, item, error| error.is_rejected().then(|| item * 2));
    let (_clock, pipeline) = virtual_pipeline();
    assert_eq!(Stream::from_iter(&pipeline, [5]).through(&fallback).collect::<Vec<_>>().unwrap(), [10]);
}

/// A call that notes when it was made, and with which item.
fn noting(calls: &Arc<Mutex<Vec<(Duration, u64)>>>, clock: &ManualClock) -> AsyncMapperOf<u64> {
    let (calls, clock) = (Arc::clone(calls), clock.clone());
    AsyncMapper::new(Box::new(move |_, item| {
        calls.lock().unwrap().push((clock.elapsed(), *item));
        if *item == 0 { Err(Busy) } else { Ok(*item) }
    }))
}

type AsyncMapperOf<T> = AsyncMapper<T, T, Busy, Box<dyn Fn(&CancelToken, &T) -> Result<T, Busy> + Send + Sync>>;

#[test]
fn rate_limit_inside_a_retry_counts_each_attempt() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = Arc::default();
    let limited = RateLimit::new(noting(&calls, &clock).with_workers(1), 10.0).with_burst(2);
    let retry = Retry::new(limited).base_delay(Duration::ZERO);
    let results = Recorder::new(Stream::from_iter(&pipeline, [0, 7]).through(&retry));
    clock.advance(ms(1_000));
    assert_eq!(*calls.lock().unwrap(), [(ms(0), 0), (ms(0), 0), (ms(100), 0), (ms(200), 7)]);
    let results = results.timed_outputs();
    assert_eq!((results[0].0, results[0].1.as_ref().unwrap_err().attempts()), (ms(100), 3));
    assert_eq!((results[1].0, results[1].1.as_ref().ok()), (ms(200), Some(&7)));
}

#[test]
fn rate_limit_by_key_limits_each_key_separately() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = Arc::default();
    let mapper = noting(&calls, &clock).with_workers(3).with_ordered(false);
    let limited = RateLimit::new(mapper, 1.0).with_key(|item| item % 2, 100);
    let results = Recorder::new(Stream::from_iter(&pipeline, [2, 4, 1, 6, 3]).through(&limited));
    clock.advance(ms(10_000));
    assert_eq!(results.items().len(), 5);
    let mut calls: Vec<_> = std::mem::take(&mut *calls.lock().unwrap());
    calls.iter_mut().for_each(|(_, item)| *item %= 2);
    calls.sort();
    assert_eq!(calls, [(ms(0), 0), (ms(0), 1), (ms(1_000), 0), (ms(1_000), 1), (ms(2_000), 0)]);
}

#[test]
fn rate_limit_is_one_for_all_runs_and_clones() {
    let clock = ManualClock::new();
    let calls = Arc::default();
    let limited = RateLimit::new(noting(&calls, &clock).with_workers(1), 1.0);
    let token = CancelToken::with_clock(&clock);
    for call in [limited.to_call(), limited.to_call(), limited.clone().to_call()] {
        call.call(&token, &1).unwrap();
    }
    assert_eq!(*calls.lock().unwrap(), [(ms(0), 1), (ms(1_000), 1), (ms(2_000), 1)]);
}

#[test]
fn rate_limit_rejects_calls_that_would_wait_too_long() {
    let clock = ManualClock::new();
    let calls = Arc::default();
    let limited = |wait| RateLimit::new(noting(&calls, &clock), 1.0).with_burst(2).with_max_wait(wait).to_call();
    let token = CancelToken::with_clock(&clock);
    let wait = |error: CallError<Busy>| match error.failure {
        CallFailure::Rejected(Rejection::RateLimited { wait }) => (wait, error.attempts),
        other => panic!("{other:?}"),
    };
    let call = limited(Duration::ZERO);
    (0..2).for_each(|_| _ = call.call(&token, &1).unwrap());
    clock.advance(ms(400));
    // It takes no turn, so the next one has it.
    (0..3).for_each(|_| assert_eq!(wait(call.call(&token, &1).unwrap_err()), (ms(600), 0)));
    clock.advance(ms(600));
    call.call(&token, &1).unwrap();

    let call = limited(ms(1_000));
    (0..3).for_each(|_| _ = call.call(&token, &1).unwrap());
    assert_eq!(clock.elapsed(), ms(2_000));
    // One that waits exactly as long as it may is let through; one whose token has no time left by then is not.
    assert_eq!(wait(call.call(&token.with_timeout(ms(1_000)), &1).unwrap_err()), (ms(1_000), 0));
    call.call(&token.with_timeout(ms(1_001)), &1).unwrap();
    assert_eq!(clock.elapsed(), ms(3_000));
}

#[test]
fn rate_limit_wait_ends_without_the_call_on_cancellation() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = Arc::default();
    // In order, the result would wait if the other worker were the first to call.
    let limited = RateLimit::new(noting(&calls, &clock).with_workers(2).with_ordered(false), 0.001);
    let results = Recorder::new(Stream::from_iter(&pipeline, 1..10).through(&limited));
    clock.advance(ms(5));
    assert_eq!(results.items().len(), 1);
    pipeline.cancel();
    clock.settle();
    assert_eq!((pipeline.threads(), calls.lock().unwrap().len()), (0, 1));
    let report = pipeline.join();
    let stage = report.stage("async_map").unwrap();
    assert_eq!((stage.failed_calls(), stage.abandoned()), (0, 2));
}

#[test]
fn rate_limit_returns_the_turn_of_a_cancelled_call() {
    let clock = ManualClock::new();
    let calls = Arc::default();
    let call = RateLimit::new(noting(&calls, &clock), 1.0).to_call();
    let (token, impatient) = (CancelToken::with_clock(&clock), CancelToken::with_clock(&clock));
    call.call(&token, &1).unwrap();
    impatient.cancel();
    let error = call.call(&impatient, &2).unwrap_err();
    assert!(error.is_cancelled() && error.attempts == 0);
    call.call(&token, &3).unwrap();
    assert_eq!(*calls.lock().unwrap(), [(ms(0), 1), (ms(1_000), 3)]);
}

#[test]
fn rate_limit_key_that_panics_fails_the_item() {
    let (_clock, pipeline) = virtual_pipeline();
    let calls = Mapper::fallible(|item: &u64| streamz::ok(*item));
    let limited = RateLimit::new(calls, 10.0).with_burst(9).with_key(
        |item: &u64| {
            assert_ne!(*item, 1, "one");
            *item
        },
        1,
    );
    let results: Vec<_> = Stream::from_iter(&pipeline, 0..3).through(&limited).into_iter().collect();
    let error = results[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.take_item()), (ErrorKind::Panicked, Some(1u64)));
    assert!(results[0].is_ok() && results[2].is_ok());
}

/// Admitted, rejected; in progress, waiting; delayed, keys.
fn counts(stats: &LimitStats) -> [u64; 6] {
    [stats.admitted(), stats.rejected(), stats.in_progress(), stats.waiting(), stats.delayed(), stats.keys()]
}

#[test]
fn rate_limit_counts_calls_waits_and_keys() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = AsyncMapper::new(waits).with_workers(4).with_ordered(false);
    let limited = RateLimit::new(calls, 1.0).with_key(|item| item / 100, 100).with_max_wait(ms(1_500));
    let stats = limited.stats();
    assert_eq!(counts(&stats), [0; 6]);
    // The second of the first key waits for a second, and the third would wait for two.
    let results = Recorder::new(Stream::from_iter(&pipeline, [100, 100, 100, 200]).through(&limited));
    clock.settle();
    assert_eq!((counts(&stats), stats.waited()), ([2, 1, 2, 1, 0, 2], ms(0)));
    clock.advance(ms(500));
    assert_eq!(counts(&stats), [2, 1, 0, 1, 0, 2]);
    clock.advance(ms(1_000));
    assert_eq!((counts(&limited.clone().stats()), stats.waited()), ([3, 1, 0, 0, 1, 2], ms(1_000)));
    drop(results);
    // Setting the limit again starts new counts.
    assert_eq!(counts(&limited.with_burst(2).stats()), [0; 6]);
}

#[test]
fn rate_limit_wait_that_is_cancelled_is_counted_as_a_wait_only() {
    let (clock, pipeline) = virtual_pipeline();
    let limited = RateLimit::new(AsyncMapper::new(waits).with_workers(2), 1.0);
    let results = Recorder::new(Stream::from_iter(&pipeline, [0, 0]).through(&limited));
    clock.advance(ms(400));
    pipeline.cancel();
    pipeline.join();
    assert_eq!((counts(&limited.stats()), limited.stats().waited()), ([1, 0, 0, 0, 1, 1], ms(400)));
    drop(results);
}

#[test]
#[should_panic(expected = "`per_second` must be greater than zero and finite, not NaN")]
fn rate_limit_of_no_number_is_refused() {
    let _ = RateLimit::new(AsyncMapper::new(waits), f64::NAN);
}

#[test]
#[should_panic(expected = "`burst` must be at least 1")]
fn rate_limit_without_a_burst_is_refused() {
    let _ = RateLimit::new(AsyncMapper::new(waits), 1.0).with_burst(0);
}

#[test]
#[should_panic(expected = "`max_keys` must be at least 1")]
fn rate_limit_without_keys_is_refused() {
    let _ = RateLimit::new(AsyncMapper::new(waits), 1.0).with_key(|item| *item, 0);
}

/// When calls that take a second each begin, by item, in a pool with a worker for each.
fn begins(items: &[u64], layered: impl FnOnce(AsyncMapperOf<u64>) -> Bulkhead<AsyncMapperOf<u64>>) -> Vec<(u64, u64)> {
    let (clock, pipeline) = virtual_pipeline();
    let begun = Arc::new(Mutex::new(Vec::new()));
    let (notes, times) = (Arc::clone(&begun), clock.clone());
    let calls = AsyncMapperOf::<u64>::new(Box::new(move |cancel, item| {
        notes.lock().unwrap().push((times.elapsed().as_secs(), *item));
        cancel.sleep(ms(1_000)).map(|()| *item).map_err(|_| Busy)
    }));
    let bulkhead = layered(calls.with_workers(items.len()).with_ordered(false));
    let results = Recorder::new(Stream::from_iter(&pipeline, items.to_vec()).through(&bulkhead));
    clock.advance(ms(100_000));
    assert_eq!(results.items().len(), items.len());
    // It keeps no gate for a key without calls.
    assert_eq!(bulkhead.stats().keys(), 0);
    let mut begun = std::mem::take(&mut *begun.lock().unwrap());
    begun.sort();
    begun
}

#[test]
fn bulkhead_admits_the_next_call_when_one_returns() {
    assert_eq!(begins(&[7; 5], |calls| Bulkhead::new(calls, 2)), [(0, 7), (0, 7), (1, 7), (1, 7), (2, 7)]);
}

#[test]
fn bulkhead_by_key_limits_each_key_alone() {
    let begun = begins(&[1, 1, 1, 2, 2, 3], |calls| Bulkhead::new(calls, 1).with_key(|item| *item));
    assert_eq!(begun, [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)]);
}

#[test]
fn bulkhead_is_shared_by_runs_and_rejects_after_max_wait() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = AsyncMapper::new(waits).with_workers(1);
    let bulkhead = Bulkhead::new(calls, 1).with_max_wait(ms(300));
    let first = Recorder::new(Stream::from_iter(&pipeline, [500]).through(&bulkhead));
    clock.settle();
    let other = Recorder::new(Stream::from_iter(&pipeline, [1, 2]).through(&bulkhead.clone()));
    clock.advance(ms(1_000));
    assert_eq!(first.timed_items(), [(ms(500), 500)]);
    let other = other.timed_outputs();
    let error = other[0].1.as_ref().unwrap_err();
    assert_eq!((other[0].0, error.kind(), error.attempts()), (ms(300), ErrorKind::Rejected, 0));
    assert_eq!(error.downcast_ref(), Some(&Rejection::BulkheadFull { max_calls: 1 }));
    assert_eq!(error.take_item(), Some(1u64));
    assert_eq!((other[1].0, other[1].1.as_ref().ok()), (ms(502), Some(&2)));
}

#[test]
fn bulkhead_counts_calls_waits_and_keys() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = AsyncMapper::new(waits).with_workers(4).with_ordered(false);
    let bulkhead = Bulkhead::new(calls, 1).with_key(|item| *item).with_max_wait(ms(300));
    let stats = bulkhead.stats();
    let results = Recorder::new(Stream::from_iter(&pipeline, [500, 500, 501]).through(&bulkhead));
    clock.settle();
    assert_eq!((counts(&stats), stats.waited()), ([2, 0, 2, 1, 0, 2], ms(0)));
    clock.advance(ms(1_000));
    assert_eq!((counts(&bulkhead.clone().stats()), stats.waited()), ([2, 1, 0, 0, 1, 0], ms(300)));
    let shown =
        "LimitStats { admitted: 2, rejected: 1, in_progress: 0, waiting: 0, delayed: 1, waited: 300ms, keys: 0 }";
    assert_eq!(format!("{stats:?}"), shown);
    drop(results);
}

#[test]
fn bulkhead_without_waiting_rejects_at_once() {
    let (clock, pipeline) = virtual_pipeline();
    let bulkhead = Bulkhead::new(AsyncMapper::new(waits).with_workers(1), 1).with_max_wait(Duration::ZERO);
    let _first = Recorder::new(Stream::from_iter(&pipeline, [500]).through(&bulkhead));
    clock.settle();
    let other = Recorder::new(Stream::from_iter(&pipeline, [1, 2]).through(&bulkhead.clone()));
    clock.advance(ms(1_000));
    let rejected: Vec<_> =
        other.timed_outputs().into_iter().map(|(at, result)| (at, result.unwrap_err().kind())).collect();
    assert_eq!(rejected, [(ms(0), ErrorKind::Rejected); 2]);
    assert_eq!(counts(&bulkhead.stats()), [1, 2, 0, 0, 0, 0]);
}

#[test]
fn bulkhead_has_room_again_after_a_panic() {
    let calls = AsyncMapper::new(|_: &CancelToken, item: &u64| {
        assert_ne!(*item, 1, "one");
        streamz::ok(*item)
    });
    let bulkhead = Bulkhead::new(calls, 1).with_max_wait(Duration::ZERO);
    let (call, token) = (bulkhead.to_call(), CancelToken::new());
    assert_eq!(call.call(&token, &1).unwrap_err().kind(), ErrorKind::Panicked);
    assert_eq!(call.call(&token, &2).unwrap(), 2);
    assert_eq!(counts(&bulkhead.stats()), [2, 0, 0, 0, 0, 0]);
}

#[test]
fn bulkhead_wait_ends_with_the_pipeline() {
    let (clock, pipeline) = virtual_pipeline();
    let bulkhead = Bulkhead::new(AsyncMapper::new(waits).with_workers(3), 1);
    let results = Recorder::new(Stream::from_iter(&pipeline, [1_000; 9]).through(&bulkhead));
    clock.advance(ms(500));
    pipeline.cancel();
    clock.settle();
    assert_eq!((pipeline.threads(), results.timed_outputs().len()), (0, 1));
    assert_eq!(pipeline.join().stage("async_map").unwrap().failed_calls(), 0);
}

#[test]
#[should_panic(expected = "`max_calls` must be at least 1")]
fn bulkhead_without_room_is_refused() {
    let _ = Bulkhead::new(AsyncMapper::new(waits), 0);
}

#[test]
fn call_timeout_covers_its_layers_and_keeps_a_late_result() {
    let clock = ManualClock::new();
    let token = CancelToken::with_clock(&clock);
    let limited = RateLimit::new(AsyncMapper::new(waits), 1.0);
    let call = CallTimeout::new(limited, ms(1_500)).to_call();
    assert_eq!(call.call(&token, &0).unwrap(), 0);
    // A second for the turn, and one for the call.
    let error = call.call(&token, &1_000).unwrap_err();
    assert!(matches!(error.failure, CallFailure::TimedOut { limit, error: None } if limit == ms(1_500)));
    assert_eq!((clock.elapsed(), error.attempts, error.kind()), (ms(1_500), 1, ErrorKind::TimedOut));

    // A call that does not look at its token is not interrupted, and what it returns counts.
    let deaf = AsyncMapper::new(|cancel: &CancelToken, item: &u64| {
        CancelToken::with_clock(cancel.clock().clone()).sleep(ms(*item)).map(|()| *item)
    });
    let call = CallTimeout::new(deaf, ms(100)).to_call();
    assert_eq!(call.call(&token, &500).unwrap(), 500);
    assert_eq!(clock.elapsed(), ms(2_000));
}

#[test]
fn call_timeout_is_a_failure_but_a_cancellation_is_not() {
    let clock = ManualClock::new();
    let limited = CallTimeout::new(Mapper::fallible(|item: &u64| streamz::ok(*item)), ms(1)).to_call();
    assert_eq!(limited.call(&CancelToken::with_clock(&clock), &3).unwrap(), 3);

    let limited = CallTimeout::new(AsyncMapper::new(waits), ms(100));
    let breaker = CircuitBreaker::new(Retry::new(limited).base_delay(ms(1)).with_jitter(false)).min_requests(1);
    let token = CancelToken::with_clock(&clock);
    let error = breaker.to_call().call(&token, &9_000).unwrap_err();
    assert_eq!((error.kind(), error.attempts, clock.elapsed()), (ErrorKind::TimedOut, 3, ms(303)));
    assert_eq!(breaker.state(), CircuitState::Open);

    let limited = CallTimeout::new(AsyncMapper::new(waits), ms(100)).to_call();
    let error = limited.call(&token.with_timeout(ms(100)), &9_000).unwrap_err();
    assert!(error.is_cancelled(), "{error:?}");
}

#[test]
fn call_timeout_is_counted_once() {
    let (clock, pipeline) = virtual_pipeline();
    let limited = CallTimeout::new(Retry::new(AsyncMapper::new(waits).with_workers(1)), ms(10));
    let results = Recorder::new(Stream::from_iter(&pipeline, [1, 50]).through(&limited));
    clock.advance(ms(100));
    let times: Vec<_> = results.timed_outputs().into_iter().map(|(at, result)| (at, result.is_ok())).collect();
    assert_eq!(times, [(ms(1), true), (ms(11), false)]);
    let report = pipeline.join();
    let stage = report.stage("async_map").unwrap();
    assert_eq!((stage.failed(), stage.failed_calls()), (1, 1));
}

#[test]
#[should_panic(expected = "`limit` must be greater than zero")]
fn call_timeout_of_no_time_is_refused() {
    let _ = CallTimeout::new(AsyncMapper::new(waits), Duration::ZERO);
}
