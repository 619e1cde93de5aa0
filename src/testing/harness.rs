//! [`Harness`]: an operator without a thread.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Stage;
use crate::clock::{Clock, ManualClock};
use crate::error::{Result, StreamError};
use crate::pipeline::StepReport;
use crate::pipeline::stats::{StageKind, StageStats};
use crate::stage::operator::Operator;
use crate::stage::operator::sealed::{Context, Sink};
use crate::stage::turn::{Next, Turns};

/// Runs an operator step by step on the calling thread, with virtual time: for tests of operators that need no pipeline.
///
/// It does the same as the thread of a stage, in the same order: due timers fire before the next item, an operator with
/// more output continues when there is room, and a panic becomes an error item. After each call, it checks that the
/// counts add up: received = settled + held.
///
/// ```
/// use std::time::{Duration, Instant};
/// use streamz::testing::Harness;
/// use streamz::{BatchConfig, Batcher};
///
/// let mut batcher = Harness::new(&Batcher::new(BatchConfig {
///     max_size: 2,
///     max_latency: Duration::from_secs(1),
/// }));
/// batcher.item(1);
/// assert!(batcher.outputs().is_empty());
/// batcher.advance(Duration::from_secs(1));
/// assert_eq!(batcher.items(), [[1]]);
///
/// // The same as tables of when what goes in, and when what comes out.
/// let ms = Duration::from_millis;
/// batcher.play([(ms(1500), 2), (ms(2499), 3), (ms(2500), 4)]);
/// batcher.advance(ms(5000));
/// assert_eq!(batcher.timed_items(), [(ms(2499), vec![2, 3]), (ms(3500), vec![4])]);
/// ```
pub struct Harness<O: Operator> {
    turns: Turns<O>,
    clock: ManualClock,
    out: Collected<O::Out>,
    /// The operator has more to emit, and waits for room.
    has_more: bool,
    /// Input that the operator cannot take yet, because it is waiting for its time.
    input: VecDeque<Result<O::In>>,
    /// The input has ended.
    ended: bool,
    is_over: bool,
}

struct Collected<T> {
    /// With the time at which each was emitted.
    items: VecDeque<(Duration, Result<T>)>,
    /// The number of items that may wait in `items` before the output is full.
    capacity: usize,
    closed: bool,
    clock: ManualClock,
    context: Context,
    marked: (usize, bool),
}

impl<T> Sink<T> for Collected<T> {
    fn erased(&mut self) -> &mut dyn Sink<T> {
        self
    }

    fn put(&mut self, item: Result<T>) {
        if item.is_ok() {
            self.stats().emitted.add(1);
            self.stats().delivered.add(1);
        }
        self.items.push_back((self.clock.elapsed(), item));
    }

    /// Only this library's own tests can send a mark to the operator.
    fn put_mark(&mut self, mark: StreamError) {
        self.put(Err(mark));
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
    /// Starts the operator of `stage`, with room for any number of outputs.
    pub fn new<S: Stage<Op = O>>(stage: &S) -> Self {
        let mut steps = Vec::new();
        stage.step_names(&mut steps);
        let stats = StageStats::new(stage.name().into(), StageKind::Processor, &steps, 1);
        let clock = ManualClock::new();
        let context = Context::new(&Arc::new(stats), Clock::from(&clock));
        let out = Collected {
            items: VecDeque::new(),
            capacity: usize::MAX,
            closed: false,
            clock: clock.clone(),
            context,
            marked: (0, false),
        };
        let mut harness = Self {
            turns: Turns::new(stage.start()),
            clock,
            out,
            has_more: false,
            input: VecDeque::new(),
            ended: false,
            is_over: false,
        };
        harness.run();
        harness
    }

    /// Sets how many outputs may wait before the operator finds its output full. Taking them makes room.
    pub fn with_capacity(mut self, outputs: usize) -> Self {
        self.out.capacity = outputs;
        self
    }

    /// Gives the operator an item, or holds it back while the operator waits for a time.
    ///
    /// # Panics
    /// If the input has [ended](Self::end), or if the operator still has output for an earlier item and waits for room: no
    /// stage gives it an item then.
    #[track_caller]
    pub fn item(&mut self, item: O::In) {
        self.assert_open();
        self.assert_at_rest();
        self.input.push_back(Ok(item));
        self.run();
    }

    /// Gives the operator items at given times, counted from the creation of the harness, and moves the time to each of
    /// them.
    ///
    /// # Panics
    /// If a time is in the past, or as [`item`](Self::item).
    #[track_caller]
    pub fn play(&mut self, items: impl IntoIterator<Item = (Duration, O::In)>) {
        for (time, item) in items {
            self.advance_to(time);
            self.item(item);
        }
    }

    /// Gives the operator an error item, or holds it back while the operator waits for a time.
    ///
    /// # Panics
    /// As [`item`](Self::item).
    #[track_caller]
    pub fn error(&mut self, error: StreamError) {
        self.assert_open();
        self.assert_at_rest();
        self.input.push_back(Err(error));
        self.run();
    }

    /// Tells the operator that its input has ended, or holds that back while the operator waits for a time.
    ///
    /// # Panics
    /// If the operator waits for room, as in [`item`](Self::item).
    #[track_caller]
    pub fn end(&mut self) {
        self.assert_at_rest();
        self.ended = true;
        self.run();
    }

    /// Tells the operator that the pipeline is being drained. A drain ends the input, too: see [`end`](Self::end).
    ///
    /// # Panics
    /// If the operator waits for room, as in [`item`](Self::item).
    #[track_caller]
    pub fn drain(&mut self) {
        self.assert_at_rest();
        self.turns.drain(&mut self.out);
        self.run();
    }

    /// Moves the time forward, firing the operator's timers on the way, each at its own moment. While the operator waits
    /// for room they are kept back, as in a stage.
    pub fn advance(&mut self, by: Duration) {
        let target = self.clock.now() + by;
        while let Some(wake) = self.due(target) {
            self.clock.advance(wake.saturating_duration_since(self.clock.now()));
            self.run();
        }
        self.clock.advance(target - self.clock.now());
    }

    /// Moves the time forward to `time`, counted from the creation of the harness.
    ///
    /// # Panics
    /// If it is in the past.
    #[track_caller]
    pub fn advance_to(&mut self, time: Duration) {
        let now = self.clock.elapsed();
        let by = time.checked_sub(now).unwrap_or_else(|| panic!("{time:?} is in the past: it is {now:?}"));
        self.advance(by);
    }

    /// Takes what the operator has emitted, which makes room for more.
    pub fn outputs(&mut self) -> Vec<Result<O::Out>> {
        self.timed_outputs().into_iter().map(|(_, output)| output).collect()
    }

    /// Takes what the operator has emitted and when, which makes room for more.
    pub fn timed_outputs(&mut self) -> Vec<(Duration, Result<O::Out>)> {
        let taken = self.out.items.drain(..).collect();
        self.has_more = false;
        self.run();
        taken
    }

    /// Takes what the operator has emitted, which makes room for more.
    ///
    /// # Panics
    /// If there is an error item among it.
    #[track_caller]
    pub fn items(&mut self) -> Vec<O::Out> {
        self.timed_items().into_iter().map(|(_, item)| item).collect()
    }

    /// Takes what the operator has emitted and when, which makes room for more.
    ///
    /// # Panics
    /// If there is an error item among it.
    #[track_caller]
    pub fn timed_items(&mut self) -> Vec<(Duration, O::Out)> {
        let unwrap = |(time, output): (Duration, Result<O::Out>)| match output {
            Ok(item) => (time, item),
            Err(error) => panic!("an error item at {time:?}: {error:?}"),
        };
        self.timed_outputs().into_iter().map(unwrap).collect()
    }

    /// Returns whether the operator has finished.
    pub fn is_finished(&self) -> bool {
        self.out.closed
    }

    /// Returns the time from now until the operator's next timer.
    pub fn next_wake(&self) -> Option<Duration> {
        self.turns.next_wake().map(|wake| wake.saturating_duration_since(self.clock.now()))
    }

    /// Returns the clock that the operator sees.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Returns the counters of each step.
    pub fn steps(&self) -> Vec<StepReport> {
        self.out.context.stats.steps.iter().map(StepReport::of).collect()
    }

    #[track_caller]
    fn assert_open(&self) {
        assert!(!self.ended, "the input has ended: nothing follows `end`");
    }

    #[track_caller]
    fn assert_at_rest(&self) {
        assert!(!self.has_more, "the operator waits for room, because it has more to say: take its outputs first");
    }

    /// The time of the next timer, if that may be called up to `target`.
    fn due(&self, target: Instant) -> Option<Instant> {
        self.turns.next_wake().filter(|&wake| !self.is_over && !self.has_more && wake <= target)
    }

    /// Does what a stage would do at the current time.
    fn run(&mut self) {
        while !self.has_more {
            match self.turns.next(&mut self.out, || false) {
                Next::Called => {}
                Next::More => self.has_more = self.out.full(),
                Next::Asleep(_) => break,
                Next::Input => {
                    if let Some(item) = self.input.pop_front() {
                        let step = &self.out.context.stats.steps[0];
                        match &item {
                            Ok(_) => step.received.add(1),
                            Err(error) => step.errors_in.add(u64::from(!error.is_mark())),
                        }
                        self.turns.give(item, &mut self.out);
                    } else if self.ended {
                        self.turns.end(&mut self.out);
                    } else {
                        break;
                    }
                }
                Next::Over => {
                    self.is_over = true;
                    break;
                }
            }
            self.check();
        }
    }

    /// The counts add up after each call.
    fn check(&mut self) {
        let (stats, last) = (&self.out.context.stats, self.out.step());
        self.turns.op_mut().publish(stats, last, None);
        if self.turns.is_settled() {
            return;
        }
        let mut check = |step: usize, held| stats.steps[step].check(held);
        self.turns.op_mut().publish(stats, last, Some(&mut check));
    }
}

impl<O: Operator> fmt::Debug for Harness<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").field("outputs", &self.out.items.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::{BatchConfig, Batcher, FlatMap, Mapper};
    use crate::{Custom, Emit, Processor};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Echoes each item at once, by a timer.
    #[derive(Default)]
    struct Echo {
        due: Option<Instant>,
        held: Vec<u32>,
    }

    impl Operator for Echo {
        type In = u32;
        type Out = u32;

        fn item(&mut self, item: u32, out: &mut impl Emit<u32>) {
            self.held.push(item);
            self.due = Some(out.now());
        }

        fn timer(&mut self, _now: Instant, out: &mut impl Emit<u32>) {
            self.due = None;
            self.held.drain(..).for_each(|item| out.emit(item));
        }

        fn next_wake(&self) -> Option<Instant> {
            self.due
        }

        fn held(&self) -> u64 {
            self.held.len() as u64
        }
    }

    #[test]
    fn a_timer_that_is_due_at_once_fires_before_the_next_item() {
        let mut echo = Harness::new(&Custom::new("echo", Echo::default));
        echo.item(1);
        assert_eq!(echo.next_wake(), None);
        echo.item(2);
        assert_eq!(echo.items(), [1, 2]);
    }

    #[test]
    fn outputs_have_the_moment_at_which_they_were_emitted() {
        let mut batcher = Harness::new(&Batcher::new(BatchConfig { max_size: 2, max_latency: ms(10) }));
        batcher.play([(ms(1), 'a'), (ms(11), 'b'), (ms(12), 'c')]);
        batcher.advance_to(ms(30));
        batcher.end();
        assert_eq!(batcher.timed_items(), [(ms(11), vec!['a']), (ms(12), vec!['b', 'c'])]);
    }

    #[test]
    fn timers_wait_while_the_operator_waits_for_room() {
        let both = FlatMap::new(|n: u64| 0..n).fuse(Batcher::new(BatchConfig { max_size: 2, max_latency: ms(10) }));
        let mut both = Harness::new(&both).with_capacity(1);
        both.item(5);
        both.advance(ms(20));
        assert_eq!(both.timed_items(), [(ms(0), vec![0, 1])]);
        assert_eq!(both.timed_items(), [(ms(20), vec![2, 3])]);
        both.advance(ms(10));
        assert_eq!(both.timed_items(), [(ms(30), vec![4])]);
    }

    #[test]
    #[should_panic(expected = "the input has ended: nothing follows `end`")]
    fn an_operator_is_given_no_item_after_the_end() {
        let mut map = Harness::new(&Mapper::new(|n: u64| n));
        map.end();
        map.item(1);
    }

    #[test]
    #[should_panic(expected = "take its outputs first")]
    fn an_operator_that_waits_for_room_is_given_no_item() {
        let mut many = Harness::new(&FlatMap::new(|n: u64| 0..n)).with_capacity(2);
        many.item(5);
        many.item(1);
    }
}
