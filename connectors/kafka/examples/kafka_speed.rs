//! Compares this crate with a plain loop over the client:
//! `cargo run --release --manifest-path connectors/kafka/Cargo.toml --example kafka_speed`.
//!
//! The broker is librdkafka's mock in the same process, so the numbers compare clients; they say nothing about a real
//! broker. A run begins with the first record, because joining a group takes 3 s.

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

/// The mock stores 5 MiB of a partition and drops older records.
const PARTITIONS: usize = 30;
const RECORDS: usize = PARTITIONS * 60 * BATCH;
const WRITTEN: usize = 600 * BATCH;
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
        "{RECORDS} records of {} bytes ({WRITTEN} written), batches of {BATCH}; records per second and ratio to the first, \
         medians of {ROUNDS} rounds",
        PAYLOAD.len()
    );
    let mut outbox = KafkaOutbox::builder(&*servers, TOPIC).connect()?;
    for number in 0..RECORDS / BATCH {
        let partition = (number % PARTITIONS) as i32;
        outbox.write(&mut (0..BATCH).map(|_| NewRecord::new(PAYLOAD).with_partition(partition)).collect())?;
    }

    let writes: [Run<'_>; 2] =
        [("write, bare client", &|_| bare_write(&servers)), ("write, KafkaOutbox", &|_| outbox_write(&servers))];
    compare(WRITTEN, writes)?;
    let bare = |group: &str, keep: Keep| bare_loop(&servers, group, keep);
    compare(
        RECORDS,
        [
            ("poll, drop, commit, bare client", &|group| bare(group, Keep::Nothing)),
            ("the same, keys and payloads kept", &|group| bare(group, Keep::Bytes)),
            ("KafkaInbox and KafkaAcker, no headers", &|group| inbox_loop(inbox(&servers, group, false)?)),
            ("pipeline with a sink, no headers", &|group| pipeline(inbox(&servers, group, false)?)),
        ],
    )?;
    compare(
        RECORDS,
        [
            ("poll and commit, whole records kept, bare client", &|group| bare(group, Keep::All)),
            ("KafkaInbox and KafkaAcker", &|group| inbox_loop(inbox(&servers, group, true)?)),
            ("pipeline with a sink", &|group| pipeline(inbox(&servers, group, true)?)),
        ],
    )
}

type Run<'a> = (&'static str, &'a dyn Fn(&str) -> Outcome<Duration>);

/// Runs all in turn, so that other load on the machine affects all of them, and compares those of the same round.
fn compare<const N: usize>(count: usize, runs: [Run<'_>; N]) -> Outcome<()> {
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let mut rates = [0.0_f64; N];
        for (index, (_, run)) in runs.iter().enumerate() {
            rates[index] = count as f64 / run(&format!("group-{N}-{round}-{index}"))?.as_secs_f64();
        }
        rounds.push(rates);
    }
    let median = |of: &dyn Fn(&[f64; N]) -> f64| {
        let mut all: Vec<_> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!();
    for (index, (name, _)) in runs.iter().enumerate() {
        println!(
            "{name:<50} {:>10.0}   {:.2}",
            median(&|rates| rates[index]),
            median(&|rates| rates[index] / rates[0])
        );
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn config(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config
}

/// The part of each record that a loop keeps until it has a batch.
enum Keep {
    Nothing,
    /// The key and the payload.
    Bytes,
    /// Topic, time and headers, too.
    All,
}

fn bare_loop(servers: &str, group: &str, keep: Keep) -> Outcome<Duration> {
    let mut config = config(servers);
    config
        .set(BACKOFF.0, BACKOFF.1)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[TOPIC])?;
    let (mut count, mut start, mut bytes, mut committed) = (0, None, 0, now());
    let (mut pairs, mut records) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    while count < RECORDS {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        start.get_or_insert_with(now);
        bytes += message.payload_len();
        match keep {
            Keep::Nothing => {}
            Keep::Bytes => pairs.push((message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec))),
            Keep::All => records.push(message.detach()),
        }
        count += 1;
        if count % BATCH == 0 {
            pairs.clear();
            records.clear();
            if committed.elapsed() >= Duration::from_millis(200) {
                consumer.commit_consumer_state(CommitMode::Async)?;
                committed = now();
            }
        }
    }
    consumer.commit_consumer_state(CommitMode::Sync)?;
    assert_eq!(bytes, RECORDS * PAYLOAD.len());
    Ok(start.expect("a record").elapsed())
}

fn inbox(servers: &str, group: &str, read_headers: bool) -> Outcome<KafkaInbox> {
    let inbox = KafkaInbox::builder(servers, TOPIC, group).property(BACKOFF.0, BACKOFF.1);
    Ok(inbox.read_headers(read_headers).connect()?)
}

fn inbox_loop(mut inbox: KafkaInbox) -> Outcome<Duration> {
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

fn pipeline(inbox: KafkaInbox) -> Outcome<Duration> {
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
    for number in 0..WRITTEN {
        let key = (number % 1_000).to_string();
        producer.send(BaseRecord::to("written").payload(&PAYLOAD[..]).key(&key)).map_err(|(error, _)| error)?;
        if number % BATCH == BATCH - 1 {
            // As an outbox must: all records have been stored.
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
    for first in (0..WRITTEN).step_by(BATCH) {
        let records = first..first + BATCH;
        let new = |number: usize| NewRecord::new(PAYLOAD).with_key((number % 1_000).to_string());
        outbox.write(&mut records.map(new).collect())?;
    }
    Ok(start.elapsed())
}
