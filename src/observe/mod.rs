//! Watching a pipeline from outside while it runs.

#[cfg(feature = "live")]
mod live;
#[cfg(feature = "metrics")]
mod metrics;

#[cfg(feature = "live")]
pub use live::Live;
