//! [`Herald`]: the information that a merge sends to the windows downstream about its inputs.
//!
//! # Invariants
//!
//! - The label of its origin is sent before an item, unless it was the last one sent. An item of unknown origin has
//!   none.
//! - An input is idle when it has had nothing, at every check, for as long as the idle timeout. It is active again
//!   before its next item. One that has ended is not idle.
//! - The labels of an input that is a merge itself are translated: it reports the states of its own inputs. When it has
//!   had nothing at all for the idle timeout, they are all idle.
//! - Until labels are requested, it sends nothing but keeps track of the labels it would have to send.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::wait::Wake;
use crate::clock::{Clock, earlier};
use crate::error::StreamError;
use crate::mark::{InputState, Label};
use crate::stage::origins::{Labels, Origins};

pub(super) struct Herald {
    origins: Arc<Origins>,
    clock: Clock,
    /// `None` for never.
    idle_timeout: Option<Duration>,
    /// Of the inputs that have not ended, in their order.
    ways: Vec<Way>,
    /// The state of each origin; for those of a merge, as reported by it.
    states: Vec<InputState>,
    is_asked: bool,
    labels: Labels,
    /// The labels to send before the next item.
    news: VecDeque<Label>,
}

/// The state of one input.
struct Way {
    origins: Range<usize>,
    /// Whether it comes from a merge. If not, the labels that it may carry are not about it: a stage in between has
    /// mixed the origins that they distinguish.
    is_merge: bool,
    /// Of its next item.
    current: Option<usize>,
    /// When it was found empty.
    empty_since: Option<Instant>,
    is_idle: bool,
}

impl Way {
    /// When it will have been empty for the idle timeout.
    fn idle_at(&self, timeout: Option<Duration>) -> Option<Instant> {
        self.empty_since.filter(|_| !self.is_idle)?.checked_add(timeout?)
    }
}

impl Herald {
    pub(super) fn new<'a>(
        inputs: impl IntoIterator<Item = Option<&'a Arc<Origins>>> + Clone,
        clock: Clock,
        idle_timeout: Option<Duration>,
    ) -> Self {
        let origins = Origins::of(inputs.clone(), idle_timeout);
        let mut from = 0;
        let way = |nested: Option<&Arc<Origins>>| {
            let range = from..from + nested.map_or(1, |origins| origins.count());
            from = range.end;
            Way {
                current: nested.is_none().then_some(range.start),
                origins: range,
                is_merge: nested.is_some(),
                empty_since: None,
                is_idle: false,
            }
        };
        let ways = inputs.into_iter().map(way).collect();
        let states = vec![InputState::Active; origins.count()];
        let (labels, news) = (Labels::default(), VecDeque::new());
        Self { origins, clock, idle_timeout, ways, states, is_asked: false, labels, news }
    }

    /// For a merge whose inputs come and go: it sends nothing, and drops the labels that it receives.
    pub(super) fn silent(clock: Clock) -> Self {
        Self::new([], clock, None)
    }

    pub(super) fn origins(&self) -> &Arc<Origins> {
        &self.origins
    }

    /// Whether labels are requested. From the first time it returns true, they are sent.
    pub(super) fn is_asked(&mut self) -> bool {
        if !self.is_asked && self.origins.are_asked_for() {
            self.is_asked = true;
            let states = self.states.iter().enumerate().filter(|(_, state)| **state != InputState::Active);
            self.news = states.map(|(origin, state)| Label::State(origin, *state)).collect();
            for way in self.ways.iter().filter(|way| way.is_idle) {
                let active = way.origins.clone().filter(|origin| self.states[*origin] == InputState::Active);
                self.news.extend(active.map(|origin| Label::State(origin, InputState::Idle)));
            }
        }
        self.is_asked
    }

    /// The labels to send before anything else.
    pub(super) fn next_news(&mut self) -> Option<StreamError> {
        self.news.pop_front().map(|label| self.labels.mark(label))
    }

    /// The input is not read yet, and holds nothing back before [`found_filled`](Self::found_filled).
    pub(super) fn waits_for_its_turn(&mut self, input: usize) {
        self.ways[input].is_idle = true;
    }

    /// For a merge that reads its inputs in a fixed order: the labels to send before `input` is read.
    pub(super) fn say_before(&mut self, input: usize) -> Option<StreamError> {
        if !self.is_asked() {
            return None;
        }
        self.next_news().or_else(|| self.before(input))
    }

    /// The input has something.
    pub(super) fn found_filled(&mut self, input: usize) {
        let way = &mut self.ways[input];
        way.empty_since = None;
        if std::mem::take(&mut way.is_idle) {
            for origin in way.origins.clone().filter(|origin| self.states[*origin] == InputState::Active) {
                self.news.push_back(Label::State(origin, InputState::Active));
            }
        }
    }

    /// The label to send before the next item of the input.
    pub(super) fn before(&mut self, input: usize) -> Option<StreamError> {
        self.labels.before(self.ways[input].current)
    }

    /// The input has nothing.
    pub(super) fn found_empty(&mut self, input: usize) {
        let way = &mut self.ways[input];
        let now = self.clock.now();
        way.empty_since.get_or_insert(now);
        if way.idle_at(self.idle_timeout).is_some_and(|at| at <= now) {
            way.is_idle = true;
            for origin in way.origins.clone().filter(|origin| self.states[*origin] == InputState::Active) {
                self.news.push_back(Label::State(origin, InputState::Idle));
            }
        }
    }

    /// Before the merge parks: see [`Origins::want_to_know`].
    pub(super) fn want_to_know(&self, own: &Arc<Wake>) -> bool {
        !self.is_asked && self.origins.want_to_know(own)
    }

    /// When to check again whether an input has become idle.
    pub(super) fn wake(&self) -> Option<Instant> {
        if !self.is_asked {
            return None;
        }
        self.ways.iter().fold(None, |wake, way| earlier(wake, way.idle_at(self.idle_timeout)))
    }

    pub(super) fn ended(&mut self, input: usize) {
        if self.ways.is_empty() {
            return;
        }
        for origin in self.ways.remove(input).origins {
            self.states[origin] = InputState::Ended;
            if self.is_asked {
                self.news.push_back(Label::State(origin, InputState::Ended));
            }
        }
    }

    /// Handles a mark of the input. Returns the mark to send in its place, if any. A label of an input that comes from
    /// no merge is dropped.
    pub(super) fn translate(&mut self, input: usize, mark: StreamError) -> Option<StreamError> {
        let Some(label) = mark.label() else { return Some(mark.widened()) };
        mark.complete_mark();
        let way = self.ways.get_mut(input).filter(|way| way.is_merge)?;
        match label {
            Label::Follows(origin) => {
                way.current = origin.map(|origin| way.origins.start + origin);
                self.is_asked.then(|| self.labels.before(way.current)).flatten()
            }
            Label::State(origin, state) => {
                let origin = way.origins.start + origin;
                self.states[origin] = state;
                let is_news = self.is_asked && (!way.is_idle || state == InputState::Ended);
                is_news.then(|| self.labels.mark(Label::State(origin, state)))
            }
        }
    }
}
