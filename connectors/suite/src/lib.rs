//! The tests that every connector passes.
//!
//! A connector implements [`Store`] in one of its test programs, and calls the macro [`suite!`](crate::suite) there:
//!
//! ```ignore
//! struct Redis { /* ... */ }
//! impl streamz_connector_suite::Store for Redis { /* ... */ }
//! streamz_connector_suite::suite!(Redis);
//! ```
//!
//! The constants declare what a store cannot do; a test that needs it checks less, or nothing.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::time::Duration;

use streamz::delivery::{Acker, Inbox, Outbox, StoredRecord};

pub mod crash;
pub mod log;
pub mod pipelines;
pub mod speed;
pub mod tests;

/// The record of an inbox.
pub type RecordOf<S> = <<S as Store>::Inbox as Inbox>::Record;
/// The acker of an inbox.
pub type AckerOf<S> = <<S as Store>::Inbox as Inbox>::Acker;

/// A store under test, and the operations that the tests need. A test names the topic, stream or key.
pub trait Store: Sized + Sync {
    /// Takes records as a consumer of a group.
    type Inbox: Inbox<Record: Sync + StoredRecord<New = <Self::Outbox as Outbox>::Record>>;
    /// Writes records.
    type Outbox: Outbox<Record: Send + 'static> + Send + 'static;

    /// Its name in messages.
    const NAME: &'static str;
    /// How long records are reserved for the consumer that took them.
    const LEASE: Duration;
    /// The maximum time until a new consumer gets its first record.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// Records come in the order in which they were appended. If not, those with the same key do.
    const TOTAL_ORDER: bool = true;
    /// An acknowledged record is not redelivered, even if an earlier one is not acknowledged.
    const ACKNOWLEDGES_EACH: bool = true;
    /// It counts how often a record has been delivered.
    const COUNTS_ATTEMPTS: bool = true;
    /// A record that is given back is redelivered at once.
    const GIVES_BACK: bool = true;
    /// A lease covers each taken record, and `keep_alive` extends it. If not, the client maintains its membership
    /// itself.
    const HAS_LEASES: bool = true;

    /// An empty store, or the reason why it cannot be tested here.
    fn start() -> Result<Self, String>;

    /// Appends records, each a key and a payload.
    fn append(&self, topic: &str, records: &[(Vec<u8>, Vec<u8>)]);

    /// A new consumer. The group starts at the oldest record.
    fn inbox(&self, topic: &str, group: &str, consumer: &str) -> Self::Inbox;

    /// A consumer whose inbox ends at the newest record of this moment. `None` if the store has no such inbox.
    fn bounded_inbox(&self, topic: &str, group: &str, consumer: &str) -> Option<Self::Inbox> {
        let _ = (topic, group, consumer);
        None
    }

    /// Returns an outbox that writes to a topic.
    fn outbox(&self, topic: &str) -> Self::Outbox;

    /// A record that the outbox refuses permanently.
    fn refused_record() -> <Self::Outbox as Outbox>::Record;

    /// A record for the outbox.
    fn record(key: &[u8], payload: &[u8]) -> <Self::Outbox as Outbox>::Record;

    /// The key of a record.
    fn key(record: &RecordOf<Self>) -> &[u8];

    /// The payload of a record.
    fn payload(record: &RecordOf<Self>) -> &[u8];

    /// All payloads in a topic, acknowledged or not.
    fn contents(&self, topic: &str) -> Vec<Vec<u8>>;

    /// The number of records that the group has not acknowledged.
    fn unacknowledged(&self, topic: &str, group: &str) -> u64;

    /// Simulates the death of a consumer: it gives nothing back and extends no lease.
    fn kill(&self, inbox: Self::Inbox, acker: AckerOf<Self>);

    /// Lets time pass for the leases.
    fn advance(&self, by: Duration);
}

/// Runs a test of the suite, unless the store cannot be tested here.
pub fn run<S: Store>(test: fn(&S)) {
    match S::start() {
        Ok(store) => test(&store),
        Err(reason) => eprintln!("skipped: {} cannot be tested here: {reason}", S::NAME),
    }
}

/// Declares every test of the suite for a [`Store`].
#[macro_export]
macro_rules! suite {
    ($store:ty) => {
        $crate::suite! { $store, tests:
            records_come_in_order
            fetch_returns_no_more_than_requested
            acknowledged_records_are_not_redelivered
            records_of_a_dead_consumer_are_redelivered
            attempts_are_counted
            acknowledgements_come_in_any_order
            acknowledging_twice_does_no_harm
            returned_records_are_redelivered_at_once
            inboxes_report_their_lease
            keep_alive_extends_leases
            leases_expire_without_keep_alive
            groups_are_independent
            consumers_of_a_group_share_the_records
            consumers_in_threads_lose_nothing
            fetch_waits_for_its_limit
            fetch_sees_what_is_appended_while_it_waits
            payloads_are_stored_unchanged
            outbox_writes_all_of_a_batch
            outbox_reports_refused_records_one_by_one
            progress_survives_a_restart
        }
        $crate::suite! { $store, pipelines:
            a_drained_pipeline_has_acknowledged_everything
            a_cancelled_pipeline_loses_nothing
            a_sink_that_stops_acknowledges_nothing_it_did_not_process
            failures_are_acknowledged_when_they_are_stored
            records_delivered_too_often_are_dead_letters
            a_bounded_pipeline_ends_by_itself
            records_written_elsewhere_are_acknowledged
            dead_letters_say_what_failed_and_where_it_was
            records_that_cannot_be_decoded_are_dead_letters
            dead_letters_are_replayed_up_to_a_limit
        }
    };
    ($store:ty, $group:ident: $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                $crate::run::<$store>($crate::$group::$test);
            }
        )*
    };
}

/// The acker of an inbox.
pub(crate) fn acker<I: Inbox>(inbox: &mut I) -> I::Acker {
    inbox.acker().unwrap_or_else(|error| panic!("no acker: {error}"))
}

/// Acknowledges, and checks that no receipt is left.
pub(crate) fn acknowledge<A: Acker>(acker: &mut A, mut receipts: Vec<A::Receipt>) {
    acker.acknowledge(&mut receipts).unwrap_or_else(|error| panic!("cannot acknowledge: {error}"));
    assert!(receipts.is_empty(), "{} receipts are left", receipts.len());
}
