//! Items put together by their time, and taken apart again.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use streamz::{
    Aggregate, AggregateWindow, AsyncMapper, BoxProcessor, Buffer, CancelToken, FanIn, Keyed, Mapper, Partition,
    Processor, Revised, SessionWindow, SlidingWindow, Stage, Stream, TumblingWindow, Unbatcher, Window,
};

use super::{Op, Wire, capacity, dawdle, panics, through};
use crate::common::faults::{Faults, panic_on_purpose};
use crate::common::item::Item;
use crate::common::seen::{Kind, Seen};

const MENU: &[fn(&mut Rng) -> Op] = &[
    tumbling,
    tumbling_keyed,
    sliding,
    session,
    joined,
    event_time,
    corrected,
    late,
    jumps,
    sliding_states,
    aggregate,
    merged,
];

pub(super) fn random(rng: &mut Rng) -> Op {
    MENU[rng.usize(..MENU.len())](rng)
}

/// A short time, in which a window may end in the midst of a case, or a long one, which never ends.
fn span(rng: &mut Rng) -> Duration {
    Duration::from_micros([1, 60, 500, 3_600_000_000][rng.usize(..4)])
}

fn max_count(rng: &mut Rng) -> usize {
    [1, 2, 5, usize::MAX][rng.usize(..4)]
}

fn max_keys(rng: &mut Rng) -> usize {
    [1, 2, 100][rng.usize(..3)]
}

fn seconds(value: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + value)
}

/// Makes windows and takes them apart: on one thread or on several.
fn wire<W: Stage<In = Item>>(
    rng: &mut Rng,
    window: W,
    items: impl Fn(W::Out) -> Vec<Item> + Send + Sync + 'static,
) -> Wire {
    let apart = Mapper::new(items).fuse(Unbatcher::new());
    match rng.u8(..3) {
        0 => through(window.then(apart)),
        1 => through(window.fuse(apart)),
        _ => through(Mapper::new(|item: Item| item).fuse(window).fuse(apart)),
    }
}

/// The number of windows that each item is in. Error items do not wait for the windows, so the order is lost.
fn each(what: String, wire: Wire, faults: Faults, copies: usize) -> Op {
    let op = Op::each(what, wire, faults, true, move |value| vec![Seen::Value(value); copies]);
    Op { ordered: false, ..op }
}

fn items(window: Window<Item>) -> Vec<Item> {
    window.items
}

fn items_of_key(keyed: Keyed<u64, Window<Item>>) -> Vec<Item> {
    keyed.window.items
}

fn tumbling(rng: &mut Rng) -> Op {
    let (size, most) = (span(rng), max_count(rng));
    let window = TumblingWindow::new(size).max_count(most);
    each(format!("tumbling windows of {size:?}, {most} at most"), wire(rng, window, items), Faults::None, 1)
}

fn tumbling_keyed(rng: &mut Rng) -> Op {
    let (size, most, keys, faults) = (span(rng), max_count(rng), max_keys(rng), panics(rng));
    let key = move |item: &Item| {
        faults.panic_only(item.value());
        item.value() % 5
    };
    let window = TumblingWindow::new(size).max_count(most).with_key(key).with_max_keys(keys);
    let what = format!("tumbling windows of {size:?}, {most} at most, {keys} keys, {faults:?}");
    each(what, wire(rng, window, items_of_key), faults, 1)
}

fn sliding(rng: &mut Rng) -> Op {
    let (slide, most, keys, faults) = (span(rng), max_count(rng), max_keys(rng), panics(rng));
    let key = move |item: &Item| {
        faults.panic_only(item.value());
        item.value() % 3
    };
    let window = SlidingWindow::new(slide * 3).with_slide(slide).max_count(most).with_key(key).with_max_keys(keys);
    let what = format!("three sliding windows of {slide:?}, {most} at most, {keys} keys, {faults:?}");
    each(what, wire(rng, window, items_of_key), faults, 3)
}

fn session(rng: &mut Rng) -> Op {
    let (gap, most, keys, faults) = (span(rng), max_count(rng), max_keys(rng), panics(rng));
    let longest = span(rng);
    let key = move |item: &Item| {
        faults.panic_only(item.value());
        item.value() % 3
    };
    let window = SessionWindow::new(key).with_gap(gap).with_max_duration(longest).max_count(most).with_max_keys(keys);
    let what = format!("sessions with gaps of {gap:?}, {longest:?} and {most} at most, {keys} keys, {faults:?}");
    each(what, wire(rng, window, items_of_key), faults, 1)
}

/// Sessions by value: an item may join two that were apart. In one case in four their states cannot be joined, and what
/// is lost with them cannot be predicted.
fn joined(rng: &mut Rng) -> Op {
    let (gap, faults, refuses) = (rng.u64(1..6), panics(rng), rng.u8(..4) == 0);
    let fold = move |state: &mut Vec<Item>, item: &Item| {
        faults.panic_only(item.value());
        state.push(item.clone());
    };
    let merge = move |state: &mut Vec<Item>, later: &Vec<Item>| {
        if refuses {
            panic_on_purpose();
        }
        state.extend(later.iter().cloned());
    };
    let window = SessionWindow::new(|item: &Item| item.value() % 2).with_gap(Duration::from_secs(gap));
    let window = window.with_event_time(|item: &Item| seconds(item.value()), Duration::from_secs(1_000_000_000));
    let window = window.aggregate(Vec::new, fold, merge);
    let what = format!("sessions by value with gaps of {gap}, refuses to join {refuses}, {faults:?}");
    let wire = wire(rng, window, |keyed: Keyed<u64, AggregateWindow<Vec<Item>>>| keyed.window.result);
    Op { known: !refuses, ..each(what, wire, faults, 1) }
}

/// The values are the times, in any order; none is too late.
fn event_time(rng: &mut Rng) -> Op {
    let (size, idle, faults) = (rng.u64(1..40), span(rng), panics(rng));
    let time = move |item: &Item| {
        faults.panic_only(item.value());
        seconds(item.value())
    };
    let size = Duration::from_secs(size);
    let window = TumblingWindow::new(size).with_event_time(time, Duration::from_secs(1_000_000_000));
    let window = window.with_idle_timeout(idle);
    let what = format!("tumbling windows of {size:?} by value, idle after {idle:?}, {faults:?}");
    each(what, wire(rng, window, items), faults, 1)
}

/// A window, and the bounds of those that it replaces.
type Correction = (Range<SystemTime>, Vec<Item>, Vec<Range<SystemTime>>);

fn correction(Revised { window, replaces, .. }: Revised<Window<Item>>) -> Correction {
    (window.start..window.end, window.items, replaces)
}

/// The values are the times, in any order, and each window is emitted as soon as it can be: a table that follows the
/// corrections has each item in as many results as cover it.
fn corrected(rng: &mut Rng) -> Op {
    fn follow<W: Stage<In = Item>>(
        window: W,
        correction: impl Fn(W::Out) -> Correction + Send + Sync + 'static,
    ) -> impl Stage<In = Item, Out = AggregateWindow<Vec<(Range<SystemTime>, Vec<Item>)>>> {
        let table = Aggregate::new(Vec::new, |table: &mut Vec<_>, (bounds, items, replaces): &Correction| {
            for replaced in replaces {
                table.swap_remove(table.iter().position(|(bounds, _)| bounds == replaced).expect("it was emitted"));
            }
            table.push((bounds.clone(), items.clone()));
        });
        window.fuse(Mapper::new(correction)).fuse(table)
    }
    let items = |table: AggregateWindow<Vec<(Range<SystemTime>, Vec<Item>)>>| {
        table.result.into_iter().flat_map(|(_, items)| items).collect()
    };
    let (size, kind, faults) = (Duration::from_secs(rng.u64(1..20)), rng.u8(..3), panics(rng));
    let time = move |item: &Item| {
        faults.panic_only(item.value());
        seconds(item.value())
    };
    let what = format!("corrected windows of kind {kind} and {size:?} by value, {faults:?}");
    let (none, always) = (Duration::ZERO, Duration::from_secs(1_000_000_000));
    match kind {
        0 => {
            let window = TumblingWindow::new(size).with_event_time(time, none).with_corrections(always);
            each(what, wire(rng, follow(window, correction), items), faults, 1)
        }
        1 => {
            let window = SlidingWindow::new(size * 3).with_slide(size).with_event_time(time, none);
            each(what, wire(rng, follow(window.with_corrections(always), correction), items), faults, 3)
        }
        _ => {
            let window = SessionWindow::new(|_: &Item| ()).with_gap(size).with_event_time(time, none);
            let window = window.with_corrections(always);
            let correction = |Keyed { window, .. }: Keyed<(), Revised<Window<Item>>>| correction(window);
            each(what, wire(rng, follow(window, correction), items), faults, 1)
        }
    }
}

/// What belongs to a window that ended before something that came earlier is too late.
fn late(rng: &mut Rng) -> Op {
    let seconds_long = rng.u64(1..40);
    let size = Duration::from_secs(seconds_long);
    let window = SlidingWindow::new(size).with_event_time(|item: &Item| seconds(item.value()), Duration::ZERO);
    let model = move |input: &[Seen]| {
        let mut greatest = 0;
        // Times begin at 1,000 seconds.
        let end = |value: u64| ((1_000 + value) / seconds_long + 1) * seconds_long - 1_000;
        let one = |seen: &Seen| match *seen {
            Seen::Value(value) if value < greatest && end(value) <= greatest => Seen::Made(Kind::Other, Some(value)),
            Seen::Value(value) => {
                greatest = value.max(greatest);
                Seen::Value(value)
            }
            _ => seen.clone(),
        };
        input.iter().map(one).collect()
    };
    let op = Op::whole(format!("windows of {size:?} by value, in order"), wire(rng, window, items), model);
    Op { ordered: false, ..op }
}

/// What is too far ahead of all that was accepted is refused.
fn jumps(rng: &mut Rng) -> Op {
    let (size, most) = (Duration::from_secs(rng.u64(1..40)), rng.u64(1..40));
    let window = TumblingWindow::new(size)
        .with_event_time(|item: &Item| seconds(item.value()), Duration::from_secs(1_000_000_000));
    let window = window.with_max_jump(Duration::from_secs(most));
    let model = move |input: &[Seen]| {
        let mut greatest = None;
        let one = |seen: &Seen| match *seen {
            Seen::Value(value) if greatest.is_some_and(|greatest| value > greatest + most) => {
                Seen::Made(Kind::Failed, Some(value))
            }
            Seen::Value(value) => {
                greatest = greatest.max(Some(value));
                Seen::Value(value)
            }
            _ => seen.clone(),
        };
        input.iter().map(one).collect()
    };
    let op = Op::whole(format!("windows of {size:?} by value, no jump over {most}"), wire(rng, window, items), model);
    Op { ordered: false, ..op }
}

/// Windows that keep a state in which the items are, and lose those on which the fold panics.
fn sliding_states(rng: &mut Rng) -> Op {
    let (slide, faults) = (span(rng), panics(rng));
    let fold = move |state: &mut Vec<Item>, item: &Item| {
        faults.panic_only(item.value());
        state.push(item.clone());
    };
    let merge = |state: &mut Vec<Item>, later: &Vec<Item>| state.extend(later.iter().cloned());
    let window = SlidingWindow::new(slide * 2).with_slide(slide).aggregate(Vec::new, fold, merge);
    let what = format!("two sliding windows of {slide:?} with a state, {faults:?}");
    each(what, wire(rng, window, |window: AggregateWindow<Vec<Item>>| window.result), faults, 2)
}

fn aggregate(rng: &mut Rng) -> Op {
    let (count, duration, faults, empty) = (max_count(rng), span(rng), panics(rng), rng.bool());
    let fold = move |state: &mut Vec<Item>, item: &Item| {
        faults.panic_only(item.value());
        state.push(item.clone());
    };
    let mut aggregate = Aggregate::new(Vec::new, fold).with_count_window(count).with_time_window(duration);
    // Windows as short as a turn, without end and without items, would keep the pipeline from coming to rest.
    let empty = empty && duration > Duration::from_micros(100);
    aggregate = aggregate.with_empty_windows(empty).with_trigger(|state| state.len() % 7 == 6);
    let what = format!("one value of {count} in {duration:?}, empty ones {empty}, {faults:?}");
    each(what, wire(rng, aggregate, |window: AggregateWindow<Vec<Item>>| window.result), faults, 1)
}

/// An item and its place in the input.
type Placed = (u64, Item);

/// Something between two stages that keeps the order and takes a random time.
fn in_order(rng: &mut Rng) -> BoxProcessor<Placed, Placed> {
    let (turns, every, queue) = (rng.u32(..20), rng.u64(1..40), rng.usize(..40));
    let pause = move |place: u64| dawdle(if place.is_multiple_of(every) { turns } else { 0 });
    match rng.u8(..4) {
        0 => Buffer::new(queue).boxed(),
        1 => AsyncMapper::new(move |_: &CancelToken, (place, item): &Placed| {
            pause(*place);
            streamz::ok((*place, item.sibling(item.value())))
        })
        .with_workers(2)
        .boxed(),
        _ => Mapper::new(move |(place, item): Placed| {
            pause(place);
            (place, item)
        })
        .boxed(),
    }
}

/// Several ways, each in order and none as fast as another, and windows by the place in the input: nothing is late.
fn merged(rng: &mut Rng) -> Op {
    let (ways, run, size, keyed) = (rng.usize(1..5), rng.u64(1..20), rng.u64(1..40), rng.bool());
    let parts: Vec<_> = (0..ways).map(|_| in_order(rng)).collect();
    let (behind, buffer) = (in_order(rng), capacity(rng));
    let (further, again) = (rng.bool(), rng.bool());
    let time = |(place, _): &Placed| seconds(*place);
    let window = TumblingWindow::new(Duration::from_secs(size)).with_event_time(time, Duration::ZERO);
    let wire: Wire = Box::new(move |stream: Stream<Item>| {
        let partition = Partition::new(move |(place, _): &Placed| place / run).with_partitions(ways);
        let mut partition = partition.with_partitioner(|run: &u64, n| usize::try_from(*run).unwrap_or(0) % n);
        if let Some(items) = buffer {
            partition = partition.with_buffer_size(items);
        }
        let token = stream.token().clone();
        // However long a way has nothing because the machine has no time for it, it is waited for.
        let fan_in = FanIn::new().with_idle_timeout(Duration::MAX);
        let ways = partition.process(&token, stream.enumerate()).partitions;
        let mut merged = fan_in.process(&token, ways.into_iter().zip(&parts).map(|(way, part)| way.through(part)));
        if further {
            merged = merged.through(&behind);
        }
        if again {
            merged = fan_in.process(&token, merged.fan_out::<1>());
        }
        let items = |window: Window<Placed>| window.items.into_iter().map(|(_, item)| item).collect::<Vec<_>>();
        let windows = if keyed {
            let window = window.with_key(|(place, _): &Placed| place % 3);
            merged.through(&window).map(move |keyed: Keyed<u64, Window<Placed>>| items(keyed.window))
        } else {
            merged.through(&window).map(items)
        };
        windows.through(&Unbatcher::new())
    });
    let what = format!(
        "{ways} ways by runs of {run}, {buffer:?}, merged, one more stage {further}, merged again {again}, windows of {size}, \
         keyed {keyed}"
    );
    each(what, wire, Faults::None, 1)
}
