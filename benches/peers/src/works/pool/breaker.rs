//! Calls through a circuit breaker: one by one, and those of a pool while it is open.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Mutex;

use streamz::{AsyncMapper, Call, CallStage, CancelToken, CircuitBreaker, Pipeline, Stream, StreamError};

use super::ordered;
use crate::steps::{CAPACITY, add, mix, step};
use crate::work::{Bound, Entry, Figure, Goal, Job, Work};
use crate::works::channels::{Channel, Crossbeam, Flume, Kanal};

/// Represents a refused call.
const REFUSED: u64 = 1;

pub(in crate::works) static OPEN: Work = Work {
    name: "breaker-open",
    about: "Calls through a circuit breaker that is open, by two workers of a pool, in order: all of them are refused.",
    expected: |job| (0..job.items).fold(0, |sum, _| mix(sum, REFUSED)),
    reference: "crossbeam",
    entries: &[
        Entry::new("crossbeam", 2_000_000, 2, |job| by_hand::<Crossbeam>(job).into()),
        Entry::new("flume", 2_000_000, 2, |job| by_hand::<Flume>(job).into()),
        Entry::new("kanal", 2_000_000, 2, |job| by_hand::<Kanal>(job).into()),
        Entry::new("streamz", 2_000_000, 2, |job| open(job).into()),
    ],
    goals: &[Goal {
        text: "streamz takes less than 1.5 times as long as crossbeam",
        figure: Figure::Ratio("streamz", "crossbeam"),
        bound: Bound::Below(1.5),
    }],
    notes: &[
        "crossbeam, flume, kanal: the pool of `pool-0.3us-ordered`; the breaker is a lock around a flag and the outcomes of the \
         last hundred calls. A refusal is reported as a number.",
        "streamz: what was refused is an error item, with the item, the stage and the time.",
    ],
    ..Work::BASE
};

pub(in crate::works) static CALL: Work = Work {
    name: "breaker-call",
    about: "A call of a few instructions through a closed circuit breaker, on one thread and without a pipeline.",
    unit: "ns per call",
    expected: |job| (0..job.items).map(step).fold(0, add),
    reference: "by-hand",
    entries: &[
        Entry::new("bare", 100_000_000, 1, |job| calls(job, |n| Ok(works(n))).into()),
        Entry::new("by-hand", 20_000_000, 1, |job| closed_by_hand(job).into()),
        Entry::new("streamz", 10_000_000, 1, |job| closed(job).into()),
    ],
    goals: &[Goal {
        text: "streamz takes at most 12 ns for a call",
        figure: Figure::Nanos("streamz"),
        bound: Bound::AtMost(12.0),
    }],
    notes: &[
        "by-hand: a lock around a flag and the outcomes of the last hundred calls, taken before and after each call.",
    ],
    ..Work::BASE
};

/// The call: it always succeeds, but the compiler does not know.
#[inline]
fn works(n: u64) -> u64 {
    step(black_box(n))
}

/// The shortest breaker: the outcomes of the last hundred calls, and a flag.
#[derive(Default)]
struct Breaker {
    outcomes: VecDeque<bool>,
    failed: usize,
    open: bool,
}

struct Refused;

impl Breaker {
    fn record(&mut self, failed: bool) {
        if self.outcomes.len() == 100 {
            let oldest = self.outcomes.pop_front();
            self.failed -= usize::from(oldest == Some(true));
        }
        self.outcomes.push_back(failed);
        self.failed += usize::from(failed);
        self.open = self.outcomes.len() >= 10 && self.failed * 2 >= self.outcomes.len();
    }
}

fn guarded(breaker: &Mutex<Breaker>, n: u64) -> Result<u64, Refused> {
    if breaker.lock().unwrap().open {
        return Err(Refused);
    }
    let result = works(n);
    breaker.lock().unwrap().record(black_box(false));
    Ok(result)
}

fn calls(job: &Job, call: impl Fn(u64) -> Result<u64, Refused>) -> u64 {
    (0..job.items).fold(0, |sum, n| add(sum, call(n).unwrap_or(REFUSED)))
}

fn closed_by_hand(job: &Job) -> u64 {
    let breaker = Mutex::new(Breaker::default());
    calls(job, |n| guarded(&breaker, n))
}

fn closed(job: &Job) -> u64 {
    let mapper = AsyncMapper::new(|_: &CancelToken, n: &u64| streamz::ok(works(*n)));
    let (token, call) = (CancelToken::new(), CircuitBreaker::new(mapper).to_call());
    calls(job, |n| call.call(&token, &n).map_err(|_| Refused))
}

fn by_hand<C: Channel<Receiver<u64>: Clone>>(job: &Job) -> u64 {
    // The threads of the pool share it until the program ends.
    let breaker: &'static _ = Box::leak(Box::new(Mutex::new(Breaker { open: true, ..Breaker::default() })));
    ordered::by_hand::<C>(job, |n| guarded(breaker, n).unwrap_or(REFUSED))
}

fn open(job: &Job) -> u64 {
    let mapper = AsyncMapper::new(|_: &CancelToken, n: &u64| streamz::ok(works(*n))).with_workers(job.workers);
    let breaker = CircuitBreaker::new(mapper);
    breaker.circuit().force_open();
    let pipeline = Pipeline::builder("pool").capacity(CAPACITY).build();
    let mut sum = 0;
    let results = Stream::from_iter(&pipeline, 0..job.items).through(&breaker);
    results.for_each(|result: Result<u64, StreamError>| sum = mix(sum, result.unwrap_or(REFUSED))).unwrap();
    pipeline.join();
    sum
}
