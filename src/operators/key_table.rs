//! [`KeyTable`]: a map that calls the code of its keys only where a panic does no harm.
//!
//! `Hash`, `Eq` and `Drop` of a key are the user's, and may panic. In a `HashMap` they are called by every operation, also
//! when a window is closed long after the item in hand; a panic there loses what lies under the key.
//!
//! # What must hold
//!
//! 1. An entry is known by its slot. Whatever is done with a slot calls no code of the key.
//! 2. `Hash` is called once for each item, by [`probe`](KeyTable::probe), and `Eq` by [`find`](KeyTable::find). Both are
//!    guarded and change nothing.
//! 3. A key is dropped under a guard.
//!
//! A key that is not equal to itself is never found; each of its items has an entry of its own.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::num::NonZeroUsize;

use crate::panic::{self, PanicPayload};

/// Where an entry lies, until it is removed.
///
/// It is the index of the entry plus one, so that an `Option<Slot>` takes no more room than a `Slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(NonZeroUsize);

impl Slot {
    /// Of a table with a single entry.
    pub(crate) const ONLY: Self = Self(NonZeroUsize::MIN);

    #[inline]
    fn index(self) -> usize {
        self.0.get() - 1
    }
}

/// A key and its hash.
#[derive(Debug)]
pub(crate) struct Probe<K> {
    hash: u64,
    key: K,
}

/// Where a key is, or that it is not there.
#[derive(Debug)]
pub(crate) enum Place<P> {
    /// Its entry.
    Taken(Slot),
    /// It has none; what it takes to insert one.
    Free(P),
}

/// A panic of a key's code.
pub(crate) struct KeyPanicked(pub(crate) PanicPayload);

/// See the top of this file.
pub(crate) struct KeyTable<K, V> {
    hasher: RandomState,
    /// The first entry of each hash.
    chains: HashMap<u64, Slot, BuildHasherDefault<AsItIs>>,
    entries: Vec<Option<Entry<K, V>>>,
    free: Vec<Slot>,
}

struct Entry<K, V> {
    hash: u64,
    /// The next one of the same hash.
    next: Option<Slot>,
    key: K,
    value: V,
}

impl<K> Probe<K> {
    pub(crate) fn key(&self) -> &K {
        &self.key
    }

    pub(crate) fn into_key(self) -> K {
        self.key
    }
}

impl<K, V> Default for KeyTable<K, V> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), chains: HashMap::default(), entries: Vec::new(), free: Vec::new() }
    }
}

impl<K, V> KeyTable<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> Option<&V> {
        self.entries.get(slot.index())?.as_ref().map(|entry| &entry.value)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut V> {
        self.entries.get_mut(slot.index())?.as_mut().map(|entry| &mut entry.value)
    }

    pub(crate) fn key(&self, slot: Slot) -> Option<&K> {
        self.entries.get(slot.index())?.as_ref().map(|entry| &entry.key)
    }

    /// Adds the entry of a key that was not found.
    pub(crate) fn insert(&mut self, Probe { hash, key }: Probe<K>, value: V) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            // A vector that has an entry has a length.
            Slot(NonZeroUsize::new(self.entries.len()).unwrap_or(NonZeroUsize::MIN))
        });
        let next = self.chains.insert(hash, slot);
        self.entries[slot.index()] = Some(Entry { hash, next, key, value });
        slot
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<(K, V)> {
        let Entry { hash, next, key, value } = self.entries.get_mut(slot.index())?.take()?;
        self.free.push(slot);
        let first = self.chains.get(&hash).copied();
        if first == Some(slot) {
            match next {
                Some(next) => _ = self.chains.insert(hash, next),
                None => _ = self.chains.remove(&hash),
            }
        } else {
            let mut before = first;
            while let Some(entry) = before.and_then(|before| self.entries[before.index()].as_mut()) {
                before = entry.next;
                if before == Some(slot) {
                    entry.next = next;
                    break;
                }
            }
        }
        Some((key, value))
    }

    /// Takes everything out. The keys are dropped, each under a guard of its own.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = V> {
        self.chains.clear();
        self.free.clear();
        // A key and a value are dropped apart.
        std::mem::take(&mut self.entries).into_iter().flatten().map(|entry| {
            panic::guard_drop(entry.key);
            entry.value
        })
    }
}

impl<K: Hash + Eq, V> KeyTable<K, V> {
    #[inline]
    pub(crate) fn probe(&self, key: K) -> Result<Probe<K>, KeyPanicked> {
        match panic::catch(|| self.hasher.hash_one(&key)) {
            Ok(hash) => Ok(Probe { hash, key }),
            Err(payload) => {
                panic::guard_drop(key);
                Err(KeyPanicked(payload))
            }
        }
    }

    /// Looks for a key. One that was found is dropped; if that panics it counts as a panic of the search.
    #[inline]
    pub(crate) fn find(&self, probe: Probe<K>) -> Result<Place<Probe<K>>, KeyPanicked> {
        match panic::catch(|| self.search(&probe)) {
            Ok(None) => Ok(Place::Free(probe)),
            Ok(Some(slot)) => match panic::catch(|| drop(probe.key)) {
                Ok(()) => Ok(Place::Taken(slot)),
                Err(payload) => Err(KeyPanicked(payload)),
            },
            Err(payload) => {
                panic::guard_drop(probe.key);
                Err(KeyPanicked(payload))
            }
        }
    }

    fn search(&self, probe: &Probe<K>) -> Option<Slot> {
        let mut next = self.chains.get(&probe.hash).copied();
        while let Some(slot) = next {
            let entry = self.entries[slot.index()].as_ref()?;
            if entry.key == probe.key {
                return Some(slot);
            }
            next = entry.next;
        }
        None
    }
}

impl<K, V> Drop for KeyTable<K, V> {
    fn drop(&mut self) {
        // Two keys whose drop panics must not meet.
        panic::discard(self.drain());
    }
}

/// For what is a hash already.
#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are hashed");
    }
}

impl<K, V> std::fmt::Debug for KeyTable<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyTable").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All keys of one parity have the same hash.
    #[derive(Debug, PartialEq, Eq)]
    struct Parity(u32);

    impl Hash for Parity {
        fn hash<H: Hasher>(&self, state: &mut H) {
            (self.0 % 2).hash(state);
        }
    }

    fn find<V>(table: &KeyTable<Parity, V>, key: u32) -> Place<Probe<Parity>> {
        let probe = table.probe(Parity(key)).ok().unwrap();
        table.find(probe).ok().unwrap()
    }

    #[test]
    fn agrees_with_a_list_on_random_calls_also_where_hashes_collide() {
        for seed in 0..100 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let (mut table, mut list) = (KeyTable::default(), Vec::<(u32, Slot, u32)>::new());
            for value in 0..200 {
                let key = rng.u32(..12);
                let known = list.iter().position(|(other, ..)| *other == key);
                match (find(&table, key), known) {
                    (Place::Taken(slot), Some(index)) => {
                        assert_eq!((slot, table.get(slot)), (list[index].1, Some(&list[index].2)));
                        if rng.bool() {
                            let (_, slot, value) = list.swap_remove(index);
                            assert_eq!(table.remove(slot), Some((Parity(key), value)));
                            assert_eq!(table.remove(slot), None);
                        }
                    }
                    (Place::Free(probe), None) => list.push((key, table.insert(probe, value), value)),
                    (place, known) => panic!("{key}: {place:?}, expected {known:?}, seed {seed}"),
                }
                assert_eq!(table.len(), list.len());
            }
            let mut values: Vec<u32> = table.drain().collect();
            values.sort_unstable();
            list.sort_unstable_by_key(|(.., value)| *value);
            assert_eq!(values, list.iter().map(|(.., value)| *value).collect::<Vec<_>>());
            assert_eq!(table.len(), 0);
        }
    }
}
