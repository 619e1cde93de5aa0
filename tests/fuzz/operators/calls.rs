//! What is wrapped around a call.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use fastrand::Rng;
use streamz::{AsyncMapper, CancelToken, Mapper, Processor, Retry};

use super::{Op, boxed_up, dawdle, panics};
use crate::common::faults::{Faults, Refused};
use crate::common::item::Item;
use crate::common::seen::{Kind, Seen};

const MENU: &[fn(&mut Rng) -> Op] = &[retry];

pub(super) fn random(rng: &mut Rng) -> Op {
    MENU[rng.usize(..MENU.len())](rng)
}

/// A call that fails as often as the item's value says, and then comes to something.
fn flaky(faults: Faults) -> impl Fn(&Item) -> Result<Item, Refused> + Send + Sync + 'static {
    let attempts: Mutex<BTreeMap<u64, u64>> = Mutex::default();
    move |item| {
        let mut attempts = attempts.lock().unwrap();
        let before = attempts.entry(item.number()).or_insert(0);
        let fails = *before < failures(item.value());
        *before += 1;
        drop(attempts);
        dawdle(u32::try_from(item.value() % 3).unwrap_or(0));
        faults.panic_only(item.value());
        if fails { Err(Refused(item.value())) } else { Ok(item.sibling(item.value() + 9)) }
    }
}

/// How often the call fails for an item of that value.
fn failures(value: u64) -> u64 {
    value % 4
}

fn retry(rng: &mut Rng) -> Op {
    let (faults, ordered, workers) = (panics(rng), rng.bool(), rng.usize(1..5));
    let (attempts, delay) = (rng.u32(1..5), Duration::from_micros([0, 0, 20][rng.usize(..3)]));
    let call = flaky(faults);
    let (fallible, seed) = (rng.u8(..4) == 0, rng.u64(..));
    let processor = if fallible {
        let retry = Retry::new(Mapper::fallible(move |item: &Item| call(item))).with_seed(seed);
        retry.max_attempts(attempts).base_delay(delay).boxed()
    } else {
        let mapper = AsyncMapper::new(move |_: &CancelToken, item: &Item| call(item)).with_workers(workers);
        let retry = Retry::new(mapper.with_ordered(ordered)).with_seed(seed);
        retry.max_attempts(attempts).base_delay(delay).boxed()
    };
    let what = format!(
        "retry, {attempts} attempts, {delay:?}, {workers} workers, ordered {ordered}, of a fallible mapper {fallible}, \
         {faults:?}"
    );
    let op = Op::each(what, boxed_up(processor), faults, true, move |value| {
        let fails = failures(value) >= u64::from(attempts);
        vec![if fails { Seen::Made(Kind::Failed, Some(value)) } else { Seen::Value(value + 9) }]
    });
    Op { ordered: ordered || fallible, hurries: true, ..op }
}
