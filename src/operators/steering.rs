//! [`Steering`]: how an operator with several inputs decides which of them is read.
//!
//! The feed reads the inputs, and the operator holds their items, so that each is received and settled as in every
//! other stage. The operator sets the turn; the feed reads accordingly. No item tells that an input has ended: the feed
//! reports that it is empty and does not wait, and the operator asks to be woken at a past time. So it is told of the
//! end before anything else is read.
//!
//! Both run on the stage's thread, so every access is relaxed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// None of the inputs.
const NONE: usize = usize::MAX;

/// One of two handles: that of the feed, and that of the operator.
#[derive(Clone)]
pub(super) struct Steering {
    shared: Arc<Shared>,
    /// A time in the past.
    begun: Instant,
}

struct Shared {
    turn: AtomicUsize,
    /// The input that has ended, until the operator has been told.
    ended: AtomicUsize,
}

impl Steering {
    /// `now` is the time of the pipeline's clock. Turn 0 is first.
    pub(super) fn new(now: Instant) -> Self {
        Self { shared: Arc::new(Shared { turn: AtomicUsize::new(0), ended: AtomicUsize::new(NONE) }), begun: now }
    }

    /// For the feed: the turn that the operator has set last.
    #[inline]
    pub(super) fn turn(&self) -> usize {
        self.shared.turn.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_turn(&self, turn: usize) {
        self.shared.turn.store(turn, Ordering::Relaxed);
    }

    /// For the feed: an input has ended.
    pub(super) fn tell_end(&self, input: usize) {
        self.shared.ended.store(input, Ordering::Relaxed);
    }

    /// For the feed: whether the operator must be told of an end before anything else happens.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        self.shared.ended.load(Ordering::Relaxed) != NONE
    }

    /// For the operator's `next_wake`.
    #[inline]
    pub(super) fn wake(&self) -> Option<Instant> {
        self.has_news().then_some(self.begun)
    }

    /// For the operator's `timer`: the input that has ended, if that is why the operator was woken.
    pub(super) fn take_ended(&self) -> Option<usize> {
        Some(self.shared.ended.swap(NONE, Ordering::Relaxed)).filter(|input| *input != NONE)
    }
}
