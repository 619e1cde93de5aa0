//! From lines to records of requests.

use compact_str::CompactString;

use crate::args::Format;
use crate::lines::{At, Line, MAX_LINE};
use crate::threat::Threat;
use crate::{clf, json};

/// The longest name of a client; that of a host has 253 characters at most.
const MAX_CLIENT: usize = 253;

/// How much of a path is kept: tables of paths must not grow with the wit of an attacker.
const MAX_PATH: usize = 256;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at: At,
    /// Seconds since 1970 in UTC.
    pub(crate) time: i64,
    pub(crate) client: CompactString,
    /// What was asked for, without the query; empty if that cannot be told.
    pub(crate) path: CompactString,
    /// 100 to 999.
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) threat: Option<Threat>,
}

/// Why a line is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("blank line")]
    Blank,
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("not UTF-8")]
    NotUtf8,
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
    #[error("not JSON: {0}")]
    Json(String),
    #[error("JSON without {0}")]
    Field(&'static str),
}

/// What a line says, before it is put into the shape of a record.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) client: &'a str,
    pub(crate) time: i64,
    /// As the client asked for it.
    pub(crate) target: &'a str,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
}

/// Reads a line in the given format, or in the one that it looks like.
pub(crate) fn parse(line: &Line, format: Format) -> Result<Record, Reason> {
    if line.raw.too_long {
        return Err(Reason::TooLong);
    }
    let text = std::str::from_utf8(&line.raw.bytes).map_err(|_| Reason::NotUtf8)?;
    // Some programs begin a file with a byte order mark.
    let text = if line.at.number == 1 { text.trim_start_matches('\u{feff}') } else { text };
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(Reason::Blank);
    }
    let is_json = match format {
        Format::Auto => text.starts_with('{'),
        Format::Clf => false,
        Format::Json => true,
    };
    if is_json { json::read(text, |fields| record(line.at, fields)) } else { record(line.at, &clf::read(text)?) }
}

fn record(at: At, fields: &Fields<'_>) -> Result<Record, Reason> {
    let &Fields { client, time, target, status, bytes } = fields;
    if client.is_empty() || client.len() > MAX_CLIENT {
        return Err(Reason::Client(excerpt(client)));
    }
    if !(100..1000).contains(&status) {
        return Err(Reason::Status(status.to_string()));
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let end = (0..=MAX_PATH.min(path.len())).rev().find(|&end| path.is_char_boundary(end));
    let path = &path[..end.unwrap_or(0)];
    Ok(Record { at, time, client: client.into(), path: path.into(), status, bytes, threat: Threat::of(target) })
}

/// The beginning of a text that may be anything, fit to be printed.
pub(crate) fn excerpt(text: &str) -> String {
    let start: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() { format!("`{start}..`") } else { format!("`{start}`") }
}
