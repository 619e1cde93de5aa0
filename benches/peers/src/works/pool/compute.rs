//! Pools that compute: 0.3 and 20 microseconds for each item.

use std::time::Duration;

use super::{Task, ordered, unordered};
use crate::steps::spin;
use crate::work::{Bound, Entry, Figure, Goal, Job, Work};
use crate::works::channels::{Crossbeam, Flume, Kanal};

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
        Entry::new("crossbeam", 2_000_000, 2, |job| ordered::by_hand::<Crossbeam>(job, spinning(job)).into()),
        Entry::new("flume", 1_000_000, 2, |job| ordered::by_hand::<Flume>(job, spinning(job)).into()),
        Entry::new("kanal", 2_000_000, 2, |job| ordered::by_hand::<Kanal>(job, spinning(job)).into()),
        Entry::new("rayon", 3_000_000, 2, |job| ordered::rayon(job, spinning(job)).into()),
        Entry::new("rayon:chunks", 3_000_000, 2, |job| ordered::rayon_chunks(job, spinning(job)).into()),
        Entry::new("orx-parallel", 3_000_000, 2, |job| ordered::orx_parallel(job, spinning(job)).into()),
        Entry::new("pariter", 2_000_000, 2, |job| ordered::pariter(job, spinning(job)).into()),
        Entry::new("par-stream", 500_000, 2, |job| ordered::par_stream(job, spinning(job)).into()),
        Entry::new("par-stream:chunks", 2_000_000, 2, |job| ordered::par_stream_chunks(job, spinning(job)).into()),
        Entry::new("tokio", 1_000_000, 2, |job| ordered::tokio(job, spinning(job)).into()),
        Entry::new("tokio:chunks", 2_000_000, 2, |job| ordered::tokio_chunks(job, spinning(job)).into()),
        Entry::new("streamz", 3_000_000, 2, |job| ordered::streamz(job, spinning(job)).into()),
        Entry::new("streamz-par-map", 3_000_000, 2, |job| ordered::streamz_par_map(job, spinning(job)).into()),
    ],
    goals: &[Goal {
        text: "streamz takes at most 1.05 times as long as rayon over a `Vec`",
        figure: Figure::Ratio("streamz", "rayon"),
        bound: Bound::AtMost(1.05),
    }],
    notes: &[
        BY_HAND_ORDERED,
        RAYON,
        RAYON_CHUNKS,
        "orx-parallel: over such a `Vec`, in pieces that it chooses itself.",
        PAR_STREAM,
        TOKIO_ORDERED,
        CHUNKS,
        PAR_MAP,
        "std-mpsc is left out, because its receivers cannot be shared.",
        "renoir and `par_bridge` give no order.",
    ],
    ..Work::BASE
};

/// The same for two and for eight workers.
const TINY_UNORDERED: Work = Work {
    spin: TINY,
    expected: |job| unordered::plain_loop(job, spinning(job)),
    reference: "rayon-bridge",
    goals: &[
        Goal {
            text: "streamz takes less time than `par_bridge`",
            figure: Figure::Ratio("streamz", "rayon-bridge"),
            bound: Bound::Below(1.0),
        },
        Goal {
            text: "`par_fold` of streamz takes less time than `par_bridge`",
            figure: Figure::Ratio("streamz-par-fold", "rayon-bridge"),
            bound: Bound::Below(1.0),
        },
    ],
    notes: &[
        "crossbeam, flume, kanal: one queue for all workers, and one for all results.",
        RAYON,
        RAYON_CHUNKS,
        "rayon-bridge: `par_bridge` over the range. rayon-bridge:chunks: over ranges of 64 items, which it adds up.",
        "orx-parallel: over such a `Vec`; orx-parallel:iter: over the range as an iterator. In pieces that it chooses itself, and \
         on no more threads than there are CPU cores.",
        PAR_STREAM,
        "tokio: a task for each item, `buffer_unordered(1024)`.",
        CHUNKS,
        "renoir: a `shuffle` in front of as many replicas as there are workers.",
        "streamz: a pool, and a sink that adds up its results. streamz-par-fold: `Inline::par_fold` over the range; the workers \
         add up their own results, as those of rayon do.",
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

const fn tiny_unordered(workers: usize) -> [Entry; 17] {
    [
        Entry::new("loop", 2_000_000, 1, |job| unordered::plain_loop(job, spinning(job)).into()),
        Entry::new("crossbeam", 2_000_000, workers, |job| unordered::by_hand::<Crossbeam>(job, spinning(job)).into()),
        Entry::new("flume", 1_000_000, workers, |job| unordered::by_hand::<Flume>(job, spinning(job)).into()),
        Entry::new("kanal", 2_000_000, workers, |job| unordered::by_hand::<Kanal>(job, spinning(job)).into()),
        Entry::new("rayon", 3_000_000, workers, |job| unordered::rayon(job, spinning(job)).into()),
        Entry::new("rayon:chunks", 3_000_000, workers, |job| unordered::rayon_chunks(job, spinning(job)).into()),
        Entry::new("rayon-bridge", 3_000_000, workers, |job| unordered::rayon_bridge(job, spinning(job)).into()),
        Entry::new("rayon-bridge:chunks", 3_000_000, workers, |job| {
            unordered::rayon_bridge_chunks(job, spinning(job)).into()
        }),
        Entry::new("orx-parallel", 3_000_000, workers, |job| unordered::orx_parallel(job, spinning(job)).into()),
        Entry::new("orx-parallel:iter", 3_000_000, workers, |job| {
            unordered::orx_parallel_iter(job, spinning(job)).into()
        }),
        Entry::new("par-stream", 500_000, workers, |job| unordered::par_stream(job, spinning(job)).into()),
        Entry::new("par-stream:chunks", 2_000_000, workers, |job| {
            unordered::par_stream_chunks(job, spinning(job)).into()
        }),
        Entry::new("tokio", 1_000_000, workers, |job| unordered::tokio(job, spinning(job)).into()),
        Entry::new("tokio:chunks", 2_000_000, workers, |job| unordered::tokio_chunks(job, spinning(job)).into()),
        Entry::new("renoir", 3_000_000, workers, |job| unordered::renoir(job, spinning(job)).into()),
        Entry::new("streamz", 3_000_000, workers, |job| unordered::streamz(job, spinning(job)).into()),
        Entry::new("streamz-par-fold", 3_000_000, workers, |job| {
            unordered::streamz_par_fold(job, spinning(job)).into()
        }),
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
        Entry::new("crossbeam:1", 25_000, 1, |job| ordered::by_hand::<Crossbeam>(job, spinning(job)).into()),
        Entry::new("crossbeam:2", 50_000, 2, |job| ordered::by_hand::<Crossbeam>(job, spinning(job)).into()),
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
    notes: &["The number behind a system is that of its workers.", BY_HAND_ORDERED, RAYON, TOKIO_ORDERED, PAR_MAP],
    ..Work::BASE
};

const BY_HAND_ORDERED: &str = "crossbeam, flume, kanal: one queue for all workers, and one for all results, which are numbered \
                               and put in order in a ring without a bound.";
const RAYON: &str =
    "rayon: `par_iter` over a `Vec` that is built within the time; all items and results are in memory.";
const RAYON_CHUNKS: &str = "rayon:chunks: the same in pieces of at least 64 items (`with_min_len`).";
const PAR_STREAM: &str =
    "par-stream: `par_map` on tokio's threads for code that blocks, room for 1,024 items on each side.";
const CHUNKS: &str =
    "par-stream:chunks, tokio:chunks: they handle 64 items (`ready_chunks`) as one, and 16 chunks fill each side.";
const TOKIO_ORDERED: &str = "tokio: a task for each item, `buffered(1024)`, as many worker threads as workers.";
const PAR_MAP: &str = "streamz-par-map: `ParMapper` on a rayon pool of as many threads.";
