//! [`Watermarks`]: the time reached in each input of a merge, and so in all of them.
//!
//! # Invariants
//!
//! - The watermark of the merge is the minimum of the inputs that are *active*: not idle, and not at their end. An
//!   input that has not had an item yet has not started, and neither has the merge.
//! - If none is active, none holds it back: then it is the latest time seen.
//! - It never goes back: an input that becomes active again and is behind does not move it.
//! - An item of unknown origin moves none of them.
//! - An input of which nothing has arrived for the whole idle timeout, although its labels did, is *thinned out*: all
//!   of its items are removed on the way. It counts as idle until one arrives. Labels keep their places, so a slow
//!   stage cannot be mistaken for one that removes items.
//!
//! So an item is not older than the watermark if it is not older than all earlier items of its own input, as long as
//! that was never idle: the watermark is at most the latest time of its input.

use std::time::{Duration, Instant};

use super::time::Nanos;
use crate::mark::{InputState, Label};

#[derive(Debug, Clone)]
pub(super) struct Watermarks {
    inputs: Vec<Input>,
    /// The input of the current items.
    current: Option<usize>,
    /// When the last label came, and whether an item has come since.
    label_at: Option<Instant>,
    has_come: bool,
    /// The latest time seen, whatever its origin.
    greatest: Option<Nanos>,
    /// The watermark of the merge.
    low: Option<Nanos>,
}

#[derive(Debug, Clone)]
struct Input {
    /// The latest time seen.
    greatest: Option<Nanos>,
    state: InputState,
    idle_timeout: Option<Duration>,
    /// No item has come since, although its labels did.
    empty_since: Option<Instant>,
    is_thinned_out: bool,
}

impl Input {
    fn new(idle_timeout: Option<Duration>) -> Self {
        Self { greatest: None, state: InputState::Active, idle_timeout, empty_since: None, is_thinned_out: false }
    }

    fn is_active(&self) -> bool {
        self.state == InputState::Active && !self.is_thinned_out
    }
}

impl Watermarks {
    /// As many inputs as there are idle timeouts.
    pub(super) fn new(idle_timeouts: &[Option<Duration>]) -> Self {
        Self {
            inputs: idle_timeouts.iter().copied().map(Input::new).collect(),
            current: None,
            label_at: None,
            has_come: false,
            greatest: None,
            low: None,
        }
    }

    /// The watermark of the merge.
    #[inline]
    pub(super) fn low(&self) -> Option<Nanos> {
        self.low
    }

    /// An item of the current input has come.
    #[inline]
    pub(super) fn advance(&mut self, time: Nanos) {
        self.greatest = self.greatest.max(Some(time));
        let Some(input) = self.current.and_then(|current| self.inputs.get_mut(current)) else { return };
        if !self.has_come {
            self.has_come = true;
            (input.empty_since, input.is_thinned_out) = (None, false);
        }
        if input.greatest.is_none_or(|greatest| greatest < time) {
            let was_lowest = input.greatest <= self.low;
            input.greatest = Some(time);
            if was_lowest {
                self.raise();
            }
        }
    }

    /// Processes a label of the merge.
    pub(super) fn note(&mut self, label: Label, now: Instant) {
        self.look_for_items(now);
        match label {
            Label::Follows(origin) => (self.current, self.has_come) = (origin, false),
            Label::State(origin, state) => {
                if let Some(input) = self.inputs.get_mut(origin) {
                    input.state = state;
                    self.raise();
                }
            }
        }
    }

    /// Whether an item of the current input has come since the last label.
    fn look_for_items(&mut self, now: Instant) {
        let label_at = self.label_at.replace(now);
        let Some(input) = self.current.and_then(|current| self.inputs.get_mut(current)) else { return };
        if self.has_come || input.is_thinned_out {
            return;
        }
        let since = *input.empty_since.get_or_insert(label_at.unwrap_or(now));
        if input.idle_timeout.is_some_and(|timeout| now.saturating_duration_since(since) >= timeout) {
            input.is_thinned_out = true;
            self.raise();
        }
    }

    fn raise(&mut self) {
        let active = self.inputs.iter().filter(|input| input.is_active());
        let low = active.map(|input| input.greatest).min();
        // `None` is less than any time.
        self.low = self.low.max(low.unwrap_or(self.greatest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::real_now;

    /// The watermark after each of these.
    fn lows(inputs: usize, events: &[(usize, Result<Nanos, InputState>)]) -> Vec<Option<Nanos>> {
        let now = real_now();
        let mut watermarks = Watermarks::new(&vec![None; inputs]);
        let mut low = |(input, event): &(usize, Result<Nanos, InputState>)| {
            match event {
                Ok(time) => {
                    watermarks.note(Label::Follows(Some(*input)), now);
                    watermarks.advance(*time);
                }
                Err(state) => watermarks.note(Label::State(*input, *state), now),
            }
            watermarks.low()
        };
        events.iter().map(&mut low).collect()
    }

    #[test]
    fn the_input_that_is_behind_holds_back_the_watermark() {
        let events = [(0, Ok(5)), (1, Ok(3)), (0, Ok(9)), (1, Ok(2)), (1, Ok(7)), (1, Ok(12))];
        assert_eq!(lows(2, &events), [None, Some(3), Some(3), Some(3), Some(7), Some(9)]);
    }

    #[test]
    fn an_input_that_is_idle_or_has_ended_holds_back_nothing() {
        for state in [InputState::Idle, InputState::Ended] {
            let events = [(0, Ok(5)), (1, Ok(3)), (1, Err(state)), (0, Ok(8))];
            assert_eq!(lows(2, &events), [None, Some(3), Some(5), Some(8)]);
        }
    }

    #[test]
    fn without_active_inputs_it_is_the_maximum() {
        let events = [(0, Ok(5)), (1, Ok(3)), (0, Err(InputState::Idle)), (1, Err(InputState::Ended))];
        assert_eq!(lows(2, &events), [None, Some(3), Some(3), Some(5)]);
    }

    #[test]
    fn one_that_comes_back_does_not_move_it_back() {
        let events =
            [(0, Ok(5)), (1, Err(InputState::Idle)), (1, Err(InputState::Active)), (1, Ok(2)), (0, Ok(9)), (1, Ok(7))];
        assert_eq!(lows(2, &events), [None, Some(5), Some(5), Some(5), Some(5), Some(7)]);
    }

    #[test]
    fn an_item_of_unknown_origin_counts_only_if_none_is_active() {
        let mut watermarks = Watermarks::new(&[None]);
        watermarks.advance(4);
        assert_eq!(watermarks.low(), None);
        watermarks.note(Label::State(0, InputState::Idle), real_now());
        assert_eq!(watermarks.low(), Some(4));
    }

    #[test]
    fn an_input_that_sends_only_labels_becomes_idle() {
        let (begin, timeout) = (real_now(), Duration::from_secs(10));
        let mut watermarks = Watermarks::new(&[None, Some(timeout)]);
        let mut lows = |seconds, of_second: Option<Nanos>| {
            let now = begin + Duration::from_secs(seconds);
            watermarks.note(Label::Follows(Some(1)), now);
            of_second.into_iter().for_each(|time| watermarks.advance(time));
            watermarks.note(Label::Follows(Some(0)), now);
            watermarks.advance(100 + Nanos::from(seconds));
            watermarks.low()
        };
        assert_eq!((lows(0, Some(3)), lows(9, None), lows(18, None)), (Some(3), Some(3), Some(3)));
        assert_eq!((lows(19, None), lows(20, None)), (Some(119), Some(120)));
        // It holds back the whole again, which never goes back.
        assert_eq!((lows(21, Some(8)), lows(22, Some(121)), lows(23, None)), (Some(120), Some(121), Some(121)));
    }
}
