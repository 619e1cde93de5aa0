//! [`Origins`]: which input of a merge an item comes from, for event-time windows downstream of the merge.
//!
//! # Invariants
//!
//! 1. A stream that has [`Origins`] carries the labels of the merge they belong to, and of no other. Everything between
//!    two [`Label::Follows`] was made of items of the input that the first of them names.
//! 2. So a stage forwards them only if it keeps that apart: items it makes of an item do not change places with a mark.
//!    All other stages forward none, and a window downstream of them uses what it sees, without labels.
//! 3. A merge of merged streams tells all their inputs apart, and it is the only one that does: it receives their
//!    labels and sends its own.
//! 4. Labels are sent only if they are requested, which happens when a window is built. Items sent before, and items
//!    after `Follows(None)`, come from an unknown input: they must not move the watermark of any.
//! 5. At most [`MOST`] labels of a merge are in flight, apart from those that report the state of an input. While there
//!    are more, the origin of subsequent items is unknown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::wait::Wake;
use crate::error::StreamError;
use crate::mark::{Epoch, InputState, Label, Mark};

/// The maximum number of labels of a merge in flight.
const MOST: usize = 1024;

/// The inputs of a merge, told apart down to those of the merges before it.
#[allow(unnameable_types, reason = "the argument of a hidden method")]
pub struct Origins {
    /// For each of them, how long it may have nothing before it is idle.
    idle_timeouts: Vec<Option<Duration>>,
    /// A window requests labels. Set under the lock of `wake`; a reader without the lock may see it some time later.
    asked: AtomicBool,
    /// The wake of the merge's thread, once it has waited.
    wake: Mutex<Option<Arc<Wake>>>,
    /// Those of its inputs that are merges themselves.
    nested: Vec<Arc<Origins>>,
}

impl Origins {
    /// The idle timeout applies to the inputs that are not merges themselves.
    pub(crate) fn of<'a>(
        inputs: impl IntoIterator<Item = Option<&'a Arc<Origins>>>,
        idle_timeout: Option<Duration>,
    ) -> Arc<Self> {
        let (mut idle_timeouts, mut nested) = (Vec::new(), Vec::new());
        for input in inputs {
            match input {
                Some(origins) => idle_timeouts.extend_from_slice(&origins.idle_timeouts),
                None => idle_timeouts.push(idle_timeout),
            }
            nested.extend(input.cloned());
        }
        Arc::new(Self { idle_timeouts, asked: AtomicBool::new(false), wake: Mutex::default(), nested })
    }

    /// The number of inputs. They are numbered from 0.
    pub(crate) fn count(&self) -> usize {
        self.idle_timeouts.len()
    }

    pub(crate) fn idle_timeouts(&self) -> &[Option<Duration>] {
        &self.idle_timeouts
    }

    /// Requests labels.
    pub(crate) fn ask(&self) {
        let wake = self.wake.lock();
        self.asked.store(true, Ordering::Relaxed);
        let wake = wake.clone();
        // A merge that has nothing to do starts to measure how long its inputs have been idle.
        wake.inspect(|wake| wake.post());
        self.nested.iter().for_each(|origins| origins.ask());
    }

    /// Called before the merge parks, so that it is woken when labels are requested. Returns true if they have been.
    pub(crate) fn want_to_know(&self, own: &Arc<Wake>) -> bool {
        let mut wake = self.wake.lock();
        if wake.is_none() {
            *wake = Some(Arc::clone(own));
        }
        self.are_asked_for()
    }

    pub(crate) fn are_asked_for(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Puts labels into marks, and counts those in flight.
#[derive(Default)]
pub(crate) struct Labels {
    /// Each of them has a clone.
    alive: Arc<()>,
    is_saturated: bool,
    last: Option<usize>,
}

impl Labels {
    /// The mark to send before something of this origin, unless the item before it has the same one.
    pub(crate) fn before(&mut self, origin: Option<usize>) -> Option<StreamError> {
        let under_way = Arc::strong_count(&self.alive) - 1;
        // Half of them must have arrived before more are sent: otherwise those that find room might all be of one
        // input.
        self.is_saturated = under_way > if self.is_saturated { MOST / 2 } else { MOST };
        let origin = origin.filter(|_| !self.is_saturated);
        if origin == self.last {
            return None;
        }
        self.last = origin;
        Some(self.mark(Label::Follows(origin)))
    }

    pub(crate) fn mark(&self, label: Label) -> StreamError {
        StreamError::mark(Mark::note(Arc::new(Tag { label, _alive: Arc::clone(&self.alive) })))
    }
}

/// The labels that a merge has sent so far, for a stream that begins in the middle.
#[derive(Default)]
pub(crate) struct Said {
    current: Option<usize>,
    states: BTreeMap<usize, InputState>,
}

impl Said {
    pub(crate) fn note(&mut self, label: Label) {
        match label {
            Label::Follows(origin) => self.current = origin,
            Label::State(origin, state) => _ = self.states.insert(origin, state),
        }
    }

    /// The labels that such a stream receives first.
    pub(crate) fn labels(&self) -> impl Iterator<Item = Label> {
        let states = self.states.iter().map(|(origin, state)| Label::State(*origin, *state));
        states.chain(self.current.map(|origin| Label::Follows(Some(origin))))
    }
}

/// Losing it does no harm: its stream is lost as well.
struct Tag {
    label: Label,
    _alive: Arc<()>,
}

impl std::fmt::Debug for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origins").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Epoch for Tag {
    fn lose(&self) {}

    fn label(&self) -> Option<Label> {
        Some(self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(mark: Option<StreamError>) -> Option<Label> {
        mark.and_then(|mark| mark.label())
    }

    #[test]
    fn a_label_is_sent_when_the_origin_changes() {
        let mut labels = Labels::default();
        assert_eq!(label(labels.before(None)), None);
        assert_eq!(label(labels.before(Some(1))), Some(Label::Follows(Some(1))));
        assert_eq!(label(labels.before(Some(1))), None);
        assert_eq!(label(labels.before(Some(0))), Some(Label::Follows(Some(0))));
    }

    #[test]
    fn items_behind_too_many_labels_have_unknown_origin() {
        let mut labels = Labels::default();
        let mut under_way: Vec<_> = (0..=MOST).filter_map(|n| labels.before(Some(n % 2))).collect();
        assert_eq!(under_way.len(), MOST + 1);
        assert_eq!(label(labels.before(Some(1))), Some(Label::Follows(None)));
        assert_eq!(label(labels.before(Some(0))), None);
        under_way.drain(..MOST / 2);
        assert_eq!(label(labels.before(Some(0))), None);
        under_way.pop();
        assert_eq!(label(labels.before(Some(0))), Some(Label::Follows(Some(0))));
    }

    #[test]
    fn inputs_of_nested_merges_are_distinguished() {
        let inner = Origins::of([None, None, None], None);
        let outer = Origins::of([None, Some(&inner), Some(&inner)], Some(Duration::MAX));
        assert_eq!(outer.count(), 7);
        assert_eq!(outer.idle_timeouts().iter().filter(|timeout| timeout.is_some()).count(), 1);
        assert!(!inner.are_asked_for());
        outer.ask();
        assert!(inner.are_asked_for() && outer.are_asked_for());
    }
}
