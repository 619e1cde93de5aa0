//! The cost of routing: a router with 4 routes, 4 partitions, partitions with a sum for each 1,000 items, fan-out to 3,
//! and a split, all merged again; compared with the same threads and channels by hand.
//!
//! u64 items; capacity 1024 everywhere. Time per iteration divided by the items is time per item of the source.

mod common;

use std::thread::{self, JoinHandle};

use common::{CAPACITY, configured, sized, step};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, Sender, bounded};
use streamz::{BatchConfig, Batcher, FanIn, FanOut, Mapper, Partition, Pipeline, Processor, Router, Stream};

const ITEMS: u64 = sized(500_000);

/// The number of items in a sum.
const SUM_OF: usize = 1_000;

fn pipeline() -> Pipeline {
    Pipeline::builder("bench").capacity(CAPACITY).build()
}

/// Sums up the items, in any order.
fn sum(stream: Stream<u64>) -> u64 {
    stream.fold(0u64, |sum, n| sum.wrapping_add(n)).unwrap()
}

fn add(sums: &Receiver<u64>) -> u64 {
    sums.iter().fold(0, u64::wrapping_add)
}

/// The key that items are routed by.
#[inline]
fn key(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
}

/// By hand: a source, a thread that passes each item to `place`, one for each output that runs `work`, and a merge.
fn by_hand(
    ways: usize,
    mut place: impl FnMut(u64, &[Sender<u64>]) + Send + 'static,
    work: fn(Receiver<u64>, Sender<u64>),
) -> u64 {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let (source, items) = bounded(CAPACITY);
    threads.push(thread::spawn(move || (0..ITEMS).for_each(|n| source.send(n).unwrap())));
    let (outputs, inputs): (Vec<Sender<u64>>, Vec<Receiver<u64>>) = (0..ways).map(|_| bounded(CAPACITY)).unzip();
    threads.push(thread::spawn(move || items.iter().for_each(|n| place(n, &outputs))));
    // One channel for all of them is the merge: one thread less than in a pipeline.
    let (merged, results) = bounded(CAPACITY);
    for input in inputs {
        let merged = merged.clone();
        threads.push(thread::spawn(move || work(input, merged)));
    }
    drop(merged);
    let sum = add(&results);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

fn map_by_hand(input: Receiver<u64>, output: Sender<u64>) {
    input.iter().for_each(|n| output.send(step(n)).unwrap());
}

fn sums_by_hand(input: Receiver<u64>, output: Sender<u64>) {
    let (mut sum, mut count) = (0u64, 0);
    for n in &input {
        (sum, count) = (sum.wrapping_add(n), count + 1);
        if count == SUM_OF {
            output.send(std::mem::take(&mut sum)).unwrap();
            count = 0;
        }
    }
    output.send(sum).unwrap();
}

fn router_by_hand() -> u64 {
    by_hand(4, |n, ways| ways[(key(n) % 4) as usize].send(n).unwrap(), map_by_hand)
}

fn router() -> u64 {
    let pipeline = pipeline();
    let map = || Mapper::new(step);
    let router = Router::new()
        .add_route("0", |n| key(*n).is_multiple_of(4), map())
        .add_route("1", |n| key(*n) % 4 == 1, map())
        .add_route("2", |n| key(*n) % 4 == 2, map())
        .with_default(map());
    let sum = sum(Stream::from_iter(&pipeline, 0..ITEMS).through(&router));
    pipeline.join();
    sum
}

fn partition() -> u64 {
    let pipeline = pipeline();
    let partition = Partition::new(|n: &u64| *n).each(|_| Mapper::new(step));
    let sum = sum(Stream::from_iter(&pipeline, 0..ITEMS).through(&partition));
    pipeline.join();
    sum
}

fn partition_sums_by_hand() -> u64 {
    by_hand(4, |n, ways| ways[(key(n) % 4) as usize].send(n).unwrap(), sums_by_hand)
}

fn partition_sums() -> u64 {
    let pipeline = pipeline();
    let partition = Partition::new(|n: &u64| *n).each(|_| {
        let batch = Batcher::new(BatchConfig { max_size: SUM_OF, max_latency: std::time::Duration::MAX });
        batch.fuse(Mapper::new(|batch: Vec<u64>| batch.into_iter().fold(0, u64::wrapping_add)))
    });
    let sum = sum(Stream::from_iter(&pipeline, 0..ITEMS).through(&partition));
    pipeline.join();
    sum
}

fn fan_out_by_hand() -> u64 {
    by_hand(3, |n, ways| ways.iter().for_each(|way| way.send(n).unwrap()), map_by_hand)
}

fn fan_out() -> u64 {
    let pipeline = pipeline();
    let copies = FanOut::new(3).process(&pipeline, Stream::from_iter(&pipeline, 0..ITEMS));
    let sum = sum(FanIn::new().process(&pipeline, copies.into_iter().map(|copy| copy.map(step))));
    pipeline.join();
    sum
}

fn split_by_hand() -> u64 {
    by_hand(2, |n, ways| ways[(key(n) % 2) as usize].send(n).unwrap(), map_by_hand)
}

fn split() -> u64 {
    let pipeline = pipeline();
    let (even, odd) = Stream::from_iter(&pipeline, 0..ITEMS).split(|n| key(*n).is_multiple_of(2));
    let sum = sum(even.map(step).merge([odd.map(step)]));
    pipeline.join();
    sum
}

/// The name of a piece of work, its version by hand, and its version with streamz.
type Work = (&'static str, fn() -> u64, fn() -> u64);

fn routes(c: &mut Criterion) {
    let works: [Work; 5] = [
        ("router, 4 routes", router_by_hand, router),
        ("partition, 4", router_by_hand, partition),
        ("partition, 4, sums of 1000", partition_sums_by_hand, partition_sums),
        ("fan-out 3 and fan-in", fan_out_by_hand, fan_out),
        ("split", split_by_hand, split),
    ];
    for (name, hand, streamz) in works {
        let expected = hand();
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(ITEMS));
        for (system, run) in [("crossbeam by hand", hand), ("streamz", streamz)] {
            group.bench_function(BenchmarkId::from_parameter(system), |b| b.iter(|| assert_eq!(run(), expected)));
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = configured(); targets = routes }
criterion_main!(benches);
