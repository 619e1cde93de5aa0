//! The cost of windows for each item: `TumblingWindow`, `SlidingWindow`, `SessionWindow` and `Aggregate`, compared with
//! plain loops that do the same. With many keys, also the cost of other state by key: `Batcher::with_key`, `Dedupe` and
//! `Scan::with_key`. The loops use a `HashMap` with the hasher of the standard library, as the operators do.
//!
//! Everything runs on one thread, including source and sink, so no hop is measured. Items are u64; their times are
//! their numbers, in milliseconds, except where the time of arrival is used, which costs reads of the clock. Time per
//! iteration divided by the items is time per item.

mod common;

use std::collections::{HashMap, HashSet, VecDeque};
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use common::{configured, sized, step};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use streamz::{
    Aggregate, BatchConfig, Batcher, Dedupe, Inline, Pipeline, Scan, SessionWindow, SlidingWindow, Stage,
    TumblingWindow, Window, folds,
};

const ITEMS: u64 = sized(1_000_000);

/// Long windows, in milliseconds, so that the items dominate the cost.
const SIZE: u64 = 60_000;
const SLIDE: u64 = 1_000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn time(n: &u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + ms(*n)
}

/// All items through one stage; adds up `value` of each output item.
fn through<S: Stage<In = u64>>(stage: S, value: impl Fn(S::Out) -> u64) -> u64 {
    let pipeline = Pipeline::new("bench");
    Inline::from_iter(&pipeline, 0..ITEMS).with(stage).fold(0u64, |sum, out| sum.wrapping_add(value(out))).unwrap()
}

fn items(window: Window<u64>) -> u64 {
    window.items.len() as u64
}

/// Windows of items.
fn tumbling_loop() -> u64 {
    let (mut open, mut sum): (Vec<u64>, u64) = (Vec::new(), 0);
    let mut close = |open: &mut Vec<u64>| sum += black_box(std::mem::take(open)).len() as u64;
    let mut end = SIZE;
    for n in 0..ITEMS {
        let n = black_box(n);
        if n >= end {
            close(&mut open);
            end = n / SIZE * SIZE + SIZE;
        }
        open.push(n);
    }
    close(&mut open);
    sum
}

/// One sum for each window.
fn tumbling_sum_loop() -> u64 {
    let (mut open, mut sum, mut end) = (0u64, 0u64, SIZE);
    for n in 0..ITEMS {
        let n = black_box(n);
        if n >= end {
            sum = sum.wrapping_add(black_box(std::mem::take(&mut open)));
            end = n / SIZE * SIZE + SIZE;
        }
        open = open.wrapping_add(step(n) >> 32);
    }
    sum.wrapping_add(open)
}

/// A sum for each slide, and the sum of these for each window.
fn sliding_sum_loop() -> u64 {
    let slides = (SIZE / SLIDE) as usize;
    let (mut panes, mut sum, mut end): (VecDeque<u64>, u64, u64) = (VecDeque::from([0]), 0, SLIDE);
    for n in 0..ITEMS {
        let n = black_box(n);
        if n >= end {
            sum = panes.iter().fold(sum, |sum, pane| sum.wrapping_add(*pane));
            if panes.len() == slides {
                panes.pop_front();
            }
            panes.push_back(0);
            end += SLIDE;
        }
        if let Some(pane) = panes.back_mut() {
            *pane = pane.wrapping_add(step(n) >> 32);
        }
    }
    while !panes.is_empty() {
        sum = panes.iter().fold(sum, |sum, pane| sum.wrapping_add(*pane));
        panes.pop_front();
    }
    sum
}

/// Every item into each of its windows: the naive version, for comparison.
fn sliding_sum_naive_loop() -> u64 {
    let (mut open, mut sum): (VecDeque<(u64, u64)>, u64) = (VecDeque::new(), 0);
    for n in 0..ITEMS {
        let n = black_box(n);
        while open.front().is_some_and(|(end, _)| *end <= n) {
            sum = sum.wrapping_add(open.pop_front().map_or(0, |(_, window)| window));
        }
        let next = open.back().map_or(n / SLIDE * SLIDE + SLIDE, |(end, _)| end + SLIDE);
        open.extend((0..).map(|k| (next + k * SLIDE, 0)).take_while(|(end, _)| *end <= n / SLIDE * SLIDE + SIZE));
        let value = step(n) >> 32;
        open.iter_mut().for_each(|(_, window)| *window = window.wrapping_add(value));
    }
    open.into_iter().fold(sum, |sum, (_, window)| sum.wrapping_add(window))
}

fn windows(c: &mut Criterion) {
    let mut group = c.benchmark_group("tumbling, items");
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function("loop", |b| b.iter(|| assert_eq!(tumbling_loop(), ITEMS)));
    let size = || TumblingWindow::new(ms(SIZE));
    group.bench_function("streamz, arrival", |b| b.iter(|| assert_eq!(through(size(), items), ITEMS)));
    let by_time = || size().with_event_time(time, ms(0));
    group.bench_function("streamz, event time", |b| b.iter(|| assert_eq!(through(by_time(), items), ITEMS)));
    group.finish();

    let expected = tumbling_sum_loop();
    let sum = || folds::sum(|n: &u64| step(*n) >> 32);
    let mut group = c.benchmark_group("tumbling, sum");
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function("loop", |b| b.iter(|| assert_eq!(tumbling_sum_loop(), expected)));
    group.bench_function("streamz, arrival", |b| {
        b.iter(|| assert_eq!(through(size().aggregate_by(sum()), |window| window.result), expected));
    });
    group.bench_function("streamz, event time", |b| {
        b.iter(|| assert_eq!(through(by_time().aggregate_by(sum()), |window| window.result), expected));
    });
    group.bench_function("streamz, 100 keys", |b| {
        let keyed = || by_time().with_key(|n: &u64| n % 100).aggregate_by(sum());
        b.iter(|| assert_eq!(through(keyed(), |keyed| keyed.window.result), expected));
    });
    let aggregate = || Aggregate::by(sum()).with_count_window(SIZE as usize);
    group.bench_function("streamz, aggregate by count", |b| {
        b.iter(|| assert_eq!(through(aggregate(), |window| window.result), expected));
    });
    let in_order = || aggregate().with_event_time(time, ms(100));
    group.bench_function("streamz, aggregate by event time, 100 items kept", |b| {
        b.iter(|| assert_eq!(through(in_order(), |window| window.result), expected));
    });
    group.finish();

    let expected = sliding_sum_loop();
    let mut group = c.benchmark_group("sliding 60 s by 1 s, sum");
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function("loop over slices", |b| b.iter(|| assert_eq!(sliding_sum_loop(), expected)));
    group.bench_function("loop over windows", |b| b.iter(|| assert_eq!(sliding_sum_naive_loop(), expected)));
    let sliding = || SlidingWindow::new(ms(SIZE)).with_slide(ms(SLIDE));
    group.bench_function("streamz, arrival", |b| {
        // The clock determines how many windows each item is in.
        b.iter(|| black_box(through(sliding().aggregate_by(sum()), |window| window.result)));
    });
    group.bench_function("streamz, event time", |b| {
        let by_time = || sliding().with_event_time(time, ms(0)).aggregate_by(sum());
        b.iter(|| assert_eq!(through(by_time(), |window| window.result), expected));
    });
    group.finish();
}

/// Item `n` when about `keys` sessions are open: each key has four items, `keys` items apart, and then no more.
fn key(n: u64, keys: u64) -> u64 {
    let (round, slot) = (n / keys, n % keys);
    // The key of a slot changes at different times for different slots.
    let key = slot + keys * ((round + slot % 4) / 4);
    // Spread, so that neighbours in time are not neighbours in memory.
    key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A session ends when two rounds have passed without an item of its key.
fn sessions_loop(items: u64, keys: u64) -> u64 {
    let mut open: HashMap<u64, (u64, u64)> = HashMap::new();
    // In order of time: when each key was last seen, as known at the time.
    let (mut due, mut closed): (VecDeque<(u64, u64)>, u64) = (VecDeque::new(), 0);
    for n in 0..items {
        while let Some((at, key)) = due.front().copied().filter(|(at, _)| at + 2 * keys <= n) {
            due.pop_front();
            match open.get(&key) {
                Some((last, _)) if *last > at => due.push_back((*last, key)),
                _ => closed += open.remove(&key).map_or(0, |(_, count)| count),
            }
        }
        let key = key(black_box(n), keys);
        let session = open.entry(key).or_insert_with(|| {
            due.push_back((n, key));
            (n, 0)
        });
        *session = (n, session.1 + 1);
    }
    closed + open.values().map(|(_, count)| count).sum::<u64>()
}

fn sessions(items: u64, keys: u64) -> u64 {
    let count = SessionWindow::new(move |n: &u64| key(*n, keys))
        .with_gap(ms(2 * keys))
        .with_max_keys(usize::MAX)
        .with_event_time(time, ms(0))
        .aggregate_by(folds::count());
    let pipeline = Pipeline::new("bench");
    Inline::from_iter(&pipeline, 0..items).with(count).fold(0, |sum, keyed| sum + keyed.window.result).unwrap()
}

/// A random one of `keys` keys.
fn random_key(n: u64, keys: u64) -> u64 {
    (step(n ^ step(n)) % keys).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// About a third of the items have the key of an earlier one.
fn recurring_key(n: u64, keys: u64) -> u64 {
    random_key(n, keys).wrapping_add(n / keys * (keys / 2))
}

/// All items through one stage; adds up `value` of each output item.
fn keyed_through<S: Stage<In = u64>>(items: u64, stage: S, value: impl Fn(S::Out) -> u64) -> u64 {
    let pipeline = Pipeline::new("bench");
    Inline::from_iter(&pipeline, 0..items).with(stage).fold(0u64, |sum, out| sum.wrapping_add(value(out))).unwrap()
}

/// A window has about two items of each key.
fn keyed_tumbling_loop(items: u64, keys: u64) -> u64 {
    let (mut open, mut sum, mut end): (HashMap<u64, u64>, u64, u64) = (HashMap::new(), 0, 2 * keys);
    for n in 0..items {
        if n >= end {
            open.drain().for_each(|window| sum += black_box(window).1);
            end += 2 * keys;
        }
        *open.entry(random_key(n, keys)).or_insert(0) += 1;
    }
    sum + open.into_values().sum::<u64>()
}

fn keyed_tumbling(items: u64, keys: u64) -> u64 {
    let windows = TumblingWindow::new(ms(2 * keys)).with_key(move |n: &u64| random_key(*n, keys));
    let counts = windows.with_max_keys(usize::MAX).with_event_time(time, ms(0)).aggregate_by(folds::count());
    keyed_through(items, counts, |keyed| keyed.window.result)
}

/// As tumbling windows, but one starts every quarter: each item is in four windows.
fn keyed_sliding_loop(items: u64, keys: u64) -> u64 {
    // The slides of each key, with their starts and counts.
    type Slides = HashMap<u64, VecDeque<(u64, u64)>>;
    fn close(open: &mut Slides, end: u64, keys: u64) -> u64 {
        let mut sum = 0;
        open.retain(|key, slides| {
            sum += black_box((key, slides.iter().map(|(_, count)| count).sum::<u64>())).1;
            if slides.front().is_some_and(|(start, _)| start + 2 * keys <= end) {
                slides.pop_front();
            }
            !slides.is_empty()
        });
        sum
    }
    let (mut open, mut sum, mut end) = (Slides::new(), 0, keys / 2);
    for n in 0..items {
        if n >= end {
            sum += close(&mut open, end, keys);
            end += keys / 2;
        }
        let slides = open.entry(random_key(n, keys)).or_default();
        match slides.back_mut().filter(|(start, _)| *start == end - keys / 2) {
            Some((_, count)) => *count += 1,
            None => slides.push_back((end - keys / 2, 1)),
        }
    }
    while !open.is_empty() {
        sum += close(&mut open, end, keys);
        end += keys / 2;
    }
    sum
}

fn keyed_sliding(items: u64, keys: u64) -> u64 {
    let windows =
        SlidingWindow::new(ms(2 * keys)).with_slide(ms(keys / 2)).with_key(move |n: &u64| random_key(*n, keys));
    let counts = windows.with_max_keys(usize::MAX).with_event_time(time, ms(0)).aggregate_by(folds::count());
    keyed_through(items, counts, |keyed| keyed.window.result)
}

fn batches_loop(items: u64, keys: u64) -> u64 {
    let (mut open, mut sum): (HashMap<u64, Vec<u64>>, u64) = (HashMap::new(), 0);
    for n in 0..items {
        let key = random_key(n, keys);
        let batch = open.entry(key).or_default();
        batch.push(n);
        if batch.len() == 4 {
            sum += open.remove(&key).map_or(0, |batch| black_box(batch).len() as u64);
        }
    }
    sum + open.into_values().map(|batch| batch.len() as u64).sum::<u64>()
}

fn batches(items: u64, keys: u64) -> u64 {
    let batches = Batcher::new(BatchConfig { max_size: 4, max_latency: Duration::ZERO });
    let batches = batches.with_key(move |n: &u64| random_key(*n, keys), usize::MAX);
    keyed_through(items, batches, |batch| batch.len() as u64)
}

/// Remembers up to `keys` keys.
fn dedupe_loop(items: u64, keys: u64) -> u64 {
    let (mut seen, mut ages, mut passed): (HashSet<u64>, VecDeque<u64>, u64) = (HashSet::new(), VecDeque::new(), 0);
    for n in 0..items {
        let key = recurring_key(n, keys);
        if seen.insert(key) {
            ages.push_back(key);
            if ages.len() as u64 > keys {
                let _ = ages.pop_front().is_some_and(|oldest| seen.remove(&oldest));
            }
            passed += 1;
        }
    }
    passed
}

fn dedupe(items: u64, keys: u64) -> u64 {
    keyed_through(items, Dedupe::new(move |n: &u64| recurring_key(*n, keys)).with_max_keys(keys as usize), |_| 1)
}

fn totals_loop(items: u64, keys: u64) -> u64 {
    let (mut totals, mut sum): (HashMap<u64, u64>, u64) = (HashMap::new(), 0);
    for n in 0..items {
        let total = totals.entry(random_key(n, keys)).or_insert(0);
        *total += n;
        sum = sum.wrapping_add(*total);
    }
    sum
}

fn totals(items: u64, keys: u64) -> u64 {
    let add = |total: &mut u64, n: u64| {
        *total += n;
        *total
    };
    keyed_through(items, Scan::new(|| 0, add).with_key(move |n: &u64| random_key(*n, keys), usize::MAX), |total| total)
}

fn keyed(c: &mut Criterion) {
    type Run = fn(u64, u64) -> u64;
    // The number of items for each key with which windows end continuously.
    let works: [(&str, u64, Run, Run); 6] = [
        ("sessions", 8, sessions_loop, sessions),
        ("tumbling", 4, keyed_tumbling_loop, keyed_tumbling),
        ("sliding", 4, keyed_sliding_loop, keyed_sliding),
        ("batches", 4, batches_loop, batches),
        ("dedupe", 4, dedupe_loop, dedupe),
        ("scan", 4, totals_loop, totals),
    ];
    for (work, rounds, plain, operator) in works {
        for keys in [1_000, sized(1_000_000)] {
            let items = ITEMS.max(rounds * keys);
            let mut expected = None;
            let mut group = c.benchmark_group(format!("{work}, {keys} keys at a time"));
            group.throughput(Throughput::Elements(items));
            for (name, run) in [("loop", plain), ("streamz", operator)] {
                group.bench_function(BenchmarkId::from_parameter(name), |b| {
                    b.iter(|| {
                        let sum = run(items, keys);
                        assert_eq!(sum, *expected.get_or_insert(sum));
                    });
                });
            }
            group.finish();
        }
    }
}

criterion_group! { name = benches; config = configured(); targets = windows, keyed }
criterion_main!(benches);
