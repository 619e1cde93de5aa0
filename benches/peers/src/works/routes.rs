//! Merging streams, and a stream that is split: several threads on one queue.
//!
//! Each function adds up the results, in any order.

use std::thread;

use streamz::{FanIn, FanOut, Mapper, Pipeline, Router, Stream};
use tokio::sync::mpsc;

use super::channels::{Channel, Crossbeam, Flume, Kanal, Std};
use super::runtime;
use crate::steps::{CAPACITY, add, step};
use crate::work::{Bound, Entry, Figure, Goal, Job, Work};

/// The number of sources, or of branches.
const WAYS: u64 = 3;

pub(super) static MERGE: Work = Work {
    name: "merge",
    about: "Three sources with a third of the items each, and one sink: four threads.",
    expected: |job| (0..job.items).fold(0, add),
    entries: &[
        Entry::new("std-mpsc", 4_000_000, 1, |job| merge_by_hand::<Std>(job).into()),
        Entry::new("crossbeam", 4_000_000, 1, |job| merge_by_hand::<Crossbeam>(job).into()),
        Entry::new("flume", 4_000_000, 1, |job| merge_by_hand::<Flume>(job).into()),
        Entry::new("kanal", 4_000_000, 1, |job| merge_by_hand::<Kanal>(job).into()),
        Entry::new("tokio", 2_000_000, 2, |job| merge_tokio(job).into()),
        Entry::new("streamz", 10_000_000, 1, |job| merge(job).into()),
    ],
    notes: &[
        "std-mpsc, crossbeam, flume, kanal: one channel with three senders. tokio: the same, a task each on two threads.",
        "streamz: three streams, each with its own edge, and `FanIn`, which has a thread of its own: two hops for an item instead \
         of one.",
    ],
    ..ROUTES
};

pub(super) static ROUTER: Work = Work {
    name: "router",
    about: "A source whose items go one of three ways by a hash, a cheap step on each way, and a merge.",
    expected: |job| (0..job.items).map(step).fold(0, add),
    entries: &[
        Entry::new("std-mpsc", 2_000_000, 1, |job| router_by_hand::<Std>(job).into()),
        Entry::new("crossbeam", 2_000_000, 1, |job| router_by_hand::<Crossbeam>(job).into()),
        Entry::new("flume", 2_000_000, 1, |job| router_by_hand::<Flume>(job).into()),
        Entry::new("kanal", 2_000_000, 1, |job| router_by_hand::<Kanal>(job).into()),
        Entry::new("streamz", 5_000_000, 1, |job| router(job).into()),
    ],
    notes: &[
        "std-mpsc, crossbeam, flume, kanal: the source chooses the way; one channel is the merge: four threads and the sink.",
        "streamz: source, `Router`, three maps and its merge, a thread each, and the sink.",
    ],
    ..ROUTES
};

pub(super) static FAN_OUT: Work = Work {
    name: "fan-out",
    about: "Each item to all of three ways, a cheap step on each way, and a merge.",
    expected: |job| (0..job.items).map(step).fold(0, add).wrapping_mul(WAYS),
    entries: &[
        Entry::new("std-mpsc", 1_000_000, 1, |job| fan_out_by_hand::<Std>(job).into()),
        Entry::new("crossbeam", 1_000_000, 1, |job| fan_out_by_hand::<Crossbeam>(job).into()),
        Entry::new("flume", 1_000_000, 1, |job| fan_out_by_hand::<Flume>(job).into()),
        Entry::new("kanal", 1_000_000, 1, |job| fan_out_by_hand::<Kanal>(job).into()),
        Entry::new("streamz", 2_000_000, 1, |job| fan_out(job).into()),
    ],
    notes: &["The systems are those of `router`; the time is that of an item of the source."],
    ..ROUTES
};

const ROUTES: Work = Work {
    reference: "crossbeam",
    goals: &[Goal {
        text: "streamz takes less time than crossbeam",
        figure: Figure::Ratio("streamz", "crossbeam"),
        bound: Bound::Below(1.0),
    }],
    ..Work::BASE
};

fn way(n: u64) -> u64 {
    (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % WAYS
}

/// The items of one of the sources.
fn share(items: u64, source: u64) -> impl Iterator<Item = u64> + Send + 'static {
    (source..items).step_by(WAYS as usize)
}

fn merge_by_hand<C: Channel>(job: &Job) -> u64 {
    let items = job.items;
    let (sender, merged) = C::bounded(CAPACITY);
    let threads: Vec<_> = (0..WAYS)
        .map(|source| {
            let sender = sender.clone();
            thread::spawn(move || share(items, source).for_each(|n| C::send(&sender, n)))
        })
        .collect();
    drop(sender);
    let sum = C::iter(&merged).fold(0, add);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

fn merge_tokio(job: &Job) -> u64 {
    let items = job.items;
    runtime::tokio(job.workers).block_on(async move {
        let (sender, mut merged) = mpsc::channel(CAPACITY);
        for source in 0..WAYS {
            let sender = sender.clone();
            tokio::spawn(async move {
                for n in share(items, source) {
                    sender.send(n).await.unwrap();
                }
            });
        }
        drop(sender);
        let sink = tokio::spawn(async move {
            let mut sum = 0;
            while let Some(n) = merged.recv().await {
                sum = add(sum, n);
            }
            sum
        });
        sink.await.unwrap()
    })
}

fn merge(job: &Job) -> u64 {
    let pipeline = Pipeline::builder("merge").capacity(CAPACITY).build();
    let sources = (0..WAYS).map(|source| Stream::from_iter(&pipeline, share(job.items, source)));
    let sum = FanIn::new().process(&pipeline, sources).fold(0, add).unwrap();
    pipeline.join();
    sum
}

/// A source that passes each item to `place`, a thread for each branch, and one channel as the merge.
fn ways_by_hand<C: Channel>(items: u64, place: impl Fn(u64, &[C::Sender<u64>]) + Send + 'static) -> u64 {
    let (output, merged) = C::bounded(CAPACITY);
    let mut threads = Vec::new();
    let mut ways = Vec::new();
    for _ in 0..WAYS {
        let (sender, input) = C::bounded(CAPACITY);
        let output = output.clone();
        ways.push(sender);
        threads.push(thread::spawn(move || C::iter(&input).for_each(|n| C::send(&output, step(n)))));
    }
    drop(output);
    threads.push(thread::spawn(move || (0..items).for_each(|n| place(n, &ways))));
    let sum = C::iter(&merged).fold(0, add);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

fn router_by_hand<C: Channel>(job: &Job) -> u64 {
    ways_by_hand::<C>(job.items, |n, ways| C::send(&ways[way(n) as usize], n))
}

fn fan_out_by_hand<C: Channel>(job: &Job) -> u64 {
    ways_by_hand::<C>(job.items, |n, ways| ways.iter().for_each(|way| C::send(way, n)))
}

fn router(job: &Job) -> u64 {
    let router = Router::new()
        .add_route("0", |n| way(*n) == 0, Mapper::new(step))
        .add_route("1", |n| way(*n) == 1, Mapper::new(step))
        .with_default(Mapper::new(step));
    let pipeline = Pipeline::builder("router").capacity(CAPACITY).build();
    let sum = Stream::from_iter(&pipeline, 0..job.items).through(&router).fold(0, add).unwrap();
    pipeline.join();
    sum
}

fn fan_out(job: &Job) -> u64 {
    let pipeline = Pipeline::builder("fan-out").capacity(CAPACITY).build();
    let copies = FanOut::new(WAYS as usize).process(&pipeline, Stream::from_iter(&pipeline, 0..job.items));
    let steps = copies.into_iter().map(|copy| copy.map(step));
    let sum = FanIn::new().process(&pipeline, steps).fold(0, add).unwrap();
    pipeline.join();
    sum
}
