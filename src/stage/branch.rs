//! [`Branch`]: one output of a stage that has several.
//!
//! A branch whose consumer has left accepts nothing more and is never stuck; its items are dropped and counted as
//! undelivered.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::own_loop::Way;
use super::thread::StageThread;
use crate::clock::wait::Wake;
use crate::edge::{EdgeSender, End, Refused};
use crate::error::{Result, StreamError};
use crate::mark::Losses;
use crate::pipeline::stats::StageStats;
use crate::pipeline::timing::{Phase, Timing};

pub(crate) struct Branch<T> {
    sender: EdgeSender<T>,
    /// The time that the stage waited for room in it.
    waits: Arc<Timing>,
    /// Something has been sent since the last mark that stands behind records.
    sent: bool,
    /// What is lost once it is over.
    losses: Losses,
    ended: bool,
}

impl<T> Branch<T> {
    /// Creates an output of the stage that `stats` belong to.
    pub(crate) fn new(sender: EdgeSender<T>, stats: &StageStats) -> Self {
        let gauge = sender.shared().gauge();
        let outputs = stats.outputs.lock();
        let waits = outputs.iter().find(|output| Arc::ptr_eq(&output.gauge, gauge)).map(|own| Arc::clone(&own.waits));
        let waits = waits.unwrap_or_else(|| Arc::new(Timing::new()));
        drop(outputs);
        Self::with_waits(sender, waits)
    }

    /// Creates an output whose waits are counted elsewhere.
    pub(crate) fn with_waits(sender: EdgeSender<T>, waits: Arc<Timing>) -> Self {
        Self { sender, waits, sent: false, losses: Losses::default(), ended: false }
    }

    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.sender.is_gone()
    }

    /// What may be lost, if its consumer has left.
    pub(crate) fn take_losses(&mut self) -> Losses {
        self.note_sent();
        mem::take(&mut self.losses)
    }

    fn note_sent(&mut self) {
        if mem::take(&mut self.sent) {
            self.losses.note();
        }
    }

    /// Emits an item. If there is no room, the branch is stuck. Returns whether it handed over, or tried to.
    #[inline]
    pub(crate) fn push(&mut self, item: Result<T>) -> bool {
        self.sent = true;
        self.sender.push(item)
    }

    pub(crate) fn is_full(&mut self) -> bool {
        self.sender.is_full()
    }

    /// Drops an item that was counted as emitted, because there is no consumer or no time to wait for room.
    pub(crate) fn lose(&self, item: &Result<T>) {
        self.sender.lose(item);
    }

    /// On an eager edge, where a push leaves nothing behind: see [`Edge::offer_in_place_of_oldest`].
    ///
    /// [`Edge::offer_in_place_of_oldest`]: crate::edge::Edge::offer_in_place_of_oldest
    pub(crate) fn offer_in_place_of_oldest(
        &mut self,
        item: T,
        accepted: impl FnOnce(bool),
    ) -> Result<Option<T>, (Refused, Result<T>)> {
        self.sent = true;
        self.sender.shared().offer_in_place_of_oldest(Ok(item), accepted)
    }

    /// On an eager edge, where a push leaves nothing behind: see [`Edge::offer_leaving_gap`].
    ///
    /// [`Edge::offer_leaving_gap`]: crate::edge::Edge::offer_leaving_gap
    pub(crate) fn offer_leaving_gap(
        &mut self,
        item: Result<T>,
        widen: impl Fn(&StreamError) -> bool,
        gap: impl FnOnce(u64) -> StreamError,
        dropped: &mut Vec<T>,
    ) -> Result<(), (Refused, Result<T>)> {
        self.sent = true;
        self.sender.shared().offer_leaving_gap(item, widen, gap, dropped)
    }
}

impl<T> Way for Branch<T> {
    fn start(&mut self, thread: &StageThread) {
        self.sender.watch(thread.wake());
        self.waits.start(thread.token.now());
    }

    #[inline]
    fn is_gone(&self) -> bool {
        self.sender.is_gone()
    }

    fn hand_over(&mut self) {
        self.sender.hand_over();
    }

    #[inline]
    fn hand_over_if_hungry(&mut self) -> bool {
        self.sender.hand_over_if_hungry()
    }

    #[inline]
    fn is_stuck(&self) -> bool {
        self.sender.is_stuck()
    }

    fn may_have_room(&self) -> bool {
        self.sender.may_have_room()
    }

    fn want_room(&self, wake: &Arc<Wake>) -> bool {
        self.sender.want_room(wake)
    }

    fn note_wait(&self, phase: Phase, now: Instant) {
        self.waits.enter(phase, now);
    }

    fn put_mark(&mut self, mark: StreamError) {
        // A label or a stamp says nothing about items sent before it.
        if let Some(of_records) = mark.as_mark().filter(|mark| mark.is_of_records()) {
            self.note_sent();
            // Even while there is a consumer: it may leave before it takes this mark, and then those up to its reach are
            // lost with it.
            let may_be_lost = self.losses.include(of_records);
            if !may_be_lost && (self.ended || self.is_gone()) {
                return mark.complete_mark();
            }
        }
        self.sender.put_mark(mark);
    }

    fn end(&mut self, end: End) {
        self.ended = true;
        self.sender.end(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::edge::{EdgeReceiver, Polled, edge};
    use crate::mark::testing::Probe;
    use crate::pipeline::stats::StageKind;

    fn branch() -> (Branch<u32>, EdgeReceiver<u32>) {
        let (sender, receiver) = edge(8, true);
        (Branch::new(sender, &StageStats::new("stage".into(), StageKind::Processor, &[], 1)), receiver)
    }

    #[test]
    fn a_mark_takes_the_branch_of_its_items_with_a_consumer() {
        let (mut branch, mut receiver) = branch();
        for items in [1, 0] {
            let mark = Probe::default();
            (0..items).for_each(|n| _ = branch.push(Ok(n)));
            branch.put_mark(mark.mark());
            (0..items).for_each(|_| assert!(matches!(receiver.poll(), Polled::Item(Ok(_)))));
            assert!(matches!(receiver.poll(), Polled::Item(Err(error)) if error.is_mark()), "behind {items} items");
        }
    }

    #[test]
    fn a_mark_for_a_lost_consumer_is_lost_only_behind_items() {
        let (mut branch, receiver) = branch();
        branch.push(Ok(0));
        drop(receiver);
        let (behind_an_item, behind_none, source) = (Probe::default(), Probe::default(), Arc::default());
        branch.put_mark(behind_an_item.mark_of(&source));
        branch.put_mark(behind_none.mark_of(&source));
        assert!(behind_an_item.is_lost());
        assert!(behind_none.is_complete(), "nothing was sent to the branch");
    }

    /// It was not pushed, but took the place of an older one.
    #[test]
    fn a_mark_behind_an_offered_item_is_lost_with_its_consumer() {
        let (mut branch, receiver) = branch();
        assert!(branch.offer_in_place_of_oldest(0, |_| {}).is_ok());
        drop(receiver);
        let mark = Probe::default();
        branch.put_mark(mark.mark());
        assert!(mark.is_lost());
    }

    #[test]
    fn a_label_or_stamp_before_the_mark_does_not_hide_a_loss() {
        for between in [Probe::label(), Probe::stamp(Clock::default().now())] {
            let (mut branch, receiver) = branch();
            branch.push(Ok(0));
            branch.put_mark(between);
            drop(receiver);
            let mark = Probe::default();
            branch.put_mark(mark.mark());
            assert!(mark.is_lost());
        }
    }
}
