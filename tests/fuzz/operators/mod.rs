//! The operators that random pipelines are made of.
//!
//! To add one: write a function that makes it from random numbers, with its model; put it into the menu of its file.

mod batches;
mod calls;
mod flow;
mod keeping;
mod pools;
mod routes;
mod steps;
mod windows;

use fastrand::Rng;
use streamz::{Processor, ProcessorFn, Stream};

use crate::common::faults::Faults;
use crate::common::item::Item;
use crate::common::models;
use crate::common::seen::Seen;
use crate::expected::Model;

/// A part of a pipeline, from items to items.
pub(crate) struct Op {
    /// What it is, in the report of a failure.
    pub(crate) what: String,
    pub(crate) wire: Wire,
    pub(crate) model: Model,
    /// It keeps the order of its input.
    pub(crate) ordered: bool,
    /// What comes out, order apart, does not depend on the order of the input.
    pub(crate) any_order: bool,
    /// What comes out can be foretold.
    pub(crate) known: bool,
    /// It may leave out some.
    pub(crate) drops: bool,
    /// It may end before its input does, with records behind it that are given out again.
    pub(crate) ends_early: bool,
    /// It gives up early where the pipeline has a deadline.
    pub(crate) hurries: bool,
    /// Copies of an item may be processed after it is done, so a record may be acknowledged before they are gone.
    pub(crate) copies: bool,
}

/// Puts a part behind a stream.
pub(crate) type Wire = Box<dyn FnOnce(Stream<Item>) -> Stream<Item> + Send>;

/// Something random to put behind a stream.
pub(crate) fn random(rng: &mut Rng) -> Op {
    match rng.u8(..13) {
        0 | 1 => steps::fused(rng),
        2 => pools::random(rng),
        3 => batches::random(rng),
        4 => calls::random(rng),
        5 => windows::random(rng),
        6 => flow::random(rng),
        7 => routes::random(rng),
        _ => steps::alone(rng),
    }
}

/// Something random that loses nothing, not even on purpose.
pub(crate) fn keeping(rng: &mut Rng) -> Op {
    keeping::random(rng)
}

/// Any of a few capacities, or the default.
pub(crate) fn capacity(rng: &mut Rng) -> Option<usize> {
    [Some(0), Some(1), Some(2), Some(16), None][rng.usize(..5)]
}

fn faults(rng: &mut Rng) -> Faults {
    match rng.u8(..4) {
        0 | 1 => Faults::None,
        _ => Faults::Random { salt: rng.u64(..), fail_percent: rng.u64(..20), panic_percent: rng.u64(..20) },
    }
}

/// For closures that cannot fail.
pub(crate) fn panics(rng: &mut Rng) -> Faults {
    match faults(rng) {
        Faults::Random { salt, panic_percent, .. } => Faults::Random { salt, fail_percent: 0, panic_percent },
        other => other,
    }
}

/// Something for a closure to do that takes a random time.
fn dawdle(turns: u32) {
    for _ in 0..turns {
        std::thread::yield_now();
    }
}

fn through<P: Processor<In = Item, Out = Item>>(processor: P) -> Wire {
    Box::new(move |stream| stream.through(&processor))
}

/// The same behind a name and a trait object, as routers hold them.
fn boxed_up<P: Processor<In = Item, Out = Item>>(processor: P) -> Wire {
    let outer = ProcessorFn::new("outer", move |cancel, stream| processor.process(cancel, stream)).boxed();
    Box::new(move |stream| stream.through(&outer))
}

impl Op {
    /// A part that treats the input as a whole, in order.
    fn whole(what: String, wire: Wire, model: impl Fn(&[Seen]) -> Vec<Seen> + 'static) -> Self {
        Self {
            what,
            wire,
            model: Box::new(model),
            ordered: true,
            any_order: false,
            known: true,
            drops: false,
            ends_early: false,
            hurries: false,
            copies: false,
        }
    }

    /// A part that treats each item by itself.
    fn each(
        what: String,
        wire: Wire,
        faults: Faults,
        carried: bool,
        out: impl Fn(u64) -> Vec<Seen> + Copy + 'static,
    ) -> Self {
        let op = Self::whole(what, wire, move |input| models::each(input, faults, carried, out));
        Self { any_order: true, ..op }
    }
}
