//! Work on several items at a time.

pub(super) mod compute;
mod ordered;
mod schedule;
mod unordered;
pub(super) mod waiting;

use std::thread;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::steps::CAPACITY;

/// What a pool does with an item.
trait Task: Fn(u64) -> u64 + Copy + Send + Sync + 'static {}

impl<F: Fn(u64) -> u64 + Copy + Send + Sync + 'static> Task for F {}

/// A source and workers by hand: numbered results in any order.
fn by_hand(items: u64, workers: usize, task: impl Task) -> (Receiver<(u64, u64)>, Vec<JoinHandle<()>>) {
    fn work(input: &Receiver<u64>, output: &Sender<(u64, u64)>, task: impl Task) {
        // The items are their own numbers.
        input.iter().for_each(|n| output.send((n, task(n))).unwrap());
    }
    let (sender, input) = bounded(CAPACITY);
    let (output, results) = bounded(CAPACITY);
    let mut threads = vec![thread::spawn(move || (0..items).for_each(|n| sender.send(n).unwrap()))];
    for _ in 0..workers {
        let (input, output) = (input.clone(), output.clone());
        threads.push(thread::spawn(move || work(&input, &output, task)));
    }
    (results, threads)
}

/// A rayon pool of that many threads.
fn rayon_pool(workers: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(workers).build().expect("rayon starts its threads")
}
