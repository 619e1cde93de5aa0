//! [`par_fold`](Stream::par_fold): a sink with several threads.
//!
//! # Invariants
//!
//! 1. A worker takes a run of items while it leads (`lead.rs`), and folds it when it has put the input back. A run has more
//!    than one item only if items are quick (`run_length.rs`), and ends early if the input has no more or may block.
//! 2. Marks and error items are dealt with when all runs before them are finished, by the next leader. Labels say nothing
//!    that matters here, and a stamp that waits costs nothing.
//! 3. The first reason to stop is the one that is returned. The worker that finds it halts the others: none starts another
//!    item, and the input is dropped. A cut of the input halts no worker: it ends the input, and what was taken is folded.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::latch::CountLatch;
use super::lead::{Lead, Turn};
use super::run_length::RunLength;
use crate::clock::real_now;
use crate::edge::{End, Polled};
use crate::error::{BoxError, ErrorKind, Result, StreamError};
use crate::operators::options::check_threads;
use crate::panic::{Guarded, Held, discard, guard_drop};
use crate::pipeline::Cause;
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
    /// For work whose results are only added up, such as counting, summing or building a map: the results never leave the
    /// thread that made them, which saves the queue and the sink behind a pool. `fold` does the work and takes in its
    /// result. Each worker that has an item calls `init` once; without items it is called once in all. `merge` combines two
    /// values on the calling thread.
    ///
    /// The calling thread is one of the `workers`; the others belong to the pipeline. With [`Inline::par_fold`] the workers
    /// also take their items from the source directly. For `fold` that can fail, see
    /// [`par_try_fold`](Self::par_try_fold); for calls that are retried or limited, and results that others read, use a
    /// pool such as [`AsyncMapper`](crate::AsyncMapper).
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
    /// Each worker takes an item when it has folded the one before; of items that take a few microseconds or less, up to
    /// 256 or about 50 microseconds' worth. So a quick item may wait for a slow one that its worker took with it.
    ///
    /// # Cancellation
    /// Stops between two items. A running `fold` is waited for.
    ///
    /// # Memory
    /// A value for each worker, and the items that the workers have taken.
    ///
    /// # Delivery
    /// The mark behind an epoch of a [delivery](crate::delivery) waits until everything before it has been folded; so do
    /// the items behind it. So the workers share the records of an epoch: make it long enough
    /// ([`DeliveryConfig::epoch`](crate::delivery::DeliveryConfig::epoch)).
    ///
    /// # Errors
    /// The first error item, or, if the stream was cut, the error of the cut. Items before an error item have been folded.
    ///
    /// # Panics
    /// If a closure panics: the other workers stop, the pipeline winds down, and the panic continues on the calling thread.
    /// If `workers` is 0 or more than 65,536, or the pipeline has finished.
    ///
    /// # Technique
    /// The workers take turns at the input, as in [Leader/Followers](https://www.dre.vanderbilt.edu/~schmidt/PDF/lf.pdf); the
    /// two stages of the fold are those of rayon's `fold` and `reduce`.
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
    pub fn par_try_fold<A: Send + 'static, E: Into<BoxError>>(
        self,
        workers: usize,
        init: impl Fn() -> A + Send + Sync + 'static,
        fold: impl Fn(A, T) -> Result<A, E> + Send + Sync + 'static,
        merge: impl FnMut(A, A) -> A,
    ) -> Result<A> {
        self.inline().par_try_fold(workers, init, fold, merge)
    }
}

/// Without steps before it: what a step would do, `fold` can do on several threads.
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
    pub fn par_try_fold<A: Send + 'static, E: Into<BoxError>>(
        self,
        workers: usize,
        init: impl Fn() -> A + Send + Sync + 'static,
        fold: impl Fn(A, O::Item) -> Result<A, E> + Send + Sync + 'static,
        merge: impl FnMut(A, A) -> A,
    ) -> Result<A> {
        self.fold_on("par_try_fold", workers, init, fold, merge)
    }

    #[track_caller]
    fn fold_on<A: Send + 'static, E: Into<BoxError>>(
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
        let running = Arc::new(CountLatch::new(Arc::clone(thread.wake())));
        for (index, place) in places {
            let (team, running) = (Arc::clone(&team), Arc::clone(&running));
            let (token, stats) = (token.clone(), Arc::clone(&stats));
            // Before the spawn: the worker may have left by the time it returns.
            running.enter();
            place.spawn(move |started| {
                // The other workers do its share.
                if started.is_ok() {
                    team.run_worker(&StageThread::new(token, stats, index));
                }
                drop(team);
                running.leave();
            });
        }
        drop(reservation);
        team.run_worker(&thread);
        while !running.is_open() {
            thread.wait_regardless(Phase::Idle, || running.is_open());
        }
        let Some(team) = Arc::into_inner(team) else { unreachable!("the other workers have released it") };
        team.finish(merge)
    }
}

/// The input of all workers.
struct Input<F: Feed> {
    feed: Guarded<F>,
    /// A mark or an error item that must wait for all runs before it.
    next: Option<StreamError>,
}

/// Why there is no result.
enum Stop {
    Error(StreamError),
    Panic(Box<dyn Any + Send>),
}

/// What all workers share.
struct Team<F: Feed, A, I, G> {
    lead: Lead<Input<F>>,
    context: Context,
    init: I,
    fold: G,
    /// Invariant 3.
    stop: Mutex<Option<Stop>>,
    is_halted: AtomicBool,
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

/// Why a leader takes no more.
enum Taken {
    /// The run is complete.
    Run,
    /// The next entry must wait for all runs.
    Barrier,
    Over,
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
            lead: Lead::new(Input { feed: Guarded::new(feed, F::discard), next: None }),
            context,
            init,
            fold,
            stop: Mutex::default(),
            is_halted: AtomicBool::new(false),
            values: Mutex::default(),
        }
    }

    fn run_worker(&self, thread: &StageThread) {
        match catch_unwind(AssertUnwindSafe(|| self.work(thread))) {
            Ok(Some(value)) => self.values.lock().push(value),
            Ok(None) => {}
            Err(payload) => self.halt(|| Stop::Panic(payload)),
        }
    }

    /// Returns the worker's value, if it has had an item.
    fn work(&self, thread: &StageThread) -> Option<A> {
        self.lead.join(thread.wake());
        // Under virtual time, what is visible at a given moment must not depend on real time.
        let mut length = if thread.token.clock().is_manual() { None } else { Some(RunLength::new()) };
        let mut stopwatch = thread.stopwatch();
        let (mut run, mut value, mut has_finished) = (Held::from(Vec::new()), None, false);
        while let Some(mut input) = self.take_lead(thread, has_finished) {
            let mut begun = None;
            let taken = self.take(thread, &mut input, length.map_or(1, RunLength::get), &mut run, &mut begun);
            let items = run.len();
            self.step().received.add(items as u64);
            input.feed.publish(items as u64);
            input.feed.settle();
            // At the end, the input is dropped here.
            drop(match taken {
                Taken::Run => self.lead.put_back(input, true, false),
                Taken::Barrier => self.lead.put_back(input, items > 0, true),
                Taken::Over => self.lead.end().or(Some(input)),
            });
            has_finished = items > 0;
            while !run.is_empty() {
                let (start, most) = stopwatch.begin(u32::try_from(run.len()).unwrap_or(u32::MAX));
                value = Some(self.fold_burst(thread, value, run.drain(..most as usize))?);
                stopwatch.finish(start, || u64::from(most));
            }
            if let (Some(length), Some(begun)) = (&mut length, begun) {
                length.adapt(real_now().saturating_duration_since(begun), items);
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
            if self.is_halted.load(Ordering::Acquire) || thread.is_stopped() {
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
    fn take_lead(&self, thread: &StageThread, mut has_finished: bool) -> Option<Input<F>> {
        loop {
            match self.lead.ask(std::mem::take(&mut has_finished)) {
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

    /// Takes a run of at most `most` items, and notes when the first one came. Waits for it.
    fn take(
        &self,
        thread: &StageThread,
        input: &mut Input<F>,
        most: usize,
        run: &mut Vec<F::Item>,
        begun: &mut Option<Instant>,
    ) -> Taken {
        match input.next.take() {
            Some(mark) if mark.is_mark() => {
                self.context.note_mark(&mark);
                mark.complete_mark();
            }
            Some(error) => {
                self.fail(thread, error);
                return Taken::Over;
            }
            None => {}
        }
        loop {
            if thread.is_stopped() {
                self.halt(|| Stop::Error(thread.cut()));
            }
            if self.lead.is_over() || input.feed.is_drained() {
                return Taken::Over;
            }
            match input.feed.poll() {
                Polled::Item(Ok(item)) => {
                    run.push(item);
                    begun.get_or_insert_with(real_now);
                    if run.len() >= most || input.feed.is_at_once() {
                        return Taken::Run;
                    }
                }
                Polled::Item(Err(label)) if label.label().is_some() => label.complete_mark(),
                Polled::Item(Err(error)) => {
                    self.step().errors_in.add(u64::from(!error.is_mark()));
                    input.next = Some(error);
                    return Taken::Barrier;
                }
                Polled::Empty if !run.is_empty() => return Taken::Run,
                Polled::Empty => {
                    input.feed.settle();
                    input.feed.wait(thread, None, || self.lead.is_over(), |_| self.lead.is_over());
                }
                Polled::Ended(End::Finished) => return Taken::Over,
                Polled::Ended(End::Cut(error)) => {
                    self.note(|| Stop::Error(error));
                    return Taken::Over;
                }
            }
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
        self.is_halted.store(true, Ordering::Release);
        drop(self.lead.end());
    }

    fn note(&self, stop: impl FnOnce() -> Stop) {
        self.stop.lock().get_or_insert_with(stop);
    }

    fn step(&self) -> &StepStats {
        &self.context.stats.steps[0]
    }

    /// When all workers have left.
    fn finish(self, mut merge: impl FnMut(A, A) -> A) -> Result<A> {
        self.step().abandoned.add(self.step().unsettled());
        let Self { lead, init, fold, stop, values, .. } = self;
        guard_drop(lead);
        guard_drop(fold);
        let mut values = values.into_inner();
        match stop.into_inner() {
            None => {}
            Some(Stop::Error(error)) => return Err(error),
            Some(Stop::Panic(payload)) => {
                drop(values);
                guard_drop(init);
                resume_unwind(payload);
            }
        }
        let Some(mut merged) = values.pop() else { return Ok(init()) };
        while let Some(value) = values.pop() {
            merged = merge(merged, value);
        }
        Ok(merged)
    }
}
