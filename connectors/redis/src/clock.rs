//! Real time, the only time of a server's leases and time limits.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a server's leases and a socket's time limits are in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
