//! [`GroupBy`]: a sub-pipeline for each key.
//!
//! It has two stages. The *dispatcher* (`dispatcher.rs`) sends each item to the group of its key; it builds the groups and ends
//! them. The *gather* stage (`gather.rs`) merges their outputs. They tell each other which groups have begun and which have ended
//! through an *exchange*.

mod dispatcher;
mod gather;
mod operator;
mod stats;

pub use dispatcher::TooManyGroups;
pub use operator::{GroupBy, GroupOverflow};
pub use stats::GroupByStats;

#[cfg(test)]
mod tests;
