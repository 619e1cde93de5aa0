//! The systems that return results in the order of the items. Each function folds them in that order.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{StreamExt, stream};
use orx_parallel::{IntoParIter, Par};
use par_stream::ParStreamExt;
use pariter::{IteratorExt, ParallelMapBuilder};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use streamz::{AsyncMapper, CancelToken, ParMapper, Pipeline, Stream};

use super::{CHUNK, Task, rayon_pool};
use crate::steps::{CAPACITY, mix};
use crate::work::Job;
use crate::works::channels::Channel;
use crate::works::runtime;

pub(super) fn plain_loop(job: &Job, task: impl Task) -> u64 {
    (0..job.items).map(task).fold(0, mix)
}

pub(super) fn by_hand<C: Channel<Receiver<u64>: Clone>>(job: &Job, task: impl Task) -> u64 {
    let (results, threads) = super::by_hand::<C>(job.items, job.workers, task);
    let sum = in_order(C::iter(&results)).fold(0, mix);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

/// The results in the order of their numbers. Those that came too early wait in a ring without a bound.
pub(super) fn in_order(mut numbered: impl Iterator<Item = (u64, u64)>) -> impl Iterator<Item = u64> {
    let (mut early, mut next): (VecDeque<Option<u64>>, u64) = (VecDeque::new(), 0);
    std::iter::from_fn(move || {
        while !matches!(early.front(), Some(Some(_))) {
            let (number, result) = numbered.next()?;
            let place = (number - next) as usize;
            if early.len() <= place {
                early.resize(place + 1, None);
            }
            early[place] = Some(result);
        }
        next += 1;
        early.pop_front().flatten()
    })
}

pub(super) fn rayon(job: &Job, task: impl Task) -> u64 {
    let items: Vec<u64> = (0..job.items).collect();
    let results: Vec<u64> = rayon_pool(job.workers).install(|| items.into_par_iter().map(task).collect());
    results.into_iter().fold(0, mix)
}

/// Splits the items into pieces of no less than a chunk.
pub(super) fn rayon_chunks(job: &Job, task: impl Task) -> u64 {
    let items: Vec<u64> = (0..job.items).collect();
    let pieces = items.into_par_iter().with_min_len(CHUNK);
    let results: Vec<u64> = rayon_pool(job.workers).install(|| pieces.map(task).collect());
    results.into_iter().fold(0, mix)
}

pub(super) fn orx_parallel(job: &Job, task: impl Task) -> u64 {
    let items: Vec<u64> = (0..job.items).collect();
    let results: Vec<u64> = items.into_par().num_threads(job.workers).map(task).collect();
    results.into_iter().fold(0, mix)
}

pub(super) fn par_stream(job: &Job, task: impl Task) -> u64 {
    let workers = job.workers;
    let items = 0..job.items;
    // Its workers start on the runtime in which they are created.
    runtime::tokio(workers).block_on(async move {
        stream::iter(items)
            .par_map(runtime::par_params(workers, CAPACITY), move |n| move || task(n))
            .fold(0, async |sum, result| mix(sum, result))
            .await
    })
}

/// An item for it is a chunk of ours.
pub(super) fn par_stream_chunks(job: &Job, task: impl Task) -> u64 {
    let chunk = move |items: Vec<u64>| move || items.into_iter().map(task).collect::<Vec<_>>();
    let workers = job.workers;
    let items = 0..job.items;
    // Its workers start on the runtime in which they are created.
    runtime::tokio(workers).block_on(async move {
        stream::iter(items)
            .ready_chunks(CHUNK)
            .par_map(runtime::par_params(workers, CAPACITY / CHUNK), chunk)
            .fold(0, async |sum, results| results.into_iter().fold(sum, mix))
            .await
    })
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

/// A task for each chunk.
pub(super) fn tokio_chunks(job: &Job, task: impl Task) -> u64 {
    runtime::tokio(job.workers).block_on(
        stream::iter(0..job.items)
            .ready_chunks(CHUNK)
            .map(|items| tokio::spawn(async move { items.into_iter().map(task).collect::<Vec<_>>() }))
            .buffered(CAPACITY / CHUNK)
            .fold(0, async |sum, results| results.unwrap().into_iter().fold(sum, mix)),
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
