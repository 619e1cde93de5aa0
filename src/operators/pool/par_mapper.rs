//! [`ParMapper`]: computing on a rayon pool.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rayon::ThreadPool;

use super::reorder::Reorder;
use super::run_length::{RUN_TIME, RunLength};
use crate::clock::wait::Wake;
use crate::clock::{Hold, real_now};
use crate::edge::{EdgeSender, End, Polled};
use crate::error::{ErrorKind, PanicMessage, Result, StreamError};
use crate::operators::options::{Options, common_options, opaque_debug};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::pipeline::stats::{Phase, StageKind};
use crate::stage::input::Input;
use crate::stage::operator::sealed::Context;
use crate::stage::thread::{StageThread, spawn_error};
use crate::stream::Processor;
use crate::stream::Stream;
use crate::stream::start::Registered;

/// Turns each item into another on a rayon pool: for work that computes, in several stages that should share the
/// processors instead of having threads of their own.
///
/// The closure takes the item by value. If it panics, an error item of kind [`Panicked`](ErrorKind::Panicked) takes the
/// place of the item. Work that waits does not belong on a rayon pool: use [`AsyncMapper`](crate::AsyncMapper).
///
/// Items are handed to the pool one by one, or in small runs if they turn out to be so cheap that handing them over
/// would cost more than the work: a run is sized to take about 50 microseconds, by the time the last ones took. One that
/// takes longer is broken up.
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
/// stage's own thread does all the waiting; a task of the pool never blocks. Do not read the end of such a pipeline on a
/// thread of the same rayon pool: if it has no other thread, nobody computes what is waited for.
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

/// After how many items of a run its time is looked at.
const LOOK_EVERY: usize = 4;

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
            let context = registered.context();
            let Registered { token, stats, .. } = registered;
            let mut sender = sender;
            if let Err(error) = started {
                return sender.end(End::Cut(spawn_error(&token, &stats, error)));
            }
            let thread = StageThread::new(token, stats, 0);
            sender.watch(thread.wake());
            let (stopped, run_length) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(RunLength::new())));
            let work = Work { f, context, pool, stopped: Arc::clone(&stopped), run_length: Arc::clone(&run_length) };
            let state = Mutex::new(State { results: Reorder::new(true), running: 0 });
            let dispatcher = Dispatcher {
                work: Arc::new(work),
                desk: Arc::new(Desk { wake: Arc::clone(thread.wake()), state }),
                stopped,
                run_length,
                window,
                thread,
                input: Some(input.into_input()),
                sender,
                next: 0,
                held: 0,
            };
            dispatcher.run();
        });
        stream
    }

    fn name(&self) -> &str {
        &self.options.name
    }
}

/// What the tasks need to work. Apart from the desk, because it must be gone before a task counts as done: the closure
/// may own what its user expects to have back after `join`.
struct Work<F> {
    f: Arc<F>,
    context: Context,
    pool: Option<Arc<ThreadPool>>,
    /// Tasks that have not begun are to do nothing.
    stopped: Arc<AtomicBool>,
    run_length: Arc<Mutex<RunLength>>,
}

/// Where the tasks put their results.
struct Desk<Out> {
    /// Of the stage's thread.
    wake: Arc<Wake>,
    state: Mutex<State<Out>>,
}

struct State<Out> {
    results: Reorder<Done<Out>>,
    /// Tasks that have been spawned and have not put all their results here.
    running: usize,
}

enum Done<Out> {
    Item(Out),
    Failed(StreamError),
    Passed(StreamError),
    Abandoned,
}

/// A run of items on its way through the pool.
struct Task<In, Out, F> {
    /// The number of the first item.
    first: u64,
    items: VecDeque<Result<In>>,
    work: Arc<Work<F>>,
    desk: Arc<Desk<Out>>,
    /// Dropped last: virtual time must not pass before the wake is posted.
    hold: Option<Hold>,
}

impl<In, Out, F> Task<In, Out, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    F: Fn(In) -> Out + Send + Sync + 'static,
{
    fn spawn(self) {
        match self.work.pool.clone() {
            Some(pool) => pool.spawn_fifo(move || self.run()),
            None => rayon::spawn_fifo(move || self.run()),
        }
    }

    /// Works the run off. If it turns out to be longer than it was meant to be, what is done is put on the desk and the
    /// rest goes back to the pool, where others can take it.
    fn run(mut self) {
        let started = real_now();
        let mut done = Vec::with_capacity(self.items.len());
        while let Some(item) = self.items.pop_front() {
            done.push(self.work.process(item));
            if !self.items.is_empty() && done.len() % LOOK_EVERY == 0 && started.elapsed() > 2 * RUN_TIME {
                break;
            }
        }
        self.work.run_length.lock().adapt(started.elapsed(), done.len());
        let Self { first, items, work, desk, hold } = self;
        let count = done.len() as u64;
        let split = !items.is_empty();
        if split {
            // Counted before this task is done, and put in order one by one from now on.
            desk.state.lock().running += items.len();
            for (item, number) in items.into_iter().zip(first + count..) {
                let (work, desk, hold) = (Arc::clone(&work), Arc::clone(&desk), hold.as_ref().map(Hold::another));
                Self { first: number, items: VecDeque::from([item]), work, desk, hold }.spawn();
            }
        }
        drop(work);
        let mut state = desk.state.lock();
        for (result, number) in done.into_iter().zip(first..) {
            state.results.insert(number, result);
        }
        state.running -= 1;
        drop(state);
        desk.wake.post();
        drop(hold);
    }
}

impl<F> Work<F> {
    fn process<In, Out>(&self, item: Result<In>) -> Done<Out>
    where
        F: Fn(In) -> Out,
    {
        let item = match item {
            Ok(item) => item,
            Err(error) => return Done::Passed(error),
        };
        if self.stopped.load(Ordering::Relaxed) {
            // A panic that leaves a task would abort the process.
            let _ = panic::catch(|| drop(item));
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
}

/// The stage's thread: takes items, gives them to the pool, passes results on.
struct Dispatcher<In, Out, F> {
    work: Arc<Work<F>>,
    desk: Arc<Desk<Out>>,
    stopped: Arc<AtomicBool>,
    run_length: Arc<Mutex<RunLength>>,
    window: usize,
    thread: StageThread,
    /// `None` when it has ended.
    input: Option<Input<In>>,
    sender: EdgeSender<Out>,
    /// The number of the next item.
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
        self.stopped.store(true, Ordering::Relaxed);
        self.wait_for_tasks();
        // A task lets go of what it shares with this thread some time after its last act: what is left must not wait for
        // that.
        let left = std::mem::replace(&mut self.desk.state.lock().results, Reorder::new(true));
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
    fn take_run(&mut self) -> Result<VecDeque<Result<In>>, End> {
        let mut run = VecDeque::new();
        let Some(input) = &mut self.input else { return Ok(run) };
        let virtual_time = self.thread.token.clock().is_manual();
        let length = if virtual_time { 1 } else { self.run_length.lock().get() };
        let step = &self.thread.stats.steps[0];
        while run.len() < length.min(self.window - self.held) {
            match input.poll() {
                Polled::Item(item) => {
                    if item.is_ok() { &step.received } else { &step.errors_in }.add(1);
                    run.push_back(item);
                }
                // The end comes again when the run is on its way.
                Polled::Ended(end) if run.is_empty() => return Err(end),
                Polled::Ended(_) | Polled::Empty => break,
            }
        }
        input.settle();
        Ok(run)
    }

    fn spawn(&mut self, items: VecDeque<Result<In>>) {
        let first = self.next;
        self.next += items.len() as u64;
        self.held += items.len();
        self.desk.state.lock().running += 1;
        let hold = self.thread.token.clock().hold("a task on a rayon pool");
        Task { first, items, work: Arc::clone(&self.work), desk: Arc::clone(&self.desk), hold }.spawn();
    }

    /// Passes on all results whose turn it is.
    fn pass_on(&mut self) -> Result<(), Stopped> {
        loop {
            let results = self.desk.state.lock().results.take_run();
            if results.is_empty() {
                break;
            }
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
        let (desk, sender) = (&self.desk, &self.sender);
        let done = || desk.state.lock().results.is_ready();
        match &self.input {
            Some(input) if self.held < self.window => {
                self.thread.wait_for_input(input, None, done, |_| done() || sender.is_gone());
            }
            _ => self.thread.wait(Phase::Idle, None, done, |_| done() || sender.is_gone()),
        }
    }

    /// Nothing of this stage runs after it has ended.
    fn wait_for_tasks(&self) {
        let done = || self.desk.state.lock().running == 0;
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
