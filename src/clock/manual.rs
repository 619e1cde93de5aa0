//! [`ManualClock`]: virtual time for real threads.
//!
//! # Invariants
//!
//! A *seat* is a thread's place at the clock. It is taken before the thread is spawned and released as the thread's
//! last act. A seat is *running* or *parked*.
//!
//! 1. Every park and every wake of a seated thread goes through the one lock of this file.
//! 2. A thread that wakes a parked seat marks it running in the same critical section. (If the woken thread did that
//!    itself, a thread that has work to do would be counted as parked for a moment.)
//! 3. A wake posted to a running seat stays with it: its next park returns at once. So a thread that registers for a
//!    condition, checks it, and parks cannot miss the condition coming true in between.
//! 4. A thread that makes a condition true posts the wakes for it before it parks or releases its seat. Together with 2
//!    this means: if no seat is running, no condition that a parked thread waits for is true, except that its time has
//!    come. That state is called *quiescent*.
//! 5. Time moves only in a quiescent state, to the earliest deadline of a parked seat. Then that one seat is woken (if
//!    several are due, the one seated first), and the next quiescent state is awaited.
//!
//! From 4 and 5: between two moves of the time every stage has done everything it can, whatever the scheduler does, and
//! `advance` returns in such a state too.
//!
//! *Holds* count as running seats that never park: work passed to a foreign thread pool takes a hold with it and drops
//! it after it has posted its wake.
//!
//! A seat may wait for a foreign channel; it then leaves a *probe* that tells whether the channel is ready. A wake by
//! such a channel does not pass through here, so a state counts as quiescent only if no probe of a parked seat says
//! ready; the woken thread marks itself running ([`Seat::rise`]).
//!
//! 6. A thread that a foreign channel has woken touches nothing before it has marked itself running: neither the
//!    channel, or its probe would say "not ready" while it is still counted as parked, nor anything else. So it waits
//!    until the channel is *ready*, and sends or receives afterwards. A channel without capacity is never ready for two
//!    sides that both wait in this way; there a sender waits with its item on offer, and marks itself running before it
//!    hands the item over, while the receiver is still inside its call.
//!
//! Threads of the caller (a test's main thread) are *guests*: they have a seat only while they park and are never
//! counted as running. A guest that waits with a limit moves the time itself, by rule 5, until its limit passes or it
//! is woken: otherwise a test that waits with a time limit would wait forever. A limit beyond the range of the clock
//! never passes: the guest moves the time for the others as long as they have timers, and sleeps in between. It is
//! woken to check again whenever the last running seat parks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::notify::Notify;
use super::real_now;

/// A clock that stands still until a test moves it.
///
/// Pass it to a pipeline with [`PipelineBuilder::clock`](crate::PipelineBuilder::clock). The pipeline's threads are
/// real; only the time they see is not. [`advance`](Self::advance) fires timers in order, lets every stage do
/// everything it can between any two of them, and returns when every stage of the pipeline waits again. So a test needs
/// no sleeps and no tolerances:
///
/// ```
/// use std::time::Duration;
/// use streamz::{BatchConfig, ManualClock, Pipeline, Stream};
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("test").clock(&clock).build();
/// let (input, stream) = Stream::channel(&pipeline, 16);
/// let config = BatchConfig { max_size: 100, max_latency: Duration::from_secs(1) };
/// let mut batches = stream.batch(config);
///
/// input.send(7)?;
/// clock.advance(Duration::from_millis(999));
/// assert!(batches.try_recv().is_err());
/// clock.advance(Duration::from_millis(1));
/// assert_eq!(batches.try_recv()??, [7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A thread of the test that waits with a time limit ([`Stream::recv_timeout`](crate::Stream::recv_timeout),
/// [`Pipeline::drain_within`](crate::Pipeline::drain_within), [`CancelToken::sleep`](crate::CancelToken::sleep))
/// lets virtual time pass up to that limit.
///
/// # Limits
///
/// - A stage that blocks in foreign code (a lock or channel that is not this library's, a real sleep) counts as
///   running. `advance` waits for it and, after [a real-time limit](Self::with_watchdog), panics with its name.
/// - A limit beyond the range of the clock, such as [`Duration::MAX`], never passes. Until the wait ends, virtual time
///   passes for everything else, as long as any timer is set.
/// - A wait without a limit ([`recv`](crate::Stream::recv), [`join`](crate::Pipeline::join), `collect`) does not move
///   the time. If it can only end after time has passed, it waits forever, unless another thread moves the time.
/// - A thread of the test that waits with a time limit continues when every stage waits again, even if the event it
///   waits for came sooner: a pipeline that never comes to rest keeps it waiting until the watchdog panics.
/// - Threads that a test starts itself are not waited for. Start them with
///   [`CancelToken::spawn`](crate::CancelToken::spawn), or join them before moving the time.
/// - Edges carry one item at a time under this clock, so throughput differs from production.
///
/// Clones share the same time.
#[derive(Clone)]
#[doc(alias("fake_clock", "mock_time", "virtual_time", "TestScheduler"))]
pub struct ManualClock {
    shared: Arc<Shared>,
    watchdog: Duration,
}

struct Shared {
    base: Instant,
    base_wall: SystemTime,
    /// A copy of `State::now` for readers that do not hold the lock. Written only under the lock.
    nanos: AtomicU64,
    state: Mutex<State>,
    /// Notified when the last running seat parks or leaves, and when a guest is woken.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    now: Duration,
    /// The number of running seats and holds.
    running: usize,
    next_id: u64,
    seats: BTreeMap<u64, SeatState>,
    holds: BTreeMap<u64, &'static str>,
}

/// The latest virtual time.
const END_OF_TIME: Duration = Duration::from_nanos(u64::MAX);

struct SeatState {
    name: Arc<str>,
    guest: bool,
    notify: Arc<Notify>,
    /// A wake that came while the seat was running (invariant 3).
    token: bool,
    parked: Option<Parked>,
}

struct Parked {
    deadline: Option<Duration>,
    probe: Option<Probe>,
    /// A guest that moves the time whenever all others wait.
    moves_time: bool,
}

/// The events that a thread waits for, apart from a wake.
#[derive(Default)]
pub(crate) struct Wait {
    pub(super) deadline: Option<Instant>,
    pub(super) probe: Option<Probe>,
    /// It has a limit that never passes.
    pub(super) never: bool,
}

/// Tells whether a foreign channel has something for its reader.
pub(crate) type Probe = Box<dyn Fn() -> bool + Send>;

impl ManualClock {
    /// Creates a clock that stands at an arbitrary instant; its wall time is 2000-01-01 00:00:00 UTC.
    pub fn new() -> Self {
        Self::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800))
    }

    /// Creates a clock whose wall time starts at `wall`.
    pub fn starting_at(wall: SystemTime) -> Self {
        Self {
            shared: Arc::new(Shared {
                base: real_now(),
                base_wall: wall,
                nanos: AtomicU64::new(0),
                state: Mutex::new(State::default()),
                changed: Condvar::new(),
            }),
            watchdog: Duration::from_secs(30),
        }
    }

    /// Sets how long, in real time, [`advance`](Self::advance) waits for a running stage before it panics with its
    /// name. Defaults to 30 s.
    pub fn with_watchdog(mut self, limit: Duration) -> Self {
        self.watchdog = limit;
        self
    }

    /// Returns the current virtual time.
    pub fn now(&self) -> Instant {
        self.shared.base + self.elapsed()
    }

    /// Returns the virtual time that has passed since the clock was created.
    pub fn elapsed(&self) -> Duration {
        // Acquire pairs with the Release in `set_now`: a thread that sees a time also sees what happened before it.
        Duration::from_nanos(self.shared.nanos.load(Ordering::Acquire))
    }

    pub(crate) fn wall(&self) -> SystemTime {
        self.shared.base_wall + self.elapsed()
    }

    /// Moves the time forward by `by`, firing the timers that fall due on the way, each at its own time, and returns
    /// when every stage waits again. Timers that are due at the same time fire in the order in which their stages were
    /// built.
    ///
    /// # Panics
    /// If called on a thread of a pipeline that uses this clock, if a stage keeps running for longer than the
    /// [watchdog](Self::with_watchdog) allows, or if the clock would pass 584 years; then no timer has fired.
    #[track_caller]
    pub fn advance(&self, by: Duration) {
        assert!(!self.is_seated_here(), "ManualClock::advance called on a thread of a pipeline that uses this clock");
        let mut state = self.shared.state.lock();
        let target = state.now.checked_add(by).filter(|&target| target <= END_OF_TIME);
        let target = target.expect("`by` must not move the time beyond 584 years");
        while self.step(&mut state, target) {}
        // Another thread may have moved the time further by now.
        let target = target.max(state.now);
        self.set_now(&mut state, target);
    }

    /// Waits until every stage waits, without moving the time. The same as `advance(Duration::ZERO)`.
    ///
    /// # Panics
    /// As [`advance`](Self::advance).
    #[track_caller]
    pub fn settle(&self) {
        self.advance(Duration::ZERO);
    }

    /// The time until the next timer of a stage is due.
    pub(crate) fn next_timer(&self) -> Option<Duration> {
        let state = self.shared.state.lock();
        let (due, _) = state.earliest(Duration::MAX)?;
        Some(due.saturating_sub(state.now))
    }

    /// Applies rule 5 once. Returns false if no deadline up to `target` is left.
    fn step(&self, state: &mut MutexGuard<'_, State>, target: Duration) -> bool {
        self.wait_until_quiescent(state);
        let Some((due, id)) = state.earliest(target) else { return false };
        let now = state.now.max(due);
        // The time first: a woken thread must find that its time has come.
        self.set_now(state, now);
        state.wake(id);
        self.shared.changed.notify_all();
        true
    }

    fn wait_until_quiescent(&self, state: &mut MutexGuard<'_, State>) {
        let limit = real_now() + self.watchdog;
        while !state.quiescent() {
            if self.shared.changed.wait_until(state, limit).timed_out() && !state.quiescent() {
                panic!("virtual time cannot pass: still running after {:?}: {}", self.watchdog, state.who_is_running());
            }
        }
    }

    fn set_now(&self, state: &mut State, now: Duration) {
        state.now = now;
        let nanos = u64::try_from(now.as_nanos()).expect("virtual time beyond its range");
        self.shared.nanos.store(nanos, Ordering::Release);
    }

    /// Takes a seat: for a thread of a pipeline before it is spawned, for a guest before it parks.
    pub(crate) fn seat(&self, name: Arc<str>, guest: bool, notify: Arc<Notify>) -> Seat {
        let mut state = self.shared.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.running += usize::from(!guest);
        state.seats.insert(id, SeatState { name, guest, notify, token: false, parked: None });
        Seat { clock: self.clone(), id }
    }

    pub(crate) fn hold(&self, what: &'static str) -> Hold {
        let mut state = self.shared.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.running += 1;
        state.holds.insert(id, what);
        Hold { clock: self.clone(), id }
    }

    /// The number of seats and holds that count as running.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.shared.state.lock().running
    }

    fn is_seated_here(&self) -> bool {
        crate::clock::wait::seated_at(self)
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    fn deadline(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.shared.base)
    }
}

impl State {
    fn seat(&mut self, id: u64) -> &mut SeatState {
        self.seats.get_mut(&id).expect("a seat is kept until its thread is done with it")
    }

    fn quiescent(&self) -> bool {
        self.running == 0
            && !self.seats.values().any(|seat| {
                !seat.guest
                    && seat.parked.as_ref().and_then(|parked| parked.probe.as_ref()).is_some_and(|ready| ready())
            })
    }

    /// The parked seat whose time comes first, if that is at or before `target`; if there are several, the one seated
    /// first.
    fn earliest(&self, target: Duration) -> Option<(Duration, u64)> {
        self.seats
            .iter()
            .filter_map(|(&id, seat)| Some((seat.parked.as_ref()?.deadline?, id)))
            .filter(|&(deadline, _)| deadline <= target)
            .min()
    }

    /// Invariants 2 and 3.
    fn wake(&mut self, id: u64) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if seat.parked.take().is_some() {
            self.running += usize::from(!seat.guest);
            seat.notify.notify();
        } else {
            seat.token = true;
        }
    }

    fn stop_running(&mut self, changed: &Condvar) {
        self.running -= 1;
        if self.running == 0 {
            changed.notify_all();
            let sleepers =
                self.seats.values().filter(|seat| seat.parked.as_ref().is_some_and(|parked| parked.moves_time));
            sleepers.for_each(|seat| seat.notify.notify());
        }
    }

    fn who_is_running(&self) -> String {
        let seats = self.seats.values().filter(|seat| !seat.guest && seat.parked.is_none());
        let names: Vec<&str> = seats.map(|seat| &*seat.name).chain(self.holds.values().copied()).collect();
        if names.is_empty() { "a reader of a foreign channel".to_owned() } else { names.join(", ") }
    }
}

/// A thread's place at the clock. Shared with threads that may wake it, so it is released explicitly.
pub(crate) struct Seat {
    clock: ManualClock,
    id: u64,
}

impl Seat {
    pub(crate) fn is_at(&self, clock: &ManualClock) -> bool {
        self.clock.same(clock)
    }

    pub(crate) fn post(&self) {
        let mut state = self.clock.shared.state.lock();
        let guest = state.seats.get(&self.id).is_some_and(|seat| seat.guest);
        state.wake(self.id);
        if guest {
            self.clock.shared.changed.notify_all();
        }
    }

    /// Parks until a wake is posted, the deadline has come, or the probe says ready. `sleep` blocks the thread until
    /// one of these may be true; before it touches a foreign channel, it calls [`rise`](Self::rise).
    pub(crate) fn park(&self, wait: Wait, mut sleep: impl FnMut()) {
        let shared = &*self.clock.shared;
        let deadline = wait.deadline.map(|at| self.clock.deadline(at));
        let never = wait.never || deadline.is_some_and(|deadline| deadline > END_OF_TIME);
        let deadline = deadline.filter(|&deadline| deadline <= END_OF_TIME);
        let mut state = shared.state.lock();
        let now = state.now;
        let seat = state.seat(self.id);
        if std::mem::take(&mut seat.token) || deadline.is_some_and(|deadline| deadline <= now) {
            return;
        }
        let foreign = wait.probe.is_some();
        let moves_time = seat.guest && (never || deadline.is_some());
        seat.parked = Some(Parked { deadline, probe: wait.probe, moves_time });
        if moves_time {
            self.pass_time(state, deadline, sleep);
            return self.rise();
        }
        if !seat.guest {
            state.stop_running(&shared.changed);
        }
        loop {
            drop(state);
            sleep();
            state = shared.state.lock();
            if foreign || state.seat(self.id).parked.is_none() {
                drop(state);
                return self.rise();
            }
        }
    }

    /// The wait of a guest with a limit, which moves the time itself. `None` is a limit that never passes.
    fn pass_time<'a>(&'a self, mut state: MutexGuard<'a, State>, limit: Option<Duration>, mut sleep: impl FnMut()) {
        let woken = |state: &State| {
            let parked = state.seats.get(&self.id).and_then(|seat| seat.parked.as_ref());
            parked.is_none_or(|parked| parked.probe.as_ref().is_some_and(|ready| ready()))
        };
        loop {
            self.clock.wait_until_quiescent(&mut state);
            if woken(&state) {
                return;
            }
            if self.clock.step(&mut state, limit.unwrap_or(END_OF_TIME)) {
                continue;
            }
            if limit.is_some() {
                return;
            }
            drop(state);
            sleep();
            state = self.clock.shared.state.lock();
        }
    }

    /// Counts the thread as running again, if it does not already: invariant 6.
    pub(crate) fn rise(&self) {
        let shared = &*self.clock.shared;
        let mut state = shared.state.lock();
        let seat = state.seat(self.id);
        // The caller checks everything again, so it has noticed this, too.
        seat.token = false;
        if seat.parked.take().is_some() && !seat.guest {
            state.running += 1;
            shared.changed.notify_all();
        }
    }
}

impl Seat {
    /// Releases the seat. Wakes posted to it from now on have no effect.
    pub(crate) fn leave(&self) {
        let shared = &*self.clock.shared;
        let mut state = shared.state.lock();
        if let Some(seat) = state.seats.remove(&self.id)
            && !seat.guest
            && seat.parked.is_none()
        {
            state.stop_running(&shared.changed);
        }
    }
}

/// See [`Clock::hold`](super::Clock::hold).
pub(crate) struct Hold {
    clock: ManualClock,
    id: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let shared = &*self.clock.shared;
        let mut state = shared.state.lock();
        state.holds.remove(&self.id);
        state.stop_running(&shared.changed);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("elapsed", &self.elapsed()).finish_non_exhaustive()
    }
}
