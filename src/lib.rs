//! Stream processing with threads and bounded channels, without an async runtime.
#![forbid(unsafe_code)]

mod clock;
mod error;
mod operators;
mod pipeline;
mod stage;
mod stream;
pub mod testing;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{BoxError, ErrorKind, PanicMessage, Result, StreamError};
pub use operators::*;
pub use pipeline::{
    CancelToken, Cancelled, Cause, DEFAULT_CAPACITY, Outcome, OutputReport, Pipeline, PipelineBuilder, Report,
    StageReport, StepReport,
};
pub use stage::{
    BoxProcessor, Chain, Custom, DropReason, Emit, Fused, NoSteps, Only, Operator, Processor, ProcessorFn, Stage,
    StageKind, Steps, Then,
};
pub use stream::{IntoIter, RecvTimeoutError, SendError, Sender, Stream, Tally, TryRecvError};

/// `Ok` with this crate's error type, so that a `?` closure needs no annotation.
#[allow(non_snake_case)]
pub fn Ok<T>(value: T) -> Result<T, BoxError> {
    Result::Ok(value)
}
