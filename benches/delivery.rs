//! The cost of delivery for each record: a chain of three maps, with a thread each, from an iterator and from an inbox
//! that is always full, with a mark after 1 to 256 records.
//!
//! u64 items; capacity 1024 everywhere. The iterator does not know its length, like an inbox. Time per iteration
//! divided by the items is time per item.

mod common;

use std::time::Duration;

use common::{CAPACITY, configured, mix, plain_loop, sized, step};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use streamz::delivery::{Acker, Delivery, DeliveryConfig, Inbox, StoreError};
use streamz::{Pipeline, Stream};

const ITEMS: u64 = sized(1_000_000);
const STAGES: usize = 3;

/// Delivers numbers, and ignores acknowledgements.
struct Numbers {
    next: u64,
    end: u64,
}

impl Inbox for Numbers {
    type Record = u64;
    type Receipt = u64;
    type Acker = Forget;

    fn fetch(&mut self, max: usize, _: Duration, records: &mut Vec<Delivery<u64, u64>>) -> Result<(), StoreError> {
        let end = self.end.min(self.next + max as u64);
        records.extend((self.next..end).map(|n| Delivery::new(n, n)));
        self.next = end;
        Ok(())
    }

    fn is_exhausted(&self) -> bool {
        self.next == self.end
    }

    fn acker(&mut self) -> Result<Forget, StoreError> {
        Ok(Forget)
    }
}

struct Forget;

impl Acker for Forget {
    type Receipt = u64;

    fn acknowledge(&mut self, receipts: &mut Vec<u64>) -> Result<(), StoreError> {
        receipts.clear();
        Ok(())
    }
}

fn run(source: impl FnOnce(&Pipeline) -> Stream<u64>) -> u64 {
    let pipeline = Pipeline::builder("bench").capacity(CAPACITY).build();
    let source = source(&pipeline);
    let sum = (0..STAGES).fold(source, |stream, _| stream.map(step)).fold(0, mix).unwrap();
    pipeline.join();
    sum
}

fn deliver(pipeline: &Pipeline, epoch: usize) -> Stream<u64> {
    let config = DeliveryConfig { epoch, ..DeliveryConfig::default() };
    Stream::deliver(pipeline, Numbers { next: 0, end: ITEMS }, config).unwrap()
}

fn records(c: &mut Criterion) {
    let expected = plain_loop(ITEMS, STAGES);
    let mut group = c.benchmark_group("delivery, chain of 3");
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function("from_iter", |b| {
        b.iter(|| assert_eq!(run(|pipeline| Stream::from_iter(pipeline, 0..ITEMS)), expected));
    });
    group.bench_function("from_iter of unknown length", |b| {
        b.iter(|| assert_eq!(run(|pipeline| Stream::from_iter(pipeline, (0..ITEMS).filter(|_| true))), expected));
    });
    for epoch in [1, 16, 64, 256] {
        group.bench_function(BenchmarkId::new("deliver, epoch", epoch), |b| {
            b.iter(|| assert_eq!(run(|pipeline| deliver(pipeline, epoch)), expected));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = configured(); targets = records }
criterion_main!(benches);
