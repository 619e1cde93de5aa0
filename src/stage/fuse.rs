//! Fusing: two operators as one.
//!
//! # Invariants
//!
//! The second operator receives nothing while it has more to emit. So the boundary between the two is full while the
//! second has more, while items wait at the boundary, or while the output is full. An operator that asks `is_full` and
//! returns is resumed later, and items emitted without asking wait at the boundary, in order.
//!
//! While the second operator waits for its time, the boundary is closed in the same way, and the first one's timers do
//! not fire: its items could only pile up. The fused operator is waiting when one of the two is, and the second is not
//! ended before the first has stopped waiting.
//!
//! `resume` always works from the end to the front: the second operator emits what it has, then it receives the items
//! that wait at the boundary, then the first operator is resumed. When the first has nothing more and has ended (its
//! input did, or it called `finish`), the second is ended, once, and resumed until it has nothing more; if the first
//! called `finish`, the fused operator is finished after that. An operator that called `finish` is not called again:
//! the first finds its output full from then on, and items before the second stay there and are counted as abandoned.
//! Items that the first one still holds after its end, when it has no more to emit, have failed before the second is
//! ended.
//!
//! Items that cross the boundary are counted in a plain field, and the shared counters are updated by `publish` (when
//! the stage parks or hands over) and `sync` (when a panic must be accounted for). If both operators are plain, nothing
//! can wait at the boundary and neither needs to be resumed: an item passes straight through. If the first one is also
//! one to one, the items that crossed the boundary are those it received less those that failed there: `publish`
//! derives the number.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::marks::Marks;
use super::operator::sealed::{Context, Note, Origins, Shape, Sink, Stats, Utterance};
use super::operator::{Emit, Operator, Shaped, Timer, give, guarded, resumed};
use crate::error::{Result, StreamError};
use crate::panic::discard;

/// Two operators as one; see [`Processor::fuse`](crate::Processor::fuse).
pub struct FusedOperator<A: Operator, B: Operator<In = A::Out>> {
    first: A,
    timer: Timer,
    marks: Marks,
    rest: Rest<B>,
    /// The first operator has been ended or has finished; only `resume` is left for it.
    closing: bool,
    /// It has nothing more to emit after that, and the items it had left have failed.
    first_is_over: bool,
}

/// The second operator and the boundary before it.
struct Rest<B: Operator> {
    second: B,
    timer: Timer,
    marks: Marks,
    waiting: VecDeque<Result<B::In>>,
    /// The second operator has more to emit.
    pending: bool,
    /// The second operator has been ended.
    ended: bool,
    /// The first operator has called `finish`.
    finished: bool,
    /// Items that crossed the boundary since the counters were last updated.
    passed: u64,
    /// How much their number of delivered items differs from one each; wraps.
    correction: u64,
}

impl<A: Operator, B: Operator<In = A::Out>> FusedOperator<A, B> {
    pub(crate) fn new(first: A, second: B) -> Self {
        // Pending, so that the second one, too, is resumed before its first item.
        let pending = !B::PLAIN;
        let rest = Rest {
            second,
            timer: Timer::default(),
            marks: Marks::default(),
            waiting: VecDeque::new(),
            pending,
            ended: false,
            finished: false,
            passed: 0,
            correction: 0,
        };
        Self { first, timer: Timer::default(), marks: Marks::default(), rest, closing: false, first_is_over: false }
    }

    /// Whether `publish` can derive how many items crossed the boundary.
    const RECKONED: bool = Self::PLAIN && A::ONE_TO_ONE;

    /// When the first operator must be woken, unless it must not be called.
    #[inline]
    fn first_wake(&self) -> Option<Instant> {
        if self.rest.finished || self.first_is_over || self.rest.is_waiting() {
            return None;
        }
        self.timer.next_wake(&self.first)
    }

    #[inline]
    fn first_is_waiting(&self) -> bool {
        !self.rest.finished && !self.first_is_over && self.timer.is_waited_for(&self.first)
    }

    #[inline(always)]
    fn give_first(&mut self, item: Result<A::In>, out: &mut impl Emit<B::Out>) {
        let link = &mut self.rest.link(out, Self::PLAIN, Self::RECKONED);
        if Self::PLAIN {
            // The caller guards the two as one.
            give(&mut self.first, item, link);
        } else {
            match item {
                Err(mark) if !A::COMPOSITE && !A::PLAIN && mark.is_mark() => {
                    self.marks.arrive(mark, &mut self.first, link);
                }
                item => {
                    self.timer.reset();
                    guarded(&mut self.first, link, |first, link| give(first, item, link));
                }
            }
        }
    }

    /// Counts the items that passed from one to the other; `entry` is the second's first step.
    fn count_passed(&mut self, stats: &Stats, entry: usize) {
        if Self::RECKONED {
            let step = &stats.steps[entry - 1];
            self.rest.passed = step.received.get().wrapping_sub(step.failed.get()).wrapping_sub(step.emitted.get());
        }
        self.rest.count_passed(stats, entry);
    }
}

impl<B: Operator> Rest<B> {
    /// The output of the first operator. `plain` if both are: then one guard around the two suffices. `reckoned` if no
    /// count is needed.
    #[inline(always)]
    fn link<'a, E: Emit<B::Out>>(&'a mut self, out: &'a mut E, plain: bool, reckoned: bool) -> Link<'a, B, E> {
        Link { rest: self, out, plain, reckoned }
    }

    #[inline]
    fn give<E: Emit<B::Out>>(&mut self, item: Result<B::In>, out: &mut E) {
        let item = match item {
            Err(mark) if !B::COMPOSITE && !B::PLAIN && mark.is_mark() => {
                self.marks.arrive(mark, &mut self.second, out);
                return self.resume_second(out);
            }
            item => item,
        };
        debug_assert!(!self.pending, "its output must pass before it takes another item");
        self.timer.reset();
        guarded(&mut self.second, out, |second, out| give(second, item, out));
        if self.marks.need_resume(&self.second) {
            self.resume_second(out);
        }
    }

    fn count_passed(&mut self, stats: &Stats, entry: usize) {
        let passed = std::mem::take(&mut self.passed);
        stats.steps[entry].received.add(passed);
        stats.steps[entry - 1].emitted.add(passed);
        stats.steps[entry - 1].delivered.add(passed.wrapping_add(std::mem::take(&mut self.correction)));
    }

    /// Whether the second operator can take nothing.
    #[inline]
    fn is_waiting(&self) -> bool {
        self.timer.is_waited_for(&self.second)
    }

    #[inline]
    fn resume_second<E: Emit<B::Out>>(&mut self, out: &mut E) {
        self.pending = !out.is_closed() && resumed(&mut self.second, out);
        if !self.pending {
            self.marks.release(&self.second, out);
        }
    }

    /// Whether something is at the boundary or behind it.
    #[inline]
    fn needs_clearing(&self) -> bool {
        self.pending || self.finished || !self.waiting.is_empty()
    }

    /// Empties the boundary. Returns false if the second operator must wait for room or for its time, or has finished.
    #[inline]
    fn clear<E: Emit<B::Out>>(&mut self, out: &mut E) -> bool {
        loop {
            if out.is_closed() {
                return false;
            }
            if self.pending {
                self.resume_second(out);
                if self.pending {
                    return false;
                }
            }
            if self.is_waiting() {
                return false;
            }
            match self.waiting.pop_front() {
                Some(item) => self.give(item, out),
                None if self.pending => {}
                None => return true,
            }
        }
    }
}

impl<A: Operator, B: Operator<In = A::Out>> Operator for FusedOperator<A, B> {
    type In = A::In;
    type Out = B::Out;

    const SHAPE: Shape = A::SHAPE.with(B::SHAPE);

    #[inline(always)]
    fn steps(&self) -> usize {
        self.first.steps() + self.rest.second.steps()
    }

    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.first.is_plain() && self.rest.second.is_plain()
    }

    #[inline(always)]
    fn item(&mut self, item: A::In, out: &mut impl Emit<B::Out>) {
        self.give_first(Ok(item), out);
    }

    fn error(&mut self, error: StreamError, out: &mut impl Emit<B::Out>) {
        self.give_first(Err(error), out);
    }

    /// One timer for each call, the earlier one first. If two are due at the same time, the second operator's: as stages of
    /// their own, the first would emit its items at that time, and the second would fire its timer before it takes them.
    fn timer(&mut self, now: Instant, out: &mut impl Emit<B::Out>) {
        match (self.first_wake(), self.rest.timer.next_wake(&self.rest.second)) {
            (Some(first), second) if second.is_none_or(|second| first < second) => {
                let link = &mut self.rest.link(out, Self::PLAIN, Self::RECKONED);
                self.timer.fire(&mut self.first, now, link);
            }
            _ => {
                self.rest.timer.fire(&mut self.rest.second, now, out);
                self.rest.resume_second(out);
            }
        }
    }

    /// The first one is notified first: the second one lets the items pass that it then emits.
    fn drain(&mut self, out: &mut impl Emit<B::Out>) {
        self.timer.reset();
        self.rest.timer.reset();
        if !self.rest.finished {
            guarded(&mut self.first, &mut self.rest.link(out, Self::PLAIN, Self::RECKONED), |first, link| {
                first.drain(link)
            });
        }
        guarded(&mut self.rest.second, out, |second, out| second.drain(out));
        self.rest.resume_second(out);
    }

    fn end(&mut self, out: &mut impl Emit<B::Out>) {
        if !self.closing {
            self.closing = true;
            self.timer.reset();
            guarded(&mut self.first, &mut self.rest.link(out, Self::PLAIN, Self::RECKONED), |first, link| {
                first.end(link)
            });
        }
    }

    #[inline]
    fn resume(&mut self, out: &mut impl Emit<B::Out>) -> bool {
        loop {
            if !self.rest.clear(out) {
                // Room does not help an operator that waits for its time.
                return self.rest.pending && !out.is_closed();
            }
            if self.rest.ended {
                if self.rest.finished {
                    out.close();
                }
                return false;
            }
            let more = !self.rest.finished
                && !self.first_is_over
                && resumed(&mut self.first, &mut self.rest.link(out, Self::PLAIN, Self::RECKONED));
            self.closing |= self.rest.finished;
            if !more {
                self.marks.release(&self.first, &mut self.rest.link(out, Self::PLAIN, Self::RECKONED));
            }
            if more && !self.rest.finished {
                if out.full() {
                    return true;
                }
            } else if self.rest.pending || !self.rest.waiting.is_empty() || self.rest.is_waiting() {
                // The items that the first has just emitted must pass before it can be ended.
            } else if self.first_is_waiting() {
                return false;
            } else if self.closing && !self.rest.finished && !self.first_is_over {
                self.first_is_over = true;
                let link = &mut self.rest.link(out, Self::PLAIN, Self::RECKONED);
                self.first.utter(Utterance::Unsettled, link);
                self.marks.release_all(link);
            } else if self.closing {
                self.rest.ended = true;
                self.rest.timer.reset();
                guarded(&mut self.rest.second, out, |second, out| second.end(out));
                self.rest.resume_second(out);
            } else {
                return false;
            }
        }
    }

    #[inline]
    fn needs_resume(&self) -> bool {
        if Self::PLAIN {
            return false;
        }
        self.closing || self.marks.need_resume(&self.first) || self.rest.needs_clearing()
    }

    #[inline]
    fn next_wake(&self) -> Option<Instant> {
        if Self::PLAIN {
            return None;
        }
        crate::clock::earlier(self.first_wake(), self.rest.timer.next_wake(&self.rest.second))
    }

    #[inline]
    fn is_waiting(&self) -> bool {
        self.rest.is_waiting() || self.first_is_waiting()
    }

    #[inline(always)]
    fn looks_ahead(&self) -> bool {
        self.first.looks_ahead()
    }

    #[inline(always)]
    fn prefetch(&mut self, next: &[Result<A::In>]) {
        self.first.prefetch(next);
    }

    fn attach(&mut self, origins: &Arc<Origins>) -> bool {
        self.first.attach(origins) && self.rest.second.attach(origins)
    }

    fn publish(&mut self, stats: &Stats, last: usize, note: Option<Note<'_>>) {
        let entry = last + 1 - self.rest.second.steps();
        let Some(note) = note else {
            self.first.publish(stats, entry - 1, None);
            self.count_passed(stats, entry);
            return self.rest.second.publish(stats, last, None);
        };
        self.first.publish(stats, entry - 1, (!self.first_is_over).then_some(&mut *note));
        self.count_passed(stats, entry);
        let waiting = self.rest.waiting.iter().filter(|item| item.is_ok()).count() as u64;
        let mut note = |step, held| note(step, if step == entry { held + waiting } else { held });
        self.rest.second.publish(stats, last, Some(&mut note));
    }

    fn utter(&mut self, what: Utterance, out: &mut impl Emit<B::Out>) {
        match what {
            Utterance::Unsettled => {
                self.rest.second.utter(what, out);
                self.rest.marks.release_all(out);
            }
            Utterance::Error(step, error) => match step.checked_sub(self.first.steps()) {
                None => {
                    let link = &mut self.rest.link(out, Self::PLAIN, Self::RECKONED);
                    self.first.utter(Utterance::Error(step, error), link);
                }
                Some(step) => self.rest.second.utter(Utterance::Error(step, error), out),
            },
        }
    }

    fn discard(self) {
        let Self { first, rest, .. } = self;
        first.discard();
        discard(rest.waiting);
        rest.second.discard();
    }
}

impl<A: Operator, B: Operator<In = A::Out>> fmt::Debug for FusedOperator<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FusedOperator").field("steps", &self.steps()).finish_non_exhaustive()
    }
}

/// The first operator's output: the second operator.
struct Link<'a, B: Operator, E> {
    rest: &'a mut Rest<B>,
    out: &'a mut E,
    plain: bool,
    reckoned: bool,
}

impl<B: Operator, E: Emit<B::Out>> Link<'_, B, E> {
    /// The index of the second operator's first step.
    #[inline]
    fn entry(&self) -> usize {
        self.out.step() + 1 - self.rest.second.steps()
    }

    #[cold]
    fn count_error(&self) {
        self.out.context().stats.steps[self.entry()].errors_in.add(1);
    }

    #[inline]
    fn put_guarded(&mut self, item: Result<B::In>) {
        if !self.rest.second.is_plain() {
            // The guard of an operator that is not plain checks the items it has received.
            self.rest.count_passed(&self.out.context().stats, self.entry());
        }
        if self.rest.pending || !self.rest.waiting.is_empty() || self.rest.is_waiting() || self.out.is_closed() {
            self.rest.waiting.push_back(item);
        } else {
            self.rest.give(item, self.out);
        }
    }
}

impl<B: Operator, E: Emit<B::Out>> Sink<B::In> for Link<'_, B, E> {
    fn erased(&mut self) -> &mut dyn Sink<B::In> {
        self
    }

    // A sequence of plain operators is meant to become straight-line code, however long it is.
    #[inline(always)]
    fn put(&mut self, item: Result<B::In>) {
        match &item {
            Ok(_) if self.reckoned => {}
            Ok(_) => self.rest.passed += 1,
            Err(_) => self.count_error(),
        }
        if self.plain {
            give(&mut self.rest.second, item, self.out);
        } else {
            self.put_guarded(item);
        }
    }

    #[cold]
    fn put_mark(&mut self, mark: StreamError) {
        if self.plain {
            give(&mut self.rest.second, Err(mark), self.out);
        } else {
            self.put_guarded(Err(mark));
        }
    }

    #[inline]
    fn full(&mut self) -> bool {
        self.rest.finished
            || self.rest.pending
            || !self.rest.waiting.is_empty()
            || self.rest.is_waiting()
            || self.out.full()
    }

    fn close(&mut self) {
        self.rest.finished = true;
    }

    fn is_closed(&self) -> bool {
        self.rest.finished || self.out.is_closed()
    }

    #[inline]
    fn step(&self) -> usize {
        self.out.step() - self.rest.second.steps()
    }

    #[inline]
    fn context(&self) -> &Context {
        self.out.context()
    }

    #[inline]
    fn mark(&mut self, step: usize, is_item: bool) {
        self.out.mark(step, is_item);
    }

    fn marked(&self) -> (usize, bool) {
        self.out.marked()
    }

    #[inline]
    fn correct(&mut self, delivered: u64) {
        self.rest.correction = self.rest.correction.wrapping_add(delivered);
    }

    fn sync(&mut self) {
        self.rest.count_passed(&self.out.context().stats, self.entry());
        self.out.sync();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mark::testing::Probe;
    use crate::testing::{Harness, Recorder, TestSource};
    use crate::{
        BatchConfig, Batcher, BoxStage, Custom, Debounce, Delay, ErrorKind, FlatMap, Inline, ManualClock, Mapper,
        Pipeline, Processor, Stage, Take, TakeWhile, Timeout,
    };

    fn batcher<T: Send + 'static>(max_size: usize) -> Batcher<T> {
        Batcher::new(BatchConfig { max_size, max_latency: Duration::from_millis(10) })
    }

    #[test]
    fn of_two_timers_due_together_the_second_operators_fires_first() {
        let mut run = Harness::new(&batcher(2).fuse(batcher(10)));
        ['a', 'b', 'c'].into_iter().for_each(|item| run.item(item));
        run.advance(Duration::from_millis(10));
        assert_eq!(run.items(), [[vec!['a', 'b']]]);
        run.advance(Duration::from_millis(10));
        assert_eq!(run.items(), [[vec!['c']]]);
    }

    fn timed_operators() -> Vec<BoxStage<u32, u32>> {
        let ms = Duration::from_millis;
        let batch = |max_size, latency| {
            let sum = Mapper::new(|items: Vec<u32>| items.into_iter().fold(0, |sum, n| 100 * sum + n));
            Batcher::new(BatchConfig { max_size, max_latency: ms(latency) }).fuse(sum).boxed_stage()
        };
        vec![
            Delay::new(ms(5)).boxed_stage(),
            Delay::new(ms(10)).boxed_stage(),
            Debounce::new(ms(5)).boxed_stage(),
            Debounce::new(ms(10)).boxed_stage(),
            batch(2, 5),
            batch(9, 10),
            Timeout::new(ms(10)).boxed_stage(),
        ]
    }

    /// Everything that comes out, and when.
    fn timed(stage: &impl Processor<In = u32, Out = u32>) -> Vec<(Duration, Option<u32>)> {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("ties").clock(&clock).build();
        let (source, numbers) = TestSource::new(&pipeline);
        let recorder = Recorder::new(numbers.through(stage));
        source
            .play([0, 5, 5, 10, 10, 20, 35, 40, 60].into_iter().zip(1..).map(|(at, n)| (Duration::from_millis(at), n)));
        clock.advance(Duration::from_millis(200));
        source.end();
        clock.advance(Duration::from_millis(200));
        recorder.timed_outputs().into_iter().map(|(at, output)| (at, output.ok())).collect()
    }

    #[test]
    fn timers_due_together_fire_alike_fused_and_apart() {
        let count = timed_operators().len();
        for (one, other) in (0..count).flat_map(|one| (0..count).map(move |other| (one, other))) {
            let pair = || [one, other].map(|index| timed_operators().swap_remove(index));
            let [first, second] = pair();
            let fused = timed(&BoxStage::fused("fused", pair()));
            assert_eq!(fused, timed(&first.then(second)), "operators {one} and {other}");
        }
    }

    #[test]
    fn a_drained_source_flushes_its_fused_steps() {
        let numbers = |pipeline: &Pipeline| {
            let token = pipeline.token();
            let drain_at_5 = (0..).inspect(move |n| {
                if *n == 5 {
                    token.drain();
                }
            });
            Inline::from_iter(pipeline, drain_at_5).with(batcher(1_000).fuse(batcher(1_000)))
        };
        let expected = [[(0..=5).collect::<Vec<u64>>()]];
        let pipeline = Pipeline::new("thread");
        assert_eq!(numbers(&pipeline).spawn("numbers").collect::<Vec<_>>().unwrap(), expected);
        assert!(pipeline.join().stages.iter().all(|stage| stage.abandoned() == 0));
        let pipeline = Pipeline::new("caller");
        assert_eq!(numbers(&pipeline).collect::<Vec<_>>().unwrap(), expected);
        assert!(pipeline.join().stages.iter().all(|stage| stage.abandoned() == 0));
    }

    /// Forwards each item when the next one comes, and absorbs error items.
    struct Lag {
        last: Option<u32>,
        needs_resume: bool,
    }

    impl Operator for Lag {
        type In = u32;
        type Out = u32;

        fn item(&mut self, item: u32, out: &mut impl Emit<u32>) {
            self.last.replace(item).into_iter().for_each(|before| out.emit(before));
        }

        fn error(&mut self, _: StreamError, out: &mut impl Emit<u32>) {
            out.absorbed();
        }

        fn end(&mut self, out: &mut impl Emit<u32>) {
            self.last.take().into_iter().for_each(|last| out.emit(last));
        }

        fn needs_resume(&self) -> bool {
            self.needs_resume
        }

        fn held(&self) -> u64 {
            u64::from(self.last.is_some())
        }

        fn settles_in_order(&self) -> bool {
            true
        }
    }

    /// Sends it items, each with an error item and a mark behind it. A mark comes out together with the item before it; an
    /// error item does not.
    fn keeps_marks_in_place<S: Stage<In = u32, Out = u32>>(stage: &S, lags: usize) {
        let mut run = Harness::new(stage);
        let mut seen = Vec::new();
        let mut see = |run: &mut Harness<S::Op>| {
            seen.extend(run.outputs().into_iter().map(|output| match output {
                Ok(n) => Some(n),
                Err(error) if error.is_mark() => None,
                Err(error) => panic!("{}: {error}", stage.name()),
            }));
            seen.clone()
        };
        let all: Vec<_> = (0..6).flat_map(|n| [Some(n), None]).collect();
        for n in 0..6 {
            let out = 2 * (n as usize + 1).saturating_sub(lags);
            run.item(n);
            assert_eq!(see(&mut run), all[..out], "{} after {n}", stage.name());
            run.error(StreamError::new(ErrorKind::Failed, "origin"));
            run.error(Probe::default().mark());
            assert_eq!(see(&mut run), all[..out], "{} after the mark of {n}", stage.name());
        }
        run.end();
        assert_eq!(see(&mut run), all, "{}", stage.name());
        let absorbed: u64 = run.steps().iter().map(|step| step.errors_absorbed).sum();
        assert_eq!(absorbed, 6, "{}", stage.name());
    }

    #[test]
    fn marks_and_errors_reach_each_operator_however_fused() {
        for needs_resume in [true, false] {
            let lag = || Custom::new("lag", move || Lag { last: None, needs_resume });
            let map = || Mapper::new(|n: u32| n);
            keeps_marks_in_place(&lag(), 1);
            keeps_marks_in_place(&lag().fuse(map()), 1);
            keeps_marks_in_place(&map().fuse(lag()), 1);
            keeps_marks_in_place(&lag().fuse(lag()), 2);
            keeps_marks_in_place(&map().fuse(map()).fuse(lag()), 1);
            keeps_marks_in_place(&map().fuse(lag().fuse(map())), 1);
            keeps_marks_in_place(&lag().fuse(map().fuse(lag())), 2);
            keeps_marks_in_place(&lag().fuse(lag()).fuse(lag().fuse(map())), 3);
            let (erased_lag, erased_map) = (|| lag().boxed_stage(), || map().boxed_stage());
            keeps_marks_in_place(&erased_lag(), 1);
            keeps_marks_in_place(&erased_map().fuse(erased_map()).boxed_stage().fuse(erased_lag()), 1);
            keeps_marks_in_place(&lag().fuse(erased_lag()).boxed_stage().fuse(map()), 2);
            keeps_marks_in_place(&BoxStage::fused("all", [erased_lag(), erased_map(), erased_lag(), erased_lag()]), 3);
        }
    }

    /// Emits three items for each, at once, whether there is room or not.
    struct Burst;

    impl Operator for Burst {
        type In = u32;
        type Out = u32;

        fn item(&mut self, item: u32, out: &mut impl Emit<u32>) {
            out.emit(3 * item);
            (1..3).for_each(|n| out.emit_from(3 * item + n, 0));
        }
    }

    /// Emits each item twice, the second time when there is room.
    #[derive(Default)]
    struct Echo(Option<u32>);

    impl Operator for Echo {
        type In = u32;
        type Out = u32;

        fn item(&mut self, item: u32, out: &mut impl Emit<u32>) {
            out.emit_from(item, 0);
            self.0 = Some(item);
        }

        fn resume(&mut self, out: &mut impl Emit<u32>) -> bool {
            if self.0.is_some() && out.is_full() {
                return true;
            }
            self.0.take().into_iter().for_each(|item| out.emit(item));
            false
        }

        fn held(&self) -> u64 {
            u64::from(self.0.is_some())
        }
    }

    fn comes_in_order<S: Stage<In = u32, Out = u32>>(stage: &S, expected: &[u32], finishes: bool) {
        for capacity in 1..6 {
            let mut run = Harness::new(stage).with_capacity(capacity);
            let mut seen = Vec::new();
            let mut take_all = |run: &mut Harness<S::Op>| {
                loop {
                    let items = run.items();
                    if items.is_empty() {
                        break;
                    }
                    seen.extend(items);
                }
                seen.clone()
            };
            for n in 0..3 {
                run.item(n);
                take_all(&mut run);
            }
            assert_eq!(run.is_finished(), finishes, "{}, capacity {capacity}", stage.name());
            run.end();
            assert_eq!(take_all(&mut run), expected, "{}, capacity {capacity}", stage.name());
        }
    }

    /// After each call, the harness compares what each step holds with what it has received and settled.
    #[test]
    fn items_between_fused_operators_are_ordered_and_held() {
        let burst = || Custom::new("burst", || Burst);
        let echo = || Custom::new("echo", Echo::default);
        let lag = || Custom::new("lag", || Lag { last: None, needs_resume: false });
        let twice: Vec<u32> = (0..9).flat_map(|n| [n; 2]).collect();
        let four_times: Vec<u32> = (0..9).flat_map(|n| [n; 4]).collect();
        comes_in_order(&burst().fuse(echo()), &twice, false);
        comes_in_order(&burst().fuse(echo()).fuse(echo()), &four_times, false);
        comes_in_order(&burst().fuse(echo().fuse(echo())), &four_times, false);
        comes_in_order(&burst().fuse(lag()).fuse(echo().fuse(lag())), &twice, false);
        comes_in_order(&burst().fuse(echo()).fuse(Take::new(5)), &twice[..5], true);
        comes_in_order(&burst().fuse(Take::new(5)).fuse(echo()), &twice[..10], true);
        let erased = [burst().boxed_stage(), echo().boxed_stage(), Take::new(11).boxed_stage(), lag().boxed_stage()];
        comes_in_order(&BoxStage::fused("erased", erased), &twice[..11], true);
        comes_in_order(&echo().fuse(Take::new(3).fuse(burst())), &[0, 1, 2, 0, 1, 2, 3, 4, 5], true);
    }

    #[test]
    fn the_rest_of_a_steps_output_waits_for_room_and_not_for_the_next_item() {
        fn check<S: Stage<In = u32, Out = u32>>(stage: &S) {
            let mut run = Harness::new(stage).with_capacity(1);
            run.item(3);
            assert_eq!([run.items(), run.items(), run.items()], [[0], [1], [2]]);
        }
        let (map, list) = (|| Mapper::new(|n: u32| n), || FlatMap::new(|n: u32| 0..n));
        check(&map().fuse(list()));
        check(&map().fuse(list()).boxed_stage());
        check(&map().boxed_stage().fuse(list().boxed_stage()));
    }

    #[test]
    fn batches_before_an_error_item_wait_for_room_and_not_for_the_next_item() {
        let by_key = Batcher::new(BatchConfig { max_size: 9, max_latency: Duration::from_secs(1) });
        let mut run = Harness::new(&by_key.with_key(|n: &u32| *n, 9).boxed_stage()).with_capacity(1);
        [1, 2].into_iter().for_each(|item| run.item(item));
        run.error(StreamError::new(ErrorKind::Failed, "origin"));
        let mut outputs: Vec<_> = (0..3).flat_map(|_| run.outputs()).collect();
        assert!(outputs.pop().is_some_and(|last| last.is_err()));
        assert_eq!(outputs.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [[1], [2]]);
    }

    #[test]
    fn a_first_step_that_finishes_ends_the_whole_at_once() {
        let mut run = Harness::new(&TakeWhile::new(|n: &u32| *n != 2).fuse(Mapper::new(|n: u32| n)));
        [1, 2].into_iter().for_each(|item| run.item(item));
        assert!(run.is_finished());
        assert_eq!(run.items(), [1]);
    }

    /// Keeps an item, and takes no other, until it is drained.
    struct Gate {
        item: Option<u32>,
        is_open: bool,
        /// Emits the item in `resume`, and not in `drain`.
        is_late: bool,
    }

    impl Gate {
        fn stage(is_late: bool) -> impl Stage<In = u32, Out = u32> {
            Custom::new("gate", move || Self { item: None, is_open: false, is_late })
        }
    }

    impl Operator for Gate {
        type In = u32;
        type Out = u32;

        fn item(&mut self, item: u32, out: &mut impl Emit<u32>) {
            if self.is_open { out.emit(item) } else { self.item = Some(item) }
        }

        fn drain(&mut self, out: &mut impl Emit<u32>) {
            self.is_open = true;
            if !self.is_late {
                self.item.take().into_iter().for_each(|item| out.emit(item));
            }
        }

        fn resume(&mut self, out: &mut impl Emit<u32>) -> bool {
            self.item.take_if(|_| self.is_open).into_iter().for_each(|item| out.emit(item));
            false
        }

        fn next_wake(&self) -> Option<Instant> {
            None
        }

        fn is_waiting(&self) -> bool {
            self.item.is_some()
        }

        fn held(&self) -> u64 {
            u64::from(self.item.is_some())
        }
    }

    #[test]
    fn a_drain_lets_everything_pass_that_waited_for_it() {
        let first = |batch: Vec<u32>| batch.into_iter().sum();
        for is_late in [false, true] {
            let mut run = Harness::new(&Gate::stage(is_late).boxed_stage());
            run.item(1);
            run.drain();
            assert_eq!(run.items(), [1], "erased, late: {is_late}");

            let mut run = Harness::new(&batcher(9).fuse(Mapper::new(first)).fuse(Gate::stage(is_late)));
            run.item(1);
            // The batch goes to the gate, and the error item waits at the boundary.
            run.error(StreamError::new(ErrorKind::Failed, "origin"));
            assert_eq!(run.outputs().len(), 0);
            run.drain();
            assert_eq!(run.outputs().len(), 2, "fused, late: {is_late}");
        }
    }
}
