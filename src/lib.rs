//! Stream processing with threads and bounded channels, without an async runtime.
//!
//! A program builds a pipeline out of small processors. Each is a stage with one or more threads of its own. A bounded
//! queue connects two stages, and one token stops them all.
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
//!         println!("{line:?} was set aside: {error:#}");
//!     });
//!
//!     let config = BatchConfig { max_size: 2, max_latency: Duration::from_secs(1) };
//!     let batches = readings.batch(config);
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
//! - [`Stream`] is the consumer's end of the queue between two stages: it yields items and errors. [`Sender`] is the other
//!   end, for code that pushes.
//! - [`Processor`] turns a stream into another one. It is configured once and may be used many times.
//! - [`CancelToken`] tells everything to stop, and says why.
//! - [`StreamError`] travels in place of an item that failed, and carries it.
//! - [`Pipeline`] owns the token and every thread: [`run`](Pipeline::run), [`join`](Pipeline::join),
//!   [`drain`](CancelToken::drain), [`abort`](Pipeline::abort), [`report`](Pipeline::report).
//! - [`Operator`] is a stage without its thread. Implement it for an operator of your own, and run it with [`Custom`].
//!
//! # Choosing an operator
//!
//! Most operators are also methods of a stream: [`Stream`] lists them by purpose.
//!
//! | to do this | use |
//! |---|---|
//! | read files, or all files of a folder | [`Stream::file_lines`], [`Stream::directory`] |
//! | read a file that grows and is rotated | [`Stream::follow`] |
//! | generate items with a closure | [`Stream::from_fn`] |
//! | restart a source that fails | [`Stream::restarting`] |
//! | **Items** | |
//! | change, drop or multiply items | [`Mapper`], [`Filter`], [`FilterMap`], [`FlatMap`], [`Flatten`] |
//! | keep a state, in total or for each key | [`Scan`], [`Scan::with_key`] |
//! | number items | [`Enumerate`] |
//! | look at items | [`Tap`] |
//! | select items | [`Take`], [`TakeWhile`], [`Skip`], [`SkipWhile`], [`Sample`], [`Dedupe`] |
//! | **Failures** | |
//! | let items fail, and handle the failures | [`Mapper::fallible`]; then [`DeadLetterQueue`] or [`Recover`] |
//! | change or log errors | [`MapErr`], [`Stream::inspect_err`] |
//! | **Parallel work** | |
//! | wait for requests or disks on many threads | [`AsyncMapper`]; in order for each key: [`AsyncMapper::keyed`] |
//! | retry a failed call, stop calling a failing service, fall back | [`Retry`], [`CircuitBreaker`], [`Fallback`] around an [`AsyncMapper`] |
//! | limit calls: per second, at a time, in duration, in total or for each key | [`RateLimit`], [`Bulkhead`], [`CallTimeout`] around an [`AsyncMapper`] |
//! | find out how many calls a service can handle | [`AdaptiveConcurrency`] around an [`AsyncMapper`] |
//! | shorten the slowest calls with a second try | [`Hedge`] around an [`AsyncMapper`] |
//! | run your own code around each call | [`Layered`], [`CallLayer`] |
//! | compute on all processors | [`ParMapper`] |
//! | **Groups and time** | |
//! | handle several items together | [`Batcher`], [`Chunk`] |
//! | group items by time | [`TumblingWindow`], [`SlidingWindow`], [`SessionWindow`], with [`folds`], and with [corrections](TumblingWindow::with_corrections) for late items |
//! | fold many items into one value | [`Aggregate`], [`Stream::fold_by`] |
//! | find the top ten, distinct users, percentiles | [`folds`], in a window, in an [`Aggregate`] or at the end |
//! | sort items by their times | [`SortByTime`] |
//! | **Rate and buffers** | |
//! | absorb bursts | [`Buffer`]; with loss: [`DroppingBuffer`], [`SlidingBuffer`] |
//! | slow down or delay items | [`Throttle`], [`Debounce`], [`Delay`] |
//! | detect silence | [`Timeout`] |
//! | measure throughput, and detect stalls | [`Monitor`] |
//! | **Several streams** | |
//! | route items to different streams | [`Split`], [`Router`], [`Switch`], [`Partition`], [`FanOut`] |
//! | add subscribers while items flow | [`Broadcast`], [`Hub`] |
//! | give each key a sub-pipeline of its own | [`GroupBy`] |
//! | merge streams | [`FanIn`]; sorted: [`MergeSorted`]; in turn: [`Interleave`]; one after another: [`Stream::chain`] |
//! | pair or join two streams | by position: [`Stream::zip`]; by key and time: [`Join`] |
//! | **Structure** | |
//! | share one thread among cheap steps | [`Stream::stage`], [`Processor::fuse`] |
//! | run steps on the thread of a source or a sink | [`Inline`] |
//! | name a part of a pipeline | [`ProcessorFn`], [`Processor::then`] |
//! | get one value: a sum, a maximum, the first match | [`Stream::consume`], [`Stream::fold`], [`Stream::reduce`]; on several threads: [`Stream::par_fold`] |
//! | consume a stream on another thread | [`Stream::spawn`] |
//!
//! # Threads and memory
//!
//! A stage has one thread, a pool one for each worker. The steps of a [`Stream::stage`] share one; those of an [`Inline`]
//! piece need none of their own. A stream holds at most its [capacity](PipelineBuilder::capacity) of items, and each stage
//! the items that it is processing; operators that hold more document how many. Nothing runs while there is nothing to do.
//!
//! # Testing
//!
//! Give the pipeline a [`ManualClock`] and move the time yourself. [`testing`] has a source and a sink for such tests, and a
//! way to run an operator alone.
//!
//! # Features
//!
//! All are off by default.
//!
//! | feature | adds |
//! |---|---|
//! | `latency` | times of items and calls in each stage, and ages of items, as [`StageReport::latency`] and [`StageReport::age`], if [the pipeline's builder](PipelineBuilder) turns them on |
//! | `live` | a view of the running pipeline on the terminal: `Pipeline::live` |
//! | `metrics` | the counts of every stage for the recorder of the `metrics` facade: `Pipeline::export_metrics` |
//! | `serde` | serialization of a [`Report`] with all its parts, a [`Diagnosis`] and a [`StreamError`], both ways |
//! | `sketches` | folds that estimate in a fixed amount of memory: `folds::approx_count_distinct`, `folds::approx_percentiles` |
//! | `tracing` | a span for each pipeline and each of its threads, and events with fields, for a subscriber of [`tracing`](https://docs.rs/tracing). Without a subscriber, `log` gets the same records as without the feature |
//!
//! # More
//!
//! The [`guides`] lead from the first pipeline to how it works and what it costs; the [`patterns`] are complete programs.
//! If a pipeline hangs or is slow, see [`guides::operations`].
//!
#![doc = include_str!("../docs/pictures/overview.rustdoc")]
// docs.rs marks what needs a feature; it has the nightly compiler that this takes.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unnameable_types)]

// First those with methods of `Stream`, in the order in which its documentation shows them: see `stream/mod.rs`.
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

/// Type parameters of [`Steps`] and [`Inline`]: the steps that they have so far, and their input.
///
/// Name them only where a function takes or returns such a value.
pub mod steps {
    pub use crate::stream::{Chain, FromIter, FromLines, NoSteps, Only, Origin};
}

/// The README, so that its code is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Returns `Ok` with the error type [`BoxError`], so that a closure with `?` in it needs no annotation.
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
