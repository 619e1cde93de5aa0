//! The cost of recording latencies for each item: a hop (source, map, sink) and a chain of five maps, a thread each.
//!
//! u64 items; capacity 1024. Time per iteration divided by the items is time per item. Run it without and with the feature:
//!
//! ```sh
//! cargo bench -p streamz --bench latency
//! cargo bench -p streamz --bench latency --features latency
//! ```

mod common;

use common::{CAPACITY, configured, mix, plain_loop, sized, step};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
#[cfg(feature = "latency")]
use streamz::Latencies;
use streamz::{Pipeline, PipelineBuilder, Stream};

const ITEMS: u64 = sized(1_000_000);

fn chain(builder: &PipelineBuilder, stages: usize) -> u64 {
    let pipeline = builder.clone().build();
    let source = Stream::from_iter(&pipeline, 0..ITEMS);
    let sum = (0..stages).fold(source, |stream, _| stream.map(step)).fold(0, mix).unwrap();
    pipeline.join();
    sum
}

fn chains(c: &mut Criterion) {
    let builder = || Pipeline::builder("bench").capacity(CAPACITY);
    let settings = [
        #[cfg(not(feature = "latency"))]
        ("feature off", builder()),
        #[cfg(feature = "latency")]
        ("not asked for", builder()),
        #[cfg(feature = "latency")]
        ("recorded", builder().latencies(Latencies::all())),
    ];
    for (name, stages) in [("hop", 1), ("chain5", 5)] {
        let expected = plain_loop(ITEMS, stages);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(ITEMS));
        for (setting, builder) in &settings {
            group.bench_function(*setting, |b| b.iter(|| assert_eq!(chain(builder, stages), expected)));
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = configured(); targets = chains }
criterion_main!(benches);
