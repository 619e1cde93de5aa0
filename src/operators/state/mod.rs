//! Operators that keep a state, and those that look on.

mod aggregate;
pub mod folds;

pub use aggregate::{Aggregate, AggregateWindow};
