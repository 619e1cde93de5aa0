//! [`AgeMeter`]: records how old the items are.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::SystemTime;

use crate::operators::options::{Options, common_options, opaque_debug, stage};
use crate::operators::shorthand;
use crate::panic::guard_drop;
use crate::stage::operator::sealed::Shape;
use crate::stage::operator::{Emit, Operator};

/// Records the age of each item, by a time that it carries, and forwards it.
///
/// The age is the present wall time of the pipeline's clock less the time that the closure returns, such as when an
/// order was placed, a file was written, or a message was sent. A time in the future counts as an age of zero. The
/// report has the distribution as the [`age`](crate::StageReport::age) of the stage. It replaces the age since the
/// source emitted the item, and does not need [`PipelineBuilder::latencies`](crate::PipelineBuilder::latencies). If a
/// stage has several of these among its steps, it is the distribution of all.
///
/// Every item is measured, which costs about 50 ns plus the call of the closure. To save the thread, make it a step of
/// a [`Stream::stage`](crate::Stream::stage) or [`Inline`](crate::Inline).
///
/// ```
/// use std::time::Duration;
/// use streamz::{ManualClock, Pipeline, Stream};
///
/// let clock = ManualClock::new();
/// let pipeline = Pipeline::builder("orders").clock(&clock).build();
/// let placed = pipeline.clock().wall();
/// clock.advance(Duration::from_secs(90));
///
/// Stream::from_iter(&pipeline, [("tea", placed)])
///     .inline()
///     .measure_age(|order| order.1)
///     .named("load")
///     .for_each(drop)?;
/// let report = pipeline.join();
/// assert_eq!(
///     report.stage("load").unwrap().age.as_ref().unwrap().max,
///     Duration::from_secs(90)
/// );
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Panics
/// An item for which the closure panics becomes an error item of kind [`Panicked`](crate::ErrorKind::Panicked).
#[must_use = "a processor does nothing until it is given a stream"]
pub struct AgeMeter<T, F> {
    time_of: Arc<F>,
    options: Options,
    types: PhantomData<fn(T)>,
}

impl<T, F: Fn(&T) -> SystemTime> AgeMeter<T, F> {
    /// Measures the age of each item from the time that `time_of` returns. Default name: `age`.
    pub fn new(time_of: F) -> Self {
        Self { time_of: Arc::new(time_of), options: Options::new("age"), types: PhantomData }
    }

    common_options!();

    fn operator(&self) -> AgeMeterOperator<T, F> {
        AgeMeterOperator { time_of: Arc::clone(&self.time_of), types: PhantomData }
    }
}

stage! {
    [T, F] AgeMeter<T, F> where { T: Send + 'static, F: Fn(&T) -> SystemTime + Send + Sync + 'static }
    T => T, AgeMeterOperator<T, F>
}

/// Runs an [`AgeMeter`] as an [`Operator`].
pub struct AgeMeterOperator<T, F> {
    time_of: Arc<F>,
    types: PhantomData<fn(T)>,
}

impl<T, F> Operator for AgeMeterOperator<T, F>
where
    T: Send + 'static,
    F: Fn(&T) -> SystemTime + Send + Sync + 'static,
{
    type In = T;
    type Out = T;

    const SHAPE: Shape = Shape::ONE_TO_ONE;

    #[inline]
    fn item(&mut self, item: T, out: &mut impl Emit<T>) {
        let context = out.context();
        // An error says by how much the time is in the future.
        let age = context.clock.wall().duration_since((self.time_of)(&item)).unwrap_or_default();
        context.stats.recordings.note_age(age);
        out.emit(item);
    }

    fn discard(self) {
        guard_drop(self.time_of);
    }
}

shorthand! {
    /// Records the age of each item, by the time that `time_of` returns, and forwards it: an [`AgeMeter`].
    pub fn measure_age<F>(self, time_of: F) -> AgeMeter<T, F> => Stream<T>
    where
        F: Fn(&T) -> std::time::SystemTime + Send + Sync + 'static,
    {
        AgeMeter::new(time_of)
    }
}

opaque_debug! { [T, F] AgeMeter<T, F>: options }
opaque_debug! { [T, F] AgeMeterOperator<T, F> }
