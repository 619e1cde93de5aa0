//! The scope: the threads and stages of a pipeline.
//!
//! # Invariants
//!
//! - A thread is counted from before it is spawned until its last act, and its handle is held until it is joined.
//! - Only a thread outside the pipeline joins. A drop inside one of its threads only cancels.
//! - The lock is held for bookkeeping only: no thread waits, wakes, spawns or runs user code under it. The order of locks is
//!   scope, then the node of the root token, then the clock; see also `operators/pool/workers.rs`.
//!
//! # The end
//!
//! A pipeline has ended when it has no threads left and no stream is open: no stream that has yet to be read, and no
//! reader on a thread of the caller. The last to leave records the time and the outcome, under the lock that counts
//! them, and a later cancellation, drain or deadline changes neither. A new stage removes the record; `join` makes it
//! final.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::identity::Identity;
use super::name::checked;
use super::node::{Cause, Node};
use super::recording::Latencies;
use super::report::{Outcome, Report, StageReport};
use super::stages::{NewStage, Stages};
use super::stall::Watch;
use super::stats::{StageKind, StageStats};
use super::threads::{Job, THREADS};
use crate::clock::wait::{Waiter, Wake};
use crate::clock::{Clock, Limit, earlier};
use crate::error::{BoxError, StreamError};
use crate::panic::{self, PanicPayload};
use crate::trace::{self, event, note};

thread_local! {
    /// The address of the scope that the thread belongs to, 0 if none.
    static HOME: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Something that stops when the pipeline is drained.
pub(crate) trait Drain: Send + Sync {
    fn drain(&self);
}

/// The settings that a pipeline's builder makes for its stages.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The capacity of edges that set none of their own.
    pub(crate) capacity: usize,
    /// The stack of each thread, in bytes.
    pub(crate) stack_size: usize,
    /// The maximum number of threads at a time.
    pub(crate) max_threads: usize,
    /// Whether they may have served other pipelines, and may serve others afterwards.
    pub(crate) reuse_threads: bool,
    /// The time without progress after which a waiting thread logs a warning; `None` for never.
    pub(crate) stall_limit: Option<Duration>,
    /// Which stages record the times of their items.
    pub(crate) latencies: Latencies,
}

pub(crate) struct Scope {
    name: Arc<str>,
    span: trace::Span,
    clock: Clock,
    root: Arc<Node>,
    settings: Settings,
    started: Instant,
    draining: AtomicBool,
    /// The warning about a stall has been logged.
    stall_is_told: AtomicBool,
    /// The number of its threads that have not ended; a copy for readers that do not hold the lock.
    live: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stages: Stages,
    /// Threads that keep the pipeline alive, those that do not, and those that only observe it.
    keepers: usize,
    helpers: usize,
    observers: usize,
    /// Streams that have yet to be read, and readers on threads that are not the pipeline's.
    open: usize,
    /// No keeper is left and a caller joins: helpers must end.
    closing: bool,
    /// The record of the last thread or reader; not valid while streams are open.
    ended: Option<Ended>,
    /// Joined: `ended` is final.
    finished: bool,
    handles: Vec<JoinHandle<()>>,
    wakes: Vec<Arc<Wake>>,
    joiners: Vec<Arc<Wake>>,
    drains: Vec<Weak<dyn Drain>>,
    faults: Vec<String>,
    /// The first stream that was cut although the pipeline itself was not cancelled.
    cut: Option<StreamError>,
    /// The outcome after an error of the closure of `run`.
    failed: Option<Outcome>,
}

/// When and how a pipeline ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) at: Instant,
    pub(crate) outcome: Outcome,
}

impl Scope {
    pub(crate) fn new(name: Arc<str>, clock: Clock, root: Arc<Node>, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            span: trace::Span::of_pipeline(&name),
            name,
            started: clock.now(),
            clock,
            root,
            settings,
            draining: AtomicBool::new(false),
            stall_is_told: AtomicBool::new(false),
            live: AtomicUsize::new(0),
            state: Mutex::default(),
        })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn default_capacity(&self) -> usize {
        self.settings.capacity
    }

    /// The time without progress that counts as a stall, if the pipeline is watched at all.
    pub(super) fn stall_limit(&self) -> Option<Duration> {
        self.settings.stall_limit.filter(|_| !self.clock.is_manual())
    }

    /// True for the first caller.
    pub(super) fn may_warn_of_stall(&self) -> bool {
        !self.stall_is_told.swap(true, Ordering::Relaxed)
    }

    /// The number of the pipeline's threads that have not ended.
    pub(crate) fn live_threads(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    pub(crate) fn is_home(self: &Arc<Self>) -> bool {
        HOME.get() == self.address()
    }

    /// Registers a stage, under a name that no other stage of the pipeline has.
    ///
    /// # Panics
    /// If the pipeline has finished, or the name is not a valid thread name.
    ///
    /// The pipeline does not finish before the returned reservation is dropped, which happens when the stage has its
    /// threads.
    #[track_caller]
    pub(crate) fn register(
        self: &Arc<Self>,
        name: &str,
        kind: StageKind,
        steps: &[Arc<str>],
        threads: usize,
    ) -> (Arc<StageStats>, Membership) {
        let registered = self.try_register(Role::Keeper, name, kind, steps, threads);
        let Some(registered) = registered else { self.refuse(name) };
        registered
    }

    /// As [`register`](Self::register), for a task that does not keep the pipeline alive: one that starts while the pipeline
    /// is at rest says nothing about its end.
    #[track_caller]
    pub(crate) fn register_helper(self: &Arc<Self>, name: &str) -> (Arc<StageStats>, Membership) {
        let registered = self.try_register(Role::Helper, name, StageKind::Task, &[], 1);
        let Some(registered) = registered else { self.refuse(name) };
        registered
    }

    #[track_caller]
    fn refuse(&self, name: &str) -> ! {
        panic!("stage `{name}` cannot start: pipeline `{}` has finished", self.name);
    }

    /// Keeps the pipeline from finishing before the reservation is dropped, for a thread without statistics of its own.
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub(crate) fn reserve(self: &Arc<Self>, name: &str) -> Membership {
        let mut state = self.state.lock();
        if state.finished {
            drop(state);
            panic!("`{name}` cannot start: pipeline `{}` has finished", self.name);
        }
        state.keepers += 1;
        state.ended = None;
        Membership { scope: Arc::clone(self), role: Role::Keeper, wake: None }
    }

    /// As [`register`](Self::register), for a sink or consumer on a thread of the caller. If it begins after the
    /// pipeline has finished, it reads the remaining items, which may include the reason why the stream was cut; the
    /// report, which is final, does not list it.
    #[track_caller]
    pub(crate) fn register_reader(
        self: &Arc<Self>,
        name: &str,
        kind: StageKind,
        steps: &[Arc<str>],
    ) -> (Arc<StageStats>, Membership) {
        self.try_register(Role::Keeper, name, kind, steps, 1).unwrap_or_else(|| {
            let stage = NewStage { name, kind, steps, threads: 1, latencies: &self.settings.latencies };
            (stage.build(name.into()), self.open_reader())
        })
    }

    /// Lists a caller that receives from a stream. Unlike a sink it does not keep `join` waiting.
    pub(crate) fn register_consumer(&self, name: &str) -> Arc<StageStats> {
        // The time that the caller spends on an item is its busy time.
        let latencies = &Latencies::default();
        self.list(
            &mut self.state.lock(),
            NewStage { name, kind: StageKind::Consumer, steps: &[], threads: 1, latencies },
        )
    }

    /// `None` if the pipeline has finished.
    #[track_caller]
    fn try_register(
        self: &Arc<Self>,
        role: Role,
        name: &str,
        kind: StageKind,
        steps: &[Arc<str>],
        threads: usize,
    ) -> Option<(Arc<StageStats>, Membership)> {
        // Names of user-defined processors have not been checked before.
        let name = checked::<&str>(name);
        let mut state = self.state.lock();
        if state.finished {
            return None;
        }
        let stats = self.list(&mut state, NewStage { name, kind, steps, threads, latencies: &self.settings.latencies });
        *state.count(role) += 1;
        if let Role::Keeper = role {
            state.ended = None;
        }
        Some((stats, Membership { scope: Arc::clone(self), role, wake: None }))
    }

    /// Adds a stage to the report, unless the report is final.
    fn list(&self, state: &mut State, stage: NewStage<'_>) -> Arc<StageStats> {
        if state.finished { stage.build(stage.name.into()) } else { state.stages.list(stage, || self.clock.now()) }
    }

    pub(crate) fn stages(&self) -> Vec<Arc<StageStats>> {
        self.state.lock().stages.listed().cloned().collect()
    }

    /// For a report: the rows of stages that are no longer listed, and the stages that are, with the identities of their rows.
    pub(super) fn all_stages(&self) -> (Vec<StageReport>, Vec<(Arc<StageStats>, Identity)>) {
        self.state.lock().stages.all()
    }

    /// Starts a thread that the scope owns. `body` is called with `Ok` on the new thread, or with the error on this one
    /// if there is no new thread: it is called in either case, so that it can end its streams properly.
    ///
    /// A thread that does not `keep` the pipeline alive must end when [`is_closing`](Self::is_closing).
    pub(crate) fn spawn(self: &Arc<Self>, name: &str, keep: bool, body: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.place(name, keep).spawn(body);
    }

    /// As [`spawn`](Self::spawn), for a thread that observes the pipeline from outside. It must end when
    /// [`watch_end`](Self::watch_end) says that the pipeline has ended, which is after all others have ended.
    #[cfg(feature = "metrics")]
    pub(crate) fn spawn_observer(self: &Arc<Self>, name: &str, body: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.place_as(name, Role::Observer).spawn(body);
    }

    /// Reserves a place for a thread. From now on it counts as if it ran, including at the clock and for `max_threads`.
    pub(crate) fn place(self: &Arc<Self>, name: &str, keep: bool) -> Place {
        self.place_as(name, if keep { Role::Keeper } else { Role::Helper })
    }

    fn place_as(self: &Arc<Self>, name: &str, role: Role) -> Place {
        // Linux shows 15 bytes of it, so the most specific part comes first.
        let name: Arc<str> = format!("{name} {}", self.name).into();
        let waiter = Waiter::for_thread(&self.clock, Arc::clone(&name));
        let (membership, others) = self.enter(role, Arc::clone(waiter.wake()));
        Place { membership, waiter, name, is_allowed: others < self.settings.max_threads }
    }

    /// Counts a thread that is about to be spawned. Returns how many others there are.
    fn enter(self: &Arc<Self>, role: Role, wake: Arc<Wake>) -> (Membership, usize) {
        let mut state = self.state.lock();
        *state.count(role) += 1;
        // Before the thread can check: either a drain finds the wake, or the drain came first and the thread sees it.
        state.wakes.push(Arc::clone(&wake));
        let others = self.live.fetch_add(1, Ordering::AcqRel);
        (Membership { scope: Arc::clone(self), role, wake: Some(wake) }, others)
    }

    /// Counts a stream that has yet to be read, until the membership is dropped. It does not delay `join`.
    pub(crate) fn open_stream(self: &Arc<Self>) -> Membership {
        self.open(Role::Stream)
    }

    /// Counts a reader on a thread that is not the pipeline's, in the same way.
    pub(crate) fn open_reader(self: &Arc<Self>) -> Membership {
        self.open(Role::Reader)
    }

    fn open(self: &Arc<Self>, role: Role) -> Membership {
        self.state.lock().open += 1;
        Membership { scope: Arc::clone(self), role, wake: None }
    }

    fn keep_handle(&self, handle: JoinHandle<()>) {
        let mut ended = Vec::new();
        let mut state = self.state.lock();
        state.handles.push(handle);
        // A pipeline may start and end threads throughout its life: occasionally join those that have ended.
        if state.handles.len().is_power_of_two() {
            ended = state.handles.extract_if(.., |handle| handle.is_finished()).collect();
        }
        drop(state);
        join_all(ended);
    }

    /// Records a thread that died although it catches the panics of user code: a bug in this library. Keeps its message
    /// and stops the rest; its streams have been cut by then.
    pub(crate) fn fault(&self, payload: &PanicPayload) {
        let message = payload.message().to_owned();
        event!(
            error,
            { pipeline = %self.name, panic = %message },
            "streamz: a thread of pipeline `{}` died: {message}",
            self.name
        );
        self.state.lock().faults.push(message.clone());
        self.root.cancel(Cause::Because(Arc::from(crate::BoxError::from(message))));
    }

    /// Why the whole pipeline was cancelled, if it was. A deadline counts once a stage has seen that it has passed.
    pub(crate) fn cause(&self) -> Option<Cause> {
        self.root.recorded_cause()
    }

    /// Records that a stream was cut; only the first is kept.
    pub(crate) fn note_cut(&self, error: &StreamError) {
        self.state.lock().cut.get_or_insert_with(|| error.clone());
    }

    /// The closure of `run` has returned an error. That is the outcome even if all threads have ended already: otherwise
    /// it would depend on how quick they were. A stream that was cut before came first, and may be the reason.
    pub(crate) fn fail(&self, reason: impl Into<BoxError>) {
        let cut = if self.root.recorded_cause().is_none() { self.state.lock().cut.clone() } else { None };
        self.root.cancel(Cause::Because(Arc::from(reason.into())));
        let cancelled = || self.root.recorded_cause().map(Outcome::Cancelled);
        let outcome = cut.map(Outcome::Cut).or_else(cancelled);
        let mut state = self.state.lock();
        if !state.finished {
            state.ended.iter_mut().zip(&outcome).for_each(|(ended, outcome)| ended.outcome = outcome.clone());
            state.failed = outcome;
        }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.state.lock().faults.clone()
    }

    /// From now until `source` is dropped or the pipeline drains: `source.drain()` is called when it does.
    pub(crate) fn on_drain(&self, source: Weak<dyn Drain>) {
        let mut state = self.state.lock();
        if state.drains.len().is_power_of_two() {
            state.drains.retain(|source| source.strong_count() > 0);
        }
        state.drains.push(source.clone());
        drop(state);
        // Pushed first: either `drain` finds it there, or we see that it came before.
        if self.is_draining()
            && let Some(source) = source.upgrade()
        {
            source.drain();
        }
    }

    pub(crate) fn drain(&self) {
        let mut state = self.state.lock();
        // Under the lock, so that `on_drain` cannot fall between the store and the read of the list.
        let is_first = !self.draining.swap(true, Ordering::AcqRel);
        let sources = std::mem::take(&mut state.drains);
        let wakes = state.wakes.clone();
        drop(state);
        if is_first {
            self.span.run(|| note!(info, { pipeline = %self.name }, "pipeline `{}` drains", self.name));
        }
        for source in sources.iter().filter_map(Weak::upgrade) {
            source.drain();
        }
        for wake in wakes {
            wake.post();
        }
    }

    /// From now on a drain posts `wake`, until [`unwatch_drain`](Self::unwatch_drain) is called the same number of
    /// times: for waiting threads that may not belong to the pipeline, whose own threads it wakes anyway.
    pub(super) fn watch_drain(&self, wake: &Arc<Wake>) {
        self.state.lock().wakes.push(Arc::clone(wake));
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.state.lock().stages.names()
    }

    /// The number of wakes that a drain would post.
    #[cfg(test)]
    pub(crate) fn waiting_for_drain(&self) -> usize {
        self.state.lock().wakes.len()
    }

    pub(super) fn unwatch_drain(&self, wake: &Arc<Wake>) {
        let mut state = self.state.lock();
        // From the end, because most waits are short.
        if let Some(index) = state.wakes.iter().rposition(|other| Arc::ptr_eq(other, wake)) {
            state.wakes.swap_remove(index);
        }
    }

    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether threads that do not keep the pipeline alive must end.
    pub(crate) fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// Waits until every thread has ended and has been joined, or until the limit has passed. Returns false if the
    /// limit passed first.
    ///
    /// # Panics
    /// On a thread of the pipeline itself.
    #[track_caller]
    pub(crate) fn join(self: &Arc<Self>, limit: Limit) -> bool {
        assert!(!self.is_home(), "pipeline `{}` cannot be joined by one of its own threads", self.name);
        let waiter = limit.waiter(&self.clock);
        let watch = Watch::start(self, self.clock.now());
        loop {
            let mut state = self.state.lock();
            if state.keepers == 0 && !state.closing {
                // Under the lock that `is_closing` takes; the wakes after it, so that a woken helper sees it.
                state.closing = true;
                let wakes = state.wakes.clone();
                drop(state);
                wakes.iter().for_each(|wake| wake.post());
                continue;
            }
            if state.keepers + state.helpers + state.observers == 0 {
                let is_first = self.finish(&mut state);
                let handles = std::mem::take(&mut state.handles);
                drop(state);
                join_all(handles);
                if is_first {
                    self.tell_end();
                }
                return true;
            }
            if limit.has_passed(&self.clock) {
                state.forget_joiner(waiter.wake());
                return false;
            }
            state.add_joiner(waiter.wake());
            drop(state);
            waiter.park(earlier(limit.deadline(), watch.next()));
            watch.look(self);
        }
    }

    /// Whether only observers are left and nothing more will start: the pipeline is joined, or was cancelled. If not,
    /// `wake` is posted once when that may have changed, unless [`unwatch_end`](Self::unwatch_end) is called first. A
    /// cancellation does not post it.
    #[cfg(feature = "metrics")]
    pub(crate) fn watch_end(&self, wake: &Arc<Wake>) -> bool {
        let mut state = self.state.lock();
        // An observer must not be the one that notices a deadline: that would change the outcome.
        let is_over = state.closing || self.root.recorded_cause().is_some();
        if state.keepers + state.helpers == 0 && is_over {
            return true;
        }
        state.add_joiner(wake);
        false
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn unwatch_end(&self, wake: &Arc<Wake>) {
        self.state.lock().forget_joiner(wake);
    }

    /// Makes the end final. Returns true for the first caller.
    fn finish(&self, state: &mut State) -> bool {
        if state.finished {
            return false;
        }
        if state.ended.is_none() || state.open > 0 {
            self.record_cancellation(state);
        }
        state.finished = true;
        true
    }

    fn tell_end(&self) {
        self.span.run(|| {
            note!(
                info,
                { pipeline = %self.name, outcome = %Report::of(self).outcome, lost = Report::of(self).lost() },
                "pipeline `{}` has ended",
                self.name
            );
        });
    }

    /// The record stands, unless the pipeline has been cancelled since: a stream that was open then is cut.
    fn record_cancellation(&self, state: &mut State) {
        if state.ended.is_none() || self.root.recorded_cause().is_some() {
            self.record_end(state);
        }
    }

    fn record_end(&self, state: &mut State) {
        // A deadline that no stage has seen has cut nothing.
        let outcome = match (&state.failed, self.root.recorded_cause(), &state.cut) {
            (Some(failed), ..) => failed.clone(),
            (None, Some(cause), _) => Outcome::Cancelled(cause),
            (None, None, Some(error)) => Outcome::Cut(error.clone()),
            (None, None, None) if self.is_draining() => Outcome::Drained,
            (None, None, None) => Outcome::Completed,
        };
        state.ended = Some(Ended { at: self.clock.now(), outcome });
    }

    /// When and how the pipeline ended; `None` while it has not.
    pub(crate) fn ended(&self) -> Option<Ended> {
        let state = self.state.lock();
        if state.finished || state.keepers + state.open == 0 { state.ended.clone() } else { None }
    }

    /// Whether nothing is running or has yet to be read at this moment.
    pub(super) fn is_at_rest(&self) -> bool {
        let state = self.state.lock();
        state.keepers + state.open == 0
    }

    /// Whether it has been joined, so that no stage can be added.
    pub(crate) fn is_finished(&self) -> bool {
        self.state.lock().finished
    }
}

impl State {
    fn count(&mut self, role: Role) -> &mut usize {
        match role {
            Role::Keeper => &mut self.keepers,
            Role::Helper => &mut self.helpers,
            Role::Observer => &mut self.observers,
            Role::Stream | Role::Reader => &mut self.open,
        }
    }

    fn add_joiner(&mut self, wake: &Arc<Wake>) {
        if !self.joiners.iter().any(|joiner| Arc::ptr_eq(joiner, wake)) {
            self.joiners.push(Arc::clone(wake));
        }
    }

    fn forget_joiner(&mut self, wake: &Arc<Wake>) {
        self.joiners.retain(|joiner| !Arc::ptr_eq(joiner, wake));
    }
}

/// A thread that is counted and not yet started. Dropping it releases the place.
pub(crate) struct Place {
    // In this order, as at the end of a thread: a joining thread is woken while this one still counts as running.
    membership: Membership,
    waiter: Waiter,
    name: Arc<str>,
    /// Whether it is within `max_threads`.
    is_allowed: bool,
}

impl Place {
    /// Whether the pipeline may have this thread; if not, an attempt to start it fails.
    pub(crate) fn is_allowed(&self) -> bool {
        self.is_allowed
    }

    /// Starts the thread. It belongs to the scope: see [`Scope::spawn`].
    pub(crate) fn spawn(self, body: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.start(Box::new(body));
    }

    /// Not generic, so that it is compiled once and not for each stage.
    fn start(self, body: Job) {
        let (scope, name) = (Arc::clone(&self.membership.scope), Arc::clone(&self.name));
        let Settings { stack_size, reuse_threads, .. } = scope.settings;
        let refused = self.refusal();
        let job: Job = Box::new(move |started| self.run(started, body));
        let started = match refused {
            None => THREADS.run(&name, stack_size, reuse_threads, job),
            Some(error) => Err((error, job)),
        };
        match started {
            Ok(handle) => handle.into_iter().for_each(|handle| scope.keep_handle(handle)),
            Err((error, job)) => job(Err(error)),
        }
    }

    /// Why the pipeline may not have the thread, if so.
    fn refusal(&self) -> Option<io::Error> {
        let scope = &self.membership.scope;
        (!self.is_allowed).then(|| {
            let most = scope.settings.max_threads;
            io::Error::other(format!("pipeline `{}` already has its maximum of {most} threads", scope.name))
        })
    }

    /// Calls `body` on the started thread; or on the calling one, with the error, if there is none.
    fn run(self, started: io::Result<()>, body: Job) {
        let Self { membership, waiter, name, .. } = self;
        if let Err(error) = started {
            event!(error, { thread = %name, error = %error }, "streamz: cannot start thread `{name}`: {error}");
            body(Err(error));
            // After the call: until its streams are cut, the pipeline has not ended.
            drop(membership);
            return;
        }
        let waiter = waiter.install();
        HOME.set(membership.scope.address());
        if let Err(payload) = panic::catch(|| membership.scope.span.run_thread(&name, || body(Ok(())))) {
            membership.scope.fault(&payload);
        }
        // The thread may be reused by another pipeline.
        HOME.set(0);
        // The last acts, in this order: a joining thread is woken while this thread still counts as running.
        drop(membership);
        drop(waiter);
        Waiter::uninstall();
    }
}

fn join_all(handles: Vec<JoinHandle<()>>) {
    for handle in handles {
        // The closure catches every panic, so there is no payload to inspect.
        let _ = handle.join();
    }
}

/// What is counted.
#[derive(Clone, Copy)]
enum Role {
    /// A thread that keeps the pipeline alive, or a stage whose threads have yet to start.
    Keeper,
    /// A thread that does not.
    Helper,
    /// A thread that observes the pipeline, and stays until all keepers and helpers have left.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "only the exporter is one"))]
    Observer,
    /// A stream that has yet to be read.
    Stream,
    /// A reader on a thread that is not the pipeline's.
    Reader,
}

/// Something that a scope counts, until it is dropped. A thread has one, with its wake, from before it is spawned until
/// its last act.
pub(crate) struct Membership {
    scope: Arc<Scope>,
    role: Role,
    wake: Option<Arc<Wake>>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let scope = &*self.scope;
        let mut state = scope.state.lock();
        *state.count(self.role) -= 1;
        if let Some(own) = &self.wake {
            scope.live.fetch_sub(1, Ordering::AcqRel);
            state.wakes.retain(|wake| !Arc::ptr_eq(wake, own));
        }
        let over = state.keepers == 0;
        if over && !state.finished {
            match self.role {
                Role::Keeper | Role::Reader => scope.record_end(&mut state),
                Role::Stream => scope.record_cancellation(&mut state),
                Role::Helper | Role::Observer => {}
            }
        }
        let joiners = if over { std::mem::take(&mut state.joiners) } else { Vec::new() };
        drop(state);
        joiners.iter().for_each(|joiner| joiner.post());
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("name", &self.name).field("threads", &self.live_threads()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pipeline;

    struct Source;

    impl Drain for Source {
        fn drain(&self) {}
    }

    #[test]
    fn a_thread_that_dies_is_a_fault_and_cancels_the_pipeline() {
        let pipeline = Pipeline::new("fault");
        pipeline.scope().spawn("dies", true, |_| panic!("a bug in the library"));
        let report = pipeline.join();
        assert_eq!(report.faults, ["a bug in the library"]);
        assert!(matches!(report.outcome, Outcome::Cancelled(Cause::Because(_))), "{report}");
    }

    #[test]
    fn a_cancelled_pipeline_says_so_while_it_runs() {
        let pipeline = Pipeline::new("running");
        let (release, wait) = std::sync::mpsc::channel::<()>();
        pipeline.spawn("busy", move |_| _ = wait.recv());
        pipeline.cancel();
        assert!(matches!(pipeline.report().outcome, Outcome::Cancelled(Cause::Requested)));
        drop(release);
        assert!(matches!(pipeline.join().outcome, Outcome::Cancelled(Cause::Requested)));
    }

    #[test]
    fn what_does_not_keep_a_pipeline_alive_does_not_end_it_either() {
        let clock = crate::ManualClock::new();
        let pipeline = Pipeline::builder("beats").clock(&clock).build();
        pipeline.every(Duration::from_secs(1), || {});
        assert!(matches!(pipeline.report().outcome, Outcome::Running), "it has not begun");
        assert_eq!(crate::Stream::from_iter(&pipeline, 0..10).count().unwrap(), 10);
        clock.advance(Duration::from_secs(3));
        pipeline.every(Duration::from_secs(1), || {});
        let report = pipeline.report();
        assert!(report.is_complete() && report.elapsed.is_zero(), "{report}");
        assert_eq!(pipeline.join().elapsed, Duration::ZERO);
    }

    /// A deadline counts once a stage has seen it, and a report is not a stage.
    #[test]
    fn a_report_does_not_notice_a_deadline() {
        let (clock, second) = (crate::ManualClock::new(), Duration::from_secs(1));
        let pipeline = Pipeline::builder("looked at").clock(&clock).timeout(second).build();
        let open = crate::Stream::from_iter(&pipeline, 0..10);
        clock.advance(second * 5);
        assert!(matches!(pipeline.report().outcome, Outcome::Running));
        assert!(pipeline.join().is_complete());
        drop(open);
    }

    #[test]
    fn sources_that_have_ended_are_forgotten() {
        let pipeline = Pipeline::new("forgets");
        let scope = pipeline.scope();
        let kept: Arc<dyn Drain> = Arc::new(Source);
        scope.on_drain(Arc::downgrade(&kept));
        for _ in 0..100 {
            let gone: Arc<dyn Drain> = Arc::new(Source);
            scope.on_drain(Arc::downgrade(&gone));
        }
        let state = scope.state.lock();
        assert!(state.drains.len() <= 4, "{} sources", state.drains.len());
        assert!(state.drains.iter().any(|source| source.strong_count() > 0));
    }
}
