//! Access logs as JSON lines: one object for each request, with the field names used by nginx, Caddy, Traefik, Envoy
//! and others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::clf::{self, target};
use crate::client::client;
use crate::record::{Fields, Reason, excerpt, is_status};

/// A value that was asked for: `None` if there is no such field, an error if no such field can be used.
type Found<T> = Option<Result<T, Reason>>;

/// The relevant fields of an object. Of several fields with the same meaning, the first that can be used counts.
#[derive(Default)]
struct Entry<'a> {
    time: Found<i64>,
    client: Found<Cow<'a, str>>,
    /// The connected peer: the client, or the last proxy on the way to it. Looked at only if it is needed.
    peer: Option<Value<'a>>,
    path: Found<Cow<'a, str>>,
    request: Option<Request<'a>>,
    status: Found<u16>,
    bytes: Found<u64>,
}

enum Request<'a> {
    /// `GET /path HTTP/1.1`, instead of a path.
    Line(Cow<'a, str>),
    /// An object with some of the other fields.
    Entry(Box<Entry<'a>>),
}

enum Value<'a> {
    Null,
    Whole(i128),
    Broken(f64),
    /// Borrowed from the line if nothing in it is escaped.
    Text(Cow<'a, str>),
    Object(Box<Entry<'a>>),
    Other,
}

/// What a field means.
#[derive(Clone, Copy)]
enum Meaning {
    Time,
    Client,
    Peer,
    Path,
    Request,
    Status,
    Bytes,
}

impl Meaning {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "time" | "timestamp" | "ts" | "@timestamp" | "time_iso8601" | "time_local"
            | "msec" | "start_time" | "StartUTC" | "StartLocal" => Self::Time,
            "client" | "client_ip" | "ClientHost" => Self::Client,
            "remote_addr" | "remote_ip" | "ip" | "ClientAddr" | "downstream_remote_address" => {
                Self::Peer
            }
            "path" | "uri" | "request_uri" | "url" | "RequestPath" => Self::Path,
            "request" => Self::Request,
            "status" | "status_code" | "code" | "response_code" | "DownstreamStatus" => {
                Self::Status
            }
            "bytes" | "size" | "bytes_sent" | "body_bytes_sent" | "DownstreamContentSize" => {
                Self::Bytes
            }
            _ => return None,
        })
    }
}

impl<'a> Entry<'a> {
    /// Whether another field with this meaning is still wanted.
    fn wants(&self, meaning: Meaning) -> bool {
        match meaning {
            Meaning::Time => is_wanted(&self.time),
            Meaning::Client => is_wanted(&self.client),
            Meaning::Peer => self.peer.as_ref().is_none_or(|peer| client_in(peer).is_none()),
            Meaning::Path => is_wanted(&self.path),
            Meaning::Request => self.request.is_none(),
            Meaning::Status => is_wanted(&self.status),
            Meaning::Bytes => is_wanted(&self.bytes),
        }
    }

    fn add(&mut self, meaning: Meaning, value: Value<'a>) {
        match meaning {
            _ if matches!(value, Value::Null) => {}
            Meaning::Time => keep(&mut self.time, seconds(&value)),
            Meaning::Client => keep(&mut self.client, client_of(value)),
            Meaning::Peer => {
                if self.peer.is_none() || client_in(&value).is_some() {
                    self.peer = Some(value);
                }
            }
            Meaning::Path => keep(&mut self.path, path(value)),
            Meaning::Request => {
                self.request = match value {
                    Value::Text(line) => Some(Request::Line(line)),
                    Value::Object(entry) => Some(Request::Entry(entry)),
                    _ => None,
                }
            }
            Meaning::Status => keep(&mut self.status, status(&value)),
            Meaning::Bytes => keep(&mut self.bytes, bytes(&value)),
        }
    }
}

fn is_wanted<T>(found: &Found<T>) -> bool {
    !matches!(found, Some(Ok(_)))
}

/// Keeps what can be used, otherwise the first error.
fn keep<T>(found: &mut Found<T>, value: Result<T, Reason>) {
    if found.is_none() || value.is_ok() {
        *found = Some(value);
    }
}

/// The first of two that can be used, otherwise the first error.
fn either<T>(first: Found<T>, second: Found<T>) -> Found<T> {
    match (first, second) {
        (first @ Some(Ok(_)), _) | (first, None) => first,
        (None, second) | (_, second @ Some(Ok(_))) => second,
        (first, _) => first,
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Broken(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Value<'de>, A::Error> {
        let mut entry = Box::<Entry<'de>>::default();
        Filling(&mut entry).visit_map(fields)?;
        Ok(Value::Object(entry))
    }
}

/// Reads an object into an entry, which keeps the fields before an error.
struct Filling<'e, 'a>(&'e mut Entry<'a>);

impl<'de> DeserializeSeed<'de> for Filling<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Filling<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(name) = fields.next_key::<Value<'de>>()? {
            let Value::Text(name) = name else { continue };
            match Meaning::of(&name) {
                Some(meaning) if self.0.wants(meaning) => {
                    self.0.add(meaning, fields.next_value()?)
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads an object and passes its fields to `make`. If the end of the line was cut off, the part before it must
/// suffice.
pub(crate) fn read<R>(
    line: &str,
    is_cut: bool,
    make: impl FnOnce(&Fields<'_>) -> Result<R, Reason>,
) -> Result<R, Reason> {
    // A number that is cut off would be another number.
    let line = if is_cut { line.trim_end_matches(is_part_of_a_number) } else { line };
    let mut entry = Entry::default();
    let mut from = serde_json::Deserializer::from_str(line);
    match Filling(&mut entry).deserialize(&mut from).and_then(|()| from.end()) {
        Err(error) if is_cut && error.is_eof() && entry.bytes.is_some() => {}
        read => read.map_err(|error| Reason::Json(error.to_string()))?,
    }
    let (mut line, mut other_peer) = (None, None);
    match entry.request {
        Some(Request::Line(request)) => line = Some(request),
        Some(Request::Entry(request)) => {
            entry.client = either(entry.client, request.client);
            other_peer = request.peer;
            entry.path = either(entry.path, request.path);
        }
        None => {}
    }
    let client = match entry.client {
        Some(Ok(client)) => client,
        client => {
            let peer = either(entry.peer.map(client_of), other_peer.map(client_of));
            either(client, peer).ok_or(Reason::Field("client"))??
        }
    };
    let time = entry.time.ok_or(Reason::Field("time"))??;
    let target = match (&entry.path, &line) {
        (Some(Ok(path)), _) => path,
        (_, Some(line)) => target(line),
        _ => return Err(Reason::Field("path")),
    };
    let status = entry.status.ok_or(Reason::Field("status"))??;
    let bytes = entry.bytes.unwrap_or(Ok(0))?;
    make(&Fields { client: &client, time, target, status, bytes })
}

fn is_part_of_a_number(character: char) -> bool {
    character.is_ascii_digit() || matches!(character, '+' | '-' | '.' | 'e' | 'E')
}

fn client_in<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    match value {
        Value::Text(text) => client(text),
        _ => None,
    }
}

fn client_of(value: Value<'_>) -> Result<Cow<'_, str>, Reason> {
    let Value::Text(text) = value else { return Err(Reason::Field("client")) };
    let found = match &text {
        Cow::Borrowed(text) => client(text).map(Cow::Borrowed),
        Cow::Owned(text) => client(text).map(|client| Cow::Owned(client.to_owned())),
    };
    found.ok_or_else(|| Reason::Client(excerpt(&text)))
}

fn path(value: Value<'_>) -> Result<Cow<'_, str>, Reason> {
    match value {
        Value::Text(path) => Ok(path),
        _ => Err(Reason::Field("path")),
    }
}

fn status(value: &Value<'_>) -> Result<u16, Reason> {
    let number = match value {
        Value::Whole(number) => u16::try_from(*number).ok(),
        Value::Text(text) => clf::status(text),
        _ => None,
    };
    number.filter(|status| is_status(*status)).ok_or_else(|| Reason::Status(value.describe()))
}

fn bytes(value: &Value<'_>) -> Result<u64, Reason> {
    let number = match value {
        Value::Whole(number) => u64::try_from(*number).ok(),
        Value::Text(text) if text == "-" => Some(0),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| Reason::Bytes(value.describe()))
}

impl Value<'_> {
    fn describe(&self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Broken(number) => number.to_string(),
            Self::Text(text) => excerpt(text),
            Self::Null => "null".to_owned(),
            Self::Object(_) => "an object".to_owned(),
            Self::Other => "a value of another type".to_owned(),
        }
    }
}

/// RFC 3339, the format of the Common Log Format, or seconds since 1970, as a number or as text.
fn seconds(time: &Value<'_>) -> Result<i64, Reason> {
    let seconds = match time {
        Value::Whole(number) => epoch(*number),
        Value::Broken(number) => epoch(number.floor() as i128),
        Value::Text(text) => {
            // nginx writes seconds with three decimals, as text.
            let whole = text
                .split_once('.')
                .filter(|(_, broken)| broken.bytes().all(|byte| byte.is_ascii_digit()));
            let number = whole.map_or(&**text, |(whole, _)| whole).parse::<u64>();
            match number {
                Ok(number) => epoch(number.into()),
                Err(_) => clf::seconds(text)
                    .or_else(|| Some(text.parse::<jiff::Timestamp>().ok()?.as_second())),
            }
        }
        _ => None,
    };
    seconds.ok_or_else(|| Reason::Time(time.describe()))
}

/// Seconds since 1970. A number that would be a date after the year 5000 is interpreted as milliseconds, then as
/// microseconds, then as nanoseconds.
fn epoch(number: i128) -> Option<i64> {
    const FAR: u128 = 100_000_000_000;
    let units = [1, 1000, 1_000_000, 1_000_000_000];
    let unit = units.into_iter().find(|unit| number.unsigned_abs() < FAR * unit)?;
    i64::try_from(number.div_euclid(unit as i128)).ok()
}
