//! [`Watch`]: says when a pipeline makes no progress, and why.
//!
//! Whoever waits from outside looks up now and then: at whole multiples of half the [limit](super::PipelineBuilder::stall_warning),
//! counted from the start of its wait. Two looks that find the same counts are a stall. There is no thread for it, a wait
//! that is shorter than half the limit looks never, and a pipeline warns once.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::report::Report;
use super::scope::Scope;

/// Of one waiter.
pub(crate) struct Watch {
    /// `None` for never.
    next: Cell<Option<Instant>>,
    /// What had been done at the look before.
    seen: Cell<Option<u64>>,
}

impl Watch {
    /// For a wait that begins now. Under virtual time nothing is watched: a stall there is seen by the test.
    pub(crate) fn start(scope: &Scope, now: Instant) -> Self {
        let next = scope.stall_limit().and_then(|limit| now.checked_add(limit / 2));
        Self { next: Cell::new(next), seen: Cell::new(None) }
    }

    /// When it looks up next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next.get()
    }

    /// To be called when a wait has come to nothing.
    pub(crate) fn look(&self, scope: &Scope) {
        let (Some(next), Some(limit)) = (self.next.get(), scope.stall_limit()) else { return };
        let now = scope.clock().now();
        if now < next {
            return;
        }
        let done = progress(scope);
        if self.seen.replace(Some(done)) == Some(done) && scope.may_warn_of_stall() {
            warn(scope, limit);
        }
        self.next.set(now.checked_add(limit / 2));
    }
}

/// Grows with all that is done in the pipeline.
fn progress(scope: &Scope) -> u64 {
    let mut done = 0_u64;
    for stage in scope.stages() {
        for step in &stage.steps {
            for counter in [&step.received, &step.emitted, &step.errors_in, &step.errors_out] {
                done = done.wrapping_add(counter.get());
            }
        }
        for output in stage.outputs.lock().iter() {
            // Relaxed: a count that is missed now is seen by the next look.
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
        log::warn!("streamz: pipeline `{name}` has made no progress for {limit:?}");
    } else {
        log::warn!("streamz: pipeline `{name}` has made no progress for {limit:?}: {diagnosis}");
    }
}
