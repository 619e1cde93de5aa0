//! [`Gate`]: admits a limited number of calls at a time.
//!
//! # Invariants
//!
//! - No call is admitted while the number inside is at or above the limit. Lowering the limit removes no call.
//! - Calls are admitted in the order of their arrival: one that arrives while others wait, waits behind them.
//! - A thread that makes room admits the next calls in the same critical section: a waiting call is inside from that
//!   moment, whenever its thread wakes up. If it has given up by then, it makes room again. So no place is ever lost or
//!   idle.
//! - The lock is held only for counting: no token, clock or wake is touched under it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::account::WaitFor;
use crate::clock::wait::Wake;
use crate::clock::{Limit, earlier};
use crate::pipeline::CancelToken;

#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    inside: usize,
    /// The waiting calls, by the number of their arrival.
    queue: VecDeque<(u64, Arc<Wake>)>,
    next: u64,
}

/// Why a call was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotEntered {
    /// Its token was cancelled.
    Cancelled,
    /// There was no room within the time that it may wait.
    Full,
}

/// A call that is inside, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it lets the next call in"]
pub(super) struct Permit<'a> {
    gate: &'a Gate,
    /// The number of calls inside, including this one, when it noticed its admission.
    pub(super) inside: usize,
}

impl Gate {
    pub(super) fn new(limit: usize) -> Self {
        Self { state: Mutex::new(State { limit, inside: 0, queue: VecDeque::new(), next: 0 }) }
    }

    /// Enters if there is room and no call waits.
    pub(super) fn try_enter(&self) -> Option<Permit<'_>> {
        let mut state = self.state.lock();
        let has_room = state.queue.is_empty() && state.inside < state.limit;
        state.inside += usize::from(has_room);
        has_room.then(|| Permit { gate: self, inside: state.inside })
    }

    /// Waits until there is room: for `max_wait` at most, or without limit.
    pub(super) fn enter(&self, cancel: &CancelToken, max_wait: Option<Duration>) -> Result<Permit<'_>, NotEntered> {
        if let Some(permit) = self.try_enter() {
            return Ok(permit);
        }
        if max_wait.is_some_and(|wait| wait.is_zero()) {
            return Err(NotEntered::Full);
        }
        let limit = max_wait.map_or(Limit::Unlimited, |wait| Limit::after(wait, cancel.clock()));
        let waiter = limit.waiter(cancel.clock());
        let _registered = cancel.register(waiter.wake());
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.queue.push_back((number, Arc::clone(waiter.wake())));
        // There may be room by now.
        let mut called = state.call();
        let mut is_inside = state.is_inside(number);
        let mut inside = state.inside;
        loop {
            drop(state);
            called.drain(..).for_each(|wake| wake.post());
            if is_inside {
                return Ok(Permit { gate: self, inside });
            }
            if cancel.is_cancelled() {
                self.give_up(number);
                return Err(NotEntered::Cancelled);
            }
            if limit.has_passed(cancel.clock()) {
                self.give_up(number);
                return Err(NotEntered::Full);
            }
            // The stage has work to do and is held up: it is not idle.
            waiter.park_for(WaitFor::Time, earlier(limit.deadline(), cancel.deadline()));
            state = self.state.lock();
            is_inside = state.is_inside(number);
            inside = state.inside;
        }
    }

    fn give_up(&self, number: u64) {
        let mut state = self.state.lock();
        if state.is_inside(number) {
            drop(state);
            return self.leave();
        }
        state.queue.retain(|&(other, _)| other != number);
    }

    fn leave(&self) {
        let mut state = self.state.lock();
        state.inside -= 1;
        let called = state.call();
        drop(state);
        called.iter().for_each(|wake| wake.post());
    }

    /// Changes the maximum number of calls inside.
    pub(super) fn set_limit(&self, limit: usize) {
        let mut state = self.state.lock();
        state.limit = limit;
        let called = state.call();
        drop(state);
        called.iter().for_each(|wake| wake.post());
    }

    /// The number of calls inside.
    pub(super) fn inside(&self) -> usize {
        self.state.lock().inside
    }

    /// The number of waiting calls.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// Whether no call is inside, and none waits.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.inside == 0 && state.queue.is_empty()
    }
}

impl State {
    /// Admits as many as there is room for. They must be woken without the lock.
    fn call(&mut self) -> Vec<Arc<Wake>> {
        let mut called = Vec::new();
        while self.inside < self.limit
            && let Some((_, wake)) = self.queue.pop_front()
        {
            self.inside += 1;
            called.push(wake);
        }
        called
    }

    /// Whether a waiting call has been admitted: all those before it, and only those, have been, too.
    fn is_inside(&self, number: u64) -> bool {
        self.queue.front().is_none_or(|&(first, _)| first > number)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManualClock, Pipeline, Task};

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pipeline() -> (ManualClock, Pipeline) {
        let clock = ManualClock::new();
        (clock.clone(), Pipeline::builder("gate").clock(&clock).build())
    }

    /// Enters, stays for a second, and returns when it was admitted.
    fn visitor(
        pipeline: &CancelToken,
        gate: &Arc<Gate>,
        max_wait: Option<Duration>,
    ) -> Task<Result<Duration, NotEntered>> {
        let (gate, begun) = (Arc::clone(gate), pipeline.now());
        pipeline.spawn("visitor", move |cancel| {
            let entered = gate.enter(cancel, max_wait).map(|permit| {
                let at = cancel.now() - begun;
                _ = cancel.sleep(secs(1));
                drop(permit);
                at
            });
            crate::ok(entered)
        })
    }

    #[test]
    fn calls_are_admitted_in_order_as_room_is_made() {
        let (clock, pipeline) = pipeline();
        let gate = Arc::new(Gate::new(2));
        let visits: Vec<_> = (0..5)
            .map(|_| {
                let visit = visitor(&pipeline, &gate, None);
                clock.settle();
                visit
            })
            .collect();
        assert_eq!((gate.inside(), gate.waiting()), (2, 3));
        clock.advance(secs(3));
        let entered: Vec<_> = visits.into_iter().map(|visit| visit.join().unwrap().unwrap().as_secs()).collect();
        assert_eq!(entered, [0, 0, 1, 1, 2]);
        assert!(gate.is_idle());
    }

    #[test]
    fn a_wait_ends_at_its_limit_and_leaves_the_queue() {
        let (clock, pipeline) = pipeline();
        let gate = Arc::new(Gate::new(1));
        let mut visits = Vec::new();
        for max_wait in [None, Some(Duration::from_millis(500)), Some(Duration::ZERO), None] {
            visits.push(visitor(&pipeline, &gate, max_wait));
            clock.settle();
        }
        assert_eq!(gate.waiting(), 2);
        clock.advance(secs(2));
        let entered: Vec<_> = visits.into_iter().map(|visit| visit.join().unwrap()).collect();
        assert_eq!(entered, [Ok(secs(0)), Err(NotEntered::Full), Err(NotEntered::Full), Ok(secs(1))]);
        assert!(gate.is_idle());
    }

    #[test]
    fn raising_the_limit_admits_waiting_calls() {
        let (clock, pipeline) = pipeline();
        let gate = Arc::new(Gate::new(1));
        let visits: Vec<_> = (0..4).map(|_| visitor(&pipeline, &gate, None)).collect();
        clock.settle();
        gate.set_limit(3);
        assert_eq!((gate.inside(), gate.waiting()), (3, 1));
        gate.set_limit(1);
        clock.advance(secs(1));
        assert_eq!((gate.inside(), gate.waiting()), (1, 0));
        clock.advance(secs(1));
        assert!(visits.into_iter().all(|visit| visit.join().unwrap().is_ok()));
        assert!(gate.is_idle());
    }

    #[test]
    fn a_cancelled_call_leaves_its_place_to_the_next() {
        let (clock, pipeline) = pipeline();
        let gate = Arc::new(Gate::new(1));
        let first = visitor(&pipeline, &gate, None);
        clock.settle();
        let impatient = pipeline.child();
        let second = visitor(&impatient, &gate, None);
        clock.settle();
        let third = visitor(&pipeline, &gate, None);
        clock.settle();
        impatient.cancel();
        assert_eq!(second.join().unwrap(), Err(NotEntered::Cancelled));
        assert_eq!(gate.waiting(), 1);
        clock.advance(secs(2));
        assert_eq!((first.join().unwrap(), third.join().unwrap()), (Ok(secs(0)), Ok(secs(1))));
        assert!(gate.is_idle());
    }

    /// It is cancelled at the moment of its admission: whichever of the two its thread sees first, the place is not
    /// lost.
    #[test]
    fn a_call_admitted_and_cancelled_at_once_makes_room_again() {
        let (clock, pipeline) = pipeline();
        let gate = Arc::new(Gate::new(1));
        let first = visitor(&pipeline, &gate, None);
        clock.settle();
        let second = visitor(&pipeline.with_timeout(secs(1)), &gate, None);
        let third = visitor(&pipeline, &gate, None);
        clock.advance(secs(3));
        _ = second.join();
        assert_eq!((first.join().unwrap(), third.join().unwrap().is_ok()), (Ok(secs(0)), true));
        assert!(gate.is_idle());
    }
}
