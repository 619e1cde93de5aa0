//! Ticks.

use std::time::{Duration, Instant};

use super::Site;
use crate::clock::wait::Waiter;
use crate::clock::{Ticks, earlier};
use crate::edge::Polled;
use crate::pipeline::CancelToken;
use crate::pipeline::stats::Phase;
use crate::stage::input::Feed;
use crate::stage::thread::StageThread;
use crate::stream::Stream;

/// A tick every so often.
struct Interval {
    ticks: Ticks,
    site: Site,
}

impl Feed for Interval {
    type Item = u64;

    fn poll(&mut self) -> Polled<u64> {
        match self.ticks.take(self.site.token.now()) {
            Some(tick) => Polled::Item(Ok(tick)),
            None => Polled::Empty,
        }
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        _hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        let token = &self.site.token;
        let until = earlier(self.ticks.next, until);
        thread.wait(Phase::Idle, until, || false, |waiter| register(waiter) || token.is_draining());
    }

    fn is_drained(&self) -> bool {
        self.site.token.is_draining()
    }

    fn publish(&mut self, made: u64) {
        self.site.publish(made);
    }
}

impl Stream<u64> {
    /// One item every `period`: the number of the tick, counted from 1, which comes one period from now.
    ///
    /// Ticks are due at whole multiples of the period and do not drift. Those that come due while the consumer has no
    /// room are left out, and their numbers with them.
    ///
    /// # Panics
    /// If `period` is zero, or `cancel` belongs to no pipeline or to one that has finished.
    #[track_caller]
    pub fn interval(cancel: &CancelToken, period: Duration) -> Self {
        assert!(!period.is_zero(), "`period` must be greater than zero");
        let ticks = Ticks::new(cancel.now(), period);
        Self::source(cancel, "interval", |site| Interval { ticks, site })
    }
}
