//! [`Operator`]: a stage as a plain state machine, and [`Emit`]: what it speaks to.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::Clock;
use crate::error::{BoxError, Details, ErrorKind, PanicMessage, Result, StreamError};
use crate::panic::{self, PanicPayload};
use crate::pipeline::stats::{DropReason, StageStats, StepStats};

/// A processor without its thread: a state machine that is given items and emits items.
///
/// An operator has no threads, channels or clocks of its own. The driver calls it, one call at a time, on the stage's
/// thread; a test may call it step by step with a [`Harness`](crate::testing::Harness). Make a processor of it with
/// [`Custom`](crate::Custom).
///
/// # The protocol
///
/// - [`item`](Self::item) and [`error`](Self::error) are called in the order of the input, [`end`](Self::end) once after
///   the last of them. None of the three is called while the operator has more to say.
/// - After every call, and once before the first, [`resume`](Self::resume) is called until it returns `false`, each
///   time when there is room in the output. An operator that emits at most a few items per call can ignore this and
///   [`Emit::is_full`]. One that may emit many returns when the output is full and goes on in `resume`; so it obeys
///   back-pressure and cancellation.
/// - An operator that holds something for a time and can take nothing meanwhile says that it
///   [is waiting](Self::is_waiting): then neither of the three is called before its timer has. After `end` it is woken
///   for as long as it says so.
/// - After a call in which the operator said [`finish`](Emit::finish), it is not called again. What it still holds is
///   counted as abandoned.
/// - [`timer`](Self::timer) is called when the time that [`next_wake`](Self::next_wake) last returned has come, before
///   any further item.
/// - When the stage is cancelled, or its consumer goes, the operator is dropped without a further call.
/// - A call that panics becomes an error item of kind [`Panicked`](ErrorKind::Panicked), and the next call follows. Call
///   user code before you change your own state. After a panic in `resume`, `resume` is called again; so is a timer that
///   is still due. After 16 panics in a row in which nothing was emitted or settled, `resume` counts as having returned
///   `false`, and the timer is not called before the next item, error item or end.
/// - What the operator still holds when it has been ended and has no more to say counts as failed, with one error item
///   for all of it.
///
/// # Accounting
///
/// Each received item is settled once: [`Emit::emit`] settles one, [`Emit::emit_from`] as many as it is told,
/// [`Emit::fail`], [`Emit::filtered`] and [`Emit::dropped`] likewise. What is not settled yet is
/// [`held`](Self::held). Debug builds check that received = settled + held after every call.
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
    /// What it is given.
    type In: Send + 'static;
    /// What it emits.
    type Out: Send + 'static;

    /// What the library may take for granted of it.
    #[doc(hidden)]
    const SHAPE: sealed::Shape = sealed::Shape::ANY;

    /// The next item of the input.
    fn item(&mut self, item: Self::In, out: &mut impl Emit<Self::Out>);

    /// The next thing in the input is an error item. Passes it on unless overridden.
    fn error(&mut self, error: StreamError, out: &mut impl Emit<Self::Out>) {
        out.error(error);
    }

    /// The time asked for by [`next_wake`](Self::next_wake) has come. It is `now`, which may be later.
    fn timer(&mut self, _now: Instant, _out: &mut impl Emit<Self::Out>) {}

    /// The input has ended: emit what is held.
    fn end(&mut self, _out: &mut impl Emit<Self::Out>) {}

    /// There is room, at the start or again: go on emitting. Returns whether there is still more.
    fn resume(&mut self, _out: &mut impl Emit<Self::Out>) -> bool {
        false
    }

    /// When [`timer`](Self::timer) is to be called next. Asked after every call.
    fn next_wake(&self) -> Option<Instant> {
        None
    }

    /// Whether it waits for the moment that [`next_wake`](Self::next_wake) says and can take nothing before it: neither an
    /// item, nor an error item, nor the end. Asked after every call, and after [`end`](Self::end) as well: then the output
    /// does not end before it says no.
    fn is_waiting(&self) -> bool {
        false
    }

    /// The pipeline is being drained: from now on nothing is to be held back only because its time has not come. Called at
    /// most once, between any two other calls; what is left of the input, and its end, come after it.
    fn drain(&mut self, _out: &mut impl Emit<Self::Out>) {}

    /// How many received items are not settled yet.
    fn held(&self) -> u64 {
        0
    }

    /// Whether it settles all items in the order in which it received them, also those that fail or are removed. Defaults to
    /// `false`.
    ///
    /// Only [delivery](crate::delivery) asks. The mark behind some records may pass an operator when these have been settled.
    /// As long as an operator holds items, that is known only if it settles them in order; otherwise marks wait until it holds
    /// nothing, and records are acknowledged no sooner. An operator that holds back error items must not be used with
    /// delivery: they are not among what it [holds](Self::held), so marks would pass them.
    fn settles_in_order(&self) -> bool {
        false
    }

    /// A mark has come. Gives it back unless the operator holds it itself, and passes it on when everything that it was
    /// given before has been settled, error items included.
    #[doc(hidden)]
    fn take_mark(&mut self, mark: StreamError, _out: &mut impl Emit<Self::Out>) -> Option<StreamError> {
        Some(mark)
    }

    /// How many steps are fused in it.
    #[doc(hidden)]
    #[inline(always)]
    fn steps(&self) -> usize {
        1
    }

    /// Whether it is [plain](Shaped::PLAIN), or is made of erased parts that are.
    #[doc(hidden)]
    #[inline(always)]
    fn is_plain(&self) -> bool {
        Self::SHAPE.plain
    }

    /// Called before anything else, if its input has labels: these say what its items stem from. Returns whether its output has
    /// them as well: see `origins.rs`.
    #[doc(hidden)]
    fn attach(&mut self, _origins: &Arc<sealed::Origins>) -> bool {
        Self::SHAPE.keeps_origins
    }

    /// Brings what is counted inside up to date in `stats`, and tells `note` what each step holds; `last` is the index of
    /// the operator's last step.
    #[doc(hidden)]
    fn publish(&mut self, _stats: &sealed::Stats, last: usize, note: Option<sealed::Note<'_>>) {
        if let Some(note) = note {
            note(last, self.held());
        }
    }

    /// Puts an error item into the output that is not the operator's own.
    #[doc(hidden)]
    fn utter(&mut self, what: sealed::Utterance, out: &mut impl Emit<Self::Out>) {
        match what {
            sealed::Utterance::Unsettled if Self::SHAPE.plain => {}
            sealed::Utterance::Unsettled => fail_unsettled(out),
            sealed::Utterance::Error(_, error) => out.error(error),
        }
    }

    /// Drops the operator. One with several parts whose drops may panic, because they are the user's, drops them one by
    /// one: see `panic.rs`.
    #[doc(hidden)]
    fn discard(self)
    where
        Self: Sized,
    {
        panic::guard_drop(self);
    }
}

/// Where an [`Operator`] sends what it makes. Implemented by the library only.
///
/// Nothing here blocks: what is emitted beyond the room there is waits until the call returns, and the driver waits then.
#[allow(private_bounds)] // by which it is sealed
pub trait Emit<T>: sealed::Sink<T> {
    /// Sends `item` on; settles one received item.
    #[inline(always)]
    fn emit(&mut self, item: T) {
        self.put(Ok(item));
    }

    /// Sends on `item`, which was made of `settled` received items: a batch of as many, or 0 for one more item made
    /// of a received one that is settled by another call.
    #[inline]
    fn emit_from(&mut self, item: T, settled: u64) {
        if settled != 1 {
            // What is put counts as one delivered.
            self.correct(settled.wrapping_sub(1));
        }
        self.put(Ok(item));
    }

    /// Sends an error item on; settles nothing.
    fn error(&mut self, error: StreamError) {
        self.stats().errors_out.add(1);
        self.put(Err(error));
    }

    /// Sends an error item in place of `item`, which it carries; settles one received item as failed.
    fn fail<I: Send + 'static>(&mut self, kind: ErrorKind, source: impl Into<BoxError>, item: I) {
        let error = self.context().details(kind, self.step()).with_source(source).about(item);
        self.stats().failed.add(1);
        self.error(error);
    }

    /// Sends an error item of kind [`Panicked`](ErrorKind::Panicked) that carries `item`; settles one received item as
    /// failed.
    fn fail_panicked<I: Send + 'static>(&mut self, payload: PanicMessage, item: I) {
        self.fail(ErrorKind::Panicked, payload, item);
    }

    /// An error of `kind` that names this stage, this step and the present time: to be completed and given to
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

    /// Counts a received error item that is not sent on.
    fn absorbed(&mut self) {
        self.stats().errors_absorbed.add(1);
    }

    /// Whether one more item would have to wait: the moment to return and go on in [`Operator::resume`].
    fn is_full(&mut self) -> bool {
        self.full()
    }

    /// Ends the output after what was emitted: nothing more will come, and the input is not needed any more.
    fn finish(&mut self) {
        self.close();
    }

    /// The present moment of the pipeline's clock.
    fn now(&self) -> Instant {
        self.context().clock.now()
    }
}

impl<T, S: sealed::Sink<T> + ?Sized> Emit<T> for S {}

/// The shape of an operator, in words.
pub(crate) trait Shaped: Operator {
    /// Whether it has parts, which it guards and whose timers and marks it keeps.
    const COMPOSITE: bool = Self::SHAPE.composite;

    /// Whether the operator says at most one thing for each item or error item, as the last thing it does in that call,
    /// and nothing otherwise: it holds nothing, has no timers, and never calls `finish`. A run of plain operators is
    /// fused into straight code, with one guard around it.
    const PLAIN: bool = Self::SHAPE.plain;

    /// Whether it also emits exactly one item for each item, unless it panics: then nobody needs to count them.
    const ONE_TO_ONE: bool = Self::SHAPE.one_to_one;
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
    }

    impl Shape {
        pub(crate) const ANY: Self = Self { composite: false, plain: false, one_to_one: false, keeps_origins: false };
        pub(crate) const COMPOSITE: Self = Self { composite: true, ..Self::ANY };
        /// What it makes of an item does not change places with a mark: see `origins.rs`. Plain ones are like that.
        pub(crate) const KEEPS_ORIGINS: Self = Self { keeps_origins: true, ..Self::ANY };
        pub(crate) const PLAIN: Self = Self { plain: true, ..Self::KEEPS_ORIGINS };
        pub(crate) const ONE_TO_ONE: Self = Self { one_to_one: true, ..Self::PLAIN };

        /// Of two that are fused.
        pub(crate) const fn with(self, second: Self) -> Self {
            Self {
                composite: true,
                plain: self.plain && second.plain,
                one_to_one: self.one_to_one && second.one_to_one,
                keeps_origins: self.keeps_origins && second.keeps_origins,
            }
        }
    }

    pub(crate) use crate::pipeline::stats::StageStats as Stats;
    pub(crate) use crate::stage::origins::Origins;

    /// Is told the index of a step, and how many items it holds.
    pub(crate) type Note<'a> = &'a mut dyn FnMut(usize, u64);

    /// What is said in an operator's place.
    #[allow(unnameable_types, reason = "the argument of a hidden method")]
    #[derive(Debug)]
    pub enum Utterance {
        /// It has been ended and has no more to say: what it still holds is lost, and fails.
        Unsettled,
        /// This error, from the step with this index, counted from the operator's first.
        Error(usize, StreamError),
    }

    /// The few things an output must be able to do; `Emit` is made of them.
    pub(crate) trait Sink<T> {
        /// The output as a trait object. What is one gives itself, not one around it.
        fn erased(&mut self) -> &mut dyn Sink<T>;
        /// Takes what is emitted. An item counts as emitted, and as one delivered, sooner or later: see `sync`.
        fn put(&mut self, item: Result<T>);
        /// Takes a mark: see `mark.rs`. It is not counted, and needs no room.
        fn put_mark(&mut self, mark: StreamError);
        fn full(&mut self) -> bool;
        fn close(&mut self);
        fn is_closed(&self) -> bool;
        /// The index of the step that speaks here.
        fn step(&self) -> usize;
        fn context(&self) -> &Context;
        /// Notes that a plain operator is about to be called: its step, and whether with an item.
        fn mark(&mut self, step: usize, is_item: bool);
        fn marked(&self) -> (usize, bool);
        /// Adds to what the next item that is put counts as delivered. The sum wraps, so minus one is possible; it
        /// stays with the count of what was put, because nobody is to see the one without the other.
        fn correct(&mut self, delivered: u64);
        /// Brings the counters of what was put up to date.
        fn sync(&mut self);
        fn stats(&self) -> &StepStats {
            &self.context().stats.steps[self.step()]
        }
    }

    /// What an operator's surroundings know.
    pub(crate) struct Context {
        pub(crate) stats: Arc<StageStats>,
        pub(crate) clock: Clock,
    }

    impl Context {
        /// A mark leaves the stage: what came before it has been settled.
        #[cold]
        pub(crate) fn note_mark(&self, mark: &StreamError) {
            self.stats.recordings.note_mark(mark.emitted(), &self.clock);
        }

        /// An error of `kind` in that step, at the present time: to be completed.
        pub(crate) fn details(&self, kind: ErrorKind, step: usize) -> Details {
            Details::new(kind, Arc::clone(&self.stats.name))
                .with_step(self.stats.step_name(step))
                .with_time(self.clock.wall())
        }

        pub(crate) fn error(&self, kind: ErrorKind, step: usize) -> StreamError {
            self.details(kind, step).into()
        }
    }
}

/// Gives an operator what is next in its input.
#[inline(always)]
pub(crate) fn give<O: Operator, E: Emit<O::Out>>(op: &mut O, item: Result<O::In>, out: &mut E) {
    if O::PLAIN && !O::COMPOSITE {
        out.mark(out.step(), item.is_ok());
    }
    match item {
        Ok(item) => op.item(item, out),
        // Others are given their marks by `Marks`, and those that are fused find out inside.
        Err(mark) if O::PLAIN && !O::COMPOSITE && mark.is_mark() => out.put_mark(mark),
        Err(error) => op.error(error, out),
    }
}

/// Calls an operator; a panic becomes an error item in its output.
///
/// A single operator is guarded as one, and so is a run of plain ones: a panic unwinds through calls that had nothing left
/// to do. Other fused operators guard their parts themselves, so that the panic of one does not unwind through another.
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

/// Lets an operator go on; true if it may have more to say.
///
/// One that panics may: what it holds must not be lost by that. But one that panics time and again and gets nowhere is
/// not asked any more.
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

/// The timer of an operator. One that panics time and again and gets nowhere is left alone until the operator is called
/// for another reason; else it would be due for ever.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    muted: bool,
}

impl Timer {
    #[inline]
    pub(crate) fn next_wake<O: Operator>(&self, op: &O) -> Option<Instant> {
        if self.muted { None } else { op.next_wake() }
    }

    /// Whether the operator can take nothing before its timer was called.
    #[inline]
    pub(crate) fn is_waited_for<O: Operator>(&self, op: &O) -> bool {
        !self.muted && op.is_waiting()
    }

    pub(crate) fn fire<O: Operator, E: Emit<O::Out>>(&mut self, op: &mut O, now: Instant, out: &mut E) {
        let before = out.context().stats.futile();
        guarded(op, out, |op, out| op.timer(now, out));
        // The parts of a fused one have timers of their own.
        self.muted = !O::COMPOSITE && out.context().stats.futile() > before;
    }

    /// The operator has been given something.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.muted = false;
    }
}

/// Settles as failed whatever the step that speaks here has received and not settled.
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

/// Makes a panic an error item; false if the operator has panicked time and again and got nowhere.
#[cold]
pub(crate) fn panicked<O: Operator, E: Emit<O::Out>>(op: &mut O, out: &mut E, payload: PanicPayload) -> bool {
    let (step, lost) = if O::PLAIN {
        // A plain operator panics before it says anything, and keeps nothing.
        let (step, is_item) = out.marked();
        (step, u64::from(is_item))
    } else {
        // What the call had received and neither settled nor kept went down with it.
        out.sync();
        (out.step(), out.stats().unsettled().saturating_sub(op.held()))
    };
    let context = out.context();
    let stats = &context.stats.steps[step];
    stats.failed.add(lost);
    let may_go_on = stats.may_go_on();
    let error = context.error(ErrorKind::Panicked, step).with_source(PanicMessage::from(payload));
    let first = out.step() + 1 - op.steps();
    // The steps after it are given the error, and may panic in turn. Each time that is a later one.
    match panic::catch(|| op.utter(sealed::Utterance::Error(step - first, error), out)) {
        Ok(()) => may_go_on,
        Err(payload) => panicked(op, out, payload),
    }
}
