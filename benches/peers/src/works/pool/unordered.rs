//! The systems when results may come in any order. Each function adds them up.

use std::ops::Range;

use futures::{StreamExt, stream};
use orx_parallel::{IntoParIter, IterIntoParIter, Par};
use par_stream::ParStreamExt;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelBridge, ParallelIterator};
use renoir::prelude::{RuntimeConfig, StreamContext};
use streamz::{AsyncMapper, CancelToken, Inline, Pipeline, Stream};

use super::{CHUNK, Task, rayon_pool};
use crate::steps::{CAPACITY, add};
use crate::work::Job;
use crate::works::channels::Channel;
use crate::works::runtime;

pub(super) fn plain_loop(job: &Job, task: impl Task) -> u64 {
    (0..job.items).map(task).fold(0, add)
}

pub(super) fn by_hand<C: Channel<Receiver<u64>: Clone>>(job: &Job, task: impl Task) -> u64 {
    let (results, threads) = super::by_hand::<C>(job.items, job.workers, task);
    let sum = C::iter(&results).fold(0, |sum, (_, result)| add(sum, result));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

pub(super) fn rayon(job: &Job, task: impl Task) -> u64 {
    let items: Vec<u64> = (0..job.items).collect();
    rayon_pool(job.workers).install(|| items.into_par_iter().map(task).reduce(|| 0, add))
}

/// Splits the items into pieces of no less than a chunk.
pub(super) fn rayon_chunks(job: &Job, task: impl Task) -> u64 {
    let items: Vec<u64> = (0..job.items).collect();
    let pieces = items.into_par_iter().with_min_len(CHUNK);
    rayon_pool(job.workers).install(|| pieces.map(task).reduce(|| 0, add))
}

pub(super) fn rayon_bridge(job: &Job, task: impl Task) -> u64 {
    rayon_pool(job.workers).install(|| (0..job.items).par_bridge().map(task).reduce(|| 0, add))
}

/// Takes a chunk at a time from the iterator.
pub(super) fn rayon_bridge_chunks(job: &Job, task: impl Task) -> u64 {
    let chunks = (0..job.items).step_by(CHUNK).map(|first| first..job.items.min(first + CHUNK as u64));
    let sum = |chunk: Range<u64>| chunk.map(task).fold(0, add);
    rayon_pool(job.workers).install(|| chunks.par_bridge().map(sum).reduce(|| 0, add))
}

pub(super) fn orx_parallel(job: &Job, task: impl Task) -> u64 {
    let items: Vec<u64> = (0..job.items).collect();
    items.into_par().num_threads(job.workers).map(task).reduce(add).unwrap_or(0)
}

/// Over any iterator, as `par_bridge` is.
pub(super) fn orx_parallel_iter(job: &Job, task: impl Task) -> u64 {
    (0..job.items).iter_into_par().num_threads(job.workers).map(task).reduce(add).unwrap_or(0)
}

pub(super) fn par_stream(job: &Job, task: impl Task) -> u64 {
    let workers = job.workers;
    let items = 0..job.items;
    // Its workers start on the runtime in which they are created.
    runtime::tokio(workers).block_on(async move {
        stream::iter(items)
            .par_map_unordered(runtime::par_params(workers, CAPACITY), move |n| move || task(n))
            .fold(0, async |sum, result| add(sum, result))
            .await
    })
}

/// An item for it is a chunk of ours.
pub(super) fn par_stream_chunks(job: &Job, task: impl Task) -> u64 {
    let chunk = move |items: Vec<u64>| move || items.into_iter().map(task).fold(0, add);
    let workers = job.workers;
    let items = 0..job.items;
    // Its workers start on the runtime in which they are created.
    runtime::tokio(workers).block_on(async move {
        stream::iter(items)
            .ready_chunks(CHUNK)
            .par_map_unordered(runtime::par_params(workers, CAPACITY / CHUNK), chunk)
            .fold(0, async |sum, part| add(sum, part))
            .await
    })
}

pub(super) fn tokio(job: &Job, task: impl Task) -> u64 {
    runtime::tokio(job.workers).block_on(
        stream::iter(0..job.items)
            .map(|n| tokio::spawn(async move { task(n) }))
            .buffer_unordered(CAPACITY)
            .fold(0, async |sum, result| add(sum, result.unwrap())),
    )
}

/// A task for each chunk.
pub(super) fn tokio_chunks(job: &Job, task: impl Task) -> u64 {
    runtime::tokio(job.workers).block_on(
        stream::iter(0..job.items)
            .ready_chunks(CHUNK)
            .map(|items| tokio::spawn(async move { items.into_iter().map(task).fold(0, add) }))
            .buffer_unordered(CAPACITY / CHUNK)
            .fold(0, async |sum, part| add(sum, part.unwrap())),
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

/// The workers take the numbers from the range and add up their own results, as those of rayon do.
pub(super) fn streamz_par_fold(job: &Job, task: impl Task) -> u64 {
    let pipeline = Pipeline::builder("pool").capacity(CAPACITY).build();
    let add_up = move |sum, n| add(sum, task(n));
    let sum = Inline::from_iter(&pipeline, 0..job.items).par_fold(job.workers, || 0, add_up, add).unwrap();
    pipeline.join();
    sum
}
