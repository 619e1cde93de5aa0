//! [`KafkaInbox`]: topics as a source of records.

use std::sync::Arc;
use std::time::Duration;

use streamz::delivery::{Delivery, Inbox, StoreError};

use crate::acker::KafkaAcker;
use crate::builder::KafkaInboxBuilder;
use crate::clock;
use crate::monitor::KafkaMonitor;
use crate::record::{Receipt, Record};
use crate::session::Session;

/// A consumer of a group, for [`Stream::deliver`](streamz::Stream::deliver).
///
/// The brokers distribute the partitions of the topics among all consumers of the group. The progress of each partition
/// is committed as one offset; all records before it have been processed.
///
/// # Ordering
/// Records of a partition arrive in order, and so do records of a key; those of different partitions in any order.
///
/// # Back-pressure
/// While nothing is fetched, the partitions are paused after a moment, and the consumer stays in the group.
///
/// # Cancellation
/// When the inbox and its acker are dropped, processed records are committed, and the consumer leaves the group, so
/// that its partitions are reassigned at once. That waits for the brokers.
#[derive(Debug)]
pub struct KafkaInbox {
    session: Arc<Session>,
    is_exhausted: bool,
}

impl KafkaInbox {
    /// Returns a builder for an inbox that reads a topic as a consumer of a group. `brokers` lists some of the brokers,
    /// with ports and separated by commas: `a:9092,b:9092`.
    pub fn builder(
        brokers: impl Into<Arc<str>>,
        topic: impl Into<String>,
        group: impl Into<Arc<str>>,
    ) -> KafkaInboxBuilder {
        KafkaInboxBuilder::new(brokers.into(), topic.into(), group.into())
    }

    pub(crate) fn new(session: Session) -> Self {
        Self { session: Arc::new(session), is_exhausted: false }
    }

    /// Returns a monitor of the group, which also works while the pipeline runs.
    pub fn monitor(&self) -> KafkaMonitor {
        KafkaMonitor::new(&self.session.core)
    }
}

impl Inbox for KafkaInbox {
    type Record = Record;
    type Receipt = Receipt;
    type Acker = KafkaAcker;

    /// Takes longer than `wait` during a rebalance: by at most the builder's
    /// [`revoke_wait`](KafkaInboxBuilder::revoke_wait).
    fn fetch(
        &mut self,
        max: usize,
        wait: Duration,
        records: &mut Vec<Delivery<Record, Receipt>>,
    ) -> Result<(), StoreError> {
        let core = &self.session.core;
        let deadline = clock::now() + wait;
        // The other thread that polls may be in a rebalance.
        let Some(mut poller) = core.poller.try_lock_until(deadline) else { return Ok(()) };
        let before = records.len();
        poller.fetch(&core.client, max, deadline, records);
        match poller.take_trouble() {
            Some(error) if !error.is_transient() || records.len() == before => return Err(error.into()),
            Some(error) => log::warn!("{error}"),
            None => {}
        }
        core.check_topics(&mut poller)?;
        self.is_exhausted = records.len() == before && poller.is_empty() && core.has_reached_its_ends()?;
        Ok(())
    }

    fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    fn acker(&mut self) -> Result<KafkaAcker, StoreError> {
        Ok(KafkaAcker::new(Arc::clone(&self.session)))
    }
}
