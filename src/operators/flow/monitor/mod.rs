//! [`Monitor`]: reports periodically on the items of a stream.
//!
//! The stage ([`operator`]) only counts. A separate thread ([`reporter`]) reads the counts when a report is due and
//! calls the user's closure. So the report comes on time whatever the stage waits for, and the stage continues whatever
//! the closure does.
//!
//! # Invariants
//!
//! - Neither thread resets a count while the other writes it: quick counts only grow, and the rest is taken under a
//!   lock. So the reports add up to all items that passed.
//! - The reporter ends after the stage, whatever ends that, with a last report: the operator notifies it when it is
//!   dropped.

mod counts;
mod operator;
mod processor;
mod reporter;
#[cfg(test)]
mod tests;

pub use processor::{Monitor, StreamStats};
