//! Shared parts of the benches: the work, and the same pipelines written by hand.

use std::hint::black_box;
use std::thread;

use criterion::Criterion;
use crossbeam_channel::{Receiver, bounded};

/// Every channel and every edge has this capacity, so that only the code differs.
pub(crate) const CAPACITY: usize = 1024;

/// The size of a run: a tenth in a build that is not optimized, which only checks that a bench runs.
#[allow(dead_code)] // for the longest benches
pub(crate) const fn sized(full: u64) -> u64 {
    if cfg!(debug_assertions) { full / 10 } else { full }
}

/// The only step of all chains.
#[inline]
pub(crate) fn step(n: u64) -> u64 {
    n.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17)
}

/// A checksum that depends on order.
#[inline]
pub(crate) fn mix(sum: u64, n: u64) -> u64 {
    sum.rotate_left(1) ^ n
}

/// Spins for a number of rounds; about a nanosecond each.
#[allow(dead_code)] // not every bench spins
#[inline]
pub(crate) fn spin(n: u64, rounds: u32) -> u64 {
    (0..rounds).fold(n, |n, _| black_box(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (n >> 29)))
}

/// Few samples of long runs: a pipeline's threads need time to reach a steady state.
pub(crate) fn configured() -> Criterion {
    Criterion::default()
        .sample_size(15)
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(4))
}

/// The loop that does the same work on one thread.
#[allow(dead_code)]
pub(crate) fn plain_loop(items: u64, stages: usize) -> u64 {
    (0..items).fold(0, |sum, n| mix(sum, (0..stages).fold(black_box(n), |n, _| step(n))))
}

/// Source, `stages` maps and sink by hand: a thread and a bounded channel each.
#[allow(dead_code)]
pub(crate) fn by_hand(items: u64, stages: usize) -> u64 {
    let (sender, receiver) = bounded(CAPACITY);
    let mut threads = vec![thread::spawn(move || (0..items).for_each(|n| sender.send(n).unwrap()))];
    let mut last: Receiver<u64> = receiver;
    for _ in 0..stages {
        let (sender, receiver) = bounded(CAPACITY);
        let input = std::mem::replace(&mut last, receiver);
        threads.push(thread::spawn(move || input.iter().for_each(|n| sender.send(step(n)).unwrap())));
    }
    let sum = last.iter().fold(0, mix);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    sum
}
