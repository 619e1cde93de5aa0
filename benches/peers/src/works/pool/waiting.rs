//! Pools that wait: items for which a worker sleeps.

use std::thread;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use tokio::sync::Semaphore;

use super::{Task, ordered, schedule};
use crate::steps::{CAPACITY, mix, step};
use crate::work::{Bound, Entry, Figure, Goal, Job, Outcome, Work};
use crate::works::channels::Crossbeam;
use crate::works::runtime;

/// How long a worker sleeps for an item.
type Pause = fn(u64) -> Duration;

pub(in crate::works) static SLEEP: Work = Work {
    name: "pool-sleep",
    about: "A sleep of 1 ms for each item, 50 workers, results in order. The limit: 50 bare threads that share out the \
            items beforehand.",
    expected: |job| ordered::plain_loop(job, step),
    reference: "limit",
    entries: &[
        Entry::new("limit", 20_000, 50, |job| bare_threads(job, sleeping(even)).into()),
        Entry::new("crossbeam", 20_000, 50, |job| ordered::by_hand::<Crossbeam>(job, sleeping(even)).into()),
        Entry::new("rayon", 20_000, 50, |job| ordered::rayon(job, sleeping(even)).into()),
        Entry::new("pariter", 20_000, 50, |job| ordered::pariter(job, sleeping(even)).into()),
        Entry::new("tokio", 20_000, 50, |job| tokio(job, even).into()),
        Entry::new("streamz", 20_000, 50, |job| ordered::streamz(job, sleeping(even)).into()),
    ],
    goals: &[Goal {
        text: "streamz takes at most 1.05 times as long as the limit",
        figure: Figure::Ratio("streamz", "limit"),
        bound: Bound::AtMost(1.05),
    }],
    notes: &[TOKIO],
    ..Work::BASE
};

pub(in crate::works) static SKEW: Work = Work {
    name: "pool-skew",
    about: "A sleep of 50 ms for one item in 100, of 0.2 ms for the others; 16 workers, results in order, a window of \
            1,024. The limit: a perfect schedule with that window, computed from the real lengths of such sleeps in 16 \
            bare threads.",
    expected: |job| ordered::plain_loop(job, step),
    reference: "limit",
    entries: &[
        Entry::new("limit", 8_000, 16, perfect_schedule),
        Entry::new("crossbeam", 8_000, 16, |job| ordered::by_hand::<Crossbeam>(job, sleeping(skewed)).into()),
        Entry::new("rayon", 8_000, 16, |job| ordered::rayon(job, sleeping(skewed)).into()),
        Entry::new("pariter", 8_000, 16, |job| ordered::pariter(job, sleeping(skewed)).into()),
        Entry::new("tokio", 8_000, 16, |job| tokio(job, skewed).into()),
        Entry::new("streamz", 8_000, 16, |job| ordered::streamz(job, sleeping(skewed)).into()),
    ],
    goals: &[Goal {
        text: "streamz takes at most 1.05 times as long as the perfect schedule",
        figure: Figure::Ratio("streamz", "limit"),
        bound: Bound::AtMost(1.05),
    }],
    notes: &[
        "streamz holds at most 3,072 items: 1,024 in the window, which is its default, and as many on the edges before \
         and behind the pool; pariter about as many.",
        "crossbeam puts results in order without a bound, so nothing stops its workers: it may be faster than the limit, \
         and needs memory for every result behind a slow item. rayon holds all items.",
        TOKIO,
    ],
    ..Work::BASE
};

const TOKIO: &str = "tokio: its own timer, of 1 ms steps; `buffered(1024)` and a semaphore with as many permits as there \
                     are workers.";

fn even(_: u64) -> Duration {
    Duration::from_millis(1)
}

const SHORT: Duration = Duration::from_micros(200);
const SLOW: Duration = Duration::from_millis(50);

fn is_slow(n: u64) -> bool {
    n % 100 == 99
}

fn skewed(n: u64) -> Duration {
    if is_slow(n) { SLOW } else { SHORT }
}

fn sleeping(pause: Pause) -> impl Task {
    move |n| {
        thread::sleep(pause(n));
        step(n)
    }
}

/// The limit of sleeping itself: each thread has its share of the items from the beginning.
fn bare_threads(job: &Job, task: impl Task) -> u64 {
    let share = job.items.div_ceil(job.workers as u64);
    let threads: Vec<_> = (0..job.workers as u64)
        .map(|thread| thread * share..job.items.min((thread + 1) * share))
        .map(|items| thread::spawn(move || items.map(task).collect::<Vec<_>>()))
        .collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).fold(0, mix)
}

/// Does not process the items, but computes how long they would take.
fn perfect_schedule(job: &Job) -> Outcome {
    let (short, slow) = (real_length(SHORT, 200, job.workers), real_length(SLOW, 3, job.workers));
    let length = |n| if is_slow(n) { slow } else { short };
    let time = schedule::perfect(job.items, job.workers, CAPACITY as u64, length);
    Outcome { checksum: ordered::plain_loop(job, step), nanos: Some(time.as_secs_f64() * 1e9 / job.items as f64) }
}

/// The mean duration of a sleep when this number of threads sleep at once.
fn real_length(pause: Duration, times: u32, threads: usize) -> Duration {
    let sleeper = move || {
        let started = Instant::now();
        (0..times).for_each(|_| thread::sleep(pause));
        started.elapsed() / times
    };
    let threads: Vec<_> = (0..threads).map(|_| thread::spawn(sleeper)).collect();
    let count = threads.len() as u32;
    threads.into_iter().map(|thread| thread.join().unwrap()).sum::<Duration>() / count
}

fn tokio(job: &Job, pause: Pause) -> u64 {
    let permits = Semaphore::new(job.workers);
    let permits = &permits;
    runtime::tokio(2).block_on(
        stream::iter(0..job.items)
            .map(async |n| {
                let _permit = permits.acquire().await.unwrap();
                tokio::time::sleep(pause(n)).await;
                step(n)
            })
            .buffered(CAPACITY)
            .fold(0, async |sum, n| mix(sum, n)),
    )
}
