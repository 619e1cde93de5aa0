//! [`JournalAcker`]: acknowledges the records of a [`JournalInbox`](crate::JournalInbox).

use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use streamz::delivery::{Acker, StoreError};

use crate::error::Place;
use crate::group::{self, Owner};
use crate::journal::{Shared, write};
use crate::retention::{self, Turn};

/// Identifies a delivered record to a [`JournalAcker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Receipt {
    /// The position of the record.
    pub position: i64,
    /// How many times it has been delivered, including this time.
    pub attempt: u32,
}

/// Acknowledges records, gives them back, and extends their lease. Has a connection of its own.
///
/// An acknowledgement counts whichever consumer holds the record: if the lease has expired and another consumer has the
/// record now, it has been processed nevertheless. Giving a record back after that, or extending its lease, has no
/// effect.
#[derive(Debug)]
pub struct JournalAcker {
    shared: Arc<Shared>,
    place: Place,
    file: Connection,
    topic: i64,
    group: i64,
    owner: Owner,
    turn: Turn,
}

impl JournalAcker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        place: Place,
        file: Connection,
        topic: i64,
        group: i64,
        owner: Owner,
    ) -> Self {
        Self { shared, place, file, topic, group, owner, turn: Turn::default() }
    }

    fn error(&self, what: &'static str, first: Option<i64>, reason: rusqlite::Error) -> StoreError {
        self.place.error_at(what, first, reason).into()
    }
}

/// Calls `each` for every run of consecutive positions with the same attempt.
fn for_each_run(
    receipts: &[Receipt],
    mut each: impl FnMut(u32, i64, i64) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let is_run = |a: &Receipt, b: &Receipt| a.attempt == b.attempt && b.position - a.position <= 1;
    receipts.chunk_by(is_run).try_for_each(|run| each(run[0].attempt, run[0].position, run[run.len() - 1].position))
}

impl Acker for JournalAcker {
    type Receipt = Receipt;

    fn acknowledge(&mut self, receipts: &mut Vec<Receipt>) -> Result<(), StoreError> {
        receipts.sort_unstable();
        let Some(first) = receipts.first().map(|receipt| receipt.position) else { return Ok(()) };
        let group = self.group;
        let acknowledge = |file: &Transaction<'_>| {
            for_each_run(receipts, |_, first, last| group::acknowledge(file, group, first, last))
        };
        write(&mut self.file, acknowledge).map_err(|e| self.error("acknowledge", Some(first), e))?;
        let count = receipts.len();
        receipts.clear();
        if self.turn.is_due(&self.shared.options.retention, count) {
            let now = self.shared.now();
            retention::trim_in_passing(&mut self.file, self.topic, &self.shared.options.retention, now);
        }
        Ok(())
    }

    fn give_back(&mut self, mut receipts: Vec<Receipt>) -> Result<(), StoreError> {
        receipts.sort_unstable();
        let first = receipts.first().map(|receipt| receipt.position);
        let group = self.group;
        let give_back = |file: &Transaction<'_>| {
            for_each_run(&receipts, |attempt, first, last| group::give_back(file, group, attempt, first, last))
        };
        write(&mut self.file, give_back).map_err(|e| self.error("give records back", first, e))?;
        self.shared.changed.notify();
        Ok(())
    }

    fn keep_alive(&mut self) -> Result<(), StoreError> {
        let (group, owner, shared) = (self.group, &self.owner, &self.shared);
        let extended = write(&mut self.file, |file| group::keep_alive(file, group, owner, shared.now()));
        extended.map_err(|e| self.error("extend the lease", None, e))
    }
}
