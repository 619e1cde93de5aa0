//! `durable`: processes that are killed lose nothing.

use crate::program::{self, command};
use crate::scratch::Scratch;
use crate::server::Server;

#[test]
fn killed_processes_lose_nothing() {
    for workers in ["1", "4"] {
        let args =
            ["--payments", "4000", "--kills", "6", "--seed", workers, "--workers", workers];
        let ran = program::run(command(program::program("durable"), args));
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains("missing:           0"), "{}", ran.stdout);
        assert!(ran.stdout.contains("put aside:         8"), "{}", ran.stdout);
        assert!(ran.stdout.ends_with("nothing lost\n"), "{}", ran.stdout);
    }
}

#[test]
fn nothing_to_do_is_nothing_lost() {
    let ran = program::run(command(program::program("durable"), ["--payments", "0"]));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_journal_that_is_there_is_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.write("payments.journal", b"mine");
    let ran = program::run(command(
        program::program("durable"),
        ["--journal".as_ref(), path.as_os_str()],
    ));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("payments.journal is there already"), "{}", ran.stderr);
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

#[test]
fn on_a_redis_server_nothing_is_lost_and_nothing_is_left() {
    let Some(server) = Server::start(&[]) else { return };
    let args = ["--payments", "4000", "--kills", "6", "--redis", &server.url()];
    let ran = program::run(command(program::program("durable"), args));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("put aside:         8"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("nothing lost\n"), "{}", ran.stdout);
    let keys: Vec<String> =
        streamz_redis::redis::cmd("KEYS").arg("*").query(&mut server.client()).unwrap();
    assert_eq!(keys, [""; 0]);
}

#[test]
fn an_unreachable_server_is_named_without_its_password() {
    let ran = program::run(command(
        program::program("durable"),
        ["--redis", "redis://me:secret@127.0.0.1:1"],
    ));
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.starts_with("durable: cannot connect to redis://127.0.0.1:1: "),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[test]
fn one_place_at_a_time() {
    let ran = program::run(command(
        program::program("durable"),
        ["--redis", "redis://localhost", "--kafka", "localhost"],
    ));
    assert_eq!(ran.code, Some(2));
}

/// On the client's own broker, in this process.
#[cfg(feature = "kafka")]
#[test]
fn on_kafka_brokers_nothing_is_lost() {
    use streamz_kafka::rdkafka::mocking::MockCluster;

    let mock = MockCluster::new(1).unwrap();
    let args = ["--payments", "2000", "--kills", "2", "--kafka", &mock.bootstrap_servers()];
    let ran = program::run(command(program::program("durable"), args));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("put aside:         4"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("nothing lost\n"), "{}", ran.stdout);
}

#[cfg(not(feature = "kafka"))]
#[test]
fn without_its_client_kafka_names_the_build_command() {
    let ran = program::run(command(program::program("durable"), ["--kafka", "localhost:9092"]));
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("--features kafka --example durable -- --kafka"),
        "{}",
        ran.stderr
    );
}
