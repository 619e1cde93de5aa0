//! Parses the replies of the server.

use redis::Value;

use crate::id::EntryId;
use crate::record::Fields;

/// The failure for a reply that cannot be parsed.
pub(crate) const UNREADABLE: &str = "the server's reply does not have the expected form";

/// A name and its value.
pub(crate) type Pair = (Vec<u8>, Value);

/// A pending entry: read by a consumer, and not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) id: EntryId,
    /// The time since its last delivery, in milliseconds.
    pub(crate) idle: u64,
    /// The number of deliveries.
    pub(crate) deliveries: u64,
}

/// The reply of XREADGROUP: the key and the entries of each stream that has some.
pub(crate) fn streams(reply: Value) -> Option<Vec<(Vec<u8>, Vec<Value>)>> {
    match reply {
        Value::Nil => Some(Vec::new()),
        Value::Array(streams) => streams
            .into_iter()
            .map(|stream| {
                let [key, entries] = array(stream)?;
                Some((bytes(key)?, list(entries)?))
            })
            .collect(),
        _ => None,
    }
}

/// An entry, with its fields if it still exists; or nothing: old servers write nil for an entry that does not.
pub(crate) fn entry(value: Value) -> Option<Option<(EntryId, Option<Fields>)>> {
    let Value::Array(parts) = value else {
        return (value == Value::Nil).then_some(None);
    };
    let [id, fields] = parts.try_into().ok()?;
    let id = EntryId::parse(&bytes(id)?)?;
    let Value::Array(parts) = fields else {
        return (fields == Value::Nil).then_some(Some((id, None)));
    };
    let mut fields = Vec::with_capacity(parts.len() / 2);
    let mut parts = parts.into_iter();
    while let Some(name) = parts.next() {
        fields.push((bytes(name)?, bytes(parts.next()?)?));
    }
    Some(Some((id, Some(Fields(fields)))))
}

/// The reply of XPENDING with a range.
pub(crate) fn pending(reply: Value) -> Option<Vec<Pending>> {
    list(reply)?
        .into_iter()
        .map(|row| {
            let [id, _consumer, idle, deliveries] = array(row)?;
            let id = EntryId::parse(&bytes(id)?)?;
            Some(Pending { id, idle: number(&idle)?, deliveries: number(&deliveries)? })
        })
        .collect()
}

/// The consumers in the reply of XPENDING without a range.
pub(crate) fn consumers(reply: Value) -> Option<Vec<Vec<u8>>> {
    let [_, _, _, consumers] = array(reply)?;
    list(consumers)?.into_iter().map(|row| bytes(array::<2>(row)?.into_iter().next()?)).collect()
}

/// The rows of XINFO GROUPS or XINFO CONSUMERS, as names and values.
pub(crate) fn rows(reply: Value) -> Option<Vec<Vec<Pair>>> {
    list(reply)?.into_iter().map(pairs).collect()
}

/// The reply of XINFO STREAM, as names and values.
pub(crate) fn pairs(reply: Value) -> Option<Vec<Pair>> {
    let mut parts = list(reply)?.into_iter();
    let mut pairs = Vec::with_capacity(parts.len() / 2);
    while let Some(name) = parts.next() {
        pairs.push((bytes(name)?, parts.next()?));
    }
    Some(pairs)
}

pub(crate) fn find<'a>(pairs: &'a [Pair], name: &str) -> Option<&'a Value> {
    pairs.iter().find(|(found, _)| found == name.as_bytes()).map(|(_, value)| value)
}

pub(crate) fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        Value::Nil => Some(Vec::new()),
        _ => None,
    }
}

fn array<const N: usize>(value: Value) -> Option<[Value; N]> {
    match value {
        Value::Array(values) => values.try_into().ok(),
        _ => None,
    }
}

pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

pub(crate) fn id(value: &Value) -> Option<EntryId> {
    match value {
        Value::BulkString(bytes) => EntryId::parse(bytes),
        _ => None,
    }
}

pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        // The clock of the server may have been set back.
        Value::Int(number) => Some(u64::try_from(*number).unwrap_or(0)),
        _ => None,
    }
}
