//! Servers that are unreachable, refuse, stall, crash or forget.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use redis::cmd;
use streamz::delivery::{Acker, Inbox, Outbox, StoreError};
use streamz_redis::{Error, RedisInbox, RedisOutbox};

use crate::common::{
    LONG, Proxy, Server, add, attempts, fetch, fetch_all, fetch_now, free_port, numbered, payloads, pending, receipts,
    texts,
};

/// The message of a permanent error.
fn permanent<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    let error = outcome.expect_err("an error");
    assert!(!error.is_transient(), "{error}");
    error.to_string()
}

/// The message of a transient error.
fn transient<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    let error = outcome.expect_err("an error");
    assert!(error.is_transient(), "{error}");
    error.to_string()
}

fn connect(url: &str) -> Result<RedisInbox, StoreError> {
    RedisInbox::builder(url, "s", "g").consumer("a").connect()
}

#[test]
fn an_absent_server_is_reported_at_once() {
    let port = free_port();
    let url = format!("redis://ann:secret@127.0.0.1:{port}/2");
    let start = format!("redis://ann@127.0.0.1:{port}/2, stream `s`, group `g`: cannot connect: ");
    let error = connect(&url).expect_err("no server");
    assert!(error.is_transient());
    let text = error.to_string();
    assert!(text.starts_with(&start) && text.contains("refused"), "{text}");
    let error = error.into_reason().downcast::<Error>().expect("an error of the crate");
    assert_eq!((error.stream(), error.group(), error.entry()), (Some("s"), Some("g"), None));
    assert!(error.cause().is_some_and(|cause| cause.is_connection_refusal()));
    transient(RedisOutbox::builder(url, "s").connect());
}

#[test]
fn an_invalid_address_is_a_permanent_error() {
    for (url, word) in [("nonsense", "URL"), ("http://localhost", "URL"), ("redis://localhost/x", "database")] {
        let text = permanent(connect(url));
        assert!(text.contains("cannot use the address") && text.contains(word), "{text}");
        permanent(RedisOutbox::builder(url, "s").connect());
    }
}

/// A server that gives these answers to the requests of one connection, and its URL.
fn answering(answers: &'static [&str]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("redis://{}", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a connection");
        for answer in answers {
            assert_ne!(socket.read(&mut [0; 1000]).expect("a request"), 0);
            socket.write_all(answer.as_bytes()).expect("an answer");
        }
        // Until the client has disconnected.
        _ = socket.read(&mut [0; 1000]);
    });
    (url, server)
}

#[test]
fn a_server_other_than_redis_is_a_permanent_error() {
    let (url, server) = answering(&["HTTP/1.1 400 Bad Request\r\n\r\n"]);
    let text = permanent(connect(&url));
    assert!(text.contains("cannot connect"), "{text}");
    server.join().expect("a server");
}

#[test]
fn an_invalid_reply_is_an_error() {
    let (url, server) = answering(&["+PONG\r\n", "+OK\r\n", ":5\r\n"]);
    let text = permanent(connect(&url));
    assert!(text.contains("cannot look up the group: the server's reply does not have the expected form"), "{text}");
    server.join().expect("a server");
}

#[test]
fn a_server_that_starts_is_waited_for() {
    let (url, server) = answering(&["-LOADING Redis is loading the dataset in memory\r\n"]);
    transient(connect(&url));
    server.join().expect("a server");
}

#[test]
fn a_cluster_is_refused_for_good() {
    let (url, server) = answering(&["+PONG\r\n", "-MOVED 7000 10.0.0.2:6379\r\n"]);
    let text = permanent(connect(&url));
    assert!(text.contains("MOVED 7000 10.0.0.2:6379 (Redis Cluster is not supported)"), "{text}");
    server.join().expect("a server");
}

#[test]
fn a_wrong_password_is_refused_for_good() {
    let Some(server) = Server::start(&["--requirepass", "right"]) else { return };
    let port = server.port();
    for (url, word) in [
        (format!("redis://:wrong@127.0.0.1:{port}"), "WRONGPASS"),
        (format!("redis://bob:right@127.0.0.1:{port}"), "WRONGPASS"),
        (format!("redis://127.0.0.1:{port}"), "NOAUTH"),
    ] {
        let text = permanent(connect(&url));
        assert!(text.contains(word), "{text}");
        assert!(!text.contains("wrong@") && !text.contains("right"), "{text}");
        permanent(RedisOutbox::builder(url, "s").connect());
    }
    let mut inbox = connect(&format!("redis://:right@127.0.0.1:{port}/3")).expect("the right password");
    let url = format!("redis://default:right@127.0.0.1:{port}/3");
    let mut outbox = RedisOutbox::builder(url, "s").connect().expect("the right password");
    outbox.write(&mut numbered(0..1)).expect("a write");
    assert_eq!(fetch(&mut inbox, 10).len(), 1);

    let text = permanent(connect(&format!("redis://:right@127.0.0.1:{port}/999")));
    assert!(text.contains("DB index"), "{text}");
}

#[test]
fn a_missing_permission_is_reported() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    cmd("ACL").arg(&["SETUSER", "ann", "on", ">pw", "~t", "+@all"]).exec(&mut client).expect("ACL SETUSER");
    let url = format!("redis://ann:pw@127.0.0.1:{}", server.port());
    let text = permanent(connect(&url));
    assert!(text.contains("NOPERM"), "{text}");
    let mut outbox = RedisOutbox::builder(url, "s").connect().expect("an outbox");
    let text = permanent(outbox.write(&mut numbered(0..1)));
    assert!(text.contains("NOPERM"), "{text}");
}

#[test]
fn a_key_of_another_type_is_refused_for_good() {
    let Some(server) = Server::start(&[]) else { return };
    cmd("SET").arg("s").arg("text").exec(&mut server.client()).expect("SET");
    let url = server.url();
    let text = permanent(connect(&url));
    assert_eq!(
        text,
        format!(
            "{url}/0, stream `s`, group `g`: cannot create the group: WRONGTYPE Operation against a key holding the wrong kind of value"
        )
    );
    let mut outbox = RedisOutbox::builder(url, "s").connect().expect("an outbox");
    let text = permanent(outbox.write(&mut numbered(0..1)));
    assert!(text.contains("stream `s`: cannot add records: WRONGTYPE"), "{text}");
}

#[test]
fn a_key_that_changes_its_type_ends_the_fetches() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    let ids = add(&mut client, "s", 0..1);
    let mut inbox = connect(&server.url()).expect("an inbox");
    let mut acker = inbox.acker().expect("an acker");
    let records = fetch(&mut inbox, 10);
    cmd("SET").arg("s").arg("text").exec(&mut client).expect("SET");
    permanent(inbox.fetch(10, LONG, &mut Vec::new()));
    let mut unacknowledged = receipts(&records);
    let text = permanent(acker.acknowledge(&mut unacknowledged));
    assert!(text.contains(&format!("entry {}: cannot acknowledge records: WRONGTYPE", ids[0])), "{text}");
    assert_eq!(unacknowledged.len(), 1);
}

#[test]
fn a_missing_group_is_an_error_if_it_is_not_to_be_created() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    let inbox = || RedisInbox::builder(server.url(), "s", "g").create(false).connect();
    assert!(permanent(inbox()).contains("does not exist"));
    add(&mut client, "s", 0..1);
    assert!(permanent(inbox()).contains("does not exist"));
    cmd("XGROUP").arg("CREATE").arg("s").arg("g").arg("0").exec(&mut client).expect("XGROUP CREATE");
    let mut inbox = inbox().expect("an inbox");
    assert_eq!(fetch(&mut inbox, 10).len(), 1);
    cmd("DEL").arg("s").exec(&mut client).expect("DEL");
    assert!(permanent(inbox.fetch(10, LONG, &mut Vec::new())).contains("NOGROUP"));
}

#[test]
fn a_server_without_a_command_is_refused_for_good() {
    let Some(server) = Server::start(&["--rename-command", "XPENDING", ""]) else { return };
    let mut inbox = connect(&server.url()).expect("an inbox");
    let text = permanent(inbox.fetch(10, LONG, &mut Vec::new()));
    assert!(text.contains("unknown command") && text.contains("Redis 6.2 or later"), "{text}");
}

#[test]
fn a_killed_server_loses_nothing() {
    let Some(mut server) = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let mut outbox = RedisOutbox::builder(server.url(), "s").connect().expect("an outbox");
    let mut inbox = connect(&server.url()).expect("an inbox");
    let mut acker = inbox.acker().expect("an acker");
    let mut seen = Vec::new();
    for round in 0..4 {
        let mut batch = numbered(round * 100..(round + 1) * 100);
        let mut unacknowledged = receipts(&fetch_after(&mut outbox, &mut batch, &mut inbox, &mut seen));
        server.kill();
        transient(outbox.write(&mut numbered(0..1)));
        transient(inbox.fetch(10, LONG, &mut Vec::new()));
        transient(acker.acknowledge(&mut unacknowledged));
        assert_eq!(unacknowledged.len(), 50);
        transient(acker.keep_alive());
        assert!(server.restart());
        acker.acknowledge(&mut unacknowledged).expect("an acknowledgement");
        acker.keep_alive().expect("a sign of life");
    }
    while seen.len() < 400 {
        let records = fetch(&mut inbox, 1000);
        acker.acknowledge(&mut receipts(&records)).expect("an acknowledgement");
        seen.append(&mut payloads(&records));
    }
    seen.sort_by_key(|text| text.parse::<u32>().expect("a number"));
    assert_eq!(seen, texts(0..400));
    assert_eq!(pending(&mut server.client(), "s", "g"), 0);
}

/// Writes a batch and fetches half of it.
fn fetch_after(
    outbox: &mut RedisOutbox,
    batch: &mut Vec<streamz_redis::Fields>,
    inbox: &mut RedisInbox,
    seen: &mut Vec<String>,
) -> crate::common::Fetched {
    outbox.write(batch).expect("a write");
    let records = fetch_all(inbox, 50);
    seen.append(&mut payloads(&records));
    records
}

#[test]
fn a_stalled_network_is_noticed_and_loses_nothing() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    let proxy = Proxy::start(server.port());
    let inbox = RedisInbox::builder(proxy.url(), "s", "g").consumer("a").claim_interval(LONG * 10);
    let mut inbox = inbox.response_timeout(Duration::from_millis(100)).connect().expect("an inbox");
    let mut acker = inbox.acker().expect("an acker");
    let outbox = RedisOutbox::builder(proxy.url(), "t").response_timeout(Duration::from_millis(100));
    let mut outbox = outbox.connect().expect("an outbox");
    add(&mut client, "s", 0..1);
    let records = fetch(&mut inbox, 10);
    // It looks for expired leases now, and not again.
    assert!(fetch_now(&mut inbox).is_empty());

    proxy.stall(true);
    add(&mut client, "s", 1..3);
    // The server delivers the records; they do not arrive.
    let text = transient(inbox.fetch(10, Duration::from_millis(10), &mut Vec::new()));
    assert!(text.contains("cannot fetch records") && text.contains("the server has not answered in time"), "{text}");
    let mut unacknowledged = receipts(&records);
    transient(acker.acknowledge(&mut unacknowledged));
    transient(outbox.write(&mut numbered(0..1)));
    // Nor does the answer to a new connection.
    let text = transient(inbox.fetch(10, Duration::from_millis(10), &mut Vec::new()));
    assert!(text.contains("cannot connect"), "{text}");

    proxy.stall(false);
    acker.acknowledge(&mut unacknowledged).expect("an acknowledgement");
    let records = fetch(&mut inbox, 10);
    assert_eq!((payloads(&records), attempts(&records)), (texts(1..3), vec![2, 2]));
    outbox.write(&mut numbered(0..1)).expect("a write");
}

#[test]
fn a_server_full_of_clients_is_waited_for() {
    let Some(server) = Server::start(&["--requirepass", "right"]) else { return };
    let url = format!("redis://:right@127.0.0.1:{}", server.port());
    let mut client = redis::Client::open(&*url).expect("a URL").get_connection().expect("a connection");
    cmd("CONFIG").arg("SET").arg("maxclients").arg(1).exec(&mut client).expect("CONFIG SET");
    transient(connect(&url));
    cmd("CONFIG").arg("SET").arg("maxclients").arg(100).exec(&mut client).expect("CONFIG SET");
    connect(&url).expect("an inbox");
}

/// A full disk, for example.
#[test]
fn a_server_that_cannot_save_is_waited_for() {
    const FULL: &str = "-MISCONF Errors writing to the AOF file: No space left on device\r\n";
    let (url, server) = answering(&["+PONG\r\n", FULL, "$3\r\n1-0\r\n"]);
    let mut outbox = RedisOutbox::builder(url, "s").connect().expect("an outbox");
    let mut batch = numbered(0..1);
    let text = transient(outbox.write(&mut batch));
    assert!(text.contains("stream `s`: cannot add records: MISCONF") && text.contains("No space left"), "{text}");
    assert_eq!(batch.len(), 1);
    outbox.write(&mut batch).expect("there is room again");
    assert!(batch.is_empty());
    drop(outbox);
    server.join().expect("a server");
}

/// While a script runs, the server does nothing else.
#[test]
fn a_server_that_is_busy_is_waited_for() {
    let Some(server) = Server::start(&["--lua-time-limit", "1"]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..1);
    let mut outbox = RedisOutbox::builder(server.url(), "s").connect().expect("an outbox");
    let mut inbox = connect(&server.url()).expect("an inbox");
    let mut acker = inbox.acker().expect("an acker");
    let mut unacknowledged = receipts(&fetch(&mut inbox, 10));
    let mut other = server.client();
    let script = std::thread::spawn(move || cmd("EVAL").arg("while true do end").arg(0).exec(&mut other));
    while cmd("PING").exec(&mut client).is_ok() {
        std::thread::yield_now();
    }
    assert!(transient(inbox.fetch(10, Duration::ZERO, &mut Vec::new())).contains("BUSY"));
    assert!(transient(outbox.write(&mut numbered(1..2))).contains("BUSY"));
    assert!(transient(acker.acknowledge(&mut unacknowledged)).contains("BUSY"));

    cmd("SCRIPT").arg("KILL").exec(&mut client).expect("SCRIPT KILL");
    script.join().expect("a thread").expect_err("a script that was killed");
    acker.acknowledge(&mut unacknowledged).expect("an acknowledgement");
    outbox.write(&mut numbered(1..2)).expect("a write");
    assert_eq!(payloads(&fetch(&mut inbox, 10)), texts(1..2));
}

/// IDs contain the server's time, which was ahead for a while.
#[test]
fn a_clock_that_was_set_back_loses_nothing() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    let mut outbox = RedisOutbox::builder(server.url(), "s").connect().expect("an outbox");
    outbox.write(&mut numbered(0..5)).expect("a write");
    let ahead = "99999999999999-0";
    cmd("XADD").arg("s").arg(ahead).arg("payload").arg(5).exec(&mut client).expect("XADD");
    outbox.write(&mut numbered(6..10)).expect("a write");
    let mut inbox = connect(&server.url()).expect("an inbox");
    let mut acker = inbox.acker().expect("an acker");
    let records = fetch_all(&mut inbox, 10);
    assert_eq!(payloads(&records), texts(0..10));
    // Seemingly delivered in the future.
    let claim = cmd("XCLAIM").arg("s").arg("g").arg("a").arg(0).arg(ahead).arg("TIME").arg("99999999999999").to_owned();
    claim.exec(&mut client).expect("XCLAIM");
    assert_eq!(inbox.monitor().status().expect("the status")[0].in_flight, 10);
    assert!(fetch_now(&mut inbox).is_empty());
    acker.acknowledge(&mut receipts(&records)).expect("an acknowledgement");
    assert_eq!(pending(&mut client, "s", "g"), 0);
}

#[test]
fn records_whose_reply_was_cut_are_redelivered() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = Proxy::start(server.port());
    let inbox = RedisInbox::builder(proxy.url(), "s", "g").consumer("a").claim_interval(LONG * 10);
    let mut inbox = inbox.connect().expect("an inbox");
    assert!(fetch_now(&mut inbox).is_empty());
    add(&mut server.client(), "s", 0..500);
    proxy.cut_after(1000);
    transient(inbox.fetch(1000, LONG, &mut Vec::new()));
    let records = fetch(&mut inbox, 1000);
    assert_eq!((payloads(&records), attempts(&records)), (texts(0..500), vec![2; 500]));
}
