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

/// How many items may wait between two stages unless something else is asked for.
pub const DEFAULT_CAPACITY: usize = 256;

/// How long a pipeline may stand still before the log says so.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// The stack size of a pipeline's threads in bytes, unless [`stack_size`](PipelineBuilder::stack_size) sets another: 8 MiB.
///
/// Items are moved by value, and each step that an item goes through has copies of it on the stack. With this size, items
/// of up to 64 KiB fit in debug and release builds: through every operator, and through a stage of up to eight fused steps,
/// or four if it puts items together and takes them apart again (`chunk`, `flatten`). Optimized builds take items of four
/// times that size. Larger items overflow the stack, which ends the process: put them in a `Box`, a `Vec` or an `Arc`. That
/// is also faster, from a few hundred bytes.
///
/// A stage is built on the thread that asks for it. An operator that keeps a large value inside itself, such as the state of
/// an [`Aggregate`](crate::Aggregate) or the iterator over an array in [`FlatMap`](crate::FlatMap), needs stack there, too.
pub const DEFAULT_STACK_SIZE: usize = 8 * 1024 * 1024;

/// Owns a token and every thread that is started under it.
///
/// One pipeline may be used for any number of jobs, one after the other or at a time: its report sums up stages that have
/// [ended](crate::StageReport::merged) when there are many. A pipeline for each job gives each job a report and an end of its own.
///
/// Stages are built on the pipeline's token, to which it dereferences: `Stream::from_iter(&pipeline, ..)`. Each gets
/// its threads at once and starts to work; nothing waits for the pipeline to be complete.
///
/// - [`join`](Self::join) waits for the end of the work, [`join_timeout`](Self::join_timeout) for a time.
/// - [`drain`](CancelToken::drain) stops the sources; what is in flight is finished.
/// - [`drain_within`](Self::drain_within) does both, and gives up after a time.
/// - [`abort`](Self::abort) stops everything now.
/// - Dropping a pipeline that has not finished cancels it and waits until its threads are gone. On one of its own
///   threads it only cancels.
/// - A program that builds the same pipeline repeatedly [reuses threads](PipelineBuilder::reuse_threads).
///
/// [`Pipeline::run`] makes a pipeline for the time of a closure and joins it at the end. Use [`Pipeline::new`] for one that
/// outlives the function that makes it, as that of a service does.
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

/// Sets a [`Pipeline`] up; made by [`Pipeline::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct PipelineBuilder {
    name: Arc<str>,
    clock: Clock,
    settings: Settings,
    timeout: Option<Duration>,
}

impl PipelineBuilder {
    /// The clock of every stage. Defaults to the system's; tests give a [`ManualClock`](crate::ManualClock).
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// How many items may wait between two stages that ask for nothing else. Defaults to
    /// [`DEFAULT_CAPACITY`]. With 0 every item is handed over directly, which costs a thread switch each.
    pub fn capacity(mut self, items: usize) -> Self {
        self.settings.capacity = items;
        self
    }

    /// Sets the stack size of every thread of the pipeline. Defaults to [`DEFAULT_STACK_SIZE`]; the environment variable
    /// `RUST_MIN_STACK` has no effect on these threads.
    ///
    /// The memory is reserved and not used until it is needed: a thread of 8 MiB that needs 20 KiB costs 20 KiB, and 8 MiB
    /// of address space. The operating system rounds small values up to its minimum. A size that it cannot provide leaves
    /// the stage without a thread, as [`max_threads`](Self::max_threads) does.
    ///
    /// See [`DEFAULT_STACK_SIZE`] for the size of items that fit. Rayon's threads, on which a
    /// [`ParMapper`](crate::ParMapper) computes, and threads of the caller, on which an end runs, have stacks of their own.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.settings.stack_size = bytes;
        self
    }

    /// Limits how many threads the pipeline may have at a time. Defaults to as many as the operating system provides.
    ///
    /// A stage for which there is no thread left does not start: its output is cut by an error whose source is of kind
    /// [`Internal`](crate::ErrorKind::Internal), and the [outcome](crate::Outcome) is [`Cut`](crate::Outcome::Cut). A pool
    /// that gets only some of its workers runs with those. [`spawn_for_each`](crate::Stream::spawn_for_each),
    /// [`into_receiver`](crate::Stream::into_receiver), [`spawn`](CancelToken::spawn) and [`every`](CancelToken::every) cancel the
    /// pipeline. The same happens when the operating system provides no more threads, but for a pool: if it is refused the
    /// first of its threads, it is cut as a stage is, without an attempt at the others.
    ///
    /// With 0, only streams that are fed and read by threads of the caller's work.
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.settings.max_threads = threads;
        self
    }

    /// Sets whether the stages may share threads with stages of earlier and later pipelines. Defaults to true.
    ///
    /// Creating a thread takes longer than a small pipeline does. So when a program starts a thread of the same name for the
    /// second time (the name of the pipeline, the stage and its index), that thread does not end with its stage: it waits up to
    /// 5 seconds for the next stage of that name and stack size. At most 256 threads of the process wait. They belong to no
    /// pipeline: [`join`](Pipeline::join) does not wait for them, [`threads`](Pipeline::threads) does not count them, and the
    /// process may exit at any time. A pipeline that runs once, or whose name differs each time, has threads of its own.
    ///
    /// A stage may find what an earlier one left on the thread: the values of a `thread_local!`, a priority, an affinity.
    /// Thread-locals are dropped when the thread ends, which may be seconds after `join` has returned, and never if the
    /// process exits first. With `false` each thread is a new one, and `join` returns after it has ended. Choose that if a
    /// closure needs fresh thread-locals, or has one whose `Drop` matters, such as a buffer that is flushed.
    pub fn reuse_threads(mut self, reuse: bool) -> Self {
        self.settings.reuse_threads = reuse;
        self
    }

    /// Sets after how long without any progress the log warns, and says what the pipeline [waits for](crate::Report::diagnosis).
    /// Defaults to 10 s; zero and `Duration::MAX` mean never.
    ///
    /// Whoever waits for the pipeline looks: [`join`](Pipeline::join) and [`drain_within`](Pipeline::drain_within), a sink, an
    /// iterator, [`recv`](crate::Stream::recv) and [`Sender::send`](crate::Sender::send). A pipeline without such a waiter is not watched, nor is one on a
    /// [`ManualClock`](crate::ManualClock). It warns once in its life, also if it is merely waiting for work: for requests, or
    /// for the next hour. The warning comes after one to one and a half times this long without progress.
    pub fn stall_warning(mut self, after: Duration) -> Self {
        self.settings.stall_limit = Some(after).filter(|after| !after.is_zero() && *after < Duration::MAX);
        self
    }

    /// Sets which stages record how long each item, or each call, takes ([`StageReport::latency`](crate::StageReport::latency)), and
    /// how old items are when they leave the stage ([`StageReport::age`](crate::StageReport::age)). Defaults to none.
    ///
    /// A stage uses up to 50 KiB for each of its threads, and 50 KiB for ages.
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

    /// Cancels the pipeline when it has run for that long. Defaults to never.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Makes the pipeline.
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
            pipeline.cancel_because(error.to_string());
        }
        (returned, pipeline.join())
    }
}

impl Pipeline {
    /// Runs `work` with a new pipeline, joins it, and returns what `work` returned together with the report.
    ///
    /// All threads of the pipeline have ended when `run` returns, whatever `work` returns and also if it panics. With
    /// [`Pipeline::new`] that takes a call of [`join`](Self::join), and what has not been processed when a pipeline is
    /// dropped without it is lost.
    ///
    /// `work` runs on the calling thread. It returns `()` or a [`Result`], and may borrow; stages run on threads of their
    /// own, so their closures and items are `'static`. An error that it returns cancels what still runs, such as a source
    /// without an end; the [cause](Cause) is the text of the error. Read or drop each stream, and drop or finish each
    /// [`Sender`](crate::Sender), before `work` returns: one that it returns makes `run` wait forever.
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

    /// Makes a pipeline on the system clock. Its threads are named after it. Call [`join`](Self::join) at the end, or use
    /// [`run`](Self::run), which does.
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    #[track_caller]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self::builder(name).build()
    }

    /// For a pipeline with options.
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

    /// The pipeline's own token, for those who need it by value: a signal handler, say.
    pub fn token(&self) -> CancelToken {
        self.token.clone()
    }

    /// Waits until every thread of the pipeline has ended.
    ///
    /// Streams that end nowhere must be read or dropped first: a stage whose output is full and not read does not end.
    /// Likewise every [`Sender`](crate::Sender) must be dropped or finished: a stage that may still be fed does not end.
    ///
    /// After it the pipeline is finished: no stage can be added, and a second call returns the same report at once.
    ///
    /// # Panics
    /// If called on a thread of the pipeline itself.
    #[track_caller]
    pub fn join(&self) -> Report {
        self.token.scope().join(Limit::Unlimited);
        self.report()
    }

    /// As [`join`](Self::join), but for at most `limit`; `None` if the pipeline has not ended by then. It goes on as before.
    ///
    /// Calls of [`every`](CancelToken::every) stop when the rest of the pipeline has ended while somebody waits, also in this way.
    /// With zero it does not wait. A limit too large to add never passes.
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

    /// Whether the work has ended: no stage is at work and no stream is left to be read, so that [`join`](Self::join) would
    /// return at once. So it is before the first stage is built, and it can change: stages may be added until the `join`.
    pub fn is_finished(&self) -> bool {
        self.token.scope().is_at_rest()
    }

    /// Stops the sources, waits for the work in flight up to `limit`, and aborts what is left then. A limit too large to add
    /// never passes.
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

    /// What each stage has done so far. Any [token](CancelToken::report) of the pipeline can tell, too.
    pub fn report(&self) -> Report {
        self.token.report()
    }

    /// How many threads of the pipeline have not ended.
    pub fn threads(&self) -> usize {
        self.token.scope().live_threads()
    }
}

// What a panic may leave half done in them is behind locks and atomics.
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
        // Also if no thread is left: a sender or a stream may be, and is to learn of it.
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
                "streamz: pipeline `{}` was dropped with {lost} items that had not been processed",
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
