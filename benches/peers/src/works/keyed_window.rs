//! Tumbling windows by event time: a sum for each key.
//!
//! Each function adds up digests of all sums, whatever their order.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::thread;
use std::time::{Duration, SystemTime};

use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;
use renoir::operator::window::EventTimeWindow;
use renoir::prelude::{RuntimeConfig, StreamContext};
use streamz::{AggregateWindow, Inline, Keyed, Pipeline, Stage, Stream, TumblingWindow, folds};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::{Inspect, Operator, Probe};
use timely::dataflow::{InputHandle, ProbeHandle};

use super::channels::{Channel, Crossbeam};
use crate::steps::{CAPACITY, add, mix};
use crate::work::{Bound, Entry, Figure, Goal, Job, Work};

/// The number of keys, and the length of a window.
#[derive(Clone, Copy)]
struct Shape {
    keys: u64,
    /// In microseconds. There is an item for each.
    window: u64,
}

const FEW: Shape = Shape { keys: 1_000, window: 100_000 };
const MANY: Shape = Shape { keys: 1_000_000, window: 2_000_000 };

/// Items come in blocks of this many, in reverse: none is later than this, in microseconds.
pub(super) const LATENESS: u64 = 8;

/// In microseconds.
#[inline]
pub(super) fn time(n: u64) -> u64 {
    n ^ (LATENESS - 1)
}

#[inline]
pub(super) fn value(n: u64) -> u64 {
    n & 0xFF
}

impl Shape {
    #[inline]
    fn key(self, n: u64) -> u64 {
        (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % self.keys
    }

    /// The number of the window that has the item.
    #[inline]
    fn window(self, n: u64) -> u64 {
        time(n) / self.window
    }
}

/// A digest of one key in a closed window.
pub(super) fn digest(window: u64, key: u64, sum: u64) -> u64 {
    mix(mix(mix(0, window), key), sum)
}

pub(super) static FEW_KEYS: Work = Work {
    name: "keyed-window",
    about: "Sums of tumbling windows by event time, for each of 1,000 keys. A window has 100,000 items; they come up to 8 us \
            late, and there is one item per microsecond of event time.",
    expected: |job| plain_loop(job, FEW),
    entries: &[
        Entry::new("loop", 20_000_000, 1, |job| plain_loop(job, FEW).into()),
        Entry::new("crossbeam", 5_000_000, 1, |job| crossbeam(job, FEW).into()),
        Entry::new("rayon", 20_000_000, 2, |job| rayon(job, FEW).into()),
        Entry::new("renoir:1", 5_000_000, 1, |job| renoir(job, FEW).into()),
        Entry::new("renoir:2", 5_000_000, 2, |job| renoir(job, FEW).into()),
        Entry::new("timely:1", 10_000_000, 1, |job| timely(job, FEW).into()),
        Entry::new("timely:2", 10_000_000, 2, |job| timely(job, FEW).into()),
        Entry::new("streamz", 5_000_000, 1, |job| streamz(job, window_of(FEW), added(FEW)).into()),
        Entry::new("streamz-fused", 5_000_000, 1, |job| streamz_fused(job, window_of(FEW), added(FEW)).into()),
    ],
    notes: &[
        "The number behind a system is that of its workers; those of loop, crossbeam and streamz are one.",
        "loop, crossbeam, rayon, timely: a `HashMap` of the standard library for each open window, with its default hasher; \
         loop, crossbeam and timely use the map of a closed window again.",
        "crossbeam: the loop by hand on a thread between a source and a sink, a message for each item and each sum.",
        "rayon: all items in a `Vec` that is built within the time; a map for each piece as long as a window, merged. No sum is \
         there before all items are.",
        "renoir: `add_timestamps`, `group_by`, `EventTimeWindow`, `fold`. Its windows begin with the first item of their key, so \
         that the times are rounded down to the beginning of a window beforehand; links and batches as it sets them.",
        "timely: an operator of our own on `unary_frontier`, as its examples do it; the number of the window is the time. \
         timely:2: both workers make half of the items and exchange them by key. No source that reads a single input \
         could do that.",
        "streamz: source, window and sink on a thread each. streamz-fused: an `Inline` piece, one thread.",
    ],
    ..KEYED_WINDOW
};

pub(super) static MANY_KEYS: Work = Work {
    name: "keyed-window-1e6",
    about: "The same with 1,000,000 keys and 2,000,000 items in a window, in at most five rounds; look at the peak, too.",
    expected: |job| plain_loop(job, MANY),
    entries: &[
        Entry::new("loop", 6_000_000, 1, |job| plain_loop(job, MANY).into()),
        Entry::new("rayon", 6_000_000, 2, |job| rayon(job, MANY).into()),
        Entry::new("renoir:1", 6_000_000, 1, |job| renoir(job, MANY).into()),
        Entry::new("timely:1", 6_000_000, 1, |job| timely(job, MANY).into()),
        Entry::new("streamz", 6_000_000, 1, |job| streamz(job, window_of(MANY), added(MANY)).into()),
        Entry::new("streamz-fused", 6_000_000, 1, |job| streamz_fused(job, window_of(MANY), added(MANY)).into()),
    ],
    notes: &[
        "The systems are those of `keyed-window`. Every key has a window open most of the time, so that the peak in MiB, less \
         the 4 of an empty program, is about the bytes for each key; two windows are open for a moment.",
    ],
    max_rounds: 5,
    ..KEYED_WINDOW
};

/// What the works with keyed state have in common.
pub(super) const KEYED_WINDOW: Work = Work {
    reference: "loop",
    goals: &[
        Goal {
            text: "streamz takes at most twice as long as the loop",
            figure: Figure::Ratio("streamz", "loop"),
            bound: Bound::AtMost(2.0),
        },
        Goal {
            text: "streamz-fused takes at most twice as long as the loop",
            figure: Figure::Ratio("streamz-fused", "loop"),
            bound: Bound::AtMost(2.0),
        },
    ],
    ..Work::BASE
};

/// The open windows of a program by hand.
pub(super) struct OpenWindows {
    /// The number of the first.
    first: u64,
    sums: VecDeque<HashMap<u64, u64>>,
    /// An empty map with room, from a window that was closed.
    spare: HashMap<u64, u64>,
}

impl OpenWindows {
    pub(super) fn new() -> Self {
        Self { first: 0, sums: VecDeque::new(), spare: HashMap::new() }
    }

    #[inline]
    pub(super) fn add(&mut self, window: u64, key: u64, value: u64) {
        let place = (window - self.first) as usize;
        while self.sums.len() <= place {
            self.sums.push_back(std::mem::take(&mut self.spare));
        }
        *self.sums[place].entry(key).or_default() += value;
    }

    /// Closes the windows up to that one, and passes their content to `emit`.
    pub(super) fn close_before(&mut self, window: u64, mut emit: impl FnMut(u64, u64, u64)) {
        while self.first < window {
            let mut closed = self.sums.pop_front().unwrap_or_default();
            closed.drain().for_each(|(key, sum)| emit(self.first, key, sum));
            self.spare = closed;
            self.first += 1;
        }
    }
}

/// Puts the items into their windows, and closes those that have ended.
fn sums(items: impl Iterator<Item = u64>, shape: Shape, mut emit: impl FnMut(u64, u64, u64)) {
    let mut open = OpenWindows::new();
    let (mut latest, mut next_end) = (0, shape.window + LATENESS);
    for n in items {
        latest = latest.max(time(n));
        if latest >= next_end {
            let window = (latest - LATENESS) / shape.window;
            open.close_before(window, &mut emit);
            next_end = (window + 1) * shape.window + LATENESS;
        }
        open.add(shape.window(n), shape.key(n), value(n));
    }
    open.close_before(latest / shape.window + 1, emit);
}

fn plain_loop(job: &Job, shape: Shape) -> u64 {
    let mut all = 0;
    sums(0..job.items, shape, |window, key, sum| all = add(all, digest(window, key, sum)));
    all
}

fn crossbeam(job: &Job, shape: Shape) -> u64 {
    let items = 0..job.items;
    let (sender, input) = Crossbeam::bounded(CAPACITY);
    let (output, results) = Crossbeam::bounded(CAPACITY);
    let source = thread::spawn(move || items.for_each(|n: u64| Crossbeam::send(&sender, n)));
    let windows = thread::spawn(move || {
        sums(Crossbeam::iter(&input), shape, |window, key, sum| Crossbeam::send(&output, (window, key, sum)));
    });
    let all = Crossbeam::iter(&results).fold(0, |all, (window, key, sum)| add(all, digest(window, key, sum)));
    [source, windows].into_iter().for_each(|thread| thread.join().unwrap());
    all
}

fn rayon(job: &Job, shape: Shape) -> u64 {
    type Sums = HashMap<(u64, u64), u64>;
    fn merged(mut one: Sums, mut other: Sums) -> Sums {
        if one.len() < other.len() {
            std::mem::swap(&mut one, &mut other);
        }
        other.into_iter().for_each(|(place, sum)| *one.entry(place).or_default() += sum);
        one
    }
    let items: Vec<u64> = (0..job.items).collect();
    let of_piece = |piece: &[u64]| {
        let mut sums = Sums::new();
        piece.iter().for_each(|&n| *sums.entry((shape.window(n), shape.key(n))).or_default() += value(n));
        sums
    };
    let pool = super::pool::rayon_pool(job.workers);
    let sums = pool.install(|| items.par_chunks(shape.window as usize).map(of_piece).reduce(Sums::new, merged));
    sums.into_iter().fold(0, |all, ((window, key), sum)| add(all, digest(window, key, sum)))
}

fn renoir(job: &Job, shape: Shape) -> u64 {
    let begin = move |n: u64| (time(n) / shape.window * shape.window) as i64;
    let (mut latest, mut watermark) = (0, 0);
    let next_watermark = move |n: &u64, _: &i64| {
        latest = latest.max(time(*n));
        let begun = (latest.saturating_sub(LATENESS) / shape.window * shape.window) as i64;
        (begun > watermark).then(|| {
            watermark = begun;
            begun
        })
    };
    let context = StreamContext::new(RuntimeConfig::local(job.workers as u64).unwrap());
    let all = context
        .stream_iter(0..job.items)
        .add_timestamps(move |n| begin(*n), next_watermark)
        .group_by(move |n| shape.key(*n))
        .window(EventTimeWindow::tumbling(shape.window as i64))
        .fold((0, 0), move |(window, sum), n| (*window, *sum) = (shape.window(*n), *sum + value(*n)))
        .unkey()
        .drop_timestamps()
        .map(|(key, (window, sum))| digest(window, key, sum))
        .fold_assoc(0, |all, digest| *all = add(*all, digest), |all, part| *all = add(*all, part))
        .collect_vec();
    context.execute_blocking();
    all.get().expect("the only host has the result")[0]
}

fn timely(job: &Job, shape: Shape) -> u64 {
    /// The number of items produced between two turns of the operators.
    const TURN: u64 = 4 * CAPACITY as u64;
    let items = job.items;
    let workers = timely::execute(timely::Config::process(job.workers), move |worker| {
        let (index, workers) = (worker.index() as u64, worker.peers() as u64);
        let mut input = InputHandle::new();
        let probe = ProbeHandle::new();
        let all = std::rc::Rc::new(std::cell::Cell::new(0));
        let sink = std::rc::Rc::clone(&all);
        worker.dataflow::<u64, _, _>(|scope| {
            let by_key = Exchange::new(move |n: &u64| shape.key(*n));
            input
                .to_stream(scope)
                .unary_frontier(by_key, "windows", move |_, _| {
                    let mut open = OpenWindows::new();
                    let mut capabilities = VecDeque::new();
                    move |(input, frontier), output| {
                        input.for_each_stamp(|capability, batches| {
                            for n in batches.flat_map(|batch| batch.drain(..)) {
                                let window = shape.window(n);
                                while open.first + capabilities.len() as u64 <= window {
                                    let next = open.first + capabilities.len() as u64;
                                    capabilities.push_back(capability.delayed(&next, 0));
                                }
                                open.add(window, shape.key(n), value(n));
                            }
                        });
                        while !capabilities.is_empty() && !frontier.less_equal(&open.first) {
                            let capability = capabilities.pop_front().expect("it is not empty");
                            let mut session = output.session(&capability);
                            open.close_before(open.first + 1, |window, key, sum| session.give((window, key, sum)));
                        }
                    }
                })
                .container::<Vec<(u64, u64, u64)>>()
                .inspect(move |&(window, key, sum)| sink.set(add(sink.get(), digest(window, key, sum))))
                .probe_with(&probe);
        });
        let mut latest = 0;
        let share = |Range { start, end }: Range<u64>| (start + index..end).step_by(workers as usize);
        for (at, n) in share(0..items).enumerate() {
            latest = latest.max(time(n));
            let begun = latest.saturating_sub(LATENESS) / shape.window;
            if begun > *input.time() {
                input.advance_to(begun);
                // The window before the last is done: no more than two are ever open.
                while probe.less_than(&(begun - 1)) {
                    worker.step();
                }
            }
            input.send(n);
            if (at as u64 + 1).is_multiple_of(TURN) {
                worker.step();
            }
        }
        input.close();
        while !probe.done() {
            worker.step();
        }
        all.get()
    });
    workers.expect("timely starts its threads").join().into_iter().map(|sum| sum.unwrap()).fold(0, add)
}

/// A time of so many microseconds.
pub(super) fn at(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

pub(super) fn micros(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).expect("no time is before the epoch").as_micros() as u64
}

fn window_of(shape: Shape) -> impl Stage<In = u64, Out = Keyed<u64, AggregateWindow<u64>>> {
    TumblingWindow::new(Duration::from_micros(shape.window))
        .with_event_time(|n: &u64| at(time(*n)), Duration::from_micros(LATENESS))
        .with_key(move |n: &u64| shape.key(*n))
        .aggregate_by(folds::sum(|n: &u64| value(*n)))
}

fn added(shape: Shape) -> impl Fn(u64, Keyed<u64, AggregateWindow<u64>>) -> u64 + Send + 'static {
    move |all, Keyed { key, window }| add(all, digest(micros(window.start) / shape.window, key, window.result))
}

/// Source, stage and sink on a thread each.
pub(super) fn streamz<S: Stage<In = u64>>(job: &Job, stage: S, f: impl Fn(u64, S::Out) -> u64 + Send + 'static) -> u64 {
    let pipeline = Pipeline::builder("state").capacity(CAPACITY).build();
    let all = Stream::from_iter(&pipeline, 0..job.items).through(&stage).fold(0, f).unwrap();
    pipeline.join();
    all
}

/// All on one thread.
pub(super) fn streamz_fused<S: Stage<In = u64>>(
    job: &Job,
    stage: S,
    f: impl Fn(u64, S::Out) -> u64 + Send + 'static,
) -> u64 {
    let pipeline = Pipeline::builder("state").capacity(CAPACITY).build();
    let all = Inline::from_iter(&pipeline, 0..job.items).with(stage).fold(0, f).unwrap();
    pipeline.join();
    all
}
