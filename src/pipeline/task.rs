//! [`Task`]: work on a thread of the pipeline, and its result.
//!
//! The thread holds a [`Promise`], which it fulfils exactly once: with the result of the work, or with the error that
//! says why there is none. Joining the task waits only for that, so a task can be joined on any thread, including
//! another one of the pipeline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::scope::Scope;
use super::stall::Watch;
use super::stats::{StageKind, StageStats, StepStats};
use super::{CancelToken, Cancelled, Cause, Completion};
use crate::clock::wait::{Waiter, Wake};
use crate::clock::{Ticks, earlier};
use crate::error::{BoxError, ErrorKind, PanicMessage, Result, StreamError};
use crate::panic::{self, Guarded, Held, guard_drop};
use crate::trace::event;

/// Work on a thread that the pipeline owns; returned by [`CancelToken::spawn`] and
/// [`Stream::spawn`](crate::Stream::spawn).
///
/// [`join`](Self::join) waits for the work and returns its result. The pipeline itself waits for every task as well, so
/// a `Task` may be dropped if the result is not needed: the work continues, an error or a panic in it still cancels,
/// and its value is dropped.
#[doc(alias("JoinHandle", "future"))]
pub struct Task<T> {
    name: Arc<str>,
    scope: Arc<Scope>,
    shared: Arc<Shared<T>>,
}

type Shared<T> = Mutex<State<T>>;

struct State<T> {
    result: Held<Option<Result<T>>>,
    is_finished: bool,
    joiner: Option<Arc<Wake>>,
}

impl<T> Task<T> {
    fn new(name: Arc<str>, scope: Arc<Scope>) -> (Self, Promise<T>) {
        let shared = Arc::new(Mutex::new(State { result: Held::default(), is_finished: false, joiner: None }));
        let promise = Promise { name: Arc::clone(&name), shared: Arc::clone(&shared) };
        (Self { name, scope, shared }, promise)
    }

    /// Waits until the work has ended and returns its result.
    ///
    /// # Errors
    /// The error of the work: a [`StreamError`] as it is, any other error as the source of one of kind
    /// [`Failed`](ErrorKind::Failed), or of kind [`Cancelled`](ErrorKind::Cancelled) for [`Cancelled`]. Kind
    /// [`Panicked`](ErrorKind::Panicked) if the work panicked, [`Internal`](ErrorKind::Internal) if there was no thread
    /// for it.
    ///
    /// # Back-pressure
    /// A task that reads one of several streams waits for items that arrive only if the others are read, too. So read the
    /// others first.
    pub fn join(self) -> Result<T> {
        let waiter = Waiter::current(self.scope.clock());
        let watch = Watch::start(&self.scope, self.scope.clock().now());
        loop {
            let mut state = self.shared.lock();
            if let Some(result) = state.result.take() {
                return result;
            }
            state.joiner = Some(Arc::clone(waiter.wake()));
            drop(state);
            waiter.park(watch.next());
            watch.look(&self.scope);
        }
    }

    /// Returns whether the work has ended, so that [`join`](Self::join) does not wait.
    pub fn is_finished(&self) -> bool {
        self.shared.lock().is_finished
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("name", &self.name)
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

/// The part that the thread of a task holds.
struct Promise<T> {
    name: Arc<str>,
    shared: Arc<Shared<T>>,
}

impl<T> Promise<T> {
    fn fulfil(&self, result: Result<T>) {
        let mut state = self.shared.lock();
        *state.result = Some(result);
        state.is_finished = true;
        let joiner = state.joiner.take();
        drop(state);
        joiner.iter().for_each(|joiner| joiner.post());
    }
}

impl<T> Drop for Promise<T> {
    /// A thread that dies of a bug in this library fulfils nothing.
    fn drop(&mut self) {
        if !self.shared.lock().is_finished {
            self.fulfil(Err(StreamError::new(ErrorKind::Internal, Arc::clone(&self.name))));
        }
    }
}

impl CancelToken {
    /// Runs `work` on a thread that the pipeline owns, and returns a [`Task`] to wait for its result.
    ///
    /// Use it for work that runs beside the caller, also in a [`Processor`](crate::Processor) that needs threads of its
    /// own. To read a stream on another thread, [`Stream::spawn`](crate::Stream::spawn) is shorter. The work receives
    /// this token, and the pipeline does not finish before the work returns. The more often it checks the token, the
    /// sooner it ends after a cancellation. The report lists it as a [`Task`](StageKind::Task) called `name`.
    ///
    /// `work` returns `()` or a [`Result`]. An error cancels this token, with the error as the [cause](Cause), and so does a
    /// panic.
    ///
    /// ```
    /// use streamz::{CancelToken, Pipeline, Processor, Stream};
    ///
    /// /// Doubles numbers, on a thread of its own.
    /// struct Double;
    ///
    /// impl Processor for Double {
    ///     type In = u64;
    ///     type Out = u64;
    ///
    ///     fn process(&self, cancel: &CancelToken, input: Stream<u64>) -> Stream<u64> {
    ///         let (sender, output) = Stream::channel(cancel, 16);
    ///         cancel.spawn("double", move |_| {
    ///             for item in input {
    ///                 match item {
    ///                     Ok(n) => sender.send(2 * n)?,
    ///                     Err(error) => sender.send_error(error)?,
    ///                 }
    ///             }
    ///             streamz::ok(())
    ///         });
    ///         output
    ///     }
    ///
    ///     fn name(&self) -> &str {
    ///         "double"
    ///     }
    /// }
    ///
    /// let (doubled, _) = Pipeline::run("numbers", |pipeline| {
    ///     Stream::from_iter(pipeline, 1..4).through(&Double).collect::<Vec<_>>()
    /// });
    /// assert_eq!(doubled?, [2, 4, 6]);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If `name` contains a NUL byte, or the token belongs to no pipeline or to one that has finished.
    #[doc(alias = "thread")]
    #[track_caller]
    pub fn spawn<R>(&self, name: &str, work: impl FnOnce(&CancelToken) -> R + Send + 'static) -> Task<R::Value>
    where
        R: Completion<Value: Send + 'static, Error: Into<BoxError>>,
    {
        let name = self.name().map_or(name, |name| &**name);
        let (stats, reservation) = self.scope().register(name, StageKind::Task, &[], 1);
        let token = self.unnamed();
        let books = Arc::clone(&stats);
        let task =
            self.start("task", Arc::clone(&stats.name), &stats.name, move || counted(&books, &token, || work(&token)));
        drop(reservation);
        task
    }

    /// Runs `work` on a thread of the pipeline called `thread`, as a stage of kind `sort` with this name. The pipeline
    /// must not finish in the meantime.
    pub(crate) fn start<R>(
        &self,
        sort: &'static str,
        name: Arc<str>,
        thread: &str,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Task<R::Value>
    where
        R: Completion<Value: Send + 'static, Error: Into<BoxError>>,
    {
        let (task, promise) = Task::new(Arc::clone(&name), Arc::clone(self.scope()));
        let token = self.clone();
        self.scope().spawn(thread, true, move |started| {
            let error_of = |kind, source: BoxError| {
                let error = StreamError::new(kind, Arc::clone(&name));
                error.with_source(source).with_time(token.clock().wall())
            };
            let result = match started {
                Ok(()) => match panic::catch(|| work().into_result().map_err(Into::into)) {
                    Ok(Ok(value)) => Ok(value),
                    Ok(Err(error)) => Err(error.downcast::<StreamError>().map_or_else(
                        |error| match error.is::<Cancelled>() {
                            true => error_of(ErrorKind::Cancelled, error),
                            false => error_of(ErrorKind::Failed, error),
                        },
                        |error| *error,
                    )),
                    Err(payload) => {
                        let said = format!("{sort} `{name}` panicked: {}", payload.message());
                        event!(error, { stage = %name, panic = %payload.message() }, "streamz: {said}");
                        token.cancel_because(said);
                        Err(error_of(ErrorKind::Panicked, PanicMessage::from(payload).into()))
                    }
                },
                Err(error) => {
                    guard_drop(work);
                    let said = format!("cannot start a thread: {error}");
                    token.cancel_because(error);
                    Err(error_of(ErrorKind::Internal, said.into()))
                }
            };
            // A stream that was cut needs no further cancellation.
            if let Err(error) = &result
                && !error.is_cancelled()
            {
                token.cancel_with(Cause::Failed(error.clone()));
            }
            promise.fulfil(result);
        });
        task
    }

    /// Calls `work` every `period`, on a thread that the pipeline owns, until the pipeline is cancelled, or is joined
    /// and the rest of it has ended. For reports and heartbeats: it does not keep the pipeline alive.
    ///
    /// The first call comes one period from now. Calls are due at whole multiples of the period; those missed because
    /// an earlier one took longer are skipped. A panic in `work` ends the calls and cancels the pipeline.
    ///
    /// # Panics
    /// If `period` is zero, or the token belongs to no pipeline or to one that has finished.
    #[track_caller]
    pub fn every(&self, period: Duration, work: impl FnMut() + Send + 'static) {
        // Its captured values are dropped when the rest of the pipeline has ended: that must not cancel it.
        let mut work = Guarded::new(work, guard_drop);
        assert!(!period.is_zero(), "`period` must be greater than zero");
        self.spawn_helper(self.name().map_or("every", |name| name), move |cancel, _| {
            let mut ticks = Ticks::new(cancel.now(), period);
            let waiter = Waiter::current(cancel.clock());
            let _registered = cancel.register(waiter.wake());
            while !cancel.is_cancelled() && !cancel.scope().is_closing() {
                match ticks.take(cancel.now()) {
                    Some(_) => work(),
                    None => waiter.park(earlier(ticks.next, cancel.deadline())),
                }
            }
        });
    }

    /// Runs work that does not keep the pipeline alive, and may count its progress in the statistics of the task.
    #[track_caller]
    pub(crate) fn spawn_helper(&self, name: &str, work: impl FnOnce(&CancelToken, &StepStats) + Send + 'static) {
        let (stats, reservation) = self.scope().register_helper(name);
        let token = self.unnamed();
        let label = Arc::clone(&stats.name);
        self.scope().spawn(&label, false, move |started| match started {
            Ok(()) => {
                let called = || counted(&stats, &token, || work(&token, &stats.steps[0]));
                if let Err(payload) = panic::catch(called) {
                    let said = format!("task `{}` panicked: {}", stats.name, payload.message());
                    event!(error, { stage = %stats.name, panic = %payload.message() }, "streamz: {said}");
                    token.cancel_because(said);
                }
            }
            Err(error) => token.cancel_because(error),
        });
        drop(reservation);
    }
}

/// Calls `work` as the task with these statistics.
fn counted<R>(stats: &Arc<StageStats>, token: &CancelToken, work: impl FnOnce() -> R) -> R {
    /// Also notes the end of a task that panics.
    struct End<'a>(&'a StageStats, &'a CancelToken);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.threads[0].end(self.1.now());
        }
    }
    stats.threads[0].start(token.now());
    let _end = End(stats, token);
    let _account = stats.open_account(0, token.clock());
    work()
}
