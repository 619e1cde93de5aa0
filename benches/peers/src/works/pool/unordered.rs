//! The systems when results may come in any order. Each function adds them up.

use futures::{StreamExt, stream};
use rayon::iter::{IntoParallelIterator, ParallelBridge, ParallelIterator};
use renoir::prelude::{RuntimeConfig, StreamContext};
use streamz::{AsyncMapper, CancelToken, Pipeline, Stream};

use super::{Task, by_hand, rayon_pool};
use crate::steps::{CAPACITY, add};
use crate::work::Job;
use crate::works::runtime;

pub(super) fn plain_loop(job: &Job, task: impl Task) -> u64 {
    (0..job.items).map(task).fold(0, add)
}

pub(super) fn crossbeam(job: &Job, task: impl Task) -> u64 {
    let (results, threads) = by_hand(job.items, job.workers, task);
    let sum = results.iter().fold(0, |sum, (_, result)| add(sum, result));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

pub(super) fn rayon(job: &Job, task: impl Task) -> u64 {
    let items: Vec<u64> = (0..job.items).collect();
    rayon_pool(job.workers).install(|| items.into_par_iter().map(task).reduce(|| 0, add))
}

pub(super) fn rayon_bridge(job: &Job, task: impl Task) -> u64 {
    rayon_pool(job.workers).install(|| (0..job.items).par_bridge().map(task).reduce(|| 0, add))
}

pub(super) fn tokio(job: &Job, task: impl Task) -> u64 {
    runtime::tokio(job.workers).block_on(
        stream::iter(0..job.items)
            .map(|n| tokio::spawn(async move { task(n) }))
            .buffer_unordered(CAPACITY)
            .fold(0, async |sum, result| add(sum, result.unwrap())),
    )
}

pub(super) fn renoir(job: &Job, task: impl Task) -> u64 {
    let context = StreamContext::new(RuntimeConfig::local(job.workers as u64).unwrap());
    let sum = context
        .stream_iter(0..job.items)
        .shuffle()
        .map(task)
        .fold_assoc(0, |sum, n| *sum = add(*sum, n), |sum, part| *sum = add(*sum, part))
        .collect_vec();
    context.execute_blocking();
    sum.get().expect("the only host has the result")[0]
}

pub(super) fn streamz(job: &Job, task: impl Task) -> u64 {
    let call = move |_: &CancelToken, n: &u64| streamz::ok(task(*n));
    let mapper = AsyncMapper::new(call).with_workers(job.workers).with_ordered(false);
    let pipeline = Pipeline::builder("pool").capacity(CAPACITY).build();
    let sum = Stream::from_iter(&pipeline, 0..job.items).through(&mapper).fold(0, add).unwrap();
    pipeline.join();
    sum
}
