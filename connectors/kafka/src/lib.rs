#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]

mod acker;
mod bound;
mod builder;
mod clock;
mod context;
mod error;
mod inbox;
mod ledger;
mod monitor;
mod outbox;
mod poller;
mod progress;
mod record;
mod session;

pub use acker::KafkaAcker;
pub use builder::{KafkaInboxBuilder, Start};
pub use error::Error;
pub use inbox::KafkaInbox;
pub use monitor::{KafkaMonitor, PartitionStatus};
pub use outbox::{KafkaOutbox, KafkaOutboxBuilder};
/// The client, for [`RDKafkaErrorCode`](rdkafka::error::RDKafkaErrorCode).
pub use rdkafka;
pub use record::{ATTEMPT, NewRecord, Receipt, Record};
