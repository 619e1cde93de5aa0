//! A branch that ends in an outbox, which may refuse records, confirm late, fail or panic.

use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use streamz::{BatchConfig, Pipeline};

use crate::case::{Branch, Case};
use crate::common::faults::{Fault, Faults};
use crate::common::item::Census;
use crate::common::outbox::Shelf;
use crate::common::seen::{Kind, Seen};
use crate::sources::last_stage;
use crate::trace::Trace;

/// An outbox, and whether it may fail permanently.
pub(crate) fn random(rng: &mut Rng, census: &Census) -> (Shelf, bool) {
    let mut shelf = Shelf::new(census.clone());
    if rng.bool() {
        shelf.refuses = Faults::Random { salt: rng.u64(..), fail_percent: rng.u64(..30), panic_percent: 0 };
    }
    if rng.u8(..4) == 0 {
        shelf.fails_at = Some((rng.u64(..100), if rng.bool() { Fault::Panic } else { Fault::Fail }));
    }
    // The pause after it takes 0.1 s.
    if rng.u8(..16) == 0 {
        shelf.fails_in = Some([1_000, 20][rng.usize(..2)]);
    }
    shelf.turns = rng.u32(..4);
    let may_fail = shelf.fails_at.is_some();
    (shelf, may_fail)
}

pub(crate) fn batches(rng: &mut Rng) -> BatchConfig {
    let max_latency = [0, 1, 100, 3_600_000_000][rng.usize(..4)];
    BatchConfig { max_size: [1, 2, 7, 1_000][rng.usize(..4)], max_latency: Duration::from_micros(max_latency) }
}

/// Writes the branch to an outbox. What comes out is an item of value 0 for each record that was written, and an error item
/// for each that was refused.
pub(crate) fn behind(case: &mut Case<'_>, pipeline: &Pipeline, branch: Branch) -> Branch {
    let Branch { stream, feeder, trace, ordered: _, known, drops } = branch;
    let ((shelf, may_fail), batches) = (random(&mut case.rng, &case.census), batches(&mut case.rng));
    case.may_stop |= may_fail;
    let refuses = shelf.refuses;
    case.log.note(format!("{feeder} -> outbox {shelf:?}, {batches:?}"));
    let census = case.census.clone();
    let stream = stream.deliver_through(shelf, batches).flat_map(move |written| {
        let census = census.clone();
        (0..written).map(move |_| census.item(0))
    });
    let model = move |input: &[Seen]| {
        let one = |seen: &Seen| match *seen {
            Seen::Value(value) if Shelf::is_refused(refuses, value) => Seen::Made(Kind::Failed, Some(value)),
            Seen::Value(_) => Seen::Value(0),
            _ => seen.clone(),
        };
        input.iter().map(one).collect()
    };
    let trace = Rc::new(Trace::Behind(trace, Box::new(model)));
    Branch { stream, feeder: last_stage(pipeline), trace, ordered: false, known, drops }
}
