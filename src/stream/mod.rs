//! Streams: the types that users hold. Processors, sources, sinks, and the sending side.

// rustdoc shows the methods of `Stream` in the order in which their modules are declared; the first `impl` block of a group
// has its heading.
pub(crate) mod origin;

mod stream;

mod receiver;

mod inline;
mod steps;

mod ends;
mod items;
mod iter;
mod spawned;

mod box_stage;
mod consumer;
mod hints;
mod processor;
mod sender;
pub(crate) mod start;

pub use box_stage::BoxStage;
pub use inline::{FromIter, FromLines, Inline, Origin};
pub use items::Items;
pub use iter::IntoIter;
pub use origin::{
    Directory, FileError, FileLine, Files, Follow, FollowEvent, FollowStart, FollowStats, FromLine, Interval,
    IntoLineReader, Line, LineError, LineReader, ReadErrors, Restart, RestartAttempt, RestartStats,
};
pub use processor::{BoxProcessor, Fused, Processor, ProcessorFn, Stage, Then};
pub use receiver::StreamReceiver;
pub use sender::{SendError, Sender};
pub use steps::{Chain, NoSteps, Only, Steps};
pub use stream::{RecvTimeoutError, Stream, TryRecvError};
