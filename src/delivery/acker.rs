//! The thread that acknowledges.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::DeliveryConfig;
use super::inbox::{Acker, guarded};
use super::ledger::Ledger;
use super::pauses::Pauses;
use crate::clock::earlier;
use crate::clock::wait::Waiter;
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StepStats;
use crate::trace::event;

pub(super) struct Clerk<A: Acker> {
    acker: A,
    ledger: Arc<Ledger<A::Receipt>>,
    config: DeliveryConfig,
    keep_alive: Option<Duration>,
    name: Arc<str>,
    /// Settled receipts to be acknowledged.
    settled: Vec<A::Receipt>,
    /// When they are due.
    due: Option<Instant>,
    /// When leases must be extended.
    lease: Option<Instant>,
    pauses: Pauses,
}

impl<A: Acker<Receipt: Send + 'static>> Clerk<A> {
    pub(super) fn new(
        acker: A,
        ledger: Arc<Ledger<A::Receipt>>,
        config: DeliveryConfig,
        keep_alive: Option<Duration>,
        name: Arc<str>,
    ) -> Self {
        let (settled, pauses) = (Vec::new(), Pauses::default());
        Self { acker, ledger, config, keep_alive, name, settled, due: None, lease: None, pauses }
    }

    /// Works until nothing is in flight and nothing more will come. When all stages have ended and the pipeline is
    /// joined, it does not wait for records in streams that others hold: these are redelivered.
    pub(super) fn run(mut self, token: &CancelToken, stats: &StepStats) {
        let waiter = Waiter::current(token.clock());
        let _registered = token.register(waiter.wake());
        self.plan_lease(token.now());
        loop {
            // Before the check of settled records, so that it includes those that the stages have settled.
            let is_closing = token.scope().is_closing();
            let now = token.now();
            self.keep_alive(now, token);
            self.collect(now, is_closing || token.is_cancelled(), stats);
            if self.due.is_some_and(|due| due <= now) {
                self.acknowledge(token, stats);
            }
            if self.ledger.is_over() || (is_closing && (self.settled.is_empty() || token.is_cancelled())) {
                stats.abandoned.add(self.settled.len() as u64);
                return;
            }
            if !self.ledger.want_work(self.enough(), waiter.wake()) {
                let deadline = token.deadline().filter(|deadline| now < *deadline);
                waiter.park(earlier(earlier(self.due, self.lease), deadline));
            }
        }
    }

    /// The number of further settled records that is worth waking up for.
    fn enough(&self) -> usize {
        match self.due {
            None => 1,
            Some(_) if self.pauses.is_pausing() => usize::MAX,
            Some(_) => self.full().saturating_sub(self.settled.len()).max(1),
        }
    }

    /// The number of settled records that do not wait for others: when everything that may be in flight is settled,
    /// none will come.
    fn full(&self) -> usize {
        self.config.fetch.min(self.config.max_unacked)
    }

    fn collect(&mut self, now: Instant, is_ending: bool, stats: &StepStats) {
        let (mut settled, lost) = self.ledger.take();
        stats.received.add((settled.len() + lost.len()) as u64);
        self.settled.append(&mut settled);
        if !lost.is_empty() {
            let count = lost.len();
            let acker = &mut self.acker;
            if let Err(error) = guarded(|| acker.give_back(lost)) {
                event!(
                    warn,
                    { stage = %self.name, error = %error },
                    "streamz: `{}` cannot give records back: {error}",
                    self.name
                );
            }
            stats.abandoned.add(count as u64);
            self.ledger.done(count);
        }
        if self.settled.is_empty() || self.pauses.is_pausing() {
            return;
        }
        // Nothing more is worth waiting for if the source has ended.
        let at_once = self.settled.len() >= self.full() || is_ending || self.ledger.has_ended();
        let due = if at_once { Some(now) } else { now.checked_add(self.config.ack_interval) };
        self.due = earlier(self.due, due);
    }

    fn acknowledge(&mut self, token: &CancelToken, stats: &StepStats) {
        let before = self.settled.len();
        let (acker, settled) = (&mut self.acker, &mut self.settled);
        let outcome = guarded(|| acker.acknowledge(settled));
        let acknowledged = before - self.settled.len();
        stats.delivered.add(acknowledged as u64);
        self.ledger.done(acknowledged);
        self.due = None;
        match outcome {
            Ok(()) => {
                self.pauses.over();
                // The records it has left are not worth another call at once.
                self.due = if self.settled.is_empty() { None } else { Some(self.pauses.next(token.now())) };
            }
            Err(error) if error.is_transient() => {
                self.pauses.warn(&self.name, "acknowledge", &error);
                self.due = Some(self.pauses.next(token.now()));
            }
            Err(error) => {
                event!(
                    error,
                    { stage = %self.name, error = %error },
                    "streamz: `{}` cannot acknowledge: {error}",
                    self.name
                );
                let left = std::mem::take(&mut self.settled).len();
                stats.failed.add(left as u64);
                self.ledger.done(left);
                token.cancel_because(error.into_reason());
            }
        }
    }

    fn keep_alive(&mut self, now: Instant, token: &CancelToken) {
        if self.lease.is_none_or(|lease| now < lease) {
            return;
        }
        let acker = &mut self.acker;
        if let Err(error) = guarded(|| acker.keep_alive()) {
            event!(
                warn,
                { stage = %self.name, error = %error },
                "streamz: `{}` cannot extend its lease: {error}",
                self.name
            );
        }
        self.plan_lease(token.now());
    }

    fn plan_lease(&mut self, now: Instant) {
        self.lease = self.keep_alive.and_then(|period| now.checked_add(period));
    }
}
