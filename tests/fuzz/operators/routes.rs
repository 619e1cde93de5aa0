//! Several ways through, as one processor.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use streamz::{
    BoxProcessor, GroupBy, Interleave, Join, JoinSide, Partition, Processor, ProcessorFn, Router, Stream, Switch,
};

use super::{Op, Wire, boxed_up, capacity, panics};
use crate::common::faults::{Fault, Faults};
use crate::common::item::Item;
use crate::common::seen::{Kind, Seen};
use crate::expected::Model;

const MENU: &[fn(&mut Rng) -> Op] =
    &[router, router, switch, partition, group_by, zip, chain, join, merge_sorted, interleave];

pub(super) fn random(rng: &mut Rng) -> Op {
    MENU[rng.usize(..MENU.len())](rng)
}

/// No way is that of the errors.
const AROUND: usize = usize::MAX;

/// Which ways an item goes, and all that a model needs to know of it. The error items go one way, and only that.
#[derive(Clone, Copy)]
struct Ways {
    count: usize,
    /// Predicates panic on these.
    faults: Faults,
    /// The way of the errors.
    errors: usize,
    /// Which ways an item of that value goes.
    goes: fn(u64, usize) -> bool,
}

impl Ways {
    /// What goes in at one of them.
    fn input(self, input: &[Seen], way: usize) -> Vec<Seen> {
        let one = |seen: &Seen| match *seen {
            Seen::Value(value) if self.faults.of(value) == Fault::Panic => {
                (way == self.errors).then_some(Seen::Made(Kind::Panicked, Some(value)))
            }
            Seen::Value(value) => (self.goes)(value, way).then_some(Seen::Value(value)),
            _ => (way == self.errors).then(|| seen.clone()),
        };
        input.iter().filter_map(one).collect()
    }
}

/// A part that can be put behind a stream once, as a processor. If the part of the errors has come to its end, they go on
/// to another, which does not expect them: so the others are given items only.
fn once(wire: Wire, takes_errors: bool) -> BoxProcessor<Item, Item> {
    let wire = Mutex::new(Some(wire));
    ProcessorFn::new("route", move |_cancel, stream| {
        let wire = wire.lock().unwrap().take().expect("it is used once");
        let stream: Stream<Item> = stream;
        wire(if takes_errors { stream } else { stream.dead_letters().0 })
    })
    .boxed()
}

/// Something for each of the ways; and what all of them together make of an input.
fn parts(rng: &mut Rng, ways: Ways) -> (Vec<BoxProcessor<Item, Item>>, Op) {
    let (mut processors, mut whats) = (Vec::new(), Vec::new());
    let mut models: Vec<Model> = Vec::new();
    let mut whole = Op::whole(String::new(), Box::new(|stream| stream), <[Seen]>::to_vec);
    for way in 0..ways.count {
        let op = super::random(rng);
        processors.push(once(op.wire, way == ways.errors));
        whats.push(op.what);
        models.push(op.model);
        whole.any_order = op.any_order && (way == 0 || whole.any_order);
        whole.known &= op.known;
        whole.drops |= op.drops;
        whole.ends_early |= op.ends_early;
        whole.hurries |= op.hurries;
    }
    let model = move |input: &[Seen]| {
        let each = models.iter().enumerate();
        each.flat_map(|(way, model)| model(&ways.input(input, way))).collect()
    };
    let op = Op { what: whats.join(" | "), model: Box::new(model), ordered: false, ..whole };
    (processors, op)
}

/// Two copies, put together again.
fn zip(_: &mut Rng) -> Op {
    let wire: Wire = Box::new(|stream| {
        let [one, other] = stream.fan_out();
        one.zip(other).map(|(item, _copy): (Item, Item)| item)
    });
    Op { any_order: true, ..Op::whole("zip of two copies".to_owned(), wire, <[Seen]>::to_vec) }
}

/// Two copies, joined by the rest of the value and the place in the stream.
fn join(rng: &mut Rng) -> Op {
    let (within, keys) = (rng.usize(..3), rng.u64(1..4));
    let bound = rng.bool().then(|| 2 * within + 2 + rng.usize(..5));
    type Numbered = (u64, Item);
    let side = move || {
        let time = |(number, _): &Numbered| SystemTime::UNIX_EPOCH + Duration::from_secs(*number);
        JoinSide::new(move |(_, item): &Numbered| item.value() % keys, time, Duration::ZERO)
    };
    let wire: Wire = Box::new(move |stream| {
        // Behind a merge, items wait for the input that is behind, however many there are. A stage that puts items together has
        // one watermark.
        let stream = if bound.is_some() { stream.chunk(1).flatten() } else { stream };
        let [one, other] = stream.enumerate().fan_out();
        let join = Join::new(side(), side(), Duration::from_secs(within as u64));
        let join = join.with_max_items(bound.unwrap_or(usize::MAX));
        one.join(other, &join).map(|((_, item), _partner): (Numbered, Numbered)| item)
    });
    let model = move |input: &[Seen]| {
        let values = || input.iter().filter_map(|seen| if let Seen::Value(value) = seen { Some(*value) } else { None });
        let mut out: Vec<Seen> = input.iter().filter(|seen| !matches!(seen, Seen::Value(_))).cloned().collect();
        for (place, value) in values().enumerate() {
            let partners = values()
                .enumerate()
                .filter(|(other, of)| place.abs_diff(*other) <= within && of % keys == value % keys);
            out.extend(partners.map(|_| Seen::Value(value)));
        }
        out
    };
    let what = format!("join of two copies within {within}, {keys} keys, {bound:?} items at most");
    Op { ordered: false, any_order: within == 0, ..Op::whole(what, wire, model) }
}

/// The first of each two.
fn halve(stream: Stream<Item>) -> Stream<Item> {
    stream.enumerate().filter_map(|(number, item): (u64, Item)| (number % 2 == 0).then_some(item))
}

/// Two copies, merged by their places in the stream.
fn merge_sorted(_: &mut Rng) -> Op {
    let wire: Wire = Box::new(|stream| {
        let [one, other] = stream.enumerate().fan_out();
        let merged = one.merge_sorted([other], |(number, _): &(u64, Item)| *number);
        halve(merged.map(|(_, item): (u64, Item)| item))
    });
    Op { any_order: true, ..Op::whole("sorted merge of two copies".to_owned(), wire, <[Seen]>::to_vec) }
}

/// Two copies in turn, or one between two streams that are empty.
fn interleave(rng: &mut Rng) -> Op {
    let (segment_size, has_copies) = (rng.usize(1..4), rng.bool());
    let wire: Wire = Box::new(move |stream| {
        let token = stream.token().clone();
        if has_copies {
            let [one, other] = stream.fan_out();
            return halve(one.interleave([other]));
        }
        let empty = || Stream::from_iter(&token, Vec::new());
        Interleave::new().with_segment_size(segment_size).process(&token, [empty(), stream, empty()])
    });
    let what = format!("interleave, {segment_size} at a time, of copies: {has_copies}");
    Op { any_order: true, ..Op::whole(what, wire, <[Seen]>::to_vec) }
}

/// Between two streams that are empty.
fn chain(_: &mut Rng) -> Op {
    let wire: Wire = Box::new(|stream| {
        let token = stream.token().clone();
        let empty = || Stream::from_iter(&token, Vec::new());
        empty().chain([stream, empty()])
    });
    Op { any_order: true, ..Op::whole("chain with nothing".to_owned(), wire, <[Seen]>::to_vec) }
}

fn router(rng: &mut Rng) -> Op {
    let (faults, all_matches, has_default) = (panics(rng), rng.bool(), rng.bool());
    let goes = match (all_matches, has_default) {
        (true, true) => |value: u64, way: usize| match way {
            0 => value.is_multiple_of(2),
            1 => value.is_multiple_of(3),
            _ => !value.is_multiple_of(2) && !value.is_multiple_of(3),
        },
        (true, false) => |value: u64, way: usize| value.is_multiple_of(way as u64 + 2),
        (false, _) => |value: u64, way: usize| match way {
            0 => value.is_multiple_of(2),
            1 => value.is_multiple_of(3) && !value.is_multiple_of(2),
            _ => !value.is_multiple_of(2) && !value.is_multiple_of(3),
        },
    };
    let ways = Ways { count: 2 + usize::from(has_default), faults, errors: if has_default { 2 } else { 0 }, goes };
    let (processors, op) = parts(rng, ways);
    let mut processors = processors.into_iter();
    let mut next = || processors.next().expect("one for each way");
    let even = move |item: &Item| {
        faults.panic_only(item.value());
        item.value().is_multiple_of(2)
    };
    let mut router = Router::new().add_route("even", even, next());
    router = router.add_route("third", |item: &Item| item.value().is_multiple_of(3), next());
    if has_default {
        router = router.with_default(next());
    }
    if all_matches {
        router = router.all_matches();
    }
    let (buffer, merged) = (capacity(rng), capacity(rng));
    if let Some(items) = buffer {
        router = router.with_buffer_size(items);
    }
    if let Some(items) = merged {
        router = router.with_capacity(items);
    }
    let what = format!(
        "router, all matches {all_matches}, default {has_default}, {buffer:?} and {merged:?}, {faults:?}, of [{}]",
        op.what
    );
    Op { what, wire: boxed_up(router), ..op }
}

fn switch(rng: &mut Rng) -> Op {
    let (faults, buffer) = (panics(rng), rng.usize(..3));
    let goes = |value: u64, way: usize| (value % 5 < 2) == (way == 0);
    let (processors, op) = parts(rng, Ways { count: 2, faults, errors: 1, goes });
    let mut processors = processors.into_iter();
    let mut next = || processors.next().expect("one for each case");
    let low = move |item: &Item| {
        faults.panic_only(item.value());
        item.value() % 5 < 2
    };
    let switch = Switch::new().case("low", low, next()).with_default(next()).with_buffer_size(buffer);
    Op { what: format!("switch, {buffer}, {faults:?}, of [{}]", op.what), wire: boxed_up(switch), ..op }
}

fn partition(rng: &mut Rng) -> Op {
    let faults = panics(rng);
    let goes = |value: u64, way: usize| value % 3 == way as u64;
    let (processors, op) = parts(rng, Ways { count: 3, faults, errors: 0, goes });
    let key = move |item: &Item| {
        faults.panic_only(item.value());
        item.value()
    };
    let mut processors = processors.into_iter();
    let partition = Partition::new(key).with_partitions(3);
    let partition = partition.with_partitioner(|value: &u64, n| usize::try_from(*value).unwrap_or(0) % n);
    let each = partition.each(|_| processors.next().expect("one for each partition"));
    Op { what: format!("3 partitions, {faults:?}, of [{}]", op.what), wire: boxed_up(each), ..op }
}

/// Each key has one group, so the parts are used once. Error items go around them.
fn group_by(rng: &mut Rng) -> Op {
    let faults = panics(rng);
    let goes = |value: u64, way: usize| value % 3 == way as u64;
    let (processors, op) = parts(rng, Ways { count: 3, faults, errors: AROUND, goes });
    let key = move |item: &Item| {
        faults.panic_only(item.value());
        usize::try_from(item.value() % 3).expect("it is small")
    };
    let groups = GroupBy::new(key, move |way, items: Stream<Item>| items.through(&processors[*way])).with_max_groups(3);
    let through_groups = op.model;
    let model = move |input: &[Seen]| {
        let around = |seen: &Seen| match *seen {
            Seen::Value(value) => (faults.of(value) == Fault::Panic).then_some(Seen::Made(Kind::Panicked, Some(value))),
            _ => Some(seen.clone()),
        };
        input.iter().filter_map(around).chain(through_groups(input)).collect()
    };
    let what = format!("3 groups, {faults:?}, of [{}]", op.what);
    Op { what, wire: boxed_up(groups), model: Box::new(model), ..op }
}
