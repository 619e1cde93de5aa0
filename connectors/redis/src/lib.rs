#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]

mod acker;
mod builder;
mod clock;
mod error;
mod group;
mod id;
mod inbox;
mod link;
mod monitor;
mod outbox;
mod record;
mod reply;
mod search;
mod shared;

pub use acker::RedisAcker;
pub use builder::{RedisInboxBuilder, Start};
pub use error::Error;
pub use id::{EntryId, ParseEntryIdError};
pub use inbox::RedisInbox;
pub use monitor::{GroupStatus, RedisMonitor};
pub use outbox::{RedisOutbox, RedisOutboxBuilder};
pub use record::{Fields, PAYLOAD, Receipt, Record};
/// The client, for [`IntoConnectionInfo`](redis::IntoConnectionInfo) and [`RedisError`](redis::RedisError).
pub use redis;
