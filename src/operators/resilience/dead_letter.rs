//! [`DeadLetterQueue`]: separates failed items from the others.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::edge::{Gauge, Refused};
use crate::error::{Result, StreamError};
use crate::operators::options::{Options, common_options, live_debug, opaque_debug};
use crate::panic::{self, guard_drop};
use crate::pipeline::stats::{Counter, DropReason, StageKind};
use crate::pipeline::{CancelToken, Cause};
use crate::stage::branch::Branch;
use crate::stage::own_loop::{Desk, Work};
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_loop};
use crate::trace::event;

/// Splits a stream into its items and its failures.
///
/// Items continue in one stream; each error item becomes a [`DeadLetter`] in the other, with the failed item in it, to
/// be stored, inspected or retried. Nothing is lost unless [`with_overflow`](Self::with_overflow) allows it.
///
/// The two streams are bounded, so they must be read together: one of them on a thread of the pipeline, for
/// example with [`Stream::spawn_for_each`].
///
/// ```
/// use streamz::{DeadLetterQueue, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("parse");
/// let numbers = Stream::from_iter(&pipeline, ["1", "x", "3"])
///     .try_map(|text: &&str| text.parse::<i32>());
/// let output = DeadLetterQueue::new().process(&pipeline, numbers);
/// let (letters, received) = std::sync::mpsc::channel();
/// output.failed.spawn_for_each(move |letter| {
///     let (text, _error) = letter.unwrap().into_item::<&str>().unwrap();
///     letters.send(text).unwrap();
/// });
/// assert_eq!(output.items.collect::<Vec<_>>()?, [1, 3]);
/// pipeline.join();
/// assert_eq!(received.into_iter().collect::<Vec<_>>(), ["x"]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// Each of the two streams is in the order of the input.
///
/// # Back-pressure
/// The stage waits for room in the stream that the next item belongs to; while it waits, the other stream receives
/// nothing new. If `failed` is dropped, failures are counted as [undeliverable](DlqStats::undeliverable) and logged, and block nothing.
/// If `items` is dropped, items are counted as dropped and block nothing. If both are, the stage stops.
///
/// # Cancellation
/// Both streams are cut. Cancellation itself is never a dead letter.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("DLQ", "dlq", "poison", "dead letter", "quarantine"))]
pub struct DeadLetterQueue<T> {
    options: Options,
    failed_buffer: usize,
    overflow: Overflow,
    limit: Option<FailureLimit>,
    on_failure: Option<Hook>,
    types: PhantomData<fn(T)>,
}

type Hook = Arc<dyn Fn(&StreamError) + Send + Sync>;

/// Selects what a [`DeadLetterQueue`] does when the stream of failures has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// Waits for room, so that nothing is lost.
    #[default]
    Block,
    /// Drops the new failure, and counts it.
    DropNewest,
    /// Evicts the oldest waiting failure, and counts it.
    DropOldest,
}

/// Sets when a [`DeadLetterQueue`] stops the pipeline because of too many failures.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum FailureLimit {
    /// More than this many failures.
    Count(u64),
    /// A larger share of failures than `ratio` (0.0 to 1.0) among all items and failures, once there were `min_items`
    /// of them.
    Ratio {
        /// The maximum tolerated share.
        ratio: f64,
        /// The number of items and failures after which the share is evaluated.
        min_items: u64,
    },
}

impl FailureLimit {
    fn is_exceeded(self, items: u64, failed: u64) -> bool {
        let seen = items + failed;
        match self {
            FailureLimit::Count(limit) => failed > limit,
            FailureLimit::Ratio { ratio, min_items } => seen >= min_items && failed as f64 > ratio * seen as f64,
        }
    }
}

/// Holds a failed item, set aside by a [`DeadLetterQueue`].
#[derive(Debug, Clone)]
pub struct DeadLetter {
    error: StreamError,
}

impl DeadLetter {
    /// Returns the error: what went wrong and where, with the item inside.
    pub fn error(&self) -> &StreamError {
        &self.error
    }

    /// Takes the failed item out, and returns it with the error.
    ///
    /// # Errors
    /// The letter itself, if the error carries no item, or one of another type: see
    /// [`StreamError::item_type`].
    pub fn into_item<T: 'static>(self) -> Result<(T, StreamError), DeadLetter> {
        match self.error.take_item() {
            Some(item) => Ok((item, self.error)),
            None => Err(self),
        }
    }
}

impl From<DeadLetter> for StreamError {
    fn from(letter: DeadLetter) -> Self {
        letter.error
    }
}

/// Holds the two streams that a [`DeadLetterQueue`] splits a stream into.
#[derive(Debug)]
#[must_use = "dropping both streams stops what feeds them"]
pub struct DlqOutput<T> {
    /// The items.
    pub items: Stream<T>,
    /// The failures.
    pub failed: Stream<DeadLetter>,
    /// Live statistics of this run.
    pub stats: DlqStats,
}

/// Live statistics of one run of a [`DeadLetterQueue`]. Clones show the same numbers.
#[derive(Clone)]
pub struct DlqStats {
    counts: Arc<Counts>,
    /// Of the output for failures: knows the items in it when its reader left.
    failed: Arc<Gauge>,
}

#[derive(Default)]
struct Counts {
    items: Counter,
    failed: Counter,
    dropped: Counter,
    undeliverable: Counter,
}

impl DlqStats {
    /// Returns the number of items that arrived.
    pub fn items(&self) -> u64 {
        self.counts.items.get()
    }

    /// Returns the number of failures that arrived, whether or not they were delivered.
    pub fn failed(&self) -> u64 {
        self.counts.failed.get()
    }

    /// Returns the number of failures dropped for lack of room: only with an [`Overflow`] that drops.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.get()
    }

    /// Returns the number of failures that were never read, because their stream was dropped or everything was stopped.
    pub fn undeliverable(&self) -> u64 {
        // Failures after the stream was dropped, and those that were queued in it.
        self.counts.undeliverable.get() + self.failed.undelivered.load(Ordering::Relaxed)
    }

    /// Returns the share of failures among all items and failures, 0.0 to 1.0; 0.0 before the first of them.
    pub fn failure_ratio(&self) -> f64 {
        let (items, failed) = (self.items(), self.failed());
        if items + failed == 0 { 0.0 } else { failed as f64 / (items + failed) as f64 }
    }
}

live_debug! { DlqStats: items, failed, dropped, undeliverable }

impl<T: Send + 'static> DeadLetterQueue<T> {
    /// Creates a lossless queue. Default name: `dead_letters`.
    #[allow(clippy::new_without_default)] // `default` would not say what of
    pub fn new() -> Self {
        Self {
            options: Options::new("dead_letters"),
            failed_buffer: 100,
            overflow: Overflow::Block,
            limit: None,
            on_failure: None,
            types: PhantomData,
        }
    }

    common_options!();

    /// Sets how many failures may wait to be read. Defaults to 100. With 0 each is handed over directly.
    ///
    /// # Panics
    /// If `failures` is 0 and the [overflow](Self::with_overflow) policy is to drop the oldest; when the queue is used.
    pub fn with_failed_buffer_size(mut self, failures: usize) -> Self {
        self.failed_buffer = failures;
        self
    }

    /// Sets what to do when the stream of failures has no room. Defaults to waiting, so that none is lost.
    pub fn with_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Cancels the token that [`process`](Self::process) is given, with cause [`Cause::TooManyFailures`], when more
    /// items fail than `limit` allows. That stops the whole pipeline, or with a child token only that part of it.
    /// Defaults to no limit. Items in flight at that moment are abandoned; [`on_failure`](Self::on_failure) has seen
    /// every failure.
    ///
    /// # Panics
    /// If a ratio is not between 0.0 and 1.0.
    #[track_caller]
    pub fn with_limit(mut self, limit: FailureLimit) -> Self {
        if let FailureLimit::Ratio { ratio, .. } = limit {
            assert!((0.0..=1.0).contains(&ratio), "`ratio` must be between 0.0 and 1.0, not {ratio}");
        }
        self.limit = Some(limit);
        self
    }

    /// Calls `f` for each failure, on the stage's thread, before anything else happens to it. A panic in `f` is logged.
    pub fn on_failure(mut self, f: impl Fn(&StreamError) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Arc::new(f));
        self
    }

    /// The name that the stage has in reports and errors.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Starts a run that splits `input`.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, to one that has finished, or to another one than `input`.
    #[track_caller]
    pub fn process(&self, cancel: &CancelToken, input: Stream<T>) -> DlqOutput<T> {
        assert!(
            self.overflow != Overflow::DropOldest || self.failed_buffer > 0,
            "`failed_buffer_size` must be at least 1 to drop the oldest"
        );
        let registered = Registered::with_input(cancel, &input, &self.options.name, StageKind::Processor, &[], 1);
        let (items, items_stream) = registered.output("items", self.options.capacity);
        // Eager, so that the oldest failure is still in the queue when it has to be dropped.
        let (failed, failed_stream) =
            registered.output_with("failed", Some(self.failed_buffer), self.overflow == Overflow::DropOldest);
        let stats = DlqStats { counts: Arc::default(), failed: Arc::clone(failed.shared().gauge()) };
        let work = Splitter {
            overflow: self.overflow,
            limit: self.limit,
            on_failure: self.on_failure.clone(),
            stats: stats.clone(),
            told: false,
            types: PhantomData,
        };
        let ways = (Branch::new(items, &registered.stats), Branch::new(failed, &registered.stats));
        spawn_loop(registered, input, ways, work);
        DlqOutput { items: items_stream, failed: failed_stream, stats }
    }
}

struct Splitter<T> {
    overflow: Overflow,
    limit: Option<FailureLimit>,
    on_failure: Option<Hook>,
    stats: DlqStats,
    /// It has been logged that the failures are not read.
    told: bool,
    types: PhantomData<fn(T)>,
}

/// Items, and failures.
type Exits<T> = (Branch<T>, Branch<DeadLetter>);

impl<T: Send + 'static> Splitter<T> {
    fn put_aside(&mut self, error: StreamError, desk: &Desk<Exits<T>>) {
        self.stats.counts.failed.add(1);
        if let Some(hook) = &self.on_failure
            && let Err(payload) = panic::catch(|| hook(&error))
        {
            let stage = &desk.thread.stats.name;
            event!(
                error,
                { stage = %stage, panic = %payload.message() },
                "streamz: `on_failure` of stage `{stage}` panicked: {}",
                payload.message()
            );
        }
        // Before it is delivered: there may be no reader.
        self.check_limit(desk);
        self.deliver(DeadLetter { error }, desk);
    }

    fn deliver(&mut self, letter: DeadLetter, desk: &Desk<Exits<T>>) {
        let mut ways = desk.ways();
        let failed = &mut ways.1;
        let put = |failed: &mut Branch<DeadLetter>, letter| {
            desk.step().errors_out.add(1);
            desk.pushed(failed.push(Ok(letter)));
            Ok(None)
        };
        let outcome = match self.overflow {
            _ if failed.is_gone() => Err((Refused::Closed, Ok(letter))),
            Overflow::DropOldest => {
                desk.pushed(true);
                failed.offer_in_place_of_oldest(letter, |displaces| match displaces {
                    // It replaces the oldest, which has been counted as emitted.
                    true => self.dropped(desk),
                    false => desk.step().errors_out.add(1),
                })
            }
            Overflow::DropNewest if failed.is_full() => Err((Refused::Full, Ok(letter))),
            Overflow::DropNewest | Overflow::Block => put(failed, letter),
        };
        let unwanted = match outcome {
            Ok(oldest) => oldest.map(Ok),
            Err((Refused::Full, letter)) => {
                self.dropped(desk);
                Some(letter)
            }
            Err((Refused::Closed, letter)) => {
                self.stats.counts.undeliverable.add(1);
                desk.step().errors_absorbed.add(1);
                desk.undeliverable();
                self.tell(desk);
                Some(letter)
            }
        };
        drop(ways);
        guard_drop(unwanted);
    }

    fn dropped(&self, desk: &Desk<Exits<T>>) {
        self.stats.counts.dropped.add(1);
        desk.step().errors_absorbed.add(1);
    }

    /// Once per run.
    fn tell(&mut self, desk: &Desk<Exits<T>>) {
        if !std::mem::replace(&mut self.told, true) {
            event!(
                warn,
                { stage = %desk.thread.stats.name },
                "streamz: the dead letters of stage `{}` are not read",
                desk.thread.stats.name
            );
        }
    }

    fn check_limit(&self, desk: &Desk<Exits<T>>) {
        let (items, failed) = (self.stats.items(), self.stats.failed());
        if self.limit.is_some_and(|limit| limit.is_exceeded(items, failed)) {
            desk.thread.token.cancel_with(Cause::TooManyFailures { failed, seen: items + failed });
        }
    }
}

impl<T: Send + 'static> Work for Splitter<T> {
    type Item = T;
    type Ways = Exits<T>;

    fn item(&mut self, item: T, desk: &Desk<Exits<T>>) {
        self.stats.counts.items.add(1);
        // A good item, too, may be the one that makes the share count.
        self.check_limit(desk);
        let mut ways = desk.ways();
        let step = desk.step();
        if ways.0.is_gone() {
            step.dropped[DropReason::Undeliverable as usize].add(1);
            desk.undeliverable();
            drop(ways);
            return guard_drop(item);
        }
        step.delivered.add(1);
        step.emitted.add(1);
        desk.pushed(ways.0.push(Ok(item)));
    }

    fn error(&mut self, error: StreamError, desk: &Desk<Exits<T>>) {
        if error.is_cancelled() {
            // Cancellation is not a failure.
            desk.step().errors_out.add(1);
            desk.pushed(desk.ways().0.push(Err(error)));
        } else {
            self.put_aside(error, desk);
        }
    }

    fn publish(&mut self, desk: &Desk<Exits<T>>) {
        if !self.told && self.stats.undeliverable() > 0 {
            self.tell(desk);
        }
    }

    fn discard(self) {
        guard_drop(self.on_failure);
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Splits off the failures into a second stream: a lossless [`DeadLetterQueue`]. The two streams must be read
    /// together.
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn dead_letters(self) -> (Stream<T>, Stream<DeadLetter>) {
        let token = self.token().clone();
        let output = DeadLetterQueue::new().process(&token, self);
        (output.items, output.failed)
    }
}

opaque_debug! { [T] DeadLetterQueue<T>: options, failed_buffer, overflow, limit }
