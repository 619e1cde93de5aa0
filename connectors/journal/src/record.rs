//! [`Record`] and [`Entry`]: what goes into a journal, and what comes out.

use std::time::{Duration, SystemTime};

/// A record to append: a key, a payload, and a time.
///
/// ```
/// use streamz_journal::Record;
///
/// let record = Record::new("42.50 EUR").with_key("account-7");
/// assert_eq!(record.payload, b"42.50 EUR");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// What the record is about: records with the same key belong together. May be empty.
    pub key: Vec<u8>,
    /// The content. May be empty.
    pub payload: Vec<u8>,
    /// When it happened. `None` stands for the time at which it is appended. Stored in milliseconds.
    pub time: Option<SystemTime>,
}

impl Record {
    /// A record without a key, with the time at which it is appended.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { key: Vec::new(), payload: payload.into(), time: None }
    }

    /// Sets the key.
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = key.into();
        self
    }

    /// Sets when it happened.
    pub fn with_time(mut self, time: SystemTime) -> Self {
        self.time = Some(time);
        self
    }

    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.payload.len()
    }
}

/// A record that lies in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Where it is in its topic. The first record of a topic has position 1, each one after it the next number.
    pub position: i64,
    /// As in [`Record::key`].
    pub key: Vec<u8>,
    /// As in [`Record::payload`].
    pub payload: Vec<u8>,
    /// When it happened, or when it was appended. Precise to the millisecond.
    pub time: SystemTime,
}

/// The same record, to be appended to another topic: with its key and its time, without its position.
impl From<Entry> for Record {
    fn from(entry: Entry) -> Self {
        Self { key: entry.key, payload: entry.payload, time: Some(entry.time) }
    }
}

/// Milliseconds since the Unix epoch, as times are stored. What is out of range becomes the nearest that is not.
pub(crate) fn to_millis(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => duration_millis(after),
        Err(before) => -duration_millis(before.duration()),
    }
}

pub(crate) fn from_millis(millis: i64) -> SystemTime {
    let distance = Duration::from_millis(millis.unsigned_abs());
    let time = if millis < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(crate) fn duration_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_a_round_trip_in_milliseconds() {
        for millis in [0, 1, -1, 1_700_000_000_123, -86_400_000] {
            assert_eq!(to_millis(from_millis(millis)), millis);
        }
        assert_eq!(duration_millis(Duration::MAX), i64::MAX);
    }
}
