//! Two streams joined by key and event time.
//!
//! [`Join`] is the processor, `operator.rs` matches the items, and `feed.rs` decides which input is read. The types of
//! the output are determined in [`joins`].

mod feed;
mod join;
pub mod joins;
mod lane;
mod operator;
mod side;
#[cfg(test)]
mod tests;

pub use join::Join;
pub use joins::Pair;
pub use lane::TooManyHeld;
pub use side::JoinSide;
