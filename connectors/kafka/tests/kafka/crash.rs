//! Processes that are killed.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use streamz::delivery::DeliveryConfig;
use streamz::{BatchConfig, Pipeline, Stream};
use streamz_kafka::{KafkaInbox, KafkaOutbox, NewRecord};

use crate::common::{Cluster, GROUP, TOPIC, until};

const SERVERS: &str = "STREAMZ_KAFKA_TEST_SERVERS";
const DONE: &str = "done";

struct Worker(Child);

impl Worker {
    fn start(cluster: &Cluster) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "crash::worker", "--nocapture"]).env(SERVERS, cluster.servers());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process"))
    }
}

/// SIGKILL.
impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it has ended");
    }
}

/// What a worker does: copies records, slowly, until it is killed.
#[test]
fn worker() {
    let Ok(servers) = std::env::var(SERVERS) else { return };
    let inbox = KafkaInbox::builder(&*servers, TOPIC, GROUP)
        .property("session.timeout.ms", "2500")
        .property("heartbeat.interval.ms", "100")
        .revoke_wait(Duration::from_millis(500))
        .connect()
        .expect("an inbox");
    let outbox = KafkaOutbox::builder(&*servers, DONE).connect().expect("an outbox");
    let pipeline = Pipeline::new("worker");
    let token = pipeline.token();
    let config = DeliveryConfig { max_unacked: 300, fetch: 50, epoch: 16, ..DeliveryConfig::default() };
    let copies = Stream::deliver(&pipeline, inbox, config).expect("a stream").map(move |record| {
        let _ = token.sleep(Duration::from_millis(2));
        NewRecord::from(&record)
    });
    let batches = BatchConfig { max_size: 20, max_latency: Duration::from_millis(20) };
    copies.deliver_to(outbox, batches).expect("it never ends");
}

/// Two workers, of which one at a time is killed in the middle of its work, and another one started.
#[test]
fn processes_that_are_killed_lose_nothing() {
    const EACH: u32 = 1_000;
    const KILLS: usize = 4;
    let cluster = Cluster::with_topic(4);
    cluster.mock(|mock| mock.create_topic(DONE, 1, 1).unwrap());
    (0..4).for_each(|partition| cluster.append(partition, partition as u32 * EACH..(partition as u32 + 1) * EACH));
    let mut workers = vec![Worker::start(&cluster), Worker::start(&cluster)];
    for kill in 0..KILLS {
        let before = cluster.count(DONE);
        until("progress", || cluster.count(DONE) >= before + 200);
        drop(workers.remove(kill % 2));
        workers.push(Worker::start(&cluster));
    }
    until("the end", || cluster.lag(TOPIC, GROUP) == 0);
    drop(workers);
    let all = cluster.contents(DONE);
    let text = |payload: &Vec<u8>| std::str::from_utf8(payload).unwrap().parse::<u32>().unwrap();
    let different: BTreeSet<_> = all.iter().map(text).collect();
    assert_eq!(different, (0..4 * EACH).collect());
    println!("{KILLS} kills: {} of {} came twice", all.len() - different.len(), different.len());
}
