//! Streams: the types that users hold. Processors, sources, sinks, and the sending side.

mod box_stage;
mod consumer;
mod ends;
mod hints;
mod inline;
mod items;
mod iter;
pub(crate) mod origin;
mod processor;
mod receiver;
mod sender;
mod spawned;
pub(crate) mod start;
mod steps;
mod stream;

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
