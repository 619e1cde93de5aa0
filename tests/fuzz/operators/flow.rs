//! Operators that govern how fast items flow, and that may drop some.

use std::time::{Duration, SystemTime};

use fastrand::Rng;
use streamz::{Debounce, DroppingBuffer, Mapper, Monitor, Processor, SlidingBuffer, Stage, Throttle, Timeout};

use super::{Op, Wire, through};
use crate::common::faults::panic_on_purpose;
use crate::common::item::Item;
use crate::common::seen::Seen;

const MENU: &[fn(&mut Rng) -> Op] = &[debounce, timeout, dropping_buffer, sliding_buffer, shedding, monitor];

pub(super) fn random(rng: &mut Rng) -> Op {
    MENU[rng.usize(..MENU.len())](rng)
}

fn span(rng: &mut Rng) -> Duration {
    Duration::from_micros([1, 20, 300, 3_600_000_000][rng.usize(..4)])
}

/// A part that passes items as they are, or drops some.
fn dropping(what: String, wire: Wire) -> Op {
    Op { any_order: true, drops: true, ..Op::whole(what, wire, <[Seen]>::to_vec) }
}

/// A stage alone, or among others on one thread.
fn wire<S: Stage<In = Item, Out = Item>>(rng: &mut Rng, stage: S) -> Wire {
    let same = || Mapper::new(|item: Item| item);
    match rng.u8(..4) {
        0 => through(same().fuse(stage)),
        1 => through(stage.fuse(same())),
        2 => through(same().fuse(stage).fuse(same())),
        _ => through(stage),
    }
}

/// What an operator may be told of each item that it drops.
fn hook(rng: &mut Rng) -> impl Fn(Item) + Send + Sync + 'static {
    let panics = rng.u8(..4) == 0;
    move |item| {
        if panics && item.value().is_multiple_of(3) {
            panic_on_purpose();
        }
    }
}

fn debounce(rng: &mut Rng) -> Op {
    let quiet = span(rng);
    dropping(format!("debounce by {quiet:?}"), wire(rng, Debounce::new(quiet)))
}

/// Adds an error item for each silence, which cannot be predicted unless no silence is that long.
fn timeout(rng: &mut Rng) -> Op {
    let after = span(rng);
    let op = Op::whole(format!("timeout after {after:?}"), wire(rng, Timeout::new(after)), <[Seen]>::to_vec);
    Op { any_order: true, known: after > Duration::from_secs(1), ..op }
}

fn dropping_buffer(rng: &mut Rng) -> Op {
    let (n, hook) = ([0, 1, 3, 100][rng.usize(..4)], hook(rng));
    dropping(format!("dropping buffer {n}"), through(DroppingBuffer::new(n).on_drop(hook)))
}

fn sliding_buffer(rng: &mut Rng) -> Op {
    let (n, hook) = ([1, 3, 100][rng.usize(..3)], hook(rng));
    dropping(format!("sliding buffer {n}"), through(SlidingBuffer::new(n).on_drop(hook)))
}

fn shedding(rng: &mut Rng) -> Op {
    let (rate, burst, hook) = ([1e3, 1e5, 1e9][rng.usize(..3)], rng.usize(1..5), hook(rng));
    let throttle = Throttle::new(rate).with_burst(burst).dropping().on_drop(hook);
    dropping(format!("throttle that sheds beyond {rate}, burst {burst}"), wire(rng, throttle))
}

/// Reports must not come to more than what went through, nor may what is done to them matter.
fn monitor(rng: &mut Rng) -> Op {
    let (interval, panics) = (Duration::from_micros([10, 300, 3_600_000_000][rng.usize(..3)]), rng.u8(..4) == 0);
    let monitor = Monitor::new(interval).on_stats(move |stats| {
        assert!(stats.count <= stats.total, "{stats:?}");
        if panics {
            panic_on_purpose();
        }
    });
    let monitor = monitor.with_timestamp(|item: &Item| SystemTime::UNIX_EPOCH + Duration::from_secs(item.value()));
    let op = Op::whole(format!("monitor every {interval:?}"), through(monitor), <[Seen]>::to_vec);
    Op { any_order: true, ..op }
}
