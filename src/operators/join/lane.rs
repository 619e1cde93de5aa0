//! [`Lane`]: one input of a join: its clock, and the order in which its items leave the state. [`Line`]: its items that
//! have the same key.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::side::Side;
use crate::mark::Label;
use crate::operators::epochs::Epoch;
use crate::operators::key_table::Slot;
use crate::operators::window::time::{END, NEVER, Nanos, Times};
use crate::panic::Held;
use crate::stage::operator::Emit;
use crate::stage::origins::Origins;

/// Reports an item that a join evicted, because more than `max_items` items of its stream waited for partners. It is
/// the source of the item's error, whose kind is [`Failed`](crate::ErrorKind::Failed).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("more than {max_items} items of its stream wait for partners")]
pub struct TooManyHeld {
    /// The limit that [`with_max_items`](crate::Join::with_max_items) set.
    pub max_items: usize,
}

/// An item that may still find partners.
pub(super) struct Stored<T> {
    pub(super) at: At,
    /// It has found one.
    pub(super) matched: bool,
    pub(super) item: T,
    /// The epoch in which it arrived. Held until the item has been settled.
    pub(super) _epoch: Epoch,
}

/// When an item happened, and its number, which distinguishes it from others of that time.
pub(super) type At = (Nanos, u64);

/// The items of one input that have the same key, in the order of their times.
pub(super) type Line<T> = Held<VecDeque<Stored<T>>>;

/// Inserts an item in its place. Most come in order.
pub(super) fn insert<T>(line: &mut Line<T>, stored: Stored<T>) {
    let after = line.iter().rev().take_while(|other| other.at > stored.at).count();
    let index = line.len() - after;
    line.insert(index, stored);
}

/// One input.
pub(super) struct Lane<S: Side> {
    pub(super) side: S,
    /// The maximum by which a partner may be earlier than an item of this input.
    back: Nanos,
    /// The maximum by which it may be later.
    ahead: Nanos,
    /// The time that this input has reached: an older item is late.
    pub(super) reached: Nanos,
    /// Whether it is idle: its watermark follows that of the other input.
    pub(super) is_idle: bool,
    pub(super) has_ended: bool,
    /// Its items in the state, the oldest first.
    due: BTreeMap<At, Slot>,
    /// The time of the first of them.
    oldest: Nanos,
    numbered: u64,
}

impl<S: Side> Lane<S> {
    pub(super) fn new(mut side: S, back: Nanos, ahead: Nanos) -> Self {
        // An input that has never had an item is silent from the start.
        side.time_mut().accepted();
        side.time_mut().set_due(0);
        Self {
            side,
            back,
            ahead,
            reached: Nanos::MIN,
            is_idle: false,
            has_ended: false,
            due: BTreeMap::new(),
            oldest: NEVER,
            numbered: 0,
        }
    }

    /// The number of its items in the state.
    pub(super) fn held(&self) -> usize {
        self.due.len()
    }

    /// The index of the first partner of an item of this input in a line of the other one.
    pub(super) fn first_partner<T>(&self, time: Nanos, line: &Line<T>) -> usize {
        line.partition_point(|other| other.at.0 < time - self.back)
    }

    /// Whether an item of the other input that is not before the first partner is a partner.
    #[inline]
    pub(super) fn is_partner(&self, time: Nanos, other: Nanos) -> bool {
        other <= time + self.ahead
    }

    /// Whether no future item of the other input can be a partner, if that input has reached `reached`.
    #[inline]
    pub(super) fn is_over(&self, time: Nanos, reached: Nanos) -> bool {
        reached > time + self.ahead
    }

    /// An item of this time is accepted: time advances.
    #[inline]
    pub(super) fn advance(&mut self, time: Nanos) {
        let clock = self.side.time_mut();
        clock.advance(time);
        clock.accepted();
        self.reached = self.reached.max(clock.watermark());
        self.is_idle = false;
    }

    /// The items come from a merge with these inputs.
    pub(super) fn attach(&mut self, origins: &Arc<Origins>) {
        self.side.time_mut().attach(origins);
    }

    /// The merge reports on its inputs: time may advance.
    pub(super) fn note<O>(&mut self, label: Label, out: &impl Emit<O>) {
        let clock = self.side.time_mut();
        clock.note(label, out);
        self.reached = self.reached.max(clock.watermark());
    }

    /// Follows the other input, if this one is idle.
    #[inline]
    pub(super) fn follow(&mut self, other: Nanos) {
        if self.is_idle {
            self.reached = self.reached.max(other);
        }
    }

    /// Its own watermark, independent of the other input.
    #[inline]
    pub(super) fn watermark(&self) -> Nanos {
        self.side.time().watermark()
    }

    pub(super) fn end(&mut self) {
        self.has_ended = true;
        self.is_idle = false;
        self.reached = END;
    }

    /// When it becomes idle if no item arrives. `waiting` items of the other input wait for it.
    #[inline]
    pub(super) fn idle_at(&self, waiting: usize) -> Option<Instant> {
        self.side.time().wake().filter(|_| waiting > 0 && !self.is_idle && !self.has_ended)
    }

    /// See [`Times::listen`].
    #[inline]
    pub(super) fn listen<O>(&mut self, out: &mut impl Emit<O>) -> bool {
        self.side.time_mut().listen(out)
    }

    /// The place of a new item in the order.
    pub(super) fn number(&mut self, time: Nanos) -> At {
        self.numbered += 1;
        (time, self.numbered)
    }

    /// An item is in the state, under `slot`.
    pub(super) fn keep(&mut self, at: At, slot: Slot) {
        self.due.insert(at, slot);
        self.oldest = self.oldest.min(at.0);
    }

    /// Whether no partner can arrive any longer for the oldest item, if the other input has reached `reached`.
    #[inline]
    pub(super) fn is_due(&self, reached: Nanos) -> bool {
        self.oldest != NEVER && self.is_over(self.oldest, reached)
    }

    /// Removes the oldest item from the list and returns where it is: the first of its line.
    pub(super) fn pop_oldest(&mut self) -> Option<Slot> {
        let (_, slot) = self.due.pop_first()?;
        self.oldest = self.due.first_key_value().map_or(NEVER, |((time, _), _)| *time);
        Some(slot)
    }
}
