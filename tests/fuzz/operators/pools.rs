//! Operators with threads of their own, or with none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use streamz::{AsyncMapper, Buffer, CancelToken, ParMapper, Processor, Tap};

use super::{Op, boxed_up, capacity, dawdle, faults, panics, through};
use crate::common::faults::Faults;
use crate::common::item::Item;
use crate::common::seen::Seen;

const MENU: &[fn(&mut Rng) -> Op] = &[async_map, async_map, keyed, keyed, par_map, buffer, chain];

pub(super) fn random(rng: &mut Rng) -> Op {
    MENU[rng.usize(..MENU.len())](rng)
}

fn async_map(rng: &mut Rng) -> Op {
    let (faults, ordered, workers) = (faults(rng), rng.bool(), rng.usize(1..5));
    let (window, queue) = ([None, Some(workers), Some(workers + 3)][rng.usize(..3)], capacity(rng));
    let (capacity, turns) = (capacity(rng), rng.u64(1..5));
    let mut mapper = AsyncMapper::new(move |_: &CancelToken, item: &Item| {
        dawdle(u32::try_from(item.value() % turns).unwrap_or(0));
        faults.check(item.value()).map(|()| item.sibling(item.value() + 5))
    })
    .with_workers(workers)
    .with_ordered(ordered);
    if let Some(window) = window {
        mapper = mapper.with_window(window);
    }
    if let Some(queue) = queue {
        mapper = mapper.with_queue_size(queue);
    }
    if let Some(items) = capacity {
        mapper = mapper.with_capacity(items);
    }
    let what = format!(
        "async_map, {workers} workers, ordered {ordered}, window {window:?}, queue {queue:?}, capacity {capacity:?}, \
         {faults:?}"
    );
    Op { ordered, ..Op::each(what, boxed_up(mapper), faults, true, |value| vec![Seen::Value(value + 5)]) }
}

/// What calls of one key may not do.
#[derive(Default)]
struct Keys {
    /// In which order items came, by their numbers.
    places: BTreeMap<u64, u64>,
    /// Of each key: whether a call is in progress, and the place of the last item.
    calls: BTreeMap<u64, (bool, u64)>,
}

/// Calls of one key must come one at a time and in order; if they do not, the call panics, and that is an error item which
/// is not expected.
fn keyed(rng: &mut Rng) -> Op {
    let (faults, ordered, workers) = (faults(rng), rng.bool(), rng.usize(1..5));
    let (window, keys, turns) = ([workers, workers + 3, 1024][rng.usize(..3)], rng.u64(1..6), rng.u64(1..6));
    let seen = Arc::new(Mutex::new(Keys::default()));
    let note = {
        let seen = Arc::clone(&seen);
        Tap::new(move |item: &Item| {
            let places = &mut seen.lock().unwrap().places;
            let place = places.len() as u64 + 1;
            places.insert(item.number(), place);
        })
    };
    let call = move |_: &CancelToken, item: &Item| {
        let key = item.value() % keys;
        let enter = |seen: &mut Keys| {
            let place = seen.places[&item.number()];
            let (busy, last) = seen.calls.entry(key).or_default();
            let in_turn = !std::mem::replace(busy, true) && std::mem::replace(last, place) < place;
            assert!(in_turn, "key {key} has two calls at a time, or out of order");
        };
        enter(&mut seen.lock().unwrap());
        dawdle(u32::try_from(item.value() % turns).unwrap_or(0));
        seen.lock().unwrap().calls.entry(key).or_default().0 = false;
        faults.check(item.value()).map(|()| item.sibling(item.value() + 6))
    };
    let mapper = AsyncMapper::keyed(move |item: &Item| item.value() % keys, call);
    let mapper = mapper.with_workers(workers).with_ordered(ordered).with_window(window);
    let what = format!("{keys} keys, {workers} workers, ordered {ordered}, window {window}, {faults:?}");
    let op = Op::each(what, through(note.then(mapper)), faults, true, |value| vec![Seen::Value(value + 6)]);
    Op { ordered, ..op }
}

fn par_map(rng: &mut Rng) -> Op {
    let (faults, window, capacity) = (panics(rng), [1, 2, 5, 1024][rng.usize(..4)], capacity(rng));
    let what = format!("par_map, window {window}, capacity {capacity:?}, {faults:?}");
    Op::each(what, through(par_mapper(faults, window, capacity)), faults, false, |value| vec![Seen::Value(value + 7)])
}

fn par_mapper(faults: Faults, window: usize, capacity: Option<usize>) -> impl Processor<In = Item, Out = Item> {
    let mapper = ParMapper::new(move |item: Item| {
        faults.panic_only(item.value());
        let value = item.value() + 7;
        item.with_value(value)
    });
    let mapper = mapper.with_window(window);
    match capacity {
        None => mapper,
        Some(items) => mapper.with_capacity(items),
    }
}

fn buffer(rng: &mut Rng) -> Op {
    let n = [1, 3, 100][rng.usize(..3)];
    Op::each(format!("buffer {n}"), through(Buffer::new(n)), Faults::None, false, |value| vec![Seen::Value(value)])
}

/// Two pools, one after the other, as one processor.
fn chain(rng: &mut Rng) -> Op {
    let (faults, capacity) = (panics(rng), capacity(rng));
    let pools = par_mapper(faults, 3, capacity).then(par_mapper(Faults::None, 2, None));
    let what = format!("par_map twice, capacity {capacity:?}, {faults:?}");
    Op::each(what, through(pools), faults, false, |value| vec![Seen::Value(value + 14)])
}
