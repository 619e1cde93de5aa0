//! [`CancelToken`]: tells a pipeline to stop.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::name::checked;
use super::node::{Cause, Node, Registration};
use super::scope::Scope;
use super::stats::StageStats;
use crate::clock::account::WaitFor;
use crate::clock::wait::Wake;
use crate::clock::{Clock, Limit, earlier};
use crate::error::BoxError;

/// The error of a wait that ended because of a cancellation.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct Cancelled {
    cause: Cause,
}

impl Cancelled {
    /// Why it was cancelled.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }
}

/// Tells work to stop: reaches every stage of a pipeline and every call that its workers make.
///
/// A token is cancelled once, with a [`Cause`], and stays cancelled. A [`child`](Self::child) is cancelled with its
/// parent, never the other way round. A token may have a deadline, by the clock of its pipeline.
///
/// Tokens come from a [`Pipeline`](crate::Pipeline), which dereferences to its own token, and from
/// [`child`](Self::child); only those can host stages. [`CancelToken::new`] creates one without a pipeline, a bare
/// signal: for testing calls, or to wait on.
///
/// Clones are the same token.
#[derive(Clone)]
#[doc(alias("Context", "CancellationToken", "stop_token", "shutdown"))]
pub struct CancelToken {
    node: Arc<Node>,
    scope: Option<Arc<Scope>>,
    /// The name of whatever is built on it next.
    name: Option<Arc<str>>,
}

impl CancelToken {
    /// Creates a token without a pipeline, on the system clock. It signals, but cannot host stages.
    pub fn new() -> Self {
        Self::with_clock(Clock::default())
    }

    /// As [`new`](Self::new), on the given clock.
    pub fn with_clock(clock: impl Into<Clock>) -> Self {
        Self { node: Node::root(clock.into(), None), scope: None, name: None }
    }

    pub(crate) fn for_scope(node: Arc<Node>, scope: Arc<Scope>) -> Self {
        Self { node, scope: Some(scope), name: None }
    }

    /// Returns a token that is cancelled when this one is, and can be cancelled alone.
    #[must_use = "a child that is not kept cancels nothing"]
    pub fn child(&self) -> Self {
        self.child_until(None)
    }

    /// Returns a child that is also cancelled once `timeout` has passed. A timeout too large to add never passes.
    #[must_use = "the deadline is the child's, not this token's"]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        self.child_until(self.now().checked_add(timeout))
    }

    /// Returns a child that is also cancelled at `deadline`.
    #[must_use = "the deadline is the child's, not this token's"]
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        self.child_until(Some(deadline))
    }

    fn child_until(&self, deadline: Option<Instant>) -> Self {
        let node = Node::new(self.node.clock.clone(), deadline, Some(Arc::clone(&self.node)));
        Self { node: Arc::new(node), scope: self.scope.clone(), name: None }
    }

    /// Creates a child for the calls that a stage makes: [`call_failed`](Self::call_failed) on it, and on the tokens
    /// below it, counts in the statistics of that stage.
    pub(crate) fn for_calls(&self, stats: &Arc<StageStats>) -> Self {
        Self { node: Arc::new(Node::for_calls(&self.node, stats)), scope: self.scope.clone(), name: None }
    }

    /// Why a call that was given this token cancelled it. `None` if it is cancelled for another reason: because its parent
    /// `stage` is, or because the consumer has left.
    pub(crate) fn cancelled_by_a_call(&self, stage: &CancelToken) -> Option<Cause> {
        let cause = self.cause().filter(|cause| !matches!(cause, Cause::ConsumerGone));
        // After the look at the cause: otherwise it could come from `stage`, cancelled in between.
        cause.filter(|_| !stage.is_cancelled())
    }

    /// Counts a failed call that was given this token. A call outside a stage is not counted.
    pub(crate) fn call_failed(&self) {
        if let Some(stats) = self.node.calls_of() {
            stats.steps[0].failed_calls.add(1);
        }
    }

    /// Returns the same token, with a name for the source that is built on it next:
    /// `Stream::lines(&pipeline.named("orders"), file)`.
    ///
    /// The stage that reads a stream is named by [`Stream::named`](crate::Stream::named). A name given here applies to
    /// anything else that is built on a token: sources, including [`Inline`](crate::Inline) ones, and
    /// [`every`](Self::every). It takes precedence over the default and, if this token is given to
    /// [`Processor::process`](crate::Processor::process), over the processor's own name. Stages built downstream of it
    /// are not affected. If several things are built on the token, they are numbered.
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("named");
    /// Stream::from_iter(&pipeline.named("orders"), 0..3).count()?;
    /// assert_eq!(pipeline.join().stage("orders").unwrap().emitted(), 3);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    #[must_use = "the name is the returned token's, not this one's"]
    #[track_caller]
    pub fn named(&self, name: impl Into<Arc<str>>) -> Self {
        Self { name: Some(checked(name)), ..self.clone() }
    }

    /// The name for whatever is built on the token next.
    pub(crate) fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// The same token without a name.
    pub(crate) fn unnamed(&self) -> Self {
        Self { name: None, ..self.clone() }
    }

    /// Cancels this token and all below it. Stages stop promptly, whatever they wait for; items that they hold are
    /// counted as abandoned. Does nothing if the token is cancelled already.
    pub fn cancel(&self) {
        self.node.cancel(Cause::Requested);
    }

    /// As [`cancel`](Self::cancel), with a reason, which [`cause`](Self::cause) returns.
    pub fn cancel_because(&self, reason: impl Into<BoxError>) {
        self.node.cancel(Cause::Because(Arc::from(reason.into())));
    }

    pub(crate) fn cancel_with(&self, cause: Cause) {
        self.node.cancel(cause);
    }

    /// Returns whether this token, or one above it, has been cancelled or is past its deadline.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.node.lineage().any(Node::is_cancelled_itself)
    }

    /// For a stage that is built on this token: a flag that is set, and stays set, as soon as this token or a related
    /// one that has stages has been cancelled or the pipeline drained. Deadlines do not set it.
    pub(crate) fn alarm(&self) -> Arc<AtomicBool> {
        self.node.alarm()
    }

    /// Returns why the token was cancelled, or `None` if it is not.
    pub fn cause(&self) -> Option<Cause> {
        self.node.cause()
    }

    /// Returns `Err` with the cause if the token is cancelled: for `cancel.check()?` between the steps of a long call.
    pub fn check(&self) -> Result<(), Cancelled> {
        self.cause().map_or(Ok(()), |cause| Err(Cancelled { cause }))
    }

    /// Returns the earliest deadline of this token and those above it.
    pub fn deadline(&self) -> Option<Instant> {
        self.node.lineage().filter_map(|node| node.deadline).min()
    }

    /// Returns the current time of the token's clock.
    pub fn now(&self) -> Instant {
        self.node.clock.now()
    }

    /// Returns the token's clock.
    pub fn clock(&self) -> &Clock {
        &self.node.clock
    }

    /// Waits for `duration` by the token's clock. Ends at once, with an error, when the token is cancelled.
    pub fn sleep(&self, duration: Duration) -> Result<(), Cancelled> {
        self.sleep_within(Limit::after(duration, &self.node.clock))
    }

    /// Waits until the token is cancelled.
    pub fn wait(&self) -> Cancelled {
        match self.sleep_within(Limit::Unlimited) {
            Err(cancelled) => cancelled,
            Ok(()) => unreachable!("a wait without a deadline ends by cancellation only"),
        }
    }

    fn sleep_within(&self, limit: Limit) -> Result<(), Cancelled> {
        let waiter = limit.waiter(&self.node.clock);
        let _registered = self.register(waiter.wake());
        loop {
            self.check()?;
            if limit.has_passed(&self.node.clock) {
                return Ok(());
            }
            waiter.park_for(WaitFor::Time, earlier(limit.deadline(), self.deadline()));
        }
    }

    /// From now until the registration is dropped, a cancellation posts `wake`.
    pub(crate) fn register(&self, wake: &Arc<Wake>) -> Registration {
        self.register_in(None, wake)
    }

    /// The same for a thread that may not belong to the pipeline, whose own threads a drain wakes anyway: a drain posts
    /// `wake`, too.
    pub(crate) fn register_guest(&self, wake: &Arc<Wake>) -> Registration {
        self.register_in(self.scope.clone(), wake)
    }

    fn register_in(&self, scope: Option<Arc<Scope>>, wake: &Arc<Wake>) -> Registration {
        for node in self.node.lineage() {
            node.register(wake);
        }
        if let Some(scope) = &scope {
            scope.watch_drain(wake);
        }
        Registration { node: Arc::clone(&self.node), scope, wake: Arc::clone(wake) }
    }

    /// Asks the sources of the token's pipeline to stop; items in flight are processed and flushed to the sinks. Does
    /// not wait. On a token without a pipeline it does nothing.
    pub fn drain(&self) {
        if let Some(scope) = &self.scope {
            self.node.raise_alarm();
            scope.drain();
        }
    }

    /// Returns whether [`drain`](Self::drain) was called on a token of the same pipeline.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.is_draining())
    }

    /// The scope in which stages are registered; `None` if the token does not come from a pipeline.
    pub(crate) fn try_scope(&self) -> Option<&Arc<Scope>> {
        self.scope.as_ref()
    }

    /// As [`try_scope`](Self::try_scope), for a token that must have one.
    ///
    /// # Panics
    /// If the token does not come from a pipeline.
    #[track_caller]
    pub(crate) fn scope(&self) -> &Arc<Scope> {
        match &self.scope {
            Some(scope) => scope,
            None => panic!("this CancelToken does not belong to a Pipeline, so it cannot host a stage"),
        }
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

// Anything that a panic may leave half done in it is behind locks and atomics.
impl UnwindSafe for CancelToken {}
impl RefUnwindSafe for CancelToken {}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("pipeline", &self.scope.as_ref().map(|scope| scope.name()))
            .field("cause", &self.cause())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    #[test]
    fn a_child_is_cancelled_with_its_parent_but_not_vice_versa() {
        let parent = CancelToken::new();
        let child = parent.child();
        let sibling = parent.child();
        child.cancel_because("enough");
        assert!(child.is_cancelled() && !parent.is_cancelled() && !sibling.is_cancelled());
        parent.cancel();
        assert!(matches!(sibling.cause(), Some(Cause::Requested)));
        assert_eq!(child.check().unwrap_err().to_string(), "cancelled: enough");
    }

    #[test]
    fn the_first_cause_stays() {
        let token = CancelToken::new();
        token.cancel_because("first");
        token.cancel_because("second");
        assert_eq!(token.cause().unwrap().to_string(), "cancelled: first");
    }

    #[test]
    fn a_deadline_is_reached_when_the_time_is_at_it() {
        let clock = ManualClock::new();
        let token = CancelToken::with_clock(&clock);
        let in_two_seconds = Duration::from_secs(2);
        let children = [token.with_timeout(in_two_seconds).child(), token.with_deadline(token.now() + in_two_seconds)];
        clock.advance(Duration::from_nanos(1_999_999_999));
        assert!(children.iter().all(|child| !child.is_cancelled()));
        clock.advance(Duration::from_nanos(1));
        assert!(children.iter().all(|child| matches!(child.cause(), Some(Cause::DeadlinePassed))));
        assert!(!token.is_cancelled());
    }

    #[test]
    fn an_endless_timeout_is_not_a_deadline() {
        assert_eq!(CancelToken::new().with_timeout(Duration::MAX).deadline(), None);
    }

    #[test]
    fn a_sleep_ends_at_its_time_or_at_the_deadline() {
        let clock = ManualClock::new();
        let token = CancelToken::with_clock(&clock);
        token.sleep(Duration::from_secs(5)).unwrap();
        assert_eq!(clock.elapsed(), Duration::from_secs(5));
        token.with_timeout(Duration::from_secs(1)).sleep(Duration::from_secs(9)).unwrap_err();
        assert_eq!(clock.elapsed(), Duration::from_secs(6));
    }

    #[test]
    fn cancelling_ends_a_wait_on_another_thread() {
        let token = CancelToken::new();
        let waiting = std::thread::spawn({
            let child = token.child();
            move || child.wait().to_string()
        });
        token.cancel_because("done here");
        assert_eq!(waiting.join().unwrap(), "cancelled: done here");
    }
}
