//! The pool: several threads that read one stream and write one stream.
//!
//! There is no feeder and no collector: the workers take their own input and pass on their own results. Items that are
//! quickly done are taken in runs, and their results passed on together: see `slots.rs`.
//!
//! # What must hold
//!
//! 1. *Numbers.* An item gets its sequence number together with the pop, under the input lock, so the numbers are in the
//!    order of the input.
//! 2. *Window.* `next - emitted <= window`: what is being worked on and what is finished and waits for its turn never
//!    exceed the window together. `next` changes under the input lock, `emitted` belongs to the emitter.
//! 3. *Emitter.* Results go out through one sender. Whoever holds it is the emitter; it lies in the output state
//!    when there is none. A worker that completes an item takes it if it is there and the head is ready, and gives it
//!    back in the critical section in which it has seen that the head is not ready. So a ready head always has an
//!    emitter, and order is that of the numbers.
//! 4. *Nobody waits while holding a lock*, calls user code or drops a user value.
//! 5. *Idle workers.* Whenever the input lock is released and some worker is idle, either one of the idle ones is
//!    registered with the edge, or a wake is on its way to one. A worker that takes items and leaves more behind
//!    wakes one more; one that leaves none behind registers one of the idle ones in its place. The same goes for a
//!    worker that has more than one item in its slot, or steals one and leaves more there: it wakes one more, be it idle or
//!    held up by the window. Nobody parks, or leaves, while there is anything in a slot.
//! 6. *End.* The output is finished by the emitter, or by whoever finds the sender at rest, when the input has ended and
//!    `emitted == next`. Both look under the output lock, after the end of the input was noted, so one of them sees it.
//! 7. *Results in slots.* A worker passes its results on when its run is over: at once, when it takes items one by one. One
//!    that finds nothing to do does so for all others. One that ends a run does so for another that is still with the
//!    item with which it was last seen. So a result waits for a slow call of the worker that made it only while all
//!    workers are in slow calls, or if there is but one.
//! 8. *Keys.* In a keyed pool a worker finds the lanes of what it has taken before it begins any of it, and puts what may be
//!    begun (`lanes.rs`) into its slot. Between that and the pop the items are in its hands alone. `sorted` counts those
//!    that have got beyond: when it equals `next`, all that may be begun is in a slot or being worked on, and the rest waits
//!    for one of those. So nobody leaves before. A worker that ends an item takes its lane's next one into its slot, and goes
//!    on with the lowest number there: so the slot holds as many as before, and nobody need be woken.
//! 9. *Stop.* The first worker that sees a stop condition halts all. The last one to leave counts what was abandoned and
//!    cuts the output, if it was not finished. Once a result was not passed on because of a stop, no later one is: what has
//!    come out of a stream that was cut has no holes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;

use super::lanes::{Lane, Lanes};
use super::reorder::Reorder;
use super::run_length::RunLength;
use super::slots::{Numbered, Slots};
use crate::clock::real_now;
use crate::clock::wait::{Waiter, Wake};
use crate::edge::{Edge, EdgeSender, End, Polled};
use crate::error::{ErrorKind, PanicMessage, Result, StreamError};
use crate::operators::call::LaneOf;
use crate::panic;
use crate::pipeline::CancelToken;
use crate::pipeline::stats::{Phase, StepStats};
use crate::stage::input::Input;
use crate::stage::operator::sealed::Context;
use crate::stage::thread::{StageThread, spawn_error};
use crate::stream::Stream;
use crate::stream::start::Registered;

/// What became of one item.
pub(super) enum Outcome<Out> {
    Done(Out),
    Failed(StreamError),
    /// The work was cancelled: there is nothing to pass on.
    Abandoned,
}

/// A result on its way to the output.
enum Ready<Out> {
    Outcome(Outcome<Out>),
    /// An error item that was in the input.
    Passed(StreamError),
}

/// What there is to do.
enum Job<In> {
    /// In that lane, if the pool is keyed.
    Work(In, Option<Lane>),
    /// An error item that was in the input.
    Pass(StreamError),
    /// An item whose key could not be found.
    Fail(StreamError),
}

impl<In> Job<In> {
    fn new(item: Result<In>) -> Self {
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
    /// If the items of one lane are to be worked on one at a time, in order.
    pub(super) lane_of: Option<LaneOf<In>>,
}

/// What a worker knows when it works on an item.
pub(super) struct Site<'a> {
    pub(super) token: &'a CancelToken,
    pub(super) context: &'a Context,
}

struct Pool<In, Out> {
    window: u64,
    input: Mutex<PoolInput<In>>,
    slots: Slots<Job<In>, Ready<Out>>,
    keyed: Option<Keyed<In>>,
    output: Mutex<PoolOutput<Out>>,
    edge: Arc<Edge<Out>>,
    /// Items taken; written under the input lock.
    next: AtomicU64,
    /// Results passed on; written by the emitter.
    emitted: AtomicU64,
    /// Somebody waits for the window to move.
    window_wanted: AtomicBool,
    ended: AtomicBool,
    halted: AtomicBool,
    alive: AtomicUsize,
    context: Context,
}

struct Keyed<In> {
    lane_of: LaneOf<In>,
    lanes: Lanes<Job<In>>,
    /// Items that have got into their lanes and, if they may be begun, into a slot.
    sorted: AtomicU64,
    /// There may be more in a slot than its worker begins at once. It was taken before what is in the input now, and is to
    /// be begun before it. Set after each such slot was filled; reset before a look into the slots.
    spare: AtomicBool,
}

struct PoolInput<In> {
    /// `None` once the end was seen or the pool was halted.
    stream: Option<Input<In>>,
    end: End,
    idle: Vec<Arc<Wake>>,
    /// Workers that wait for the window to move.
    held_up: Vec<Arc<Wake>>,
    /// Everybody, for the day of the halt.
    workers: Vec<Arc<Wake>>,
}

struct PoolOutput<Out> {
    results: Reorder<Ready<Out>>,
    sender: Option<EdgeSender<Out>>,
    finished: bool,
    /// A result was lost to a stop: invariant 9.
    stopped: bool,
}

enum Taken {
    /// It is in the slot.
    Run,
    NothingThere,
    WindowFull,
    Over,
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
    let input = input.into_input();
    let pool = Arc::new(Pool {
        window: settings.window as u64,
        slots: Slots::new(settings.workers),
        keyed: settings.lane_of.map(|lane_of| Keyed {
            lane_of,
            lanes: Lanes::new(),
            sorted: AtomicU64::new(0),
            spare: AtomicBool::new(false),
        }),
        edge: Arc::clone(sender.shared()),
        input: Mutex::new(PoolInput {
            stream: Some(input),
            end: End::Finished,
            idle: Vec::new(),
            held_up: Vec::new(),
            workers: Vec::new(),
        }),
        output: Mutex::new(PoolOutput {
            results: Reorder::new(settings.ordered),
            sender: Some(sender),
            finished: false,
            stopped: false,
        }),
        next: AtomicU64::new(0),
        emitted: AtomicU64::new(0),
        window_wanted: AtomicBool::new(false),
        ended: AtomicBool::new(false),
        halted: AtomicBool::new(false),
        alive: AtomicUsize::new(settings.workers),
        context: registered.context(),
    });
    let work = Arc::new(work);
    let registered = Arc::new(registered);
    for index in 0..settings.workers {
        let (pool, work, registered_here) = (Arc::clone(&pool), Arc::clone(&work), Arc::clone(&registered));
        let name = registered.thread_name(index);
        registered.token.scope().spawn(&name, true, move |started| {
            let (token, stats) = (registered_here.token.clone(), Arc::clone(&registered_here.stats));
            match started {
                Ok(()) => {
                    let thread = StageThread::new(token, stats, index);
                    let leaving = Leaving { pool: &pool, cut: None, thread: Some(&thread) };
                    pool.work(&thread, &*work);
                    drop(leaving);
                }
                // The others do the work; if there are none, the stream ends with this.
                Err(error) => {
                    let cut = Some(spawn_error(&token, &stats, error));
                    drop(Leaving { pool: &pool, cut, thread: None });
                }
            }
        });
    }
    stream
}

impl<In: Send + 'static, Out: Send + 'static> Pool<In, Out> {
    fn work<W: Fn(&Site<'_>, In) -> Outcome<Out>>(&self, thread: &StageThread, work: &W) {
        self.edge.watch(thread.wake());
        self.input.lock().workers.push(Arc::clone(thread.wake()));
        let site = Site { token: &thread.token, context: &self.context };
        let mut worker = Worker {
            pool: self,
            thread,
            done: Vec::new(),
            raw: Vec::new(),
            last_seen: vec![None; self.slots.len()],
            looked_at: thread.index(),
        };
        // Under virtual time what is seen at a given moment must not depend on the real one.
        let mut length = if thread.token.clock().is_manual() { None } else { Some(RunLength::new()) };
        loop {
            if self.is_halted(thread) {
                return self.halt();
            }
            let most = length.map_or(1, RunLength::get);
            // Quick items need no such care: their slots are empty in no time.
            if most == 1 && worker.takes_over(&site, work) {
                continue;
            }
            match self.take(thread.index(), most, &mut worker.raw) {
                Taken::Run => {
                    let begun = length.map(|_| real_now());
                    if let Some(keyed) = &self.keyed {
                        worker.sort(keyed);
                    }
                    let items = worker.work_off(self.slots.next(thread.index()), &site, work);
                    if let (Some(length), Some(begun)) = (&mut length, begun) {
                        length.adapt(begun.elapsed(), items);
                        worker.look_after_others();
                    }
                }
                nothing => {
                    // Before the look into the slots: what has been sorted is there.
                    let all_sorted = self.is_all_sorted();
                    if worker.helps(&site, work) {
                        continue;
                    }
                    match nothing {
                        Taken::WindowFull => self.wait_for_window(thread),
                        Taken::Over if all_sorted => return self.finish_if_done(),
                        Taken::Over => self.wait_for_sorting(thread),
                        Taken::NothingThere | Taken::Run => self.wait_for_input(thread),
                    }
                }
            }
        }
    }

    fn is_halted(&self, thread: &StageThread) -> bool {
        self.halted.load(Ordering::Acquire) || thread.is_stopped() || self.edge.is_gone()
    }

    fn step(&self) -> &StepStats {
        &self.context.stats.steps[0]
    }

    /// Takes a run of at most `length` items, into `raw` if they are to be sorted. Invariants 1, 2 and 5.
    fn take(&self, own: usize, length: usize, raw: &mut Vec<Numbered<Result<In>>>) -> Taken {
        let mut input = self.input.lock();
        let Some(stream) = &mut input.stream else { return Taken::Over };
        let next = self.next.load(Ordering::Relaxed);
        let room = self.window - (next - self.emitted.load(Ordering::Acquire));
        if room == 0 {
            return Taken::WindowFull;
        }
        // No more than one's share of what is there, so that a few items are shared out.
        let share = if length > 1 { stream.len().div_ceil(self.slots.len()) } else { 1 };
        let most = length.min(share).min(usize::try_from(room).unwrap_or(usize::MAX)).max(1);
        let polled = stream.poll();
        match polled {
            Polled::Item(first) => {
                let mut data = u64::from(first.is_ok());
                let mut further = std::iter::from_fn(|| match stream.poll() {
                    Polled::Item(item) => {
                        data += u64::from(item.is_ok());
                        Some(item)
                    }
                    // An end comes again.
                    Polled::Empty | Polled::Ended(_) => None,
                });
                let further = further.by_ref().take(most - 1);
                let taken = if self.keyed.is_some() {
                    raw.extend((next..).zip(std::iter::once(first).chain(further)));
                    raw.len() as u64
                } else {
                    self.slots.fill(own, next, Job::new(first), further.map(Job::new))
                };
                stream.settle();
                self.next.store(next + taken, Ordering::Release);
                self.step().received.add(data);
                self.step().errors_in.add(taken - data);
                let in_slot = if self.keyed.is_some() { 0 } else { taken };
                let wake = input.pass_the_baton().or_else(|| if in_slot > 1 { input.somebody() } else { None });
                drop(input);
                if let Some(wake) = wake {
                    wake.post();
                }
                Taken::Run
            }
            Polled::Empty => {
                stream.settle();
                stream.ask();
                // This worker may find other work: one that is idle is to be told of the next item.
                let wake = input.pass_the_baton();
                drop(input);
                if let Some(wake) = wake {
                    wake.post();
                }
                Taken::NothingThere
            }
            Polled::Ended(end) => {
                input.end = end;
                let stream = input.stream.take();
                let waiting = input.everybody_waiting();
                // Before the look at the output that follows: invariant 6.
                self.ended.store(true, Ordering::SeqCst);
                drop(input);
                drop(stream);
                waiting.iter().for_each(|wake| wake.post());
                Taken::Over
            }
        }
    }

    fn wait_for_input(&self, thread: &StageThread) {
        let register = |_: &Waiter| {
            let mut input = self.input.lock();
            let Some(stream) = &input.stream else { return true };
            stream.settle();
            if stream.has_items() || !self.slots.are_empty() || stream.arm(thread.wake()) {
                return true;
            }
            input.idle.push(Arc::clone(thread.wake()));
            self.halted.load(Ordering::Acquire) || self.edge.is_gone()
        };
        // A foreign channel is watched by each idle worker itself.
        let foreign = self.input.lock().stream.as_ref().and_then(Input::foreign);
        match foreign {
            None => thread.wait(Phase::Idle, None, || self.may_have_input(), register),
            Some(receiver) => thread.wait_for_foreign(Phase::Idle, &receiver, register),
        }
        let mut input = self.input.lock();
        input.idle.retain(|wake| !Arc::ptr_eq(wake, thread.wake()));
    }

    /// Invariant 8: whether nothing is in the hands of a worker that looks for its lane.
    fn is_all_sorted(&self) -> bool {
        let Some(keyed) = &self.keyed else { return true };
        // SeqCst: see `sort`.
        keyed.sorted.load(Ordering::SeqCst) == self.next.load(Ordering::Acquire)
    }

    /// After the end of the input.
    fn wait_for_sorting(&self, thread: &StageThread) {
        let is_over = || self.is_all_sorted() || !self.slots.are_empty();
        thread.wait(Phase::Idle, None, is_over, |_| {
            let mut input = self.input.lock();
            if is_over() {
                return true;
            }
            input.idle.push(Arc::clone(thread.wake()));
            self.halted.load(Ordering::Acquire) || self.edge.is_gone()
        });
        let mut input = self.input.lock();
        input.idle.retain(|wake| !Arc::ptr_eq(wake, thread.wake()));
    }

    /// A hint while spinning. Not worth waiting for a lock.
    fn may_have_input(&self) -> bool {
        self.input.try_lock().is_some_and(|input| input.stream.as_ref().is_none_or(Input::may_have_items))
    }

    fn wait_for_window(&self, thread: &StageThread) {
        let is_open = || {
            let emitted = self.emitted.load(Ordering::Acquire);
            self.next.load(Ordering::Acquire) - emitted < self.window
        };
        thread.wait(Phase::Blocked, None, is_open, |_| {
            let mut input = self.input.lock();
            self.window_wanted.store(true, Ordering::Relaxed);
            // Pairs with the fence in `advance`: either it sees the flag, or we see that the window has moved.
            fence(Ordering::SeqCst);
            if is_open() || input.stream.is_none() || !self.slots.are_empty() {
                return true;
            }
            input.held_up.push(Arc::clone(thread.wake()));
            self.halted.load(Ordering::Acquire) || self.edge.is_gone()
        });
        let mut input = self.input.lock();
        input.held_up.retain(|wake| !Arc::ptr_eq(wake, thread.wake()));
    }

    /// Invariant 3.
    fn complete(&self, thread: &StageThread, done: &mut Vec<Numbered<Ready<Out>>>) {
        let mut output = self.output.lock();
        let sender = if output.stopped { None } else { output.sender.take() };
        let Some(mut sender) = sender else { return output.results.insert_all(done) };
        // If it is their turn and nothing else waits, they need not wait in line either.
        let mut all = if output.results.let_pass(done) {
            drop(output);
            let all = self.emit(thread, &mut sender, done.drain(..).map(|(_, result)| result));
            output = self.output.lock();
            all
        } else {
            output.results.insert_all(done);
            true
        };
        while all && output.results.is_ready() {
            let mut run = output.results.take_run();
            drop(output);
            all = self.emit(thread, &mut sender, run.drain(..));
            output = self.output.lock();
        }
        if !all {
            output.stopped = true;
            output.sender = Some(sender);
        } else if self.is_done() {
            output.finished = true;
            drop(output);
            sender.end(self.end());
        } else {
            output.sender = Some(sender);
        }
    }

    /// Passes on a run of results: false if a stop came first; then the rest of the run is dropped, and abandoned.
    fn emit(&self, thread: &StageThread, sender: &mut EdgeSender<Out>, run: impl Iterator<Item = Ready<Out>>) -> bool {
        let step = self.step();
        let mut moved = 0;
        for result in run {
            match result {
                Ready::Outcome(Outcome::Done(item)) => {
                    step.delivered.add(1);
                    step.emitted.add(1);
                    sender.gather(Ok(item));
                }
                Ready::Outcome(Outcome::Failed(error)) => {
                    step.failed.add(1);
                    step.errors_out.add(1);
                    sender.gather(Err(error));
                }
                // Counted with the rest by the last worker to leave.
                Ready::Outcome(Outcome::Abandoned) => return false,
                Ready::Passed(error) => {
                    step.errors_out.add(1);
                    sender.gather(Err(error));
                }
            }
            moved += 1;
            if sender.is_stuck() {
                // The one in hand still belongs to the window.
                self.advance(std::mem::replace(&mut moved, 1) - 1);
                if !self.wait_for_room(thread, sender) {
                    return false;
                }
            }
        }
        // A pool hands over at once: the next thing this worker does may take long.
        sender.hand_over();
        self.advance(moved);
        if !self.edge.has_worthwhile_room() {
            // The consumer has been woken, but with as many workers as processors it may have none to run on. If it gets
            // this one now, for the moment that it needs, the workers will not have to stop for want of room.
            std::thread::yield_now();
        }
        true
    }

    fn wait_for_room(&self, thread: &StageThread, sender: &mut EdgeSender<Out>) -> bool {
        loop {
            if self.is_halted(thread) {
                return false;
            }
            sender.hand_over();
            if !sender.is_stuck() {
                return true;
            }
            let wake = thread.wake();
            let out = &*sender;
            thread.wait(
                Phase::Blocked,
                None,
                || out.may_have_room(),
                |_| out.want_room(wake) || self.halted.load(Ordering::Acquire),
            );
        }
    }

    /// Moves the window.
    fn advance(&self, by: u64) {
        let emitted = self.emitted.load(Ordering::Relaxed) + by;
        self.emitted.store(emitted, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.window_wanted.load(Ordering::Relaxed) {
            let mut input = self.input.lock();
            self.window_wanted.store(false, Ordering::Relaxed);
            let held_up = std::mem::take(&mut input.held_up);
            drop(input);
            held_up.iter().for_each(|wake| wake.post());
        }
    }

    /// Under the output lock, with the sender at hand: invariant 6.
    fn is_done(&self) -> bool {
        self.ended.load(Ordering::SeqCst) && self.next.load(Ordering::Acquire) == self.emitted.load(Ordering::Acquire)
    }

    fn finish_if_done(&self) {
        let mut output = self.output.lock();
        if self.is_done()
            && let Some(mut sender) = output.sender.take()
        {
            output.finished = true;
            drop(output);
            sender.end(self.end());
        }
    }

    fn end(&self) -> End {
        self.input.lock().end.clone()
    }

    /// Invariant 9. The input goes at once, so that everything upstream winds down even if a worker takes its time.
    fn halt(&self) {
        if self.halted.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut input = self.input.lock();
        let stream = input.stream.take();
        let workers = std::mem::take(&mut input.workers);
        drop(input);
        drop(stream);
        workers.iter().for_each(|wake| wake.post());
    }
}

impl<In: Send + 'static> PoolInput<In> {
    /// Invariant 5, when an item has been taken: the wake of the worker to look after what is left, if there is
    /// anything left.
    fn pass_the_baton(&mut self) -> Option<Arc<Wake>> {
        let next = self.idle.last()?;
        let stream = self.stream.as_ref()?;
        if stream.has_items() || stream.arm(next) { self.idle.pop() } else { None }
    }

    /// The wake of a worker that has nothing to do, if there is one.
    fn somebody(&mut self) -> Option<Arc<Wake>> {
        self.idle.pop().or_else(|| self.held_up.pop())
    }

    fn everybody_waiting(&mut self) -> Vec<Arc<Wake>> {
        let mut waiting = std::mem::take(&mut self.idle);
        waiting.append(&mut self.held_up);
        waiting
    }
}

/// A worker at work.
struct Worker<'a, In: Send + 'static, Out: Send + 'static> {
    pool: &'a Pool<In, Out>,
    thread: &'a StageThread,
    /// A buffer.
    done: Vec<Numbered<Ready<Out>>>,
    /// What has been taken and is to be sorted.
    raw: Vec<Numbered<Result<In>>>,
    /// What each worker was last seen to have in hand, and which of them was looked at.
    last_seen: Vec<Option<u64>>,
    looked_at: usize,
}

impl<In: Send + 'static, Out: Send + 'static> Worker<'_, In, Out> {
    /// Works off what is in the slot, beginning with `next`. Returns how many items it was.
    fn work_off<W>(&mut self, mut next: Option<Numbered<Job<In>>>, site: &Site<'_>, work: &W) -> usize
    where
        W: Fn(&Site<'_>, In) -> Outcome<Out>,
    {
        let (own, mut items) = (self.thread.index(), 0);
        while let Some((number, job)) = next {
            items += 1;
            let (result, lane) = match job {
                Job::Work(item, lane) => (Ready::Outcome(work(site, item)), lane),
                Job::Pass(error) => (Ready::Passed(error), None),
                Job::Fail(error) => (Ready::Outcome(Outcome::Failed(error)), None),
            };
            match lane.and_then(|lane| self.pool.keyed.as_ref()?.lanes.leave(lane)) {
                None => next = self.pool.slots.swap(own, (number, result)),
                Some(follower) => {
                    next = self.pool.slots.swap_with(own, (number, result), follower);
                    // A run that grows must not keep its results until it ends.
                    self.pass_on(own);
                }
            }
            if next.is_some() && self.pool.is_halted(self.thread) {
                // Dropped outside of any lock; it is counted with the rest.
                let _ = panic::catch(|| drop(next));
                return items;
            }
        }
        self.pass_on(own);
        items
    }

    /// Invariant 8: finds the lanes of what has been taken, and puts what may be begun into the slot.
    fn sort(&mut self, keyed: &Keyed<In>) {
        let pool = self.pool;
        let count = self.raw.len() as u64;
        let key = |(number, item): Numbered<Result<In>>| match item {
            Err(error) => (number, None, Job::Pass(error)),
            Ok(item) => match panic::catch(|| Lane::of((keyed.lane_of)(&item))) {
                Ok(lane) => (number, Some(lane), Job::Work(item, Some(lane))),
                Err(payload) => {
                    let error = pool.context.error(ErrorKind::Panicked, 0);
                    let error = error.with_source(PanicMessage::from(payload)).with_item(item);
                    (number, None, Job::Fail(error))
                }
            },
        };
        // Before the lock.
        let keyed_items: Vec<_> = self.raw.drain(..).map(key).collect();
        let mut ready = VecDeque::new();
        keyed.lanes.arrive(keyed_items.into_iter(), &mut ready);
        let more = ready.len() > 1;
        pool.slots.put(self.thread.index(), &mut ready);
        // SeqCst, as that of `ended`: either we see that the input has ended, or who ends it sees that all is sorted.
        keyed.sorted.fetch_add(count, Ordering::SeqCst);
        if more {
            keyed.spare.store(true, Ordering::Release);
        }
        if more || pool.ended.load(Ordering::SeqCst) {
            let mut input = pool.input.lock();
            let wakes = match &input.stream {
                Some(_) => input.somebody().into_iter().collect(),
                None => input.everybody_waiting(),
            };
            drop(input);
            wakes.iter().for_each(|wake| wake.post());
        }
    }

    /// Invariant 7, at the end of a run: a look at one of the others.
    fn look_after_others(&mut self) {
        let other = (self.looked_at + 1) % self.last_seen.len();
        self.looked_at = other;
        let at_work = self.pool.slots.at_work(other);
        if at_work.is_some() && std::mem::replace(&mut self.last_seen[other], at_work) == at_work {
            self.pass_on(other);
        }
    }

    /// Passes on what is finished in one slot.
    fn pass_on(&mut self, slot: usize) {
        self.pool.slots.take_done(slot, &mut self.done);
        if !self.done.is_empty() {
            self.pool.complete(self.thread, &mut self.done);
        }
    }

    /// Passes on what is finished in all slots.
    fn sweep(&mut self) {
        for slot in 0..self.pool.slots.len() {
            self.pool.slots.take_done(slot, &mut self.done);
        }
        if !self.done.is_empty() {
            self.pool.complete(self.thread, &mut self.done);
        }
    }

    /// Does what another worker has taken and not begun, and passes on what is finished: false if there was nothing.
    fn helps<W: Fn(&Site<'_>, In) -> Outcome<Out>>(&mut self, site: &Site<'_>, work: &W) -> bool {
        if let Some((item, more)) = self.pool.slots.steal(self.thread.index()) {
            self.work_on_stolen(item, more, site, work);
            return true;
        }
        let empty = self.pool.slots.are_empty();
        self.sweep();
        !empty
    }

    /// In a keyed pool: does what others have in their slots, if there may be anything, before something new is taken.
    fn takes_over<W: Fn(&Site<'_>, In) -> Outcome<Out>>(&mut self, site: &Site<'_>, work: &W) -> bool {
        let Some(keyed) = &self.pool.keyed else { return false };
        if !keyed.spare.load(Ordering::Relaxed) || !keyed.spare.swap(false, Ordering::AcqRel) {
            return false;
        }
        let Some((item, more)) = self.pool.slots.steal(self.thread.index()) else { return false };
        keyed.spare.store(true, Ordering::Release);
        self.work_on_stolen(item, more, site, work);
        true
    }

    fn work_on_stolen<W>(&mut self, item: Numbered<Job<In>>, more: bool, site: &Site<'_>, work: &W)
    where
        W: Fn(&Site<'_>, In) -> Outcome<Out>,
    {
        if more {
            let wake = self.pool.input.lock().somebody();
            if let Some(wake) = wake {
                wake.post();
            }
        }
        self.work_off(Some(item), site, work);
    }
}

/// A worker that is about to leave, in whatever way.
struct Leaving<'a, In: Send + 'static, Out: Send + 'static> {
    pool: &'a Pool<In, Out>,
    cut: Option<StreamError>,
    thread: Option<&'a StageThread>,
}

impl<In: Send + 'static, Out: Send + 'static> Drop for Leaving<'_, In, Out> {
    fn drop(&mut self) {
        let pool = self.pool;
        if std::thread::panicking() {
            // A fault in this library: the others must not wait for what this worker had in hand.
            pool.halt();
        }
        if pool.alive.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        pool.halt();
        let mut output = pool.output.lock();
        let sender = output.sender.take().filter(|_| !output.finished);
        let results = std::mem::replace(&mut output.results, Reorder::new(false));
        drop(output);
        drop(results);
        // Values of the user's, whose drop may panic.
        let (todo, done) = pool.slots.clear();
        todo.into_iter().for_each(|item| _ = panic::catch(|| drop(item)));
        done.into_iter().for_each(|result| _ = panic::catch(|| drop(result)));
        let waiting = pool.keyed.as_ref().map_or_else(Vec::new, |keyed| keyed.lanes.clear());
        waiting.into_iter().for_each(|item| _ = panic::catch(|| drop(item)));
        pool.step().abandoned.add(pool.step().unsettled());
        if let Some(mut sender) = sender {
            let error = self.cut.take().or_else(|| self.thread.map(StageThread::cut));
            sender.end(error.map_or(End::Finished, End::Cut));
        }
    }
}
