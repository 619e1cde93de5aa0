//! [`Merge`]: several inputs as one, on one thread.
//!
//! # What must hold
//!
//! - *Order.* What comes from one input comes in its order.
//! - *Fair.* An input gives at most [`RUN`] items in a row while another has something. Its turn ends, too, when it has
//!   nothing.
//! - *No item waits for company.* An input that has nothing when its turn comes is asked, so that its producer hands over
//!   the next item at once, although the stage is busy with others and not hungry.
//! - *The end.* The whole ends when all inputs have; none at all end at once. If one was cut, the others are read to their
//!   ends, and then the whole is cut, with the first such error.

use std::time::Instant;

use crate::clock::wait::Waiter;
use crate::edge::{End, Polled};
use crate::error::StreamError;
use crate::stage::input::{Feed, Input};
use crate::stage::thread::StageThread;

/// How many items an input may give in a row.
const RUN: u32 = 64;

pub(super) struct Merge<T> {
    /// Those that have not ended.
    inputs: Vec<Input<T>>,
    /// Whose turn it is.
    current: usize,
    /// How many more it may give.
    left: u32,
    /// Why the first input was cut that was.
    cut: Option<StreamError>,
}

impl<T: Send + 'static> Merge<T> {
    pub(super) fn new(inputs: Vec<Input<T>>) -> Self {
        Self { inputs, current: 0, left: RUN, cut: None }
    }

    #[inline]
    fn next_turn(&mut self) {
        self.current += 1;
        if self.current >= self.inputs.len() {
            self.current = 0;
        }
        self.left = RUN;
    }

    /// Takes the next item, from the next input that has one.
    #[cold]
    fn poll_others(&mut self) -> Polled<T> {
        let mut empty = 0;
        while empty < self.inputs.len() {
            self.next_turn();
            let input = &mut self.inputs[self.current];
            if input.ask_beside() {
                empty += 1;
                continue;
            }
            match input.poll() {
                Polled::Item(item) => {
                    self.left -= 1;
                    return Polled::Item(item);
                }
                Polled::Empty => empty += 1,
                Polled::Ended(end) => self.ended(end),
            }
        }
        if self.inputs.is_empty() { Polled::Ended(self.end()) } else { Polled::Empty }
    }

    /// The current input has ended.
    fn ended(&mut self, end: End) {
        if let End::Cut(error) = end {
            self.cut.get_or_insert(error);
        }
        self.inputs.remove(self.current);
        // The next turn is that of the one that has moved up.
        self.current = self.current.checked_sub(1).unwrap_or(self.inputs.len().saturating_sub(1));
    }

    fn end(&self) -> End {
        self.cut.clone().map_or(End::Finished, End::Cut)
    }
}

impl<T: Send + 'static> Feed for Merge<T> {
    type Item = T;

    #[inline(always)]
    fn poll(&mut self) -> Polled<T> {
        if self.left > 0
            && let Some(input) = self.inputs.get_mut(self.current)
        {
            match input.poll() {
                Polled::Item(item) => {
                    self.left -= 1;
                    return Polled::Item(item);
                }
                Polled::Empty => {}
                Polled::Ended(end) => self.ended(end),
            }
        }
        self.poll_others()
    }

    fn wait(
        &self,
        thread: &StageThread,
        until: Option<Instant>,
        hint: impl FnMut() -> bool,
        register: impl FnOnce(&Waiter) -> bool,
    ) {
        thread.wait_for_inputs(&self.inputs, until, hint, register);
    }

    fn settle(&self) {
        self.inputs.iter().for_each(Input::settle);
    }

    fn announcer(&self) -> Box<dyn Fn()> {
        let all: Vec<Box<dyn Fn()>> = self.inputs.iter().map(Feed::announcer).collect();
        Box::new(move || all.iter().for_each(|one| one()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::edge;

    #[test]
    fn an_input_with_nothing_is_asked_when_its_turn_comes() {
        let (mut busy, from_busy) = edge(256, false);
        let (mut quiet, from_quiet) = edge(256, false);
        let mut merge = Merge::new(vec![Input::Edge(from_busy), Input::Edge(from_quiet)]);
        let mut take = |count: u32| {
            for _ in 0..count {
                assert!(matches!(merge.poll(), Polled::Item(Ok(_))));
            }
        };
        // A new edge hands over its first item at once.
        quiet.push(Ok(0));
        (0..200).for_each(|n| busy.gather(Ok(n)));
        busy.hand_over();
        take(RUN + 2); // a run of one, the only item of the other, and one more
        quiet.push(Ok(1));
        assert!(!quiet.is_handed_over(), "nobody has asked yet");
        take(RUN - 1);
        quiet.hand_over_if_hungry();
        assert!(!quiet.is_handed_over(), "its turn has not come");
        take(1);
        quiet.hand_over_if_hungry();
        assert!(quiet.is_handed_over(), "its turn has come, and it was not asked");
    }
}
