//! [`Merge`]: several inputs as one, on one thread.
//!
//! # Invariants
//!
//! - *Order.* The items of one input keep their order.
//! - *Fair.* An input emits at most [`RUN`] items in a row while another has something. Its turn also ends when it has
//!   nothing.
//! - *No item waits for company.* An input that has nothing when its turn comes is asked, so that its producer hands
//!   over the next item at once, although the stage is busy with others and not hungry.
//! - *The end.* The merge ends when all inputs have; without inputs it ends at once. If one was cut, the others are
//!   read to their ends, and then the output is cut, with the first such error.
//! - *Origins.* If an event-time window downstream has requested labels, a label is sent before the items of another
//!   input than the last: see `herald.rs`. So an input becomes the current one only in
//!   [`poll_others`](Merge::poll_others), which ensures that.

use std::time::Instant;

use super::herald::Herald;
use crate::clock::earlier;
use crate::clock::wait::Waiter;
use crate::edge::{End, Polled};
use crate::error::StreamError;
use crate::stage::input::{Feed, Input, Inputs, announcer};
use crate::stage::thread::StageThread;

/// The maximum number of items that an input may emit in a row.
const RUN: u32 = 64;

pub(super) struct Merge<T> {
    /// Those that have not ended.
    inputs: Vec<Input<T>>,
    /// Whose turn it is.
    current: usize,
    /// The number of items it may still emit.
    left: u32,
    herald: Herald,
    /// The error of the first input that was cut.
    cut: Option<StreamError>,
    on_end: Option<OnEnd>,
}

/// Called with the index of each input that ends, which is then removed.
pub(super) type OnEnd = Box<dyn FnMut(usize) + Send>;

impl<T: Send + 'static> Merge<T> {
    /// The herald is that of these inputs.
    pub(super) fn new(inputs: Vec<Input<T>>, herald: Herald) -> Self {
        // No input is the current one yet: the first turn is that of the one after the last.
        let current = inputs.len().saturating_sub(1);
        Self { inputs, current, left: 0, herald, cut: None, on_end: None }
    }

    /// The same, with a callback for each end.
    pub(super) fn with_on_end(self, on_end: OnEnd) -> Self {
        Self { on_end: Some(on_end), ..self }
    }

    /// Adds an input, as the last one.
    pub(super) fn add(&mut self, input: Input<T>) {
        self.inputs.push(input);
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
        let is_asked = self.herald.is_asked();
        if let Some(news) = self.herald.next_news() {
            return self.say(news);
        }
        let mut empty = 0;
        while empty < self.inputs.len() {
            self.next_turn();
            let input = &mut self.inputs[self.current];
            if input.ask_beside() {
                empty += 1;
                if is_asked {
                    self.herald.found_empty(self.current);
                }
                continue;
            }
            // Marks taken without this count for the input before it.
            if is_asked && input.look_ahead() {
                self.herald.found_filled(self.current);
                if let Some(news) = self.herald.next_news() {
                    return self.say(news);
                }
                if let Some(label) = self.herald.before(self.current) {
                    // The content of this input comes next.
                    return Polled::Item(Err(label));
                }
            }
            match input.poll() {
                Polled::Item(Err(mark)) if mark.is_mark() => return self.pass_mark(mark),
                Polled::Item(item) => {
                    self.left -= 1;
                    return Polled::Item(item);
                }
                Polled::Empty => {
                    empty += 1;
                    if is_asked {
                        self.herald.found_empty(self.current);
                    }
                }
                Polled::Ended(end) => self.ended(end),
            }
        }
        if self.inputs.is_empty() {
            return Polled::Ended(self.end());
        }
        if let Some(news) = self.herald.next_news() {
            return self.say(news);
        }
        // By the time that something arrives, labels may have been requested.
        self.left = 0;
        Polled::Empty
    }

    /// Items after this have not been announced.
    fn say(&mut self, news: StreamError) -> Polled<T> {
        self.left = 0;
        Polled::Item(Err(news))
    }

    /// A mark has come from the current input.
    #[cold]
    fn pass_mark(&mut self, mut mark: StreamError) -> Polled<T> {
        loop {
            if let Some(mark) = self.herald.translate(self.current, mark) {
                return Polled::Item(Err(mark));
            }
            match self.inputs[self.current].poll() {
                Polled::Item(Err(next)) if next.is_mark() => mark = next,
                Polled::Item(item) => {
                    self.left = self.left.saturating_sub(1);
                    return Polled::Item(item);
                }
                Polled::Empty => break,
                Polled::Ended(end) => {
                    self.ended(end);
                    break;
                }
            }
        }
        self.poll_others()
    }

    /// Handles the end of the current input.
    fn ended(&mut self, end: End) {
        if let End::Cut(error) = end {
            self.cut.get_or_insert(error);
        }
        if let Some(on_end) = &mut self.on_end {
            on_end(self.current);
        }
        self.inputs.remove(self.current);
        self.herald.ended(self.current);
        // The next turn is that of the one that has moved up.
        self.current = self.current.checked_sub(1).unwrap_or(self.inputs.len().saturating_sub(1));
    }

    fn end(&self) -> End {
        self.cut.clone().map_or(End::Finished, End::Cut)
    }
}

impl<T: Send + 'static> Feed for Merge<T> {
    type Item = T;
    type Hand = ();

    #[inline(always)]
    fn poll(&mut self) -> Polled<T> {
        if self.left > 0
            && let Some(input) = self.inputs.get_mut(self.current)
        {
            match input.poll() {
                Polled::Item(Err(mark)) if mark.is_mark() => return self.pass_mark(mark),
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
        let until = earlier(until, self.herald.wake());
        let register = |waiter: &Waiter| register(waiter) | self.herald.want_to_know(waiter.wake());
        thread.wait_for_inputs(&self.inputs, until, hint, register);
    }

    fn settle(&self) {
        self.inputs.settle();
    }

    fn announcer(&self) -> Box<dyn Fn()> {
        announcer(&self.inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::edge::edge;

    #[test]
    fn an_input_with_nothing_is_asked_when_its_turn_comes() {
        let (mut busy, from_busy) = edge(256, false);
        let (mut quiet, from_quiet) = edge(256, false);
        let herald = Herald::new([None, None], Clock::default(), None);
        let mut merge = Merge::new(vec![Input::Edge(from_busy), Input::Edge(from_quiet)], herald);
        let mut take = |count: u32| {
            for _ in 0..count {
                assert!(matches!(merge.poll(), Polled::Item(Ok(_))));
            }
        };
        // A new edge hands over its first item at once.
        quiet.push(Ok(0));
        (0..200).for_each(|n| _ = busy.gather(Ok(n)));
        busy.hand_over();
        take(RUN + 2); // a run of one, the only item of the other, and one more
        quiet.push(Ok(1));
        assert!(!quiet.is_handed_over(), "no consumer has asked yet");
        take(RUN - 1);
        quiet.hand_over_if_hungry();
        assert!(!quiet.is_handed_over(), "its turn has not come");
        take(1);
        quiet.hand_over_if_hungry();
        assert!(quiet.is_handed_over(), "its turn has come, and it was not asked");
    }
}
