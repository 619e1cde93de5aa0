use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use streamz::{AsyncMapper, BoxError, CancelToken, Processor, Retry, Stream};

use super::{after, pipeline};

type Order = u32;

#[derive(Debug, PartialEq)]
struct ProcessedOrder(Order);

static CALLS: AtomicU32 = AtomicU32::new(0);

/// Two calls of three fail.
fn process_order_with_external_api(
    _: &CancelToken,
    order: &Order,
) -> Result<ProcessedOrder, BoxError> {
    match CALLS.fetch_add(1, Ordering::Relaxed) % 3 {
        2 => Ok(ProcessedOrder(*order)),
        _ => Err("connection reset".into()),
    }
}

// [pattern]
fn build_resilient_pipeline(
    cancel: &CancelToken,
    orders: Stream<Order>,
) -> Stream<ProcessedOrder> {
    let processor = AsyncMapper::new(process_order_with_external_api).with_workers(10);

    let resilient = Retry::new(processor)
        .max_attempts(5)
        .base_delay(Duration::from_millis(100))
        .max_delay(Duration::from_secs(30))
        .with_jitter(true)
        .with_name("order-processor-retry");

    resilient.process(cancel, orders)
}
// [/pattern]

#[test]
fn a_failed_order_is_retried() {
    let (clock, pipeline) = pipeline();
    let orders = Stream::from_iter(&pipeline, [7]);
    let processed =
        after(&clock, Duration::from_millis(300), build_resilient_pipeline(&pipeline, orders));
    assert_eq!((processed, CALLS.load(Ordering::Relaxed)), (vec![ProcessedOrder(7)], 3));
}
