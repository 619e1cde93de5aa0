//! [`RunLength`]: the number of items to take at a time.

use std::time::Duration;

/// How long a run of cheap items should take: much longer than taking one and emitting its results costs, but too short
/// to be noticeable.
pub(super) const RUN_TIME: Duration = Duration::from_micros(50);

/// The longest run.
const MAX_RUN: usize = 256;

/// A run that takes longer than this had a slow item in it, or its thread had to give up its core.
const SLOW: Duration = Duration::from_micros(500);

/// The number of consecutive quick items before more than one is taken at a time.
const PROBATION: usize = 256;

/// The length of the next run, derived from the time that the last ones took.
///
/// In a run, finished items wait for the others. So items are taken one by one as long as some of them are slow. After
/// that, a run is at most twice as long as the previous one, so that a single quick run does not mislead.
///
/// One slow run only makes the next ones shorter: with more threads than cores, each of them has to pause now and then,
/// whatever it does. Two in succession are no coincidence.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunLength {
    length: usize,
    /// Items since the last slow one was found.
    quick: usize,
    /// The last run was slow.
    was_slow: bool,
}

impl RunLength {
    pub(super) fn new() -> Self {
        Self { length: 1, quick: 0, was_slow: false }
    }

    pub(super) fn get(self) -> usize {
        self.length
    }

    /// The last run took this long for this number of items.
    pub(super) fn adapt(&mut self, took: Duration, items: usize) {
        let was_slow = std::mem::replace(&mut self.was_slow, took > SLOW);
        if self.was_slow {
            self.length = (self.length / 4).max(1);
            if was_slow || self.length == 1 {
                *self = Self { was_slow: true, ..Self::new() };
            }
            return;
        }
        self.quick += items;
        if self.quick >= PROBATION {
            let each = (took.as_nanos() / items.max(1) as u128).max(1);
            let fitting = usize::try_from(RUN_TIME.as_nanos() / each).unwrap_or(MAX_RUN);
            self.length = fitting.clamp(1, self.length * 2).min(MAX_RUN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_nanos(500);

    fn after(items: usize) -> RunLength {
        let mut length = RunLength::new();
        (0..items).for_each(|_| length.adapt(QUICK, 1));
        length
    }

    #[test]
    fn quick_items_are_taken_together_when_there_have_been_many() {
        let mut length = after(PROBATION - 1);
        assert_eq!(length.get(), 1);
        for expected in [2, 4, 8, 16, 32, 64, 100, 100] {
            length.adapt(QUICK * u32::try_from(length.get()).unwrap(), length.get());
            assert_eq!(length.get(), expected);
        }
        length.adapt(Duration::ZERO, 100);
        assert_eq!(length.get(), 200);
        length.adapt(Duration::ZERO, 200);
        assert_eq!(length.get(), MAX_RUN);
    }

    #[test]
    fn one_slow_run_may_be_an_accident() {
        let mut length = after(2 * PROBATION);
        assert_eq!(length.get(), 100);
        length.adapt(SLOW + QUICK, 100);
        assert_eq!(length.get(), 25);
        length.adapt(QUICK * 25, 25);
        assert_eq!(length.get(), 50);
    }

    #[test]
    fn after_two_slow_runs_it_goes_step_by_step_again() {
        let mut length = after(2 * PROBATION);
        length.adapt(SLOW + QUICK, 100);
        length.adapt(SLOW + QUICK, 25);
        assert_eq!(length.get(), 1);
        (1..PROBATION).for_each(|_| length.adapt(QUICK, 1));
        assert_eq!(length.get(), 1);
        length.adapt(QUICK, 1);
        assert_eq!(length.get(), 2);
    }

    #[test]
    fn items_that_take_as_long_as_a_run_should_are_taken_one_by_one() {
        let mut length = RunLength::new();
        (0..2 * PROBATION).for_each(|_| length.adapt(RUN_TIME, 1));
        assert_eq!(length.get(), 1);
    }
}
