//! A burst: many turns of a plain operator under one guard, in one loop that the compiler can keep in registers.

use crate::edge::End;
use crate::error::StreamError;

/// Why a burst ended.
pub(super) enum Burst {
    /// The feed has nothing at the moment.
    Empty,
    Ended(End),
    /// An error item arrived. It is not passed to the operator within a burst: the necessary calls are not inlined, and
    /// anything whose address they take cannot be kept in registers.
    Error(StreamError),
    /// It is time to check the surroundings.
    Over,
}

/// Set in place of a step: a panic belongs to the feed.
pub(super) const AT_THE_FEED: usize = usize::MAX - 1;
