//! [`Restart`]: a source that is rebuilt when it fails.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Site;
use crate::clock::wait::Waiter;
use crate::clock::{Backoff, earlier};
use crate::edge::{End, Polled};
use crate::error::{BoxError, PanicMessage};
use crate::panic;
use crate::pipeline::CancelToken;
use crate::pipeline::stats::Counter;
use crate::pipeline::timing::Phase;
use crate::stage::input::Feed;
use crate::stage::thread::StageThread;
use crate::stream::Stream;
use crate::trace::event;

/// Sets how [`Stream::restarting`] builds a source, and when it rebuilds it.
///
/// A closure builds the source: anything that can be iterated over and yields results, such as the lines of a
/// connection. When the source yields an error, or cannot be built, it is dropped, and rebuilt after a pause.
///
/// Whether the closure continues or begins again has to be said, so that no item is sent twice by accident:
///
/// | after a restart, the source | use |
/// |---|---|
/// | continues: at a position, or with what is new | [`Restart::resuming`] |
/// | begins again with the first item | [`Restart::from_start`], which skips what has been sent |
/// | begins again, and everything is to be sent again | [`Restart::resuming`] |
///
/// ```
/// use std::time::Duration;
/// use streamz::{Pipeline, Restart, Stream};
///
/// /// A log that is read from any position, over a connection that breaks now and then.
/// fn read_from(
///     position: u64,
///     failures: u32,
/// ) -> Result<impl Iterator<Item = Result<u64, &'static str>>, &'static str> {
///     if failures == 1 {
///         return Err("connection refused");
///     }
///     let breaks_at = if position < 4 { position + 2 } else { u64::MAX };
///     Ok((position..6)
///         .map(move |n| if n < breaks_at { Ok(n) } else { Err("connection reset") }))
/// }
///
/// let pipeline = Pipeline::new("log");
/// let restart = Restart::resuming(|attempt| read_from(attempt.sent(), attempt.failures()))
///     .base_delay(Duration::from_micros(100));
/// let stats = restart.stats();
/// let records = Stream::restarting(&pipeline, restart).collect::<Vec<_>>()?;
/// assert_eq!(records, [0, 1, 2, 3, 4, 5]);
/// assert_eq!((stats.failures(), stats.restarts()), (4, 2));
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "options do nothing until they are given to `Stream::restarting`"]
#[doc(alias("RestartSource", "reconnect", "backoff"))]
pub struct Restart<F> {
    factory: F,
    backoff: Backoff,
    max_attempts: Option<u32>,
    skips_sent: bool,
    seed: Option<u64>,
    stats: RestartStats,
}

/// Describes an attempt to build a source, for the closure of a [`Restart`].
#[derive(Debug, Clone)]
pub struct RestartAttempt {
    token: CancelToken,
    failures: u32,
    sent: u64,
}

impl RestartAttempt {
    /// Returns the number of attempts that failed since the last item was sent, including the one that sent it: 0 at
    /// first.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns the number of items sent so far: where to continue, for a source whose positions are numbers.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns the token of the source, with which a closure or a source that waits can be interrupted. It is also
    /// cancelled when the stream is dropped, with [`Cause::ConsumerGone`](crate::Cause::ConsumerGone).
    pub fn token(&self) -> &CancelToken {
        &self.token
    }
}

impl<F> Restart<F> {
    /// Builds the source with `factory`, which continues where the last source ended: by the [number of items
    /// sent](RestartAttempt::sent), or by a position of your own, which the source may store before it returns an item.
    /// Nothing is skipped, so a `factory` that begins again sends everything again.
    ///
    /// It is called on the thread of the source, for the first time and after each failure.
    pub fn resuming<I, T, E, O>(factory: F) -> Self
    where
        F: FnMut(&RestartAttempt) -> Result<I, O> + Send + 'static,
        I: IntoIterator<Item = Result<T, E>>,
    {
        Self::of(factory, false)
    }

    /// Builds the source with `factory`, which begins with the first item each time. After a restart, as many items are
    /// skipped as have been sent, so no item is sent twice; [`RestartStats::skipped`] counts them. The items must come in
    /// the same order each time.
    ///
    /// It is called on the thread of the source, for the first time and after each failure.
    ///
    /// ```
    /// use std::time::Duration;
    /// use streamz::{Pipeline, Restart, Stream};
    ///
    /// /// Rows of a query, of which the connection breaks the first time.
    /// fn query(failures: u32) -> impl Iterator<Item = Result<u64, &'static str>> {
    ///     (0..6).map(move |n| if n < 4 || failures > 0 { Ok(n) } else { Err("connection reset") })
    /// }
    ///
    /// let pipeline = Pipeline::new("rows");
    /// let restart = Restart::from_start(|attempt| streamz::ok(query(attempt.failures())))
    ///     .base_delay(Duration::from_micros(100));
    /// let stats = restart.stats();
    /// let rows = Stream::restarting(&pipeline, restart).collect::<Vec<_>>()?;
    /// assert_eq!(rows, [0, 1, 2, 3, 4, 5]);
    /// assert_eq!(stats.skipped(), 4);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    pub fn from_start<I, T, E, O>(factory: F) -> Self
    where
        F: FnMut(&RestartAttempt) -> Result<I, O> + Send + 'static,
        I: IntoIterator<Item = Result<T, E>>,
    {
        Self::of(factory, true)
    }

    fn of(factory: F, skips_sent: bool) -> Self {
        Self {
            factory,
            backoff: Backoff { base: Duration::from_millis(100), max: None, jitter: true },
            max_attempts: None,
            skips_sent,
            seed: None,
            stats: RestartStats::default(),
        }
    }

    /// Sets how many attempts in a row may fail, the first one included: the last error then cuts the stream. An attempt that
    /// sends an item begins a new row, of which it is the first if it fails later. Defaults to no limit. With 1 nothing is restarted.
    ///
    /// # Panics
    /// If `attempts` is 0.
    #[track_caller]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        assert!(attempts > 0, "`attempts` must be at least 1");
        self.max_attempts = Some(attempts);
        self
    }

    /// Sets the pause after the first failure in a row. Defaults to 100 ms. After failure `k` the pause is `delay * 2^(k-1)`, up
    /// to [`max_delay`](Self::max_delay). With zero there are no pauses.
    pub fn base_delay(mut self, delay: Duration) -> Self {
        self.backoff.base = delay;
        self
    }

    /// Sets the longest pause. Defaults to 30 s, or to the [base delay](Self::base_delay) if that is longer.
    ///
    /// # Panics
    /// If `delay` is less than the [base delay](Self::base_delay); in [`Stream::restarting`].
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.backoff.max = Some(delay);
        self
    }

    /// Sets whether each pause is shortened by a random part of up to one half, so that clients that failed together do not
    /// come back together. Defaults to true.
    pub fn with_jitter(mut self, jitter: bool) -> Self {
        self.backoff.jitter = jitter;
        self
    }

    /// Makes the jitter repeatable.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Returns live statistics.
    pub fn stats(&self) -> RestartStats {
        self.stats.clone()
    }
}

impl<F> fmt::Debug for Restart<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restart")
            .field("backoff", &self.backoff)
            .field("max_attempts", &self.max_attempts)
            .field("skips_sent", &self.skips_sent)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// Live statistics of a [`Restart`]. Clones show the same numbers.
#[derive(Clone, Default)]
pub struct RestartStats {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    failures: Counter,
    restarts: Counter,
    skipped: Counter,
    is_waiting: AtomicBool,
}

impl RestartStats {
    /// Returns the number of attempts that failed: the source could not be built, returned an error, or panicked.
    pub fn failures(&self) -> u64 {
        self.counts.failures.get()
    }

    /// Returns the number of sources that were built after a failure.
    pub fn restarts(&self) -> u64 {
        self.counts.restarts.get()
    }

    /// Returns the number of items that were [skipped](Restart::from_start) because they had been sent before.
    pub fn skipped(&self) -> u64 {
        self.counts.skipped.get()
    }

    /// Returns whether the source is waiting for the next attempt.
    pub fn is_waiting(&self) -> bool {
        self.counts.is_waiting.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for RestartStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestartStats")
            .field("failures", &self.failures())
            .field("restarts", &self.restarts())
            .field("skipped", &self.skipped())
            .field("is_waiting", &self.is_waiting())
            .finish()
    }
}

/// The source: the current inner source, if any.
struct Restarting<F, I> {
    restart: Restart<F>,
    site: Site,
    /// Also cancelled when the consumer leaves.
    calls: CancelToken,
    running: Option<I>,
    /// Failures since the last item was sent.
    failures: u32,
    sent: u64,
    /// The number of items of this run that have yet to be skipped.
    to_skip: u64,
    /// When the next attempt is due; `None` for never, if the pause is too long.
    pause: Option<Option<Instant>>,
    random: fastrand::Rng,
    ended: bool,
}

impl<F, I, T, E, O> Restarting<F, I>
where
    F: FnMut(&RestartAttempt) -> Result<I, O>,
    I: Iterator<Item = Result<T, E>>,
    E: Into<BoxError>,
    O: Into<BoxError>,
{
    /// A source that can be read, or the poll result if there is none.
    fn start(&mut self) -> Result<(), Polled<T>> {
        if self.ended {
            return Err(Polled::Ended(End::Finished));
        }
        if self.running.is_some() {
            return Ok(());
        }
        if let Some(until) = self.pause {
            if until.is_none_or(|until| self.site.token.now() < until) {
                return Err(Polled::Empty);
            }
            self.pause = None;
            self.restart.stats.counts.is_waiting.store(false, Ordering::Relaxed);
        }
        let attempt = RestartAttempt { token: self.calls.clone(), failures: self.failures, sent: self.sent };
        let factory = &mut self.restart.factory;
        let reason = match panic::catch(|| factory(&attempt)) {
            Ok(Ok(running)) => {
                self.running = Some(running);
                self.to_skip = if self.restart.skips_sent { self.sent } else { 0 };
                let counts = &self.restart.stats.counts;
                // The first source is built without a failure.
                if counts.failures.get() > 0 {
                    counts.restarts.add(1);
                }
                return Ok(());
            }
            Ok(Err(error)) => error.into(),
            Err(payload) => PanicMessage::from(payload).into(),
        };
        Err(self.failed(reason))
    }

    fn next(&mut self) -> Polled<T> {
        loop {
            if self.calls.is_cancelled() && !self.ended {
                return self.stopped();
            }
            if let Err(polled) = self.start() {
                return polled;
            }
            let Some(running) = &mut self.running else { return Polled::Empty };
            match panic::catch(|| running.next()) {
                Ok(Some(Ok(item))) if self.to_skip > 0 => {
                    self.to_skip -= 1;
                    self.restart.stats.counts.skipped.add(1);
                    panic::guard_drop(item);
                    if self.is_draining() {
                        return self.over(End::Finished);
                    }
                }
                Ok(Some(Ok(item))) => {
                    self.failures = 0;
                    self.sent += 1;
                    return Polled::Item(Ok(item));
                }
                Ok(Some(Err(error))) => return self.failed(error.into()),
                Ok(None) => return self.over(End::Finished),
                Err(payload) => return self.failed(PanicMessage::from(payload).into()),
            }
        }
    }

    #[cold]
    fn failed(&mut self, reason: BoxError) -> Polled<T> {
        panic::guard_drop(self.running.take());
        if self.calls.is_cancelled() {
            // That is the most likely reason.
            return self.stopped();
        }
        self.failures = self.failures.saturating_add(1);
        let counts = &self.restart.stats.counts;
        counts.failures.add(1);
        self.site.context.stats.steps[0].failed_calls.add(1);
        if self.restart.max_attempts.is_some_and(|most| self.failures >= most) {
            let end = self.site.died(reason);
            return self.over(end);
        }
        let (backoff, random) = (self.restart.backoff, &mut self.random);
        let pause = backoff.delay(self.failures, |most| random.u128(0..=most));
        // Not for each of them: a service may be away for hours.
        if self.failures == 1 {
            let name = self.site.name();
            event!(
                warn,
                { stage = %name, error = %reason },
                "streamz: `{name}` has failed and is restarted: {reason}"
            );
        }
        counts.is_waiting.store(true, Ordering::Relaxed);
        self.pause = Some(self.site.token.now().checked_add(pause));
        Polled::Empty
    }

    /// The token of the source has been cancelled.
    #[cold]
    fn stopped(&mut self) -> Polled<T> {
        match self.site.stopped(&self.calls) {
            Some(end) => self.over(end),
            None => Polled::Empty,
        }
    }

    fn over(&mut self, end: End) -> Polled<T> {
        self.ended = true;
        panic::guard_drop(self.running.take());
        Polled::Ended(end)
    }
}

impl<F, I> Restarting<F, I> {
    fn is_draining(&self) -> bool {
        self.site.token.is_draining()
    }
}

impl<F, I, T, E, O> Feed for Restarting<F, I>
where
    F: FnMut(&RestartAttempt) -> Result<I, O>,
    I: Iterator<Item = Result<T, E>>,
    T: Send + 'static,
    E: Into<BoxError>,
    O: Into<BoxError>,
{
    type Item = T;
    type Hand = ();

    fn poll(&mut self) -> Polled<T> {
        self.next()
    }

    /// Both the source and the closure may block at any time.
    fn is_at_once(&mut self) -> bool {
        true
    }

    fn is_drained(&self) -> bool {
        self.is_draining()
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        if let Some(pause) = self.pause {
            thread.wait(Phase::Idle, earlier(until, pause), hint, |waiter| register(waiter) || self.is_draining());
        }
    }

    fn publish(&mut self, made: u64) {
        self.site.publish(made);
    }

    fn discard(self) {
        let Self { restart, running, .. } = self;
        restart.stats.counts.is_waiting.store(false, Ordering::Relaxed);
        panic::guard_drop(running);
        panic::guard_drop(restart);
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Emits the items of a source that is rebuilt after a pause when it fails, on a thread of its own. See
    /// [`Restart`].
    ///
    /// An error that the source yields, an error or a panic of the closure that builds it, and a panic of the source
    /// are failures. They are logged, the first one of each row, and counted as
    /// [`failed_calls`](crate::StepReport::failed_calls) in the report; none of them is an error item. A source that
    /// ends is complete, and so is the stream: let it yield an error if its end is a failure. Errors that concern
    /// single items belong in the items: yield `Ok(Err(error))`, and [`lift`](Stream::lift) the stream.
    ///
    /// This is what `RestartSource.onFailuresWithBackoff` does in Akka, except that the pauses start over with the
    /// first item, not after a time. A source that fails right after each first item is therefore restarted endlessly.
    ///
    /// # Ordering
    /// Items are emitted in the order in which the sources yield them.
    ///
    /// # Back-pressure
    /// The source is asked for one item ahead of a full output at most.
    ///
    /// # Errors
    /// After [as many](Restart::max_attempts) failures in a row as are allowed the stream is cut: the last error is of kind
    /// [`Cancelled`](crate::ErrorKind::Cancelled) and has the last failure as its source.
    ///
    /// # Cancellation
    /// Ends a pause at once, and so does a drain. A source that blocks is not interrupted, unless it checks the
    /// [token](RestartAttempt::token) that it is given.
    ///
    /// # Memory
    /// Holds no items.
    ///
    /// # Panics
    /// If [`max_delay`](Restart::max_delay) is less than [`base_delay`](Restart::base_delay), or `cancel` belongs to no
    /// pipeline or to one that has finished.
    #[doc(alias("RestartSource", "reconnect"))]
    #[track_caller]
    pub fn restarting<F, I, E, O>(cancel: &CancelToken, restart: Restart<F>) -> Self
    where
        F: FnMut(&RestartAttempt) -> Result<I, O> + Send + 'static,
        I: IntoIterator<Item = Result<T, E>>,
        I::IntoIter: Send + 'static,
        E: Into<BoxError> + 'static,
        O: Into<BoxError> + 'static,
    {
        if let Backoff { base, max: Some(max), .. } = restart.backoff {
            assert!(base <= max, "`max_delay` ({max:?}) must not be less than `base_delay` ({base:?})");
        }
        let Restart { mut factory, backoff, max_attempts, skips_sent, seed, stats } = restart;
        let factory = move |attempt: &RestartAttempt| factory(attempt).map(IntoIterator::into_iter);
        let restart = Restart { factory, backoff, max_attempts, skips_sent, seed, stats };
        Self::calling_source(cancel, "restarting", move |site, calls| Restarting {
            random: seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            restart,
            site,
            calls,
            running: None,
            failures: 0,
            sent: 0,
            to_skip: 0,
            pause: None,
            ended: false,
        })
    }
}
