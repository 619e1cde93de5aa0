//! Operators that keep a state, and those that look on.

mod aggregate;
pub mod folds;
mod monitor;

pub use aggregate::{Aggregate, AggregateWindow};
pub use monitor::{Monitor, StreamStats};
