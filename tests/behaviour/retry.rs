//! `Retry`: what it promises beyond what every operator does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use streamz::{
    AsyncMapper, Call, CallFailure, CallStage, CancelToken, CircuitBreaker, ErrorKind, Fallback, ManualClock, Mapper,
    Outcome, PanicMessage, Pipeline, Processor, Retry, Stream, StreamError,
};

use crate::{ms, virtual_pipeline};

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum ApiError {
    #[error("busy")]
    Busy,
    #[error("refused")]
    Refused,
}

/// A call that is busy as often as the item says, and then returns how often it was made for that item.
fn busy(counts: &Arc<Mutex<HashMap<u32, u32>>>) -> impl Fn(&CancelToken, &u32) -> Result<String, ApiError> + use<> {
    let counts = Arc::clone(counts);
    move |_, item| {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(*item).or_insert(0);
        *count += 1;
        if *count > *item { Ok(format!("{item} in {count}")) } else { Err(ApiError::Busy) }
    }
}

/// A call that never works.
fn never(_: &CancelToken, _: &u32) -> Result<(), ApiError> {
    Err(ApiError::Busy)
}

/// How long all the pauses of a call take that never works: the sum over the retries.
fn total(retry: Retry<impl CallStage<In = u32, Out = (), Error = ApiError>>) -> Duration {
    let clock = ManualClock::new();
    let error = retry.to_call().call(&CancelToken::with_clock(&clock), &0).unwrap_err();
    assert!(matches!(error.failure, CallFailure::Failed(ApiError::Busy)));
    clock.elapsed()
}

#[test]
fn a_call_is_retried_until_it_succeeds() {
    let (clock, pipeline) = virtual_pipeline();
    let retry = Retry::new(AsyncMapper::new(busy(&Arc::default())).with_workers(3)).with_jitter(false);
    let results: Stream<String> = Stream::from_iter(&pipeline, [0, 1, 2]).through(&retry);
    clock.advance(ms(300));
    assert_eq!(results.collect::<Vec<_>>().unwrap(), ["0 in 1", "1 in 2", "2 in 3"]);
    let stats = retry.stats();
    assert_eq!((stats.retries(), stats.recovered(), stats.exhausted(), stats.waiting()), (3, 2, 0, 0));
    pipeline.join();
}

// D-21: the first pause was twice the base, and large attempt numbers had none.
#[test]
fn delays_double_from_the_base_up_to_the_maximum() {
    let retry = |attempts| Retry::new(AsyncMapper::new(never)).max_attempts(attempts).with_jitter(false);
    assert_eq!(total(retry(1)), Duration::ZERO);
    assert_eq!(total(retry(2)), ms(100));
    assert_eq!(total(retry(3)), ms(100 + 200));
    assert_eq!(total(retry(6)), ms(100 + 200 + 400 + 800 + 1_600));
    assert_eq!(total(retry(5).max_delay(ms(250))), ms(100 + 200 + 250 + 250));
    assert_eq!(total(retry(100).max_delay(ms(100))), ms(99 * 100));
    assert_eq!(total(retry(1_000).base_delay(Duration::ZERO)), Duration::ZERO);
}

#[test]
fn jitter_shortens_delays_by_up_to_half_and_follows_its_seed() {
    let pauses = |seed| {
        let clock = ManualClock::new();
        let times = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&times);
        let call = AsyncMapper::new(move |cancel: &CancelToken, _: &u32| -> Result<(), ApiError> {
            seen.lock().unwrap().push(cancel.now());
            Err(ApiError::Busy)
        });
        let retry = Retry::new(call).max_attempts(9).with_seed(seed);
        retry.to_call().call(&CancelToken::with_clock(&clock), &0).unwrap_err();
        let times = times.lock().unwrap();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
    };
    let first = pauses(1);
    for (pause, full) in first.iter().zip((0..8).map(|doublings| ms(100 << doublings))) {
        assert!(*pause >= full / 2 && *pause <= full, "{pause:?} of {full:?}");
    }
    assert_eq!(first, pauses(1));
    assert_ne!(first, pauses(2));
}

// D-21, D-6: the classifier saw texts of the library, never the error, so it could not tell one from another.
#[test]
fn on_error_gets_the_original_error_and_the_attempt() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&asked);
    let call =
        Mapper::fallible(|item: &u32| if *item == 0 { Err(ApiError::Refused) } else { Err::<(), _>(ApiError::Busy) });
    let retry = Retry::new(call).base_delay(Duration::ZERO).on_error(move |error: &ApiError, attempt| {
        tell.lock().unwrap().push((*error, attempt));
        matches!(error, ApiError::Busy)
    });
    let pipeline = Pipeline::new("retry");
    let results: Vec<_> = Stream::from_iter(&pipeline, 0..2).through(&retry).into_iter().collect();
    let errors: Vec<_> = results.into_iter().map(Result::unwrap_err).collect();
    // D-18: the number of attempts is how many were made.
    assert_eq!(errors.iter().map(StreamError::attempts).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(errors[0].downcast_ref(), Some(&ApiError::Refused));
    assert_eq!(errors[1].downcast_ref(), Some(&ApiError::Busy));
    assert_eq!(errors[1].take_item::<u32>(), Some(1));
    let busy = ApiError::Busy;
    assert_eq!(*asked.lock().unwrap(), [(ApiError::Refused, 1), (busy, 1), (busy, 2), (busy, 3)]);
    pipeline.join();
}

// D-6, D-21: one item at a time, whatever the number of workers of what is wrapped.
#[test]
fn a_worker_that_waits_for_its_retry_stops_no_other() {
    let (clock, pipeline) = virtual_pipeline();
    let calls =
        AsyncMapper::new(|cancel: &CancelToken, item: &u32| -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
            cancel.sleep(ms(10))?;
            if *item == 0 { Err("never".into()) } else { Ok(*item) }
        });
    let retry = Retry::new(calls.with_workers(10)).base_delay(ms(1_000)).max_attempts(2).with_jitter(false);
    let mut results = Stream::from_iter(&pipeline, 0..91).through(&retry.with_ordered(false));
    // Ten at first, then nine at a time.
    clock.advance(ms(10 + 9 * 10));
    let now: Vec<_> = std::iter::from_fn(|| results.try_recv().ok()).map(Result::unwrap).collect();
    assert_eq!(now.len(), 90);
    clock.advance(ms(919));
    assert!(results.try_recv().is_err());
    clock.advance(ms(1));
    assert_eq!(results.try_recv().unwrap().unwrap_err().attempts(), 2);
    pipeline.join();
}

#[test]
fn later_items_wait_for_a_retried_one_within_the_window() {
    let (clock, pipeline) = virtual_pipeline();
    let counts = Arc::default();
    let retry = Retry::new(AsyncMapper::new(busy(&counts)).with_workers(2)).with_jitter(false).with_window(5);
    let items = [1].into_iter().chain(std::iter::repeat_n(0, 99));
    let mut results = Stream::from_iter(&pipeline, items).through(&retry);
    clock.advance(ms(99));
    assert!(results.try_recv().is_err());
    assert_eq!(counts.lock().unwrap().values().sum::<u32>(), 5);
    clock.advance(ms(1));
    assert_eq!(results.recv().unwrap().unwrap(), "1 in 2");
    assert_eq!(results.count().unwrap(), 99);
    pipeline.join();
}

#[test]
fn cancelling_ends_a_delay_at_once_and_is_not_a_failure() {
    let (clock, pipeline) = virtual_pipeline();
    let retry = Retry::new(AsyncMapper::new(never).with_workers(4)).base_delay(Duration::from_secs(20));
    let results = Stream::from_iter(&pipeline, 0..9).through(&retry);
    clock.settle();
    assert_eq!(retry.stats().waiting(), 4);
    pipeline.cancel();
    clock.settle();
    assert_eq!((pipeline.threads(), clock.elapsed()), (0, Duration::ZERO));
    let last: Vec<_> = results.into_iter().collect();
    assert!(last.len() == 1 && last[0].as_ref().unwrap_err().is_cancelled());
    let report = pipeline.join();
    let step = &report.stage("async_map").unwrap().steps[0];
    assert_eq!((step.failed, step.abandoned), (0, 4));
    assert!(matches!(report.outcome, Outcome::Cancelled(_)));
    assert_eq!((retry.stats().waiting(), retry.stats().exhausted()), (0, 0));
}

#[test]
fn a_cancelled_call_is_not_retried() {
    let made = Arc::new(AtomicUsize::new(0));
    let call = AsyncMapper::new({
        let made = Arc::clone(&made);
        move |cancel: &CancelToken, _: &u32| {
            made.fetch_add(1, Ordering::SeqCst);
            cancel.cancel();
            Err::<(), _>(ApiError::Busy)
        }
    });
    let retry = Retry::new(call).on_error(|_, _| panic!("cancellation is not an error to ask about"));
    let error = retry.to_call().call(&CancelToken::new(), &0).unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!((made.load(Ordering::SeqCst), error.attempts), (1, 1));
}

#[test]
fn a_panic_is_not_retried_nor_is_one_of_on_error() {
    let pipeline = Pipeline::new("retry");
    let call = Mapper::fallible(|item: &u32| match item {
        0 => panic!("in the call"),
        _ => Err::<(), _>(ApiError::Busy),
    });
    let retry = Retry::new(call).base_delay(Duration::ZERO).on_error(|_, attempt| match attempt {
        1 => true,
        _ => panic!("in on_error"),
    });
    let results: Vec<_> = Stream::from_iter(&pipeline, 0..2).through(&retry).into_iter().collect();
    let seen: Vec<_> = results
        .iter()
        .map(|result| {
            let error = result.as_ref().unwrap_err();
            let message = error.downcast_ref::<PanicMessage>().unwrap().message().to_owned();
            (error.kind(), message, error.attempts(), error.take_item::<u32>().unwrap())
        })
        .collect();
    let panicked = ErrorKind::Panicked;
    assert_eq!(seen, [(panicked, "in the call".to_owned(), 1, 0), (panicked, "in on_error".to_owned(), 2, 1)]);
    pipeline.join();
}

#[test]
fn a_call_that_hit_its_own_time_limit_is_retried() {
    let clock = ManualClock::new();
    let made = AtomicU32::new(0);
    let call = AsyncMapper::new(move |cancel: &CancelToken, _: &u32| {
        let naps = [ms(60), ms(60), ms(20)];
        cancel.sleep(naps[made.fetch_add(1, Ordering::SeqCst) as usize])
    });
    let retry = Retry::new(call.with_timeout(ms(50))).with_jitter(false);
    retry.to_call().call(&CancelToken::with_clock(&clock), &0).unwrap();
    assert_eq!(clock.elapsed(), ms(50 + 100 + 50 + 200 + 20));
}

// D-21: a fixed limit of 100 ms for each attempt, which could not be changed.
#[test]
fn a_slow_call_has_all_the_time_it_needs() {
    let clock = ManualClock::new();
    let call = AsyncMapper::new(|cancel: &CancelToken, _: &u32| cancel.sleep(Duration::from_secs(3_600)));
    Retry::new(call).to_call().call(&CancelToken::with_clock(&clock), &0).unwrap();
    assert_eq!(clock.elapsed(), Duration::from_secs(3_600));
}

#[test]
fn a_total_limit_cuts_the_last_attempt_short() {
    let (clock, pipeline) = virtual_pipeline();
    let call = AsyncMapper::new(|cancel: &CancelToken, item: &u64| {
        cancel.sleep(ms(*item)).map_err(|_| ApiError::Refused)?;
        Err::<(), _>(ApiError::Busy)
    });
    let retry = Retry::new(call.with_workers(2)).with_total_timeout(ms(250)).with_jitter(false);
    let results = Stream::from_iter(&pipeline, [100, 251]).through(&retry);
    clock.advance(ms(250));
    let errors: Vec<_> = results.into_iter().map(Result::unwrap_err).collect();
    // Item 100: an attempt until 100, a pause until 200, an attempt that would take until 300.
    let seen: Vec<_> = errors.iter().map(|error| (error.kind(), error.attempts())).collect();
    assert_eq!(seen, [(ErrorKind::TimedOut, 2), (ErrorKind::TimedOut, 1)]);
    let source = std::error::Error::source(&errors[0]).unwrap();
    assert_eq!(source.to_string(), "no result within 250ms");
    assert_eq!(source.source().unwrap().downcast_ref(), Some(&ApiError::Busy));
    assert_eq!(errors[0].take_item::<u64>(), Some(100));
    assert_eq!(clock.elapsed(), ms(250));
    pipeline.join();
}

#[test]
fn a_pause_that_ends_too_late_loses_no_error() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, token) = std::sync::mpsc::channel();
    let call = AsyncMapper::new(move |cancel: &CancelToken, _: &u64| {
        sender.send(cancel.clone()).unwrap();
        Err::<(), _>(ApiError::Busy)
    });
    let results = Stream::from_iter(&pipeline, [7]).through(&Retry::new(call).with_total_timeout(ms(1_000)));
    clock.settle();
    // As if the limit had passed during the pause: on a busy machine a thread may be woken late.
    token.recv().unwrap().cancel();
    let error = results.into_iter().next().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::TimedOut, 1));
    let limit = std::error::Error::source(&error).unwrap();
    assert_eq!(limit.source().unwrap().downcast_ref(), Some(&ApiError::Busy));
    pipeline.join();
}

#[test]
fn a_pause_that_would_reach_the_total_limit_is_not_started() {
    let clock = ManualClock::new();
    let retry = Retry::new(AsyncMapper::new(never)).max_attempts(9).with_jitter(false).with_total_timeout(ms(300));
    let error = retry.to_call().call(&CancelToken::with_clock(&clock), &0).unwrap_err();
    // A pause of 100; the one of 200 would end at the limit.
    assert_eq!((clock.elapsed(), error.attempts), (ms(100), 2));
    assert!(matches!(error.failure, CallFailure::Failed(ApiError::Busy)));
    assert_eq!((retry.stats().out_of_time(), retry.stats().exhausted()), (1, 0));
}

#[test]
fn the_budget_counts_the_retries_that_wait() {
    let (clock, pipeline) = virtual_pipeline();
    let retry = Retry::new(AsyncMapper::new(never).with_workers(20)).with_budget(0.0).with_budget_reserve(3);
    let mut results = Stream::from_iter(&pipeline, 0..20).through(&retry.with_ordered(false).max_attempts(2));
    clock.settle();
    // No time has passed: three wait, and the others have been told that there is nothing left.
    let given_up: Vec<_> = std::iter::from_fn(|| results.try_recv().ok()).map(|r| r.unwrap_err().attempts()).collect();
    assert_eq!(given_up, [1; 17]);
    clock.advance(ms(100));
    let tried_again: Vec<_> = results.into_iter().map(|result| result.unwrap_err().attempts()).collect();
    assert_eq!(tried_again, [2; 3]);
    pipeline.join();
}

#[test]
fn the_budget_is_a_share_of_the_calls_of_all_runs() {
    let retry = Retry::new(Mapper::fallible(|_: &u32| Err::<(), _>(ApiError::Busy))).base_delay(Duration::ZERO);
    let retry = retry.max_attempts(2).with_budget(0.25);
    for _ in 0..2 {
        let pipeline = Pipeline::new("retry");
        Stream::from_iter(&pipeline, 0..100).through(&retry).for_each(drop).unwrap();
        pipeline.join();
    }
    // What the first call earned found a full purse.
    assert_eq!((retry.stats().retries(), retry.stats().over_budget()), (10 + 199 / 4, 141));
}

// D-6: a goroutine and two channels for each item and attempt.
#[test]
fn one_stage_and_one_pool_whatever_is_wrapped() {
    let pipeline = Pipeline::new("retry");
    let inner = Retry::new(AsyncMapper::new(busy(&Arc::default())).with_workers(3).with_name("charge"));
    let retry = Retry::new(inner.base_delay(Duration::ZERO)).base_delay(Duration::ZERO).with_workers(2);
    assert_eq!(retry.name(), "charge");
    assert_eq!(Stream::from_iter(&pipeline, [4, 5]).through(&retry).count().unwrap(), 2);
    let report = pipeline.join();
    assert_eq!(report.stages.len(), 3, "source, pool, end: {report}");
}

#[test]
fn attempts_of_nested_retries_are_all_counted() {
    let inner = Retry::new(Mapper::fallible(|_: &u32| Err::<(), _>(ApiError::Busy))).base_delay(Duration::ZERO);
    let retry = Retry::new(inner.max_attempts(4)).base_delay(Duration::ZERO).max_attempts(2);
    assert_eq!(retry.to_call().call(&CancelToken::new(), &0).unwrap_err().attempts, 8);
}

#[test]
fn an_item_is_combined_with_the_result_of_its_last_attempt() {
    /// Cannot be cloned.
    struct Order(u32);
    let counts = Arc::default();
    let call = busy(&counts);
    let retry = Retry::new(AsyncMapper::new(move |cancel: &CancelToken, order: &Order| call(cancel, &order.0)));
    let combined = retry.base_delay(Duration::ZERO).combine(|order, result| match result {
        Ok(text) => Ok((order, text)),
        Err(error) => Err((order, error)),
    });
    let pipeline = Pipeline::new("retry");
    let orders = (0..4).map(Order);
    let results: Vec<_> = Stream::from_iter(&pipeline, orders).through(&combined.with_workers(2)).into_iter().collect();
    let texts: Vec<_> =
        results[..3].iter().map(|result| result.as_ref().unwrap()).map(|(order, text)| (order.0, &**text)).collect();
    assert_eq!(texts, [(0, "0 in 1"), (1, "1 in 2"), (2, "2 in 3")]);
    let error = results[3].as_ref().err().unwrap();
    assert_eq!((error.attempts(), error.take_item::<Order>().unwrap().0), (3, 3));
    assert_eq!(error.downcast_ref(), Some(&ApiError::Busy));
    pipeline.join();
}

#[test]
#[should_panic(expected = "`max_attempts` must be at least 1")]
fn no_attempts_are_refused() {
    let _ = Retry::new(AsyncMapper::new(never)).max_attempts(0);
}

#[test]
#[should_panic(expected = "`max_delay` (50ms) must not be less than `base_delay` (100ms)")]
fn a_longest_pause_below_the_first_is_refused_when_it_is_used() {
    let pipeline = Pipeline::new("retry");
    drop(Stream::from_iter(&pipeline, [1]).through(&Retry::new(AsyncMapper::new(never)).max_delay(ms(50))));
}

#[test]
#[should_panic(expected = "`share` must be finite and at least 0.0, not -0.5")]
fn an_invalid_budget_is_refused() {
    let _ = Retry::new(AsyncMapper::new(never)).with_budget(-0.5);
}

/// The items and the calls that fail in a pool which is given the numbers from 0 to 4.
fn failures<P: Processor<In = u32>>(pool: &P) -> (u64, u64) {
    let pipeline = Pipeline::new("failures");
    Stream::from_iter(&pipeline, 0..5).through(pool).for_each(drop).unwrap();
    let report = pipeline.join();
    (report.stages[1].failed(), report.stages[1].failed_calls())
}

#[test]
fn failed_calls_are_counted_even_if_recovered() {
    let never = || AsyncMapper::new(never).with_workers(1);
    assert_eq!(failures(&never()), (5, 5), "as they are");
    assert_eq!(failures(&never().combine(|n, result| Ok((n, result.ok())))), (0, 5), "combined");
    assert_eq!(failures(&Fallback::new(never(), |_, _, _| Some(()))), (0, 5), "with a fallback");
    let retry = |attempts| {
        let busy = AsyncMapper::new(busy(&Arc::default())).with_workers(2);
        Retry::new(busy).max_attempts(attempts).base_delay(Duration::ZERO)
    };
    assert_eq!(failures(&retry(5)), (0, 1 + 2 + 3 + 4), "every attempt");
    assert_eq!(failures(&retry(2)), (3, 1 + 2 + 2 + 2), "the last one, too");
    let breaker = CircuitBreaker::new(never()).with_count_window(2).min_requests(2);
    assert_eq!(failures(&Fallback::new(breaker, |_, _, _| Some(()))), (0, 5), "refused by a circuit breaker");
    let panics = Mapper::fallible(|n: &u32| if *n > 2 { panic!("on purpose") } else { streamz::ok(*n) });
    assert_eq!(failures(&Fallback::new(panics, |_, _, _| Some(0))), (0, 2), "panics of another call");
    let twice = Fallback::new(Fallback::new(retry(2), |_, _, _| None), |_, _, _| Some(String::new()));
    assert_eq!(failures(&twice.combine(|_, result| Ok(result.ok()))), (0, 7), "once, through all layers");
}

#[test]
fn timed_out_calls_have_failed_and_cancelled_ones_have_not() {
    let nap = |limit| AsyncMapper::new(|cancel: &CancelToken, _: &u32| cancel.sleep(ms(100))).with_timeout(limit);
    let counts = |retry: &Retry<_>, stop: fn(&Pipeline)| {
        let (clock, pipeline) = virtual_pipeline();
        Stream::from_iter(&pipeline, [0]).through(retry).named("sink").spawn_for_each(drop);
        clock.advance(ms(50));
        stop(&pipeline);
        clock.advance(ms(1_000));
        let report = pipeline.join();
        (report.stages[1].failed(), report.stages[1].failed_calls())
    };
    let own = Retry::new(nap(ms(10))).with_jitter(false).base_delay(ms(10));
    assert_eq!(counts(&own, |_| ()), (1, 3), "its own limit");
    let total = Retry::new(nap(ms(200))).with_total_timeout(ms(80));
    assert_eq!(counts(&total, |_| ()), (1, 1), "the limit of all attempts");
    assert_eq!(counts(&total, |pipeline| pipeline.cancel()), (0, 0), "cancelled");
}
