//! [`par_fold`](Stream::par_fold): a sink with several threads.
//!
//! # Invariants
//!
//! 1. A worker takes a run of items while it leads (`lead.rs`), and folds it after it has put the input back. A run has more
//!    than one item only if items are quick (`run_length.rs`). It ends early if the input has no more, or may block.
//! 2. Items and marks are numbered in the order of the input. A mark holds up no worker; it is completed when all items
//!    before it have been folded (`barriers.rs`). It arrives while its worker leads, so no later item has been taken.
//! 3. The first reason to stop is the one that is returned. The worker that finds it ends the input for all. An error also
//!    cancels the token, so no worker starts another item; after a panic or a cut of the input, the runs that were taken
//!    are folded to their end. A cut is behind all items, so any other reason takes its place.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::barriers::Barriers;
use super::lead::{Lead, Turn};
use super::run_length::RunLength;
use super::threads::run_all;
use crate::clock::real_now;
use crate::edge::{End, Polled};
use crate::error::{BoxError, ErrorKind, Result, StreamError};
use crate::operators::options::check_threads;
use crate::panic::{Guarded, Held, discard, guard_drop};
use crate::pipeline::Cause;
use crate::pipeline::recording::Stopwatch;
use crate::pipeline::stats::StepStats;
use crate::pipeline::timing::Phase;
use crate::stage::input::Feed;
use crate::stage::operator::sealed::Context;
use crate::stage::thread::StageThread;
use crate::stream::start::Registered;
use crate::stream::{Inline, NoSteps, Origin, Stream};

impl<T: Send + 'static> Stream<T> {
    /// Folds the items on several threads, each into a value of its own, and then merges these values. Stops the pipeline
    /// at the first error item.
    ///
    /// For work whose results are only combined, such as counting, summing or building a map: a result stays on the thread
    /// that made it, which saves the queue and the sink behind a pool. `fold` does the work on an item and adds the result
    /// to its worker's value. A worker calls `init` before its first item; if there are no items, `init` is called once, on
    /// the calling thread. `merge` combines two values, also on the calling thread.
    ///
    /// The calling thread is one of the `workers`; the others belong to the pipeline. With [`Inline::par_fold`] the workers
    /// also take their items from the source directly. If `fold` can fail, use [`par_try_fold`](Self::par_try_fold). If
    /// calls are retried or limited, or results are read one by one, use a pool such as
    /// [`AsyncMapper`](crate::AsyncMapper).
    ///
    /// The workers take turns at the input, as in
    /// [Leader/Followers](https://www.dre.vanderbilt.edu/~schmidt/PDF/lf.pdf). Folding in two stages is what `fold` and
    /// `reduce` of rayon do.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use streamz::{Pipeline, Stream};
    ///
    /// let (counts, _report) = Pipeline::run("words", |pipeline| {
    ///     Stream::from_iter(pipeline, ["a b", "b c", "c b"]).par_fold(
    ///         4,
    ///         BTreeMap::new,
    ///         |mut counts, line| {
    ///             line.split(' ').for_each(|word| *counts.entry(word).or_insert(0) += 1);
    ///             counts
    ///         },
    ///         |counts, more| {
    ///             more.into_iter().fold(counts, |mut counts, (word, count)| {
    ///                 *counts.entry(word).or_insert(0) += count;
    ///                 counts
    ///             })
    ///         },
    ///     )
    /// });
    /// assert_eq!(counts?, BTreeMap::from([("a", 1), ("b", 3), ("c", 2)]));
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Ordering
    /// None, unless `workers` is 1. A worker gets its items in the order of the stream.
    ///
    /// # Back-pressure
    /// A worker takes its next item when it has folded the last one. Quick items are taken several at a time: up to 256, and
    /// no more than take about 50 microseconds. So a quick item may wait for a slow one that its worker took with it.
    ///
    /// # Cancellation
    /// Stops between two items. A running `fold` is waited for.
    ///
    /// # Memory
    /// A value for each worker, and the items that the workers have taken.
    ///
    /// # Delivery
    /// A record counts as processed when it, and all records before it, have been folded.
    ///
    /// # Errors
    /// The first error item, or, if the stream was cut, the error of the cut. With several workers, items that were taken
    /// before an error item may be abandoned.
    ///
    /// # Panics
    /// If a closure panics: the other workers stop, the pipeline winds down, and the panic continues on the calling thread.
    /// After an error or a cancellation, the error is returned, even if the closure of another worker then panics.
    ///
    /// If `workers` is 0 or more than 65,536, or the pipeline has finished.
    #[doc(alias("par_bridge", "for_each_concurrent", "aggregate"))]
    #[track_caller]
    pub fn par_fold<A: Send + 'static>(
        self,
        workers: usize,
        init: impl Fn() -> A + Send + Sync + 'static,
        fold: impl Fn(A, T) -> A + Send + Sync + 'static,
        merge: impl FnMut(A, A) -> A,
    ) -> Result<A> {
        self.inline().par_fold(workers, init, fold, merge)
    }

    /// As [`par_fold`](Self::par_fold), for a `fold` that can fail. Stops the pipeline at the first error: an error item, or
    /// an error that `fold` returns.
    ///
    /// ```
    /// use streamz::{ErrorKind, Pipeline, Stream};
    ///
    /// let (sum, _report) = Pipeline::run("numbers", |pipeline| {
    ///     Stream::from_iter(pipeline, ["1", "2", "x"]).par_try_fold(
    ///         2,
    ///         || 0,
    ///         |sum, text| text.parse::<u32>().map(|n| sum + n),
    ///         |a, b| a + b,
    ///     )
    /// });
    /// assert_eq!(sum.unwrap_err().kind(), ErrorKind::Failed);
    /// ```
    ///
    /// # Errors
    /// That first error, or, if the stream was cut, the error of the cut.
    ///
    /// # Panics
    /// As [`par_fold`](Self::par_fold).
    #[track_caller]
    pub fn par_try_fold<A: Send + 'static, E: Into<BoxError> + 'static>(
        self,
        workers: usize,
        init: impl Fn() -> A + Send + Sync + 'static,
        fold: impl Fn(A, T) -> Result<A, E> + Send + Sync + 'static,
        merge: impl FnMut(A, A) -> A,
    ) -> Result<A> {
        self.inline().par_try_fold(workers, init, fold, merge)
    }
}

/// # Folding on several threads
///
/// Only without steps: what a step would do on one thread, `fold` does on several.
impl<O: Origin> Inline<O, NoSteps<O::Item>> {
    /// Does what [`Stream::par_fold`] does; the workers take their items from the source directly.
    ///
    /// One worker at a time calls the source. If that blocks, the others wait for it.
    #[track_caller]
    pub fn par_fold<A: Send + 'static>(
        self,
        workers: usize,
        init: impl Fn() -> A + Send + Sync + 'static,
        fold: impl Fn(A, O::Item) -> A + Send + Sync + 'static,
        merge: impl FnMut(A, A) -> A,
    ) -> Result<A> {
        self.fold_on("par_fold", workers, init, move |value, item| Ok::<_, Infallible>(fold(value, item)), merge)
    }

    /// Does what [`Stream::par_try_fold`] does; the workers take their items from the source directly.
    #[track_caller]
    pub fn par_try_fold<A: Send + 'static, E: Into<BoxError> + 'static>(
        self,
        workers: usize,
        init: impl Fn() -> A + Send + Sync + 'static,
        fold: impl Fn(A, O::Item) -> Result<A, E> + Send + Sync + 'static,
        merge: impl FnMut(A, A) -> A,
    ) -> Result<A> {
        self.fold_on("par_try_fold", workers, init, fold, merge)
    }

    #[track_caller]
    fn fold_on<A: Send + 'static, E: Into<BoxError> + 'static>(
        self,
        name: &str,
        workers: usize,
        init: impl Fn() -> A + Send + Sync + 'static,
        fold: impl Fn(A, O::Item) -> Result<A, E> + Send + Sync + 'static,
        merge: impl FnMut(A, A) -> A,
    ) -> Result<A> {
        check_threads("workers", workers);
        let (registered, feed) = self.open_shared(name, workers);
        let scope = registered.token.scope();
        let places = (1..workers).map(|index| (index, scope.place(&registered.thread_name(index), true)));
        let places: Vec<_> = places.collect();
        let _open = scope.open_reader();
        let context = registered.context();
        let Registered { token, stats, reservation, .. } = registered;
        let team = Arc::new(Team::new(feed, context, init, fold));
        let thread = StageThread::new(token.clone(), Arc::clone(&stats), 0);
        drop(reservation);
        run_all(&team, &thread, places, Team::run_worker);
        let Some(team) = Arc::into_inner(team) else { unreachable!("the other workers have released it") };
        team.finish(merge)
    }
}

/// The input of all workers.
struct Input<F: Feed> {
    feed: Guarded<F>,
    /// The number of items and marks taken.
    taken: u64,
    /// An error item that was met behind a run.
    error: Option<StreamError>,
}

/// What has been done with the input.
struct Progress {
    /// The number of items folded and marks met.
    completed: u64,
    marks: Barriers,
}

/// Why there is no result.
enum Stop {
    Error(StreamError),
    /// The input was cut.
    Cut(StreamError),
    Panic(Held<Option<Box<dyn Any + Send>>>),
}

/// What all workers share.
struct Team<F: Feed, A, I, G> {
    lead: Lead<Input<F>>,
    context: Context,
    init: I,
    fold: G,
    /// Invariant 3.
    stop: Mutex<Option<Stop>>,
    /// Invariant 2.
    progress: Mutex<Progress>,
    values: Mutex<Held<Vec<A>>>,
}

/// Counts items when it is dropped. They include one that the closure panics over: it has been delivered.
struct Delivered<'a> {
    step: &'a StepStats,
    items: u64,
}

impl Drop for Delivered<'_> {
    fn drop(&mut self) {
        self.step.delivered.add_shared(self.items);
    }
}

impl<F, A, E, I, G> Team<F, A, I, G>
where
    F: Feed,
    E: Into<BoxError>,
    I: Fn() -> A,
    G: Fn(A, F::Item) -> Result<A, E>,
{
    fn new(feed: F, context: Context, init: I, fold: G) -> Self {
        Self {
            lead: Lead::new(Input { feed: Guarded::new(feed, F::discard), taken: 0, error: None }),
            context,
            init,
            fold,
            stop: Mutex::default(),
            progress: Mutex::new(Progress { completed: 0, marks: Barriers::new() }),
            values: Mutex::default(),
        }
    }

    fn run_worker(&self, thread: &StageThread) {
        match catch_unwind(AssertUnwindSafe(|| self.work(thread))) {
            Ok(Some(value)) => self.values.lock().push(value),
            Ok(None) => {}
            Err(payload) => {
                let payload = Held::from(Some(payload));
                self.halt(|| Stop::Panic(payload));
            }
        }
    }

    /// Returns the worker's value, if it has had an item.
    fn work(&self, thread: &StageThread) -> Option<A> {
        self.lead.join(thread.wake());
        // Under virtual time, what is visible at a given moment must not depend on real time.
        let mut length = if thread.token.clock().is_manual() { None } else { Some(RunLength::new()) };
        let mut stopwatch = thread.stopwatch();
        let (mut run, mut value) = (Held::from(Vec::new()), None);
        while let Some(mut input) = self.take_lead(thread) {
            let (begun, is_over) =
                self.take(thread, &mut input, length.map_or(1, RunLength::get), &mut run, &mut stopwatch);
            let items = run.len() as u64;
            self.step().received.add(items);
            input.feed.publish(items);
            input.feed.settle();
            // At the end, the input is dropped here.
            drop(if is_over { self.lead.end().or(Some(input)) } else { self.lead.put_back(input) });
            let Some((first, begun)) = begun else { continue };
            while !run.is_empty() {
                let (start, most) = stopwatch.begin(u32::try_from(run.len()).unwrap_or(u32::MAX));
                value = Some(self.fold_burst(thread, value, run.drain(..most as usize))?);
                stopwatch.finish(start, || u64::from(most));
            }
            self.completed(first, items);
            if let Some(length) = &mut length {
                length.adapt(real_now().saturating_duration_since(begun), items as usize);
            }
        }
        value
    }

    /// Returns `None` if it fails, or has to stop.
    fn fold_burst(&self, thread: &StageThread, value: Option<A>, items: impl Iterator<Item = F::Item>) -> Option<A> {
        let mut items = Guarded::new(items, |items| discard(items));
        let mut value = value.unwrap_or_else(&self.init);
        let mut delivered = Delivered { step: self.step(), items: 0 };
        for item in items.by_ref() {
            if thread.is_stopped() {
                guard_drop(item);
                guard_drop(value);
                self.halt(|| Stop::Error(thread.cut()));
                return None;
            }
            delivered.items += 1;
            match (self.fold)(value, item) {
                Ok(next) => value = next,
                Err(error) => {
                    self.fail(thread, self.context.error(ErrorKind::Failed, 0).with_source(error));
                    return None;
                }
            }
        }
        Some(value)
    }

    /// Waits for the lead. Returns `None` when there is nothing more to take.
    fn take_lead(&self, thread: &StageThread) -> Option<Input<F>> {
        loop {
            match self.lead.ask() {
                Turn::Yours(input) => return Some(input),
                Turn::Over => return None,
                Turn::NotYet if thread.is_stopped() => {
                    self.halt(|| Stop::Error(thread.cut()));
                    return None;
                }
                Turn::NotYet => {}
            }
            thread.wait(Phase::Idle, None, || self.lead.may_be_free(), |_| self.lead.wait(thread.wake()));
            self.lead.rise(thread.wake());
        }
    }

    /// Takes a run of at most `most` items; waits for the first one. Returns its number and when it came, if it did, and
    /// whether the input is over.
    fn take(
        &self,
        thread: &StageThread,
        input: &mut Input<F>,
        most: usize,
        run: &mut Vec<F::Item>,
        stopwatch: &mut Stopwatch,
    ) -> (Option<(u64, Instant)>, bool) {
        let mut begun = None;
        let is_over = loop {
            if let Some(error) = input.error.take() {
                self.fail(thread, error);
            }
            if thread.is_stopped() {
                self.halt(|| Stop::Error(thread.cut()));
            }
            if self.lead.is_over() || input.feed.is_drained() {
                break true;
            }
            let polled = if run.is_empty() { input.feed.poll() } else { input.feed.poll_at_once() };
            match polled {
                Polled::Item(Ok(item)) => {
                    begun.get_or_insert_with(|| (input.taken, real_now()));
                    run.push(item);
                    input.taken += 1;
                    if run.len() >= most {
                        break false;
                    }
                }
                Polled::Item(Err(mark)) if mark.is_mark() => {
                    self.arrived(input, mark);
                    // The numbers of a run are consecutive.
                    if !run.is_empty() {
                        break false;
                    }
                }
                Polled::Item(Err(error)) => {
                    self.step().errors_in.add(1);
                    input.error = Some(error);
                    if !run.is_empty() {
                        break false;
                    }
                }
                Polled::Empty if !run.is_empty() => break false,
                Polled::Empty => {
                    input.feed.settle();
                    input.feed.wait(thread, None, || self.lead.is_over(), |_| self.lead.is_over());
                    stopwatch.waited();
                }
                Polled::Ended(End::Finished) => break true,
                Polled::Ended(End::Cut(error)) => {
                    self.note(|| Stop::Cut(error));
                    break true;
                }
            }
        };
        (begun, is_over)
    }

    /// The leader has met a mark.
    fn arrived(&self, input: &mut Input<F>, mark: StreamError) {
        input.taken += 1;
        let mut progress = self.progress.lock();
        progress.completed += 1;
        let completed = progress.completed;
        progress.marks.arrive(mark, input.taken, completed);
        self.complete_marks(progress);
    }

    /// A run that begins with the number `first` has been folded.
    fn completed(&self, first: u64, items: u64) {
        let mut progress = self.progress.lock();
        progress.completed += items;
        (first..first + items).for_each(|number| progress.marks.completed(number));
        self.complete_marks(progress);
    }

    /// Completes the marks before which everything has been folded.
    fn complete_marks(&self, mut progress: MutexGuard<'_, Progress>) {
        while let Some(mark) = progress.marks.pop() {
            // Not under the lock: it wakes threads.
            MutexGuard::unlocked(&mut progress, || {
                self.context.note_mark(&mark);
                mark.complete_mark();
            });
        }
    }

    /// An error stops the pipeline.
    fn fail(&self, thread: &StageThread, error: StreamError) {
        let cause = Cause::Failed(error.clone());
        self.halt(|| Stop::Error(error));
        thread.token.cancel_with(cause);
    }

    /// Invariant 3.
    fn halt(&self, stop: impl FnOnce() -> Stop) {
        self.note(stop);
        drop(self.lead.end());
    }

    fn note(&self, stop: impl FnOnce() -> Stop) {
        let mut noted = self.stop.lock();
        let before = if let None | Some(Stop::Cut(_)) = *noted { noted.replace(stop()) } else { None };
        drop(noted);
        guard_drop(before);
    }

    fn step(&self) -> &StepStats {
        &self.context.stats.steps[0]
    }

    /// When all workers have left.
    fn finish(self, mut merge: impl FnMut(A, A) -> A) -> Result<A> {
        self.step().abandoned.add(self.step().unsettled());
        let Self { lead, init, fold, stop, progress, values, .. } = self;
        guard_drop(lead);
        // Marks that are left lose their epochs.
        drop(progress);
        guard_drop(fold);
        let init = Guarded::new(init, guard_drop);
        let mut values = values.into_inner();
        match stop.into_inner() {
            None => {}
            Some(Stop::Error(error) | Stop::Cut(error)) => return Err(error),
            Some(Stop::Panic(mut payload)) => match payload.take() {
                Some(payload) => resume_unwind(payload),
                None => unreachable!("it is taken here only"),
            },
        }
        let Some(mut merged) = values.pop() else { return Ok(init()) };
        while let Some(value) = values.pop() {
            merged = merge(merged, value);
        }
        Ok(merged)
    }
}
