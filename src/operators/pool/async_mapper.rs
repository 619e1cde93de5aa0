//! [`AsyncMapper`]: a call for each item, several at a time.

use std::hash::Hash;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::calls;
use super::combine::combine;
use crate::error::{BoxError, Result};
use crate::operators::call::sealed::Pooled;
use crate::operators::call::{KeyHash, PoolOptions, hash_by, hash_by_ref, pool_options};
use crate::operators::options::{Options, opaque_debug};
use crate::operators::{Call, CallError, CallFailure, CallStage};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::stream::Processor;
use crate::stream::Stream;

/// Calls a closure for each item on a pool of worker threads: for work that waits (for requests or disks) or takes long
/// to compute.
///
/// Nothing about it is `async`: the closure is a plain function that blocks its worker. The name is that of the Go
/// library. Use as many workers as calls should be in progress at a time, and [`with_init`](crate::with_init) to give
/// each a connection.
///
/// The closure is given a token and a reference to the item, and may fail. An item for which it returns an error, or on
/// which it panics, becomes an error item that carries the item, in its place; the worker continues.
///
/// ```
/// use streamz::{AsyncMapper, CancelToken, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("sizes");
/// let sizes = Stream::from_iter(&pipeline, ["a", "bc", "def"])
///     .through(
///         &AsyncMapper::new(|_cancel: &CancelToken, name: &&str| streamz::ok(name.len()))
///             .with_workers(2),
///     )
///     .collect::<Vec<_>>()?;
/// assert_eq!(sizes, [1, 2, 3]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// Results are emitted in the order of the input, or with [`with_ordered(false)`](Self::with_ordered) as they are
/// finished. Error items of the input keep their place like results.
///
/// # Back-pressure
/// Workers take their own input, and stop taking when the window is full or the output is.
///
/// Workers take items one by one, and emit each result at once. Only if hundreds of items in a row were so quick that
/// this would cost more than the work, they take items in runs of about 50 microseconds, and emit their results
/// together. A slow run makes the next ones shorter; after two in succession, items are taken one by one again. When
/// other workers have nothing else to do, they take over the items that a worker has taken and not started, or finished
/// and not emitted. So a slow item after many quick ones does not hold up the others, unless all workers are in slow
/// calls, or there is only one.
///
/// # Cancellation
/// Idle and blocked workers stop at once. A call in progress is not interrupted: it sees the cancellation through its
/// token, in [`CancelToken::sleep`] and [`CancelToken::check`]. Its later result is dropped, and its item counted as
/// abandoned; cancellation is not a failure. The token is also cancelled when the consumer of the results is dropped,
/// with [`Cause::ConsumerGone`](crate::Cause::ConsumerGone): so `take(1)` does not wait for calls whose results it does
/// not need. It is one token for all calls: a call that cancels it cuts the stream, with its cause as the reason.
///
/// # Memory
/// At most [`window`](Self::with_window) items are in progress, or finished and waiting for their turn, however slow a
/// single call is.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias(
    "worker_pool",
    "thread_pool",
    "buffered",
    "buffer_unordered",
    "map_async",
    "map_parallel",
    "reorder",
    "concurrency"
))]
pub struct AsyncMapper<In, Out, E, F> {
    f: Arc<F>,
    pool: PoolOptions<In>,
    timeout: Option<Duration>,
    types: PhantomData<fn(In) -> (Out, E)>,
}

impl<In, Out, E, F> AsyncMapper<In, Out, E, F>
where
    F: Fn(&CancelToken, &In) -> Result<Out, E>,
{
    /// Creates a mapper that calls `f`. Default name: `async_map`.
    pub fn new(f: F) -> Self {
        Self {
            f: Arc::new(f),
            pool: PoolOptions::new(
                Options::new("async_map"),
                std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            ),
            timeout: None,
            types: PhantomData,
        }
    }

    pool_options!();
    combine! { In, Out, E }

    /// Sets how long one call may take. Defaults to no limit.
    ///
    /// The limit is passed to the call as the deadline of its token: a call that waits through its token ends at once.
    /// One that returns an error after the deadline fails with kind [`TimedOut`](crate::ErrorKind::TimedOut); one that
    /// returns a result nevertheless keeps it. A call that never checks its token is not interrupted. To limit the time
    /// of a call together with what is around it, such as a wait for a rate limit, see
    /// [`CallTimeout`](crate::CallTimeout).
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

impl AsyncMapper<(), (), (), ()> {
    /// Creates a mapper that calls `f` for the items of one key one at a time and in order, and for different keys in
    /// parallel. Default name: `async_map`. It can be wrapped like any other: with a [`Retry`](crate::Retry) around it,
    /// the next item of a key waits until the one before has been settled.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::Mutex;
    /// use streamz::{AsyncMapper, CancelToken, Pipeline, Stream};
    ///
    /// let balances: Mutex<HashMap<&str, i64>> = Mutex::default();
    /// let book = move |_: &CancelToken, &(account, amount): &(&'static str, i64)| {
    ///     let before = *balances.lock().unwrap().entry(account).or_insert(0);
    ///     // No other call for this account runs in between.
    ///     balances.lock().unwrap().insert(account, before + amount);
    ///     streamz::ok((account, before + amount))
    /// };
    /// let mapper =
    ///     AsyncMapper::keyed(|&(account, _): &(&str, i64)| account, book).with_workers(4);
    /// let pipeline = Pipeline::new("accounts");
    /// let bookings = [("a", 1), ("b", 10), ("a", 2), ("a", 3)];
    /// let booked = Stream::from_iter(&pipeline, bookings).through(&mapper).collect::<Vec<_>>()?;
    /// assert_eq!(booked, [("a", 1), ("b", 10), ("a", 3), ("a", 6)]);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// `key` is called for each item when it is taken, and should be quick: while it runs, no later item is started.
    /// For a key that is a part of the item, there is [`keyed_by_ref`](Self::keyed_by_ref).
    ///
    /// # Ordering
    /// As for any other mapper; with [`with_ordered(false)`](Self::with_ordered), the calls for one key are made in
    /// order, but their results may overtake one another.
    ///
    /// # Back-pressure
    /// The items of a busy key wait, and others overtake them, until the [window](Self::with_window) is full. Workers
    /// take the oldest item that may be started, so a busy key does not starve the others.
    ///
    /// # Memory
    /// Items that wait for their key are part of the window, and there are at most as many keys in the table as the
    /// window holds items. A key is forgotten as soon as none of its items is left.
    ///
    /// # Panics
    /// A panic in `key` fails the item, with kind [`Panicked`](crate::ErrorKind::Panicked).
    pub fn keyed<In, Out, E, K, F>(key: impl Fn(&In) -> K + Send + Sync + 'static, f: F) -> AsyncMapper<In, Out, E, F>
    where
        K: Hash,
        F: Fn(&CancelToken, &In) -> Result<Out, E>,
    {
        Self::with_lanes(hash_by(key), f)
    }

    /// Does what [`keyed`](Self::keyed) does, with keys borrowed from the item: `|event: &Event| event.user.as_str()`.
    pub fn keyed_by_ref<In, Out, E, K, F>(
        key: impl Fn(&In) -> &K + Send + Sync + 'static,
        f: F,
    ) -> AsyncMapper<In, Out, E, F>
    where
        K: Hash + ?Sized,
        F: Fn(&CancelToken, &In) -> Result<Out, E>,
    {
        Self::with_lanes(hash_by_ref(key), f)
    }

    fn with_lanes<In, Out, E, F>(lane_of: KeyHash<In>, f: F) -> AsyncMapper<In, Out, E, F>
    where
        F: Fn(&CancelToken, &In) -> Result<Out, E>,
    {
        let mut mapper = AsyncMapper::new(f);
        mapper.pool.lane_of = Some(lane_of);
        mapper
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
        calls::process(self.to_call(), &self.pool, cancel, input)
    }

    fn name(&self) -> &str {
        &self.pool.options.name
    }
}

impl<In, Out, E, F> Pooled for AsyncMapper<In, Out, E, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(&CancelToken, &In) -> Result<Out, E> + Send + Sync + 'static,
{
    fn pool(&self) -> PoolOptions<In> {
        self.pool.clone()
    }
}

impl<In, Out, E, F> CallStage for AsyncMapper<In, Out, E, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(&CancelToken, &In) -> Result<Out, E> + Send + Sync + 'static,
{
    type Error = E;
    type Call = AsyncCall<In, Out, E, F>;

    fn to_call(&self) -> Self::Call {
        AsyncCall { f: Arc::clone(&self.f), timeout: self.timeout, types: PhantomData }
    }
}

/// What an [`AsyncMapper`] runs for each item.
pub struct AsyncCall<In, Out, E, F> {
    f: Arc<F>,
    timeout: Option<Duration>,
    types: PhantomData<fn(In) -> (Out, E)>,
}

impl<In, Out, E, F> Call for AsyncCall<In, Out, E, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(&CancelToken, &In) -> Result<Out, E> + Send + Sync + 'static,
{
    type In = In;
    type Out = Out;
    type Error = E;

    fn call(&self, cancel: &CancelToken, item: &In) -> Result<Out, CallError<E>> {
        let limited = self.timeout.map(|timeout| cancel.with_timeout(timeout));
        let token = limited.as_ref().unwrap_or(cancel);
        let failure = match panic::catch(|| (self.f)(token, item)) {
            Ok(Ok(mapped)) => return Ok(mapped),
            _ if cancel.is_cancelled() => CallFailure::Cancelled,
            Ok(Err(error)) => match self.timeout {
                Some(limit) if token.is_cancelled() => CallFailure::TimedOut { limit, error: Some(error) },
                _ => CallFailure::Failed(error),
            },
            Err(payload) => CallFailure::Panicked(payload.into()),
        };
        Err(CallError::raised(cancel, failure, 1))
    }
}

/// # Parallel work
///
/// Pools of worker threads.
impl<T: Send + 'static> Stream<T> {
    /// Calls `f` for each item, `workers` at a time, in order: an [`AsyncMapper`].
    ///
    /// # Panics
    /// If `workers` is 0 or more than 65,536, or the pipeline has finished.
    #[track_caller]
    pub fn async_map<Out, E, F>(self, workers: usize, f: F) -> Stream<Out>
    where
        Out: Send + 'static,
        E: Into<BoxError> + 'static,
        F: Fn(&CancelToken, &T) -> Result<Out, E> + Send + Sync + 'static,
    {
        self.through_once(AsyncMapper::new(f).with_workers(workers))
    }
}

impl<In, Out, E, F> Clone for AsyncMapper<In, Out, E, F> {
    fn clone(&self) -> Self {
        Self { f: Arc::clone(&self.f), pool: self.pool.clone(), ..*self }
    }
}

opaque_debug! { [In, Out, E, F] AsyncMapper<In, Out, E, F>: pool, timeout }
opaque_debug! { [In, Out, E, F] AsyncCall<In, Out, E, F>: timeout }
