//! [`Stream`]: the receiving end of the edge between two stages.

use std::borrow::Cow;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use super::Processor;
use super::consumer::Consumer;
use crate::clock::{Limit, earlier};
use crate::edge::{EdgeReceiver, End, Polled, edge};
use crate::error::{ErrorKind, Result, StreamError};
use crate::panic::guard_drop;
use crate::pipeline::name::checked;
use crate::pipeline::stall::Watch;
use crate::pipeline::stats::StageStats;
use crate::pipeline::{CancelToken, Cause, InputReport, Membership};
use crate::stage::input::{self, Input};
use crate::stage::origins::Origins;

/// The receiving end of a bounded channel of items and errors; what flows from one stage to the next.
///
/// A stream has one consumer. It comes from a [source](Self#impl-Stream<T>), goes [`through`](Self::through) processors
/// (or their shorthands: `map`, `filter`, `batch`, ..), and ends in one of the ends: `for_each`, `collect`, `fold`, ..,
/// or a `for` loop. Dropping it tells the stage that feeds it to stop, and so everything upstream.
///
/// # Complete or cut
///
/// A stream whose sources came to their end, or were drained, just ends. One that was cut (cancelled, timed out, the
/// pipeline dropped) yields one last error of kind [`Cancelled`](crate::ErrorKind::Cancelled), with the
/// [`Cause`] as its source, and then ends. So `for row in stream { let row = row?; .. }` cannot take half
/// for the whole.
///
/// # Memory
///
/// At most `capacity` items wait in a stream; the stage that feeds it has one more in hand while it is blocked.
#[must_use = "dropping a stream stops the stages that feed it"]
pub struct Stream<T> {
    /// `None` once the end has been seen.
    input: Option<Input<T>>,
    /// As long as the end has not been seen, the pipeline has not ended.
    open: Option<Membership>,
    pub(super) token: CancelToken,
    feeder: Arc<str>,
    /// The output of the feeder; empty if that has no branches.
    branch: Arc<str>,
    /// The name of its reader.
    next_name: Option<Cow<'static, str>>,
    /// The inputs of the merge it comes from, if its items can be told apart by them.
    origins: Option<Arc<Origins>>,
    /// Present once the caller has received from it.
    consumer: Option<Consumer>,
}

/// Why [`Stream::try_recv`] has nothing to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing is there now.
    #[error("nothing to receive now")]
    Empty,
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended,
}

/// Why [`Stream::recv_timeout`] has nothing to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvTimeoutError {
    /// Nothing came in time.
    #[error("nothing received in time")]
    Timeout,
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended,
}

impl<T: Send + 'static> Stream<T> {
    pub(crate) fn from_edge(receiver: EdgeReceiver<T>, token: CancelToken, feeder: Arc<str>) -> Self {
        Self::from_input(Input::Edge(receiver), token, feeder)
    }

    pub(super) fn from_input(input: Input<T>, token: CancelToken, feeder: Arc<str>) -> Self {
        let open = Some(token.scope().open_stream());
        Self {
            input: Some(input),
            open,
            token,
            feeder,
            branch: Arc::default(),
            next_name: None,
            origins: None,
            consumer: None,
        }
    }

    /// Sets which output of its feeder it is.
    pub(super) fn of_branch(self, branch: Arc<str>) -> Self {
        Self { branch, ..self }
    }

    /// Sets the meaning of its labels, if it has any: see `origins.rs`.
    pub(crate) fn with_origins(self, origins: Option<Arc<Origins>>) -> Self {
        Self { origins, ..self }
    }

    pub(crate) fn origins(&self) -> Option<&Arc<Origins>> {
        self.origins.as_ref()
    }

    /// Names what is built next: the stage, sink or [`Inline`](crate::Inline) piece that reads the stream. Its threads, errors
    /// and reports have that name.
    ///
    /// It takes precedence over the default name of a shorthand and over the name that a processor was configured with. A
    /// processor that is made of several has it for its first stage. Sources are named by
    /// [`CancelToken::named`](crate::CancelToken::named). A stage with the name of another is numbered: `load`, `load-2`.
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let (rows, report) = Pipeline::run("rows", |pipeline| {
    ///     Stream::from_iter(&pipeline.named("read"), ["1", "x", "3"])
    ///         .named("parse")
    ///         .filter_map(|line: &str| line.parse::<u32>().ok())
    ///         .named("load")
    ///         .count()
    /// });
    /// assert_eq!(rows?, 2);
    /// let names: Vec<&str> = report.stages.iter().map(|stage| &*stage.name).collect();
    /// assert_eq!(names, ["read", "parse", "load"]);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    #[track_caller]
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.next_name = Some(checked(name));
        self
    }

    /// The name for its reader.
    pub(crate) fn next_name(&self) -> Option<&str> {
        self.next_name.as_deref()
    }

    /// Takes the name out, to be used elsewhere.
    pub(super) fn take_name(&mut self) -> Option<Cow<'static, str>> {
        self.next_name.take()
    }

    /// For a processor that builds several stages: a name on `cancel` is that of the first stage.
    pub(crate) fn enter(mut self, cancel: &CancelToken) -> (CancelToken, Self) {
        if self.next_name.is_none() {
            self.next_name = cancel.name().map(|name| Cow::Owned(String::from(&**name)));
        }
        (cancel.unnamed(), self)
    }

    /// The token in whose scope the next stage is started.
    pub fn token(&self) -> &CancelToken {
        &self.token
    }

    /// Narrows the scope of what follows: `cancel` may be cancelled alone, with all that is built on this stream from now
    /// on.
    ///
    /// # Panics
    /// If `cancel` belongs to another pipeline than the stream, or to none.
    #[track_caller]
    pub fn with_token(self, cancel: &CancelToken) -> Self {
        assert!(
            Arc::ptr_eq(cancel.scope(), self.token.scope()),
            "the token belongs to pipeline `{}`, but the stream to pipeline `{}`",
            cancel.scope().name(),
            self.token.scope().name()
        );
        let (token, stream) = self.enter(cancel);
        Self { token, ..stream }
    }

    /// Adds a processor.
    ///
    /// # Panics
    /// If the pipeline has finished.
    #[track_caller]
    pub fn through<P>(self, processor: &P) -> Stream<P::Out>
    where
        P: Processor<In = T> + ?Sized,
    {
        let token = self.token.clone();
        processor.process(&token, self)
    }

    /// Adds a processor that is not used again, and may hold the last references to the values of its closures.
    #[track_caller]
    pub(crate) fn through_once<P: Processor<In = T>>(self, processor: P) -> Stream<P::Out> {
        let output = self.through(&processor);
        guard_drop(processor);
        output
    }

    /// Notes on both sides that a stage, or a sink, reads it.
    pub(crate) fn is_read_by(&self, reader: &StageStats) {
        let input = InputReport { stage: Arc::clone(&self.feeder), output: Arc::clone(&self.branch) };
        reader.inputs.lock().push(input);
        if let Some(Input::Edge(edge)) = &self.input {
            edge.shared().gauge().set_reader(&reader.name);
        }
    }

    pub(crate) fn feeder(&self) -> &Arc<str> {
        &self.feeder
    }

    /// The input of a stage. A stream whose end its owner has already seen is an ended one for the stage, too.
    pub(crate) fn into_input(mut self) -> Input<T> {
        self.consumer = None;
        self.input.take().unwrap_or_else(|| {
            let (sender, receiver) = edge(0, true);
            sender.shared().finish();
            Input::Edge(receiver)
        })
    }

    /// Adds capacity, if the stream comes from a stage of ours.
    pub(crate) fn add_capacity(&self, items: usize) -> bool {
        match &self.input {
            Some(Input::Edge(edge)) => {
                edge.add_capacity(items);
                true
            }
            _ => false,
        }
    }

    /// Sets the capacity, if the stream comes from a stage of ours.
    pub(crate) fn set_capacity(&self, items: usize) {
        if let Some(Input::Edge(edge)) = &self.input {
            edge.set_capacity(items);
        }
    }

    /// Takes the next item; waits for it. `None` at the end. The last thing before the end of a stream that was cut
    /// is an error of kind [`Cancelled`](crate::ErrorKind::Cancelled).
    pub fn recv(&mut self) -> Option<Result<T>> {
        self.recv_within(Limit::Unlimited).ok()
    }

    /// Takes the next item if there is one now. Never blocks.
    ///
    /// # Errors
    /// Tells apart that there is none now, and that the stream has ended.
    pub fn try_recv(&mut self) -> Result<Result<T>, TryRecvError> {
        self.poll()
    }

    /// Takes the next item; waits for it up to `timeout`, by the pipeline's clock. A timeout too large to add never
    /// passes.
    ///
    /// # Errors
    /// Tells apart that there was none in time, and that the stream has ended.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Result<T>, RecvTimeoutError> {
        self.recv_within(Limit::after(timeout, self.token.clock()))
    }

    fn recv_within(&mut self, limit: Limit) -> Result<Result<T>, RecvTimeoutError> {
        let found = |polled| match polled {
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Ended) => Some(Err(RecvTimeoutError::Ended)),
            Ok(item) => Some(Ok(item)),
        };
        if let Some(found) = found(self.poll()) {
            return found;
        }
        let waiter = limit.waiter(self.token.clock());
        // Before the checks in the loop: a cancellation after them posts the wake.
        let _registered = self.token.register_guest(waiter.wake());
        let watch = Watch::start(self.token.scope(), self.token.now());
        loop {
            waiter.spin(|| self.input.as_ref().is_none_or(Input::may_have_items) || self.token.is_cancelled());
            if let Some(found) = found(self.poll()) {
                return found;
            }
            if limit.has_passed(self.token.clock()) {
                return Err(RecvTimeoutError::Timeout);
            }
            if let Some(input) = &self.input
                && !input.want_items(&waiter)
                && !self.token.is_cancelled()
            {
                let until = earlier(limit.deadline(), self.token.deadline());
                input::park(input, &waiter, earlier(until, watch.next()));
                if !input.may_have_items() {
                    watch.look(self.token.scope());
                }
            }
        }
    }

    fn poll(&mut self) -> Result<Result<T>, TryRecvError> {
        if self.consumer.is_none() {
            self.enter_consumer();
        }
        let (Some(input), Some(consumer)) = (&mut self.input, &mut self.consumer) else {
            return Err(TryRecvError::Ended);
        };
        if self.token.is_cancelled() {
            self.close();
            return Ok(Err(self.cut_here()));
        }
        let polled = loop {
            match input.poll() {
                // A caller that asks for the next entry after a mark has processed everything before it.
                Polled::Item(Err(mark)) if mark.is_mark() => mark.complete_mark(),
                polled => break polled,
            }
        };
        input.settle();
        match polled {
            Polled::Item(item) => {
                consumer.took(&item);
                Ok(item)
            }
            Polled::Empty => {
                consumer.found_nothing();
                // The next poll may come at any time: ask now.
                input.ask();
                Err(TryRecvError::Empty)
            }
            Polled::Ended(end) => {
                self.close();
                match end {
                    End::Finished => Err(TryRecvError::Ended),
                    End::Cut(error) => Ok(Err(error)),
                }
            }
        }
    }

    /// Registers the caller with the report, unless there is nothing left to receive.
    #[cold]
    fn enter_consumer(&mut self) {
        if self.input.is_some() {
            let consumer = Consumer::new(&self.token, self.next_name().unwrap_or("recv"));
            self.is_read_by(consumer.stats());
            self.consumer = Some(consumer);
        }
    }

    /// The end has been seen.
    fn close(&mut self) {
        self.consumer = None;
        self.input = None;
        self.open = None;
    }

    /// The last error of a stream whose reader was stopped.
    fn cut_here(&self) -> StreamError {
        StreamError::new(ErrorKind::Cancelled, Arc::clone(&self.feeder))
            .with_source(self.token.cause().unwrap_or(Cause::Requested))
            .with_time(self.token.clock().wall())
    }
}

// Anything that a panic may leave half done in it is behind locks and atomics; its items are not visible to others
// before they are whole.
impl<T> UnwindSafe for Stream<T> {}
impl<T> RefUnwindSafe for Stream<T> {}

impl<T> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Stream");
        debug.field("feeder", &self.feeder);
        match &self.input {
            None => debug.field("ended", &true),
            Some(Input::Edge(edge)) => debug.field("queued", &edge.shared().gauge().items()),
            Some(Input::Foreign(foreign)) => debug.field("queued", &foreign.receiver.len()),
        };
        debug.finish_non_exhaustive()
    }
}
