//! Retry by error class: rejected requests are not retried, lost ones are.
//!
//! The time is virtual, so the pauses cost nothing: `cargo run --release --example retry_by_class`.

mod common;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use common::{Data, bar};
use parking_lot::Mutex;
use streamz::testing::Recorder;
use streamz::{AsyncMapper, CallStage, CancelToken, ManualClock, Pipeline, Retry, Stream};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ApiError {
    #[error("unauthorized")]
    Unauthorized,
    #[error("no such page")]
    NotFound,
    #[error("rate limit exceeded")]
    RateLimited,
    #[error("timeout")]
    TimedOut,
    #[error("connection lost")]
    ConnectionLost,
}

pub const ERRORS: [ApiError; 5] = [
    ApiError::Unauthorized,
    ApiError::NotFound,
    ApiError::RateLimited,
    ApiError::TimedOut,
    ApiError::ConnectionLost,
];

/// A request, with the error it will meet, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub id: u32,
    pub error: ApiError,
    pub times: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    pub request: u32,
}

// [pattern]
/// Five requests at a time; the number of attempts depends on the error.
pub fn by_class(
    call: impl Fn(&CancelToken, &Request) -> Result<Response, ApiError> + Send + Sync + 'static,
) -> Retry<impl CallStage<In = Request, Out = Response, Error = ApiError>> {
    Retry::new(AsyncMapper::new(call).with_name("api").with_workers(5))
        .max_attempts(5)
        .base_delay(Duration::from_millis(200))
        .on_error(|error, attempt| match error {
            // The answer will be the same.
            ApiError::Unauthorized | ApiError::NotFound => false,
            // More requests make it worse: two retries, no more.
            ApiError::RateLimited => attempt <= 2,
            // No server has rejected it.
            ApiError::TimedOut | ApiError::ConnectionLost => true,
        })
}
// [/pattern]

/// The maximum number of calls for an error of this class.
pub fn worth(error: ApiError) -> u32 {
    match error {
        ApiError::Unauthorized | ApiError::NotFound => 1,
        ApiError::RateLimited => 3,
        ApiError::TimedOut | ApiError::ConnectionLost => 5,
    }
}

/// A service that fails as the requests prescribe.
pub fn service() -> impl Fn(&CancelToken, &Request) -> Result<Response, ApiError> {
    let calls = Mutex::new(HashMap::<u32, u32>::new());
    move |_, request| {
        let mut calls = calls.lock();
        let count = calls.entry(request.id).or_default();
        *count += 1;
        if *count <= request.times {
            Err(request.error)
        } else {
            Ok(Response { request: request.id })
        }
    }
}

fn main() -> ExitCode {
    common::run(
        "Retry by error class: 500 requests, each with its own kind of failure",
        |page| {
            let mut data = Data::seeded(88);
            let request = |id| Request {
                id,
                error: *data.pick(&ERRORS),
                times: data.between(0..=6).saturating_sub(1),
            };
            let requests: Vec<Request> = (0..500).map(request).collect();

            let clock = ManualClock::new();
            let pipeline = Pipeline::builder("requests").clock(&clock).build();
            let retry = by_class(service());
            let recorder =
                Recorder::new(Stream::from_iter(&pipeline, requests.clone()).through(&retry));
            clock.advance(Duration::from_secs(3_600));
            let outputs = recorder.timed_outputs();
            let took = outputs.last().map_or(Duration::ZERO, |(time, _)| *time);
            let report = pipeline.join();

            // Results come in the order of the requests.
            let pairs: Vec<_> =
                requests.iter().zip(outputs.iter().map(|(_, output)| output)).collect();
            let calls = |request: &Request, ok: bool| {
                if ok { request.times + 1 } else { worth(request.error) }
            };
            let rows = ERRORS.map(|error| {
                let of_class = pairs.iter().filter(|(request, _)| request.error == error);
                let (requests, answered) = (
                    of_class.clone().count(),
                    of_class.clone().filter(|(_, it)| it.is_ok()).count(),
                );
                let made: u32 =
                    of_class.map(|(request, output)| calls(request, output.is_ok())).sum();
                let given_up = requests - answered;
                let numbers = [requests, answered, given_up].map(|n| n.to_string());
                let [requests, answered, given_up] = numbers;
                [
                    error.to_string(),
                    worth(error).to_string(),
                    requests,
                    answered,
                    given_up,
                    made.to_string(),
                    bar(f64::from(made), 350.0, 25),
                ]
            });
            page.table(
                &["what happens", "tries", "requests", "answered", "given up", "calls", ""],
                rows,
            );
            page.say(format_args!(
                "\n{} retries in {took:.1?} of virtual time\n",
                retry.stats().retries()
            ));

            page.check(
                "every request has one outcome, in order",
                outputs.len() == 500
                    && pairs.iter().all(|(request, output)| match output {
                        Ok(response) => response.request == request.id,
                        Err(error) => {
                            error.with_item_ref(|failed: &Request| failed == *request)
                                == Some(true)
                        }
                    }),
            );
            page.check(
                "a request succeeds exactly if its class allows enough calls",
                pairs.iter().all(|(request, output)| {
                    output.is_ok() == (request.times < worth(request.error))
                }),
            );
            page.check(
                "a failed request has used all its calls, and has the reason",
                pairs.iter().all(|(request, output)| {
                    output.as_ref().err().is_none_or(|error| {
                        error.attempts() == worth(request.error)
                            && error.downcast_ref() == Some(&request.error)
                    })
                }),
            );
            page.check("all items are accounted for", report.is_complete());
            Ok(())
        },
    )
}
