//! [`Reorder`]: results that wait for their turn.

use std::collections::VecDeque;

/// Takes results by sequence number and gives them back in that order, or as they come if order is not asked for.
///
/// # What must hold
///
/// Ordered: slot `i` belongs to the number `head + i`; a number is inserted once, and not below `head`. The number of
/// slots never exceeds (greatest number given out - head + 1), which whoever gives out the numbers bounds by the window.
pub(super) enum Reorder<T> {
    Ordered { head: u64, slots: VecDeque<Option<T>> },
    Unordered { results: VecDeque<T> },
}

impl<T> Reorder<T> {
    pub(super) fn new(ordered: bool) -> Self {
        if ordered {
            Self::Ordered { head: 0, slots: VecDeque::new() }
        } else {
            Self::Unordered { results: VecDeque::new() }
        }
    }

    pub(super) fn insert(&mut self, sequence: u64, result: T) {
        match self {
            Self::Ordered { head, slots } => {
                let index = usize::try_from(sequence - *head).expect("the window fits in memory");
                if slots.len() <= index {
                    slots.resize_with(index + 1, || None);
                }
                debug_assert!(slots[index].is_none(), "sequence number {sequence} was completed twice");
                slots[index] = Some(result);
            }
            Self::Unordered { results } => results.push_back(result),
        }
    }

    /// The next result whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        match self {
            Self::Ordered { head, slots } => {
                let result = slots.front_mut()?.take()?;
                slots.pop_front();
                *head += 1;
                Some(result)
            }
            Self::Unordered { results } => results.pop_front(),
        }
    }

    /// Whether there is a result whose turn it is.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Ordered { slots, .. } => slots.front().is_some_and(Option::is_some),
            Self::Unordered { results } => !results.is_empty(),
        }
    }

    /// Moves all whose turn it is to `run`.
    pub(super) fn take_run(&mut self, run: &mut Vec<T>) {
        run.extend(std::iter::from_fn(|| self.pop()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordered_results_wait_for_those_before_them() {
        let mut reorder = Reorder::new(true);
        reorder.insert(2, 'c');
        reorder.insert(1, 'b');
        assert_eq!(reorder.pop(), None);
        reorder.insert(0, 'a');
        let mut run = Vec::new();
        reorder.take_run(&mut run);
        assert_eq!(run, ['a', 'b', 'c']);
        reorder.insert(3, 'd');
        assert_eq!(reorder.pop(), Some('d'));
    }

    #[test]
    fn unordered_results_come_as_they_were_finished() {
        let mut reorder = Reorder::new(false);
        reorder.insert(2, 'c');
        reorder.insert(0, 'a');
        assert_eq!((reorder.pop(), reorder.pop(), reorder.pop()), (Some('c'), Some('a'), None));
    }
}
