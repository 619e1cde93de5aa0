//! [`DueList`]: which key is due next.
//!
//! A map in the order of due times; of keys that are due at the same time, the one added first is first. Nearly all
//! keys are added in that order: windows of one size end in the order in which they start. Those are in a queue, and
//! only the others in a tree, because with a million keys the nodes of a tree cost more memory and time than everything
//! else about a window.

use std::collections::{BTreeMap, VecDeque};

use super::time::Nanos;
use crate::operators::key_table::Slot;

/// The due time, and the number of the key.
pub(super) type Due = (Nanos, u64);

/// See the top of this file.
#[derive(Default)]
pub(super) struct DueList {
    /// In order. `None` if it was removed; never the first.
    queue: VecDeque<(Due, Option<Slot>)>,
    /// The number of removed entries in the queue.
    removed: usize,
    tree: BTreeMap<Due, Slot>,
}

impl DueList {
    pub(super) fn insert(&mut self, due: Due, slot: Slot) {
        if self.queue.back().is_none_or(|(last, _)| *last < due) {
            self.queue.push_back((due, Some(slot)));
        } else {
            self.tree.insert(due, slot);
        }
    }

    /// When the first one is due.
    #[inline]
    pub(super) fn first(&self) -> Option<Nanos> {
        let queued = self.queue.front().map(|((at, _), _)| *at);
        let tree = if self.tree.is_empty() { None } else { self.tree.first_key_value().map(|((at, _), _)| *at) };
        match (queued, tree) {
            (Some(queued), Some(tree)) => Some(queued.min(tree)),
            (queued, tree) => queued.or(tree),
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<(Due, Slot)> {
        let queued = self.queue.front().map(|(due, _)| *due);
        if !self.tree.is_empty()
            && self.tree.first_key_value().is_some_and(|(due, _)| queued.is_none_or(|queued| *due < queued))
        {
            return self.tree.pop_first();
        }
        let (due, slot) = self.queue.pop_front()?;
        self.trim();
        slot.map(|slot| (due, slot))
    }

    pub(super) fn remove(&mut self, due: &Due) {
        let Ok(index) = self.queue.binary_search_by(|(other, _)| other.cmp(due)) else {
            self.tree.remove(due);
            return;
        };
        if let Some((_, slot)) = self.queue.get_mut(index).filter(|(_, slot)| slot.is_some()) {
            *slot = None;
            self.removed += 1;
        } else {
            // Added again since.
            self.tree.remove(due);
        }
        self.trim();
        if self.removed > self.queue.len() / 2 {
            // The remaining entries pay for it: as many were removed since.
            self.queue.retain(|(_, slot)| slot.is_some());
            self.removed = 0;
        }
    }

    /// Ensures that the first of the queue was not removed.
    fn trim(&mut self) {
        while self.queue.front().is_some_and(|(_, slot)| slot.is_none()) {
            self.queue.pop_front();
            self.removed -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_map_on_random_calls() {
        for seed in 0..300 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let (mut list, mut map, mut now) = (DueList::default(), BTreeMap::new(), 0);
            for number in 0..300 {
                match rng.u8(..8) {
                    0..4 => {
                        now += rng.i128(0..3);
                        let due = (now - if rng.bool() { 0 } else { rng.i128(0..20) }, number);
                        list.insert(due, Slot::ONLY);
                        map.insert(due, Slot::ONLY);
                    }
                    4..6 => assert_eq!(list.pop_first(), map.pop_first(), "seed {seed}"),
                    _ if !map.is_empty() => {
                        let due = *map.keys().nth(rng.usize(..map.len())).unwrap();
                        list.remove(&due);
                        map.remove(&due);
                        if rng.bool() {
                            list.insert(due, Slot::ONLY);
                            map.insert(due, Slot::ONLY);
                        }
                    }
                    _ => {}
                }
                assert_eq!(list.first(), map.keys().next().map(|(at, _)| *at), "seed {seed}");
                assert!(list.queue.len() <= 2 * map.len() + 1);
            }
            while let Some(first) = map.pop_first() {
                assert_eq!(list.pop_first(), Some(first), "seed {seed}");
            }
            assert_eq!(list.pop_first(), None);
        }
    }
}
