//! Partitions that move from one consumer to another.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use streamz::delivery::{Inbox, Outbox};
use streamz_connector_suite::log::logged;
use streamz_kafka::{KafkaInbox, KafkaMonitor, NewRecord};

use crate::common::{Cluster, GROUP, Got, PATIENCE, TOPIC, acknowledge, fetch, fetch_all, now, number, numbers, until};
use crate::own_process::in_own_process;

const STEP: Duration = Duration::from_millis(50);

/// Fetches with both consumers until each has as many partitions as it should.
fn share(first: (&mut KafkaInbox, &KafkaMonitor), second: (&mut KafkaInbox, &KafkaMonitor), each: usize) -> Vec<Got> {
    let mut got = Vec::new();
    std::thread::scope(|scope| {
        let (a, b) = (first.1.clone(), second.1.clone());
        let done = move || (a.assignment().len(), b.assignment().len()) == (each, each);
        let also = done.clone();
        let other = scope.spawn(move || {
            let mut got = Vec::new();
            until("a rebalance", || {
                got.append(&mut fetch(second.0, 100, STEP));
                also()
            });
            got
        });
        until("a rebalance", || {
            got.append(&mut fetch(first.0, 100, STEP));
            done()
        });
        got.append(&mut other.join().unwrap());
    });
    got
}

#[test]
fn acknowledgements_of_an_older_generation_are_ignored() {
    let cluster = Cluster::with_topic(2);
    (0..2).for_each(|partition| cluster.append(partition, 0..100));
    let inbox = || cluster.inbox(TOPIC, GROUP).revoke_wait(Duration::ZERO).connect().unwrap();
    let mut a = inbox();
    let of_a = a.monitor();
    let mut acker = a.acker().unwrap();
    let old = fetch_all(&mut a, 200);
    let mut b = inbox();
    let of_b = b.monitor();
    let mut new = share((&mut a, &of_a), (&mut b, &of_b), 1);
    acknowledge(&mut acker, &old);
    assert_eq!((cluster.committed(0), cluster.committed(1)), (None, None));
    // Both are read again from the start, one by each.
    until("the records", || {
        new.append(&mut fetch(&mut a, 200, STEP));
        new.append(&mut fetch(&mut b, 200, STEP));
        let seen: BTreeSet<_> = new.iter().map(|got| (got.record.partition(), number(got))).collect();
        seen.len() == 200
    });
    acknowledge(&mut acker, &old);
    assert_eq!((cluster.committed(0), cluster.committed(1)), (None, None));
}

#[test]
fn a_revocation_waits_for_records_in_flight() {
    let cluster = &Cluster::with_topic(2);
    logged(cluster.servers());
    (0..2).for_each(|partition| cluster.append(partition, 0..100));
    // Only the revocation commits.
    let inbox = || {
        let inbox = cluster.inbox(TOPIC, GROUP).revoke_wait(Duration::from_secs(1));
        inbox.commit_interval(Duration::from_secs(3600))
    };
    let long = |it: streamz_kafka::KafkaInboxBuilder| it.property("max.poll.interval.ms", "60000").connect().unwrap();
    let mut a = long(inbox());
    let of_a = a.monitor();
    let mut acker = a.acker().unwrap();
    let all = fetch_all(&mut a, 200);
    let mut b = long(inbox());
    let of_b = b.monitor();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            until("a revocation", || logged(cluster.servers()).iter().any(|line| line.contains("revoked")));
            acknowledge(&mut acker, &all);
        });
        share((&mut a, &of_a), (&mut b, &of_b), 1);
    });
    // Records that were waited for are committed. The mock, unlike a broker, refuses commits while members join, so
    // some are redelivered.
    let lines = logged(cluster.servers());
    let has = |what: &str| lines.iter().any(|line| line.contains(what));
    assert!(cluster.lag(TOPIC, GROUP) == 0 || has("cannot commit orders/0 at 100, orders/1 at 100"), "{lines:#?}");
}

/// Up to the broker: with the newer group protocol, the mock accepts commits during a rebalance, as a broker does.
#[test]
fn a_revocation_commits_records_in_flight() {
    let cluster = &Cluster::with_topic(2);
    logged(cluster.servers());
    (0..2).for_each(|partition| cluster.append(partition, 0..100));
    // Only the revocation commits.
    let inbox = || {
        let inbox = KafkaInbox::builder(cluster.servers(), TOPIC, GROUP).property("group.protocol", "consumer");
        let inbox = inbox.property("fetch.wait.max.ms", "50").property("max.poll.interval.ms", "120000");
        inbox.commit_interval(Duration::from_secs(3600)).revoke_wait(PATIENCE).connect().unwrap()
    };
    let mut a = inbox();
    let of_a = a.monitor();
    let mut acker = a.acker().unwrap();
    let all = fetch_all(&mut a, 200);
    let mut b = inbox();
    let of_b = b.monitor();
    let got = std::thread::scope(|scope| {
        scope.spawn(move || {
            until("a revocation", || logged(cluster.servers()).iter().any(|line| line.contains("revoked")));
            // Remaining partitions are not waited for.
            acknowledge(&mut acker, &all);
        });
        share((&mut a, &of_a), (&mut b, &of_b), 1)
    });
    let (stays, goes) = (of_a.assignment()[0].1, of_b.assignment()[0].1);
    let lines = logged(cluster.servers());
    assert_eq!((cluster.committed(goes), cluster.committed(stays)), (Some(100), None), "{lines:#?}");
    // The next consumer continues there.
    cluster.append(goes, 100..110);
    let next = fetch_all(&mut b, 10);
    assert!(got.is_empty(), "{} were redelivered", got.len());
    assert_eq!(numbers(&next), (100..110).collect::<Vec<_>>());
}

#[test]
fn a_cooperative_rebalance_keeps_retained_partitions() {
    let cluster = Cluster::with_topic(2);
    (0..2).for_each(|partition| cluster.append(partition, 0..100));
    let inbox = || {
        let inbox = cluster.inbox(TOPIC, GROUP).revoke_wait(Duration::ZERO);
        inbox.property("partition.assignment.strategy", "cooperative-sticky").connect().unwrap()
    };
    let mut a = inbox();
    let of_a = a.monitor();
    let mut acker = a.acker().unwrap();
    let old = fetch_all(&mut a, 200);
    let mut b = inbox();
    let of_b = b.monitor();
    let mut new = share((&mut a, &of_a), (&mut b, &of_b), 1);
    let (stays, goes) = (of_a.assignment()[0].1, of_b.assignment()[0].1);
    until("the other partition", || {
        new.append(&mut fetch(&mut b, 200, STEP));
        new.len() >= 100
    });
    assert!(new.iter().all(|got| got.record.partition() == goes), "a remaining partition was redelivered");
    until("the commit", || {
        acknowledge(&mut acker, &old);
        cluster.committed(stays) == Some(100)
    });
    assert_eq!(cluster.committed(goes), None);
}

/// Consumers come and go while records are appended and processed in arbitrary order.
#[test]
fn consumers_that_come_and_go_lose_nothing() {
    in_own_process("rebalance::consumers_that_come_and_go_lose_nothing", || {
        const EACH: u32 = 3_000;
        let cluster = Cluster::with_topic(4);
        let appended = AtomicBool::new(false);
        let consume = |wait: u64, stay: Option<u64>| {
            let start = now();
            until("its start", || start.elapsed() >= Duration::from_secs(wait));
            let inbox = cluster.inbox(TOPIC, GROUP).commit_interval(Duration::from_millis(20));
            let mut inbox = inbox.revoke_wait(Duration::from_millis(300)).connect().unwrap();
            let mut acker = inbox.acker().unwrap();
            let (mut held, mut done) = (Vec::<Got>::new(), Vec::new());
            until("the end", || {
                let some = fetch(&mut inbox, 40, STEP);
                let is_quiet = some.is_empty();
                held.extend(some);
                // The last ones first, and a few are held for longer.
                let some = held.split_off(if is_quiet { 0 } else { held.len() / 8 });
                done.extend(some.iter().map(|got| (got.record.partition(), number(got))));
                acknowledge(&mut acker, some.iter().rev());
                match stay {
                    Some(stay) => start.elapsed() >= Duration::from_secs(wait + stay),
                    None => is_quiet && appended.load(Ordering::Acquire) && cluster.lag(TOPIC, GROUP) == 0,
                }
            });
            done
        };
        let mut done: Vec<(i32, u32)> = std::thread::scope(|scope| {
            let consume = &consume;
            let consumers =
                [(0, None), (0, Some(7)), (4, Some(8))].map(|(wait, stay)| scope.spawn(move || consume(wait, stay)));
            let mut outbox = cluster.outbox(TOPIC);
            for n in (0..EACH).step_by(50) {
                let of = |partition| (n..n + 50).map(move |n| NewRecord::new(n.to_string()).with_partition(partition));
                outbox.write(&mut (0..4).flat_map(of).collect()).unwrap();
                let start = now();
                until("a pause", || start.elapsed() > Duration::from_millis(150));
            }
            appended.store(true, Ordering::Release);
            consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect()
        });
        let count = done.len();
        done.sort_unstable();
        done.dedup();
        assert_eq!(done.len(), 4 * EACH as usize);
        println!("{} of {} came twice", count - done.len(), done.len());
    });
}
