//! [`Node`]: one token in the tree of tokens, and [`Cause`]: why it was cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Scope;
use super::stats::StageStats;
use crate::clock::Clock;
use crate::clock::wait::Wake;
use crate::error::StreamError;

/// Why a token was cancelled.
#[derive(Debug, Clone, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", content = "detail", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Cause {
    /// [`CancelToken::cancel`](crate::CancelToken::cancel) or [`Pipeline::abort`](crate::Pipeline::abort) was called.
    #[error("cancelled on request")]
    Requested,
    /// [`CancelToken::cancel_because`](crate::CancelToken::cancel_because) was called with this reason.
    #[error("cancelled: {0}")]
    #[cfg_attr(feature = "serde", serde(with = "crate::data::causes"))]
    Because(Arc<dyn std::error::Error + Send + Sync>),
    /// The token's deadline passed.
    #[error("deadline passed")]
    DeadlinePassed,
    /// [`Pipeline::drain_within`](crate::Pipeline::drain_within) ran out of time.
    #[error("drain took longer than {0:?}")]
    #[cfg_attr(feature = "serde", serde(with = "crate::data::seconds"))]
    DrainTimedOut(Duration),
    /// The [`Pipeline`](crate::Pipeline) was dropped before it had finished.
    #[error("pipeline dropped")]
    Dropped,
    /// More failed than a [`DeadLetterQueue`](crate::DeadLetterQueue) allows.
    #[error("too many failures: {failed} of {seen}")]
    TooManyFailures {
        /// Failures so far.
        failed: u64,
        /// Items and failures so far.
        seen: u64,
    },
    /// The consumer of a stage has left: the results of its calls in progress are not needed. Only the token of such a
    /// call has this cause.
    #[error("its consumer has gone")]
    ConsumerGone,
    /// A sink that stops at the first error received one.
    #[error("stopped at the first error: {0}")]
    Failed(#[source] StreamError),
}

/// One token. Nodes know only their parents: a waiting thread registers with the node and all its ancestors, so a child
/// costs one allocation and leaves nothing behind.
pub(crate) struct Node {
    /// Written under the lock, after the cause. Release, so that a thread that reads `true` finds the cause.
    cancelled: AtomicBool,
    pub(super) deadline: Option<Instant>,
    pub(super) clock: Clock,
    parent: Option<Arc<Node>>,
    /// Set before any token that shares it (those with the same root) changes in a way that a stage must notice: while
    /// it is not set, one check per item is enough. The token of a call, which may be cancelled often, usually has no
    /// stages below it, and then sets no alarm.
    alarm: Arc<AtomicBool>,
    /// The stage whose calls receive this token, or one below it.
    calls_of: Option<Arc<StageStats>>,
    state: Mutex<NodeState>,
}

#[derive(Default)]
struct NodeState {
    cause: Option<Cause>,
    /// A stage has been built on this token or on one below it.
    has_stages: bool,
    wakes: Vec<Arc<Wake>>,
}

impl Node {
    pub(crate) fn root(clock: Clock, deadline: Option<Instant>) -> Arc<Self> {
        Arc::new(Self::new(clock, deadline, None))
    }

    pub(super) fn new(clock: Clock, deadline: Option<Instant>, parent: Option<Arc<Node>>) -> Self {
        let alarm = parent.as_ref().map_or_else(Arc::default, |parent| Arc::clone(&parent.alarm));
        let cancelled = AtomicBool::new(false);
        Self { cancelled, deadline, clock, parent, alarm, calls_of: None, state: Mutex::default() }
    }

    /// Creates a child for the calls of a stage.
    pub(super) fn for_calls(parent: &Arc<Self>, stats: &Arc<StageStats>) -> Self {
        let node = Self::new(parent.clock.clone(), None, Some(Arc::clone(parent)));
        Self { calls_of: Some(Arc::clone(stats)), ..node }
    }

    /// The stage on whose behalf a call with this token is made.
    pub(super) fn calls_of(&self) -> Option<&StageStats> {
        self.lineage().find_map(|node| node.calls_of.as_deref())
    }

    pub(crate) fn cancel(&self, cause: Cause) {
        let mut state = self.state.lock();
        if state.cause.is_some() {
            return;
        }
        state.cause = Some(cause);
        if state.has_stages {
            self.alarm.store(true, Ordering::Release);
        }
        self.cancelled.store(true, Ordering::Release);
        // A thread that registers from now on takes the lock after us, and so sees the flag.
        let wakes = std::mem::take(&mut state.wakes);
        drop(state);
        for wake in wakes {
            wake.post();
        }
    }

    /// The alarm, for a stage that is built on this token.
    pub(super) fn alarm(&self) -> Arc<AtomicBool> {
        for node in self.lineage() {
            let mut state = node.state.lock();
            state.has_stages = true;
            // If it was not cancelled before, a cancellation comes after this, under the same lock, and sets the alarm.
            if state.cause.is_some() {
                self.raise_alarm();
            }
        }
        Arc::clone(&self.alarm)
    }

    pub(super) fn raise_alarm(&self) {
        self.alarm.store(true, Ordering::Release);
    }

    #[inline]
    pub(super) fn is_cancelled_itself(&self) -> bool {
        if self.cancelled.load(Ordering::Acquire) {
            return true;
        }
        match self.deadline {
            Some(deadline) if self.clock.now() >= deadline => {
                self.cancel(Cause::DeadlinePassed);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        let node = self.lineage().find(|node| node.is_cancelled_itself())?;
        node.state.lock().cause.clone()
    }

    /// As [`cause`](Self::cause), for this token alone and as far as it has been noticed: a deadline that has passed
    /// since the last check is not a cause yet.
    pub(super) fn recorded_cause(&self) -> Option<Cause> {
        self.state.lock().cause.clone()
    }

    pub(super) fn lineage(&self) -> impl Iterator<Item = &Node> {
        std::iter::successors(Some(self), |node| node.parent.as_deref())
    }

    pub(super) fn register(&self, wake: &Arc<Wake>) {
        let mut state = self.state.lock();
        if state.cause.is_none() {
            state.wakes.push(Arc::clone(wake));
        }
    }

    pub(super) fn deregister(&self, wake: &Arc<Wake>) {
        let mut state = self.state.lock();
        if let Some(index) = state.wakes.iter().position(|other| Arc::ptr_eq(other, wake)) {
            state.wakes.swap_remove(index);
        }
    }
}

/// See [`CancelToken::register`](crate::CancelToken::register).
pub(crate) struct Registration {
    pub(super) node: Arc<Node>,
    /// The scope whose drain is watched, too.
    pub(super) scope: Option<Arc<Scope>>,
    pub(super) wake: Arc<Wake>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        for node in self.node.lineage() {
            node.deregister(&self.wake);
        }
        if let Some(scope) = &self.scope {
            scope.unwatch_drain(&self.wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::wait::Waiter;

    #[test]
    fn only_a_token_with_stages_raises_the_alarm() {
        let root = Node::root(Clock::default(), None);
        let child = || Arc::new(Node::new(root.clock.clone(), None, Some(Arc::clone(&root))));
        let (call, nested) = (child(), child());
        let alarm = root.alarm();
        call.cancel(Cause::ConsumerGone);
        assert!(!alarm.load(Ordering::Acquire));
        nested.alarm();
        nested.cancel(Cause::Requested);
        assert!(alarm.load(Ordering::Acquire));
    }

    #[test]
    fn a_stage_below_a_token_that_was_cancelled_before_is_alarmed() {
        let root = Node::root(Clock::default(), None);
        let call = Arc::new(Node::new(root.clock.clone(), None, Some(Arc::clone(&root))));
        call.cancel(Cause::ConsumerGone);
        let below = Node::new(root.clock.clone(), None, Some(call));
        assert!(below.alarm().load(Ordering::Acquire));
    }

    #[test]
    fn a_registration_leaves_nothing_behind() {
        let clock = Clock::default();
        let root = Node::root(clock.clone(), None);
        let child = Arc::new(Node::new(clock.clone(), None, Some(Arc::clone(&root))));
        let wakes = || [&root, &child].map(|node| node.state.lock().wakes.len());
        let waiter = Waiter::current(&clock);
        let register = || {
            child.lineage().for_each(|node| node.register(waiter.wake()));
            Registration { node: Arc::clone(&child), scope: None, wake: Arc::clone(waiter.wake()) }
        };
        let (one, other) = (register(), register());
        assert_eq!(wakes(), [2, 2]);
        drop(one);
        assert_eq!(wakes(), [1, 1]);
        drop(other);
        assert_eq!(wakes(), [0, 0]);
    }
}
