//! Operators that handle failures.

use streamz::{CancelToken, DeadLetterQueue, ProcessorFn, Stream};

use super::{ITEMS, Registry};
use crate::common::item::Item;
use crate::common::seen::Seen;
use crate::subject::Subject;

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
}
