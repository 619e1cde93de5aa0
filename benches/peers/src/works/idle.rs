//! The time that one item takes through ten stages whose threads are all parked.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use streamz::{Pipeline, Stream};
use tokio::sync::mpsc;

use super::runtime;
use crate::figures::median;
use crate::steps::{CAPACITY, mix, step};
use crate::work::{Bound, Entry, Figure, Goal, Job, Outcome, Work};

const STAGES: usize = 10;

/// How long nothing is sent, so that every thread parks.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) static IDLE_LATENCY: Work = Work {
    name: "idle-latency",
    about: "One item at a time through ten idle stages, 2 ms after the one before; from sending it until it is received \
            by the thread that sent it. Each run gives its median.",
    unit: "ns of delay",
    expected: |job| (0..job.items).fold(0, |sum, n| mix(sum, (0..STAGES).fold(n, |n, _| step(n)))),
    reference: "crossbeam",
    entries: &[
        Entry::new("crossbeam", 250, 1, crossbeam),
        Entry::new("tokio", 250, 2, tokio),
        Entry::new("streamz", 250, 1, streamz),
        Entry::new("streamz-stage", 250, 1, streamz_stage),
    ],
    goals: &[Goal {
        text: "streamz takes at most 1.1 times as long as crossbeam",
        figure: Figure::Ratio("streamz", "crossbeam"),
        bound: Bound::AtMost(1.1),
    }],
    notes: &[
        "tokio: two worker threads for the ten stages; most hand-overs wake no thread.",
        "streamz-stage: the ten maps on one thread.",
    ],
    ..Work::BASE
};

/// Sends the items one by one and measures their times; `send_and_receive` handles one.
fn one_by_one(items: u64, mut send_and_receive: impl FnMut(u64) -> u64) -> Outcome {
    let mut checksum = 0;
    let mut delays = Vec::new();
    for n in 0..items {
        thread::sleep(PAUSE);
        let started = Instant::now();
        let received = send_and_receive(n);
        delays.push(Some(started.elapsed().as_secs_f64() * 1e9));
        checksum = mix(checksum, received);
    }
    Outcome { checksum, nanos: median(delays) }
}

fn crossbeam(job: &Job) -> Outcome {
    let (first, receiver) = bounded(CAPACITY);
    let mut last: Receiver<u64> = receiver;
    let mut threads = Vec::new();
    for _ in 0..STAGES {
        let (sender, receiver) = bounded(CAPACITY);
        let input = std::mem::replace(&mut last, receiver);
        threads.push(thread::spawn(move || input.iter().for_each(|n| sender.send(step(n)).unwrap())));
    }
    let outcome = one_by_one(job.items, |n| {
        first.send(n).unwrap();
        last.recv().unwrap()
    });
    drop(first);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    outcome
}

fn tokio(job: &Job) -> Outcome {
    let runtime = runtime::tokio(job.workers);
    let (first, mut last) = mpsc::channel(CAPACITY);
    for _ in 0..STAGES {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let mut input = std::mem::replace(&mut last, receiver);
        runtime.spawn(async move {
            while let Some(n) = input.recv().await {
                sender.send(step(n)).await.unwrap();
            }
        });
    }
    one_by_one(job.items, |n| {
        runtime.block_on(async {
            first.send(n).await.unwrap();
            last.recv().await.unwrap()
        })
    })
}

fn streamz(job: &Job) -> Outcome {
    streamz_through(job, |items| (0..STAGES).fold(items, |items, _| items.map(step)))
}

fn streamz_stage(job: &Job) -> Outcome {
    streamz_through(job, |items| {
        items.stage("ten", |s| {
            let five = s.map(step).map(step).map(step).map(step).map(step);
            five.map(step).map(step).map(step).map(step).map(step)
        })
    })
}

fn streamz_through(job: &Job, stages: impl FnOnce(Stream<u64>) -> Stream<u64>) -> Outcome {
    let pipeline = Pipeline::builder("idle").capacity(CAPACITY).build();
    let (first, items) = Stream::channel(&pipeline, CAPACITY);
    let mut last = stages(items);
    let outcome = one_by_one(job.items, |n| {
        first.send(n).unwrap();
        last.recv().unwrap().unwrap()
    });
    first.finish();
    assert!(last.recv().is_none(), "nothing is left");
    pipeline.join();
    outcome
}
