//! Kafka brokers.

use std::time::Duration;

use streamz_kafka::rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use streamz_kafka::rdkafka::client::DefaultClientContext;
use streamz_kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use streamz_kafka::rdkafka::{ClientConfig, Offset, TopicPartitionList};
use streamz_kafka::{KafkaInbox, KafkaInboxBuilder, KafkaOutbox, NewRecord, Record};

use crate::Fallible;
use crate::store::{Group, Store};

/// Workers share the partitions, so there are more of these than workers.
const PARTITIONS: i32 = 12;
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct InKafka {
    brokers: String,
    /// A client that is not a member of the group.
    observer: BaseConsumer,
}

impl InKafka {
    pub(crate) fn connect(brokers: &str, group: &str) -> Fallible<Self> {
        let observer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", group)
            .create()?;
        let found = observer.fetch_metadata(None, TIMEOUT);
        found.map_err(|error| format!("cannot connect to {brokers}: {error}"))?;
        Ok(Self { brokers: brokers.to_owned(), observer })
    }

    /// Creates the topics with the required number of partitions. Brokers that do not allow that create them at the
    /// first write, with their own number.
    pub(crate) fn prepare(&self, topics: &[&str]) -> Fallible<()> {
        let new: Vec<_> = topics
            .iter()
            .map(|topic| NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1)))
            .collect();
        if let Err(error) = pollster::block_on(self.admin()?.create_topics(&new, &options())) {
            eprintln!("durable: the brokers make the topics themselves: {error}");
        }
        Ok(())
    }

    fn admin(&self) -> Fallible<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?)
    }

    fn builder(&self, topic: &str, group: &str) -> KafkaInboxBuilder {
        // The minimum that brokers allow by default: the time until others receive the records of a killed worker.
        let inbox = KafkaInbox::builder(&*self.brokers, topic, group)
            .property("session.timeout.ms", "6000");
        inbox
            .property("heartbeat.interval.ms", "500")
            .commit_interval(Duration::from_millis(100))
    }

    fn partitions(&self, topic: &str) -> Fallible<Vec<i32>> {
        let metadata = self.observer.fetch_metadata(Some(topic), TIMEOUT)?;
        Ok(metadata.topics().iter().flat_map(|it| it.partitions()).map(|it| it.id()).collect())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT))
}

impl Store for InKafka {
    type Inbox = KafkaInbox;
    type Taken = Record;
    type Outbox = KafkaOutbox;
    type New = NewRecord;

    fn inbox(&self, topic: &str, group: &str, _: &str) -> Fallible<KafkaInbox> {
        Ok(self.builder(topic, group).connect()?)
    }

    fn reader(&self, topic: &str) -> Fallible<KafkaInbox> {
        Ok(self.builder(topic, &format!("{topic}-reader-{}", std::process::id())).connect()?)
    }

    fn outbox(&self, topic: &str) -> Fallible<KafkaOutbox> {
        Ok(KafkaOutbox::builder(&*self.brokers, topic).connect()?)
    }

    fn len(&self, topic: &str) -> Fallible<u64> {
        let mut len = 0;
        for partition in self.partitions(topic)? {
            let (low, high) = self.observer.fetch_watermarks(topic, partition, TIMEOUT)?;
            len += u64::try_from(high - low)?;
        }
        Ok(len)
    }

    fn group(&self, topic: &str, _: &str) -> Fallible<Group> {
        let mut list = TopicPartitionList::new();
        for partition in self.partitions(topic)? {
            list.add_partition(topic, partition);
        }
        let mut unacknowledged = 0;
        for element in self.observer.committed_offsets(list, TIMEOUT)?.elements() {
            let (low, high) =
                self.observer.fetch_watermarks(topic, element.partition(), TIMEOUT)?;
            let from = if let Offset::Offset(offset) = element.offset() { offset } else { low };
            unacknowledged += u64::try_from(high - from)?;
        }
        // Records after the committed offset may be with a consumer or not; only that consumer knows.
        Ok(Group { unacknowledged, ..Group::default() })
    }

    fn record(key: &[u8], payload: &[u8]) -> NewRecord {
        NewRecord::new(payload).with_key(key)
    }

    fn key(record: &Record) -> &[u8] {
        record.key().unwrap_or_default()
    }

    fn payload(record: &Record) -> &[u8] {
        record.payload().unwrap_or_default()
    }

    /// Brokers that do not allow removing topics keep them.
    fn remove(&self, topics: &[&str]) -> Fallible<()> {
        if let Err(error) = pollster::block_on(self.admin()?.delete_topics(topics, &options()))
        {
            eprintln!("durable: the topics {} stay: {error}", topics.join(", "));
        }
        Ok(())
    }
}
