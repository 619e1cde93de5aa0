//! Operators that handle failures.

mod backoff;
mod budget;
mod dead_letter;
mod retry;

pub use dead_letter::{DeadLetter, DeadLetterQueue, DlqOutput, DlqStats, FailureLimit, Overflow};
pub use retry::{Retry, RetryStats};
