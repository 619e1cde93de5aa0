//! The context of a thread of a stage: its waiter, its token, its account of time.

use crossbeam_channel::{Receiver, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::clock::account;
use crate::clock::earlier;
use crate::clock::wait::{Waiter, Wake};
use crate::error::{BoxError, ErrorKind, StreamError};
use crate::pipeline::recording::{Stamper, Stopwatch};
use crate::pipeline::stall::Watch;
use crate::pipeline::stats::{StageKind, StageStats};
use crate::pipeline::timing::Phase;
use crate::pipeline::{CancelToken, Cause, Membership, Registration};

pub(crate) struct StageThread {
    pub(crate) token: CancelToken,
    pub(crate) stats: Arc<StageStats>,
    index: usize,
    /// For a sink or consumer, which waits for the pipeline as a whole.
    pub(super) watch: Option<Watch>,
    /// The token's deadline does not change, and most tokens have none.
    pub(super) deadline: Option<Instant>,
    /// Nothing has been cancelled unless this is set.
    alarm: Arc<AtomicBool>,
    /// `None` for a sink that is read by its owner, on this thread now and on another later.
    home: Option<Home>,
    /// While a sink without a home exists, the pipeline has not ended.
    _open: Option<Membership>,
}

/// The thread that the stage runs on.
struct Home {
    wake: Arc<Wake>,
    /// Once for the thread's life, not for each wait.
    _registered: Registration,
    _account: account::Open,
}

impl StageThread {
    /// For the calling thread, which is and remains thread number `index` of the stage.
    pub(crate) fn new(token: CancelToken, stats: Arc<StageStats>, index: usize) -> Self {
        let waiter = Waiter::current(token.clock());
        let home = Home {
            wake: Arc::clone(waiter.wake()),
            _registered: token.register(waiter.wake()),
            _account: stats.open_account(index, token.clock()),
        };
        Self::start(token, stats, index, Some(home), None)
    }

    /// For any calling thread.
    pub(crate) fn visiting(token: CancelToken, stats: Arc<StageStats>, index: usize) -> Self {
        let open = token.scope().open_reader();
        Self::start(token, stats, index, None, Some(open))
    }

    fn start(
        token: CancelToken,
        stats: Arc<StageStats>,
        index: usize,
        home: Option<Home>,
        open: Option<Membership>,
    ) -> Self {
        let now = token.now();
        stats.threads[index].start(now);
        let watch =
            matches!(stats.kind, StageKind::Sink | StageKind::Consumer).then(|| Watch::start(token.scope(), now));
        Self { watch, deadline: token.deadline(), alarm: token.alarm(), token, stats, index, home, _open: open }
    }

    /// For a sink that calls closures on a thread that is not the pipeline's: must be held for as long as it does.
    pub(crate) fn open_account(&self) -> account::Open {
        self.stats.open_account(self.index, self.token.clock())
    }

    /// Counts an error item of the input. A source makes its errors itself, and a mark is not an error.
    #[cold]
    pub(super) fn count_error(&self, error: &StreamError) {
        if self.stats.kind != StageKind::Source && !error.is_mark() {
            self.stats.steps[0].errors_in.add(1);
        }
    }

    /// Measures the times of its items.
    pub(crate) fn stopwatch(&self) -> Stopwatch {
        Stopwatch::new(&self.stats, self.index, self.token.clock())
    }

    /// For a source: creates the stamps that measure the ages of its items.
    pub(super) fn stamper(&self) -> Stamper {
        Stamper::new(&self.stats, self.token.clock())
    }

    /// Its number among the threads of the stage.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// # Panics
    /// If the stage runs on no thread.
    pub(crate) fn wake(&self) -> &Arc<Wake> {
        match &self.home {
            Some(home) => &home.wake,
            None => unreachable!("only a stage with its own thread is woken by others"),
        }
    }

    /// The number of items for which it may continue without checking [`is_stopped`](Self::is_stopped), as long as it
    /// [has not been alarmed](Self::is_alarmed).
    #[inline]
    pub(crate) fn stretch(&self, most: u32) -> u32 {
        if self.deadline.is_some() { 1 } else { most }
    }

    /// Whether something has happened that it should check.
    #[inline]
    pub(crate) fn is_alarmed(&self) -> bool {
        is_alarmed(&self.alarm)
    }

    /// The alarm, for a loop that keeps its address in a register.
    #[inline]
    pub(crate) fn alarm(&self) -> &AtomicBool {
        &self.alarm
    }

    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        (self.alarm.load(Ordering::Acquire) || self.deadline.is_some()) && self.token.is_cancelled()
    }

    /// Waits until something may have changed. `hint` is polled without locks for a moment; `register` leaves the wake
    /// with everything that is waited for and returns whether any of it has come true already.
    pub(crate) fn wait(
        &self,
        phase: Phase,
        until: Option<Instant>,
        mut hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        let mut register = Some(register);
        let mut register = |waiter: &Waiter| register.take().is_some_and(|register| register(waiter));
        self.wait_until(phase, until, &mut hint, &mut register);
    }

    /// Not generic, as `wait_in` is not, so that both are compiled once and not for each stage.
    fn wait_until(
        &self,
        phase: Phase,
        until: Option<Instant>,
        hint: &mut dyn FnMut() -> bool,
        register: &mut dyn FnMut(&Waiter) -> bool,
    ) {
        self.wait_in(phase, &mut |waiter| {
            // The last check comes after the registration: earlier changes are seen, later ones post the wake.
            if !waiter.spin(&mut || hint() || self.is_stopped()) && !register(waiter) && !self.is_stopped() {
                waiter.park(earlier(until, self.deadline));
            }
        });
    }

    /// Waits for a time before which the stage can take no item, or until something else may have changed. Returns the
    /// time after the wait.
    pub(crate) fn wait_for_time(&self, until: Option<Instant>, hint: impl Fn() -> bool) -> Instant {
        self.wait_in(Phase::Asleep, &mut |waiter| {
            // Polling does not make a time come sooner: it parks at once.
            if !hint() && !self.is_stopped() {
                waiter.park(earlier(until, self.deadline));
            }
        });
        self.token.now()
    }

    /// Waits until a channel that is not ours is ready.
    pub(crate) fn wait_for_foreign<T: Send + 'static>(
        &self,
        phase: Phase,
        channel: &Receiver<T>,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        let mut register = Some(register);
        self.wait_in(phase, &mut |waiter| {
            waiter.expect_foreign();
            let is_ready = register.take().is_some_and(|register| register(waiter));
            if !is_ready && !self.is_stopped() {
                waiter.park_on(&[channel], self.deadline);
            }
        });
    }

    /// Waits until a foreign channel has taken `item`, or something else may have changed: then the item is returned.
    /// So it is if `is_unwanted`; when that changes, the wake must be posted.
    pub(crate) fn send_to_foreign<T: Send + 'static>(
        &self,
        channel: &Sender<T>,
        item: T,
        is_unwanted: impl Fn() -> bool,
    ) -> Result<(), T> {
        let mut item = Some(item);
        self.wait_in(Phase::Blocked, &mut |waiter| {
            waiter.expect_foreign();
            if !self.is_stopped() && !is_unwanted() {
                waiter.park_for_room(channel, &mut item, self.deadline);
            }
        });
        item.map_or(Ok(()), Err)
    }

    /// Waits until `done`, even after a stop: for work that cannot be interrupted. The thread that makes it true posts
    /// the wake.
    pub(crate) fn wait_regardless(&self, phase: Phase, done: impl Fn() -> bool) {
        self.wait_in(phase, &mut |waiter| {
            if !waiter.spin(&mut || done()) && !done() {
                waiter.park(None);
            }
        });
    }

    pub(super) fn wait_in(&self, phase: Phase, wait: &mut dyn FnMut(&Waiter)) {
        let timing = &self.stats.threads[self.index];
        timing.enter(phase, self.token.now());
        let waiter = Waiter::current(self.token.clock());
        let visiting = self.home.is_none().then(|| self.token.register_guest(waiter.wake()));
        wait(&waiter);
        drop(visiting);
        timing.enter(Phase::Busy, self.token.now());
    }

    /// The error that ends a stream that is cut here, because of the token.
    pub(crate) fn cut(&self) -> StreamError {
        let Some(cause) = self.token.cause() else {
            // The consumer has left: the error will not be seen.
            return cut_error(&self.token, &self.stats, Cause::Requested);
        };
        noted_cut(&self.token, &self.stats, cause)
    }
}

/// Whether something has happened that a stage with this alarm should check.
#[inline]
pub(crate) fn is_alarmed(alarm: &AtomicBool) -> bool {
    // Set before the flag it stands for, of a cancellation or a drain, and never cleared. So a thread that could see the flag
    // checks it; one that sees only the alarm checks the flag again the next time.
    alarm.load(Ordering::Acquire)
}

/// The last error of a stream that is cut. Its kind is always `Cancelled`, so that a consumer can tell it from an error
/// item.
pub(crate) fn cut_error(token: &CancelToken, stats: &StageStats, reason: impl Into<BoxError>) -> StreamError {
    StreamError::new(ErrorKind::Cancelled, Arc::clone(&stats.name)).with_source(reason).with_time(token.clock().wall())
}

/// As [`cut_error`], for a stream that may still be read: noted in the report.
pub(crate) fn noted_cut(token: &CancelToken, stats: &StageStats, reason: impl Into<BoxError>) -> StreamError {
    let error = cut_error(token, stats, reason);
    token.scope().note_cut(&error);
    error
}

/// The error that ends a stream whose stage has no thread.
pub(crate) fn spawn_error(token: &CancelToken, stats: &StageStats, error: &std::io::Error) -> StreamError {
    let internal = StreamError::new(ErrorKind::Internal, Arc::clone(&stats.name))
        .with_source(format!("cannot start a thread: {error}"))
        .with_time(token.clock().wall());
    noted_cut(token, stats, internal)
}

impl Drop for StageThread {
    fn drop(&mut self) {
        self.stats.threads[self.index].end(self.token.now());
    }
}
