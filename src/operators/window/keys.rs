//! [`Keying`]: the windows that an item goes to, if there are several for each period of time.

use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::operators::key_table::{KeyPanicked, KeyTable, Place, Probe, Slot};
use crate::operators::prefetch::Prefetched;

/// Holds a window of items with the same key, and that key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keyed<K, W> {
    /// The key that the items share.
    pub key: K,
    /// The window of these items.
    pub window: W,
}

/// Selects whether each key has windows of its own: [`NoKey`] or [`ByKey`]. Sealed.
#[allow(private_bounds)] // seals the trait
pub trait Keying<T>: Keys<T> {
    /// What is emitted for a window of type `W`.
    type Labelled<W: Send + 'static>: Label<Self::Key, W> + Send + 'static;
}

/// The functions of a [`Keying`].
pub(super) trait Keys<T>: Clone + Send + Sync + 'static {
    type Key: Clone + Send + 'static;
    type Table<V: Send + 'static>: Table<Self::Key, V>;

    fn key(&self, item: &T) -> Self::Key;
}

/// A window with its key, if it has one.
pub(super) trait Label<K, W> {
    fn new(key: K, window: W) -> Self;
}

impl<W> Label<(), W> for W {
    fn new(_key: (), window: W) -> Self {
        window
    }
}

impl<K, W> Label<K, W> for Keyed<K, W> {
    fn new(key: K, window: W) -> Self {
        Self { key, window }
    }
}

/// A map, or its equivalent if there is only one key: see [`KeyTable`].
pub(super) trait Table<K, V>: Default + Send + 'static {
    /// A key that is looked for.
    type Probe: Send + 'static;

    fn probe_of<T>(&self, key: impl FnOnce(&T) -> K, item: &T) -> Result<Self::Probe, KeyPanicked>;
    fn find(&self, probe: Self::Probe) -> Result<Place<Self::Probe>, KeyPanicked>;
    fn into_key(probe: Self::Probe) -> K;
    fn insert(&mut self, probe: Self::Probe, value: V) -> Slot;
    fn get_mut(&mut self, slot: Slot) -> Option<&mut V>;
    fn key(&self, slot: Slot) -> Option<&K>;
    fn remove(&mut self, slot: Slot) -> Option<(K, V)>;
    fn len(&self) -> usize;

    // By default, nothing is prefetched.
    fn is_large(&self) -> bool {
        false
    }

    fn prefetch<T>(
        &self,
        _prefetched: &mut Prefetched<Self::Probe>,
        _key: impl Fn(&T) -> K,
        _next: &[crate::Result<T>],
    ) {
    }

    fn prefetch_entries(&self, _slots: impl Iterator<Item = Slot>, _look: impl Fn(&V)) {}
    fn prefetch_removals(&self, _slots: impl Iterator<Item = Slot>) {}
}

/// Puts items of all keys into the same windows.
#[derive(Debug, Clone, Copy)]
pub struct NoKey;

impl<T> Keying<T> for NoKey {
    type Labelled<W: Send + 'static> = W;
}

impl<T> Keys<T> for NoKey {
    type Key = ();
    type Table<V: Send + 'static> = Option<V>;

    #[inline]
    fn key(&self, _item: &T) {}
}

impl<V: Send + 'static> Table<(), V> for Option<V> {
    type Probe = ();

    #[inline]
    fn probe_of<T>(&self, _key: impl FnOnce(&T), _item: &T) -> Result<(), KeyPanicked> {
        Ok(())
    }

    #[inline]
    fn find(&self, _probe: ()) -> Result<Place<()>, KeyPanicked> {
        Ok(if self.is_some() { Place::Taken(Slot::ONLY) } else { Place::Free(()) })
    }

    fn into_key(_probe: ()) {}

    fn insert(&mut self, _probe: (), value: V) -> Slot {
        *self = Some(value);
        Slot::ONLY
    }

    #[inline]
    fn get_mut(&mut self, _slot: Slot) -> Option<&mut V> {
        self.as_mut()
    }

    fn key(&self, _slot: Slot) -> Option<&()> {
        Some(&())
    }

    fn remove(&mut self, _slot: Slot) -> Option<((), V)> {
        Some(((), self.take()?))
    }

    fn len(&self) -> usize {
        usize::from(self.is_some())
    }
}

/// Keeps separate windows for each key of type `K`, which a closure of type `F` returns.
pub struct ByKey<K, F> {
    key: Arc<F>,
    types: PhantomData<fn() -> K>,
}

impl<K, F> ByKey<K, F> {
    pub(super) fn new(key: F) -> Self {
        Self { key: Arc::new(key), types: PhantomData }
    }
}

impl<K, F> Clone for ByKey<K, F> {
    fn clone(&self) -> Self {
        Self { key: Arc::clone(&self.key), types: PhantomData }
    }
}

impl<K, F> std::fmt::Debug for ByKey<K, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByKey").finish_non_exhaustive()
    }
}

impl<T, K, F> Keying<T> for ByKey<K, F>
where
    K: Eq + Hash + Clone + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    type Labelled<W: Send + 'static> = Keyed<K, W>;
}

impl<T, K, F> Keys<T> for ByKey<K, F>
where
    K: Eq + Hash + Clone + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    type Key = K;
    type Table<V: Send + 'static> = KeyTable<K, V>;

    #[inline]
    fn key(&self, item: &T) -> K {
        (self.key)(item)
    }
}

impl<K: Eq + Hash + Send + 'static, V: Send + 'static> Table<K, V> for KeyTable<K, V> {
    type Probe = Probe<K>;

    #[inline]
    fn probe_of<T>(&self, key: impl FnOnce(&T) -> K, item: &T) -> Result<Probe<K>, KeyPanicked> {
        KeyTable::probe_of(self, key, item)
    }

    #[inline]
    fn find(&self, probe: Probe<K>) -> Result<Place<Probe<K>>, KeyPanicked> {
        KeyTable::find(self, probe)
    }

    fn into_key(probe: Probe<K>) -> K {
        probe.into_key()
    }

    fn insert(&mut self, probe: Probe<K>, value: V) -> Slot {
        KeyTable::insert(self, probe, value)
    }

    #[inline]
    fn get_mut(&mut self, slot: Slot) -> Option<&mut V> {
        KeyTable::get_mut(self, slot)
    }

    fn key(&self, slot: Slot) -> Option<&K> {
        KeyTable::key(self, slot)
    }

    fn remove(&mut self, slot: Slot) -> Option<(K, V)> {
        KeyTable::remove(self, slot)
    }

    fn len(&self) -> usize {
        KeyTable::len(self)
    }

    fn is_large(&self) -> bool {
        KeyTable::is_large(self)
    }

    fn prefetch<T>(&self, prefetched: &mut Prefetched<Probe<K>>, key: impl Fn(&T) -> K, next: &[crate::Result<T>]) {
        KeyTable::prefetch(self, prefetched, key, next);
    }

    fn prefetch_entries(&self, slots: impl Iterator<Item = Slot>, look: impl Fn(&V)) {
        KeyTable::prefetch_entries(self, slots, look);
    }

    fn prefetch_removals(&self, slots: impl Iterator<Item = Slot>) {
        KeyTable::prefetch_removals(self, slots);
    }
}
