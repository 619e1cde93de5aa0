//! [`Record`] and [`Entry`]: the input and the output of a journal.
//!
//! Headers are stored as one blob: for each, the length of its name in four bytes (little-endian), the name, the length
//! of its value, the value. Without headers the blob is empty.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use streamz::delivery::StoredRecord;

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
    /// The subject of the record: records with the same key belong together. May be empty.
    pub key: Vec<u8>,
    /// The content. May be empty.
    pub payload: Vec<u8>,
    /// Names and values that accompany the payload, in order: the reason why it failed, or an identifier for tracing.
    pub headers: Vec<(String, Vec<u8>)>,
    /// When it happened. `None` means the time at which it is appended. Stored in milliseconds.
    pub time: Option<SystemTime>,
}

impl Record {
    /// Creates a record without a key, with the time at which it is appended.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// Sets the key.
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = key.into();
        self
    }

    /// Adds a header.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets when it happened.
    pub fn with_time(mut self, time: SystemTime) -> Self {
        self.time = Some(time);
        self
    }

    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.payload.len() + headers_len(&self.headers)
    }
}

/// A record in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The name of its topic.
    pub topic: Arc<str>,
    /// Its position in the topic. The first record of a topic has position 1, each later one the next number.
    pub position: i64,
    /// As in [`Record::key`].
    pub key: Vec<u8>,
    /// As in [`Record::payload`].
    pub payload: Vec<u8>,
    /// As in [`Record::headers`].
    pub headers: Vec<(String, Vec<u8>)>,
    /// When it happened, or when it was appended. Precise to the millisecond.
    pub time: SystemTime,
}

impl Entry {
    /// Returns the value of the first header with that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_slice())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.payload.len() + headers_len(&self.headers)
    }
}

/// The same record without its position, to be appended to another topic.
impl From<Entry> for Record {
    fn from(entry: Entry) -> Self {
        let Entry { key, payload, headers, time, .. } = entry;
        Self { key, payload, headers, time: Some(time) }
    }
}

impl StoredRecord for Entry {
    type New = Record;

    fn topic(&self) -> &str {
        &self.topic
    }

    fn position(&self) -> String {
        self.position.to_string()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        Entry::header(self, name)
    }

    /// The time is kept as well.
    fn rewrite(self, removed: &[&str], added: Vec<(&'static str, String)>) -> Record {
        let mut record = Record::from(self);
        record.headers.retain(|(name, _)| !removed.contains(&name.as_str()));
        record.headers.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())));
        record
    }
}

fn headers_len(headers: &[(String, Vec<u8>)]) -> usize {
    headers.iter().map(|(name, value)| 8 + name.len() + value.len()).sum()
}

pub(crate) fn encode_headers(headers: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(headers_len(headers));
    for part in headers.iter().flat_map(|(name, value)| [name.as_bytes(), value]) {
        // SQLite's blobs are shorter than 2 GiB.
        bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(part);
    }
    bytes
}

/// Returns `None` if they are damaged.
pub(crate) fn decode_headers(mut bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut part = || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        bytes = rest;
        Some((part.to_vec(), rest.is_empty()))
    };
    let mut headers = Vec::new();
    loop {
        let (name, _) = part()?;
        let (value, is_last) = part()?;
        headers.push((String::from_utf8(name).ok()?, value));
        if is_last {
            return Some(headers);
        }
    }
}

/// Milliseconds since the Unix epoch, as times are stored. A time out of range becomes the nearest one in range.
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
    fn headers_survive_a_round_trip() {
        let headers =
            [("reason".to_owned(), b"too late".to_vec()), (String::new(), Vec::new()), ("é".into(), vec![0; 300])];
        let bytes = encode_headers(&headers);
        assert_eq!(bytes.len(), headers_len(&headers));
        assert_eq!(decode_headers(&bytes).unwrap(), headers);
        for damaged in [&bytes[..3], &bytes[..14], &bytes[..bytes.len() - 1], &[1, 0, 0, 0, 255, 0, 0, 0, 0]] {
            assert_eq!(decode_headers(damaged), None);
        }
    }

    #[test]
    fn times_survive_a_round_trip_in_milliseconds() {
        for millis in [0, 1, -1, 1_700_000_000_123, -86_400_000] {
            assert_eq!(to_millis(from_millis(millis)), millis);
        }
        assert_eq!(duration_millis(Duration::MAX), i64::MAX);
    }
}
