//! Operators that put items together.

use std::time::Duration;

use streamz::{BatchConfig, Batcher, Chunk, Mapper, Processor};

use super::Registry;
use crate::common::faults::Faults;
use crate::common::item::Item;
use crate::common::models;
use crate::common::seen::Seen;
use crate::subject::{Closure, Ends, Subject};

/// From items to groups of items.
const GROUPS: Ends<Item, Vec<Item>> = (|item| item, Seen::of::<Vec<Item>>);

/// Longer than any case takes in real time.
const LATENCY: Duration = Duration::from_secs(3600);

pub fn register(registry: &mut Registry) {
    registry.add(
        Subject::new(
            "Batcher",
            &["Batcher", "BatchConfig"],
            GROUPS,
            |site| {
                let config = BatchConfig { max_size: 4, max_latency: LATENCY };
                let weigh = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    1
                };
                Batcher::new(config).with_weight(weigh, 1000)
            },
            |input, faults| models::batches(input, faults, 4, 1, |_| 0),
        )
        .closure(Closure::Panics)
        .holds(3)
        .room(|_| 1024 / 4),
    );
    registry.add(
        Subject::new(
            "KeyedBatcher",
            &["KeyedBatcher"],
            GROUPS,
            |site| {
                let key = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value() % 3
                };
                Batcher::new(BatchConfig { max_size: 3, max_latency: LATENCY }).with_key(key, 2).with_capacity(5)
            },
            |input, faults| models::batches(input, faults, 3, 2, |value| value % 3),
        )
        .closure(Closure::Panics)
        .holds(2)
        .room(|_| 5),
    );
    registry.add(
        Subject::new(
            "Chunk",
            &["Chunk"],
            GROUPS,
            |_| Chunk::new(5),
            |input, faults| models::batches(input, faults, 5, 1, |_| 0),
        )
        .holds(4)
        .room(|_| 1024 / 5),
    );
    registry.add(
        Subject::new(
            "fused: batch, map over the batch",
            &[],
            GROUPS,
            |site| {
                let batcher = Batcher::new(BatchConfig { max_size: 4, max_latency: LATENCY });
                let reverse = Mapper::new(|mut items: Vec<Item>| {
                    items.reverse();
                    items
                });
                let check = Mapper::new(move |item: Item| {
                    site.faults.panic_only(item.value());
                    item
                });
                check.fuse(batcher).fuse(reverse)
            },
            |input, faults| {
                let checked = models::each(input, faults, false, |value| vec![Seen::Value(value)]);
                let reverse = |seen| match seen {
                    Seen::Group(values) => Seen::Group(values.into_iter().rev().collect()),
                    other => other,
                };
                models::batches(&checked, Faults::None, 4, 1, |_| 0).into_iter().map(reverse).collect()
            },
        )
        .closure(Closure::Panics)
        .holds(3)
        .room(|_| 1024 / 4),
    );
}
