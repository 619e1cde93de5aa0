//! Processes and servers that are killed while pipelines run, and what is there afterwards.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use streamz::delivery::{DeliveryConfig, Outbox, StoreError};
use streamz::prelude::{AsyncMapper, BatchConfig, CancelToken, Pipeline, Stream};
use streamz_redis::{Fields, Record, RedisInbox, RedisOutbox};

use crate::common::{LONG, Proxy, Server, numbered, payloads_of, pending};

/// In real time: the workers are processes, and die in it.
const LEASE: Duration = Duration::from_millis(500);

fn inbox(url: &str, consumer: &str) -> RedisInbox {
    let inbox = RedisInbox::builder(url, "in", "g").consumer(consumer).lease(LEASE).claim_interval(LEASE / 5);
    inbox.connect().expect("an inbox")
}

/// Copies records from a pool that finishes in any order, in batches, to another stream.
fn copy(pipeline: &Pipeline, url: &str, consumer: &str, copied: impl FnMut()) {
    let outbox = Counting(RedisOutbox::builder(url, "out").connect().expect("an outbox"), copied);
    let config = DeliveryConfig { max_unacked: 1000, ..DeliveryConfig::default() };
    let pool = AsyncMapper::new(|_: &CancelToken, record: &Record| {
        if record.id.sequence.is_multiple_of(3) {
            std::thread::yield_now();
        }
        streamz::ok(record.fields.clone())
    });
    Stream::deliver(pipeline, inbox(url, consumer), config)
        .expect("an acker")
        .through(&pool.with_workers(3).with_ordered(false))
        .deliver_to(outbox, BatchConfig { max_size: 50, max_latency: Duration::from_millis(5) })
        .expect("an end");
}

/// Tells when something has been written.
struct Counting<F>(RedisOutbox, F);

impl<F: FnMut()> Outbox for Counting<F> {
    type Record = Fields;

    fn write(&mut self, batch: &mut Vec<Fields>) -> Result<(), StoreError> {
        self.0.write(batch)?;
        (self.1)();
        Ok(())
    }
}

#[test]
#[ignore = "run by the tests below, as a process of its own"]
fn worker() {
    let variable = |name: &str| std::env::var(name).expect("run by another test");
    copy(&Pipeline::new("worker"), &variable("SERVER"), &variable("CONSUMER"), || {
        let mut out = std::io::stdout().lock();
        writeln!(out, "copied").and_then(|()| out.flush()).expect("the test has gone");
    });
}

struct Worker {
    process: Child,
    reader: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts this program again, with the test `worker` as its main function.
    fn start(url: String, consumer: &str, progress: &Sender<()>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "crash::worker", "--ignored", "--nocapture"]);
        command.env("SERVER", url).env("CONSUMER", consumer).stdout(Stdio::piped());
        let mut process = command.spawn().expect("a process");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let progress = progress.clone();
        let copied = lines.filter(|line| line.ends_with("copied"));
        let reader = Some(spawn(move || copied.for_each(|_| progress.send(()).unwrap_or_default())));
        Self { process, reader }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.process.kill().expect("a process to kill");
        self.process.wait().expect("a process to wait for");
        self.reader.take().map(JoinHandle::join);
    }
}

/// Waits until `batches` batches have been copied.
fn wait_for(batches: usize, reports: &Receiver<()>) {
    for _ in 0..batches {
        reports.recv_timeout(LONG * 3).expect("the workers do nothing");
    }
}

/// Copies the rest, and counts.
fn finish(server: &Server, count: usize) {
    let pipeline = Pipeline::new("last");
    let token = pipeline.token();
    let mut monitor = inbox(&server.url(), "last").monitor();
    let url = server.url();
    let last = spawn(move || {
        copy(&pipeline, &url, "last", || {});
        pipeline.join();
    });
    loop {
        let status = monitor.status().expect("the status").remove(0);
        if status.backlog == Some(0) && status.in_flight == 0 {
            break;
        }
        std::thread::yield_now();
    }
    token.drain();
    last.join().expect("the last worker");
    let mut client = server.client();
    assert_eq!(pending(&mut client, "in", "g"), 0);
    let found: Vec<usize> =
        payloads_of(&mut client, "out").iter().map(|text| text.parse().expect("a number")).collect();
    let different: BTreeSet<usize> = found.iter().copied().collect();
    let missing: Vec<usize> = (0..count).filter(|number| !different.contains(number)).collect();
    println!("{} of {count} came twice", found.len() - different.len());
    assert!(missing.is_empty(), "missing: {missing:?}");
}

#[test]
fn killed_workers_lose_nothing() {
    const COUNT: usize = 60_000;
    let Some(server) = Server::start(&[]) else { return };
    let mut outbox = RedisOutbox::builder(server.url(), "in").connect().expect("an outbox");
    outbox.write(&mut numbered(0..COUNT)).expect("a write");
    let (progress, reports) = channel();
    let mut workers: Vec<_> =
        (0..2).map(|number| Worker::start(server.url(), &format!("worker-{number}"), &progress)).collect();
    let mut random = fastrand::Rng::new();
    for kill in 0..30 {
        wait_for(random.usize(1..25), &reports);
        let number = random.usize(0..2);
        drop(workers.remove(number));
        // Some come back under their name, and some under another.
        let name = if kill % 2 == 0 { format!("worker-{number}") } else { format!("worker-{number}-{kill}") };
        workers.insert(number, Worker::start(server.url(), &name, &progress));
    }
    drop(workers);
    finish(&server, COUNT);
}

#[test]
fn a_server_killed_under_workers_loses_nothing() {
    const COUNT: usize = 20_000;
    let Some(mut server) = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let mut outbox = RedisOutbox::builder(server.url(), "in").connect().expect("an outbox");
    outbox.write(&mut numbered(0..COUNT)).expect("a write");
    let (progress, reports) = channel();
    let workers = [0, 1].map(|number| Worker::start(server.url(), &format!("worker-{number}"), &progress));
    let mut random = fastrand::Rng::new();
    for _ in 0..5 {
        wait_for(random.usize(1..25), &reports);
        server.kill();
        assert!(server.restart());
    }
    wait_for(10, &reports);
    drop(workers);
    finish(&server, COUNT);
}

/// Each worker has a network of its own. It is cut, or stalls until the leases of what the worker holds have expired.
#[test]
fn a_network_that_fails_under_workers_loses_nothing() {
    const COUNT: usize = 40_000;
    let Some(server) = Server::start(&[]) else { return };
    let mut outbox = RedisOutbox::builder(server.url(), "in").connect().expect("an outbox");
    outbox.write(&mut numbered(0..COUNT)).expect("a write");
    let mut monitor = inbox(&server.url(), "monitor").monitor();
    let (progress, reports) = channel();
    let networks = [0, 1].map(|_| Proxy::start(server.port()));
    let workers = [0, 1].map(|number| Worker::start(networks[number].url(), &format!("worker-{number}"), &progress));
    let mut random = fastrand::Rng::new();
    for _ in 0..3 {
        wait_for(random.usize(1..10), &reports);
        networks[random.usize(0..2)].cut();
        wait_for(random.usize(1..10), &reports);
        networks.iter().for_each(|network| network.stall(true));
        // Nothing is copied any more, and nothing kept alive.
        while monitor.status().expect("the status")[0].oldest_idle.is_some_and(|age| age < LEASE * 2) {
            std::thread::yield_now();
        }
        for network in &networks {
            network.stall(false);
            network.cut();
        }
    }
    wait_for(1, &reports);
    drop(workers);
    finish(&server, COUNT);
}
