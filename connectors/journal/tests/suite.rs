//! The tests that every connector passes.

use std::time::Duration;

use streamz::ManualClock;
use streamz_connector_suite::Store;
use streamz_journal::{Entry, Journal, JournalAcker, JournalInbox, JournalInboxOptions, Record, Writer};
use tempfile::TempDir;

struct Sqlite {
    clock: ManualClock,
    directory: TempDir,
}

impl Sqlite {
    /// A connection of its own, as in another process.
    fn journal(&self) -> Journal {
        Journal::options().clock(&self.clock).open(self.directory.path().join("suite.journal")).unwrap()
    }
}

fn options(consumer: &str) -> JournalInboxOptions {
    JournalInboxOptions::new().consumer(consumer).lease(Sqlite::LEASE)
}

impl Store for Sqlite {
    type Inbox = JournalInbox;
    type Outbox = Writer;

    const NAME: &'static str = "the journal";
    const LEASE: Duration = Duration::from_secs(30);

    fn start() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        Ok(Self { clock: ManualClock::new(), directory })
    }

    fn append(&self, topic: &str, records: &[(Vec<u8>, Vec<u8>)]) {
        let records: Vec<_> = records.iter().map(|(key, payload)| Self::record(key, payload)).collect();
        self.outbox(topic).append(&records).unwrap();
    }

    fn inbox(&self, topic: &str, group: &str, consumer: &str) -> JournalInbox {
        self.journal().inbox(topic, group, options(consumer)).unwrap()
    }

    fn bounded_inbox(&self, topic: &str, group: &str, consumer: &str) -> Option<JournalInbox> {
        Some(self.journal().inbox(topic, group, options(consumer).bounded(true)).unwrap())
    }

    fn outbox(&self, topic: &str) -> Writer {
        self.journal().writer(topic).unwrap()
    }

    fn refused_record() -> Record {
        Record::new(vec![0; (16 << 20) + 1])
    }

    fn record(key: &[u8], payload: &[u8]) -> Record {
        Record::new(payload).with_key(key)
    }

    fn key(entry: &Entry) -> &[u8] {
        &entry.key
    }

    fn payload(entry: &Entry) -> &[u8] {
        &entry.payload
    }

    fn contents(&self, topic: &str) -> Vec<Vec<u8>> {
        let entries = self.journal().read(topic, 0, usize::MAX).unwrap();
        entries.into_iter().map(|entry| entry.payload).collect()
    }

    fn unacknowledged(&self, topic: &str, group: &str) -> u64 {
        self.journal().group_status(topic, group).unwrap().map_or(0, |status| status.unacknowledged())
    }

    fn kill(&self, inbox: JournalInbox, acker: JournalAcker) {
        drop(acker);
        // Dropping it would give back the records that it has taken and not delivered.
        std::mem::forget(inbox);
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

streamz_connector_suite::suite!(Sqlite);
