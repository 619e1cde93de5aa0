//! [`Monitor`]: reports at regular times what passes through a stream.
//!
//! The stage ([`operator`]) only counts. A thread beside it ([`reporter`]) reads the counts when a report is due and calls
//! the user's closure. So the report comes on time whatever the stage waits for, and the stage goes on whatever the closure
//! does.
//!
//! # Invariants
//!
//! - Neither thread resets a count while the other writes it: quick counts only grow, and the rest is taken under a lock. So
//!   the sum of all reports is what went through.
//! - The reporter ends after the stage, for whatever reason that ends, with a last report: the operator tells it when it is
//!   dropped.

mod counts;
mod operator;
mod processor;
mod reporter;
#[cfg(test)]
mod tests;

pub use processor::{Monitor, StreamStats};
