//! In place of `recording.rs` where the feature `latency` is off: the same names, and nothing behind them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::latency::Latency;
use super::stats::StageStats;
use crate::clock::Clock;

#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies {}

#[derive(Default)]
pub(crate) struct Recordings {}

impl Recordings {
    pub(super) fn new(_which: &Latencies, _names: [&str; 2], _threads: usize) -> Self {
        Self {}
    }

    #[inline(always)]
    pub(crate) fn begin(&self, _clock: &Clock) -> Option<Instant> {
        None
    }

    #[inline(always)]
    pub(crate) fn finish(&self, _begun: Option<Instant>, _thread: usize, _clock: &Clock) {}

    pub(super) fn times(&self) -> Option<Latency> {
        None
    }
}

pub(crate) struct Stopwatch;

impl Stopwatch {
    #[inline(always)]
    pub(crate) fn new(_stats: &Arc<StageStats>, _thread: usize, _clock: &Clock) -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn begin(&self, most: u32) -> (Option<Instant>, u32) {
        (None, most)
    }

    #[inline(always)]
    pub(crate) fn finish(&mut self, _begun: Option<Instant>, _items: impl FnOnce() -> u64) {}

    #[inline(always)]
    pub(crate) fn waited(&mut self) {}
}

/// There is none.
#[derive(Debug, Clone)]
pub(super) enum Snapshot {}

impl Snapshot {
    pub(super) fn quantile(&self, _share: f64) -> Duration {
        match *self {}
    }

    pub(super) fn since(&self, _earlier: &Self) -> Option<Latency> {
        match *self {}
    }
}
