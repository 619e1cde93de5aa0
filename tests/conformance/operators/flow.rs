//! Operators that govern how fast items flow.

use std::time::Duration;

use streamz::{Buffer, Delay, Mapper, Processor};

use super::{ITEMS, Registry};
use crate::common::item::Item;
use crate::common::models::each;
use crate::common::seen::Seen;
use crate::subject::{Closure, Subject};

pub fn register(registry: &mut Registry) {
    // A buffer is no stage of its own, so it is looked at behind one.
    registry.add(
        Subject::new(
            "Buffer",
            &["Buffer"],
            ITEMS,
            |site| {
                let map = Mapper::new(move |item: Item| {
                    site.faults.panic_only(item.value());
                    item
                });
                map.then(Buffer::new(5))
            },
            |input, faults| each(input, faults, false, |value| vec![Seen::Value(value)]),
        )
        .closure(Closure::Panics)
        .room(|capacity| capacity + 5),
    );
    // No time passes in these cases.
    registry.add(Subject::new("Delay", &["Delay"], ITEMS, |_| Delay::new(Duration::ZERO), |input, _| input.to_vec()));
    registry.add(Subject::new(
        "Delay: one at a time, among others",
        &["Delay"],
        ITEMS,
        |_| {
            let delay = || Delay::new(Duration::ZERO).with_max_items(1);
            Mapper::new(|item: Item| item).fuse(delay()).fuse(Mapper::new(|item: Item| item).fuse(delay()))
        },
        |input, _| input.to_vec(),
    ));
}
