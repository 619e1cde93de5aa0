//! [`Router`]: sends each item to the routes that it matches.

use std::fmt;
use std::sync::Arc;

use super::counts::Runs;
use super::distribute::{Plan, Rule, Ways, distribute};
use super::fan_in::{IDLE_TIMEOUT, merge};
use super::stats::RouteStats;
use crate::error::{ErrorKind, PanicMessage};
use crate::operators::options::{Options, common_options};
use crate::panic::{self, Held};
use crate::pipeline::CancelToken;
use crate::stream::Stream;
use crate::stream::{BoxProcessor, Processor};

/// Sends each item to the processor whose route it matches.
///
/// A route has a name, a predicate, and a processor of any kind: a mapper, a batcher, a pool, several in a row, a
/// [boxed](Processor::boxed) one. All of them have the same output type, which may differ from the input type.
///
/// The routes are tried in the order in which they were added. An item goes to the first that matches, or with
/// [`all_matches`](Self::all_matches) to each. An item that matches none goes to the [default](Self::with_default)
/// route; without one it is dropped, and counted as unmatched in [`stats`](Self::stats) and in the report.
///
/// As a [`Processor`], the router merges the outputs of its routes; [`process_to_routes`](Self::process_to_routes)
/// returns a stream for each. Error items go only to the default route, or to the first if there is none. If a
/// predicate panics, its item goes there too, in an error item.
///
/// ```
/// use streamz::{Mapper, Pipeline, Router, Stream};
///
/// let pipeline = Pipeline::new("orders");
/// let router = Router::new()
///     .add_route(
///         "large",
///         |total| *total >= 100,
///         Mapper::new(|total: u32| format!("{total} by hand")),
///     )
///     .with_default(Mapper::new(|total: u32| format!("{total} by machine")));
/// let mut handled =
///     Stream::from_iter(&pipeline, [20, 150]).through(&router).collect::<Vec<_>>()?;
/// handled.sort();
/// assert_eq!(handled, ["150 by hand", "20 by machine"]);
/// assert_eq!(router.stats().match_rate("large"), 0.5);
/// # Ok::<(), streamz::StreamError>(())
/// ```
///
/// # Ordering
/// Each route receives its items in order, and the output of one route keeps its order. Between routes, no order is
/// kept.
///
/// # Back-pressure
/// A full route holds up the router, and so all routes; [`stats`](Self::stats) and the report name it. Give routes of
/// different speeds a larger [buffer](Self::with_buffer_size). A route that has ended, because its processor takes no
/// more or its stream was dropped, blocks nothing: its items are counted as undeliverable. If it is the route of the
/// errors, they go to the next. When all routes have ended, the router stops.
///
/// # Cancellation
/// All routes are cut, and so is the merged output.
///
/// # Memory
/// Each route holds up to its [buffer size](Self::with_buffer_size) of items, in addition to the items that its processor
/// holds; if merged, plus the [capacity](Self::with_capacity).
#[must_use = "a processor does nothing until it is given a stream"]
#[doc(alias("content_based_router", "demux", "dispatch"))]
pub struct Router<In, Out> {
    pub(super) options: Options,
    pub(super) buffer: Option<usize>,
    pub(super) capacity: Option<usize>,
    pub(super) routes: Vec<Route<In, Out>>,
    default: Option<BoxProcessor<In, Out>>,
    /// How to copy an item, if all matches receive it.
    copy: Option<fn(&In) -> In>,
    runs: Runs,
}

pub(super) struct Route<In, Out> {
    name: Arc<str>,
    predicate: Predicate<In>,
    processor: BoxProcessor<In, Out>,
}

type Predicate<In> = Arc<dyn Fn(&In) -> bool + Send + Sync>;

/// The name of the route that [`Router::with_default`] creates.
const DEFAULT: &str = "default";

/// Holds a stream for each route of a [`Router`].
#[must_use = "dropping all routes stops what feeds them"]
pub struct RouterOutput<Out> {
    routes: Vec<(Arc<str>, Option<Stream<Out>>)>,
    /// Live statistics of this run.
    pub stats: RouteStats,
}

impl<Out: Send + 'static> RouterOutput<Out> {
    /// Takes the stream of a route; the default route is named `default`.
    ///
    /// Streams that are not taken are dropped with the output. All that are kept must be read together.
    ///
    /// # Panics
    /// If there is no route of that name, or its stream has been taken already.
    #[track_caller]
    pub fn take(&mut self, name: &str) -> Stream<Out> {
        let Some((_, stream)) = self.routes.iter_mut().find(|(route, _)| **route == *name) else {
            let known: Vec<&str> = self.names().collect();
            panic!("there is no route `{name}`; the routes are {known:?}");
        };
        stream.take().unwrap_or_else(|| panic!("route `{name}` has been taken already"))
    }

    /// Returns the names of the routes, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(|(name, _)| &**name)
    }
}

/// The routes that have not been taken, with their names.
impl<Out: Send + 'static> IntoIterator for RouterOutput<Out> {
    type Item = (Arc<str>, Stream<Out>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        let left = self.routes.into_iter().filter_map(|(name, stream)| Some((name, stream?)));
        left.collect::<Vec<_>>().into_iter()
    }
}

impl<Out> fmt::Debug for RouterOutput<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterOutput").field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl<In: Send + 'static, Out: Send + 'static> Router<In, Out> {
    /// Creates a router without routes, which sends each item to the first route that matches. Default name: `router`.
    #[allow(clippy::new_without_default)] // `default` would not say what of
    pub fn new() -> Self {
        Self::named("router")
    }

    pub(super) fn named(name: &'static str) -> Self {
        Self {
            options: Options::new(name),
            buffer: None,
            capacity: None,
            routes: Vec::new(),
            default: None,
            copy: None,
            runs: Runs::default(),
        }
    }

    common_options! {
        with_name: options.name,
        /// Sets how many items may wait in each route for a slow consumer. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity); with 0, every item is handed over directly.
        with_buffer_size(items): buffer,
        /// Sets how many items may wait in the merged output for a slow consumer. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity); with 0, every item is handed over directly.
        with_capacity(items): capacity,
    }

    /// Adds a route: items for which `predicate` is true go to `processor`.
    ///
    /// # Panics
    /// If there is a route of that name, or it is `default`, which is the name of the [default](Self::with_default) route.
    #[track_caller]
    pub fn add_route<P>(
        mut self,
        name: impl Into<Arc<str>>,
        predicate: impl Fn(&In) -> bool + Send + Sync + 'static,
        processor: P,
    ) -> Self
    where
        P: Processor<In = In, Out = Out>,
    {
        let name = name.into();
        assert!(&*name != DEFAULT, "the route name `{DEFAULT}` is kept for `with_default`");
        assert!(self.routes.iter().all(|route| route.name != name), "there is a route `{name}` already");
        self.routes.push(Route { name, predicate: Arc::new(predicate), processor: processor.boxed() });
        self
    }

    /// Sets the processor for items that match no route, and for errors. Defaults to none: such items are dropped and
    /// counted, and errors go to the first route. A second call replaces the first.
    pub fn with_default<P: Processor<In = In, Out = Out>>(mut self, processor: P) -> Self {
        self.default = Some(processor.boxed());
        self
    }

    /// Sends each item to all routes that match. Clones it once for each match after the first.
    pub fn all_matches(mut self) -> Self
    where
        In: Clone,
    {
        self.copy = Some(In::clone);
        self
    }

    /// Sends each item to the first route that matches. This is the default; it undoes
    /// [`all_matches`](Self::all_matches).
    pub fn first_match(mut self) -> Self {
        self.copy = None;
        self
    }

    /// Returns the names of the routes, in order, the default last.
    fn names(&self) -> Vec<Arc<str>> {
        let names = self.routes.iter().map(|route| Arc::clone(&route.name));
        names.chain(self.default.iter().map(|_| DEFAULT.into())).collect()
    }

    /// Returns live statistics, across all runs.
    pub fn stats(&self) -> RouteStats {
        RouteStats::new(self.names(), self.runs.clone())
    }

    /// Starts a run with a stream for each route.
    ///
    /// # Panics
    /// If there is no route and no default, or `cancel` belongs to no pipeline, to one that has finished, or to another one
    /// than `input`.
    #[track_caller]
    pub fn process_to_routes(&self, cancel: &CancelToken, input: Stream<In>) -> RouterOutput<Out> {
        let (cancel, input) = input.enter(cancel);
        let names = self.names();
        assert!(!names.is_empty(), "`{}` needs at least one route", self.options.name);
        let (options, runs) = (&self.options, &self.runs);
        let errors = if self.default.is_some() { self.routes.len() } else { 0 };
        let plan = Plan { options, names: &names, errors, buffer: self.buffer, runs };
        let rule = Table {
            predicates: self.routes.iter().map(|route| Arc::clone(&route.predicate)).collect::<Vec<_>>().into(),
            default: self.default.as_ref().map(|_| self.routes.len()),
            copy: self.copy,
            matches: Vec::new(),
        };
        let (streams, counts) = distribute(&plan, &cancel, input, rule);
        let processors = self.routes.iter().map(|route| &route.processor).chain(&self.default);
        let routes = streams.into_iter().zip(processors).map(|(stream, processor)| processor.process(&cancel, stream));
        let routes = names.iter().map(Arc::clone).zip(routes.map(Some)).collect();
        RouterOutput { routes, stats: RouteStats::new(names, Runs::of(&counts)) }
    }

    /// Starts a run that merges the outputs of the routes; the same as [`Processor::process`].
    ///
    /// # Panics
    /// As [`process_to_routes`](Self::process_to_routes).
    #[track_caller]
    pub fn process_to_single(&self, cancel: &CancelToken, input: Stream<In>) -> Stream<Out> {
        let (cancel, input) = input.enter(cancel);
        let streams = self.process_to_routes(&cancel, input).into_iter().map(|(_, stream)| stream).collect();
        merge(&cancel, streams, &format!("{}-merge", self.options.name), self.capacity, Some(IDLE_TIMEOUT))
    }
}

impl<In: Send + 'static, Out: Send + 'static> Processor for Router<In, Out> {
    type In = In;
    type Out = Out;

    #[track_caller]
    fn process(&self, cancel: &CancelToken, input: Stream<In>) -> Stream<Out> {
        self.process_to_single(cancel, input)
    }

    fn name(&self) -> &str {
        &self.options.name
    }
}

struct Table<In> {
    predicates: Held<Vec<Predicate<In>>>,
    default: Option<usize>,
    copy: Option<fn(&In) -> In>,
    /// The matches of the current item.
    matches: Vec<usize>,
}

impl<In: Send + 'static> Rule<In> for Table<In> {
    #[inline]
    fn item(&mut self, item: In, ways: &mut Ways<'_, In>) {
        let Self { predicates, default, copy, matches } = self;
        let mut all = predicates.iter().enumerate();
        let found = panic::catch(|| match copy {
            None => Ok(all.find(|(_, predicate)| predicate(&item)).map(|(index, _)| index)),
            Some(copy) => {
                matches.clear();
                matches.extend(all.filter(|(_, predicate)| predicate(&item)).map(|(index, _)| index));
                if matches.is_empty() { Ok(None) } else { Err(*copy) }
            }
        });
        match found {
            Ok(Ok(index)) => match index.or(*default) {
                Some(index) => ways.send(index, item),
                None => ways.unmatched(item),
            },
            Ok(Err(copy)) => ways.send_copies(matches, item, copy),
            Err(payload) => ways.fail(ErrorKind::Panicked, PanicMessage::from(payload), item),
        }
    }
}

impl<In, Out> fmt::Debug for Router<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes: Vec<&str> = self.routes.iter().map(|route| &*route.name).collect();
        f.debug_struct("Router")
            .field("options", &self.options)
            .field("buffer", &self.buffer)
            .field("routes", &routes)
            .field("has_default", &self.default.is_some())
            .finish_non_exhaustive()
    }
}
