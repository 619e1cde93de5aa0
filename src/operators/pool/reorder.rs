//! [`Reorder`]: results that wait for their turn.

use std::collections::VecDeque;

/// An entry with a number, or with several consecutive numbers if it holds several results.
pub(super) trait Span: Sized {
    /// The number of consecutive numbers that it stands for, its own included.
    fn span(&self) -> u64 {
        1
    }
}

/// Takes results with sequence numbers and returns them in that order, or as they arrive if no order is requested.
///
/// # Invariants
///
/// Ordered: slot `i` belongs to the number `head + i`; a number is inserted once, and not below `head`. An entry for several
/// numbers is in the slot of the first, and the others are empty or do not exist yet. The number of slots never exceeds
/// (greatest number assigned - head + 1), which the window bounds.
pub(super) enum Reorder<T> {
    Ordered { head: u64, slots: VecDeque<Option<T>> },
    Unordered { results: VecDeque<T> },
}

impl<T: Span> Reorder<T> {
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
                let index = to_index(sequence - *head);
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
                let span = result.span();
                match span {
                    1 => drop(slots.pop_front()),
                    _ => drop(slots.drain(..slots.len().min(to_index(span)))),
                }
                *head += span;
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
                let end = last.0 + last.1.span();
                let is_next = first.0 == *head && slots.is_empty();
                let pass = is_next && end - first.0 == results.iter().map(|(_, result)| result.span()).sum::<u64>();
                if pass {
                    *head = end;
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

/// Within the window.
fn to_index(numbers: u64) -> usize {
    usize::try_from(numbers).expect("the window fits in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Span for char {}

    /// Several in a row.
    impl Span for std::ops::Range<u64> {
        fn span(&self) -> u64 {
            self.end - self.start
        }
    }

    fn run<T: Span>(reorder: &mut Reorder<T>) -> Vec<T> {
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

    #[test]
    fn several_in_a_row_take_the_place_of_each() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..1_000 {
            let mut starts: Vec<u64> = (0..20).filter(|_| random.bool()).collect();
            starts.insert(0, 0);
            starts.dedup();
            let ends = starts.iter().skip(1).copied().chain([20]);
            let mut rows: Vec<_> = starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect();
            random.shuffle(&mut rows);
            let mut reorder = Reorder::new(true);
            let mut out = Vec::new();
            for row in rows {
                let row = vec![(row.start, row)];
                if reorder.let_pass(&row) {
                    out.extend(row.into_iter().flat_map(|(_, row)| row));
                    continue;
                }
                reorder.insert_all(&mut { row });
                out.extend(run(&mut reorder).into_iter().flatten());
            }
            assert!(out.into_iter().eq(0..20));
        }
    }
}
