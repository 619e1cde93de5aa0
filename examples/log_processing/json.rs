//! Access logs as JSON lines: one object for each request, by the names that are in use for its fields.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::clf::target;
use crate::record::{Fields, Reason, excerpt};

/// What is looked at in an object. Of several fields that mean the same, the first counts.
#[derive(Default)]
struct Entry<'a> {
    time: Option<Value<'a>>,
    client: Option<Value<'a>>,
    path: Option<Value<'a>>,
    /// `GET /path HTTP/1.1`, instead of a path; or an object with some of the other fields.
    request: Option<Value<'a>>,
    status: Option<Value<'a>>,
    bytes: Option<Value<'a>>,
}

enum Value<'a> {
    Null,
    Whole(i64),
    Broken(f64),
    /// Lies in the line if nothing in it is escaped.
    Text(Cow<'a, str>),
    Object(Box<Entry<'a>>),
    Other,
}

impl<'a> Entry<'a> {
    fn field(&mut self, name: &str) -> Option<&mut Option<Value<'a>>> {
        Some(match name {
            "time" | "timestamp" | "ts" | "@timestamp" | "time_iso8601" => &mut self.time,
            "client" | "remote_addr" | "remote_ip" | "client_ip" | "ip" => &mut self.client,
            "path" | "uri" | "request_uri" | "url" => &mut self.path,
            "request" => &mut self.request,
            "status" | "status_code" | "code" => &mut self.status,
            "bytes" | "size" | "bytes_sent" | "body_bytes_sent" => &mut self.bytes,
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
        Ok(Value::Whole(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(number).map_or(Value::Broken(number as f64), Value::Whole))
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

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value<'de>, A::Error> {
        let mut entry = Box::<Entry<'de>>::default();
        while let Some(name) = fields.next_key::<Value<'de>>()? {
            let Value::Text(name) = name else { continue };
            match entry.field(&name) {
                Some(field) if field.is_none() => {
                    *field = Some(fields.next_value()?).filter(|value| !matches!(value, Value::Null));
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(entry))
    }
}

/// Reads an object and gives its fields to `make`.
pub(crate) fn read<R>(line: &str, make: impl FnOnce(&Fields<'_>) -> Result<R, Reason>) -> Result<R, Reason> {
    let Value::Object(entry) = serde_json::from_str(line).map_err(|error| Reason::Json(error.to_string()))? else {
        return Err(Reason::Json("no object".to_owned()));
    };
    let mut entry = *entry;
    if let Some(Value::Object(request)) = entry.request.take_if(|request| matches!(request, Value::Object(_))) {
        entry.client = entry.client.or(request.client);
        entry.path = entry.path.or(request.path);
    }
    let client = match entry.client {
        Some(Value::Text(client)) => client,
        _ => return Err(Reason::Field("client")),
    };
    let time = seconds(&entry.time.ok_or(Reason::Field("time"))?)?;
    let target = match (&entry.path, &entry.request) {
        (Some(Value::Text(path)), _) => path,
        (_, Some(Value::Text(request))) => target(request),
        _ => return Err(Reason::Field("path")),
    };
    let status = match entry.status.ok_or(Reason::Field("status"))? {
        Value::Whole(number) => u16::try_from(number).map_err(|_| Reason::Status(number.to_string()))?,
        Value::Text(text) => text.parse().map_err(|_| Reason::Status(excerpt(&text)))?,
        other => return Err(Reason::Status(other.describe())),
    };
    let bytes = match entry.bytes {
        None => 0,
        Some(Value::Whole(number)) => u64::try_from(number).map_err(|_| Reason::Bytes(number.to_string()))?,
        Some(Value::Text(text)) if text == "-" => 0,
        Some(Value::Text(text)) => text.parse().map_err(|_| Reason::Bytes(excerpt(&text)))?,
        Some(other) => return Err(Reason::Bytes(other.describe())),
    };
    make(&Fields { client: &client, time, target, status, bytes })
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

/// RFC 3339, or seconds since 1970. A number that would be a date after the year 5000 is taken for milliseconds.
fn seconds(time: &Value<'_>) -> Result<i64, Reason> {
    const FAR: i64 = 100_000_000_000;
    match time {
        Value::Whole(number) if number.unsigned_abs() < FAR.unsigned_abs() => Ok(*number),
        Value::Whole(number) if number.unsigned_abs() < FAR.unsigned_abs() * 1000 => Ok(number.div_euclid(1000)),
        Value::Broken(number) if number.abs() < FAR as f64 => Ok(number.floor() as i64),
        Value::Text(text) => {
            let time = text.parse::<jiff::Timestamp>();
            time.map(jiff::Timestamp::as_second).map_err(|_| Reason::Time(excerpt(text)))
        }
        other => Err(Reason::Time(other.describe())),
    }
}
