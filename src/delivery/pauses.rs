//! [`Pauses`]: backoff between calls of a failing store.

use std::time::{Duration, Instant};

use super::inbox::StoreError;
use crate::clock::Backoff;
use crate::trace::event;

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), max: Some(Duration::from_secs(5)), jitter: false };

#[derive(Default)]
pub(super) struct Pauses {
    /// Calls that have failed in a row.
    failures: u32,
    until: Option<Instant>,
}

impl Pauses {
    /// Whether the last call failed.
    pub(super) fn is_pausing(&self) -> bool {
        self.until.is_some()
    }

    /// When the call must be retried, if the last one failed.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Logs a failure, if it is the first in a row.
    pub(super) fn warn(&self, name: &str, what: &str, error: &StoreError) {
        if !self.is_pausing() {
            event!(
                warn,
                { stage = %name, error = %error },
                "streamz: `{name}` cannot {what}, and keeps retrying: {error}"
            );
        }
    }

    /// Records a failed call. Returns when it must be retried.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        *self.until.insert(now + BACKOFF.full(self.failures))
    }

    /// A call has succeeded.
    pub(super) fn over(&mut self) {
        *self = Self::default();
    }
}
