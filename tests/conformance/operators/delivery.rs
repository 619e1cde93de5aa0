//! The stage that writes to an outbox.

use std::time::Duration;

use streamz::{BatchConfig, ProcessorFn, Stream};

use super::Registry;
use crate::common::faults::Faults;
use crate::common::item::{Census, Item};
use crate::common::models;
use crate::common::outbox::Shelf;
use crate::common::seen::{Kind, Seen};
use crate::subject::{Ends, Subject};

/// From items to how many of a batch were written.
const COUNTS: Ends<Item, u64> = (|item| item, |written| Seen::Value(*written));

const REFUSES: Faults = Faults::Random { salt: 3, fail_percent: 25, panic_percent: 0 };

pub fn register(registry: &mut Registry) {
    registry.add(
        Subject::new(
            "deliver_through",
            &[],
            COUNTS,
            |site| {
                ProcessorFn::new("outbox", move |_, items: Stream<Item>| {
                    let mut shelf = Shelf::new(Census::default());
                    shelf.refuses = REFUSES;
                    // It never comes to an end with its first batch.
                    shelf.fails_in = site.asleep.then_some(1);
                    // Longer than any case takes in real time.
                    let max_latency = Duration::from_secs(3600);
                    items.deliver_through(shelf, BatchConfig { max_size: 3, max_latency })
                })
            },
            |input, faults| models::batches(input, faults, 3, 1, |_| 0).into_iter().flat_map(written).collect(),
        )
        .holds(2)
        .sleeps()
        .groups(),
    );
}

/// The refused records of a batch, and then how many were written.
fn written(seen: Seen) -> Vec<Seen> {
    let Seen::Group(values) = seen else { return vec![seen] };
    let (refused, kept): (Vec<u64>, Vec<u64>) =
        values.into_iter().partition(|value| Shelf::is_refused(REFUSES, *value));
    let refused = refused.into_iter().map(|value| Seen::Made(Kind::Failed, Some(value)));
    refused.chain([Seen::Value(kept.len() as u64)]).collect()
}
