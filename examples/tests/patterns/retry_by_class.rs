//! Retry by error class: the true error decides.

use std::time::Duration;

use streamz::testing::Recorder;
use streamz::{ManualClock, Pipeline, Stream};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../retry_by_class.rs"]
mod example;

use example::{ApiError, Request, by_class, service};

/// The result for a request that fails this often: the number of calls if it is given up, else `None`.
fn given_up(error: ApiError, times: u32) -> Option<u32> {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("requests").clock(&clock).build();
    let request = Request { id: 7, error, times };
    let retry = by_class(service());
    let recorder = Recorder::new(Stream::from_iter(&pipeline, [request]).through(&retry));
    // The longest pauses that four retries can have.
    clock.advance(Duration::from_millis(200 + 400 + 800 + 1_600));
    let mut outputs = recorder.timed_outputs();
    assert_eq!(outputs.len(), 1);
    assert!(pipeline.join().is_complete());
    let calls = u64::from(times.min(match error {
        ApiError::RateLimited => 2,
        ApiError::Unauthorized | ApiError::NotFound => 0,
        _ => 4,
    }));
    assert_eq!(retry.stats().retries(), calls, "{error:?}, {times}");
    let failed = outputs.remove(0).1.err()?;
    assert_eq!(failed.downcast_ref(), Some(&error));
    assert_eq!(failed.take_item(), Some(request));
    Some(failed.attempts())
}

#[test]
fn refused_requests_are_made_once() {
    for error in [ApiError::Unauthorized, ApiError::NotFound] {
        assert_eq!([0, 1, 2].map(|times| given_up(error, times)), [None, Some(1), Some(1)]);
    }
}

#[test]
fn a_rate_limit_is_worth_two_more_calls() {
    let found = [0, 1, 2, 3, 4].map(|times| given_up(ApiError::RateLimited, times));
    assert_eq!(found, [None, None, None, Some(3), Some(3)]);
}

#[test]
fn timeouts_and_lost_connections_have_five_attempts() {
    for error in [ApiError::TimedOut, ApiError::ConnectionLost] {
        assert_eq!(
            [0, 4, 5, 6].map(|times| given_up(error, times)),
            [None, None, Some(5), Some(5)]
        );
    }
}
