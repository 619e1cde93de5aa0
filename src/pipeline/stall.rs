//! [`Watch`]: logs that a pipeline makes no progress, and why.
//!
//! A thread that waits from outside checks at whole multiples of half the
//! [limit](super::PipelineBuilder::stall_warning), counted from the start of its wait. If nothing has changed since a
//! check at least the limit ago, that is a stall. So a stall is noticed after one to one and a half times the limit,
//! counted from the last progress or the start of the wait, whichever is later. This needs no thread, a wait shorter
//! than half the limit never checks, and a pipeline warns once.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::report::Report;
use super::scope::Scope;
use crate::trace::event;

/// The watch of one waiting thread.
pub(crate) struct Watch {
    /// `None` for never.
    next: Cell<Option<Instant>>,
    /// The progress so far, and the first check that found it so.
    seen: Cell<Option<(u64, Instant)>>,
}

impl Watch {
    /// Starts a watch for a wait that begins now. Under virtual time nothing is watched: a test notices a stall by
    /// itself.
    pub(crate) fn start(scope: &Scope, now: Instant) -> Self {
        let next = scope.stall_limit().and_then(|limit| now.checked_add(limit / 2));
        Self { next: Cell::new(next), seen: Cell::new(None) }
    }

    /// The time of the next check.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next.get()
    }

    /// Called when a wait ends without a result.
    pub(crate) fn look(&self, scope: &Scope) {
        let (Some(next), Some(limit)) = (self.next.get(), scope.stall_limit()) else { return };
        let now = scope.clock().now();
        if now < next {
            return;
        }
        if self.is_stall(progress(scope), now, limit) && scope.may_warn_of_stall() {
            warn(scope, limit);
        }
        self.next.set(now.checked_add(limit / 2));
    }

    /// Whether there was no progress for the limit.
    fn is_stall(&self, done: u64, now: Instant, limit: Duration) -> bool {
        match self.seen.get() {
            Some((before, since)) if before == done => now.saturating_duration_since(since) >= limit,
            _ => {
                self.seen.set(Some((done, now)));
                false
            }
        }
    }
}

/// Grows with everything done in the pipeline.
fn progress(scope: &Scope) -> u64 {
    let mut done = 0_u64;
    for stage in scope.stages() {
        for step in &stage.steps {
            for counter in [&step.received, &step.emitted, &step.errors_in, &step.errors_out] {
                done = done.wrapping_add(counter.get());
            }
        }
        for output in stage.outputs.lock().iter() {
            // Relaxed: a count that is missed now is seen by the next check.
            let (sent, taken) = (output.gauge.sent.load(Ordering::Relaxed), output.gauge.taken.load(Ordering::Relaxed));
            done = done.wrapping_add(sent as u64).wrapping_add(taken as u64);
        }
    }
    done
}

#[cold]
fn warn(scope: &Scope, limit: Duration) {
    let diagnosis = Report::of(scope).diagnosis();
    let name = scope.name();
    if diagnosis.findings.is_empty() {
        event!(warn, { pipeline = %name }, "streamz: pipeline `{name}` has made no progress for {limit:?}");
    } else {
        event!(
            warn,
            { pipeline = %name },
            "streamz: pipeline `{name}` has made no progress for {limit:?}: {diagnosis}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_limit_without_progress_is_a_stall() {
        let (start, limit) = (crate::clock::real_now(), Duration::from_secs(10));
        let watch = Watch { next: Cell::new(None), seen: Cell::new(None) };
        let looks = [(5, 7), (10, 8), (15, 8), (20, 8), (25, 9), (30, 9), (35, 9)];
        let stalls = looks.map(|(second, done)| watch.is_stall(done, start + Duration::from_secs(second), limit));
        assert_eq!(stalls, [false, false, false, true, false, false, true]);
    }
}
