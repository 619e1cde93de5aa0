//! [`Pipeline`]: the owner of a token, its stages and their threads.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::name::checked;
use super::node::Node;
use super::recording::Latencies;
use super::{CancelToken, Cause, Completion, Report, Scope, Settings};
use crate::clock::Clock;
use crate::clock::Limit;
use crate::panic;
use crate::trace::event;

/// The capacity of an edge, unless another is set: 256 items.
pub const DEFAULT_CAPACITY: usize = 256;

/// The time without progress after which a pipeline logs a warning.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// The stack size of a pipeline's threads in bytes, unless [`stack_size`](PipelineBuilder::stack_size) sets another: 8
/// MiB.
///
/// Items are moved by value, and each step that an item passes through has copies of it on the stack. With this size,
/// items of up to 64 KiB fit in debug and release builds: through every operator, and through a stage of up to eight
/// fused steps, or four if it groups items and flattens them again (`chunk`, `flatten`). Optimized builds handle items
/// four times that size. Larger items overflow the stack, which ends the process: put them in a `Box`, a `Vec` or an
/// `Arc`. That is also faster, from a few hundred bytes.
///
/// A stage is built on the calling thread. An operator that keeps a large value inside itself, such as the state of an
/// [`Aggregate`](crate::Aggregate) or the iterator over an array in [`FlatMap`](crate::FlatMap), needs stack there,
/// too.
pub const DEFAULT_STACK_SIZE: usize = 8 * 1024 * 1024;

/// Owns a token and every thread that is started under it.
///
/// A pipeline may run any number of jobs, one after the other or at the same time: its report sums up stages that have
/// [ended](crate::StageReport::merged) when there are many. Creating a pipeline for each job gives each job its own
/// report and outcome.
///
/// Stages are built on the pipeline's token, to which it dereferences: `Stream::from_iter(&pipeline, ..)`. Each gets
/// its threads at once and starts to work, before the rest of the pipeline is built.
///
/// - [`join`](Self::join) waits for the end of the work, [`join_timeout`](Self::join_timeout) for a limited time.
/// - [`drain`](CancelToken::drain) stops the sources; items in flight are processed.
/// - [`drain_within`](Self::drain_within) does both, and aborts after a time limit.
/// - [`abort`](Self::abort) stops everything now.
/// - Dropping a pipeline that has not finished cancels it and waits until its threads have ended. On one of its own
///   threads it only cancels.
/// - A program that builds the same pipeline repeatedly [reuses threads](PipelineBuilder::reuse_threads).
///
/// [`Pipeline::run`] creates a pipeline for the duration of a closure and joins it at the end. Use [`Pipeline::new`]
/// for one that outlives the function that creates it, as in a service.
///
/// ```
/// use streamz::{Pipeline, Stream};
///
/// let pipeline = Pipeline::new("squares");
/// let squares = Stream::from_iter(&pipeline, 1..=4).map(|n| n * n).collect::<Vec<_>>()?;
/// assert_eq!(squares, [1, 4, 9, 16]);
/// assert!(pipeline.join().is_complete());
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "dropping a pipeline cancels it"]
#[doc(alias("JoinSet", "Scope", "Supervisor", "TaskTracker"))]
pub struct Pipeline {
    token: CancelToken,
}

/// Configures a [`Pipeline`]; created by [`Pipeline::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct PipelineBuilder {
    name: Arc<str>,
    clock: Clock,
    settings: Settings,
    timeout: Option<Duration>,
}

impl PipelineBuilder {
    /// Sets the clock of every stage. Defaults to the system clock; tests pass a [`ManualClock`](crate::ManualClock).
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Sets the capacity of edges that set none of their own. Defaults to [`DEFAULT_CAPACITY`]. With 0 every item is
    /// handed over directly, which costs a thread switch each.
    pub fn capacity(mut self, items: usize) -> Self {
        self.settings.capacity = items;
        self
    }

    /// Sets the stack size of every thread of the pipeline. Defaults to [`DEFAULT_STACK_SIZE`]; the environment variable
    /// `RUST_MIN_STACK` has no effect on these threads.
    ///
    /// The memory is reserved and not used until it is needed: a thread of 8 MiB that needs 20 KiB costs 20 KiB, and 8
    /// MiB of address space. The operating system rounds small values up to its minimum. If it cannot provide a size,
    /// the stage has no thread, as with [`max_threads`](Self::max_threads).
    ///
    /// See [`DEFAULT_STACK_SIZE`] for the size of items that fit. Rayon's threads, on which a
    /// [`ParMapper`](crate::ParMapper) computes, and threads of the caller, on which a sink runs, have stacks of their
    /// own.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.settings.stack_size = bytes;
        self
    }

    /// Limits the number of threads that the pipeline may have at a time. Defaults to as many as the operating system
    /// provides.
    ///
    /// A stage for which no thread is left does not start: its output is cut by an error whose source is of kind
    /// [`Internal`](crate::ErrorKind::Internal), and the [outcome](crate::Outcome) is [`Cut`](crate::Outcome::Cut). A
    /// pool that gets only some of its workers runs with those. [`spawn_for_each`](crate::Stream::spawn_for_each),
    /// [`into_receiver`](crate::Stream::into_receiver), [`spawn`](CancelToken::spawn) and [`every`](CancelToken::every)
    /// cancel the pipeline. The same happens when the operating system provides no more threads, except for a pool: if
    /// it is refused the first of its threads, it is cut like any stage, without an attempt at the others.
    ///
    /// With 0, only streams that are fed and read by the caller's threads work.
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.settings.max_threads = threads;
        self
    }

    /// Sets whether the stages may share threads with stages of earlier and later pipelines. Defaults to true.
    ///
    /// Creating a thread takes longer than running a small pipeline. So when a program starts a thread of the same name
    /// for the second time (the name of the pipeline, the stage and its index), that thread does not end with its
    /// stage: it waits up to 5 seconds for the next stage of that name and stack size. At most 256 threads of the
    /// process wait. They belong to no pipeline: [`join`](Pipeline::join) does not wait for them,
    /// [`threads`](Pipeline::threads) does not count them, and the process may exit at any time. A pipeline that runs
    /// once, or whose name differs each time, has threads of its own.
    ///
    /// A stage may find what an earlier one left on the thread: the values of a `thread_local!`, a priority, an
    /// affinity. Thread-locals are dropped when the thread ends, which may be seconds after `join` has returned, and
    /// never if the process exits first. With `false` each thread is a new one, and `join` returns after it has ended.
    /// Choose that if a closure needs fresh thread-locals, or has one whose `Drop` matters, such as a buffer that is
    /// flushed on drop.
    pub fn reuse_threads(mut self, reuse: bool) -> Self {
        self.settings.reuse_threads = reuse;
        self
    }

    /// Sets the time without any progress after which a warning is logged that names what the pipeline [waits
    /// for](crate::Report::diagnosis). Defaults to 10 s; zero and `Duration::MAX` mean never.
    ///
    /// The check runs on threads that wait for the pipeline: in [`join`](Pipeline::join),
    /// [`drain_within`](Pipeline::drain_within), a sink, an iterator, [`recv`](crate::Stream::recv) or
    /// [`Sender::send`](crate::Sender::send). A pipeline without such a thread is not watched, nor is one on a
    /// [`ManualClock`](crate::ManualClock). It warns once in its life, even if it is merely waiting for work: for
    /// requests, or for the next hour. The warning comes after one to one and a half times this period without
    /// progress.
    pub fn stall_warning(mut self, after: Duration) -> Self {
        self.settings.stall_limit = Some(after).filter(|after| !after.is_zero() && *after < Duration::MAX);
        self
    }

    /// Sets which stages record how long each item, or each call, takes
    /// ([`StageReport::latency`](crate::StageReport::latency)), and how old items are when they leave the stage
    /// ([`StageReport::age`](crate::StageReport::age)). Defaults to none.
    ///
    /// A stage uses up to 50 KiB per thread, and 50 KiB for ages.
    ///
    /// ```
    /// use std::time::Duration;
    /// use streamz::{AsyncMapper, CancelToken, Latencies, ManualClock, Pipeline, Stream};
    ///
    /// let clock = ManualClock::new();
    /// let pipeline = Pipeline::builder("orders")
    ///     .clock(&clock)
    ///     .latencies(Latencies::of(["fetch"]))
    ///     .build();
    /// let fetch = AsyncMapper::new(|cancel: &CancelToken, order: &u64| {
    ///     cancel.sleep(Duration::from_millis(10 * order))
    /// });
    /// Stream::from_iter(&pipeline, 1..=10)
    ///     .through(&fetch.with_name("fetch"))
    ///     .spawn_for_each(drop);
    /// clock.advance(Duration::from_secs(1));
    ///
    /// let report = pipeline.join();
    /// let latency = report.stage("fetch").unwrap().latency.as_ref().unwrap();
    /// assert_eq!((latency.count, latency.max), (10, Duration::from_millis(100)));
    /// ```
    #[cfg(feature = "latency")]
    pub fn latencies(mut self, stages: Latencies) -> Self {
        self.settings.latencies = stages;
        self
    }

    /// Cancels the pipeline when it has run for the given duration. Defaults to never.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Creates the pipeline.
    pub fn build(self) -> Pipeline {
        let deadline = self.timeout.and_then(|timeout| self.clock.now().checked_add(timeout));
        let root = Node::root(self.clock.clone(), deadline);
        let scope = Scope::new(self.name, self.clock, Arc::clone(&root), self.settings);
        Pipeline { token: CancelToken::for_scope(root, scope) }
    }

    /// Builds the pipeline, runs `work` with it, and joins it. See [`Pipeline::run`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use streamz::{Pipeline, Stream};
    ///
    /// let (count, report) = Pipeline::builder("count")
    ///     .timeout(Duration::from_secs(60))
    ///     .run(|pipeline| Stream::from_iter(pipeline, 0..100).count());
    /// assert_eq!(count?, 100);
    /// assert!(report.is_complete());
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If `work` panics.
    pub fn run<R>(self, work: impl FnOnce(&Pipeline) -> R) -> (R, Report)
    where
        R: Completion,
        R::Error: fmt::Display,
    {
        let pipeline = self.build();
        let returned = catch_unwind(AssertUnwindSafe(|| work(&pipeline))).unwrap_or_else(|payload| {
            let message = panic::text_of(&*payload).unwrap_or("not a text");
            pipeline.cancel_because(format!("the closure of `run` panicked: {message}"));
            pipeline.token.scope().join(Limit::Unlimited);
            resume_unwind(payload)
        });
        if let Some(error) = returned.failure() {
            pipeline.token.scope().fail(error.to_string());
        }
        (returned, pipeline.join())
    }
}

impl Pipeline {
    /// Runs `work` with a new pipeline, joins it, and returns what `work` returned together with the report.
    ///
    /// All threads of the pipeline have ended when `run` returns, whatever `work` returns and even if it panics. With
    /// [`Pipeline::new`] that takes a call of [`join`](Self::join); dropping the pipeline without it discards all items
    /// that have not been processed.
    ///
    /// `work` runs on the calling thread. It returns `()` or a [`Result`], and may borrow; stages run on threads of
    /// their own, so their closures and items are `'static`. An error that it returns cancels whatever is still
    /// running, such as an endless source; the [cause](Cause) is the text of the error. If a stream had been cut before,
    /// the [outcome](crate::Outcome) is that cut. Read or drop each stream, and drop or finish each
    /// [`Sender`](crate::Sender), before `work` returns: if it returns one, `run` waits forever.
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let (sum, report) = Pipeline::run("readings", |pipeline| {
    ///     let (readings, failed) = Stream::from_iter(pipeline, ["20.5", "oops", "22.0"])
    ///         .try_map(|line: &&str| line.parse::<f64>())
    ///         .dead_letters();
    ///     failed.spawn_for_each(|letter| eprintln!("put aside: {letter:?}"));
    ///     readings.fold(0.0, |sum, reading| sum + reading)
    /// });
    /// assert_eq!(sum?, 42.5);
    /// assert_eq!(report.stage("map").unwrap().failed(), 1);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// A closure whose `?` converts errors of several types ends in [`streamz::ok`](crate::ok), which makes the error a
    /// [`BoxError`](crate::BoxError).
    ///
    /// For a pipeline with options, see [`PipelineBuilder::run`].
    ///
    /// # Panics
    /// If `work` panics: the pipeline is cancelled and joined, and the panic resumes. If `name` contains a NUL byte.
    #[doc(alias = "scope")]
    #[track_caller]
    pub fn run<R>(name: impl Into<Arc<str>>, work: impl FnOnce(&Pipeline) -> R) -> (R, Report)
    where
        R: Completion,
        R::Error: fmt::Display,
    {
        Self::builder(name).run(work)
    }

    /// Creates a pipeline on the system clock. Its threads are named after it. Call [`join`](Self::join) at the end, or
    /// use [`run`](Self::run), which does.
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    #[track_caller]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self::builder(name).build()
    }

    /// Returns a builder for a pipeline with options.
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    #[track_caller]
    pub fn builder(name: impl Into<Arc<str>>) -> PipelineBuilder {
        let settings = Settings {
            capacity: DEFAULT_CAPACITY,
            stack_size: DEFAULT_STACK_SIZE,
            max_threads: usize::MAX,
            reuse_threads: true,
            stall_limit: Some(STALL_LIMIT),
            latencies: Latencies::default(),
        };
        PipelineBuilder { name: checked(name), clock: Clock::default(), settings, timeout: None }
    }

    /// Returns the pipeline's own token by value: for a signal handler, for example.
    pub fn token(&self) -> CancelToken {
        self.token.clone()
    }

    /// Waits until every thread of the pipeline has ended.
    ///
    /// Read or drop all streams first: a stage whose output is full and not read does not end. Likewise drop or finish
    /// every [`Sender`](crate::Sender): a stage that may still be fed does not end.
    ///
    /// After the call, the pipeline is finished: no stage can be added, and a second call returns the same report at
    /// once.
    ///
    /// # Panics
    /// If called on a thread of the pipeline itself.
    #[track_caller]
    pub fn join(&self) -> Report {
        self.token.scope().join(Limit::Unlimited);
        self.report()
    }

    /// As [`join`](Self::join), but waits for at most `limit`. Returns `None` if the pipeline has not ended by then; it
    /// continues as before.
    ///
    /// Calls of [`every`](CancelToken::every) stop once the rest of the pipeline has ended while a thread waits,
    /// including in this call. With zero it does not wait. A limit too large to add never passes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("requests");
    /// let (sender, requests) = Stream::channel(&pipeline, 16);
    /// requests.spawn_for_each(|request: streamz::Result<&str>| println!("{request:?}"));
    /// assert!(pipeline.join_timeout(Duration::ZERO).is_none());
    /// sender.send("hello").unwrap();
    /// drop(sender);
    /// let report =
    ///     pipeline.join_timeout(Duration::from_secs(10)).expect("nothing feeds it any more");
    /// assert!(report.is_complete());
    /// ```
    ///
    /// # Panics
    /// If called on a thread of the pipeline itself.
    #[track_caller]
    pub fn join_timeout(&self, limit: Duration) -> Option<Report> {
        let within = Limit::after(limit, self.token.clock());
        self.token.scope().join(within).then(|| self.report())
    }

    /// Returns whether the work has ended: no stage is running and no stream remains to be read, so that
    /// [`join`](Self::join) would return at once. This is also true before the first stage is built, and it can change:
    /// stages may be added until the `join`.
    pub fn is_finished(&self) -> bool {
        self.token.scope().is_at_rest()
    }

    /// Stops the sources, waits up to `limit` for the work in flight, and then aborts the rest. A limit too large to
    /// add never passes.
    ///
    /// # Panics
    /// If called on a thread of the pipeline itself.
    #[track_caller]
    pub fn drain_within(&self, limit: Duration) -> Report {
        let within = Limit::after(limit, self.token.clock());
        self.token.drain();
        if !self.token.scope().join(within) {
            self.token.cancel_with(Cause::DrainTimedOut(limit));
        }
        self.join()
    }

    /// Cancels everything and waits until every thread has ended.
    ///
    /// # Panics
    /// If called on a thread of the pipeline itself.
    #[track_caller]
    pub fn abort(&self) -> Report {
        self.token.cancel();
        self.join()
    }

    /// Returns the statistics of each stage so far. Any [token](CancelToken::report) of the pipeline can return them,
    /// too.
    pub fn report(&self) -> Report {
        self.token.report()
    }

    /// Returns the number of threads of the pipeline that have not ended.
    pub fn threads(&self) -> usize {
        self.token.scope().live_threads()
    }
}

// Anything that a panic may leave half done in it is behind locks and atomics.
impl UnwindSafe for Pipeline {}
impl RefUnwindSafe for Pipeline {}

impl Deref for Pipeline {
    type Target = CancelToken;

    fn deref(&self) -> &CancelToken {
        &self.token
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let scope = self.token.scope();
        if scope.is_finished() {
            return;
        }
        // Even if no thread is left: a sender or a stream may be, and must learn of it.
        self.token.cancel_with(Cause::Dropped);
        if scope.is_home() {
            return;
        }
        scope.join(Limit::Unlimited);
        let lost = self.report().lost();
        if lost > 0 {
            event!(
                warn,
                { pipeline = %scope.name(), lost = lost },
                "streamz: pipeline `{}` was dropped with {lost} unprocessed items",
                scope.name()
            );
        }
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("name", self.token.scope().name())
            .field("threads", &self.threads())
            .field("cause", &self.token.cause())
            .finish_non_exhaustive()
    }
}
