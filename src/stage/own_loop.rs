//! The loop of a stage that is not an operator with one output edge: one with several outputs, or with an output that
//! works in another way.
//!
//! The way such a stage handles an item is its [`Work`]; its outputs are its [`Ways`]. Everything else is here, once:
//!
//! - *Stop conditions*: the token is cancelled, or the consumers of all outputs have left. Items that were received and
//!   not settled are then counted as abandoned.
//! - *Waits.* Before the thread parks, for input, for room, or in a user's closure, all outputs have been handed over
//!   and the room made in the input has been announced.
//! - *Room.* An item goes to all its outputs before the stage waits for room in any of them; then it waits for all that
//!   are stuck at once.
//! - *Panics.* A panic that the work does not catch itself becomes an error item. The work and the input are dropped
//!   under a guard.
//! - *Marks* (see `mark/mod.rs`). An item has been settled when the work has returned, so a mark is forwarded at once, a
//!   copy to each output. If something was dropped because its consumer has left, the marks that may stand behind it are
//!   lost (`mark/losses.rs`).
//! - *The end.* All outputs are ended in the same way, even if there was no thread for the stage.

use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::input::{Feed, Input};
use super::operator::sealed::Context;
use super::thread::{StageThread, spawn_error};
use crate::clock::wait::{BeforePark, Wake};
use crate::edge::{End, Polled};
use crate::error::{Details, ErrorKind, PanicMessage, Result, StreamError};
use crate::mark::{Losses, Mark};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::pipeline::recording::Stopwatch;
use crate::pipeline::stats::StepStats;
use crate::pipeline::timing::Phase;

/// The number of items between two updates of the counters.
const TURNS: u32 = 64;

/// One output.
pub(crate) trait Way {
    /// Called once the stage runs on this thread, which must be woken when the consumer leaves.
    fn start(&mut self, thread: &StageThread);

    /// Whether the consumer has left.
    fn is_gone(&self) -> bool;

    /// Hands over as many items as there is room for.
    fn hand_over(&mut self);

    /// Hands over items if the consumer is hungry. Returns whether it did, or tried to.
    fn hand_over_if_hungry(&mut self) -> bool;

    /// Whether something waits for room.
    fn is_stuck(&self) -> bool;

    /// A hint, without a lock, that there may be room.
    fn may_have_room(&self) -> bool;

    /// Registers for room. Returns true if there is some, so that the caller must not park.
    fn want_room(&self, wake: &Arc<Wake>) -> bool;

    /// The stage starts or stops waiting for room here.
    fn note_wait(&self, phase: Phase, now: Instant);

    /// Sends a mark, which needs no room. It is lost if something of its epoch may have been dropped because the consumer
    /// has left.
    fn put_mark(&mut self, mark: StreamError);

    /// Ends the stream after the sent items.
    fn end(&mut self, end: End);
}

/// All outputs of a stage.
pub(crate) trait Ways: Send + 'static {
    /// Calls `look` with each of them.
    fn each(&self, look: impl FnMut(&dyn Way));

    /// Calls `act` with each of them, to change it.
    fn each_mut(&mut self, act: impl FnMut(&mut dyn Way));
}

impl<W: Way + Send + 'static> Ways for Vec<W> {
    #[inline]
    fn each(&self, mut look: impl FnMut(&dyn Way)) {
        self.iter().for_each(|way| look(way));
    }

    #[inline]
    fn each_mut(&mut self, mut act: impl FnMut(&mut dyn Way)) {
        self.iter_mut().for_each(|way| act(way));
    }
}

impl<A: Way + Send + 'static, B: Way + Send + 'static> Ways for (A, B) {
    #[inline]
    fn each(&self, mut look: impl FnMut(&dyn Way)) {
        look(&self.0);
        look(&self.1);
    }

    #[inline]
    fn each_mut(&mut self, mut act: impl FnMut(&mut dyn Way)) {
        act(&mut self.0);
        act(&mut self.1);
    }
}

/// The way a stage handles the items it receives. It never waits: an item without room makes an output
/// [stuck](Way::is_stuck). It may hold back one item in this way, until [`tend`](Self::tend) settles it.
pub(crate) trait Work: Send + 'static {
    type Item: Send + 'static;
    type Ways: Ways;

    /// Settles one item, which has been counted as received.
    fn item(&mut self, item: Self::Item, desk: &Desk<Self::Ways>);

    /// Handles an error item, which has been counted as received, or was made here of a panic.
    fn error(&mut self, error: StreamError, desk: &Desk<Self::Ways>);

    /// Does what is due, before each turn and between waits for room, and returns when it has to be called again at the
    /// latest. An item that was held back is settled here.
    #[inline]
    fn tend(&mut self, _desk: &Desk<Self::Ways>) -> Option<Instant> {
        None
    }

    /// Updates its own counters.
    fn publish(&mut self, _desk: &Desk<Self::Ways>) {}

    /// Corrects its own counters: items were lost by a panic.
    fn lost(&mut self, _items: u64) {}

    /// Drops it, after the end. If it has several parts whose drops may panic, drops them one by one.
    fn discard(self)
    where
        Self: Sized,
    {
        panic::guard_drop(self);
    }
}

/// The access that the work has to its stage.
pub(crate) struct Desk<W> {
    /// Shared with the thread's hook, which hands over the open chunk before the thread parks in a user's closure.
    ways: Rc<RefCell<W>>,
    pub(crate) thread: StageThread,
    context: Context,
    /// Items were handed over, or should have been: the loop must check whether there was room.
    handed_over: Cell<bool>,
    /// Something was dropped since the last mark because its consumer has left.
    undeliverable: Cell<bool>,
    losses: RefCell<Losses>,
}

impl<W: Ways> Desk<W> {
    /// Borrows the outputs. No user code may be called while they are borrowed.
    #[inline]
    pub(crate) fn ways(&self) -> RefMut<'_, W> {
        self.ways.borrow_mut()
    }

    /// Must be called with the result of each push to an output.
    #[inline]
    pub(crate) fn pushed(&self, handed_over: bool) {
        if handed_over {
            self.handed_over.set(true);
        }
    }

    #[inline]
    pub(crate) fn step(&self) -> &StepStats {
        &self.thread.stats.steps[0]
    }

    pub(crate) fn error_of(&self, kind: ErrorKind) -> StreamError {
        self.details_of(kind).into()
    }

    pub(crate) fn details_of(&self, kind: ErrorKind) -> Details {
        self.context.details(kind, 0)
    }

    /// Must be called when something is dropped because its consumer has left.
    #[inline]
    pub(crate) fn undeliverable(&self) {
        self.undeliverable.set(true);
    }

    /// Takes over the losses of an output that has been removed because its consumer has left.
    pub(crate) fn removed(&self, losses: Losses) {
        let mut own = self.losses.borrow_mut();
        if self.undeliverable.take() {
            own.note();
        }
        own.append(losses);
    }

    /// Handles a mark: each output receives its own copy, even of one that is lost.
    #[cold]
    fn put_mark(&self, mut mark: Mark) {
        if mark.is_of_records() {
            let mut losses = self.losses.borrow_mut();
            if self.undeliverable.take() {
                losses.note();
            }
            let is_lost = losses.include(&mark);
            drop(losses);
            if is_lost {
                mark.lose();
            }
        }
        self.context.stats.recordings.note_mark(mark.emitted(), &self.context.clock);
        self.ways.borrow_mut().each_mut(|way| {
            way.put_mark(StreamError::mark(mark.clone()));
        });
        mark.complete();
    }

    fn is_gone(&self) -> bool {
        let mut all = true;
        self.ways.borrow().each(|way| all &= way.is_gone());
        all
    }

    fn is_stuck(&self) -> bool {
        let mut any = false;
        self.ways.borrow().each(|way| any |= way.is_stuck());
        any
    }

    /// Hands over to hungry consumers. Returns whether there is a reason to leave the burst.
    #[inline]
    fn look_around(&self) -> bool {
        let (mut all_gone, mut handed_over) = (true, self.handed_over.get());
        self.ways.borrow_mut().each_mut(|way| {
            handed_over |= way.hand_over_if_hungry();
            all_gone &= way.is_gone();
        });
        self.handed_over.set(handed_over);
        handed_over || all_gone || self.thread.is_alarmed()
    }

    fn hand_over(&self) {
        self.ways.borrow_mut().each_mut(|way| way.hand_over());
    }

    /// Parks until there may be room in one of the stuck outputs. All have been handed over.
    fn park_for_room(&self, until: Option<Instant>) {
        let ways = self.ways.borrow();
        let note = |phase| {
            let now = self.thread.token.now();
            ways.each(|way| {
                if way.is_stuck() {
                    way.note_wait(phase, now);
                }
            });
        };
        let any = |holds: &dyn Fn(&dyn Way) -> bool| {
            let mut found = false;
            // With each of them, even after one has room: the first with room is served.
            ways.each(|way| found |= way.is_stuck() && holds(way));
            found
        };
        note(Phase::Blocked);
        let wake = self.thread.wake();
        self.thread.wait(
            Phase::Blocked,
            until,
            || any(&|way| way.may_have_room()),
            |_| any(&|way| way.want_room(wake)),
        );
        note(Phase::Busy);
    }

    fn end(&self, end: &End) {
        self.ways.borrow_mut().each_mut(|way| way.end(end.clone()));
    }
}

/// The token was cancelled, or no output has a consumer any more.
struct Stopped;

struct OwnLoop<W: Work> {
    input: Input<W::Item>,
    desk: Desk<W::Ways>,
    work: W,
    stopwatch: Stopwatch,
}

/// Runs a stage on the calling thread, which was created for it; or ends it, if there is no such thread.
pub(crate) fn run<W: Work>(
    started: io::Result<()>,
    token: CancelToken,
    context: Context,
    input: Input<W::Item>,
    mut ways: W::Ways,
    work: W,
) {
    if let Err(error) = started {
        let error = spawn_error(&token, &context.stats, &error);
        ways.each_mut(|way| way.end(End::Cut(error.clone())));
        work.discard();
        return input.discard();
    }
    let thread = StageThread::new(token, Arc::clone(&context.stats), 0);
    ways.each_mut(|way| way.start(&thread));
    let ways = Rc::new(RefCell::new(ways));
    let (open, announce) = (Rc::downgrade(&ways), input.announcer());
    let _hook = BeforePark::new(move || {
        if let Some(ways) = open.upgrade()
            && let Ok(mut ways) = ways.try_borrow_mut()
        {
            ways.each_mut(|way| way.hand_over());
        }
        announce();
    });
    let (handed_over, undeliverable, losses) = (Cell::new(false), Cell::new(false), RefCell::default());
    let desk = Desk { ways, thread, context, handed_over, undeliverable, losses };
    let stopwatch = desk.thread.stopwatch();
    OwnLoop { input, desk, work, stopwatch }.run();
}

impl<W: Work> OwnLoop<W> {
    fn run(mut self) {
        let end = self.work().unwrap_or_else(|Stopped| End::Cut(self.desk.thread.cut()));
        // As in the driver: everything is counted before the outputs end, and user values are dropped after it.
        self.work.publish(&self.desk);
        let step = self.desk.step();
        step.abandoned.add(step.unsettled());
        self.desk.end(&end);
        self.work.discard();
        self.input.discard();
    }

    fn work(&mut self) -> Result<End, Stopped> {
        loop {
            self.check()?;
            self.desk.handed_over.set(false);
            let until = self.work.tend(&self.desk);
            self.desk.look_around();
            self.work.publish(&self.desk);
            let (begun, most) = self.stopwatch.begin(self.desk.thread.stretch(TURNS));
            let (input, desk, work) = (&mut self.input, &self.desk, &mut self.work);
            let before = desk.step().received.get();
            let polled = panic::catch(|| {
                for _ in 0..most {
                    match input.poll() {
                        Polled::Item(Ok(item)) => {
                            // Before the call: `panicked` fails the items that were received and not settled.
                            desk.step().received.add(1);
                            work.item(item, desk);
                        }
                        Polled::Item(Err(error)) => match error.into_mark() {
                            Ok(mark) => desk.put_mark(mark),
                            Err(error) => {
                                desk.step().errors_in.add(1);
                                work.error(error, desk);
                            }
                        },
                        other => return Some(other),
                    }
                    if desk.look_around() {
                        break;
                    }
                }
                None
            });
            self.stopwatch.finish(begun, || desk.step().received.get() - before);
            match polled {
                Ok(None | Some(Polled::Item(_))) => {}
                Ok(Some(Polled::Empty)) => self.wait_for_input(until),
                Ok(Some(Polled::Ended(end))) => return Ok(end),
                Err(payload) => self.panicked(payload.into()),
            }
            if self.desk.is_stuck() {
                self.wait_for_room()?;
            }
            self.debug_check();
        }
    }

    fn check(&self) -> Result<(), Stopped> {
        if self.desk.thread.is_stopped() || self.desk.is_gone() { Err(Stopped) } else { Ok(()) }
    }

    /// Handles a panic outside closures: of a user's value that was dropped, for example. An item that was not settled
    /// yet is lost.
    #[cold]
    fn panicked(&mut self, message: PanicMessage) {
        self.work.publish(&self.desk);
        let lost = self.desk.step().unsettled();
        self.desk.step().failed.add(lost);
        self.work.lost(lost);
        let error = self.desk.error_of(ErrorKind::Panicked).with_source(message);
        self.work.error(error, &self.desk);
    }

    fn wait_for_input(&mut self, until: Option<Instant>) {
        self.desk.hand_over();
        self.work.publish(&self.desk);
        self.input.settle();
        let gone = || self.desk.is_gone();
        self.desk.thread.wait_for_inputs(&self.input, until, gone, |_| gone());
        self.stopwatch.waited();
    }

    /// Returns when all sent items have found room.
    #[cold]
    fn wait_for_room(&mut self) -> Result<(), Stopped> {
        self.work.publish(&self.desk);
        loop {
            self.check()?;
            self.desk.hand_over();
            let until = self.work.tend(&self.desk);
            if !self.desk.is_stuck() {
                return Ok(());
            }
            self.input.settle();
            self.desk.park_for_room(until);
        }
    }

    fn debug_check(&mut self) {
        if cfg!(debug_assertions) && !self.desk.is_gone() {
            self.work.publish(&self.desk);
            assert_eq!(self.desk.step().unsettled(), 0, "stage `{}` miscounts", self.desk.thread.stats.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::edge::edge;
    use crate::mark::testing::Probe;
    use crate::pipeline::stats::{DropReason, StageKind, StageStats};
    use crate::stage::branch::Branch;

    /// Drops each item, as if its consumer had left.
    struct Undeliverable;

    impl Work for Undeliverable {
        type Item = u32;
        type Ways = Vec<Branch<u32>>;

        fn item(&mut self, _: u32, desk: &Desk<Self::Ways>) {
            desk.step().dropped[DropReason::Undeliverable as usize].add(1);
            desk.undeliverable();
        }

        fn error(&mut self, error: StreamError, _: &Desk<Self::Ways>) {
            panic!("{error}");
        }
    }

    /// Runs the stage over these entries to its end.
    fn run_over(entries: Vec<Result<u32>>) {
        let token = CancelToken::new();
        let stats = Arc::new(StageStats::new("stage".into(), StageKind::Processor, &["step".into()], 1));
        let context = Context::new(&stats, token.clock().clone());
        let (mut sender, input) = edge(8, true);
        entries.into_iter().for_each(|entry| match entry {
            Err(mark) => sender.put_mark(mark),
            item => _ = sender.push(item),
        });
        sender.end(End::Finished);
        let (output, _consumer) = edge(8, true);
        let ways = vec![Branch::new(output, &stats)];
        run(Ok(()), token, context, Input::Edge(input), ways, Undeliverable);
    }

    #[test]
    fn the_mark_behind_an_undeliverable_item_is_lost() {
        let (first, second, source) = (Probe::default(), Probe::default(), Arc::default());
        run_over(vec![Ok(0), Err(first.mark_of(&source)), Err(second.mark_of(&source))]);
        assert!(first.is_lost());
        // It stands behind no further record.
        assert!(!second.is_lost());
    }

    #[test]
    fn the_mark_of_another_source_does_not_hide_a_loss() {
        let (other, own) = (Probe::default(), Probe::default());
        run_over(vec![Ok(0), Err(other.mark()), Err(own.mark())]);
        assert!(own.is_lost());
    }

    #[test]
    fn a_label_or_stamp_before_the_mark_does_not_hide_a_loss() {
        for between in [Probe::label(), Probe::stamp(Clock::default().now())] {
            let mark = Probe::default();
            run_over(vec![Ok(0), Err(between), Err(mark.mark())]);
            assert!(mark.is_lost());
        }
    }
}
