//! [`Watermarks`]: how far time has come in each input of a merge, and so in all of them.
//!
//! # What must hold
//!
//! - The time of the whole is the least of the inputs that are *active*: not idle, and not at their end. One that has not had
//!   an item yet has not begun, and neither has the whole.
//! - If none is active, none holds it back: then it is the greatest time that was seen.
//! - It never goes back: an input that is active again and behind does not move it.
//! - An item of unknown origin moves none of them.
//!
//! So an item is not older than the whole if it is not older than what came before it from its own input, as long as that was
//! never idle: the whole is at most what its input has had, and its input has had nothing later.

use super::time::Nanos;
use crate::mark::{InputState, Label};

#[derive(Debug, Clone)]
pub(super) struct Watermarks {
    inputs: Vec<Input>,
    /// Whose items come at present.
    current: Option<usize>,
    /// That was seen, whatever it stems from.
    greatest: Option<Nanos>,
    /// Of the whole.
    low: Option<Nanos>,
}

#[derive(Debug, Clone)]
struct Input {
    /// The greatest time that was seen.
    greatest: Option<Nanos>,
    state: InputState,
}

impl Watermarks {
    pub(super) fn new(inputs: usize) -> Self {
        Self {
            inputs: vec![Input { greatest: None, state: InputState::Active }; inputs],
            current: None,
            greatest: None,
            low: None,
        }
    }

    /// How far the whole has come.
    #[inline]
    pub(super) fn low(&self) -> Option<Nanos> {
        self.low
    }

    /// An item of the current input has come.
    #[inline]
    pub(super) fn advance(&mut self, time: Nanos) {
        self.greatest = self.greatest.max(Some(time));
        let Some(input) = self.current.and_then(|current| self.inputs.get_mut(current)) else { return };
        if input.greatest.is_none_or(|greatest| greatest < time) {
            let was_lowest = input.greatest <= self.low;
            input.greatest = Some(time);
            if was_lowest {
                self.raise();
            }
        }
    }

    /// The merge says something of its inputs.
    pub(super) fn note(&mut self, label: Label) {
        match label {
            Label::Follows(origin) => self.current = origin,
            Label::State(origin, state) => {
                if let Some(input) = self.inputs.get_mut(origin) {
                    input.state = state;
                    self.raise();
                }
            }
        }
    }

    fn raise(&mut self) {
        let active = self.inputs.iter().filter(|input| input.state == InputState::Active);
        let low = active.map(|input| input.greatest).min();
        // `None` is less than any time.
        self.low = self.low.max(low.unwrap_or(self.greatest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What there is after each of these.
    fn lows(inputs: usize, events: &[(usize, Result<Nanos, InputState>)]) -> Vec<Option<Nanos>> {
        let mut watermarks = Watermarks::new(inputs);
        let mut low = |(input, event): &(usize, Result<Nanos, InputState>)| {
            match event {
                Ok(time) => {
                    watermarks.note(Label::Follows(Some(*input)));
                    watermarks.advance(*time);
                }
                Err(state) => watermarks.note(Label::State(*input, *state)),
            }
            watermarks.low()
        };
        events.iter().map(&mut low).collect()
    }

    #[test]
    fn the_input_that_is_behind_holds_back_the_whole() {
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
    fn if_none_is_active_it_is_the_greatest() {
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
        let mut watermarks = Watermarks::new(1);
        watermarks.advance(4);
        assert_eq!(watermarks.low(), None);
        watermarks.note(Label::State(0, InputState::Idle));
        assert_eq!(watermarks.low(), Some(4));
    }
}
