//! Stages: processors, the operators they run, and the one driver that runs them.

pub(crate) mod branch;
pub(crate) mod call;
mod compose;
mod custom;
mod driver;
mod fuse;
pub(crate) mod operator;
pub(crate) mod options;
pub(crate) mod panic;
mod pass;
pub(crate) mod reader;
pub(crate) mod stats;
mod steps;
pub(crate) mod thread;
pub(crate) mod wait;

pub use call::{Call, CallError, CallFailure, CallStage};
pub use compose::{BoxProcessor, Fused, ProcessorFn, Then};
pub use custom::Custom;
pub use operator::{Emit, Operator};
pub(crate) use pass::Pass;
pub use stats::{DropReason, StageKind};
pub(crate) use steps::shorthand;
pub use steps::{Chain, NoSteps, Only, Steps};

use std::sync::Arc;

use crate::pipeline::{CancelToken, Membership};
use crate::stream::{End, Feed, Stream, edge};
use driver::{Driver, Output};
use operator::sealed::Context;
use stats::{OutputStats, StageStats, Timing};
use thread::{StageThread, spawn_error};

/// Turns a stream into another: one stage of a pipeline, or several behind one name.
///
/// A processor is configured once and may be used many times; each call of [`process`](Self::process) starts a run of
/// its own, with its own threads and state.
///
/// What every processor of this library keeps, unless its documentation says otherwise:
///
/// - *Ending.* When the input ends, what is held is flushed in order, then the output ends. When the token is cancelled,
///   the stage stops promptly, whatever it waits for, and the output is cut. When the consumer goes, the stage stops and
///   drops its input, so that everything upstream winds down.
/// - *Errors are items.* They pass in order, untouched, and are never part of a batch or a count of data.
/// - *Panics* of a closure become error items; the stage lives on.
/// - *Order* is kept. *Back-pressure* is blocking. *Memory* is bounded: the capacities and what the stage holds.
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

    /// The name that the stage has in reports and errors, and that its threads carry.
    fn name(&self) -> &str;

    /// One processor of two, each with its own threads.
    fn then<P>(self, next: P) -> Then<Self, P>
    where
        Self: Sized,
        P: Processor<In = Self::Out>,
    {
        Then::new(self, next)
    }

    /// One stage of two that share a single thread: for steps too cheap to deserve one each.
    ///
    /// The hop between the two then costs a function call. The report shows both as steps of one stage.
    fn fuse<P>(self, next: P) -> Fused<Self, P>
    where
        Self: Sized + Stage,
        P: Stage<In = Self::Out>,
    {
        Fused::new(self, next)
    }

    /// The processor as a trait object, for places that hold processors of different types.
    fn boxed(self) -> BoxProcessor<Self::In, Self::Out>
    where
        Self: Sized,
    {
        Box::new(self)
    }
}

/// A processor that is an [`Operator`] on one thread, and so can be fused with others.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has threads of its own and cannot be fused",
    note = "use `then`, which gives each of the two its own threads"
)]
pub trait Stage: Processor {
    /// The state machine.
    type Op: Operator<In = Self::In, Out = Self::Out>;

    /// A fresh state machine, for one run.
    fn start(&self) -> Self::Op;

    /// How many items may wait in its output; `None` for the pipeline's default.
    fn capacity(&self) -> Option<usize> {
        None
    }

    /// Appends the names of its steps, one for each step of the operator.
    #[doc(hidden)]
    fn step_names(&self, names: &mut Vec<Arc<str>>) {
        names.push(self.name().into());
    }
}

/// The books of a stage that is about to start, and where it stands.
pub(crate) struct Registered {
    pub(crate) token: CancelToken,
    pub(crate) stats: Arc<StageStats>,
    /// Kept until the stage has its threads.
    pub(crate) reservation: Membership,
}

impl Registered {
    /// Enters a stage with one input.
    #[track_caller]
    pub(crate) fn with_input<T: Send + 'static>(
        cancel: &CancelToken,
        input: &Stream<T>,
        name: &str,
        kind: StageKind,
        steps: &[Arc<str>],
        threads: usize,
    ) -> Self {
        Self::with_inputs(cancel, std::slice::from_ref(input), name, kind, steps, threads)
    }

    /// Enters a stage with any number of inputs.
    #[track_caller]
    pub(crate) fn with_inputs<T: Send + 'static>(
        cancel: &CancelToken,
        inputs: &[Stream<T>],
        name: &str,
        kind: StageKind,
        steps: &[Arc<str>],
        threads: usize,
    ) -> Self {
        let scope = cancel.scope();
        for input in inputs {
            assert!(
                Arc::ptr_eq(scope, input.token().scope()),
                "stage `{name}` belongs to pipeline `{}`, but its input to pipeline `{}`",
                scope.name(),
                input.token().scope().name()
            );
        }
        let (stats, reservation) = scope.register(name, kind, steps, threads);
        stats.inputs.lock().extend(inputs.iter().map(|input| Arc::clone(input.feeder())));
        Self { token: cancel.clone(), stats, reservation }
    }

    /// Enters a stage that reads this one, a source without a thread, on its own thread.
    #[track_caller]
    pub(crate) fn read_by(self, name: &str, kind: StageKind, steps: &[Arc<str>]) -> Self {
        let (stats, reservation) = self.token.scope().register(name, kind, steps, 1);
        stats.inputs.lock().push(Arc::clone(&self.stats.name));
        Self { token: self.token, stats, reservation }
    }

    pub(crate) fn source(cancel: &CancelToken, name: &str, threads: usize) -> Self {
        let (stats, reservation) = cancel.scope().register(name, StageKind::Source, &[], threads);
        Self { token: cancel.clone(), stats, reservation }
    }

    /// A way out of the stage.
    pub(crate) fn output<T: Send + 'static>(
        &self,
        branch: &str,
        capacity: Option<usize>,
    ) -> (crate::stream::EdgeSender<T>, Stream<T>) {
        self.output_with(branch, capacity, false)
    }

    /// A way out of the stage, eager if asked for and under virtual time.
    pub(crate) fn output_with<T: Send + 'static>(
        &self,
        branch: &str,
        capacity: Option<usize>,
        eager: bool,
    ) -> (crate::stream::EdgeSender<T>, Stream<T>) {
        let scope = self.token.scope();
        let (sender, receiver) = edge(capacity.unwrap_or(scope.default_capacity()), eager || scope.clock().is_manual());
        let (name, gauge) = (branch.into(), Arc::clone(sender.shared().gauge()));
        self.stats.outputs.lock().push(OutputStats { name, gauge, waits: Arc::new(Timing::new()) });
        (sender, Stream::from_edge(receiver, self.token.clone(), Arc::clone(&self.stats.name)))
    }

    pub(crate) fn context(&self) -> Context {
        Context { stats: Arc::clone(&self.stats), clock: self.token.clock().clone() }
    }

    /// The name of thread `index` of the stage.
    pub(crate) fn thread_name(&self, index: usize) -> String {
        format!("{}-{index}", self.stats.name)
    }
}

/// Starts a stage: one thread that runs the driver. What [`Processor::process`] of every [`Stage`] does.
#[track_caller]
pub(crate) fn launch<S: Stage>(stage: &S, cancel: &CancelToken, input: Stream<S::In>) -> Stream<S::Out> {
    let mut steps = Vec::new();
    stage.step_names(&mut steps);
    let registered = Registered::with_input(cancel, &input, stage.name(), StageKind::Processor, &steps, 1);
    spawn_driver(registered, stage.capacity(), stage.start(), input.into_input())
}

/// Runs an operator on a thread of its own.
pub(crate) fn spawn_driver<O, F>(registered: Registered, capacity: Option<usize>, op: O, feed: F) -> Stream<O::Out>
where
    O: Operator,
    F: Feed<Item = O::In> + Send + 'static,
{
    let (sender, stream) = registered.output("", capacity);
    let name = registered.thread_name(0);
    let scope = Arc::clone(registered.token.scope());
    scope.spawn(&name, true, move |started| {
        let out = Output::new(sender, registered.context());
        match started {
            Ok(()) => {
                let thread = StageThread::new(registered.token, registered.stats, 0);
                Driver::new(op, feed, out, thread).run();
            }
            Err(error) => out.end(End::Cut(spawn_error(&registered.token, &registered.stats, error))),
        }
    });
    stream
}
