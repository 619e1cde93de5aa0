//! [`BoxStage`]: a stage whose type is known only at run time.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::start::launch;
use super::steps::Renamed;
use super::{Processor, Stage, Stream};
use crate::pipeline::CancelToken;
use crate::pipeline::name::checked;
use crate::stage::Pass;
use crate::stage::erased::ErasedOperator;

/// Erases the type of a stage except for its input and output; made by [`Processor::boxed_stage`].
///
/// A [`BoxProcessor`](crate::BoxProcessor) has threads of its own. A `BoxStage` can share one with others, so a
/// pipeline that is built at run time, for example from a configuration file, can run its cheap steps on one thread.
///
/// ```
/// use streamz::{BoxStage, Filter, Mapper, Pipeline, Processor, Stream};
///
/// /// One step of a pipeline, as the configuration has it.
/// fn step(config: &str) -> Result<BoxStage<i64, i64>, String> {
///     let (kind, number) =
///         config.split_once(' ').ok_or_else(|| format!("no argument: {config:?}"))?;
///     let number: i64 = number.parse().map_err(|error| format!("{number:?}: {error}"))?;
///     match kind {
///         "add" => Ok(Mapper::new(move |n| n + number).with_name("add").boxed_stage()),
///         "at-least" => {
///             Ok(Filter::new(move |n| *n >= number).with_name("at-least").boxed_stage())
///         }
///         _ => Err(format!("no such step: {kind:?}")),
///     }
/// }
///
/// let config = ["at-least 2", "add 10", "add -1"];
/// let steps = config.into_iter().map(step).collect::<Result<Vec<_>, _>>()?;
/// let pipeline = Pipeline::new("configured");
/// let stream = Stream::from_iter(&pipeline, 0..4).through(&BoxStage::fused("steps", steps));
/// assert_eq!(stream.collect::<Vec<_>>()?, [11, 12]);
///
/// let report = pipeline.join();
/// let steps = &report.stage("steps").unwrap().steps;
/// assert!(steps.iter().map(|step| &*step.name).eq(["at-least", "add", "add"]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Order, errors, back-pressure, cancellation and counts are those of the stage inside. So is the memory bound, and one
/// allocation for each run is added.
///
/// *Cost.* Boxed steps are called through vtables, each guarded against panics: about 25 ns for each step of an item,
/// where steps that are fused by type take about 1 ns each. A thread for each step costs about twice as much processor
/// time, and a queue between every two. If some steps always follow each other, fuse them by type and box the whole.
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("dyn", "dynamic", "erased", "config"))]
pub struct BoxStage<In, Out>(Box<dyn Erased<In, Out>>);

impl<In: Send + 'static, Out: Send + 'static> BoxStage<In, Out> {
    pub(super) fn new(stage: impl Stage<In = In, Out = Out>) -> Self {
        Self(Box::new(stage))
    }
}

impl<T: Send + 'static> BoxStage<T, T> {
    /// Fuses several stages into one, which share a thread; `name` is the name of the whole. With no stages, the result
    /// forwards everything.
    ///
    /// Stages of different types are fused one by one: `first.fuse(second).boxed_stage()`.
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    #[track_caller]
    pub fn fused(name: impl Into<Cow<'static, str>>, stages: impl IntoIterator<Item = Self>) -> Self {
        let name = checked::<Cow<'static, str>>(name);
        let mut stages: Vec<_> = stages.into_iter().collect();
        // As a balanced tree: calls are nested as deep as it is.
        while stages.len() > 1 {
            let mut halves = std::mem::take(&mut stages).into_iter();
            while let Some(first) = halves.next() {
                stages.push(match halves.next() {
                    Some(second) => first.fuse(second).boxed_stage(),
                    None => first,
                });
            }
        }
        let whole = stages.pop().unwrap_or_else(|| PassOn(PhantomData).boxed_stage());
        let mut steps = Vec::new();
        Stage::step_names(&whole, &mut steps);
        Renamed { stage: whole, name: name.into_owned(), steps }.boxed_stage()
    }
}

impl<In: Send + 'static, Out: Send + 'static> Processor for BoxStage<In, Out> {
    type In = In;
    type Out = Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<In>) -> Stream<Out> {
        launch(self, cancel, input)
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

impl<In: Send + 'static, Out: Send + 'static> Stage for BoxStage<In, Out> {
    type Op = ErasedOperator<In, Out>;

    fn start(&self) -> Self::Op {
        self.0.start()
    }

    fn capacity(&self) -> Option<usize> {
        self.0.capacity()
    }

    fn step_names(&self, names: &mut Vec<Arc<str>>) {
        self.0.step_names(names);
    }

    fn discard(self) {
        self.0.discard();
    }
}

impl<In, Out> fmt::Debug for BoxStage<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxStage").field(&self.0.name()).finish()
    }
}

trait Erased<In, Out>: Send + Sync {
    fn name(&self) -> &str;
    fn start(&self) -> ErasedOperator<In, Out>;
    fn capacity(&self) -> Option<usize>;
    fn step_names(&self, names: &mut Vec<Arc<str>>);
    fn discard(self: Box<Self>);
}

impl<S: Stage> Erased<S::In, S::Out> for S {
    fn name(&self) -> &str {
        Processor::name(self)
    }

    fn start(&self) -> ErasedOperator<S::In, S::Out> {
        ErasedOperator::new(Stage::start(self))
    }

    fn capacity(&self) -> Option<usize> {
        Stage::capacity(self)
    }

    fn step_names(&self, names: &mut Vec<Arc<str>>) {
        Stage::step_names(self, names);
    }

    fn discard(self: Box<Self>) {
        Stage::discard(*self);
    }
}

/// The stage without steps.
struct PassOn<T>(PhantomData<fn(T)>);

impl<T: Send + 'static> Processor for PassOn<T> {
    type In = T;
    type Out = T;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<T>) -> Stream<T> {
        launch(self, cancel, input)
    }

    fn name(&self) -> &str {
        "pass"
    }
}

impl<T: Send + 'static> Stage for PassOn<T> {
    type Op = Pass<T>;

    fn start(&self) -> Pass<T> {
        Pass::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::Harness;
    use crate::{BatchConfig, Batcher, ErrorKind, Filter, FlatMap, Flatten, Mapper, StreamError, Take};

    fn fused<T: Send + 'static>(stages: impl IntoIterator<Item = BoxStage<T, T>>) -> BoxStage<T, T> {
        BoxStage::fused("whole", stages)
    }

    #[test]
    fn no_steps_pass_everything_on() {
        let mut run = Harness::new(&fused::<u32>([]));
        run.item(1);
        run.error(StreamError::new(ErrorKind::Failed, "upstream"));
        run.item(2);
        run.end();
        let outputs = run.outputs();
        assert!(matches!(outputs[..], [Ok(1), Err(_), Ok(2)]), "{outputs:?}");
    }

    #[test]
    fn the_stage_has_its_name_and_the_steps_theirs() {
        let steps = ["a", "b", "c"].map(|name| Mapper::new(|n: u32| n).with_name(name).boxed_stage());
        let whole = fused(steps);
        let mut names = Vec::new();
        Stage::step_names(&whole, &mut names);
        assert_eq!(Processor::name(&whole), "whole");
        assert!(names.iter().map(|name| &**name).eq(["a", "b", "c"]), "{names:?}");
        assert_eq!(Stage::capacity(&whole), None);
        assert_eq!(Stage::capacity(&fused([Take::<u32>::new(1).with_capacity(7).boxed_stage()])), Some(7));
    }

    /// Counts of each step, and errors with the step that they happened in.
    #[test]
    fn each_step_is_counted_and_named_in_errors() {
        let odd = || Filter::new(|n: &u32| n % 2 == 1).with_name("odd").boxed_stage();
        let fails = Mapper::fallible(|n: &u32| if *n == 7 { Err("seven") } else { Ok(*n) }).with_name("fails");
        let panics = Mapper::new(|n: u32| if n == 5 { panic!("five") } else { n }).with_name("panics");
        let mut run = Harness::new(&fused([odd(), fails.boxed_stage(), panics.boxed_stage(), odd()]));
        (0..10).for_each(|n| run.item(n));
        run.end();
        let seen: Vec<_> =
            run.outputs().into_iter().map(|out| out.map_err(|error| error.step().map(str::to_owned))).collect();
        let step = |name: &str| Err(Some(name.to_owned()));
        assert_eq!(seen, [Ok(1), Ok(3), step("panics"), step("fails"), Ok(9)]);
        let counts = |step: &crate::StepReport| (step.received, step.delivered, step.filtered, step.failed);
        let counts: Vec<_> = run.steps().iter().map(counts).collect();
        assert_eq!(counts, [(10, 5, 5, 0), (5, 4, 0, 1), (4, 3, 0, 1), (3, 3, 0, 0)]);
    }

    /// Timers, held items, and items emitted in bursts, between boxed steps.
    #[test]
    fn boxed_steps_behave_like_the_steps() {
        let batch = || Batcher::new(BatchConfig { max_size: 4, max_latency: Duration::from_secs(1) });
        let twice = || FlatMap::new(|n: u32| [n, n]);
        let by_type = twice().fuse(batch()).fuse(Flatten::<Vec<u32>>::new()).fuse(Take::new(7));
        let boxed = {
            let head = twice().boxed_stage().fuse(batch().boxed_stage()).boxed_stage();
            head.fuse(Flatten::<Vec<u32>>::new().boxed_stage().fuse(Take::new(7).boxed_stage()).boxed_stage())
        };
        fn outputs<S: Stage<In = u32, Out = u32>>(stage: &S) -> Vec<String> {
            let mut run = Harness::new(stage).with_capacity(3);
            let mut seen = Vec::new();
            for n in 0..5 {
                if !run.is_finished() {
                    run.item(n);
                    seen.push(format!("{:?} {:?}", run.items(), run.steps()));
                    run.advance(Duration::from_secs(2));
                    seen.push(format!("{:?} {:?}", run.items(), run.steps()));
                }
            }
            seen
        }
        assert_eq!(outputs(&boxed), outputs(&by_type));
    }
}
