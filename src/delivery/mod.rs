//! Delivers records at least once: a record is acknowledged at its store only when it has been processed, so it
//! survives a crash.
//!
//! [`Stream::deliver`](crate::Stream::deliver) reads records from an [`Inbox`]: a queue, log or table that keeps a
//! record until it has been acknowledged. Everything behind it stays as it is: the same operators, closures and types.
//! A record that was not processed because of a crash, a cancel or an error is delivered again. So each record is
//! processed *at least once*; after a clean end or a drain, exactly once.
//!
//! # How it works
//!
//! After at most [`epoch`](DeliveryConfig::epoch) records, and whenever the source is about to wait, it puts a *mark*
//! into the stream. Each stage holds a mark back until everything that it received before has been settled, and passes
//! it on behind what was made of that. A stage with several outputs passes a copy to each. A sink completes a mark when
//! everything before it has been processed; when all copies of it are complete, the records are acknowledged. This is
//! the barrier of Chandy and Lamport ("Distributed snapshots", 1985), as Flink uses it, except that nothing is saved
//! and inputs need not be aligned: a mark only counts.
//!
//! # What counts as processed
//!
//! | a record | is acknowledged |
//! |---|---|
//! | was processed by the sink: its closure has returned | yes |
//! | was removed by a filter, `dedupe`, a dropping buffer, a sample | yes |
//! | became an error item that the sink, `Recover` or the reader of the dead letters has handled | yes, after that |
//! | is held in a batch, window, session, delay, pool | when it has been emitted and processed |
//! | was multiplied by `flat_map`, a fan-out, a router | when all resulting items have been processed |
//! | was in flight at a cancel, in a stream that was cut, or behind a sink that stopped at an error | no: it is delivered again |
//! | went to a stream that was dropped | no |
//!
//! # Dead letters
//!
//! [`Stream::into_records`](crate::Stream::into_records) turns dead letters into records of the store, with the headers of a
//! [`Failure`]; [`Stream::replay`](crate::Stream::replay) turns them back. Both work for any [`StoredRecord`].
//!
//! # Limits
//!
//! - Duplicates: after a crash, up to [`max_unacked`](DeliveryConfig::max_unacked) records come again. The work of the
//!   sink must tolerate that.
//! - [`Stream::into_receiver`](crate::Stream::into_receiver) does not know when its items have been processed. Records that
//!   leave the pipeline that way are never acknowledged.
//! - [`Pipeline::join`](crate::Pipeline::join) waits until everything that the stages and sinks have processed is
//!   acknowledged, but not for records in a stream that has no consumer: those are delivered again.

mod acker;
mod config;
mod dead_letters;
mod inbox;
mod ledger;
mod outbox;
mod pauses;
mod replay;
mod source;

pub use config::DeliveryConfig;
pub use dead_letters::{Failure, StoredRecord};
pub use inbox::{Acker, Delivery, Inbox, StoreError};
pub use outbox::Outbox;
pub use replay::{NotADeadLetter, Replay};
pub use source::TooManyDeliveries;
