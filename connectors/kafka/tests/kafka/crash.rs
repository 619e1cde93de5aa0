//! Processes that are killed, and the state they leave.

use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use streamz::delivery::{DeliveryConfig, Outbox, StoreError};
use streamz::{AsyncMapper, BatchConfig, BoxError, CallStage, CancelToken, DeadLetter, Pipeline, Retry, Stream};
use streamz_connector_suite::crash::{Worker, end_with_parent, report};
use streamz_kafka::{KafkaInbox, KafkaOutbox, NewRecord, Record};

use crate::common::{Cluster, GROUP, MAX_POLL_INTERVAL, PATIENCE, SESSION, TOPIC, now};
use crate::own_process::in_own_process;

const SERVERS: &str = "STREAMZ_KAFKA_TEST_SERVERS";
const DONE: &str = "done";
const DEAD: &str = "dead";
const PARTITIONS: u32 = 8;
const MAX_UNACKED: usize = 300;
const ROUNDS: usize = 8;

/// Records that fail at every attempt.
fn is_broken(number: u32) -> bool {
    number % 10 == 3
}

fn number(payload: &[u8]) -> u32 {
    std::str::from_utf8(payload).expect("text").parse().expect("a number")
}

fn of_record(record: &Record) -> u32 {
    number(record.payload().expect("a payload"))
}

/// Notifies the test after each write.
struct Reporting(KafkaOutbox);

impl Outbox for Reporting {
    type Record = NewRecord;

    fn write(&mut self, batch: &mut Vec<NewRecord>) -> Result<(), StoreError> {
        self.0.write(batch)?;
        report();
        Ok(())
    }
}

/// A call that takes some time, and fails now and then or permanently.
fn call() -> impl Fn(&CancelToken, &Record) -> Result<u32, BoxError> + Send + Sync + 'static {
    let tried = Mutex::new(HashSet::new());
    move |cancel: &CancelToken, record: &Record| {
        cancel.sleep(Duration::from_millis(2))?;
        let number = of_record(record);
        let is_first = tried.lock().expect("no panic").insert(number);
        if is_broken(number) || (number.is_multiple_of(7) && is_first) { Err("busy".into()) } else { Ok(number) }
    }
}

/// Copies records through retried calls, windows and batches, until it is killed.
fn work(calls: impl CallStage<In = Record, Out = u32, Error = BoxError>) {
    end_with_parent();
    let servers = std::env::var(SERVERS).expect("run by another test");
    let inbox = KafkaInbox::builder(&*servers, TOPIC, GROUP)
        .property("session.timeout.ms", SESSION)
        .property("max.poll.interval.ms", MAX_POLL_INTERVAL)
        .property("heartbeat.interval.ms", "100")
        .revoke_wait(Duration::from_millis(300))
        .connect()
        .expect("an inbox");
    let outbox = |topic| Reporting(KafkaOutbox::builder(&*servers, topic).connect().expect("an outbox"));
    let batches = || BatchConfig { max_size: 20, max_latency: Duration::from_millis(20) };
    let pipeline = Pipeline::new("worker");
    let config = DeliveryConfig { max_unacked: MAX_UNACKED, fetch: 50, epoch: 16, ..DeliveryConfig::default() };
    let retry = Retry::new(calls).max_attempts(3).base_delay(Duration::from_millis(1));
    let records = Stream::deliver(&pipeline, inbox, config).expect("a stream");
    let (done, failed) = records.through(&retry).dead_letters();
    let dead = outbox(DEAD);
    pipeline.spawn("dead letters", move |_| {
        let records = failed.map(|letter: DeadLetter| {
            let (record, _) = letter.into_item::<Record>().expect("a record");
            NewRecord::from(&record)
        });
        records.deliver_to(dead, batches()).expect("it never ends");
    });
    done.tumbling_window(Duration::from_millis(15))
        .flat_map(|window| window.items)
        .map(|number: u32| NewRecord::new(number.to_string()))
        .deliver_to(outbox(DONE), batches())
        .expect("it never ends");
}

#[test]
#[ignore = "run by the tests below, as a process of its own"]
fn worker_with_an_unordered_pool() {
    work(AsyncMapper::new(call()).with_workers(4).with_ordered(false));
}

#[test]
#[ignore = "run by the tests below, as a process of its own"]
fn worker_with_a_keyed_pool() {
    work(AsyncMapper::keyed(|record: &Record| of_record(record) % 16, call()).with_workers(4));
}

/// Appends some records to each partition.
fn append(cluster: &Cluster, next: &mut u32) {
    const EACH: u32 = 50;
    for partition in 0..PARTITIONS {
        cluster.append(partition as i32, *next..*next + EACH);
        *next += EACH;
    }
}

/// Kills half of the workers at a time, in the middle of their work, and starts others.
fn kill_workers(workers: usize, main: &str) {
    let cluster = Cluster::with_topic(PARTITIONS as i32);
    cluster.mock(|mock| [DONE, DEAD].map(|topic| mock.create_topic(topic, 1, 1).expect("a topic")));
    let (progress, reports) = channel();
    let start = || Worker::start(main, &[(SERVERS, cluster.servers().as_ref())], &progress);
    let mut workers: Vec<_> = (0..workers).map(|_| start()).collect();
    let mut count = 0;
    let each = workers.len().div_ceil(2);
    for _ in 0..ROUNDS {
        // More records than the awaited batches contain.
        reports.try_iter().for_each(drop);
        append(&cluster, &mut count);
        for _ in 0..fastrand::usize(1..18) {
            reports.recv_timeout(PATIENCE * 3).expect("the workers make no progress");
        }
        fastrand::shuffle(&mut workers);
        workers.truncate(workers.len() - each);
        workers.extend((0..each).map(|_| start()));
    }
    wait_for_the_rest(&cluster, &reports);
    drop(workers);
    let found = |topic| cluster.contents(topic).iter().map(|payload| number(payload)).collect::<Vec<_>>();
    let (done, dead) = (found(DONE), found(DEAD));
    let all = || done.iter().chain(&dead);
    let different: BTreeSet<u32> = all().copied().collect();
    let missing: Vec<_> = (0..count).filter(|number| !different.contains(number)).collect();
    println!("{} kills: {} of {count} were copied twice", ROUNDS * each, all().count() - different.len());
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert!(dead.iter().all(|number| is_broken(*number)) && !done.iter().any(|number| is_broken(*number)));
}

/// Waits until all records are committed.
fn wait_for_the_rest(cluster: &Cluster, reports: &Receiver<()>) {
    let deadline = now() + PATIENCE * 3;
    while cluster.lag(TOPIC, GROUP) > 0 {
        assert!(now() < deadline, "{} records were not committed", cluster.lag(TOPIC, GROUP));
        // Waits a moment, or until the next batch.
        let _ = reports.recv_timeout(Duration::from_millis(100));
    }
}

#[test]
fn a_worker_that_is_killed_loses_nothing() {
    in_own_process("crash::a_worker_that_is_killed_loses_nothing", || {
        kill_workers(1, "crash::worker_with_an_unordered_pool")
    });
}

#[test]
fn two_workers_that_are_killed_lose_nothing() {
    in_own_process("crash::two_workers_that_are_killed_lose_nothing", || {
        kill_workers(2, "crash::worker_with_a_keyed_pool")
    });
}

#[test]
fn four_workers_that_are_killed_lose_nothing() {
    in_own_process("crash::four_workers_that_are_killed_lose_nothing", || {
        kill_workers(4, "crash::worker_with_an_unordered_pool")
    });
}
