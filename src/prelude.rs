//! What most programs need: `use streamz::prelude::*;`.

pub use crate::operators::*;
pub use crate::{
    BoxProcessor, CancelToken, ErrorKind, Inline, Pipeline, Processor, ProcessorFn, Sender, Stream, StreamError,
};
