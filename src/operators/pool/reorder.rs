//! [`Reorder`]: results that wait for their turn.

use std::collections::VecDeque;

/// Takes results by sequence number and returns them in that order, or as they come if order is not requested.
///
/// # Invariants
///
/// Ordered: slot `i` belongs to the number `head + i`; a number is inserted once, and not below `head`. The number of
/// slots never exceeds (largest number assigned - head + 1), which the code that assigns the numbers bounds by the
/// window.
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

    pub(super) fn is_ordered(&self) -> bool {
        matches!(self, Self::Ordered { .. })
    }

    pub(super) fn insert(&mut self, sequence: u64, result: T) {
        match self {
            Self::Ordered { head, slots } => {
                let index = usize::try_from(sequence - *head).expect("the window fits in memory");
                if slots.len() == index {
                    return slots.push_back(Some(result));
                }
                if slots.len() < index {
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

    /// All results, including those whose turn has not come.
    pub(super) fn into_all(self) -> impl Iterator<Item = T> {
        let (slots, results) = match self {
            Self::Ordered { slots, .. } => (slots, VecDeque::new()),
            Self::Unordered { results } => (VecDeque::new(), results),
        };
        slots.into_iter().flatten().chain(results)
    }

    /// Whether there is a result whose turn it is.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Ordered { slots, .. } => slots.front().is_some_and(Option::is_some),
            Self::Unordered { results } => !results.is_empty(),
        }
    }

    /// Takes in several, and leaves `results` empty.
    pub(super) fn insert_all(&mut self, results: &mut Vec<(u64, T)>) {
        for (number, result) in results.drain(..) {
            self.insert(number, result);
        }
    }

    /// Whether these results, in ascending order, may pass those that wait here, because it is their turn and none
    /// waits before them. They then count as inserted and returned.
    pub(super) fn let_pass(&mut self, results: &[(u64, T)]) -> bool {
        match self {
            Self::Ordered { head, slots } => {
                let (Some(first), Some(last)) = (results.first(), results.last()) else { return true };
                let pass = first.0 == *head && slots.is_empty() && last.0 - first.0 + 1 == results.len() as u64;
                if pass {
                    *head = last.0 + 1;
                }
                pass
            }
            Self::Unordered { results } => results.is_empty(),
        }
    }

    /// Moves all results whose turn it is to `run`, which is empty.
    pub(super) fn take_run(&mut self, run: &mut VecDeque<T>) {
        match self {
            Self::Ordered { .. } => run.extend(std::iter::from_fn(|| self.pop())),
            Self::Unordered { results } => std::mem::swap(results, run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(reorder: &mut Reorder<T>) -> Vec<T> {
        let mut run = VecDeque::new();
        reorder.take_run(&mut run);
        run.into()
    }

    #[test]
    fn ordered_results_wait_for_those_before_them() {
        let mut reorder = Reorder::new(true);
        assert!(reorder.is_ordered());
        reorder.insert(2, 'c');
        reorder.insert(1, 'b');
        assert_eq!(reorder.pop(), None);
        reorder.insert(0, 'a');
        assert_eq!(run(&mut reorder), ['a', 'b', 'c']);
        reorder.insert(3, 'd');
        assert_eq!(reorder.pop(), Some('d'));
    }

    #[test]
    fn unordered_results_come_as_they_were_finished() {
        let mut reorder = Reorder::new(false);
        assert!(!reorder.is_ordered());
        reorder.insert(2, 'c');
        reorder.insert(0, 'a');
        assert_eq!((reorder.pop(), reorder.pop(), reorder.pop()), (Some('c'), Some('a'), None));
    }

    #[test]
    fn results_pass_waiting_ones_only_in_turn_and_none_is_lost() {
        let mut reorder = Reorder::new(true);
        assert!(!reorder.let_pass(&[(1, 'b')]));
        assert!(!reorder.let_pass(&[(0, 'a'), (2, 'c')]));
        assert!(reorder.let_pass(&[(0, 'a'), (1, 'b')]));
        reorder.insert(3, 'd');
        assert!(!reorder.let_pass(&[(2, 'c')]));
        reorder.insert_all(&mut vec![(2, 'c'), (4, 'e')]);
        assert_eq!(run(&mut reorder), ['c', 'd', 'e']);
        assert!(reorder.let_pass(&[(5, 'f')]));
    }
}
