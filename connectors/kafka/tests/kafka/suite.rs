//! The tests that every connector passes.

use std::time::Duration;

use streamz::delivery::Outbox;
use streamz_connector_suite::Store;
use streamz_kafka::{KafkaAcker, KafkaInbox, KafkaOutbox, NewRecord, Record};

use crate::common::{Cluster, PATIENCE};

struct Kafka(Cluster);

impl Store for Kafka {
    type Inbox = KafkaInbox;
    type Outbox = KafkaOutbox;

    const NAME: &'static str = "Kafka";
    const LEASE: Duration = Duration::ZERO;
    const PATIENCE: Duration = PATIENCE;
    const TOTAL_ORDER: bool = false;
    const ACKNOWLEDGES_EACH: bool = false;
    const COUNTS_ATTEMPTS: bool = false;
    const GIVES_BACK: bool = false;
    const HAS_LEASES: bool = false;

    fn start() -> Result<Self, String> {
        Ok(Self(Cluster::start(1)))
    }

    fn append(&self, topic: &str, records: &[(Vec<u8>, Vec<u8>)]) {
        let mut records = records.iter().map(|(key, payload)| Self::record(key, payload)).collect();
        self.0.outbox(topic).write(&mut records).expect("a write");
    }

    fn inbox(&self, topic: &str, group: &str, _: &str) -> KafkaInbox {
        self.0.inbox(topic, group).connect().expect("an inbox")
    }

    fn bounded_inbox(&self, topic: &str, group: &str, _: &str) -> Option<KafkaInbox> {
        Some(self.0.inbox(topic, group).bounded(true).connect().expect("an inbox"))
    }

    fn outbox(&self, topic: &str) -> KafkaOutbox {
        self.0.outbox(topic)
    }

    /// Larger than the client's `message.max.bytes`.
    fn refused_record() -> NewRecord {
        NewRecord::new(vec![0; 2_000_000])
    }

    fn record(key: &[u8], payload: &[u8]) -> NewRecord {
        NewRecord::new(payload).with_key(key)
    }

    fn key(record: &Record) -> &[u8] {
        record.key().expect("a key")
    }

    fn payload(record: &Record) -> &[u8] {
        record.payload().expect("a payload")
    }

    fn contents(&self, topic: &str) -> Vec<Vec<u8>> {
        self.0.contents(topic)
    }

    fn unacknowledged(&self, topic: &str, group: &str) -> u64 {
        self.0.lag(topic, group)
    }

    fn kill(&self, inbox: KafkaInbox, acker: KafkaAcker) {
        // Each acknowledgement has been committed, so all that remains is to leave the group.
        drop((inbox, acker));
    }

    fn advance(&self, _: Duration) {}
}

streamz_connector_suite::suite!(Kafka);
