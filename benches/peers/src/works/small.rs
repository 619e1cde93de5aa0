//! Pipelines of a hundred items: the cost of building, starting and joining one.

use std::hint::black_box;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use streamz::{Inline, Pipeline};

use super::channels::{Channel, Crossbeam, Std};
use super::{chain, pool, runtime};
use crate::steps::{CAPACITY, mix, step};
use crate::work::{Bound, Entry, Figure, Goal, Job, Work};

/// The number of items of a pipeline.
const LENGTH: u64 = 100;

pub(super) static PIPELINE_100: Work = Work {
    name: "pipeline-100",
    about: "Three stages over 100 items, from building to joined, one pipeline after the other. An item of the table is such a \
            pipeline.",
    unit: "ns per pipeline",
    expected: |job| job.items.wrapping_mul(chain::plain_loop(LENGTH, 1)),
    reference: "std-mpsc",
    entries: &[
        Entry::new("loop", 1_000_000, 1, |job| repeated(job, || chain::plain_loop(black_box(LENGTH), 1)).into()),
        Entry::new("std-mpsc", 2_000, 1, |job| repeated(job, by_hand::<Std>).into()),
        Entry::new("crossbeam", 2_000, 1, |job| repeated(job, by_hand::<Crossbeam>).into()),
        Entry::new("pariter", 2_000, 1, |job| repeated(job, || chain::pariter(LENGTH, 1)).into()),
        Entry::new("rayon", 20_000, 2, |job| rayon(job).into()),
        Entry::new("tokio", 10_000, 2, |job| tokio(job).into()),
        Entry::new("renoir", 200, 1, |job| repeated(job, || chain::renoir_hop(LENGTH)).into()),
        Entry::new("streamz", 2_000, 1, |job| repeated(job, || chain::streamz(LENGTH, 1)).into()),
        Entry::new("streamz-fused", 100_000, 1, |job| repeated(job, streamz_fused).into()),
    ],
    goals: &[Goal {
        text: "streamz takes at most 80 us for a pipeline",
        figure: Figure::Nanos("streamz"),
        bound: Bound::AtMost(80_000.0),
    }],
    notes: &[
        "std-mpsc, crossbeam, pariter: two threads for each pipeline, as in `hop`; the third stage is the thread that waits.",
        "rayon: a parallel map of a range into a `Vec`, on a pool that lives as long as the program. tokio: three tasks, on a \
         runtime that does.",
        "renoir is not made for this: it runs one long job.",
        "streamz-fused: an `Inline` piece, no other thread.",
    ],
    ..Work::BASE
};

/// Runs the given number of pipelines, one after the other.
fn repeated(job: &Job, pipeline: impl Fn() -> u64) -> u64 {
    (0..job.items).fold(0, |sum: u64, _| sum.wrapping_add(pipeline()))
}

fn by_hand<C: Channel>() -> u64 {
    chain::by_hand::<C>(LENGTH, 1)
}

fn rayon(job: &Job) -> u64 {
    let pool = pool::rayon_pool(job.workers);
    let map = || (0..LENGTH).into_par_iter().map(step).collect::<Vec<_>>();
    repeated(job, || pool.install(map).into_iter().fold(0, mix))
}

fn tokio(job: &Job) -> u64 {
    let runtime = runtime::tokio(job.workers);
    repeated(job, || chain::tokio(&runtime, LENGTH, 1))
}

fn streamz_fused() -> u64 {
    let pipeline = Pipeline::builder("chain").capacity(CAPACITY).build();
    let sum = Inline::from_iter(&pipeline, 0..LENGTH).map(step).fold(0, mix).unwrap();
    pipeline.join();
    sum
}
