//! Items put together, and taken apart again.

use std::time::Duration;

use fastrand::Rng;
use streamz::{BatchConfig, Batcher, Chunk, Mapper, Processor, Stage, Unbatcher};

use super::{Op, Wire, panics, steps, through};
use crate::common::faults::Faults;
use crate::common::item::Item;
use crate::common::models;
use crate::common::seen::{Kind, Seen};

const MENU: &[fn(&mut Rng) -> Op] = &[batches, batches, keyed, chunks, among_steps];

pub(super) fn random(rng: &mut Rng) -> Op {
    MENU[rng.usize(..MENU.len())](rng)
}

fn config(rng: &mut Rng) -> BatchConfig {
    let max_latency = [0, 1, 100, 3_600_000_000][rng.usize(..4)];
    BatchConfig { max_size: [1, 2, 7, 1_000][rng.usize(..4)], max_latency: Duration::from_micros(max_latency) }
}

/// What is done to a batch as a whole: it is lost to a panic that depends on its first item.
fn check(faults: Faults) -> Mapper<Vec<Item>, Vec<Item>, impl Fn(Vec<Item>) -> Vec<Item> + Send + Sync + 'static> {
    Mapper::new(move |items: Vec<Item>| {
        faults.panic_only(items[0].value());
        items
    })
}

/// The model of that, on batches that depend on the input alone.
fn checked(groups: Vec<Seen>, faults: Faults) -> Vec<Seen> {
    let one = |seen: Seen| match seen {
        Seen::Group(values) => match models::hit(faults, values[0], false) {
            Some(_) => vec![Seen::Made(Kind::Panicked, None)],
            None => values.into_iter().map(Seen::Value).collect(),
        },
        other => vec![other],
    };
    groups.into_iter().flat_map(one).collect()
}

/// Batches something, looks at the batches, and takes them apart: on one thread or on several.
fn wire<B: Stage<In = Item, Out = Vec<Item>>>(rng: &mut Rng, batcher: B, faults: Faults) -> Wire {
    match rng.u8(..5) {
        4 => through(batcher.boxed_stage().fuse(check(faults).boxed_stage()).boxed_stage().fuse(Unbatcher::new())),
        0 => through(batcher.then(check(faults)).then(Unbatcher::new())),
        1 => through(batcher.fuse(check(faults)).fuse(Unbatcher::new())),
        2 => through(batcher.fuse(check(faults).fuse(Unbatcher::new()))),
        _ => through(batcher.then(check(faults).fuse(Unbatcher::new()))),
    }
}

fn batches(rng: &mut Rng) -> Op {
    let (config, faults) = (config(rng), panics(rng));
    let timed = (1..1_000_000).contains(&config.max_latency.as_micros());
    let what = format!("batches of {} in {:?}, {faults:?}", config.max_size, config.max_latency);
    let (size, wire) = (config.max_size, wire(rng, Batcher::new(config), faults));
    let model = move |input: &[Seen]| checked(models::batches(input, Faults::None, size, 1, |_| 0), faults);
    // When batches depend on the time, so does which of them is lost.
    Op { any_order: faults == Faults::None, known: !timed || faults == Faults::None, ..Op::whole(what, wire, model) }
}

fn keyed(rng: &mut Rng) -> Op {
    let (config, keys) = (config(rng), rng.usize(1..4));
    let what = format!("batches of {} in {:?}, {keys} keys", config.max_size, config.max_latency);
    let batcher = Batcher::new(config).with_key(|item: &Item| item.value() % 5, keys);
    let wire = wire(rng, batcher, Faults::None);
    Op { ordered: false, any_order: true, ..Op::whole(what, wire, <[Seen]>::to_vec) }
}

fn chunks(rng: &mut Rng) -> Op {
    let (n, faults) = (rng.usize(1..9), panics(rng));
    let wire = wire(rng, Chunk::new(n), faults);
    let model = move |input: &[Seen]| checked(models::batches(input, Faults::None, n, 1, |_| 0), faults);
    Op { any_order: faults == Faults::None, ..Op::whole(format!("chunks of {n}, {faults:?}"), wire, model) }
}

/// A batcher in the midst of steps, on one thread.
fn among_steps(rng: &mut Rng) -> Op {
    let config = config(rng);
    let ((before, first, one, ends), (after, last, two, ends_too)) = (steps::one(rng), steps::one(rng));
    let what = format!("fused [{before}; batches of {} in {:?}; {after}]", config.max_size, config.max_latency);
    let wire = through(first.fuse(Batcher::new(config)).fuse(Unbatcher::new()).fuse(last));
    Op { ends_early: ends || ends_too, ..Op::whole(what, wire, move |input| two(&one(input))) }
}
