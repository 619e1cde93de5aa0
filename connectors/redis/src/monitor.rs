//! [`RedisMonitor`]: the state of a group.

use std::sync::Arc;
use std::time::Duration;

use streamz::delivery::StoreError;

use crate::error::Error;
use crate::group::{Group, Range};
use crate::reply;
use crate::shared::Shared;

/// Reports the state of a consumer group, on its own connection; returned by
/// [`RedisInbox::monitor`](crate::RedisInbox::monitor).
#[derive(Debug)]
pub struct RedisMonitor {
    group: Group,
    shared: Arc<Shared>,
}

/// The state of a consumer group in one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// The key of the stream.
    pub stream: Arc<str>,
    /// The number of entries in the stream, processed or not.
    pub length: u64,
    /// The number of entries that have not been delivered to the group yet. `None` if the server cannot tell: before
    /// Redis 7, or after entries were deleted from within the stream.
    pub backlog: Option<u64>,
    /// The number of entries that were delivered and have not been acknowledged, for all consumers.
    pub in_flight: u64,
    /// The time since the oldest of those was delivered or last extended. If this is more than the lease, there is no
    /// consumer left to take it over.
    pub oldest_idle: Option<Duration>,
    /// The number of consumers known to the group, including dead ones.
    pub consumers: u64,
}

impl RedisMonitor {
    pub(crate) fn new(group: Group, shared: Arc<Shared>) -> Self {
        Self { group, shared }
    }

    /// Asks the server. Returns one entry for each stream of the inbox, in its order.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses to answer. If the group does not exist, its numbers are 0.
    pub fn status(&mut self) -> Result<Vec<GroupStatus>, StoreError> {
        (0..self.group.names.streams.len()).map(|stream| Ok(self.status_of(stream)?)).collect()
    }

    /// Returns how many records the inbox has found deleted from the stream before they had been acknowledged: a
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
