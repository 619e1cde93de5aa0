//! [`Stream::chain`]: several streams, one after another.

use std::sync::Arc;
use std::time::Instant;

use super::fan_in::IDLE_TIMEOUT;
use super::herald::Herald;
use crate::clock::wait::Waiter;
use crate::edge::{End, Polled};
use crate::pipeline::stats::StageKind;
use crate::pipeline::timing::Phase;
use crate::stage::Pass;
use crate::stage::input::{Feed, Input, Inputs, announcer};
use crate::stage::thread::StageThread;
use crate::stream::Stream;
use crate::stream::start::{Registered, spawn_driver};

/// Reads each input to its end before the next.
struct Chained<T> {
    /// In reverse: the last one is being read.
    inputs: Vec<Input<T>>,
    /// If one of them comes from a merge. Inputs that are not read yet are idle.
    herald: Option<Herald>,
}

impl<T> Chained<T> {
    fn new(inputs: Vec<Input<T>>, mut herald: Option<Herald>) -> Self {
        if let Some(herald) = &mut herald {
            (0..inputs.len().saturating_sub(1)).for_each(|input| herald.waits_for_its_turn(input));
        }
        Self { inputs, herald }
    }

    /// The input being read has ended.
    #[cold]
    fn next(&mut self) {
        drop(self.inputs.pop());
        if let Some(herald) = &mut self.herald {
            herald.ended(self.inputs.len());
            self.inputs.len().checked_sub(1).into_iter().for_each(|next| herald.found_filled(next));
        }
    }
}

impl<T: Send + 'static> Feed for Chained<T> {
    type Item = T;
    type Hand = ();

    #[inline]
    fn poll(&mut self) -> Polled<T> {
        while let Some(current) = self.inputs.len().checked_sub(1) {
            let input = &mut self.inputs[current];
            let Some(herald) = &mut self.herald else {
                match input.poll() {
                    Polled::Ended(End::Finished) => self.next(),
                    // The next input may begin with later records than this one ends with.
                    Polled::Item(Err(error)) => return Polled::Item(Err(error.widened())),
                    polled => return polled,
                }
                continue;
            };
            if let Some(label) = herald.say_before(current) {
                return Polled::Item(Err(label));
            }
            match input.poll() {
                Polled::Item(Err(mark)) if mark.is_mark() => {
                    if let Some(mark) = herald.translate(current, mark) {
                        return Polled::Item(Err(mark));
                    }
                }
                Polled::Ended(End::Finished) => self.next(),
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
        let register = |waiter: &Waiter| {
            let want = |herald: &Herald| herald.want_to_know(waiter.wake());
            register(waiter) | self.herald.as_ref().is_some_and(want)
        };
        match self.inputs.last() {
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

/// # Several streams into one
impl<T: Send + 'static> Stream<T> {
    /// Appends other streams to this one: each is read to its end before the next. Default name: `chain`.
    ///
    /// To read them at the same time, use [`merge`](Self::merge).
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("days");
    /// let day = |hours| Stream::from_iter(&pipeline, hours);
    /// let days = day(0..3).chain([day(10..12), day(20..21)]).collect::<Vec<_>>()?;
    /// assert_eq!(days, [0, 1, 2, 10, 11, 20]);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Event time
    /// The output is one stream with one watermark, so an item of the next stream that is older than the last of this one may be
    /// late. Streams that stem from a [merge](crate::FanIn#event-time) keep a watermark for each of its inputs.
    ///
    /// # Ordering
    /// All items of this stream, then all of the next. Errors keep their place.
    ///
    /// # Back-pressure
    /// A stream that waits for its turn fills up, and the stage that feeds it waits. So streams that come from one
    /// stage, such as the two sides of a [`split`](Self::split), must not be chained: the first never ends while the
    /// other waits.
    ///
    /// # Cancellation
    /// The output is cut. If one of the streams was cut, the output is cut where that stream was, and the following are
    /// dropped: nothing is emitted after a gap.
    ///
    /// # Panics
    /// If the pipeline has finished, or one of the streams belongs to another.
    #[doc(alias = "concat")]
    #[track_caller]
    pub fn chain(self, others: impl IntoIterator<Item = Stream<T>>) -> Stream<T> {
        let token = self.token().clone();
        let streams: Vec<Stream<T>> = std::iter::once(self).chain(others).collect();
        let mut registered = Registered::with_inputs(&token, &streams, "chain", StageKind::Processor, &[], 1);
        let herald = streams
            .iter()
            .any(|stream| stream.origins().is_some())
            .then(|| Herald::new(streams.iter().rev().map(Stream::origins), token.clock().clone(), Some(IDLE_TIMEOUT)));
        registered.origins = herald.as_ref().map(|herald| Arc::clone(herald.origins()));
        let inputs = streams.into_iter().rev().map(Stream::into_input).collect();
        spawn_driver(registered, None, Pass::new(), Chained::new(inputs, herald))
    }
}

#[cfg(test)]
mod tests {
    use crate::{ErrorKind, Pipeline, Stream, StreamError};

    #[test]
    fn each_stream_is_read_to_its_end_before_the_next() {
        let pipeline = Pipeline::builder("chain").capacity(2).build();
        let streams = (0..4u32).map(|n| Stream::from_iter(&pipeline, (0..100).map(move |i| 100 * n + i)));
        let mut streams = streams.collect::<Vec<_>>().into_iter();
        let chained = streams.next().unwrap().chain(streams);
        assert!(chained.into_iter().map(Result::unwrap).eq(0..400));
        let report = pipeline.join();
        assert_eq!(report.stage("chain").unwrap().inputs.len(), 4);
        assert!(report.is_complete(), "{report}");
    }

    #[test]
    fn errors_pass_in_their_place() {
        let pipeline = Pipeline::new("chain");
        let (sender, first) = Stream::channel(&pipeline, 4);
        sender.send(1).unwrap();
        sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
        sender.finish();
        let seen: Vec<_> = first.chain([Stream::from_iter(&pipeline, [2])]).into_iter().map(Result::ok).collect();
        assert_eq!(seen, [Some(1), None, Some(2)]);
    }

    #[test]
    fn a_cut_ends_the_output_where_it_happened() {
        let pipeline = Pipeline::new("chain");
        let first = Stream::from_iter(&pipeline, (0..5).inspect(|n| assert!(*n < 3, "broken")));
        let chained = first.chain([Stream::from_iter(&pipeline, 10u32..)]);
        let mut seen: Vec<_> = chained.into_iter().collect();
        assert!(seen.pop().unwrap().unwrap_err().is_cancelled());
        assert!(seen.into_iter().map(Result::unwrap).eq(0..3));
        pipeline.join();
    }
}
