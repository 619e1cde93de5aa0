//! [`Broadcast`]: every item to subscribers that may come later.
//!
//! The stage (`stage.rs`) has the loop of all stages with several ways out. Subscribers arrive through what it shares with
//! its [`Hub`]s (`hub.rs`).

mod hub;
mod operator;
mod stage;

pub use hub::Hub;
pub use operator::{Broadcast, NoSubscriber, SlowSubscriber};
pub use stage::{Lagged, TooSlow};

#[cfg(test)]
mod tests;
