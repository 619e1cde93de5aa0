//! [`RedisMonitor`]: how a group is doing.

use std::sync::Arc;
use std::time::Duration;

use streamz::delivery::StoreError;

use crate::error::Error;
use crate::group::{Group, Range};
use crate::reply;
use crate::shared::Shared;

/// Tells how a consumer group is doing, on a connection of its own; made by
/// [`RedisInbox::monitor`](crate::RedisInbox::monitor).
#[derive(Debug)]
pub struct RedisMonitor {
    group: Group,
    shared: Arc<Shared>,
}

/// How a consumer group is doing in one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// The key of the stream.
    pub stream: Arc<str>,
    /// How many entries the stream holds, whether they have been processed or not.
    pub length: u64,
    /// How many entries have not been delivered to the group yet. `None` if the server cannot say: before Redis 7, or after
    /// entries were deleted from within the stream.
    pub backlog: Option<u64>,
    /// How many entries were delivered and have not been acknowledged, by all consumers.
    pub in_flight: u64,
    /// How long ago the first of those was delivered or last kept alive. If this is more than the lease, no consumer is
    /// left that takes it over.
    pub oldest_idle: Option<Duration>,
    /// How many consumers the group knows, those included that are gone.
    pub consumers: u64,
}

impl RedisMonitor {
    pub(crate) fn new(group: Group, shared: Arc<Shared>) -> Self {
        Self { group, shared }
    }

    /// Asks the server. One entry for each stream of the inbox, in its order.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses to answer. If the group does not exist, its numbers are 0.
    pub fn status(&mut self) -> Result<Vec<GroupStatus>, StoreError> {
        (0..self.group.names.streams.len()).map(|stream| Ok(self.status_of(stream)?)).collect()
    }

    /// How many records the inbox has found deleted from the stream before they had been acknowledged: a
    /// [`max_len`](crate::RedisOutboxBuilder::max_len) was too small for the backlog.
    pub fn lost(&self) -> u64 {
        self.shared.lost()
    }

    fn status_of(&mut self, stream: usize) -> Result<GroupStatus, Error> {
        let length = self.group.length(stream)?;
        let info = self.group.info(stream)?.unwrap_or_default();
        let number = |name| reply::find(&info, name).and_then(reply::number);
        let in_flight = number("pending").unwrap_or(0);
        let oldest = match in_flight {
            0 => None,
            _ => self.group.pending(stream, Range::default(), 1)?.pop(),
        };
        Ok(GroupStatus {
            stream: Arc::clone(self.group.key(stream)),
            length,
            backlog: number("lag"),
            in_flight,
            oldest_idle: oldest.map(|oldest| Duration::from_millis(oldest.idle)),
            consumers: number("consumers").unwrap_or(0),
        })
    }
}
