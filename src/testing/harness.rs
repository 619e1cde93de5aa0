//! [`Harness`]: an operator without a thread.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Stage;
use crate::clock::{Clock, ManualClock};
use crate::error::{Result, StreamError};
use crate::pipeline::StepReport;
use crate::stage::operator::sealed::{Context, Sink};
use crate::stage::operator::{Operator, give, guarded};
use crate::stage::stats::{StageKind, StageStats};

/// Runs an operator step by step on the calling thread, with virtual time: for tests of operators that need no pipeline.
///
/// ```
/// use std::time::Duration;
/// use streamz::testing::Harness;
/// use streamz::{BatchConfig, Batcher};
///
/// let mut batcher = Harness::new(&Batcher::new(BatchConfig { max_size: 2, max_latency: Duration::from_secs(1) }));
/// batcher.item(1);
/// assert!(batcher.outputs().is_empty());
/// batcher.advance(Duration::from_secs(1));
/// assert_eq!(batcher.items(), [[1]]);
/// ```
pub struct Harness<O: Operator> {
    op: O,
    clock: ManualClock,
    out: Collected<O::Out>,
}

struct Collected<T> {
    items: VecDeque<Result<T>>,
    /// How many items may wait in `items` before it says that it is full.
    capacity: usize,
    closed: bool,
    context: Context,
    marked: (usize, bool),
}

impl<T> Sink<T> for Collected<T> {
    fn put(&mut self, item: Result<T>) {
        if item.is_ok() {
            self.stats().emitted.add(1);
            self.stats().delivered.add(1);
        }
        self.items.push_back(item);
    }

    fn full(&mut self) -> bool {
        self.items.len() >= self.capacity
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn step(&self) -> usize {
        self.context.stats.steps.len() - 1
    }

    fn context(&self) -> &Context {
        &self.context
    }

    fn mark(&mut self, step: usize, is_item: bool) {
        self.marked = (step, is_item);
    }

    fn marked(&self) -> (usize, bool) {
        self.marked
    }

    fn correct(&mut self, delivered: u64) {
        self.stats().delivered.add(delivered);
    }

    /// Nothing is counted in advance here.
    fn sync(&mut self) {}
}

impl<O: Operator> Harness<O> {
    /// The operator of `stage`, freshly started, with room for any number of outputs.
    pub fn new<S: Stage<Op = O>>(stage: &S) -> Self {
        let mut steps = Vec::new();
        stage.step_names(&mut steps);
        let stats = StageStats::new(stage.name().into(), StageKind::Processor, &steps, 1);
        let clock = ManualClock::new();
        let context = Context { stats: Arc::new(stats), clock: Clock::from(&clock) };
        let out =
            Collected { items: VecDeque::new(), capacity: usize::MAX, closed: false, context, marked: (0, false) };
        let mut harness = Self { op: stage.start(), clock, out };
        harness.resume();
        harness
    }

    /// Sets how many outputs may wait before the operator finds its output full. Taking them makes room.
    pub fn with_capacity(mut self, outputs: usize) -> Self {
        self.out.capacity = outputs;
        self
    }

    /// Gives the operator an item.
    pub fn item(&mut self, item: O::In) {
        self.out.context.stats.steps[0].received.add(1);
        self.call(|op, out| give(op, Ok(item), out));
    }

    /// Gives the operator an error item.
    pub fn error(&mut self, error: StreamError) {
        self.out.context.stats.steps[0].errors_in.add(1);
        self.call(|op, out| give(op, Err(error), out));
    }

    /// Tells the operator that its input has ended.
    pub fn end(&mut self) {
        self.call(|op, out| op.end(out));
    }

    /// Moves the time forward, firing the operator's timers on the way, each at its own moment.
    pub fn advance(&mut self, by: Duration) {
        let target = self.clock.now() + by;
        while let Some(wake) = self.op.next_wake().filter(|&wake| wake <= target) {
            self.clock.advance(wake.saturating_duration_since(self.clock.now()));
            self.call(|op, out| op.timer(out));
        }
        self.clock.advance(target - self.clock.now());
    }

    /// Takes what the operator has emitted; makes room for more.
    pub fn outputs(&mut self) -> Vec<Result<O::Out>> {
        let taken = self.out.items.drain(..).collect();
        self.resume();
        taken
    }

    /// Takes what the operator has emitted.
    ///
    /// # Panics
    /// If there is an error item among it.
    #[track_caller]
    pub fn items(&mut self) -> Vec<O::Out> {
        let unwrap = |output: Result<O::Out>| output.unwrap_or_else(|error| panic!("an error item: {error:?}"));
        self.outputs().into_iter().map(unwrap).collect()
    }

    /// Whether the operator has said that nothing more will come.
    pub fn is_finished(&self) -> bool {
        self.out.closed
    }

    /// How long from now until the operator wants to be woken.
    pub fn next_wake(&self) -> Option<Duration> {
        self.op.next_wake().map(|wake| wake.saturating_duration_since(self.clock.now()))
    }

    /// The clock that the operator sees.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The counters of each step.
    pub fn steps(&self) -> Vec<StepReport> {
        self.out.context.stats.steps.iter().map(StepReport::of).collect()
    }

    fn call(&mut self, call: impl FnOnce(&mut O, &mut Collected<O::Out>)) {
        guarded(&mut self.op, &mut self.out, call);
        self.resume();
        let stats = &self.out.context.stats;
        self.op.publish(stats, self.out.step());
        self.op.held_by_step(self.out.step(), &mut |step, held| {
            let step = &stats.steps[step];
            assert_eq!(step.unsettled(), held, "step `{}` miscounts", step.name);
        });
    }

    fn resume(&mut self) {
        while !self.out.closed && guarded(&mut self.op, &mut self.out, |op, out| op.resume(out)) {
            if self.out.full() {
                return;
            }
        }
    }
}

impl<O: Operator> fmt::Debug for Harness<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").field("outputs", &self.out.items.len()).finish_non_exhaustive()
    }
}
