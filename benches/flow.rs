//! The cost of flow-control operators, compared with a loop that does the same; how close a throttle comes to its rate;
//! and the cost of a key in `Dedupe` and in a batcher by key, with few and with many keys.
//!
//! u64 items; capacity 1024 except around the throttles. Operators that can share a thread run on the thread that reads
//! them, so no hop is counted; the others have hops, and are compared with a stage that does nothing. Time per
//! iteration divided by the items is time per item; for the throttle, the relevant figure is items per second.

mod common;

use std::collections::{HashMap, HashSet, VecDeque};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{CAPACITY, configured, mix, sized, step};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use streamz::{
    BatchConfig, Batcher, Debounce, Dedupe, Delay, DroppingBuffer, Inline, Mapper, Monitor, Pipeline, Processor,
    SlidingBuffer, Stage, Stream, Throttle, Timeout,
};

const ITEMS: u64 = sized(1_000_000);

/// Longer than any run.
const LONG: Duration = Duration::from_secs(3600);

fn pipeline() -> Pipeline {
    Pipeline::builder("bench").capacity(CAPACITY).build()
}

/// On the thread that reads it.
fn inline<S: Stage<In = u64, Out = u64>>(stage: S) -> u64 {
    let pipeline = pipeline();
    let sum = Inline::from_iter(&pipeline, 0..ITEMS).with(stage).fold(0, mix).unwrap();
    pipeline.join();
    sum
}

/// With its own thread, between two hops.
fn threaded<P: Processor<In = u64, Out = u64>>(processor: &P) -> u64 {
    let pipeline = pipeline();
    let sum = Stream::from_iter(&pipeline, 0..ITEMS).through(processor).fold(0, mix).unwrap();
    pipeline.join();
    sum
}

#[allow(clippy::disallowed_methods)] // a bench measures real time
fn now() -> Instant {
    Instant::now()
}

fn loop_throttle(interval: Duration) -> u64 {
    let mut full_at = now();
    (0..ITEMS).fold(0, |sum, n| {
        let at = now();
        full_at = full_at.max(at) + black_box(interval);
        mix(sum, n)
    })
}

fn loop_debounce() -> u64 {
    let (mut pending, mut due) = (None, now());
    for n in 0..ITEMS {
        due = now() + LONG;
        black_box(pending.replace(n));
    }
    black_box(due);
    mix(0, pending.unwrap_or(0))
}

fn loop_delay() -> u64 {
    let (mut held, mut sum) = (VecDeque::new(), 0);
    for n in 0..ITEMS {
        held.push_back((now(), n));
        while let Some((due, n)) = held.pop_front() {
            if due > now() {
                held.push_front((due, n));
                break;
            }
            sum = mix(sum, n);
        }
    }
    sum
}

fn loop_timeout() -> u64 {
    let mut due = now();
    let sum = (0..ITEMS).fold(0, |sum, n| {
        due = now() + LONG;
        mix(sum, n)
    });
    black_box(due);
    sum
}

fn each(c: &mut Criterion) {
    let mut group = c.benchmark_group("flow, no hop");
    group.throughput(Throughput::Elements(ITEMS));
    let all = (0..ITEMS).fold(0, mix);
    group.bench_function("map: loop", |b| b.iter(|| (0..ITEMS).fold(0, |sum, n| mix(sum, step(black_box(n))))));
    group.bench_function("map", |b| b.iter(|| inline(Mapper::new(step))));
    group.bench_function("throttle: loop", |b| b.iter(|| assert_eq!(loop_throttle(Duration::from_nanos(1)), all)));
    let free = || Throttle::new(1e9).with_burst(usize::MAX);
    group.bench_function("throttle that never waits", |b| b.iter(|| assert_eq!(inline(free()), all)));
    group.bench_function("dropping throttle", |b| b.iter(|| assert_eq!(inline(free().dropping()), all)));
    group.bench_function("debounce: loop", |b| b.iter(|| assert_eq!(loop_debounce(), ITEMS - 1)));
    group.bench_function("debounce", |b| b.iter(|| assert_eq!(inline(Debounce::new(LONG)), ITEMS - 1)));
    group.bench_function("delay by zero: loop", |b| b.iter(|| assert_eq!(loop_delay(), all)));
    group.bench_function("delay by zero", |b| b.iter(|| assert_eq!(inline(Delay::new(Duration::ZERO)), all)));
    group.bench_function("timeout: loop", |b| b.iter(|| assert_eq!(loop_timeout(), all)));
    group.bench_function("timeout", |b| b.iter(|| assert_eq!(inline(Timeout::new(LONG)), all)));
    group.finish();

    let mut group = c.benchmark_group("flow, two hops");
    group.throughput(Throughput::Elements(ITEMS));
    let room = ITEMS as usize;
    group.bench_function("a stage that does nothing", |b| {
        b.iter(|| assert_eq!(threaded(&Mapper::new(|n: u64| n)), all));
    });
    group.bench_function("dropping buffer", |b| b.iter(|| assert_eq!(threaded(&DroppingBuffer::new(room)), all)));
    group.bench_function("sliding buffer", |b| b.iter(|| assert_eq!(threaded(&SlidingBuffer::new(room)), all)));
    // These drop most items.
    group.bench_function("dropping buffer of 64", |b| b.iter(|| threaded(&DroppingBuffer::new(64))));
    group.bench_function("sliding buffer of 64", |b| b.iter(|| threaded(&SlidingBuffer::new(64))));
    let monitor = Monitor::new(Duration::from_millis(10)).on_stats(|stats| _ = black_box(stats));
    group.bench_function("monitor", |b| b.iter(|| assert_eq!(threaded(&monitor), all)));
    let (monitor, began) = (Monitor::new(Duration::from_millis(10)), std::time::SystemTime::UNIX_EPOCH);
    let monitor = monitor.on_stats(|stats| _ = black_box(stats)).with_timestamp(move |_| began);
    group.bench_function("monitor with ages", |b| b.iter(|| assert_eq!(threaded(&monitor), all)));
    group.finish();
}

/// The number of items of about a second, if optimized. With a small burst, each item takes a wake-up.
fn about_a_second(rate: f64, burst: Option<usize>) -> u64 {
    let reachable = if burst.is_some() { rate.min(10_000.0) } else { rate };
    sized(reachable as u64) + 1
}

/// Those items through a throttle between two threads that could go much faster; timed from the first item.
fn throttled(rate: f64, burst: Option<usize>) -> (u64, Duration) {
    let count = about_a_second(rate, burst);
    // Room for items that are moved while a neighbour waits for a core.
    let pipeline = Pipeline::builder("bench").capacity(65_536).build();
    let throttle = Throttle::new(rate);
    let throttle = if let Some(burst) = burst { throttle.with_burst(burst) } else { throttle };
    let mut stream = Stream::from_iter(&pipeline, 0..count).through(&throttle);
    stream.recv().unwrap().unwrap();
    let started = now();
    let rest = stream.count().unwrap();
    let took = started.elapsed();
    pipeline.join();
    assert_eq!(rest + 1, count);
    (count, took)
}

/// Threads that keep cores busy until they are dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn new(threads: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let work = |stop: Arc<AtomicBool>| {
            move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n = black_box(step(n));
                }
            }
        };
        Self { threads: (0..threads).map(|_| thread::spawn(work(Arc::clone(&stop)))).collect(), stop }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// The share of its rate that a throttle reaches when it always has input: printed, and as items per second.
fn shares(c: &mut Criterion) {
    for rate in [1e3, 1e5, 1e6] {
        for (burst, name) in [(None, "default burst"), (Some(1), "burst 1")] {
            for busy in [0, 2] {
                let mut group = c.benchmark_group(format!("throttle to {rate} per second"));
                group.throughput(Throughput::Elements(about_a_second(rate, burst)));
                let mut shares = Vec::new();
                let load = Busy::new(busy);
                group.bench_function(BenchmarkId::new(name, format!("{busy} busy threads")), |b| {
                    b.iter_custom(|rounds| {
                        (0..rounds)
                            .map(|_| {
                                let (count, took) = throttled(rate, burst);
                                // The first burst takes no time.
                                let free = burst.map_or((rate / 50.0) as u64 + 1, |burst| burst as u64);
                                shares.push(100.0 * (count - free) as f64 / took.as_secs_f64() / rate);
                                took
                            })
                            .sum()
                    });
                });
                drop(load);
                shares.sort_by(f64::total_cmp);
                // Empty if the command line has selected another bench.
                if let Some(least) = shares.first() {
                    let median = shares[shares.len() / 2];
                    println!(
                        "{rate} per second, {name}, {busy} busy threads: median {median:.2} %, least {least:.2} %"
                    );
                }
                group.finish();
            }
        }
    }
}

fn keys(c: &mut Criterion) {
    for live in [1_000, 100_000, 1_000_000].map(sized) {
        let items = (4 * live).max(ITEMS);
        let key = move |n: &u64| step(*n) % live;
        let mut group = c.benchmark_group(format!("{live} live keys"));
        group.throughput(Throughput::Elements(items));
        group.bench_function("set: loop", |b| {
            b.iter(|| {
                let mut seen = HashSet::new();
                (0..items).filter(|n| seen.insert(key(n))).count()
            });
        });
        group.bench_function("dedupe", |b| b.iter(|| deduped(items, Dedupe::new(key).with_max_keys(live as usize))));
        // Each time, half of the keys are new or have been evicted.
        let wider = move |n: &u64| step(*n) % (2 * live);
        group.bench_function("dedupe, as many evicted as kept", |b| {
            b.iter(|| deduped(items, Dedupe::new(wider).with_max_keys(live as usize)));
        });
        group.bench_function("dedupe with a time to live", |b| {
            b.iter(|| deduped(items, Dedupe::new(key).with_max_keys(live as usize).with_ttl(LONG)));
        });
        group.bench_function("batches of 4 in a map: loop", |b| {
            b.iter(|| {
                let mut open: HashMap<u64, Vec<u64>> = HashMap::new();
                let mut sent = 0;
                for n in 0..items {
                    let batch = open.entry(key(&n)).or_default();
                    batch.push(n);
                    if batch.len() == 4 {
                        sent += black_box(open.remove(&key(&n))).map_or(0, |batch| batch.len());
                    }
                }
                sent
            });
        });
        group.bench_function("batches of 4 by key", |b| {
            b.iter(|| {
                let pipeline = pipeline();
                let batcher = Batcher::new(BatchConfig { max_size: 4, max_latency: LONG }).with_key(key, live as usize);
                let count = Inline::from_iter(&pipeline, 0..items).with(batcher).count().unwrap();
                pipeline.join();
                count
            });
        });
        group.finish();
    }
}

fn deduped<F: Fn(&u64) -> u64 + Send + Sync + 'static>(items: u64, dedupe: Dedupe<u64, u64, F>) -> u64 {
    let pipeline = pipeline();
    let count = Inline::from_iter(&pipeline, 0..items).with(dedupe).count().unwrap();
    pipeline.join();
    count
}

criterion_group! { name = benches; config = configured(); targets = each, shares, keys }
criterion_main!(benches);
