//! Operators that handle failures.

use std::time::Duration;

use streamz::{AsyncMapper, CancelToken, DeadLetterQueue, Mapper, ProcessorFn, Retry, Stream};

use super::pool::{call, plus_one};
use super::{ITEMS, Registry};
use crate::common::item::Item;
use crate::common::seen::Seen;
use crate::subject::{Closure, Subject};

pub fn register(registry: &mut Registry) {
    // It has two outputs; here nobody reads the failures, so that the stage stops when its items are not read either.
    registry.add(Subject::new(
        "DeadLetterQueue: items",
        &["DeadLetterQueue", "DlqOutput"],
        ITEMS,
        |_| {
            ProcessorFn::new("outer", |cancel: &CancelToken, items: Stream<Item>| {
                let output = DeadLetterQueue::new().process(cancel, items);
                drop(output.failed);
                output.items
            })
        },
        |input, _| input.iter().filter(|seen| matches!(seen, Seen::Value(_))).cloned().collect(),
    ));
    registry.add(
        Subject::new(
            "Retry",
            &["Retry"],
            ITEMS,
            |site| Retry::new(AsyncMapper::new(call(site)).with_workers(3)).base_delay(Duration::ZERO).max_attempts(2),
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "Retry: of a fallible mapper, unordered, small window",
            &["Retry"],
            ITEMS,
            |site| {
                let fallible = Mapper::fallible(move |item: &Item| {
                    site.faults.check(item.value()).map(|()| item.sibling(item.value() + 1))
                });
                Retry::new(fallible).base_delay(Duration::ZERO).with_workers(2).with_window(2).with_ordered(false)
            },
            plus_one,
        )
        .closure(Closure::Fails)
        .unordered(),
    );
}
