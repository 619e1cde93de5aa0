//! A burst: many turns of a plain operator under one guard, in one loop that the compiler can keep in registers.

use crate::edge::End;
use crate::error::StreamError;

/// Why a burst is over.
pub(super) enum Burst {
    /// The feed has nothing at the moment.
    Empty,
    Ended(End),
    /// An error item came. It is not given to the operator within a burst: the calls that it takes are not inlined, and
    /// what they are given the address of cannot be kept in registers.
    Error(StreamError),
    /// It is time to look around.
    Over,
}

/// Marks, in place of a step, that a panic is the feed's.
pub(super) const AT_THE_FEED: usize = usize::MAX - 1;
