//! The memory that a pipeline needs, however long it runs.

use super::chain;
use crate::work::{Bound, Entry, Figure, Goal, Job, Outcome, Work};

pub(super) static MEMORY: Work = Work {
    name: "memory",
    about: "The work `hop` on streamz with more and more items, in at most five rounds; look at the peak.",
    expected: |job| chain::plain_loop(job.items, 1),
    reference: "streamz:1e6",
    entries: &[
        Entry::new("streamz:1e6", 1_000_000, 1, hop),
        Entry::new("streamz:1e7", 10_000_000, 1, hop),
        Entry::new("streamz:1e8", 100_000_000, 1, hop),
        Entry::new("streamz:1e9", 1_000_000_000, 1, hop).long(),
    ],
    goals: &[
        Goal {
            text: "the peak at 1e8 items is at most 1.2 times that at 1e6",
            figure: Figure::PeakRatio("streamz:1e8", "streamz:1e6"),
            bound: Bound::AtMost(1.2),
        },
        Goal {
            text: "the peak at 1e9 items is at most 1.2 times that at 1e6",
            figure: Figure::PeakRatio("streamz:1e9", "streamz:1e6"),
            bound: Bound::AtMost(1.2),
        },
    ],
    notes: &["The peak of equal runs differs by some 0.4 MiB; one byte kept for each item would be 95 MiB at 1e8."],
    max_rounds: 5,
    ..Work::BASE
};

fn hop(job: &Job) -> Outcome {
    chain::streamz(job.items, 1).into()
}
