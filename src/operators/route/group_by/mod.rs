//! [`GroupBy`]: a sub-pipeline for each key.
//!
//! It has two stages. The *dispatcher* (`dispatcher.rs`) sends each item to the group of its key; it builds and ends
//! the groups. The *gather* stage (`gather.rs`) merges their outputs. They notify each other of started and ended
//! groups through an *exchange*.

mod dispatcher;
mod gather;
mod operator;
mod stats;

pub use dispatcher::TooManyGroups;
pub use operator::{GroupBy, GroupOverflow};
pub use stats::GroupByStats;

#[cfg(test)]
mod tests;
