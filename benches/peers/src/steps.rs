//! The work on each item, and the checksums.

use std::hint::black_box;
use std::time::Instant;

/// The capacity of every channel, edge and window, in items, where a system lets it be set.
pub(crate) const CAPACITY: usize = 1024;

/// The cheap step of all chains.
#[inline]
pub(crate) fn step(n: u64) -> u64 {
    (n ^ (n >> 7)).wrapping_add(0x9E37_79B9_7F4A_7C15)
}

/// A checksum that depends on order.
#[inline]
pub(crate) fn mix(sum: u64, n: u64) -> u64 {
    (sum ^ n).wrapping_mul(0x0000_0100_0000_01B3)
}

/// A checksum that does not depend on order.
#[inline]
pub(crate) fn add(sum: u64, n: u64) -> u64 {
    sum.wrapping_add(n)
}

/// Work whose duration is proportional to its rounds.
#[inline]
pub(crate) fn spin(n: u64, rounds: u32) -> u64 {
    (0..rounds).fold(n, |n, _| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (n >> 29))
}

/// The number of rounds of [`spin`] in a microsecond on this machine: the fastest of a few tries.
pub(crate) fn rounds_per_microsecond() -> f64 {
    const ROUNDS: u32 = 10_000_000;
    let fastest = (0..5).map(|n| {
        let started = Instant::now();
        black_box(spin(black_box(n), ROUNDS));
        started.elapsed()
    });
    f64::from(ROUNDS) / (fastest.min().unwrap_or_default().as_secs_f64() * 1e6)
}
