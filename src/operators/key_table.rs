//! [`KeyTable`]: a map that calls the code of its keys only where a panic does no harm.
//!
//! `Hash`, `Eq` and `Drop` of a key are the user's, and may panic. A `HashMap` calls them in every operation, even when
//! a window is closed long after the current item; a panic there loses the value of the key.
//!
//! # Invariants
//!
//! 1. An entry is identified by its slot. No operation on a slot calls code of the key.
//! 2. `Hash` is called once for each item, by [`probe`](KeyTable::probe), and `Eq` by [`find`](KeyTable::find). Both are
//!    guarded and change nothing.
//! 3. A key is dropped under a guard.
//!
//! A key that is not equal to itself is never found; each of its items has its own entry.
//!
//! # Layout
//!
//! Entries are in a vector, and their places in an index of 8 bytes each: 32 bits of the hash, and the slot. With a
//! million keys the dominant cost is memory access, and this takes two: one for the index, one for the entry.
//! `indexmap` and Python's `dict` have the same layout. The index is probed linearly, and a removal shifts back the
//! following entries (Knuth, *The Art of Computer Programming*, volume 3, section 6.4, algorithm R), so it holds no
//! tombstones, and its hashes suffice to grow it. If what comes next is known, both accesses are made in advance: see
//! `prefetch.rs`.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::hint::black_box;
use std::num::NonZeroU32;

use super::prefetch::Prefetched;
use crate::error;
use crate::panic::{self, PanicPayload};

/// The number of keys that a [large](KeyTable::is_large) table has: with 100 bytes each, they fill the second-level cache of
/// common processors. Debug builds prefetch nearly always, so that the tests do.
const MANY: usize = if cfg!(debug_assertions) { 3 } else { 10_000 };

/// The place of an entry, until it is removed.
///
/// It is the index of the entry plus one, so that an `Option<Slot>` is no larger than a `Slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(NonZeroU32);

impl Slot {
    /// The slot of a table with a single entry.
    pub(crate) const ONLY: Self = Self(NonZeroU32::MIN);

    #[inline]
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A key and its hash.
#[derive(Debug)]
pub(crate) struct Probe<K> {
    hash: u32,
    key: K,
}

/// The place of a key, or that it is absent.
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
    index: Index,
    entries: Vec<Option<Entry<K, V>>>,
    free: Vec<Slot>,
}

struct Entry<K, V> {
    hash: u32,
    key: K,
    value: V,
}

/// The places of the entries by hash.
#[derive(Default)]
struct Index {
    /// Their number is a power of two, or zero. At most three quarters of them are occupied.
    buckets: Vec<Bucket>,
    taken: usize,
}

#[derive(Clone, Copy)]
struct Bucket {
    hash: u32,
    slot: Option<Slot>,
}

impl Bucket {
    const FREE: Self = Self { hash: 0, slot: None };
}

impl Index {
    /// The number of buckets less one.
    #[inline]
    fn mask(&self) -> usize {
        self.buckets.len().wrapping_sub(1)
    }

    /// The first slot of that hash for which `is_it` returns true.
    #[inline]
    fn find(&self, hash: u32, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let mut at = hash as usize & self.mask();
        loop {
            let bucket = self.buckets.get(at)?;
            let slot = bucket.slot?;
            if bucket.hash == hash && is_it(slot) {
                return Some(slot);
            }
            at = (at + 1) & self.mask();
        }
    }

    /// Reads the first place of that hash.
    #[inline]
    fn prefetch(&self, hash: u32) {
        black_box(self.buckets.get(hash as usize & self.mask()).map(|bucket| bucket.hash));
    }

    fn insert(&mut self, hash: u32, slot: Slot) {
        if self.taken >= self.buckets.len() / 4 * 3 {
            let room = (self.buckets.len() * 2).max(8);
            let old = std::mem::replace(&mut self.buckets, vec![Bucket::FREE; room]);
            old.into_iter().filter(|bucket| bucket.slot.is_some()).for_each(|bucket| self.put(bucket));
        }
        self.put(Bucket { hash, slot: Some(slot) });
        self.taken += 1;
    }

    /// Adds a bucket; there must be a free one.
    fn put(&mut self, bucket: Bucket) {
        let mut at = bucket.hash as usize & self.mask();
        while self.buckets[at].slot.is_some() {
            at = (at + 1) & self.mask();
        }
        self.buckets[at] = bucket;
    }

    /// Removes a slot, which must be in it.
    fn remove(&mut self, hash: u32, slot: Slot) {
        let mask = self.mask();
        let mut hole = hash as usize & mask;
        while self.buckets[hole].slot != Some(slot) {
            hole = (hole + 1) & mask;
        }
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let bucket = self.buckets[next];
            if bucket.slot.is_none() {
                break;
            }
            // It may move back to the hole unless that is before its first place.
            let distance = |from: usize| next.wrapping_sub(from) & mask;
            if distance(bucket.hash as usize) >= distance(hole) {
                self.buckets[hole] = bucket;
                hole = next;
            }
        }
        self.buckets[hole] = Bucket::FREE;
        self.taken -= 1;
    }
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
        Self { hasher: RandomState::new(), index: Index::default(), entries: Vec::new(), free: Vec::new() }
    }
}

impl<K, V> KeyTable<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether entries are unlikely to be in a cache, so that prefetching pays.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.len() >= MANY
    }

    /// Prefetches entries, if that pays: calls `look` with each, which reads what will be needed.
    pub(crate) fn prefetch_entries(&self, slots: impl Iterator<Item = Slot>, look: impl Fn(&V)) {
        if self.is_large() {
            slots.filter_map(|slot| self.get(slot)).for_each(look);
        }
    }

    /// Prefetches what the removal of prefetched entries needs, if that pays.
    pub(crate) fn prefetch_removals(&self, slots: impl Iterator<Item = Slot>) {
        if self.is_large() {
            let hashes = slots.filter_map(|slot| Some(self.entries.get(slot.index())?.as_ref()?.hash));
            hashes.for_each(|hash| self.index.prefetch(hash));
        }
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
    ///
    /// # Panics
    /// If there are 2^32 - 1 of them.
    pub(crate) fn insert(&mut self, Probe { hash, key }: Probe<K>, value: V) -> Slot {
        let entry = Some(Entry { hash, key, value });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot.index()] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                let number = u32::try_from(self.entries.len()).ok().and_then(NonZeroU32::new);
                Slot(number.expect("there are fewer than 2^32 keys"))
            }
        };
        self.index.insert(hash, slot);
        slot
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<(K, V)> {
        let Entry { hash, key, value } = self.entries.get_mut(slot.index())?.take()?;
        self.index.remove(hash, slot);
        self.free.push(slot);
        Some((key, value))
    }

    /// Takes everything out. The keys are dropped, each under its own guard.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = V> {
        self.index = Index::default();
        self.free.clear();
        // A key and a value are dropped separately.
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
            Ok(hash) => Ok(Probe { hash: (hash >> 32) as u32, key }),
            Err(payload) => {
                panic::guard_drop(key);
                Err(KeyPanicked(payload))
            }
        }
    }

    /// The key of an item.
    #[inline]
    pub(crate) fn probe_of<T>(&self, key: impl FnOnce(&T) -> K, item: &T) -> Result<Probe<K>, KeyPanicked> {
        panic::catch(|| key(item)).map_err(KeyPanicked).and_then(|key| self.probe(key))
    }

    /// Adds the keys of the next items to `prefetched`, and prefetches what [`find`](Self::find) needs. Pays if the table
    /// [is large](Self::is_large).
    pub(crate) fn prefetch<T>(
        &self,
        prefetched: &mut Prefetched<Probe<K>>,
        key: impl Fn(&T) -> K,
        next: &[error::Result<T>],
    ) {
        prefetched.add(next, |item| self.probe_of(&key, item));
        // Two loops, each of which has no more than one read from memory for each key.
        prefetched.probes().for_each(|probe| self.index.prefetch(probe.hash));
        for slot in prefetched.probes().filter_map(|probe| self.index.find(probe.hash, |_| true)) {
            black_box(self.entries[slot.index()].as_ref().map(|entry| entry.hash));
        }
    }

    /// Looks up a key. If it is found, `probe` is dropped; a panic in that counts as a panic of the lookup.
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

    #[inline]
    fn search(&self, Probe { hash, key }: &Probe<K>) -> Option<Slot> {
        let is_it = |slot: Slot| self.entries[slot.index()].as_ref().is_some_and(|entry| entry.key == *key);
        self.index.find(*hash, is_it)
    }
}

impl<K, V> Drop for KeyTable<K, V> {
    fn drop(&mut self) {
        // Two keys whose drop panics must not meet.
        panic::discard(self.drain());
    }
}

/// For keys that are hashes already.
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

    /// The first place of each hash decides where it may be; with few buckets they collide, and wrap around the end.
    #[test]
    fn the_index_finds_its_keys_after_any_removal() {
        for seed in 0..200 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let (mut index, mut list) = (Index::default(), Vec::<(u32, Slot)>::new());
            for number in 1..=200 {
                if rng.bool() || list.len() < 5 {
                    let hash = if rng.bool() { rng.u32(..4).wrapping_sub(2) } else { rng.u32(..) };
                    let slot = Slot(NonZeroU32::new(number).unwrap());
                    index.insert(hash, slot);
                    list.push((hash, slot));
                } else {
                    let (hash, slot) = list.swap_remove(rng.usize(..list.len()));
                    index.remove(hash, slot);
                    assert_eq!(index.find(hash, |other| other == slot), None);
                }
                for &(hash, slot) in &list {
                    assert_eq!(index.find(hash, |other| other == slot), Some(slot), "seed {seed}");
                }
                assert_eq!(index.taken, list.len());
            }
        }
    }

    fn find<V>(table: &KeyTable<Parity, V>, key: u32) -> Place<Probe<Parity>> {
        let probe = table.probe(Parity(key)).ok().unwrap();
        table.find(probe).ok().unwrap()
    }

    #[test]
    fn agrees_with_a_list_on_random_calls_despite_collisions() {
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
