//! Pools that compute: 0.3 and 20 microseconds for each item.

use std::time::Duration;

use super::{Task, ordered, unordered};
use crate::steps::spin;
use crate::work::{Bound, Entry, Figure, Goal, Job, Work};

const TINY: Duration = Duration::from_nanos(300);
const LONG: Duration = Duration::from_micros(20);

/// The work on one item.
fn spinning(job: &Job) -> impl Task + use<> {
    let rounds = job.spin_rounds;
    move |n| spin(n, rounds)
}

pub(in crate::works) static TINY_ORDERED: Work = Work {
    name: "pool-0.3us-ordered",
    about: "0.3 us of computing for each item, two workers, results in order.",
    spin: TINY,
    expected: |job| ordered::plain_loop(job, spinning(job)),
    reference: "rayon",
    entries: &[
        Entry::new("loop", 2_000_000, 1, |job| ordered::plain_loop(job, spinning(job)).into()),
        Entry::new("crossbeam", 2_000_000, 2, |job| ordered::crossbeam(job, spinning(job)).into()),
        Entry::new("rayon", 3_000_000, 2, |job| ordered::rayon(job, spinning(job)).into()),
        Entry::new("pariter", 2_000_000, 2, |job| ordered::pariter(job, spinning(job)).into()),
        Entry::new("tokio", 1_000_000, 2, |job| ordered::tokio(job, spinning(job)).into()),
        Entry::new("streamz", 3_000_000, 2, |job| ordered::streamz(job, spinning(job)).into()),
        Entry::new("streamz-par-map", 3_000_000, 2, |job| ordered::streamz_par_map(job, spinning(job)).into()),
    ],
    goals: &[Goal {
        text: "streamz takes at most 1.15 times as long as rayon over a `Vec`",
        figure: Figure::Ratio("streamz", "rayon"),
        bound: Bound::AtMost(1.15),
    }],
    notes: &[CROSSBEAM_ORDERED, RAYON, TOKIO_ORDERED, PAR_MAP, "renoir and `par_bridge` give no order."],
    ..Work::BASE
};

/// The same for two and for eight workers.
const TINY_UNORDERED: Work = Work {
    spin: TINY,
    expected: |job| unordered::plain_loop(job, spinning(job)),
    reference: "rayon-bridge",
    goals: &[Goal {
        text: "streamz takes less time than `par_bridge`",
        figure: Figure::Ratio("streamz", "rayon-bridge"),
        bound: Bound::Below(1.0),
    }],
    notes: &[
        RAYON,
        "rayon-bridge: `par_bridge` over the range.",
        "tokio: a task for each item, `buffer_unordered(1024)`.",
        "renoir: a `shuffle` in front of as many replicas as there are workers.",
        "pariter always keeps the order.",
    ],
    ..Work::BASE
};

pub(in crate::works) static TINY_UNORDERED_2: Work = Work {
    name: "pool-0.3us-unordered-2",
    about: "0.3 us of computing for each item, two workers, results in any order.",
    entries: &tiny_unordered(2),
    ..TINY_UNORDERED
};

pub(in crate::works) static TINY_UNORDERED_8: Work = Work {
    name: "pool-0.3us-unordered-8",
    about: "0.3 us of computing for each item, eight workers, results in any order.",
    entries: &tiny_unordered(8),
    notes: &["The systems are those of `pool-0.3us-unordered-2`."],
    ..TINY_UNORDERED
};

const fn tiny_unordered(workers: usize) -> [Entry; 7] {
    [
        Entry::new("loop", 2_000_000, 1, |job| unordered::plain_loop(job, spinning(job)).into()),
        Entry::new("crossbeam", 2_000_000, workers, |job| unordered::crossbeam(job, spinning(job)).into()),
        Entry::new("rayon", 3_000_000, workers, |job| unordered::rayon(job, spinning(job)).into()),
        Entry::new("rayon-bridge", 3_000_000, workers, |job| unordered::rayon_bridge(job, spinning(job)).into()),
        Entry::new("tokio", 1_000_000, workers, |job| unordered::tokio(job, spinning(job)).into()),
        Entry::new("renoir", 3_000_000, workers, |job| unordered::renoir(job, spinning(job)).into()),
        Entry::new("streamz", 3_000_000, workers, |job| unordered::streamz(job, spinning(job)).into()),
    ]
}

pub(in crate::works) static LONG_ORDERED: Work = Work {
    name: "pool-20us-ordered",
    about: "20 us of computing for each item, results in order; one worker and two.",
    spin: LONG,
    expected: |job| ordered::plain_loop(job, spinning(job)),
    reference: "loop",
    entries: &[
        Entry::new("loop", 25_000, 1, |job| ordered::plain_loop(job, spinning(job)).into()),
        Entry::new("crossbeam:1", 25_000, 1, |job| ordered::crossbeam(job, spinning(job)).into()),
        Entry::new("crossbeam:2", 50_000, 2, |job| ordered::crossbeam(job, spinning(job)).into()),
        Entry::new("rayon:1", 25_000, 1, |job| ordered::rayon(job, spinning(job)).into()),
        Entry::new("rayon:2", 50_000, 2, |job| ordered::rayon(job, spinning(job)).into()),
        Entry::new("pariter:1", 25_000, 1, |job| ordered::pariter(job, spinning(job)).into()),
        Entry::new("pariter:2", 50_000, 2, |job| ordered::pariter(job, spinning(job)).into()),
        Entry::new("tokio:1", 25_000, 1, |job| ordered::tokio(job, spinning(job)).into()),
        Entry::new("tokio:2", 50_000, 2, |job| ordered::tokio(job, spinning(job)).into()),
        Entry::new("streamz:1", 25_000, 1, |job| ordered::streamz(job, spinning(job)).into()),
        Entry::new("streamz:2", 50_000, 2, |job| ordered::streamz(job, spinning(job)).into()),
        Entry::new("streamz-par-map:1", 25_000, 1, |job| ordered::streamz_par_map(job, spinning(job)).into()),
        Entry::new("streamz-par-map:2", 50_000, 2, |job| ordered::streamz_par_map(job, spinning(job)).into()),
    ],
    goals: &[Goal {
        text: "two workers of streamz are at least 1.97 times as fast as one",
        figure: Figure::Ratio("streamz:1", "streamz:2"),
        bound: Bound::AtLeast(1.97),
    }],
    notes: &["The number behind a system is that of its workers.", CROSSBEAM_ORDERED, RAYON, TOKIO_ORDERED, PAR_MAP],
    ..Work::BASE
};

const CROSSBEAM_ORDERED: &str = "crossbeam: one queue for all workers; numbered results are put in order in a ring \
                                 without a bound.";
const RAYON: &str =
    "rayon: `par_iter` over a `Vec` that is built within the time; all items and results are in memory.";
const TOKIO_ORDERED: &str = "tokio: a task for each item, `buffered(1024)`, as many worker threads as workers.";
const PAR_MAP: &str = "streamz-par-map: `ParMapper` on a rayon pool of as many threads.";
