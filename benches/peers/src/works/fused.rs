//! The chain of five cheap maps in as few threads as the system can do with.

use futures::{StreamExt, stream};
use renoir::prelude::{RuntimeConfig, StreamContext};
use streamz::{Inline, Pipeline, Stream};

use super::{chain, runtime};
use crate::steps::{CAPACITY, mix, step};
use crate::work::{Bound, Entry, Figure, Goal, Work};

pub(super) static CHAIN5_FUSED: Work = Work {
    name: "chain5-fused",
    about: "The same five maps in as few threads as the system can do with.",
    expected: |job| chain::plain_loop(job.items, 5),
    reference: "loop",
    entries: &[
        Entry::new("loop", 200_000_000, 1, |job| chain::plain_loop(job.items, 5).into()),
        Entry::new("tokio", 100_000_000, 1, |job| tokio(job.items, job.workers).into()),
        Entry::new("renoir", 50_000_000, 1, |job| renoir(job.items).into()),
        Entry::new("streamz-stage", 30_000_000, 1, |job| streamz_stage(job.items).into()),
        Entry::new("streamz-fused", 100_000_000, 1, |job| streamz_fused(job.items).into()),
    ],
    goals: &[Goal {
        text: "streamz-fused takes less time than renoir in every round",
        figure: Figure::WorstRatio("streamz-fused", "renoir"),
        bound: Bound::Below(1.0),
    }],
    notes: &[
        "tokio: the combinators of `futures` in one task.",
        "renoir: maps and the local part of `fold_assoc` in one block.",
        "streamz-stage: the maps are one `Stream::stage` on a thread between those of the source and the fold.",
        "streamz-fused: an `Inline` piece: source, maps and fold on one thread.",
        "crossbeam, pariter: with one thread they are the loop. rayon splits the work instead.",
    ],
    ..Work::BASE
};

fn tokio(items: u64, workers: usize) -> u64 {
    let chain = stream::iter(0..items).map(step).map(step).map(step).map(step).map(step);
    let task = chain.fold(0, async |sum, n| mix(sum, n));
    runtime::tokio(workers).block_on(async move { tokio::spawn(task).await.unwrap() })
}

fn renoir(items: u64) -> u64 {
    let context = StreamContext::new(RuntimeConfig::local(1).unwrap());
    let sum = context
        .stream_iter(0..items)
        .map(step)
        .map(step)
        .map(step)
        .map(step)
        .map(step)
        // There is one part, which is the whole.
        .fold_assoc(0, |sum, n| *sum = mix(*sum, n), |sum, part| *sum = part)
        .collect_vec();
    context.execute_blocking();
    sum.get().expect("the only host has the result")[0]
}

fn streamz_stage(items: u64) -> u64 {
    let pipeline = Pipeline::builder("fused").capacity(CAPACITY).build();
    let sum = Stream::from_iter(&pipeline, 0..items)
        .stage("five", |s| s.map(step).map(step).map(step).map(step).map(step))
        .fold(0, mix)
        .unwrap();
    pipeline.join();
    sum
}

fn streamz_fused(items: u64) -> u64 {
    let pipeline = Pipeline::builder("fused").capacity(CAPACITY).build();
    let five = Inline::from_iter(&pipeline, 0..items).map(step).map(step).map(step).map(step).map(step);
    let sum = five.fold(0, mix).unwrap();
    pipeline.join();
    sum
}
