//! What most programs need: `use streamz::prelude::*;`.

pub use crate::operators::*;
pub use crate::{
    BoxProcessor, CallError, CallFailure, CancelToken, ErrorKind, Inline, Pipeline, Processor, ProcessorFn, Sender,
    Stream, StreamError,
};
