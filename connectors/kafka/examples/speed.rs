//! Measures this crate beside a plain loop over the client:
//! `cargo run --release --manifest-path connectors/kafka/Cargo.toml --example speed`.
//!
//! The broker is librdkafka's mock in the same process, so the numbers compare clients; they say nothing about a real
//! broker. A run begins with the first record: joining a group takes 3 s.

use std::error::Error;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message};
use streamz::delivery::{Acker, DeliveryConfig, Inbox, Outbox};
use streamz::{Pipeline, Stream};
use streamz_kafka::{KafkaInbox, KafkaOutbox, NewRecord, rdkafka};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The mock keeps 5 MiB of a partition, and what is older is gone.
const PARTITIONS: usize = 10;
const RECORDS: usize = PARTITIONS * 60 * BATCH;
const ROUNDS: usize = 5;
const BATCH: usize = 512;
const PAYLOAD: [u8; 100] = [b'x'; 100];
/// A client that has read 100,000 records ahead pauses for a second by default, which would be most of a run.
const BACKOFF: (&str, &str) = ("fetch.queue.backoff.ms", "1");
const TOPIC: &str = "speed";

fn main() -> Outcome<()> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(TOPIC, PARTITIONS as i32, 1)?;
    cluster.create_topic("written", PARTITIONS as i32, 1)?;
    let servers = cluster.bootstrap_servers();
    println!(
        "{RECORDS} records of {} bytes, batches of {BATCH}, the best of {ROUNDS} runs; records per second",
        PAYLOAD.len()
    );
    let mut outbox = KafkaOutbox::builder(&*servers, TOPIC).connect()?;
    for number in 0..RECORDS / BATCH {
        let partition = (number % PARTITIONS) as i32;
        outbox.write(&mut (0..BATCH).map(|_| NewRecord::new(PAYLOAD).with_partition(partition)).collect())?;
    }

    compare([("write, bare client", &|_| bare_write(&servers)), ("write, KafkaOutbox", &|_| outbox_write(&servers))])?;
    compare([
        ("poll and commit, bare client", &|group| bare_loop(&servers, group, false)),
        ("the same, with records that outlive the poll", &|group| bare_loop(&servers, group, true)),
        ("KafkaInbox and KafkaAcker", &|group| inbox_loop(&servers, group)),
        ("pipeline with a sink", &|group| pipeline(&servers, group)),
    ])
}

type Run<'a> = (&'static str, &'a dyn Fn(&str) -> Outcome<Duration>);

/// Runs all in turn, so that each has its share of what else the machine does.
fn compare<const N: usize>(runs: [Run<'_>; N]) -> Outcome<()> {
    let mut best = [0.0_f64; N];
    for round in 0..ROUNDS {
        for (index, (_, run)) in runs.iter().enumerate() {
            let taken = run(&format!("group-{N}-{round}-{index}"))?;
            best[index] = best[index].max(RECORDS as f64 / taken.as_secs_f64());
        }
    }
    println!();
    for ((name, _), rate) in runs.iter().zip(best) {
        println!("{name:<46} {rate:>10.0}   {:.2}", rate / best[0]);
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it is measured in real time")]
fn now() -> Instant {
    Instant::now()
}

fn config(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config
}

fn bare_loop(servers: &str, group: &str, owned: bool) -> Outcome<Duration> {
    let mut config = config(servers);
    config
        .set(BACKOFF.0, BACKOFF.1)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[TOPIC])?;
    let (mut count, mut start, mut bytes, mut committed) = (0, None, 0, now());
    while count < RECORDS {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        start.get_or_insert_with(now);
        bytes += if owned { message.detach().payload().map_or(0, <[u8]>::len) } else { message.payload_len() };
        count += 1;
        if count % BATCH == 0 && committed.elapsed() >= Duration::from_millis(200) {
            consumer.commit_consumer_state(CommitMode::Async)?;
            committed = now();
        }
    }
    consumer.commit_consumer_state(CommitMode::Sync)?;
    assert_eq!(bytes, RECORDS * PAYLOAD.len());
    Ok(start.expect("a record").elapsed())
}

fn inbox(servers: &str, group: &str) -> Outcome<KafkaInbox> {
    Ok(KafkaInbox::builder(servers, TOPIC, group).property(BACKOFF.0, BACKOFF.1).connect()?)
}

fn inbox_loop(servers: &str, group: &str) -> Outcome<Duration> {
    let mut inbox = inbox(servers, group)?;
    let mut acker = inbox.acker()?;
    let (mut count, mut start, mut records, mut receipts) = (0, None, Vec::new(), Vec::new());
    while count < RECORDS {
        inbox.fetch(BATCH, Duration::from_millis(100), &mut records)?;
        if !records.is_empty() {
            start.get_or_insert_with(now);
        }
        count += records.len();
        receipts.extend(records.drain(..).map(|delivery| delivery.receipt));
        acker.acknowledge(&mut receipts)?;
    }
    Ok(start.expect("a record").elapsed())
}

fn pipeline(servers: &str, group: &str) -> Outcome<Duration> {
    let inbox = inbox(servers, group)?;
    let pipeline = Pipeline::new("speed");
    let token = pipeline.token();
    let (mut count, mut start, mut end) = (0, None, None);
    Stream::deliver(&pipeline, inbox, DeliveryConfig::default())?.for_each(|record| {
        start.get_or_insert_with(now);
        count += usize::from(record.is_ok());
        if count == RECORDS {
            end = Some(now());
            token.drain();
        }
    })?;
    pipeline.join();
    Ok(end.expect("the last record") - start.expect("a record"))
}

fn bare_write(servers: &str) -> Outcome<Duration> {
    let mut config = config(servers);
    config.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "1");
    let producer: BaseProducer = config.create()?;
    let start = now();
    for number in 0..RECORDS {
        let key = (number % 1_000).to_string();
        producer.send(BaseRecord::to("written").payload(&PAYLOAD[..]).key(&key)).map_err(|(error, _)| error)?;
        if number % BATCH == BATCH - 1 {
            // As an outbox must: nothing is ahead of what is stored.
            while producer.in_flight_count() > 0 {
                producer.poll(Duration::ZERO);
            }
        }
    }
    Ok(start.elapsed())
}

fn outbox_write(servers: &str) -> Outcome<Duration> {
    let mut outbox = KafkaOutbox::builder(servers, "written").connect()?;
    let start = now();
    for first in (0..RECORDS).step_by(BATCH) {
        let records = first..first + BATCH;
        let new = |number: usize| NewRecord::new(PAYLOAD).with_key((number % 1_000).to_string());
        outbox.write(&mut records.map(new).collect())?;
    }
    Ok(start.elapsed())
}
