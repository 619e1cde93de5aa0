//! The cost of being observed for each item: a hop (source, map, sink) and a chain of five maps, a thread each, alone,
//! with metrics exported every 10 ms, and in the spans of a subscriber of `tracing`.
//!
//! u64 items; capacity 1024. Time per iteration divided by the items is time per item.
//!
//! ```sh
//! cargo bench --bench observed --features metrics,tracing
//! ```

mod common;

use std::time::Duration;

use common::{CAPACITY, configured, mix, plain_loop, sized, step};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use streamz::{Pipeline, Stream};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const ITEMS: u64 = sized(1_000_000);

/// Enables everything, and does nothing with it.
struct Deaf;

impl Subscriber for Deaf {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn chain(stages: usize, observe: impl FnOnce(&Pipeline)) -> u64 {
    let pipeline = Pipeline::builder("bench").capacity(CAPACITY).build();
    observe(&pipeline);
    let source = Stream::from_iter(&pipeline, 0..ITEMS);
    let sum = (0..stages).fold(source, |stream, _| stream.map(step)).fold(0, mix).unwrap();
    pipeline.join();
    sum
}

fn chains(c: &mut Criterion) {
    for (name, stages) in [("hop", 1), ("chain5", 5)] {
        let expected = plain_loop(ITEMS, stages);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(ITEMS));
        group.bench_function("alone", |b| b.iter(|| assert_eq!(chain(stages, |_| ()), expected)));
        group.bench_function("metrics", |b| {
            let observe = |pipeline: &Pipeline| pipeline.export_metrics(Duration::from_millis(10));
            b.iter(|| assert_eq!(chain(stages, observe), expected));
        });
        group.bench_function("tracing", |b| {
            tracing::subscriber::with_default(Deaf, || b.iter(|| assert_eq!(chain(stages, |_| ()), expected)));
        });
        group.finish();
    }
}

criterion_group! { name = benches; config = configured(); targets = chains }
criterion_main!(benches);
