//! [`End`]: where a bounded inbox ends.
//!
//! Offsets are not counts: those of transaction markers and of compacted records do not exist. So a partition has been
//! read to its end when the *position* of the client, which passes over them, has reached it; or when the group has
//! committed it, or retention has deleted everything before it.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use crate::error::{Error, Place};
use crate::ledger::Open;
use crate::poller::Client;
use crate::session::is_unknown;

/// The end of a partition.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// The offset after the last record; 0 if there is none.
    pub(crate) offset: i64,
}

/// The current ends of all partitions.
pub(crate) fn ends(client: &Client, topics: &[String], place: &Place, timeout: Duration) -> Result<Vec<End>, Error> {
    let failed = |cause: KafkaError| Error::of_client(place, "ask for offsets", &cause);
    let mut ends = Vec::new();
    for name in topics {
        let topic: Arc<str> = name.as_str().into();
        let metadata = client.fetch_metadata(Some(name), timeout).map_err(failed)?;
        if let Some(code) = metadata.topics().iter().find_map(|it| it.error().map(Code::from)) {
            let error = Error::of_code(place, "read", code).about(format!("topic `{name}`"));
            return Err(if is_unknown(code) { error.for_good() } else { error });
        }
        for partition in metadata.topics().iter().flat_map(|it| it.partitions()).map(|it| it.id()) {
            let (low, high) = client.fetch_watermarks(name, partition, timeout).map_err(failed)?;
            let offset = if low < high { high } else { 0 };
            ends.push(End { topic: Arc::clone(&topic), partition, offset });
        }
    }
    Ok(ends)
}

/// Whether the client has read all of these partitions to their ends. Asks the brokers about the others.
pub(crate) fn is_reached(
    client: &Client,
    open: Vec<Open>,
    starts_at_end: bool,
    timeout: Duration,
) -> Result<bool, Error> {
    let failed = |cause: KafkaError| Error::of_client(&client.context().place, "ask for offsets", &cause);
    if open.iter().any(|it| it.is_replaying) {
        return Ok(false);
    }
    let positions = client.position().map_err(failed)?;
    let unread = |it: &Open| {
        let position = offset_in(&positions, &it.end);
        position.is_none_or(|position| position < it.end.offset)
    };
    let left: Vec<End> = open.into_iter().filter(unread).map(|it| it.end).collect();
    if left.is_empty() {
        return Ok(true);
    }
    let mut list = TopicPartitionList::new();
    for it in &left {
        list.add_partition(&it.topic, it.partition);
    }
    let committed = client.committed_offsets(list, timeout).map_err(failed)?;
    for it in &left {
        let (low, high) = client.fetch_watermarks(&it.topic, it.partition, timeout).map_err(failed)?;
        if !is_past(it.offset, offset_in(&committed, it), (low, high), starts_at_end) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a partition whose end the client has not read will bring nothing more.
fn is_past(end: i64, committed: Option<i64>, (low, high): (i64, i64), starts_at_end: bool) -> bool {
    let is_done = match committed {
        // An offset beyond the last record is invalid; it is left from a topic of this name that was deleted. The
        // client starts again.
        Some(committed) => (end..=high).contains(&committed),
        None => starts_at_end,
    };
    is_done || end <= low
}

fn offset_in(list: &TopicPartitionList, end: &End) -> Option<i64> {
    match list.find_partition(&end.topic, end.partition)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_past_when_it_is_committed_or_deleted() {
        for (committed, low, high, starts_at_end, expected) in [
            (None, 0, 10, false, false),
            (Some(9), 0, 10, false, false),
            (Some(10), 0, 10, false, true),
            (Some(12), 0, 15, false, true),
            // Retention has deleted the records.
            (Some(3), 10, 12, false, true),
            (None, 9, 12, false, false),
            // The topic was deleted and created again.
            (Some(70), 0, 10, false, false),
            // A group that starts at the end.
            (None, 0, 12, true, true),
            (Some(3), 0, 12, true, false),
        ] {
            let found = is_past(10, committed, (low, high), starts_at_end);
            assert_eq!(found, expected, "{committed:?}, {low} to {high}");
        }
    }
}
