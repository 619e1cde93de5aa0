//! Records are written and confirmed.

use std::time::Duration;

use redis::cmd;
use streamz::delivery::Outbox;
use streamz_redis::{Error, Fields, RedisOutbox};

use crate::common::{Proxy, Server, numbered, payloads_of, texts};

#[test]
fn max_len_trims_the_stream() {
    let Some(server) = Server::start(&["--stream-node-max-entries", "10"]) else { return };
    let mut outbox = RedisOutbox::builder(server.url(), "s").max_len(50).connect().expect("an outbox");
    outbox.write(&mut numbered(0..1000)).expect("a write");
    let length: u64 = cmd("XLEN").arg("s").query(&mut server.client()).expect("XLEN");
    assert!((50..=70).contains(&length), "{length}");
}

#[test]
fn large_records_are_written_in_several_exchanges() {
    let Some(server) = Server::start(&[]) else { return };
    let mut outbox = RedisOutbox::builder(server.url(), "s").connect().expect("an outbox");
    let large: Vec<Fields> = (0..5).map(|number| Fields::from_payload(vec![number; 700_000])).collect();
    outbox.write(&mut large.clone()).expect("a write");
    let mut inbox = streamz_redis::RedisInbox::builder(server.url(), "s", "g").connect().expect("an inbox");
    let records = crate::common::fetch_all(&mut inbox, 5);
    assert!(records.into_iter().map(|it| it.record.fields).eq(large));
}

#[test]
fn an_empty_batch_is_confirmed() {
    let Some(server) = Server::start(&[]) else { return };
    let mut outbox = RedisOutbox::builder(server.url(), "s").connect().expect("an outbox");
    outbox.write(&mut Vec::new()).expect("a write");
}

#[test]
fn a_record_that_is_empty_or_too_large_is_refused() {
    let Some(server) = Server::start(&[]) else { return };
    let outbox = RedisOutbox::builder(server.url(), "s").max_record_bytes(10);
    let mut outbox = outbox.connect().expect("an outbox");
    let mut batch = vec![Fields::from_payload("123"), Fields::new(), Fields::from_payload("1234")];
    for reason in ["the record has no fields", "the record has 11 bytes, and 10 are allowed"] {
        let error = outbox.write(&mut batch).expect_err("a refusal");
        assert!(error.to_string().ends_with(&format!("stream `s`: cannot add a record: {reason}")), "{error}");
        assert_eq!(error.refused_index(), Some(1));
        batch.remove(1);
    }
    outbox.write(&mut batch).expect("a write");
    assert_eq!(payloads_of(&mut server.client(), "s"), ["123"]);
}

#[test]
fn a_full_server_keeps_accepted_records_and_takes_the_rest() {
    let Some(server) = Server::start(&["--maxmemory-policy", "noeviction"]) else { return };
    let mut client = server.client();
    let info: String = cmd("INFO").arg("memory").query(&mut client).expect("INFO");
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("the memory in use");
    let limit = used.trim().parse::<u64>().expect("a number") + (4 << 20);
    cmd("CONFIG").arg("SET").arg("maxmemory").arg(limit).exec(&mut client).expect("CONFIG SET");
    let mut outbox = RedisOutbox::builder(server.url(), "s").connect().expect("an outbox");
    let mut batch: Vec<Fields> = numbered(0..20_000).into_iter().map(|it| it.with("padding", [0; 500])).collect();
    let error = outbox.write(&mut batch).expect_err("a full server");
    assert!(error.is_transient());
    let text = error.to_string();
    assert!(text.contains("stream `s`: cannot add records: OOM"), "{text}");
    assert!(text.contains("maxmemory"), "{text}");
    let length: usize = cmd("XLEN").arg("s").query(&mut client).expect("XLEN");
    assert!(length > 0 && !batch.is_empty());
    assert_eq!(length + batch.len(), 20_000);

    cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec(&mut client).expect("CONFIG SET");
    outbox.write(&mut batch).expect("a write");
    assert!(batch.is_empty());
    let mut found = payloads_of(&mut client, "s");
    found.sort_by_key(|text| text.parse::<u32>().expect("a number"));
    assert_eq!(found, texts(0..20_000));
}

#[test]
fn a_cut_connection_confirms_only_answered_records() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = Proxy::start(server.port());
    let mut outbox = RedisOutbox::builder(proxy.url(), "s").connect().expect("an outbox");
    let mut batch = numbered(0..500);
    // In the middle of a reply, which has 22 bytes.
    proxy.cut_after(1000);
    let error = outbox.write(&mut batch).expect_err("a cut connection");
    assert!(error.is_transient(), "{error}");
    let left = batch.len();
    assert_eq!(batch, numbered(500 - left..500));
    assert!((450..500).contains(&left), "{left}");

    outbox.write(&mut batch).expect("a write");
    let found = payloads_of(&mut server.client(), "s");
    // The records that the server had received in the first attempt, including the confirmed ones; then the second
    // attempt.
    let (first, second) = found.split_at(found.len() - left);
    assert!(first.len() >= 500 - left);
    assert_eq!(first, texts(0..first.len()));
    assert_eq!(second, texts(500 - left..500));
}

#[test]
fn replicas_are_waited_for() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    let outbox = RedisOutbox::builder(server.url(), "s").replicas(1, Duration::from_millis(20));
    let mut outbox = outbox.connect().expect("an outbox");
    let mut batch = numbered(0..5);
    let error = outbox.write(&mut batch).expect_err("no replica");
    assert!(error.is_transient());
    assert!(error.to_string().contains("0 of 1 replicas have confirmed"), "{error}");
    // Nothing was written, otherwise each attempt would write it again.
    assert_eq!(batch.len(), 5);
    assert_eq!(cmd("EXISTS").arg("s").query(&mut client), Ok(0));

    let port = server.port().to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]).expect("installed");
    while let Err(error) = outbox.write(&mut batch) {
        assert!(error.is_transient(), "{error}");
    }
    assert!(batch.is_empty());
    // More than once, if the replica was there before the write and slow after it.
    let mut found = payloads_of(&mut replica.client(), "s");
    found.sort();
    found.dedup();
    assert_eq!(found, texts(0..5));

    // A replica does not accept writes. It may become the master some day.
    let mut outbox = RedisOutbox::builder(replica.url(), "s").connect().expect("an outbox");
    let error = outbox.write(&mut numbered(0..1)).expect_err("a replica");
    assert!(error.is_transient(), "{error}");
    assert_eq!(error.into_reason().downcast::<Error>().expect("an error of the crate").stream(), Some("s"));
}
