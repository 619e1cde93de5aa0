//! Realistic data that is the same in every run.

use std::ops::RangeBounds;

/// A source of random values. The same seed gives the same values.
#[derive(Debug, Clone)]
pub struct Data {
    rng: fastrand::Rng,
}

impl Data {
    pub fn seeded(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed) }
    }

    /// A number of a range, uniformly distributed.
    pub fn between(&mut self, range: impl RangeBounds<u32>) -> u32 {
        self.rng.u32(range)
    }

    /// True in a share of the cases, 0.0 to 1.0.
    pub fn chance(&mut self, share: f64) -> bool {
        self.rng.f64() < share
    }

    /// An element of a list, uniformly distributed.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.rng.usize(..list.len())]
    }

    /// A number below `n`, with small ones far more frequent, as with customers, words or pages: with 100, the first
    /// ten are half of all.
    pub fn skewed(&mut self, n: usize) -> usize {
        // The logarithm of the result is uniformly distributed.
        let place = (n as f64 + 1.0).powf(self.rng.f64());
        (place as usize - 1).min(n - 1)
    }

    /// Shuffles a list.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        self.rng.shuffle(list);
    }
}
