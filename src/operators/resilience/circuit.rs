//! [`Circuit`]: the state of a circuit breaker.
//!
//! # Invariants
//!
//! - The whole state is behind one lock, apart from the count of rejected calls. While it is held, no hook is called, and
//!   only the token's clock is read.
//! - The part that most calls need is also in the [`Sign`], which they read without the lock: see `circuit_sign.rs`.
//!   Every change of the state goes through [`Circuit::update`], which updates the sign.
//! - Each change of the phase starts a new *generation*. A call is admitted with the number of the current one, and its
//!   result counts only if that is still current when it returns: a call that started in an earlier phase says nothing
//!   about this one.
//! - Half-open: `succeeded + out <= half_open_requests`, always. A probe takes its place when it is admitted, in the
//!   critical section that found it free. It releases it when it returns, however it does. A probe that is still out
//!   after the recovery time counts as failed: the next call finds it overdue, and the circuit opens. So nothing that a
//!   call does, or fails to do, can keep the circuit half-open.
//! - Events are reported in the order in which they happened, by one thread at a time: after each one it checks for the
//!   next.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use super::call_window::{CallWindow, Judged, Span};
use super::circuit_sign::{Reading, Rule, Sign};
use crate::clock::real_now;
use crate::panic;
use crate::pipeline::CancelToken;
use crate::pipeline::striped::Striped;
use crate::trace::{event, note};

/// Names the state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CircuitState {
    /// Calls are made.
    Closed,
    /// Calls are rejected. The first one after the recovery time makes it half-open.
    Open,
    /// A few calls are admitted as probes; the others are rejected.
    HalfOpen,
    /// Calls are rejected until [`Circuit::reset`] is called.
    ForcedOpen,
    /// Calls are made, and nothing is counted, until [`Circuit::reset`] is called.
    ForcedClosed,
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CircuitState::Closed => "closed",
            CircuitState::Open => "open",
            CircuitState::HalfOpen => "half-open",
            CircuitState::ForcedOpen => "forced open",
            CircuitState::ForcedClosed => "forced closed",
        })
    }
}

/// Holds the counts of a circuit breaker.
///
/// Requests, successes, failures and slow calls are counted in the window over which the rates are evaluated. While the
/// circuit is open, they are the counts that opened it; while it is half-open, those of the probes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitStats {
    /// The state of the circuit.
    pub state: CircuitState,
    /// The number of calls that have returned, or are overdue probes.
    pub requests: u64,
    /// The number of these calls that returned a result.
    pub successes: u64,
    /// The number of these calls that failed.
    pub failures: u64,
    /// The number of these calls that were slow, with a result or without.
    pub slow: u64,
    /// The number of failures since the last success.
    pub consecutive_failures: u64,
    /// The number of calls rejected since the breaker was created.
    pub rejected: u64,
    /// The wall time of the clock at which a call last failed.
    pub last_failure: Option<SystemTime>,
}

impl CircuitStats {
    /// Returns the share of failures among the requests, 0.0 to 1.0; 0.0 before the first request.
    pub fn failure_rate(&self) -> f64 {
        rate(self.failures, self.requests)
    }
}

/// Rounded once, so that a rate equals the number that one would write for it.
fn rate(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Reads and forces the state of a [`CircuitBreaker`](crate::CircuitBreaker). Clones share the same circuit.
#[derive(Clone)]
pub struct Circuit {
    shared: Arc<Shared>,
}

struct Shared {
    rules: Rules,
    sign: Sign,
    rejected: Rejected,
    state: Mutex<State>,
}

/// Counted without the lock.
type Rejected = Arc<Striped>;

pub(super) struct Rules {
    pub(super) failure_threshold: f64,
    pub(super) min_requests: u64,
    pub(super) recovery_timeout: Duration,
    pub(super) half_open_requests: usize,
    pub(super) span: Span,
    /// The duration from which a call is slow, and the share of slow calls that opens the circuit.
    pub(super) slow: Option<(Duration, f64)>,
    pub(super) on_state_change: Option<OnStateChange>,
    pub(super) on_open: Option<OnOpen>,
}

type OnStateChange = Box<dyn Fn(CircuitState, CircuitState) + Send + Sync>;
type OnOpen = Box<dyn Fn(CircuitStats) + Send + Sync>;

struct State {
    phase: Phase,
    generation: u64,
    window: CallWindow,
    consecutive_failures: u64,
    rejected: Rejected,
    last_failure: Option<SystemTime>,
    events: VecDeque<Event>,
    /// A thread is reporting events.
    telling: bool,
}

enum Phase {
    Closed,
    /// `None`: for ever.
    Open {
        until: Option<Instant>,
    },
    HalfOpen(Round),
    ForcedOpen,
    ForcedClosed,
}

/// One half-open period.
#[derive(Default)]
struct Round {
    succeeded: usize,
    /// The probes that have not returned, in the order of their admission: their number, and when they are overdue.
    out: VecDeque<(u64, Option<Instant>)>,
    next: u64,
}

enum Event {
    Changed(CircuitState, CircuitState),
    Opened(CircuitStats),
}

/// The permission to make one call.
pub(super) struct Permit {
    generation: u64,
    probe: Option<u64>,
    /// If it matters.
    begun: Option<Instant>,
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Failure,
    /// It says nothing about what is called.
    Nothing,
}

impl Circuit {
    pub(super) fn new() -> Self {
        let rules = Rules {
            failure_threshold: 0.5,
            min_requests: 10,
            recovery_timeout: Duration::from_secs(30),
            half_open_requests: 3,
            span: Span::Calls(100),
            slow: None,
            on_state_change: None,
            on_open: None,
        };
        let state = State {
            phase: Phase::Closed,
            generation: 0,
            window: CallWindow::new(rules.span),
            consecutive_failures: 0,
            rejected: Rejected::default(),
            last_failure: None,
            events: VecDeque::new(),
            telling: false,
        };
        let (sign, rejected) = (Sign::new(real_now()), Arc::clone(&state.rejected));
        state.show(&sign);
        Self { shared: Arc::new(Shared { rules, sign, rejected, state: Mutex::new(state) }) }
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.shared.rules
    }

    /// Changes the rules, before they are shared.
    #[track_caller]
    pub(super) fn set(&mut self, change: impl FnOnce(&mut Rules)) {
        let shared = Arc::get_mut(&mut self.shared);
        let shared = shared.expect("the options of a breaker must be set before it is used, cloned, or watched");
        change(&mut shared.rules);
        let state = shared.state.get_mut();
        state.window = CallWindow::new(shared.rules.span);
        state.show(&shared.sign);
    }

    /// Returns the state as of the last call. An open circuit stays open until a call arrives.
    pub fn state(&self) -> CircuitState {
        self.shared.state.lock().phase.name()
    }

    /// Returns the counts as of the last call.
    pub fn stats(&self) -> CircuitStats {
        self.shared.state.lock().stats()
    }

    /// Rejects all calls from now on, until [`reset`](Self::reset). Calls in progress continue.
    pub fn force_open(&self) {
        self.force(|| Phase::ForcedOpen);
    }

    /// Admits all calls from now on and counts nothing, until [`reset`](Self::reset).
    pub fn force_closed(&self) {
        self.force(|| Phase::ForcedClosed);
    }

    /// Closes the circuit and resets its counts, whatever its state.
    pub fn reset(&self) {
        self.force(|| Phase::Closed);
    }

    fn force(&self, phase: impl FnOnce() -> Phase) {
        self.update(|state| {
            state.enter(phase());
            state.window.clear();
        });
    }

    /// Changes the state under its lock, and reports the resulting events.
    fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.shared.state.lock();
        let result = change(&mut state);
        state.show(&self.shared.sign);
        let tell = !state.events.is_empty();
        drop(state);
        if tell {
            self.tell();
        }
        result
    }

    /// Admits a call; `None` if it is refused.
    #[inline]
    pub(super) fn admit(&self, token: &CancelToken) -> Option<Permit> {
        let sign = self.shared.sign.read();
        let (generation, probe) = match sign.admits() {
            true => (sign.generation(), None),
            false => self.consult(sign, token)?,
        };
        Some(Permit { generation, probe, begun: self.shared.rules.slow.map(|_| token.now()) })
    }

    /// A call has returned.
    #[inline]
    pub(super) fn settle(&self, permit: &Permit, verdict: Verdict, token: &CancelToken) {
        let took = permit.begun.map(|begun| token.now().saturating_duration_since(begun));
        let slow = self.shared.rules.slow.zip(took).is_some_and(|((limit, _), took)| took >= limit);
        let sign = self.shared.sign.read();
        let changes_nothing = sign.is_steady() && verdict == Verdict::Success && !slow;
        if sign.generation() == permit.generation && !changes_nothing {
            self.record(permit, verdict, slow, token);
        }
    }

    /// The circuit is not closed. Asks its state, unless it rejects every call.
    #[inline(never)]
    fn consult(&self, sign: Reading, token: &CancelToken) -> Option<(u64, Option<u64>)> {
        let Shared { rules, sign: shown, rejected, .. } = &*self.shared;
        let admitted = match shown.rejects(sign, || token.now()) {
            true => None,
            false => self.update(|state| state.admit(token, rules)),
        };
        if admitted.is_none() {
            rejected.add(1);
        }
        admitted
    }

    #[inline(never)]
    fn record(&self, permit: &Permit, verdict: Verdict, slow: bool, token: &CancelToken) {
        self.update(|state| {
            if permit.generation == state.generation {
                state.settle(permit, verdict, slow, token, &self.shared.rules);
            }
        });
    }

    /// Reports what has happened, unless another thread is doing so.
    fn tell(&self) {
        let Shared { rules, state: shared, .. } = &*self.shared;
        loop {
            let mut state = shared.lock();
            if state.telling {
                return;
            }
            let Some(event) = state.events.pop_front() else { return };
            state.telling = true;
            drop(state);
            if let Event::Changed(from, to) = &event {
                note!(info, { from = %from, to = %to }, "circuit breaker: {from} to {to}");
            }
            let told = panic::catch(|| match event {
                Event::Changed(from, to) => rules.on_state_change.iter().for_each(|hook| hook(from, to)),
                Event::Opened(stats) => rules.on_open.iter().for_each(|hook| hook(stats.clone())),
            });
            if let Err(payload) = told {
                event!(
                    error,
                    { panic = %payload.message() },
                    "streamz: a hook of a circuit breaker panicked: {}",
                    payload.message()
                );
            }
            shared.lock().telling = false;
        }
    }
}

impl State {
    /// Its generation, and the number of the probe, if a call is let in.
    fn admit(&mut self, token: &CancelToken, rules: &Rules) -> Option<(u64, Option<u64>)> {
        let mut probe = None;
        let admitted = match &mut self.phase {
            Phase::Closed | Phase::ForcedClosed => true,
            Phase::ForcedOpen => false,
            Phase::Open { until } => {
                let recovered = until.is_some_and(|until| token.now() >= until);
                if recovered {
                    let mut round = Round::default();
                    probe = Some(round.let_in(token, rules));
                    self.enter(Phase::HalfOpen(round));
                    self.window.clear();
                }
                recovered
            }
            Phase::HalfOpen(round) => {
                if round.is_overdue(token) {
                    self.count(Judged { failed: true, slow: rules.slow.is_some() }, token);
                    self.open(token, rules);
                    false
                } else if round.succeeded + round.out.len() < rules.half_open_requests {
                    probe = Some(round.let_in(token, rules));
                    true
                } else {
                    false
                }
            }
        };
        admitted.then_some((self.generation, probe))
    }

    fn settle(&mut self, permit: &Permit, verdict: Verdict, slow: bool, token: &CancelToken, rules: &Rules) {
        if let (Phase::HalfOpen(round), Some(probe)) = (&mut self.phase, permit.probe) {
            round.out.retain(|&(number, _)| number != probe);
        }
        if verdict == Verdict::Nothing || matches!(self.phase, Phase::ForcedClosed) {
            return;
        }
        let failed = verdict == Verdict::Failure;
        self.count(Judged { failed, slow }, token);
        match &mut self.phase {
            Phase::HalfOpen(_) if failed || slow => self.open(token, rules),
            Phase::HalfOpen(round) => {
                round.succeeded += 1;
                if round.succeeded >= rules.half_open_requests {
                    self.enter(Phase::Closed);
                    self.window.clear();
                }
            }
            _ => {
                let sums = self.window.sums();
                let reaches = |part: u64, share: f64| part > 0 && rate(part, sums.requests) >= share;
                let too_slow = || rules.slow.is_some_and(|(_, share)| reaches(sums.slow, share));
                if sums.requests >= rules.min_requests
                    && (reaches(sums.failures, rules.failure_threshold) || too_slow())
                {
                    self.open(token, rules);
                }
            }
        }
    }

    fn count(&mut self, call: Judged, token: &CancelToken) {
        self.window.add(call, || token.now());
        if call.failed {
            self.consecutive_failures += 1;
            self.last_failure = Some(token.clock().wall());
        } else {
            self.consecutive_failures = 0;
        }
    }

    fn open(&mut self, token: &CancelToken, rules: &Rules) {
        self.enter(Phase::Open { until: token.now().checked_add(rules.recovery_timeout) });
        if rules.on_open.is_some() {
            self.events.push_back(Event::Opened(self.stats()));
        }
    }

    /// The only way into a phase.
    fn enter(&mut self, phase: Phase) {
        let (from, to) = (self.phase.name(), phase.name());
        self.phase = phase;
        self.generation += 1;
        if from != to {
            self.events.push_back(Event::Changed(from, to));
        }
    }

    /// Shows the part that a call may read without the lock.
    fn show(&self, sign: &Sign) {
        let rule = match self.phase {
            Phase::Closed => Rule::Admit { steady: self.window.is_steady() },
            Phase::ForcedClosed => Rule::Admit { steady: true },
            Phase::Open { until } => Rule::Reject(until),
            Phase::ForcedOpen => Rule::Reject(None),
            Phase::HalfOpen(_) => Rule::Ask,
        };
        sign.show(self.generation, rule);
    }

    fn stats(&self) -> CircuitStats {
        let sums = self.window.sums();
        CircuitStats {
            state: self.phase.name(),
            requests: sums.requests,
            successes: sums.requests - sums.failures,
            failures: sums.failures,
            slow: sums.slow,
            consecutive_failures: self.consecutive_failures,
            rejected: self.rejected.get(),
            last_failure: self.last_failure,
        }
    }
}

impl Phase {
    fn name(&self) -> CircuitState {
        match self {
            Phase::Closed => CircuitState::Closed,
            Phase::Open { .. } => CircuitState::Open,
            Phase::HalfOpen(_) => CircuitState::HalfOpen,
            Phase::ForcedOpen => CircuitState::ForcedOpen,
            Phase::ForcedClosed => CircuitState::ForcedClosed,
        }
    }
}

impl Round {
    fn let_in(&mut self, token: &CancelToken, rules: &Rules) -> u64 {
        let number = self.next;
        self.next += 1;
        self.out.push_back((number, token.now().checked_add(rules.recovery_timeout)));
        number
    }

    /// Whether a probe should have returned by now. The first that was admitted is the first to be overdue.
    fn is_overdue(&self, token: &CancelToken) -> bool {
        self.out.front().is_some_and(|&(_, overdue)| overdue.is_some_and(|overdue| token.now() >= overdue))
    }
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}
