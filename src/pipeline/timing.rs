//! [`Timing`]: how each thread of a stage spends its time.
//!
//! The clock is read only around actual waits; the rest of a thread's time is *busy*.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::stats::StageStats;
use crate::clock::Clock;
use crate::clock::account::{self, Account, WaitFor};

/// The state of a thread of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Busy,
    /// Waiting for work of the stage that is done on other threads: counts as busy.
    Delegated,
    /// Waiting for input or for a timer.
    Idle,
    /// Waiting for a time before which the stage can take no item, in a closure or by itself.
    Asleep,
    /// Waiting for room in the output.
    Blocked,
    /// Waiting for room in another stream, in a closure of the stage.
    BlockedElsewhere,
}

/// How one thread spent its time. The clock is read only around actual waits; `busy` is the rest.
pub(crate) struct Timing(Mutex<TimingState>);

#[derive(Clone, Copy)]
struct TimingState {
    started: Option<Instant>,
    ended: Option<Instant>,
    spent: Spent,
    phase: Phase,
    /// The phase is that of a closure.
    in_closure: bool,
    since: Option<Instant>,
}

/// The time that a thread has spent in each phase.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) busy: Duration,
    pub(crate) idle: Duration,
    pub(crate) asleep: Duration,
    pub(crate) blocked: Duration,
    pub(crate) blocked_elsewhere: Duration,
}

impl Timing {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(TimingState {
            started: None,
            ended: None,
            spent: Spent::default(),
            phase: Phase::Busy,
            in_closure: false,
            since: None,
        }))
    }

    pub(crate) fn start(&self, now: Instant) {
        let mut state = self.0.lock();
        state.started = Some(now);
        state.since = Some(now);
    }

    pub(super) fn has_started(&self) -> bool {
        self.0.lock().started.is_some()
    }

    pub(crate) fn enter(&self, phase: Phase, now: Instant) {
        let mut state = self.0.lock();
        state.settle(now);
        state.phase = phase;
    }

    pub(crate) fn end(&self, now: Instant) {
        let mut state = self.0.lock();
        state.settle(now);
        state.ended = Some(now);
    }

    /// How long it has been working since its last wait, if it is working at this moment.
    pub(crate) fn working_for(&self, now: Instant) -> Option<Duration> {
        let state = self.0.lock();
        let since = state.since.filter(|_| state.started.is_some() && state.ended.is_none())?;
        let is_working = matches!(state.phase, Phase::Busy | Phase::Delegated);
        is_working.then(|| now.saturating_duration_since(since))
    }

    /// Whether it is waiting for room at this moment.
    pub(crate) fn is_blocked(&self) -> bool {
        self.0.lock().phase == Phase::Blocked
    }

    /// A closure of the stage is about to wait. If the stage itself is waiting, it continues to.
    fn pause(&self, phase: Phase, now: impl FnOnce() -> Instant) {
        let mut state = self.0.lock();
        if state.phase == Phase::Busy {
            state.settle(now());
            (state.phase, state.in_closure) = (phase, true);
        }
    }

    /// The closure continues.
    fn resume(&self, now: impl FnOnce() -> Instant) {
        let mut state = self.0.lock();
        if state.in_closure {
            state.settle(now());
            (state.phase, state.in_closure) = (Phase::Busy, false);
        }
    }

    /// Includes the interval in progress.
    ///
    /// The thread may have changed its phase after `now` was taken. It is then read as of that change: `busy`, which is the
    /// rest, would be too little.
    pub(crate) fn read(&self, now: Instant) -> Spent {
        let mut state = *self.0.lock();
        let Some(started) = state.started else { return Spent::default() };
        let now = state.since.map_or(now, |since| now.max(since));
        if state.ended.is_none() {
            state.settle(now);
        }
        let whole = state.ended.unwrap_or(now).saturating_duration_since(started);
        let Spent { idle, asleep, blocked, blocked_elsewhere, .. } = state.spent;
        Spent { busy: whole.saturating_sub(idle + asleep + blocked + blocked_elsewhere), ..state.spent }
    }
}

impl TimingState {
    fn settle(&mut self, now: Instant) {
        let spent = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        match self.phase {
            Phase::Busy | Phase::Delegated => {}
            Phase::Idle => self.spent.idle += spent,
            Phase::Asleep => self.spent.asleep += spent,
            Phase::Blocked => self.spent.blocked += spent,
            Phase::BlockedElsewhere => self.spent.blocked_elsewhere += spent,
        }
        self.since = Some(now);
    }
}

/// The account of one thread of a stage.
struct ThreadAccount {
    stats: Arc<StageStats>,
    thread: usize,
    clock: Clock,
}

impl Account for ThreadAccount {
    fn pause(&self, what: WaitFor) {
        let phase = match what {
            WaitFor::Others => Phase::Idle,
            WaitFor::Time => Phase::Asleep,
            WaitFor::Room => Phase::BlockedElsewhere,
            WaitFor::Work => return,
        };
        self.stats.threads[self.thread].pause(phase, || self.clock.now());
    }

    fn resume(&self) {
        self.stats.threads[self.thread].resume(|| self.clock.now());
    }
}

impl StageStats {
    /// From now until the account is dropped: the calling thread, which is that thread of the stage, does not count as
    /// busy while a closure of the stage waits.
    pub(crate) fn open_account(self: &Arc<Self>, thread: usize, clock: &Clock) -> account::Open {
        account::Open::new(Arc::new(ThreadAccount { stats: Arc::clone(self), thread, clock: clock.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::real_now;

    #[test]
    fn a_wait_of_a_closure_counts_unless_the_stage_waits_itself() {
        let timing = Timing::new();
        let start = real_now();
        let at = |seconds| start + Duration::from_secs(seconds);
        timing.start(start);
        timing.pause(Phase::Asleep, || at(1));
        assert_eq!(timing.read(at(2)).asleep, Duration::from_secs(1), "also during the pause");
        timing.resume(|| at(3));
        timing.enter(Phase::Blocked, at(6));
        assert!(timing.is_blocked());
        timing.pause(Phase::Asleep, || unreachable!("it waits already"));
        timing.resume(|| unreachable!("no closure waits"));
        assert!(timing.is_blocked());
        timing.enter(Phase::Busy, at(10));
        assert!(!timing.is_blocked());
        timing.end(at(15));
        let spent = timing.read(at(100));
        assert_eq!((spent.asleep, spent.blocked), (Duration::from_secs(2), Duration::from_secs(4)));
        assert_eq!((spent.busy, spent.idle), (Duration::from_secs(9), Duration::ZERO));
    }

    #[test]
    fn busy_does_not_fall_if_the_thread_is_ahead_of_the_reader() {
        let timing = Timing::new();
        let start = real_now();
        let at = |seconds| start + Duration::from_secs(seconds);
        timing.start(start);
        timing.enter(Phase::Idle, at(5));
        assert_eq!(timing.read(at(5)).busy, Duration::from_secs(5));
        timing.enter(Phase::Busy, at(12));
        let spent = timing.read(at(10));
        assert_eq!((spent.busy, spent.idle), (Duration::from_secs(5), Duration::from_secs(7)));
    }

    #[test]
    fn a_thread_that_has_not_started_has_spent_nothing() {
        assert_eq!(Timing::new().read(real_now()), Spent::default());
    }
}
