//! How an operator is registered.

use std::any::type_name;
use std::time::Duration;

use streamz::{BoxProcessor, CancelToken, Processor};

use crate::common::faults::Faults;
use crate::common::item::Item;
use crate::common::seen::Seen;
use crate::rig::{self, Event};

/// What the user's closure of an operator under test is to do.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// The items on which it fails or panics.
    pub faults: Faults,
    /// It waits for the time to pass, which it does not.
    pub asleep: bool,
}

impl Site {
    /// For closures that are given a token: waits if it is told to, forever unless it is cancelled.
    pub fn wait(&self, cancel: &CancelToken) {
        if self.asleep {
            let _ = cancel.sleep(Duration::from_secs(1_000_000));
        }
    }
}

/// Whether an operator calls a closure of the user's on items, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closure {
    None,
    /// It can panic.
    Panics,
    /// It can panic and fail.
    Fails,
}

/// How to make what an operator takes of an item, and how to look at what it makes.
pub type Ends<In, Out> = (fn(Item) -> In, fn(&Out) -> Seen);

/// An operator under test, from `In` to `Out`.
///
/// What it does is foretold by `model`, a plain function from the whole input to the whole output.
pub struct Subject<In: Send + 'static, Out: Send + 'static> {
    /// The name of its cases.
    pub name: &'static str,
    /// The public names that are covered by it.
    pub covers: &'static [&'static str],
    pub build: Box<dyn Fn(Site) -> BoxProcessor<In, Out> + Send + Sync>,
    /// Makes what it takes of an item.
    pub wrap: fn(Item) -> In,
    /// Looks at what it makes.
    pub seen: fn(&Out) -> Seen,
    pub model: fn(&[Seen], Faults) -> Vec<Seen>,
    pub closure: Closure,
    /// How many items may be put in so that all of them are held, waiting for the time to pass.
    pub holds: Option<u64>,
    /// Its closure can wait for the time to pass.
    pub sleeps: bool,
    /// It keeps the order of its input.
    pub ordered: bool,
    /// It may end before its input does.
    pub ends_early: bool,
    /// An endless input of nothing but items need not make it say anything, or wait for room: there are errors in between.
    pub errors_between: bool,
    /// It may drop items while its output is not read.
    pub sheds: bool,
    /// There may be several items in one value, of the user's or of the operator's output. If two of them panic when that is
    /// dropped, the process ends, as in any program.
    pub groups: bool,
    /// One of its outputs has been dropped: what was meant for that is never acknowledged.
    pub unread: bool,
    /// Copies of an item may be processed after it is done, so a record may be acknowledged before they are gone.
    pub copies: bool,
    /// How many items may wait in its output, if the pipeline's capacity is so much.
    pub room: fn(usize) -> usize,
}

impl<In: Send + 'static, Out: Send + 'static> Subject<In, Out> {
    pub fn new<P: Processor<In = In, Out = Out>>(
        name: &'static str,
        covers: &'static [&'static str],
        (wrap, seen): Ends<In, Out>,
        build: impl Fn(Site) -> P + Send + Sync + 'static,
        model: fn(&[Seen], Faults) -> Vec<Seen>,
    ) -> Self {
        Self {
            name,
            covers,
            build: Box::new(move |site| build(site).boxed()),
            wrap,
            seen,
            model,
            closure: Closure::None,
            holds: None,
            sleeps: false,
            ordered: true,
            ends_early: false,
            errors_between: false,
            sheds: false,
            groups: [type_name::<In>(), type_name::<Out>()].into_iter().any(holds_several),
            unread: false,
            copies: false,
            room: |capacity| capacity,
        }
    }

    pub fn unread(mut self) -> Self {
        self.unread = true;
        self
    }

    pub fn copies(mut self) -> Self {
        self.copies = true;
        self
    }

    pub fn closure(mut self, closure: Closure) -> Self {
        self.closure = closure;
        self
    }

    pub fn holds(mut self, items: u64) -> Self {
        self.holds = Some(items);
        self
    }

    pub fn sleeps(mut self) -> Self {
        self.sleeps = true;
        self
    }

    pub fn unordered(mut self) -> Self {
        self.ordered = false;
        self
    }

    pub fn ends_early(mut self) -> Self {
        self.ends_early = true;
        self
    }

    pub fn errors_between(mut self) -> Self {
        self.errors_between = true;
        self
    }

    pub fn sheds(mut self) -> Self {
        self.sheds = true;
        self.errors_between()
    }

    pub fn groups(mut self) -> Self {
        self.groups = true;
        self
    }

    /// What comes at place `n` of an endless input.
    pub fn endless(&self, n: u64) -> Event {
        if self.errors_between { rig::event_between_errors(n) } else { Event::Item(n) }
    }

    pub fn room(mut self, room: fn(usize) -> usize) -> Self {
        self.room = room;
        self
    }

    pub fn processor(&self, site: &Site) -> BoxProcessor<In, Out> {
        (self.build)(*site)
    }

    /// Fails unless `seen` is what the model foretells for `input`.
    #[track_caller]
    pub fn compare(&self, input: &[Seen], faults: Faults, mut seen: Vec<Seen>) {
        let mut expected = (self.model)(input, faults);
        if !self.ordered {
            expected.sort();
            seen.sort();
        }
        assert_eq!(seen, expected, "(left: what came out, right: what should)");
    }

    /// The same where it may have dropped items: what came out is part of that, in order, and all that are no items are
    /// there.
    #[track_caller]
    pub fn compare_what_was_kept(&self, input: &[Seen], seen: Vec<Seen>) {
        if !self.sheds {
            return self.compare(input, Faults::None, seen);
        }
        let expected = (self.model)(input, Faults::None);
        let mut kept = seen.iter().peekable();
        let is_item = |seen: &Seen| matches!(seen, Seen::Value(_));
        let lost: Vec<&Seen> = expected.iter().filter(|seen| kept.next_if_eq(seen).is_none()).collect();
        assert_eq!(kept.next(), None, "did not come in, or not in this place");
        assert!(lost.into_iter().all(is_item), "an error was dropped");
    }
}

/// Whether a type may hold several items, by its name.
fn holds_several(name: &str) -> bool {
    ["Vec<", "Window<"].iter().any(|container| name.contains(container)) && name.contains("Item")
}
