use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use streamz::{AsyncMapper, BoxError, CancelToken, Processor, Retry, Stream};

use super::pipeline;

type ApiRequest = &'static str;
type ApiResponse = ();

static CALLS: Mutex<BTreeMap<&str, u32>> = Mutex::new(BTreeMap::new());

/// Fails as the request says.
fn call_external_api(_: &CancelToken, request: &ApiRequest) -> Result<ApiResponse, BoxError> {
    *CALLS.lock().unwrap().entry(*request).or_default() += 1;
    Err((*request).into())
}

// [pattern]
fn build_api_retry_pipeline(
    cancel: &CancelToken,
    requests: Stream<ApiRequest>,
) -> Stream<ApiResponse> {
    let api_processor = AsyncMapper::new(call_external_api).with_workers(5);

    let retry = Retry::new(api_processor)
        .max_attempts(5)
        .base_delay(Duration::from_millis(200))
        .on_error(|error: &BoxError, attempt| {
            let error = error.to_string().to_lowercase();
            if error.contains("unauthorized") {
                return false;
            }
            if error.contains("rate limit") {
                return attempt <= 2;
            }
            error.contains("timeout") || error.contains("connection")
        });

    retry.process(cancel, requests)
}
// [/pattern]

#[test]
fn the_kind_of_failure_decides_the_number_of_attempts() {
    let (clock, pipeline) = pipeline();
    let requests =
        ["Unauthorized", "Rate limit exceeded", "Timeout", "connection refused", "bad request"];
    let responses = build_api_retry_pipeline(&pipeline, Stream::from_iter(&pipeline, requests));
    let recorder = streamz::testing::Recorder::new(responses);
    clock.advance(Duration::from_secs(60));
    let attempts =
        recorder.timed_outputs().into_iter().map(|(_, result)| result.unwrap_err().attempts());
    assert_eq!(attempts.collect::<Vec<_>>(), [1, 3, 5, 5, 1]);
    assert_eq!(CALLS.lock().unwrap().values().sum::<u32>(), 15);
}
