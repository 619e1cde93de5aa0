//! [`Call`]: run by the workers of a pool, and wrapped by layers such as a retry or a circuit breaker.
//!
//! # Invariants
//!
//! - A layer turns a call into another call: one processor, one pool, and each worker runs all layers for its item.
//! - Whether a call was cancelled is decided by its token when it returns, not by its result: an error that comes after
//!   the cancellation is [`Cancelled`](CallFailure::Cancelled), whatever its type. A successful result counts as such
//!   for the layers around it; the pool drops it if its stage was cancelled.
//! - Each failure is counted once, where it arises ([`CallError::raised`]), so that a layer cannot hide it. A call that
//!   is cut short by the deadline of a layer is counted by that layer.
//! - If a layer sets a deadline for the call it wraps, and it passes, the layer returns
//!   [`TimedOut`](CallFailure::TimedOut).

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::options::Options;
use crate::error::{BoxError, Details, ErrorKind, PanicMessage, Result, StreamError};
use crate::pipeline::CancelToken;
use crate::stream::Processor;

/// Makes one call for one item: the workers of an [`AsyncMapper`](crate::AsyncMapper) run it, and it is wrapped by
/// layers such as [`Retry`](crate::Retry) and [`CircuitBreaker`](crate::CircuitBreaker).
///
/// The token tells it to stop; the item is given by reference, so that it can be retried, and set aside if it fails.
/// [`CallStage::to_call`] makes one of a processor: to make the call outside of a pipeline, for example in a test. To
/// put code of your own around a call, see [`Layered`](crate::Layered).
pub trait Call: Send + Sync + 'static {
    /// What it is given.
    type In: Send + 'static;
    /// What it makes.
    type Out: Send + 'static;
    /// The error of the call itself, as its closure returns it.
    type Error: Into<BoxError> + 'static;

    /// Whether it is a breaker, which rejects a call at once.
    #[doc(hidden)]
    const IS_BREAKER: bool = false;

    /// Makes the call.
    ///
    /// # Errors
    /// Why there is no result, and how many attempts were made.
    fn call(&self, cancel: &CancelToken, item: &Self::In) -> Result<Self::Out, CallError<Self::Error>>;
}

/// Runs code of your own around a [`Call`], as part of a [`Layered`](crate::Layered).
///
/// A layer decides whether, when, how often and with which token the inner call is made, and what its result means. Closures
/// of the same parameters are layers; implement the trait for a layer that is used in several places. It has a type parameter
/// for the inner call, so that one implementation can fit every call, or only those with a certain item, result or error:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use streamz::{
///     AsyncMapper, Call, CallError, CallLayer, CancelToken, Layered, Pipeline, Stream,
/// };
///
/// /// Counts the calls that have no result.
/// struct CountFailures(Arc<AtomicU64>);
///
/// impl<C: Call> CallLayer<C> for CountFailures {
///     type Out = C::Out;
///     type Error = C::Error;
///
///     fn call(
///         &self,
///         inner: &C,
///         cancel: &CancelToken,
///         item: &C::In,
///     ) -> Result<C::Out, CallError<C::Error>> {
///         inner
///             .call(cancel, item)
///             .inspect_err(|_| _ = self.0.fetch_add(1, Ordering::Relaxed))
///     }
/// }
///
/// let failures = Arc::new(AtomicU64::new(0));
/// let parse = AsyncMapper::new(|_: &CancelToken, text: &&str| text.parse::<u32>());
/// let counted = Layered::new(parse, CountFailures(Arc::clone(&failures)));
/// let pipeline = Pipeline::new("numbers");
/// let parsed = Stream::from_iter(&pipeline, ["1", "x", "3"]).through(&counted);
/// assert_eq!(parsed.into_iter().filter(Result::is_ok).count(), 2);
/// assert_eq!(failures.load(Ordering::Relaxed), 1);
/// ```
///
/// # What a layer must do
/// - Pass the inner call the token that it was given, or a child of it. A layer that cancels a child translates the
///   result: it returns [`TimedOut`](CallFailure::TimedOut), or whatever the reason was, in place of
///   [`Cancelled`](CallFailure::Cancelled).
/// - Wait through the token: [`CancelToken::sleep`] ends at once when the stage is cancelled, and runs in virtual time.
/// - Add up the [`attempts`](CallError::attempts) if it calls more than once.
///
/// One layer serves all workers and all runs at the same time.
pub trait CallLayer<C: Call>: Send + Sync + 'static {
    /// What it makes.
    type Out: Send + 'static;
    /// The error of the call itself.
    type Error: Into<BoxError> + 'static;

    /// Makes the call.
    ///
    /// # Errors
    /// Why there is no result, and how many attempts were made.
    fn call(&self, inner: &C, cancel: &CancelToken, item: &C::In) -> Result<Self::Out, CallError<Self::Error>>;
}

impl<C, Out, E, F> CallLayer<C> for F
where
    C: Call,
    Out: Send + 'static,
    E: Into<BoxError> + 'static,
    F: Fn(&C, &CancelToken, &C::In) -> Result<Out, CallError<E>> + Send + Sync + 'static,
{
    type Out = Out;
    type Error = E;

    fn call(&self, inner: &C, cancel: &CancelToken, item: &C::In) -> Result<Out, CallError<E>> {
        self(inner, cancel, item)
    }
}

/// Says why a [`Call`] has no result.
#[derive(Debug, Clone)]
pub struct CallError<E> {
    /// What went wrong.
    pub failure: CallFailure<E>,
    /// The number of times that the call itself was made: 1 unless a layer retried it, 0 if a layer did not let it
    /// through.
    pub attempts: u32,
}

/// Lists the ways in which a [`Call`] can fail.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CallFailure<E> {
    /// The call returned this error.
    Failed(E),
    /// The call panicked; the message is the panic's payload.
    Panicked(PanicMessage),
    /// A time limit passed.
    TimedOut {
        /// The time limit.
        limit: Duration,
        /// The error that the call returned after the limit had passed, or the error of the previous attempt.
        error: Option<E>,
    },
    /// A circuit breaker was open: the call was not made.
    CircuitOpen,
    /// A limit was reached: the call was not made.
    Rejected(Rejection),
    /// The call's token was cancelled. That is no failure: it is never retried, counted or dead-lettered.
    Cancelled,
}

/// Names the limit that rejected a call; the source of an error of kind [`Rejected`](ErrorKind::Rejected).
///
/// ```
/// use streamz::{ErrorKind, Rejection, StreamError};
///
/// fn retry_after(error: &StreamError) -> Option<std::time::Duration> {
///     match error.downcast_ref::<Rejection>()? {
///         Rejection::RateLimited { wait } => Some(*wait),
///         _ => None,
///     }
/// }
/// # let wait = std::time::Duration::from_secs(3);
/// # let error = StreamError::new(ErrorKind::Rejected, "call").with_source(Rejection::RateLimited { wait });
/// # assert_eq!(retry_after(&error), Some(wait));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The call would have had to wait for a [`RateLimit`](crate::RateLimit) longer than it may.
    #[error("the rate limit allows the call in {wait:?}")]
    RateLimited {
        /// The time that the call would have had to wait.
        wait: Duration,
    },
    /// A [`Bulkhead`](crate::Bulkhead) had no room within the time that the call may wait.
    #[error("{max_calls} calls are in progress, which is the limit")]
    BulkheadFull {
        /// The number of calls that may be in progress.
        max_calls: usize,
    },
}

impl<E> CallError<E> {
    /// Creates an error that has already been counted: a layer makes one out of the error of the call that it wraps.
    pub fn new(failure: CallFailure<E>, attempts: u32) -> Self {
        Self { failure, attempts }
    }

    /// Creates the error of a new failure, such as a call that a layer refuses. The stage that gave the token counts it
    /// among its failed calls, unless it is [`Cancelled`](CallFailure::Cancelled), which is not a failure.
    pub fn raised(cancel: &CancelToken, failure: CallFailure<E>, attempts: u32) -> Self {
        if !matches!(failure, CallFailure::Cancelled) {
            cancel.call_failed();
        }
        Self::new(failure, attempts)
    }

    /// Returns the error that the call itself returned, if it did.
    pub fn error(&self) -> Option<&E> {
        match &self.failure {
            CallFailure::Failed(error) => Some(error),
            CallFailure::TimedOut { error, .. } => error.as_ref(),
            _ => None,
        }
    }

    /// Returns the error that the call itself returned, if it did.
    pub fn into_error(self) -> Option<E> {
        match self.failure {
            CallFailure::Failed(error) => Some(error),
            CallFailure::TimedOut { error, .. } => error,
            _ => None,
        }
    }

    /// Returns whether the call was not made because a circuit breaker was open.
    pub fn is_circuit_open(&self) -> bool {
        matches!(self.failure, CallFailure::CircuitOpen)
    }

    /// Returns whether the call's token was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.failure, CallFailure::Cancelled)
    }

    /// Returns whether a limit was reached, so that the call was not made.
    pub fn is_rejected(&self) -> bool {
        matches!(self.failure, CallFailure::Rejected(_))
    }

    /// Returns the kind of the error item that this failure becomes.
    pub fn kind(&self) -> ErrorKind {
        match self.failure {
            CallFailure::Failed(_) => ErrorKind::Failed,
            CallFailure::Panicked(_) => ErrorKind::Panicked,
            CallFailure::TimedOut { .. } => ErrorKind::TimedOut,
            CallFailure::CircuitOpen => ErrorKind::CircuitOpen,
            CallFailure::Rejected(_) => ErrorKind::Rejected,
            CallFailure::Cancelled => ErrorKind::Cancelled,
        }
    }
}

impl<E: Into<BoxError>> CallError<E> {
    /// Creates the error item for `item`, beginning with what `details` returns for its kind.
    pub(crate) fn into_stream_error<T: Send + 'static>(
        self,
        details: impl FnOnce(ErrorKind) -> Details,
        item: T,
    ) -> StreamError {
        let kind = match self.kind() {
            // The stage itself continues: this concerns only the item, and must not look like the end of the stream.
            ErrorKind::Cancelled => ErrorKind::Failed,
            kind => kind,
        };
        let details = details(kind).with_attempts(self.attempts);
        let details = match self.failure {
            CallFailure::Failed(source) => details.with_source(source),
            CallFailure::Panicked(message) => details.with_source(message),
            CallFailure::TimedOut { limit, error: source } => {
                details.with_source(CallTimedOut { limit, source: source.map(Into::into) })
            }
            CallFailure::CircuitOpen => details,
            CallFailure::Rejected(rejection) => details.with_source(rejection),
            CallFailure::Cancelled => details.with_source("the call says that it was cancelled"),
        };
        details.about(item)
    }
}

impl<E> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {}", self.kind())?;
        if self.attempts > 1 {
            write!(f, " after {} attempts", self.attempts)?;
        }
        Ok(())
    }
}

/// A call exceeded its time limit.
#[derive(Debug, thiserror::Error)]
#[error("no result within {limit:?}")]
struct CallTimedOut {
    limit: Duration,
    source: Option<BoxError>,
}

/// Makes a [`Call`] for each item on a pool of workers, and so can be wrapped in layers such as [`Retry`](crate::Retry)
/// and [`CircuitBreaker`](crate::CircuitBreaker). Implemented by the library only: by
/// [`AsyncMapper`](crate::AsyncMapper), [`Mapper::fallible`](crate::Mapper::fallible), and the layers themselves. A
/// layer of your own is a [`CallLayer`], which [`Layered`](crate::Layered) makes one of these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no call that could be tried again or guarded",
    note = "wrap an `AsyncMapper`, a `Mapper::fallible`, or another layer such as `Retry` or `CircuitBreaker`"
)]
#[allow(private_bounds)] // what seals it
pub trait CallStage: Processor + sealed::Pooled {
    /// The error of the call itself.
    type Error: Into<BoxError> + 'static;
    /// The call.
    type Call: Call<In = Self::In, Out = Self::Out, Error = Self::Error>;

    /// Returns the call by itself, as one run makes it. State that all runs share, such as that of a circuit breaker,
    /// is shared with it, too.
    ///
    /// # Panics
    /// If two options contradict one another.
    #[track_caller]
    fn to_call(&self) -> Self::Call;
}

pub(crate) mod sealed {
    use super::PoolOptions;
    use crate::stream::Processor;

    /// Seals [`CallStage`](super::CallStage), and passes the settings of the pool to a wrapper.
    pub(crate) trait Pooled: Processor {
        fn pool(&self) -> PoolOptions<Self::In>;
    }
}

/// Returns the hash of an item's key.
pub(crate) type KeyHash<In> = Arc<dyn Fn(&In) -> u64 + Send + Sync>;

pub(crate) fn hash_by<In, K: Hash>(key: impl Fn(&In) -> K + Send + Sync + 'static) -> KeyHash<In> {
    let state = RandomState::new();
    Arc::new(move |item| state.hash_one(key(item)))
}

pub(crate) fn hash_by_ref<In, K: Hash + ?Sized>(key: impl Fn(&In) -> &K + Send + Sync + 'static) -> KeyHash<In> {
    let state = RandomState::new();
    Arc::new(move |item| state.hash_one(key(item)))
}

/// The settings of a pool of workers.
pub(crate) struct PoolOptions<In> {
    pub(crate) options: Options,
    pub(crate) workers: usize,
    pub(crate) ordered: bool,
    pub(crate) window: Option<usize>,
    pub(crate) queue_size: Option<usize>,
    /// Returns the lane of an item: see `operators/pool/lanes.rs`.
    pub(crate) lane_of: Option<KeyHash<In>>,
}

impl<In> PoolOptions<In> {
    pub(crate) fn new(options: Options, workers: usize) -> Self {
        Self { options, workers, ordered: true, window: None, queue_size: None, lane_of: None }
    }
}

impl<In> Clone for PoolOptions<In> {
    fn clone(&self) -> Self {
        Self { options: self.options.clone(), lane_of: self.lane_of.clone(), ..*self }
    }
}

impl<In> fmt::Debug for PoolOptions<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolOptions")
            .field("name", &self.options.name)
            .field("capacity", &self.options.capacity)
            .field("workers", &self.workers)
            .field("ordered", &self.ordered)
            .field("window", &self.window)
            .field("queue_size", &self.queue_size)
            .field("keyed", &self.lane_of.is_some())
            .finish()
    }
}

/// The setters for [`PoolOptions`], in an `impl` block of a type with a field `pool`.
macro_rules! pool_options {
    () => {
        $crate::operators::options::common_options! {
            with_name: pool.options.name,
            with_capacity: pool.options.capacity
        }

        /// Sets the number of worker threads, and so how many calls may be in progress. Defaults to the number of
        /// processors, which suits work that computes; work that waits needs more. A wrapped
        /// [`Mapper::fallible`](crate::Mapper::fallible) has one.
        ///
        /// # Panics
        /// If `workers` is 0 or more than 65,536.
        #[track_caller]
        pub fn with_workers(mut self, workers: usize) -> Self {
            $crate::operators::options::check_threads("workers", workers);
            self.pool.workers = workers;
            self
        }

        /// Sets whether results come out in the order of the input. Defaults to true. Without order, a slow item does
        /// not hold up the others.
        pub fn with_ordered(mut self, ordered: bool) -> Self {
            self.pool.ordered = ordered;
            self
        }

        /// Sets how many items may be in progress or finished and waiting for their turn. Defaults to 1,024, or the
        /// number of workers if that is more. A small window bounds memory more tightly, but lets one slow item stop
        /// the rest sooner.
        ///
        /// # Panics
        /// If `window` is 0; and when the processor is used, if it is less than the number of workers.
        #[track_caller]
        pub fn with_window(mut self, window: usize) -> Self {
            assert!(window > 0, "`window` must be at least 1");
            self.pool.window = Some(window);
            self
        }

        /// Sets how many items may wait in front of the workers. Defaults to the capacity of the stage before.
        ///
        /// Has no effect on a stream that comes from a foreign channel, which has its own capacity.
        pub fn with_queue_size(mut self, items: usize) -> Self {
            self.pool.queue_size = Some(items);
            self
        }
    };
}

/// Implements `Processor` and `CallStage` for a layer: a type with a field `pool` and a method `layered(&self)` that
/// makes its call.
///
/// The generics and bounds are given once, then what the call takes, returns and fails with, and its type:
/// `call_stage! { [S] Retry<S> where { S: CallStage } S::In => S::Out, S::Error, RetryCall<S::Call> }`.
macro_rules! call_stage {
    ([$($generic:ident),*] $type:ty where { $($bounds:tt)* } $in:ty => $out:ty, $error:ty, $call:ty) => {
        impl<$($generic),*> $crate::Processor for $type where $($bounds)* {
            type In = $in;
            type Out = $out;

            #[track_caller]
            fn process(
                &self,
                cancel: &$crate::CancelToken,
                input: $crate::Stream<Self::In>,
            ) -> $crate::Stream<Self::Out> {
                $crate::operators::pool::calls::process(self.layered(), &self.pool, cancel, input)
            }

            fn name(&self) -> &str {
                &self.pool.options.name
            }
        }

        impl<$($generic),*> $crate::operators::call::sealed::Pooled for $type where $($bounds)* {
            fn pool(&self) -> $crate::operators::call::PoolOptions<$in> {
                self.pool.clone()
            }
        }

        impl<$($generic),*> $crate::CallStage for $type where $($bounds)* {
            type Error = $error;
            type Call = $call;

            #[track_caller]
            fn to_call(&self) -> Self::Call {
                self.layered()
            }
        }
    };
}

pub(crate) use {call_stage, pool_options};
