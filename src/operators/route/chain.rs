//! [`Stream::chain`]: several streams, one after another.

use std::time::Instant;

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
    /// In reverse: the last is read.
    inputs: Vec<Input<T>>,
}

impl<T: Send + 'static> Feed for Chained<T> {
    type Item = T;

    #[inline]
    fn poll(&mut self) -> Polled<T> {
        while let Some(input) = self.inputs.last_mut() {
            match input.poll() {
                Polled::Ended(End::Finished) => drop(self.inputs.pop()),
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

impl<T: Send + 'static> Stream<T> {
    /// Puts other streams behind this one: each is read to its end before the next. Default name: `chain`.
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
    /// # Ordering
    /// All of this stream, then all of the next. Errors pass in their place.
    ///
    /// # Back-pressure
    /// A stream whose turn has not come fills up, and what feeds it waits. So streams that come from one stage, such as the
    /// two sides of a [`split`](Self::split), must not be chained: the first never ends while the other waits.
    ///
    /// # Cancellation
    /// The output is cut. If one of the streams was cut, the output is cut where that stream was, and the following are dropped:
    /// what comes after a gap is not emitted.
    ///
    /// # Panics
    /// If the pipeline has finished, or one of the streams belongs to another.
    #[doc(alias = "concat")]
    #[track_caller]
    pub fn chain(self, others: impl IntoIterator<Item = Stream<T>>) -> Stream<T> {
        let token = self.token().clone();
        let streams: Vec<Stream<T>> = std::iter::once(self).chain(others).collect();
        let registered = Registered::with_inputs(&token, &streams, "chain", StageKind::Processor, &[], 1);
        let inputs = streams.into_iter().rev().map(Stream::into_input).collect();
        spawn_driver(registered, None, Pass::new(), Chained { inputs })
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
