//! [`ParMapper`]: computing on a rayon pool.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rayon::ThreadPool;

use super::reorder::Reorder;
use crate::clock::real_now;
use crate::error::{ErrorKind, PanicMessage, Result, StreamError};
use crate::pipeline::CancelToken;
use crate::stage::operator::sealed::Context;
use crate::stage::options::{Options, common_options, opaque_debug};
use crate::stage::stats::{Phase, StageKind};
use crate::stage::thread::{StageThread, spawn_error};
use crate::stage::wait::Wake;
use crate::stage::{Processor, Registered, panic};
use crate::stream::{EdgeSender, End, Input, Polled, Stream};

/// Turns each item into another on a rayon pool: for work that computes, in several stages that should share the
/// processors instead of having threads of their own.
///
/// The closure takes the item by value. If it panics, an error item of kind [`Panicked`](ErrorKind::Panicked) takes the
/// place of the item. Work that waits does not belong on a rayon pool: use [`AsyncMapper`](crate::AsyncMapper).
///
/// Items are handed to the pool one by one, or in small runs if they turn out to be so cheap that handing them over
/// would cost more than the work: a run is sized to take about 50 microseconds, by the time the last ones took.
///
/// ```
/// use streamz::{ParMapper, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("squares");
/// let squares = Stream::from_iter(&pipeline, 0..4u64).through(&ParMapper::new(|n| n * n)).collect::<Vec<_>>()?;
/// assert_eq!(squares, [0, 1, 4, 9]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// Results come out in the order of the input.
///
/// # Back-pressure
/// Nothing is taken from the input while [`window`](Self::with_window) items are in progress or wait for their turn. The
/// stage's own thread does all the waiting; a task of the pool never blocks.
///
/// # Cancellation
/// Work that has not been started is dropped and counted as abandoned. Work in progress is waited for: it cannot be
/// interrupted.
#[must_use = "a processor does nothing until it is given a stream"]
pub struct ParMapper<In, Out, F> {
    f: Arc<F>,
    options: Options,
    window: usize,
    pool: Option<Arc<ThreadPool>>,
    types: PhantomData<fn(In) -> Out>,
}

const DEFAULT_WINDOW: usize = 1024;

/// How long a run of cheap items should take.
const RUN_TIME: Duration = Duration::from_micros(50);

/// The longest run.
const MAX_RUN: usize = 128;

impl<In, Out, F: Fn(In) -> Out> ParMapper<In, Out, F> {
    /// A mapper that calls `f` on rayon's global pool. It is called `par_map` unless it is given another name.
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
    pub fn with_pool(mut self, pool: Arc<ThreadPool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Sets how many items may be in progress or finished and waiting for their turn. Defaults to 1,024.
    ///
    /// # Panics
    /// If `items` is 0.
    #[track_caller]
    pub fn with_window(mut self, items: usize) -> Self {
        assert!(items > 0, "`window` must be at least 1");
        self.window = items;
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
        let name = registered.thread_name(0);
        cancel.scope().spawn(&name, true, move |started| {
            let context = Arc::new(registered.context());
            let Registered { token, stats } = registered;
            let mut sender = sender;
            if let Err(error) = started {
                return sender.end(End::Cut(spawn_error(&token, &stats, error)));
            }
            let thread = StageThread::new(token, stats, 0);
            sender.watch(thread.wake());
            let shared = Arc::new(Shared {
                f,
                context,
                wake: Arc::clone(thread.wake()),
                stopped: AtomicBool::new(false),
                run_length: AtomicUsize::new(1),
                state: Mutex::new(State { results: Reorder::new(true), running: 0 }),
            });
            let dispatcher =
                Dispatcher { shared, pool, window, thread, input: Some(input.into_input()), sender, next: 0, held: 0 };
            dispatcher.run();
        });
        stream
    }

    fn name(&self) -> &str {
        &self.options.name
    }
}

/// What the stage's thread and its tasks share.
struct Shared<Out, F> {
    f: Arc<F>,
    context: Arc<Context>,
    /// Of the stage's thread.
    wake: Arc<Wake>,
    /// Tasks that have not begun are to do nothing.
    stopped: AtomicBool,
    run_length: AtomicUsize,
    state: Mutex<State<Out>>,
}

struct State<Out> {
    results: Reorder<Vec<Done<Out>>>,
    /// Tasks that have been spawned and have not put their results here.
    running: usize,
}

enum Done<Out> {
    Item(Out),
    Failed(StreamError),
    Passed(StreamError),
    Abandoned,
}

impl<Out: Send + 'static, F> Shared<Out, F> {
    fn process<In>(&self, run: Vec<Result<In>>) -> Vec<Done<Out>>
    where
        F: Fn(In) -> Out,
    {
        let timed = run.len();
        let started = real_now();
        let results = run.into_iter().map(|item| self.process_one(item)).collect();
        self.adapt(started.elapsed(), timed);
        results
    }

    fn process_one<In>(&self, item: Result<In>) -> Done<Out>
    where
        F: Fn(In) -> Out,
    {
        let item = match item {
            Ok(item) => item,
            Err(error) => return Done::Passed(error),
        };
        if self.stopped.load(Ordering::Relaxed) {
            drop(item);
            return Done::Abandoned;
        }
        match panic::catch(|| (self.f)(item)) {
            Ok(mapped) => Done::Item(mapped),
            Err(payload) => {
                let error = self.context.error(ErrorKind::Panicked, 0);
                Done::Failed(error.with_source(PanicMessage::from(payload)))
            }
        }
    }

    /// Sizes the next runs by what this one took. At most doubles, so that one lucky run does not lead astray.
    fn adapt(&self, took: Duration, items: usize) {
        let each = (took / u32::try_from(items).unwrap_or(u32::MAX)).max(Duration::from_nanos(1));
        let fitting = (RUN_TIME.as_nanos() / each.as_nanos()).clamp(1, MAX_RUN as u128) as usize;
        let now = self.run_length.load(Ordering::Relaxed);
        self.run_length.store(fitting.min(now * 2), Ordering::Relaxed);
    }
}

/// The stage's thread: takes items, gives them to the pool, passes results on.
struct Dispatcher<In, Out, F> {
    shared: Arc<Shared<Out, F>>,
    pool: Option<Arc<ThreadPool>>,
    window: usize,
    thread: StageThread,
    /// `None` when it has ended.
    input: Option<Input<In>>,
    sender: EdgeSender<Out>,
    /// The number of the next run.
    next: u64,
    /// Items given to the pool whose results have not been passed on.
    held: usize,
}

/// A stop condition came true.
struct Stopped;

impl<In, Out, F> Dispatcher<In, Out, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    F: Fn(In) -> Out + Send + Sync + 'static,
{
    fn run(mut self) {
        let end = self.dispatch().unwrap_or_else(|Stopped| End::Cut(self.thread.cut()));
        self.input = None;
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.wait_for_tasks();
        // A task lets go of what it shares with this thread some time after its last act: what is left must not wait for
        // that.
        let left = std::mem::replace(&mut self.shared.state.lock().results, Reorder::new(true));
        drop(left);
        let step = &self.thread.stats.steps[0];
        step.abandoned.add(step.unsettled());
        self.sender.end(end);
    }

    fn dispatch(&mut self) -> Result<End, Stopped> {
        let mut end = End::Finished;
        loop {
            self.check()?;
            self.pass_on()?;
            // Before a wait: after the last result nobody wakes this thread any more.
            if self.input.is_none() && self.held == 0 {
                return Ok(end);
            }
            match self.take_run() {
                Ok(run) if run.is_empty() => self.wait(),
                Ok(run) => self.spawn(run),
                Err(ended) => {
                    end = ended;
                    self.input = None;
                }
            }
        }
    }

    fn check(&self) -> Result<(), Stopped> {
        if self.thread.is_stopped() || self.sender.is_gone() { Err(Stopped) } else { Ok(()) }
    }

    /// What is there to take now, up to a run, as far as the window allows.
    fn take_run(&mut self) -> Result<Vec<Result<In>>, End> {
        let mut run = Vec::new();
        let Some(input) = &mut self.input else { return Ok(run) };
        let virtual_time = self.thread.token.clock().is_manual();
        let length = if virtual_time { 1 } else { self.shared.run_length.load(Ordering::Relaxed) };
        let step = &self.thread.stats.steps[0];
        while run.len() < length.min(self.window - self.held) {
            match input.poll() {
                Polled::Item(item) => {
                    if item.is_ok() { &step.received } else { &step.errors_in }.add(1);
                    run.push(item);
                }
                // The end comes again when the run is on its way.
                Polled::Ended(end) if run.is_empty() => return Err(end),
                Polled::Ended(_) | Polled::Empty => break,
            }
        }
        input.settle();
        Ok(run)
    }

    fn spawn(&mut self, run: Vec<Result<In>>) {
        let sequence = self.next;
        self.next += 1;
        self.held += run.len();
        self.shared.state.lock().running += 1;
        let shared = Arc::clone(&self.shared);
        let hold = self.thread.token.clock().hold("a task on a rayon pool");
        let task = move || {
            let results = shared.process(run);
            let mut state = shared.state.lock();
            state.results.insert(sequence, results);
            state.running -= 1;
            drop(state);
            shared.wake.post();
            // Last: virtual time must not pass before the wake is posted.
            drop(hold);
        };
        match &self.pool {
            Some(pool) => pool.spawn_fifo(task),
            None => rayon::spawn_fifo(task),
        }
    }

    /// Passes on all results whose turn it is.
    fn pass_on(&mut self) -> Result<(), Stopped> {
        loop {
            let Some(results) = self.shared.state.lock().results.pop() else { break };
            for result in results {
                self.held -= 1;
                self.send(result);
                while self.sender.is_stuck() {
                    self.check()?;
                    let (sender, wake) = (&self.sender, self.thread.wake());
                    self.thread.wait(Phase::Blocked, None, || sender.may_have_room(), |_| sender.want_room(wake));
                    self.sender.hand_over();
                }
            }
        }
        self.sender.hand_over();
        Ok(())
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
            Done::Passed(error) => {
                step.errors_out.add(1);
                self.sender.push(Err(error));
            }
            Done::Abandoned => {}
        }
    }

    /// Waits for results, and unless the window is full, for input.
    fn wait(&self) {
        let (shared, sender) = (&self.shared, &self.sender);
        let done = || shared.state.lock().results.is_ready();
        match &self.input {
            Some(input) if self.held < self.window => {
                self.thread.wait_for_input(input, None, done, |_| done() || sender.is_gone());
            }
            _ => self.thread.wait(Phase::Idle, None, done, |_| done() || sender.is_gone()),
        }
    }

    /// Nothing of this stage runs after it has ended.
    fn wait_for_tasks(&self) {
        let done = || self.shared.state.lock().running == 0;
        while !done() {
            self.thread.wait_regardless(done);
        }
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Turns each item into another on rayon's global pool, in order: a [`ParMapper`].
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn par_map<Out, F>(self, f: F) -> Stream<Out>
    where
        Out: Send + 'static,
        F: Fn(T) -> Out + Send + Sync + 'static,
    {
        self.through(&ParMapper::new(f))
    }
}

opaque_debug! { [In, Out, F] ParMapper<In, Out, F>: options, window, pool }
