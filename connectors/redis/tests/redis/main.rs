//! The connector against a real server, which each test starts for itself. Skipped where `redis-server` is not installed.

mod common;
mod crash;
mod delivery;
mod faults;
mod outbox;
mod pipeline;
mod suite;
#[cfg(feature = "tls")]
mod tls;
