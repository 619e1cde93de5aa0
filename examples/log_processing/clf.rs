//! The Common Log Format of web servers, and the Combined one, which has two fields more:
//!
//! ```text
//! 192.0.2.7 - frank [10/Oct/2000:13:55:36 -0700] "GET /logo.gif?x=1 HTTP/1.0" 200 2326 "http://example.org/" "Mozilla/4.08"
//! client      user   time                         request                      status bytes
//! ```
//!
//! The client may be preceded by a virtual host, as in `vhost_combined`: `www.example.org:80 192.0.2.7 - frank [..`.
//! The client may be a list of addresses. Anything else before the time means that the client is not where it seems to
//! be (in a line that came through syslog, for example), and the line is refused.
//!
//! Anything after the bytes is ignored, so any format that begins like this can be read.

use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::client::{address, client, first_address, is_virtual_host};
use crate::record::{Fields, Reason, excerpt};

pub(crate) fn read(line: &str) -> Result<Fields<'_>, Reason> {
    let missing = || match line.split_once(' ') {
        None => "client",
        Some((_, rest)) if rest.contains(" [") => "request",
        Some(_) => "time",
    };
    let (before, rest) = at_request(line).ok_or_else(|| Reason::Missing(missing()))?;
    let (who, time) = at_time(before).ok_or(Reason::Missing("time"))?;
    let end = end_of_quoted(rest).ok_or(Reason::Missing("end of the request"))?;
    let (request, rest) = (&rest[..end], &rest[end + 1..]);
    let mut rest = rest.split_ascii_whitespace();
    let status = rest.next().ok_or(Reason::Missing("status"))?;
    let bytes = rest.next().ok_or(Reason::Missing("number of bytes"))?;
    Ok(Fields {
        client: client_of(who)?,
        time: seconds(time).ok_or_else(|| Reason::Time(excerpt(time)))?,
        target: target(request),
        status: self::status(status).ok_or_else(|| Reason::Status(excerpt(status)))?,
        bytes: if bytes == "-" {
            0
        } else {
            bytes.parse().map_err(|_| Reason::Bytes(excerpt(bytes)))?
        },
    })
}

/// The parts before and after the first `] "`. Searching for the quote alone is faster.
fn at_request(line: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    loop {
        let quote = from + line[from..].find('"')?;
        if let Some(before) = line[..quote].strip_suffix("] ") {
            return Some((before, &line[quote + 1..]));
        }
        from = quote + 1;
    }
}

/// The parts before and after the last ` [`: the name of a user may contain anything. A time nearly always has the same
/// length.
fn at_time(before: &str) -> Option<(&str, &str)> {
    match before.len().checked_sub(" [10/Oct/2000:13:55:36 -0700".len()) {
        Some(start) if before.as_bytes()[start..].starts_with(b" [") => {
            Some((&before[..start], &before[start + 2..]))
        }
        _ => before.rsplit_once(" ["),
    }
}

/// The client in the part before the time: `client ident user`, perhaps after a virtual host.
fn client_of(who: &str) -> Result<&str, Reason> {
    let (first, rest) = word(who);
    // Hardly any client sends its ident, so it is nearly always a hyphen. The name of a user may have spaces.
    if !matches!(rest.as_bytes(), [] | [b'-'] | [b'-', b' ', ..]) {
        let (second, behind) = word(rest);
        let (ident, user) = word(behind);
        let has_port = first.contains(':');
        let is_client = |text: &&str| has_port || text.contains('.') || address(text).is_some();
        // Without the ident: `host client -`, `host client user`. An address without a port is a client.
        if user.is_empty()
            && (has_port || address(first).is_none())
            && is_virtual_host(first)
            && let Some(client) = first_address(second)
        {
            return Ok(client);
        }
        if ident == "-"
            && !user.is_empty()
            && is_virtual_host(first)
            && let Some(client) = Some(second).filter(is_client).and_then(client)
        {
            return Ok(client);
        }
        if !user.is_empty() {
            return Err(Reason::Before(excerpt(who)));
        }
    }
    client(first).ok_or_else(|| Reason::Client(excerpt(first)))
}

/// The first word, and the rest. A list continues after a comma.
fn word(text: &str) -> (&str, &str) {
    let mut end = 0;
    loop {
        end = text[end..].find(' ').map_or(text.len(), |space| end + space);
        if end == text.len() || !text[..end].ends_with(',') {
            return (&text[..end], text[end..].trim_ascii_start());
        }
        end += 1;
    }
}

/// A status. If none was sent, because the client had disconnected, it is written as 0 or a hyphen.
pub(crate) fn status(text: &str) -> Option<u16> {
    if text == "-" { Some(0) } else { text.parse().ok() }
}

/// The position of the first quote without a backslash before it.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let found = from + text[from..].find('"')?;
        let backslashes = text[..found].bytes().rev().take_while(|byte| *byte == b'\\').count();
        if backslashes % 2 == 0 {
            return Some(found);
        }
        from = found + 1;
    }
}

/// The target of a request, which should be a method, a target and a version, but may be anything a client has sent.
pub(crate) fn target(request: &str) -> &str {
    let Some((_, target)) = request.split_once(' ') else { return "" };
    match target.rsplit_once(' ') {
        Some((target, version)) if version.starts_with("HTTP/") => target,
        _ => target,
    }
}

/// `10/Oct/2000:13:55:36 -0700` in seconds since 1970.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let bytes: &[u8; 26] = text.as_bytes().try_into().ok()?;
    let shape = [(2, b'/'), (6, b'/'), (11, b':'), (14, b':'), (17, b':'), (20, b' ')];
    if shape.iter().any(|&(place, byte)| bytes[place] != byte) {
        return None;
    }
    let number = |from: usize, length: usize| {
        bytes[from..from + length].iter().try_fold(0_i16, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + i16::from(byte - b'0'))
        })
    };
    let small = |from: usize| number(from, 2).and_then(|number| i8::try_from(number).ok());
    let month = match &bytes[3..6] {
        b"Jan" => 1,
        b"Feb" => 2,
        b"Mar" => 3,
        b"Apr" => 4,
        b"May" => 5,
        b"Jun" => 6,
        b"Jul" => 7,
        b"Aug" => 8,
        b"Sep" => 9,
        b"Oct" => 10,
        b"Nov" => 11,
        b"Dec" => 12,
        _ => return None,
    };
    let time =
        DateTime::new(number(7, 4)?, month, small(0)?, small(12)?, small(15)?, small(18)?, 0)
            .ok()?;
    let sign = match bytes[21] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = (i32::from(small(22)?), i32::from(small(24)?));
    let offset = Offset::from_seconds(sign * (hours * 3600 + minutes * 60))
        .ok()
        .filter(|_| minutes < 60)?;
    Some(offset.to_timestamp(time).ok()?.as_second())
}
