//! [`Recorder`]: the output of a pipeline under test, with times.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::manual_clock;
use crate::clock::ManualClock;
use crate::error::Result;
use crate::stream::Stream;

/// Reads a pipeline under test to its end, and records the virtual time of each item.
///
/// For tables of (time, item) in and (time, item) out: see [`TestSource::play`](crate::testing::TestSource::play),
/// where there is an example. It reads on a thread of the pipeline, so that it also records items that arrive while the
/// clock is moved over several timers. Times are counted from the creation of the [`ManualClock`].
pub struct Recorder<T> {
    shared: Arc<Shared<T>>,
    clock: ManualClock,
}

struct Shared<T> {
    outputs: Mutex<Vec<(Duration, Result<T>)>>,
    ended: AtomicBool,
}

/// Notes the end when the reader drops it.
struct Ended<T>(Arc<Shared<T>>);

impl<T> Drop for Ended<T> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

impl<T: Send + 'static> Recorder<T> {
    /// Creates a recorder that reads `stream`.
    ///
    /// # Panics
    /// If the stream's pipeline is not on a [`ManualClock`], or has finished.
    #[track_caller]
    pub fn new(stream: Stream<T>) -> Self {
        let clock = manual_clock(stream.token(), "Recorder");
        let shared = Arc::new(Shared { outputs: Mutex::default(), ended: AtomicBool::new(false) });
        let (end, time) = (Ended(Arc::clone(&shared)), clock.clone());
        stream.named("recorder").spawn_for_each(move |output| end.0.outputs.lock().push((time.elapsed(), output)));
        Self { shared, clock }
    }

    /// Takes what has arrived since the last call, with the time of each item. If the stream was cut, the error of the
    /// cut is the last.
    #[track_caller]
    pub fn timed_outputs(&self) -> Vec<(Duration, Result<T>)> {
        self.clock.settle();
        std::mem::take(&mut *self.shared.outputs.lock())
    }

    /// Takes what has arrived since the last call, with the time of each item.
    ///
    /// # Panics
    /// If an error item is among it, or the stream was cut.
    #[track_caller]
    pub fn timed_items(&self) -> Vec<(Duration, T)> {
        let unwrap = |(time, output): (Duration, Result<T>)| match output {
            Ok(item) => (time, item),
            Err(error) => panic!("an error item came at {time:?}: {error:#}"),
        };
        self.timed_outputs().into_iter().map(unwrap).collect()
    }

    /// Takes the items that have arrived since the last call.
    ///
    /// # Panics
    /// If an error item is among them, or the stream was cut.
    #[track_caller]
    pub fn items(&self) -> Vec<T> {
        self.timed_items().into_iter().map(|(_, item)| item).collect()
    }

    /// Returns whether the stream has ended, complete or cut.
    #[track_caller]
    pub fn is_ended(&self) -> bool {
        self.clock.settle();
        self.shared.ended.load(Ordering::Acquire)
    }
}

impl<T> fmt::Debug for Recorder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("outputs", &self.shared.outputs.lock().len())
            .field("ended", &self.shared.ended)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestSource;
    use crate::{BatchConfig, Pipeline, Stream};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn each_item_has_its_arrival_time_even_if_the_clock_jumps() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("test").clock(&clock).build();
        let recorder = Recorder::new(Stream::interval(&pipeline, ms(40)));
        clock.advance(ms(100));
        assert_eq!(recorder.timed_items(), [(ms(40), 1), (ms(80), 2)]);
        clock.advance(ms(20));
        assert_eq!(recorder.items(), [3]);
    }

    #[test]
    fn inputs_and_outputs_as_tables() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("test").clock(&clock).build();
        let (source, stream) = TestSource::new(&pipeline);
        let recorder = Recorder::new(stream.batch(BatchConfig { max_size: 3, max_latency: ms(50) }));
        source.play([(ms(0), 1), (ms(49), 2), (ms(50), 3), (ms(60), 4), (ms(61), 5), (ms(70), 6)]);
        assert!(!recorder.is_ended());
        source.end();
        assert_eq!(recorder.timed_items(), [(ms(50), vec![1, 2]), (ms(61), vec![3, 4, 5]), (ms(70), vec![6])]);
        assert!(recorder.is_ended());
    }

    #[test]
    fn a_cut_is_the_last_thing_that_is_noted() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("test").clock(&clock).build();
        let (source, stream) = TestSource::new(&pipeline);
        let recorder = Recorder::new(stream);
        source.play([(ms(5), 'a')]);
        clock.advance(ms(5));
        pipeline.cancel();
        let outputs = recorder.timed_outputs();
        assert!(matches!(&outputs[..], [(_, Ok('a')), (time, Err(cut))] if *time == ms(10) && cut.is_cancelled()));
        assert!(recorder.is_ended());
    }
}
