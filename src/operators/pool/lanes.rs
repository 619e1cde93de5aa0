//! [`Lanes`]: which items may start, if the items of one key must be processed one at a time and in order.
//!
//! Each key has a lane. An item whose lane is free occupies it and may start at once; others wait in it. The worker that
//! emits the result of an item gives its lane to the next item in it: see invariant 8 of `workers.rs`.
//!
//! # Invariants
//!
//! 1. Items enter their lanes in the order of their numbers, whichever worker found their keys first. An item whose
//!    predecessor has not arrived waits for it; the worker that brings that one takes both along.
//! 2. A lane is in the table if and only if one of its items may start, is being processed, or has been dropped by a
//!    stopping pool. The items waiting in it are in ascending order. So the table has at most as many lanes as the
//!    window has items.
//! 3. The lock is a leaf (see the order in `workers.rs`): while it is held, nothing else is locked, no user value
//!    dropped and no user code called.
//!
//! Keys are identified by a hash of 64 bits. Two keys with the same hash share a lane: their items wait for each other.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::num::NonZeroU64;

use super::reorder::{Reorder, Span};
use super::slots::Numbered;
use crate::operators::key_table::AsItIs;
use crate::sync::Mutex;

/// The name of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lane(NonZeroU64);

impl Lane {
    pub(super) fn of(hash: u64) -> Self {
        // All other bits stay as they are: the table finds its bucket by the low ones, and its tag by the high ones.
        Self(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN))
    }
}

pub(super) struct Lanes<T>(Mutex<State<T>>);

struct State<T> {
    /// The number of the next item to enter its lane.
    entered: u64,
    arriving: Reorder<Run<T>>,
    busy: HashMap<Lane, Waiting<T>, BuildHasherDefault<AsItIs>>,
}

/// The items that wait in a lane. Usually there are none. Boxed, because all workers write to the table, and small entries
/// occupy fewer cache lines.
type Waiting<T> = Option<Box<VecDeque<Numbered<T>>>>;

/// Items with consecutive numbers, and their lanes.
pub(super) struct Run<T> {
    pub(super) lanes: Vec<Option<Lane>>,
    pub(super) items: Vec<Numbered<T>>,
}

impl<T> Span for Run<T> {
    fn span(&self) -> u64 {
        self.items.len() as u64
    }
}

impl<T> Lanes<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { entered: 0, arriving: Reorder::new(true), busy: HashMap::default() }))
    }

    /// Takes in a run of items whose lanes have been found, and adds to `ready` those that may start now, in ascending
    /// order. Those without a lane may start when their turn has come.
    pub(super) fn arrive(&self, first: u64, run: Run<T>, ready: &mut VecDeque<Numbered<T>>) {
        let state = &mut *self.0.lock();
        let mut next = (first, run);
        if !state.arriving.let_pass(std::slice::from_ref(&next)) {
            state.arriving.insert(first, next.1);
            let Some(run) = state.arriving.pop() else { return };
            next = (state.entered, run);
        }
        loop {
            let Run { mut lanes, mut items } = next.1;
            state.entered = next.0 + items.len() as u64;
            for lane in &mut lanes {
                if let Some(Entry::Vacant(free)) = lane.map(|lane| state.busy.entry(lane)) {
                    free.insert(None);
                    *lane = None;
                }
            }
            // The remaining lanes had been occupied. Only their items are moved one by one.
            let mut must_wait = lanes.iter().map(Option::is_some);
            let waiting = items.extract_if(.., |_| must_wait.next() == Some(true));
            for (lane, item) in lanes.iter().flatten().zip(waiting) {
                state.busy.entry(*lane).or_default().get_or_insert_default().push_back(item);
            }
            ready.extend(items);
            let Some(run) = state.arriving.pop() else { return };
            next = (state.entered, run);
        }
    }

    /// In each of these lanes an item is finished. Adds the next item of each lane, which may start now, to `ready`, in
    /// ascending order. Leaves `lanes` empty.
    pub(super) fn leave(&self, lanes: &mut Vec<Lane>, ready: &mut VecDeque<Numbered<T>>) {
        let state = &mut *self.0.lock();
        for lane in lanes.drain(..) {
            if let Entry::Occupied(mut waiting) = state.busy.entry(lane) {
                match waiting.get_mut().as_mut().and_then(|waiting| waiting.pop_front()) {
                    Some(next) => ready.push_back(next),
                    None => _ = waiting.remove(),
                }
            }
        }
        if ready.len() > 1 {
            ready.make_contiguous().sort_unstable_by_key(|(number, _)| *number);
        }
    }

    /// Takes everything that is left, for a stopping pool.
    pub(super) fn clear(&self) -> Vec<T> {
        let mut state = self.0.lock();
        let arriving = std::mem::replace(&mut state.arriving, Reorder::new(true));
        let busy = std::mem::take(&mut state.busy);
        drop(state);
        let waiting = busy.into_values().flatten().flat_map(|waiting| *waiting).map(|(_, item)| item);
        waiting.chain(arriving.into_all().flat_map(|run| run.items).map(|(_, item)| item)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(lanes: &Lanes<char>, items: &[(u64, u64, char)]) -> Vec<char> {
        let mut ready = VecDeque::new();
        let lane = |lane: u64| (lane > 0).then(|| Lane::of(lane));
        let run = items.iter().map(|&(number, key, item)| (lane(key), (number, item)));
        let (keys, items_of) = run.unzip();
        lanes.arrive(items[0].0, Run { lanes: keys, items: items_of }, &mut ready);
        ready.into_iter().map(|(_, item)| item).collect()
    }

    fn leave(lanes: &Lanes<char>, key: u64) -> Option<char> {
        let mut ready = VecDeque::new();
        lanes.leave(&mut vec![Lane::of(key)], &mut ready);
        ready.pop_front().map(|(_, item)| item)
    }

    #[test]
    fn one_of_each_lane_may_be_begun_and_the_next_when_it_is_done() {
        let lanes = Lanes::new();
        assert_eq!(arrive(&lanes, &[(0, 1, 'a'), (1, 2, 'b'), (2, 1, 'c'), (3, 1, 'd')]), ['a', 'b']);
        assert_eq!(leave(&lanes, 1), Some('c'));
        assert_eq!(arrive(&lanes, &[(4, 1, 'e'), (5, 3, 'f')]), ['f']);
        assert_eq!((leave(&lanes, 1), leave(&lanes, 1), leave(&lanes, 1)), (Some('d'), Some('e'), None));
        assert_eq!(arrive(&lanes, &[(6, 1, 'g')]), ['g']);
    }

    #[test]
    fn items_enter_their_lanes_in_the_order_of_their_numbers() {
        let lanes = Lanes::new();
        assert_eq!(arrive(&lanes, &[(2, 1, 'c'), (3, 2, 'd')]), []);
        assert_eq!(arrive(&lanes, &[(0, 1, 'a')]), ['a']);
        assert_eq!(arrive(&lanes, &[(1, 0, 'b')]), ['b', 'd']);
        assert_eq!(leave(&lanes, 1), Some('c'));
    }

    #[test]
    fn the_next_of_several_lanes_come_in_ascending_order() {
        let lanes = Lanes::new();
        arrive(&lanes, &[(0, 1, 'a'), (1, 2, 'b'), (2, 3, 'c'), (3, 2, 'd'), (4, 1, 'e')]);
        let (mut left, mut ready) = ([1, 2, 3].map(Lane::of).to_vec(), VecDeque::new());
        lanes.leave(&mut left, &mut ready);
        assert_eq!(ready, [(3, 'd'), (4, 'e')]);
        assert!(left.is_empty());
    }

    #[test]
    fn hashes_that_differ_in_one_bit_have_lanes_of_their_own() {
        let hashes = || (0..64).map(|bit| (1 << 40 | 1 << 20) ^ (1 << bit));
        let lanes: std::collections::HashSet<Lane> = hashes().chain([1 << 40 | 1 << 20]).map(Lane::of).collect();
        assert_eq!(lanes.len(), 65);
    }

    #[test]
    fn the_rest_can_be_taken_out() {
        let lanes = Lanes::new();
        arrive(&lanes, &[(0, 1, 'a'), (1, 1, 'b'), (3, 1, 'd')]);
        let mut left = lanes.clear();
        left.sort_unstable();
        assert_eq!(left, ['b', 'd']);
    }
}
