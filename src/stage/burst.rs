//! A burst: many turns of a plain operator under one guard, in one loop that the compiler can keep in registers.

use std::mem;

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

/// A feed during a burst: what changes with each item is here, and is put back when the burst ends, even by a panic.
pub(super) struct InHand<'a, F: Feed> {
    pub(super) feed: &'a mut F,
    hand: F::Hand,
}

impl<'a, F: Feed> InHand<'a, F> {
    #[inline(always)]
    pub(super) fn new(feed: &'a mut F) -> Self {
        let hand = feed.take_in_hand();
        Self { feed, hand }
    }

    /// The next item of the feed, or why the burst ends.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<F::Item, Burst> {
        // In two steps: an item at hand need not pass through memory, as any other answer does.
        match self.feed.next_at_hand(&mut self.hand) {
            Some(Ok(item)) => Ok(item),
            Some(Err(error)) => Err(Burst::Error(error)),
            None => match self.poll() {
                Polled::Item(Ok(item)) => Ok(item),
                Polled::Item(Err(error)) => Err(Burst::Error(error)),
                Polled::Empty => Err(Burst::Empty),
                Polled::Ended(end) => Err(Burst::Ended(end)),
            },
        }
    }

    #[inline(always)]
    fn poll(&mut self) -> Polled<F::Item> {
        self.feed.put_back(mem::take(&mut self.hand));
        let answer = self.feed.poll();
        self.hand = self.feed.take_in_hand();
        answer
    }
}

impl<F: Feed> Drop for InHand<'_, F> {
    #[inline(always)]
    fn drop(&mut self) {
        self.feed.put_back(mem::take(&mut self.hand));
    }
}
