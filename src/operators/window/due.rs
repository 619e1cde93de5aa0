//! [`DueList`]: which key is due next.
//!
//! A priority queue in the order of due times; of keys that are due at the same time, the one that came first is first.
//! With a million keys, most of the cost is access to memory: a tree or a heap accesses several places for each key, and
//! this queue appends to a vector.
//!
//! # Periods
//!
//! Time is divided into periods of the same length. The first one with keys is *open*: its keys are in order. The keys of
//! a later period are in a vector, in no order, until it is opened. This is the calendar queue of Brown ("Calendar
//! queues", CACM 1988), with a map of the days that have keys instead of a ring of all days, and only the first day sorted.
//!
//! Most keys of the open period come in order: windows of one size end in the order in which they start. They are in a
//! queue, and only the others are in a tree.
//!
//! # Outdated entries
//!
//! An entry that the caller no longer wants is not searched for. It becomes *outdated*, and is dropped when it would be the
//! first, when its period is opened, or when half of all entries are outdated. The caller says which ones are: see
//! [`Refresh`].
//!
//! # Invariants
//!
//! 1. Keys of the open period and of earlier ones are in the queue or the tree, all others in `later`.
//! 2. If there are entries, there is one in the queue or the tree, and the first of them is not outdated.

use std::collections::{BTreeMap, VecDeque};

use super::packed::Packed;
use super::time::Nanos;
use crate::operators::key_table::Slot;

/// The due time, and the number of the key.
pub(super) type Due = (Nanos, u64);

/// About how many periods there are from now to the latest due time. With a million keys, each has about a thousand.
const PERIODS: Nanos = 1024;

/// Fewer outdated entries are not worth a search.
const FEW: usize = 64;

/// The number of entries that are prefetched at a time.
pub(super) const GROUP: usize = 64;

/// What the caller says about entries.
pub(super) trait Refresh {
    /// Returns false if the entry is outdated. Otherwise, it may set a later time: the due time of a key may have changed
    /// since it was listed.
    fn refresh(&mut self, slot: Slot, due: &mut Due) -> bool;

    /// Prefetches what that needs.
    fn prefetch(&self, slots: impl Iterator<Item = Slot>);
}

/// See the top of this file.
pub(super) struct DueList {
    /// A period is two to the power of this, in nanoseconds.
    shift: u32,
    /// The number of the open period.
    open: Nanos,
    /// In order.
    queue: VecDeque<Listed>,
    tree: BTreeMap<Due, Slot>,
    /// By period; none of them is empty.
    later: BTreeMap<Nanos, Vec<Listed>>,
    /// The number of entries, and of those that are outdated. An outdated entry whose key is listed with the same time again
    /// is there twice; then either may be dropped as the outdated one.
    len: usize,
    outdated: usize,
}

#[derive(Clone, Copy)]
struct Listed {
    at: Packed,
    slot: Slot,
    number: u64,
}

impl Listed {
    fn new((at, number): Due, slot: Slot) -> Self {
        Self { at: at.into(), slot, number }
    }

    #[inline]
    fn due(&self) -> Due {
        (self.at.into(), self.number)
    }
}

impl DueList {
    /// `span` is the time until most keys are due when they are listed. Only speed depends on it.
    pub(super) fn new(span: Nanos) -> Self {
        Self {
            shift: (span / PERIODS).max(1).ilog2(),
            open: 0,
            queue: VecDeque::new(),
            tree: BTreeMap::new(),
            later: BTreeMap::new(),
            len: 0,
            outdated: 0,
        }
    }

    pub(super) fn insert(&mut self, due: Due, slot: Slot) {
        let period = due.0 >> self.shift;
        if self.len == 0 {
            self.open = period;
        }
        self.len += 1;
        if period > self.open {
            self.later.entry(period).or_default().push(Listed::new(due, slot));
        } else if self.queue.back().is_none_or(|last| last.due() < due) {
            self.queue.push_back(Listed::new(due, slot));
        } else if self.tree.insert(due, slot).is_some() {
            self.drop_outdated(1);
        }
    }

    /// When the first one is due.
    #[inline]
    pub(super) fn first(&self) -> Option<Nanos> {
        self.front().map(|((at, _), _)| at)
    }

    /// Some of those that come next.
    #[inline]
    pub(super) fn upcoming(&self) -> impl Iterator<Item = Slot> {
        self.queue.iter().take(GROUP).map(|listed| listed.slot)
    }

    /// Takes the first one out, with the time under which it is listed.
    pub(super) fn pop_first(&mut self, refresh: impl Refresh) -> Option<(Due, Slot)> {
        let first = self.pop();
        self.tidy(refresh);
        first
    }

    /// One more entry is outdated.
    pub(super) fn outdate(&mut self, refresh: impl Refresh) {
        self.outdated += 1;
        self.tidy(refresh);
    }

    /// The first one.
    #[inline]
    fn front(&self) -> Option<(Due, Slot)> {
        let queued = self.queue.front().map(|first| (first.due(), first.slot));
        if self.tree.is_empty() {
            return queued;
        }
        let tree = self.tree.first_key_value().map(|(due, slot)| (*due, *slot));
        tree.filter(|(due, _)| queued.is_none_or(|(queued, _)| *due < queued)).or(queued)
    }

    fn pop(&mut self) -> Option<(Due, Slot)> {
        let first = self.front()?;
        let listed = self.len;
        if self.queue.front().is_some_and(|queued| queued.due() == first.0) {
            self.queue.pop_front();
            self.len -= 1;
        }
        if !self.tree.is_empty() && self.tree.remove(&first.0).is_some() {
            self.len -= 1;
        }
        // It was there twice.
        self.outdated = self.outdated.saturating_sub(listed - self.len - 1);
        Some(first)
    }

    /// Restores invariant 2.
    #[inline]
    fn tidy(&mut self, mut refresh: impl Refresh) {
        if self.outdated > FEW && self.outdated > self.len / 2 {
            // The remaining entries pay for it: as many became outdated since.
            self.drop_all_outdated(&mut refresh);
        }
        loop {
            if self.queue.is_empty() && self.tree.is_empty() && !self.later.is_empty() {
                self.open_next(&mut refresh);
            }
            if self.outdated == 0 {
                return;
            }
            let Some((listed, slot)) = self.front() else { return };
            let mut due = listed;
            let is_current = refresh.refresh(slot, &mut due);
            if is_current && due == listed {
                return;
            }
            self.pop();
            if is_current {
                self.insert(due, slot);
            } else {
                self.outdated = self.outdated.saturating_sub(1);
            }
        }
    }

    /// Opens later periods until there is an entry. Nothing is open before.
    fn open_next(&mut self, refresh: &mut impl Refresh) {
        while self.queue.is_empty()
            && let Some((period, mut entries)) = self.later.pop_first()
        {
            self.open = period;
            let listed = entries.len();
            let mut kept = 0;
            for start in (0..listed).step_by(GROUP) {
                let end = listed.min(start + GROUP);
                refresh.prefetch(entries[start..end].iter().map(|entry| entry.slot));
                for index in start..end {
                    let Listed { slot, .. } = entries[index];
                    let mut due = entries[index].due();
                    if refresh.refresh(slot, &mut due) {
                        entries[kept] = Listed::new(due, slot);
                        kept += 1;
                    }
                }
            }
            entries.truncate(kept);
            self.drop_outdated(listed - entries.len());
            entries.retain(|entry| {
                let period = Nanos::from(entry.at) >> self.shift;
                if period > self.open {
                    self.later.entry(period).or_default().push(*entry);
                }
                period <= self.open
            });
            entries.sort_unstable_by_key(Listed::due);
            let sorted = entries.len();
            entries.dedup_by_key(|entry| entry.due());
            self.drop_outdated(sorted - entries.len());
            self.queue = entries.into();
        }
    }

    #[cold]
    fn drop_all_outdated(&mut self, refresh: &mut impl Refresh) {
        let empty = Self { shift: self.shift, ..Self::new(1) };
        let all = std::mem::replace(self, empty);
        let queued = all.queue.into_iter().map(|listed| (listed.due(), listed.slot));
        let later = all.later.into_values().flatten().map(|listed| (listed.due(), listed.slot));
        for (mut due, slot) in queued.chain(all.tree).chain(later) {
            if refresh.refresh(slot, &mut due) {
                self.insert(due, slot);
            }
        }
    }

    /// Outdated entries were removed, or entries that were there twice.
    fn drop_outdated(&mut self, count: usize) {
        self.len -= count;
        self.outdated = self.outdated.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::key_table::KeyTable;

    /// A table of keys with the due times under which they are listed and those at which they really are due.
    #[derive(Default)]
    struct Keys {
        table: KeyTable<u64, (Due, Nanos)>,
        slots: Vec<Slot>,
        number: u64,
    }

    impl Refresh for &mut Keys {
        fn refresh(&mut self, slot: Slot, due: &mut Due) -> bool {
            match self.table.get_mut(slot) {
                Some((listed, really)) if *listed == *due => {
                    due.0 = due.0.max(*really);
                    listed.0 = due.0;
                    true
                }
                _ => false,
            }
        }

        fn prefetch(&self, _slots: impl Iterator<Item = Slot>) {}
    }

    impl Keys {
        fn add(&mut self, list: &mut DueList, at: Nanos) {
            self.number += 1;
            let due = (at, self.number);
            let slot = self.table.insert(self.table.probe(self.number).ok().unwrap(), (due, at));
            self.slots.push(slot);
            list.insert(due, slot);
        }

        /// What a list that is searched would find.
        fn first(&self) -> Option<Due> {
            self.slots
                .iter()
                .filter_map(|slot| self.table.get(*slot))
                .map(|((_, number), really)| (*really, *number))
                .min()
        }
    }

    /// Pops the first key, as the operator does: one that is due later than listed is listed again.
    fn pop(list: &mut DueList, keys: &mut Keys) -> Option<Due> {
        loop {
            let (due, slot) = list.pop_first(&mut *keys)?;
            let (listed, really) = keys.table.get_mut(slot).expect("the first one is not outdated");
            assert_eq!(*listed, due);
            if *really > due.0 {
                listed.0 = *really;
                list.insert(*listed, slot);
                continue;
            }
            keys.table.remove(slot);
            keys.slots.retain(|other| *other != slot);
            return Some(due);
        }
    }

    #[test]
    fn agrees_with_a_search_on_random_calls() {
        for seed in 0..600 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let (mut list, mut keys, mut now) = (DueList::new(PERIODS << rng.u32(..5)), Keys::default(), 0);
            let reach = if rng.bool() { 20 } else { 200 };
            for _ in 0..400 {
                now += rng.i128(0..3);
                match rng.u8(..10) {
                    0..4 => keys.add(&mut list, now + rng.i128(-3..reach)),
                    4..6 => {
                        let first = keys.first();
                        assert_eq!(pop(&mut list, &mut keys), first, "seed {seed}");
                    }
                    // One is extended, listed earlier, or removed.
                    choice if !keys.slots.is_empty() => {
                        let index = rng.usize(..keys.slots.len());
                        let slot = keys.slots[index];
                        let (listed, really) = keys.table.get_mut(slot).unwrap();
                        match choice {
                            6..8 => *really += rng.i128(0..reach),
                            8 => {
                                *really = listed.0 - rng.i128(0..5);
                                if *really < listed.0 {
                                    listed.0 = *really;
                                    let due = *listed;
                                    list.outdate(&mut keys);
                                    list.insert(due, slot);
                                }
                            }
                            _ => {
                                keys.table.remove(slot);
                                keys.slots.swap_remove(index);
                                list.outdate(&mut keys);
                            }
                        }
                    }
                    _ => {}
                }
                let exact = keys.first().map(|(at, _)| at);
                assert!(list.first() <= exact && list.first().is_some() == exact.is_some(), "seed {seed}");
                assert!(list.len <= 2 * keys.slots.len() + FEW + 1, "outdated entries pile up");
            }
            while let Some(first) = keys.first() {
                assert_eq!(pop(&mut list, &mut keys), Some(first), "seed {seed}");
            }
            assert_eq!((list.first(), list.len), (None, 0));
        }
    }

    #[test]
    fn outdated_entries_do_not_pile_up() {
        let (mut list, mut keys) = (DueList::new(PERIODS), Keys::default());
        keys.add(&mut list, 0);
        for n in 0..10_000 {
            keys.add(&mut list, 1 + n % 7);
            let removed = keys.slots.pop().and_then(|slot| keys.table.remove(slot));
            assert!(removed.is_some());
            list.outdate(&mut keys);
            assert!(list.len <= 2 + FEW, "{}", list.len);
        }
        assert_eq!(pop(&mut list, &mut keys), Some((0, 1)));
        assert_eq!((list.first(), list.len), (None, 0));
    }
}
