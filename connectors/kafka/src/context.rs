//! [`Context`]: the client's callbacks, and commits.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::clock;
use crate::error::{Error, Place};
use crate::ledger::Ledger;

/// The client calls it on the thread that polls.
pub(crate) struct Context {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) place: Place,
    /// How long to wait for records in flight at a revocation.
    pub(crate) revoke_wait: Duration,
    /// Records come with their headers.
    pub(crate) read_headers: bool,
    /// The partitions are paused, so added ones must be, too.
    pub(crate) is_paused: AtomicBool,
    /// The number of rebalances that have been answered.
    pub(crate) rebalances: AtomicUsize,
    /// Held by a commit, so that a later one is not overtaken.
    pub(crate) committing: Mutex<()>,
    /// The last problem that the client has reported.
    pub(crate) said: Said,
}

/// The last error that the client has reported: it is more specific than the error that a call returns.
#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<Option<(Code, String)>>);

impl Said {
    pub(crate) fn say(&self, error: &KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            let mut said = self.0.lock();
            // That all brokers are down follows from an earlier report.
            if said.is_none() || code != Code::AllBrokersDown {
                *said = Some((code, reason.to_owned()));
            }
        }
    }

    pub(crate) fn take(&self) -> Option<(Code, String)> {
        self.0.lock().take()
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // The client recovers by itself; a poll returns errors that persist.
        log::debug!("kafka {}: {error}: {reason}", self.place.brokers);
        self.said.say(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                log::info!("{}: assigned {}", self.whose(), positions(partitions));
                self.ledger.assign(partitions);
            }
            Rebalance::Revoke(partitions) => {
                log::info!("{}: revoked {}", self.whose(), positions(partitions));
                self.revoke(consumer, partitions);
            }
            Rebalance::Error(error) => log::warn!("{}: cannot rebalance: {error}", self.whose()),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // Relaxed: it is only read by the thread that polls.
        self.rebalances.fetch_add(1, Ordering::Relaxed);
        let Rebalance::Assign(partitions) = rebalance else { return };
        // Also resumed: a partition that was paused when it was lost is still paused when it is assigned again.
        let is_paused = self.is_paused.load(Ordering::Relaxed);
        let done = if is_paused { consumer.pause(partitions) } else { consumer.resume(partitions) };
        if let Err(error) = done {
            log::warn!("{}: cannot pause or resume {}: {error}", self.whose(), positions(partitions));
        }
    }
}

impl Context {
    fn whose(&self) -> String {
        let Place { brokers, group, .. } = &self.place;
        format!("kafka {brokers}, group `{}`", group.as_deref().unwrap_or_default())
    }

    /// Waits for delivered records to be processed, then commits the result.
    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        if consumer.assignment_lost() {
            log::warn!("{}: lost {}: records in flight will be redelivered", self.whose(), positions(partitions));
        } else {
            let deadline = clock::now() + self.revoke_wait;
            let open = self.ledger.wait_until_settled(partitions, deadline);
            if open > 0 && !self.ledger.is_closing() {
                log::warn!("{}: {open} records were not processed in time and will be redelivered", self.whose());
            }
            self.commit(consumer, Some(partitions)).unwrap_or_else(|error| log::warn!("{error}"));
        }
        self.ledger.retire(partitions);
    }

    /// Commits the processed records of the given partitions, or of all, and waits for the result.
    ///
    /// The client reports the result only of a commit that is waited for, so each one is; that is why a thread does it.
    pub(crate) fn commit(&self, consumer: &BaseConsumer<Self>, of: Option<&TopicPartitionList>) -> Result<(), Error> {
        let _one_at_a_time = self.committing.lock();
        let due = self.ledger.due(of);
        if due.count() == 0 {
            return Ok(());
        }
        match consumer.commit(&due, CommitMode::Sync) {
            Ok(()) => {
                self.ledger.committed(&due);
                Ok(())
            }
            Err(error) => Err(Error::of_client(&self.place, "commit", &error).about(positions(&due))),
        }
    }
}

/// Partitions and offsets as text.
pub(crate) fn positions(list: &TopicPartitionList) -> String {
    let mut text = String::new();
    for (index, element) in list.elements().iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{}/{}", element.topic(), element.partition());
        if let Some(offset) = element.offset().to_raw().filter(|offset| *offset >= 0) {
            let _ = write!(text, " at {offset}");
        }
    }
    text
}
