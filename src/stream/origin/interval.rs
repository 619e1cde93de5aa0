//! Ticks.
//!
//! A tick is made when there is room for it, not when it is due: a tick that waited inside the stage would be stale
//! when the consumer comes. So the ticks come from an operator, which can check for room, and not from its [`Feed`],
//! which emits nothing.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crate::clock::wait::Waiter;
use crate::clock::{MissedTicks, Ticks};
use crate::edge::{End, Polled};
use crate::pipeline::CancelToken;
use crate::pipeline::timing::Phase;
use crate::stage::input::Feed;
use crate::stage::thread::StageThread;
use crate::stage::{Emit, Operator};
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_driver};

/// Configures [`Stream::interval`]: its period, and what happens to ticks while the consumer is slow.
///
/// ```
/// use std::time::Duration;
/// use streamz::{Interval, ManualClock, MissedTicks, Pipeline, Stream};
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("ticks").clock(&clock).build();
/// let second = Duration::from_secs(1);
/// let mut ticks = Stream::interval(&pipeline, second);
/// let mut all = Stream::interval(
///     &pipeline,
///     Interval::new(second).with_missed_ticks(MissedTicks::Burst),
/// );
///
/// // The consumer stalls for ten seconds.
/// clock.advance(Duration::from_millis(10_500));
/// let next = |ticks: &mut Stream<u64>| {
///     clock.settle();
///     ticks.try_recv().ok()?.ok()
/// };
/// let numbers =
///     |ticks: &mut Stream<u64>| std::iter::from_fn(|| next(ticks)).collect::<Vec<_>>();
/// assert_eq!(numbers(&mut ticks), [1, 10]);
/// assert_eq!(numbers(&mut all), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until they are given to `Stream::interval`"]
pub struct Interval {
    period: Duration,
    missed: MissedTicks,
    capacity: usize,
}

impl Interval {
    /// Ticks every `period`.
    ///
    /// # Panics
    /// If `period` is zero.
    #[track_caller]
    pub fn new(period: Duration) -> Self {
        check(period);
        Self::from(period)
    }

    /// Sets what happens to ticks that fall due while there is no room for them. Defaults to [`MissedTicks::Skip`].
    pub fn with_missed_ticks(mut self, missed: MissedTicks) -> Self {
        self.missed = missed;
        self
    }

    /// Sets how many ticks may wait for a slow consumer. Defaults to 1; with 0, a tick is emitted only while the
    /// consumer is waiting for one, so that it never receives a stale one.
    ///
    /// The capacity of the pipeline does not apply: ticks that wait are stale. A stage behind the interval has its own
    /// output, in which the results of ticks wait.
    pub fn with_capacity(mut self, ticks: usize) -> Self {
        self.capacity = ticks;
        self
    }
}

impl From<Duration> for Interval {
    /// Does what [`Interval::new`] does, except that [`Stream::interval`] refuses a period of zero.
    fn from(period: Duration) -> Self {
        Self { period, missed: MissedTicks::default(), capacity: 1 }
    }
}

#[track_caller]
fn check(period: Duration) {
    assert!(!period.is_zero(), "`period` must be greater than zero");
}

/// Emits a tick when one is due and there is room for it.
struct Ticker {
    ticks: Ticks,
    token: CancelToken,
}

impl Ticker {
    fn is_due(&self) -> bool {
        self.ticks.next.is_some_and(|next| next <= self.token.now())
    }
}

impl Operator for Ticker {
    type In = Infallible;
    type Out = u64;

    fn item(&mut self, item: Infallible, _out: &mut impl Emit<u64>) {
        match item {}
    }

    fn resume(&mut self, out: &mut impl Emit<u64>) -> bool {
        if self.token.is_draining() {
            self.ticks.next = None;
        }
        if out.is_full() {
            // Called again when there is room, which may be long after the tick was due.
            return self.is_due();
        }
        if let Some(tick) = self.ticks.take(self.token.now()) {
            out.emit_from(tick, 0);
        }
        self.is_due()
    }

    fn next_wake(&self) -> Option<Instant> {
        self.ticks.next
    }
}

/// Emits nothing until a drain ends it.
struct Silence {
    token: CancelToken,
}

impl Feed for Silence {
    type Item = Infallible;
    type Hand = ();

    fn poll(&mut self) -> Polled<Infallible> {
        if self.is_drained() { Polled::Ended(End::Finished) } else { Polled::Empty }
    }

    fn is_drained(&self) -> bool {
        self.token.is_draining()
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        _hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        thread.wait(Phase::Idle, until, || false, |waiter| register(waiter) || self.is_drained());
    }
}

impl Stream<u64> {
    /// Emits the number of each tick, once every period, on a thread of its own; tick 1 comes one period from now.
    ///
    /// Takes the period, or an [`Interval`] with more options. Ticks are due at whole multiples of the period and do
    /// not drift. By default, one tick waits for a slow consumer, and those that fall due in the meantime are skipped
    /// together with their numbers: a consumer that has stalled finds at most one stale tick, and then the present one.
    ///
    /// # Cancellation
    /// A drain ends the stream at once; a tick that waits is still delivered.
    ///
    /// # Panics
    /// If the period is zero, or `cancel` belongs to no pipeline or to one that has finished.
    #[track_caller]
    pub fn interval(cancel: &CancelToken, interval: impl Into<Interval>) -> Self {
        let Interval { period, missed, capacity } = interval.into();
        check(period);
        let token = cancel.clone();
        let ticker = Ticker { ticks: Ticks::with_missed(cancel.now(), period, missed), token: token.clone() };
        spawn_driver(Registered::source(cancel, "interval", 1), Some(capacity), ticker, Silence { token })
    }
}
