//! [`TestSource`]: the input of a pipeline under test.

use std::fmt;
use std::time::Duration;

use super::manual_clock;
use crate::clock::ManualClock;
use crate::error::{BoxError, Result, StreamError};
use crate::pipeline::CancelToken;
use crate::stream::{SendError, Sender, Stream};

/// Feeds a pipeline under test with items, errors and an end that the test pushes.
///
/// Each call returns when the pipeline has done everything it can at the present moment of its [`ManualClock`]. No call
/// waits for room, because a test that reads the pipeline itself would wait for itself: if there is none,
/// [`push`](Self::push) panics and [`try_push`](Self::try_push) returns an error.
///
/// ```
/// use streamz::testing::{TestSink, TestSource};
/// use streamz::{ManualClock, Pipeline};
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("test").clock(&clock).build();
/// let (source, numbers) = TestSource::new(&pipeline);
/// let mut sink = TestSink::new(numbers.filter(|n: &i32| n % 2 == 0));
///
/// source.push(1);
/// sink.expect_nothing();
/// source.push(2);
/// sink.expect_next(2);
/// source.end();
/// sink.expect_end();
/// ```
///
/// Dropping it ends the stream, as dropping a [`Sender`] does.
#[must_use = "dropping the source ends the stream"]
pub struct TestSource<T: Send + 'static> {
    sender: Sender<T>,
    clock: ManualClock,
    /// The stream's own token, below the pipeline's: cancelling it cuts only this stream.
    token: CancelToken,
}

impl<T: Send + 'static> TestSource<T> {
    /// Creates a source and the stream that it feeds, with the pipeline's default capacity.
    ///
    /// # Panics
    /// If the pipeline of `cancel` is not on a [`ManualClock`], or has finished.
    #[track_caller]
    pub fn new(cancel: &CancelToken) -> (Self, Stream<T>) {
        Self::with_capacity(cancel, cancel.scope().default_capacity())
    }

    /// Creates a source and the stream that it feeds, in which at most `items` wait. With 0, there is room for an item
    /// only while the pipeline waits for one.
    ///
    /// # Panics
    /// If the pipeline of `cancel` is not on a [`ManualClock`], or has finished.
    #[track_caller]
    pub fn with_capacity(cancel: &CancelToken, items: usize) -> (Self, Stream<T>) {
        let clock = manual_clock(cancel, "TestSource");
        let token = cancel.child();
        let (sender, stream) = Stream::channel(&token, items);
        (Self { sender, clock, token }, stream.with_token(cancel))
    }

    /// Pushes an item.
    ///
    /// # Panics
    /// If the pipeline has no room for it, or takes no more.
    #[track_caller]
    pub fn push(&self, item: T) {
        self.pushed(self.try_push(item));
    }

    /// Pushes items, one after the other.
    ///
    /// # Panics
    /// If the pipeline has no room for one of them, or takes no more.
    #[track_caller]
    pub fn push_all(&self, items: impl IntoIterator<Item = T>) {
        items.into_iter().for_each(|item| self.push(item));
    }

    /// Pushes items at given times, counted from the creation of the clock, and moves the clock to each of them.
    ///
    /// ```
    /// use std::time::Duration;
    /// use streamz::testing::{Recorder, TestSource};
    /// use streamz::{BatchConfig, ManualClock, Pipeline};
    ///
    /// let clock = ManualClock::new();
    /// let pipeline = Pipeline::builder("test").clock(&clock).build();
    /// let (source, letters) = TestSource::new(&pipeline);
    /// let config = BatchConfig { max_size: 2, max_latency: Duration::from_millis(50) };
    /// let recorder = Recorder::new(letters.batch(config));
    ///
    /// let ms = Duration::from_millis;
    /// source.play([(ms(0), 'a'), (ms(40), 'b'), (ms(45), 'c')]);
    /// clock.advance(ms(100));
    /// assert_eq!(recorder.timed_items(), [(ms(40), vec!['a', 'b']), (ms(95), vec!['c'])]);
    /// ```
    ///
    /// # Panics
    /// If a time is in the past, or as [`push`](Self::push).
    #[track_caller]
    pub fn play(&self, items: impl IntoIterator<Item = (Duration, T)>) {
        for (time, item) in items {
            let now = self.clock.elapsed();
            let wait = time.checked_sub(now).unwrap_or_else(|| panic!("{time:?} is in the past: it is {now:?}"));
            self.clock.advance(wait);
            self.push(item);
        }
    }

    /// Pushes an item if the pipeline has room for it.
    ///
    /// # Errors
    /// The item, if there is no room, or the pipeline takes no more.
    #[track_caller]
    pub fn try_push(&self, item: T) -> Result<(), SendError<T>> {
        self.clock.settle();
        let pushed = self.sender.try_send(item);
        self.clock.settle();
        pushed
    }

    /// Pushes an error item, as a previous step would emit it in place of an item that failed.
    ///
    /// ```
    /// use streamz::testing::{TestSink, TestSource};
    /// use streamz::{ErrorKind, ManualClock, Pipeline, StreamError};
    ///
    /// let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    /// let (source, stream) = TestSource::<u32>::new(&pipeline);
    /// let mut sink = TestSink::new(stream.map(|n| n + 1));
    /// source.push_error(StreamError::new(ErrorKind::Failed, "before").with_item("x"));
    /// sink.expect_error_with("x");
    /// ```
    ///
    /// # Panics
    /// If the pipeline has no room for it, or takes no more.
    #[track_caller]
    pub fn push_error(&self, error: StreamError) {
        self.pushed(self.try_push_error(error));
    }

    /// Pushes an error item if the pipeline has room for it.
    ///
    /// # Errors
    /// The error item, if there is no room, or the pipeline takes no more.
    #[track_caller]
    pub fn try_push_error(&self, error: StreamError) -> Result<(), SendError<StreamError>> {
        self.clock.settle();
        let pushed = self.sender.try_send_error(error);
        self.clock.settle();
        pushed
    }

    /// Ends the stream after the items pushed so far.
    #[track_caller]
    pub fn end(self) {
        let Self { sender, clock, .. } = self;
        sender.finish();
        clock.settle();
    }

    /// Cuts the stream after the items pushed so far, like a source whose token is cancelled. The last error has the
    /// [`Cause`](crate::Cause) as its source. The pipeline itself is not cancelled.
    ///
    /// ```
    /// use streamz::testing::{TestSink, TestSource};
    /// use streamz::{ManualClock, Pipeline};
    ///
    /// let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    /// let (source, stream) = TestSource::new(&pipeline);
    /// let mut sink = TestSink::new(stream.chunk(2));
    /// source.push_all([1, 2, 3]);
    /// source.cut("connection lost");
    /// sink.expect_next([1, 2]);
    /// let cause = sink.expect_cut().downcast_ref::<streamz::Cause>().unwrap().to_string();
    /// assert_eq!(cause, "cancelled: connection lost");
    /// ```
    #[track_caller]
    pub fn cut(self, reason: &str) {
        let Self { sender, clock, token } = self;
        token.cancel_because(reason);
        drop(sender);
        clock.settle();
    }

    /// Cuts the stream after the items pushed so far, like a source that fails half-way. The last error has `reason` as
    /// its source.
    ///
    /// ```
    /// use std::io::{Error, ErrorKind};
    /// use streamz::testing::{TestSink, TestSource};
    /// use streamz::{ManualClock, Pipeline};
    ///
    /// let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    /// let (source, stream) = TestSource::new(&pipeline);
    /// let mut sink = TestSink::new(stream.on_errors(|_| Some(0)));
    /// source.push(1);
    /// source.die(Error::from(ErrorKind::ConnectionReset));
    /// sink.expect_next(1);
    /// assert_eq!(
    ///     sink.expect_cut().downcast_ref::<Error>().unwrap().kind(),
    ///     ErrorKind::ConnectionReset
    /// );
    /// ```
    #[track_caller]
    pub fn die(self, reason: impl Into<BoxError>) {
        let Self { sender, clock, .. } = self;
        sender.cut(reason);
        clock.settle();
    }

    /// Returns whether the pipeline takes no more items: it was cancelled or drained, or the stream has lost its
    /// consumer.
    #[track_caller]
    pub fn is_closed(&self) -> bool {
        self.clock.settle();
        self.sender.is_closed()
    }

    /// Returns the sender of the stream, for code that pushes by itself.
    pub fn sender(&self) -> &Sender<T> {
        &self.sender
    }

    #[track_caller]
    fn pushed<I>(&self, pushed: Result<(), SendError<I>>) {
        match pushed {
            Ok(()) => {}
            Err(SendError::Full(_)) => panic!("the pipeline has no room for what is pushed: {:?}", self.sender),
            Err(SendError::Closed(_)) => match self.token.cause() {
                Some(cause) => panic!("the pipeline takes no more: {cause}"),
                None => panic!("the pipeline takes no more: it was drained, or the stream is no longer read"),
            },
        }
    }
}

impl<T: Send + 'static> fmt::Debug for TestSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestSource").field("sender", &self.sender).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestSink;
    use crate::{Cause, ErrorKind, Outcome, Pipeline};

    fn pipeline() -> Pipeline {
        Pipeline::builder("test").clock(ManualClock::new()).build()
    }

    #[test]
    fn pushed_items_and_errors_are_received_in_order() {
        let pipeline = pipeline();
        let (source, stream) = TestSource::new(&pipeline);
        let mut sink = TestSink::new(stream);
        source.push(1);
        source.push_error(StreamError::new(ErrorKind::Late, "before").with_item(7_u8));
        source.push_all([2, 3]);
        source.end();
        sink.expect_next(1);
        assert_eq!(sink.expect_error().kind(), ErrorKind::Late);
        sink.expect_all([2, 3]);
        sink.expect_end();
        assert!(pipeline.join().is_complete());
    }

    #[test]
    fn back_pressure_is_seen_and_not_waited_for() {
        let pipeline = pipeline();
        let (source, stream) = TestSource::with_capacity(&pipeline, 2);
        let mut sink = TestSink::new(stream);
        source.push_all(["a", "b"]);
        assert_eq!(source.try_push("c").unwrap_err(), SendError::Full("c"));
        sink.expect_next("a");
        source.push("c");
        sink.expect_all(["b", "c"]);
    }

    #[test]
    fn without_capacity_there_is_room_when_the_pipeline_waits() {
        let pipeline = pipeline();
        let (source, stream) = TestSource::with_capacity(&pipeline, 0);
        let mut sink = TestSink::new(stream);
        assert!(source.try_push(1).unwrap_err().is_full());
        sink.expect_nothing();
        source.push(1);
        assert!(source.try_push(2).unwrap_err().is_full());
        sink.expect_next(1);
    }

    #[test]
    fn without_room_an_error_item_comes_back() {
        let pipeline = pipeline();
        let (source, stream) = TestSource::<u32>::with_capacity(&pipeline, 1);
        let error = || StreamError::new(crate::ErrorKind::Failed, "before").with_item('x');
        source.push_error(error());
        let back = source.try_push_error(error()).unwrap_err();
        assert!(back.is_full());
        assert_eq!(back.into_inner().take_item::<char>(), Some('x'));
        drop(stream);
        assert!(!source.try_push_error(error()).unwrap_err().is_full());
    }

    #[test]
    #[should_panic(expected = "the pipeline has no room for what is pushed")]
    fn pushing_without_room_is_refused() {
        let pipeline = pipeline();
        let (source, _stream) = TestSource::with_capacity(&pipeline, 1);
        source.push_all([1, 2]);
    }

    #[test]
    #[should_panic(expected = "the pipeline takes no more: cancelled: enough")]
    fn pushing_into_a_cancelled_pipeline_fails_with_the_reason() {
        let pipeline = pipeline();
        let (source, _stream) = TestSource::new(&pipeline);
        pipeline.cancel_because("enough");
        source.push(1);
    }

    #[test]
    fn it_closes_with_its_consumer_even_through_stages() {
        let pipeline = pipeline();
        let (source, stream) = TestSource::new(&pipeline);
        let sink = TestSink::new(stream.map(|n: i32| n).take(5));
        assert!(!source.is_closed());
        drop(sink);
        assert!(source.is_closed());
    }

    #[test]
    fn a_cut_comes_after_pushed_items_and_cuts_nothing_else() {
        let pipeline = pipeline();
        let (source, stream) = TestSource::new(&pipeline);
        let mut sink = TestSink::new(stream.map(|n: i32| n + 1));
        source.push(1);
        source.cut("connection lost");
        sink.expect_next(2);
        let error = sink.expect_cut();
        assert_eq!(error.downcast_ref::<Cause>().unwrap().to_string(), "cancelled: connection lost");
        assert!(!pipeline.is_cancelled());
        assert!(matches!(pipeline.join().outcome, Outcome::Cut(_)));
    }

    #[test]
    #[should_panic(expected = "1s is in the past: it is 2s")]
    fn a_time_in_the_past_cannot_be_played() {
        let pipeline = pipeline();
        let (source, _stream) = TestSource::new(&pipeline);
        source.play([(Duration::from_secs(2), 'b'), (Duration::from_secs(1), 'a')]);
    }

    #[test]
    #[should_panic(expected = "a TestSource needs a pipeline on a ManualClock")]
    fn a_pipeline_in_real_time_is_refused() {
        let _ = TestSource::<u8>::new(&Pipeline::new("real"));
    }
}
