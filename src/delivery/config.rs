//! [`DeliveryConfig`].

use std::time::Duration;

use super::inbox::StoreError;

/// Sets how [`Stream::deliver`](crate::Stream::deliver) takes records and acknowledges them.
///
/// ```
/// use streamz::delivery::DeliveryConfig;
///
/// let config = DeliveryConfig { max_unacked: 1_000, ..DeliveryConfig::default() };
/// assert_eq!((config.fetch, config.epoch), (512, 64));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// The greatest number of records fetched in one call. Defaults to 512. At least 1.
    pub fetch: usize,
    /// The longest time that a fetch waits for the first record. Defaults to 250 ms. A cancel or a drain is seen when
    /// the fetch returns, so this bounds how long they take.
    pub wait: Duration,
    /// The greatest number of records between two marks, the unit in which records are acknowledged. Defaults to 64. At
    /// least 1, with which each record is acknowledged on its own, at several times the cost. A mark also follows the
    /// last record of each fetch.
    pub epoch: usize,
    /// The greatest number of records that are fetched and not acknowledged yet; at the limit, none is fetched.
    /// Defaults to 65,536. At least 1.
    ///
    /// This bounds how many records are processed twice after a crash. It must be larger than what the stages hold: a
    /// window that is closed by a later record never closes if that record is not fetched. The log warns when the limit has
    /// been reached and nothing has been acknowledged for 30 s.
    pub max_unacked: usize,
    /// The longest time that an acknowledgement waits for others, to be sent with them in one call. Defaults to 10 ms.
    /// With zero each goes as soon as the one before it has returned. [`fetch`](Self::fetch) records do not wait, nor
    /// do all that may be in flight; with `Duration::MAX` nothing else is acknowledged before the source ends.
    pub ack_interval: Duration,
    /// The interval at which the leases of the records in flight are extended. Defaults to `None`: every third of the
    /// [lease](super::Inbox::lease), or every 10 s if the inbox does not tell its lease. Zero means never, for records
    /// that are always processed well within their lease.
    ///
    /// Must be at most a third of the lease, so that a lease still holds if one call fails or is late.
    pub keep_alive: Option<Duration>,
    /// The number of times that a record is delivered before it is set aside: from then on it is an error item of kind
    /// [`Failed`](crate::ErrorKind::Failed) whose source is [`TooManyDeliveries`](super::TooManyDeliveries), and
    /// carries the record. Defaults to `None`, no limit. For records that kill the process.
    ///
    /// It counts crashes of others, too: a record may have been in flight each time without being at fault. So do not
    /// choose it too small; 5 is a good value.
    pub max_deliveries: Option<u32>,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            fetch: 512,
            wait: Duration::from_millis(250),
            epoch: 64,
            max_unacked: 65_536,
            ack_interval: Duration::from_millis(10),
            keep_alive: None,
            max_deliveries: None,
        }
    }
}

/// How often leases of unknown length are extended.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The minimum number of times that a lease is extended before it would expire.
const CALLS_PER_LEASE: u32 = 3;

impl DeliveryConfig {
    /// # Panics
    /// If a number is 0.
    #[track_caller]
    pub(super) fn check(&self) {
        assert!(self.fetch > 0, "`fetch` must be at least 1");
        assert!(self.epoch > 0, "`epoch` must be at least 1");
        assert!(self.max_unacked > 0, "`max_unacked` must be at least 1");
        assert!(self.max_deliveries != Some(0), "`max_deliveries` must be at least 1");
    }

    /// How often leases of this length are extended; `None` for never.
    pub(super) fn keep_alive_for(&self, lease: Option<Duration>) -> Result<Option<Duration>, StoreError> {
        let longest = lease.map(|lease| lease / CALLS_PER_LEASE);
        let period = match (self.keep_alive, longest) {
            (Some(keep_alive), Some(longest)) if keep_alive > longest => {
                let lease = lease.unwrap_or_default();
                return Err(StoreError::permanent(format!(
                    "`keep_alive` is {keep_alive:?}, and must be at most {longest:?}, a third of the inbox's lease of {lease:?}"
                )));
            }
            (Some(keep_alive), _) => keep_alive,
            (None, longest) => longest.unwrap_or(KEEP_ALIVE),
        };
        Ok((!period.is_zero()).then_some(period))
    }
}
