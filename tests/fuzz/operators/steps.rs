//! Operators with one thread, which can be fused.

use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;
use streamz::{
    BoxStage, Custom, Dedupe, Delay, Emit, FallibleMapper, Filter, FilterMap, FlatMap, KeyedScan, MapErr, Mapper,
    Operator, Processor, Recover, Sample, Scan, Skip, SkipWhile, SortByTime, Stage, StreamError, Take, TakeWhile, Tap,
    Throttle,
};

use super::{Op, Wire, boxed_up, capacity, dawdle, faults, panics, through};
use crate::common::faults::{Fault, Refused, panic_on_purpose};
use crate::common::item::Item;
use crate::common::models;
use crate::common::seen::{Kind, Seen};
use crate::expected::Model;

const MENU: &[fn(&mut Rng) -> Part] = &[
    map, try_map, filter, filter_map, flat_map, scan, keyed_scan, tap, take, take_while, skip, skip_while, sample,
    dedupe, recover, map_err, delay, throttle,
];

/// A step, not put anywhere yet.
struct Part {
    what: String,
    factory: Factory,
    model: Model,
    any_order: bool,
    ends_early: bool,
}

/// Makes a step's operator, once for each run.
type Factory = Box<dyn Fn() -> Step + Send + Sync>;

fn random(rng: &mut Rng) -> Part {
    MENU[rng.usize(..MENU.len())](rng)
}

/// A step as a stage of its own.
pub(super) fn alone(rng: &mut Rng) -> Op {
    // Not fused: errors overtake what it holds, so of a part of the input comes no beginning of the whole output.
    let sorts = rng.usize(..=MENU.len()) == 0;
    let Part { what, factory, model, any_order, ends_early } = if sorts { sort_by_time(rng) } else { random(rng) };
    let capacity = capacity(rng);
    let stage = custom(factory, capacity);
    let wire: Wire = match rng.u8(..6) {
        0 => boxed_up(stage),
        // On the thread of the next stage, which has its own here.
        1 => Box::new(move |stream| stream.inline().with(stage).spawn("inline")),
        _ => through(stage),
    };
    let op = Op::whole(format!("{what}, capacity {capacity:?}"), wire, model);
    Op { ordered: !sorts, any_order, ends_early, ..op }
}

/// Several steps on one thread, put together in one of the ways there are.
pub(super) fn fused(rng: &mut Rng) -> Op {
    let (count, capacity) = (rng.usize(2..5), capacity(rng));
    let parts: Vec<Part> = (0..count).map(|_| random(rng)).collect();
    let any_order = parts.iter().all(|part| part.any_order);
    let ends_early = parts.iter().any(|part| part.ends_early);
    let (mut whats, mut models, mut stages) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        whats.push(part.what);
        models.push(part.model);
        stages.push(custom(part.factory, capacity));
    }
    let mut stages = stages.into_iter();
    let how = rng.u8(..6);
    let mut next = || stages.next().expect("as many as there are");
    let wire: Wire = match (count, how) {
        (_, 3..) => {
            // One that the library knows to be plain among others.
            let plain = rng.bool().then(|| Mapper::new(|item: Item| item).boxed_stage());
            through(BoxStage::fused("boxed", plain.into_iter().chain(stages.map(Processor::boxed_stage))))
        }
        (2, 0) => through(next().fuse(next())),
        (2, 1) => {
            let (a, b) = (next(), next());
            Box::new(move |stream| stream.inline().with(a).with(b).spawn("inline"))
        }
        (2, _) => {
            let (a, b) = (next(), next());
            Box::new(move |stream| stream.stage("steps", |steps| steps.with(a).with(b)))
        }
        (3, 0) => through(next().fuse(next()).fuse(next())),
        (3, 1) => through(next().fuse(next().fuse(next())).with_name("fused")),
        (3, _) => {
            let (a, b, c) = (next(), next(), next());
            Box::new(move |stream| stream.stage("steps", |steps| steps.with(a).with(b).with(c)))
        }
        (_, 0) => through(next().fuse(next()).fuse(next().fuse(next()))),
        (_, 1) => through(next().fuse(next().fuse(next().fuse(next())))),
        (_, _) => through(next().fuse(next()).fuse(next()).fuse(next())),
    };
    let model = move |input: &[Seen]| models.iter().fold(input.to_vec(), |input, model| model(&input));
    let what = format!("fused [{}], capacity {capacity:?}", whats.join("; "));
    Op { any_order, ends_early, ..Op::whole(what, wire, model) }
}

/// A random step as a stage, for others to build with, its model, and whether it may end early.
pub(super) fn one(rng: &mut Rng) -> (String, Custom<impl Fn() -> Step + Send + Sync + 'static>, Model, bool) {
    let part = random(rng);
    (part.what, custom(part.factory, None), part.model, part.ends_early)
}

fn custom(factory: Factory, capacity: Option<usize>) -> Custom<Factory> {
    let custom = Custom::new("step", factory);
    match capacity {
        None => custom,
        Some(items) => custom.with_capacity(items),
    }
}

type MapFn = Box<dyn Fn(Item) -> Item + Send + Sync>;
type TryMapFn = Box<dyn Fn(&Item) -> Result<Item, Refused> + Send + Sync>;
type TestFn = Box<dyn Fn(&Item) -> bool + Send + Sync>;
type FilterMapFn = Box<dyn Fn(Item) -> Option<Item> + Send + Sync>;
type Items = Box<dyn Iterator<Item = Item> + Send>;
type FlatMapFn = Box<dyn Fn(Item) -> Items + Send + Sync>;
type ScanFn = Box<dyn Fn(&mut u64, Item) -> Item + Send + Sync>;
type SeeFn = Box<dyn Fn(&Item) + Send + Sync>;
type KeyFn = Box<dyn Fn(&Item) -> u64 + Send + Sync>;
type TimeFn = Box<dyn Fn(&Item) -> SystemTime + Send + Sync>;
type MapErrFn = Box<dyn Fn(StreamError) -> StreamError + Send + Sync>;
type RecoverFn = Box<dyn Fn(&StreamError) -> Option<Item> + Send + Sync>;

/// All steps as one type, so that any of them can be fused with any other.
macro_rules! steps {
    ($($name:ident($stage:ty)),* $(,)?) => {
        pub(super) enum Step {
            $($name(<$stage as Stage>::Op)),*
        }

        $(impl From<&$stage> for Step {
            fn from(stage: &$stage) -> Self {
                Step::$name(stage.start())
            }
        })*

        impl Operator for Step {
            type In = Item;
            type Out = Item;

            fn item(&mut self, item: Item, out: &mut impl Emit<Item>) {
                match self { $(Step::$name(op) => op.item(item, out)),* }
            }

            fn error(&mut self, error: StreamError, out: &mut impl Emit<Item>) {
                match self { $(Step::$name(op) => op.error(error, out)),* }
            }

            fn end(&mut self, out: &mut impl Emit<Item>) {
                match self { $(Step::$name(op) => op.end(out)),* }
            }

            fn resume(&mut self, out: &mut impl Emit<Item>) -> bool {
                match self { $(Step::$name(op) => op.resume(out)),* }
            }

            fn next_wake(&self) -> Option<Instant> {
                match self { $(Step::$name(op) => op.next_wake()),* }
            }

            fn timer(&mut self, now: Instant, out: &mut impl Emit<Item>) {
                match self { $(Step::$name(op) => op.timer(now, out)),* }
            }

            fn is_waiting(&self) -> bool {
                match self { $(Step::$name(op) => op.is_waiting()),* }
            }

            fn drain(&mut self, out: &mut impl Emit<Item>) {
                match self { $(Step::$name(op) => op.drain(out)),* }
            }

            fn held(&self) -> u64 {
                match self { $(Step::$name(op) => op.held()),* }
            }

            fn settles_in_order(&self) -> bool {
                match self { $(Step::$name(op) => op.settles_in_order()),* }
            }

            fn take_mark(&mut self, mark: StreamError, out: &mut impl Emit<Item>) -> Option<StreamError> {
                match self { $(Step::$name(op) => op.take_mark(mark, out)),* }
            }
        }
    };
}

steps! {
    Map(Mapper<Item, Item, MapFn>),
    TryMap(FallibleMapper<Item, Item, Refused, TryMapFn>),
    Filter(Filter<Item, TestFn>),
    FilterMap(FilterMap<Item, Item, FilterMapFn>),
    FlatMap(FlatMap<Item, Items, FlatMapFn>),
    Scan(Scan<Item, Item, u64, fn() -> u64, ScanFn>),
    KeyedScan(KeyedScan<Item, Item, u64, u64, KeyFn, fn() -> u64, ScanFn>),
    Tap(Tap<Item, SeeFn>),
    Take(Take<Item>),
    TakeWhile(TakeWhile<Item, TestFn>),
    Skip(Skip<Item>),
    SkipWhile(SkipWhile<Item, TestFn>),
    Sample(Sample<Item>),
    Dedupe(Dedupe<Item, u64, KeyFn>),
    SortByTime(SortByTime<Item, TimeFn>),
    MapErr(MapErr<Item, MapErrFn>),
    Recover(Recover<Item, RecoverFn>),
    Delay(Delay<Item>),
    Throttle(Throttle<Item>),
}

impl Part {
    /// A step that treats the input as a whole, in order.
    fn whole<S: Stage>(what: String, stage: S, model: impl Fn(&[Seen]) -> Vec<Seen> + 'static) -> Self
    where
        for<'a> Step: From<&'a S>,
    {
        let factory = Box::new(move || Step::from(&stage));
        Self { what, factory, model: Box::new(model), any_order: false, ends_early: false }
    }

    /// A step that treats each item by itself.
    fn each<S: Stage>(what: String, stage: S, model: impl Fn(&[Seen]) -> Vec<Seen> + 'static) -> Self
    where
        for<'a> Step: From<&'a S>,
    {
        Self { any_order: true, ..Self::whole(what, stage, model) }
    }
}

fn map(rng: &mut Rng) -> Part {
    let (faults, turns) = (panics(rng), rng.u32(..2));
    let f: MapFn = Box::new(move |item| {
        dawdle(turns);
        faults.panic_only(item.value());
        let value = item.value() + 1;
        item.with_value(value)
    });
    Part::each(format!("map, {faults:?}"), Mapper::new(f), move |input| {
        models::each(input, faults, false, |value| vec![Seen::Value(value + 1)])
    })
}

fn try_map(rng: &mut Rng) -> Part {
    let faults = faults(rng);
    let f: TryMapFn = Box::new(move |item| faults.check(item.value()).map(|()| item.sibling(item.value() + 3)));
    Part::each(format!("try_map, {faults:?}"), Mapper::fallible(f), move |input| {
        models::each(input, faults, true, |value| vec![Seen::Value(value + 3)])
    })
}

fn filter(rng: &mut Rng) -> Part {
    let (faults, modulus) = (panics(rng), rng.u64(2..7));
    let f: TestFn = Box::new(move |item| {
        faults.panic_only(item.value());
        !item.value().is_multiple_of(modulus)
    });
    Part::each(format!("filter by {modulus}, {faults:?}"), Filter::new(f), move |input| {
        models::each(input, faults, true, |value| {
            if value.is_multiple_of(modulus) { Vec::new() } else { vec![Seen::Value(value)] }
        })
    })
}

fn filter_map(rng: &mut Rng) -> Part {
    let (faults, modulus) = (panics(rng), rng.u64(2..7));
    let f: FilterMapFn = Box::new(move |item| {
        faults.panic_only(item.value());
        let value = item.value();
        (!value.is_multiple_of(modulus)).then(|| item.with_value(value + 2))
    });
    Part::each(format!("filter_map by {modulus}, {faults:?}"), FilterMap::new(f), move |input| {
        models::each(input, faults, false, |value| {
            if value.is_multiple_of(modulus) { Vec::new() } else { vec![Seen::Value(value + 2)] }
        })
    })
}

/// The closure fails nothing; the iterator panics after its first item, or at once.
fn flat_map(rng: &mut Rng) -> Part {
    let (faults, most) = (faults(rng), [2, 4, 50][rng.usize(..3)]);
    let f: FlatMapFn = Box::new(move |item: Item| {
        let value = item.value();
        let fault = faults.of(value);
        Box::new((0..value % most).map(move |more| {
            if fault == Fault::Panic || (fault == Fault::Fail && more > 0) {
                panic_on_purpose();
            }
            item.sibling(value + more)
        }))
    });
    Part::each(format!("flat_map below {most}, {faults:?}"), FlatMap::new(f), move |input| {
        let panicked = || Seen::Made(Kind::Panicked, None);
        let one = |seen: &Seen| match *seen {
            Seen::Value(value) => match (faults.of(value), value % most) {
                (Fault::Panic, 1..) => vec![panicked()],
                (Fault::Fail, 2..) => vec![Seen::Value(value), panicked()],
                (_, count) => (0..count).map(|more| Seen::Value(value + more)).collect(),
            },
            _ => vec![seen.clone()],
        };
        input.iter().flat_map(one).collect()
    })
}

fn scan(rng: &mut Rng) -> Part {
    let faults = panics(rng);
    let f: ScanFn = Box::new(move |sum, item| {
        faults.panic_only(item.value());
        *sum += item.value();
        item.with_value(*sum)
    });
    Part::whole(format!("scan, {faults:?}"), Scan::new((|| 0) as fn() -> u64, f), move |input| {
        models::running_sum(input, faults)
    })
}

/// No state expires: when it would depends on the run.
fn keyed_scan(rng: &mut Rng) -> Part {
    let (faults, keys, max_keys) = (panics(rng), rng.u64(1..7), rng.usize(1..5));
    let f: ScanFn = Box::new(move |sum, item| {
        faults.panic_only(item.value());
        *sum += item.value();
        item.with_value(*sum)
    });
    let key: KeyFn = Box::new(move |item| item.value() % keys);
    let scan = Scan::new((|| 0) as fn() -> u64, f).with_key(key, max_keys).with_ttl(Duration::from_secs(3_600));
    let scan = scan.on_removal(|_, _, _| None);
    Part::whole(format!("scan by key, {max_keys} of {keys}, {faults:?}"), scan, move |input| {
        models::sums_by_key(input, faults, max_keys, None, |value| value % keys)
    })
}

fn tap(rng: &mut Rng) -> Part {
    let faults = panics(rng);
    let f: SeeFn = Box::new(move |item| faults.panic_only(item.value()));
    Part::each(format!("tap, {faults:?}"), Tap::new(f), |input| input.to_vec())
}

fn take(rng: &mut Rng) -> Part {
    let n = [0, 1, 5, 30, 1_000][rng.usize(..5)];
    let part = Part::whole(format!("take {n}"), Take::new(n), move |input| models::take(input, n));
    Part { ends_early: true, ..part }
}

fn take_while(rng: &mut Rng) -> Part {
    let (faults, limit) = (panics(rng), rng.u64(..300));
    let f: TestFn = Box::new(move |item| {
        faults.panic_only(item.value());
        item.value() < limit
    });
    let part = Part::whole(format!("take_while below {limit}, {faults:?}"), TakeWhile::new(f), move |input| {
        models::take_while(input, faults, |value| value < limit)
    });
    Part { ends_early: true, ..part }
}

fn skip(rng: &mut Rng) -> Part {
    let n = [0, 1, 10][rng.usize(..3)];
    Part::whole(format!("skip {n}"), Skip::new(n), move |input| models::skip(input, n))
}

fn skip_while(rng: &mut Rng) -> Part {
    let (faults, limit) = (panics(rng), rng.u64(..20));
    let f: TestFn = Box::new(move |item| {
        faults.panic_only(item.value());
        item.value() < limit
    });
    Part::whole(format!("skip_while below {limit}, {faults:?}"), SkipWhile::new(f), move |input| {
        models::skip_while(input, faults, |value| value < limit)
    })
}

fn delay(rng: &mut Rng) -> Part {
    let (micros, most) = ([0, 1, 50][rng.usize(..3)], [1, 3, 1_000][rng.usize(..3)]);
    let stage = Delay::new(Duration::from_micros(micros)).with_max_items(most);
    Part::each(format!("delay by {micros} us, {most} at most"), stage, <[Seen]>::to_vec)
}

fn throttle(rng: &mut Rng) -> Part {
    let (rate, burst) = ([2e4, 1e6, 1e9][rng.usize(..3)], [1, 3, 1_000][rng.usize(..3)]);
    let stage = Throttle::new(rate).with_burst(burst);
    Part::each(format!("throttle to {rate}, burst {burst}"), stage, <[Seen]>::to_vec)
}

fn sample(rng: &mut Rng) -> Part {
    let (rate, seed) = ([0.3, 0.9, 1.0][rng.usize(..3)], rng.u64(..));
    Part::whole(format!("sample {rate}"), Sample::new(rate).with_seed(seed), move |input| {
        models::sample(input, rate, seed)
    })
}

fn dedupe(rng: &mut Rng) -> Part {
    let (faults, width) = (panics(rng), rng.u64(1..4));
    let f: KeyFn = Box::new(move |item| {
        faults.panic_only(item.value());
        item.value() / width
    });
    Part::whole(format!("dedupe by {width}, {faults:?}"), Dedupe::new(f), move |input| {
        models::dedupe(input, faults, |value| value / width)
    })
}

/// The values are the times, in seconds.
fn sort_by_time(rng: &mut Rng) -> Part {
    let (faults, lateness, most) = (panics(rng), [0, 3, 50, 1_000][rng.usize(..4)], [1, 4, 1_000][rng.usize(..3)]);
    let time: TimeFn = Box::new(move |item| {
        faults.panic_only(item.value());
        SystemTime::UNIX_EPOCH + Duration::from_secs(item.value())
    });
    let sorted = SortByTime::new(time, Duration::from_secs(lateness)).with_max_items(most);
    Part::whole(format!("sort by time, {lateness} late, {most} at most, {faults:?}"), sorted, move |input| {
        models::sorted_by_time(input, faults, (lateness, most), |value| value)
    })
}

/// Takes the items out of the errors that carry one.
fn map_err(_: &mut Rng) -> Part {
    let f: MapErrFn = Box::new(|error| {
        drop(error.take_item::<Item>());
        error
    });
    Part::each("map_err".to_owned(), MapErr::new(f), |input| {
        let one = |seen: &Seen| match *seen {
            Seen::Made(kind, _) => Seen::Made(kind, None),
            _ => seen.clone(),
        };
        input.iter().map(one).collect()
    })
}

/// Takes the items out of the errors that carry one, and makes good every other of them.
fn recover(_: &mut Rng) -> Part {
    let f: RecoverFn = Box::new(|error| match error.take_item::<Item>() {
        None => panic_on_purpose(),
        Some(item) => {
            let value = item.value();
            value.is_multiple_of(2).then(|| item.with_value(value + 11))
        }
    });
    Part::each("recover".to_owned(), Recover::new(f), |input| {
        let one = |seen: &Seen| match *seen {
            Seen::Made(_, Some(value)) if value.is_multiple_of(2) => Seen::Value(value + 11),
            Seen::Made(kind, Some(_)) => Seen::Made(kind, None),
            _ => seen.clone(),
        };
        input.iter().map(one).collect()
    })
}
