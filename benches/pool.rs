//! The costs and gains of a pool: `AsyncMapper` with 0, 0.3 and 20 microseconds of work, ordered and not, with one
//! worker and with two, compared with the plain loop.

mod common;

use common::{CAPACITY, configured, spin};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use streamz::{AsyncMapper, CancelToken, Pipeline, Stream};

fn pool(items: u64, rounds: u32, workers: usize, ordered: bool) -> u64 {
    let pipeline = Pipeline::builder("bench").capacity(CAPACITY).build();
    let work = move |_: &CancelToken, n: &u64| streamz::ok(spin(*n, rounds));
    let mapper = AsyncMapper::new(work).with_workers(workers).with_ordered(ordered);
    // Without order the checksum must not depend on it.
    let sum = Stream::from_iter(&pipeline, 0..items).through(&mapper).fold(0u64, |sum, n| sum.wrapping_add(n)).unwrap();
    pipeline.join();
    sum
}

fn plain_loop(items: u64, rounds: u32) -> u64 {
    (0..items).fold(0, |sum: u64, n| sum.wrapping_add(spin(n, rounds)))
}

/// The number of rounds of `spin` in a microsecond on this machine.
#[allow(clippy::disallowed_methods)] // a bench measures real time
fn rounds_per_microsecond() -> f64 {
    let rounds = 20_000_000;
    let started = std::time::Instant::now();
    std::hint::black_box(spin(1, rounds));
    f64::from(rounds) / started.elapsed().as_secs_f64() / 1e6
}

fn pools(c: &mut Criterion) {
    let per_microsecond = rounds_per_microsecond();
    for (work, microseconds, items) in [("none", 0.0, 300_000), ("0.3 us", 0.3, 300_000), ("20 us", 20.0, 10_000)] {
        let rounds = (microseconds * per_microsecond) as u32;
        let expected = plain_loop(items, rounds);
        let mut group = c.benchmark_group(format!("pool, work {work}"));
        group.throughput(Throughput::Elements(items));
        group.bench_function("loop", |b| b.iter(|| assert_eq!(plain_loop(items, rounds), expected)));
        for workers in [1, 2] {
            for ordered in [true, false] {
                let name = format!("{workers} workers, {}", if ordered { "ordered" } else { "unordered" });
                group.bench_function(BenchmarkId::from_parameter(name), |b| {
                    b.iter(|| assert_eq!(pool(items, rounds, workers, ordered), expected));
                });
            }
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = configured(); targets = pools }
criterion_main!(benches);
