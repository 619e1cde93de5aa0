//! The time from `cancel` until every thread has been joined: for an idle pipeline of five stages, and for one in which
//! every stage is blocked on a full output.

mod common;

use std::time::{Duration, Instant};

use common::configured;
use criterion::{Criterion, criterion_group, criterion_main};
use streamz::{Pipeline, Stream};

#[allow(clippy::disallowed_methods)] // a bench measures real time
fn time_to_stop(pipeline: Pipeline) -> Duration {
    let started = Instant::now();
    pipeline.abort();
    started.elapsed()
}

/// Waits until no stage is busy. A bench may poll.
fn let_it_come_to_rest(pipeline: &Pipeline) {
    let mut last = None;
    loop {
        let report = pipeline.report();
        let busy: Vec<Duration> = report.stages.iter().map(|stage| stage.busy).collect();
        if last.as_ref() == Some(&busy) {
            return;
        }
        last = Some(busy);
        let _ = pipeline.sleep(Duration::from_millis(2));
    }
}

fn cancel(c: &mut Criterion) {
    let five = |stream: Stream<u64>| (0..5).fold(stream, |stream, _| stream.map(|n| n + 1));
    c.bench_function("cancel, 6 threads idle", |b| {
        b.iter_custom(|rounds| {
            let once = || {
                let pipeline = Pipeline::new("idle");
                let (_sender, stream) = Stream::channel(&pipeline, 16);
                five(stream).spawn_for_each(drop);
                let_it_come_to_rest(&pipeline);
                time_to_stop(pipeline)
            };
            (0..rounds).map(|_| once()).sum()
        });
    });
    c.bench_function("cancel, 6 threads blocked on full outputs", |b| {
        b.iter_custom(|rounds| {
            let once = || {
                let pipeline = Pipeline::new("blocked");
                let _unread = five(Stream::from_iter(&pipeline, 0u64..));
                let_it_come_to_rest(&pipeline);
                time_to_stop(pipeline)
            };
            (0..rounds).map(|_| once()).sum()
        });
    });
}

criterion_group! { name = benches; config = configured(); targets = cancel }
criterion_main!(benches);
