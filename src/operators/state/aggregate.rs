//! `Aggregate`.

use std::time::SystemTime;

/// What a fold made of the items of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AggregateWindow<A> {
    /// What came of the fold.
    pub result: A,
    /// When the window begins.
    pub start: SystemTime,
    /// When the next one begins, or would begin.
    pub end: SystemTime,
    /// How many items were folded.
    pub count: u64,
}
