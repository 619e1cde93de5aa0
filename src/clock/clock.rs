//! [`Clock`]: the system time, or a time that a test controls.

use std::fmt;
use std::time::{Instant, SystemTime};

use super::{Hold, ManualClock};

/// The source of time of a pipeline: the system time, or a time that a test controls.
///
/// Clones share the same time.
#[derive(Clone)]
pub struct Clock {
    pub(crate) manual: Option<ManualClock>,
}

/// The clock of the operating system; the default of a pipeline.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock {
    /// Returns the current time, for measuring durations. Never goes back.
    pub fn now(&self) -> Instant {
        match &self.manual {
            None => real_now(),
            Some(manual) => manual.now(),
        }
    }

    /// Returns the current date and time.
    pub fn wall(&self) -> SystemTime {
        match &self.manual {
            None => real_wall(),
            Some(manual) => manual.wall(),
        }
    }

    pub(crate) fn is_manual(&self) -> bool {
        self.manual.is_some()
    }

    /// Until the hold is dropped, virtual time does not pass: for work on a thread that this library did not start.
    pub(crate) fn hold(&self, what: &'static str) -> Option<Hold> {
        self.manual.as_ref().map(|manual| manual.hold(what))
    }
}

/// The one place that reads the system's monotonic clock.
#[allow(clippy::disallowed_methods)]
pub(crate) fn real_now() -> Instant {
    Instant::now()
}

/// The one place that reads the system's calendar clock.
#[allow(clippy::disallowed_methods)]
fn real_wall() -> SystemTime {
    SystemTime::now()
}

impl Default for Clock {
    fn default() -> Self {
        SystemClock.into()
    }
}

impl From<SystemClock> for Clock {
    fn from(_: SystemClock) -> Self {
        Self { manual: None }
    }
}

impl From<ManualClock> for Clock {
    fn from(manual: ManualClock) -> Self {
        Self { manual: Some(manual) }
    }
}

impl From<&ManualClock> for Clock {
    fn from(manual: &ManualClock) -> Self {
        manual.clone().into()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.manual {
            None => f.write_str("SystemClock"),
            Some(manual) => manual.fmt(f),
        }
    }
}
