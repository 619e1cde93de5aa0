//! Where random pipelines get their items from.

use std::io::Cursor;
use std::thread::JoinHandle;
use std::time::Duration;

use fastrand::Rng;
use streamz::delivery::{DeliveryConfig, Failure, Replay};
use streamz::{Mapper, Pipeline, Restart, RestartAttempt, Sender, StageKind, Stream};

use crate::common::faults::{Fault, Faults, Refused};
use crate::common::inbox::{Fates, Letter, Letters, Records, is_stray};
use crate::common::item::{Census, Item};
use crate::common::seen::{Kind, Seen, put_in};
use crate::endings::spin;

/// A stream to build on.
pub(crate) struct Source {
    pub(crate) stream: Stream<Item>,
    /// What it is, in the report of a failure.
    pub(crate) what: String,
    pub(crate) input: Given,
    /// Feeders that are no threads of the pipeline.
    pub(crate) feeders: Vec<JoinHandle<()>>,
    /// Keeps the source open: to be dropped when the pipeline is to end.
    pub(crate) open: Option<Sender<Item>>,
    pub(crate) delivered: Option<Delivered>,
}

/// A source whose records are acknowledged.
pub(crate) struct Delivered {
    /// What became of them.
    pub(crate) fates: Fates,
    /// The stage that gives them.
    pub(crate) stage: String,
    /// Each must reach an outbox, or the reader of the error items.
    pub(crate) strict: bool,
}

/// What a source gives, as far as it can be told.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    /// The numbers from 0 on, as many as that stage has emitted in the end.
    Counted {
        stage: String,
    },
    /// All of that, or a part of it if the source was stopped.
    Listed(Vec<Seen>),
    Unknown,
}

/// How many items a source gives without giving way.
const MANY: u64 = 5_000;

/// How long a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Finite(u64),
    Endless,
}

impl Length {
    fn count(self) -> u64 {
        match self {
            Length::Finite(count) => count,
            Length::Endless => u64::MAX,
        }
    }

    /// The numbers from 0 on.
    fn values(self) -> impl Iterator<Item = u64> {
        self.values_from(0)
    }

    /// The numbers from `first` on. Who is to end an endless source may have to wait for a processor, while something unbounded
    /// gathers all that comes: after a while the source gives way before each item.
    fn values_from(self, first: u64) -> impl Iterator<Item = u64> {
        (first..self.count()).inspect(|value| {
            if *value >= MANY {
                spin(1);
            }
        })
    }
}

/// A source of that length. With `timed`, feeders may wait with a time limit.
pub(crate) fn random(rng: &mut Rng, pipeline: &Pipeline, census: &Census, length: Length, timed: bool) -> Source {
    match rng.u8(..12) {
        0 | 1 => {
            let census = census.clone();
            let items = length.values().map(move |value| census.item(value));
            let stream = Stream::from_iter(pipeline, items);
            Source::new(pipeline, stream, format!("from_iter, {length:?}"))
        }
        2 => panicking(rng, pipeline, census, length),
        3 => lines(rng, pipeline, census),
        4 => receiver(rng, pipeline, census, length),
        5 if length == Length::Endless => interval(rng, pipeline, census),
        7 => replay(rng, pipeline, census, length),
        8 | 9 => deliver(rng, pipeline, census, length),
        10 => from_fn(pipeline, census, length),
        11 => restarting(rng, pipeline, census, length),
        _ => channel(rng, pipeline, census, length, timed),
    }
}

impl Source {
    /// A stream of the numbers from 0 on, whose stage was the last one to be made.
    fn new(pipeline: &Pipeline, stream: Stream<Item>, what: String) -> Self {
        let input = Given::Counted { stage: last_source(pipeline) };
        Self { stream, what, input, feeders: Vec::new(), open: None, delivered: None }
    }
}

/// Records of an inbox, some of which have been given out too often and come as errors.
fn deliver(rng: &mut Rng, pipeline: &Pipeline, census: &Census, length: Length) -> Source {
    let mut inbox = records(rng, census, length);
    inbox.old = [None, None, Some(5)][rng.usize(..3)];
    let (fates, strict, old) = (inbox.fates.clone(), inbox.strict, inbox.old);
    let config = DeliveryConfig { max_deliveries: Some(1), ..delivery(rng) };
    let what = format!("deliver, {length:?}, {config:?}, old {old:?}, strict {strict}");
    let stream = Stream::deliver(pipeline, inbox, config).expect("it has an acker");
    let source = Source::new(pipeline, stream, what);
    let input = match (length, old) {
        (_, None) => source.input.clone(),
        (Length::Endless, _) => Given::Unknown,
        (Length::Finite(count), Some(old)) => Given::Listed(
            (0..count)
                .map(|value| match value % old == old - 1 {
                    true => Seen::Made(Kind::Failed, Some(value)),
                    false => Seen::Value(value),
                })
                .collect(),
        ),
    };
    let delivered = Delivered { fates, stage: last_source(pipeline), strict };
    Source { input, delivered: Some(delivered), ..source }
}

fn records(rng: &mut Rng, census: &Census, length: Length) -> Records<Item> {
    let mut inbox: Records<Item> = Records::new(length.count(), |item| item, census.clone());
    inbox.strict = rng.bool();
    inbox
}

fn delivery(rng: &mut Rng) -> DeliveryConfig {
    DeliveryConfig {
        fetch: [1, 7, 512][rng.usize(..3)],
        epoch: [1, 2, 5, 64][rng.usize(..4)],
        // What the operators hold must have room in it.
        max_unacked: 2_000,
        ack_interval: Duration::from_micros([0, 500][rng.usize(..2)]),
        keep_alive: Some(Duration::ZERO),
        ..DeliveryConfig::default()
    }
}

/// The records of an inbox of dead letters. Some are none, a filter passes over others, and there may be a limit.
fn replay(rng: &mut Rng, pipeline: &Pipeline, census: &Census, length: Length) -> Source {
    let inbox = records(rng, census, length);
    let (fates, strict, config) = (inbox.fates.clone(), inbox.strict, delivery(rng));
    let modulus = if strict { None } else { [None, Some(3)][rng.usize(..2)] };
    let faults = if rng.bool() { Faults::None } else { Faults::Random { salt: 1, fail_percent: 0, panic_percent: 10 } };
    let limit = [u64::MAX, u64::MAX, 0, 20][rng.usize(..4)];
    let passed_over = move |value: u64| modulus.is_some_and(|modulus| value.is_multiple_of(modulus));
    let filter = move |_: &Failure, letter: &Letter<Item>| {
        faults.panic_only(letter.item.value());
        !passed_over(letter.item.value())
    };
    let what = format!(
        "replay, {length:?}, {config:?}, strict {strict}, without every {modulus:?}, limit {limit}, filter {faults:?}"
    );
    let settings = Replay::new().with_filter(filter).with_limit(limit).with_config(config);
    let stream = Stream::replay(pipeline, Letters(inbox), settings).expect("it has an acker");
    let report = pipeline.report();
    let stage = report.stages.iter().rev().find(|stage| stage.kind == StageKind::Source).expect("a source");
    let delivered = Delivered { fates, stage: stage.name.to_string(), strict };
    // The errors carry letters, not items.
    let one = move |value| match (is_stray(value), faults.of(value)) {
        (true, _) => Some(Seen::Made(Kind::Failed, None)),
        (_, Fault::Panic) => Some(Seen::Made(Kind::Panicked, None)),
        _ => (!passed_over(value)).then_some(Seen::Value(value)),
    };
    let input = match length {
        Length::Endless => Given::Unknown,
        Length::Finite(count) => {
            let mut left = limit;
            let within = |seen: &Seen| {
                let more = left > 0;
                left -= u64::from(more && matches!(seen, Seen::Value(_)));
                more
            };
            Given::Listed((0..count).filter_map(one).take_while(within).collect())
        }
    };
    Source { input, delivered: Some(delivered), ..Source::new(pipeline, stream, what) }
}

/// An iterator that panics after a while, which cuts its stream.
fn panicking(rng: &mut Rng, pipeline: &Pipeline, census: &Census, length: Length) -> Source {
    let (census, end) = (census.clone(), rng.u64(..20));
    let items = length.values().map(move |value| {
        Faults::At { value: end, fault: Fault::Panic }.panic_only(value);
        census.item(value)
    });
    let stream = Stream::from_iter(pipeline, items);
    Source::new(pipeline, stream, format!("from_iter, panics at {end}, {length:?}"))
}

/// A closure that makes the items.
fn from_fn(pipeline: &Pipeline, census: &Census, length: Length) -> Source {
    let (census, mut values) = (census.clone(), length.values());
    let stream = Stream::from_fn(pipeline, move |_| streamz::ok(values.next().map(|value| census.item(value))));
    Source::new(pipeline, stream, format!("from_fn, {length:?}"))
}

/// A source that fails again and again, and continues where it was, or starts again at the beginning.
fn restarting(rng: &mut Rng, pipeline: &Pipeline, census: &Census, length: Length) -> Source {
    let (census, run) = (census.clone(), rng.u64(1..20));
    let from_the_start = length != Length::Endless && rng.bool();
    let build = move |attempt: &RestartAttempt| {
        let (census, breaks) = (census.clone(), attempt.sent() + run);
        let values = length.values_from(if from_the_start { 0 } else { attempt.sent() });
        streamz::ok(values.map(move |value| if value == breaks { Err(Refused(value)) } else { Ok(census.item(value)) }))
    };
    let restart = if from_the_start { Restart::from_start(build) } else { Restart::resuming(build) };
    let restart = restart.base_delay(Duration::from_micros([0, 20][rng.usize(..2)]));
    let stream = Stream::restarting(pipeline, restart);
    Source::new(pipeline, stream, format!("restarting after {run}, from the start {from_the_start}, {length:?}"))
}

/// The last stage that was made, unless a `group_by` makes others just now.
pub(crate) fn last_stage(pipeline: &Pipeline) -> String {
    last_of(pipeline, &[StageKind::Source, StageKind::Processor])
}

/// The last source that was made.
fn last_source(pipeline: &Pipeline) -> String {
    last_of(pipeline, &[StageKind::Source])
}

fn last_of(pipeline: &Pipeline, kinds: &[StageKind]) -> String {
    let report = pipeline.report();
    let stage = report.stages.iter().rev().find(|stage| kinds.contains(&stage.kind));
    stage.expect("a stage").name.to_string()
}

fn lines(rng: &mut Rng, pipeline: &Pipeline, census: &Census) -> Source {
    let count = rng.u64(..50);
    let text: String = (0..count).map(|value| format!("{value}\n")).collect();
    let lines = Stream::lines(pipeline, Cursor::new(text));
    let input = Given::Counted { stage: last_source(pipeline) };
    let census = census.clone();
    let parse =
        Mapper::fallible(move |line: &String| line.parse().map(|value| census.item(value)).map_err(|_| Refused(0)));
    Source {
        stream: lines.through(&parse),
        what: format!("{count} lines"),
        input,
        feeders: Vec::new(),
        open: None,
        delivered: None,
    }
}

/// Ticks, which cannot be predicted.
fn interval(rng: &mut Rng, pipeline: &Pipeline, census: &Census) -> Source {
    let period = Duration::from_micros(rng.u64(1..300));
    let ticks = Stream::interval(pipeline, period);
    let census = census.clone();
    let stream = ticks.map(move |tick| census.item(tick));
    Source { input: Given::Unknown, ..Source::new(pipeline, stream, format!("interval {period:?}")) }
}

/// A crossbeam channel, fed by a thread that is none of the pipeline's.
fn receiver(rng: &mut Rng, pipeline: &Pipeline, census: &Census, length: Length) -> Source {
    let capacity = [Some(0), Some(1), Some(16), None][rng.usize(..4)];
    // An endless channel without a bound would fill the memory.
    let capacity = if length == Length::Endless { capacity.or(Some(16)) } else { capacity };
    let (sender, receiver) = capacity.map_or_else(crossbeam_channel::unbounded, crossbeam_channel::bounded);
    let (census, turns) = (census.clone(), rng.u32(..3));
    let feeder = std::thread::spawn(move || {
        for value in length.values() {
            spin(turns);
            if sender.send(census.item(value)).is_err() {
                return;
            }
        }
    });
    let stream = Stream::from_receiver(pipeline, receiver);
    let what = format!("from_receiver, capacity {capacity:?}, {length:?}");
    Source { feeders: vec![feeder], ..Source::new(pipeline, stream, what) }
}

/// A channel of ours, fed by a thread of the pipeline or of the test, now and then with errors among the items.
fn channel(rng: &mut Rng, pipeline: &Pipeline, census: &Census, length: Length, timed: bool) -> Source {
    let capacity = [0, 1, 2, 16, 256][rng.usize(..5)];
    let (sender, stream) = Stream::channel(pipeline, capacity);
    let (open, own_thread, finishes, errors) = (rng.bool(), rng.bool(), rng.bool(), rng.u8(..3) == 0);
    let what = format!(
        "channel, capacity {capacity}, own thread {own_thread}, kept open {open}, finishes {finishes}, errors \
         {errors}, {length:?}"
    );
    let mut source = Source::new(pipeline, stream, what);
    source.open = open.then(|| sender.clone());
    let fails = move |value: u64| errors && value % 5 == 4;
    if errors {
        source.input = match length {
            Length::Endless => Given::Unknown,
            Length::Finite(count) => {
                let events = |value| [Some(Seen::Value(value)), fails(value).then_some(Seen::Passed(value))];
                Given::Listed((0..count).flat_map(events).flatten().collect())
            }
        };
    }
    let (census, mut rng) = (census.clone(), rng.fork());
    let feed = move || {
        for value in length.values() {
            if !push(&mut rng, timed, &sender, census.item(value)) {
                return;
            }
            if fails(value) && sender.send_error(put_in(value)).is_err() {
                return;
            }
        }
        if finishes {
            sender.finish();
        }
    };
    if own_thread {
        source.feeders.push(std::thread::spawn(feed));
    } else {
        pipeline.spawn("feeder", move |_| feed());
    }
    source
}

/// Sends in one of the ways there are: false when the stream is closed.
fn push(rng: &mut Rng, timed: bool, sender: &Sender<Item>, item: Item) -> bool {
    let sent = match rng.u8(..4) {
        0 => sender.try_send(item),
        1 if timed => sender.send_timeout(item, Duration::from_micros(10)),
        _ => sender.send(item),
    };
    match sent {
        Err(refused) if refused.is_full() => sender.send(refused.into_inner()).is_ok(),
        sent => sent.is_ok(),
    }
}
