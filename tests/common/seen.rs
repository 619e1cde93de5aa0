//! What came out of a stream, in a form that can be foretold and compared.

use streamz::{ErrorKind, StreamError};

use super::item::Item;

/// One thing in a stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seen {
    Value(u64),
    Group(Vec<u64>),
    /// An error item that was put in at the source.
    Passed(u64),
    /// An error item that a stage made, and the value of the item it carries.
    Made(Kind, Option<u64>),
}

/// The kinds of error that can be foretold, with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Failed,
    Panicked,
    /// The last word of a stream that was cut.
    Cut,
    Other,
}

/// The source of an error item that a test puts into a stream.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("error {0} put in by the test")]
pub struct PutIn(pub u64);

/// An error item for a test to put in.
pub fn put_in(number: u64) -> StreamError {
    StreamError::new(ErrorKind::Failed, "origin").with_source(PutIn(number))
}

impl Seen {
    pub fn of<T>(item: &T) -> Self
    where
        for<'a> Self: From<&'a T>,
    {
        item.into()
    }

    pub fn error(error: &StreamError) -> Self {
        if let Some(PutIn(number)) = error.downcast_ref() {
            return Seen::Passed(*number);
        }
        let kind = match error.kind() {
            ErrorKind::Failed => Kind::Failed,
            ErrorKind::Panicked => Kind::Panicked,
            ErrorKind::Cancelled => Kind::Cut,
            _ => Kind::Other,
        };
        let carried = error.with_item_ref(Item::value);
        let carried = carried.or_else(|| error.with_item_ref(|items: &Vec<Item>| items.first().map(Item::value))?);
        Seen::Made(kind, carried)
    }

    pub fn is_cut(&self) -> bool {
        matches!(self, Seen::Made(Kind::Cut, _))
    }
}

impl From<&Item> for Seen {
    fn from(item: &Item) -> Self {
        Seen::Value(item.value())
    }
}

impl From<&Vec<Item>> for Seen {
    fn from(items: &Vec<Item>) -> Self {
        Seen::Group(items.iter().map(Item::value).collect())
    }
}
