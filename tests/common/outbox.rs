//! An outbox in memory that confirms late, refuses records, fails temporarily, and fails permanently.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use streamz::delivery::{Outbox, StoreError};

use super::faults::{Fault, Faults, Refused, panic_on_purpose};
use super::item::{Census, Item};

/// Keeps nothing but the numbers of what was written, in the census.
#[derive(Clone)]
pub struct Shelf {
    pub census: Census,
    /// It refuses the records on which this fails, and those on which it panics.
    pub refuses: Faults,
    /// It fails permanently on the first record with this value, or panics.
    pub fails_at: Option<(u64, Fault)>,
    /// Of these calls, one fails for a time after it has written half of its batch.
    pub fails_in: Option<u64>,
    /// How often it gives way between the write and the confirmation.
    pub turns: u32,
    calls: u64,
}

impl Shelf {
    pub fn new(census: Census) -> Self {
        Self { census, refuses: Faults::None, fails_at: None, fails_in: None, turns: 0, calls: 0 }
    }

    /// Whether it refuses a record of that value.
    pub fn is_refused(refuses: Faults, value: u64) -> bool {
        refuses.of(value) != Fault::None
    }
}

impl Outbox for Shelf {
    type Record = Item;

    fn write(&mut self, batch: &mut Vec<Item>) -> Result<(), StoreError> {
        self.calls += 1;
        if let Some((_, fault)) = self.fails_at.filter(|(at, _)| batch.iter().any(|item| item.value() == *at)) {
            batch.iter().for_each(|item| self.census.lose(item));
            if fault == Fault::Panic {
                panic_on_purpose();
            }
            return Err(StoreError::permanent("broken"));
        }
        if let Some(index) = batch.iter().position(|item| Self::is_refused(self.refuses, item.value())) {
            return Err(StoreError::refused(index, Refused(batch[index].value())));
        }
        for _ in 0..self.turns {
            std::thread::yield_now();
        }
        let fails = self.fails_in.is_some_and(|calls| self.calls % calls == 1 % calls);
        let written = if fails { batch.len() / 2 } else { batch.len() };
        for item in batch.drain(..written) {
            self.census.account(&item);
            // One whose drop panics is not to count as a failure of the outbox.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(item)));
        }
        if fails { Err(StoreError::transient("busy")) } else { Ok(()) }
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refuses, fails_at, fails_in, turns, .. } = self;
        write!(f, "refuses {refuses:?}, fails at {fails_at:?} and in 1 of {fails_in:?} calls, {turns} turns")
    }
}
