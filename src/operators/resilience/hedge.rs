//! [`Hedge`]: a second try for a slow call.
//!
//! # Invariants
//!
//! - Both tries run on their own threads, and the worker waits for an answer. So a try that has lost delays no result,
//!   even if it does not check its token.
//! - A second try is paid for before it starts, and only once per call.
//! - Threads and tries are never waited for here: the pipeline joins the threads, including those of tries that have
//!   lost.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::budget::Budget;
use super::helpers::Helpers;
use super::latencies::Latencies;
use super::race::{Answer, Race};
use crate::clock::account::WaitFor;
use crate::clock::wait::Waiter;
use crate::clock::{Limit, earlier};
use crate::operators::call::{PoolOptions, call_stage, pool_options};
use crate::operators::options::live_debug;
use crate::operators::pool::combine::combine;
use crate::operators::{Call, CallError, CallFailure, CallStage};
use crate::panic::guard_drop;
use crate::pipeline::CancelToken;
use crate::pipeline::stats::Counter;

/// Makes a slow call a second time, and takes the first result.
///
/// Some calls take far longer than others for unrelated reasons: a busy replica, a lost packet, a garbage collection. A
/// second try a little later is likely to be faster. If it starts after the time within which 95 % of the calls return,
/// it costs 5 % more calls and may reduce the slowest ones to a fraction of their time.
///
/// It wraps a call, not a stream: an [`AsyncMapper`](crate::AsyncMapper), a
/// [`Mapper::fallible`](crate::Mapper::fallible), or another wrapper. Together they are one stage with one pool. The
/// calls must be idempotent: the service may carry out both tries, including the one that lost. Items are cloned for
/// each try; put large ones in an `Arc`.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::time::Duration;
/// use streamz::testing::Recorder;
/// use streamz::{AsyncMapper, CancelToken, Hedge, ManualClock, Pipeline, Stream};
///
/// let is_first = AtomicBool::new(true);
/// let fetch = AsyncMapper::new(move |cancel: &CancelToken, id: &u32| {
///     let stuck = *id == 2 && is_first.swap(false, Ordering::Relaxed);
///     cancel.sleep(Duration::from_millis(if stuck { 60_000 } else { 20 })).map(|()| id * 10)
/// });
/// let hedge = Hedge::new(fetch.with_workers(4), Duration::from_millis(50));
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("fetch").clock(&clock).build();
/// let fetched = Recorder::new(Stream::from_iter(&pipeline, 1..=3).through(&hedge));
/// clock.advance(Duration::from_millis(70));
/// assert_eq!(fetched.items(), [10, 20, 30]);
/// assert_eq!((hedge.stats().hedges(), hedge.stats().wins()), (1, 1));
/// ```
///
/// # What is hedged
///
/// | the first try | then |
/// |---|---|
/// | returns before the delay, with a result or an error | no second try is made; to retry a failed call, use [`Retry`](crate::Retry) |
/// | takes longer | a second try starts, if the [budget](Self::with_budget) and the threads allow it |
///
/// The first result wins, and the token of the other try is cancelled. If a try fails, the other one is waited for. If both fail, the
/// item fails with the later error, after two [attempts](crate::StreamError::attempts).
///
/// # Threads
/// The tries run on threads of the pipeline beside the workers, so that a losing try that does not check its token
/// cannot hold up a result. They are started when needed, reused, and joined with the pipeline; there are at most two
/// for each worker, including those of losing tries that have not returned. If a try cannot get one, because of that or
/// of [`max_threads`](crate::PipelineBuilder::max_threads), the first is made by the worker itself, without a second,
/// and the second is not made. Outside of a pipeline nothing is hedged.
///
/// The technique is that of [The Tail at Scale](https://research.google/pubs/the-tail-at-scale/) (Dean and Barroso, 2013), as in
/// tower's `hedge`.
///
/// # Ordering
/// Same as the pool. In a [keyed](crate::AsyncMapper::keyed) pool a try that has lost may still be in progress when the
/// call for the next item of its key begins.
///
/// # Back-pressure
/// A worker waits until its call has been answered. Tries that have lost may still be in progress, so there may be twice as many calls
/// as workers; a limit for the service belongs inside of this layer.
///
/// # Cancellation
/// Ends the wait at once, and cancels both tries. Their threads end when they return.
///
/// # Delivery
/// An item is done when its result is: a record of [`Stream::deliver`](crate::Stream::deliver) may be acknowledged while a try that has
/// lost is still in progress. That try changes nothing that the other one has not done, for the calls are idempotent.
///
/// # Memory
/// Same as the pool, a clone of the item for each try, and the times of the last 256 calls.
///
/// # Panics
/// A panic in a try is a failure of that try.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("hedging", "hedged_request", "speculative", "backup_request", "tail_latency", "race"))]
pub struct Hedge<S: CallStage> {
    inner: S,
    pool: PoolOptions<S::In>,
    delay: Duration,
    percentile: Option<f64>,
    /// The share and the reserve of the budget.
    funding: (f64, u32),
    shared: Arc<Shared>,
}

/// The state shared by all runs.
struct Shared {
    /// `None` if every call may have a second try.
    budget: Option<Budget>,
    latencies: Latencies,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    hedges: Counter,
    wins: Counter,
    over_budget: Counter,
    without_thread: Counter,
}

impl Shared {
    fn new((share, reserve): (f64, u32)) -> Arc<Self> {
        Arc::new(Self {
            budget: (share < 1.0).then(|| Budget::new(share, reserve)),
            latencies: Latencies::default(),
            counts: Counts::default(),
        })
    }
}

impl<S: CallStage<In: Clone, Error: Send>> Hedge<S> {
    /// Starts a second try of a call of `inner` that has not returned after `delay`. With a delay of zero, both start
    /// together, as far as the budget allows. Keeps the stage name and the pool of `inner` unless you set others.
    pub fn new(inner: S, delay: Duration) -> Self {
        let funding = (0.1, 10);
        Self { pool: inner.pool(), inner, delay, percentile: None, funding, shared: Shared::new(funding) }
    }

    pool_options!();
    combine! { S::In, S::Out, S::Error }

    /// Starts the second try after the time within which the given share of the recent calls returned: with 0.95, for
    /// the slowest 5 % of calls. The delay given to [`new`](Self::new) is used until 20 calls have returned. For a call
    /// with two tries, the time until the first result counts. Defaults to always using that delay.
    ///
    /// # Panics
    /// If `share` is not greater than 0.0 and less than 1.0.
    #[track_caller]
    pub fn with_percentile(mut self, share: f64) -> Self {
        assert!(share > 0.0 && share < 1.0, "`share` must be greater than 0.0 and less than 1.0, not {share}");
        self.percentile = Some(share);
        self
    }

    /// Allows at most `share` second tries for each call, on average, so that a service that slows down is not given twice the
    /// load. Defaults to 0.1. Over any `n` calls there are at most `reserve + share * n`; the
    /// [reserve](Self::with_budget_reserve) is 10. With 1.0 or more every call may have one. The budget is one for all runs.
    ///
    /// # Panics
    /// If `share` is negative or not finite; and, as [`with_budget_reserve`](Self::with_budget_reserve), if the layer has been
    /// cloned, watched or used.
    #[track_caller]
    pub fn with_budget(mut self, share: f64) -> Self {
        assert!(share.is_finite() && share >= 0.0, "`share` must be finite and at least 0.0, not {share}");
        self.funding.0 = share;
        self.fund()
    }

    /// Sets how many second tries the [budget](Self::with_budget) starts with, and can save up. Defaults to 10. With 0,
    /// it starts empty, and saves up one at most.
    #[track_caller]
    pub fn with_budget_reserve(mut self, tries: u32) -> Self {
        self.funding.1 = tries;
        self.fund()
    }

    #[track_caller]
    fn fund(mut self) -> Self {
        let unshared = Arc::get_mut(&mut self.shared).is_some();
        assert!(unshared, "the budget must be set before the layer is used, cloned, or watched");
        self.shared = Shared::new(self.funding);
        self
    }

    fn layered(&self) -> HedgeCall<S::Call> {
        HedgeCall {
            inner: Arc::new(self.inner.to_call()),
            delay: self.delay,
            percentile: self.percentile,
            shared: Arc::clone(&self.shared),
            helpers: Helpers::new(2 * self.pool.workers),
        }
    }

    /// Returns live statistics, across all runs. Call it after the budget is set.
    pub fn stats(&self) -> HedgeStats {
        HedgeStats { shared: Arc::clone(&self.shared) }
    }
}

call_stage! { [S] Hedge<S> where { S: CallStage<In: Clone, Error: Send> } S::In => S::Out, S::Error, HedgeCall<S::Call> }

/// Makes a call with up to two tries, for a [`Hedge`].
pub struct HedgeCall<C: Call> {
    inner: Arc<C>,
    delay: Duration,
    percentile: Option<f64>,
    shared: Arc<Shared>,
    helpers: Arc<Helpers>,
}

impl<C: Call<In: Clone, Error: Send>> Call for HedgeCall<C> {
    type In = C::In;
    type Out = C::Out;
    type Error = C::Error;

    fn call(&self, cancel: &CancelToken, item: &C::In) -> Answer<C> {
        let waiter = Waiter::current(cancel.clock());
        let mut race = Race::new(waiter.wake());
        self.shared.budget.as_ref().inspect(|budget| budget.earn());
        if !self.begin(&mut race, cancel, item) {
            return self.inner.call(cancel, item);
        }
        let begun = cancel.now();
        let mut second = Some(Limit::after(self.delay(), cancel.clock()));
        let (mut running, mut attempts) = (1, 0);
        let _registered = cancel.register(waiter.wake());
        loop {
            match race.next() {
                Some((number, Ok(out))) => {
                    self.shared.latencies.add(cancel.now() - begun);
                    self.shared.counts.wins.add_shared(u64::from(number > 0));
                    return Ok(out);
                }
                Some((_, Err(error))) => {
                    running -= 1;
                    attempts += error.attempts;
                    if running == 0 {
                        return Err(CallError::new(error.failure, attempts));
                    }
                    guard_drop(error);
                    continue;
                }
                None => {}
            }
            if cancel.is_cancelled() {
                return Err(CallError::new(CallFailure::Cancelled, attempts + running));
            }
            if second.is_some_and(|at| at.has_passed(cancel.clock())) {
                second = None;
                running += u32::from(self.hedge(&mut race, cancel, item));
                continue;
            }
            waiter.park_for(WaitFor::Work, earlier(second.and_then(Limit::deadline), cancel.deadline()));
        }
    }
}

impl<C: Call<In: Clone, Error: Send>> HedgeCall<C> {
    /// How long to wait for the first try.
    fn delay(&self) -> Duration {
        let recent = self.percentile.and_then(|share| self.shared.latencies.percentile(share));
        // This means calls that take longer, not those that take exactly as long.
        recent.map_or(self.delay, |latency| latency.saturating_add(Duration::from_nanos(1)))
    }

    /// Starts a try. Returns false if there is no thread for it.
    fn begin(&self, race: &mut Race<C>, cancel: &CancelToken, item: &C::In) -> bool {
        let begun = self.helpers.run(cancel, race.enter(&self.inner, cancel, item.clone()));
        self.shared.counts.without_thread.add_shared(u64::from(!begun));
        begun
    }

    /// Starts the second try. Returns false if it may not.
    fn hedge(&self, race: &mut Race<C>, cancel: &CancelToken, item: &C::In) -> bool {
        if self.shared.budget.as_ref().is_some_and(|budget| !budget.spend()) {
            self.shared.counts.over_budget.add_shared(1);
            return false;
        }
        let begun = self.begin(race, cancel, item);
        self.shared.counts.hedges.add_shared(u64::from(begun));
        begun
    }
}

impl<C: Call> Drop for HedgeCall<C> {
    fn drop(&mut self) {
        self.helpers.close();
    }
}

/// Live statistics of a [`Hedge`]. Clones show the same numbers.
#[derive(Clone)]
pub struct HedgeStats {
    shared: Arc<Shared>,
}

impl HedgeStats {
    /// Returns the number of calls for which a second try was made.
    pub fn hedges(&self) -> u64 {
        self.shared.counts.hedges.get()
    }

    /// Returns the number of calls for which the second try brought the result.
    pub fn wins(&self) -> u64 {
        self.shared.counts.wins.get()
    }

    /// Returns the number of calls without a second try because the [budget](Hedge::with_budget) was spent.
    pub fn over_budget(&self) -> u64 {
        self.shared.counts.over_budget.get()
    }

    /// Returns the number of tries without a [thread](Hedge#threads): calls that could not be hedged, and second tries
    /// that were not made.
    pub fn without_thread(&self) -> u64 {
        self.shared.counts.without_thread.get()
    }
}

live_debug! { HedgeStats: hedges, wins, over_budget, without_thread }

/// The clone shares the budget, the times of the last calls, and the statistics.
impl<S: CallStage + Clone> Clone for Hedge<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), pool: self.pool.clone(), shared: Arc::clone(&self.shared), ..*self }
    }
}

impl<S: CallStage + fmt::Debug> fmt::Debug for Hedge<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("inner", &self.inner)
            .field("delay", &self.delay)
            .field("percentile", &self.percentile)
            .field("stats", &HedgeStats { shared: Arc::clone(&self.shared) })
            .finish_non_exhaustive()
    }
}

impl<C: Call> fmt::Debug for HedgeCall<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeCall").field("helpers", &self.helpers).finish_non_exhaustive()
    }
}
