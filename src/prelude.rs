//! What most programs need: `use streamz::prelude::*;`.
//!
//! The whole crate may be imported that way, too, and neither import changes what a name of the standard prelude means:
//!
//! ```
//! use streamz::*;
//!
//! let twice =
//!     |text: &str| -> std::result::Result<u32, BoxError> { Ok(text.parse::<u32>()? * 2) };
//! assert!(matches!(twice("4"), Ok(8)));
//! assert!(matches!(twice("four"), Err(_)) && Some(1).is_some());
//! ```

pub use crate::operators::*;
pub use crate::{
    BoxError, BoxProcessor, CancelToken, Cause, DropReason, Emit, ErrorKind, Inline, ManualClock, Operator, Outcome,
    PanicMessage, Pipeline, Processor, ProcessorFn, Report, Sender, Stream, StreamError,
};
