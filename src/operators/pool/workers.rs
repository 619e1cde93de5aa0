//! The pool: several threads that read one stream and write one stream.
//!
//! There is no feeder and no collector: the workers take their own input and emit their own results. Quick items are
//! taken in runs, and their results emitted together: see `slots.rs`. The input is in `intake.rs`, the output in
//! `outlet.rs`, a worker's loop in `worker.rs`.
//!
//! # Invariants
//!
//! 1. *Numbers.* An item gets its sequence number together with the pop, under the input lock, so the numbers are in the
//!    order of the input.
//! 2. *Window.* `next - emitted <= window`: items in progress and finished ones that wait for their turn never exceed
//!    the window together. `next` changes under the input lock, `emitted` belongs to the emitter.
//! 3. *Emitter.* Results are emitted through one sender. Its holder is the emitter; it is in the output state when
//!    there is none. A worker that completes an item takes it if it is there and the head is ready, and returns it in
//!    the critical section in which it has seen that the head is not ready. So a ready head always has an emitter, and
//!    order is that of the numbers.
//! 4. *Locks.* No thread waits, calls user code or drops a user value while it holds one.
//! 5. *Idle workers.* A worker rests only when there is nothing to take, and a resting worker is notified of the next
//!    item: see `crew.rs`. A worker that takes something passes the baton before it starts it. No worker rests, or
//!    leaves, while there is anything in a slot.
//! 6. *End.* The output is finished by the emitter, or by the worker that finds the sender at rest, when the input has
//!    ended and `emitted == next`. Both look under the output lock, after the end of the input was noted, so one of
//!    them sees it.
//! 7. *Results in slots.* A worker emits its results when its run ends: at once, if it takes items one by one. A worker
//!    that finds nothing to do does so for all others. A worker that ends a run does so for another that still has the
//!    item with which it was last seen. So a result waits for a slow call of the worker that made it only while all
//!    workers are in slow calls, or if there is but one.
//! 8. *Keys.* In a keyed pool a worker finds the lanes of the items that it has taken before it starts any of them, and puts
//!    those that may start (`lanes.rs`) into its slot. Until then they are in its hands alone. `sorted` counts the items
//!    that are past this point: when it equals `next`, every item that may start is in a slot or in progress, and all others
//!    wait for one of those. So no worker leaves before. A finished item keeps its lane until its result is emitted
//!    (invariant 7). The worker that emits it first moves the next items of the lanes into its own slot, and continues with
//!    the lowest number there. A worker rests only after it has done so for all slots.
//! 9. *Stop.* Calls in progress are told by their token, which is also cancelled when the consumer leaves. The first worker
//!    that sees a stop condition halts all. The last one to leave counts the abandoned items and cuts the output, unless it
//!    is finished. Once a result was not emitted because of a stop, no later one is: the output of a cut stream has no gaps.
//! 10. *Marks* (see `mark/mod.rs`) have numbers, as items do. In order they keep their place; else see `barriers.rs`, and
//!     `runs.rs` for the labels of merges.
//!
//! # The order of locks
//!
//! A thread that holds one of these takes only ones that come after it:
//!
//! 1. *input*: the state of the [`Crew`], with the [`Intake`] in it;
//! 2. *slot*: one of [`Slots`], never two at a time, and nothing inside it;
//! 3. *edge*: that of the input, which wakes its producer after its own lock is released, but under the input lock;
//! 4. *clock*: the manual clock's, which a posted wake takes.
//!
//! The lock of the [`Runs`] may be taken inside of any, and none inside it.
//!
//! These are taken while none of the above is held, and none of the above inside them: *output* ([`PoolOutput`]), *lanes*,
//! the pipeline's *scope* and then, inside it, the *node* of a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::barriers::Barriers;
use super::crew::Crew;
use super::intake::Intake;
use super::lanes::{Lane, Lanes};
use super::refusals::Refusals;
use super::reorder::{Reorder, Span};
use super::runs::Runs;
use super::slots::{Joint, Slots};
use super::threads::run_all;
use crate::edge::{Edge, EdgeSender, End};
use crate::error::{Result, StreamError};
use crate::operators::call::KeyHash;
use crate::panic::{self, Held};
use crate::pipeline::stats::StepStats;
use crate::pipeline::{CancelToken, Cause};
use crate::stage::operator::sealed::Context;
use crate::stage::origins::Labels;
use crate::stage::thread::{StageThread, noted_cut, spawn_error};
use crate::stream::Stream;
use crate::stream::start::Registered;
use crate::sync::CHUNK;

/// The outcome of one item.
pub(super) enum Outcome<Out> {
    Done(Out),
    Failed(StreamError),
    /// The work was cancelled: there is no result.
    Abandoned,
}

/// A result on its way to the output.
pub(super) enum Ready<Out> {
    Outcome(Outcome<Out>),
    /// Results and failures of consecutive items, at most a chunk of the edge: the output takes them all at once.
    Many(Held<Vec<Result<Out>>>),
    /// An error item that was in the input.
    Passed(StreamError),
    /// A mark that was held back. It has left the window already.
    Held(StreamError),
}

impl<Out> Ready<Out> {
    /// One for each number.
    pub(super) fn into_each(self) -> impl Iterator<Item = Self> {
        let (items, one) = match self {
            Ready::Many(mut items) => (items.take(), None),
            result => (Vec::new(), Some(result)),
        };
        items.into_iter().map(|item| Ready::Outcome(item.map_or_else(Outcome::Failed, Outcome::Done))).chain(one)
    }
}

impl<Out> Span for Ready<Out> {
    #[inline(always)]
    fn span(&self) -> u64 {
        match self {
            Ready::Many(items) => items.len() as u64,
            _ => 1,
        }
    }
}

impl<Out> Joint for Ready<Out> {
    type One = Outcome<Out>;

    fn begin(one: Outcome<Out>, more: usize) -> Self {
        let item = match one {
            Outcome::Done(item) if more > 0 => Ok(item),
            Outcome::Failed(error) if more > 0 => Err(error),
            one => return Ready::Outcome(one),
        };
        let mut items = Vec::with_capacity(CHUNK.min(more + 1));
        items.push(item);
        Ready::Many(Held::from(items))
    }

    #[inline(always)]
    fn join(&mut self, one: Outcome<Out>) -> Result<(), Outcome<Out>> {
        match (self, one) {
            (Ready::Many(items), Outcome::Done(item)) if items.len() < CHUNK => {
                items.push(Ok(item));
                Ok(())
            }
            (Ready::Many(items), Outcome::Failed(error)) if items.len() < CHUNK => {
                items.push(Err(error));
                Ok(())
            }
            (_, one) => Err(one),
        }
    }
}

/// A piece of work.
pub(super) enum Job<In> {
    /// In that lane, if the pool is keyed.
    Work(In, Option<Lane>),
    /// An error item that was in the input.
    Pass(StreamError),
    /// An item whose key could not be found.
    Fail(StreamError),
}

impl<In> Job<In> {
    pub(super) fn new(item: Result<In>) -> Self {
        match item {
            Ok(item) => Job::Work(item, None),
            Err(error) => Job::Pass(error),
        }
    }
}

/// The settings of a pool.
pub(super) struct Settings<In> {
    pub(super) workers: usize,
    pub(super) ordered: bool,
    pub(super) window: usize,
    /// Set if the items of one lane must be processed one at a time, in order.
    pub(super) lane_of: Option<KeyHash<In>>,
}

/// The context in which a worker processes an item.
pub(super) struct Site<'a> {
    pub(super) token: &'a CancelToken,
    pub(super) context: &'a Context,
    /// Its number.
    pub(super) worker: usize,
    pub(super) refusals: Refusals,
}

pub(super) struct Pool<In, Out> {
    /// Its lock is the input lock.
    pub(super) crew: Crew<Intake<In>>,
    pub(super) slots: Slots<Job<In>, Ready<Out>>,
    pub(super) keyed: Option<Keyed<In>>,
    pub(super) output: Mutex<PoolOutput<Out>>,
    pub(super) edge: Arc<Edge<Out>>,
    pub(super) ended: AtomicBool,
    pub(super) halted: AtomicBool,
    /// A mark has arrived.
    pub(super) delivers: AtomicBool,
    /// Set if order is not requested.
    pub(super) runs: Option<Mutex<Runs>>,
    pub(super) context: Context,
    /// The token of the calls: also cancelled when the consumer leaves.
    pub(super) calls: CancelToken,
}

pub(super) struct Keyed<In> {
    pub(super) lane_of: KeyHash<In>,
    pub(super) lanes: Lanes<Job<In>>,
    /// Items that have entered their lanes and, if they may start, a slot.
    pub(super) sorted: AtomicU64,
}

pub(super) struct PoolOutput<Out> {
    pub(super) results: Reorder<Ready<Out>>,
    pub(super) sender: Option<EdgeSender<Out>>,
    pub(super) finished: bool,
    /// The number of results, including those that wait here.
    pub(super) completed: u64,
    /// Marks that wait, if order is not requested.
    pub(super) marks: Barriers,
    /// The number of marks that have started to wait since the holder of the sender last checked. They leave the window
    /// then: one slow call must not fill it with marks.
    pub(super) held_marks: u64,
    /// The labels that are sent, if order is not requested.
    pub(super) labels: Labels,
    /// A result was lost because of a stop: invariant 9.
    pub(super) stopped: bool,
}

/// Starts a pool in which each worker calls `work`.
#[track_caller]
pub(super) fn start<In, Out, W>(
    registered: Registered,
    input: Stream<In>,
    capacity: Option<usize>,
    settings: Settings<In>,
    work: W,
) -> Stream<Out>
where
    In: Send + 'static,
    Out: Send + 'static,
    W: Fn(&Site<'_>, In) -> Outcome<Out> + Send + Sync + 'static,
{
    let (sender, stream) = registered.output("", capacity);
    let calls = registered.token.for_calls(&registered.stats);
    let pool = Pool::new(settings, input, sender, registered.context(), calls.clone());
    pool.edge.when_gone(move || calls.cancel_with(Cause::ConsumerGone));
    let scope = registered.token.scope();
    // All are counted here, so that the threads that the pipeline may have do not depend on when the first worker
    // starts.
    let places = (0..pool.slots.len()).map(|index| (index, scope.place(&registered.thread_name(index), true)));
    let mut places: Vec<_> = places.collect();
    // If the pipeline may start none of them, the job of this thread reports it.
    let first = places.iter().position(|(_, place)| place.is_allowed()).unwrap_or(0);
    let (first, place) = places.remove(first);
    // Failures are logged; the other workers do the work.
    places.extract_if(.., |(_, place)| !place.is_allowed()).for_each(|(_, place)| place.spawn(|_| ()));
    place.spawn(move |started| {
        let Registered { token, stats, .. } = registered;
        let team = Arc::new(Team { pool, work });
        match started {
            Ok(()) => {
                let thread = StageThread::new(token, stats, first);
                run_all(&team, &thread, places, |team, thread| team.pool.run_worker(thread, &team.work));
                team.pool.finish(|| team.pool.cut(&thread));
            }
            Err(error) => team.pool.finish(|| spawn_error(&token, &stats, &error)),
        }
        // The other workers have released it. The closures may own values whose drop panics.
        if let Some(Team { pool, work }) = Arc::into_inner(team) {
            panic::guard_drop(work);
            panic::guard_drop(pool);
        }
    });
    stream
}

/// What all workers share.
struct Team<In, Out, W> {
    pool: Pool<In, Out>,
    work: W,
}

impl<In: Send + 'static, Out: Send + 'static> Pool<In, Out> {
    fn new(
        settings: Settings<In>,
        input: Stream<In>,
        sender: EdgeSender<Out>,
        context: Context,
        calls: CancelToken,
    ) -> Self {
        Self {
            crew: Crew::new(Intake { stream: Some(input.into_input()), end: End::Finished }, settings.window as u64),
            slots: Slots::new(settings.workers),
            keyed: settings.lane_of.map(|lane_of| Keyed { lane_of, lanes: Lanes::new(), sorted: AtomicU64::new(0) }),
            edge: Arc::clone(sender.shared()),
            output: Mutex::new(PoolOutput {
                results: Reorder::new(settings.ordered),
                sender: Some(sender),
                finished: false,
                completed: 0,
                marks: Barriers::new(),
                held_marks: 0,
                labels: Labels::default(),
                stopped: false,
            }),
            ended: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            delivers: AtomicBool::new(false),
            runs: (!settings.ordered).then(Mutex::default),
            context,
            calls,
        }
    }

    /// Runs one worker from start to end. A panic in it is a bug of this library: user code is guarded where it is called.
    fn run_worker<W: Fn(&Site<'_>, In) -> Outcome<Out>>(&self, thread: &StageThread, work: &W) {
        if let Err(payload) = panic::catch(|| self.work(thread, work)) {
            // The others must not wait for this worker's current item.
            self.halt();
            thread.token.scope().fault(&payload);
        }
    }

    /// After the last worker has left: drops and counts abandoned items, and cuts the output if it has not been
    /// finished.
    fn finish(&self, cut: impl FnOnce() -> StreamError) {
        self.halt();
        let mut output = self.output.lock();
        let sender = output.sender.take().filter(|_| !output.finished);
        let results = std::mem::replace(&mut output.results, Reorder::new(false));
        let marks = std::mem::replace(&mut output.marks, Barriers::new());
        drop(output);
        drop(marks);
        // User values, whose drop may panic: one by one, and under no lock.
        panic::discard(results.into_all());
        let (todo, done) = self.slots.clear();
        panic::discard(todo);
        panic::discard(done);
        panic::discard(self.keyed.as_ref().map_or_else(Vec::new, |keyed| keyed.lanes.clear()));
        self.step().abandoned.add(self.step().unsettled());
        // Last: a consumer that sees the end of the output finds everything counted.
        if let Some(mut sender) = sender {
            sender.end(End::Cut(cut()));
        }
    }

    /// The reason for the cut. A call may also have cancelled its token, which is that of all calls.
    fn cut(&self, thread: &StageThread) -> StreamError {
        match self.calls.cancelled_by_a_call(&thread.token) {
            Some(cause) => noted_cut(&thread.token, &thread.stats, cause),
            None => thread.cut(),
        }
    }

    pub(super) fn is_halted(&self, thread: &StageThread) -> bool {
        self.halted.load(Ordering::Acquire) || thread.is_stopped() || self.edge.is_gone()
    }

    pub(super) fn step(&self) -> &StepStats {
        &self.context.stats.steps[0]
    }

    /// Invariant 9. The input is dropped at once, so that everything upstream stops even if a worker is slow to do so.
    pub(super) fn halt(&self) {
        if self.halted.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut shift = self.crew.lock();
        let stream = shift.supply().stream.take();
        shift.dismiss_all();
        // A foreign channel may hold user values.
        panic::guard_drop(stream);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pipeline::stats::StageKind;
    use crate::{ManualClock, Outcome as End, Pipeline};

    /// Three workers, each of which calls `work` with its own name for each item. `work` is not guarded, as the calls
    /// of an operator are.
    fn pool(
        clock: &ManualClock,
        items: u32,
        work: impl Fn(&CancelToken, &str) + Send + Sync + 'static,
    ) -> (Pipeline, Stream<u32>) {
        let pipeline = Pipeline::builder("fault").clock(clock.clone()).build();
        let input = Stream::from_iter(&pipeline, 0..items);
        let registered = Registered::with_input(&pipeline, &input, "pool", StageKind::Processor, &[], 3);
        let settings = Settings { workers: 3, ordered: true, window: 10, lane_of: None };
        let output = start(registered, input, None, settings, move |site, item| {
            work(site.token, std::thread::current().name().unwrap());
            Outcome::Done(item)
        });
        (pipeline, output)
    }

    #[test]
    fn virtual_time_sees_worker_0_wait_for_the_others() {
        let clock = ManualClock::new();
        let (pipeline, output) = pool(&clock, 3, |token, worker| {
            // The others are still in their calls when worker 0 finds that the input has ended, and leaves.
            let seconds = if worker == "pool-0 fault" { 1 } else { 10 };
            token.sleep(Duration::from_secs(seconds)).unwrap();
        });
        output.spawn_for_each(drop);
        clock.advance(Duration::from_secs(10));
        let report = pipeline.join();
        assert!(report.is_complete(), "{report}");
    }

    #[test]
    fn a_worker_that_dies_is_a_fault_and_ends_the_pool() {
        for dying in ["pool-0 fault", "pool-1 fault", "pool-2 fault"] {
            let (pipeline, output) = pool(&ManualClock::new(), 100, move |token, worker| {
                assert_ne!(worker, dying, "a bug");
                _ = token.sleep(Duration::from_secs(1));
            });
            assert!(output.collect::<Vec<_>>().is_err(), "{dying}");
            let report = pipeline.join();
            assert_eq!(report.faults.len(), 1, "{dying}: {report}");
            assert!(matches!(report.outcome, End::Cancelled(Cause::Because(_))), "{dying}: {report}");
        }
    }
}
