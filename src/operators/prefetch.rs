//! [`Prefetched`]: the keys of the items that come next.
//!
//! With many keys, most of the time of a stage is spent waiting for memory: an item needs the place of its key in the
//! index, and then the entry. A processor can wait for several at a time, but not across the hundreds of instructions
//! between two items. So once a table [is large](super::key_table::KeyTable::is_large), the stage announces the items
//! that it has at hand ([`Operator::prefetch`](crate::Operator::prefetch)): those of the open chunk of its input, or if it is
//! fused with a quick iterator, some that the iterator makes in advance. Their keys are computed and kept, and a loop
//! that does nothing else reads what their lookups need, so that it is in a cache when the items come. This is the group
//! prefetching of Chen, Ailamaki, Gibbons and Mowry ("Improving hash join performance through prefetching", ICDE 2004),
//! with reads instead of prefetch instructions.
//!
//! A stage that measures the latencies of its items announces none: each item then pays for its own key.
//!
//! # Invariants
//!
//! - A key is computed once for each item, in the order of the items, and is used for that item. An operator takes one
//!   key for each item that it receives, before anything else, whatever the outcome of the item. The stage announces items
//!   only when all that it has announced have been received ([`Ahead`](crate::stage::turn::Ahead)), so a group starts
//!   without any keys.
//! - Nothing here panics: the code of a key is guarded, and a panic in it becomes that of its item.

use std::collections::VecDeque;

use super::key_table::KeyPanicked;
use crate::error::Result;
use crate::panic::Held;

/// See the top of this file.
pub(super) struct Prefetched<P>(Held<VecDeque<Result<P, KeyPanicked>>>);

impl<P> Default for Prefetched<P> {
    fn default() -> Self {
        Self(Held::default())
    }
}

impl<P> Prefetched<P> {
    /// Adds the keys of the items that come next.
    pub(super) fn add<T>(&mut self, items: &[Result<T>], probe: impl FnMut(&T) -> Result<P, KeyPanicked>) {
        debug_assert!(self.0.is_empty(), "an item came without taking its key");
        self.0.extend(items.iter().flatten().map(probe));
    }

    /// The keys that are here.
    pub(super) fn probes(&self) -> impl Iterator<Item = &P> {
        self.0.iter().flatten()
    }

    /// Takes the key of the next item; computes it if it is not here.
    #[inline]
    pub(super) fn next(&mut self, probe: impl FnOnce() -> Result<P, KeyPanicked>) -> Result<P, KeyPanicked> {
        self.0.pop_front().unwrap_or_else(probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, StreamError};
    use crate::operators::key_table::KeyTable;

    #[test]
    fn the_keys_are_those_of_the_items_in_their_order() {
        let table = KeyTable::<u32, ()>::default();
        let mut prefetched = Prefetched::default();
        let next = [Ok(1), Err(StreamError::new(ErrorKind::Failed, "not an item")), Ok(2), Ok(3)];
        prefetched.add(&next, |n| if *n == 2 { table.probe_of(|_| panic!("key"), n) } else { table.probe(*n) });
        assert_eq!(prefetched.probes().map(|probe| *probe.key()).collect::<Vec<_>>(), [1, 3]);
        let mut next = |n: u32| {
            let found = prefetched.next(|| table.probe(n));
            found.map(|probe| probe.into_key()).map_err(|panicked| panicked.0.message().to_owned())
        };
        // That of 4 is not here.
        assert_eq!([next(1), next(2), next(3), next(4)], [Ok(1), Err("key".to_owned()), Ok(3), Ok(4)]);
    }
}
