//! [`Pieces`]: the open windows of one key, in the order of time.

use std::collections::VecDeque;

use super::packed::Packed;
use super::time::Nanos;
use crate::operators::epochs::Epoch;
use crate::panic::Held;

const FEW: usize = 4;

/// A period of time and the state of its items.
pub(super) struct Piece<P> {
    start: Packed,
    end: Packed,
    pub(super) count: u64,
    /// Of its first item.
    pub(super) epoch: Epoch,
    pub(super) pane: P,
}

impl<P> Piece<P> {
    /// A piece with one item.
    pub(super) fn new(start: Nanos, end: Nanos, epoch: &Epoch, pane: P) -> Self {
        Self { start: start.into(), end: end.into(), count: 1, epoch: epoch.clone(), pane }
    }

    #[inline]
    pub(super) fn start(&self) -> Nanos {
        self.start.into()
    }

    /// Its meaning depends on the shape.
    #[inline]
    pub(super) fn end(&self) -> Nanos {
        self.end.into()
    }

    #[inline]
    pub(super) fn covers(&self, time: Nanos) -> bool {
        (self.start()..self.end()).contains(&time)
    }

    #[inline]
    pub(super) fn stretch(&mut self, start: Nanos, end: Nanos) {
        (self.start, self.end) = (start.into(), end.into());
    }
}

/// Pieces in the order of their starts.
///
/// Usually there is only one, or the last one is needed: it is stored in place, so that a key with one open window
/// costs no allocation and no indirection.
pub(super) struct Pieces<P> {
    before: Held<VecDeque<Piece<P>>>,
    last: Held<Option<Piece<P>>>,
}

impl<P> Default for Pieces<P> {
    fn default() -> Self {
        Self { before: Held::default(), last: Held::default() }
    }
}

impl<P> Pieces<P> {
    pub(super) fn len(&self) -> usize {
        self.before.len() + usize::from(self.last.is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    #[inline]
    pub(super) fn last_mut(&mut self) -> Option<&mut Piece<P>> {
        self.last.as_mut()
    }

    pub(super) fn first(&self) -> Option<&Piece<P>> {
        self.before.front().or(self.last.as_ref())
    }

    pub(super) fn get(&self, index: usize) -> Option<&Piece<P>> {
        if index == self.before.len() { self.last.as_ref() } else { self.before.get(index) }
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Piece<P>> {
        if index == self.before.len() { self.last.as_mut() } else { self.before.get_mut(index) }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Piece<P>> {
        self.before.iter().chain(self.last.iter())
    }

    /// The number of pieces, from the front, for which `is_before` returns true. It must return false for all pieces
    /// after them.
    pub(super) fn count_before(&self, is_before: impl Fn(&Piece<P>) -> bool) -> usize {
        match &*self.last {
            Some(last) if is_before(last) => self.len(),
            _ => self.before.partition_point(is_before),
        }
    }

    pub(super) fn insert(&mut self, index: usize, piece: Piece<P>) {
        if index == self.len() {
            let Some(before) = self.last.replace(piece) else { return };
            self.make_room();
            self.before.push_back(before);
        } else {
            self.make_room();
            self.before.insert(index, piece);
        }
    }

    /// For a few pieces exactly: with a million keys, room for more costs much.
    fn make_room(&mut self) {
        if self.before.len() < FEW {
            self.before.reserve_exact(1);
        }
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Piece<P>> {
        if index < self.before.len() {
            return self.before.remove(index);
        }
        let next = self.before.pop_back();
        std::mem::replace(&mut *self.last, next)
    }
}
