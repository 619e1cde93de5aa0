//! Operators that make several streams of one.
//!
//! To add one: write a function that puts it behind a branch and gives all branches that come out, and put it into the
//! menu.

use std::rc::Rc;

use streamz::{
    DeadLetter, DeadLetterQueue, FailureLimit, FanOut, Mapper, Overflow, Partition, Pipeline, Router, Split, Stream,
};

use crate::case::{Branch, Case};
use crate::common::item::Item;
use crate::common::seen::Seen;
use crate::expected::Model;
use crate::operators::capacity;
use crate::sources::last_stage;
use crate::trace::Trace;

type Fork = fn(&mut Case<'_>, &Pipeline, Branch) -> Vec<Branch>;

const MENU: &[Fork] = &[dead_letters, fan_out, split, routed];

/// Something random that forks a stream.
pub(crate) fn random(case: &mut Case<'_>, pipeline: &Pipeline, branch: Branch) -> Vec<Branch> {
    MENU[case.rng.usize(..MENU.len())](case, pipeline, branch)
}

/// A branch behind which a stage is put.
struct From {
    feeder: String,
    trace: Rc<Trace>,
    ordered: bool,
    known: bool,
    drops: bool,
}

impl Branch {
    fn open(self) -> (From, Stream<Item>) {
        let Branch { stream, feeder, trace, ordered, known, drops } = self;
        (From { feeder, trace, ordered, known, drops }, stream)
    }
}

impl From {
    /// One of the ways out of a stage that stands behind the branch.
    fn way_out(&self, stream: Stream<Item>, feeder: &str, model: Model) -> Branch {
        Branch {
            stream,
            feeder: feeder.to_owned(),
            trace: Rc::new(Trace::Behind(Rc::clone(&self.trace), model)),
            ordered: self.ordered,
            known: self.known,
            drops: self.drops,
        }
    }
}

fn is_data(seen: &Seen) -> bool {
    matches!(seen, Seen::Value(_) | Seen::Group(_))
}

/// Failures go one way, items the other; the failed items become items again.
fn dead_letters(case: &mut Case<'_>, pipeline: &Pipeline, branch: Branch) -> Vec<Branch> {
    let (items_capacity, failed_capacity) = (capacity(&mut case.rng), case.rng.usize(..20));
    let overflow = match case.rng.u8(..8) {
        0 => Overflow::DropNewest,
        1 if failed_capacity > 0 => Overflow::DropOldest,
        _ => Overflow::Block,
    };
    let mut queue = DeadLetterQueue::new().with_failed_buffer_size(failed_capacity).with_overflow(overflow);
    if let Some(items) = items_capacity {
        queue = queue.with_capacity(items);
    }
    if case.rng.u8(..16) == 0 {
        case.may_stop = true;
        queue = queue.with_limit(FailureLimit::Count(case.rng.u64(..10)));
    }
    let token = branch.stream.token().clone();
    let (from, stream) = branch.open();
    let output = queue.process(&token, stream);
    let feeder = last_stage(pipeline);
    let census = case.census.clone();
    let revived = output.failed.map(move |letter: DeadLetter| match letter.into_item::<Item>() {
        Ok((item, _)) => item,
        Err(letter) => census.item(lost_value(&Seen::error(letter.error()))),
    });
    let revived_feeder = last_stage(pipeline);
    case.log.note(format!(
        "{} -> {feeder} {items_capacity:?}, {failed_capacity}, {overflow:?} -> {revived_feeder}",
        from.feeder
    ));
    let items: Model = Box::new(move |input| input.iter().filter(|seen| is_data(seen)).cloned().collect());
    let failed: Model = Box::new(move |input| {
        input.iter().filter(|seen| !is_data(seen)).map(|seen| Seen::Value(lost_value(seen))).collect()
    });
    let mut revived = from.way_out(revived, &revived_feeder, failed);
    revived.known &= overflow == Overflow::Block;
    vec![from.way_out(output.items, &feeder, items), revived]
}

/// Copies for two or three, errors for the first; for the others only when nobody reads that one.
fn fan_out(case: &mut Case<'_>, pipeline: &Pipeline, branch: Branch) -> Vec<Branch> {
    let mut fan_out = FanOut::new(case.rng.usize(2..4));
    let buffer = capacity(&mut case.rng);
    if let Some(items) = buffer {
        fan_out = fan_out.with_buffer_size(items);
    }
    let token = branch.stream.token().clone();
    let (from, stream) = branch.open();
    let streams = fan_out.process(&token, stream);
    let feeder = last_stage(pipeline);
    case.log.note(format!("{} -> {feeder} to {}, {buffer:?}", from.feeder, streams.len()));
    let copy = |(index, stream)| {
        let mut copy = from.way_out(stream, &feeder, Box::new(<[Seen]>::to_vec));
        copy.drops |= index > 0;
        copy
    };
    streams.into_iter().enumerate().map(copy).collect()
}

/// Even items go one way; odd ones and errors the other, errors only as long as it is read.
fn split(case: &mut Case<'_>, pipeline: &Pipeline, branch: Branch) -> Vec<Branch> {
    let mut split = Split::new(|item: &Item| item.value().is_multiple_of(2));
    let buffer = capacity(&mut case.rng);
    if let Some(items) = buffer {
        split = split.with_buffer_size(items);
    }
    let token = branch.stream.token().clone();
    let (from, stream) = branch.open();
    let output = split.process(&token, stream);
    let feeder = last_stage(pipeline);
    case.log.note(format!("{} -> {feeder} {buffer:?}", from.feeder));
    let belongs = |rest: u64| move |seen: &&Seen| !matches!(seen, Seen::Value(value) if value % 2 != rest);
    let only = |rest: u64| -> Model { Box::new(move |input| input.iter().filter(belongs(rest)).cloned().collect()) };
    let mut matched = from.way_out(output.matched, &feeder, only(0));
    matched.drops = true;
    vec![matched, from.way_out(output.rest, &feeder, only(1))]
}

/// Several ways for the items, which end in one.
fn routed(case: &mut Case<'_>, pipeline: &Pipeline, branch: Branch) -> Vec<Branch> {
    let same = || Mapper::new(|item: Item| item);
    let buffer = case.rng.usize(..5);
    let by_key = case.rng.bool();
    let (from, stream) = branch.open();
    let merged = if by_key {
        stream.through(&Partition::new(Item::value).with_partitions(3).with_buffer_size(buffer).each(|_| same()))
    } else {
        let router = Router::new().add_route("thirds", |item: &Item| item.value().is_multiple_of(3), same());
        stream.through(&router.with_default(same()).with_buffer_size(buffer))
    };
    let feeder = last_stage(pipeline);
    case.log.note(format!("{} -> {feeder} by key {by_key}, {buffer}", from.feeder));
    let mut merged = from.way_out(merged, &feeder, Box::new(<[Seen]>::to_vec));
    merged.ordered = false;
    vec![merged]
}

/// What stands for an item that failed, in the branch of the failed ones.
fn lost_value(seen: &Seen) -> u64 {
    match *seen {
        Seen::Made(_, Some(value)) => value,
        Seen::Passed(number) => 1_000_000 + number,
        _ => 2_000_000,
    }
}
