//! The reader: runs the last steps of a stream on the thread that takes their output.
//!
//! It is a driver without an output edge: it makes a [turn](super::turn) when it is asked for the next item and has
//! none left. The last step is the sink itself, which only forwards; its output counts as delivered.
//!
//! The caller processes an item outside any guard: a panic there is the caller's. Where its closure is called from
//! within a guard, to run it and a plain operator in one loop, the panic is resumed.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use super::burst::{AT_THE_FEED, Burst, InHand};
use super::input::Feed;
use super::operator::sealed::{Context, Sink};
use super::operator::{Operator, Shaped, give_item, panicked};
use super::thread::{StageThread, is_alarmed};
use super::turn::{Next, Turns};
use crate::clock::wait::BeforePark;
use crate::edge::{End, Polled};
use crate::error::{Result, StreamError};
use crate::panic::{self, Guarded, Held};
use crate::pipeline::recording::Stopwatch;

/// A reader on the thread that runs it to its end: when user code waits there, in its steps or between two items, the
/// room has been announced.
pub(crate) struct Running<O: Operator, F: Feed<Item = O::In>> {
    reader: Reader<O, F>,
    /// Dropped after the reader.
    _hook: BeforePark,
}

impl<O: Operator, F: Feed<Item = O::In>> Running<O, F> {
    pub(crate) fn new(reader: Reader<O, F>) -> Self {
        let announce = reader.feed.announcer();
        Self { reader, _hook: BeforePark::new(announce) }
    }
}

impl<O: Operator, F: Feed<Item = O::In>> Deref for Running<O, F> {
    type Target = Reader<O, F>;

    #[inline]
    fn deref(&self) -> &Reader<O, F> {
        &self.reader
    }
}

impl<O: Operator, F: Feed<Item = O::In>> DerefMut for Running<O, F> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Reader<O, F> {
        &mut self.reader
    }
}

/// As in the driver: how often an operator may ask in one call whether there is room.
const QUOTA: u32 = 1024;

/// The number of items between two updates of the counters.
const TURNS: u32 = 256;

pub(crate) struct Reader<O: Operator, F: Feed<Item = O::In>> {
    turns: Turns<O>,
    /// Guarded, because a panic of the caller may unwind through the reader.
    feed: Guarded<F>,
    thread: StageThread,
    out: Outbox<O::Out>,
    /// Items received since the counters were last updated.
    received: u64,
    tally: Tally,
    /// The number of items of the tally that the counters include.
    published: u64,
    stopwatch: Stopwatch,
}

/// The items that passed through a sink that read its stream to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tally {
    /// The number of items.
    pub items: u64,
    /// The number of error items.
    pub errors: u64,
}

/// The operator's output that has not been taken yet.
struct Outbox<T> {
    /// If this is empty, so is `more`.
    next: Held<Option<Result<T>>>,
    /// Anything it emitted beyond one item in one call.
    more: Held<VecDeque<Result<T>>>,
    context: Context,
    last_step: usize,
    quota: u32,
    closed: bool,
    marked: (usize, bool),
}

/// Set in place of a step: a panic belongs to the caller.
const AT_THE_CALLER: usize = usize::MAX;

/// Leads to the caller's closure for a plain operator, whose last act in a call is to emit.
///
/// Everything that changes with each item is stored here during a burst, where the compiler can keep it in registers,
/// and is written back when the burst ends, even by a panic.
struct Direct<'a, T, A, F> {
    f: &'a mut F,
    state: Option<A>,
    tally: Tally,
    /// The number of items given to the operator, which also counts the turns.
    given: u32,
    marked: (usize, bool),
    home: (&'a mut Option<A>, &'a mut Tally, &'a mut u64, &'a mut Outbox<T>),
}

impl<T, A, F> Drop for Direct<'_, T, A, F> {
    #[inline]
    fn drop(&mut self) {
        let (state, tally, received, out) = &mut self.home;
        **state = self.state.take();
        **tally = self.tally;
        **received += u64::from(self.given);
        out.marked = self.marked;
    }
}

impl<T, A, F: FnMut(A, Result<T>) -> Option<A>> Sink<T> for Direct<'_, T, A, F> {
    fn erased(&mut self) -> &mut dyn Sink<T> {
        self
    }

    #[inline(always)]
    fn put(&mut self, item: Result<T>) {
        // Both before the call: an item has been delivered even if the caller panics over it, and `burst` then knows
        // whose panic it is.
        count_delivered(&mut self.tally, &item);
        self.marked.0 = AT_THE_CALLER;
        if let Some(state) = self.state.take() {
            self.state = (self.f)(state, item);
        }
    }

    /// The caller has received everything before it.
    fn put_mark(&mut self, mark: StreamError) {
        self.context().note_mark(&mark);
        mark.complete_mark();
    }

    fn full(&mut self) -> bool {
        false
    }

    fn close(&mut self) {}

    fn is_closed(&self) -> bool {
        false
    }

    #[inline]
    fn step(&self) -> usize {
        self.home.3.step()
    }

    #[inline]
    fn context(&self) -> &Context {
        self.home.3.context()
    }

    #[inline]
    fn mark(&mut self, step: usize, is_item: bool) {
        self.marked = (step, is_item);
    }

    fn marked(&self) -> (usize, bool) {
        self.marked
    }

    fn correct(&mut self, _delivered: u64) {}

    fn sync(&mut self) {}
}

#[inline]
fn count_delivered<T>(tally: &mut Tally, item: &Result<T>) {
    match item {
        Ok(_) => tally.items += 1,
        Err(_) => tally.errors += 1,
    }
}

impl<T> Outbox<T> {
    #[inline]
    fn take(&mut self) -> Option<Result<T>> {
        // Most calls of a window or a filter emit nothing, and the type may be large.
        if self.next.is_none() { None } else { self.take_next() }
    }

    fn take_next(&mut self) -> Option<Result<T>> {
        loop {
            let next = self.next.take();
            if !self.more.is_empty() {
                *self.next = self.more.pop_front();
            }
            match next {
                // A caller that asks for the next entry after a mark has processed everything before it.
                Some(Err(mark)) if mark.is_mark() => {
                    self.context.note_mark(&mark);
                    mark.complete_mark();
                }
                next => return next,
            }
        }
    }
}

impl<T> Sink<T> for Outbox<T> {
    fn erased(&mut self) -> &mut dyn Sink<T> {
        self
    }

    #[inline(always)]
    fn put(&mut self, item: Result<T>) {
        if self.next.is_none() {
            *self.next = Some(item);
        } else {
            self.more.push_back(item);
        }
    }

    fn put_mark(&mut self, mark: StreamError) {
        self.put(Err(mark));
    }

    fn full(&mut self) -> bool {
        self.quota = self.quota.saturating_sub(1);
        self.quota == 0 || self.closed || self.next.is_some()
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    #[inline]
    fn step(&self) -> usize {
        self.last_step
    }

    #[inline]
    fn context(&self) -> &Context {
        &self.context
    }

    #[inline]
    fn mark(&mut self, step: usize, is_item: bool) {
        self.marked = (step, is_item);
    }

    fn marked(&self) -> (usize, bool) {
        self.marked
    }

    // The sink delivers one by one, when an item is taken.
    fn correct(&mut self, _delivered: u64) {}

    fn sync(&mut self) {}
}

impl<O: Operator, F: Feed<Item = O::In>> Reader<O, F> {
    pub(crate) fn new(op: O, feed: F, context: Context, thread: StageThread) -> Self {
        let last_step = context.stats.steps.len() - 1;
        let out = Outbox {
            next: Held::default(),
            more: Held::default(),
            context,
            last_step,
            quota: QUOTA,
            closed: false,
            marked: (0, false),
        };
        let stopwatch = thread.stopwatch();
        Self {
            turns: Turns::new(op).measured(stopwatch.is_on()),
            feed: Guarded::new(feed, F::discard),
            thread,
            out,
            received: 0,
            tally: Tally::default(),
            published: 0,
            stopwatch,
        }
    }

    pub(crate) fn thread(&self) -> &StageThread {
        &self.thread
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Returns the next item; waits for it.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Result<O::Out>, End> {
        loop {
            if !O::PLAIN && self.thread.is_stopped() {
                return Err(End::Cut(self.thread.cut()));
            }
            if let Some(item) = self.out.take() {
                return Ok(self.delivered(item));
            }
            if self.thread.is_stopped() {
                return Err(End::Cut(self.thread.cut()));
            }
            if self.received >= u64::from(TURNS) {
                self.publish();
            }
            if !O::PLAIN {
                self.out.quota = QUOTA;
                let thread = &self.thread;
                match self.turns.next(&mut self.out, || thread.is_alarmed() && thread.token.is_draining()) {
                    Next::Called | Next::More => continue,
                    Next::Asleep(until) => {
                        self.wait_for_time(until);
                        continue;
                    }
                    Next::Input => {}
                    Next::Over => return Err(End::Finished),
                }
            }
            self.turns.look_ahead(&mut *self.feed);
            if let Some(item) = self.feed.take_at_hand() {
                self.receive(item);
                continue;
            }
            match self.poll() {
                Polled::Item(item) => self.receive(item),
                Polled::Empty => self.wait(),
                Polled::Ended(End::Finished) if !self.turns.is_told_of_end() => self.turns.end(&mut self.out),
                Polled::Ended(end) => return Err(end),
            }
        }
    }

    /// Calls `f` with one item after another, and the state that it returned for the one before. Returns when the
    /// stream ends, with the last result of `f`; or when `f` returns `None`, because it needs no more.
    #[inline]
    pub(crate) fn fold<A>(&mut self, init: A, mut f: impl FnMut(A, Result<O::Out>) -> Option<A>) -> Option<(A, End)> {
        let mut state = Some(init);
        let end = loop {
            // What a panic has left, for a plain operator.
            while let Some(item) = self.out.take() {
                let item = self.delivered(item);
                state = f(state?, item);
            }
            state.as_ref()?;
            if self.thread.is_stopped() {
                break End::Cut(self.thread.cut());
            }
            if !O::PLAIN {
                match self.next() {
                    Ok(item) => state = self.timed(item.is_ok(), || f(state?, item)),
                    Err(end) => break end,
                }
                continue;
            }
            if self.feed.is_drained() {
                break End::Finished;
            }
            let (begun, most) = self.stopwatch.begin(self.thread.stretch(TURNS));
            let before = self.received;
            let burst = self.burst(most, &mut state, &mut f);
            self.stopwatch.finish(begun, || self.received - before);
            match burst {
                Burst::Over => self.publish(),
                Burst::Error(error) => self.give_error(error),
                Burst::Empty => self.wait(),
                Burst::Ended(end) => break end,
            }
        };
        state.map(|state| (state, end))
    }

    /// Runs many turns of a plain operator under one guard, with `f` called from within.
    #[inline]
    fn burst<A>(
        &mut self,
        most: u32,
        state: &mut Option<A>,
        f: &mut impl FnMut(A, Result<O::Out>) -> Option<A>,
    ) -> Burst {
        let Self { turns, feed, thread, received, tally, out, .. } = self;
        let ((op, ahead), feed, alarm) = (turns.parts(), &mut **feed, thread.alarm());
        let burst = catch_unwind(AssertUnwindSafe(|| {
            let mut feed = InHand::new(feed);
            let mut direct = Direct {
                f,
                state: state.take(),
                tally: *tally,
                given: 0,
                marked: out.marked,
                home: (state, tally, received, out),
            };
            while direct.given < most {
                // As in the driver: attributes a panic to the feed while it is polled.
                direct.mark(AT_THE_FEED, false);
                ahead.look(op, feed.feed);
                let item = match feed.next() {
                    Ok(item) => item,
                    Err(burst) => return burst,
                };
                // Before the call: an item whose call panics has been received, and fails.
                direct.given += 1;
                ahead.given::<O>();
                give_item(op, item, &mut direct);
                if direct.state.is_none() || is_alarmed(alarm) {
                    break;
                }
            }
            Burst::Over
        }));
        burst.unwrap_or_else(|payload| {
            match self.out.marked.0 {
                // The caller's panic: it continues as if it had never been caught.
                AT_THE_CALLER => resume_unwind(payload),
                AT_THE_FEED => return Burst::Ended(self.feed.panicked(panic::describe(payload))),
                _ => _ = panicked(self.turns.op_mut(), &mut self.out, panic::describe(payload)),
            }
            Burst::Over
        })
    }

    /// Calls a closure of the sink. Its time counts as that of an item if it receives one (`is_data`).
    #[inline]
    pub(crate) fn timed<R>(&mut self, is_data: bool, call: impl FnOnce() -> R) -> R {
        let (begun, _) = self.stopwatch.begin(1);
        let result = call();
        self.stopwatch.finish(begun, || is_data.into());
        result
    }

    #[inline]
    fn receive(&mut self, item: Result<O::In>) {
        self.count(&item);
        self.out.quota = QUOTA;
        self.turns.give(item, &mut self.out);
    }

    #[cold]
    fn give_error(&mut self, error: StreamError) {
        self.thread.count_error(&error);
        self.turns.give(Err(error), &mut self.out);
    }

    #[inline]
    fn poll(&mut self) -> Polled<O::In> {
        if self.feed.is_drained() { Polled::Ended(End::Finished) } else { self.feed.poll() }
    }

    #[inline]
    fn delivered(&mut self, item: Result<O::Out>) -> Result<O::Out> {
        count_delivered(&mut self.tally, &item);
        item
    }

    #[inline]
    fn count(&mut self, item: &Result<O::In>) {
        let first = &self.out.context.stats.steps[0];
        match item {
            Ok(_) => self.count_received(1),
            Err(error) => first.errors_in.add(u64::from(!error.is_mark())),
        }
    }

    #[inline]
    fn count_received(&mut self, items: u64) {
        self.received += items;
        if !O::PLAIN {
            // The guard compares the counts of received and settled items.
            self.out.context.stats.steps[0].received.add(items);
        }
    }

    fn wait(&mut self) {
        self.settle();
        self.feed.wait(&self.thread, self.turns.next_wake(), || false, |_| false);
        self.stopwatch.waited();
    }

    fn wait_for_time(&mut self, until: Option<Instant>) {
        self.settle();
        let is_news = || !self.turns.is_told_of_drain() && self.thread.token.is_draining();
        self.thread.wait_for_time(until, is_news);
    }

    /// Must be called before the caller does anything that may take long, or reads the counters.
    pub(crate) fn settle(&mut self) {
        self.publish();
        self.feed.settle();
    }

    /// Updates the shared counters.
    #[cold]
    fn publish(&mut self) {
        let stats = &self.out.context.stats;
        let received = std::mem::take(&mut self.received);
        if O::PLAIN {
            stats.steps[0].received.add(received);
        }
        self.feed.publish(received);
        self.turns.op_mut().publish(stats, self.out.last_step, None);
        let delivered = self.tally.items - std::mem::replace(&mut self.published, self.tally.items);
        stats.steps[self.out.last_step].delivered.add(delivered);
    }
}

impl<O: Operator, F: Feed<Item = O::In>> Drop for Reader<O, F> {
    fn drop(&mut self) {
        let unused = self.feed.abandon();
        self.count_received(unused);
        self.publish();
        for step in &self.out.context.stats.steps {
            step.abandoned.add(step.unsettled());
        }
    }
}
