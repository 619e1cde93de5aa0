//! Items that are counted: each must be dropped once, none twice, none never.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::faults::panic_on_purpose;

/// Keeps the list of the items that are alive. Clones share it.
#[derive(Clone, Default)]
pub struct Census(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    born: u64,
    /// The value and the origin of each item that is alive, by its number.
    alive: BTreeMap<u64, (u64, u64)>,
    dropped_twice: Vec<u64>,
    /// The origins of items whose processing ended, as far as a test has told.
    accounted: BTreeSet<u64>,
    /// The origins of items that a store failed to write.
    lost: BTreeSet<u64>,
    /// Which items panic when they are dropped, by their number, and the one thread on which they do not.
    bombs: Option<Bombs>,
}

type Bombs = (fn(u64) -> bool, ThreadId);

/// An item with a value, and a place in the census.
pub struct Item {
    value: u64,
    origin: u64,
    number: u64,
    census: Census,
}

impl Census {
    /// A new item.
    pub fn item(&self, value: u64) -> Item {
        self.item_of(value, value)
    }

    /// A new item, whose descendants are known by a number of their own.
    pub fn item_of(&self, value: u64, origin: u64) -> Item {
        let mut state = self.state();
        let number = state.born;
        state.born += 1;
        state.alive.insert(number, (value, origin));
        drop(state);
        Item { value, origin, number, census: self.clone() }
    }

    /// The values of the items that are alive and were made of the one with that `origin`, which is the value that
    /// it had when it was new, unless another was given.
    pub fn descendants(&self, origin: u64) -> Vec<u64> {
        self.state().alive.values().filter(|(_, of)| *of == origin).map(|(value, _)| *value).collect()
    }

    /// The item was stored, or an error item that carries it was read.
    pub fn account(&self, item: &Item) {
        self.state().accounted.insert(item.origin);
    }

    pub fn is_accounted(&self, origin: u64) -> bool {
        self.state().accounted.contains(&origin)
    }

    /// The item will never be stored.
    pub fn lose(&self, item: &Item) {
        self.state().lost.insert(item.origin);
    }

    pub fn is_lost(&self, origin: u64) -> bool {
        self.state().lost.contains(&origin)
    }

    /// From now on items of which `are_bombs` is true, by their number, panic when they are dropped, on every thread but this
    /// one.
    pub fn arm(&self, are_bombs: fn(u64) -> bool) {
        self.state().bombs = Some((are_bombs, thread::current().id()));
    }

    /// Says what is wrong, if an item is still alive or was dropped twice.
    pub fn check(&self) -> Result<(), String> {
        let state = self.state();
        if !state.dropped_twice.is_empty() {
            return Err(format!("items dropped twice: {:?}", state.dropped_twice));
        }
        if !state.alive.is_empty() {
            let values: Vec<u64> = state.alive.values().map(|(value, _)| *value).collect();
            return Err(format!("{} of {} items never dropped, values {values:?}", values.len(), state.born));
        }
        Ok(())
    }

    // A panicking closure may unwind through the drop of an item; the list is whole all the same.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Item {
    pub fn value(&self) -> u64 {
        self.value
    }

    /// What tells it from all other items of the census, whatever their values.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The same item under another value.
    pub fn with_value(mut self, value: u64) -> Self {
        self.value = value;
        self.census.state().alive.insert(self.number, (value, self.origin));
        self
    }

    /// Tells the census that an error item that carries this one was read.
    pub fn account(&self) {
        self.census.account(self);
    }

    /// Another item of the same census.
    pub fn sibling(&self, value: u64) -> Self {
        self.census.item_of(value, self.origin)
    }
}

impl Clone for Item {
    fn clone(&self) -> Self {
        self.sibling(self.value)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        let mut state = self.census.state();
        if state.alive.remove(&self.number).is_none() {
            state.dropped_twice.push(self.value);
        }
        let explodes = state.bombs.is_some_and(|(are, spared)| are(self.number) && thread::current().id() != spared);
        drop(state);
        if explodes {
            panic_on_purpose();
        }
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item({})", self.value)
    }
}
