//! An inbox in memory that looks at what is acknowledged, and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use streamz::delivery::{Acker, Delivery, Failure, Inbox, StoreError, StoredRecord};

use super::item::{Census, Item};

/// What became of the records; clones share it.
#[derive(Clone, Default)]
pub struct Fates(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    fetched: u64,
    acknowledged: Vec<u64>,
    given_back: Vec<u64>,
    /// What must not be.
    faults: Vec<String>,
}

impl Fates {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values of the records that have been acknowledged, in order of value.
    pub fn acknowledged(&self) -> Vec<u64> {
        let mut values = self.state().acknowledged.clone();
        values.sort_unstable();
        values
    }

    pub fn given_back(&self) -> Vec<u64> {
        let mut values = self.state().given_back.clone();
        values.sort_unstable();
        values
    }

    pub fn fetched(&self) -> u64 {
        self.state().fetched
    }

    /// Says what was acknowledged too early, or twice.
    pub fn check(&self) -> Result<(), String> {
        let state = self.state();
        if state.faults.is_empty() { Ok(()) } else { Err(state.faults.join("\n")) }
    }
}

/// Gives items with the values from 0 on, and then says that there are no more.
pub struct Records<In> {
    pub count: u64,
    pub wrap: fn(Item) -> In,
    pub census: Census,
    pub fates: Fates,
    /// One of how many records has been given out before.
    pub old: Option<u64>,
    /// Every record must reach an outbox, or the reader of the error items.
    pub strict: bool,
    /// Tells the items of one inbox from those of other sources.
    base: u64,
    next: u64,
}

static INBOXES: AtomicU64 = AtomicU64::new(1);

impl<In> Records<In> {
    pub fn new(count: u64, wrap: fn(Item) -> In, census: Census) -> Self {
        Self {
            count,
            wrap,
            census,
            fates: Fates::default(),
            old: None,
            strict: false,
            base: INBOXES.fetch_add(1, Ordering::Relaxed) << 32,
            next: 0,
        }
    }

    fn is_old(&self, value: u64) -> bool {
        self.old.is_some_and(|old| value % old == old - 1)
    }
}

impl<In: Send + 'static> Inbox for Records<In> {
    type Record = In;
    type Receipt = u64;
    type Acker = Watchful;

    fn fetch(&mut self, max: usize, _wait: Duration, records: &mut Vec<Delivery<In, u64>>) -> Result<(), StoreError> {
        let most = self.next.saturating_add(max as u64).min(self.count);
        for value in self.next..most {
            let attempt = if self.is_old(value) { 2 } else { 1 };
            let record = Delivery::new((self.wrap)(self.census.item_of(value, self.base + value)), value);
            records.push(record.with_attempt(attempt));
        }
        self.next = most;
        self.fates.state().fetched = most;
        Ok(())
    }

    fn is_exhausted(&self) -> bool {
        self.next == self.count
    }

    fn acker(&mut self) -> Result<Watchful, StoreError> {
        Ok(Watchful { census: self.census.clone(), fates: self.fates.clone(), base: self.base, strict: self.strict })
    }
}

/// Sees to it that nothing is acknowledged of which something is still alive.
pub struct Watchful {
    census: Census,
    fates: Fates,
    base: u64,
    strict: bool,
}

impl Acker for Watchful {
    type Receipt = u64;

    fn acknowledge(&mut self, receipts: &mut Vec<u64>) -> Result<(), StoreError> {
        for value in receipts.drain(..) {
            let alive = self.census.descendants(self.base + value);
            let mut state = self.fates.state();
            if !alive.is_empty() {
                state.faults.push(format!("record {value} was acknowledged while {alive:?} of it were in flight"));
            }
            if self.census.is_lost(self.base + value) {
                state.faults.push(format!("record {value} was acknowledged although the outbox had failed"));
            }
            if self.strict && !self.census.is_accounted(self.base + value) {
                state.faults.push(format!("record {value} was acknowledged, and neither written nor refused"));
            }
            if state.acknowledged.contains(&value) || state.given_back.contains(&value) {
                state.faults.push(format!("record {value} was settled twice"));
            }
            state.acknowledged.push(value);
        }
        Ok(())
    }

    fn give_back(&mut self, receipts: Vec<u64>) -> Result<(), StoreError> {
        let mut state = self.fates.state();
        for value in receipts {
            if state.acknowledged.contains(&value) || state.given_back.contains(&value) {
                state.faults.push(format!("record {value} was settled twice"));
            }
            state.given_back.push(value);
        }
        drop(state);
        Ok(())
    }
}

/// The records of an inbox, as the dead letters that they might have become.
pub struct Letters<In>(pub Records<In>);

/// A dead letter that carries an item.
pub struct Letter<In> {
    pub item: In,
    value: u64,
    /// It has the headers of a failure.
    is_letter: bool,
}

/// Whether the record with that value is no dead letter.
pub fn is_stray(value: u64) -> bool {
    value % 11 == 10
}

impl<In: Send + 'static> Inbox for Letters<In> {
    type Record = Letter<In>;
    type Receipt = u64;
    type Acker = Watchful;

    fn fetch(
        &mut self,
        max: usize,
        wait: Duration,
        records: &mut Vec<Delivery<Letter<In>, u64>>,
    ) -> Result<(), StoreError> {
        let mut items = Vec::new();
        let fetched = self.0.fetch(max, wait, &mut items);
        records.extend(items.into_iter().map(|delivery| {
            let value = delivery.receipt;
            Delivery::new(Letter { item: delivery.record, value, is_letter: !is_stray(value) }, value)
        }));
        fetched
    }

    fn is_exhausted(&self) -> bool {
        self.0.is_exhausted()
    }

    fn acker(&mut self) -> Result<Watchful, StoreError> {
        self.0.acker()
    }
}

impl<In: Send + 'static> StoredRecord for Letter<In> {
    type New = In;

    fn topic(&self) -> &str {
        "letters"
    }

    fn position(&self) -> String {
        self.value.to_string()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let described = [Failure::REASON, Failure::TOPIC, Failure::POSITION].contains(&name);
        (self.is_letter && described).then_some(b"x")
    }

    fn rewrite(self, _removed: &[&str], _added: Vec<(&'static str, String)>) -> In {
        self.item
    }
}
