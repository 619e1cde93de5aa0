//! [`Processor`] and [`Stage`], and the processors composed of others.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::start::launch;
use super::{BoxStage, Stream};
use crate::panic::guard_drop;
use crate::pipeline::CancelToken;
use crate::pipeline::name::checked;
use crate::stage::Operator;
use crate::stage::fuse::FusedOperator;

/// Turns a stream into another one: as one stage of a pipeline, or as several behind one name.
///
/// A processor is configured once and may be used many times; each call of [`process`](Self::process) starts a run of
/// its own, with its own threads and state.
///
/// Unless its documentation says otherwise, every processor of this library keeps these rules:
///
/// - *Ending.* When the input ends, held items are flushed in order, then the output ends. When the token is cancelled,
///   the stage stops promptly, whatever it is waiting for, and the output is cut. When the consumer is dropped, the
///   stage stops and drops its input, so that everything upstream stops.
/// - *Errors are items.* They are forwarded in order, unchanged, and are never part of a batch or of a count of data.
/// - *Panics* of a closure become error items; the stage continues.
/// - *Order* is kept. *Back-pressure* is blocking. *Memory* is bounded by the capacities and the items that the stage
///   holds.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a processor",
    note = "to make a processor from an `Operator`, use `Custom::new(name, || operator)`",
    note = "to make a processor from a closure over streams, use `ProcessorFn::new(name, |cancel, input| ..)`"
)]
pub trait Processor: Send + Sync + 'static {
    /// What it takes.
    type In: Send + 'static;
    /// What it makes.
    type Out: Send + 'static;

    /// Starts a run that reads `input`, in the scope of `cancel`, and returns its output.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, to one that has finished, or to another one than `input`.
    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<Self::In>) -> Stream<Self::Out>;

    /// Returns the name of the stage in reports and errors, and of its threads.
    fn name(&self) -> &str;

    /// Chains two processors into one; each keeps its own threads.
    fn then<P>(self, next: P) -> Then<Self, P>
    where
        Self: Sized,
        P: Processor<In = Self::Out>,
    {
        Then::new(self, next)
    }

    /// Fuses two stages into one on a single thread: for steps too cheap for a thread each.
    ///
    /// The hop between the two then costs a function call. The report shows both as steps of one stage.
    ///
    /// It changes timing. The two no longer overlap, so an item takes the time of both. Nothing is queued between them: while
    /// the second waits for room or sleeps, the first takes no item, and its timers (the latency of a batch, the end of a
    /// window) fire late by as much. If timers of both are due at the same time, that of the second fires first: it does
    /// not see items that the first emits at that time. Two stages do the same on a [`ManualClock`](crate::ManualClock).
    fn fuse<P>(self, next: P) -> Fused<Self, P>
    where
        Self: Sized + Stage,
        P: Stage<In = Self::Out>,
    {
        Fused::new(self, next)
    }

    /// Erases the type of the stage except for its input and output, for pipelines whose steps are known only at run
    /// time. It can still be [fused](Self::fuse); see [`BoxStage`].
    fn boxed_stage(self) -> BoxStage<Self::In, Self::Out>
    where
        Self: Sized + Stage,
    {
        BoxStage::new(self)
    }

    /// Boxes the processor as a trait object, for places that hold processors of different types.
    fn boxed(self) -> BoxProcessor<Self::In, Self::Out>
    where
        Self: Sized,
    {
        Box::new(self)
    }
}

/// Runs an [`Operator`] on one thread, and so can be fused with other stages.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Stage`: a processor with one thread, which can be fused",
    note = "pools, routers and processors of several stages have threads of their own: to put one behind another, use `then`",
    note = "to test one, run it in a pipeline on a `ManualClock`, between a `TestSource` and a `TestSink`; a `Harness` takes a `Stage`"
)]
pub trait Stage: Processor {
    /// The state machine.
    type Op: Operator<In = Self::In, Out = Self::Out>;

    /// Creates the operator for one run.
    fn start(&self) -> Self::Op;

    /// Returns how many items may wait in the output; `None` for the pipeline's default.
    fn capacity(&self) -> Option<usize> {
        None
    }

    /// Appends the names of its steps, one for each step of the operator: one, unless it was fused of several.
    fn step_names(&self, names: &mut Vec<Arc<str>>) {
        names.push(self.name().into());
    }

    /// Drops the stage, whose closures may own values that panic when they are dropped.
    #[doc(hidden)]
    fn discard(self)
    where
        Self: Sized,
    {
        guard_drop(self);
    }
}

/// Boxes a processor as a trait object.
pub type BoxProcessor<In, Out> = Box<dyn Processor<In = In, Out = Out>>;

impl<P: Processor + ?Sized> Processor for Box<P> {
    type In = P::In;
    type Out = P::Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<Self::In>) -> Stream<Self::Out> {
        (**self).process(cancel, input)
    }

    fn name(&self) -> &str {
        (**self).name()
    }
}

impl<P: Processor + ?Sized> Processor for Arc<P> {
    type In = P::In;
    type Out = P::Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<Self::In>) -> Stream<Self::Out> {
        (**self).process(cancel, input)
    }

    fn name(&self) -> &str {
        (**self).name()
    }
}

impl<In: Send + 'static, Out: Send + 'static> fmt::Debug for dyn Processor<In = In, Out = Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Processor").field(&self.name()).finish()
    }
}

/// Chains two processors; made by [`Processor::then`].
#[derive(Debug, Clone)]
#[must_use = "a processor does nothing until it is given a stream"]
pub struct Then<A, B> {
    first: A,
    second: B,
    name: String,
}

impl<A: Processor, B: Processor<In = A::Out>> Then<A, B> {
    pub(super) fn new(first: A, second: B) -> Self {
        let name = format!("{}>{}", first.name(), second.name());
        Self { first, second, name }
    }
}

impl<A: Processor, B: Processor<In = A::Out>> Processor for Then<A, B> {
    type In = A::In;
    type Out = B::Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<A::In>) -> Stream<B::Out> {
        let (cancel, input) = input.enter(cancel);
        self.second.process(&cancel, self.first.process(&cancel, input))
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Runs two stages on one thread; made by [`Processor::fuse`].
#[derive(Debug, Clone)]
#[must_use = "a processor does nothing until it is given a stream"]
pub struct Fused<A, B> {
    first: A,
    second: B,
    name: Cow<'static, str>,
    capacity: Option<usize>,
}

impl<A: Stage, B: Stage<In = A::Out>> Fused<A, B> {
    pub(super) fn new(first: A, second: B) -> Self {
        let name = format!("{}+{}", first.name(), second.name()).into();
        Self { first, second, name, capacity: None }
    }

    /// Sets the name of the whole; its steps keep theirs.
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    #[track_caller]
    pub fn with_name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = checked(name);
        self
    }

    /// Sets how many items may wait in the output of the whole for a slow consumer; with 0 every item is handed over
    /// directly. Defaults to what the last step asks for that asks for anything, else to the pipeline's
    /// [capacity](crate::PipelineBuilder::capacity).
    pub fn with_capacity(mut self, items: usize) -> Self {
        self.capacity = Some(items);
        self
    }
}

impl<A: Stage, B: Stage<In = A::Out>> Processor for Fused<A, B> {
    type In = A::In;
    type Out = B::Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<A::In>) -> Stream<B::Out> {
        launch(self, cancel, input)
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl<A: Stage, B: Stage<In = A::Out>> Stage for Fused<A, B> {
    type Op = FusedOperator<A::Op, B::Op>;

    fn start(&self) -> Self::Op {
        FusedOperator::new(self.first.start(), self.second.start())
    }

    /// Unless it was set for the whole stage, that of the last step that sets one: a batch that is only mapped is still
    /// big.
    fn capacity(&self) -> Option<usize> {
        self.capacity.or_else(|| self.second.capacity()).or_else(|| self.first.capacity())
    }

    fn step_names(&self, names: &mut Vec<Arc<str>>) {
        self.first.step_names(names);
        self.second.step_names(names);
    }

    fn discard(self) {
        self.first.discard();
        self.second.discard();
    }
}

/// Builds a processor from a closure that builds its stages, which gives a part of a pipeline a name and a type.
///
/// ```
/// use streamz::{Pipeline, ProcessorFn, Processor, Stream};
///
/// let evens = ProcessorFn::new("evens", |_cancel, numbers: Stream<u32>| {
///     numbers.filter(|n| n % 2 == 0).map(|n| n / 2)
/// });
/// let pipeline = Pipeline::new("test");
/// let halves = Stream::from_iter(&pipeline, 0..6).through(&evens).collect::<Vec<_>>()?;
/// assert_eq!(halves, [0, 1, 2]);
/// assert_eq!(evens.name(), "evens");
/// # Ok::<(), streamz::StreamError>(())
/// ```
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("composite", "subgraph"))]
pub struct ProcessorFn<In, Out, F> {
    name: Cow<'static, str>,
    build: F,
    types: std::marker::PhantomData<fn(In) -> Out>,
}

impl<In, Out, F> ProcessorFn<In, Out, F>
where
    F: Fn(&CancelToken, Stream<In>) -> Stream<Out> + Send + Sync + 'static,
{
    /// Creates a processor named `name` whose stages `build` builds.
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    #[track_caller]
    pub fn new(name: impl Into<Cow<'static, str>>, build: F) -> Self {
        Self { name: checked(name), build, types: std::marker::PhantomData }
    }
}

impl<In, Out, F> Processor for ProcessorFn<In, Out, F>
where
    In: Send + 'static,
    Out: Send + 'static,
    F: Fn(&CancelToken, Stream<In>) -> Stream<Out> + Send + Sync + 'static,
{
    type In = In;
    type Out = Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<In>) -> Stream<Out> {
        let (cancel, input) = input.enter(cancel);
        (self.build)(&cancel, input.with_token(&cancel))
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl<In, Out, F> fmt::Debug for ProcessorFn<In, Out, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProcessorFn").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pipeline, Skip, Take};

    #[test]
    fn a_fused_stage_has_its_own_capacity_or_its_last_steps() {
        let capacity_of = |stage: Fused<Take<u8>, Skip<u8>>| {
            let pipeline = Pipeline::builder("fused").capacity(9).build();
            let _output = Stream::from_iter(&pipeline, []).through(&stage.with_name("whole"));
            pipeline.report().stage("whole").unwrap().outputs[0].capacity
        };
        let (first, second) = (|| Take::new(1), || Skip::new(1));
        assert_eq!(capacity_of(first().fuse(second())), 9);
        assert_eq!(capacity_of(first().with_capacity(2).fuse(second())), 2);
        assert_eq!(capacity_of(first().with_capacity(2).fuse(second().with_capacity(3))), 3);
        assert_eq!(capacity_of(first().fuse(second().with_capacity(3)).with_capacity(4)), 4);
    }
}
