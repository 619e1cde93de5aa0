//! Batching by group.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamz::testing::{Recorder, TestSource};
use streamz::{ManualClock, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../group_batches.rs"]
mod example;

use example::{Answer, Order, charge_in_batches};

fn order(id: u32, customer: u32) -> Order {
    Order { id, customer, cents: 100 }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn each_customers_batch_waits_100_ms_from_its_first_order() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, orders) = TestSource::new(&pipeline);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let bank = {
        let (calls, clock, start) = (Arc::clone(&calls), clock.clone(), clock.now());
        move |batch: &[Order]| {
            let ids: Vec<u32> = batch.iter().map(|order| order.id).collect();
            calls.lock().push((clock.now() - start, ids));
            Ok(vec![Answer::Paid; batch.len()])
        }
    };
    let _answers = Recorder::new(charge_in_batches(orders, bank));

    source.play([
        (ms(0), order(1, 7)),
        (ms(10), order(2, 8)),
        (ms(99), order(3, 7)),
        (ms(100), order(4, 7)),
    ]);
    clock.advance(ms(60));
    // Fifty orders of one customer wait for nothing.
    source.push_all((100..150).map(|id| order(id, 9)));
    clock.advance(ms(1_000));

    let expected = [
        (ms(100), vec![1, 3]),
        (ms(110), vec![2]),
        (ms(160), (100..150).collect()),
        (ms(200), vec![4]),
    ];
    assert_eq!(*calls.lock(), expected);
}

#[test]
fn a_failed_call_fails_the_orders_of_its_batch_and_no_other() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, orders) = TestSource::new(&pipeline);
    let bank = |batch: &[Order]| match batch[0].customer {
        1 => Err("line busy".to_owned()),
        2 => Ok(vec![Answer::Paid]), // forgets what else there was
        3 => panic!("no such customer"),
        _ => Ok(batch
            .iter()
            .map(|order| if order.id == 5 { Answer::Declined } else { Answer::Paid })
            .collect()),
    };
    let answers = Recorder::new(charge_in_batches(orders, bank));
    source.push_all([
        order(1, 1),
        order(2, 2),
        order(3, 4),
        order(4, 2),
        order(5, 4),
        order(6, 3),
    ]);
    source.end();
    pipeline.join();

    let mut found: Vec<_> =
        answers.items().into_iter().map(|(order, answer)| (order.id, answer)).collect();
    found.sort_by_key(|(id, _)| *id);
    let failed = |why: &str| Answer::NotCharged(why.to_owned());
    let expected = [
        (1, failed("line busy")),
        (2, failed("the bank forgot some")),
        (3, Answer::Paid),
        (4, failed("the bank forgot some")),
        (5, Answer::Declined),
        (6, failed("Panicked")),
    ];
    assert_eq!(found, expected);
}
