//! [`Consumer`]: the row in the report of code that takes items from a [`Stream`] one by one.
//!
//! The library calls no closure there, so it only sees the calls. The consumer is idle from a call that finds nothing
//! to the one that finds something; the rest of its time it is busy with the items it has taken.

use std::sync::Arc;

use super::Stream;
use crate::error::Result;
use crate::pipeline::stats::StageStats;
use crate::pipeline::timing::Phase;
use crate::pipeline::{CancelToken, Membership};

pub(super) struct Consumer {
    stats: Arc<StageStats>,
    token: CancelToken,
    is_idle: bool,
    /// The pipeline has not ended before its consumer has.
    _open: Membership,
}

impl Consumer {
    pub(super) fn new<T: Send + 'static>(input: &Stream<T>, name: &str) -> Self {
        let token = input.token();
        let stats = token.scope().register_consumer(name);
        input.is_read_by(&stats);
        stats.threads[0].start(token.now());
        Self { stats, token: token.clone(), is_idle: false, _open: token.scope().open_reader() }
    }

    #[inline]
    pub(super) fn took<T>(&mut self, item: &Result<T>) {
        if self.is_idle {
            self.turn(false);
        }
        let step = &self.stats.steps[0];
        match item {
            Ok(_) => {
                step.received.add(1);
                step.delivered.add(1);
            }
            Err(_) => step.errors_in.add(1),
        }
    }

    #[inline]
    pub(super) fn found_nothing(&mut self) {
        if !self.is_idle {
            self.turn(true);
        }
    }

    #[cold]
    fn turn(&mut self, is_idle: bool) {
        self.is_idle = is_idle;
        let phase = if is_idle { Phase::Idle } else { Phase::Busy };
        self.stats.threads[0].enter(phase, self.token.now());
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stats.threads[0].end(self.token.now());
    }
}
