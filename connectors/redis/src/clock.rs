//! The time of the machine: leases and time limits of a server know no other.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a server's leases and a socket's time limits are in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
