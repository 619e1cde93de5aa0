//! [`ErasedOperator`]: an operator whose type is known only at run time.
//!
//! # Invariants
//!
//! - From outside it is a composite: it guards the inner operator against panics, and keeps its timer and its marks, as
//!   a [`FusedOperator`](super::fuse::FusedOperator) does for its parts.
//! - Emitting an item takes one call through a vtable, however deep erased operators are nested: the output is erased
//!   once, and an erased output passes itself on.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::marks::Marks;
use super::operator::sealed::{Context, Note, Origins, Shape, Sink, Stats, Utterance};
use super::operator::{Emit, Operator, Shaped, Timer, give, guarded, resumed};
use crate::error::{Result, StreamError};

/// An operator of any type from `In` to `Out`.
#[allow(unnameable_types, reason = "users never name the operator of a stage")]
pub struct ErasedOperator<In, Out> {
    inner: Box<dyn Erased<In, Out>>,
    steps: usize,
    is_plain: bool,
    /// It must be resumed.
    pending: bool,
}

impl<In: Send + 'static, Out: Send + 'static> ErasedOperator<In, Out> {
    pub(crate) fn new(op: impl Operator<In = In, Out = Out>) -> Self {
        let (steps, is_plain) = (op.steps(), op.is_plain());
        Self {
            inner: Box::new(Part { op, timer: Timer::default(), marks: Marks::default() }),
            steps,
            is_plain,
            pending: true,
        }
    }
}

impl<In: Send + 'static, Out: Send + 'static> Operator for ErasedOperator<In, Out> {
    type In = In;
    type Out = Out;

    const SHAPE: Shape = Shape::COMPOSITE;

    fn steps(&self) -> usize {
        self.steps
    }

    fn is_plain(&self) -> bool {
        self.is_plain
    }

    #[inline]
    fn item(&mut self, item: In, out: &mut impl Emit<Out>) {
        self.pending = self.inner.give(Ok(item), out.erased());
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<Out>) {
        self.pending = self.inner.give(Err(error), out.erased());
    }

    fn timer(&mut self, now: Instant, out: &mut impl Emit<Out>) {
        self.pending = true;
        self.inner.timer(now, out.erased());
    }

    fn end(&mut self, out: &mut impl Emit<Out>) {
        self.pending = true;
        self.inner.end(out.erased());
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<Out>) -> bool {
        self.pending = self.pending && self.inner.resume(out.erased());
        self.pending
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        self.pending
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        if self.is_plain { None } else { self.inner.next_wake() }
    }

    #[inline]
    fn is_waiting(&self) -> bool {
        !self.is_plain && self.inner.is_waiting()
    }

    fn drain(&mut self, out: &mut impl Emit<Out>) {
        self.pending = true;
        self.inner.drain(out.erased());
    }

    fn attach(&mut self, origins: &Arc<Origins>) -> bool {
        self.inner.attach(origins)
    }

    fn publish(&mut self, stats: &Stats, last: usize, note: Option<Note<'_>>) {
        self.inner.publish(stats, last, note);
    }

    fn utter(&mut self, what: Utterance, out: &mut impl Emit<Out>) {
        self.inner.utter(what, out.erased());
    }

    fn discard(self) {
        self.inner.discard();
    }
}

impl<In, Out> fmt::Debug for ErasedOperator<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasedOperator").field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// The calls of an operator, with an output that may be a trait object.
trait Erased<In, Out>: Send {
    /// Returns whether it must be resumed.
    fn give(&mut self, item: Result<In>, out: &mut dyn Sink<Out>) -> bool;
    fn timer(&mut self, now: Instant, out: &mut dyn Sink<Out>);
    fn end(&mut self, out: &mut dyn Sink<Out>);
    fn resume(&mut self, out: &mut dyn Sink<Out>) -> bool;
    fn next_wake(&self) -> Option<Instant>;
    fn is_waiting(&self) -> bool;
    fn drain(&mut self, out: &mut dyn Sink<Out>);
    fn attach(&mut self, origins: &Arc<Origins>) -> bool;
    fn publish(&mut self, stats: &Stats, last: usize, note: Option<Note<'_>>);
    fn utter(&mut self, what: Utterance, out: &mut dyn Sink<Out>);
    fn discard(self: Box<Self>);
}

/// An operator with the state that its surroundings would keep for it if they knew its type.
struct Part<O> {
    op: O,
    timer: Timer,
    marks: Marks,
}

impl<O: Operator> Part<O> {
    fn call<'a>(&mut self, out: &'a mut dyn Sink<O::Out>, call: impl FnOnce(&mut O, &mut Output<'a, O::Out>)) {
        self.timer.reset();
        guarded(&mut self.op, &mut Output(out), call);
    }
}

impl<O: Operator> Erased<O::In, O::Out> for Part<O> {
    #[inline]
    fn give(&mut self, item: Result<O::In>, out: &mut dyn Sink<O::Out>) -> bool {
        match item {
            Err(mark) if !O::COMPOSITE && !O::PLAIN && mark.is_mark() => {
                self.marks.arrive(mark, &mut self.op, &mut Output(out));
                true
            }
            item => {
                self.call(out, |op, out| give(op, item, out));
                self.marks.need_resume(&self.op)
            }
        }
    }

    fn timer(&mut self, now: Instant, out: &mut dyn Sink<O::Out>) {
        self.timer.fire(&mut self.op, now, &mut Output(out));
    }

    fn end(&mut self, out: &mut dyn Sink<O::Out>) {
        self.call(out, O::end);
    }

    #[inline]
    fn resume(&mut self, out: &mut dyn Sink<O::Out>) -> bool {
        let out = &mut Output(out);
        let more = resumed(&mut self.op, out);
        if !more {
            self.marks.release(&self.op, out);
        }
        more
    }

    fn next_wake(&self) -> Option<Instant> {
        self.timer.next_wake(&self.op)
    }

    fn is_waiting(&self) -> bool {
        self.timer.is_waited_for(&self.op)
    }

    fn drain(&mut self, out: &mut dyn Sink<O::Out>) {
        self.call(out, O::drain);
    }

    fn attach(&mut self, origins: &Arc<Origins>) -> bool {
        self.op.attach(origins)
    }

    fn publish(&mut self, stats: &Stats, last: usize, note: Option<Note<'_>>) {
        self.op.publish(stats, last, note);
    }

    fn utter(&mut self, what: Utterance, out: &mut dyn Sink<O::Out>) {
        let is_end = matches!(what, Utterance::Unsettled);
        let out = &mut Output(out);
        self.op.utter(what, out);
        if is_end {
            self.marks.release_all(out);
        }
    }

    fn discard(self: Box<Self>) {
        self.op.discard();
    }
}

/// An output of any type.
struct Output<'a, T>(&'a mut dyn Sink<T>);

impl<T> Sink<T> for Output<'_, T> {
    fn erased(&mut self) -> &mut dyn Sink<T> {
        &mut *self.0
    }

    #[inline]
    fn put(&mut self, item: Result<T>) {
        self.0.put(item);
    }

    fn put_mark(&mut self, mark: StreamError) {
        self.0.put_mark(mark);
    }

    #[inline]
    fn full(&mut self) -> bool {
        self.0.full()
    }

    fn close(&mut self) {
        self.0.close();
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    #[inline]
    fn step(&self) -> usize {
        self.0.step()
    }

    #[inline]
    fn context(&self) -> &Context {
        self.0.context()
    }

    #[inline]
    fn mark(&mut self, step: usize, is_item: bool) {
        self.0.mark(step, is_item);
    }

    fn marked(&self) -> (usize, bool) {
        self.0.marked()
    }

    #[inline]
    fn correct(&mut self, delivered: u64) {
        self.0.correct(delivered);
    }

    fn sync(&mut self) {
        self.0.sync();
    }
}
