//! Processes and servers that are killed while pipelines run, and the state they leave.

use std::sync::mpsc::{Sender, channel};
use std::thread::spawn;
use std::time::Duration;

use streamz::delivery::Outbox;
use streamz::prelude::Pipeline;
use streamz_connector_suite::crash::{self, Pool, Worker, kill_at_random, report, wait_for};
use streamz_redis::{Record, RedisInbox, RedisOutbox};

use crate::common::{Proxy, Server, numbered, payloads_of, pending};

/// In real time: the workers are processes, and die in it.
const LEASE: Duration = Duration::from_millis(500);

fn inbox(url: &str, consumer: &str) -> RedisInbox {
    let inbox = RedisInbox::builder(url, "in", "g").consumer(consumer).lease(LEASE).claim_interval(LEASE / 5);
    inbox.connect().expect("an inbox")
}

fn copy(pipeline: &Pipeline, url: &str, consumer: &str, pool: Pool, copied: impl Fn() + Clone + Send + 'static) {
    let outbox = |stream| RedisOutbox::builder(url, stream).connect().expect("an outbox");
    let number = |record: &Record| number(record.fields.payload().expect("a payload"));
    crash::copy(pipeline, inbox(url, consumer), (outbox("out"), outbox("dead")), pool, number, copied);
}

fn number(payload: &[u8]) -> u32 {
    std::str::from_utf8(payload).expect("text").parse().expect("a number")
}

fn work(pool: Pool) {
    let variable = |name: &str| std::env::var(name).expect("run by another test");
    copy(&Pipeline::new("worker"), &variable("SERVER"), &variable("CONSUMER"), pool, report);
}

#[test]
#[ignore = "run by the tests below, as a process of its own"]
fn worker_with_an_unordered_pool() {
    work(Pool::Unordered);
}

#[test]
#[ignore = "run by the tests below, as a process of its own"]
fn worker_with_a_keyed_pool() {
    work(Pool::Keyed);
}

fn start(pool: Pool, url: &str, name: &str, progress: &Sender<()>) -> Worker {
    let main = match pool {
        Pool::Unordered => "crash::worker_with_an_unordered_pool",
        Pool::Keyed => "crash::worker_with_a_keyed_pool",
    };
    Worker::start(main, &[("SERVER", url.as_ref()), ("CONSUMER", name.as_ref())], progress)
}

/// Starts workers, given by name and URL, and returns when each of them has copied something. A worker needs its server to
/// start, and only then survives the loss of it.
fn start_all(pool: Pool, workers: [(&str, String); 2], progress: &Sender<()>) -> [Worker; 2] {
    let started = workers.map(|(name, url)| {
        let (copied, copies) = channel();
        (start(pool, &url, name, &copied), copies)
    });
    started.map(|(worker, copies)| {
        wait_for(&copies, 1);
        let progress = progress.clone();
        // Ends with the worker.
        spawn(move || copies.into_iter().for_each(|()| progress.send(()).unwrap_or_default()));
        worker
    })
}

/// Copies the rest, and counts.
fn finish(server: &Server, pool: Pool, count: usize) {
    let pipeline = Pipeline::new("last");
    let token = pipeline.token();
    let mut monitor = inbox(&server.url(), "last").monitor();
    let url = server.url();
    let last = spawn(move || copy(&pipeline, &url, "last", pool, || {}));
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
    let copied = ["out", "dead"].map(|stream| payloads_of(&mut client, stream));
    crash::check(copied.iter().flatten().map(|payload| number(payload.as_bytes())), count as u32);
}

/// A server with records to copy.
fn server_with(count: usize, options: &[&str]) -> Option<Server> {
    let server = Server::start(options)?;
    let mut outbox = RedisOutbox::builder(server.url(), "in").connect().expect("an outbox");
    outbox.write(&mut numbered(0..count)).expect("a write");
    Some(server)
}

fn killed_workers_lose_nothing(workers: usize, pool: Pool) {
    const COUNT: usize = 20_000;
    let Some(server) = server_with(COUNT, &[]) else { return };
    let url = server.url();
    kill_at_random(workers, 12, |name, progress| start(pool, &url, name, progress));
    finish(&server, pool, COUNT);
}

#[test]
fn a_killed_worker_loses_nothing() {
    killed_workers_lose_nothing(1, Pool::Unordered);
}

#[test]
fn two_killed_workers_lose_nothing() {
    killed_workers_lose_nothing(2, Pool::Unordered);
}

#[test]
fn four_killed_workers_lose_nothing() {
    killed_workers_lose_nothing(4, Pool::Keyed);
}

#[test]
fn a_server_killed_under_workers_loses_nothing() {
    const COUNT: usize = 20_000;
    let Some(mut server) = server_with(COUNT, &["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let (progress, reports) = channel();
    let workers = start_all(Pool::Unordered, ["a", "b"].map(|name| (name, server.url())), &progress);
    let mut random = fastrand::Rng::new();
    for _ in 0..5 {
        wait_for(&reports, random.usize(1..25));
        server.kill();
        assert!(server.restart());
    }
    wait_for(&reports, 10);
    drop(workers);
    finish(&server, Pool::Unordered, COUNT);
}

/// Each worker has its own network. It is cut, or stalls until the leases of the worker have expired.
#[test]
fn a_network_that_fails_under_workers_loses_nothing() {
    const COUNT: usize = 40_000;
    let Some(server) = server_with(COUNT, &[]) else { return };
    let mut monitor = inbox(&server.url(), "monitor").monitor();
    let (progress, reports) = channel();
    let networks = [0, 1].map(|_| Proxy::start(server.port()));
    let urls = [("a", networks[0].url()), ("b", networks[1].url())];
    let workers = start_all(Pool::Keyed, urls, &progress);
    let mut random = fastrand::Rng::new();
    for _ in 0..3 {
        wait_for(&reports, random.usize(1..10));
        networks[random.usize(0..2)].cut();
        wait_for(&reports, random.usize(1..10));
        networks.iter().for_each(|network| network.stall(true));
        // No more copies are made, and no leases extended.
        while monitor.status().expect("the status")[0].oldest_idle.is_some_and(|age| age < LEASE * 2) {
            std::thread::yield_now();
        }
        for network in &networks {
            network.stall(false);
            network.cut();
        }
    }
    wait_for(&reports, 1);
    drop(workers);
    finish(&server, Pool::Unordered, COUNT);
}
