//! [`Inline`]: a part of a pipeline that has no thread of its own yet.

use std::borrow::Cow;
use std::fmt;
use std::io::BufRead;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Stream;
use super::origin::{FromLine, IntoLineReader, Iter, Line, LineReader, Lines, Site};
use super::start::{Registered, spawn_driver};
use super::steps::StepNames;
use super::{Chain, NoSteps, Stage};
use crate::pipeline::CancelToken;
use crate::pipeline::stats::StageKind;
use crate::stage::input::{Feed, Input};
use crate::stage::reader::{Reader, Running};
use crate::stage::thread::StageThread;

/// Runs steps on the thread of their consumer, which saves a hop between threads where the steps would cost less than
/// the hop.
///
/// A piece begins with a stream ([`Stream::inline`]) or with a source ([`Inline::from_iter`], [`Inline::lines`]). Then
/// come steps, by the same shorthands as those of a stream, or [`with`](Self::with) any single-threaded stage. It ends
/// in a sink, which runs all of it on the calling thread, or in [`spawn`](Self::spawn), which gives it a thread.
/// Nothing runs before that. One sink has several threads, which take turns at the source:
/// [`par_fold`](Self::par_fold), for a piece without steps.
///
/// So the first steps of a pipeline can share the thread of its source, the last ones the thread of its sink, and a
/// whole pipeline of cheap steps can be one loop:
///
/// ```
/// use streamz::{Inline, Pipeline};
///
/// let pipeline = Pipeline::new("sum");
/// let sum = Inline::from_iter(&pipeline, 1..=10u64)
///     .filter(|n| n % 2 == 0)
///     .map(|n| n * n)
///     .fold(0, |sum, n| sum + n)?;
/// assert_eq!(sum, 220);
///
/// // Two threads: one reads and parses, this one sums up.
/// let log = "3 a\n4 b\n";
/// let counts = Inline::lines(&pipeline, log.as_bytes())
///     .try_map(|line: &String| line[..1].parse::<u64>())
///     .spawn("parse");
/// assert_eq!(counts.inline().map(|n| n + 1).collect::<Vec<_>>()?, [4, 5]);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// Everything else is as for a stage of its own: errors stay in order, a panic in a step fails only its item, each step
/// has its own counts, and cancellation stops the piece between two items. A panic in the closure of a sink propagates
/// to the caller.
///
/// # Back-pressure
/// A step may wait through this library. While it blocks in something else (a lock, a socket, another library's
/// channel), results of earlier items may not have been handed over yet, and upstream stages may not know about the
/// room in the input. So it must not wait there for what other stages do with either. A source of this piece has the
/// same limit: give a source that blocks a thread of its own.
#[must_use = "nothing runs until the piece is given to an end or a thread"]
#[doc(alias("fuse_with_source"))]
pub struct Inline<O, C> {
    origin: O,
    chain: C,
    steps: StepNames,
    /// Of the whole.
    name: Option<Cow<'static, str>>,
}

/// Provides the input of an [`Inline`] piece: a [`Stream`], or a source. Sealed.
#[allow(private_bounds)] // seals the trait
pub trait Origin: Open<Made = <Self as Origin>::Item> {
    /// What comes out of it.
    type Item: Send + 'static;
}

/// The functions of an origin.
pub(crate) trait Open {
    type Made: Send + 'static;
    type Feed: Feed<Item = Self::Made> + Send + 'static;

    /// Registers the stage that reads it, and returns the input of that stage.
    #[track_caller]
    fn open(self, name: &str, kind: StageKind, steps: &[Arc<str>]) -> (Registered, Self::Feed);

    /// The same for a sink with that many threads.
    #[track_caller]
    fn open_shared(self, name: &str, workers: usize) -> (Registered, Self::Feed);
}

/// Starts an [`Inline`] piece with the items of an iterator.
pub struct FromIter<I> {
    items: I,
    token: CancelToken,
}

/// Starts an [`Inline`] piece with the lines of a reader.
pub struct FromLines<R, T = String> {
    reader: LineReader<R>,
    token: CancelToken,
    item: PhantomData<fn() -> T>,
}

impl<T: Send + 'static> Origin for Stream<T> {
    type Item = T;
}

impl<T: Send + 'static> Open for Stream<T> {
    type Made = T;
    type Feed = Input<T>;

    #[track_caller]
    fn open(self, name: &str, kind: StageKind, steps: &[Arc<str>]) -> (Registered, Input<T>) {
        let registered = match kind {
            StageKind::Sink => Registered::reader(&self, name, kind, steps),
            _ => Registered::with_input(&self.token, &self, name, kind, steps, 1),
        };
        (registered, self.into_input())
    }

    #[track_caller]
    fn open_shared(self, name: &str, workers: usize) -> (Registered, Input<T>) {
        let registered = Registered::with_input(&self.token, &self, name, StageKind::Sink, &[], workers);
        (registered, self.into_input())
    }
}

impl<I: Iterator> FromIter<I> {
    #[track_caller]
    fn source(self) -> (Registered, Iter<I>) {
        let source = Registered::source(&self.token, "source", 0);
        let feed = Iter::new(self.items, Site::new(&source, true));
        (source, feed)
    }
}

impl<I> Origin for FromIter<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send + 'static,
{
    type Item = I::Item;
}

impl<I> Open for FromIter<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send + 'static,
{
    type Made = I::Item;
    type Feed = Iter<I>;

    #[track_caller]
    fn open(self, name: &str, kind: StageKind, steps: &[Arc<str>]) -> (Registered, Iter<I>) {
        let (source, feed) = self.source();
        (source.read_by(name, kind, steps, 1), feed)
    }

    #[track_caller]
    fn open_shared(self, name: &str, workers: usize) -> (Registered, Iter<I>) {
        let (source, feed) = self.source();
        (source.read_by(name, StageKind::Sink, &[], workers), feed)
    }
}

impl<R: BufRead + Send + 'static, T: FromLine> FromLines<R, T> {
    #[track_caller]
    fn source(self) -> (Registered, Lines<R, T>) {
        let source = Registered::source(&self.token, "lines", 0);
        let feed = Lines::new(self.reader, Site::new(&source, true));
        (source, feed)
    }
}

impl<R: BufRead + Send + 'static, T: FromLine> Origin for FromLines<R, T> {
    type Item = T;
}

impl<R: BufRead + Send + 'static, T: FromLine> Open for FromLines<R, T> {
    type Made = T;
    type Feed = Lines<R, T>;

    #[track_caller]
    fn open(self, name: &str, kind: StageKind, steps: &[Arc<str>]) -> (Registered, Lines<R, T>) {
        let (source, feed) = self.source();
        (source.read_by(name, kind, steps, 1), feed)
    }

    #[track_caller]
    fn open_shared(self, name: &str, workers: usize) -> (Registered, Lines<R, T>) {
        let (source, feed) = self.source();
        (source.read_by(name, StageKind::Sink, &[], workers), feed)
    }
}

/// # Sharing a thread
///
/// Cheap steps that run on one thread, without queues between them.
impl<T: Send + 'static> Stream<T> {
    /// Runs the following steps on the thread of the sink, or of the stage that they become: an [`Inline`] piece. It
    /// has the [name](Self::named) that the stream was given.
    pub fn inline(self) -> Inline<Self, NoSteps<T>> {
        let mut origin = self;
        let name = origin.take_name();
        Inline { origin, chain: NoSteps::new(), steps: StepNames::default(), name }
    }
}

impl<I> Inline<FromIter<I>, NoSteps<I::Item>>
where
    I: Iterator + Send + 'static,
    I::Item: Send + 'static,
{
    /// Starts with the items of an iterator; otherwise as [`Stream::from_iter`]. If the first step has state for many keys, a
    /// quick iterator that knows its length may be up to 16 items ahead of it.
    pub fn from_iter(cancel: &CancelToken, items: impl IntoIterator<IntoIter = I, Item = I::Item>) -> Self {
        let origin = FromIter { items: items.into_iter(), token: cancel.clone() };
        Inline { origin, chain: NoSteps::new(), steps: StepNames::default(), name: None }
    }
}

impl<R: BufRead + Send + 'static> Inline<FromLines<R>, NoSteps<String>> {
    /// Starts with the lines of a reader; otherwise as [`Stream::lines`].
    pub fn lines(cancel: &CancelToken, reader: impl IntoLineReader<Reader = R>) -> Self {
        Self::from_lines(cancel, reader)
    }
}

impl<R: BufRead + Send + 'static> Inline<FromLines<R, Line>, NoSteps<Line>> {
    /// Starts with the lines of a reader; otherwise as [`Stream::byte_lines`].
    pub fn byte_lines(cancel: &CancelToken, reader: impl IntoLineReader<Reader = R>) -> Self {
        Self::from_lines(cancel, reader)
    }
}

impl<R: BufRead + Send + 'static, T: FromLine> Inline<FromLines<R, T>, NoSteps<T>> {
    fn from_lines(cancel: &CancelToken, reader: impl IntoLineReader<Reader = R>) -> Self {
        let origin = FromLines { reader: reader.into_line_reader(), token: cancel.clone(), item: PhantomData };
        Inline { origin, chain: NoSteps::new(), steps: StepNames::default(), name: None }
    }
}

impl<O: Origin, C: Chain<In = O::Item>> Inline<O, C> {
    /// Adds any single-threaded stage as a step.
    pub fn with<S: Stage<In = C::Out>>(mut self, step: S) -> Inline<O, C::With<S>> {
        self.steps.push(&step);
        Inline { origin: self.origin, chain: self.chain.with(step), steps: self.steps, name: self.name }
    }

    /// Names what is built next: a step, or the sink, and with the sink the whole unless [`Stream::inline`] has given it a
    /// name. The source of a piece is named by [`CancelToken::named`].
    ///
    /// ```
    /// use streamz::{Inline, Pipeline};
    ///
    /// let (sum, report) = Pipeline::run("sum", |pipeline| {
    ///     Inline::from_iter(&pipeline.named("numbers"), 0..9)
    ///         .named("odd")
    ///         .filter(|n| n % 2 == 1)
    ///         .named("sum")
    ///         .fold(0, |a, b| a + b)
    /// });
    /// assert_eq!(sum?, 16);
    /// assert_eq!(
    ///     report.stages.iter().map(|stage| &*stage.name).collect::<Vec<_>>(),
    ///     ["numbers", "sum"]
    /// );
    /// assert_eq!(&*report.stage("sum").unwrap().steps[0].name, "odd");
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    #[track_caller]
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.steps.name_next(name);
        self
    }

    /// Gives the piece a thread of its own: a stage called `name`, unless it was [named](Stream::named) before.
    ///
    /// # Panics
    /// If `name` contains a NUL byte or the pipeline has finished; for a source, if its token belongs to no pipeline.
    #[track_caller]
    pub fn spawn(mut self, name: &str) -> Stream<C::Out> {
        let own = self.steps.take_next();
        let name = self.name.as_deref().or(own.as_deref()).unwrap_or(name);
        let (registered, feed) = self.origin.open(name, StageKind::Processor, &self.steps.into_names());
        let capacity = self.chain.capacity();
        let operator = self.chain.operator();
        self.chain.discard();
        spawn_driver(registered, capacity, operator, feed)
    }

    /// Opens it for a sink with that many threads, which runs no steps.
    #[track_caller]
    pub(crate) fn open_shared(mut self, name: &str, workers: usize) -> (Registered, O::Feed) {
        let own = self.steps.take_next();
        let name = self.name.as_deref().or(own.as_deref()).unwrap_or(name);
        let opened = self.origin.open_shared(name, workers);
        self.chain.discard();
        opened
    }

    /// Reads its output on the calling thread, to the end.
    #[track_caller]
    pub(super) fn read(mut self, name: &str) -> Running<C::AtEnd, O::Feed> {
        let own = self.steps.take_next();
        let name = self.name.as_deref().or(own.as_deref()).unwrap_or(name);
        let mut steps = self.steps.into_names();
        steps.push(own.as_deref().unwrap_or(name).into());
        let (mut registered, feed) = self.origin.open(name, StageKind::Sink, &steps);
        let mut operator = self.chain.operator_at_end();
        registered.attach(&mut operator);
        let context = registered.context();
        let thread = StageThread::visiting(registered.token, registered.stats, 0);
        self.chain.discard();
        Running::new(Reader::new(operator, feed, context, thread))
    }
}

impl<O, C> fmt::Debug for Inline<O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inline").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<I> fmt::Debug for FromIter<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromIter").finish_non_exhaustive()
    }
}

impl<R, T> fmt::Debug for FromLines<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromLines").finish_non_exhaustive()
    }
}
