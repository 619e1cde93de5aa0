//! [`Limit`]: the maximum duration of a wait.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Clock;
use super::wait::Waiter;

/// The maximum duration of a wait.
///
/// "No limit" and "a limit that never passes" differ under virtual time: a thread of the caller that waits with a limit
/// lets time pass, whatever the limit is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// The wait lasts until something else ends it.
    Unlimited,
    At(Instant),
    /// A time span that is too large to add.
    Never,
}

impl Limit {
    pub(crate) fn after(span: Duration, clock: &Clock) -> Self {
        clock.now().checked_add(span).map_or(Self::Never, Self::At)
    }

    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Self::At(deadline) => Some(deadline),
            Self::Unlimited | Self::Never => None,
        }
    }

    pub(crate) fn has_passed(self, clock: &Clock) -> bool {
        self.deadline().is_some_and(|deadline| clock.now() >= deadline)
    }

    /// The calling thread's waiter, for a wait within this limit.
    pub(crate) fn waiter(self, clock: &Clock) -> Rc<Waiter> {
        let waiter = Waiter::current(clock);
        waiter.set_never(matches!(self, Self::Never));
        waiter
    }
}
