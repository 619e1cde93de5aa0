//! [`Marks`]: marks that wait at an operator until everything before them has been settled. See `mark/mod.rs`.
//!
//! An operator that settles its items in the order in which it received them needs no help: the first `n` items have
//! been settled when `n` have been. One that does not, and holds items, takes its marks itself
//! ([`Operator::take_mark`]), or the marks wait until it holds nothing.

use std::collections::VecDeque;

use super::operator::{Emit, Operator};
use crate::error::StreamError;
use crate::mark::Reached;

/// For one operator that is neither fused nor plain: a plain one has settled everything when it returns.
#[derive(Default)]
pub(crate) struct Marks {
    /// The number of items that the operator had received when the mark came.
    waiting: VecDeque<(u64, StreamError)>,
    reached: Reached,
}

impl Marks {
    /// Adds a mark.
    #[cold]
    pub(crate) fn arrive<O: Operator, E: Emit<O::Out>>(&mut self, mark: StreamError, op: &mut O, out: &mut E) {
        let Some(mark) = op.take_mark(mark, out) else { return };
        mark.as_mark().into_iter().for_each(|mark| self.reached.receive(mark));
        out.sync();
        if op.held() == 0 {
            self.release_all(out);
            out.put_mark(mark);
        } else {
            self.waiting.push_back((out.stats().received.get(), mark));
            self.release(op, out);
        }
    }

    /// Whether the operator must be resumed after a call: it may have more to emit, or marks may be released.
    #[inline]
    pub(crate) fn need_resume<O: Operator>(&self, op: &O) -> bool {
        op.needs_resume() || !self.waiting.is_empty()
    }

    /// Forwards the marks whose items have been settled. Called after each call of the operator.
    #[inline]
    pub(crate) fn release<O: Operator, E: Emit<O::Out>>(&mut self, op: &O, out: &mut E) {
        if !self.waiting.is_empty() {
            self.release_settled(op, out);
        }
    }

    #[cold]
    fn release_settled<O: Operator, E: Emit<O::Out>>(&mut self, op: &O, out: &mut E) {
        let (received, held) = (out.stats().received.get(), op.held());
        if held > 0 && !op.settles_in_order() {
            return;
        }
        while self.waiting.front().is_some_and(|(before, _)| *before + held <= received) {
            self.release_first(out);
        }
    }

    /// Forwards all marks: the operator holds nothing more that it will emit.
    pub(crate) fn release_all<T, E: Emit<T>>(&mut self, out: &mut E) {
        while !self.waiting.is_empty() {
            self.release_first(out);
        }
    }

    /// What was emitted since it came may be made of items behind it.
    fn release_first<T, E: Emit<T>>(&mut self, out: &mut E) {
        if let Some((_, mark)) = self.waiting.pop_front() {
            out.put_mark(mark.extended(&mut self.reached));
        }
    }
}
