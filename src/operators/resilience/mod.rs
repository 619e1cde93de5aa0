//! Operators that handle failures.

pub(super) mod adaptive_concurrency;
mod buckets;
mod budget;
pub(super) mod bulkhead;
pub(super) mod call_timeout;
mod call_window;
mod circuit;
pub(super) mod circuit_breaker;
mod circuit_sign;
mod dead_letter;
pub(super) mod fallback;
mod gate;
mod gradient;
pub(super) mod hedge;
mod helpers;
mod latencies;
pub(super) mod layered;
mod limit_stats;
mod occupancy;
mod race;
pub(super) mod rate_limit;
pub(super) mod retry;

pub use adaptive_concurrency::{AdaptiveConcurrency, ConcurrencyStats};
pub use bulkhead::Bulkhead;
pub use call_timeout::CallTimeout;
pub use circuit::{Circuit, CircuitState, CircuitStats};
pub use circuit_breaker::CircuitBreaker;
pub use dead_letter::{DeadLetter, DeadLetterQueue, DlqOutput, DlqStats, FailureLimit, Overflow};
pub use fallback::Fallback;
pub use hedge::{Hedge, HedgeStats};
pub use layered::Layered;
pub use limit_stats::LimitStats;
pub use rate_limit::RateLimit;
pub use retry::{Retry, RetryStats};
