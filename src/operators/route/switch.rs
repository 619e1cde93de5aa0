//! [`Switch`]: sends each item to one of several processors.

use std::sync::Arc;

use super::router::Router;
use super::stats::RouteStats;
use crate::operators::options::common_options;
use crate::pipeline::CancelToken;
use crate::stream::Processor;
use crate::stream::Stream;

/// Sends each item to the first case that matches, and merges the outputs, like a `match` expression.
///
/// It is a [`Router`] with the vocabulary of a switch: what the router's documentation says about processors, errors,
/// order, back-pressure and memory applies here, too. An item that matches no case goes to the default; without one it
/// is dropped and counted.
///
/// ```
/// use streamz::{Mapper, Pipeline, Stream, Switch};
///
/// let pipeline = Pipeline::new("log");
/// let switch = Switch::new()
///     .case("error", |line| line.starts_with("E"), Mapper::new(|line: &str| line.len()))
///     .case("debug", |line| line.starts_with("D"), Mapper::new(|_: &str| 0))
///     .with_default(Mapper::new(|_: &str| 1));
/// let lines = ["E disk full", "D poll", "I started", "D poll"];
/// let weight =
///     Stream::from_iter(&pipeline, lines).through(&switch).fold(0, |sum, n| sum + n)?;
/// assert_eq!(weight, 12);
/// assert_eq!(
///     (switch.stats().match_rate("debug"), switch.stats().match_rate("default")),
///     (0.5, 0.25)
/// );
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[derive(Debug)]
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("choice", "match", "case"))]
pub struct Switch<In, Out> {
    router: Router<In, Out>,
}

impl<In: Send + 'static, Out: Send + 'static> Switch<In, Out> {
    /// Creates a switch without cases. Default name: `switch`.
    #[allow(clippy::new_without_default)] // `default` would not say what of
    pub fn new() -> Self {
        Self { router: Router::named("switch") }
    }

    common_options! {
        with_name: router.options.name,
        /// Sets how many items may wait in front of each case. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity); with 0, every item is handed over directly.
        with_buffer_size(items): router.buffer,
        /// Sets how many items may wait in the merged output for a slow consumer. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity); with 0, every item is handed over directly.
        with_capacity(items): router.capacity,
    }

    /// Adds a case: items for which `condition` is true, and no earlier one, go to `processor`.
    ///
    /// # Panics
    /// If there is a case of that name, or it is `default`.
    #[track_caller]
    pub fn case<P: Processor<In = In, Out = Out>>(
        self,
        name: impl Into<Arc<str>>,
        condition: impl Fn(&In) -> bool + Send + Sync + 'static,
        processor: P,
    ) -> Self {
        Self { router: self.router.add_route(name, condition, processor) }
    }

    /// Sets the processor for items that match no case, and for errors. Defaults to none: such items are dropped and
    /// counted, and errors go to the first case.
    pub fn with_default<P: Processor<In = In, Out = Out>>(self, processor: P) -> Self {
        Self { router: self.router.with_default(processor) }
    }

    /// Returns live statistics, across all runs.
    pub fn stats(&self) -> RouteStats {
        self.router.stats()
    }
}

impl<In: Send + 'static, Out: Send + 'static> Processor for Switch<In, Out> {
    type In = In;
    type Out = Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<In>) -> Stream<Out> {
        self.router.process(cancel, input)
    }

    fn name(&self) -> &str {
        self.router.name()
    }
}
