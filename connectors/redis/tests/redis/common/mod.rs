//! Equipment for the tests: a separate server, and a network that can fail.

mod proxy;
mod server;

pub(crate) use proxy::Proxy;
pub(crate) use server::{Server, free_port};

use std::time::Duration;

use redis::{Connection, cmd};
use streamz::delivery::{Delivery, Inbox};
use streamz_redis::{EntryId, Fields, Receipt, Record, RedisInbox};

pub(crate) type Fetched = Vec<Delivery<Record, Receipt>>;

/// Much longer than anything takes; a test that waits this long fails.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Waits for records.
pub(crate) fn fetch(inbox: &mut RedisInbox, max: usize) -> Fetched {
    let mut records = Vec::new();
    inbox.fetch(max, LONG, &mut records).expect("a fetch");
    assert!(!records.is_empty(), "no records within {LONG:?}");
    records
}

/// Fetches until there are this many.
pub(crate) fn fetch_all(inbox: &mut RedisInbox, count: usize) -> Fetched {
    let mut records = Vec::new();
    while records.len() < count {
        records.append(&mut fetch(inbox, count - records.len()));
    }
    records
}

/// Fetches with a wait that is long enough to look for expired leases, too: the tests set a claim interval of 1 ms.
pub(crate) fn fetch_now(inbox: &mut RedisInbox) -> Fetched {
    let mut records = Vec::new();
    inbox.fetch(1000, Duration::from_millis(30), &mut records).expect("a fetch");
    records
}

pub(crate) fn receipts(records: &[Delivery<Record, Receipt>]) -> Vec<Receipt> {
    records.iter().map(|delivery| delivery.receipt).collect()
}

pub(crate) fn payloads(records: &[Delivery<Record, Receipt>]) -> Vec<String> {
    let text = |delivery: &Delivery<Record, Receipt>| {
        String::from_utf8(delivery.record.payload().expect("a payload").to_vec()).expect("text")
    };
    records.iter().map(text).collect()
}

pub(crate) fn attempts(records: &[Delivery<Record, Receipt>]) -> Vec<u32> {
    records.iter().map(|delivery| delivery.attempt).collect()
}

/// Records with these numbers as payload.
pub(crate) fn numbered(numbers: std::ops::Range<usize>) -> Vec<Fields> {
    numbers.map(|number| Fields::from_payload(number.to_string())).collect()
}

pub(crate) fn texts(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

/// Adds records with these numbers as payload.
pub(crate) fn add(connection: &mut Connection, key: &str, numbers: std::ops::Range<usize>) -> Vec<EntryId> {
    let add = |number: usize| -> EntryId {
        let id: String = cmd("XADD").arg(key).arg("*").arg("payload").arg(number).query(connection).expect("XADD");
        id.parse().expect("an ID")
    };
    numbers.map(add).collect()
}

/// Lets all leases of a consumer expire: as if much time had passed.
pub(crate) fn age(connection: &mut Connection, key: &str, group: &str, consumer: &str) {
    let rows: Vec<(String, String, u64, u64)> = cmd("XPENDING")
        .arg(key)
        .arg(group)
        .arg("-")
        .arg("+")
        .arg(100_000)
        .arg(consumer)
        .query(connection)
        .expect("XPENDING");
    if rows.is_empty() {
        return;
    }
    let ids: Vec<String> = rows.into_iter().map(|row| row.0).collect();
    let mut claim = cmd("XCLAIM");
    claim.arg(key).arg(group).arg(consumer).arg(0).arg(ids).arg("IDLE").arg(100_000_000).arg("JUSTID");
    claim.exec(connection).expect("XCLAIM");
}

/// The number of pending entries of the group.
pub(crate) fn pending(connection: &mut Connection, key: &str, group: &str) -> u64 {
    let summary: redis::Value = cmd("XPENDING").arg(key).arg(group).query(connection).expect("XPENDING");
    match summary {
        redis::Value::Array(parts) => match parts[0] {
            redis::Value::Int(count) => count as u64,
            _ => panic!("no number"),
        },
        _ => panic!("no summary"),
    }
}

/// The payloads of all entries of a stream.
pub(crate) fn payloads_of(connection: &mut Connection, key: &str) -> Vec<String> {
    let entries: Vec<(String, Vec<String>)> =
        cmd("XRANGE").arg(key).arg("-").arg("+").query(connection).expect("XRANGE");
    entries.into_iter().map(|mut entry| entry.1.swap_remove(1)).collect()
}
