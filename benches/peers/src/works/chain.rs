//! Chains of cheap maps, a thread for each map: the cost of handing an item to another thread.
//!
//! Each function runs the items through a chain of maps and folds the results in order.

use std::thread;

use pariter::{IteratorExt, ReadaheadBuilder};
use renoir::Stream as RenoirStream;
use renoir::operator::Operator;
use renoir::prelude::{RuntimeConfig, StreamContext};
use streamz::{Pipeline, Stream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::channels::{Channel, Crossbeam, Flume, Kanal, Std};
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
        Entry::new("std-mpsc", 6_000_000, 1, |job| by_hand::<Std>(job.items, 1).into()),
        Entry::new("crossbeam", 8_000_000, 1, |job| by_hand::<Crossbeam>(job.items, 1).into()),
        Entry::new("crossbeam:vecs", 30_000_000, 1, |job| by_hand_in_vecs::<Crossbeam>(job.items, 1).into()),
        Entry::new("flume", 3_000_000, 1, |job| by_hand::<Flume>(job.items, 1).into()),
        Entry::new("kanal", 6_000_000, 1, |job| by_hand::<Kanal>(job.items, 1).into()),
        Entry::new("pariter", 8_000_000, 1, |job| pariter(job.items, 1).into()),
        Entry::new("tokio", 4_000_000, 2, |job| tokio(&runtime::tokio(job.workers), job.items, 1).into()),
        Entry::new("tokio:many", 4_000_000, 2, |job| tokio_many(job.items, 1, job.workers).into()),
        Entry::new("tokio:vecs", 100_000_000, 2, |job| tokio_vecs(job.items, 1, job.workers).into()),
        Entry::new("renoir", 15_000_000, 1, |job| renoir_hop(job.items).into()),
        Entry::new("streamz", 20_000_000, 1, |job| streamz(job.items, 1).into()),
    ],
    goals: &[
        Goal {
            text: "streamz takes at most 0.30 of the time of crossbeam",
            figure: Figure::Ratio("streamz", "crossbeam"),
            bound: Bound::AtMost(0.30),
        },
        Goal {
            text: "its slowest round takes at most 1.25 times as long as its fastest",
            figure: Figure::Spread("streamz"),
            bound: Bound::AtMost(1.25),
        },
        Goal {
            text: "streamz takes less time than renoir in every round",
            figure: Figure::WorstRatio("streamz", "renoir"),
            bound: Bound::Below(1.0),
        },
    ],
    notes: &[
        "std-mpsc, crossbeam, flume, kanal: the same program by hand with their bounded channels, an item in each message; \
         std-mpsc is `sync_channel`.",
        "crossbeam:vecs, tokio:vecs: by hand with 64 items in each message and room for 16 messages. An item may wait until \
         63 more have come, which no other system here makes it do, except renoir for at most 100 ms.",
        "tokio: a task each on two worker threads, `mpsc` between them. tokio:many: `recv_many` of up to 1,024 items.",
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
        Entry::new("std-mpsc", 3_000_000, 1, |job| by_hand::<Std>(job.items, 5).into()),
        Entry::new("crossbeam", 4_000_000, 1, |job| by_hand::<Crossbeam>(job.items, 5).into()),
        Entry::new("crossbeam:vecs", 15_000_000, 1, |job| by_hand_in_vecs::<Crossbeam>(job.items, 5).into()),
        Entry::new("flume", 2_000_000, 1, |job| by_hand::<Flume>(job.items, 5).into()),
        Entry::new("kanal", 4_000_000, 1, |job| by_hand::<Kanal>(job.items, 5).into()),
        Entry::new("pariter", 4_000_000, 1, |job| pariter(job.items, 5).into()),
        Entry::new("tokio", 2_000_000, 2, |job| tokio(&runtime::tokio(job.workers), job.items, 5).into()),
        Entry::new("tokio:many", 2_000_000, 2, |job| tokio_many(job.items, 5, job.workers).into()),
        Entry::new("tokio:vecs", 50_000_000, 2, |job| tokio_vecs(job.items, 5, job.workers).into()),
        Entry::new("renoir", 5_000_000, 1, |job| renoir_chain5(job.items).into()),
        Entry::new("streamz", 10_000_000, 1, |job| streamz(job.items, 5).into()),
    ],
    goals: &[Goal {
        text: "streamz takes at most 0.25 of the time of crossbeam",
        figure: Figure::Ratio("streamz", "crossbeam"),
        bound: Bound::AtMost(0.25),
    }],
    notes: &["The systems are those of `hop`."],
    ..Work::BASE
};

pub(super) fn plain_loop(items: u64, maps: usize) -> u64 {
    (0..items).fold(0, |sum, n| mix(sum, (0..maps).fold(n, |n, _| step(n))))
}

pub(super) fn by_hand<C: Channel>(items: u64, maps: usize) -> u64 {
    let (sender, mut last) = C::bounded(CAPACITY);
    let mut threads = vec![thread::spawn(move || (0..items).for_each(|n| C::send(&sender, n)))];
    for _ in 0..maps {
        let (sender, receiver) = C::bounded(CAPACITY);
        let input = std::mem::replace(&mut last, receiver);
        threads.push(thread::spawn(move || C::iter(&input).for_each(|n| C::send(&sender, step(n)))));
    }
    let sum = C::iter(&last).fold(0, mix);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

/// The same with many items in each message, and the same number of items in all channels. A map changes its `Vec` in
/// place.
fn by_hand_in_vecs<C: Channel>(items: u64, maps: usize) -> u64 {
    let (sender, mut last) = C::bounded(CAPACITY / VEC);
    let mut threads = vec![thread::spawn(move || vecs(items).for_each(|vec| C::send(&sender, vec)))];
    for _ in 0..maps {
        let (sender, receiver) = C::bounded(CAPACITY / VEC);
        let input = std::mem::replace(&mut last, receiver);
        threads.push(thread::spawn(move || C::iter(&input).for_each(|vec| C::send(&sender, stepped(vec)))));
    }
    let sum = C::iter(&last).fold(0, |sum, vec| vec.into_iter().fold(sum, mix));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

/// The number of items in a message that has several: 16 messages fill a channel.
const VEC: usize = CAPACITY / 16;

fn vecs(items: u64) -> impl Iterator<Item = Vec<u64>> {
    (0..items).step_by(VEC).map(move |first| (first..items.min(first + VEC as u64)).collect())
}

fn stepped(mut vec: Vec<u64>) -> Vec<u64> {
    vec.iter_mut().for_each(|n| *n = step(*n));
    vec
}

pub(super) fn pariter(items: u64, maps: usize) -> u64 {
    type Items = Box<dyn Iterator<Item = u64> + Send>;
    fn on_a_thread<I: Iterator<Item = u64> + Send + 'static>(items: I) -> Items {
        Box::new(items.readahead_custom(|builder: ReadaheadBuilder<I>| builder.buffer_size(CAPACITY)))
    }
    (0..maps).fold(on_a_thread(0..items), |items, _| on_a_thread(items.map(step))).fold(0, mix)
}

pub(super) fn tokio(runtime: &Runtime, items: u64, maps: usize) -> u64 {
    runtime.block_on(async move {
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

/// Receives all available items at a time.
fn tokio_many(items: u64, maps: usize, workers: usize) -> u64 {
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
                let mut many = Vec::with_capacity(CAPACITY);
                while input.recv_many(&mut many, CAPACITY).await > 0 {
                    for n in many.drain(..) {
                        sender.send(step(n)).await.unwrap();
                    }
                }
            });
        }
        let sink = tokio::spawn(async move {
            let (mut sum, mut many) = (0, Vec::with_capacity(CAPACITY));
            while last.recv_many(&mut many, CAPACITY).await > 0 {
                sum = many.drain(..).fold(sum, mix);
            }
            sum
        });
        sink.await.unwrap()
    })
}

/// Sends many items in each message, as [`by_hand_in_vecs`] does.
fn tokio_vecs(items: u64, maps: usize, workers: usize) -> u64 {
    runtime::tokio(workers).block_on(async move {
        let (sender, mut last) = mpsc::channel(CAPACITY / VEC);
        tokio::spawn(async move {
            for vec in vecs(items) {
                sender.send(vec).await.unwrap();
            }
        });
        for _ in 0..maps {
            let (sender, receiver) = mpsc::channel(CAPACITY / VEC);
            let mut input = std::mem::replace(&mut last, receiver);
            tokio::spawn(async move {
                while let Some(vec) = input.recv().await {
                    sender.send(stepped(vec)).await.unwrap();
                }
            });
        }
        let sink = tokio::spawn(async move {
            let mut sum = 0;
            while let Some(vec) = last.recv().await {
                sum = vec.into_iter().fold(sum, mix);
            }
            sum
        });
        sink.await.unwrap()
    })
}

pub(super) fn renoir_hop(items: u64) -> u64 {
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
