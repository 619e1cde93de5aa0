//! Access logs as JSON lines: one object for each request, by the names that are in use for its fields.

use std::borrow::Cow;

use serde::Deserialize;

use crate::clf::target;
use crate::record::{Fields, Reason, excerpt};

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, alias = "timestamp", alias = "ts", alias = "@timestamp", alias = "time_iso8601")]
    time: Option<Scalar<'a>>,
    #[serde(borrow, alias = "remote_addr", alias = "remote_ip", alias = "client_ip", alias = "ip")]
    client: Option<Text<'a>>,
    #[serde(borrow, alias = "uri", alias = "request_uri", alias = "url")]
    path: Option<Text<'a>>,
    /// `GET /path HTTP/1.1`, instead of a path.
    #[serde(borrow)]
    request: Option<Text<'a>>,
    #[serde(borrow, alias = "status_code", alias = "code")]
    status: Option<Scalar<'a>>,
    #[serde(borrow, alias = "size", alias = "bytes_sent", alias = "body_bytes_sent")]
    bytes: Option<Scalar<'a>>,
}

/// A text that lies in the line if nothing in it is escaped.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar<'a> {
    Whole(i64),
    Broken(f64),
    #[serde(borrow)]
    Text(Text<'a>),
}

/// Reads an object and gives its fields to `make`.
pub(crate) fn read<R>(line: &str, make: impl FnOnce(&Fields<'_>) -> Result<R, Reason>) -> Result<R, Reason> {
    let entry: Entry<'_> = serde_json::from_str(line).map_err(|error| Reason::Json(error.to_string()))?;
    let client = entry.client.ok_or(Reason::Field("client"))?.0;
    let time = seconds(&entry.time.ok_or(Reason::Field("time"))?)?;
    let target = match (&entry.path, &entry.request) {
        (Some(path), _) => &*path.0,
        (None, Some(request)) => target(&request.0),
        (None, None) => return Err(Reason::Field("path")),
    };
    let status = match entry.status.ok_or(Reason::Field("status"))? {
        Scalar::Whole(number) => u16::try_from(number).map_err(|_| Reason::Status(number.to_string()))?,
        Scalar::Broken(number) => return Err(Reason::Status(number.to_string())),
        Scalar::Text(text) => text.0.parse().map_err(|_| Reason::Status(excerpt(&text.0)))?,
    };
    let bytes = match entry.bytes {
        None => 0,
        Some(Scalar::Whole(number)) => u64::try_from(number).map_err(|_| Reason::Bytes(number.to_string()))?,
        Some(Scalar::Broken(number)) => return Err(Reason::Bytes(number.to_string())),
        Some(Scalar::Text(text)) if text.0 == "-" => 0,
        Some(Scalar::Text(text)) => text.0.parse().map_err(|_| Reason::Bytes(excerpt(&text.0)))?,
    };
    make(&Fields { client: &client, time, target, status, bytes })
}

/// RFC 3339, or seconds since 1970. A number that would be a date after the year 5000 is taken for milliseconds.
fn seconds(time: &Scalar<'_>) -> Result<i64, Reason> {
    const FAR: i64 = 100_000_000_000;
    match time {
        Scalar::Whole(number) if number.abs() < FAR => Ok(*number),
        Scalar::Whole(number) if number.abs() < FAR * 1000 => Ok(number.div_euclid(1000)),
        Scalar::Whole(number) => Err(Reason::Time(number.to_string())),
        Scalar::Broken(number) if number.abs() < FAR as f64 => Ok(number.floor() as i64),
        Scalar::Broken(number) => Err(Reason::Time(number.to_string())),
        Scalar::Text(text) => {
            let time = text.0.parse::<jiff::Timestamp>();
            time.map(jiff::Timestamp::as_second).map_err(|_| Reason::Time(excerpt(&text.0)))
        }
    }
}
