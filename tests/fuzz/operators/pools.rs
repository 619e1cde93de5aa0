//! Operators with threads of their own, or with none.

use fastrand::Rng;
use streamz::{AsyncMapper, Buffer, CancelToken, ParMapper, Processor};

use super::{Op, boxed_up, capacity, dawdle, faults, panics, through};
use crate::common::faults::Faults;
use crate::common::item::Item;
use crate::common::seen::Seen;

const MENU: &[fn(&mut Rng) -> Op] = &[async_map, async_map, par_map, buffer, chain];

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
