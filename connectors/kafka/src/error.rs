//! [`Error`]: what failed, where, and why.

use std::fmt;
use std::sync::Arc;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use streamz::delivery::StoreError;

use crate::record::{NewRecord, text};

/// An error of a Kafka store: where it happened, what was being done, and why it failed.
///
/// The source of this crate's [`StoreError`]s. Its message names the brokers, the topic and, if applicable, the group,
/// partition and offset.
#[derive(Debug, Clone)]
pub struct Error(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    place: Place,
    action: &'static str,
    subject: Option<String>,
    reason: String,
    code: Option<Code>,
    transient: bool,
}

/// The brokers, topics and group.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) brokers: Arc<str>,
    pub(crate) topics: Arc<str>,
    pub(crate) group: Option<Arc<str>>,
}

impl Error {
    /// An error of the client or a broker.
    pub(crate) fn of_client(place: &Place, action: &'static str, cause: &KafkaError) -> Self {
        let code = cause.rdkafka_error_code();
        let transient = match cause {
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => false,
            KafkaError::MessageConsumptionFatal(_) => false,
            _ => code.is_none_or(|code| !is_permanent(code)),
        };
        let reason = match cause {
            KafkaError::ClientConfig(_, reason, property, _) => format!("property `{property}`: {reason}"),
            KafkaError::ClientCreation(reason) => reason.clone(),
            _ => code.map_or_else(|| cause.to_string(), |code| code.to_string()),
        };
        Self(Box::new(Parts { place: place.clone(), action, subject: None, reason, code, transient }))
    }

    /// An error code of a broker or the client.
    pub(crate) fn of_code(place: &Place, action: &'static str, code: Code) -> Self {
        let (reason, transient) = (code.to_string(), !is_permanent(code));
        Self(Box::new(Parts { place: place.clone(), action, subject: None, reason, code: Some(code), transient }))
    }

    /// A permanent error that this crate itself has detected.
    pub(crate) fn permanent(place: &Place, action: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self(Box::new(Parts { place: place.clone(), action, subject: None, reason, code: None, transient: false }))
    }

    /// Adds the partitions and offsets that it concerns.
    pub(crate) fn about(mut self, subject: impl Into<String>) -> Self {
        self.0.subject = Some(subject.into());
        self
    }

    /// Adds the record that it concerns.
    pub(crate) fn about_record(self, record: &NewRecord) -> Self {
        let key = record.key().map_or_else(|| "without a key".to_owned(), |key| format!("with key `{}`", text(key)));
        self.about(format!("a record {key} of {} bytes", record.size()))
    }

    /// Adds the client's earlier report about it.
    pub(crate) fn because(mut self, said: Option<(Code, String)>) -> Self {
        if let Some((code, said)) = said {
            self.0.reason = format!("{}: {said}", self.0.reason);
            self.0.transient &= !is_permanent(code);
        }
        self
    }

    pub(crate) fn for_good(mut self) -> Self {
        self.0.transient = false;
        self
    }

    /// Returns the brokers, as they were configured.
    pub fn brokers(&self) -> &str {
        &self.0.place.brokers
    }

    /// Returns the topic, or all of them, separated by commas.
    pub fn topic(&self) -> &str {
        &self.0.place.topics
    }

    /// Returns the consumer group.
    pub fn group(&self) -> Option<&str> {
        self.0.place.group.as_deref()
    }

    /// Returns the error code of the client or the broker.
    pub fn code(&self) -> Option<Code> {
        self.0.code
    }

    /// Returns whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { place, action, subject, reason, .. } = &*self.0;
        write!(f, "kafka {}, topic `{}`", place.brokers, place.topics)?;
        if let Some(group) = &place.group {
            write!(f, ", group `{group}`")?;
        }
        write!(f, ": cannot {action}")?;
        if let Some(subject) = subject {
            write!(f, " {subject}")?;
        }
        write!(f, ": {reason}")
    }
}

impl std::error::Error for Error {}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        if error.is_transient() { Self::transient(error) } else { Self::permanent(error) }
    }
}

/// Whether the record itself is at fault: it will always be refused, while others may be accepted.
pub(crate) fn is_fault_of_record(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::UnknownPartition
    )
}

fn is_permanent(code: Code) -> bool {
    is_fault_of_record(code)
        || matches!(
            code,
            Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::UnsupportedSASLMechanism
                | Code::IllegalSASLState
                | Code::SecurityDisabled
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::InvalidArgument
                | Code::InvalidConfig
                | Code::InvalidGroupId
                | Code::InvalidTopic
                | Code::InvalidRequiredAcks
                | Code::InvalidSessionTimeout
                | Code::InconsistentGroupProtocol
                | Code::FencedInstanceId
                | Code::PolicyViolation
                | Code::UnsupportedCompressionType
                | Code::UnsupportedForMessageFormat
                | Code::UnsupportedVersion
                | Code::UnsupportedFeature
                | Code::NotImplemented
                | Code::OffsetMetadataTooLarge
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_brokers_topic_group_and_subject() {
        let place = Place { brokers: "a:9092".into(), topics: "orders".into(), group: Some("billing".into()) };
        let error = Error::of_code(&place, "commit", Code::CoordinatorLoadInProgress).about("partition 3 at 17");
        let text = error.to_string();
        assert!(text.starts_with("kafka a:9092, topic `orders`, group `billing`: cannot commit partition 3 at 17: "));
        assert!(error.is_transient());
        assert!(!Error::of_code(&place, "fetch", Code::TopicAuthorizationFailed).is_transient());
    }
}
