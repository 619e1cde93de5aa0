//! Re-exports what most programs need: `use streamz::prelude::*;`.
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

// Lists instead of `operators::*`, for which rustdoc would make a second page of each item.
#[doc(no_inline)]
pub use crate::{
    BoxError, BoxProcessor, CancelToken, Cause, DropReason, Emit, ErrorKind, Inline, ManualClock, Operator, Outcome,
    PanicMessage, Pipeline, Processor, ProcessorFn, Report, Sender, Stream, StreamError,
};

// All that `operators` exports: `tests/behaviour/layers.rs` compares the two.
#[cfg(feature = "latency")]
#[doc(no_inline)]
pub use crate::AgeMeter;
#[doc(no_inline)]
pub use crate::{
    AdaptiveConcurrency, Aggregate, AggregateWindow, AsyncMapper, BatchConfig, Batcher, Broadcast, Buffer, Bulkhead,
    ByHash, ByRef, ByRule, ByValue, Call, CallError, CallFailure, CallLayer, CallStage, CallTimeout, Chunk, Circuit,
    CircuitBreaker, CircuitState, CircuitStats, Combine, ConcurrencyStats, Custom, DeadLetter, DeadLetterQueue,
    Debounce, Dedupe, DedupeStats, Delay, DlqOutput, DlqStats, DroppingBuffer, Enumerate, FailureLimit, Fallback,
    FallibleMapper, FanIn, FanOut, Filter, FilterMap, FlatMap, Flatten, GroupBy, GroupByStats, GroupOverflow, Hedge,
    HedgeStats, Hub, Interleave, Join, JoinSide, KeyOf, Keyed, KeyedBatcher, KeyedScan, KeyedScanStats, Lagged,
    Layered, Lift, LimitStats, MapErr, Mapper, MergeSorted, Monitor, NoSubscriber, NotSorted, OutOfOrder, Overflow,
    Pair, ParMapper, Partition, PartitionEach, PartitionOutput, PartitionStats, Partitioner, RateLimit, Recover,
    Rejection, Removal, Retry, RetryStats, Revised, RouteStats, Router, RouterOutput, Sample, Scan, SessionWindow,
    Skip, SkipWhile, SlidingBuffer, SlidingWindow, SlowSubscriber, SortByTime, Split, SplitOutput, SplitStats,
    StreamStats, Switch, Take, TakeWhile, Tap, TapStats, Throttle, Timeout, TooFarAhead, TooLate, TooManyGroups,
    TooManyHeld, TooSlow, TumblingWindow, Unbatcher, Window, WindowConfig, folds, joins, ops, windows, with_init,
};
