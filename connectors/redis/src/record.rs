//! [`Record`], [`Fields`] and [`Receipt`]: the data exchanged between streams and pipelines.

use std::fmt;
use std::sync::Arc;

use streamz::delivery::StoredRecord;

use crate::id::EntryId;

/// The name of the field in which [`Fields::from_payload`] stores a payload.
pub const PAYLOAD: &str = "payload";

/// The prefix of the names of fields that [`Failure`](streamz::delivery::Failure) adds. They are not payloads.
const HEADER: &[u8] = b"streamz-";

/// The fields of an entry: names and values, in order. Both may be any bytes, and a name may occur more than once.
///
/// # Examples
/// ```
/// use streamz_redis::Fields;
///
/// let fields = Fields::new().with("order", "17").with("image", [0xff, 0xd8]);
/// assert_eq!(fields.get("order"), Some(&b"17"[..]));
/// assert_eq!(Fields::from_payload("hello").payload(), Some(&b"hello"[..]));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Fields(pub(crate) Vec<(Vec<u8>, Vec<u8>)>);

impl Fields {
    /// Creates an empty list. Redis refuses an entry without fields, so add at least one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a single field: a payload with the name [`PAYLOAD`].
    pub fn from_payload(payload: impl Into<Vec<u8>>) -> Self {
        Self::new().with(PAYLOAD, payload)
    }

    /// Adds a field.
    pub fn with(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.push(name, value);
        self
    }

    /// Adds a field.
    pub fn push(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }

    /// Returns the value of the first field of this name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let name = name.as_ref();
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Returns the value of the field [`PAYLOAD`], or, if there is exactly one field, its value. Fields whose names
    /// begin with `streamz-`, which a dead letter has, do not count.
    pub fn payload(&self) -> Option<&[u8]> {
        self.payload_index().map(|index| &self.0[index].1[..])
    }

    /// As [`payload`](Self::payload), without a copy.
    pub fn into_payload(mut self) -> Option<Vec<u8>> {
        self.payload_index().map(|index| self.0.swap_remove(index).1)
    }

    fn payload_index(&self) -> Option<usize> {
        let named = self.0.iter().position(|(name, _)| name == PAYLOAD.as_bytes());
        named.or_else(|| {
            let mut others = (0..self.0.len()).filter(|index| !self.0[*index].0.starts_with(HEADER));
            others.next().filter(|_| others.next().is_none())
        })
    }

    /// Returns the names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    /// Returns the number of fields.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Vec<u8>>, V: Into<Vec<u8>>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl IntoIterator for Fields {
    type Item = (Vec<u8>, Vec<u8>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Shows text as text.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (Text(name), Text(value)))).finish()
    }
}

struct Text<'a>(&'a [u8]);

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// An entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The key of the stream.
    pub stream: Arc<str>,
    /// Its position.
    pub id: EntryId,
    /// Its content.
    pub fields: Fields,
}

impl Record {
    /// Returns the value of the first field of this name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// Returns the value of the field [`PAYLOAD`], or, if there is exactly one field, its value.
    pub fn payload(&self) -> Option<&[u8]> {
        self.fields.payload()
    }

    /// As [`payload`](Self::payload), without a copy.
    pub fn into_payload(self) -> Option<Vec<u8>> {
        self.fields.into_payload()
    }
}

/// Headers are fields after those of the entry.
impl StoredRecord for Record {
    type New = Fields;

    fn topic(&self) -> &str {
        &self.stream
    }

    fn position(&self) -> String {
        self.id.to_string()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.get(name)
    }

    fn rewrite(self, removed: &[&str], added: Vec<(&'static str, String)>) -> Fields {
        let mut fields = self.fields;
        fields.0.retain(|(name, _)| !removed.iter().any(|removed| name == removed.as_bytes()));
        added.into_iter().for_each(|(name, value)| fields.push(name, value));
        fields
    }
}

/// Identifies a record to [`RedisAcker`](crate::RedisAcker) for its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The index of the stream in the inbox.
    pub(crate) stream: usize,
    pub(crate) id: EntryId,
}

impl Receipt {
    /// Returns the position of the record.
    pub fn id(&self) -> EntryId {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_the_only_field_or_the_one_of_that_name() {
        assert_eq!(Fields::new().payload(), None);
        assert_eq!(Fields::new().with("a", "1").payload(), Some(&b"1"[..]));
        assert_eq!(Fields::new().with("a", "1").with("b", "2").payload(), None);
        let fields = Fields::new().with("a", "1").with(PAYLOAD, "2");
        assert_eq!(fields.payload(), Some(&b"2"[..]));
        assert_eq!(fields.into_payload(), Some(b"2".to_vec()));
        let letter = Fields::new().with("a", "1").with("streamz-reason", "late").with("streamz-stage", "pay");
        assert_eq!(letter.payload(), Some(&b"1"[..]));
        assert_eq!(letter.into_payload(), Some(b"1".to_vec()));
    }

    #[test]
    fn debug_shows_text_as_text() {
        let fields = Fields::new().with("a", "text").with("b", [0, 255]);
        assert_eq!(format!("{fields:?}"), r#"{"a": "text", "b": "\x00\xff"}"#);
    }
}
