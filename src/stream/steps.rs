//! [`Steps`]: several cheap steps as one named stage.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Stream;
use super::{Fused, Processor, Stage};
use crate::pipeline::name::checked;
use crate::stage::fuse::FusedOperator;
use crate::stage::{Operator, Pass};

/// Collects the steps of one stage, in the closure of [`Stream::stage`].
///
/// It has the same shorthands as a [`Stream`], but a step added here shares the thread of the others.
#[must_use = "steps are built up to be returned from the closure of `Stream::stage`"]
pub struct Steps<C> {
    chain: C,
    names: StepNames,
}

/// The names of the steps so far, and of the next one.
#[derive(Debug, Default)]
pub(super) struct StepNames {
    names: Vec<Arc<str>>,
    next: Option<Cow<'static, str>>,
}

impl StepNames {
    #[track_caller]
    pub(super) fn name_next(&mut self, name: impl Into<Cow<'static, str>>) {
        self.next = Some(checked(name));
    }

    /// Takes the name that was meant for the next step.
    pub(super) fn take_next(&mut self) -> Option<Cow<'static, str>> {
        self.next.take()
    }

    /// Adds a stage as the next step, or as several if it was fused of several.
    pub(super) fn push(&mut self, stage: &impl Stage) {
        let first = self.names.len();
        stage.step_names(&mut self.names);
        let Some(name) = self.next.take() else { return };
        match &mut self.names[first..] {
            [one] => *one = name.into(),
            several => several.iter_mut().for_each(|step| *step = format!("{name}/{step}").into()),
        }
    }

    pub(super) fn into_names(self) -> Vec<Arc<str>> {
        self.names
    }
}

/// Holds the steps so far of [`Steps`] or of an [`Inline`](crate::Inline) piece: none, or a stage. Sealed.
#[allow(private_bounds)] // seals the trait
pub trait Chain: Links<Takes = <Self as Chain>::In, Makes = <Self as Chain>::Out> {
    /// What goes into the first step.
    type In: Send + 'static;
    /// What comes out of the last step.
    type Out: Send + 'static;
    /// The chain with one more step.
    type With<S: Stage<In = Self::Out>>: Chain<In = Self::In, Out = S::Out>;

    /// Adds a step.
    fn with<S: Stage<In = Self::Out>>(self, step: S) -> Self::With<S>;
}

/// The functions of a chain.
pub(crate) trait Links {
    type Takes: Send + 'static;
    type Makes: Send + 'static;
    /// The operator that a separate thread runs.
    type Op: Operator<In = Self::Takes, Out = Self::Makes>;
    /// The operator that a sink runs: the steps, and the sink itself as the last one.
    type AtEnd: Operator<In = Self::Takes, Out = Self::Makes>;

    fn operator(&self) -> Self::Op;
    fn operator_at_end(&self) -> Self::AtEnd;
    fn capacity(&self) -> Option<usize>;
    fn discard(self);
}

/// Holds no step yet.
#[derive(Debug)]
pub struct NoSteps<T>(PhantomData<fn(T)>);

impl<T> NoSteps<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

/// Holds the steps so far, as one stage.
#[derive(Debug)]
pub struct Only<S>(S);

impl<T: Send + 'static> Chain for NoSteps<T> {
    type In = T;
    type Out = T;
    type With<S: Stage<In = T>> = Only<S>;

    fn with<S: Stage<In = T>>(self, step: S) -> Only<S> {
        Only(step)
    }
}

impl<T: Send + 'static> Links for NoSteps<T> {
    type Takes = T;
    type Makes = T;
    type Op = Pass<T>;
    type AtEnd = Pass<T>;

    fn operator(&self) -> Pass<T> {
        Pass::new()
    }

    fn operator_at_end(&self) -> Pass<T> {
        Pass::new()
    }

    fn capacity(&self) -> Option<usize> {
        None
    }

    fn discard(self) {}
}

impl<A: Stage> Chain for Only<A> {
    type In = A::In;
    type Out = A::Out;
    type With<S: Stage<In = A::Out>> = Only<Fused<A, S>>;

    fn with<S: Stage<In = A::Out>>(self, step: S) -> Only<Fused<A, S>> {
        Only(self.0.fuse(step))
    }
}

impl<A: Stage> Links for Only<A> {
    type Takes = A::In;
    type Makes = A::Out;
    type Op = A::Op;
    type AtEnd = FusedOperator<A::Op, Pass<A::Out>>;

    fn operator(&self) -> A::Op {
        self.0.start()
    }

    fn operator_at_end(&self) -> Self::AtEnd {
        FusedOperator::new(self.0.start(), Pass::new())
    }

    fn capacity(&self) -> Option<usize> {
        self.0.capacity()
    }

    fn discard(self) {
        self.0.discard();
    }
}

impl<C: Chain> Steps<C> {
    /// Adds any single-threaded stage as a step.
    pub fn with<S: Stage<In = C::Out>>(mut self, step: S) -> Steps<C::With<S>> {
        self.names.push(&step);
        Steps { chain: self.chain.with(step), names: self.names }
    }

    /// Names the step that is added next, as [`Stream::named`] names a stage. A stage that is fused of several has the name in
    /// front of theirs. The only step of a stage has the name of the stage.
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    #[track_caller]
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.names.name_next(name);
        self
    }
}

impl<T: Send + 'static> Stream<T> {
    /// Adds one stage of several steps, which share a single thread.
    ///
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("orders");
    /// let totals = Stream::from_iter(&pipeline, [3.0, -1.0, 4.5])
    ///     .stage("clean", |s| s.filter(|total| *total > 0.0).map(|total| total * 2.0))
    ///     .collect::<Vec<_>>()?;
    /// assert_eq!(totals, [6.0, 9.0]);
    /// assert_eq!(pipeline.join().stage("clean").unwrap().threads, 1);
    /// # Ok::<(), streamz::StreamError>(())
    /// ```
    ///
    /// # Panics
    /// If `name` contains a NUL byte, the pipeline has finished, or a step was [named](Steps::named) and not added.
    #[track_caller]
    pub fn stage<S>(self, name: &str, build: impl FnOnce(Steps<NoSteps<T>>) -> Steps<Only<S>>) -> Stream<S::Out>
    where
        S: Stage<In = T>,
    {
        let Steps { chain: Only(stage), mut names } =
            build(Steps { chain: NoSteps::new(), names: StepNames::default() });
        if let Some(unused) = names.take_next() {
            panic!("no step follows `named({unused:?})` in stage `{name}`");
        }
        let token = self.token().clone();
        let stage = Renamed { stage, name: name.to_owned(), steps: names.into_names() };
        let output = stage.process(&token, self);
        stage.stage.discard();
        output
    }
}

/// A stage under another name, with the names of its steps.
pub(super) struct Renamed<S> {
    pub(super) stage: S,
    pub(super) name: String,
    pub(super) steps: Vec<Arc<str>>,
}

impl<S: Stage> Processor for Renamed<S> {
    type In = S::In;
    type Out = S::Out;

    #[track_caller]
    fn process(&self, cancel: &crate::CancelToken, input: Stream<S::In>) -> Stream<S::Out> {
        super::start::launch(self, cancel, input)
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl<S: Stage> Stage for Renamed<S> {
    type Op = S::Op;

    fn start(&self) -> S::Op {
        self.stage.start()
    }

    fn capacity(&self) -> Option<usize> {
        self.stage.capacity()
    }

    fn step_names(&self, names: &mut Vec<Arc<str>>) {
        names.extend_from_slice(&self.steps);
    }
}

impl<C> fmt::Debug for Steps<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}
