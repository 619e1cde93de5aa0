//! Delivering, acknowledging and giving back records.

use std::time::Duration;

use streamz::delivery::{Acker, Inbox, Outbox};
use streamz_kafka::{KafkaAcker, KafkaInbox, NewRecord, Record};

use crate::common::{Cluster, GROUP, Got, SESSION, TOPIC, acknowledge, fetch, fetch_all, now, number, numbers, until};

#[test]
fn out_of_order_acknowledgements_commit_the_prefix() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 0..100);
    let mut inbox = cluster.connect();
    let mut acker = inbox.acker().unwrap();
    let all = fetch_all(&mut inbox, 100);
    acknowledge(&mut acker, &all[50..]);
    assert_eq!(cluster.committed(0), None);
    acknowledge(&mut acker, &all[..10]);
    assert_eq!(cluster.committed(0), Some(10));
    acknowledge(&mut acker, all[11..50].iter().rev());
    assert_eq!(cluster.committed(0), Some(10));
    acknowledge(&mut acker, &all[10..11]);
    assert_eq!(cluster.committed(0), Some(100));
}

#[test]
fn a_restart_continues_at_the_commit() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 0..100);
    for start in [0, 30, 60] {
        let mut inbox = cluster.connect();
        let mut acker = inbox.acker().unwrap();
        let all = fetch_all(&mut inbox, 40);
        assert_eq!(numbers(&all), (start..start + 40).collect::<Vec<_>>());
        acknowledge(&mut acker, &all[..30]);
    }
    assert_eq!(numbers(&fetch_all(&mut cluster.connect(), 10)), (90..100).collect::<Vec<_>>());
}

#[test]
fn the_end_commits_acknowledged_records() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 0..100);
    let mut inbox = cluster.inbox(TOPIC, GROUP).commit_interval(Duration::from_secs(3600)).connect().unwrap();
    let mut acker = inbox.acker().unwrap();
    let all = fetch_all(&mut inbox, 100);
    acknowledge(&mut acker, &all[..70]);
    assert_eq!(cluster.committed(0), None);
    drop(inbox);
    acknowledge(&mut acker, &all[70..80]);
    assert_eq!(cluster.committed(0), None);
    drop(acker);
    assert_eq!(cluster.committed(0), Some(80));
}

#[test]
fn commits_are_made_in_intervals_without_another_call() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 0..100);
    let mut inbox = cluster.inbox(TOPIC, GROUP).commit_interval(Duration::from_millis(50)).connect().unwrap();
    let mut acker = inbox.acker().unwrap();
    let all = fetch_all(&mut inbox, 100);
    acknowledge(&mut acker, &all[..30]);
    acknowledge(&mut acker, &all[30..60]);
    until("a commit", || cluster.committed(0) == Some(60));
}

#[test]
fn returned_records_are_redelivered_in_the_same_process() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 0..100);
    let mut inbox = cluster.connect();
    let mut acker = inbox.acker().unwrap();
    let all = fetch_all(&mut inbox, 60);
    acknowledge(&mut acker, &all[..20]);
    acknowledge(&mut acker, &all[40..50]);
    acker.give_back(all[30..42].iter().map(|got| got.receipt).collect()).unwrap();
    // 30 to 39: the others have been acknowledged, or are in flight. Then the records not read before.
    let again = fetch_all(&mut inbox, 50);
    assert_eq!(numbers(&again), (30..40).chain(60..100).collect::<Vec<_>>());
    assert!(again[..10].iter().all(|got| got.attempt == 2));
    assert!(again[10..].iter().all(|got| got.attempt == 1));
    acknowledge(&mut acker, all[20..30].iter().chain(&all[50..]));
    assert_eq!(cluster.committed(0), Some(30));
    acknowledge(&mut acker, &again);
    assert_eq!(cluster.committed(0), Some(100));
}

#[test]
fn records_have_key_headers_and_time() {
    let cluster = Cluster::with_topic(2);
    let new = NewRecord::new("9.90").with_key("17").with_header("currency", "EUR").with_timestamp(1_700_000_000_000);
    let mut batch = vec![new, NewRecord::tombstone("18"), NewRecord::new("")];
    cluster.outbox(TOPIC).write(&mut batch).unwrap();
    let mut inbox = cluster.connect();
    let all: Vec<Record> = fetch_all(&mut inbox, 3).into_iter().map(|got| got.record).collect();
    let of_key = |key: Option<&[u8]>| all.iter().find(|record| record.key() == key).unwrap();
    let full = of_key(Some(b"17"));
    assert_eq!((full.topic(), full.payload()), (TOPIC, Some(&b"9.90"[..])));
    assert_eq!((full.header("currency"), full.header("none")), (Some(&b"EUR"[..]), None));
    assert_eq!(full.timestamp(), Some(1_700_000_000_000));
    assert_eq!(of_key(Some(b"18")).payload(), None);
    assert_eq!(of_key(None).payload(), Some(&b""[..]));
}

#[test]
fn headers_can_be_left_out() {
    let cluster = Cluster::with_topic(1);
    let new = NewRecord::new("9.90").with_key("17").with_header("currency", "EUR");
    cluster.outbox(TOPIC).write(&mut vec![new]).unwrap();
    let mut inbox = cluster.inbox(TOPIC, GROUP).read_headers(false).connect().unwrap();
    let record = fetch_all(&mut inbox, 1).remove(0).record;
    assert_eq!((record.key(), record.payload()), (Some(&b"17"[..]), Some(&b"9.90"[..])));
    assert_eq!(record.headers().len(), 0);
}

#[test]
fn records_put_back_count_their_attempts() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 7..8);
    let mut inbox = cluster.connect();
    for attempt in 1..4 {
        let got = fetch_all(&mut inbox, 1).remove(0);
        assert_eq!((number(&got), got.attempt), (7, attempt));
        cluster.outbox(TOPIC).write(&mut vec![got.record.put_back()]).unwrap();
    }
}

/// Fetches until the inbox ends.
fn drain(inbox: &mut KafkaInbox) -> Vec<Got> {
    let mut all = Vec::new();
    until("the end", || {
        let some = fetch(inbox, 100, Duration::from_millis(50));
        assert!(!inbox.is_exhausted() || some.is_empty());
        all.extend(some);
        inbox.is_exhausted()
    });
    all
}

#[test]
fn a_bounded_inbox_ends_at_the_newest_record() {
    const OTHER: &str = "returns";
    let cluster = Cluster::with_topic(3);
    cluster.mock(|mock| mock.create_topic(OTHER, 2, 1).unwrap());
    let write_other = |numbers: std::ops::Range<u32>| {
        let record = |n: u32| NewRecord::new(n.to_string()).with_partition(1);
        cluster.outbox(OTHER).write(&mut numbers.map(record).collect()).unwrap();
    };
    let bounded = || cluster.inbox(TOPIC, GROUP).and_topic(OTHER).bounded(true).connect().unwrap();
    // There are no records: it need not even join the group.
    let start = now();
    assert!(drain(&mut bounded()).is_empty());
    assert!(start.elapsed() < Duration::from_secs(2));
    // Two of the five partitions stay empty.
    cluster.append(0, 0..100);
    cluster.append(1, 100..110);
    write_other(110..150);
    let mut first = bounded();
    let mut acker = first.acker().unwrap();
    cluster.append(0, 1_000..1_200);
    cluster.append(2, 1_200..1_300);
    let all = drain(&mut first);
    let mut found = numbers(&all);
    found.sort_unstable();
    assert_eq!(found, (0..150).collect::<Vec<_>>());
    // Records that were not processed are redelivered in the next run, with the added ones.
    acknowledge(&mut acker, all.iter().filter(|got| number(got) != 5));
    drop((first, acker));
    let mut second = bounded();
    let mut acker = second.acker().unwrap();
    let all = drain(&mut second);
    let mut found = numbers(&all);
    found.sort_unstable();
    assert_eq!(found, (5..100).chain(1_000..1_300).collect::<Vec<_>>());
    acknowledge(&mut acker, &all);
    drop((second, acker));
    // All of it has been committed.
    assert!(drain(&mut bounded()).is_empty());
}

#[test]
fn a_bounded_inbox_redelivers_returned_records() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 0..50);
    let mut inbox = cluster.inbox(TOPIC, GROUP).bounded(true).connect().unwrap();
    let mut acker = inbox.acker().unwrap();
    let all = fetch_all(&mut inbox, 50);
    acker.give_back(all[20..30].iter().map(|got| got.receipt).collect()).unwrap();
    assert_eq!(numbers(&drain(&mut inbox)), (20..30).collect::<Vec<_>>());
}

/// More consumers than partitions.
#[test]
fn a_bounded_inbox_without_partitions_ends_with_the_group() {
    let cluster = Cluster::with_topic(1);
    cluster.append(0, 0..50);
    let bounded = || cluster.inbox(TOPIC, GROUP).bounded(true).connect().unwrap();
    let (mut a, mut b) = (bounded(), bounded());
    let (of_a, of_b) = (a.acker().unwrap(), b.acker().unwrap());
    let consume = |inbox: &mut KafkaInbox, mut acker: KafkaAcker| {
        let mut all = Vec::new();
        until("the end", || {
            let some = fetch(inbox, 10, Duration::from_millis(50));
            acknowledge(&mut acker, &some);
            all.extend(numbers(&some));
            inbox.is_exhausted()
        });
        all
    };
    let mut all = std::thread::scope(|scope| {
        let other = scope.spawn(|| consume(&mut b, of_b));
        let mut all = consume(&mut a, of_a);
        all.extend(other.join().unwrap());
        all
    });
    // While members join, the mock refuses commits, so a record may be redelivered.
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (0..50).collect::<Vec<_>>());
    assert_eq!(cluster.lag(TOPIC, GROUP), 0);
}

#[test]
fn a_bounded_inbox_needs_topics_that_are_there() {
    let cluster = Cluster::with_topic(1);
    for (topic, reason) in [("^ord", "not the pattern `^ord`"), ("typo", "cannot read topic `typo`")] {
        let error = cluster.inbox(TOPIC, GROUP).and_topic(topic).bounded(true).connect().unwrap_err();
        assert!(!error.is_transient());
        assert!(error.to_string().contains(reason), "{error}");
    }
}

/// Four times the interval passes without a fetch, with more records waiting than the client reads ahead.
#[test]
fn a_consumer_that_fetches_nothing_stays_in_the_group() {
    let cluster = Cluster::with_topic(2);
    (0..2).for_each(|partition| cluster.append(partition, 0..500));
    let inbox = cluster.inbox(TOPIC, GROUP).property("max.poll.interval.ms", SESSION);
    let mut inbox = inbox.property("queued.min.messages", "10").connect().unwrap();
    let mut acker = inbox.acker().unwrap();
    let monitor = inbox.monitor();
    let first = fetch_all(&mut inbox, 100);
    let assignment = monitor.assignment();
    assert_eq!(assignment.len(), 2);
    let start = now();
    while start.elapsed() < Duration::from_secs(14) {
        acker.keep_alive().unwrap();
        assert_eq!(monitor.assignment(), assignment, "it lost its partitions");
        cluster.lag(TOPIC, GROUP);
    }
    acknowledge(&mut acker, &first);
    let rest = fetch_all(&mut inbox, 900);
    acknowledge(&mut acker, &rest);
    assert_eq!(cluster.lag(TOPIC, GROUP), 0);
    assert!(fetch(&mut inbox, 10, Duration::from_millis(500)).is_empty(), "a record was delivered twice");
}

#[test]
fn the_monitor_knows_lag_and_assignment() {
    let cluster = Cluster::with_topic(2);
    (0..2).for_each(|partition| cluster.append(partition, 0..50));
    let mut inbox = cluster.connect();
    let mut acker = inbox.acker().unwrap();
    let monitor = inbox.monitor();
    assert!(monitor.assignment().is_empty());
    let all = fetch_all(&mut inbox, 100);
    let (done, open): (Vec<_>, Vec<_>) = all.iter().partition(|got| got.record.offset() < 20);
    acknowledge(&mut acker, done);
    let mut status = monitor.status(Duration::from_secs(10)).unwrap();
    status.sort_by_key(|it| it.partition);
    for (partition, it) in status.iter().enumerate() {
        assert_eq!((&*it.topic, it.partition), (TOPIC, i32::try_from(partition).unwrap()));
        assert_eq!((it.low, it.high, it.committed, it.lag, it.in_flight), (0, 50, Some(20), 30, 30));
    }
    assert_eq!(open.len(), 60);
    drop((inbox, acker));
    assert!(monitor.assignment().is_empty());
}
