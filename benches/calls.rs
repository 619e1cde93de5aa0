//! The cost of guarding a call that does nothing: a retry that is not needed, a breaker closed and open, a limit that
//! is not reached, a fallback, and calls by key. As a single call; and for each item of a pipeline with a pool of two
//! workers in order, compared with the plain `AsyncMapper`, and with the same written by hand with threads, crossbeam
//! channels and a map that orders the results. 300,000 items of 8 bytes, every channel and edge with room for 1,024.

mod common;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{CAPACITY, configured, mix, sized, step};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, Sender, bounded};
use streamz::{
    AdaptiveConcurrency, AsyncMapper, Bulkhead, Call, CallStage, CallTimeout, CancelToken, CircuitBreaker, Fallback,
    Hedge, Layered, Pipeline, Processor, RateLimit, Retry, Stream, StreamError,
};

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// Returns the worker for a key.
type LaneOf = fn(&RandomState, u64) -> u64;

const ITEMS: u64 = sized(300_000);
const WORKERS: usize = 2;
const KEYS: u64 = 1_000;
/// A time that never passes here.
const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("refused")]
struct Refused;

/// The call: it always succeeds, but the compiler does not know.
#[inline]
fn work(n: u64) -> Result<u64, Refused> {
    if black_box(n) == u64::MAX { Err(Refused) } else { Ok(step(n)) }
}

fn mapper() -> AsyncMapper<u64, u64, Refused, impl Fn(&CancelToken, &u64) -> Result<u64, Refused>> {
    AsyncMapper::new(|_: &CancelToken, n: &u64| work(*n)).with_workers(WORKERS)
}

fn failing() -> AsyncMapper<u64, u64, Refused, impl Fn(&CancelToken, &u64) -> Result<u64, Refused>> {
    AsyncMapper::new(|_: &CancelToken, n: &u64| Err(black_box(*n)).map_err(|_| Refused)).with_workers(WORKERS)
}

fn keyed(keys: u64) -> AsyncMapper<u64, u64, Refused, impl Fn(&CancelToken, &u64) -> Result<u64, Refused>> {
    AsyncMapper::keyed(move |n: &u64| n % keys, |_: &CancelToken, n: &u64| work(*n)).with_workers(WORKERS)
}

fn open<S: CallStage>(inner: S) -> CircuitBreaker<S> {
    let breaker = CircuitBreaker::new(inner);
    breaker.circuit().force_open();
    breaker
}

/// The checksum of a run, with one for each refused item.
fn run(processor: &impl Processor<In = u64, Out = u64>) -> u64 {
    let pipeline = Pipeline::builder("bench").capacity(CAPACITY).build();
    let results = Stream::from_iter(&pipeline, 0..ITEMS).through(processor);
    let mut sum = 0;
    results.for_each(|result: Result<u64, StreamError>| sum = mix(sum, result.unwrap_or(1))).unwrap();
    pipeline.join();
    sum
}

/// The same by hand: a source, workers that read its channel, and results ordered by their reader. With `lane` each
/// worker has its own channel, so that a key is always processed by the same one.
fn by_hand<W>(lane: Option<LaneOf>, work: impl Fn() -> W) -> u64
where
    W: FnMut(u64) -> Result<u64, Refused> + Send + 'static,
{
    type Ends = (Sender<(u64, u64)>, Receiver<(u64, u64)>); // number and item
    let inputs: Vec<Ends> = (0..if lane.is_some() { WORKERS } else { 1 }).map(|_| bounded(CAPACITY)).collect();
    let (results, all) = bounded(CAPACITY);
    let mut threads = Vec::new();
    for worker in 0..WORKERS {
        let (input, results, mut work) = (inputs[worker % inputs.len()].1.clone(), results.clone(), work());
        threads.push(thread::spawn(move || {
            input.iter().for_each(|(number, n)| results.send((number, work(n))).unwrap());
        }));
    }
    drop(results);
    threads.push(thread::spawn(move || {
        let state = RandomState::new();
        for n in 0..ITEMS {
            let lane = lane.map_or(0, |lane| lane(&state, n) as usize % WORKERS);
            inputs[lane].0.send((n, n)).unwrap();
        }
    }));
    let (mut sum, mut next, mut early) = (0, 0, BTreeMap::new());
    for (number, result) in all {
        early.insert(number, result);
        while let Some(result) = early.remove(&next) {
            sum = mix(sum, result.unwrap_or(1));
            next += 1;
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

/// The shortest useful retry: three attempts, no delay, since none is needed here.
fn retry_by_hand(n: u64) -> Result<u64, Refused> {
    let mut last = Err(Refused);
    for _ in 0..3 {
        last = work(n);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// The shortest breaker: the results of the last hundred calls behind a lock, and a flag.
#[derive(Default)]
struct Breaker {
    failures: std::collections::VecDeque<bool>,
    failed: usize,
    open: bool,
}

fn guarded(breaker: &Mutex<Breaker>, n: u64) -> Result<u64, Refused> {
    if breaker.lock().unwrap().open {
        return Err(Refused);
    }
    let result = work(n);
    let mut breaker = breaker.lock().unwrap();
    if breaker.failures.len() == 100 {
        let oldest = breaker.failures.pop_front();
        breaker.failed -= usize::from(oldest == Some(true));
    }
    breaker.failures.push_back(result.is_err());
    breaker.failed += usize::from(result.is_err());
    breaker.open = breaker.failures.len() >= 10 && breaker.failed * 2 >= breaker.failures.len();
    result
}

fn breaker_by_hand(open: bool) -> u64 {
    let breaker = Arc::new(Mutex::new(Breaker { open, ..Breaker::default() }));
    by_hand(None, || {
        let breaker = Arc::clone(&breaker);
        move |n| guarded(&breaker, n)
    })
}

/// Single calls, on one thread.
fn calls(c: &mut Criterion) {
    let mut group = c.benchmark_group("a call by itself");
    group.throughput(Throughput::Elements(1));
    let token = CancelToken::new();
    let mut bench = |name: &str, call: &dyn Fn(u64) -> bool| {
        let mut n = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                n += 1;
                call(n)
            });
        });
    };
    let plain = mapper().to_call();
    bench("plain", &|n| plain.call(&token, &n).is_ok());
    let retry = Retry::new(mapper()).to_call();
    bench("retry unused", &|n| retry.call(&token, &n).is_ok());
    let budget = Retry::new(mapper()).with_budget(0.2).to_call();
    bench("retry unused, with a budget", &|n| budget.call(&token, &n).is_ok());
    let closed = CircuitBreaker::new(mapper()).to_call();
    bench("breaker closed", &|n| closed.call(&token, &n).is_ok());
    let timed = CircuitBreaker::new(mapper()).with_time_window(Duration::from_secs(10)).to_call();
    bench("breaker closed, window of time", &|n| timed.call(&token, &n).is_ok());
    let open = open(mapper()).to_call();
    bench("breaker open", &|n| open.call(&token, &n).is_ok());
    let fallback = Fallback::new(mapper(), |_, n, _| Some(*n)).to_call();
    bench("fallback unused", &|n| fallback.call(&token, &n).is_ok());
    let layered = Layered::from_fn(mapper(), |call, cancel, n: &u64| call.call(cancel, n)).to_call();
    bench("layered", &|n| layered.call(&token, &n).is_ok());
    let limited = CallTimeout::new(mapper(), LONG).to_call();
    bench("call timeout", &|n| limited.call(&token, &n).is_ok());
    let bulkhead = Bulkhead::new(mapper(), WORKERS).to_call();
    bench("bulkhead with room", &|n| bulkhead.call(&token, &n).is_ok());
    let keyed_bulkhead = Bulkhead::new(mapper(), WORKERS).with_key(|n: &u64| n % KEYS).to_call();
    bench("bulkhead with room, by key", &|n| keyed_bulkhead.call(&token, &n).is_ok());
    let rate_limit = RateLimit::new(mapper(), 1e12).to_call();
    bench("rate limit that never waits", &|n| rate_limit.call(&token, &n).is_ok());
    let adaptive = AdaptiveConcurrency::new(mapper()).to_call();
    bench("adaptive concurrency", &|n| adaptive.call(&token, &n).is_ok());
    let failing = failing().to_call();
    bench("failing", &|n| failing.call(&token, &n).is_ok());
    let by_hand = Mutex::new(Breaker::default());
    bench("breaker closed by hand", &|n| guarded(&by_hand, n).is_ok());
    group.finish();
}

/// Whole pipelines.
fn pools(c: &mut Criterion) {
    let expected = (0..ITEMS).fold(0, |sum, n| mix(sum, step(n)));
    let refused = (0..ITEMS).fold(0, |sum, _| mix(sum, 1));
    let mut group = c.benchmark_group("calls of a pool");
    group.throughput(Throughput::Elements(ITEMS));
    let bench = |group: &mut Group<'_>, name: &str, expected: u64, run: &dyn Fn() -> u64| {
        group.bench_function(name, |b| b.iter(|| assert_eq!(run(), expected)));
    };
    let hash: LaneOf = |state, n| state.hash_one(n % KEYS);
    bench(&mut group, "plain", expected, &|| run(&mapper()));
    bench(&mut group, "plain by hand", expected, &|| by_hand(None, || work));
    bench(&mut group, "retry unused", expected, &|| run(&Retry::new(mapper())));
    bench(&mut group, "retry unused by hand", expected, &|| by_hand(None, || retry_by_hand));
    bench(&mut group, "breaker closed", expected, &|| run(&CircuitBreaker::new(mapper())));
    bench(&mut group, "breaker closed by hand", expected, &|| breaker_by_hand(false));
    bench(&mut group, "breaker open", refused, &|| run(&open(mapper())));
    bench(&mut group, "breaker open by hand", refused, &|| breaker_by_hand(true));
    bench(&mut group, "fallback(breaker(retry))", expected, &|| {
        run(&Fallback::new(CircuitBreaker::new(Retry::new(mapper())), |_, n, _| Some(*n)))
    });
    bench(&mut group, "failing", refused, &|| run(&failing()));
    bench(&mut group, "failing by hand", refused, &|| by_hand(None, || |n| Err(black_box(n)).map_err(|_| Refused)));
    bench(&mut group, "call timeout", expected, &|| run(&CallTimeout::new(mapper(), LONG)));
    bench(&mut group, "bulkhead with room", expected, &|| run(&Bulkhead::new(mapper(), WORKERS)));
    bench(&mut group, "rate limit that never waits", expected, &|| run(&RateLimit::new(mapper(), 1e12)));
    bench(&mut group, "adaptive concurrency", expected, &|| run(&AdaptiveConcurrency::new(mapper())));
    bench(&mut group, "hedge unused", expected, &|| run(&Hedge::new(mapper(), LONG)));
    bench(&mut group, "combined", expected, &|| run(&mapper().combine(|n, result| result.map_err(|error| (n, error)))));
    bench(&mut group, "keyed, 1,000 keys", expected, &|| run(&keyed(KEYS)));
    bench(&mut group, "keyed, 1,000 keys, by hand", expected, &|| by_hand(Some(hash), || work));
    bench(&mut group, "keyed, one key", expected, &|| run(&keyed(1)));
    group.finish();
}

criterion_group! { name = benches; config = configured(); targets = calls, pools }
criterion_main!(benches);
