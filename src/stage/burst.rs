//! A burst: many turns of a plain operator under one guard, in one loop that the compiler can keep in registers.

use super::input::Feed;
use crate::edge::{End, Polled};
use crate::error::{Result, StreamError};

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

/// The next item of the feed, or why the burst ends.
#[inline(always)]
pub(super) fn next<F: Feed>(feed: &mut F) -> Result<F::Item, Burst> {
    // In two steps: an item at hand need not pass through memory, as any other answer does.
    match feed.next_at_hand() {
        Some(Ok(item)) => Ok(item),
        Some(Err(error)) => Err(Burst::Error(error)),
        None => match feed.poll() {
            Polled::Item(Ok(item)) => Ok(item),
            Polled::Item(Err(error)) => Err(Burst::Error(error)),
            Polled::Empty => Err(Burst::Empty),
            Polled::Ended(end) => Err(Burst::Ended(end)),
        },
    }
}
