//! The pipelines of the Go document, function by function: the same processors, options and shape.
//!
//! They are shown beside the Go in docs/from-go-patterns.md. What is a service there is a small function here. Where the
//! Go could not be kept, the page says what was changed and why.

mod ab_test;
mod aggregation;
mod analytics;
mod api_gateway;
mod api_retry;
mod backpressure;
mod batching;
mod conditional;
mod dead_letters;
mod etl;
mod geo_partitions;
mod load_balanced_partitions;
mod load_balanced_router;
mod microservices;
mod monitoring;
mod multi_stage;
mod partitioned;
mod payments;
mod quality_control;
mod retry;
mod routing;
mod sessions;
mod tiers;
mod validation;

use std::time::Duration;

use streamz::{ManualClock, Pipeline, Stream};

/// A pipeline in virtual time.
fn pipeline() -> (ManualClock, Pipeline) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("go").clock(&clock).build();
    (clock, pipeline)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// All items, once the clock has moved by `time`; panics at an error item.
fn after<T: Send + 'static>(clock: &ManualClock, time: Duration, stream: Stream<T>) -> Vec<T> {
    let recorder = streamz::testing::Recorder::new(stream);
    clock.advance(time);
    recorder.timed_items().into_iter().map(|(_, item)| item).collect()
}
