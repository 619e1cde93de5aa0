use std::collections::BTreeMap;
use std::time::Duration;

use streamz::{
    AsyncMapper, BatchConfig, Batcher, BoxError, CancelToken, Flatten, Mapper, Processor,
    Stream,
};

use super::{after, ms, pipeline};

#[derive(Debug, Clone)]
struct Order {
    id: u32,
    customer_id: u32,
}

#[derive(Debug, Clone)]
struct GroupedOrder {
    order: Order,
    group: u32,
}

#[derive(Debug)]
struct ProcessedOrder {
    id: u32,
    with: usize,
}

fn group_by_customer(batch: &[GroupedOrder]) -> BTreeMap<u32, Vec<&Order>> {
    let mut groups: BTreeMap<u32, Vec<&Order>> = BTreeMap::new();
    batch
        .iter()
        .for_each(|grouped| groups.entry(grouped.group).or_default().push(&grouped.order));
    groups
}

fn process_batch_for_customer(
    _: &CancelToken,
    _: u32,
    orders: &[&Order],
) -> Result<Vec<ProcessedOrder>, BoxError> {
    Ok(orders.iter().map(|order| ProcessedOrder { id: order.id, with: orders.len() }).collect())
}

// [pattern]
fn build_batching_pipeline(
    cancel: &CancelToken,
    orders: Stream<Order>,
) -> Stream<ProcessedOrder> {
    let grouper = Mapper::new(|order: Order| GroupedOrder { group: order.customer_id, order })
        .with_name("group");
    let batcher =
        Batcher::new(BatchConfig { max_size: 50, max_latency: Duration::from_millis(100) });
    let processor = AsyncMapper::new(|cancel: &CancelToken, batch: &Vec<GroupedOrder>| {
        let mut results = Vec::new();
        for (customer_id, orders) in group_by_customer(batch) {
            results.extend(process_batch_for_customer(cancel, customer_id, &orders)?);
        }
        streamz::ok(results)
    })
    .with_workers(10);
    let flattener = Flatten::new();

    let grouped = grouper.process(cancel, orders);
    let batched = batcher.process(cancel, grouped);
    let processed = processor.process(cancel, batched);
    flattener.process(cancel, processed)
}
// [/pattern]

#[test]
fn the_orders_of_a_customer_in_a_batch_are_processed_together() {
    let (clock, pipeline) = pipeline();
    let orders =
        Stream::from_iter(&pipeline, (0..120).map(|id| Order { id, customer_id: id % 10 }));
    let processed = after(&clock, ms(100), build_batching_pipeline(&pipeline, orders));
    let mut ids: Vec<_> = processed.iter().map(|order| order.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..120).collect::<Vec<_>>());
    // Two full batches, with five orders of each customer, and one of twenty.
    let together = |with| processed.iter().filter(|order| order.with == with).count();
    assert_eq!((together(5), together(2)), (100, 20));
}
