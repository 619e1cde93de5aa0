//! Watching a pipeline from outside while it runs.

#[cfg(feature = "live")]
mod live;

#[cfg(feature = "live")]
pub use live::Live;
