//! What most programs need: `use streamz::prelude::*;`.

pub use crate::operators::*;
pub use crate::{BoxProcessor, CancelToken, ErrorKind, Pipeline, Processor, ProcessorFn, Sender, Stream, StreamError};
