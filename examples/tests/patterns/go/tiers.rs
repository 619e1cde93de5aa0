use std::time::Duration;

use streamz::{
    AsyncMapper, BatchConfig, Batcher, BoxError, CancelToken, Flatten, Processor, ProcessorFn,
    Stream, Switch,
};

use super::{after, pipeline};

#[derive(Debug, Clone)]
struct Order {
    customer_tier: &'static str,
    total: u32,
}

#[derive(Debug)]
struct ProcessedOrder {
    total: u32,
    tier: &'static str,
}

fn process_premium_order(_: &CancelToken, order: &Order) -> Result<ProcessedOrder, BoxError> {
    Ok(ProcessedOrder { total: order.total, tier: "premium" })
}

fn process_standard_order(_: &CancelToken, order: &Order) -> Result<ProcessedOrder, BoxError> {
    Ok(ProcessedOrder { total: order.total, tier: "standard" })
}

fn process_batch(_: &CancelToken, batch: &[Order]) -> Result<Vec<ProcessedOrder>, BoxError> {
    Ok(batch
        .iter()
        .map(|order| ProcessedOrder { total: order.total, tier: "economy" })
        .collect())
}

// [pattern]
fn build_tiered_processing(
    cancel: &CancelToken,
    orders: Stream<Order>,
) -> Stream<ProcessedOrder> {
    let premium_processor =
        AsyncMapper::new(process_premium_order).with_workers(50).with_queue_size(1_000);
    let standard_processor =
        AsyncMapper::new(process_standard_order).with_workers(20).with_queue_size(500);

    let economy_batcher =
        Batcher::new(BatchConfig { max_size: 100, max_latency: Duration::from_secs(30) });
    let economy_processor = AsyncMapper::new(|cancel: &CancelToken, batch: &Vec<Order>| {
        process_batch(cancel, batch)
    })
    .with_workers(5);
    let economy_pipeline =
        ProcessorFn::new("economy", move |cancel: &CancelToken, orders: Stream<Order>| {
            let batched = economy_batcher.process(cancel, orders);
            let processed = economy_processor.process(cancel, batched);
            Flatten::new().process(cancel, processed)
        });

    let tier_switch = Switch::new()
        .case(
            "premium",
            |order: &Order| order.customer_tier == "premium" || order.total > 10_000,
            premium_processor,
        )
        .case(
            "standard",
            |order: &Order| order.customer_tier == "standard" || order.total > 1_000,
            standard_processor,
        )
        .with_default(economy_pipeline)
        .with_name("tier-router");

    tier_switch.process(cancel, orders)
}
// [/pattern]

#[test]
fn an_order_gets_the_tier_of_its_customer_or_of_its_size() {
    let (clock, pipeline) = pipeline();
    let order = |customer_tier, total| Order { customer_tier, total };
    let orders = [
        order("premium", 5),
        order("economy", 10_001),
        order("standard", 6),
        order("economy", 1_001),
        order("economy", 7),
    ];
    let processed = build_tiered_processing(&pipeline, Stream::from_iter(&pipeline, orders));
    let mut tiers: Vec<_> = after(&clock, Duration::from_secs(30), processed)
        .into_iter()
        .map(|order| (order.total, order.tier))
        .collect();
    tiers.sort_unstable();
    let expected = [
        (5, "premium"),
        (6, "standard"),
        (7, "economy"),
        (1_001, "standard"),
        (10_001, "premium"),
    ];
    assert_eq!(tiers, expected);
}
