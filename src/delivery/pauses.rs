//! [`Pauses`]: growing pauses between calls of a store that fails.

use std::time::{Duration, Instant};

use super::inbox::StoreError;
use crate::trace::event;

/// The first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(super) struct Pauses {
    next: Duration,
    until: Option<Instant>,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self { next: PAUSES.0, until: None }
    }

    /// Whether the last call failed.
    pub(super) fn is_pausing(&self) -> bool {
        self.until.is_some()
    }

    /// When the call is to be made again, if the last one failed.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Logs a failure, if it is the first in a row.
    pub(super) fn warn(&self, name: &str, what: &str, error: &StoreError) {
        if !self.is_pausing() {
            event!(
                warn,
                { stage = %name, error = %error },
                "streamz: `{name}` cannot {what}, and goes on trying: {error}"
            );
        }
    }

    /// A call has failed; says when it is to be made again.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        let until = now + self.next;
        self.next = (self.next * 2).min(PAUSES.1);
        self.until = Some(until);
        until
    }

    /// A call has succeeded.
    pub(super) fn over(&mut self) {
        *self = Self::new();
    }
}
