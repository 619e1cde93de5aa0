//! The cost of a hop: source, map, sink, and chains of 1, 3 and 10 maps; a thread each, fused, by hand, and as a loop.
//!
//! u64 items; capacity 1024 everywhere. Time per iteration divided by the items is time per item.

mod common;

use common::{CAPACITY, by_hand, configured, mix, plain_loop, sized, step};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use streamz::{BoxProcessor, Mapper, Pipeline, Processor, Stream};

const ITEMS: u64 = sized(1_000_000);

/// Runs the given number of items through the given number of stages.
type System = fn(u64, usize) -> u64;

/// A thread for each stage.
fn unfused(items: u64, stages: usize) -> u64 {
    let pipeline = Pipeline::builder("bench").capacity(CAPACITY).build();
    let source = Stream::from_iter(&pipeline, 0..items);
    let sum = (0..stages).fold(source, |stream, _| stream.map(step)).fold(0, mix).unwrap();
    pipeline.join();
    sum
}

/// All stages on one thread.
fn fused(items: u64, stages: usize) -> u64 {
    let pipeline = Pipeline::builder("bench").capacity(CAPACITY).build();
    let map = || Mapper::new(step);
    let chain: BoxProcessor<u64, u64> = match stages {
        1 => map().boxed(),
        3 => map().fuse(map()).fuse(map()).boxed(),
        10 => {
            let three = || map().fuse(map()).fuse(map());
            three().fuse(three()).fuse(three()).fuse(map()).boxed()
        }
        other => panic!("no chain of {other}"),
    };
    let sum = Stream::from_iter(&pipeline, 0..items).through(&chain).fold(0, mix).unwrap();
    pipeline.join();
    sum
}

fn chains(c: &mut Criterion) {
    for stages in [1, 3, 10] {
        let expected = plain_loop(ITEMS, stages);
        let mut group = c.benchmark_group(format!("chain of {stages}"));
        group.throughput(Throughput::Elements(ITEMS));
        let systems: [(&str, System); 4] =
            [("loop", plain_loop), ("crossbeam by hand", by_hand), ("streamz", unfused), ("streamz fused", fused)];
        for (name, run) in systems {
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                b.iter(|| assert_eq!(run(ITEMS, stages), expected));
            });
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = configured(); targets = chains }
criterion_main!(benches);
