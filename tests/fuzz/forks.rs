//! Operators that make several streams of one.
//!
//! To add one: write a function that puts it behind a branch and gives all branches that come out, and put it into the
//! menu.

use std::rc::Rc;

use streamz::{
    AsyncMapper, Broadcast, Buffer, CancelToken, DeadLetter, DeadLetterQueue, FailureLimit, FanOut, Mapper,
    NoSubscriber, Overflow, Partition, Pipeline, Processor, Router, SlowSubscriber, Split, Stream,
};

use crate::case::{Branch, Case};
use crate::common::item::Item;
use crate::common::models;
use crate::common::seen::{Kind, Seen};
use crate::expected::Model;
use crate::operators::{capacity, panics};
use crate::sources::last_stage;
use crate::trace::Trace;

type Fork = fn(&mut Case<'_>, &Pipeline, Branch) -> Vec<Branch>;

const MENU: &[Fork] = &[dead_letters, fan_out, split, partition, routes, broadcast];

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
    /// One of the outputs of a stage behind the branch.
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

/// A way out that errors are not meant for. They come there all the same if the one that they are meant for is not read;
/// so they are taken out, and only items are left to compare.
fn items_only(from: &From, pipeline: &Pipeline, stream: Stream<Item>, model: Model) -> Branch {
    let (items, failed) = stream.dead_letters();
    drop(failed);
    from.way_out(items, &last_stage(pipeline), model)
}

/// Everything goes everywhere, but errors only to the first.
fn fan_out(case: &mut Case<'_>, pipeline: &Pipeline, branch: Branch) -> Vec<Branch> {
    let (n, buffer) = (case.rng.usize(1..4), capacity(&mut case.rng));
    let (token, (from, stream)) = (branch.stream.token().clone(), branch.open());
    let fan_out = FanOut::new(n);
    let fan_out = buffer.map_or(FanOut::new(n), |items| fan_out.with_buffer_size(items));
    let streams = fan_out.process(&token, stream);
    let feeder = last_stage(pipeline);
    case.log.note(format!("{} -> {feeder}: {n} of them, {buffer:?}", from.feeder));
    let way = |(index, stream)| match index {
        0 => from.way_out(stream, &feeder, Box::new(<[Seen]>::to_vec)),
        _ => items_only(&from, pipeline, stream, Box::new(|input| only(input, is_data))),
    };
    streams.into_iter().enumerate().map(way).collect()
}

/// All items go to each subscriber, if all of them are replayed; else each may miss some at the start or, if it is slow, on
/// the way. Error items are not replayed.
fn broadcast(case: &mut Case<'_>, pipeline: &Pipeline, branch: Branch) -> Vec<Branch> {
    let rng = &mut case.rng;
    let (n, late, keeps_hub, buffer) = (rng.usize(1..4), rng.usize(..3), rng.bool(), capacity(rng));
    let reads_errors = rng.bool();
    // Copies that are kept are no part of a record.
    let replay = if case.delivered.is_empty() { [0, 2, usize::MAX][rng.usize(..3)] } else { 0 };
    let slow = match rng.u8(..6) {
        0 => SlowSubscriber::DropOldest,
        1 => SlowSubscriber::Disconnect,
        _ => SlowSubscriber::Block,
    };
    let no_subscriber = if rng.bool() { NoSubscriber::Wait } else { NoSubscriber::Discard };
    // A record that comes as an error item is acknowledged only if each subscriber reads those, too.
    case.all_read &= slow == SlowSubscriber::Block && no_subscriber == NoSubscriber::Wait && late == 0 && reads_errors;
    let mut broadcast =
        Broadcast::new().with_replay(replay).with_slow_subscriber(slow).with_no_subscriber(no_subscriber);
    if let Some(items) = buffer {
        broadcast = broadcast.with_buffer_size(items);
    }
    let (token, (from, stream)) = (branch.stream.token().clone(), branch.open());
    let hub = broadcast.process(&token, stream);
    let feeder = last_stage(pipeline);
    case.log.note(format!(
        "{} -> {feeder}: {n} subscribers, {late} later, hub kept {keeps_hub}, {buffer:?}, replay {replay}, {slow:?}, \
         {no_subscriber:?}, errors read {reads_errors}",
        from.feeder
    ));
    let is_whole = slow == SlowSubscriber::Block && replay == usize::MAX;
    let branches = (0..n).map(|_| {
        let (items, failed) = hub.subscribe().dead_letters();
        if reads_errors {
            failed.spawn_for_each(|letter| _ = letter.map(|letter| letter.error().with_item_ref(Item::account)));
        } else {
            drop(failed);
        }
        let branch = from.way_out(items, &last_stage(pipeline), Box::new(|input| only(input, is_data)));
        Branch { drops: branch.drops || !is_whole, ..branch }
    });
    let branches = branches.collect();
    // They come and go while items flow, or after the end. The final report is taken when they have dropped their streams.
    for _ in 0..late {
        let (hub, count) = (hub.clone(), case.rng.usize(..10));
        case.actors.push(std::thread::spawn(move || {
            for item in hub.subscribe().into_iter().take(count) {
                item.inspect_err(|error| _ = error.with_item_ref(Item::account)).ok();
            }
        }));
    }
    if keeps_hub {
        case.held.push(Box::new(hub));
    }
    branches
}

/// The even ones and the rest, and with those the errors.
fn split(case: &mut Case<'_>, pipeline: &Pipeline, branch: Branch) -> Vec<Branch> {
    let (faults, buffer) = (panics(&mut case.rng), capacity(&mut case.rng));
    let (token, (from, stream)) = (branch.stream.token().clone(), branch.open());
    let mut split = Split::new(move |item: &Item| {
        faults.panic_only(item.value());
        item.value().is_multiple_of(2)
    });
    if let Some(items) = buffer {
        split = split.with_buffer_size(items);
    }
    let output = split.process(&token, stream);
    let feeder = last_stage(pipeline);
    case.log.note(format!("{} -> {feeder}: {buffer:?}, {faults:?}", from.feeder));
    let side = move |input: &[Seen], even: bool| {
        let each = models::each(input, faults, true, |value| vec![Seen::Value(value)]);
        only(&each, |seen| matches!(seen, Seen::Value(value) if value.is_multiple_of(2)) == even)
    };
    let matched = items_only(&from, pipeline, output.matched, Box::new(move |input| side(input, true)));
    vec![matched, from.way_out(output.rest, &feeder, Box::new(move |input| side(input, false)))]
}

/// By value; one place too many is offered, and what would go there is an error item.
fn partition(case: &mut Case<'_>, pipeline: &Pipeline, branch: Branch) -> Vec<Branch> {
    let (n, buffer, by_hash) = (case.rng.usize(1..4), case.rng.usize(..20), case.rng.bool());
    let (token, (from, stream)) = (branch.stream.token().clone(), branch.open());
    let partition = Partition::new(|item: &Item| item.value()).with_partitions(n).with_buffer_size(buffer);
    let place = move |value: u64, n: usize| usize::try_from(value).unwrap_or(0) % (n + 1);
    let output = match by_hash {
        true => partition.with_consistent_hashing().process(&token, stream),
        false => partition.with_partitioner(move |value: &u64, n| place(*value, n)).process(&token, stream),
    };
    let feeder = last_stage(pipeline);
    case.log.note(format!("{} -> {feeder}: {n} of them, {buffer}, by hash {by_hash}", from.feeder));
    let model = move |input: &[Seen], way: usize| {
        let one = |seen: &Seen| match *seen {
            Seen::Value(_) if by_hash => Some(seen.clone()),
            Seen::Value(value) if place(value, n) == way => Some(seen.clone()),
            Seen::Value(value) if place(value, n) == n => (way == 0).then_some(Seen::Made(Kind::Failed, Some(value))),
            Seen::Value(_) => None,
            _ => (way == 0).then(|| seen.clone()),
        };
        input.iter().filter_map(one).collect()
    };
    let way = |(way, stream)| {
        let model: Model = Box::new(move |input| model(input, way));
        let branch = match way {
            0 => from.way_out(stream, &feeder, model),
            _ => items_only(&from, pipeline, stream, model),
        };
        // Where a hash puts them cannot be predicted, but they come in order.
        Branch { drops: from.drops || (by_hash && n > 1), ..branch }
    };
    output.partitions.into_iter().enumerate().map(way).collect()
}

/// A router whose routes are read each for itself. One of them may be left out, so that its items are undeliverable.
fn routes(case: &mut Case<'_>, pipeline: &Pipeline, branch: Branch) -> Vec<Branch> {
    let (all_matches, left_out, buffer) = (case.rng.bool(), case.rng.usize(..6), case.rng.usize(..20));
    case.all_read &= left_out > 2;
    let (token, (from, stream)) = (branch.stream.token().clone(), branch.open());
    let plus = |n: u64| {
        Mapper::new(move |item: Item| {
            let value = item.value() + n;
            item.with_value(value)
        })
    };
    let call = |_: &CancelToken, item: &Item| streamz::ok(item.sibling(item.value() + 2));
    let mut router = Router::new()
        .with_buffer_size(buffer)
        .add_route("0", |item: &Item| item.value().is_multiple_of(3), plus(1))
        .add_route("1", |item: &Item| item.value().is_multiple_of(2), AsyncMapper::new(call).with_workers(2))
        .with_default(plus(3).then(Buffer::new(2)));
    if all_matches {
        router = router.all_matches();
    }
    let mut output = router.process_to_routes(&token, stream);
    case.log.note(format!("{} -> routes, all matches {all_matches}, {buffer}, without {left_out}", from.feeder));
    let mut branches = Vec::new();
    for (way, name) in ["0", "1", "default"].into_iter().enumerate().filter(|(way, _)| *way != left_out) {
        let model: Model = Box::new(move |input| {
            let one = |seen: &Seen| match *seen {
                Seen::Value(value) => {
                    let (third, even) = (value % 3 == 0, value % 2 == 0);
                    let goes = [third, even && (all_matches || !third), !third && !even][way];
                    goes.then_some(Seen::Value(value + way as u64 + 1))
                }
                _ => (way == 2).then(|| seen.clone()),
            };
            input.iter().filter_map(one).collect()
        });
        // A stage more, whose name is known.
        branches.push(match way {
            2 => {
                let stream = output.take(name).map(|item: Item| item);
                from.way_out(stream, &last_stage(pipeline), model)
            }
            _ => items_only(&from, pipeline, output.take(name), model),
        });
    }
    branches
}

fn only(input: &[Seen], wanted: impl Fn(&Seen) -> bool) -> Vec<Seen> {
    input.iter().filter(|seen| wanted(seen)).cloned().collect()
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

/// What stands for an item that failed, in the branch of the failed ones.
fn lost_value(seen: &Seen) -> u64 {
    match *seen {
        Seen::Made(_, Some(value)) => value,
        Seen::Passed(number) => 1_000_000 + number,
        _ => 2_000_000,
    }
}
