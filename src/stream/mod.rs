//! Streams: what users hold. Processors, sources, ends, and the sending side.

mod method_group;

pub(crate) use method_group::method_group;

// The order is that of the groups of methods: see `method_group.rs`.
pub(crate) mod origin;

mod stream;

mod receiver;

method_group! {
    /// # Sharing a thread
    ///
    /// Cheap steps that run on one thread, without queues between them.
    mod sharing
}

mod inline;
mod steps;

method_group! {
    /// # Sinks
    ///
    /// These consume the stream, on the calling thread or, with [`spawn`](Self::spawn), on another one.
    mod sinks
}

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
