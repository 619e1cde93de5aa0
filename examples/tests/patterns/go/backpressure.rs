use std::sync::Mutex;
use std::time::Duration;

use streamz::{
    AsyncMapper, BoxError, Buffer, CancelToken, DroppingBuffer, Filter, Monitor, Processor,
    Stream, StreamStats,
};

use super::{after, ms, pipeline};

type Order = u32;

#[derive(Debug, PartialEq)]
struct ProcessedOrder(Order);

const EXPECTED_MIN_RATE: f64 = 100.0;

static ALERTS: Mutex<Vec<f64>> = Mutex::new(Vec::new());

fn send_alert(stats: StreamStats) {
    ALERTS.lock().unwrap().push(stats.rate);
}

fn is_valid_order(order: &Order) -> bool {
    *order % 100 != 99
}

fn expensive_processing(
    cancel: &CancelToken,
    order: &Order,
) -> Result<ProcessedOrder, BoxError> {
    cancel.sleep(ms(100))?;
    Ok(ProcessedOrder(*order))
}

// [pattern]
fn build_resilient_pipeline(
    cancel: &CancelToken,
    input: Stream<Order>,
) -> Stream<ProcessedOrder> {
    // Tier 1: normal fluctuations. Tier 2: bursts. Tier 3: overload, where new orders are
    // dropped.
    let buffer1 = Buffer::new(100);
    let buffer2 = Buffer::new(10_000);
    let dropper = DroppingBuffer::new(50_000);

    let validator = Filter::new(is_valid_order).with_name("valid");
    let processor = AsyncMapper::new(expensive_processing).with_workers(50);
    let monitor = Monitor::new(Duration::from_secs(60)).on_stats(|stats| {
        if stats.rate < EXPECTED_MIN_RATE {
            send_alert(stats);
        }
    });

    let buffered1 = buffer1.process(cancel, input);
    let buffered2 = buffer2.process(cancel, buffered1);
    let protected = dropper.process(cancel, buffered2);
    let monitored = monitor.process(cancel, protected);
    let validated = validator.process(cancel, monitored);
    processor.process(cancel, validated)
}
// [/pattern]

#[test]
fn more_than_the_tiers_hold_is_dropped_and_counted() {
    let (clock, pipeline) = pipeline();
    let processed =
        build_resilient_pipeline(&pipeline, Stream::from_iter(&pipeline, 0..60_000));
    let processed = after(&clock, Duration::from_secs(200), processed);
    let report = pipeline.join();
    let dropped = report.stage("dropping_buffer").unwrap().steps[0].total_dropped();
    let filtered = report.stage("valid").unwrap().steps[0].filtered;
    assert!((1..10_000).contains(&dropped), "{dropped}");
    assert_eq!(processed.len() as u64 + dropped + filtered, 60_000);
    // It took two minutes, in the last part of which little was left to do.
    assert!(ALERTS.lock().unwrap().iter().all(|rate| *rate < EXPECTED_MIN_RATE));
}
