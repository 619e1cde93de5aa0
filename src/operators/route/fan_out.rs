//! [`FanOut`]: every item to several streams.

use std::marker::PhantomData;
use std::sync::Arc;

use super::counts::Runs;
use super::distribute::{Plan, Rule, Ways, distribute};
use crate::operators::options::{Options, check_threads, common_options, opaque_debug};
use crate::pipeline::CancelToken;
use crate::stream::Stream;

/// Sends every item to several streams.
///
/// Each reader gets all items, in order: clones, one fewer than there are readers. An error item goes to the first stream
/// only, so that it is seen once when the streams are merged again.
///
/// The streams are bounded, so they must be read together: by further stages, which have threads of their own, or with
/// [`Stream::spawn_for_each`]. One that is not read stops the others when it is full; the
/// [report](crate::StageReport::blocking) names it.
///
/// ```
/// use streamz::{FanOut, Pipeline, Stream};
///
/// let pipeline = Pipeline::new("copies");
/// let numbers = Stream::from_iter(&pipeline, 1..=4u64);
/// let [hundreds, squares] = numbers.fan_out();
/// let mut both =
///     hundreds.map(|n| n * 100).merge([squares.map(|n| n * n)]).collect::<Vec<_>>()?;
/// both.sort();
/// assert_eq!(both, [1, 4, 9, 16, 100, 200, 300, 400]);
/// assert_eq!(FanOut::<u64>::new(2).name(), "fan_out");
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// Each of the streams is in the order of the input.
///
/// # Back-pressure
/// The slowest reader sets the pace. An item is sent to all before the stage waits for any, so the others can be ahead
/// of it by what fits into their streams. A stream that has been dropped receives nothing more; if it is the first,
/// errors go to the next. When all have been dropped, the stage stops.
///
/// # Cancellation
/// All streams are cut. Items that were sent and not read are counted as undelivered.
///
/// # Memory
/// Each stream holds up to its [buffer size](Self::with_buffer_size) of clones. Put large items into an `Arc` first.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("tee", "broadcast", "duplicate", "publish", "scatter", "scatter_gather", "copy"))]
pub struct FanOut<T> {
    options: Options,
    buffer: Option<usize>,
    n: usize,
    types: PhantomData<fn(T)>,
}

impl<T: Clone + Send + 'static> FanOut<T> {
    /// Sends every item to `n` streams. Default name: `fan_out`.
    ///
    /// # Panics
    /// If `n` is 0 or more than 65,536.
    #[track_caller]
    pub fn new(n: usize) -> Self {
        check_threads("n", n);
        Self { options: Options::new("fan_out"), buffer: None, n, types: PhantomData }
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

    /// Starts a run, and returns `n` streams, which the report names `0` to `n - 1`.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, to one that has finished, or to another one than `input`.
    #[track_caller]
    pub fn process(&self, cancel: &CancelToken, input: Stream<T>) -> Vec<Stream<T>> {
        let names: Vec<Arc<str>> = (0..self.n).map(|index| index.to_string().into()).collect();
        let (options, runs) = (&self.options, &Runs::default());
        let plan = Plan { options, names: &names, errors: 0, buffer: self.buffer, runs };
        distribute(&plan, cancel, input, ToAll { n: self.n, wanted: Vec::new() }).0
    }
}

struct ToAll {
    n: usize,
    wanted: Vec<usize>,
}

impl<T: Clone + Send + 'static> Rule<T> for ToAll {
    fn item(&mut self, item: T, ways: &mut Ways<'_, T>) {
        self.wanted.clear();
        self.wanted.extend(0..self.n);
        ways.send_copies(&mut self.wanted, item, T::clone);
    }
}

impl<T: Clone + Send + 'static> Stream<T> {
    /// Sends every item to `N` streams, which must be read together: a [`FanOut`].
    ///
    /// # Panics
    /// If the pipeline has finished, or `N` is 0.
    #[track_caller]
    pub fn fan_out<const N: usize>(self) -> [Stream<T>; N] {
        let token = self.token().clone();
        let mut streams = FanOut::new(N).process(&token, self).into_iter();
        std::array::from_fn(|_| streams.next().unwrap_or_else(|| unreachable!("as many as were asked for")))
    }
}

opaque_debug! { [T] FanOut<T>: options, buffer, n }
