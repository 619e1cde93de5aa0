//! The public side: [`GroupBy`] and its options.

use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::dispatcher::{Dispatcher, Limits, Ways};
use super::gather::{Exchange, Gather};
use super::stats::GroupByStats;
use crate::operators::options::{Options, common_options, opaque_debug};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::stage::Pass;
use crate::stream::start::{Registered, spawn_driver, spawn_loop};
use crate::stream::{Processor, Stream};

/// Gives each key a sub-pipeline of its own, built when the key is first seen, and merges their outputs into one stream.
///
/// `build` is given the key and a stream of its items, and returns the output stream: any chain of stages, with
/// batches, pools, retries, rate limits or timers of its own. It runs on the dispatcher's thread, for the first item of
/// a key, and must not read the stream itself.
///
/// A group ends when
///
/// - it has received no item for the [idle timeout](Self::with_idle_timeout) (by default that never happens). The time
///   counts from its last item, by the pipeline's clock;
/// - it is evicted, because there are [as many groups as allowed](Self::with_max_groups) and another key comes: see
///   [`with_overflow`](Self::with_overflow);
/// - the input ends;
/// - its stream ends by itself, as behind a `take(10)`.
///
/// In the first three cases it ends *gracefully*: its input closes, the items in it are processed, its stages are
/// flushed, and its threads end. A key that appears again gets a new group. A group that ended by itself is remembered,
/// so that `take(10)` means ten items for each key: further items of its key are dropped, and counted as
/// [undeliverable](crate::DropReason::Undeliverable). It is forgotten when it expires, or when its place is needed.
///
/// # Which to use
/// - `GroupBy`, if each key needs stages of its own and the keys are not known beforehand. A group has one thread for each of its
///   stages, so it suits tens or hundreds of keys that are active at a time, not millions.
/// - [`Partition`](crate::Partition), or a [keyed pool](crate::AsyncMapper::keyed), for any number of keys that share a fixed number of
///   sub-pipelines or workers, in order for each key.
/// - [`Scan::with_key`](crate::Scan::with_key), [`Batcher::with_key`](crate::Batcher::with_key) and keyed windows, for
///   state, batches or windows for each key: up to millions of keys, on one thread.
///
/// ```
/// use streamz::{GroupBy, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("orders");
/// let orders = [("ann", 5), ("bob", 7), ("ann", 1), ("ann", 3)];
/// let per_customer = GroupBy::new(
///     |(customer, _): &(&str, u32)| *customer,
///     |customer, orders| {
///         let customer = *customer;
///         orders
///             .map(|(_, amount)| amount)
///             .chunk(2)
///             .map(move |amounts| (customer, amounts))
///     },
/// );
/// let mut batches =
///     Stream::from_iter(&pipeline, orders).through(&per_customer).collect::<Vec<_>>()?;
/// batches.sort();
/// assert_eq!(batches, [("ann", vec![3]), ("ann", vec![5, 1]), ("bob", vec![7])]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// The items of one key stay in order, as far as its stages keep it. That holds across groups, too: a new group for a key
/// starts when the output of the earlier one has drained. Between keys there is no order. Error items of the input belong to no
/// key; they bypass the groups.
///
/// # Event time
/// Windows of event time within a group tell the inputs of a [merge](crate::FanIn#event-time) before the `GroupBy` apart. Behind the
/// `GroupBy` one watermark counts for all groups, some of which may be far behind others: an item that was held up in its group may be
/// late there. So put windows and joins into the groups, or in front of the `GroupBy`.
///
/// # Back-pressure
/// A full group holds up all others, as does an output that is not read. All groups are read as long as the output is,
/// so groups cannot block one another for lack of a reader, however many there are. Two things wait for a group to
/// drain: a key that needs its place, and its own key when it appears again; the other keys wait with them. So do not
/// make a group wait for something that only another group, or a later item of the input, can cause.
///
/// # Errors
/// An item becomes an error item that carries it, and its key gets no group, if
///
/// - the key closure, the `Hash` or `Eq` of the key, or `build` panics ([`Panicked`](crate::ErrorKind::Panicked));
/// - there are too many groups, with [`GroupOverflow::Reject`] ([`Rejected`](crate::ErrorKind::Rejected), from [`TooManyGroups`](crate::TooManyGroups));
/// - a thread of its group cannot be started, in particular because the pipeline has reached its
///   [maximum](crate::PipelineBuilder::max_threads) ([`Internal`](crate::ErrorKind::Internal); the source names the reason);
/// - `build` returns a stream of another pipeline ([`Failed`](crate::ErrorKind::Failed)).
///
/// The next item of the key starts another attempt.
///
/// # Cancellation
/// All groups and the output are cut. If only a group is cut, because `build` gave it a token of its own, the others run to their ends, and then
/// the output is cut with the group's error: it is complete only if all groups are.
///
/// # Threads and memory
/// Two threads, and one for each stage of each group; a group whose `build` returns the stream unchanged has none. Each
/// group holds the items of its stages and their outputs, and its input up to the [buffer
/// size](Self::with_buffer_size). For each item, the dispatcher checks every live group. A key that has no group takes
/// no memory.
///
/// The report lists each stage of each group, until there are 256 stages in all; from then on, those that have ended are added up
/// by name. So give the stages of all groups the same names.
///
/// # Source
/// `groupBy` of Akka Streams (a bound on sub-streams, and what happens to keys whose sub-stream is closed) and of Reactor, where
/// groups that outnumber the concurrency of the `flatMap` that reads them stop the whole; here one merge reads all of them.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("groupBy", "substreams", "group_by_key", "window_by_key", "per_key"))]
pub struct GroupBy<T, K, Out, F, G> {
    key: Arc<F>,
    build: Arc<G>,
    limits: Limits,
    options: Options,
    stats: GroupByStats,
    types: PhantomData<fn(T) -> (K, Out)>,
}

/// Selects what a [`GroupBy`] does with an item whose key would need one group too many.
///
/// In each case, a group that ended by itself gives up its place first, and the stage waits for a group that is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum GroupOverflow {
    /// Ends the least recently used group gracefully, and waits until its output has drained. Nothing is lost. With
    /// more keys in use than groups, this makes a new group for almost every item.
    #[default]
    Evict,
    /// Turns the item into an error item of kind [`Rejected`](crate::ErrorKind::Rejected).
    Reject,
    /// Waits until a group ends, and holds up all items behind this one. Without an [idle
    /// timeout](GroupBy::with_idle_timeout), and with groups that do not end by themselves, it waits for ever.
    Wait,
}

impl<T, K, Out, F, G> GroupBy<T, K, Out, F, G>
where
    T: Send + 'static,
    K: Hash + Eq + Send + 'static,
    Out: Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
    G: Fn(&K, Stream<T>) -> Stream<Out> + Send + Sync + 'static,
{
    /// Groups items by `key`, and sends those of each key through the pipeline that `build` makes of their stream.
    /// Default name: `group_by`.
    pub fn new(key: F, build: G) -> Self {
        Self {
            key: Arc::new(key),
            build: Arc::new(build),
            limits: Limits { max_groups: 64, idle_timeout: None, overflow: GroupOverflow::default(), buffer: None },
            options: Options::new("group_by"),
            stats: GroupByStats::default(),
            types: PhantomData,
        }
    }

    common_options! {
        /// Sets the name that the dispatcher has in reports and errors, and that its thread carries. The stage that merges the groups
        /// has the same name with `-merge` behind it.
        with_name: options.name,
        /// Sets how many items may wait in the merged output for a slow consumer. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity); with 0, every item is handed over directly.
        with_capacity(items): options.capacity,
        /// Sets how many items may wait in the input of each group. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity); with 0, every item is handed over directly.
        with_buffer_size(items): limits.buffer,
    }

    /// Sets the greatest number of groups at a time. Defaults to 64. Groups that are ending count until their output
    /// has drained.
    ///
    /// Each group has a thread for each of its stages: leave room for all of them below
    /// [`max_threads`](crate::PipelineBuilder::max_threads).
    ///
    /// # Panics
    /// If `max_groups` is 0.
    #[track_caller]
    pub fn with_max_groups(mut self, max_groups: usize) -> Self {
        assert!(max_groups > 0, "`max_groups` must be at least 1");
        self.limits.max_groups = max_groups;
        self
    }

    /// Ends a group that has received no item for the given time. Defaults to no expiry, as does `Duration::MAX`.
    ///
    /// An item that comes exactly `timeout` after the one before it starts a new group.
    ///
    /// # Panics
    /// If `timeout` is zero.
    #[track_caller]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "`timeout` must be greater than zero");
        self.limits.idle_timeout = Some(timeout).filter(|timeout| *timeout != Duration::MAX);
        self
    }

    /// Sets what to do with an item whose key would need one group too many. Defaults to [`GroupOverflow::Evict`].
    pub fn with_overflow(mut self, overflow: GroupOverflow) -> Self {
        self.limits.overflow = overflow;
        self
    }

    /// Returns live statistics, across all runs.
    pub fn stats(&self) -> GroupByStats {
        self.stats.clone()
    }
}

impl<T, K, Out, F, G> Processor for GroupBy<T, K, Out, F, G>
where
    T: Send + 'static,
    K: Hash + Eq + Send + 'static,
    Out: Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
    G: Fn(&K, Stream<T>) -> Stream<Out> + Send + Sync + 'static,
{
    type In = T;
    type Out = Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<T>) -> Stream<Out> {
        let (cancel, input) = input.enter(cancel);
        let name = &self.options.name;
        let own = Registered::with_input(&cancel, &input, name, StageKind::Processor, &[], 1);
        let (sender, errors) = own.output::<Out>("errors", None);
        let merge = format!("{name}-merge");
        let errors_only = std::slice::from_ref(&errors);
        let gather = Registered::with_inputs(&cancel, errors_only, &merge, StageKind::Processor, &[], 1);
        let exchange = Exchange::new();
        let ways = Ways::new(sender, &own.stats, &exchange);
        let dispatcher = Dispatcher::new(
            (Arc::clone(&self.key), Arc::clone(&self.build)),
            self.limits,
            self.stats.counts(),
            Arc::clone(&exchange),
            Arc::clone(&gather.stats),
            own.origins.clone(),
        );
        let feed = Gather::new(errors.into_input(), cancel.clock().clone(), &exchange);
        let output = spawn_driver(gather, self.options.capacity, Pass::new(), feed);
        spawn_loop(own, input, ways, dispatcher);
        output
    }

    fn name(&self) -> &str {
        &self.options.name
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Gives each key a sub-pipeline of its own, and merges their outputs: a [`GroupBy`] of up to 64 groups.
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn group_by<K, Out>(
        self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
        build: impl Fn(&K, Self) -> Stream<Out> + Send + Sync + 'static,
    ) -> Stream<Out>
    where
        K: Hash + Eq + Send + 'static,
        Out: Send + 'static,
    {
        self.through_once(GroupBy::new(key, build))
    }
}

opaque_debug! { [T, K, Out, F, G] GroupBy<T, K, Out, F, G>: limits, options, stats }
