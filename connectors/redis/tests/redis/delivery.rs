//! Delivering, acknowledging, taking over and giving back records.

use std::time::Duration;

use crate::common::{
    LONG, Server, add, age, attempts, fetch, fetch_all, fetch_now, numbered, payloads, pending, receipts, texts,
};
use redis::cmd;
use streamz::delivery::{Acker, Inbox, Outbox};
use streamz_connector_suite::log::logged;
use streamz_redis::{EntryId, Fields, RedisInbox, RedisInboxBuilder, RedisOutbox, Start};

/// A lease that no test outlives: it expires when a test says so.
fn inbox(server: &Server, consumer: &str) -> RedisInboxBuilder {
    let inbox = RedisInbox::builder(server.url(), "s", "g").consumer(consumer);
    inbox.lease(Duration::from_secs(3600)).claim_interval(Duration::from_millis(1))
}

#[test]
fn a_record_keeps_its_fields_and_order() {
    let Some(server) = Server::start(&[]) else { return };
    let mut outbox = RedisOutbox::builder(server.url(), "s").connect().expect("an outbox");
    let odd = Fields::new().with("a", [0, 255, 13, 10]).with("a", "").with([200], "text");
    let mut batch = vec![odd.clone()];
    batch.append(&mut numbered(0..2500));
    outbox.write(&mut batch).expect("a write");
    assert!(batch.is_empty());

    let mut inbox = inbox(&server, "a").connect().expect("an inbox");
    let records = fetch_all(&mut inbox, 2501);
    assert_eq!(records[0].record.fields, odd);
    assert_eq!(&*records[0].record.stream, "s");
    assert_eq!(payloads(&records[1..]), texts(0..2500));
    assert!(records.is_sorted_by(|a, b| a.record.id < b.record.id));
    assert!(records.iter().all(|it| it.attempt == 1 && it.receipt.id() == it.record.id));
}

#[test]
fn acknowledged_records_are_not_redelivered() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..5);
    let mut first = inbox(&server, "a").connect().expect("an inbox");
    let records = fetch(&mut first, 10);
    let mut some = receipts(&records[..3]);
    let mut acker = first.acker().expect("an acker");
    acker.acknowledge(&mut some).expect("an acknowledgement");
    assert!(some.is_empty());
    assert_eq!(pending(&mut client, "s", "g"), 2);
    assert!(fetch_now(&mut first).is_empty());

    // The same consumer after a crash.
    drop((first, acker));
    let mut second = inbox(&server, "a").connect().expect("an inbox");
    let records = fetch(&mut second, 10);
    assert_eq!((payloads(&records), attempts(&records)), (texts(3..5), vec![2, 2]));
    let mut acker = second.acker().expect("an acker");
    acker.acknowledge(&mut receipts(&records)).expect("an acknowledgement");
    assert_eq!(pending(&mut client, "s", "g"), 0);
}

#[test]
fn acknowledging_twice_and_in_any_order_does_no_harm() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..3000);
    let mut inbox = inbox(&server, "a").connect().expect("an inbox");
    let mut acker = inbox.acker().expect("an acker");
    let mut all = receipts(&fetch_all(&mut inbox, 3000));
    all.reverse();
    let mut again = all.clone();
    acker.acknowledge(&mut all).expect("an acknowledgement");
    acker.acknowledge(&mut again).expect("an acknowledgement");
    acker.acknowledge(&mut Vec::new()).expect("nothing to acknowledge");
    assert_eq!(pending(&mut client, "s", "g"), 0);
}

#[test]
fn two_consumers_share_the_records() {
    let Some(server) = Server::start(&[]) else { return };
    add(&mut server.client(), "s", 0..10);
    let mut a = inbox(&server, "a").connect().expect("an inbox");
    let mut b = inbox(&server, "b").connect().expect("an inbox");
    assert_eq!(payloads(&fetch(&mut a, 4)), texts(0..4));
    assert_eq!(payloads(&fetch(&mut b, 10)), texts(4..10));
    assert!(fetch_now(&mut a).is_empty());
}

#[test]
fn records_of_a_dead_consumer_go_to_another() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..5);
    let mut a = inbox(&server, "a").connect().expect("an inbox");
    let mut b = inbox(&server, "b").connect().expect("an inbox");
    assert_eq!(fetch(&mut a, 10).len(), 5);
    assert!(fetch_now(&mut b).is_empty());
    drop(a);
    assert!(fetch_now(&mut b).is_empty());
    age(&mut client, "s", "g", "a");
    // In several fetches, and before new records.
    add(&mut client, "s", 5..6);
    let records = fetch_all(&mut b, 2);
    assert_eq!((payloads(&records), attempts(&records)), (texts(0..2), vec![2, 2]));
    let records = fetch_all(&mut b, 4);
    assert_eq!((payloads(&records), attempts(&records)), (texts(2..6), vec![2, 2, 2, 1]));
    // And then by a third one.
    age(&mut client, "s", "g", "b");
    drop(b);
    let mut c = inbox(&server, "c").connect().expect("an inbox");
    assert_eq!(attempts(&fetch_all(&mut c, 6)), [3, 3, 3, 3, 3, 2]);
}

#[test]
fn a_lease_expires_by_itself() {
    let Some(server) = Server::start(&[]) else { return };
    add(&mut server.client(), "s", 0..3);
    let mut a = inbox(&server, "a").connect().expect("an inbox");
    assert_eq!(fetch(&mut a, 10).len(), 3);
    let b = inbox(&server, "b").lease(Duration::from_millis(20));
    // This waits in one call, without a new record.
    assert_eq!(attempts(&fetch_all(&mut b.connect().expect("an inbox"), 3)), [2, 2, 2]);
}

#[test]
fn keep_alive_holds_the_lease() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..2500);
    let mut a = inbox(&server, "a").connect().expect("an inbox");
    let mut acker = a.acker().expect("an acker");
    assert_eq!(fetch_all(&mut a, 2500).len(), 2500);
    let mut b = inbox(&server, "b").connect().expect("an inbox");
    age(&mut client, "s", "g", "a");
    acker.keep_alive().expect("a sign of life");
    assert!(fetch_now(&mut b).is_empty());
    // It does not count as a delivery.
    age(&mut client, "s", "g", "a");
    assert_eq!(attempts(&fetch_all(&mut b, 2500)), vec![2; 2500]);
    // It does not extend the leases of another one.
    drop(b);
    age(&mut client, "s", "g", "b");
    acker.keep_alive().expect("a sign of life");
    let mut c = inbox(&server, "c").connect().expect("an inbox");
    assert_eq!(attempts(&fetch_all(&mut c, 2500)), vec![3; 2500]);
}

#[test]
fn a_consumer_does_not_take_over_records_in_progress() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..5);
    let mut a = inbox(&server, "a").connect().expect("an inbox");
    assert_eq!(fetch(&mut a, 10).len(), 5);
    age(&mut client, "s", "g", "a");
    assert!(fetch_now(&mut a).is_empty());
    let mut b = inbox(&server, "b").connect().expect("an inbox");
    assert_eq!(fetch(&mut b, 10).len(), 5);
}

#[test]
fn records_taken_over_in_progress_are_not_taken_back() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..5);
    let mut a = inbox(&server, "a").connect().expect("an inbox");
    let mut acker = a.acker().expect("an acker");
    let records = fetch(&mut a, 10);
    age(&mut client, "s", "g", "a");
    let mut b = inbox(&server, "b").connect().expect("an inbox");
    assert_eq!(fetch(&mut b, 10).len(), 5);
    drop(b);
    age(&mut client, "s", "g", "b");
    // It is still in flight here, and will be acknowledged.
    assert!(fetch_now(&mut a).is_empty());
    acker.acknowledge(&mut receipts(&records)).expect("an acknowledgement");
    assert_eq!(pending(&mut client, "s", "g"), 0);
}

#[test]
fn returned_records_are_redelivered_at_once() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..4);
    // It finds out without waiting for its interval.
    let mut a = inbox(&server, "a").claim_interval(LONG * 10).connect().expect("an inbox");
    let mut acker = a.acker().expect("an acker");
    let all = receipts(&fetch(&mut a, 10));
    acker.give_back(all[..2].to_vec()).expect("a return");
    let records = fetch(&mut a, 10);
    assert_eq!((payloads(&records), attempts(&records)), (texts(0..2), vec![2, 2]));
    acker.give_back(all[2..].to_vec()).expect("a return");
    let mut b = inbox(&server, "b").connect().expect("an inbox");
    assert_eq!(payloads(&fetch(&mut b, 10)), texts(2..4));
    // Records that another one has taken over stay there.
    age(&mut client, "s", "g", "a");
    assert_eq!(payloads(&fetch(&mut b, 10)), texts(0..2));
    acker.give_back(all[..2].to_vec()).expect("a return");
    assert!(fetch_now(&mut a).is_empty());
    assert_eq!(pending(&mut client, "s", "g"), 4);
}

#[test]
fn records_trimmed_while_pending_are_counted_as_lost() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    let port = server.port().to_string();
    assert!(logged(&port).is_empty());
    let ids = add(&mut client, "s", 0..5);
    let mut a = inbox(&server, "a").connect().expect("an inbox");
    assert_eq!(fetch(&mut a, 10).len(), 5);
    drop(a);
    cmd("XTRIM").arg("s").arg("MAXLEN").arg(2).exec(&mut client).expect("XTRIM");
    let mut b = inbox(&server, "a").connect().expect("an inbox");
    assert_eq!(payloads(&fetch(&mut b, 10)), texts(3..5));
    assert_eq!(b.monitor().lost(), 3);
    assert_eq!(pending(&mut client, "s", "g"), 2);
    let lines = logged(&port);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let wanted =
        format!("stream `s`, group `g`: 3 records were deleted before they had been acknowledged, first {}", ids[0]);
    assert!(lines[0].contains(&wanted), "{}", lines[0]);
}

#[test]
fn a_fetch_returns_as_soon_as_there_is_a_record() {
    let Some(server) = Server::start(&[]) else { return };
    let mut inbox = inbox(&server, "a").claim_interval(LONG * 10).connect().expect("an inbox");
    assert!(fetch_now(&mut inbox).is_empty());
    let waiting = std::thread::spawn(move || {
        let mut records = Vec::new();
        inbox.fetch(10, Duration::MAX, &mut records).expect("a fetch");
        payloads(&records)
    });
    let mut client = server.client();
    // Until the fetch waits at the server.
    loop {
        let info: String = cmd("INFO").arg("clients").query(&mut client).expect("INFO");
        if info.contains("blocked_clients:1") {
            break;
        }
    }
    add(&mut client, "s", 7..8);
    assert_eq!(waiting.join().expect("records"), ["7"]);
}

#[test]
fn several_streams_are_read_in_equal_shares() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    for (key, numbers) in [("s", 0..3), ("t", 3..6), ("u", 6..9)] {
        add(&mut client, key, numbers);
    }
    let mut inbox = inbox(&server, "a").and_stream("t").and_stream("u").connect().expect("an inbox");
    let mut acker = inbox.acker().expect("an acker");
    let mut records = fetch_all(&mut inbox, 2);
    assert_eq!(payloads(&records), ["0", "3"]);
    records.append(&mut fetch_all(&mut inbox, 7));
    assert_eq!(records.iter().filter(|it| &*it.record.stream == "t").count(), 3);
    let mut found = payloads(&records);
    found.sort();
    assert_eq!(found, texts(0..9));
    acker.acknowledge(&mut receipts(&records)).expect("an acknowledgement");
    for key in ["s", "t", "u"] {
        assert_eq!(pending(&mut client, key, "g"), 0);
    }
}

#[test]
fn a_group_starts_at_its_configured_position() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    let ids = add(&mut client, "s", 0..3);
    let group = |name: &str, start| {
        let inbox = RedisInbox::builder(server.url(), "s", name).start(start);
        inbox.connect().expect("an inbox")
    };
    let mut end = group("end", Start::Latest);
    let mut after = group("after", Start::After(ids[1]));
    let mut beginning = group("beginning", Start::Earliest);
    add(&mut client, "s", 3..4);
    assert_eq!(payloads(&fetch(&mut end, 10)), texts(3..4));
    assert_eq!(payloads(&fetch(&mut after, 10)), texts(2..4));
    assert_eq!(payloads(&fetch(&mut beginning, 10)), texts(0..4));
    // An existing group continues where it is.
    add(&mut client, "s", 4..5);
    assert_eq!(payloads(&fetch_all(&mut group("end", Start::Earliest), 2)), texts(3..5));
}

#[test]
fn a_bounded_inbox_ends_at_the_newest_record() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..3);
    add(&mut client, "t", 3..4);
    let bounded = || inbox(&server, "a").and_stream("t").and_stream("u").bounded(true).connect().expect("an inbox");
    let mut first = bounded();
    add(&mut client, "s", 4..20);
    let mut records = fetch_all(&mut first, 4);
    assert!(!first.is_exhausted());
    records.append(&mut fetch_now(&mut first));
    assert!(fetch_now(&mut first).is_empty());
    assert!(first.is_exhausted());
    let mut found = payloads(&records);
    assert!(found.len() < 20, "{} records", found.len());
    found.retain(|text| text.len() == 1 && text.as_str() < "4");
    found.sort();
    assert_eq!(found, texts(0..4));
    // The next one begins with the records of the first one.
    drop(first);
    let mut second = bounded();
    let mut found = payloads(&fetch_all(&mut second, 20));
    found.sort_by_key(|text| text.parse::<u32>().expect("a number"));
    assert_eq!(found, texts(0..20));
    assert!(fetch_now(&mut second).is_empty());
    assert!(second.is_exhausted());
}

#[test]
fn a_bounded_inbox_waits_for_the_leases_of_the_dead() {
    let Some(server) = Server::start(&[]) else { return };
    add(&mut server.client(), "s", 0..5);
    let mut dead = inbox(&server, "a").connect().expect("an inbox");
    assert_eq!(fetch(&mut dead, 2).len(), 2);
    drop(dead);
    let inbox = inbox(&server, "b").lease(Duration::from_millis(100)).claim_interval(LONG).bounded(true);
    let mut inbox = inbox.connect().expect("an inbox");
    let records = fetch_all(&mut inbox, 5);
    assert_eq!(payloads(&records), ["2", "3", "4", "0", "1"]);
    assert!(fetch_now(&mut inbox).is_empty());
    assert!(inbox.is_exhausted());
}

#[test]
fn a_bounded_inbox_leaves_others_the_records_they_hold() {
    let Some(server) = Server::start(&[]) else { return };
    add(&mut server.client(), "s", 0..5);
    let mut other = inbox(&server, "a").connect().expect("an inbox");
    let mut acker = other.acker().expect("an acker");
    assert_eq!(fetch(&mut other, 2).len(), 2);
    let bounded = inbox(&server, "b").lease(Duration::from_millis(300)).claim_interval(LONG).bounded(true);
    let mut bounded = bounded.connect().expect("an inbox");
    assert_eq!(payloads(&fetch_all(&mut bounded, 3)), texts(2..5));
    let mut seen = Vec::new();
    while !bounded.is_exhausted() {
        acker.keep_alive().expect("a sign of life");
        bounded.fetch(10, Duration::from_millis(1), &mut seen).expect("a fetch");
    }
    assert!(seen.len() <= 2);
}

#[test]
fn delete_acknowledged_empties_the_stream() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..5);
    let mut inbox = inbox(&server, "a").delete_acknowledged(true).connect().expect("an inbox");
    let mut acker = inbox.acker().expect("an acker");
    let records = fetch(&mut inbox, 3);
    acker.acknowledge(&mut receipts(&records)).expect("an acknowledgement");
    assert_eq!(cmd("XLEN").arg("s").query(&mut client), Ok(2));
    assert_eq!(payloads(&fetch(&mut inbox, 10)), texts(3..5));
}

#[test]
fn the_monitor_reports_backlog_and_flight() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    add(&mut client, "s", 0..10);
    let mut inbox = inbox(&server, "a").connect().expect("an inbox");
    let mut monitor = inbox.monitor();
    assert_eq!(fetch(&mut inbox, 4).len(), 4);
    age(&mut client, "s", "g", "a");
    let status = monitor.status().expect("the status").remove(0);
    assert_eq!((status.length, status.backlog, status.in_flight, status.consumers), (10, Some(6), 4, 1));
    assert!(status.oldest_idle.expect("something in flight") >= Duration::from_millis(100_000_000));
    cmd("DEL").arg("s").exec(&mut client).expect("DEL");
    let status = monitor.status().expect("the status").remove(0);
    assert_eq!((status.length, status.backlog, status.in_flight, status.oldest_idle), (0, None, 0, None));
}

#[test]
fn a_lost_group_is_created_again_without_a_loss() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    let port = server.port().to_string();
    assert!(logged(&port).is_empty());
    add(&mut client, "s", 0..6);
    let mut a = inbox(&server, "a").connect().expect("an inbox");
    let mut acker = a.acker().expect("an acker");
    let records = fetch(&mut a, 4);
    acker.acknowledge(&mut receipts(&records[..1])).expect("an acknowledgement");
    cmd("XGROUP").arg("DESTROY").arg("s").arg("g").exec(&mut client).expect("XGROUP DESTROY");
    acker.keep_alive().expect("nothing to keep alive");
    // It continues after its records; those in flight here are not delivered twice.
    assert_eq!(payloads(&fetch_all(&mut a, 2)), texts(4..6));
    assert!(logged(&port).iter().any(|line| line.contains("the group had disappeared")));
    // But it is held again, so that it is not lost with this process.
    assert_eq!(pending(&mut client, "s", "g"), 5);
    drop(a);
    let mut b = inbox(&server, "a").connect().expect("an inbox");
    assert_eq!(payloads(&fetch_all(&mut b, 5)), texts(1..6));
}

#[test]
fn a_flushed_server_starts_from_the_beginning() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    cmd("XADD").arg("s").arg("900-0").arg("payload").arg("0").exec(&mut client).expect("XADD");
    let mut inbox = inbox(&server, "a").connect().expect("an inbox");
    let mut acker = inbox.acker().expect("an acker");
    let records = fetch(&mut inbox, 4);
    assert_eq!(records[0].record.id, EntryId::new(900, 0));
    acker.acknowledge(&mut receipts(&records)).expect("an acknowledgement");
    cmd("FLUSHALL").exec(&mut client).expect("FLUSHALL");
    // Before the position that the group had read.
    cmd("XADD").arg("s").arg("5-0").arg("payload").arg("1").exec(&mut client).expect("XADD");
    assert_eq!(payloads(&fetch(&mut inbox, 4)), ["1"]);
    // And while a fetch waits.
    let waiting = std::thread::spawn(move || payloads(&fetch(&mut inbox, 4)));
    cmd("FLUSHALL").exec(&mut client).expect("FLUSHALL");
    add(&mut client, "s", 2..3);
    assert_eq!(waiting.join().expect("records"), ["2"]);
}
