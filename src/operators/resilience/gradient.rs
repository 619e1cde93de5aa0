//! [`Gradient`]: finds the number of calls that a service can process at a time.
//!
//! The gradient of latencies, as in Netflix's [concurrency-limits](https://github.com/Netflix/concurrency-limits) and
//! [Envoy](https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/adaptive_concurrency_filter).
//! While a service has capacity left, its latency does not depend on the number of calls in progress. Beyond that,
//! calls queue, and the latency grows in proportion. So with the latency without a queue as the `base`,
//! `limit * base / latency` is the number of calls that the service really processes. The next limit is that number plus a small queue,
//! the headroom, by which the limit grows while there is no queue.
//!
//! Everything depends on the base. An average over the past, as in Netflix's `Gradient2`, rises during a long overload,
//! and the limit drifts upwards with it. So the base is measured, as in Envoy and in BBR's `ProbeRTT`: periodically,
//! and when the limit has moved by a fifth since, half of the limit is allowed for one window. If latencies fall with
//! it, there was a queue. If they do not, the service itself has become slower, and they are the new base.
//!
//! Two things are different here. A window lasts until its mean is known to a few percent: a service with erratic latencies gets
//! longer windows rather than wrong limits. And failed calls lower the limit at once, as in TCP and in Vector's adaptive
//! request concurrency (AIMD).
//!
//! # Invariants
//!
//! - `min <= allowed <= limit <= max`, always.
//! - A failure lowers the limit by at least 1, unless it is the minimum. Failures of calls that started before the last
//!   such decrease lower it no further: they report the same overload.
//! - The limit grows only at the end of a window in which as many calls as allowed were in progress.
//! - Latencies count only for calls that started in the current window, after as many others as are allowed: the first
//!   ones are faster or slower than those that follow, because they meet the queue of the window before.
//! - After a change of the service, for better or worse, the limit finds the new knee: each probe at least halves a queue, and
//!   a base that has risen is soon measured again, for that probe may have met a queue, too.
//! - It uses no clock, no lock and no thread.

use std::time::Duration;

/// The relative standard error with which the mean of a window must be known, and that for the first windows.
const PRECISION: f64 = 0.025;
const FIRST_PRECISION: f64 = 0.05;
/// The number of calls for that: at least, and at most unless the limit requires more.
const FEWEST: u64 = 10;
const MOST: u64 = 1_000;
/// The headroom, as a share of the limit, and its minimum.
const HEADROOM: f64 = 0.04;
const LEAST_HEADROOM: f64 = 1.0;
/// The range of the gradient. A little more than 1, so that the noise of two measurements does not only lower the
/// limit.
const STEEPEST: f64 = 0.5;
const FLATTEST: f64 = 1.1;
/// A limit or latency that is less than this share of another is significantly lower.
const SIGNIFICANT: f64 = 0.8;
/// A base that is higher than before by this factor may have been measured with a queue.
const RISEN: f64 = 1.1;
/// The base is measured after this number of windows; and, if there is a reason to, after this one.
const PROBE_EVERY: u32 = 40;
const PROBE_AGAIN: u32 = 5;
/// The factor by which a failure lowers the limit.
const BACKOFF: f64 = 0.9;

#[derive(Debug)]
pub(super) struct Gradient {
    min: f64,
    max: f64,
    limit: f64,
    /// The mean latency without a queue, in seconds.
    base: Option<f64>,
    /// Windows since the base was measured, and the limit then.
    age: u32,
    measured_at: f64,
    phase: Phase,
    number: u64,
    window: Window,
    /// The last window for which failures have been counted.
    backed_off: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// The limit is doubled until there is a queue or a failure.
    Starting,
    Steady,
    /// Half of the limit is allowed, to measure the base. Before that the mean latency was `latency`.
    Probing {
        latency: f64,
    },
}

/// The calls of a window, and the latencies of those that count, in seconds.
#[derive(Debug, Default)]
struct Window {
    begun: u64,
    count: u64,
    sum: f64,
    squares: f64,
    /// As many calls as allowed were in progress.
    is_full: bool,
}

/// When a call started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    window: u64,
    counts: bool,
}

impl Gradient {
    /// Starts at `initial`, or the closest number that is not less than `min` or more than `max`.
    pub(super) fn new(initial: usize, min: usize, max: usize) -> Self {
        let (min, max) = (min as f64, max as f64);
        let limit = (initial as f64).min(max).max(min);
        Self {
            min,
            max,
            limit,
            base: None,
            age: 0,
            measured_at: limit,
            phase: Phase::Starting,
            number: 1,
            window: Window::default(),
            backed_off: 0,
        }
    }

    /// The limit that has been found so far.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// The number of calls that may be in progress now: the limit, or half of it while the base is measured.
    pub(super) fn allowed(&self) -> usize {
        match self.phase {
            Phase::Probing { .. } => (self.limit / 2.0).max(self.min) as usize,
            Phase::Starting | Phase::Steady => self.limit(),
        }
    }

    /// The mean latency without a queue, as it was last measured.
    pub(super) fn base(&self) -> Option<Duration> {
        self.base.map(Duration::from_secs_f64)
    }

    /// A call starts; with it there are `in_progress`.
    pub(super) fn begin(&mut self, in_progress: usize) -> Begun {
        let allowed = self.allowed();
        self.window.begun += 1;
        self.window.is_full |= in_progress >= allowed;
        Begun { window: self.number, counts: self.window.begun > allowed as u64 }
    }

    /// A call has succeeded.
    pub(super) fn succeed(&mut self, begun: Begun, latency: Duration) {
        if begun.window != self.number || !begun.counts {
            return;
        }
        self.window.add(latency.as_secs_f64());
        let precision = if self.phase == Phase::Starting { FIRST_PRECISION } else { PRECISION };
        // Two rounds at least: calls may come in waves, a part of which would not be representative.
        if self.window.count >= 2 * self.allowed() as u64 && self.window.is_known_to(precision) {
            self.close();
        }
    }

    /// A call has failed in a way that indicates overload.
    pub(super) fn fail(&mut self, begun: Begun) {
        if begun.window <= self.backed_off {
            return;
        }
        self.backed_off = self.number;
        self.phase = Phase::Steady;
        self.limit = (self.limit * BACKOFF).min(self.limit - 1.0).max(self.min);
        self.next_window();
    }

    /// Ends a window: sets the limit of the next.
    fn close(&mut self) {
        let latency = self.window.mean();
        let is_full = self.window.is_full;
        self.next_window();
        self.age += 1;
        let base = self.base.unwrap_or(latency);
        match self.phase {
            Phase::Probing { latency: before } => {
                self.base = Some(latency);
                self.age = if latency > base * RISEN { PROBE_EVERY - PROBE_AGAIN } else { 0 };
                self.phase = Phase::Steady;
                self.limit = self.next(latency, before, true);
                self.measured_at = self.limit;
            }
            Phase::Starting if is_full && latency * SIGNIFICANT < base => {
                self.base = Some(base.min(latency));
                self.limit = (self.limit * 2.0).min(self.max);
            }
            Phase::Starting if is_full => self.phase = Phase::Probing { latency },
            Phase::Starting | Phase::Steady => {
                let is_faster = latency < base * SIGNIFICANT;
                let base = if is_faster { latency } else { base };
                self.base = Some(base);
                let next = self.next(base, latency, is_full);
                let moved = next < self.measured_at * SIGNIFICANT || next * SIGNIFICANT > self.measured_at;
                if is_full && (self.age >= PROBE_EVERY || self.age >= PROBE_AGAIN && moved) {
                    self.phase = Phase::Probing { latency };
                } else {
                    if next < self.limit * SIGNIFICANT {
                        self.phase = Phase::Steady;
                    }
                    self.limit = next;
                }
            }
        }
    }

    /// The limit to use, if calls that take `base` alone take `latency` under the current one.
    fn next(&self, base: f64, latency: f64, may_grow: bool) -> f64 {
        // It cannot be derived from calls that take no time.
        let gradient = if latency > 0.0 { (base / latency).clamp(STEEPEST, FLATTEST) } else { 1.0 };
        let headroom = (self.limit * HEADROOM).max(LEAST_HEADROOM);
        let next = (self.limit * gradient + headroom).min(self.max).max(self.min);
        if may_grow { next } else { next.min(self.limit) }
    }

    fn next_window(&mut self) {
        self.number += 1;
        self.window = Window::default();
    }
}

impl Window {
    fn add(&mut self, latency: f64) {
        self.count += 1;
        self.sum += latency;
        self.squares += latency * latency;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// Whether the relative standard error of the mean is at most `precision`, or will hardly ever be.
    fn is_known_to(&self, precision: f64) -> bool {
        let (count, mean) = (self.count as f64, self.mean());
        let variance = (self.squares / count - mean * mean).max(0.0);
        let error = mean * precision;
        self.count >= MOST || self.count >= FEWEST && variance <= error * error * count
    }
}

#[cfg(test)]
mod tests;
