//! A [`StreamError`] as data.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::utc::{self, Utc};
use super::{Details, ErrorKind, StreamError};
use crate::data::{Text, causes_of};

#[derive(Serialize, Deserialize)]
#[serde(rename = "StreamError")]
struct Data<'a> {
    kind: ErrorKind,
    stage: Cow<'a, str>,
    step: Option<Cow<'a, str>>,
    attempts: u32,
    time: Cow<'a, str>,
    item_type: Option<Cow<'a, str>>,
    causes: Vec<String>,
}

impl Serialize for StreamError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let data = Data {
            kind: self.kind(),
            stage: self.stage().into(),
            step: self.step().map(Cow::Borrowed),
            attempts: self.attempts(),
            time: Utc(self.time()).to_string().into(),
            item_type: self.item_type().map(Cow::Borrowed),
            causes: std::error::Error::source(self).map_or_else(Vec::new, causes_of),
        };
        data.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StreamError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let data = Data::deserialize(deserializer)?;
        let time = utc::parse(&data.time)
            .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&data.time), &"a time in UTC"))?;
        let details = Details::new(data.kind, data.stage.into())
            .with_step(data.step.map(Into::into))
            .with_attempts(data.attempts)
            .with_time(time);
        let error = details.about_lost(data.item_type.map(Into::into));
        Ok(match Text::chain(data.causes) {
            Some(source) => error.with_source(source),
            None => error,
        })
    }
}
