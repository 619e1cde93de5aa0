//! [`Epochs`]: marks in an operator that releases its items in any order.
//!
//! Such an operator holds its items in groups, each of which it emits as a whole: batches, sessions, panes. A group
//! holds a token of the epoch in which it was started, for as long as it lives. When a mark arrives, the current epoch
//! ends. The mark may be forwarded when no group of that epoch or an earlier one is left: all earlier items were in one
//! of them.
//!
//! A group may get items of later epochs as well; their marks wait for it in their turn, because marks keep their order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::StreamError;
use crate::mark::Reached;
use crate::stage::Emit;

/// Records when a group was started. Alive as long as the group is.
#[derive(Clone)]
pub(crate) struct Epoch(Arc<u64>);

impl Epoch {
    /// For two groups that become one: keeps the older token.
    pub(crate) fn keep_older(&mut self, other: Self) {
        if *other.0 < *self.0 {
            *self = other;
        }
    }
}

pub(crate) struct Epochs {
    present: Epoch,
    waiting: VecDeque<(Epoch, StreamError)>,
    reached: Reached,
}

impl Epochs {
    pub(crate) fn new() -> Self {
        Self { present: Epoch(Arc::new(0)), waiting: VecDeque::new(), reached: Reached::default() }
    }

    /// The token of a group that starts now.
    #[inline]
    pub(crate) fn present(&self) -> &Epoch {
        &self.present
    }

    /// Receives a mark. Returns it if there are no groups.
    #[cold]
    pub(crate) fn end(&mut self, mark: StreamError) -> Option<StreamError> {
        mark.as_mark().into_iter().for_each(|mark| self.reached.receive(mark));
        if self.waiting.is_empty() && is_over(&self.present) {
            return Some(mark);
        }
        let next = Epoch(Arc::new(*self.present.0 + 1));
        self.waiting.push_back((std::mem::replace(&mut self.present, next), mark));
        None
    }

    /// Whether no mark waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forwards the marks of epochs that have ended. Must be called after each call in which groups may have been
    /// removed.
    #[inline]
    pub(crate) fn release<T>(&mut self, out: &mut impl Emit<T>) {
        while self.waiting.front().is_some_and(|(epoch, _)| is_over(epoch)) {
            self.waiting.pop_front().into_iter().for_each(|(_, mark)| out.put_mark(mark.extended(&mut self.reached)));
        }
    }
}

/// Whether the operator alone has the token. All of them are on its thread.
fn is_over(epoch: &Epoch) -> bool {
    Arc::strong_count(&epoch.0) == 1
}
