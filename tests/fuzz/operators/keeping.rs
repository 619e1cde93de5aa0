//! Operators that let every item through, sooner or later, and never fail.

use std::time::Duration;

use fastrand::Rng;
use streamz::{
    AsyncMapper, BatchConfig, Batcher, Buffer, CancelToken, Keyed, Mapper, ParMapper, Processor, TumblingWindow,
    Unbatcher, Window,
};

use super::{Op, dawdle, through};
use crate::common::faults::Faults;
use crate::common::item::Item;
use crate::common::seen::Seen;

pub(super) fn random(rng: &mut Rng) -> Op {
    let span = Duration::from_micros([1, 100, 3_600_000_000][rng.usize(..3)]);
    let config = BatchConfig { max_size: [1, 3, 1_000][rng.usize(..3)], max_latency: span };
    let (workers, ordered, turns) = (rng.usize(1..5), rng.bool(), rng.u64(1..5));
    let call = move |_: &CancelToken, item: &Item| {
        dawdle(u32::try_from(item.value() % turns).unwrap_or(0));
        streamz::ok(item.clone())
    };
    let (what, wire) = match rng.u8(..9) {
        0 => ("map", through(Mapper::new(|item: Item| item))),
        1 => ("copy", through(Mapper::fallible(|item: &Item| streamz::ok(item.clone())))),
        2 => ("batches", through(Batcher::new(config).then(Unbatcher::new()))),
        3 => ("fused batches", through(Batcher::new(config).fuse(Unbatcher::new()))),
        4 => {
            let batcher = Batcher::new(config).with_key(|item: &Item| item.value() % 5, 3);
            ("keyed batches", through(batcher.then(Unbatcher::new())))
        }
        5 => ("pool", through(AsyncMapper::new(call).with_workers(workers).with_ordered(ordered))),
        6 => {
            let pool = AsyncMapper::keyed(|item: &Item| item.value() % 3, call);
            ("keyed pool", through(pool.with_workers(workers).with_ordered(ordered)))
        }
        7 => ("par_map", through(ParMapper::new(|item: Item| item).then(Buffer::new(3)))),
        _ => {
            let window = TumblingWindow::new(span).with_key(|item: &Item| item.value() % 3);
            let unpack = Mapper::new(|keyed: Keyed<u64, Window<Item>>| keyed.window.items);
            ("keyed windows", through(window.then(unpack).then(Unbatcher::new())))
        }
    };
    let what = format!("{what}, {span:?}, {workers} workers, ordered {ordered}");
    let op = Op::each(what, wire, Faults::None, false, |value| vec![Seen::Value(value)]);
    Op { ordered: false, ..op }
}
