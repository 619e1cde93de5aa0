//! The driver: runs an operator on a thread of its own.
//!
//! Before each [turn](super::turn) it checks the *stop conditions*: the token is cancelled, or the consumer has left.
//! After a stop nothing more is emitted, and items that the operator holds are counted as abandoned. Then it *hands
//! over* items if the consumer is hungry. After each call of the operator its output is settled: everything it emitted
//! is in the edge or in the open chunk, and nothing waits for room.
//!
//! The stage parks in only three places: for input (and timers), and for a time, both after the open chunk has been
//! handed over; and for room. Before each it announces the room it has made in its input.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::burst::{AT_THE_FEED, Burst, InHand};
use super::input::Feed;
use super::operator::sealed::{Context, Sink};
use super::operator::{Operator, Shaped, give_item, panicked};
use super::thread::{StageThread, is_alarmed};
use super::turn::{Ahead, Next, Turns};
use crate::clock::wait::BeforePark;
use crate::edge::{Edge, EdgeSender, End, Polled};
use crate::error::{Result, StreamError};
use crate::panic;
use crate::pipeline::recording::{Stamper, Stopwatch};
use crate::pipeline::stats::StageKind;
use crate::pipeline::timing::Phase;

/// How often an operator may ask in one call whether the output is full before the answer is yes, so that an endless
/// operator returns to the driver, which checks cancellation and timers.
const QUOTA: u32 = 1024;

/// The output of a stage that has only one.
pub(crate) struct Output<T> {
    /// Shared with the thread's hook, which hands over the open chunk before the thread parks in a user's closure.
    sender: Rc<RefCell<EdgeSender<T>>>,
    edge: Arc<Edge<T>>,
    context: Context,
    last_step: usize,
    quota: u32,
    closed: bool,
    /// Items were handed over, or should have been: the driver must check whether there was room.
    handed_over: bool,
    /// Items emitted since the counters were last updated.
    emitted: u64,
    /// How much their number of delivered items differs from one each; wraps.
    correction: u64,
    marked: (usize, bool),
}

impl<T> Output<T> {
    pub(crate) fn new(sender: EdgeSender<T>, context: Context) -> Self {
        let last_step = context.stats.steps.len() - 1;
        Self {
            edge: Arc::clone(sender.shared()),
            sender: Rc::new(RefCell::new(sender)),
            context,
            last_step,
            quota: QUOTA,
            closed: false,
            handed_over: false,
            emitted: 0,
            correction: 0,
            marked: (0, false),
        }
    }

    /// For a stage that could not start.
    pub(crate) fn end(self, end: End) {
        self.sender.borrow_mut().end(end);
    }
}

impl<T> Sink<T> for Output<T> {
    fn erased(&mut self) -> &mut dyn Sink<T> {
        self
    }

    #[inline(always)]
    fn put(&mut self, item: Result<T>) {
        self.emitted += u64::from(item.is_ok());
        self.handed_over |= self.sender.borrow_mut().push(item);
    }

    #[cold]
    fn put_mark(&mut self, mark: StreamError) {
        self.context.note_mark(&mark);
        self.sender.borrow_mut().put_mark(mark);
    }

    #[inline]
    fn full(&mut self) -> bool {
        // Each check costs: an operator whose items are all removed by a filter must return to the driver as well.
        self.quota = self.quota.saturating_sub(1);
        self.quota == 0 || self.closed || self.sender.borrow_mut().is_full()
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

    #[inline]
    fn correct(&mut self, delivered: u64) {
        self.correction = self.correction.wrapping_add(delivered);
    }

    #[inline]
    fn sync(&mut self) {
        let emitted = std::mem::take(&mut self.emitted);
        let step = &self.context.stats.steps[self.last_step];
        step.emitted.add(emitted);
        // A source has received nothing, so nothing received was delivered.
        if self.context.stats.kind != StageKind::Source {
            step.delivered.add(emitted.wrapping_add(std::mem::take(&mut self.correction)));
        }
    }
}

/// Runs at most `most` turns.
///
/// Not inlined: as arguments, the parts of the driver are known not to overlap, so constant values stay in registers.
#[inline(never)]
fn run_burst<O: Operator, F: Feed<Item = O::In>>(
    op: &mut O,
    ahead: &mut Ahead,
    feed: &mut F,
    out: &mut Output<O::Out>,
    alarm: &AtomicBool,
    received: &mut u64,
    most: u32,
) -> Burst {
    let mut feed = InHand::new(feed);
    let mut out = BurstOutput::new(out, received);
    while out.given < most {
        // Attributes a panic to the feed while it is polled; the mark of a step replaces it in `give_item`.
        out.mark(AT_THE_FEED, false);
        ahead.look(op, feed.feed);
        let item = match feed.next() {
            Ok(item) => item,
            Err(burst) => return burst,
        };
        // Before the call: an item whose call panics has been received, and fails.
        out.given += 1;
        ahead.given::<O>();
        give_item(op, item, &mut out);
        if out.handed_over || out.edge.is_gone() || out.is_awaited() || is_alarmed(alarm) {
            break;
        }
    }
    Burst::Over
}

/// The output during a burst. Everything that changes with each item is stored here, where the compiler can keep it in
/// registers, and is written back when the burst ends, even by a panic.
///
/// An emission does not check whether the consumer is hungry: it is the last thing that a plain operator does in a
/// call, and the driver checks after each call.
struct BurstOutput<'a, T> {
    sender: &'a RefCell<EdgeSender<T>>,
    edge: &'a Edge<T>,
    context: &'a Context,
    last_step: usize,
    /// The number of items given to the operator, which also counts the turns.
    given: u32,
    emitted: u64,
    correction: u64,
    handed_over: bool,
    marked: (usize, bool),
    home: Home<'a>,
}

/// Where the values are written back to.
struct Home<'a> {
    received: &'a mut u64,
    emitted: &'a mut u64,
    correction: &'a mut u64,
    handed_over: &'a mut bool,
    marked: &'a mut (usize, bool),
}

impl<'a, T> BurstOutput<'a, T> {
    fn new(out: &'a mut Output<T>, received: &'a mut u64) -> Self {
        let Output { sender, edge, context, last_step, handed_over, emitted, correction, marked, .. } = out;
        Self {
            sender,
            edge,
            context,
            last_step: *last_step,
            given: 0,
            emitted: *emitted,
            correction: *correction,
            handed_over: *handed_over,
            marked: *marked,
            home: Home { received, emitted, correction, handed_over, marked },
        }
    }

    /// Whether the consumer waits for the content of the open chunk.
    #[inline]
    fn is_awaited(&self) -> bool {
        self.edge.is_hungry() && !self.sender.borrow().is_handed_over()
    }
}

impl<T> Drop for BurstOutput<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let home = &mut self.home;
        *home.received += u64::from(self.given);
        *home.emitted = self.emitted;
        *home.correction = self.correction;
        *home.handed_over = self.handed_over;
        *home.marked = self.marked;
    }
}

impl<T> Sink<T> for BurstOutput<'_, T> {
    fn erased(&mut self) -> &mut dyn Sink<T> {
        self
    }

    #[inline(always)]
    fn put(&mut self, item: Result<T>) {
        self.emitted += u64::from(item.is_ok());
        self.handed_over |= self.sender.borrow_mut().gather(item);
    }

    #[cold]
    fn put_mark(&mut self, mark: StreamError) {
        self.context.note_mark(&mark);
        self.sender.borrow_mut().put_mark(mark);
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
        self.last_step
    }

    #[inline]
    fn context(&self) -> &Context {
        self.context
    }

    #[inline]
    fn mark(&mut self, step: usize, is_item: bool) {
        self.marked = (step, is_item);
    }

    fn marked(&self) -> (usize, bool) {
        self.marked
    }

    #[inline]
    fn correct(&mut self, delivered: u64) {
        self.correction = self.correction.wrapping_add(delivered);
    }

    /// The counters are updated at the end of the burst.
    fn sync(&mut self) {}
}

/// Why a stage ends before its input does.
enum Stop {
    Cancelled,
    ConsumerGone,
}

pub(crate) struct Driver<O: Operator, F> {
    turns: Turns<O>,
    feed: F,
    out: Output<O::Out>,
    thread: StageThread,
    /// The feed's last answer.
    at_once: bool,
    /// Items received since the counters were last updated.
    received: u64,
    /// Checks of the surroundings since then.
    looks: u32,
    stopwatch: Stopwatch,
    stamper: Stamper,
    /// The number of emitted items at the last check for a stamp.
    stamped: u64,
    /// For closures of the operator that wait.
    _hook: BeforePark,
}

/// The number of items between two updates of the counters.
const TURNS: u32 = 128;

impl<O: Operator, F: Feed<Item = O::In>> Driver<O, F> {
    pub(crate) fn new(op: O, feed: F, out: Output<O::Out>, thread: StageThread) -> Self {
        out.edge.watch(thread.wake());
        let sender = Rc::downgrade(&out.sender);
        let announce = feed.announcer();
        let hook = BeforePark::new(move || {
            if let Some(sender) = sender.upgrade()
                && let Ok(mut sender) = sender.try_borrow_mut()
            {
                sender.hand_over();
            }
            announce();
        });
        let (stopwatch, stamper) = (thread.stopwatch(), thread.stamper());
        Self {
            turns: Turns::new(op).measured(stopwatch.is_on()),
            feed,
            out,
            thread,
            at_once: false,
            received: 0,
            looks: 0,
            stopwatch,
            stamper,
            stamped: 0,
            _hook: hook,
        }
    }

    pub(crate) fn run(mut self) {
        let end = match self.work() {
            Ok(end) => end,
            // This end has no consumer, but the edge is told all the same.
            Err(Stop::Cancelled | Stop::ConsumerGone) => End::Cut(self.thread.cut()),
        };
        let unused = self.feed.abandon();
        self.count_received(unused);
        // Before the edge ends: a consumer that has seen the end may read the final counts. The operator and the feed are
        // dropped after it, because values of the user may take any time to drop.
        self.publish();
        self.abandon_held();
        self.out.sender.borrow_mut().end(end);
        let Self { turns, feed, .. } = self;
        turns.discard();
        feed.discard();
    }

    fn work(&mut self) -> Result<End, Stop> {
        if O::PLAIN { self.work_in_bursts() } else { self.work_in_turns() }
    }

    fn work_in_turns(&mut self) -> Result<End, Stop> {
        loop {
            if !self.turns.is_pending() {
                self.look_around()?;
            }
            self.out.quota = QUOTA;
            let thread = &self.thread;
            match self.turns.next(&mut self.out, || thread.is_alarmed() && thread.token.is_draining()) {
                Next::Called => self.make_room()?,
                Next::More => self.make_room_for_more()?,
                Next::Asleep(until) => self.wait_for_time(until),
                Next::Input => {
                    if let Some(end) = self.turn_to_the_input()? {
                        return Ok(end);
                    }
                }
                Next::Over => return Ok(End::Finished),
            }
        }
    }

    /// Between two turns.
    #[inline]
    fn look_around(&mut self) -> Result<(), Stop> {
        self.check()?;
        self.out.handed_over |= self.out.sender.borrow_mut().hand_over_if_hungry();
        self.looks += 1;
        // The consumer may compare handed-over items with the counters.
        if self.looks >= TURNS || self.out.handed_over {
            self.publish();
        }
        Ok(())
    }

    /// The end of the stage, if its input was cut.
    #[inline]
    fn turn_to_the_input(&mut self) -> Result<Option<End>, Stop> {
        if F::NEEDS_ROOM {
            self.make_room_for_more()?;
        }
        self.follow_the_feed();
        self.turns.look_ahead(&mut self.feed);
        if let Some(item) = self.feed.take_at_hand() {
            return self.receive(item);
        }
        let polled = if self.feed.is_drained() { Polled::Ended(End::Finished) } else { self.feed.poll() };
        match polled {
            Polled::Item(item) => return self.receive(item),
            Polled::Empty => self.wait_for_input(),
            Polled::Ended(End::Finished) => {
                self.turns.end(&mut self.out);
                self.make_room()?;
            }
            Polled::Ended(cut) => return Ok(Some(cut)),
        }
        Ok(None)
    }

    #[inline]
    fn receive(&mut self, item: Result<O::In>) -> Result<Option<End>, Stop> {
        self.count(&item);
        let is_data = item.is_ok();
        let (begun, _) = self.stopwatch.begin(1);
        self.turns.give(item, &mut self.out);
        self.stopwatch.finish(begun, || is_data.into());
        self.make_room()?;
        Ok(None)
    }

    /// The same for a plain operator, which has no timers and nothing left to emit after a call: many turns under one
    /// guard.
    fn work_in_bursts(&mut self) -> Result<End, Stop> {
        loop {
            self.check()?;
            self.out.handed_over |= self.out.sender.borrow_mut().hand_over_if_hungry();
            if F::NEEDS_ROOM {
                self.make_room_for_more()?;
            }
            self.publish();
            self.follow_the_feed();
            if self.feed.is_drained() {
                return self.end(End::Finished);
            }
            let turns = if F::NEEDS_ROOM { 1 } else { TURNS.min(self.feed.in_a_row()) };
            let (begun, most) = self.stopwatch.begin(self.thread.stretch(turns));
            let burst = self.burst(most);
            self.stopwatch.finish(begun, || self.received);
            self.stamp();
            match burst {
                Burst::Over => {}
                Burst::Empty => self.wait_for_input(),
                Burst::Ended(end) => return self.end(end),
                Burst::Error(error) => {
                    self.thread.count_error(&error);
                    self.turns.give(Err(error), &mut self.out);
                }
            }
            self.make_room()?;
        }
    }

    fn burst(&mut self, most: u32) -> Burst {
        let Self { turns, feed, out, thread, received, .. } = self;
        let (op, ahead) = turns.parts();
        let burst = panic::catch(|| run_burst(op, ahead, feed, out, thread.alarm(), received, most));
        burst.unwrap_or_else(|payload| {
            if self.out.marked.0 == AT_THE_FEED {
                return Burst::Ended(self.feed.panicked(payload));
            }
            panicked(self.turns.op_mut(), &mut self.out, payload);
            Burst::Over
        })
    }

    fn end(&mut self, end: End) -> Result<End, Stop> {
        if let End::Finished = end {
            self.turns.end(&mut self.out);
            self.wait_if_stuck()?;
        }
        Ok(end)
    }

    /// Emits a stamp behind the items of a source, if one is due.
    #[inline]
    fn stamp(&mut self) {
        if self.stamper.is_on() && self.out.emitted > self.stamped {
            self.stamped = self.out.emitted;
            // Not through the output, which would record it: items have no age here.
            if let Some(stamp) = self.stamper.due() {
                self.out.sender.borrow_mut().put_mark(stamp);
            }
        }
    }

    /// Hands over at once, or not, as the feed requires.
    #[inline]
    fn follow_the_feed(&mut self) {
        if self.feed.is_at_once() != self.at_once {
            self.at_once = !self.at_once;
            let mut sender = self.out.sender.borrow_mut();
            sender.set_at_once(self.at_once);
            if self.at_once && !sender.is_handed_over() {
                // Items that were collected before must not wait for the next one.
                sender.hand_over();
                self.out.handed_over = true;
            }
        }
    }

    #[inline]
    fn count(&mut self, item: &Result<O::In>) {
        match item {
            Ok(_) => self.count_received(1),
            Err(error) => self.thread.count_error(error),
        }
    }

    #[inline]
    fn count_received(&mut self, items: u64) {
        self.received += items;
        if !O::PLAIN {
            // The guard compares the counts of received and settled items.
            self.thread.stats.steps[0].received.add(items);
        }
    }

    /// Updates the shared counters.
    fn publish(&mut self) {
        self.looks = 0;
        self.stamped = 0;
        self.out.handed_over = false;
        let stats = &self.thread.stats;
        let received = std::mem::take(&mut self.received);
        if O::PLAIN && stats.kind != StageKind::Source {
            stats.steps[0].received.add(received);
        }
        self.feed.publish(received);
        self.turns.op_mut().publish(stats, self.out.last_step, None);
        self.out.sync();
    }

    #[inline]
    fn check(&self) -> Result<(), Stop> {
        if self.thread.is_stopped() {
            return Err(Stop::Cancelled);
        }
        if self.out.edge.is_gone() {
            return Err(Stop::ConsumerGone);
        }
        Ok(())
    }

    /// Returns when there is room for another item.
    fn make_room_for_more(&mut self) -> Result<(), Stop> {
        self.make_room()?;
        self.check()?;
        self.out.handed_over |= self.out.sender.borrow_mut().hand_over_if_hungry();
        if self.out.sender.borrow_mut().is_full() {
            self.wait_for_room(true)?;
        }
        Ok(())
    }

    /// Returns when all emitted items have found room.
    #[inline]
    fn make_room(&mut self) -> Result<(), Stop> {
        self.stamp();
        self.wait_if_stuck()?;
        self.debug_check();
        Ok(())
    }

    #[inline]
    fn wait_if_stuck(&mut self) -> Result<(), Stop> {
        // Items that have not been handed over yet have room.
        if self.out.handed_over && self.out.sender.borrow_mut().is_stuck() {
            self.wait_for_room(false)?;
        }
        Ok(())
    }

    fn wait_for_input(&mut self) {
        // Counters first, because the consumer that is woken by the hand-over may read them. Then the room: upstream
        // may wait for it, and this thread is about to park.
        self.publish();
        self.out.sender.borrow_mut().hand_over();
        self.feed.settle();
        let edge = &self.out.edge;
        let wake = self.turns.next_wake();
        self.feed.wait(&self.thread, wake, || edge.is_gone(), |_| edge.is_gone());
        self.stopwatch.waited();
    }

    /// Waits until the operator's time, while it can take nothing.
    fn wait_for_time(&mut self, until: Option<Instant>) {
        self.publish();
        self.out.sender.borrow_mut().hand_over();
        self.feed.settle();
        self.feed.paused();
        let edge = &self.out.edge;
        self.thread.wait_for_time(until, || edge.is_gone());
    }

    /// Returns when there is room for all emitted items, and if `more`, for another item.
    #[cold]
    fn wait_for_room(&mut self, more: bool) -> Result<(), Stop> {
        self.publish();
        self.feed.paused();
        loop {
            self.check()?;
            self.out.sender.borrow_mut().hand_over();
            let waiting = self.out.sender.borrow_mut().is_stuck() || (more && self.out.sender.borrow_mut().is_full());
            if !waiting {
                return Ok(());
            }
            self.feed.settle();
            // Borrowed while the thread is parked: its hook finds the sender borrowed and has nothing to do, because
            // the open chunk has just been handed over.
            let out = self.out.sender.borrow();
            let wake = self.thread.wake();
            self.thread.wait(Phase::Blocked, None, || out.may_have_room(), |_| out.want_room(wake));
        }
    }

    fn abandon_held(&mut self) {
        for step in &self.thread.stats.steps {
            step.abandoned.add(step.unsettled());
        }
    }

    #[inline]
    fn debug_check(&mut self) {
        if cfg!(debug_assertions) && !self.turns.is_settled() {
            let handed_over = self.out.handed_over;
            self.publish();
            self.out.handed_over = handed_over;
            let stats = &self.thread.stats;
            let mut check = |step: usize, held| stats.steps[step].check(held);
            self.turns.op_mut().publish(stats, self.out.last_step, Some(&mut check));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::edge::edge;
    use crate::pipeline::stats::StageStats;

    #[test]
    fn an_output_is_awaited_while_its_consumer_is_hungry() {
        let (sender, mut receiver) = edge(8, false);
        let stats = Arc::new(StageStats::new("stage".into(), StageKind::Processor, &["stage".into()], 1));
        let mut out = Output::new(sender, Context::new(&stats, Clock::default()));
        let mut received = 0;
        let mut out = BurstOutput::new(&mut out, &mut received);
        assert!(!out.is_awaited());
        // The first check of the room hands over.
        out.put(Ok(0));
        assert!(matches!(receiver.poll(), Polled::Item(Ok(0))));
        out.put(Ok(1));
        assert!(!out.is_awaited(), "no consumer asks for it");
        assert!(!receiver.ask());
        assert!(out.is_awaited());
        out.sender.borrow_mut().hand_over();
        assert!(!out.is_awaited());
        assert!(matches!(receiver.poll(), Polled::Item(Ok(1))));
        assert!(!receiver.ask());
        assert!(!out.is_awaited(), "there is nothing to hand over");
    }
}
