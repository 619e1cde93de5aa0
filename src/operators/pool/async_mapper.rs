//! [`AsyncMapper`]: a call for each item, several at a time.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::workers::{self, Outcome, Settings, Site};
use crate::error::{BoxError, ErrorKind, PanicMessage, Result};
use crate::pipeline::CancelToken;
use crate::stage::options::{Options, common_options, opaque_debug};
use crate::stage::stats::StageKind;
use crate::stage::{Processor, Registered, panic};
use crate::stream::Stream;

/// Calls a closure for each item on a pool of worker threads: for work that waits (requests, disks) or computes for long.
///
/// The closure is given a token and a reference to the item, and may fail. An item for which it returns an error, or on
/// which it panics, goes on as an error item that carries the item, in its place; the worker lives on.
///
/// ```
/// use streamz::{AsyncMapper, CancelToken, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("sizes");
/// let sizes = Stream::from_iter(&pipeline, ["a", "bc", "def"])
///     .through(&AsyncMapper::new(|_cancel: &CancelToken, name: &&str| streamz::Ok(name.len())).with_workers(2))
///     .collect::<Vec<_>>()?;
/// assert_eq!(sizes, [1, 2, 3]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// Results come out in the order of the input, or with [`with_ordered(false)`](Self::with_ordered) as they are
/// finished. Error items of the input keep their place like results.
///
/// # Back-pressure
/// Workers take their own input, and stop taking when the window is full or the output is.
///
/// They take items one by one, and pass each result on at once. Only where hundreds of items in a row were so quick that this
/// would cost more than the work are they taken in runs of some 50 microseconds, and their results passed on together.
/// What a worker has taken and not begun, or finished and not passed on, is taken over by others as soon as they have
/// nothing to do; so a slow item after many quick ones holds up no other, unless all workers are in slow calls, or
/// there is but one.
///
/// # Cancellation
/// Idle and blocked workers stop at once. A call in progress is not interrupted: it sees the cancellation through its
/// token, in [`CancelToken::sleep`] and [`CancelToken::check`]. What it returns after that is dropped, and its
/// item counted as abandoned; cancellation is not a failure.
///
/// # Memory
/// At most [`window`](Self::with_window) items are being worked on or finished and waiting for their turn, whatever
/// the speed of a single call.
#[must_use = "a processor does nothing until it is given a stream"]
pub struct AsyncMapper<In, Out, E, F> {
    f: Arc<F>,
    options: Options,
    workers: usize,
    ordered: bool,
    window: Option<usize>,
    queue_size: Option<usize>,
    timeout: Option<Duration>,
    types: PhantomData<fn(In) -> (Out, E)>,
}

/// How many items may be in progress or waiting for their turn unless something else is asked for.
const DEFAULT_WINDOW: usize = 1024;

/// A call took longer than its mapper allows.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no result within {0:?}")]
struct CallTimedOut(Duration);

impl<In, Out, E, F> AsyncMapper<In, Out, E, F>
where
    F: Fn(&CancelToken, &In) -> Result<Out, E>,
{
    /// A mapper that calls `f`. It is called `async_map` unless it is given another name.
    pub fn new(f: F) -> Self {
        Self {
            f: Arc::new(f),
            options: Options::new("async_map"),
            workers: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            ordered: true,
            window: None,
            queue_size: None,
            timeout: None,
            types: PhantomData,
        }
    }

    common_options!();

    /// Sets the number of worker threads: how many calls may be in progress. Defaults to the number of processors, which
    /// suits work that computes; work that waits wants more.
    ///
    /// # Panics
    /// If `workers` is 0.
    #[track_caller]
    pub fn with_workers(mut self, workers: usize) -> Self {
        assert!(workers > 0, "`workers` must be at least 1");
        self.workers = workers;
        self
    }

    /// Sets whether results come out in the order of the input. Defaults to true. Without order a slow item holds up
    /// no other.
    pub fn with_ordered(mut self, ordered: bool) -> Self {
        self.ordered = ordered;
        self
    }

    /// Sets how many items may be in progress or finished and waiting for their turn. Defaults to 1,024, or the number of
    /// workers if that is more. A small window bounds memory more tightly, but lets one slow item stop the rest sooner.
    ///
    /// # Panics
    /// If `items` is 0; and when the mapper is used, if it is less than the number of workers.
    #[track_caller]
    pub fn with_window(mut self, items: usize) -> Self {
        assert!(items > 0, "`window` must be at least 1");
        self.window = Some(items);
        self
    }

    /// Sets how many items may wait in front of the workers. Defaults to the capacity of the stage before.
    ///
    /// Has no effect on a stream that comes from a foreign channel, which has its own capacity.
    pub fn with_queue_size(mut self, items: usize) -> Self {
        self.queue_size = Some(items);
        self
    }

    /// Sets how long one call may take. Defaults to no limit.
    ///
    /// The limit is passed to the call as the deadline of its token: a call that waits through its token ends
    /// at once. One that returns an error after the deadline fails with kind [`TimedOut`](ErrorKind::TimedOut);
    /// one that returns a result all the same keeps it. A call that never looks at its token is not interrupted.
    ///
    /// # Panics
    /// If `timeout` is zero.
    #[track_caller]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "`timeout` must be greater than zero");
        self.timeout = Some(timeout);
        self
    }
}

impl<In, Out, E, F> Processor for AsyncMapper<In, Out, E, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(&CancelToken, &In) -> Result<Out, E> + Send + Sync + 'static,
{
    type In = In;
    type Out = Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<In>) -> Stream<Out> {
        let workers = self.workers;
        let window = self.window.unwrap_or(DEFAULT_WINDOW.max(workers));
        assert!(window >= workers, "`window` ({window}) must not be less than `workers` ({workers})");
        let settings = Settings { workers, ordered: self.ordered, window };
        if let Some(queue_size) = self.queue_size {
            input.set_capacity(queue_size);
        }
        let registered = Registered::with_input(cancel, &input, &self.options.name, StageKind::Processor, &[], workers);
        let (f, timeout) = (Arc::clone(&self.f), self.timeout);
        let work = move |site: &Site<'_>, item: In| {
            // Around the call, so that no drop or conversion of a user's value can take the worker with it.
            panic::catch(|| call(site, timeout, &*f, item)).unwrap_or_else(|payload| match site.token.is_cancelled() {
                true => Outcome::Abandoned,
                false => {
                    let error = site.context.error(ErrorKind::Panicked, 0);
                    Outcome::Failed(error.with_source(PanicMessage::from(payload)))
                }
            })
        };
        workers::start(registered, input, self.options.capacity, &settings, work)
    }

    fn name(&self) -> &str {
        &self.options.name
    }
}

/// One call, and what its result means.
fn call<In, Out, E, F>(site: &Site<'_>, timeout: Option<Duration>, f: &F, item: In) -> Outcome<Out>
where
    In: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(&CancelToken, &In) -> Result<Out, E>,
{
    let limited = timeout.map(|timeout| site.token.with_timeout(timeout));
    let token = limited.as_ref().unwrap_or(site.token);
    let result = panic::catch(|| f(token, &item));
    // Cancellation of the stage is not a failure of the item, whatever the call made of it.
    if site.token.is_cancelled() {
        return Outcome::Abandoned;
    }
    let failed = |kind, source: BoxError, item: In| {
        Outcome::Failed(site.context.error(kind, 0).with_source(source).with_item(item))
    };
    match result {
        Ok(Ok(mapped)) => Outcome::Done(mapped),
        Ok(Err(error)) => match timeout {
            Some(timeout) if token.is_cancelled() => failed(ErrorKind::TimedOut, CallTimedOut(timeout).into(), item),
            _ => failed(ErrorKind::Failed, error.into(), item),
        },
        Err(payload) => failed(ErrorKind::Panicked, PanicMessage::from(payload).into(), item),
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Calls `f` for each item, `workers` at a time, in order: an [`AsyncMapper`].
    ///
    /// # Panics
    /// If `workers` is 0, or the pipeline has finished.
    #[track_caller]
    pub fn async_map<Out, E, F>(self, workers: usize, f: F) -> Stream<Out>
    where
        Out: Send + 'static,
        E: Into<BoxError> + 'static,
        F: Fn(&CancelToken, &T) -> Result<Out, E> + Send + Sync + 'static,
    {
        self.through(&AsyncMapper::new(f).with_workers(workers))
    }
}

opaque_debug! { [In, Out, E, F] AsyncMapper<In, Out, E, F>: options, workers, ordered, window, timeout }
