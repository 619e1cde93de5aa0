//! [`Operator`]: a stage as a plain state machine, and [`Emit`]: its output.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::Clock;
use crate::error::{BoxError, Details, ErrorKind, PanicMessage, Result, StreamError};
use crate::panic::{self, PanicPayload};
use crate::pipeline::stats::{DropReason, StageStats, StepStats};

/// A processor without its thread: a state machine that receives items and emits items.
///
/// An operator has no threads, channels or clocks of its own. The driver calls it, one call at a time, on the stage's
/// thread; a test may call it step by step with a [`Harness`](crate::testing::Harness). [`Custom`](crate::Custom) turns
/// it into a processor.
///
/// # The protocol
///
/// - [`item`](Self::item) and [`error`](Self::error) are called in the order of the input, [`end`](Self::end) once
///   after the last of them. None of the three is called while the operator has more to emit.
/// - After every call, and once before the first, [`resume`](Self::resume) is called until it returns `false`, each
///   time when there is room in the output. An operator that emits at most a few items per call can ignore this and
///   [`Emit::is_full`]. One that may emit many returns when the output is full and continues in `resume`; this gives
///   back-pressure and prompt cancellation.
/// - An operator that holds something for a time and can take nothing in the meantime declares that it [is
///   waiting](Self::is_waiting): then none of the three is called before its timer has been. After `end`, its timer is
///   called for as long as it is waiting.
/// - After a call in which the operator called [`finish`](Emit::finish), it is not called again. Items that it still
///   holds are counted as abandoned.
/// - [`timer`](Self::timer) is called when the time that [`next_wake`](Self::next_wake) last returned has come, before
///   any further item.
/// - When the stage is cancelled, or its consumer leaves, the operator is dropped without a further call.
/// - A call that panics becomes an error item of kind [`Panicked`](ErrorKind::Panicked), and the next call follows.
///   Call user code before you change your own state. After a panic in `resume`, `resume` is called again; so is a
///   timer that is still due. After 16 panics in a row in which nothing was emitted or settled, `resume` counts as
///   having returned `false`, and the timer is not called before the next item, error item or end.
/// - Items that the operator still holds when it has been ended and has no more to emit count as failed, with one error
///   item for all of them.
///
/// # Accounting
///
/// Each received item is settled once: [`Emit::emit`] settles one, [`Emit::emit_from`] the given number, and
/// [`Emit::fail`], [`Emit::filtered`] and [`Emit::dropped`] likewise. Items not settled yet are [`held`](Self::held).
/// Debug builds check that received = settled + held after every call.
///
/// ```
/// use streamz::{Custom, Emit, Operator, Pipeline, Stream};
///
/// /// Run-length encoding: equal neighbours become one pair.
/// #[derive(Default)]
/// struct RunLength {
///     run: Option<(char, u64)>,
/// }
///
/// impl Operator for RunLength {
///     type In = char;
///     type Out = (char, u64);
///
///     fn item(&mut self, item: char, out: &mut impl Emit<(char, u64)>) {
///         match &mut self.run {
///             Some((value, count)) if *value == item => *count += 1,
///             run => {
///                 if let Some((value, count)) = run.replace((item, 1)) {
///                     out.emit_from((value, count), count);
///                 }
///             }
///         }
///     }
///
///     fn end(&mut self, out: &mut impl Emit<(char, u64)>) {
///         if let Some((value, count)) = self.run.take() {
///             out.emit_from((value, count), count);
///         }
///     }
///
///     fn held(&self) -> u64 {
///         self.run.map_or(0, |(_, count)| count)
///     }
/// }
///
/// let pipeline = Pipeline::new("letters");
/// let runs = Stream::from_iter(&pipeline, "aab".chars())
///     .through(&Custom::new("rle", RunLength::default))
///     .collect::<Vec<_>>()?;
/// assert_eq!(runs, [('a', 2), ('b', 1)]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
pub trait Operator: Send + 'static {
    /// The type of the items it receives.
    type In: Send + 'static;
    /// The type of the items it emits.
    type Out: Send + 'static;

    /// What the library may assume about it.
    #[doc(hidden)]
    const SHAPE: sealed::Shape = sealed::Shape::ANY;

    /// Receives the next item of the input.
    fn item(&mut self, item: Self::In, out: &mut impl Emit<Self::Out>);

    /// Receives an error item of the input. Forwards it unless overridden.
    fn error(&mut self, error: StreamError, out: &mut impl Emit<Self::Out>) {
        out.error(error);
    }

    /// Called when the time returned by [`next_wake`](Self::next_wake) has come. `now` may be later than that.
    fn timer(&mut self, _now: Instant, _out: &mut impl Emit<Self::Out>) {}

    /// Called when the input has ended. Emits the items still held.
    fn end(&mut self, _out: &mut impl Emit<Self::Out>) {}

    /// Called when there is room, at the start or again. Continues emitting, and returns whether there is still more.
    fn resume(&mut self, _out: &mut impl Emit<Self::Out>) -> bool {
        false
    }

    /// Whether `resume` may have something to do. Asked after an item, an error item, a mark, a drain or the end; if not, it is
    /// not called.
    #[doc(hidden)]
    #[inline(always)]
    fn needs_resume(&self) -> bool {
        !self.is_plain()
    }

    /// Returns when [`timer`](Self::timer) is to be called next. Asked after every call.
    fn next_wake(&self) -> Option<Instant> {
        None
    }

    /// Returns whether the operator waits for the time returned by [`next_wake`](Self::next_wake) and can take nothing
    /// before it: no item, no error item, and not the end. Asked after every call, including [`end`](Self::end): the
    /// output does not end while this returns `true`.
    fn is_waiting(&self) -> bool {
        false
    }

    /// Called when the pipeline is being drained: from now on, the operator should hold back nothing merely because its
    /// time has not come. Called at most once, between any two other calls; the rest of the input, and its end, come
    /// after it.
    fn drain(&mut self, _out: &mut impl Emit<Self::Out>) {}

    /// Returns the number of received items that are not settled yet.
    fn held(&self) -> u64 {
        0
    }

    /// Returns whether it settles all items in the order in which it received them, including those that fail or are
    /// removed. Defaults to `false`.
    ///
    /// Only [delivery](crate::delivery) uses this. The mark behind some records may pass an operator when these have
    /// been settled. While an operator holds items, that is known only if it settles them in order; otherwise marks
    /// wait until it holds nothing, and records are acknowledged later. An operator that holds back error items must
    /// not be used with delivery: they are not among the items it [holds](Self::held), so marks would pass them.
    fn settles_in_order(&self) -> bool {
        false
    }

    /// Receives a mark. Returns it unless the operator holds it itself and forwards it when everything that it received
    /// before has been settled, error items included.
    #[doc(hidden)]
    fn take_mark(&mut self, mark: StreamError, _out: &mut impl Emit<Self::Out>) -> Option<StreamError> {
        Some(mark)
    }

    /// Whether it is worth announcing its next entries. Called now and then, and only if its [shape](Shaped::PREFETCHES) says so.
    #[doc(hidden)]
    #[inline(always)]
    fn looks_ahead(&self) -> bool {
        true
    }

    /// Announces the next entries of its input: items, error items and marks, all of which it will receive in this order
    /// unless it is dropped before. Timers and a drain may come between them. Called outside of any guard, so it must not
    /// panic, and only if it [looks ahead](Self::looks_ahead).
    #[doc(hidden)]
    #[inline(always)]
    fn prefetch(&mut self, _next: &[Result<Self::In>]) {}

    /// The number of fused steps.
    #[doc(hidden)]
    #[inline(always)]
    fn steps(&self) -> usize {
        1
    }

    /// Whether it is [plain](Shaped::PLAIN), or consists of erased parts that are.
    #[doc(hidden)]
    #[inline(always)]
    fn is_plain(&self) -> bool {
        Self::SHAPE.plain
    }

    /// Called before anything else, if its input has labels: these identify the origin of its items. Returns whether
    /// its output has them as well: see `origins.rs`.
    #[doc(hidden)]
    fn attach(&mut self, _origins: &Arc<sealed::Origins>) -> bool {
        Self::SHAPE.keeps_origins
    }

    /// Updates `stats` from the counts inside, and calls `note` with the number of items that each step holds; `last`
    /// is the index of the operator's last step.
    #[doc(hidden)]
    fn publish(&mut self, _stats: &sealed::Stats, last: usize, note: Option<sealed::Note<'_>>) {
        if let Some(note) = note {
            note(last, self.held());
        }
    }

    /// Emits an error item on behalf of the operator.
    #[doc(hidden)]
    fn utter(&mut self, what: sealed::Utterance, out: &mut impl Emit<Self::Out>) {
        match what {
            sealed::Utterance::Unsettled if Self::SHAPE.plain => {}
            sealed::Utterance::Unsettled => fail_unsettled(out),
            sealed::Utterance::Error(_, error) => out.error(error),
        }
    }

    /// Drops the operator. One with several parts whose drops may panic, because they are user values, drops them one
    /// by one: see `panic.rs`.
    #[doc(hidden)]
    fn discard(self)
    where
        Self: Sized,
    {
        panic::guard_drop(self);
    }
}

/// The output of an [`Operator`]. Implemented only by the library.
///
/// Nothing here blocks: items emitted beyond the available room wait until the call returns, and the driver waits then.
#[allow(private_bounds)] // what seals it
pub trait Emit<T>: sealed::Sink<T> {
    /// Emits `item`; settles one received item.
    #[inline(always)]
    fn emit(&mut self, item: T) {
        self.put(Ok(item));
    }

    /// Emits `item`, which was made of `settled` received items: their number for a batch, or 0 for an additional item
    /// made of a received one that another call settles.
    #[inline]
    fn emit_from(&mut self, item: T, settled: u64) {
        if settled != 1 {
            // Each `put` counts as one delivered item.
            self.correct(settled.wrapping_sub(1));
        }
        self.put(Ok(item));
    }

    /// Emits an error item; settles nothing.
    fn error(&mut self, error: StreamError) {
        self.stats().errors_out.add(1);
        self.put(Err(error));
    }

    /// Emits an error item in place of `item`, which it carries; settles one received item as failed.
    fn fail<I: Send + 'static>(&mut self, kind: ErrorKind, source: impl Into<BoxError>, item: I) {
        let error = self.context().details(kind, self.step()).with_source(source).about(item);
        self.stats().failed.add(1);
        self.error(error);
    }

    /// Emits an error item of kind [`Panicked`](ErrorKind::Panicked) that carries `item`; settles one received item as
    /// failed.
    fn fail_panicked<I: Send + 'static>(&mut self, payload: PanicMessage, item: I) {
        self.fail(ErrorKind::Panicked, payload, item);
    }

    /// Creates an error of `kind` that names this stage, this step and the current time: complete it and pass it to
    /// [`error`](Self::error).
    fn error_of(&self, kind: ErrorKind) -> StreamError {
        self.context().error(kind, self.step())
    }

    /// Settles `count` received items as part of what was emitted.
    fn delivered(&mut self, count: u64) {
        self.stats().delivered.add(count);
    }

    /// Settles `count` received items as removed on purpose.
    fn filtered(&mut self, count: u64) {
        self.stats().filtered.add(count);
    }

    /// Settles `count` received items as failed, without an error item for each.
    fn failed(&mut self, count: u64) {
        self.stats().failed.add(count);
    }

    /// Settles `count` received items as dropped for `reason`.
    fn dropped(&mut self, reason: DropReason, count: u64) {
        self.stats().dropped[reason as usize].add(count);
    }

    /// Counts `keys` whose state was removed early because there were too many; settles nothing.
    fn evicted_keys(&mut self, keys: u64) {
        self.stats().evicted_keys.add(keys);
    }

    /// Counts `keys` whose state was removed because they were not used for their time to live; settles nothing.
    fn expired_keys(&mut self, keys: u64) {
        self.stats().expired_keys.add(keys);
    }

    /// Counts a received error item that is not forwarded.
    fn absorbed(&mut self) {
        self.stats().errors_absorbed.add(1);
    }

    /// Returns whether one more item would have to wait: then return, and continue in [`Operator::resume`].
    fn is_full(&mut self) -> bool {
        self.full()
    }

    /// Ends the output after the emitted items: nothing more will come, and the input is no longer needed.
    fn finish(&mut self) {
        self.close();
    }

    /// Returns the current time of the pipeline's clock.
    fn now(&self) -> Instant {
        self.context().clock.now()
    }
}

impl<T, S: sealed::Sink<T> + ?Sized> Emit<T> for S {}

/// The shape of an operator.
pub(crate) trait Shaped: Operator {
    /// Whether it has parts, which it guards and whose timers and marks it keeps.
    const COMPOSITE: bool = Self::SHAPE.composite;

    /// Whether the operator emits at most one item or error item for each that it receives, as the last thing it does
    /// in that call, and nothing otherwise: it holds nothing, has no timers, and never calls `finish`. A sequence of
    /// plain operators is fused into straight-line code, with one guard around it.
    const PLAIN: bool = Self::SHAPE.plain;

    /// Whether it also emits exactly one item for each item, unless it panics: then they need not be counted.
    const ONE_TO_ONE: bool = Self::SHAPE.one_to_one;

    /// Whether it wants to be told what comes next: see `operators/prefetch.rs`.
    const PREFETCHES: bool = Self::SHAPE.prefetches;
}

impl<O: Operator> Shaped for O {}

pub(crate) mod sealed {
    use super::*;

    /// See [`Shaped`].
    #[allow(unnameable_types, reason = "the type of a hidden constant")]
    #[derive(Debug, Clone, Copy)]
    pub struct Shape {
        pub(super) composite: bool,
        pub(super) plain: bool,
        pub(super) one_to_one: bool,
        pub(super) keeps_origins: bool,
        pub(super) prefetches: bool,
    }

    impl Shape {
        pub(crate) const ANY: Self =
            Self { composite: false, plain: false, one_to_one: false, keeps_origins: false, prefetches: false };
        pub(crate) const COMPOSITE: Self = Self { composite: true, ..Self::ANY };
        /// Items made of an item do not change places with a mark: see `origins.rs`. True for plain operators.
        pub(crate) const KEEPS_ORIGINS: Self = Self { keeps_origins: true, ..Self::ANY };
        pub(crate) const PLAIN: Self = Self { plain: true, ..Self::KEEPS_ORIGINS };
        pub(crate) const ONE_TO_ONE: Self = Self { one_to_one: true, ..Self::PLAIN };

        /// The same, of an operator that prefetches.
        pub(crate) const fn prefetching(self) -> Self {
            Self { prefetches: true, ..self }
        }

        /// The shape of two fused operators.
        pub(crate) const fn with(self, second: Self) -> Self {
            Self {
                composite: true,
                plain: self.plain && second.plain,
                one_to_one: self.one_to_one && second.one_to_one,
                keeps_origins: self.keeps_origins && second.keeps_origins,
                // The input of the second is not known in advance.
                prefetches: self.prefetches,
            }
        }
    }

    pub(crate) use crate::pipeline::stats::StageStats as Stats;
    pub(crate) use crate::stage::origins::Origins;

    /// Called with the index of a step, and the number of items it holds.
    pub(crate) type Note<'a> = &'a mut dyn FnMut(usize, u64);

    /// What can be emitted on behalf of an operator.
    #[allow(unnameable_types, reason = "the argument of a hidden method")]
    #[derive(Debug)]
    pub enum Utterance {
        /// It has been ended and has no more to emit: items that it still holds are lost, and fail.
        Unsettled,
        /// This error, from the step with this index, counted from the operator's first.
        Error(usize, StreamError),
    }

    /// The few primitives of an output; `Emit` is built on them.
    pub(crate) trait Sink<T> {
        /// The output as a trait object. An erased output returns itself, not a new wrapper.
        fn erased(&mut self) -> &mut dyn Sink<T>;
        /// Takes an emitted item. It counts as emitted, and as one delivered, sooner or later: see `sync`.
        fn put(&mut self, item: Result<T>);
        /// Takes a mark: see `mark/mod.rs`. It is not counted, and needs no room.
        fn put_mark(&mut self, mark: StreamError);
        fn full(&mut self) -> bool;
        fn close(&mut self);
        fn is_closed(&self) -> bool;
        /// The index of the step that emits here.
        fn step(&self) -> usize;
        fn context(&self) -> &Context;
        /// Notes that a plain operator is about to be called: its step, and whether with an item.
        fn mark(&mut self, step: usize, is_item: bool);
        fn marked(&self) -> (usize, bool);
        /// Adds to the number of items that the next `put` counts as delivered. The sum wraps, so minus one is
        /// possible; it is published together with the count of puts, so that neither is visible without the other.
        fn correct(&mut self, delivered: u64);
        /// Updates the counters of emitted items.
        fn sync(&mut self);
        fn stats(&self) -> &StepStats {
            &self.context().stats.steps[self.step()]
        }
    }

    /// What the surroundings of an operator know.
    pub(crate) struct Context {
        pub(crate) stats: Arc<StageStats>,
        pub(crate) clock: Clock,
        /// The name of the stage, for its errors. Each thread has a copy of its own, so that threads which make many errors
        /// do not share a count of references.
        stage: Arc<str>,
    }

    impl Context {
        pub(crate) fn new(stats: &Arc<StageStats>, clock: Clock) -> Self {
            Self { stats: Arc::clone(stats), clock, stage: (*stats.name).into() }
        }

        /// The same for another thread of the stage.
        pub(crate) fn for_thread(&self) -> Self {
            Self::new(&self.stats, self.clock.clone())
        }

        /// The name of the stage.
        pub(crate) fn stage(&self) -> &str {
            &self.stage
        }

        /// Records that a mark leaves the stage: everything before it has been settled.
        #[cold]
        pub(crate) fn note_mark(&self, mark: &StreamError) {
            self.stats.recordings.note_mark(mark.emitted(), &self.clock);
        }

        /// Creates an error of `kind` in that step, at the current time: to be completed.
        pub(crate) fn details(&self, kind: ErrorKind, step: usize) -> Details {
            Details::new(kind, Arc::clone(&self.stage))
                .with_step(self.stats.step_name(step))
                .with_time(self.clock.wall())
        }

        pub(crate) fn error(&self, kind: ErrorKind, step: usize) -> StreamError {
            self.details(kind, step).into()
        }

        /// The error item for a panic in a step that has lost items with it, and whether the step may go on.
        pub(super) fn panicked(&self, step: usize, lost: u64, payload: PanicPayload) -> (StreamError, bool) {
            let stats = &self.stats.steps[step];
            stats.failed.add(lost);
            let error = self.error(ErrorKind::Panicked, step).with_source(PanicMessage::from(payload));
            (error, stats.may_go_on())
        }
    }
}

/// Passes the next entry of its input to an operator.
#[inline(always)]
pub(crate) fn give<O: Operator, E: Emit<O::Out>>(op: &mut O, item: Result<O::In>, out: &mut E) {
    if O::PLAIN && !O::COMPOSITE {
        out.mark(out.step(), item.is_ok());
    }
    match item {
        Ok(item) => op.item(item, out),
        // Others receive their marks from `Marks`, and fused ones determine it inside.
        Err(mark) if O::PLAIN && !O::COMPOSITE && mark.is_mark() => out.put_mark(mark),
        Err(error) => op.error(error, out),
    }
}

/// The same for an item, where the compiler would not see that it is one.
#[inline(always)]
pub(super) fn give_item<O: Operator, E: Emit<O::Out>>(op: &mut O, item: O::In, out: &mut E) {
    if O::PLAIN && !O::COMPOSITE {
        out.mark(out.step(), true);
    }
    op.item(item, out);
}

/// Calls an operator; a panic becomes an error item in its output.
///
/// A single operator is guarded as one, and so is a sequence of plain ones: a panic unwinds through calls that had
/// nothing left to do. Other fused operators guard their parts themselves, so that the panic of one does not unwind
/// through another.
#[inline]
pub(crate) fn guarded<O: Operator, E: Emit<O::Out>, R: Default>(
    op: &mut O,
    out: &mut E,
    call: impl FnOnce(&mut O, &mut E) -> R,
) -> R {
    if O::COMPOSITE && !O::PLAIN {
        return call(op, out);
    }
    match panic::catch(|| call(op, out)) {
        Ok(value) => value,
        Err(payload) => {
            panicked(op, out, payload);
            R::default()
        }
    }
}

/// Resumes an operator. Returns true if it may have more to emit.
///
/// An operator that panics may have more: the items it holds must not be lost. But one that panics repeatedly without
/// progress is not called any more.
#[inline]
pub(crate) fn resumed<O: Operator, E: Emit<O::Out>>(op: &mut O, out: &mut E) -> bool {
    if O::COMPOSITE && !O::PLAIN {
        return op.resume(out);
    }
    match panic::catch(|| op.resume(out)) {
        Ok(more) => more,
        Err(payload) => panicked(op, out, payload),
    }
}

/// The timer of an operator. One that panics repeatedly without progress is not called until the operator is called for
/// another reason; otherwise it would be due forever.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    muted: bool,
}

impl Timer {
    #[inline]
    pub(crate) fn next_wake<O: Operator>(&self, op: &O) -> Option<Instant> {
        if self.muted { None } else { op.next_wake() }
    }

    /// Whether the operator can take nothing before its timer is called.
    #[inline]
    pub(crate) fn is_waited_for<O: Operator>(&self, op: &O) -> bool {
        !self.muted && op.is_waiting()
    }

    pub(crate) fn fire<O: Operator, E: Emit<O::Out>>(&mut self, op: &mut O, now: Instant, out: &mut E) {
        let before = out.context().stats.futile();
        guarded(op, out, |op, out| op.timer(now, out));
        // The parts of a fused operator have timers of their own.
        self.muted = !O::COMPOSITE && out.context().stats.futile() > before;
    }

    /// The operator has received something.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.muted = false;
    }
}

/// Settles as failed everything that this step has received and not settled.
#[cold]
fn fail_unsettled<T>(out: &mut impl Emit<T>) {
    out.sync();
    let lost = out.stats().unsettled();
    if lost > 0 {
        out.failed(lost);
        out.error(
            out.error_of(ErrorKind::Failed).with_source(format!("{lost} items were held at the end and not emitted")),
        );
    }
}

/// Turns a panic into an error item. Returns false if the operator has panicked repeatedly without progress.
#[cold]
pub(crate) fn panicked<O: Operator, E: Emit<O::Out>>(op: &mut O, out: &mut E, payload: PanicPayload) -> bool {
    let (step, lost) = if O::PLAIN {
        // A plain operator panics before it emits anything, and keeps nothing.
        let (step, is_item) = out.marked();
        (step, u64::from(is_item))
    } else {
        // Items that the call had received and neither settled nor kept are lost with it.
        out.sync();
        (out.step(), out.stats().unsettled().saturating_sub(op.held()))
    };
    let (error, may_go_on) = out.context().panicked(step, lost, payload);
    let first = out.step() + 1 - op.steps();
    // The later steps receive the error, and may panic in turn; each time it is a later one.
    match panic::catch(|| op.utter(sealed::Utterance::Error(step - first, error), out)) {
        Ok(()) => may_go_on,
        Err(payload) => panicked(op, out, payload),
    }
}
