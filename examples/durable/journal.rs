//! The journal, an SQLite file: it needs no server.

use std::path::Path;
use std::time::Duration;

use streamz_journal::{Entry, Journal, JournalInbox, JournalInboxOptions, Record, Writer};

use crate::Fallible;
use crate::store::{Group, LEASE, Store};

pub(crate) struct InJournal(Journal);

impl InJournal {
    pub(crate) fn open(path: &Path) -> Fallible<Self> {
        Ok(Self(
            Journal::open(path).map_err(|error| format!("cannot open the journal: {error}"))?,
        ))
    }
}

impl Store for InJournal {
    type Inbox = JournalInbox;
    type Taken = Entry;
    type Outbox = Writer;
    type New = Record;

    fn inbox(&self, topic: &str, group: &str, consumer: &str) -> Fallible<JournalInbox> {
        let options =
            JournalInboxOptions::new().consumer(consumer).lease(LEASE).take_over(true);
        Ok(self.0.inbox(topic, group, options)?)
    }

    fn reader(&self, topic: &str) -> Fallible<JournalInbox> {
        let options = JournalInboxOptions::new().lease(Duration::from_secs(3600));
        Ok(self.0.inbox(topic, &format!("reader-{}", std::process::id()), options)?)
    }

    fn outbox(&self, topic: &str) -> Fallible<Writer> {
        Ok(self.0.writer(topic)?)
    }

    fn len(&self, topic: &str) -> Fallible<u64> {
        let found = self.0.status()?.into_iter().find(|it| it.topic == topic);
        Ok(found.map_or(Ok(0), |it| u64::try_from(it.next - it.first))?)
    }

    fn group(&self, topic: &str, group: &str) -> Fallible<Group> {
        let Some(status) = self.0.group_status(topic, group)? else {
            // Until the first worker has started, nothing has been taken.
            let all = self.len(topic)?;
            return Ok(Group {
                backlog: Some(all),
                in_flight: Some(0),
                redelivered: Some(0),
                unacknowledged: all,
            });
        };
        Ok(Group {
            backlog: Some(status.backlog),
            in_flight: Some(status.in_flight),
            redelivered: Some(status.redelivered),
            unacknowledged: status.unacknowledged(),
        })
    }

    fn record(key: &[u8], payload: &[u8]) -> Record {
        Record::new(payload).with_key(key)
    }

    fn key(record: &Entry) -> &[u8] {
        &record.key
    }

    fn payload(record: &Entry) -> &[u8] {
        &record.payload
    }

    /// The file is removed with its folder, or kept.
    fn remove(&self, _: &[&str]) -> Fallible<()> {
        Ok(())
    }
}
