//! [`Refusals`]: what the error items of the calls that a circuit breaker rejects have in common.
//!
//! A rejection takes a few nanoseconds, so its error item is most of its cost, and two parts of that are avoidable. Reading
//! the clock takes some 25 ns. And the count of references to the name of the stage, which the worker raises and the thread
//! that drops the error lowers, moves from core to core twice for each item.
//!
//! So the calls that a worker rejects in a row share one reading of the clock and a copy of the name. A row ends when the
//! worker makes a call, waits, or takes the next run of items. Nothing in it takes long, so it lasts about as long as a run
//! (`run_length.rs`), and the time of an error is too early by no more than that.

use std::cell::Cell;
use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::account;
use crate::error::{Details, ErrorKind};
use crate::stage::operator::sealed::Context;

/// The longest row.
const MOST: u32 = 256;

/// Belongs to one worker.
#[derive(Default)]
pub(super) struct Refusals(Cell<Option<Row>>);

struct Row {
    stage: Arc<str>,
    time: SystemTime,
    /// How often the thread had waited when the row began.
    waits: u64,
    left: u32,
}

impl Refusals {
    /// Creates the error of a rejected call, to be completed.
    pub(super) fn details(&self, context: &Context, kind: ErrorKind) -> Details {
        let waits = account::waits();
        let row = self.0.take().filter(|row| row.left > 0 && row.waits == waits);
        let row = row.unwrap_or_else(|| Row {
            stage: Arc::from(context.stage()),
            time: context.clock.wall(),
            waits,
            left: MOST,
        });
        let details = Details::new(kind, Arc::clone(&row.stage)).with_time(row.time);
        self.0.set(Some(Row { left: row.left - 1, ..row }));
        details
    }

    /// The worker has done something else.
    #[inline]
    pub(super) fn end_row(&self) {
        self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::wait::Waiter;
    use crate::clock::{Clock, ManualClock, real_now};
    use crate::error::StreamError;
    use crate::pipeline::stats::{StageKind, StageStats};

    const SECOND: Duration = Duration::from_secs(1);

    struct Worker {
        clock: ManualClock,
        context: Context,
        refusals: Refusals,
    }

    impl Worker {
        fn new() -> Self {
            let clock = ManualClock::new();
            let stats = StageStats::new("call".into(), StageKind::Processor, &["call".into()], 1);
            let context = Context::new(&Arc::new(stats), (&clock).into());
            Self { clock, context, refusals: Refusals::default() }
        }

        /// A second after the one before.
        fn refuse(&self) -> StreamError {
            self.clock.advance(SECOND);
            self.refusals.details(&self.context, ErrorKind::CircuitOpen).about(1)
        }
    }

    #[test]
    fn a_row_has_the_time_of_its_first_error() {
        let worker = Worker::new();
        let first = worker.refuse();
        assert_eq!((first.kind(), first.stage(), first.take_item()), (ErrorKind::CircuitOpen, "call", Some(1)));
        for _ in 1..MOST {
            assert_eq!(worker.refuse().time(), first.time());
        }
        assert_eq!(worker.refuse().time(), first.time() + MOST * SECOND, "a row has an end");
    }

    #[test]
    fn a_call_ends_the_row() {
        let worker = Worker::new();
        let first = worker.refuse();
        worker.refusals.end_row();
        assert_eq!(worker.refuse().time(), first.time() + SECOND);
    }

    #[test]
    fn a_wait_of_the_worker_ends_the_row() {
        let worker = Worker::new();
        let first = worker.refuse();
        Waiter::for_thread(&Clock::default(), "worker".into()).park(Some(real_now()));
        assert_eq!(worker.refuse().time(), first.time() + SECOND);
    }
}
