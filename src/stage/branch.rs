//! [`Branch`]: one way out of a stage that has several.
//!
//! # What must hold
//!
//! - A branch whose consumer has gone takes nothing more and never blocks; what was meant for it is given back.
//! - While the stage waits for room in one branch, the others have been handed over to, so nobody waits for them.
//! - A stage with several ways out stops when all their consumers have gone.

use std::sync::Arc;

use super::input::Input;
use super::thread::StageThread;
use crate::edge::{EdgeSender, End};
use crate::error::Result;
use crate::pipeline::stats::{Phase, Timing};

pub(crate) struct Branch<T> {
    sender: EdgeSender<T>,
    /// When the stage waited for room in it.
    waits: Arc<Timing>,
}

/// Why an item did not go out.
pub(crate) enum NotSent {
    /// A stop condition of the stage came true while it waited.
    Stopped,
    /// The consumer has gone. The item went with it, and is counted as undelivered.
    Gone,
}

impl<T> Branch<T> {
    pub(crate) fn new(sender: EdgeSender<T>, thread: &StageThread) -> Self {
        sender.watch(thread.wake());
        let gauge = sender.shared().gauge();
        let outputs = thread.stats.outputs.lock();
        let waits = outputs.iter().find(|output| Arc::ptr_eq(&output.gauge, gauge)).map(|own| Arc::clone(&own.waits));
        let waits = waits.unwrap_or_else(|| Arc::new(Timing::new()));
        waits.start(thread.token.now());
        Self { sender, waits }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.sender.is_gone()
    }

    /// Emits. What there is no room for makes the branch [stuck](Self::is_stuck). Returns whether it handed over, or tried
    /// to.
    #[inline]
    pub(crate) fn push(&mut self, item: Result<T>) -> bool {
        self.sender.push(item)
    }

    /// Whether something waits for room.
    #[inline]
    pub(crate) fn is_stuck(&self) -> bool {
        self.sender.is_stuck()
    }

    pub(crate) fn is_full(&mut self) -> bool {
        self.sender.is_full()
    }

    /// Hands over what the consumer is hungry for.
    #[inline]
    pub(crate) fn hand_over_if_hungry(&mut self) -> bool {
        self.sender.hand_over_if_hungry()
    }

    pub(crate) fn hand_over(&mut self) {
        self.sender.hand_over();
    }

    /// Takes back the oldest item that the consumer has not taken. Only on an eager edge is that the oldest of all.
    pub(crate) fn evict(&mut self) -> Option<Result<T>> {
        self.sender.evict()
    }

    /// Sends an item; waits for room. `others` hands the other branches over before the stage parks.
    pub(crate) fn send<In: Send + 'static>(
        &mut self,
        item: Result<T>,
        thread: &StageThread,
        input: &Input<In>,
        mut others: impl FnMut(),
    ) -> Result<(), NotSent> {
        self.sender.push(item);
        while self.sender.is_stuck() {
            if thread.is_stopped() {
                return Err(NotSent::Stopped);
            }
            if self.sender.is_gone() {
                self.sender.hand_over();
                return Err(NotSent::Gone);
            }
            others();
            input.settle();
            let (sender, wake) = (&self.sender, thread.wake());
            self.waits.enter(Phase::Blocked, thread.token.now());
            thread.wait(Phase::Blocked, None, || sender.may_have_room(), |_| sender.want_room(wake));
            self.waits.enter(Phase::Busy, thread.token.now());
            self.sender.hand_over();
        }
        Ok(())
    }

    pub(crate) fn end(&mut self, end: End) {
        self.sender.end(end);
    }
}

/// Waits until there may be room in one of the branches that are stuck. All must have been handed over.
pub(crate) fn wait_for_room<'a, T: 'a>(thread: &StageThread, branches: impl Iterator<Item = &'a Branch<T>> + Clone) {
    let stuck = || branches.clone().filter(|branch| branch.is_stuck());
    stuck().for_each(|branch| branch.waits.enter(Phase::Blocked, thread.token.now()));
    let hint = || stuck().any(|branch| branch.sender.may_have_room());
    // With each of them, whatever the others say: the first that has room is served.
    let register = || stuck().fold(false, |found, branch| branch.sender.want_room(thread.wake()) | found);
    thread.wait(Phase::Blocked, None, hint, |_| register());
    stuck().for_each(|branch| branch.waits.enter(Phase::Busy, thread.token.now()));
}
