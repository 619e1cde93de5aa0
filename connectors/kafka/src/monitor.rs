//! [`KafkaMonitor`]: the state of a consumer.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use streamz::delivery::StoreError;

use crate::error::Error;
use crate::session::Core;

/// Reports the state of a consumer; returned by [`KafkaInbox::monitor`](crate::KafkaInbox::monitor).
///
/// Clones report on the same consumer. A monitor does not keep the consumer alive: when the pipeline has ended, it
/// reports nothing.
#[derive(Clone)]
pub struct KafkaMonitor {
    core: Weak<Core>,
}

/// The state of a consumer in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition of the topic.
    pub partition: i32,
    /// The offset of the oldest record in the partition.
    pub low: i64,
    /// The offset after the last record.
    pub high: i64,
    /// The offset at which the group would continue after a crash. `None` if it has none.
    pub committed: Option<i64>,
    /// The number of records that the group has not committed.
    pub lag: u64,
    /// The number of records that are being processed.
    pub in_flight: u64,
}

impl KafkaMonitor {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::downgrade(core) }
    }

    /// Returns the partitions that this consumer has, without asking the brokers.
    pub fn assignment(&self) -> Vec<(Arc<str>, i32)> {
        let standings = self.core.upgrade().map(|core| core.context().ledger.standings()).unwrap_or_default();
        standings.into_iter().map(|it| (it.topic, it.partition)).collect()
    }

    /// Asks the brokers about the partitions that this consumer has. The sum of `lag` over all consumers of the group is
    /// the backlog of the group.
    ///
    /// # Errors
    /// If the brokers do not answer within the timeout, which applies to each partition.
    pub fn status(&self, timeout: Duration) -> Result<Vec<PartitionStatus>, StoreError> {
        let Some(core) = self.core.upgrade() else { return Ok(Vec::new()) };
        let standings = core.context().ledger.standings();
        let mut list = TopicPartitionList::new();
        for it in &standings {
            list.add_partition(&it.topic, it.partition);
        }
        if standings.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |cause| Error::of_client(&core.context().place, "ask for offsets", &cause);
        let committed = core.client.committed_offsets(list, timeout).map_err(failed)?;
        let status = standings.into_iter().map(|it| {
            let (low, high) = core.client.fetch_watermarks(&it.topic, it.partition, timeout).map_err(failed)?;
            let committed = match committed.find_partition(&it.topic, it.partition).map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => Some(offset),
                _ => None,
            };
            let lag = u64::try_from(high - committed.unwrap_or(low).max(low)).unwrap_or(0);
            let (topic, partition, in_flight) = (it.topic, it.partition, it.in_flight);
            Ok(PartitionStatus { topic, partition, low, high, committed, lag, in_flight })
        });
        Ok(status.collect::<Result<_, Error>>()?)
    }
}

impl fmt::Debug for KafkaMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaMonitor").field("assignment", &self.assignment()).finish()
    }
}
