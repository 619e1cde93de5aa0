//! Access logs as JSON lines: one object for each request, with the field names used by nginx, Caddy, Traefik, Envoy
//! and others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::clf::{self, target};
use crate::client::client;
use crate::record::{Fields, Reason, excerpt};

/// The relevant fields of an object. Of several fields with the same meaning, the first counts.
#[derive(Default)]
struct Entry<'a> {
    time: Option<Value<'a>>,
    client: Option<Value<'a>>,
    /// The connected peer: the client, or the last proxy on the way to it.
    peer: Option<Value<'a>>,
    path: Option<Value<'a>>,
    /// `GET /path HTTP/1.1`, instead of a path; or an object with some of the other fields.
    request: Option<Value<'a>>,
    status: Option<Value<'a>>,
    bytes: Option<Value<'a>>,
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

impl<'a> Entry<'a> {
    fn field(&mut self, name: &str) -> Option<&mut Option<Value<'a>>> {
        Some(match name {
            "time" | "timestamp" | "ts" | "@timestamp" | "time_iso8601" | "time_local"
            | "msec" | "start_time" | "StartUTC" | "StartLocal" => &mut self.time,
            "client" | "client_ip" | "ClientHost" => &mut self.client,
            "remote_addr" | "remote_ip" | "ip" | "ClientAddr" | "downstream_remote_address" => {
                &mut self.peer
            }
            "path" | "uri" | "request_uri" | "url" | "RequestPath" => &mut self.path,
            "request" => &mut self.request,
            "status" | "status_code" | "code" | "response_code" | "DownstreamStatus" => {
                &mut self.status
            }
            "bytes" | "size" | "bytes_sent" | "body_bytes_sent" | "DownstreamContentSize" => {
                &mut self.bytes
            }
            _ => return None,
        })
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
            match self.0.field(&name) {
                Some(field) if field.is_none() => {
                    *field = Some(fields.next_value()?)
                        .filter(|value| !matches!(value, Value::Null));
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
    let mut entry = Entry::default();
    let mut from = serde_json::Deserializer::from_str(line);
    match Filling(&mut entry).deserialize(&mut from).and_then(|()| from.end()) {
        Err(error) if is_cut && error.is_eof() && entry.bytes.is_some() => {}
        read => read.map_err(|error| Reason::Json(error.to_string()))?,
    }
    if let Some(Value::Object(request)) =
        entry.request.take_if(|request| matches!(request, Value::Object(_)))
    {
        entry.client = entry.client.or(request.client);
        entry.peer = entry.peer.or(request.peer);
        entry.path = entry.path.or(request.path);
    }
    let Some(Value::Text(who)) = entry.client.or(entry.peer) else {
        return Err(Reason::Field("client"));
    };
    let client = client(&who).ok_or_else(|| Reason::Client(excerpt(&who)))?;
    let time = seconds(&entry.time.ok_or(Reason::Field("time"))?)?;
    let target = match (&entry.path, &entry.request) {
        (Some(Value::Text(path)), _) => path,
        (_, Some(Value::Text(request))) => target(request),
        _ => return Err(Reason::Field("path")),
    };
    let status = match entry.status.ok_or(Reason::Field("status"))? {
        Value::Whole(number) => {
            u16::try_from(number).map_err(|_| Reason::Status(number.to_string()))?
        }
        Value::Text(text) => {
            clf::status(&text).ok_or_else(|| Reason::Status(excerpt(&text)))?
        }
        other => return Err(Reason::Status(other.describe())),
    };
    let bytes = match entry.bytes {
        None => 0,
        Some(Value::Whole(number)) => {
            u64::try_from(number).map_err(|_| Reason::Bytes(number.to_string()))?
        }
        Some(Value::Text(text)) if text == "-" => 0,
        Some(Value::Text(text)) => text.parse().map_err(|_| Reason::Bytes(excerpt(&text)))?,
        Some(other) => return Err(Reason::Bytes(other.describe())),
    };
    make(&Fields { client, time, target, status, bytes })
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
