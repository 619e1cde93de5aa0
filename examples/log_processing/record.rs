//! From lines to records of requests.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use compact_str::{CompactString, format_compact};

use crate::args::Format;
use crate::lines::{At, Line, MAX_LINE};
use crate::threat::Threat;
use crate::{clf, json};

/// The maximum stored length of a path, in bytes: an attacker must not be able to make tables of paths grow.
const MAX_PATH: usize = 256;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at: At,
    /// Seconds since 1970 in UTC.
    pub(crate) time: i64,
    pub(crate) client: CompactString,
    /// The requested path, without the query; empty if that is unknown.
    pub(crate) path: CompactString,
    /// 100 to 999; 0 if none was sent.
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) threat: Option<Threat>,
}

/// Why a line is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("blank line")]
    Blank,
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("UTF-16, not UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`")]
    Utf16,
    #[error(
        "a carriage return in the middle: lines end in a line feed, with a carriage return before it or without"
    )]
    Return,
    #[error("not a line of the Common Log Format: no {0}")]
    Missing(&'static str),
    #[error("no such time: {0}")]
    Time(String),
    #[error("no such status: {0}")]
    Status(String),
    #[error("not a number of bytes: {0}")]
    Bytes(String),
    #[error("not a client: {0}")]
    Client(String),
    #[error("not `client ident user` before the time: {0}")]
    Before(String),
    #[error("not JSON: {0}")]
    Json(String),
    #[error("JSON without {0}")]
    Field(&'static str),
}

/// The content of a line, before it is converted to a record.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) client: &'a str,
    pub(crate) time: i64,
    /// As the client requested it.
    pub(crate) target: &'a str,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
}

/// Reads a line in the given format, or in the format that it seems to have.
pub(crate) fn parse(line: &Line, format: Format) -> Result<Record, Reason> {
    let bytes = &line.bytes;
    let parsed = match std::str::from_utf8(bytes) {
        Ok(text) => parse_text(line, text, format),
        // Invalid UTF-8 is mostly in the name of a browser, which does not matter here.
        Err(_) => parse_text(line, &String::from_utf8_lossy(bytes), format).map_err(|reason| {
            match reason {
                Reason::TooLong | Reason::Return => reason,
                _ => Reason::NotUtf8,
            }
        }),
    };
    parsed.map_err(|reason| if is_utf16(bytes) { Reason::Utf16 } else { reason })
}

fn parse_text(line: &Line, text: &str, format: Format) -> Result<Record, Reason> {
    // Some programs begin a file with a byte order mark.
    let text = if line.at.number == 1 { text.trim_start_matches('\u{feff}') } else { text };
    // A file that was truncated while a program continued to write at its old position has a hole.
    let text = text.trim_start_matches('\0').trim_ascii();
    if text.is_empty() {
        return Err(if line.is_truncated { Reason::TooLong } else { Reason::Blank });
    }
    // Not `contains`, which searches byte by byte: here there is usually nothing to find.
    if text.bytes().fold(false, |found, byte| found | (byte == b'\r')) {
        return Err(Reason::Return);
    }
    let is_json = match format {
        Format::Auto => text.starts_with('{'),
        Format::Clf => false,
        Format::Json => true,
    };
    let is_cut = line.is_truncated;
    let parsed = if is_json {
        json::read(text, is_cut, |fields| record(line.at, fields))
    } else {
        // The last word may have been cut.
        let text =
            if is_cut { text.rsplit_once(' ').map_or("", |(text, _)| text) } else { text };
        clf::read(text).and_then(|fields| record(line.at, &fields))
    };
    // The part that was cut off may not be needed.
    parsed.map_err(|reason| if is_cut { Reason::TooLong } else { reason })
}

/// Whether approximately every other byte is zero, as in western text in UTF-16.
fn is_utf16(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().filter(|byte| **byte == 0).count();
    bytes.len() >= 8 && zeros * 3 >= bytes.len() && zeros * 3 <= bytes.len() * 2
}

fn record(at: At, fields: &Fields<'_>) -> Result<Record, Reason> {
    let &Fields { client, time, target, status, bytes } = fields;
    if !is_status(status) {
        return Err(Reason::Status(status.to_string()));
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    Ok(Record {
        at,
        time,
        client: client.into(),
        path: bounded(path),
        status,
        bytes,
        threat: Threat::of(target),
    })
}

/// Whether it may be the status of a response; 0 if none was sent.
pub(crate) fn is_status(status: u16) -> bool {
    status == 0 || (100..1000).contains(&status)
}

/// A path as it is counted. The end of a long one is replaced by a hash of the whole, so that different paths stay
/// different.
fn bounded(path: &str) -> CompactString {
    if path.len() <= MAX_PATH {
        return path.into();
    }
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(path);
    let hash = format!("..{hash:016x}");
    let end = (0..=MAX_PATH - hash.len()).rev().find(|&end| path.is_char_boundary(end));
    format_compact!("{}{hash}", &path[..end.unwrap_or(0)])
}

/// The beginning of a text that may be anything, made printable.
pub(crate) fn excerpt(text: &str) -> String {
    let start: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() { format!("`{start}..`") } else { format!("`{start}`") }
}
