//! [`Desk`]: the state that the thread of a [`ParMapper`](super::ParMapper) stage shares with its tasks on the rayon
//! pool.
//!
//! The stage's thread puts runs of items on the desk. A task takes one run when it starts, processes it, and puts the
//! results on the desk.
//!
//! # Invariants
//!
//! 1. *A task that has not started owns nothing.* It takes its run and the closure from the desk when it starts, and
//!    finds neither on a closed desk. So a stop waits for calls in progress, but not for other work that keeps the pool
//!    busy.
//! 2. *Tasks.* Whenever the lock is free, at least `min(waiting, threads)` tasks are queued with the pool, and never
//!    more than `threads`: a free thread of the pool finds a task, and a busy pool has no pile of them.
//! 3. *Runs.* A run of several items is `open` while it is processed. Its items are taken one by one, under its own
//!    lock; so unstarted items can be given to other tasks, and finished ones emitted, at any time.
//! 4. *Running.* A run counts as running until its task has released the closure, and its results are on the desk.
//! 5. *Wakes.* A task wakes the stage's thread if it leaves a result whose turn it is, if it was the last to run while
//!    others wait, or if the desk was closed.
//! 6. The desk's lock is taken before that of a run. No user value is dropped, and no user code called, under either.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rayon::ThreadPool;

use super::reorder::{Reorder, Span};
use super::run_length::{RUN_TIME, RunLength};
use super::slots::Numbered;
use crate::clock::wait::Wake;
use crate::clock::{Hold, earlier, real_now};
use crate::error::{ErrorKind, PanicMessage, Result, StreamError};
use crate::panic;
use crate::stage::operator::sealed::Context;

/// A run that takes longer than this is broken up.
const OVERDUE: Duration = RUN_TIME.saturating_mul(4);

/// The context of the work.
pub(super) struct Work<F> {
    pub(super) f: Arc<F>,
    pub(super) context: Context,
}

pub(super) enum Done<Out> {
    Item(Out),
    Failed(StreamError),
    /// An error item that was in the input.
    Passed(StreamError),
}

impl<Out> Span for Done<Out> {}

impl<F> Work<F> {
    pub(super) fn process<In, Out>(&self, item: Result<In>) -> Done<Out>
    where
        F: Fn(In) -> Out,
    {
        let item = match item {
            Ok(item) => item,
            Err(error) => return Done::Passed(error),
        };
        let (recordings, clock) = (&self.context.stats.recordings, &self.context.clock);
        let begun = recordings.begin(clock);
        let mapped = panic::catch(|| (self.f)(item));
        recordings.finish(begun, rayon::current_thread_index().unwrap_or(0), clock);
        match mapped {
            Ok(mapped) => Done::Item(mapped),
            Err(payload) => {
                let error = self.context.error(ErrorKind::Panicked, 0);
                Done::Failed(error.with_source(PanicMessage::from(payload)))
            }
        }
    }
}

/// Items that pass through the pool together.
pub(super) struct Run<In> {
    pub(super) items: VecDeque<Numbered<Result<In>>>,
    /// Dropped last: virtual time must not pass before the wake is posted.
    pub(super) hold: Option<Hold>,
}

/// A run of several items that is being processed.
struct Open<In, Out> {
    since: Instant,
    slot: Mutex<Slot<In, Out>>,
}

struct Slot<In, Out> {
    todo: VecDeque<Numbered<Result<In>>>,
    done: Vec<Numbered<Done<Out>>>,
}

pub(super) struct Desk<In, Out, F> {
    /// The wake of the stage's thread.
    wake: Arc<Wake>,
    /// `None` for the global one.
    pool: Option<Arc<ThreadPool>>,
    threads: usize,
    state: Mutex<State<In, Out, F>>,
}

struct State<In, Out, F> {
    /// `None` when the desk is closed.
    work: Option<Arc<Work<F>>>,
    /// Runs that have not started.
    waiting: VecDeque<Run<In>>,
    open: Vec<Arc<Open<In, Out>>>,
    results: Reorder<Done<Out>>,
    run_length: RunLength,
    /// Tasks that were given to the pool and have not started.
    queued: usize,
    /// Runs in progress.
    running: usize,
    /// The number of runs that the pool has started so far.
    begun: u64,
}

/// The state that the stage's thread checks before it waits.
pub(super) struct Look {
    /// When a run must be broken up, if one is open.
    pub(super) overdue: Option<Instant>,
    /// There are runs, and none has started.
    pub(super) is_waiting: bool,
    /// See [`State::begun`].
    pub(super) begun: u64,
}

impl<In, Out, F> Desk<In, Out, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    F: Fn(In) -> Out + Send + Sync + 'static,
{
    pub(super) fn new(wake: Arc<Wake>, pool: Option<Arc<ThreadPool>>, work: Work<F>) -> Self {
        let threads = pool.as_ref().map_or_else(rayon::current_num_threads, |pool| pool.current_num_threads());
        let state = State {
            work: Some(Arc::new(work)),
            waiting: VecDeque::new(),
            open: Vec::new(),
            results: Reorder::new(true),
            run_length: RunLength::new(),
            queued: 0,
            running: 0,
            begun: 0,
        };
        Self { wake, pool, threads, state: Mutex::new(state) }
    }

    pub(super) fn run_length(&self) -> usize {
        self.state.lock().run_length.get()
    }

    /// Gives a run to the pool.
    pub(super) fn put(self: &Arc<Self>, run: Run<In>) {
        let mut state = self.state.lock();
        state.waiting.push_back(run);
        let tasks = state.top_up(self.threads);
        drop(state);
        self.spawn(tasks);
    }

    fn spawn(self: &Arc<Self>, tasks: usize) {
        for _ in 0..tasks {
            let desk = Arc::clone(self);
            match &self.pool {
                Some(pool) => pool.spawn_fifo(move || desk.task()),
                None => rayon::spawn_fifo(move || desk.task()),
            }
        }
    }

    /// A task on the pool.
    fn task(self: Arc<Self>) {
        let mut state = self.state.lock();
        state.queued -= 1;
        let Some(Run { mut items, hold }) = state.waiting.pop_front() else { return };
        let Some(work) = state.work.clone() else { unreachable!("nothing waits on a desk that was closed") };
        state.running += 1;
        state.begun += 1;
        let tasks = state.top_up(self.threads);
        let since = real_now();
        let first = items.pop_front();
        let open = (!items.is_empty()).then(|| {
            let open = Arc::new(Open { since, slot: Mutex::new(Slot { todo: items, done: Vec::new() }) });
            state.open.push(Arc::clone(&open));
            open
        });
        drop(state);
        self.spawn(tasks);

        let (mut next, mut last, mut count) = (first, None, 0);
        while let Some((number, item)) = next {
            count += 1;
            let done = (number, work.process(item));
            next = match &open {
                Some(open) => open.slot.lock().swap(done),
                None => {
                    last = Some(done);
                    None
                }
            };
        }
        panic::guard_drop(work);

        let mut state = self.state.lock();
        if let Some(open) = open {
            state.open.retain(|other| !Arc::ptr_eq(other, &open));
            state.results.insert_all(&mut open.slot.lock().done);
        }
        if let Some((number, result)) = last {
            state.results.insert(number, result);
        }
        state.run_length.adapt(since.elapsed(), count);
        state.running -= 1;
        let is_idle = state.running == 0 && !state.waiting.is_empty();
        let wake = state.results.is_ready() || is_idle || state.work.is_none();
        drop(state);
        if wake {
            self.wake.post();
        }
        drop(hold);
    }

    pub(super) fn look(&self) -> Look {
        let state = self.state.lock();
        Look {
            overdue: state.open.iter().map(|open| open.since + OVERDUE).fold(None, |a, b| earlier(a, Some(b))),
            is_waiting: state.running == 0 && !state.waiting.is_empty(),
            begun: state.begun,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state.lock().results.is_ready()
    }

    /// Moves all results whose turn it is to `ready`, which is empty.
    pub(super) fn take_ready(&self, ready: &mut VecDeque<Done<Out>>) {
        self.state.lock().results.take_run(ready);
    }

    /// Breaks up overdue runs: finished items can be emitted, and unstarted ones can be taken by other tasks, one by
    /// one.
    pub(super) fn break_up(self: &Arc<Self>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = real_now();
        state.open.retain(|run| {
            if now.saturating_duration_since(run.since) < OVERDUE {
                return true;
            }
            let mut slot = run.slot.lock();
            state.results.insert_all(&mut slot.done);
            // Several items at a time are taken only if no time must be held.
            let alone = slot.todo.drain(..).map(|item| Run { items: VecDeque::from([item]), hold: None });
            state.waiting.extend(alone);
            false
        });
        state.waiting.make_contiguous().sort_unstable_by_key(Run::first);
        let tasks = state.top_up(self.threads);
        drop(guard);
        self.spawn(tasks);
    }

    /// Processes the next item in order on the calling thread, if no task has started anything.
    pub(super) fn do_one(&self) {
        let mut state = self.state.lock();
        let (Some(work), 0) = (state.work.clone(), state.running) else { return };
        let Some(mut run) = state.waiting.pop_front() else { return };
        let next = run.items.pop_front();
        let mut hold = None;
        if run.items.is_empty() {
            hold = run.hold;
        } else {
            state.waiting.push_front(run);
        }
        drop(state);
        if let Some((number, item)) = next {
            let done = work.process(item);
            self.state.lock().results.insert(number, done);
        }
        drop(hold);
    }

    /// Removes everything that has not started. Calls in progress continue.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        let work = state.work.take();
        let waiting = std::mem::take(&mut state.waiting);
        let open = std::mem::take(&mut state.open);
        drop(state);
        panic::guard_drop(work);
        for run in open {
            let todo = std::mem::take(&mut run.slot.lock().todo);
            panic::discard(todo);
        }
        for run in waiting {
            panic::discard(run.items);
            drop(run.hold);
        }
    }

    /// Whether a call is in progress.
    pub(super) fn is_running(&self) -> bool {
        self.state.lock().running > 0
    }

    /// Drops all results. A task releases the desk some time after its last act: the remaining results must not wait
    /// for that.
    pub(super) fn clear(&self) {
        let results = std::mem::replace(&mut self.state.lock().results, Reorder::new(true));
        panic::discard(results.into_all());
    }
}

impl<In, Out, F> State<In, Out, F> {
    /// Invariant 2: the number of further tasks that the pool must be given.
    fn top_up(&mut self, threads: usize) -> usize {
        let missing = self.waiting.len().min(threads).saturating_sub(self.queued);
        self.queued += missing;
        missing
    }
}

impl<In> Run<In> {
    fn first(&self) -> Option<u64> {
        self.items.front().map(|&(number, _)| number)
    }
}

impl<In, Out> Slot<In, Out> {
    /// Leaves a result, and takes the next item.
    fn swap(&mut self, done: Numbered<Done<Out>>) -> Option<Numbered<Result<In>>> {
        self.done.push(done);
        self.todo.pop_front()
    }
}
