//! Operators that govern how fast items flow, and the one that watches.

use std::time::{Duration, SystemTime};

use streamz::{Buffer, Debounce, Delay, DroppingBuffer, Mapper, Monitor, Processor, SlidingBuffer, Throttle, Timeout};

use super::{ITEMS, Registry};
use crate::common::faults::panic_on_purpose;
use crate::common::item::Item;
use crate::common::models::{self, each};
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
    // A burst that is never used up, and a throttle that says when there is room.
    registry.add(Subject::new(
        "Throttle",
        &["Throttle"],
        ITEMS,
        |_| Throttle::new(1.0).with_burst(1_000_000),
        |input, _| input.to_vec(),
    ));
    registry.add(Subject::new(
        "Throttle: dropping, among others",
        &["Throttle"],
        ITEMS,
        |_| {
            let throttle = Throttle::new(1.0).with_burst(1_000_000);
            Mapper::new(|item: Item| item).fuse(throttle).fuse(Throttle::new(1e9).with_burst(1_000_000).dropping())
        },
        |input, _| input.to_vec(),
    ));
    registry.add(
        Subject::new(
            "Debounce",
            &["Debounce"],
            ITEMS,
            |_| Debounce::new(LONG),
            |input, _| models::last_of_each_run(input),
        )
        .errors_between()
        .holds(1),
    );
    registry.add(Subject::new("Timeout", &["Timeout"], ITEMS, |_| Timeout::new(LONG), |input, _| input.to_vec()));
    registry.add(
        Subject::new(
            "Monitor",
            &["Monitor"],
            ITEMS,
            |site| {
                let monitor = Monitor::new(Duration::from_micros(20)).on_stats(|_| panic_on_purpose());
                monitor.with_timestamp(move |item: &Item| {
                    site.faults.panic_only(item.value());
                    SystemTime::UNIX_EPOCH
                })
            },
            // It cannot lose the item, whatever its closures do.
            |input, _| input.to_vec(),
        )
        .closure(Closure::Panics),
    );
    // More than is ever put in while nothing is taken.
    registry.add(
        Subject::new(
            "DroppingBuffer",
            &["DroppingBuffer"],
            ITEMS,
            |_| DroppingBuffer::new(ROOM),
            |input, _| input.to_vec(),
        )
        .sheds()
        .room(|_| ROOM),
    );
    registry.add(
        Subject::new(
            "SlidingBuffer",
            &["SlidingBuffer"],
            ITEMS,
            |_| SlidingBuffer::new(ROOM),
            |input, _| input.to_vec(),
        )
        .sheds()
        .room(|_| ROOM),
    );
}

/// Longer than any case takes in real time.
const LONG: Duration = Duration::from_secs(3600);

const ROOM: usize = 2_000;
