//! [`Slots`]: the runs that the workers of a pool have taken, where other workers can access them.
//!
//! A worker takes a run of items and processes them one by one. Unstarted items are in its slot, and so are finished
//! ones that have not been emitted: so neither wait for a slow call, as long as another worker is free to take them.
//!
//! # Invariants
//!
//! 1. An item is in one place: in the input, in a slot, or in the hands of one worker.
//! 2. Each slot has its own lock. No thread holds two, and a thread that holds one takes no other lock (the order of
//!    all locks is in `workers.rs`). A slot is filled under the input lock, or before a check under that lock of which
//!    workers are idle; so a worker that sees under that lock that all slots are empty and registers as idle will be
//!    seen by any worker that fills one.
//! 3. An item is counted as taken before another worker can have it: otherwise it could be completed first, and a mark
//!    that is completed then would not know how many items before it are missing.
//! 4. No user value is dropped and no user code called under a lock.

use std::collections::VecDeque;

use crossbeam_utils::CachePadded;

use super::lanes::Lane;
use super::reorder::Span;
use crate::sync::Mutex;

/// An item or a result with its sequence number. Results with consecutive numbers may be put together, under the first of them.
pub(super) type Numbered<T> = (u64, T);

/// A result, or those of several consecutive numbers.
pub(super) trait Joint: Span {
    /// A single one. Small, so that it passes through registers.
    type One;

    /// Begins with `one`, which up to `more` may join.
    fn begin(one: Self::One, more: usize) -> Self;

    /// Absorbs the one with the next number, or returns it.
    fn join(&mut self, one: Self::One) -> Result<(), Self::One>;
}

pub(super) struct Slots<In, Out>(Box<[Shared<In, Out>]>);

type Shared<In, Out> = CachePadded<Mutex<Slot<In, Out>>>;

struct Slot<In, Out> {
    todo: VecDeque<Numbered<In>>,
    /// The number of the worker's current item.
    at_work: Option<u64>,
    done: Vec<Numbered<Out>>,
    /// The lanes of finished items that have not been passed to the next item, if the pool is keyed.
    left: Vec<Lane>,
}

impl<In, Out: Joint> Slots<In, Out> {
    pub(super) fn new(workers: usize) -> Self {
        let slot = || {
            CachePadded::new(Mutex::new(Slot {
                todo: VecDeque::new(),
                at_work: None,
                done: Vec::new(),
                left: Vec::new(),
            }))
        };
        Self((0..workers).map(|_| slot()).collect())
    }

    /// Puts a run into the worker's own slot, which is empty. The items have consecutive numbers, and have been counted.
    pub(super) fn fill(&self, own: usize, first: u64, items: impl Iterator<Item = In>) {
        self.0[own].lock().todo.extend((first..).zip(items));
    }

    /// Puts items into the worker's own slot, which is empty, in ascending order, and takes the first one.
    pub(super) fn put(&self, own: usize, items: &mut VecDeque<Numbered<In>>) -> Option<Numbered<In>> {
        let mut slot = self.0[own].lock();
        slot.todo.append(items);
        slot.next()
    }

    /// Takes the next item from the worker's own slot.
    pub(super) fn next(&self, own: usize) -> Option<Numbered<In>> {
        self.0[own].lock().next()
    }

    /// The same, and leaves the result and the lane of the previous item there.
    ///
    /// `next` is written in place. A return value would be copied right after it was written, with wider loads than the stores
    /// before. Such loads cannot be forwarded from the stores, and the processor stalls. It must be empty: nothing is dropped
    /// under the lock.
    #[inline(always)]
    pub(super) fn swap(
        &self,
        own: usize,
        done: Numbered<Out::One>,
        lane: Option<Lane>,
        next: &mut Option<Numbered<In>>,
    ) {
        debug_assert!(next.is_none());
        let mut slot = self.0[own].lock();
        slot.finish(done);
        slot.left.extend(lane);
        *next = slot.next();
    }

    /// As [`swap`](Self::swap), for a result that stays by itself.
    pub(super) fn swap_apart(&self, own: usize, done: Numbered<Out>, next: &mut Option<Numbered<In>>) {
        debug_assert!(next.is_none());
        let mut slot = self.0[own].lock();
        slot.done.push(done);
        *next = slot.next();
    }

    /// Takes an item that another worker has not started, and returns whether there is another such item, in any slot.
    pub(super) fn steal(&self, own: usize) -> Option<(Numbered<In>, bool)> {
        let mut others = (own + 1..self.0.len()).chain(0..own);
        let (item, more) = others.find_map(|other| {
            let mut slot = self.0[other].lock();
            let item = slot.todo.pop_front()?;
            Some((item, !slot.todo.is_empty()))
        })?;
        let more = more || others.any(|other| !self.0[other].lock().todo.is_empty());
        // After the other slot's lock is released: never two at a time. In between, only this worker has the item.
        self.0[own].lock().at_work = Some(item.0);
        Some((item, more))
    }

    /// The number of a worker's current item.
    pub(super) fn at_work(&self, worker: usize) -> Option<u64> {
        self.0[worker].lock().at_work
    }

    /// Takes the finished items of one slot, and their lanes.
    pub(super) fn take_done(&self, slot: usize, done: &mut Vec<Numbered<Out>>, left: &mut Vec<Lane>) {
        let mut slot = self.0[slot].lock();
        if done.is_empty() {
            std::mem::swap(done, &mut slot.done);
        } else {
            done.append(&mut slot.done);
        }
        left.append(&mut slot.left);
    }

    /// Whether no slot holds anything.
    pub(super) fn are_empty(&self) -> bool {
        self.0.iter().all(|slot| {
            let slot = slot.lock();
            slot.todo.is_empty() && slot.done.is_empty()
        })
    }

    /// Takes everything that is left, for a stopping pool.
    pub(super) fn clear(&self) -> (Vec<Numbered<In>>, Vec<Numbered<Out>>) {
        let (mut todo, mut done) = (Vec::new(), Vec::new());
        for slot in &self.0 {
            let mut slot = slot.lock();
            todo.extend(slot.todo.drain(..));
            done.append(&mut slot.done);
        }
        (todo, done)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<In, Out: Joint> Slot<In, Out> {
    #[inline(always)]
    fn finish(&mut self, (number, one): Numbered<Out::One>) {
        match self.done.last_mut() {
            Some((first, last)) if *first + last.span() == number => {
                if let Err(one) = last.join(one) {
                    self.add(number, one);
                }
            }
            _ => self.add(number, one),
        }
    }

    /// Not inlined: most results join the one before.
    #[inline(never)]
    fn add(&mut self, number: u64, one: Out::One) {
        // Only what has the next number can join it.
        let follows = self.todo.front().is_some_and(|(next, _)| *next == number + 1);
        self.done.push((number, Out::begin(one, if follows { self.todo.len() } else { 0 })));
    }

    #[inline(always)]
    fn next(&mut self) -> Option<Numbered<In>> {
        let next = self.todo.pop_front();
        self.at_work = next.as_ref().map(|&(number, _)| number);
        next
    }
}
