//! The source of time of a pipeline.
//!
//! Operators read the time and set their timers through the clock of their pipeline, never through the operating
//! system, so that a test can give a pipeline a [`ManualClock`] and move the time itself.

pub(crate) mod account;
mod backoff;
mod clock;
mod limit;
mod manual;
mod notify;
mod ticks;
pub(crate) mod wait;

pub(crate) use backoff::Backoff;
pub(crate) use clock::real_now;
pub use clock::{Clock, SystemClock};
pub(crate) use limit::Limit;
pub use manual::ManualClock;
pub(crate) use manual::{Hold, Probe, Seat, Wait};
pub use ticks::MissedTicks;
pub(crate) use ticks::{Ticks, earlier, from_nanos};
