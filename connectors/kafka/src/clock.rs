//! The time of the machine: sessions and time limits of brokers know no other.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "the time limits of a broker are in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
