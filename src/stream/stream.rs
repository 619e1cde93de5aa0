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

/// Receives the items and errors of one stage: the consumer's end of the bounded queue between two stages.
///
/// A stream has one consumer. It comes from a source, goes [`through`](Self::through) processors or their shorthands, such as
/// [`map`](Self::map), and ends in a sink, such as [`for_each`](Self::for_each), or in a `for` loop. Dropping it stops the
/// stage that feeds it, and so everything upstream.
///
/// # Methods by purpose
///
/// | group | methods |
/// |---|---|
/// | [Sources](#sources) | [`from_iter`](Self::from_iter), [`from_fn`](Self::from_fn), [`from_receiver`](Self::from_receiver), [`channel`](Self::channel), [`interval`](Self::interval), [`lines`](Stream::lines), [`byte_lines`](Stream::byte_lines), [`file_lines`](Stream::file_lines), [`directory`](Stream::directory), [`follow`](Stream::follow), [`follow_lines`](Stream::follow_lines), [`restarting`](Self::restarting) |
/// | [Names, scope and processors](#names-scope-and-processors) | [`named`](Self::named), [`with_token`](Self::with_token), [`token`](Self::token), [`through`](Self::through) |
/// | [Receiving item by item](#receiving-item-by-item) | [`recv`](Self::recv), [`try_recv`](Self::try_recv), [`recv_timeout`](Self::recv_timeout), [`into_receiver`](Self::into_receiver) |
/// | [Sharing a thread](#sharing-a-thread) | [`stage`](Self::stage), [`inline`](Self::inline) |
/// | [Sinks](#sinks) | [`for_each`](Self::for_each), [`try_for_each`](Self::try_for_each), [`collect`](Self::collect), [`fold`](Self::fold), [`reduce`](Self::reduce), [`count`](Self::count), [`first`](Self::first), [`consume`](Self::consume), [`spawn`](Self::spawn), [`spawn_for_each`](Self::spawn_for_each) |
/// | [Changing items](#changing-items) | [`map`](Self::map), [`filter_map`](Self::filter_map), [`flat_map`](Self::flat_map), [`flatten`](Self::flatten), [`scan`](Self::scan), [`enumerate`](Self::enumerate) |
/// | [Selecting items](#selecting-items) | [`filter`](Self::filter), [`dedupe`](Self::dedupe), [`take`](Self::take), [`take_while`](Self::take_while), [`skip`](Self::skip), [`skip_while`](Self::skip_while), [`sample`](Self::sample) |
/// | [Looking at items](#looking-at-items) | [`tap`](Self::tap), [`inspect_err`](Self::inspect_err), `measure_age` (feature `latency`) |
/// | [Errors and failures](#errors-and-failures) | [`try_map`](Self::try_map), [`lift`](Stream::lift), [`map_err`](Self::map_err), [`on_errors`](Self::on_errors), [`dead_letters`](Self::dead_letters) |
/// | [Parallel work](#parallel-work) | [`async_map`](Self::async_map), [`par_map`](Self::par_map) |
/// | [Batches](#batches) | [`batch`](Self::batch), [`chunk`](Self::chunk) |
/// | [Windows and folds](#windows-and-folds) | [`tumbling_window`](Self::tumbling_window), [`sliding_window`](Self::sliding_window), [`session_window`](Self::session_window), [`fold_by`](Self::fold_by) |
/// | [Rate, time and buffers](#rate-time-and-buffers) | [`throttle`](Self::throttle), [`debounce`](Self::debounce), [`delay`](Self::delay), [`timeout`](Self::timeout), [`monitor`](Self::monitor), [`buffer`](Self::buffer), [`dropping_buffer`](Self::dropping_buffer), [`sliding_buffer`](Self::sliding_buffer) |
/// | [One stream into several](#one-stream-into-several) | [`split`](Self::split), [`partition`](Self::partition), [`fan_out`](Self::fan_out), [`broadcast`](Self::broadcast), [`through_hub`](Self::through_hub), [`group_by`](Self::group_by) |
/// | [Several streams into one](#several-streams-into-one) | [`fan_in`](Self::fan_in), [`merge`](Self::merge), [`chain`](Self::chain), [`zip`](Self::zip), [`interleave`](Self::interleave), [`merge_sorted`](Self::merge_sorted), [`join`](Self::join) |
/// | [Records of a store](#records-of-a-store) | [`deliver`](Self::deliver), [`deliver_to`](Self::deliver_to), [`deliver_through`](Self::deliver_through), [`replay`](Self::replay), [`into_records`](Stream::into_records) |
///
/// # Complete or cut
///
/// A stream whose sources have ended, or were drained, simply ends. One that was cut (cancelled, timed out, or its pipeline
/// dropped) yields one last error of kind [`Cancelled`](crate::ErrorKind::Cancelled), with the [`Cause`] as its source, and
/// then ends. So `for row in stream { let row = row?; .. }` cannot mistake a truncated stream for a complete one.
///
/// # Memory
///
/// At most `capacity` items wait in a stream; while it is full, the stage that feeds it holds one more.
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

/// Says why [`Stream::try_recv`] returned no item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// There is no item now.
    #[error("nothing to receive now")]
    Empty,
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended,
}

/// Says why [`Stream::recv_timeout`] returned no item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvTimeoutError {
    /// No item arrived in time.
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

    /// Calls `react` once the stream has been dropped: see [`Edge::when_gone`](crate::edge::Edge::when_gone).
    pub(super) fn when_gone(&self, react: impl FnOnce() + Send + 'static) {
        if let Some(Input::Edge(edge)) = &self.input {
            edge.shared().when_gone(react);
        }
    }

    pub(crate) fn origins(&self) -> Option<&Arc<Origins>> {
        self.origins.as_ref()
    }
}

/// # Names, scope and processors
impl<T: Send + 'static> Stream<T> {
    /// Names what is built next: the stage, sink or [`Inline`](crate::Inline) piece that reads the stream. Its threads, errors
    /// and reports have that name.
    ///
    /// It takes precedence over the default name of a shorthand and over the name that a processor was configured with.
    /// A processor of several stages uses it for the first. Sources are named by
    /// [`CancelToken::named`](crate::CancelToken::named). A stage with the name of another is numbered: `load`,
    /// `load-2`.
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

    /// Returns the token in whose scope the next stage is started.
    pub fn token(&self) -> &CancelToken {
        &self.token
    }

    /// Narrows the scope of the stages that follow: cancelling `cancel` stops only what is built on this stream from
    /// now on.
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
}

/// # Receiving item by item
///
/// For a consumer that is not a sink: it takes each item itself, or through a channel.
impl<T: Send + 'static> Stream<T> {
    /// Takes the next item, waiting for it. `None` at the end. A stream that was cut ends with an error of kind
    /// [`Cancelled`](crate::ErrorKind::Cancelled).
    pub fn recv(&mut self) -> Option<Result<T>> {
        self.recv_within(Limit::Unlimited).ok()
    }

    /// Takes the next item if there is one now. Never blocks.
    ///
    /// # Errors
    /// If there is no item now, or the stream has ended.
    pub fn try_recv(&mut self) -> Result<Result<T>, TryRecvError> {
        self.poll()
    }

    /// Takes the next item, waiting up to `timeout` by the pipeline's clock. A timeout too large to add never passes.
    ///
    /// # Errors
    /// If no item arrived in time, or the stream has ended.
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
            waiter.spin(&mut || self.input.as_ref().is_none_or(Input::may_have_items) || self.token.is_cancelled());
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
            self.consumer = Some(Consumer::new(self, self.next_name().unwrap_or("recv")));
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
