//! The tests that every connector passes.

use std::time::Duration;

use redis::cmd;
use streamz::delivery::Outbox;
use streamz_connector_suite::Store;
use streamz_redis::{Fields, Record, RedisAcker, RedisInbox, RedisOutbox};

use crate::common::{Server, payloads_of};

struct Redis(Server);

impl Store for Redis {
    type Inbox = RedisInbox;
    type Outbox = RedisOutbox;

    const NAME: &'static str = "Redis";
    const LEASE: Duration = Duration::from_secs(3600);

    fn start() -> Result<Self, String> {
        // It has logged the reason itself, once.
        Server::start(&[]).map(Self).ok_or_else(|| "redis-server is not installed".to_owned())
    }

    fn append(&self, topic: &str, records: &[(Vec<u8>, Vec<u8>)]) {
        let mut records = records.iter().map(|(key, payload)| Self::record(key, payload)).collect();
        self.outbox(topic).write(&mut records).expect("a write");
    }

    fn inbox(&self, topic: &str, group: &str, consumer: &str) -> RedisInbox {
        let inbox = RedisInbox::builder(self.0.url(), topic, group).consumer(consumer).lease(Self::LEASE);
        inbox.claim_interval(Duration::from_millis(1)).connect().expect("an inbox")
    }

    fn bounded_inbox(&self, topic: &str, group: &str, consumer: &str) -> Option<RedisInbox> {
        let inbox = RedisInbox::builder(self.0.url(), topic, group).consumer(consumer).lease(Self::LEASE);
        Some(inbox.bounded(true).connect().expect("an inbox"))
    }

    fn outbox(&self, topic: &str) -> RedisOutbox {
        RedisOutbox::builder(self.0.url(), topic).connect().expect("an outbox")
    }

    /// An entry has at least one field.
    fn refused_record() -> Fields {
        Fields::new()
    }

    fn record(key: &[u8], payload: &[u8]) -> Fields {
        Fields::from_payload(payload).with("key", key)
    }

    fn key(record: &Record) -> &[u8] {
        record.get("key").expect("a key")
    }

    fn payload(record: &Record) -> &[u8] {
        record.payload().expect("a payload")
    }

    fn contents(&self, topic: &str) -> Vec<Vec<u8>> {
        payloads_of(&mut self.0.client(), topic).into_iter().map(String::into_bytes).collect()
    }

    fn unacknowledged(&self, topic: &str, group: &str) -> u64 {
        let inbox = RedisInbox::builder(self.0.url(), topic, group).connect().expect("an inbox");
        let status = inbox.monitor().status().expect("the status").remove(0);
        status.backlog.expect("nothing was deleted") + status.in_flight
    }

    fn kill(&self, inbox: RedisInbox, acker: RedisAcker) {
        // Dropping them has no effect on the server.
        drop((inbox, acker));
    }

    fn advance(&self, by: Duration) {
        let mut client = self.0.client();
        let keys: Vec<String> = cmd("KEYS").arg("*").query(&mut client).expect("KEYS");
        for key in keys {
            let groups: Vec<std::collections::HashMap<String, redis::Value>> =
                cmd("XINFO").arg("GROUPS").arg(&key).query(&mut client).expect("XINFO GROUPS");
            for group in groups {
                let group: String = redis::from_redis_value(group["name"].clone()).expect("a name");
                let pending = cmd("XPENDING").arg(&key).arg(&group).arg("-").arg("+").arg(100_000).query(&mut client);
                let pending: Vec<(String, String, u64, u64)> = pending.expect("XPENDING");
                for (id, consumer, idle, _) in pending {
                    let idle = Duration::from_millis(idle) + by;
                    let mut claim = cmd("XCLAIM");
                    claim.arg(&key).arg(&group).arg(consumer).arg(0).arg(id);
                    claim.arg("IDLE").arg(idle.as_millis() as u64).arg("JUSTID");
                    claim.exec(&mut client).expect("XCLAIM");
                }
            }
        }
    }
}

streamz_connector_suite::suite!(Redis);
