//! Tests pipelines and operators without sleeps and without tolerances.
//!
//! | to test | use |
//! |---|---|
//! | a pipeline or a part of it, step by step | a [`TestSource`] before it, a [`TestSink`] behind it |
//! | the times at which it emits items | a [`TestSource`] and a [`Recorder`] |
//! | an operator alone, without threads | a [`Harness`] |
//!
//! All of them run on a [`ManualClock`]. The [guide](crate::guides::testing) shows how.

mod harness;
mod recorder;
mod sink;
mod source;

pub use harness::Harness;
pub use recorder::Recorder;
pub use sink::TestSink;
pub use source::TestSource;

use crate::clock::ManualClock;
use crate::pipeline::CancelToken;

/// The clock of `cancel`, which must be one that a test moves.
#[track_caller]
fn manual_clock(cancel: &CancelToken, who: &str) -> ManualClock {
    match &cancel.clock().manual {
        Some(clock) => clock.clone(),
        None => panic!("a {who} needs a pipeline on a ManualClock: `Pipeline::builder(..).clock(&clock)`"),
    }
}
