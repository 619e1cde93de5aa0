//! [`Record`], [`NewRecord`] and [`Receipt`]: the data exchanged between topics and pipelines.

use std::fmt;
use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use streamz::delivery::StoredRecord;

/// The header that counts how many times a record was put back by [`Record::put_back`].
pub const ATTEMPT: &str = "streamz-attempt";

type Pairs = [(String, Option<Vec<u8>>)];

/// A record of a topic.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    topic: Arc<str>,
    /// The key, followed by the payload.
    bytes: Box<[u8]>,
    headers: Box<Pairs>,
    offset: i64,
    timestamp: Option<i64>,
    partition: i32,
    key_len: Option<u32>,
    has_payload: bool,
}

impl Record {
    pub(crate) fn new(message: &BorrowedMessage<'_>, topic: Arc<str>, read_headers: bool) -> Self {
        let (key, payload) = (message.key(), message.payload());
        // The client allocates a buffer to look for headers, even if there are none.
        let headers = if read_headers { message.headers() } else { None };
        let headers = headers.map_or_else(Box::default, |headers| {
            let pairs = headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
            pairs.collect()
        });
        let bytes = match (key, payload) {
            (Some(key), Some(payload)) => [key, payload].concat().into(),
            (Some(only), None) | (None, Some(only)) => only.into(),
            (None, None) => Box::default(),
        };
        Self {
            topic,
            bytes,
            headers,
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            partition: message.partition(),
            key_len: key.map(|key| u32::try_from(key.len()).expect("lengths of Kafka have 32 bits")),
            has_payload: payload.is_some(),
        }
    }

    /// Returns the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the partition of the topic.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Returns the position in the partition. Together with topic and partition it identifies the record permanently.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Returns when it was created or stored (depending on the topic's configuration), in milliseconds since 1970.
    pub fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }

    /// Returns the key, if it has one.
    pub fn key(&self) -> Option<&[u8]> {
        self.key_len.map(|len| &self.bytes[..len as usize])
    }

    /// Returns the payload. A record without one, a *tombstone*, deletes its key from a compacted topic.
    pub fn payload(&self) -> Option<&[u8]> {
        self.has_payload.then(|| &self.bytes[self.key_len.unwrap_or(0) as usize..])
    }

    /// Returns the headers, in order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Returns the value of the last header of this name, the one that counts in Kafka.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(found, _)| found == name).and_then(|(_, value)| value.as_deref())
    }

    /// Returns one more than the number of times it has been put back by [`put_back`](Self::put_back).
    pub fn attempt(&self) -> u32 {
        let text = self.header(ATTEMPT).and_then(|value| std::str::from_utf8(value).ok());
        text.and_then(|text| text.parse().ok()).filter(|attempt| *attempt > 0).unwrap_or(1)
    }

    /// Returns the same record for an outbox, with the next [`attempt`](Self::attempt) in the header [`ATTEMPT`].
    ///
    /// It goes to the topic of the outbox, which is either its original one or one for retries. It is appended after
    /// the existing records, so the order of its key is lost.
    pub fn put_back(&self) -> NewRecord {
        let mut new = NewRecord::from(self);
        new.headers.retain(|(name, _)| name != ATTEMPT);
        new.with_header(ATTEMPT, self.attempt().saturating_add(1).to_string())
    }
}

/// Shows its origin, its key, and the size of the payload.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .field("key", &self.key().map(text))
            .field("payload_bytes", &self.payload().map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}

/// A record to be written by a [`KafkaOutbox`](crate::KafkaOutbox).
///
/// Records with the same key go to the same partition, and so stay in order, on one machine or on many.
///
/// # Examples
/// ```
/// use streamz_kafka::NewRecord;
///
/// let record = NewRecord::new("9.90").with_key("customer-17").with_header("currency", "EUR");
/// assert_eq!(record.key(), Some(&b"customer-17"[..]));
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct NewRecord {
    pub(crate) topic: Option<Arc<str>>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl NewRecord {
    /// Creates a record without a key: it goes to any partition.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: Some(payload.into()), ..Self::default() }
    }

    /// Creates a record without a payload, which deletes its key from a compacted topic.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// Sets the key.
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the topic, instead of that of the outbox.
    pub fn with_topic(mut self, topic: impl Into<Arc<str>>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Sets the partition, instead of the one determined by the key.
    ///
    /// # Panics
    /// If it is negative.
    #[track_caller]
    pub fn with_partition(mut self, partition: i32) -> Self {
        assert!(partition >= 0, "`partition` must not be negative");
        self.partition = Some(partition);
        self
    }

    /// Sets the time, in milliseconds since 1970. Defaults to the time of the write.
    pub fn with_timestamp(mut self, millis: i64) -> Self {
        self.timestamp = Some(millis);
        self
    }

    /// Adds a header.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Returns the key, if it has one.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// Returns the payload, if it has one.
    pub fn payload(&self) -> Option<&[u8]> {
        self.payload.as_deref()
    }

    /// Returns its size in bytes, including headers.
    pub fn size(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
        self.key.as_ref().map_or(0, Vec::len) + self.payload.as_ref().map_or(0, Vec::len) + headers.sum::<usize>()
    }

    pub(crate) fn client_headers(&self) -> Option<OwnedHeaders> {
        if self.headers.is_empty() {
            return None;
        }
        let all = OwnedHeaders::new_with_capacity(self.headers.len());
        let add = |all: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
            all.insert(Header { key, value: value.as_deref() })
        };
        Some(self.headers.iter().fold(all, add))
    }
}

/// Copies key, payload and headers; not the topic, partition and time.
impl From<&Record> for NewRecord {
    fn from(record: &Record) -> Self {
        Self {
            key: record.key().map(<[u8]>::to_vec),
            payload: record.payload().map(<[u8]>::to_vec),
            headers: record.headers.to_vec(),
            ..Self::default()
        }
    }
}

/// The position is the partition and the offset, as in `3:1017`.
impl StoredRecord for Record {
    type New = NewRecord;

    fn topic(&self) -> &str {
        &self.topic
    }

    fn position(&self) -> String {
        format!("{}:{}", self.partition, self.offset)
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        Record::header(self, name)
    }

    /// The count of [`put_back`](Self::put_back) restarts, otherwise a replayed record would still have too many
    /// attempts.
    fn rewrite(self, removed: &[&str], added: Vec<(&'static str, String)>) -> NewRecord {
        let mut new = NewRecord::from(&self);
        new.headers.retain(|(name, _)| name != ATTEMPT && !removed.contains(&name.as_str()));
        added.into_iter().fold(new, |new, (name, value)| new.with_header(name, value))
    }
}

/// Shows the key and the size of the payload.
impl fmt::Debug for NewRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRecord")
            .field("topic", &self.topic)
            .field("key", &self.key().map(text))
            .field("payload_bytes", &self.payload().map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}

/// Bytes that are probably text.
pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Identifies a record to [`KafkaAcker`](crate::KafkaAcker) for its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The index of the partition in the inbox.
    pub(crate) slot: u32,
    /// The rebalance since which the consumer has had the partition.
    pub(crate) generation: u32,
    pub(crate) offset: i64,
    pub(crate) attempt: u32,
}

impl Receipt {
    /// Returns the position of the record in its partition.
    pub fn offset(&self) -> i64 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: Vec<(String, Option<Vec<u8>>)>) -> Record {
        Record {
            topic: "orders".into(),
            partition: 1,
            offset: 17,
            timestamp: None,
            bytes: (*b"keypayload").into(),
            key_len: Some(3),
            has_payload: true,
            headers: headers.into(),
        }
    }

    #[test]
    fn key_and_payload_lie_in_one_piece() {
        let record = record(Vec::new());
        assert_eq!((record.key(), record.payload()), (Some(&b"key"[..]), Some(&b"payload"[..])));
        let tombstone = Record { has_payload: false, bytes: (*b"key").into(), ..record };
        assert_eq!((tombstone.key(), tombstone.payload()), (Some(&b"key"[..]), None));
    }

    #[test]
    fn put_back_counts_in_one_header() {
        let first = record(vec![("a".into(), Some(b"1".to_vec()))]);
        assert_eq!(first.attempt(), 1);
        let second = record(first.put_back().headers);
        assert_eq!(second.attempt(), 2);
        let third = record(second.put_back().headers);
        assert_eq!((third.attempt(), third.headers.len()), (3, 2));
        assert_eq!(record(vec![(ATTEMPT.into(), Some(b"many".to_vec()))]).attempt(), 1);
    }

    #[test]
    fn rewriting_starts_the_count_of_attempts_again() {
        let put_back = record(record(vec![("a".into(), Some(b"1".to_vec()))]).put_back().headers);
        assert_eq!((put_back.attempt(), put_back.position()), (2, "1:17".to_owned()));
        let new = put_back.rewrite(&["gone"], vec![("b", "2".to_owned())]);
        let headers = [("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), Some(b"2".to_vec()))];
        assert_eq!(new.headers, headers);
        assert_eq!((new.key(), new.payload()), (Some(&b"key"[..]), Some(&b"payload"[..])));
    }
}
