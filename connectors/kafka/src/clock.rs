//! Real time, the only time of a broker's sessions and time limits.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "the time limits of a broker are in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
