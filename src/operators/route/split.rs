//! [`Split`]: one stream into two.

use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};

use super::counts::{Runs, share};
use super::distribute::{Plan, Rule, Ways, distribute};
use crate::error::{ErrorKind, PanicMessage};
use crate::operators::options::{Options, common_options, live_debug, opaque_debug};
use crate::panic::{self, guard_drop};
use crate::pipeline::CancelToken;
use crate::stream::Stream;

/// Splits a stream in two: the items for which a predicate returns `true`, and the rest.
///
/// Error items go to the rest. If the predicate panics, its item goes there too, in an error item.
///
/// The two streams are bounded, so they must be read together: one of them by further stages, or with
/// [`Stream::spawn_for_each`]. One that is not read stops the other when it is full; the
/// [report](crate::StageReport::blocking) names it.
///
/// ```
/// use streamz::{Pipeline, Split, Stream};
///
/// let pipeline = Pipeline::new("orders");
/// let split = Split::new(|total: &u32| *total >= 100);
/// let large_and_small =
///     split.process(&pipeline, Stream::from_iter(&pipeline, [20, 150, 99, 100]));
/// large_and_small.rest.spawn_for_each(|small| assert!(small.unwrap() < 100));
/// assert_eq!(large_and_small.matched.collect::<Vec<_>>()?, [150, 100]);
/// pipeline.join();
/// assert_eq!(split.stats().matched_ratio(), 0.5);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// Each of the two streams is in the order of the input.
///
/// # Back-pressure
/// The stage waits for room in the stream that the next item belongs to; while it waits, the other stream receives
/// nothing new. A dropped stream blocks nothing: its items are counted as [undeliverable](SplitStats::undeliverable).
/// If the rest has been dropped, errors go to the matched stream. If both have been dropped, the stage stops.
///
/// # Cancellation
/// Both streams are cut.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("branch", "filter_split"))]
pub struct Split<T, P> {
    predicate: Arc<P>,
    options: Options,
    buffer: Option<usize>,
    runs: Runs,
    types: PhantomData<fn(T)>,
}

/// Holds the two streams that a [`Split`] makes.
#[derive(Debug)]
#[must_use = "dropping both streams stops what feeds them"]
pub struct SplitOutput<T> {
    /// The items for which the predicate returned `true`.
    pub matched: Stream<T>,
    /// The other items, and the errors.
    pub rest: Stream<T>,
    /// Live statistics of this run.
    pub stats: SplitStats,
}

/// Live statistics of a [`Split`], of one run or of all. Clones show the same numbers.
#[derive(Clone)]
pub struct SplitStats {
    runs: Runs,
}

/// The outputs.
const MATCHED: usize = 0;
const REST: usize = 1;

static NAMES: LazyLock<[Arc<str>; 2]> = LazyLock::new(|| ["matched".into(), "rest".into()]);

impl SplitStats {
    /// Returns the number of items for which the predicate returned `true`.
    pub fn matched(&self) -> u64 {
        self.runs.sum(2).ways[MATCHED].items
    }

    /// Returns the number of items for which the predicate returned `false`.
    pub fn rest(&self) -> u64 {
        self.runs.sum(2).ways[REST].items
    }

    /// Returns the number of items that arrived, including those on which the predicate panicked.
    pub fn total_items(&self) -> u64 {
        self.runs.sum(2).received
    }

    /// Returns the share of items that matched, 0.0 to 1.0; 0.0 before the first item.
    pub fn matched_ratio(&self) -> f64 {
        let sum = self.runs.sum(2);
        share(sum.ways[MATCHED].items, sum.received)
    }

    /// Returns the share of items that did not match, 0.0 to 1.0; 0.0 before the first item.
    pub fn rest_ratio(&self) -> f64 {
        let sum = self.runs.sum(2);
        share(sum.ways[REST].items, sum.received)
    }

    /// Returns the number of items that were never read, because their stream was dropped or everything was stopped.
    pub fn undeliverable(&self) -> u64 {
        self.runs.sum(2).ways.iter().map(|way| way.undeliverable).sum()
    }
}

live_debug! { SplitStats: matched, rest, undeliverable }

impl<T, P> Split<T, P>
where
    T: Send + 'static,
    P: Fn(&T) -> bool + Send + Sync + 'static,
{
    /// Splits items by `predicate`. Default name: `split`.
    pub fn new(predicate: P) -> Self {
        let (options, runs) = (Options::new("split"), Runs::default());
        Self { predicate: Arc::new(predicate), options, buffer: None, runs, types: PhantomData }
    }

    common_options! {
        with_name: options.name,
        /// Sets how many items may wait in each branch for a slow consumer. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity); with 0, every item is handed over directly.
        with_buffer_size(items): buffer,
    }

    /// Returns the name of the stage in reports and errors.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Returns live statistics, across all runs.
    pub fn stats(&self) -> SplitStats {
        SplitStats { runs: self.runs.clone() }
    }

    /// Starts a run that splits `input`.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, to one that has finished, or to another one than `input`.
    #[track_caller]
    pub fn process(&self, cancel: &CancelToken, input: Stream<T>) -> SplitOutput<T> {
        let (options, runs) = (&self.options, &self.runs);
        let plan = Plan { options, names: &*NAMES, errors: REST, buffer: self.buffer, runs };
        let (streams, counts) = distribute(&plan, cancel, input, ByPredicate(Arc::clone(&self.predicate)));
        let Ok([matched, rest]) = <[_; 2]>::try_from(streams) else { unreachable!("two ways out") };
        SplitOutput { matched, rest, stats: SplitStats { runs: Runs::of(&counts) } }
    }
}

struct ByPredicate<P>(Arc<P>);

impl<T, P> Rule<T> for ByPredicate<P>
where
    T: Send + 'static,
    P: Fn(&T) -> bool + Send + Sync + 'static,
{
    #[inline]
    fn item(&mut self, item: T, ways: &mut Ways<'_, T>) {
        match panic::catch(|| (self.0)(&item)) {
            Ok(matches) => ways.send(if matches { MATCHED } else { REST }, item),
            Err(payload) => ways.fail(ErrorKind::Panicked, PanicMessage::from(payload), item),
        }
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Splits the stream in two by `predicate`: a [`Split`]. The first stream has the items for which it returns
    /// `true`, the second the others and the errors. The two must be read together.
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn split(self, predicate: impl Fn(&T) -> bool + Send + Sync + 'static) -> (Stream<T>, Stream<T>) {
        let token = self.token().clone();
        let split = Split::new(predicate);
        let output = split.process(&token, self);
        // It may hold the last reference to the closure.
        guard_drop(split);
        (output.matched, output.rest)
    }
}

opaque_debug! { [T, P] Split<T, P>: options, buffer }
