//! [`LruTable`]: a [`KeyTable`] that tracks the least recently used key.
//!
//! The entries form a doubly linked list in the order of their last use, as in a common LRU cache. Every operation on
//! the order takes constant time: no key costs a scan of the others, and nothing is scanned for expired keys, because
//! with one time to live for all keys the order of last use is the order of expiry. The operator decides what counts as
//! a use, and which time goes with it.
//!
//! As in a [`KeyTable`], only [`probe`](LruTable::probe) and [`find`](LruTable::find) call the code of a key.

use std::hash::Hash;
use std::time::Instant;

use super::key_table::{KeyPanicked, KeyTable, Place, Probe, Slot};
use super::prefetch::Prefetched;

/// See the top of this file.
pub(crate) struct LruTable<K, V> {
    table: KeyTable<K, Node<V>>,
    oldest: Option<Slot>,
    newest: Option<Slot>,
}

struct Node<V> {
    value: V,
    /// The time of the last use; `None` if the clock is not read.
    time: Option<Instant>,
    older: Option<Slot>,
    newer: Option<Slot>,
}

impl<K, V> Default for LruTable<K, V> {
    fn default() -> Self {
        Self { table: KeyTable::default(), oldest: None, newest: None }
    }
}

impl<K, V> LruTable<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> Option<&V> {
        self.table.get(slot).map(|node| &node.value)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut V> {
        self.table.get_mut(slot).map(|node| &mut node.value)
    }

    pub(crate) fn key(&self, slot: Slot) -> Option<&K> {
        self.table.key(slot)
    }

    /// The time that was given with the last use of the key.
    #[inline]
    pub(crate) fn time(&self, slot: Slot) -> Option<Instant> {
        self.table.get(slot)?.time
    }

    /// The least recently used key.
    #[inline]
    pub(crate) fn oldest(&self) -> Option<Slot> {
        self.oldest
    }

    /// Adds the entry of a key that was not found, as the newest.
    pub(crate) fn insert(&mut self, probe: Probe<K>, value: V, time: Option<Instant>) -> Slot {
        let slot = self.table.insert(probe, Node { value, time, older: None, newer: None });
        self.append(slot);
        slot
    }

    /// Marks the key as used: makes it the newest.
    #[inline]
    pub(crate) fn touch(&mut self, slot: Slot, time: Option<Instant>) {
        if self.newest != Some(slot) {
            self.unlink(slot);
            self.append(slot);
        }
        if let Some(node) = self.table.get_mut(slot) {
            node.time = time;
        }
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<(K, V)> {
        self.unlink(slot);
        self.table.remove(slot).map(|(key, node)| (key, node.value))
    }

    fn append(&mut self, slot: Slot) {
        let before = self.newest.replace(slot);
        if let Some(node) = self.table.get_mut(slot) {
            (node.older, node.newer) = (before, None);
        }
        match before.and_then(|before| self.table.get_mut(before)) {
            Some(node) => node.newer = Some(slot),
            None => self.oldest = Some(slot),
        }
    }

    fn unlink(&mut self, slot: Slot) {
        let Some(node) = self.table.get(slot) else { return };
        let (older, newer) = (node.older, node.newer);
        match older.and_then(|older| self.table.get_mut(older)) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.table.get_mut(newer)) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
    }
}

impl<K: Hash + Eq, V> LruTable<K, V> {
    #[inline]
    pub(crate) fn probe(&self, key: K) -> Result<Probe<K>, KeyPanicked> {
        self.table.probe(key)
    }

    #[inline]
    pub(crate) fn probe_of<T>(&self, key: impl FnOnce(&T) -> K, item: &T) -> Result<Probe<K>, KeyPanicked> {
        self.table.probe_of(key, item)
    }

    pub(crate) fn is_large(&self) -> bool {
        self.table.is_large()
    }

    pub(crate) fn prefetch<T>(
        &self,
        prefetched: &mut Prefetched<Probe<K>>,
        key: impl Fn(&T) -> K,
        next: &[crate::Result<T>],
    ) {
        self.table.prefetch(prefetched, key, next);
    }

    #[inline]
    pub(crate) fn find(&self, probe: Probe<K>) -> Result<Place<Probe<K>>, KeyPanicked> {
        self.table.find(probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_list_on_random_calls() {
        for seed in 0..100 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            // Oldest first.
            let (mut table, mut list) = (LruTable::default(), Vec::<(u32, Slot)>::new());
            for _ in 0..200 {
                let key = rng.u32(..12);
                let known = list.iter().position(|(other, _)| *other == key);
                match (table.find(table.probe(key).ok().unwrap()).ok().unwrap(), known) {
                    (Place::Taken(slot), Some(index)) => {
                        assert_eq!(list.remove(index), (key, slot));
                        if rng.bool() {
                            table.touch(slot, None);
                            list.push((key, slot));
                        } else {
                            assert_eq!(table.remove(slot), Some((key, key)));
                        }
                    }
                    (Place::Free(probe), None) => list.push((key, table.insert(probe, key, None))),
                    (place, known) => panic!("{key}: {place:?}, expected {known:?}, seed {seed}"),
                }
                assert_eq!((table.len(), table.oldest()), (list.len(), list.first().map(|(_, slot)| *slot)));
            }
            for (key, slot) in list {
                assert_eq!((table.oldest(), table.key(slot)), (Some(slot), Some(&key)), "seed {seed}");
                table.remove(slot);
            }
            assert_eq!((table.oldest(), table.newest, table.len()), (None, None, 0));
        }
    }
}
