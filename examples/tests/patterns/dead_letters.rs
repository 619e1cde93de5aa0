//! Dead letters: what fails is kept with its reason, harms nothing else, and can be tried again.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use streamz::testing::{Recorder, TestSource};
use streamz::{ManualClock, Pipeline, Stream};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../dead_letters.rs"]
mod example;

use example::{FailedOrder, Order, Shipped, Store, day, depots, ship, store};

fn order(id: u32, city: &str, parcels: u32) -> Order {
    Order { id, city: city.to_owned(), parcels }
}

fn failed(id: u32, reason: &str, time: SystemTime) -> FailedOrder {
    FailedOrder { order: order(id, "Bern", 1), reason: reason.to_owned(), attempts: 1, time }
}

#[test]
fn a_failed_order_is_saved_with_its_reason_within_a_second() {
    let start = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let clock = ManualClock::starting_at(start);
    let pipeline = Pipeline::builder("shipping").clock(&clock).build();
    let (source, orders) = TestSource::new(&pipeline);
    let (shipped, failures) = ship(orders, depots(&["Bern"]));
    let shipped = Recorder::new(shipped);
    let saved = Arc::new(Mutex::new(Vec::new()));
    let (keep, time) = (Arc::clone(&saved), clock.clone());
    store(failures, move |batch| {
        keep.lock().push((time.elapsed(), batch.to_vec()));
        Ok(())
    });

    let second = Duration::from_secs(1);
    source.play([
        (second, order(1, "Bern", 1)),
        (second, order(2, "Zug", 1)),
        (second * 3 / 2, order(3, "Zug", 0)),
    ]);
    clock.advance(second);
    let at = |time: Duration| start + time;
    let empty = FailedOrder {
        order: order(3, "Zug", 0),
        ..failed(3, "nothing to ship", at(second * 3 / 2))
    };
    let expected = vec![failed(1, "the depot of Bern is closed", at(second)), empty];
    assert_eq!(*saved.lock(), [(second * 2, expected)]);
    assert_eq!(shipped.items(), [Shipped { order: 2 }]);
    source.end();
    assert!(pipeline.join().is_complete());
}

// Both streams out of one loop, as one would write it by hand, stand still when one of them is not read.
#[test]
fn ignored_failures_do_not_block_successes() {
    let pipeline = Pipeline::new("shipping");
    let orders = (0..1_000).map(|id| order(id, if id % 2 == 0 { "Bern" } else { "Zug" }, 1));
    let (shipped, failures) = ship(Stream::from_iter(&pipeline, orders), depots(&["Bern"]));
    drop(failures);
    assert_eq!(shipped.count().unwrap(), 500);
    pipeline.join();
}

#[test]
fn failures_that_cannot_be_saved_stop_everything() {
    let pipeline = Pipeline::new("shipping");
    let orders = std::iter::repeat_with(|| order(1, "Bern", 1));
    let (shipped, failures) = ship(Stream::from_iter(&pipeline, orders), depots(&["Bern"]));
    store(failures, |_| Err("disk full".into()));
    assert!(shipped.count().unwrap_err().is_cancelled());
    let report = pipeline.join();
    assert!(report.to_string().contains("disk full"), "{report}");
}

#[test]
fn stored_items_are_replayed_until_they_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&folder.path().join("failed.sqlite")).unwrap());
    let orders =
        vec![order(1, "Bern", 1), order(2, "Zug", 1), order(3, "Genf", 1), order(4, "Genf", 0)];
    assert_eq!(day(orders, &["Bern", "Zug"], &store).unwrap(), [3]);

    let waiting = || store.waiting().unwrap();
    assert_eq!(waiting(), [order(1, "Bern", 1), order(2, "Zug", 1), order(4, "Genf", 0)]);
    assert_eq!(day(waiting(), &["Zug"], &store).unwrap(), [1]);
    assert_eq!(day(waiting(), &[], &store).unwrap(), [2]);
    assert_eq!(waiting(), [order(4, "Genf", 0)]);
    assert_eq!(store.reasons().unwrap(), [("nothing to ship".to_owned(), 1, 3)]);
}
