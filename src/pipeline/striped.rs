//! [`Striped`]: a counter that many threads write.

use std::array;
use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

/// Threads beyond this number share a part with another one.
const PARTS: usize = 8;

/// Each thread adds to a part of its own, so that threads which count at the same time do not take a cache line away from
/// one another. The parts exist once something has been counted. A part never decreases, so neither does the sum.
#[derive(Default)]
pub(crate) struct Striped(OnceLock<Box<[CachePadded<AtomicU64>; PARTS]>>);

impl Striped {
    pub(crate) fn add(&self, n: u64) {
        let parts = self.0.get_or_init(|| Box::new(array::from_fn(|_| CachePadded::default())));
        parts[own_part()].fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get().map_or(0, |parts| parts.iter().map(|part| part.load(Ordering::Relaxed)).sum())
    }
}

impl fmt::Debug for Striped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// The part of the calling thread. Threads take them in turn, in the order of their first calls.
fn own_part() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.get().unwrap_or_else(|| {
        let part = NEXT.fetch_add(1, Ordering::Relaxed) % PARTS;
        OWN.set(Some(part));
        part
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nothing_is_lost_however_many_threads_count() {
        let counter = Striped::default();
        assert_eq!(counter.get(), 0);
        thread::scope(|scope| {
            for _ in 0..2 * PARTS + 1 {
                scope.spawn(|| (0..1_000).for_each(|_| counter.add(2)));
            }
        });
        assert_eq!(counter.get(), (2 * PARTS as u64 + 1) * 2_000);
    }

    #[test]
    fn threads_that_start_in_turn_have_parts_of_their_own() {
        let part = || thread::spawn(own_part).join().unwrap();
        // Other tests start threads, too.
        assert!((0..100).any(|_| part() != part()));
        assert_eq!(own_part(), own_part());
    }
}
