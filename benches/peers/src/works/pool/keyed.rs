//! A pool that processes the items of a key one after the other.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::thread;

use streamz::{AsyncMapper, CancelToken, Pipeline, Stream};

use super::ordered;
use crate::steps::{CAPACITY, mix, step};
use crate::work::{Bound, Entry, Figure, Goal, Job, Work};
use crate::works::channels::{Channel, Crossbeam, Flume, Kanal, Std};

const KEYS: u64 = 1_000;

pub(in crate::works) static KEYED: Work = Work {
    name: "pool-keyed",
    about: "One cheap step for each item, two workers, 1,000 keys: the items of a key one after the other. Results in the order \
            of the items.",
    expected: |job| ordered::plain_loop(job, step),
    reference: "crossbeam",
    entries: &[
        Entry::new("loop", 300_000_000, 1, |job| ordered::plain_loop(job, step).into()),
        Entry::new("std-mpsc", 2_000_000, 2, |job| by_hand::<Std>(job).into()),
        Entry::new("crossbeam", 2_000_000, 2, |job| by_hand::<Crossbeam>(job).into()),
        Entry::new("flume", 2_000_000, 2, |job| by_hand::<Flume>(job).into()),
        Entry::new("kanal", 2_000_000, 2, |job| by_hand::<Kanal>(job).into()),
        Entry::new("streamz", 2_000_000, 2, |job| streamz(job).into()),
    ],
    goals: &[Goal {
        text: "streamz takes less time than crossbeam",
        figure: Figure::Ratio("streamz", "crossbeam"),
        bound: Bound::Below(1.0),
    }],
    notes: &[
        "std-mpsc, crossbeam, flume, kanal: by hand. The hash of a key says which worker has it; each worker has a queue of its \
         own. One queue for all results, which are numbered and put in order in a ring without a bound.",
        "streamz: `AsyncMapper::keyed`. Any worker takes any key that no other is at, so that a slow key holds up no other.",
        "rayon, pariter, orx-parallel have no notion of keys; tokio and renoir give no order across keys.",
    ],
    ..Work::BASE
};

fn by_hand<C: Channel>(job: &Job) -> u64 {
    let items = job.items;
    let (output, results) = C::bounded::<(u64, u64)>(CAPACITY);
    let mut threads = Vec::new();
    let mut inputs = Vec::new();
    for _ in 0..job.workers {
        let (sender, input) = C::bounded::<u64>(CAPACITY);
        let output = output.clone();
        inputs.push(sender);
        // The items are their own numbers.
        threads.push(thread::spawn(move || C::iter(&input).for_each(|n| C::send(&output, (n, step(n))))));
    }
    drop(output);
    threads.push(thread::spawn(move || {
        let (state, workers) = (RandomState::new(), inputs.len() as u64);
        let worker = |n| (state.hash_one(n % KEYS) % workers) as usize;
        (0..items).for_each(|n| C::send(&inputs[worker(n)], n));
    }));
    let sum = ordered::in_order(C::iter(&results)).fold(0, mix);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}

fn streamz(job: &Job) -> u64 {
    let call = |_: &CancelToken, n: &u64| streamz::ok(step(*n));
    let mapper = AsyncMapper::keyed(|n: &u64| n % KEYS, call).with_workers(job.workers);
    let pipeline = Pipeline::builder("pool").capacity(CAPACITY).build();
    let sum = Stream::from_iter(&pipeline, 0..job.items).through(&mapper).fold(0, mix).unwrap();
    pipeline.join();
    sum
}
