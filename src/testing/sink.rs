//! [`TestSink`]: the output of a pipeline under test.

use std::fmt;
use std::time::Duration;

use super::manual_clock;
use crate::clock::ManualClock;
use crate::error::StreamError;
use crate::stream::{Stream, TryRecvError};

/// Checks the output of a pipeline under test item by item, and reports what arrived instead of what was expected.
///
/// Each call first lets the pipeline do all it can do at the present moment of its [`ManualClock`], then checks what
/// has arrived. No call waits, none moves the time unless its name says so, and each panics at the caller's line if its
/// expectation is not met:
///
/// ```text
/// expected the item 3 from stage `batch` at 50ms, but nothing came; the next timer is due in 10ms
/// ```
///
/// Items are taken only when a call asks for them, so that a test sees back-pressure as a slow consumer would cause it.
/// A [`Recorder`](crate::testing::Recorder) is a fast consumer. Dropping the sink stops reading.
///
/// ```
/// use std::time::Duration;
/// use streamz::testing::{TestSink, TestSource};
/// use streamz::{BatchConfig, ManualClock, Pipeline};
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("test").clock(&clock).build();
/// let (source, words) = TestSource::new(&pipeline);
/// let numbers = words.try_map(|word: &&str| word.parse::<u32>());
/// let config = BatchConfig { max_size: 2, max_latency: Duration::from_secs(1) };
/// let mut sink = TestSink::new(numbers.batch(config));
///
/// source.push_all(["1", "2", "x", "3"]);
/// sink.expect_next([1, 2]);
/// sink.expect_error_with("x");
/// sink.expect_nothing();
/// sink.expect_next_after(Duration::from_secs(1), [3]);
/// source.end();
/// sink.expect_end();
/// ```
#[must_use = "dropping the sink stops what feeds it"]
pub struct TestSink<T> {
    stream: Stream<T>,
    clock: ManualClock,
}

/// The result of polling a stream.
enum Came<T> {
    Item(T),
    Error(StreamError),
    Cut(StreamError),
    End,
    Nothing,
}

impl<T: Send + 'static> TestSink<T> {
    /// Creates a sink that reads `stream`.
    ///
    /// # Panics
    /// If the stream's pipeline is not on a [`ManualClock`].
    #[track_caller]
    pub fn new(stream: Stream<T>) -> Self {
        let clock = manual_clock(stream.token(), "TestSink");
        Self { stream, clock }
    }

    /// Returns the stream, for a sink of another kind.
    pub fn into_stream(self) -> Stream<T> {
        self.stream
    }

    /// Returns what is next, if there is anything.
    #[track_caller]
    fn look(&mut self) -> Came<T> {
        // The second poll is for edges without capacity, which hand over to a consumer that has polled in vain.
        for _ in 0..2 {
            self.clock.settle();
            match self.stream.try_recv() {
                Ok(Ok(item)) => return Came::Item(item),
                Ok(Err(error)) if error.is_cancelled() => return Came::Cut(error),
                Ok(Err(error)) => return Came::Error(error),
                Err(TryRecvError::Ended) => return Came::End,
                Err(TryRecvError::Empty) => {}
            }
        }
        Came::Nothing
    }
}

impl<T: fmt::Debug + Send + 'static> TestSink<T> {
    /// Expects an item, and returns it.
    ///
    /// # Panics
    /// If something else arrives, or nothing.
    #[track_caller]
    pub fn expect_item(&mut self) -> T {
        match self.look() {
            Came::Item(item) => item,
            other => self.fail("an item", &other),
        }
    }

    /// Expects `expected` to be the next item.
    ///
    /// # Panics
    /// If something else arrives, or nothing.
    #[track_caller]
    pub fn expect_next<E: fmt::Debug>(&mut self, expected: E)
    where
        T: PartialEq<E>,
    {
        match self.look() {
            Came::Item(item) if item == expected => {}
            other => self.fail(&format!("the item {expected:?}"), &other),
        }
    }

    /// Expects these items, one after the other.
    ///
    /// # Panics
    /// If something else arrives, or nothing.
    #[track_caller]
    pub fn expect_all<E: fmt::Debug>(&mut self, expected: impl IntoIterator<Item = E>)
    where
        T: PartialEq<E>,
    {
        expected.into_iter().for_each(|expected| self.expect_next(expected));
    }

    /// Moves the time by `wait`, and expects `expected` to arrive at exactly that moment, and nothing before.
    ///
    /// # Panics
    /// If something else arrives, or nothing, or it comes too soon. If `wait` is zero.
    #[track_caller]
    pub fn expect_next_after<E: fmt::Debug>(&mut self, wait: Duration, expected: E)
    where
        T: PartialEq<E>,
    {
        let moment = Duration::from_nanos(1);
        self.expect_nothing_for(wait.checked_sub(moment).expect("`wait` must be greater than zero"));
        self.clock.advance(moment);
        self.expect_next(expected);
    }

    /// Takes all items that have arrived.
    ///
    /// # Panics
    /// If an error item is among them, or the stream was cut.
    #[track_caller]
    pub fn items(&mut self) -> Vec<T> {
        let mut items = Vec::new();
        loop {
            match self.look() {
                Came::Item(item) => items.push(item),
                Came::End | Came::Nothing => return items,
                error => self.fail("nothing but items", &error),
            }
        }
    }

    /// Expects an error item, and returns it.
    ///
    /// # Panics
    /// If something else arrives, or nothing. The last error of a stream that was cut is not an error item: see
    /// [`expect_cut`](Self::expect_cut).
    #[track_caller]
    pub fn expect_error(&mut self) -> StreamError {
        match self.look() {
            Came::Error(error) => error,
            other => self.fail("an error item", &other),
        }
    }

    /// Expects an error item that carries `item`, and returns it with the item still inside.
    ///
    /// # Panics
    /// If something else arrives, or nothing.
    #[track_caller]
    pub fn expect_error_with<I: PartialEq + fmt::Debug + 'static>(&mut self, item: I) -> StreamError {
        match self.look() {
            Came::Error(error) if error.with_item_ref(|carried: &I| *carried == item) == Some(true) => error,
            other => self.fail(&format!("an error item with {item:?} in it"), &other),
        }
    }

    /// Expects that nothing arrives at the present moment, and that the stream has not ended.
    ///
    /// # Panics
    /// If anything arrives, or the stream has ended.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        match self.look() {
            Came::Nothing => {}
            other => self.fail("nothing", &other),
        }
    }

    /// Moves the time by `wait`, and expects that nothing arrives up to and including that moment, and that the stream
    /// does not end.
    ///
    /// # Panics
    /// If anything arrives, or the stream ends.
    #[track_caller]
    pub fn expect_nothing_for(&mut self, wait: Duration) {
        self.expect_nothing();
        self.clock.advance(wait);
        self.expect_nothing();
    }

    /// Expects the stream to have ended, complete.
    ///
    /// # Panics
    /// If anything else arrives, or nothing, or the stream was cut.
    #[track_caller]
    pub fn expect_end(&mut self) {
        match self.look() {
            Came::End => {}
            other => self.fail("the end", &other),
        }
    }

    /// Expects the stream to be cut here, and returns the error of the cut; its source is a [`Cause`](crate::Cause).
    ///
    /// # Panics
    /// If anything else arrives, or nothing, or the stream has ended complete.
    #[track_caller]
    pub fn expect_cut(&mut self) -> StreamError {
        match self.look() {
            Came::Cut(error) => error,
            other => self.fail("a cut", &other),
        }
    }

    #[track_caller]
    fn fail(&self, expected: &str, came: &Came<T>) -> ! {
        let came = match came {
            Came::Item(item) => format!("the item {item:?} came"),
            Came::Error(error) => format!("an error item came: {error:#}"),
            Came::Cut(error) => format!("the stream was cut: {error:#}"),
            Came::End => "the stream has ended".to_owned(),
            Came::Nothing => match self.clock.next_timer() {
                Some(wait) => format!("nothing came; the next timer is due in {wait:?}"),
                None => "nothing came, and no timer is set".to_owned(),
            },
        };
        panic!("expected {expected} from stage `{}` at {:?}, but {came}", self.stream.feeder(), self.clock.elapsed());
    }
}

impl<T> fmt::Debug for TestSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestSink").field("stream", &self.stream).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestSource;
    use crate::{BatchConfig, Cause, ErrorKind, Pipeline};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn pipeline() -> Pipeline {
        Pipeline::builder("test").clock(ManualClock::new()).build()
    }

    /// The panic message of a test that expects the wrong thing of `stream`.
    fn complaint<T: fmt::Debug + Send + 'static>(stream: Stream<T>, test: impl FnOnce(&mut TestSink<T>)) -> String {
        let mut sink = TestSink::new(stream);
        let payload = crate::panic::catch(|| test(&mut sink)).expect_err("it should complain");
        payload.message().to_string()
    }

    #[test]
    fn names_the_actual_item() {
        let pipeline = pipeline();
        let (source, stream) = TestSource::new(&pipeline);
        source.push(4);
        assert_eq!(
            complaint(stream, |sink| sink.expect_next(3)),
            "expected the item 3 from stage `channel` at 0ns, but the item 4 came"
        );

        let (source, stream) = TestSource::new(&pipeline);
        source.push("x");
        let numbers = stream.try_map(|text: &&str| text.parse::<i32>());
        assert_eq!(
            complaint(numbers, |sink| sink.expect_nothing()),
            "expected nothing from stage `map` at 0ns, but an error item came: stage `map` failed (item: &str): \
             invalid digit found in string"
        );

        let (source, stream) = TestSource::<i32>::new(&pipeline);
        source.end();
        assert_eq!(
            complaint(stream, |sink| drop(sink.expect_error())),
            "expected an error item from stage `channel-3` at 0ns, but the stream has ended"
        );

        let (source, stream) = TestSource::<i32>::new(&pipeline);
        source.cut("connection lost");
        assert_eq!(
            complaint(stream, |sink| sink.expect_end()),
            "expected the end from stage `channel-4` at 0ns, but the stream was cut: stream cut short after stage \
             `channel-4`: cancelled: connection lost"
        );
    }

    #[test]
    fn says_whether_nothing_came_or_something_might() {
        let pipeline = pipeline();
        let (source, stream) = TestSource::new(&pipeline);
        let batches = stream.batch(BatchConfig { max_size: 9, max_latency: ms(60) });
        source.play([(ms(10), 1)]);
        assert_eq!(
            complaint(batches, |sink| {
                sink.expect_nothing_for(ms(50));
                sink.expect_next([1]);
            }),
            "expected the item [1] from stage `batch` at 60ms, but nothing came; the next timer is due in 10ms"
        );

        let (_source, stream) = TestSource::<i32>::new(&pipeline);
        assert_eq!(
            complaint(stream, |sink| assert_eq!(sink.expect_item(), 0)),
            "expected an item from stage `channel-2` at 60ms, but nothing came, and no timer is set"
        );
    }

    #[test]
    fn an_item_that_comes_too_soon_is_not_what_was_expected() {
        let pipeline = pipeline();
        let (source, stream) = TestSource::new(&pipeline);
        let batches = stream.batch(BatchConfig { max_size: 9, max_latency: ms(50) });
        source.push(1);
        let complaint = complaint(batches, |sink| sink.expect_next_after(ms(51), [1]));
        assert!(
            complaint.starts_with("expected nothing from stage `batch` at 50.999999ms, but the item [1]"),
            "{complaint}"
        );
    }

    #[test]
    fn an_item_that_is_due_comes_at_that_very_moment() {
        let pipeline = pipeline();
        let (source, stream) = TestSource::new(&pipeline);
        let mut sink = TestSink::new(stream.batch(BatchConfig { max_size: 9, max_latency: ms(50) }));
        source.push(1);
        sink.expect_next_after(ms(50), [1]);
    }

    #[test]
    fn takes_nothing_that_is_not_asked_for() {
        let pipeline = Pipeline::builder("test").clock(ManualClock::new()).capacity(1).build();
        let (source, stream) = TestSource::new(&pipeline);
        let mut sink = TestSink::new(stream.map(|n: i32| n));
        // One waits before the stage, one behind it, and the stage has one in hand.
        source.push_all([1, 2, 3]);
        assert!(source.try_push(4).is_err());
        sink.expect_next(1);
        source.push(4);
        assert!(source.try_push(5).is_err());
    }

    #[test]
    fn works_without_any_capacity() {
        let pipeline = Pipeline::builder("test").clock(ManualClock::new()).capacity(0).build();
        let stream = Stream::from_iter(&pipeline, 1..=3).map(|n: i32| n * 10).map(|n: i32| n + 1);
        let mut sink = TestSink::new(stream);
        sink.expect_all([11, 21]);
        assert_eq!(sink.items(), [31]);
        sink.expect_end();
    }

    #[test]
    fn the_error_that_was_expected_still_has_its_item() {
        let pipeline = pipeline();
        let (source, stream) = TestSource::new(&pipeline);
        let mut sink = TestSink::new(stream.try_map(|text: &&str| text.parse::<i32>()));
        source.push("x");
        let error = sink.expect_error_with("x");
        assert_eq!((error.kind(), error.take_item::<&str>()), (ErrorKind::Failed, Some("x")));
    }

    #[test]
    fn a_cancelled_stream_is_cut_and_not_ended() {
        let pipeline = pipeline();
        let (_source, stream) = TestSource::new(&pipeline);
        let mut sink = TestSink::new(stream.map(|n: i32| n));
        sink.expect_nothing();
        pipeline.cancel();
        assert!(matches!(sink.expect_cut().downcast_ref(), Some(Cause::Requested)));
    }

    #[test]
    fn the_rest_can_be_read_by_another_sink() {
        let pipeline = pipeline();
        let mut sink = TestSink::new(Stream::from_iter(&pipeline, 0..5));
        sink.expect_next(0);
        assert_eq!(sink.into_stream().collect::<Vec<_>>().unwrap(), [1, 2, 3, 4]);
    }

    #[test]
    #[should_panic(expected = "a TestSink needs a pipeline on a ManualClock")]
    fn a_pipeline_in_real_time_is_refused() {
        let pipeline = Pipeline::new("real");
        let _ = TestSink::new(Stream::from_iter(&pipeline, 0..5));
    }
}
