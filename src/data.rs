//! The serialized form of values that serde's derives cannot express: durations in seconds, errors as the texts of
//! their causes.

use std::error::Error;
use std::fmt;

/// `#[serde(with = "seconds")]`: a duration as a number of seconds. Up to a month, deserializing restores it to the
/// nanosecond; longer ones have a precision of 16 digits.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // The longest duration is rounded up when it is written.
        if seconds >= Duration::MAX.as_secs_f64() {
            return Ok(Duration::MAX);
        }
        Duration::try_from_secs_f64(seconds).map_err(de::Error::custom)
    }
}

/// `#[serde(with = "causes")]`: an error as its text and those of its sources.
pub(crate) mod causes {
    use std::error::Error;
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::{Text, causes_of};

    type Shared = Arc<dyn Error + Send + Sync>;

    pub(crate) fn serialize<S: Serializer>(error: &Shared, serializer: S) -> Result<S::Ok, S::Error> {
        causes_of(&**error).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Shared, D::Error> {
        let texts = Vec::deserialize(deserializer)?;
        let error = Text::chain(texts).ok_or_else(|| de::Error::invalid_length(0, &"the text of an error"))?;
        Ok(Arc::new(error))
    }
}

/// The text of an error, and those of its sources.
pub(crate) fn causes_of(error: &(dyn Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
}

/// An error that was serialized and deserialized.
#[derive(Debug)]
pub(crate) struct Text {
    text: String,
    source: Option<Box<Text>>,
}

impl Text {
    /// Links errors, each the source of the one before it.
    pub(crate) fn chain(texts: Vec<String>) -> Option<Self> {
        texts.into_iter().rev().fold(None, |source, text| Some(Self { text, source: source.map(Box::new) }))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Text {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use crate::error::Details;
    use crate::{Cause, ErrorKind, ManualClock, Outcome, Pipeline, Report, Stream, StreamError};

    /// Serializes it, deserializes it, and checks that it is serialized in the same way again.
    fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> (String, T) {
        let text = serde_json::to_string(value).unwrap();
        let read: T = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        (text, read)
    }

    fn error() -> StreamError {
        let disk = StreamError::new(ErrorKind::TimedOut, "disk").with_source("disk full");
        Details::new(ErrorKind::Failed, "load".into())
            .with_step(Some("sum".into()))
            .with_attempts(3)
            .with_time(std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_210_096_250))
            .with_source(disk)
            .about(7_u32)
    }

    #[test]
    fn an_error_keeps_its_text_when_deserialized() {
        let (text, read) = round_trip(&error());
        assert_eq!(
            text,
            r#"{"kind":"failed","stage":"load","step":"sum","attempts":3,"time":"2024-02-29T12:34:56.250Z","#
                .to_owned()
                + r#""item_type":"u32","causes":["stage `disk` timed out","disk full"]}"#
        );
        assert_eq!(format!("{read:?}"), format!("{:?}", error()));
        assert!(!read.has_item::<u32>());
        let (bare, _) = round_trip(&StreamError::new(ErrorKind::CircuitOpen, "call"));
        assert!(bare.ends_with(r#""time":"1970-01-01T00:00:00.000Z","item_type":null,"causes":[]}"#), "{bare}");
    }

    #[test]
    fn every_outcome_and_cause_has_a_kind() {
        let month = Duration::new(31 * 24 * 3600, 123_456_789);
        let cases = [
            (Outcome::Running, r#"{"kind":"running"}"#),
            (Outcome::Completed, r#"{"kind":"completed"}"#),
            (Outcome::Drained, r#"{"kind":"drained"}"#),
            (Outcome::Cancelled(Cause::Requested), r#"{"kind":"cancelled","detail":{"kind":"requested"}}"#),
            (
                Outcome::Cancelled(Cause::Because(std::sync::Arc::new(error()))),
                r#"{"kind":"cancelled","detail":{"kind":"because","detail":["stage `load` failed in step `sum` after 3 attempts","stage `disk` timed out","disk full"]}}"#,
            ),
            (Outcome::Cancelled(Cause::DeadlinePassed), r#"{"kind":"cancelled","detail":{"kind":"deadline_passed"}}"#),
            (
                Outcome::Cancelled(Cause::DrainTimedOut(month)),
                r#"{"kind":"cancelled","detail":{"kind":"drain_timed_out","detail":2678400.123456789}}"#,
            ),
            (Outcome::Cancelled(Cause::Dropped), r#"{"kind":"cancelled","detail":{"kind":"dropped"}}"#),
            (
                Outcome::Cancelled(Cause::TooManyFailures { failed: 3, seen: 4 }),
                r#"{"kind":"cancelled","detail":{"kind":"too_many_failures","detail":{"failed":3,"seen":4}}}"#,
            ),
        ];
        for (outcome, expected) in cases {
            let (text, read) = round_trip(&outcome);
            assert_eq!(text, expected);
            assert_eq!(read.to_string(), outcome.to_string());
        }
        let (text, _) = round_trip(&Outcome::Cut(error()));
        assert!(text.starts_with(r#"{"kind":"cut","detail":{"kind":"failed","stage":"load","#), "{text}");
        let (text, read) = round_trip(&Outcome::Cancelled(Cause::DrainTimedOut(Duration::MAX)));
        assert!(matches!(read, Outcome::Cancelled(Cause::DrainTimedOut(Duration::MAX))), "{text}");
    }

    /// A report with one stage of each kind.
    fn report() -> Report {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("shape").clock(&clock).capacity(8).build();
        let numbers = Stream::from_iter(&pipeline, 0..10_u32).dropping_buffer(3);
        clock.advance(Duration::from_millis(1_500));
        numbers.named("kept").spawn_for_each(drop);
        pipeline.join()
    }

    #[test]
    fn the_shape_of_a_report_is_known() {
        let report = report();
        let (text, read) = round_trip(&report);
        assert_eq!(read.to_string(), report.to_string());
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let stages = value["stages"].as_array_mut().unwrap();
        assert_eq!(stages.len(), 3);
        stages.truncate(2);
        for stage in stages {
            // Hashes, which are not the same everywhere.
            let alike = &mut stage["identity"]["alike"];
            assert!(alike.as_array().is_some_and(|hashes| hashes.iter().all(serde_json::Value::is_u64)), "{alike}");
            *alike = serde_json::json!([0, 0, 0]);
        }
        let golden: serde_json::Value = serde_json::from_str(include_str!("data/report.json")).unwrap();
        assert_eq!(value, golden, "{value:#}");
    }

    /// Fields added since are absent, and future fields are ignored.
    #[test]
    fn a_report_of_another_version_is_read() {
        let mut value: serde_json::Value = serde_json::from_str(include_str!("data/report.json")).unwrap();
        let is_removed =
            |object: &mut serde_json::Value, field| object.as_object_mut().unwrap().remove(field).is_some();
        for stage in value["stages"].as_array_mut().unwrap() {
            assert!(
                is_removed(stage, "merged")
                    && is_removed(stage, "identity")
                    && is_removed(&mut stage["steps"][0], "failed_calls")
            );
            stage["of_later"] = 7.into();
        }
        let report: Report = serde_json::from_value(value).unwrap();
        assert_eq!((report.stages[0].merged, report.stages[0].failed_calls(), report.stages[0].emitted()), (0, 0, 10));
    }

    #[test]
    fn a_diagnosis_is_read_back() {
        let report: Report = serde_json::from_str(include_str!("data/report.json")).unwrap();
        let mut stages = report.stages.clone();
        stages[0].at_work = 1;
        stages[0].at_work_for = Duration::from_secs(12);
        let diagnosis = Report { stages, ..report }.diagnosis();
        let (text, read) = round_trip(&diagnosis);
        assert_eq!(text, r#"{"findings":[{"kind":"at_work","stage":"source","threads":1,"longest_seconds":12.0}]}"#);
        assert_eq!(read, diagnosis);
    }

    #[test]
    fn durations_of_a_finding_are_seconds() {
        let [stage, output, consumer] = ["map", "", "recv"].map(Into::into);
        let away = crate::Finding::Away { stage, output, consumer, away: Duration::from_millis(1_500) };
        let (text, read) = round_trip(&away);
        assert_eq!(text, r#"{"kind":"away","stage":"map","output":"","consumer":"recv","away_seconds":1.5}"#);
        assert_eq!(read, away);
    }
}
