//! Registering a stage with its pipeline, and starting it.
//!
//! Only here does a stage, a source or a sink get its name: that of the stream that it reads, if it was
//! [`named`](Stream::named), otherwise that of the token on which it is built, otherwise its own.

use std::sync::Arc;

use super::{Stage, Stream};
use crate::edge::{EdgeSender, End, edge};
use crate::pipeline::stats::{OutputStats, StageKind, StageStats};
use crate::pipeline::timing::Timing;
use crate::pipeline::{CancelToken, InputReport, Membership, Scope};
use crate::stage::Operator;
use crate::stage::driver::{Driver, Output};
use crate::stage::input::Feed;
use crate::stage::operator::sealed::Context;
use crate::stage::origins::Origins;
use crate::stage::own_loop::{self, Work};
use crate::stage::thread::{StageThread, spawn_error};

/// Statistics and registration of a stage that is about to start.
pub(crate) struct Registered {
    pub(crate) token: CancelToken,
    pub(crate) stats: Arc<StageStats>,
    /// The merge whose labels its outputs carry.
    pub(crate) origins: Option<Arc<Origins>>,
    /// Held until the stage has its threads.
    pub(crate) reservation: Membership,
}

impl Registered {
    /// Registers a stage with one input.
    #[track_caller]
    pub(crate) fn with_input<T: Send + 'static>(
        cancel: &CancelToken,
        input: &Stream<T>,
        name: &str,
        kind: StageKind,
        steps: &[Arc<str>],
        threads: usize,
    ) -> Self {
        let origins = input.origins().cloned();
        let registered = Self::with_inputs(cancel, std::slice::from_ref(input), name, kind, steps, threads);
        Self { origins, ..registered }
    }

    /// Registers a stage with any number of inputs.
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
        let named = inputs.iter().find_map(Stream::next_name).or_else(|| cancel.name().map(|name| &**name));
        let name = named.unwrap_or(name);
        for input in inputs {
            check(scope, name, input);
        }
        let (stats, reservation) = scope.register(name, kind, steps, threads);
        inputs.iter().for_each(|input| input.is_read_by(&stats));
        Self { token: cancel.unnamed(), stats, origins: None, reservation }
    }

    /// Registers a stage with two inputs, which may be of different types, and one thread.
    #[track_caller]
    pub(crate) fn with_pair<T: Send + 'static, U: Send + 'static>(
        cancel: &CancelToken,
        (first, second): (&Stream<T>, &Stream<U>),
        name: &str,
    ) -> Self {
        let scope = cancel.scope();
        let named = first.next_name().or(second.next_name()).or_else(|| cancel.name().map(|name| &**name));
        let name = named.unwrap_or(name);
        check(scope, name, first);
        check(scope, name, second);
        let (stats, reservation) = scope.register(name, StageKind::Processor, &[], 1);
        first.is_read_by(&stats);
        second.is_read_by(&stats);
        Self { token: cancel.unnamed(), stats, origins: None, reservation }
    }

    /// Registers a sink or consumer on the thread of the caller. The pipeline may have finished.
    #[track_caller]
    pub(crate) fn reader<T: Send + 'static>(
        input: &Stream<T>,
        name: &str,
        kind: StageKind,
        steps: &[Arc<str>],
    ) -> Self {
        let token = input.token().clone();
        let name = input.next_name().unwrap_or(name);
        let (stats, reservation) = token.scope().register_reader(name, kind, steps);
        input.is_read_by(&stats);
        Self { token, stats, origins: input.origins().cloned(), reservation }
    }

    /// Registers a stage that reads this one, a source without a thread, on its own threads.
    #[track_caller]
    pub(crate) fn read_by(self, name: &str, kind: StageKind, steps: &[Arc<str>], threads: usize) -> Self {
        let (stats, reservation) = self.token.scope().register(name, kind, steps, threads);
        stats.recordings.act_for(&self.stats.recordings);
        stats.inputs.lock().push(InputReport { stage: Arc::clone(&self.stats.name), output: Arc::default() });
        Self { token: self.token, stats, origins: None, reservation }
    }

    pub(crate) fn source(cancel: &CancelToken, name: &str, threads: usize) -> Self {
        let name = cancel.name().map_or(name, |name| &**name);
        let (stats, reservation) = cancel.scope().register(name, StageKind::Source, &[], threads);
        Self { token: cancel.unnamed(), stats, origins: None, reservation }
    }

    /// Creates an output of the stage.
    pub(crate) fn output<T: Send + 'static>(
        &self,
        branch: &str,
        capacity: Option<usize>,
    ) -> (EdgeSender<T>, Stream<T>) {
        self.output_with(branch, capacity, false)
    }

    /// Creates an output of the stage, eager if requested and under virtual time.
    pub(crate) fn output_with<T: Send + 'static>(
        &self,
        branch: &str,
        capacity: Option<usize>,
        eager: bool,
    ) -> (EdgeSender<T>, Stream<T>) {
        let (sender, stream) = output_of(&self.token, &self.stats, branch, capacity, eager);
        (sender, stream.with_origins(self.origins.clone()))
    }

    /// Passes the inputs of the merge that its input comes from to an operator that will run here.
    pub(crate) fn attach<O: Operator>(&mut self, op: &mut O) {
        self.origins = self.origins.take().filter(|origins| op.attach(origins));
    }

    pub(crate) fn context(&self) -> Context {
        Context::new(&self.stats, self.token.clock().clone())
    }

    /// The name of thread `index` of the stage.
    pub(crate) fn thread_name(&self, index: usize) -> String {
        format!("{}-{index}", self.stats.name)
    }
}

/// Creates an output of a stage, which may already be running.
pub(crate) fn output_of<T: Send + 'static>(
    token: &CancelToken,
    stats: &StageStats,
    branch: &str,
    capacity: Option<usize>,
    eager: bool,
) -> (EdgeSender<T>, Stream<T>) {
    let scope = token.scope();
    let (sender, receiver) = edge(capacity.unwrap_or(scope.default_capacity()), eager || scope.clock().is_manual());
    let (name, gauge) = (Arc::<str>::from(branch), Arc::clone(sender.shared().gauge()));
    let stream = Stream::from_edge(receiver, token.clone(), Arc::clone(&stats.name));
    let stream = stream.of_branch(Arc::clone(&name));
    stats.outputs.lock().push(OutputStats { name, gauge, waits: Arc::new(Timing::new()) });
    (sender, stream)
}

/// Refuses an input that belongs to another pipeline than the stage.
#[track_caller]
fn check<T: Send + 'static>(scope: &Arc<Scope>, name: &str, input: &Stream<T>) {
    assert!(
        Arc::ptr_eq(scope, input.token().scope()),
        "stage `{name}` belongs to pipeline `{}`, but its input to pipeline `{}`",
        scope.name(),
        input.token().scope().name()
    );
}

/// Starts a stage: one thread that runs the driver. Implements [`Processor::process`](super::Processor::process) for
/// every [`Stage`].
#[track_caller]
pub(crate) fn launch<S: Stage>(stage: &S, cancel: &CancelToken, input: Stream<S::In>) -> Stream<S::Out> {
    let mut steps = Vec::new();
    stage.step_names(&mut steps);
    let registered = Registered::with_input(cancel, &input, stage.name(), StageKind::Processor, &steps, 1);
    spawn_driver(registered, stage.capacity(), stage.start(), input.into_input())
}

/// Runs an operator on its own thread.
pub(crate) fn spawn_driver<O, F>(
    mut registered: Registered,
    capacity: Option<usize>,
    mut op: O,
    feed: F,
) -> Stream<O::Out>
where
    O: Operator,
    F: Feed<Item = O::In> + Send + 'static,
{
    registered.attach(&mut op);
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
            Err(error) => {
                out.end(End::Cut(spawn_error(&registered.token, &registered.stats, &error)));
                op.discard();
                feed.discard();
            }
        }
    });
    stream
}

/// Runs a stage with its own loop on a thread.
pub(crate) fn spawn_loop<W: Work>(registered: Registered, input: Stream<W::Item>, ways: W::Ways, work: W) {
    let name = registered.thread_name(0);
    let scope = Arc::clone(registered.token.scope());
    let input = input.into_input();
    scope.spawn(&name, true, move |started| {
        let context = registered.context();
        own_loop::run(started, registered.token, context, input, ways, work);
    });
}
