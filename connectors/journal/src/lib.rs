//! A durable queue in an SQLite file, for [`streamz`] pipelines that must survive a crash. It needs no server.
//!
//! A [`Journal`] is a file with named topics. A [`Writer`] appends [`Record`]s to a topic. A [`JournalInbox`] takes
//! them for a consumer group, and a record is redelivered until it has been acknowledged. With
//! [`Stream::deliver`](streamz::Stream::deliver), the pipeline acknowledges a record when everything made of it has
//! been processed; with [`Stream::deliver_to`](streamz::Stream::deliver_to), its results are written to another topic.
//!
//! ```
//! use std::time::Duration;
//! use streamz::delivery::{Acker, Inbox};
//! use streamz_journal::{Journal, JournalInboxOptions, Record};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("orders.journal");
//! let journal = Journal::open(path)?;
//! journal.writer("orders")?.append(&[Record::new("book"), Record::new("lamp")])?;
//!
//! // What a pipeline does for you.
//! let mut inbox = journal.inbox("orders", "billing", JournalInboxOptions::new())?;
//! let mut acker = inbox.acker()?;
//! let mut orders = Vec::new();
//! inbox.fetch(100, Duration::from_millis(250), &mut orders)?;
//! assert_eq!(orders[1].record.payload, b"lamp");
//! acker.acknowledge(&mut orders.into_iter().map(|order| order.receipt).collect())?;
//!
//! let status = journal.group_status("orders", "billing")?.unwrap();
//! assert_eq!((status.backlog, status.in_flight, status.acknowledged), (0, 0, 2));
//! # Ok(())
//! # }
//! ```
//!
//! # Delivery
//!
//! - An appended record is delivered to each group **at least once**. It is redelivered if its consumer died, gave it
//!   back, or let its lease expire; [`Delivery::attempt`](streamz::delivery::Delivery::attempt) counts.
//! - An acknowledged record is not redelivered, in whatever order acknowledgements come.
//! - A killed process leaves at most [`max_unacked`](streamz::delivery::DeliveryConfig::max_unacked) records to be
//!   redelivered. This happens when their lease expires, or at once if the process is restarted with
//!   [`take_over`](JournalInboxOptions::take_over).
//! - To write to an SQLite database **exactly once**, store the position with the rows: see [`Progress`].
//!
//! What a crash can lose:
//!
//! | what happens | with [`Synchronous::Normal`] | with [`Synchronous::Full`] |
//! |---|---|---|
//! | the process is killed | nothing | nothing |
//! | the machine loses power | the last commits: appended records, and acknowledgements, whose records are redelivered | nothing |
//!
//! # Dead letters
//!
//! [`Stream::into_records`](streamz::Stream::into_records) turns failures into [`Record`]s, and
//! [`Stream::replay`](streamz::Stream::replay) puts them back. [`Entry`] is the record type for both.
//!
//! ```
//! use streamz::delivery::{DeliveryConfig, Failure, Replay};
//! use streamz::{BatchConfig, Pipeline, Stream};
//! use streamz_journal::{Entry, Journal, JournalInboxOptions, Record};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("orders.journal");
//! let journal = Journal::open(path)?;
//! journal.writer("orders")?.append(&[Record::new("book"), Record::new("lamp")])?;
//! let bounded = || JournalInboxOptions::new().bounded(true);
//!
//! let pipeline = Pipeline::new("billing");
//! let orders = Stream::deliver(&pipeline, journal.inbox("orders", "billing", bounded())?, DeliveryConfig::default())?;
//! let (billed, failed) = orders
//!     .try_map(|order: &Entry| if order.payload == b"lamp" { Err("no price") } else { Ok(()) })
//!     .dead_letters();
//! billed.spawn_for_each(drop);
//! failed.into_records::<Entry>().deliver_to(journal.writer("orders.failed")?, BatchConfig::default())?;
//! pipeline.join();
//!
//! let letter = journal.read("orders.failed", 0, 1)?.remove(0);
//! let failure = Failure::read(&letter).unwrap();
//! assert_eq!((&*failure.reason, &*failure.topic, &*failure.position), ("no price", "orders", "2"));
//!
//! // When there is a price.
//! let pipeline = Pipeline::new("replay");
//! let replay = Replay::new().with_filter(|failure, _| failure.replays < 3).with_limit(1_000);
//! let count = Stream::replay(&pipeline, journal.inbox("orders.failed", "replay", bounded())?, replay)?
//!     .deliver_to(journal.writer("orders")?, BatchConfig::default())?;
//! pipeline.join();
//! assert_eq!((count, &*journal.read("orders", 3, 1)?[0].payload), (1, &b"lamp"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! # Ordering
//!
//! Positions in a topic are consecutive, in the order of the commits. A consumer receives records in the order of their
//! positions, except for redelivered ones, which come first. Several consumers of a group work in parallel, so records
//! with the same key may be processed at the same time. If the order per key matters, distribute the keys over several
//! topics, and give each topic one consumer.
//!
//! # Leases and clocks
//!
//! A consumer holds the records it has taken for the duration of its [lease](JournalInboxOptions::lease), and extends
//! it for as long as it lives. Leases are measured by the system clock, the only time that processes share. No jump of
//! that clock loses a record:
//!
//! - If it jumps ahead, leases expire early, and records that are still being processed are redelivered.
//! - If it jumps back, leases restart when any consumer checks next: the records of a dead process are redelivered
//!   later, by at most one lease.
//!
//! # Memory and disk
//!
//! An inbox holds one fetch. The progress of a group is one row, and one for each range of records in flight;
//! acknowledged records cost nothing. A record takes its key, its payload and about 20 bytes in the file, and stays
//! there until it is removed: see [`Retention`]. Before changes are copied into the file, they are stored beside it, in
//! a log of 16 MB or more (`-wal`); do not delete that log, and do not copy the file without it.
//!
//! # Errors
//!
//! A [`JournalError`] names the file, the topic, the group and the position. A busy or full disk, a locked file and a
//! failed read or write are [transient](JournalError::is_transient): the pipeline logs the error and retries.
//! Everything else is permanent. A failed call has changed nothing.
//!
//! # Limits
//!
//! - One machine. SQLite's log does not work on network file systems.
//! - One transaction at a time writes to a file, however many topics there are. Put topics with much traffic into
//!   separate files.
//! - Consumers in other processes notice new records within 25 ms.
//! - After a `fork`, open the journal again.
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]

mod acker;
mod error;
mod file;
mod group;
mod inbox;
mod journal;
mod progress;
mod record;
mod retention;
mod status;
mod writer;

pub use acker::{JournalAcker, Receipt};
pub use error::{JournalError, JournalErrorKind};
pub use inbox::{JournalInbox, JournalInboxOptions};
pub use journal::{Journal, JournalOptions, Start, Synchronous};
pub use progress::Progress;
pub use record::{Entry, Record};
pub use retention::Retention;
/// The SQLite client, whose types [`Progress`] uses.
pub use rusqlite;
pub use status::{ConsumerStatus, GroupStatus, TopicStatus};
pub use writer::Writer;

/// The README, so that its code is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
