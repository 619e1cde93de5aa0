//! Writing, refusing, and retrying records.

use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use streamz::delivery::Outbox;
use streamz_kafka::{KafkaOutbox, NewRecord, rdkafka};

use crate::common::{Cluster, TOPIC, fetch_all};

fn records(count: u32) -> Vec<NewRecord> {
    (0..count).map(|n| NewRecord::new(n.to_string()).with_key(format!("key-{}", n % 5))).collect()
}

#[test]
fn a_record_that_is_too_large_does_not_hold_up_the_others() {
    let cluster = Cluster::with_topic(1);
    let outbox = KafkaOutbox::builder(cluster.servers(), TOPIC).property("message.max.bytes", "10000");
    let mut batch = records(10);
    let large = NewRecord::new(vec![0; 20_000]).with_key("large");
    batch.insert(5, large.clone());
    let mut strict = outbox.connect().unwrap();
    let error = strict.write(&mut batch).expect_err("it is too large");
    assert_eq!((error.is_transient(), error.refused_index()), (false, Some(0)));
    let text = error.to_string();
    assert!(text.contains("topic `orders`: cannot write a record with key `large` of 20005 bytes: "), "{text}");
    assert_eq!(batch, std::slice::from_ref(&large));
    assert_eq!(cluster.contents(TOPIC).len(), 10);
}

#[test]
fn records_of_a_key_stay_in_order_on_one_partition() {
    let cluster = Cluster::with_topic(4);
    // Two machines.
    let (mut a, mut b) = (cluster.outbox(TOPIC), cluster.outbox(TOPIC));
    for n in 0..50 {
        let outbox = if n % 2 == 0 { &mut a } else { &mut b };
        let record = |key: u32| NewRecord::new(n.to_string()).with_key(format!("key-{key}"));
        outbox.write(&mut (0..8).map(record).collect()).unwrap();
    }
    let all = fetch_all(&mut cluster.connect(), 400);
    for key in 0..8 {
        let name = format!("key-{key}").into_bytes();
        let of_key: Vec<_> = all.iter().filter(|got| got.record.key() == Some(&name)).collect();
        assert!(of_key.iter().all(|got| got.record.partition() == of_key[0].record.partition()));
        assert_eq!(crate::common::numbers(of_key), (0..50).collect::<Vec<_>>());
    }
}

#[test]
fn a_write_waits_for_room_in_the_queue() {
    let cluster = Cluster::with_topic(1);
    let outbox = KafkaOutbox::builder(cluster.servers(), TOPIC).property("queue.buffering.max.messages", "10");
    outbox.connect().unwrap().write(&mut records(500)).unwrap();
    assert_eq!(cluster.contents(TOPIC).len(), 500);
}

#[test]
fn records_resent_by_the_client_are_stored_once() {
    let cluster = Cluster::with_topic(1);
    let mut outbox = cluster.outbox(TOPIC);
    cluster.mock(|mock| {
        let errors = [
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        ];
        mock.request_errors(RDKafkaApiKey::Produce, &errors);
    });
    outbox.write(&mut records(200)).unwrap();
    let contents = cluster.contents(TOPIC);
    assert_eq!(contents, (0..200).map(|n: u32| n.to_string().into_bytes()).collect::<Vec<_>>());
}

#[test]
fn a_write_that_times_out_is_left_in_the_batch() {
    let cluster = Cluster::with_topic(1);
    let outbox = KafkaOutbox::builder(cluster.servers(), TOPIC).property("reconnect.backoff.max.ms", "200");
    let mut outbox = outbox.delivery_timeout(Duration::from_millis(500)).connect().unwrap();
    cluster.mock(|mock| mock.broker_down(-1).unwrap());
    let mut batch = records(50);
    let error = outbox.write(&mut batch).expect_err("no broker");
    assert!(error.is_transient());
    assert!(error.to_string().contains(cluster.servers()), "{error}");
    assert_eq!(batch.len(), 50);
    cluster.mock(|mock| mock.broker_up(-1).unwrap());
    crate::common::until("a write", || outbox.write(&mut batch).is_ok());
    assert!(batch.is_empty());
    assert_eq!(cluster.contents(TOPIC), (0..50).map(|n: u32| n.to_string().into_bytes()).collect::<Vec<_>>());
}

#[test]
fn a_topic_that_is_not_allowed_is_an_error_for_good() {
    let cluster = Cluster::with_topic(1);
    let mut outbox = cluster.outbox(TOPIC);
    cluster.mock(|mock| {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        mock.request_errors(RDKafkaApiKey::Produce, &[error]);
    });
    let mut batch = records(10);
    let error = outbox.write(&mut batch).expect_err("it is not allowed");
    assert!(!error.is_transient(), "{error}");
    assert_eq!(batch.len(), 10);
}

/// The broker does not know the sequence of the producer: the client stops it permanently.
#[test]
fn a_producer_that_has_failed_for_good_is_replaced() {
    let cluster = Cluster::with_topic(1);
    let mut outbox = cluster.outbox(TOPIC);
    cluster.mock(|mock| {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        mock.request_errors(RDKafkaApiKey::Produce, &[error]);
    });
    let mut batch = records(200);
    let error = outbox.write(&mut batch).expect_err("the producer fails");
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("sequence desynchronization"), "{error}");
    assert_eq!(batch.len(), 200);
    crate::common::until("a write", || outbox.write(&mut batch).is_ok());
    assert_eq!(cluster.contents(TOPIC), (0..200).map(|n: u32| n.to_string().into_bytes()).collect::<Vec<_>>());
}

/// A new one would be refused as well.
#[test]
fn a_producer_that_may_not_be_idempotent_is_not_replaced() {
    let cluster = Cluster::with_topic(1);
    cluster.mock(|mock| {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
        mock.request_errors(RDKafkaApiKey::InitProducerId, &[error; 4]);
    });
    let mut batch = records(10);
    let error = cluster.outbox(TOPIC).write(&mut batch).expect_err("it is not allowed");
    assert!(!error.is_transient(), "{error}");
    assert_eq!(batch.len(), 10);
}
