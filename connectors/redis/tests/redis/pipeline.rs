//! Whole pipelines.

use std::sync::mpsc::channel;
use std::time::Duration;

use streamz::delivery::DeliveryConfig;
use streamz::{Pipeline, Stream};
use streamz_redis::{RedisInbox, RedisInboxBuilder};

use crate::common::{LONG, Server, add, attempts, fetch_now, payloads, pending, texts};

fn inbox(server: &Server, consumer: &str) -> RedisInboxBuilder {
    RedisInbox::builder(server.url(), "s", "g").consumer(consumer).claim_interval(Duration::from_millis(1))
}

#[test]
fn a_pipeline_acknowledges_processed_records() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..1000);
    let pipeline = Pipeline::new("test");
    let inbox = inbox(&server, "a").bounded(true).connect().expect("an inbox");
    let mut seen = Vec::new();
    Stream::deliver(&pipeline, inbox, DeliveryConfig::default())
        .expect("an acker")
        .filter(|record| record.payload() != Some(b"500"))
        .map(|record| String::from_utf8(record.into_payload().expect("a payload")).expect("text"))
        .for_each(|text| seen.push(text.expect("no error")))
        .expect("an end");
    pipeline.join();
    let mut expected = texts(0..1000);
    expected.remove(500);
    assert_eq!(seen, expected);
    assert_eq!(pending(&mut client, "s", "g"), 0);
}

#[test]
fn a_cancelled_pipeline_returns_unprocessed_records() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..1000);
    let pipeline = Pipeline::new("test");
    let mut seen = Vec::new();
    let stream =
        Stream::deliver(&pipeline, inbox(&server, "a").connect().expect("an inbox"), DeliveryConfig::default());
    let outcome = stream.expect("an acker").for_each(|record| {
        let Ok(record) = record else { return };
        seen.push(String::from_utf8(record.into_payload().expect("a payload")).expect("text"));
        if seen.len() == 300 {
            pipeline.cancel();
        }
    });
    assert!(outcome.is_err());
    pipeline.join();
    let mut other = inbox(&server, "b").connect().expect("an inbox");
    // At once, because the lease is a minute.
    let mut again = fetch_now(&mut other);
    assert!(attempts(&again).iter().all(|attempt| *attempt == 2));
    again.append(&mut fetch_now(&mut other));
    assert!(again.len() >= 700, "{} records", again.len());
    seen.append(&mut payloads(&again));
    seen.sort_by_key(|text| text.parse::<u32>().expect("a number"));
    seen.dedup();
    assert_eq!(seen, texts(0..1000));
}

#[test]
fn a_pipeline_continues_after_a_crash_of_the_server() {
    let Some(mut server) = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    add(&mut server.client(), "s", 0..2000);
    let inbox = inbox(&server, "a").connect().expect("an inbox");
    let (sender, receiver) = channel();
    let pipeline = Pipeline::new("test");
    let token = pipeline.token();
    let thread = std::thread::spawn(move || {
        let config = DeliveryConfig { fetch: 100, max_unacked: 200, ..DeliveryConfig::default() };
        let tally = Stream::deliver(&pipeline, inbox, config).expect("an acker").for_each(|record| {
            let record = record.expect("no error");
            sender.send(String::from_utf8(record.into_payload().expect("a payload")).expect("text")).expect("a test");
        });
        pipeline.join();
        tally.expect("an end")
    });
    let mut seen: Vec<String> = receiver.iter().take(500).collect();
    server.kill();
    assert!(server.restart());
    while seen.len() < 2000 || !complete(&mut seen) {
        seen.push(receiver.recv_timeout(LONG).expect("the rest"));
    }
    token.drain();
    thread.join().expect("the pipeline");
    assert_eq!(pending(&mut server.client(), "s", "g"), 0);
}

/// Whether there are all two thousand; removes duplicates.
fn complete(seen: &mut Vec<String>) -> bool {
    seen.sort();
    seen.dedup();
    seen.len() == 2000
}
