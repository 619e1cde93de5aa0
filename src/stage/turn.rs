//! What driver and reader share.

use super::thread::StageThread;
use crate::error::StreamError;
use crate::pipeline::stats::StageKind;

/// What went through an end that saw its stream to the last item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Items.
    pub items: u64,
    /// Error items.
    pub errors: u64,
}

/// Marks, in place of a step, that a panic is the feed's.
pub(super) const AT_THE_FEED: usize = usize::MAX - 1;

/// A source makes its errors itself. A mark is none.
#[cold]
pub(super) fn count_error(thread: &StageThread, error: &StreamError) {
    if thread.stats.kind != StageKind::Source && !error.is_mark() {
        thread.stats.steps[0].errors_in.add(1);
    }
}
