//! Pipelines: ownership of threads, cancellation, and statistics.

mod common;
mod completion;
mod diagnosis;
mod identity;
mod latency;
pub(crate) mod name;
mod node;
mod pace;
mod picture;
mod pipeline;
#[cfg_attr(not(feature = "latency"), path = "no_recording.rs")]
pub(crate) mod recording;
mod report;
mod scope;
mod since;
mod stages;
pub(crate) mod stall;
pub(crate) mod stats;
pub(crate) mod striped;
mod summary;
mod table;
mod task;
mod text;
mod threads;
pub(crate) mod timing;
mod token;

pub use completion::Completion;
pub use diagnosis::{Diagnosis, Finding};
pub use latency::Latency;
pub use node::Cause;
pub(crate) use node::Registration;
pub use pace::Pace;
pub use pipeline::{DEFAULT_CAPACITY, DEFAULT_STACK_SIZE, Pipeline, PipelineBuilder};
#[cfg(feature = "latency")]
pub use recording::Latencies;
pub use report::{InputReport, Outcome, OutputReport, Report, StageReport, StepReport};
pub(crate) use scope::{Drain, Membership, Place, Scope, Settings};
pub use stats::{DropReason, StageKind};
pub use task::Task;
pub use token::{CancelToken, Cancelled};
