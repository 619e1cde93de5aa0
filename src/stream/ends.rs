//! Ends: where the items of a pipeline go.

use std::fmt;
use std::ops::{ControlFlow, Deref};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::Stream;
use super::edge::{End, Polled};
use super::input::Input;
use crate::error::{BoxError, ErrorKind, Result, StreamError};
use crate::pipeline::{CancelToken, Cause};
use crate::stage::Registered;
use crate::stage::panic;
use crate::stage::stats::{StageKind, StageStats};
use crate::stage::thread::StageThread;

/// What went through an end that saw its stream to the last item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Items.
    pub items: u64,
    /// Error items.
    pub errors: u64,
}

/// A stream being read to its end by one thread.
struct Drain<T> {
    input: Input<T>,
    thread: StageThread,
    tally: Tally,
}

impl<T: Send + 'static> Drain<T> {
    /// On a thread of the pipeline.
    fn new(input: Input<T>, token: CancelToken, stats: Arc<StageStats>) -> Self {
        Self { input, thread: StageThread::new(token, stats, 0), tally: Tally::default() }
    }

    /// On whatever thread calls.
    fn visiting(input: Input<T>, token: CancelToken, stats: Arc<StageStats>) -> Self {
        Self { input, thread: StageThread::visiting(token, stats, 0), tally: Tally::default() }
    }

    /// The next item; waits for it.
    #[inline]
    fn next(&mut self) -> Result<Result<T>, End> {
        loop {
            if self.thread.is_stopped() {
                return Err(End::Cut(self.thread.cut()));
            }
            match self.input.poll() {
                Polled::Item(item) => {
                    self.count(&item);
                    return Ok(item);
                }
                Polled::Empty => {
                    self.input.settle();
                    self.thread.wait_for_input(&self.input, None, || false, |_| false);
                }
                Polled::Ended(end) => return Err(end),
            }
        }
    }

    /// An end delivers what it receives: to whom, is the caller's affair.
    #[inline]
    fn count(&mut self, item: &Result<T>) {
        let step = &self.thread.stats.steps[0];
        if item.is_ok() {
            step.received.add(1);
            step.delivered.add(1);
            self.tally.items += 1;
        } else {
            step.errors_in.add(1);
            self.tally.errors += 1;
        }
    }

    /// Stops the pipeline because of `error`, and gives it back.
    fn stop_with(&self, error: StreamError) -> StreamError {
        self.thread.token.cancel_with(Cause::Failed(error.clone()));
        error
    }

    /// Reads on while `f` says so. An error item, and an error of `f`, stop the pipeline.
    fn try_each<B>(&mut self, mut f: impl FnMut(T) -> Result<ControlFlow<B>, StreamError>) -> Result<Option<B>> {
        loop {
            match self.next() {
                Ok(Ok(item)) => match f(item) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(value)) => return Ok(Some(value)),
                    Err(error) => return Err(self.stop_with(error)),
                },
                Ok(Err(error)) => return Err(self.stop_with(error)),
                Err(End::Finished) => return Ok(None),
                Err(End::Cut(error)) => return Err(error),
            }
        }
    }
}

impl<T: Send + 'static> Stream<T> {
    #[track_caller]
    fn sink(self, name: &str) -> (Input<T>, Registered) {
        let name = self.end_name.as_deref().unwrap_or(name);
        let registered = Registered::with_input(&self.token, &self, name, StageKind::Sink, &[], 1);
        (self.into_input(), registered)
    }

    #[track_caller]
    fn read(self, name: &str) -> Drain<T> {
        let (input, Registered { token, stats, .. }) = self.sink(name);
        Drain::visiting(input, token, stats)
    }

    /// Calls `f` for each item and each error item, on the calling thread, until the stream ends.
    ///
    /// # Errors
    /// If the stream was cut: the error says why. Error items are given to `f` and do not end it.
    ///
    /// # Panics
    /// If `f` panics; the pipeline winds down. If the pipeline has finished.
    #[track_caller]
    pub fn for_each(self, mut f: impl FnMut(Result<T>)) -> Result<Tally> {
        let mut drain = self.read("for_each");
        loop {
            match drain.next() {
                Ok(item) => f(item),
                Err(End::Finished) => return Ok(drain.tally),
                Err(End::Cut(error)) => return Err(error),
            }
        }
    }

    /// Calls `f` for each item, on the calling thread. Stops the pipeline at the first error: an error item, or an error
    /// that `f` returns. (To be exact, it cancels the stream's [token](Self::token): with a
    /// [child](Self::with_token), that part of the pipeline. The same goes for the other ends that stop at the first
    /// error.)
    ///
    /// # Errors
    /// That first error, or if the stream was cut, the one that says why.
    ///
    /// # Panics
    /// If `f` panics; the pipeline winds down. If the pipeline has finished.
    #[track_caller]
    pub fn try_for_each<E: Into<BoxError>>(self, mut f: impl FnMut(T) -> Result<(), E>) -> Result<Tally> {
        let mut drain = self.read("try_for_each");
        let (name, clock) = (Arc::clone(&drain.thread.stats.name), drain.thread.token.clock().clone());
        drain.try_each(|item| match f(item) {
            Ok(()) => Ok(ControlFlow::<()>::Continue(())),
            Err(error) => {
                let failed = StreamError::new(ErrorKind::Failed, Arc::clone(&name));
                Err(failed.with_source(error).with_time(clock.wall()))
            }
        })?;
        Ok(drain.tally)
    }

    /// Collects the items. Stops the pipeline at the first error item.
    ///
    /// # Errors
    /// The first error item, or if the stream was cut, the error that says why. What was collected before is dropped.
    #[track_caller]
    pub fn collect<C: FromIterator<T>>(self) -> Result<C> {
        let mut drain = self.read("collect");
        let mut failed = None;
        let collected = std::iter::from_fn(|| match drain.try_each(|item| Ok(ControlFlow::Break(item))) {
            Ok(item) => item,
            Err(error) => {
                failed = Some(error);
                None
            }
        })
        .collect();
        failed.map_or(Ok(collected), Err)
    }

    /// Folds the items into one value. Stops the pipeline at the first error item.
    ///
    /// # Errors
    /// The first error item, or if the stream was cut, the error that says why.
    #[track_caller]
    pub fn fold<A>(self, init: A, mut f: impl FnMut(A, T) -> A) -> Result<A> {
        let mut folded = Some(init);
        self.read("fold").try_each(|item| {
            folded = folded.take().map(|state| f(state, item));
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        Ok(folded.unwrap_or_else(|| unreachable!("the state is put back after each item")))
    }

    /// Counts the items. Stops the pipeline at the first error item.
    ///
    /// # Errors
    /// The first error item, or if the stream was cut, the error that says why.
    #[track_caller]
    pub fn count(self) -> Result<u64> {
        let mut drain = self.read("count");
        drain.try_each(|_| Ok(ControlFlow::<()>::Continue(())))?;
        Ok(drain.tally.items)
    }

    /// Takes the first item, if there is one, and drops the stream, so that what feeds it winds down.
    ///
    /// # Errors
    /// If an error item comes first, or the stream was cut before.
    #[track_caller]
    pub fn first(self) -> Result<Option<T>> {
        self.read("first").try_each(|item| Ok(ControlFlow::Break(item)))
    }

    /// As [`for_each`](Self::for_each), on a thread that the pipeline owns: for streams that must be read beside others.
    ///
    /// If the stream was cut, the last thing that `f` is given is the error that says why. A panic in `f` cancels the
    /// pipeline.
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn spawn_for_each(self, mut f: impl FnMut(Result<T>) + Send + 'static) {
        let (input, Registered { token, stats, reservation }) = self.sink("for_each");
        let scope = Arc::clone(token.scope());
        scope.spawn(&format!("{}-0", stats.name), true, move |started| {
            if let Err(error) = started {
                return token.cancel_because(error);
            }
            let mut drain = Drain::new(input, token.clone(), Arc::clone(&stats));
            loop {
                let (item, over) = match drain.next() {
                    Ok(item) => (item, false),
                    Err(End::Finished) => return,
                    Err(End::Cut(error)) => (Err(error), true),
                };
                if let Err(payload) = panic::catch(|| f(item)) {
                    log::error!("streamz: end `{}` panicked: {}", stats.name, payload.message());
                    token.cancel_because(format!("end `{}` panicked: {}", stats.name, payload.message()));
                }
                if over {
                    return;
                }
            }
        });
        drop(reservation);
    }

    /// The stream as a crossbeam channel of the given capacity, for code that selects over channels.
    ///
    /// A thread of the pipeline passes the items on. Dropping the receiver stops what feeds it. When the channel is
    /// disconnected, [`StreamReceiver::cut`] tells whether the stream was complete.
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn into_receiver(self, capacity: usize) -> StreamReceiver<T> {
        let (input, Registered { token, stats, reservation }) = self.sink("into_receiver");
        let (sender, receiver) = bounded(capacity);
        let cut = Arc::new(OnceLock::new());
        let receiver = StreamReceiver { receiver, cut: Arc::clone(&cut) };
        let scope = Arc::clone(token.scope());
        scope.spawn(&format!("{}-0", stats.name), true, move |started| {
            if let Err(error) = started {
                return token.cancel_because(error);
            }
            let mut drain = Drain::new(input, token, stats);
            // Before the channel is disconnected, which is when the sender goes.
            if let Err(error) = drain.pass_on(&sender) {
                let _ = cut.set(error);
            }
        });
        drop(reservation);
        receiver
    }
}

impl<T: Send + 'static> Drain<T> {
    /// Sends everything to a channel that is not ours, until its receiver goes.
    fn pass_on(&mut self, sender: &Sender<Result<T>>) -> Result<()> {
        loop {
            let mut item = match self.next() {
                Ok(item) => item,
                Err(End::Finished) => return Ok(()),
                Err(End::Cut(error)) => return Err(error),
            };
            loop {
                match sender.try_send(item) {
                    Ok(()) => break,
                    Err(TrySendError::Disconnected(_)) => return Ok(()),
                    Err(TrySendError::Full(_)) if self.thread.is_stopped() => return Err(self.thread.cut()),
                    Err(TrySendError::Full(back)) => item = back,
                }
                self.input.settle();
                match self.thread.send_to_foreign(sender, item) {
                    Ok(()) => break,
                    Err(back) => item = back,
                }
            }
        }
    }
}

/// A stream as a crossbeam channel; made by [`Stream::into_receiver`]. Dereferences to the
/// [`Receiver`].
#[derive(Debug, Clone)]
#[must_use = "dropping the receiver stops the stages that feed it"]
pub struct StreamReceiver<T> {
    receiver: Receiver<Result<T>>,
    cut: Arc<OnceLock<StreamError>>,
}

impl<T> StreamReceiver<T> {
    /// Why the stream was cut, once the channel is disconnected; `None` if it was complete.
    pub fn cut(&self) -> Option<StreamError> {
        self.cut.get().cloned()
    }
}

impl<T> Deref for StreamReceiver<T> {
    type Target = Receiver<Result<T>>;

    fn deref(&self) -> &Receiver<Result<T>> {
        &self.receiver
    }
}

/// Iterates over a stream on the calling thread: yields items and error items, and for a stream that was cut one last
/// error. Dropping it drops the stream.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct IntoIter<T> {
    drain: Option<Drain<T>>,
}

impl<T: Send + 'static> IntoIterator for Stream<T> {
    type Item = Result<T>;
    type IntoIter = IntoIter<T>;

    #[track_caller]
    fn into_iter(self) -> IntoIter<T> {
        IntoIter { drain: Some(self.read("iter")) }
    }
}

impl<T: Send + 'static> Iterator for IntoIter<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let drain = self.drain.as_mut()?;
        match drain.next() {
            Ok(item) => {
                // The caller may do anything before it comes back.
                drain.input.settle();
                Some(item)
            }
            Err(end) => {
                self.drain = None;
                match end {
                    End::Finished => None,
                    End::Cut(error) => Some(Err(error)),
                }
            }
        }
    }
}

impl<T> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter").field("ended", &self.drain.is_none()).finish_non_exhaustive()
    }
}
