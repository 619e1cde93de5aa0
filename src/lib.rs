//! Stream processing with threads and bounded channels, without an async runtime.
//!
//! A program builds a pipeline out of small processors. Each is a stage with its own thread or threads; between two
//! stages is a bounded channel; one token stops them all.
//!
//! ![Lines of a file are parsed, enriched by a pool, and loaded in batches; failures go to a file][picture]
//!
//! ```
//! use std::time::Duration;
//! use streamz::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let lines = ["20.5", "oops", "22.0", "21.5"];
//!
//! let (sums, report) = Pipeline::run("readings", |pipeline| {
//!     let (readings, failed) = Stream::from_iter(pipeline, lines)
//!         .try_map(|line: &&str| line.parse::<f64>())
//!         .dead_letters();
//!     failed.spawn_for_each(|letter| {
//!         let (line, error) = letter.unwrap().into_item::<&str>().unwrap();
//!         println!("{line:?} was put aside: {error:#}");
//!     });
//!
//!     let batches = readings.batch(BatchConfig { max_size: 2, max_latency: Duration::from_secs(1) });
//!     batches.map(|batch: Vec<f64>| batch.iter().sum::<f64>()).collect::<Vec<_>>()
//! });
//! assert_eq!(sums?, [42.5, 21.5]);
//! assert!(report.is_complete());
//! println!("{report}"); // a table of the stages, and which one was the bottleneck
//! # Ok(())
//! # }
//! ```
//!
//! # The six ideas
//!
//! - [`Stream`] is the receiving end between two stages: items and errors, one consumer. [`Sender`] is the other end, for
//!   code that pushes.
//! - [`Processor`] turns a stream into another. It is configured once and may be used many times.
//! - [`CancelToken`] tells everything to stop, and says why.
//! - [`StreamError`] travels in place of an item that failed, and carries it.
//! - [`Pipeline`] owns the token and every thread: [`run`](Pipeline::run), [`join`](Pipeline::join),
//!   [`drain`](CancelToken::drain), [`abort`](Pipeline::abort), [`report`](Pipeline::report).
//! - [`Operator`] is a stage without its thread: what to implement for an operator of your own, with
//!   [`Custom`] around it.
//!
//! # Choosing
//!
//! | you want to | use |
//! |---|---|
//! | change, drop, or multiply items | [`Mapper`], [`Filter`], [`FilterMap`], [`FlatMap`], [`Flatten`], [`Scan`] |
//! | keep a state for each key | [`Scan::with_key`] |
//! | fail some of them | [`Mapper::fallible`]; then [`DeadLetterQueue`] or [`Recover`] |
//! | change the errors, or look at them | [`MapErr`], [`Stream::inspect_err`] |
//! | number them | [`Enumerate`] |
//! | look at them | [`Tap`] |
//! | take some of them | [`Take`], [`TakeWhile`], [`Skip`], [`SkipWhile`], [`Sample`], [`Dedupe`] |
//! | handle several together | [`Batcher`], [`Chunk`] |
//! | put items together by their time | [`TumblingWindow`], [`SlidingWindow`], [`SessionWindow`], each also with [`folds`], and [corrections](TumblingWindow::with_corrections) for what comes late |
//! | make one value of many | [`Aggregate`], [`Stream::fold_by`] |
//! | the top ten, distinct users, percentiles | [`folds`], in a window, an [`Aggregate`] or at the end |
//! | put items in the order of their times | [`SortByTime`] |
//! | wait for each (requests, disks) | [`AsyncMapper`]; in order for each key: [`AsyncMapper::keyed`] |
//! | retry a failed call, stop calling what fails, fall back to another | [`Retry`], [`CircuitBreaker`], [`Fallback`] around an [`AsyncMapper`] |
//! | limit calls: per second, at a time, in duration; also for each key | [`RateLimit`], [`Bulkhead`], [`CallTimeout`] around an [`AsyncMapper`] |
//! | put code of your own around each call | [`Layered`], [`CallLayer`] |
//! | make as many calls at a time as a service can take | [`AdaptiveConcurrency`] around an [`AsyncMapper`] |
//! | cut the time of the slowest calls by a second try | [`Hedge`] around an [`AsyncMapper`] |
//! | compute on all processors | [`ParMapper`] |
//! | even out bursts | [`Buffer`]; with loss, [`DroppingBuffer`], [`SlidingBuffer`] |
//! | go slower, or later | [`Throttle`], [`Debounce`], [`Delay`] |
//! | notice a silence | [`Timeout`] |
//! | be told how fast it goes, and that it stalls | [`Monitor`] |
//! | share one thread among cheap steps | [`Stream::stage`], [`Processor::fuse`] |
//! | run steps on the thread of a source or an end | [`Inline`] |
//! | send items different ways | [`Split`], [`Router`], [`Switch`], [`Partition`], [`FanOut`] |
//! | subscribe while items flow | [`Broadcast`], [`Hub`] |
//! | give each key a sub-pipeline of its own | [`GroupBy`] |
//! | make one stream of several | [`FanIn`]; one after another: [`Stream::chain`]; in pairs: [`Stream::zip`] |
//! | merge sorted streams; read several in turn | [`MergeSorted`]; [`Interleave`] |
//! | join two streams by key and time | [`Join`] |
//! | get one value: a sum, a maximum, the first that fits | [`Stream::consume`], [`Stream::fold`], [`Stream::reduce`] |
//! | read a stream on another thread | [`Stream::spawn`] |
//! | read files, or all files of a folder | [`Stream::file_lines`], [`Stream::directory`] |
//! | read a file that grows and is rotated | [`Stream::follow`] |
//! | make items in a closure | [`Stream::from_fn`] |
//! | restart a source that fails | [`Stream::restarting`] |
//! | name a part of a pipeline | [`ProcessorFn`], [`Processor::then`] |
//!
//! # Threads and memory
//!
//! A stage has one thread, a pool one for each worker; steps of a [`Stream::stage`] share one, and those of an
//! [`Inline`] piece need none of their own. A stream holds at most its
//! [capacity](PipelineBuilder::capacity) of items, each stage what it has in hand, and operators that keep more say
//! how much. The thread of a stage that has nothing to do is parked.
//!
//! # Testing
//!
//! Give the pipeline a [`ManualClock`] and move the time yourself. [`testing`] has a source and an end for such tests,
//! and a way to run an operator alone.
//!
//! # Features
//!
//! All are off by default.
//!
//! - `latency`: how long items and calls take in each stage and how old the items are when they leave it, as
//!   [`StageReport::latency`] and [`StageReport::age`], where [the pipeline's builder](PipelineBuilder) is told to record it.
//! - `live`: a view of the running pipeline on the terminal, by `pipeline.live()`.
//! - `metrics`: `Pipeline::export_metrics` exports the counts of every stage to the recorder of the `metrics` facade.
//! - `serde`: a [`Report`] with all its parts, a [`Diagnosis`] and a [`StreamError`] can be serialized, and read back.
//! - `sketches`: folds that estimate in a fixed room, `folds::approx_count_distinct` and `folds::approx_percentiles`.
//! - `tracing`: a span for each pipeline and each of its threads, and events with fields, for the subscriber of
//!   [`tracing`](https://docs.rs/tracing). As long as there is none, `log` gets the records that it gets without the feature.
//!
//! # More
//!
//! The [`guides`] lead from the first pipeline to how it works and what it costs; the [`patterns`] are whole programs. When a
//! pipeline hangs or is slow, see [`guides::operations`].
//!
#![doc = include_str!("../docs/pictures/overview.rustdoc")]
// docs.rs marks what needs a feature; it has the nightly compiler that this takes.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unnameable_types)]

// First those with methods of `Stream`, in the order in which its documentation shows them: see `stream/method_group.rs`.
mod stream;

mod operators;

pub mod delivery;

mod clock;
mod compile_fail;
#[cfg(feature = "serde")]
mod data;
mod edge;
mod error;
pub mod guides;
mod mark;
mod observe;
mod panic;
pub mod patterns;
mod pipeline;
pub mod prelude;
mod stage;
mod sync;
pub mod testing;
mod trace;

pub use clock::{Clock, ManualClock, MissedTicks, SystemClock};
pub use error::{BoxError, ErrorKind, PanicMessage, Result, StreamError};
#[cfg(feature = "live")]
pub use observe::Live;
pub use operators::*;
pub use panic::locate_panics;
#[cfg(feature = "latency")]
pub use pipeline::Latencies;
pub use pipeline::{
    CancelToken, Cancelled, Cause, Completion, DEFAULT_CAPACITY, DEFAULT_STACK_SIZE, Diagnosis, DropReason, Finding,
    InputReport, Latency, Outcome, OutputReport, Pace, Pipeline, PipelineBuilder, Report, StageKind, StageReport,
    StepReport, Task,
};
pub use stage::{Emit, Operator, Tally};
pub use stream::{
    BoxProcessor, BoxStage, Directory, FileError, FileLine, Files, Follow, FollowEvent, FollowStart, FollowStats,
    FromLine, Fused, Inline, Interval, IntoIter, IntoLineReader, Items, Line, LineError, LineReader, Processor,
    ProcessorFn, ReadErrors, RecvTimeoutError, Restart, RestartAttempt, RestartStats, SendError, Sender, Stage, Steps,
    Stream, StreamReceiver, Then, TryRecvError,
};

/// The parameters of [`Steps`] and [`Inline`]: which steps these have so far, and what they begin with.
///
/// They are named where a function takes or returns such a value, and nowhere else.
pub mod steps {
    pub use crate::stream::{Chain, FromIter, FromLines, NoSteps, Only, Origin};
}

/// The README, so that its code is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// `Ok` with a [`BoxError`], so that a closure with `?` in it needs no annotation.
///
/// ```
/// let half = |text: &str| streamz::ok(text.parse::<u32>()? / 2);
/// assert_eq!(half("8").unwrap(), 4);
/// ```
///
/// # Errors
/// Never.
pub fn ok<T>(value: T) -> Result<T, BoxError> {
    Ok(value)
}
