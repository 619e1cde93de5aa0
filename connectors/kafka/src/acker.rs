//! [`KafkaAcker`]: commits processed records.

use std::sync::Arc;

use streamz::delivery::{Acker, StoreError};

use crate::record::Receipt;
use crate::session::Session;

/// Commits, per partition, the offset before which everything has been processed.
///
/// Receipts of a partition that has been reassigned to another consumer are ignored.
#[derive(Debug)]
pub struct KafkaAcker {
    session: Arc<Session>,
}

impl KafkaAcker {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }
}

impl Acker for KafkaAcker {
    type Receipt = Receipt;

    /// Does not wait for the commit, which a thread makes every
    /// [`commit_interval`](crate::KafkaInboxBuilder::commit_interval). A transient failure is logged and the commit
    /// retried; a permanent one is the error of the next call. With an interval of zero, each call commits.
    fn acknowledge(&mut self, receipts: &mut Vec<Receipt>) -> Result<(), StoreError> {
        let core = &self.session.core;
        core.context().ledger.settle(receipts);
        Ok(core.settled()?)
    }

    /// The next fetch seeks back to the first of these records, and delivers those that were given back, not the
    /// others. Until then they prevent the offset of their partition from being committed.
    fn give_back(&mut self, receipts: Vec<Receipt>) -> Result<(), StoreError> {
        self.session.core.context().ledger.give_back(receipts);
        Ok(())
    }
}
