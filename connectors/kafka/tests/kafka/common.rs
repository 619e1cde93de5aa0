//! A separate cluster for each test, and operations of the tests.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use streamz::delivery::{Acker, Delivery, Inbox, Outbox};
use streamz_kafka::rdkafka;
use streamz_kafka::{KafkaInbox, KafkaInboxBuilder, KafkaOutbox, NewRecord, Receipt, Record};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const GROUP: &str = "billing";
/// In milliseconds. The mock waits 3 s for the first members of a group, and removes those whose session ends earlier.
pub(crate) const SESSION: &str = "3500";
/// In milliseconds. The mock never answers a member whose session ended while it waited to be admitted, as happens when
/// this process is not scheduled for a second or two. The client then asks again, 3 s after this.
pub(crate) const MAX_POLL_INTERVAL: &str = "10000";
/// The maximum duration of anything before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

type Mock = MockCluster<'static, DefaultProducerContext>;
type Command = Box<dyn FnOnce(&Mock) + Send>;

/// A cluster in this process. It must stay on one thread, so it has its own.
pub(crate) struct Cluster {
    servers: String,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    pub(crate) fn start(brokers: i32) -> Self {
        let (commands, incoming) = mpsc::channel::<Command>();
        let (ready, servers) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mock = Mock::new(brokers).expect("a mock cluster");
            ready.send(mock.bootstrap_servers()).expect("the test waits");
            for command in incoming {
                command(&mock);
            }
        });
        Self { servers: servers.recv().expect("a cluster"), commands: Some(commands), thread: Some(thread) }
    }

    /// With a topic of `partitions` partitions.
    pub(crate) fn with_topic(partitions: i32) -> Self {
        let cluster = Self::start(1);
        cluster.mock(move |mock| mock.create_topic(TOPIC, partitions, 1).expect("a topic"));
        cluster
    }

    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }

    /// Runs a command on the cluster.
    pub(crate) fn mock<R: Send + 'static>(&self, command: impl FnOnce(&Mock) -> R + Send + 'static) -> R {
        let (done, result) = mpsc::channel();
        let command = move |mock: &Mock| done.send(command(mock)).expect("the test waits");
        self.commands.as_ref().expect("it runs").send(Box::new(command)).expect("it runs");
        result.recv().expect("a result")
    }

    /// An inbox whose group starts quickly: the mock waits a second less than the session for members to return.
    pub(crate) fn inbox(&self, topic: &str, group: &str) -> KafkaInboxBuilder {
        KafkaInbox::builder(self.servers(), topic, group)
            .property("session.timeout.ms", SESSION)
            .property("max.poll.interval.ms", MAX_POLL_INTERVAL)
            .property("heartbeat.interval.ms", "100")
            .property("fetch.wait.max.ms", "50")
            .property("topic.metadata.refresh.interval.ms", "1000")
            .commit_interval(Duration::ZERO)
    }

    pub(crate) fn connect(&self) -> KafkaInbox {
        self.inbox(TOPIC, GROUP).connect().expect("an inbox")
    }

    pub(crate) fn outbox(&self, topic: &str) -> KafkaOutbox {
        KafkaOutbox::builder(self.servers(), topic).connect().expect("an outbox")
    }

    /// Appends numbers to a partition.
    pub(crate) fn append(&self, partition: i32, numbers: std::ops::Range<u32>) {
        let record = |n: u32| NewRecord::new(n.to_string()).with_partition(partition);
        self.outbox(TOPIC).write(&mut numbers.map(record).collect()).expect("a write");
    }

    /// A client of the group that is not a member.
    fn observer(&self, group: &str) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.servers()).set("group.id", group);
        config.create().expect("a consumer")
    }

    fn partitions(&self, observer: &BaseConsumer, topic: &str) -> Vec<i32> {
        let metadata = observer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
        metadata.topics()[0].partitions().iter().map(|it| it.id()).collect()
    }

    /// The committed offset of a partition.
    pub(crate) fn committed(&self, partition: i32) -> Option<i64> {
        let mut list = TopicPartitionList::new();
        list.add_partition(TOPIC, partition);
        let found = self.observer(GROUP).committed_offsets(list, PATIENCE).expect("offsets");
        match found.elements()[0].offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// The number of records that the group has not committed.
    pub(crate) fn lag(&self, topic: &str, group: &str) -> u64 {
        let observer = self.observer(group);
        let mut list = TopicPartitionList::new();
        for partition in self.partitions(&observer, topic) {
            list.add_partition(topic, partition);
        }
        let found = observer.committed_offsets(list, PATIENCE).expect("offsets");
        let lag = |it: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let (low, high) = observer.fetch_watermarks(topic, it.partition(), PATIENCE).expect("watermarks");
            match it.offset() {
                Offset::Offset(offset) => high - offset,
                _ => high - low,
            }
        };
        found.elements().iter().map(lag).sum::<i64>().try_into().expect("a number of records")
    }

    /// All payloads of a topic.
    pub(crate) fn contents(&self, topic: &str) -> Vec<Vec<u8>> {
        let observer = self.observer("observer");
        let (mut list, mut left) = (TopicPartitionList::new(), 0);
        for partition in self.partitions(&observer, topic) {
            let (low, high) = observer.fetch_watermarks(topic, partition, PATIENCE).expect("watermarks");
            left += high - low;
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        observer.assign(&list).expect("an assignment");
        let mut all = Vec::new();
        let deadline = now() + PATIENCE;
        while left > 0 {
            assert!(now() < deadline, "{left} records of `{topic}` did not come");
            if let Some(Ok(message)) = observer.poll(Duration::from_millis(100)) {
                all.push(message.payload().unwrap_or_default().to_vec());
                left -= 1;
            }
        }
        all
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.commands.take());
        let ended = self.thread.take().expect("it runs").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the cluster has panicked");
    }
}

#[expect(clippy::disallowed_methods, reason = "brokers know no other time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) type Got = Delivery<Record, Receipt>;

pub(crate) fn fetch(inbox: &mut KafkaInbox, max: usize, wait: Duration) -> Vec<Got> {
    let mut records = Vec::new();
    inbox.fetch(max, wait, &mut records).unwrap_or_else(|error| panic!("cannot fetch: {error}"));
    records
}

/// Fetches until there are `count` records.
pub(crate) fn fetch_all(inbox: &mut KafkaInbox, count: usize) -> Vec<Got> {
    let deadline = now() + PATIENCE;
    let mut all = Vec::new();
    while all.len() < count {
        assert!(now() < deadline, "{} of {count} records came", all.len());
        all.append(&mut fetch(inbox, count - all.len(), Duration::from_millis(100)));
    }
    all
}

pub(crate) fn number(got: &Got) -> u32 {
    let text = std::str::from_utf8(got.record.payload().expect("a payload")).expect("text");
    text.parse().expect("a number")
}

pub(crate) fn numbers<'a>(all: impl IntoIterator<Item = &'a Got>) -> Vec<u32> {
    all.into_iter().map(number).collect()
}

/// Offsets that cannot be committed during a rebalance are committed by the next call.
pub(crate) fn acknowledge<'a>(acker: &mut impl Acker<Receipt = Receipt>, all: impl IntoIterator<Item = &'a Got>) {
    let mut receipts = all.into_iter().map(|got| got.receipt).collect();
    match acker.acknowledge(&mut receipts) {
        Err(error) if error.is_transient() => {}
        result => result.unwrap_or_else(|error| panic!("cannot acknowledge: {error}")),
    }
    assert!(receipts.is_empty());
}

/// Waits until a condition is true.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !is_so() {
        assert!(now() < deadline, "{what}: not within {PATIENCE:?}");
    }
}
