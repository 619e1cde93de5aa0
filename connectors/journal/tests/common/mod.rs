//! Shared parts of the tests.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::path::PathBuf;
use std::time::Duration;

use streamz::ManualClock;
use streamz::delivery::{Acker, Delivery, Inbox};
use streamz_journal::{Entry, GroupStatus, Journal, JournalInbox, JournalInboxOptions, Receipt, Record};
use tempfile::TempDir;

pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// A journal in a directory that is removed with it, under a clock that the test moves.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
    pub(crate) clock: ManualClock,
    pub(crate) journal: Journal,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::new();
        let journal = Journal::options().clock(&clock).open(directory.path().join("test.journal")).unwrap();
        Self { directory, clock, journal }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("test.journal")
    }

    /// Another connection to the file, to inspect it.
    pub(crate) fn sqlite(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }

    pub(crate) fn append(&self, numbers: std::ops::Range<u32>) {
        append(&self.journal, numbers);
    }

    pub(crate) fn inbox(&self, consumer: &str) -> JournalInbox {
        inbox(&self.journal, consumer)
    }

    pub(crate) fn status(&self) -> GroupStatus {
        self.journal.group_status("t", "g").unwrap().unwrap()
    }
}

pub(crate) fn append(journal: &Journal, numbers: std::ops::Range<u32>) {
    let records: Vec<_> = numbers.map(|n| Record::new(n.to_string())).collect();
    journal.writer("t").unwrap().append(&records).unwrap();
}

pub(crate) fn options(consumer: &str) -> JournalInboxOptions {
    JournalInboxOptions::new().consumer(consumer).lease(LEASE)
}

pub(crate) fn inbox(journal: &Journal, consumer: &str) -> JournalInbox {
    journal.inbox("t", "g", options(consumer)).unwrap()
}

/// The records that are available at once.
pub(crate) fn fetch(inbox: &mut JournalInbox, max: usize) -> Vec<Delivery<Entry, Receipt>> {
    let mut records = Vec::new();
    inbox.fetch(max, Duration::ZERO, &mut records).unwrap();
    records
}

pub(crate) fn positions(deliveries: &[Delivery<Entry, Receipt>]) -> Vec<i64> {
    deliveries.iter().map(|delivery| delivery.record.position).collect()
}

pub(crate) fn receipts(deliveries: &[Delivery<Entry, Receipt>]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt).collect()
}

pub(crate) fn acknowledge(acker: &mut impl Acker<Receipt = Receipt>, deliveries: &[Delivery<Entry, Receipt>]) {
    let mut receipts = receipts(deliveries);
    acker.acknowledge(&mut receipts).unwrap();
    assert!(receipts.is_empty());
}

/// Simulates a crash: gives nothing back.
pub(crate) fn kill(inbox: JournalInbox) {
    std::mem::forget(inbox);
}
