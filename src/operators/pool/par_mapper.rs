//! [`ParMapper`]: computing on a rayon pool.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::ThreadPool;

use super::desk::{Desk, Done, Run, Work};
use super::slots::Numbered;
use crate::clock::wait::Waiter;
use crate::clock::{earlier, real_now};
use crate::edge::{EdgeSender, End, Polled};
use crate::error::Result;
use crate::operators::options::{Options, common_options, opaque_debug};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::pipeline::timing::Phase;
use crate::stage::input::Input;
use crate::stage::thread::{StageThread, spawn_error};
use crate::stream::Processor;
use crate::stream::Stream;
use crate::stream::start::Registered;

/// Turns each item into another one on a rayon pool: for computations in several stages that share the processors
/// instead of having threads of their own.
///
/// The closure takes the item by value. If it panics, an error item of kind [`Panicked`](crate::ErrorKind::Panicked) takes the
/// place of the item. Work that waits does not belong on a rayon pool: use [`AsyncMapper`](crate::AsyncMapper).
///
/// Items are handed to the pool one by one, or in small runs if they turn out to be so cheap that handing them over
/// would cost more than the work. A run is sized to take about 50 microseconds, judging by the last ones. A run that
/// takes longer is split: its results are emitted, and other threads of the pool take its unstarted items.
///
/// ```
/// use streamz::{ParMapper, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("squares");
/// let squares = Stream::from_iter(&pipeline, 0..4u64)
///     .through(&ParMapper::new(|n| n * n))
///     .collect::<Vec<_>>()?;
/// assert_eq!(squares, [0, 1, 4, 9]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// Results are emitted in the order of the input.
///
/// # Back-pressure
/// Nothing is taken from the input while [`window`](Self::with_window) items are in progress or wait for their turn. At
/// most that many items, plus the capacity of the output, are in flight. A task of the pool never blocks on the
/// pipeline: the stage's own thread does all the waiting.
///
/// # A busy pool
/// The stage does not depend on the pool. If the pool starts none of the waiting items for 10 milliseconds, the stage's
/// own thread calls the closure, for one item after another, until the pool starts one. So a pool that is busy with other
/// work does not stop the stage, and neither does a pool whose threads all wait for this very pipeline: a closure may run
/// a pipeline with a `ParMapper` of its own on the same pool, and the sink of a pipeline may run on a thread of that pool.
/// A stage that is started on a thread of a rayon pool, as in such a closure, does not wait those 10 milliseconds.
///
/// While the stage's thread is in such a call, it emits nothing and takes nothing: results that the pool finishes in that
/// time are held back until the call returns.
///
/// Under a [`ManualClock`](crate::ManualClock) the stage waits for the pool, however long that takes, unless it was
/// started on a thread of a rayon pool.
///
/// # Cancellation
/// Items whose calls have not started are dropped and counted as abandoned, even if the pool is busy with other work.
/// Calls in progress cannot be interrupted: the stage waits for them.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("rayon", "par_iter", "parallel", "cpu_bound"))]
pub struct ParMapper<In, Out, F> {
    f: Arc<F>,
    options: Options,
    window: usize,
    pool: Option<Arc<ThreadPool>>,
    types: PhantomData<fn(In) -> Out>,
}

const DEFAULT_WINDOW: usize = 1024;

/// How long the stage's thread waits for a pool that starts none of its work: much longer than waking a free thread
/// takes.
const PATIENCE: Duration = Duration::from_millis(10);

impl<In, Out, F: Fn(In) -> Out> ParMapper<In, Out, F> {
    /// Creates a mapper that calls `f` on rayon's global pool. Default name: `par_map`.
    pub fn new(f: F) -> Self {
        Self {
            f: Arc::new(f),
            options: Options::new("par_map"),
            window: DEFAULT_WINDOW,
            pool: None,
            types: PhantomData,
        }
    }

    common_options!();

    /// Uses the given pool instead of the global one.
    ///
    /// A pool thread has the stack that its builder sets, 2 MiB by default, which is enough for items of up to 16 KiB in
    /// debug builds. For larger ones, give the pool a [`stack_size`](rayon::ThreadPoolBuilder::stack_size) of at least
    /// [`DEFAULT_STACK_SIZE`](crate::DEFAULT_STACK_SIZE).
    pub fn with_pool(mut self, pool: Arc<ThreadPool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Sets how many items may be in progress, or finished and waiting for their turn or for room. Defaults to 1,024; 1 works
    /// on one item at a time.
    ///
    /// # Panics
    /// If `window` is 0.
    #[track_caller]
    pub fn with_window(mut self, window: usize) -> Self {
        assert!(window > 0, "`window` must be at least 1");
        self.window = window;
        self
    }
}

impl<In, Out, F> Processor for ParMapper<In, Out, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    F: Fn(In) -> Out + Send + Sync + 'static,
{
    type In = In;
    type Out = Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<In>) -> Stream<Out> {
        let registered = Registered::with_input(cancel, &input, &self.options.name, StageKind::Processor, &[], 1);
        let (sender, stream) = registered.output("", self.options.capacity);
        let (f, pool, window) = (Arc::clone(&self.f), self.pool.clone(), self.window);
        // A caller that starts this on a thread of the pool is likely to wait for it there.
        let is_nested = match &pool {
            Some(pool) => pool.current_thread_index().is_some(),
            None => rayon::current_thread_index().is_some(),
        };
        let name = registered.thread_name(0);
        cancel.scope().spawn(&name, true, move |started| {
            let context = registered.context();
            let Registered { token, stats, .. } = registered;
            let mut sender = sender;
            if let Err(error) = started {
                return sender.end(End::Cut(spawn_error(&token, &stats, &error)));
            }
            let thread = StageThread::new(token, stats, 0);
            sender.watch(thread.wake());
            // What is visible at a given moment of virtual time must not depend on real time.
            let limit = if thread.token.clock().is_manual() { None } else { Some(PATIENCE) };
            let patience = Patience::new(if is_nested { Some(Duration::ZERO) } else { limit });
            let dispatcher = Dispatcher {
                desk: Arc::new(Desk::new(Arc::clone(thread.wake()), pool, Work { f, context })),
                window,
                thread,
                input: Some(input.into_input()),
                sender,
                ready: VecDeque::new(),
                next: 0,
                held: 0,
                patience,
            };
            dispatcher.run();
        });
        stream
    }

    fn name(&self) -> &str {
        &self.options.name
    }
}

/// The stage's thread: takes items, gives them to the pool, emits results.
struct Dispatcher<In, Out, F> {
    desk: Arc<Desk<In, Out, F>>,
    window: usize,
    thread: StageThread,
    /// `None` when it has ended.
    input: Option<Input<In>>,
    sender: EdgeSender<Out>,
    /// Results whose turn it is.
    ready: VecDeque<Done<Out>>,
    /// The number of the next item.
    next: u64,
    /// The number of items given to the pool whose results have not been emitted.
    held: usize,
    patience: Patience,
}

/// The stage has to stop.
struct Stopped;

impl<In, Out, F> Dispatcher<In, Out, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    F: Fn(In) -> Out + Send + Sync + 'static,
{
    fn run(mut self) {
        let end = self.dispatch().unwrap_or_else(|Stopped| End::Cut(self.thread.cut()));
        // A foreign channel may hold user values.
        panic::guard_drop(self.input.take());
        self.desk.close();
        while self.desk.is_running() {
            self.thread.wait_regardless(Phase::Delegated, || !self.desk.is_running());
        }
        self.desk.clear();
        panic::discard(std::mem::take(&mut self.ready));
        let step = &self.thread.stats.steps[0];
        step.abandoned.add(step.unsettled());
        self.sender.end(end);
    }

    fn dispatch(&mut self) -> Result<End, Stopped> {
        let mut end = End::Finished;
        loop {
            if self.thread.is_stopped() || self.sender.is_gone() {
                return Err(Stopped);
            }
            self.pass_on();
            // Before a wait: nothing wakes this thread after the last result.
            if self.input.is_none() && self.held == 0 && !self.sender.is_stuck() {
                return Ok(end);
            }
            match self.take_run() {
                Ok(items) if items.is_empty() => self.wait(),
                Ok(items) => self.put(items),
                Err(ended) => {
                    end = ended;
                    self.input = None;
                }
            }
        }
    }

    /// The number of further items that the window allows. A stuck result has not left it.
    fn room(&self) -> usize {
        self.window - self.held - usize::from(self.sender.is_stuck())
    }

    /// Takes the available items, at most a run, as far as the window allows.
    fn take_run(&mut self) -> Result<VecDeque<Numbered<Result<In>>>, End> {
        let mut run = VecDeque::new();
        let room = self.room();
        let Some(input) = &mut self.input else { return Ok(run) };
        let virtual_time = self.thread.token.clock().is_manual();
        let length = if virtual_time { 1 } else { self.desk.run_length() };
        let step = &self.thread.stats.steps[0];
        while run.len() < length.min(room) {
            match input.poll() {
                Polled::Item(item) => {
                    match &item {
                        Ok(_) => step.received.add(1),
                        Err(error) => step.errors_in.add(u64::from(!error.is_mark())),
                    }
                    run.push_back((self.next, item));
                    self.next += 1;
                }
                // The end is returned again when the run is under way.
                Polled::Ended(end) if run.is_empty() => return Err(end),
                Polled::Ended(_) | Polled::Empty => break,
            }
        }
        input.settle();
        Ok(run)
    }

    fn put(&mut self, items: VecDeque<Numbered<Result<In>>>) {
        self.held += items.len();
        let hold = self.thread.token.clock().hold("a task on a rayon pool");
        self.desk.put(Run { items, hold });
    }

    /// Emits the results whose turn it is, as far as there is room.
    fn pass_on(&mut self) {
        loop {
            if self.sender.is_stuck() {
                self.sender.hand_over();
                if self.sender.is_stuck() {
                    return;
                }
            }
            let Some(result) = self.next_result() else { break };
            self.held -= 1;
            self.send(result);
        }
        self.sender.hand_over();
    }

    fn next_result(&mut self) -> Option<Done<Out>> {
        if self.ready.is_empty() {
            self.desk.take_ready(&mut self.ready);
        }
        self.ready.pop_front()
    }

    fn send(&mut self, result: Done<Out>) {
        let step = &self.thread.stats.steps[0];
        match result {
            Done::Item(item) => {
                step.delivered.add(1);
                step.emitted.add(1);
                self.sender.push(Ok(item));
            }
            Done::Failed(error) => {
                step.failed.add(1);
                step.errors_out.add(1);
                self.sender.push(Err(error));
            }
            Done::Passed(mark) if mark.is_mark() => {
                self.thread.stats.recordings.note_mark(mark.emitted(), self.thread.token.clock());
                self.sender.put_mark(mark);
            }
            Done::Passed(error) => {
                step.errors_out.add(1);
                self.sender.push(Err(error));
            }
        }
    }

    /// Called when there is nothing to take and nothing to send. Waits for results; for room, if some are ready; and for
    /// input, unless the window is full. Breaks up overdue runs, and helps a pool that starts nothing.
    fn wait(&mut self) {
        let (is_stuck, look) = (self.sender.is_stuck(), self.desk.look());
        // Stuck results come before work that could be done here.
        let helps_at = self.patience.ends(look.begun, look.is_waiting && !is_stuck);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= real_now());
        if is_due(look.overdue) {
            return self.desk.break_up();
        }
        if is_due(helps_at) {
            return self.desk.do_one();
        }
        let (desk, sender, wake) = (&self.desk, &self.sender, self.thread.wake());
        let hint = || if is_stuck { sender.may_have_room() } else { desk.is_ready() };
        let register = |_: &Waiter| if is_stuck { sender.want_room(wake) } else { desk.is_ready() || sender.is_gone() };
        let until = earlier(look.overdue, helps_at);
        match &self.input {
            Some(input) if self.room() > 0 => self.thread.wait_for_inputs(input, until, hint, register),
            _ if is_stuck => self.thread.wait(Phase::Blocked, until, hint, register),
            _ => self.thread.wait(Phase::Idle, until, hint, register),
        }
    }
}

/// How long the stage's thread waits for a pool that starts none of its work.
struct Patience {
    /// `None` for no limit.
    limit: Option<Duration>,
    /// When the wait started.
    since: Option<Instant>,
    /// The limit has passed, and the pool has started nothing since.
    is_over: bool,
    /// The number of runs that the pool had started at the last check.
    begun: u64,
}

impl Patience {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, since: None, is_over: false, begun: 0 }
    }

    /// Returns when the stage's thread starts to do the work itself, if it has to wait.
    fn ends(&mut self, begun: u64, is_waiting: bool) -> Option<Instant> {
        if begun != self.begun {
            *self = Self { begun, ..Self::new(self.limit) };
        }
        if !is_waiting {
            self.since = None;
            return None;
        }
        let limit = self.limit?;
        let since = *self.since.get_or_insert_with(real_now);
        if self.is_over {
            return Some(since);
        }
        let end = since.checked_add(limit)?;
        self.is_over = end <= real_now();
        Some(end)
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Turns each item into another one on rayon's global pool, in order: a [`ParMapper`].
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn par_map<Out, F>(self, f: F) -> Stream<Out>
    where
        Out: Send + 'static,
        F: Fn(T) -> Out + Send + Sync + 'static,
    {
        self.through_once(ParMapper::new(f))
    }
}

opaque_debug! { [In, Out, F] ParMapper<In, Out, F>: options, window, pool }
