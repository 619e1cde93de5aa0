//! [`Keying`]: which windows an item goes to, if there are several for each stretch of time.

use std::collections::HashMap;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

/// A window of the items that have the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keyed<K, W> {
    /// What the items have in common.
    pub key: K,
    /// Their window.
    pub window: W,
}

/// Whether windows are kept for each key apart. Not for users.
pub trait Keying<T>: Clone + Send + Sync + 'static {
    #[doc(hidden)]
    type Key: Clone + Send + 'static;
    #[doc(hidden)]
    type Table<V: Send + 'static>: Table<Self::Key, V>;
    /// What is sent on.
    type Labelled<W: Send + 'static>: Send + 'static;

    #[doc(hidden)]
    fn key(&self, item: &T) -> Self::Key;

    #[doc(hidden)]
    fn label<W: Send + 'static>(key: &Self::Key, window: W) -> Self::Labelled<W>;
}

/// A map, or what is left of it if there is but one key.
pub trait Table<K, V>: Default + Send + 'static {
    #[doc(hidden)]
    fn get_mut(&mut self, key: &K) -> Option<&mut V>;
    #[doc(hidden)]
    fn insert(&mut self, key: K, value: V);
    #[doc(hidden)]
    fn remove(&mut self, key: &K) -> Option<V>;
    #[doc(hidden)]
    fn clear(&mut self);
    #[doc(hidden)]
    fn len(&self) -> usize;
}

/// One window for each stretch of time.
#[derive(Debug, Clone, Copy)]
pub struct NoKey;

impl<T> Keying<T> for NoKey {
    type Key = ();
    type Table<V: Send + 'static> = Option<V>;
    type Labelled<W: Send + 'static> = W;

    #[inline]
    fn key(&self, _item: &T) {}

    fn label<W: Send + 'static>(_key: &(), window: W) -> W {
        window
    }
}

impl<V: Send + 'static> Table<(), V> for Option<V> {
    #[inline]
    fn get_mut(&mut self, _key: &()) -> Option<&mut V> {
        self.as_mut()
    }

    fn insert(&mut self, _key: (), value: V) {
        *self = Some(value);
    }

    fn remove(&mut self, _key: &()) -> Option<V> {
        self.take()
    }

    fn clear(&mut self) {
        *self = None;
    }

    fn len(&self) -> usize {
        usize::from(self.is_some())
    }
}

/// A window for each key and stretch of time.
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
    type Key = K;
    type Table<V: Send + 'static> = HashMap<K, V>;
    type Labelled<W: Send + 'static> = Keyed<K, W>;

    #[inline]
    fn key(&self, item: &T) -> K {
        (self.key)(item)
    }

    fn label<W: Send + 'static>(key: &K, window: W) -> Keyed<K, W> {
        Keyed { key: key.clone(), window }
    }
}

impl<K: Eq + Hash + Send + 'static, V: Send + 'static> Table<K, V> for HashMap<K, V> {
    #[inline]
    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        HashMap::get_mut(self, key)
    }

    fn insert(&mut self, key: K, value: V) {
        HashMap::insert(self, key, value);
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        HashMap::remove(self, key)
    }

    fn clear(&mut self) {
        HashMap::clear(self);
    }

    fn len(&self) -> usize {
        HashMap::len(self)
    }
}
