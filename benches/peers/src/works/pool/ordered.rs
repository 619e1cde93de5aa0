//! The systems that give results in the order of the items. Each function folds them in that order.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{StreamExt, stream};
use pariter::{IteratorExt, ParallelMapBuilder};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use streamz::{AsyncMapper, CancelToken, ParMapper, Pipeline, Stream};

use super::{Task, by_hand, rayon_pool};
use crate::steps::{CAPACITY, mix};
use crate::work::Job;
use crate::works::runtime;

pub(super) fn plain_loop(job: &Job, task: impl Task) -> u64 {
    (0..job.items).map(task).fold(0, mix)
}

/// Results that came too early wait in a ring, as many as there are.
pub(super) fn crossbeam(job: &Job, task: impl Task) -> u64 {
    let (results, threads) = by_hand(job.items, job.workers, task);
    let mut early: VecDeque<Option<u64>> = VecDeque::new();
    let (mut next, mut sum) = (0, 0);
    for (number, result) in results {
        let place = (number - next) as usize;
        if early.len() <= place {
            early.resize(place + 1, None);
        }
        early[place] = Some(result);
        while let Some(&Some(result)) = early.front() {
            early.pop_front();
            next += 1;
            sum = mix(sum, result);
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

pub(super) fn rayon(job: &Job, task: impl Task) -> u64 {
    let items: Vec<u64> = (0..job.items).collect();
    let results: Vec<u64> = rayon_pool(job.workers).install(|| items.into_par_iter().map(task).collect());
    results.into_iter().fold(0, mix)
}

pub(super) fn pariter(job: &Job, task: impl Task) -> u64 {
    let options = |builder: ParallelMapBuilder<_>| builder.threads(job.workers).buffer_size(CAPACITY);
    (0..job.items).parallel_map_custom(options, task).fold(0, mix)
}

pub(super) fn tokio(job: &Job, task: impl Task) -> u64 {
    runtime::tokio(job.workers).block_on(
        stream::iter(0..job.items)
            .map(|n| tokio::spawn(async move { task(n) }))
            .buffered(CAPACITY)
            .fold(0, async |sum, result| mix(sum, result.unwrap())),
    )
}

pub(super) fn streamz(job: &Job, task: impl Task) -> u64 {
    let call = move |_: &CancelToken, n: &u64| streamz::ok(task(*n));
    let mapper = AsyncMapper::new(call).with_workers(job.workers);
    let pipeline = Pipeline::builder("pool").capacity(CAPACITY).build();
    let sum = Stream::from_iter(&pipeline, 0..job.items).through(&mapper).fold(0, mix).unwrap();
    pipeline.join();
    sum
}

pub(super) fn streamz_par_map(job: &Job, task: impl Task) -> u64 {
    let mapper = ParMapper::new(task).with_pool(Arc::new(rayon_pool(job.workers)));
    let pipeline = Pipeline::builder("pool").capacity(CAPACITY).build();
    let sum = Stream::from_iter(&pipeline, 0..job.items).through(&mapper).fold(0, mix).unwrap();
    pipeline.join();
    sum
}
