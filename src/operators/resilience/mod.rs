//! Operators that deal with failures.

mod dead_letter;

pub use dead_letter::{DeadLetter, DeadLetterQueue, DlqOutput, DlqStats, FailureLimit, Overflow};
