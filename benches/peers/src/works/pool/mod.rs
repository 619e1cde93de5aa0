//! Work on several items at a time.

pub(super) mod breaker;
pub(super) mod compute;
pub(super) mod keyed;
mod ordered;
mod schedule;
mod unordered;
pub(super) mod waiting;

use std::thread;
use std::thread::JoinHandle;

use crate::steps::CAPACITY;
use crate::works::channels::Channel;

/// The work of a pool on an item.
trait Task: Fn(u64) -> u64 + Copy + Send + Sync + 'static {}

impl<F: Fn(u64) -> u64 + Copy + Send + Sync + 'static> Task for F {}

/// The results, each with the number of its item.
type Numbered<C> = <C as Channel>::Receiver<(u64, u64)>;

/// A source and workers by hand: numbered results in any order.
fn by_hand<C: Channel<Receiver<u64>: Clone>>(
    items: u64,
    workers: usize,
    task: impl Task,
) -> (Numbered<C>, Vec<JoinHandle<()>>) {
    let (sender, input) = C::bounded(CAPACITY);
    let (output, results) = C::bounded(CAPACITY);
    let mut threads = vec![thread::spawn(move || (0..items).for_each(|n| C::send(&sender, n)))];
    for _ in 0..workers {
        let (input, output) = (input.clone(), output.clone());
        // The items are their own numbers.
        threads.push(thread::spawn(move || C::iter(&input).for_each(|n| C::send(&output, (n, task(n))))));
    }
    (results, threads)
}

/// The number of items handed over at a time, where several are.
const CHUNK: usize = 64;

/// A rayon pool of `workers` threads.
pub(super) fn rayon_pool(workers: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(workers).build().expect("rayon starts its threads")
}
