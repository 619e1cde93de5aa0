//! [`Interleave`]: reads several streams in turn.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use super::fan_in::IDLE_TIMEOUT;
use super::herald::Herald;

use crate::clock::wait::Waiter;
use crate::edge::{End, Polled};
use crate::operators::options::{Options, common_options, opaque_debug};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::pipeline::timing::Phase;
use crate::stage::Pass;
use crate::stage::input::{Feed, Input, Inputs, announcer};
use crate::stage::thread::StageThread;
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_driver};

/// Reads several streams in turn: an item of the first, one of the second, and so on.
///
/// When a stream has ended, the others continue in turn; the output ends when all have ended, and with no streams, at
/// once.
///
/// The output depends only on the streams, not on how fast they are. Where that does not matter, use
/// [`FanIn`](crate::FanIn), which does not wait for an idle stream.
///
/// ```
/// use streamz::{Interleave, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("turns");
/// let streams =
///     [0..5, 10..12, 20..25].map(|numbers| Stream::from_iter(&pipeline, numbers));
/// let pairs = Interleave::new()
///     .with_segment_size(2)
///     .process(&pipeline, streams)
///     .collect::<Vec<_>>()?;
/// assert_eq!(pairs, [0, 1, 10, 11, 20, 21, 2, 3, 22, 23, 4, 24]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Event time
/// Windows of event time and a [`Join`](crate::Join) behind it know from which of the streams an item comes, as behind a
/// [`FanIn`](crate::FanIn#event-time). So no item of a stream that is in order is late because the times of another one are ahead.
///
/// # Ordering
/// In turn. An error item is forwarded in its stream's turn, and does not use up the turn.
///
/// # Back-pressure
/// A stream is only read in its turn, so all wait for the one whose turn it is. Streams from one stage, such as those
/// of a [`fan_out`](Stream::fan_out), can be interleaved if they are about equally long; if one is silent, the other
/// fills up and the stage before them waits forever.
///
/// # Cancellation
/// The output is cut, as it is where one of the streams was cut.
///
/// # Memory
/// No additional memory.
#[must_use = "a processor does nothing until it is given streams"]
#[doc(alias("round robin", "alternate", "roundrobin"))]
pub struct Interleave<T> {
    options: Options,
    segment_size: usize,
    types: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Interleave<T> {
    /// Creates a reader that takes one item of each stream in turn. Default name: `interleave`.
    #[allow(clippy::new_without_default)] // `default` would not say what of
    pub fn new() -> Self {
        Self { options: Options::new("interleave"), segment_size: 1, types: PhantomData }
    }

    common_options!();

    /// Sets how many items of a stream are read in its turn. Defaults to 1. With `usize::MAX`, each stream is read to
    /// its end.
    ///
    /// # Panics
    /// If `segment_size` is 0.
    #[track_caller]
    pub fn with_segment_size(mut self, segment_size: usize) -> Self {
        assert!(segment_size > 0, "`segment_size` must be at least 1");
        self.segment_size = segment_size;
        self
    }

    /// Returns the name of the stage in reports and errors.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Starts a run that reads `streams` in turn.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, to one that has finished, or to another one than one of the streams.
    #[track_caller]
    pub fn process(&self, cancel: &CancelToken, streams: impl IntoIterator<Item = Stream<T>>) -> Stream<T> {
        let streams: Vec<Stream<T>> = streams.into_iter().collect();
        let mut registered = Registered::with_inputs(cancel, &streams, self.name(), StageKind::Processor, &[], 1);
        let herald = Herald::new(streams.iter().map(Stream::origins), cancel.clock().clone(), Some(IDLE_TIMEOUT));
        registered.origins = Some(Arc::clone(herald.origins()));
        let inputs = streams.into_iter().map(Stream::into_input).collect();
        let feed = InTurns { inputs, current: 0, left: self.segment_size, segment_size: self.segment_size, herald };
        spawn_driver(registered, self.options.capacity, Pass::new(), feed)
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Reads this stream and others in turn, one item of each: an [`Interleave`].
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("turns");
    /// let numbers = |numbers| Stream::from_iter(&pipeline, numbers);
    /// let mixed = numbers(0..4).interleave([numbers(10..12)]).collect::<Vec<_>>()?;
    /// assert_eq!(mixed, [0, 10, 1, 11, 2, 3]);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If the pipeline has finished, or one of the streams belongs to another.
    #[track_caller]
    pub fn interleave(self, others: impl IntoIterator<Item = Stream<T>>) -> Stream<T> {
        let token = self.token().clone();
        Interleave::new().process(&token, std::iter::once(self).chain(others))
    }
}

opaque_debug! { [T] Interleave<T>: options, segment_size }

struct InTurns<T> {
    /// Those that have not ended.
    inputs: Vec<Input<T>>,
    current: usize,
    /// The number of items that the current one may still emit.
    left: usize,
    segment_size: usize,
    herald: Herald,
}

impl<T> InTurns<T> {
    fn start_turn(&mut self, input: usize) {
        self.current = if input < self.inputs.len() { input } else { 0 };
        self.left = self.segment_size;
    }
}

impl<T: Send + 'static> Feed for InTurns<T> {
    type Item = T;
    type Hand = ();

    #[inline]
    fn poll(&mut self) -> Polled<T> {
        while let Some(input) = self.inputs.get_mut(self.current) {
            if let Some(label) = self.herald.say_before(self.current) {
                return Polled::Item(Err(label));
            }
            match input.poll() {
                Polled::Item(Err(mark)) if mark.is_mark() => {
                    if let Some(mark) = self.herald.translate(self.current, mark) {
                        return Polled::Item(Err(mark));
                    }
                }
                Polled::Item(item) => {
                    self.left -= usize::from(item.is_ok());
                    if self.left == 0 {
                        self.start_turn(self.current + 1);
                    }
                    return Polled::Item(item);
                }
                Polled::Ended(End::Finished) => {
                    self.inputs.remove(self.current);
                    self.herald.ended(self.current);
                    self.start_turn(self.current);
                }
                polled => return polled,
            }
        }
        Polled::Ended(End::Finished)
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        let register = |waiter: &Waiter| register(waiter) | self.herald.want_to_know(waiter.wake());
        match self.inputs.get(self.current) {
            Some(input) => input.wait(thread, until, hint, register),
            None => thread.wait(Phase::Idle, until, hint, register),
        }
    }

    fn settle(&self) {
        self.inputs.settle();
    }

    fn announcer(&self) -> Box<dyn Fn()> {
        announcer(&self.inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Pipeline, StreamError};

    /// The same with lists.
    fn model(lists: &[Vec<u32>], segment_size: usize) -> Vec<u32> {
        let mut lists: Vec<_> = lists.iter().map(|list| list.chunks(segment_size)).collect();
        let mut out = Vec::new();
        while !lists.is_empty() {
            lists.retain_mut(|list| list.next().map(|segment| out.extend_from_slice(segment)).is_some());
        }
        out
    }

    #[test]
    fn turns_are_those_of_lists_that_are_read_in_turn() {
        for seed in 0..100 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let segment_size = rng.usize(1..5);
            let lists: Vec<Vec<u32>> =
                (0..rng.u32(..6)).map(|n| (0..rng.u32(..20)).map(|i| 100 * n + i).collect()).collect();
            let pipeline = Pipeline::builder("turns").capacity(rng.usize(..4)).build();
            let streams: Vec<_> = lists.iter().map(|list| Stream::from_iter(&pipeline, list.clone())).collect();
            let turns = Interleave::new().with_segment_size(segment_size).process(&pipeline, streams);
            // A segment that ends with its list is a whole turn, too.
            assert_eq!(turns.collect::<Vec<_>>().unwrap(), model(&lists, segment_size), "seed {seed}");
            assert!(pipeline.join().is_complete());
        }
    }

    #[test]
    fn an_error_does_not_use_the_turn_up() {
        let pipeline = Pipeline::new("turns");
        let (sender, failing) = Stream::channel(&pipeline, 4);
        sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
        sender.send(1).unwrap();
        sender.finish();
        let seen: Vec<_> =
            failing.interleave([Stream::from_iter(&pipeline, [2])]).into_iter().map(Result::ok).collect();
        assert_eq!(seen, [None, Some(1), Some(2)]);
    }

    #[test]
    fn a_cut_stream_cuts_the_output_in_its_turn() {
        let pipeline = Pipeline::new("turns");
        let broken = Stream::from_iter(&pipeline, (0..5).inspect(|n| assert!(*n < 2, "broken")));
        let mut seen: Vec<_> = Stream::from_iter(&pipeline, 10u32..).interleave([broken]).into_iter().collect();
        assert!(seen.pop().unwrap().unwrap_err().is_cancelled());
        assert!(seen.into_iter().map(Result::unwrap).eq([10, 0, 11, 1, 12]));
        pipeline.join();
    }
}
