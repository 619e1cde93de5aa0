use std::sync::Mutex;
use std::time::Duration;

use streamz::{
    AsyncMapper, BatchConfig, Batcher, BoxError, CancelToken, Filter, Flatten, Monitor,
    Processor, Stream, StreamStats, Throttle,
};

use super::{after, ms, pipeline};

#[derive(Debug, Clone)]
struct ApiRequest {
    api_key: &'static str,
    endpoint: &'static str,
    id: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct ApiResponse {
    id: u32,
    batch: usize,
}

fn process_batch(
    cancel: &CancelToken,
    batch: &[ApiRequest],
) -> Result<Vec<ApiResponse>, BoxError> {
    cancel.sleep(ms(100))?;
    Ok(batch.iter().map(|request| ApiResponse { id: request.id, batch: batch.len() }).collect())
}

static RATES: Mutex<Vec<f64>> = Mutex::new(Vec::new());

fn record_throughput(stats: StreamStats) {
    RATES.lock().unwrap().push(stats.rate);
}

// [pattern]
fn build_api_gateway(
    cancel: &CancelToken,
    requests: Stream<ApiRequest>,
) -> Stream<ApiResponse> {
    let rate_limiter = Throttle::new(1_000.0);
    let validator = Filter::new(|request: &ApiRequest| {
        !request.api_key.is_empty() && !request.endpoint.is_empty()
    })
    .with_name("valid-requests");
    let batcher =
        Batcher::new(BatchConfig { max_size: 10, max_latency: Duration::from_millis(50) });
    let processor = AsyncMapper::new(|cancel: &CancelToken, batch: &Vec<ApiRequest>| {
        process_batch(cancel, batch)
    })
    .with_workers(20);
    let flattener = Flatten::new();
    let monitor = Monitor::new(Duration::from_secs(1)).on_stats(record_throughput);

    let limited = rate_limiter.process(cancel, requests);
    let validated = validator.process(cancel, limited);
    let batched = batcher.process(cancel, validated);
    let processed = processor.process(cancel, batched);
    let flattened = flattener.process(cancel, processed);
    monitor.process(cancel, flattened)
}
// [/pattern]

#[test]
fn a_thousand_requests_a_second_are_answered_in_batches_of_ten() {
    let (clock, pipeline) = pipeline();
    let request =
        |id| ApiRequest { api_key: if id % 4 == 0 { "" } else { "key" }, endpoint: "/", id };
    let responses =
        build_api_gateway(&pipeline, Stream::from_iter(&pipeline, (0..2_000).map(request)));
    let answered = after(&clock, Duration::from_secs(3), responses);
    assert_eq!(answered.len(), 1_500);
    assert_eq!(answered.iter().filter(|response| response.batch == 10).count(), 1_500);
    assert!(answered.windows(2).all(|pair| pair[0].id < pair[1].id));
    // The first second: at most the burst of 20 ms, and then a thousand a second, of which a quarter is not valid.
    let first = RATES.lock().unwrap()[0];
    assert!((600.0..=780.0).contains(&first), "{first}");
}
