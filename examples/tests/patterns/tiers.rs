//! Tiers.

use std::sync::Arc;
use std::time::Duration;

use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, CancelToken, ManualClock, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../tiers.rs"]
mod example;

use example::{Order, Processed, Service, Tier, process};

/// Takes a second for anything. Fails with number 13.
struct OneSecond;

impl Service for OneSecond {
    fn one(
        &self,
        cancel: &CancelToken,
        tier: Tier,
        order: &Order,
    ) -> Result<Processed, BoxError> {
        cancel.sleep(Duration::from_secs(1))?;
        Ok(Processed { id: order.id, tier })
    }

    fn many(&self, cancel: &CancelToken, orders: &[Order]) -> Result<Vec<Processed>, BoxError> {
        cancel.sleep(Duration::from_secs(1))?;
        if orders.iter().any(|order| order.id == 13) {
            return Err("out of stock".into());
        }
        Ok(orders.iter().map(|order| Processed { id: order.id, tier: Tier::Economy }).collect())
    }
}

fn order(id: u32, customer: Tier, total: u32) -> Order {
    Order { id, customer, total }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn an_order_goes_to_its_customers_tier_or_a_better_one() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, orders) = TestSource::new(&pipeline);
    let (processed, stats) = process(orders, &Arc::new(OneSecond));
    let processed = Recorder::new(processed);
    source.push_all([
        order(1, Tier::Premium, 1),
        order(2, Tier::Economy, 10_001),
        order(3, Tier::Standard, 10_000),
        order(4, Tier::Economy, 1_001),
        order(5, Tier::Economy, 1_000),
    ]);
    source.end();
    clock.advance(ms(60_000));
    let mut seen: Vec<_> = processed.items().into_iter().map(|it| (it.id, it.tier)).collect();
    seen.sort_by_key(|(id, _)| *id);
    let expected =
        [Tier::Premium, Tier::Premium, Tier::Standard, Tier::Standard, Tier::Economy];
    assert_eq!(seen, (1..).zip(expected).collect::<Vec<_>>());
    assert_eq!(["premium", "standard", "default"].map(|name| stats.items(name)), [2, 2, 1]);
}

#[test]
fn economy_orders_wait_for_a_batch_and_others_do_not() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, orders) = TestSource::new(&pipeline);
    let processed = Recorder::new(process(orders, &Arc::new(OneSecond)).0);
    source.play([(ms(0), order(1, Tier::Economy, 1)), (ms(5_000), order(2, Tier::Economy, 1))]);
    source.play([
        (ms(6_000), order(3, Tier::Premium, 1)),
        (ms(7_000), order(4, Tier::Standard, 1)),
    ]);
    clock.advance(ms(33_000));
    // At 40 s, a hundred at once.
    source.push_all((100..200).map(|id| order(id, Tier::Economy, 1)));
    clock.advance(ms(1_000));

    let seen: Vec<(u64, u32)> =
        processed.timed_items().iter().map(|(at, it)| (at.as_secs(), it.id)).collect();
    let hundred = (100..200).map(|id| (41, id));
    assert_eq!(
        seen,
        [(7, 3), (8, 4), (31, 1), (31, 2)].into_iter().chain(hundred).collect::<Vec<_>>()
    );
}

#[test]
fn a_crowd_in_one_tier_waits_in_its_own_queue() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, orders) = TestSource::new(&pipeline);
    let processed = Recorder::new(process(orders, &Arc::new(OneSecond)).0);
    source.push_all((1..=500).map(|id| order(id, Tier::Standard, 1)));
    source.push(order(1_000, Tier::Premium, 1));
    clock.advance(ms(1_000));
    let after_a_second = processed.items();
    assert!(after_a_second.iter().any(|it| it.id == 1_000));
    assert_eq!(after_a_second.len(), 21, "twenty workers, and the premium order");
    // 25 times twenty.
    clock.advance(ms(23_999));
    assert_eq!(processed.items().len(), 460);
    clock.advance(ms(1));
    assert_eq!(processed.items().len(), 20);
}

#[test]
fn a_failed_batch_is_one_error_with_all_its_orders() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, orders) = TestSource::new(&pipeline);
    let processed = Recorder::new(process(orders, &Arc::new(OneSecond)).0);
    source.push_all((0..200).map(|id| order(id, Tier::Economy, 1)));
    clock.advance(ms(1_000));
    let (failed, fine): (Vec<_>, Vec<_>) =
        processed.timed_outputs().into_iter().map(|(_, it)| it).partition(Result::is_err);
    assert_eq!((failed.len(), fine.len()), (1, 100));
    assert_eq!(failed[0].as_ref().unwrap_err().take_item::<Vec<Order>>().unwrap().len(), 100);
}
