//! [`EntryId`]: the position of an entry in a stream.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use redis::{RedisWrite, ToRedisArgs};

/// The position of an entry in a stream: the time in milliseconds at which it was added, and a number within that
/// millisecond. Displayed in Redis's format, such as `1732800000000-0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// The server's time in milliseconds since 1970.
    pub millis: u64,
    /// The number within the millisecond.
    pub sequence: u64,
}

impl EntryId {
    /// Before every entry.
    pub const MIN: Self = Self { millis: 0, sequence: 0 };

    /// Creates the ID with these parts.
    pub const fn new(millis: u64, sequence: u64) -> Self {
        Self { millis, sequence }
    }

    /// The ID just before this one; of the first one, itself.
    pub(crate) fn before(self) -> Self {
        match (self.millis, self.sequence) {
            (0, 0) => Self::MIN,
            (millis, 0) => Self::new(millis - 1, u64::MAX),
            (millis, sequence) => Self::new(millis, sequence - 1),
        }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (millis, sequence) = text.split_once('-').unwrap_or((text, "0"));
        Some(Self::new(millis.parse().ok()?, sequence.parse().ok()?))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

/// The text is not the ID of an entry: two numbers with a hyphen between them, or one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the ID of an entry")]
pub struct ParseEntryIdError(String);

impl FromStr for EntryId {
    type Err = ParseEntryIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes()).ok_or_else(|| ParseEntryIdError(text.to_owned()))
    }
}

/// Written once for each record that is acknowledged, so without an allocation.
impl ToRedisArgs for EntryId {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut buffer = [0; 41];
        let mut rest = &mut buffer[..];
        write!(rest, "{self}").expect("two numbers of 20 digits and a hyphen fit");
        let free = rest.len();
        out.write_arg(&buffer[..buffer.len() - free]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_shown_as_redis_writes_them() {
        for text in ["0-0", "1732800000000-7", "18446744073709551615-18446744073709551615"] {
            let id: EntryId = text.parse().expect("an ID");
            assert_eq!(id.to_string(), text);
            assert_eq!(id.to_redis_args(), [text.as_bytes().to_vec()]);
        }
        assert_eq!("5".parse(), Ok(EntryId::new(5, 0)));
        for text in ["", "-", "$", "1-", "1-2-3", "-1-0", "18446744073709551616-0"] {
            assert!(text.parse::<EntryId>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_id_before_borrows_from_the_milliseconds() {
        assert_eq!(EntryId::new(5, 3).before(), EntryId::new(5, 2));
        assert_eq!(EntryId::new(5, 0).before(), EntryId::new(4, u64::MAX));
        assert_eq!(EntryId::MIN.before(), EntryId::MIN);
    }
}
