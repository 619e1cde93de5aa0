//! [`Reporter`]: the reporting thread of a [`Monitor`](crate::Monitor).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counts::Counts;
use super::processor::{OnStats, StreamStats};
use crate::clock::wait::{Waiter, Wake};
use crate::clock::{Ticks, from_nanos};
use crate::panic::{self, guard_drop};
use crate::pipeline::CancelToken;
use crate::trace::event;

/// The reporting thread.
pub(super) struct Reporter {
    on_stats: OnStats,
    stage: Arc<str>,
    token: CancelToken,
    counts: Arc<Counts>,
    /// The time of the last report, and the counts at that time.
    last: Instant,
    quick: u64,
    errors: u64,
    total: u64,
    warned: bool,
}

impl Reporter {
    pub(super) fn new(on_stats: OnStats, stage: Arc<str>, token: CancelToken, counts: Arc<Counts>) -> Self {
        let last = token.now();
        Self { on_stats, stage, token, counts, last, quick: 0, errors: 0, total: 0, warned: false }
    }

    pub(super) fn run(mut self, mut ticks: Ticks) {
        let waiter = Waiter::current(self.token.clock());
        loop {
            let ended = self.is_over(waiter.wake());
            if ended || ticks.take(self.token.now()).is_some() {
                self.report();
            } else {
                waiter.park(ticks.next);
            }
            if ended {
                return guard_drop(self.on_stats);
            }
        }
    }

    /// Whether the stage has ended; if not, it will wake this thread when it does.
    fn is_over(&self, wake: &Arc<Wake>) -> bool {
        let mut rest = self.counts.rest.lock();
        rest.reporter = Some(Arc::clone(wake));
        rest.ended
    }

    fn report(&mut self) {
        let stats = self.take();
        if let Err(payload) = panic::catch(|| (self.on_stats)(stats))
            && !std::mem::replace(&mut self.warned, true)
        {
            let (stage, message) = (&self.stage, payload.message());
            event!(
                error,
                { stage = %stage, panic = %message },
                "streamz: `on_stats` of stage `{stage}` panicked: {message}; further panics are not logged"
            );
        }
    }

    fn take(&mut self) -> StreamStats {
        let mut rest = self.counts.rest.lock();
        let (times, ages) = (std::mem::take(&mut rest.times), std::mem::take(&mut rest.ages));
        let waiting_since = rest.waiting_since;
        drop(rest);
        let (all_quick, all_errors) = (self.counts.quick.get(), self.counts.errors.get());
        let quick = all_quick - std::mem::replace(&mut self.quick, all_quick);
        let errors = all_errors - std::mem::replace(&mut self.errors, all_errors);
        let now = self.token.now();
        let elapsed = now.saturating_duration_since(std::mem::replace(&mut self.last, now));
        let count = quick + times.count;
        self.total += count;
        StreamStats {
            count,
            errors,
            total: self.total,
            rate: if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() },
            avg_latency: mean(times.sum, count),
            min_latency: if quick > 0 { Duration::ZERO } else { times.least },
            max_latency: times.most,
            stalled: waiting_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
            avg_age: (ages.count > 0).then(|| mean(ages.sum, ages.count)),
            max_age: (ages.count > 0).then_some(ages.most),
            elapsed,
            last_update: self.token.clock().wall(),
        }
    }
}

fn mean(sum: Duration, count: u64) -> Duration {
    from_nanos(sum.as_nanos().checked_div(u128::from(count)).unwrap_or(0))
}
