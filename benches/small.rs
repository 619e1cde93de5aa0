//! The fixed cost of a pipeline: three stages over 100 items, from building to joining.
//!
//! Source and two maps on a thread each, read by the caller; the same by hand with channels of the standard library;
//! and three threads that do nothing. The pipeline is also measured with new threads each time, as in its first run.

mod common;

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use common::{CAPACITY, configured, mix, plain_loop, step};
use criterion::{Criterion, criterion_group, criterion_main};
use streamz::{Pipeline, Stream};

const ITEMS: u64 = 100;

fn three_threads() {
    let threads = [(); 3].map(|()| thread::spawn(|| ()));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn by_hand() -> u64 {
    let (sender, mut last): (_, Receiver<u64>) = sync_channel(CAPACITY);
    let mut threads = vec![thread::spawn(move || (0..ITEMS).for_each(|n| sender.send(n).unwrap()))];
    for _ in 0..2 {
        let (sender, receiver) = sync_channel(CAPACITY);
        let input = std::mem::replace(&mut last, receiver);
        threads.push(thread::spawn(move || input.iter().for_each(|n| sender.send(step(n)).unwrap())));
    }
    let sum = last.iter().fold(0, mix);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

fn pipeline(reuse: bool) -> u64 {
    let pipeline = Pipeline::builder("small").capacity(CAPACITY).reuse_threads(reuse).build();
    let sum = Stream::from_iter(&pipeline, 0..ITEMS).map(step).map(step).fold(0, mix).unwrap();
    pipeline.join();
    sum
}

fn small(c: &mut Criterion) {
    let sum = plain_loop(ITEMS, 2);
    let mut group = c.benchmark_group("three stages over 100 items");
    group.bench_function("three threads that do nothing", |b| b.iter(three_threads));
    group.bench_function("threads and channels of std", |b| b.iter(|| assert_eq!(by_hand(), sum)));
    group.bench_function("streamz, new threads", |b| b.iter(|| assert_eq!(pipeline(false), sum)));
    group.bench_function("streamz", |b| b.iter(|| assert_eq!(pipeline(true), sum)));
    group.finish();
}

criterion_group! { name = benches; config = configured(); targets = small }
criterion_main!(benches);
