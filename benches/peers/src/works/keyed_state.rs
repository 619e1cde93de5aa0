//! State for each of a million keys: sliding windows, sessions, batches, and the keys that were seen.
//!
//! Keys are drawn at random, so that nearly every item finds its state outside of the caches.

use std::collections::hash_map::{Entry as Found, HashMap};
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use streamz::{AggregateWindow, BatchConfig, Batcher, Dedupe, Keyed, SessionWindow, SlidingWindow, Stage, folds};

use super::keyed_window::{
    KEYED_WINDOW, LATENESS, OpenWindows, at, digest, micros, streamz, streamz_fused, time, value,
};
use crate::steps::{add, mix};
use crate::work::{Entry, Job, Work};

const KEYS: u64 = 1_000_000;

/// In microseconds, as all times. There is an item for each.
const SLIDE: u64 = 1_000_000;
const SIZE: u64 = 2 * SLIDE;

/// Twice the average time between two items of a key.
const GAP: u64 = 2 * KEYS;

const BATCH: usize = 4;

/// SplitMix64.
#[inline]
fn random(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

#[inline]
fn key(n: u64) -> u64 {
    random(n) % KEYS
}

/// The first item lies a whole window behind the epoch: none of its windows begins before that.
#[inline]
fn later(n: u64) -> u64 {
    SIZE + time(n)
}

pub(super) static SLIDING: Work = Work {
    name: "keyed-sliding-1e6",
    about: "Sums of sliding windows by event time, two seconds long, one every second, for each of 1,000,000 keys; there is one \
            item per microsecond of event time, up to 8 us late. In at most five rounds; look at the peak, too.",
    expected: sliding_loop,
    entries: &[
        Entry::new("loop", 4_000_000, 1, |job| sliding_loop(job).into()),
        Entry::new("streamz", 4_000_000, 1, |job| streamz(job, windows(), added).into()),
        Entry::new("streamz-fused", 4_000_000, 1, |job| streamz_fused(job, windows(), added).into()),
    ],
    notes: &[
        "loop: a `HashMap` of the standard library for each open window, used again when the window is closed.",
        "streamz: `SlidingWindow`, which keeps a sum for each second and merges two. Source, window and sink on a thread each. \
         streamz-fused: an `Inline` piece, one thread.",
    ],
    ..KEYED_STATE
};

pub(super) static SESSIONS: Work = Work {
    name: "keyed-sessions-1e6",
    about: "Sums of sessions by event time, for 1,000,000 keys. A session ends after a gap of twice the average time between \
            two items of a key, and has seven items on average. In at most five rounds; look at the peak, too.",
    expected: sessions_loop,
    entries: &[
        Entry::new("loop", 4_000_000, 1, |job| sessions_loop(job).into()),
        Entry::new("streamz", 4_000_000, 1, |job| streamz(job, sessions(), added).into()),
        Entry::new("streamz-fused", 4_000_000, 1, |job| streamz_fused(job, sessions(), added).into()),
    ],
    notes: &[
        "loop: a `HashMap` of the standard library with the open session of each key. Sessions of keys that do not return are \
         found by looking at all of them, twice in a gap; so they are emitted up to half a gap late.",
        "streamz: `SessionWindow`, which emits every session when it ends, in the order of their ends.",
    ],
    ..KEYED_STATE
};

pub(super) static BATCHES: Work = Work {
    name: "keyed-batches-1e6",
    about: "Batches of four items of the same key, for 1,000,000 keys. In at most five rounds; look at the peak, too.",
    expected: batches_loop,
    entries: &[
        Entry::new("loop", 4_000_000, 1, |job| batches_loop(job).into()),
        Entry::new("streamz", 4_000_000, 1, |job| streamz(job, batches(), batch_added).into()),
        Entry::new("streamz-fused", 4_000_000, 1, |job| streamz_fused(job, batches(), batch_added).into()),
    ],
    notes: &["loop: a `HashMap` of the standard library with a `Vec` for each key."],
    ..KEYED_STATE
};

pub(super) static DEDUPE: Work = Work {
    name: "dedupe-1e6",
    about: "The first item of each of 2,000,000 keys; the last 1,000,000 keys are remembered. In at most five rounds; look at the \
            peak, too.",
    expected: dedupe_loop,
    entries: &[
        Entry::new("loop", 4_000_000, 1, |job| dedupe_loop(job).into()),
        Entry::new("streamz", 4_000_000, 1, |job| streamz(job, dedupe(), mix).into()),
        Entry::new("streamz-fused", 4_000_000, 1, |job| streamz_fused(job, dedupe(), mix).into()),
    ],
    notes: &["loop: a `HashSet` of the standard library, and a queue of its keys."],
    ..KEYED_STATE
};

const KEYED_STATE: Work = Work { max_rounds: 5, ..KEYED_WINDOW };

fn sliding_loop(job: &Job) -> u64 {
    let mut all = 0;
    let mut emit = |window: u64, key, sum| all = add(all, digest(window * SLIDE, key, sum));
    let mut open = OpenWindows::new();
    let (mut latest, mut next_end) = (SIZE, SIZE + SLIDE + LATENESS);
    for n in 0..job.items {
        let time = later(n);
        latest = latest.max(time);
        if latest >= next_end {
            let first_open = (latest - LATENESS - SIZE) / SLIDE + 1;
            open.close_before(first_open, &mut emit);
            next_end = first_open * SLIDE + SIZE + LATENESS;
        }
        let last = time / SLIDE;
        (last + 1 - SIZE / SLIDE..=last).for_each(|window| open.add(window, key(n), value(n)));
    }
    open.close_before(latest / SLIDE + 1, emit);
    all
}

fn windows() -> impl Stage<In = u64, Out = Keyed<u64, AggregateWindow<u64>>> {
    SlidingWindow::new(Duration::from_micros(SIZE))
        .with_slide(Duration::from_micros(SLIDE))
        .with_event_time(|n: &u64| at(later(*n)), Duration::from_micros(LATENESS))
        .with_key(|n: &u64| key(*n))
        .aggregate_by(folds::sum(|n: &u64| value(*n)))
}

fn added(all: u64, Keyed { key, window }: Keyed<u64, AggregateWindow<u64>>) -> u64 {
    add(all, digest(micros(window.start), key, window.result))
}

fn sessions_loop(job: &Job) -> u64 {
    #[derive(Clone, Copy)]
    struct Session {
        start: u64,
        last: u64,
        sum: u64,
    }
    let mut all = 0;
    let mut emit = |key: u64, session: Session| all = add(all, digest(session.start, key, session.sum));
    let mut open = HashMap::<u64, Session>::new();
    let mut next_look = GAP;
    for n in 0..job.items {
        let time = time(n);
        let first = Session { start: time, last: time, sum: value(n) };
        match open.entry(key(n)) {
            Found::Vacant(place) => _ = place.insert(first),
            Found::Occupied(mut found) => {
                let (key, session) = (*found.key(), found.get_mut());
                if time >= session.last + GAP {
                    emit(key, std::mem::replace(session, first));
                } else {
                    session.start = session.start.min(time);
                    session.last = session.last.max(time);
                    session.sum += value(n);
                }
            }
        }
        if time >= next_look {
            let ended = open.extract_if(|_, session| session.last + GAP + LATENESS <= time);
            ended.for_each(|(key, session)| emit(key, session));
            next_look = time + GAP / 2;
        }
    }
    open.into_iter().for_each(|(key, session)| emit(key, session));
    all
}

fn sessions() -> impl Stage<In = u64, Out = Keyed<u64, AggregateWindow<u64>>> {
    SessionWindow::new(|n: &u64| key(*n))
        .with_gap(Duration::from_micros(GAP))
        .with_event_time(|n: &u64| at(time(*n)), Duration::from_micros(LATENESS))
        .aggregate_by(folds::sum(|n: &u64| value(*n)))
}

fn batches_loop(job: &Job) -> u64 {
    let mut open = HashMap::<u64, Vec<u64>>::new();
    let mut all = 0;
    for n in 0..job.items {
        let batch = open.entry(key(n)).or_default();
        batch.push(n);
        if batch.len() == BATCH {
            all = batch_added(all, std::mem::take(batch));
        }
    }
    open.into_values().filter(|batch| !batch.is_empty()).fold(all, batch_added)
}

fn batches() -> impl Stage<In = u64, Out = Vec<u64>> {
    let config = BatchConfig { max_size: BATCH, max_latency: Duration::ZERO };
    Batcher::new(config).with_key(|n: &u64| key(*n), KEYS as usize)
}

fn batch_added(all: u64, batch: Vec<u64>) -> u64 {
    add(all, batch.into_iter().fold(0, mix))
}

fn dedupe_loop(job: &Job) -> u64 {
    let (mut seen, mut order) = (HashSet::new(), VecDeque::new());
    let mut is_new = |key: u64| {
        if !seen.insert(key) {
            return false;
        }
        order.push_back(key);
        if order.len() > KEYS as usize {
            order.pop_front().into_iter().for_each(|oldest| _ = seen.remove(&oldest));
        }
        true
    };
    (0..job.items).filter(|n| is_new(random(*n) % (2 * KEYS))).fold(0, mix)
}

fn dedupe() -> impl Stage<In = u64, Out = u64> {
    Dedupe::new(|n: &u64| random(*n) % (2 * KEYS)).with_max_keys(KEYS as usize)
}
