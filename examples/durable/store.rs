//! [`Store`]: the program's interface to the place where its records are stored.

use std::time::Duration;

use streamz::delivery::{Inbox, Outbox, StoredRecord};

use crate::Fallible;

/// How long records are reserved for the worker that took them.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// A journal, or a server. Topics and groups are created when they are first used.
pub(crate) trait Store: Sized + 'static {
    type Inbox: Inbox<Record = Self::Taken>;
    type Taken: StoredRecord<New = Self::New> + Sync;
    type Outbox: Outbox<Record = Self::New> + Send + 'static;
    type New: Send + 'static;

    /// A consumer of a group that has each record for [`LEASE`].
    fn inbox(&self, topic: &str, group: &str, consumer: &str) -> Fallible<Self::Inbox>;

    /// A consumer that reads a topic from its start, and acknowledges nothing.
    fn reader(&self, topic: &str) -> Fallible<Self::Inbox>;

    fn outbox(&self, topic: &str) -> Fallible<Self::Outbox>;

    /// The number of records in a topic.
    fn len(&self, topic: &str) -> Fallible<u64>;

    /// The state of a group.
    fn group(&self, topic: &str, group: &str) -> Fallible<Group>;

    fn record(key: &[u8], payload: &[u8]) -> Self::New;

    fn key(record: &Self::Taken) -> &[u8];

    fn payload(record: &Self::Taken) -> &[u8];

    /// Removes everything that the program has created.
    fn remove(&self, topics: &[&str]) -> Fallible<()>;
}

/// The state of a group in a topic. `None` for values that the store does not know.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Records that no consumer has taken.
    pub(crate) backlog: Option<u64>,
    pub(crate) in_flight: Option<u64>,
    pub(crate) redelivered: Option<u64>,
    /// Records that are not acknowledged: the backlog and the records in flight.
    pub(crate) unacknowledged: u64,
}

/// Calls `each` with the number in each record of a topic.
pub(crate) fn read<S: Store>(
    store: &S,
    topic: &str,
    mut each: impl FnMut(u64) -> Fallible<()>,
) -> Fallible<()> {
    /// A new group takes some seconds to form in Kafka.
    const ROUNDS: u32 = 30;
    let mut left = store.len(topic)?;
    if left == 0 {
        return Ok(());
    }
    let mut inbox = store.reader(topic)?;
    let (mut records, mut quiet) = (Vec::new(), 0);
    while left > 0 {
        inbox.fetch(10_000, Duration::from_secs(1), &mut records)?;
        quiet = if records.is_empty() { quiet + 1 } else { 0 };
        if quiet == ROUNDS {
            return Err(format!("{left} records of `{topic}` cannot be read").into());
        }
        for delivery in records.drain(..) {
            each(std::str::from_utf8(S::payload(&delivery.record))?.parse()?)?;
            left = left.saturating_sub(1);
        }
    }
    Ok(())
}
