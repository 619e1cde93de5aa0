use std::time::SystemTime;

use streamz::testing::Recorder;
use streamz::{
    AsyncMapper, BoxError, CancelToken, DeadLetterQueue, Processor, Stream, StreamError,
};

use super::pipeline;

type Order = u32;

#[derive(Debug, PartialEq)]
struct ProcessedOrder(Order);

#[derive(Debug)]
struct FailedOrder {
    order: Order,
    error: StreamError,
    timestamp: SystemTime,
}

fn process_order(_: &CancelToken, order: &Order) -> Result<ProcessedOrder, BoxError> {
    if order % 3 == 2 { Err("out of stock".into()) } else { Ok(ProcessedOrder(*order)) }
}

// [pattern]
fn build_dlq_pipeline(
    cancel: &CancelToken,
    orders: Stream<Order>,
) -> (Stream<ProcessedOrder>, Stream<FailedOrder>) {
    let processor = AsyncMapper::new(process_order).with_workers(1);
    let output = DeadLetterQueue::new().process(cancel, processor.process(cancel, orders));

    let failed = output.failed.filter_map(|letter| {
        let (order, error) = letter.into_item().ok()?;
        let timestamp = error.time();
        Some(FailedOrder { order, error, timestamp })
    });
    (output.items, failed)
}
// [/pattern]

#[test]
fn failures_come_from_the_other_stream_with_the_reason() {
    let (clock, pipeline) = pipeline();
    let began = pipeline.clock().wall();
    let (processed, failed) = build_dlq_pipeline(&pipeline, Stream::from_iter(&pipeline, 0..6));
    let (processed, failed) = (Recorder::new(processed), Recorder::new(failed));
    clock.settle();
    let processed: Vec<_> =
        processed.timed_items().into_iter().map(|(_, order)| order.0).collect();
    assert_eq!(processed, [0, 1, 3, 4]);
    for ((_, failed), order) in failed.timed_items().into_iter().zip([2, 5]) {
        assert_eq!((failed.order, failed.timestamp), (order, began));
        assert!(format!("{:#}", failed.error).contains("out of stock"));
    }
}
