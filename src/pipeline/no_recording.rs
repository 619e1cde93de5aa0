//! Takes the place of `recording` if the feature `latency` is off: the same names, without effect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::latency::Latency;
use super::stats::{StageKind, StageStats};
use crate::clock::Clock;
use crate::error::StreamError;

#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies {}

#[derive(Default)]
pub(crate) struct Recordings {}

impl Recordings {
    pub(super) fn new(_which: &Latencies, _names: [&str; 2], _threads: usize, _kind: StageKind) -> Self {
        Self {}
    }

    #[inline(always)]
    pub(crate) fn begin(&self, _clock: &Clock) -> Option<Instant> {
        None
    }

    #[inline(always)]
    pub(crate) fn finish(&self, _begun: Option<Instant>, _thread: usize, _clock: &Clock) {}

    pub(crate) fn act_for(&self, _source: &Self) {}

    pub(crate) fn note_mark(&self, _emitted: Option<Instant>, _clock: &Clock) {}

    pub(super) fn times(&self) -> Option<Latency> {
        None
    }

    pub(super) fn ages(&self) -> Option<Latency> {
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
    pub(crate) fn is_on(&self) -> bool {
        false
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

pub(crate) struct Stamper;

impl Stamper {
    pub(crate) fn new(_stats: &StageStats, _clock: &Clock) -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) fn due(&self) -> Option<StreamError> {
        None
    }
}

/// Never exists without the feature.
#[derive(Debug, Clone)]
pub(super) enum Snapshot {}

impl Snapshot {
    pub(super) fn quantile(&self, _share: f64) -> Duration {
        match *self {}
    }

    pub(super) fn plus(&self, _other: &Self) -> Latency {
        match *self {}
    }

    pub(super) fn since(&self, _earlier: &Self) -> Option<Latency> {
        match *self {}
    }
}
