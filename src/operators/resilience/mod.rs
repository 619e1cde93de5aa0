//! Operators that handle failures.

mod backoff;
mod budget;
mod call_window;
mod circuit;
pub(super) mod circuit_breaker;
mod dead_letter;
pub(super) mod fallback;
pub(super) mod layered;
pub(super) mod retry;

pub use circuit::{Circuit, CircuitState, CircuitStats};
pub use circuit_breaker::CircuitBreaker;
pub use dead_letter::{DeadLetter, DeadLetterQueue, DlqOutput, DlqStats, FailureLimit, Overflow};
pub use fallback::Fallback;
pub use layered::Layered;
pub use retry::{Retry, RetryStats};
