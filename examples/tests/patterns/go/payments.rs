use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use streamz::{
    AsyncMapper, CancelToken, CircuitBreaker, CircuitStats, ErrorKind, Processor, Retry, Stream,
};

use super::pipeline;

type Order = u32;

#[derive(Debug, PartialEq)]
struct ProcessedOrder(Order);

#[derive(Debug, thiserror::Error)]
enum PaymentError {
    #[error("the service is busy")]
    Busy,
    #[error("the card was declined")]
    Declined,
}

static CALLS: AtomicU32 = AtomicU32::new(0);

/// Every seventh card is declined; the service is permanently busy from order 100 on.
fn call_payment_api(_: &CancelToken, order: &Order) -> Result<ProcessedOrder, PaymentError> {
    CALLS.fetch_add(1, Ordering::Relaxed);
    match order {
        100.. => Err(PaymentError::Busy),
        order if order % 7 == 6 => Err(PaymentError::Declined),
        order => Ok(ProcessedOrder(*order)),
    }
}

fn is_retryable_error(error: &PaymentError) -> bool {
    matches!(error, PaymentError::Busy)
}

/// Failures, and their share among the calls.
static OPENED: Mutex<Vec<(u64, f64)>> = Mutex::new(Vec::new());

fn log_circuit_opened(stats: CircuitStats) {
    OPENED.lock().unwrap().push((stats.failures, stats.failure_rate()));
}

// [pattern]
fn build_resilient_pipeline(
    cancel: &CancelToken,
    orders: Stream<Order>,
) -> Stream<ProcessedOrder> {
    let api_processor = AsyncMapper::new(call_payment_api).with_workers(10);

    let retry_processor = Retry::new(api_processor)
        .max_attempts(3)
        .base_delay(Duration::from_millis(100))
        .max_delay(Duration::from_secs(5))
        .with_jitter(true)
        // Only errors that may be temporary.
        .on_error(|error, _attempt| is_retryable_error(error));

    let protected = CircuitBreaker::new(retry_processor)
        .failure_threshold(0.5)
        .min_requests(10)
        .recovery_timeout(Duration::from_secs(30))
        .on_open(log_circuit_opened)
        .with_name("payment-circuit");

    protected.process(cancel, orders)
}
// [/pattern]

#[test]
fn a_service_that_stays_busy_is_left_alone() {
    let (clock, pipeline) = pipeline();
    let processed = build_resilient_pipeline(&pipeline, Stream::from_iter(&pipeline, 0..1_000));
    let recorder = streamz::testing::Recorder::new(processed);
    clock.advance(Duration::from_secs(20));
    let mut kinds = [0; 3];
    for (_, result) in recorder.timed_outputs() {
        match result {
            Ok(_) => kinds[0] += 1,
            Err(error) if error.kind() == ErrorKind::CircuitOpen => kinds[1] += 1,
            Err(_) => kinds[2] += 1,
        }
    }
    let [paid, refused, failed] = kinds;
    assert_eq!((paid, paid + refused + failed), (86, 1_000));
    assert!(refused > 500, "{refused} were refused at once");
    let opened = OPENED.lock().unwrap();
    assert!(
        matches!(opened[..], [(failures, rate)] if failures >= 5 && rate >= 0.5),
        "{opened:?}"
    );
    assert!(CALLS.load(Ordering::Relaxed) < 100 + 3 * 500);
    assert!(pipeline.join().is_complete());
}
