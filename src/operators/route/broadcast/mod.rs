//! [`Broadcast`]: sends every item to all subscribers, which may join later.
//!
//! The stage (`stage.rs`) has the loop of all stages with several outputs. Subscribers arrive through the state it
//! shares with its [`Hub`]s (`hub.rs`).

mod hub;
mod operator;
mod stage;

pub use hub::Hub;
pub use operator::{Broadcast, NoSubscriber, SlowSubscriber};
pub use stage::{Lagged, TooSlow};

#[cfg(test)]
mod tests;
