//! Operators that govern how fast items flow.

use streamz::{Buffer, Mapper, Processor};

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
}
