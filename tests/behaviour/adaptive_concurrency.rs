//! `AdaptiveConcurrency`: the limit that it finds with a real pool, in virtual time. `gradient/tests.rs` has the many cases.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use streamz::{
    AdaptiveConcurrency, AsyncMapper, Call, CallStage, CancelToken, Cause, ConcurrencyStats, ManualClock, Outcome,
    Processor, Stream,
};

use crate::{ms, virtual_pipeline};

/// A service with a knee: its servers work on one call each, and the others queue.
#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
}

struct State {
    time: Duration,
    /// When each of the servers will be free.
    free: BinaryHeap<Reverse<Instant>>,
    latencies: Vec<Duration>,
}

impl Service {
    fn new(servers: usize, time: Duration, clock: &ManualClock) -> Self {
        let free = std::iter::repeat_n(Reverse(clock.now()), servers).collect();
        Self { state: Arc::new(Mutex::new(State { time, free, latencies: Vec::new() })) }
    }

    fn set_servers(&self, servers: usize, clock: &ManualClock) {
        let mut state = self.state.lock().unwrap();
        while state.free.len() > servers {
            state.free.pop();
        }
        while state.free.len() < servers {
            state.free.push(Reverse(clock.now()));
        }
    }

    /// What a call does.
    fn call(&self) -> impl Fn(&CancelToken, &u64) -> Result<u64, streamz::Cancelled> + Send + Sync + 'static {
        let service = self.clone();
        move |cancel, item| {
            let now = cancel.now();
            let mut state = service.state.lock().unwrap();
            let Reverse(free) = state.free.pop().unwrap();
            let finished = free.max(now) + state.time;
            state.free.push(Reverse(finished));
            state.latencies.push(finished - now);
            drop(state);
            cancel.sleep(finished - now)?;
            Ok(*item)
        }
    }

    /// The latency that all but one call in a hundred were below, of those since the last look.
    fn p99(&self) -> Duration {
        let mut latencies = std::mem::take(&mut self.state.lock().unwrap().latencies);
        latencies.sort();
        latencies[latencies.len() * 99 / 100]
    }
}

/// The mean of the limit in the next seconds.
fn mean_limit(stats: &ConcurrencyStats, clock: &ManualClock, seconds: u32) -> f64 {
    let limits = (0..seconds).map(|_| {
        clock.advance(Duration::from_secs(1));
        stats.limit() as f64
    });
    limits.sum::<f64>() / f64::from(seconds)
}

#[test]
fn the_limit_follows_a_service_that_slows_down_and_recovers() {
    let (clock, pipeline) = virtual_pipeline();
    let service = Service::new(40, ms(100), &clock);
    let adaptive = AdaptiveConcurrency::new(AsyncMapper::new(service.call()).with_workers(100));
    let stats = adaptive.stats();
    Stream::from_iter(&pipeline, 0_u64..).through(&adaptive).spawn_for_each(drop);
    for servers in [40, 20, 40] {
        service.set_servers(servers, &clock);
        clock.advance(Duration::from_secs(10));
        service.p99();
        let limit = mean_limit(&stats, &clock, 4);
        let knee = servers as f64;
        assert!((limit - knee).abs() <= 0.1 * knee, "the limit is {limit} with {servers} servers");
        // With all 100 workers it would be 250 ms, and then 500 ms.
        assert!(service.p99() <= ms(200), "with {servers} servers");
        assert!(stats.in_progress() <= stats.limit() && stats.waiting() > 0, "{stats:?}");
    }
    assert_eq!(stats.base_latency().unwrap().as_millis(), 100);
    pipeline.abort();
}

#[test]
fn a_fixed_limit_that_is_too_high_only_makes_calls_slower() {
    let (clock, pipeline) = virtual_pipeline();
    let service = Service::new(40, ms(100), &clock);
    let fixed = AsyncMapper::new(service.call()).with_workers(100);
    Stream::from_iter(&pipeline, 0_u64..).through(&fixed).spawn_for_each(drop);
    clock.advance(Duration::from_secs(1));
    service.p99();
    clock.advance(Duration::from_secs(2));
    assert!(service.p99() > ms(200));
    pipeline.abort();
}

#[test]
fn a_failure_lowers_the_limit_unless_it_is_ignored() {
    let calls = AsyncMapper::new(|_: &CancelToken, item: &&'static str| match *item {
        "fine" => Ok(()),
        error => Err(error),
    });
    let adaptive = AdaptiveConcurrency::new(calls).with_initial_limit(20).ignore_if(|error| *error == "no such order");
    let (stats, call, token) = (adaptive.stats(), adaptive.to_call(), CancelToken::new());
    assert!(call.call(&token, &"no such order").is_err());
    assert_eq!(stats.limit(), 20);
    assert!(call.call(&token, &"busy").is_err());
    assert_eq!(stats.limit(), 18);
    assert!(call.call(&token, &"fine").is_ok());
    assert_eq!((stats.limit(), stats.in_progress()), (18, 0));
}

#[test]
fn a_timeout_lowers_the_limit_and_a_panic_does_not() {
    let clock = ManualClock::new();
    let token = CancelToken::with_clock(&clock);
    let calls = AsyncMapper::new(|cancel: &CancelToken, item: &u32| {
        assert_ne!(*item, 0, "on purpose");
        cancel.sleep(Duration::from_secs(9))
    });
    let adaptive = AdaptiveConcurrency::new(calls.with_timeout(ms(10))).with_initial_limit(20);
    let call = adaptive.to_call();
    assert!(call.call(&token, &0).is_err());
    assert_eq!(adaptive.stats().limit(), 20);
    assert!(call.call(&token, &1).is_err());
    assert_eq!(adaptive.stats().limit(), 18);
}

#[test]
fn no_more_calls_are_in_progress_than_the_maximum() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = AsyncMapper::new(|cancel: &CancelToken, _: &u32| cancel.sleep(Duration::from_secs(1))).with_workers(9);
    let adaptive = AdaptiveConcurrency::new(calls).with_max_limit(3);
    let stats = adaptive.stats();
    let results = Stream::from_iter(&pipeline, 0..12).through(&adaptive).spawn(Stream::count);
    for _ in 0..4 {
        clock.settle();
        assert_eq!(stats.in_progress(), 3);
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(results.join().unwrap(), 12);
    assert!(pipeline.join().is_complete());
}

#[test]
fn cancellation_ends_the_wait_of_calls_that_are_held_back() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = AsyncMapper::new(|cancel: &CancelToken, _: &u32| cancel.sleep(Duration::from_secs(9))).with_workers(5);
    let adaptive = AdaptiveConcurrency::new(calls).with_max_limit(2);
    let stats = adaptive.stats();
    Stream::from_iter(&pipeline, 0..).through(&adaptive).spawn_for_each(drop);
    clock.settle();
    assert_eq!((stats.in_progress(), stats.waiting()), (2, 3));
    pipeline.cancel();
    let report = pipeline.join();
    assert!(matches!(report.outcome, Outcome::Cancelled(Cause::Requested)), "{report}");
    assert_eq!((stats.in_progress(), stats.waiting()), (0, 0));
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[test]
#[should_panic(expected = "`min_limit` (5) must not be more than `max_limit` (4)")]
fn a_minimum_above_the_maximum_is_refused() {
    let calls = AsyncMapper::new(|_: &CancelToken, _: &u32| streamz::ok(()));
    let adaptive = AdaptiveConcurrency::new(calls).with_max_limit(4).with_min_limit(5);
    let (_, pipeline) = virtual_pipeline();
    drop(adaptive.process(&pipeline, Stream::from_iter(&pipeline, 0..1)));
}
