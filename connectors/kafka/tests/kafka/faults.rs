//! Brokers that are unreachable, slow, or refuse.

use std::time::Duration;

use rdkafka::types::RDKafkaRespErr;
use streamz::delivery::{Acker, Inbox, Outbox, StoreError};
use streamz_kafka::{Error, KafkaInbox, KafkaOutbox, NewRecord, rdkafka};

use crate::common::{Cluster, GROUP, PATIENCE, TOPIC, acknowledge, fetch_all, now, numbers, until};

fn reason(error: StoreError) -> Error {
    *error.into_reason().downcast().expect("an error of this crate")
}

#[test]
fn connect_fails_without_a_broker() {
    let inbox = KafkaInbox::builder("127.0.0.1:1", TOPIC, GROUP).connect_timeout(Duration::from_millis(300));
    let error = inbox.connect().expect_err("no broker");
    assert!(error.is_transient());
    let text = error.to_string();
    assert!(text.starts_with("kafka 127.0.0.1:1, topic `orders`, group `billing`: cannot connect: "), "{text}");
    let outbox = KafkaOutbox::builder("127.0.0.1:1", TOPIC).connect_timeout(Duration::from_millis(300));
    assert!(outbox.connect().expect_err("no broker").is_transient());
}

#[test]
fn wrong_properties_are_refused() {
    let inbox = || KafkaInbox::builder("127.0.0.1:1", TOPIC, GROUP);
    for (name, value, expected) in [
        ("no.such.property", "1", "property `no.such.property`"),
        ("session.timeout.ms", "soon", "property `session.timeout.ms`"),
        ("enable.auto.commit", "true", "property `enable.auto.commit` is set by this crate"),
    ] {
        let error = inbox().property(name, value).connect().expect_err("a wrong property");
        assert!(!error.is_transient());
        assert!(error.to_string().contains(expected), "{error}");
    }
    let outbox = KafkaOutbox::builder("127.0.0.1:1", TOPIC).property("acks", "0");
    assert!(!outbox.connect().expect_err("a wrong property").is_transient());
}

#[test]
fn a_broker_that_goes_down_and_comes_back_loses_nothing() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 0..100);
    let inbox = cluster.inbox(TOPIC, GROUP).property("reconnect.backoff.max.ms", "200");
    let mut inbox = inbox.property("max.poll.interval.ms", "60000").connect().unwrap();
    let mut acker = inbox.acker().unwrap();
    let all = fetch_all(&mut inbox, 50);
    acknowledge(&mut acker, &all);
    cluster.mock(|mock| mock.broker_down(-1).unwrap());
    let mut records = Vec::new();
    until("an error", || match inbox.fetch(100, Duration::from_millis(100), &mut records) {
        Ok(()) => false,
        Err(error) => {
            assert!(error.is_transient(), "{error}");
            let (text, error) = (error.to_string(), reason(error));
            assert_eq!((error.brokers(), error.topic(), error.group()), (cluster.servers(), TOPIC, Some(GROUP)));
            assert!(text.contains("cannot fetch"), "{text}");
            true
        }
    });
    // Longer than the session, and long enough without a fetch for the partitions to be paused.
    let start = now();
    until("a while", || start.elapsed() > Duration::from_secs(4));
    cluster.mock(|mock| mock.broker_up(-1).unwrap());
    cluster.append(0, 100..200);
    let deadline = now() + PATIENCE;
    // The session has ended, so the records in flight are redelivered.
    while numbers(&records).last() != Some(&199) {
        assert!(now() < deadline, "{} came", records.len());
        // Errors that are still reported are transient.
        if let Err(error) = inbox.fetch(100, Duration::from_millis(100), &mut records) {
            assert!(error.is_transient(), "{error}");
        }
    }
    let different: std::collections::BTreeSet<_> = numbers(&records).into_iter().collect();
    assert_eq!(different, (50..200).collect());
    acknowledge(&mut acker, &records);
    until("the commit", || acker.acknowledge(&mut Vec::new()).is_ok() && cluster.committed(0) == Some(200));
}

#[test]
fn an_unknown_topic_is_an_error_after_its_grace() {
    let cluster = Cluster::start(1);
    let inbox = cluster.inbox("typo", GROUP).unknown_topic_grace(Duration::from_secs(2));
    let mut inbox = inbox.connect().unwrap();
    let (start, mut records) = (now(), Vec::new());
    let deadline = start + PATIENCE;
    let error = loop {
        assert!(now() < deadline, "no error");
        if let Err(error) = inbox.fetch(10, Duration::from_millis(100), &mut records) {
            break error;
        }
    };
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(!error.is_transient());
    assert!(error.to_string().contains("from topic `typo`"), "{error}");
}

#[test]
fn a_topic_that_is_made_within_its_grace_is_read() {
    let cluster = Cluster::start(1);
    let mut inbox = cluster.connect();
    assert!(crate::common::fetch(&mut inbox, 10, Duration::from_secs(2)).is_empty());
    cluster.mock(|mock| mock.create_topic(TOPIC, 1, 1).unwrap());
    cluster.append(0, 0..10);
    assert_eq!(numbers(&fetch_all(&mut inbox, 10)), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_failed_commit_is_retried() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 0..100);
    let mut inbox = cluster.connect();
    let mut acker = inbox.acker().unwrap();
    let all = fetch_all(&mut inbox, 100);
    cluster.mock(|mock| {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE;
        mock.request_errors(rdkafka::types::RDKafkaApiKey::OffsetCommit, &[error]);
    });
    let mut receipts = all.iter().map(|got| got.receipt).collect();
    let error = acker.acknowledge(&mut receipts).expect_err("a failed commit");
    assert!(error.is_transient());
    assert!(error.to_string().contains("cannot commit orders/0 at 100: "), "{error}");
    assert_eq!(cluster.committed(0), None);
    acker.acknowledge(&mut receipts).unwrap();
    assert_eq!(cluster.committed(0), Some(100));
}

#[test]
fn a_group_that_is_not_allowed_is_an_error_for_good() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 0..100);
    let mut inbox = cluster.inbox(TOPIC, GROUP).commit_interval(Duration::from_millis(1)).connect().unwrap();
    let mut acker = inbox.acker().unwrap();
    let all = fetch_all(&mut inbox, 100);
    cluster.mock(|mock| {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
        mock.request_errors(rdkafka::types::RDKafkaApiKey::OffsetCommit, &[error; 8]);
    });
    // The acker does not wait for the commit, so its error comes with a later call.
    let mut receipts = all.iter().map(|got| got.receipt).collect();
    until("an error", || {
        crate::common::fetch(&mut inbox, 1, Duration::from_millis(10));
        acker.acknowledge(&mut receipts).is_err_and(|error| !error.is_transient())
    });
}

#[test]
fn brokers_that_stall_delay_and_lose_nothing() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 0..100);
    let mut inbox = cluster.connect();
    let mut acker = inbox.acker().unwrap();
    let all = fetch_all(&mut inbox, 100);
    cluster.mock(|mock| mock.broker_round_trip_time(-1, Duration::from_millis(300)).unwrap());
    acknowledge(&mut acker, &all);
    let mut outbox = cluster.outbox(TOPIC);
    outbox.write(&mut (100..200).map(|n: u32| NewRecord::new(n.to_string())).collect()).unwrap();
    let rest = fetch_all(&mut inbox, 100);
    assert_eq!(numbers(&rest), (100..200).collect::<Vec<_>>());
    acknowledge(&mut acker, &rest);
    assert_eq!(cluster.committed(0), Some(200));
}
