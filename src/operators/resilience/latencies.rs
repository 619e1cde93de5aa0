//! [`Latencies`]: the durations of the last calls, and the time within which a share of them returned.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

/// The maximum number of recorded calls, and the minimum for a result.
const KEPT: usize = 256;
const FEWEST: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Latencies(Mutex<VecDeque<Duration>>);

impl Latencies {
    pub(super) fn add(&self, latency: Duration) {
        let mut recent = self.0.lock();
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(latency);
    }

    /// The shortest time within which at least `share` of the last calls returned; `None` if there were too few.
    pub(super) fn percentile(&self, share: f64) -> Option<Duration> {
        let mut recent: Vec<Duration> = self.0.lock().iter().copied().collect();
        if recent.len() < FEWEST {
            return None;
        }
        let rank = (share * recent.len() as f64).ceil() as usize;
        let (_, &mut latency, _) = recent.select_nth_unstable(rank.max(1) - 1);
        Some(latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_last_calls() {
        let latencies = Latencies::default();
        for ms in 1..=19 {
            latencies.add(Duration::from_millis(ms));
        }
        assert_eq!(latencies.percentile(0.5), None);
        latencies.add(Duration::from_millis(20));
        let percentile = |share| latencies.percentile(share).unwrap().as_millis();
        assert_eq!([0.01, 0.5, 0.51, 0.95, 0.99].map(percentile), [1, 10, 11, 19, 20]);
        for _ in 0..KEPT {
            latencies.add(Duration::ZERO);
        }
        assert_eq!(latencies.percentile(0.99), Some(Duration::ZERO));
    }
}
