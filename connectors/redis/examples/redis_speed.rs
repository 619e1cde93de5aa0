//! Compares this crate with a plain loop over the client: `cargo run --release -p streamz-redis --example redis_speed`.
//!
//! Starts a `redis-server`, or uses the one at the URL given as the argument (its streams `speed:*` are replaced).

use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{Commands, Connection, Value, cmd};
use streamz::delivery::{Acker, DeliveryConfig, Inbox, Outbox};
use streamz::{Pipeline, Stream};
use streamz_connector_suite::speed::{Outcome, compare};
use streamz_redis::{Fields, RedisInbox, RedisOutbox};

/// An ID, and the fields as they came.
type Entry = (Vec<u8>, Value);

/// A multiple of the batch.
const RECORDS: usize = 400 * BATCH;
const ROUNDS: usize = 7;
const BATCH: usize = 512;
const PAYLOAD: [u8; 100] = [b'x'; 100];
const KEY: &str = "speed:records";

fn main() -> Outcome<()> {
    let server = match std::env::args().nth(1) {
        Some(url) => Server { url, process: None },
        None => Server::start()?,
    };
    println!(
        "{RECORDS} records of {} bytes, batches of {BATCH}; records per second, median of {ROUNDS}, and the ratio to the first",
        PAYLOAD.len()
    );

    compare(
        RECORDS,
        ROUNDS,
        [
            ("append, bare client", &mut |_| bare_append(&mut server.connect()?)),
            ("append, RedisOutbox", &mut |_| append(&server.url, &mut server.connect()?)),
        ],
    )?;
    for consumers in [1, 2] {
        println!("\nconsumers: {consumers}");
        let run =
            |consumer: &(dyn Fn(&str) -> Outcome<usize> + Sync)| consume(&mut server.connect()?, consumers, consumer);
        compare(
            RECORDS,
            ROUNDS,
            [
                ("fetch and acknowledge, bare client", &mut |_| run(&|name| bare_loop(&server, name))),
                ("the same, reading only the IDs of records", &mut |_| run(&|name| raw_loop(&server, name))),
                ("RedisInbox and RedisAcker", &mut |_| run(&|name| inbox_loop(&server.url, name))),
                ("pipeline with a sink", &mut |_| run(&|name| pipeline(&server.url, name))),
            ],
        )?;
    }
    cmd("DEL").arg(KEY).exec(&mut server.connect()?)?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn now() -> Instant {
    Instant::now()
}

fn bare_append(client: &mut Connection) -> Outcome<Duration> {
    cmd("DEL").arg(KEY).exec(client)?;
    let start = now();
    for _ in 0..RECORDS / BATCH {
        let mut pipe = redis::pipe();
        for _ in 0..BATCH {
            pipe.cmd("XADD").arg(KEY).arg("*").arg("payload").arg(&PAYLOAD).ignore();
        }
        pipe.exec(client)?;
    }
    Ok(start.elapsed())
}

fn append(url: &str, client: &mut Connection) -> Outcome<Duration> {
    cmd("DEL").arg(KEY).exec(client)?;
    let mut outbox = RedisOutbox::builder(url, KEY).connect()?;
    let start = now();
    for _ in 0..RECORDS / BATCH {
        outbox.write(&mut (0..BATCH).map(|_| Fields::from_payload(PAYLOAD)).collect())?;
    }
    Ok(start.elapsed())
}

/// Lets consumers go through all records in a fresh group.
fn consume(
    client: &mut Connection,
    consumers: usize,
    consume: impl Fn(&str) -> Outcome<usize> + Sync,
) -> Outcome<Duration> {
    _ = cmd("XGROUP").arg("DESTROY").arg(KEY).arg("speed").exec(client);
    cmd("XGROUP").arg("CREATE").arg(KEY).arg("speed").arg(0).exec(client)?;
    let (ready, consume) = (Barrier::new(consumers + 1), &consume);
    let (taken, seen) = std::thread::scope(|scope| -> Outcome<_> {
        let ready = &ready;
        let threads: Vec<_> = (0..consumers)
            .map(|number| {
                scope.spawn(move || {
                    ready.wait();
                    consume(&format!("consumer-{number}"))
                })
            })
            .collect();
        ready.wait();
        let start = now();
        let mut seen = 0;
        for thread in threads {
            seen += thread.join().expect("a consumer")?;
        }
        Ok((start.elapsed(), seen))
    })?;
    let all: usize = cmd("XLEN").arg(KEY).query(client)?;
    assert_eq!(seen, all, "each record once");
    let pending: (usize, Option<String>, Option<String>, redis::Value) =
        cmd("XPENDING").arg(KEY).arg("speed").query(client)?;
    assert_eq!(pending.0, 0, "everything acknowledged");
    Ok(taken)
}

/// The loop that one would write with the client alone.
fn bare_loop(server: &Server, consumer: &str) -> Outcome<usize> {
    let mut client = server.connect()?;
    let options = StreamReadOptions::default().group("speed", consumer).count(BATCH);
    let mut seen = 0;
    loop {
        let reply: Option<StreamReadReply> = client.xread_options(&[KEY], &[">"], &options)?;
        let Some(ids) = reply.and_then(|mut reply| reply.keys.pop()).map(|key| key.ids) else { return Ok(seen) };
        if ids.is_empty() {
            return Ok(seen);
        }
        seen += ids.len();
        let ids: Vec<String> = ids.into_iter().map(|entry| entry.id).collect();
        let _: usize = client.xack(KEY, "speed", &ids)?;
    }
}

/// The minimum: the fields of the records are not parsed.
fn raw_loop(server: &Server, consumer: &str) -> Outcome<usize> {
    let mut client = server.connect()?;
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg("speed").arg(consumer).arg("COUNT").arg(BATCH).arg("STREAMS").arg(KEY).arg(">");
    let mut seen = 0;
    loop {
        let reply: Option<Vec<(Value, Vec<Entry>)>> = read.query(&mut client)?;
        let Some((_, entries)) = reply.and_then(|mut streams| streams.pop()) else { return Ok(seen) };
        seen += entries.len();
        let mut acknowledge = cmd("XACK");
        acknowledge.arg(KEY).arg("speed");
        entries.into_iter().for_each(|(id, _)| _ = acknowledge.arg(id));
        acknowledge.exec(&mut client)?;
    }
}

fn inbox(url: &str, consumer: &str) -> Outcome<RedisInbox> {
    Ok(RedisInbox::builder(url, KEY, "speed").consumer(consumer).bounded(true).connect()?)
}

fn inbox_loop(url: &str, consumer: &str) -> Outcome<usize> {
    let mut inbox = inbox(url, consumer)?;
    let mut acker = inbox.acker()?;
    let mut seen = 0;
    loop {
        let mut records = Vec::new();
        inbox.fetch(BATCH, Duration::ZERO, &mut records)?;
        if records.is_empty() {
            return Ok(seen);
        }
        seen += records.len();
        acker.acknowledge(&mut records.into_iter().map(|delivery| delivery.receipt).collect())?;
    }
}

fn pipeline(url: &str, consumer: &str) -> Outcome<usize> {
    let pipeline = Pipeline::new("speed");
    let config = DeliveryConfig { fetch: BATCH, wait: Duration::ZERO, ..DeliveryConfig::default() };
    let tally = Stream::deliver(&pipeline, inbox(url, consumer)?, config)?.for_each(drop)?;
    pipeline.join();
    Ok(tally.items as usize)
}

/// Killed when dropped.
struct Server {
    url: String,
    process: Option<(Child, tempfile::TempDir)>,
}

impl Server {
    fn start() -> Outcome<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let dir = tempfile::tempdir()?;
        let process = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start redis-server: {error}"))?;
        let server = Self { url: format!("redis://127.0.0.1:{port}"), process: Some((process, dir)) };
        while server.connect().is_err() {}
        Ok(server)
    }

    fn connect(&self) -> Outcome<Connection> {
        Ok(redis::Client::open(&*self.url)?.get_connection()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((mut process, _dir)) = self.process.take() {
            _ = process.kill();
            _ = process.wait();
        }
    }
}
