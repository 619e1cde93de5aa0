//! [`MergeSorted`]: several sorted streams as one.
//!
//! # Invariants
//!
//! - One item of each input, its *head*, is held until it is the smallest. An item is emitted when every input that has
//!   not ended has a head; then the input that it came from is read, and no other. So there is exactly one input to
//!   wait for.
//! - `order` lists the inputs that have a head, the largest first. A new one is inserted by binary search: the
//!   comparisons, which are user code, change nothing, so a panic in one affects only the new item. Moving the numbers
//!   behind it is cheaper than the comparisons of a heap, for up to some thousand inputs.
//! - The last emitted item came from the input that is read next. So a new item that is less than it is also less than
//!   its predecessor in its input, and vice versa.

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::wait::Waiter;
use crate::edge::{End, Polled};
use crate::error::{ErrorKind, StreamError};
use crate::operators::epochs::{Epoch, Epochs};
use crate::operators::options::{Options, common_options, opaque_debug};
use crate::operators::steering::Steering;
use crate::panic::{self, Held, guard_drop};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::pipeline::timing::Phase;
use crate::stage::input::{Feed, Input, Inputs, announcer};
use crate::stage::thread::StageThread;
use crate::stage::{Emit, Operator};
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_driver};

/// Merges streams that are sorted by a key into one sorted stream.
///
/// `key` returns the key of an item, and is called once for each; keys are compared by `Ord`. For descending order use
/// [`std::cmp::Reverse`]. The streams may have any length; the output ends when all have ended, and with no streams, at
/// once.
///
/// The output is always sorted: an item whose key is less than that of the item before it in the same stream becomes an
/// error item of kind [`Failed`](crate::ErrorKind::Failed) that carries it, with [`NotSorted`] as its source.
///
/// If `key` or the comparison of a key panics, the item becomes an error item that carries it.
///
/// ```
/// use streamz::{MergeSorted, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("merge");
/// let streams = [vec![(1, "a"), (4, "a")], vec![(1, "b"), (2, "b")], vec![(3, "c")]];
/// let streams = streams.map(|events| Stream::from_iter(&pipeline, events));
/// let merged = MergeSorted::new(|(time, _): &(u32, &str)| *time)
///     .process(&pipeline, streams)
///     .collect::<Vec<_>>()?;
/// assert_eq!(merged, [(1, "a"), (1, "b"), (2, "b"), (3, "c"), (4, "a")]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Event time
/// The output is one stream with one watermark. If the key is the time, none of its items is late.
///
/// # Ordering
/// By key; items with equal keys in the order of the streams. An error item is forwarded when it is reached, so it
/// stays between the items of its own stream.
///
/// # Back-pressure
/// All streams wait for the one whose next item is not known. Streams that come from one stage, such as those of a
/// [`fan_out`](Stream::fan_out) or [`partition`](crate::Partition), can be merged as long as none of them is silent for
/// longer than the others can be buffered. Otherwise the pipeline stalls;
/// [`Report::diagnosis`](crate::Report::diagnosis) then names the stages that wait for one another.
///
/// # Cancellation
/// The output is cut, as it is where one of the streams was cut: the next item is not known. The items that are held
/// are dropped and counted as abandoned.
///
/// # Memory
/// One item of each stream, and its key.
#[must_use = "a processor does nothing until it is given streams"]
#[doc(alias("kmerge", "kmerge_by", "merge_sorted_by_key", "k-way merge"))]
pub struct MergeSorted<T, K, F> {
    key: Arc<F>,
    options: Options,
    types: PhantomData<fn(T) -> K>,
}

/// Reports an item that is less than the one before it in an input of a [`MergeSorted`]; the source of its error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stream {stream} is not sorted: the item is less than the one before it")]
pub struct NotSorted {
    /// The index of the stream, counted from 0.
    pub stream: usize,
}

impl<T, K, F> MergeSorted<T, K, F>
where
    T: Send + 'static,
    K: Ord + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    /// Creates a merge of any number of streams by `key`. Default name: `merge_sorted`.
    pub fn new(key: F) -> Self {
        Self { key: Arc::new(key), options: Options::new("merge_sorted"), types: PhantomData }
    }

    common_options!();

    /// Returns the name of the stage in reports and errors.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Starts a run that merges `streams`.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, to one that has finished, or to another one than one of the streams.
    #[track_caller]
    pub fn process(&self, cancel: &CancelToken, streams: impl IntoIterator<Item = Stream<T>>) -> Stream<T> {
        let streams: Vec<Stream<T>> = streams.into_iter().collect();
        let registered = Registered::with_inputs(cancel, &streams, self.name(), StageKind::Processor, &[], 1);
        let steering = Steering::new(cancel.now());
        let operator = MergeOperator::new(Arc::clone(&self.key), streams.len(), steering.clone());
        let inputs: Vec<_> = streams.into_iter().map(|stream| Some(stream.into_input())).collect();
        let feed = Chosen { open: inputs.len(), inputs, steering };
        spawn_driver(registered, self.options.capacity, operator, feed)
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Merges this stream with others, all sorted by `key`, into one sorted stream: a [`MergeSorted`].
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("merge");
    /// let numbers = |numbers| Stream::from_iter(&pipeline, numbers);
    /// let merged = numbers([1, 4, 5])
    ///     .merge_sorted([numbers([2, 3, 9])], |n| *n)
    ///     .collect::<Vec<_>>()?;
    /// assert_eq!(merged, [1, 2, 3, 4, 5, 9]);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If the pipeline has finished, or one of the streams belongs to another.
    #[track_caller]
    pub fn merge_sorted<K, F>(self, others: impl IntoIterator<Item = Stream<T>>, key: F) -> Stream<T>
    where
        K: Ord + Send + 'static,
        F: Fn(&T) -> K + Send + Sync + 'static,
    {
        let token = self.token().clone();
        MergeSorted::new(key).process(&token, std::iter::once(self).chain(others))
    }
}

opaque_debug! { [T, K, F] MergeSorted<T, K, F>: options }

/// The inputs, one of which the operator selects. An input that has ended is removed.
struct Chosen<T> {
    inputs: Vec<Option<Input<T>>>,
    /// The number that have not ended.
    open: usize,
    steering: Steering,
}

impl<T: Send + 'static> Feed for Chosen<T> {
    /// With the number of its input.
    type Item = (usize, T);
    type Hand = ();

    #[inline]
    fn poll(&mut self) -> Polled<(usize, T)> {
        if self.open == 0 {
            return Polled::Ended(End::Finished);
        }
        let turn = self.steering.turn();
        let Some(Some(input)) = self.inputs.get_mut(turn) else { return Polled::Empty };
        match input.poll() {
            Polled::Item(item) => Polled::Item(item.map(|item| (turn, item)).map_err(StreamError::widened)),
            Polled::Empty => Polled::Empty,
            Polled::Ended(End::Finished) => {
                self.inputs[turn] = None;
                self.open -= 1;
                self.steering.tell_end(turn);
                Polled::Empty
            }
            Polled::Ended(cut) => Polled::Ended(cut),
        }
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        if self.steering.has_news() {
            return;
        }
        match self.inputs.get(self.steering.turn()) {
            Some(Some(input)) => input.wait(thread, until, hint, register),
            _ => thread.wait(Phase::Idle, until, hint, register),
        }
    }

    fn settle(&self) {
        self.inputs.settle();
    }

    fn announcer(&self) -> Box<dyn Fn()> {
        announcer(&self.inputs)
    }
}

struct MergeOperator<T, K, F> {
    key: Arc<F>,
    /// The heads of the inputs: the items, their keys, and the epochs in which they came.
    items: Held<Vec<Option<T>>>,
    keys: Held<Vec<Option<K>>>,
    began: Vec<Option<Epoch>>,
    /// The inputs that have one, the largest first.
    order: Vec<usize>,
    /// The number of inputs that have not ended.
    open: usize,
    /// The key of the item that was emitted last.
    last: Held<Option<K>>,
    epochs: Epochs,
    steering: Steering,
}

impl<T, K, F> MergeOperator<T, K, F>
where
    T: Send + 'static,
    K: Ord + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    fn new(key: Arc<F>, inputs: usize, steering: Steering) -> Self {
        Self {
            key,
            items: Held::from((0..inputs).map(|_| None).collect::<Vec<_>>()),
            keys: Held::from((0..inputs).map(|_| None).collect::<Vec<_>>()),
            began: vec![None; inputs],
            order: Vec::with_capacity(inputs),
            open: inputs,
            last: Held::default(),
            epochs: Epochs::new(),
            steering,
        }
    }

    /// The place of a new head in `order`; `None` if it is less than the last emitted item. Calls user code, and
    /// changes nothing.
    #[inline]
    fn place(&self, input: usize, key: &K) -> Option<usize> {
        if self.last.as_ref().is_some_and(|last| key < last) {
            return None;
        }
        let is_greater = |other: &usize| match &self.keys[*other] {
            Some(head) => head.cmp(key).then(other.cmp(&input)) == Ordering::Greater,
            None => unreachable!("it is listed, so it has a head"),
        };
        Some(self.order.partition_point(is_greater))
    }

    /// The input whose turn it is has a head, or has ended.
    #[inline]
    fn go_on(&mut self, out: &mut impl Emit<T>) {
        if self.order.len() < self.open {
            // The first head of each is read one after the other.
            return self.steering.set_turn(self.steering.turn() + 1);
        }
        if let Some(input) = self.order.pop() {
            let epoch = self.began[input].take();
            guard_drop(std::mem::replace(&mut *self.last, self.keys[input].take()));
            self.items[input].take().into_iter().for_each(|item| out.emit(item));
            drop(epoch);
            self.steering.set_turn(input);
        }
    }
}

impl<T, K, F> Operator for MergeOperator<T, K, F>
where
    T: Send + 'static,
    K: Ord + Send + 'static,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    type In = (usize, T);
    type Out = T;

    #[inline]
    fn item(&mut self, (input, item): (usize, T), out: &mut impl Emit<T>) {
        let key = match panic::catch(|| (self.key)(&item)) {
            Ok(key) => key,
            Err(payload) => return out.fail_panicked(payload.into(), item),
        };
        match panic::catch(|| self.place(input, &key)) {
            Ok(Some(place)) => {
                self.order.insert(place, input);
                self.items[input] = Some(item);
                self.keys[input] = Some(key);
                self.began[input] = Some(self.epochs.present().clone());
                self.go_on(out);
            }
            Ok(None) => {
                guard_drop(key);
                out.fail(ErrorKind::Failed, NotSorted { stream: input }, item);
            }
            Err(payload) => {
                guard_drop(key);
                out.fail_panicked(payload.into(), item);
            }
        }
    }

    /// An input has ended.
    fn timer(&mut self, _now: Instant, out: &mut impl Emit<T>) {
        if self.steering.take_ended().is_some() {
            self.open -= 1;
            self.go_on(out);
        }
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<T>) -> bool {
        self.epochs.release(out);
        false
    }

    fn take_mark(&mut self, mark: StreamError, _out: &mut impl Emit<T>) -> Option<StreamError> {
        self.epochs.end(mark)
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        self.steering.wake()
    }

    #[inline]
    fn held(&self) -> u64 {
        self.order.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use super::*;
    use crate::{ManualClock, Pipeline};

    #[test]
    fn the_output_is_that_of_a_stable_sort() {
        for seed in 0..100 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let lists: Vec<Vec<(u32, usize)>> = (0..rng.usize(..6))
                .map(|n| {
                    let mut list: Vec<_> = (0..rng.usize(..40)).map(|_| (rng.u32(..20), n)).collect();
                    list.sort_unstable();
                    list
                })
                .collect();
            let pipeline = Pipeline::builder("merge").capacity(rng.usize(..4)).build();
            let streams: Vec<_> = lists.iter().map(|list| Stream::from_iter(&pipeline, list.clone())).collect();
            let merged = MergeSorted::new(|(key, _): &(u32, usize)| *key).process(&pipeline, streams);
            let mut expected = lists.concat();
            expected.sort_by_key(|(key, _)| *key);
            assert_eq!(merged.collect::<Vec<_>>().unwrap(), expected, "seed {seed}");
            let report = pipeline.join();
            assert!(report.is_complete(), "seed {seed}: {report}");
        }
    }

    #[test]
    fn an_item_out_of_order_fails_and_the_output_stays_sorted() {
        let pipeline = Pipeline::new("merge");
        let numbers = |list: &[u32]| Stream::from_iter(&pipeline, list.to_vec());
        let merged = numbers(&[1, 5, 4, 6]).merge_sorted([numbers(&[2, 3, 9])], |n| *n);
        let (sorted, refused): (Vec<_>, Vec<_>) = merged.into_iter().partition(|seen| seen.is_ok());
        assert!(sorted.into_iter().map(Result::unwrap).eq([1, 2, 3, 5, 6, 9]));
        let [Err(error)] = &refused[..] else { panic!("{refused:?}") };
        assert_eq!(error.downcast_ref(), Some(&NotSorted { stream: 0 }));
        assert_eq!((error.kind(), error.take_item::<u32>()), (ErrorKind::Failed, Some(4)));
    }

    #[test]
    fn an_item_is_emitted_when_every_open_stream_has_one() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("merge").clock(&clock).build();
        let (one, one_out) = Stream::channel(&pipeline, 4);
        let (other, other_out) = Stream::channel(&pipeline, 4);
        let mut merged = one_out.merge_sorted([other_out], |n: &u32| *n);
        let mut now = || {
            clock.settle();
            merged.try_recv().ok().map(Result::unwrap)
        };
        other.send(3).unwrap();
        assert_eq!(now(), None);
        one.send(5).unwrap();
        assert_eq!((now(), now()), (Some(3), None));
        // Nothing less than 5 can come any more.
        drop(other);
        assert_eq!((now(), now()), (Some(5), None));
        one.send(6).unwrap();
        assert_eq!(now(), Some(6));
    }

    #[test]
    fn errors_pass_between_the_items_of_their_stream() {
        let pipeline = Pipeline::new("merge");
        let (sender, failing) = Stream::channel(&pipeline, 4);
        sender.send(1).unwrap();
        sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
        sender.send(3).unwrap();
        sender.finish();
        let merged = failing.merge_sorted([Stream::from_iter(&pipeline, [0, 2, 4])], |n| *n);
        let seen: Vec<_> = merged.into_iter().map(Result::ok).collect();
        assert_eq!(seen, [Some(0), Some(1), None, Some(2), Some(3), Some(4)]);
    }

    #[test]
    fn a_panic_of_the_key_or_of_its_order_costs_the_item() {
        #[derive(PartialEq, Eq)]
        struct Picky(u32);
        impl Ord for Picky {
            fn cmp(&self, other: &Self) -> Ordering {
                assert!(self.0 != 4 && other.0 != 4, "cannot be compared");
                self.0.cmp(&other.0)
            }
        }
        impl PartialOrd for Picky {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        let key = |n: &u32| {
            assert_ne!(*n, 3, "has no key");
            Picky(*n)
        };
        let pipeline = Pipeline::new("merge");
        let merged =
            Stream::from_iter(&pipeline, [1, 3, 5]).merge_sorted([Stream::from_iter(&pipeline, [2, 4, 6])], key);
        let (sorted, failed): (Vec<_>, Vec<_>) = merged.into_iter().partition(|seen| seen.is_ok());
        assert!(sorted.into_iter().map(Result::unwrap).eq([1, 2, 5, 6]));
        let mut items: Vec<u32> = failed.into_iter().filter_map(|seen| seen.unwrap_err().take_item()).collect();
        items.sort_unstable();
        assert_eq!(items, [3, 4]);
    }

    #[test]
    fn the_order_may_be_descending_and_there_may_be_no_streams() {
        let pipeline = Pipeline::new("merge");
        let numbers = |list: [u32; 2]| Stream::from_iter(&pipeline, list);
        let merged = numbers([9, 2]).merge_sorted([numbers([5, 1])], |n| Reverse(*n)).collect::<Vec<_>>().unwrap();
        assert_eq!(merged, [9, 5, 2, 1]);
        assert_eq!(MergeSorted::new(|n: &u32| *n).process(&pipeline, []).count().unwrap(), 0);
    }

    #[test]
    fn a_cut_stream_cuts_the_output_and_abandons_held_items() {
        let pipeline = Pipeline::new("merge");
        let broken = Stream::from_iter(&pipeline, (0..5).inspect(|n| assert!(*n < 2, "broken")));
        let merged = Stream::from_iter(&pipeline, 1u32..).merge_sorted([broken], |n| *n);
        let mut seen: Vec<_> = merged.into_iter().collect();
        assert!(seen.pop().unwrap().unwrap_err().is_cancelled());
        assert!(seen.into_iter().map(Result::unwrap).eq([0, 1, 1]));
        assert_eq!(pipeline.join().stage("merge_sorted").unwrap().abandoned(), 1);
    }
}
