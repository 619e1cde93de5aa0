//! [`KafkaInboxBuilder`]: options of an inbox.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer;
use streamz::delivery::StoreError;

use crate::bound;
use crate::context::{Context, Said};
use crate::error::{Error, Place};
use crate::inbox::KafkaInbox;
use crate::ledger::Ledger;
use crate::poller::Client;
use crate::session::{Limits, Session, is_unknown, topic_error};

/// The client's own default.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
const LONGEST_IDLE: Duration = Duration::from_secs(1);

/// Where a group begins in a partition for which it has no offset: a new group, a new partition, or one whose records
/// from that offset on have been deleted by retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Start {
    /// With the oldest record in the partition.
    #[default]
    Beginning,
    /// With the first record that is added from then on. Records added before the group has its first offset are
    /// skipped.
    End,
    /// Nowhere: the pipeline ends with an error.
    Fail,
}

/// Configures a [`KafkaInbox`]; created by [`KafkaInbox::builder`].
#[must_use = "it does nothing until `connect` is called"]
pub struct KafkaInboxBuilder {
    brokers: Arc<str>,
    topics: Vec<String>,
    group: Arc<str>,
    properties: Vec<(String, String)>,
    start: Start,
    commit_interval: Duration,
    revoke_wait: Duration,
    connect_timeout: Duration,
    unknown_topic: Duration,
    read_headers: bool,
    bounded: bool,
}

impl KafkaInboxBuilder {
    pub(crate) fn new(brokers: Arc<str>, topic: String, group: Arc<str>) -> Self {
        Self {
            brokers,
            topics: vec![topic],
            group,
            properties: Vec::new(),
            start: Start::default(),
            commit_interval: Duration::from_millis(200),
            revoke_wait: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            unknown_topic: Duration::from_secs(30),
            read_headers: true,
            bounded: false,
        }
    }

    /// Also reads another topic. One that begins with `^` is a regular expression for names of topics.
    pub fn and_topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push(topic.into());
        self
    }

    /// Sets a [property of the client](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md), such as
    /// `security.protocol`, `group.instance.id` or `partition.assignment.strategy`.
    ///
    /// `enable.auto.commit`, `enable.auto.offset.store`, `auto.offset.reset`, `bootstrap.servers` and `group.id` are
    /// set by the inbox: [`connect`](Self::connect) refuses them.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Sets where the group begins in a partition for which it has no offset. Defaults to the beginning.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets how often to commit. Defaults to 200 ms.
    ///
    /// Records processed since the last commit are processed again after a crash, as are those in flight. With zero,
    /// each acknowledgement of the pipeline commits and waits for the result.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// Sets how long to wait for records in flight when a partition is revoked. Defaults to 5 s; at most half of
    /// `max.poll.interval.ms`.
    ///
    /// Records processed within that time are committed; the others are delivered to the next consumer, too. All
    /// consumers of the group wait for it. With zero, it does not wait.
    pub fn revoke_wait(mut self, wait: Duration) -> Self {
        self.revoke_wait = wait;
        self
    }

    /// Sets the maximum duration of [`connect`](Self::connect). Defaults to 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a topic may be missing before the pipeline ends with an error. Defaults to 30 s.
    pub fn unknown_topic_grace(mut self, grace: Duration) -> Self {
        self.unknown_topic = grace;
        self
    }

    /// Makes the inbox end at the records that are the newest at [`connect`](Self::connect): the stream of the pipeline
    /// ends when all earlier records have been delivered, of each partition that the consumer has. For batch jobs.
    /// Defaults to `false`.
    ///
    /// Records and partitions that are added later are left to the next run. A consumer without a partition, because
    /// there are more consumers than partitions, ends when the group has committed everything; until then it can take
    /// over from one that dies.
    ///
    /// `connect` asks the brokers for the end of each partition. It refuses patterns of topics, and topics that do not exist.
    pub fn bounded(mut self, bounded: bool) -> Self {
        self.bounded = bounded;
        self
    }

    /// Sets whether to read the headers of records. Defaults to `true`.
    ///
    /// Without them the inbox is faster, because librdkafka allocates a buffer to look for headers, even in records
    /// that have none. Records then have no headers: the attempts of [`Record::put_back`](crate::Record::put_back) are
    /// not counted, and dead letters cannot be [replayed](streamz::Stream::replay).
    pub fn read_headers(mut self, read: bool) -> Self {
        self.read_headers = read;
        self
    }

    /// Connects to the brokers, and starts to join the group. The first record arrives when the group has admitted the
    /// consumer, which takes 3 s for a new group with the brokers' defaults.
    ///
    /// # Errors
    /// If a property is invalid, no broker can be reached within [`connect_timeout`](Self::connect_timeout), or they
    /// refuse the password or the topic. A topic that does not exist yet is not an error here.
    pub fn connect(self) -> Result<KafkaInbox, StoreError> {
        Ok(self.session().map(KafkaInbox::new)?)
    }

    fn session(self) -> Result<Session, Error> {
        let place = Place {
            brokers: self.brokers.clone(),
            topics: self.topics.join(", ").into(),
            group: Some(self.group.clone()),
        };
        let config = self.config(&place)?;
        let max_poll_interval = match config.get("max.poll.interval.ms").and_then(|text| text.parse().ok()) {
            Some(millis) => Duration::from_millis(millis),
            None => MAX_POLL_INTERVAL,
        };
        let context = Context {
            ledger: Arc::new(Ledger::default()),
            place: place.clone(),
            revoke_wait: self.revoke_wait.min(max_poll_interval / 2),
            read_headers: self.read_headers,
            is_paused: AtomicBool::new(false),
            rebalances: AtomicUsize::new(0),
            committing: Mutex::default(),
            said: Said::default(),
        };
        let client: Client =
            config.create_with_context(context).map_err(|cause| Error::of_client(&place, "make a consumer", &cause))?;
        self.check(&client)?;
        if self.bounded {
            if let Some(pattern) = self.topics.iter().find(|topic| topic.starts_with('^')) {
                let reason = format!("a bounded inbox needs the names of its topics, not the pattern `{pattern}`");
                return Err(Error::permanent(&place, "connect", reason));
            }
            client.context().ledger.bound(bound::ends(&client, &self.topics, &place, self.connect_timeout)?);
        }
        let topics: Vec<_> = self.topics.iter().map(String::as_str).collect();
        client.subscribe(&topics).map_err(|cause| Error::of_client(&place, "subscribe", &cause))?;
        let limits = Limits {
            commit_interval: self.commit_interval,
            idle: LONGEST_IDLE.min(max_poll_interval / 4),
            unknown_topic: self.unknown_topic,
            starts_at_end: self.start == Start::End,
        };
        Session::start(client, limits)
    }

    fn config(&self, place: &Place) -> Result<ClientConfig, Error> {
        let start = match self.start {
            Start::Beginning => "earliest",
            Start::End => "latest",
            Start::Fail => "error",
        };
        let own = [
            ("bootstrap.servers", &*self.brokers),
            ("group.id", &*self.group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", start),
        ];
        client_config(&own, &self.properties, place)
    }

    /// Checks whether the brokers can be reached and accept the connection.
    fn check(&self, client: &Client) -> Result<(), Error> {
        let place = &client.context().place;
        for topic in &self.topics {
            let name = if topic.starts_with('^') { None } else { Some(topic.as_str()) };
            let Some(name) = name else { continue };
            match topic_error(client, name, self.connect_timeout) {
                Ok(Some(code)) => {
                    let error = Error::of_code(place, "read", code).about(format!("topic `{topic}`"));
                    if !is_unknown(code) && !error.is_transient() {
                        return Err(error);
                    }
                }
                Ok(None) => {}
                Err(cause) => {
                    // The reason is reported as an event.
                    for _ in 0..100 {
                        client.poll(Duration::ZERO);
                    }
                    return Err(Error::of_client(place, "connect", &cause).because(client.context().said.take()));
                }
            }
        }
        Ok(())
    }
}

/// The properties of a client, some of which are fixed.
pub(crate) fn client_config(
    own: &[(&str, &str)],
    chosen: &[(String, String)],
    place: &Place,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::new();
    for (name, value) in chosen {
        if own.iter().any(|(taken, _)| taken == name) {
            let reason = format!("property `{name}` is set by this crate");
            return Err(Error::permanent(place, "make a client", reason));
        }
        config.set(name, value);
    }
    for (name, value) in own {
        config.set(*name, *value);
    }
    Ok(config)
}

/// Without the values of the properties, of which one may be a password.
impl fmt::Debug for KafkaInboxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaInboxBuilder")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
