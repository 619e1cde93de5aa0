//! Which types may go to another thread, and which may be shared: a promise that nothing else in the code would notice to
//! be broken.

use std::rc::Rc;

use streamz::testing::{Harness, Recorder, TestSink, TestSource};
use streamz::{
    AdaptiveConcurrency, AsyncMapper, Batcher, BoxProcessor, Buffer, Bulkhead, CallTimeout, CancelToken, Cancelled,
    Cause, Chunk, Circuit, CircuitBreaker, CircuitStats, Clock, Combine, ConcurrencyStats, Custom, DeadLetter,
    DeadLetterQueue, Dedupe, DedupeStats, DlqOutput, DlqStats, Enumerate, ErrorKind, FailureLimit, Fallback,
    FallibleMapper, Filter, FilterMap, FlatMap, Flatten, Fused, Hedge, HedgeStats, KeyedBatcher, Layered, LimitStats,
    ManualClock, MapErr, Mapper, Outcome, OutputReport, PanicMessage, ParMapper, Pipeline, PipelineBuilder,
    ProcessorFn, RateLimit, Recover, RecvTimeoutError, Report, Retry, RetryStats, Sample, Scan, SendError, Sender,
    Skip, SkipWhile, Stage, StageReport, StepReport, Stream, StreamError, SystemClock, Take, TakeWhile, Tap, TapStats,
    Task, Then, TryRecvError,
};
use streamz::{
    Aggregate, Interleave, Join, JoinSide, MergeSorted, NotSorted, Pair, SessionWindow, SlidingWindow, TooFarAhead,
    TooLate, TooManyHeld, TumblingWindow,
};

fn is_send<T: Send>() {}
fn is_shared<T: Send + Sync>() {}

/// Can be sent, but not shared.
type Item = std::cell::Cell<u8>;
/// Can be neither. A processor that only mentions such a type may go anywhere all the same.
type Local = Rc<u8>;

/// Folds such items.
struct Folding;

impl streamz::folds::Fold<Local> for Folding {
    type State = ();
    type Result = ();
    fn init(&self) {}
    fn fold(&self, _: &mut (), _: &Local) {}
    fn merge(&self, _: &mut (), _: &()) {}
    fn finish(&self, _: ()) {}
}

#[test]
fn handles_of_a_pipeline_are_send_and_sync() {
    is_shared::<Pipeline>();
    is_shared::<PipelineBuilder>();
    is_shared::<CancelToken>();
    is_shared::<Clock>();
    is_shared::<ManualClock>();
    is_shared::<SystemClock>();
}

#[test]
fn sinks_and_sources_are_send() {
    is_send::<streamz::IntoIter<Vec<u8>>>();
    is_shared::<Sender<Item>>();
    is_send::<Stream<Item>>();
    is_send::<DlqOutput<Item>>();
    is_shared::<Task<Item>>();
}

#[test]
fn sources_go_to_another_thread() {
    is_send::<streamz::Follow>();
    is_send::<streamz::Directory>();
    is_send::<streamz::Files>();
    is_send::<streamz::Restart<fn()>>();
    is_shared::<streamz::RestartStats>();
    is_shared::<streamz::RestartAttempt>();
}

#[test]
fn errors_and_reports_are_send_and_sync() {
    is_shared::<StreamError>();
    is_shared::<ErrorKind>();
    is_shared::<PanicMessage>();
    is_shared::<Cause>();
    is_shared::<Cancelled>();
    is_shared::<TryRecvError>();
    is_shared::<RecvTimeoutError>();
    is_send::<SendError<Item>>();
    is_shared::<DeadLetter>();
    is_shared::<Outcome>();
    is_shared::<Report>();
    is_shared::<StageReport>();
    is_shared::<StepReport>();
    is_shared::<OutputReport>();
    is_shared::<DlqStats>();
    is_shared::<Circuit>();
    is_shared::<CircuitStats>();
    is_shared::<RetryStats>();
    is_shared::<ConcurrencyStats>();
    is_shared::<HedgeStats>();
    is_shared::<LimitStats>();
    is_shared::<DedupeStats>();
    is_shared::<streamz::KeyedScanStats>();
    is_shared::<TapStats>();
    is_shared::<streamz::FollowStats>();
    is_shared::<streamz::FileError>();
    is_shared::<TooFarAhead>();
    is_shared::<TooLate>();
    is_shared::<TooManyHeld>();
    is_shared::<NotSorted>();
    is_shared::<Pair<u8, u8>>();
    is_shared::<FailureLimit>();
}

#[test]
fn processors_are_shared_whatever_their_items() {
    type F = fn();
    type Fallible = FallibleMapper<Item, Item, std::fmt::Error, fn(&Item) -> Result<Item, std::fmt::Error>>;
    is_shared::<Mapper<Local, Local, F>>();
    is_shared::<FallibleMapper<Local, Local, Local, F>>();
    is_shared::<Filter<Local, F>>();
    is_shared::<FilterMap<Local, Local, F>>();
    is_shared::<FlatMap<Local, Local, F>>();
    is_shared::<Flatten<Local>>();
    is_shared::<Scan<Local, Local, Local, F, F>>();
    is_shared::<streamz::KeyedScan<Local, Local, Local, Local, F, F, F>>();
    is_shared::<Tap<Local, F>>();
    is_shared::<Take<Local>>();
    is_shared::<TakeWhile<Local, F>>();
    is_shared::<Skip<Local>>();
    is_shared::<SkipWhile<Local, F>>();
    is_shared::<Sample<Local>>();
    is_shared::<Dedupe<Local, Local, F>>();
    is_shared::<Recover<Local, F>>();
    is_shared::<MapErr<Local, F>>();
    is_shared::<Enumerate<Local>>();
    is_shared::<Batcher<Local>>();
    is_shared::<KeyedBatcher<Local, Local, F>>();
    is_shared::<streamz::SortByTime<Local, fn(&Local) -> std::time::SystemTime>>();
    is_shared::<Chunk<Local>>();
    is_shared::<Aggregate<Local, Folding>>();
    is_shared::<TumblingWindow<Local>>();
    is_shared::<Interleave<Local>>();
    is_shared::<MergeSorted<Local, Local, fn(&Local) -> Local>>();
    type Side = JoinSide<Local, Local, fn(&Local) -> Local, fn(&Local) -> std::time::SystemTime>;
    is_shared::<Join<Side, Side>>();
    is_shared::<SlidingWindow<Local>>();
    is_shared::<SessionWindow<Local, F>>();
    is_shared::<Buffer<Local>>();
    is_shared::<AsyncMapper<Local, Local, Local, F>>();
    is_shared::<Retry<Fallible>>();
    is_shared::<CircuitBreaker<Fallible>>();
    is_shared::<AdaptiveConcurrency<Fallible>>();
    is_shared::<Hedge<Fallible>>();
    is_shared::<Combine<Fallible, Item, fn()>>();
    is_shared::<Fallback<Fallible, fn()>>();
    is_shared::<Layered<Fallible, F>>();
    is_shared::<RateLimit<Fallible>>();
    is_shared::<Bulkhead<Fallible>>();
    is_shared::<CallTimeout<Fallible>>();
    is_shared::<ParMapper<Local, Local, F>>();
    is_shared::<DeadLetterQueue<Local>>();
    is_shared::<ProcessorFn<Local, Local, F>>();
    is_shared::<Custom<F>>();
    is_shared::<Then<Take<Local>, Skip<Local>>>();
    is_shared::<Fused<Take<Local>, Skip<Local>>>();
    is_shared::<BoxProcessor<Item, Item>>();
}

#[test]
fn test_helpers_are_send() {
    is_send::<Harness<<Take<Item> as Stage>::Op>>();
    is_send::<(TestSource<Item>, TestSink<Item>)>();
    is_shared::<Recorder<Item>>();
}

#[test]
fn handles_may_be_used_across_a_caught_panic() {
    fn is_unwind_safe<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    is_unwind_safe::<Stream<Item>>();
    is_unwind_safe::<streamz::Sender<Item>>();
    is_unwind_safe::<Pipeline>();
    is_unwind_safe::<CancelToken>();
}
