//! Chains of cheap maps, a thread for each map: what it costs to hand an item to another thread.
//!
//! Each function runs the items through a chain of maps and folds the results in order.

use std::thread;

use crossbeam_channel::{Receiver, bounded};
use pariter::{IteratorExt, ReadaheadBuilder};
use renoir::Stream as RenoirStream;
use renoir::operator::Operator;
use renoir::prelude::{RuntimeConfig, StreamContext};
use streamz::{Pipeline, Stream};
use tokio::sync::mpsc;

use super::runtime;
use crate::steps::{CAPACITY, mix, step};
use crate::work::{Bound, Entry, Figure, Goal, Work};

pub(super) static HOP: Work = Work {
    name: "hop",
    about: "Source, one map, sink: a thread each.",
    expected: |job| plain_loop(job.items, 1),
    reference: "crossbeam",
    entries: &[
        Entry::new("loop", 300_000_000, 1, |job| plain_loop(job.items, 1).into()),
        Entry::new("crossbeam", 8_000_000, 1, |job| crossbeam(job.items, 1).into()),
        Entry::new("pariter", 8_000_000, 1, |job| pariter(job.items, 1).into()),
        Entry::new("tokio", 4_000_000, 2, |job| tokio(job.items, 1, job.workers).into()),
        Entry::new("renoir", 15_000_000, 1, |job| renoir_hop(job.items).into()),
        Entry::new("streamz", 20_000_000, 1, |job| streamz(job.items, 1).into()),
    ],
    goals: &[
        Goal {
            text: "streamz takes at most 0.45 of the time of crossbeam",
            figure: Figure::Ratio("streamz", "crossbeam"),
            bound: Bound::AtMost(0.45),
        },
        Goal {
            text: "streamz takes less time than renoir",
            figure: Figure::Ratio("streamz", "renoir"),
            bound: Bound::Below(1.0),
        },
    ],
    notes: &[
        "tokio: a task each on two worker threads, `mpsc` between them.",
        "pariter: an iterator with a `readahead` behind the source and behind each map.",
        "renoir: a `shuffle` in front of each map, the `fold` makes the last hop; links and batches as it sets them (16 \
         batches of up to 1,024 items).",
        "rayon has nothing that hands items from thread to thread.",
    ],
    ..Work::BASE
};

pub(super) static CHAIN5: Work = Work {
    name: "chain5",
    about: "Source, five maps, sink: a thread each.",
    expected: |job| plain_loop(job.items, 5),
    reference: "crossbeam",
    entries: &[
        Entry::new("loop", 200_000_000, 1, |job| plain_loop(job.items, 5).into()),
        Entry::new("crossbeam", 4_000_000, 1, |job| crossbeam(job.items, 5).into()),
        Entry::new("pariter", 4_000_000, 1, |job| pariter(job.items, 5).into()),
        Entry::new("tokio", 2_000_000, 2, |job| tokio(job.items, 5, job.workers).into()),
        Entry::new("renoir", 5_000_000, 1, |job| renoir_chain5(job.items).into()),
        Entry::new("streamz", 10_000_000, 1, |job| streamz(job.items, 5).into()),
    ],
    goals: &[Goal {
        text: "streamz takes at most 0.30 of the time of crossbeam",
        figure: Figure::Ratio("streamz", "crossbeam"),
        bound: Bound::AtMost(0.30),
    }],
    notes: &["The systems are those of `hop`."],
    ..Work::BASE
};

pub(super) fn plain_loop(items: u64, maps: usize) -> u64 {
    (0..items).fold(0, |sum, n| mix(sum, (0..maps).fold(n, |n, _| step(n))))
}

fn crossbeam(items: u64, maps: usize) -> u64 {
    let (sender, receiver) = bounded(CAPACITY);
    let mut threads = vec![thread::spawn(move || (0..items).for_each(|n| sender.send(n).unwrap()))];
    let mut last: Receiver<u64> = receiver;
    for _ in 0..maps {
        let (sender, receiver) = bounded(CAPACITY);
        let input = std::mem::replace(&mut last, receiver);
        threads.push(thread::spawn(move || input.iter().for_each(|n| sender.send(step(n)).unwrap())));
    }
    let sum = last.iter().fold(0, mix);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

fn pariter(items: u64, maps: usize) -> u64 {
    type Items = Box<dyn Iterator<Item = u64> + Send>;
    fn on_a_thread<I: Iterator<Item = u64> + Send + 'static>(items: I) -> Items {
        Box::new(items.readahead_custom(|builder: ReadaheadBuilder<I>| builder.buffer_size(CAPACITY)))
    }
    (0..maps).fold(on_a_thread(0..items), |items, _| on_a_thread(items.map(step))).fold(0, mix)
}

fn tokio(items: u64, maps: usize, workers: usize) -> u64 {
    runtime::tokio(workers).block_on(async move {
        let (sender, mut last) = mpsc::channel(CAPACITY);
        tokio::spawn(async move {
            for n in 0..items {
                sender.send(n).await.unwrap();
            }
        });
        for _ in 0..maps {
            let (sender, receiver) = mpsc::channel(CAPACITY);
            let mut input = std::mem::replace(&mut last, receiver);
            tokio::spawn(async move {
                while let Some(n) = input.recv().await {
                    sender.send(step(n)).await.unwrap();
                }
            });
        }
        let sink = tokio::spawn(async move {
            let mut sum = 0;
            while let Some(n) = last.recv().await {
                sum = mix(sum, n);
            }
            sum
        });
        sink.await.unwrap()
    })
}

fn renoir_hop(items: u64) -> u64 {
    let context = StreamContext::new(RuntimeConfig::local(1).unwrap());
    let mapped = renoir_map(context.stream_iter(0..items));
    renoir_sum(context, mapped)
}

/// Each map makes another type.
fn renoir_chain5(items: u64) -> u64 {
    let context = StreamContext::new(RuntimeConfig::local(1).unwrap());
    let two = renoir_map(renoir_map(context.stream_iter(0..items)));
    let mapped = renoir_map(renoir_map(renoir_map(two)));
    renoir_sum(context, mapped)
}

fn renoir_map(items: RenoirStream<impl Operator<Out = u64> + 'static>) -> RenoirStream<impl Operator<Out = u64>> {
    items.shuffle().map(step)
}

fn renoir_sum(context: StreamContext, items: RenoirStream<impl Operator<Out = u64> + 'static>) -> u64 {
    let sum = items.fold(0, |sum, n| *sum = mix(*sum, n)).collect_vec();
    context.execute_blocking();
    sum.get().expect("the only host has the result")[0]
}

pub(super) fn streamz(items: u64, maps: usize) -> u64 {
    let pipeline = Pipeline::builder("chain").capacity(CAPACITY).build();
    let source = Stream::from_iter(&pipeline, 0..items);
    let sum = (0..maps).fold(source, |items, _| items.map(step)).fold(0, mix).unwrap();
    pipeline.join();
    sum
}
