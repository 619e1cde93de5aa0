//! What the library promises, by subject.
//!
//! One program, because each one is linked on its own. What needs a process of its own (a panic hook, a runner, all
//! processors) has a file beside this folder.
//!
//! ```sh
//! cargo test --test behaviour           # all
//! cargo test --test behaviour keyed     # one module
//! ```

#[path = "../common/mod.rs"]
mod common;

mod adaptive_concurrency;
mod arguments;
mod auto_traits;
mod call_layers;
mod circuit_breaker;
mod claims;
mod dead_letters;
mod delivery;
mod diagnostics;
mod diagrams;
mod documents;
mod event_time;
mod hedge;
mod keyed;
#[cfg(feature = "latency")]
mod latency;
mod layers;
mod links;
mod logged;
mod packages;
mod par_fold;
mod partition;
mod pictures;
mod pipeline;
mod pool;
mod prefetch;
mod regressions;
mod retry;
mod router;
mod routes;
mod smoke;
mod stall;
mod windows;

use std::time::Duration;

use streamz::{ManualClock, Pipeline};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A pipeline on virtual time.
fn virtual_pipeline() -> (ManualClock, Pipeline) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    (clock, pipeline)
}

/// A pipeline on virtual time, with edges of this capacity.
fn virtual_pipeline_of(capacity: usize) -> (ManualClock, Pipeline) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).capacity(capacity).build();
    (clock, pipeline)
}
