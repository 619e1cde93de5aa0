//! The tests, as functions over a [`Store`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use streamz::Clock;
use streamz::delivery::{Acker, Delivery, Inbox, Outbox};

use crate::{RecordOf, Store, acker, acknowledge};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const GROUP: &str = "billing";
const KEYS: u32 = 4;

type DeliveryOf<S> = Delivery<RecordOf<S>, <<S as Store>::Inbox as Inbox>::Receipt>;

/// Records whose payload is their number and whose key is one of four.
pub(crate) fn numbered(numbers: std::ops::Range<u32>) -> Vec<(Vec<u8>, Vec<u8>)> {
    numbers.map(|n| (format!("key-{}", n % KEYS).into_bytes(), n.to_string().into_bytes())).collect()
}

pub(crate) fn number<S: Store>(record: &RecordOf<S>) -> u32 {
    let text = std::str::from_utf8(S::payload(record)).expect("the payload is text");
    text.parse().expect("the payload is a number")
}

fn fetch<S: Store>(inbox: &mut S::Inbox, max: usize, wait: Duration) -> Vec<DeliveryOf<S>> {
    let mut records = Vec::new();
    inbox.fetch(max, wait, &mut records).unwrap_or_else(|error| panic!("cannot fetch: {error}"));
    records
}

/// Fetches until there are `count` records.
pub(crate) fn fetch_all<S: Store>(inbox: &mut S::Inbox, count: usize) -> Vec<DeliveryOf<S>> {
    let clock = Clock::default();
    let deadline = clock.now() + S::PATIENCE;
    let mut all = Vec::new();
    while all.len() < count {
        assert!(clock.now() < deadline, "{} of {count} records came", all.len());
        all.append(&mut fetch::<S>(inbox, count - all.len(), Duration::from_millis(100)));
    }
    all
}

/// All records until there are none for a while.
fn fetch_rest<S: Store>(inbox: &mut S::Inbox) -> Vec<DeliveryOf<S>> {
    let mut all = Vec::new();
    // A consumer that joins may have to wait for its first record.
    let quiet = if S::HAS_LEASES { Duration::from_millis(150) } else { Duration::from_secs(6) };
    loop {
        let mut some = fetch::<S>(inbox, 1_000, quiet);
        if some.is_empty() {
            return all;
        }
        all.append(&mut some);
    }
}

fn numbers<S: Store>(deliveries: &[DeliveryOf<S>]) -> Vec<u32> {
    deliveries.iter().map(|delivery| number::<S>(&delivery.record)).collect()
}

fn set<S: Store>(deliveries: &[DeliveryOf<S>]) -> BTreeSet<u32> {
    numbers::<S>(deliveries).into_iter().collect()
}

fn receipts<S: Store>(deliveries: Vec<DeliveryOf<S>>) -> Vec<<S::Inbox as Inbox>::Receipt> {
    deliveries.into_iter().map(|delivery| delivery.receipt).collect()
}

/// Records come in the order in which they were appended, or at least those of a key do.
pub fn records_come_in_order<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..600));
    store.append(TOPIC, &numbered(600..1_000));
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    let all = fetch_all::<S>(&mut inbox, 1_000);
    assert!(all.iter().all(|delivery| delivery.attempt == 1));
    let mut by_key = BTreeMap::<Vec<u8>, Vec<u32>>::new();
    for delivery in &all {
        let key = if S::TOTAL_ORDER { Vec::new() } else { S::key(&delivery.record).to_vec() };
        by_key.entry(key).or_default().push(number::<S>(&delivery.record));
    }
    for numbers in by_key.values() {
        assert!(numbers.is_sorted(), "out of order");
    }
    assert_eq!(set::<S>(&all), (0..1_000).collect());
}

/// `max` is never exceeded.
pub fn fetch_returns_no_more_than_requested<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..20));
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    let mut all = fetch_all::<S>(&mut inbox, 1);
    while all.len() < 20 {
        let some = fetch::<S>(&mut inbox, 3, Duration::from_secs(1));
        assert!((1..=3).contains(&some.len()), "{} records came", some.len());
        all.extend(some);
    }
    assert_eq!(set::<S>(&all).len(), 20);
}

/// Not to this consumer, nor to the next one.
pub fn acknowledged_records_are_not_redelivered<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..100));
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    let mut acker = acker(&mut inbox);
    let all = fetch_all::<S>(&mut inbox, 100);
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 100);
    acknowledge(&mut acker, receipts::<S>(all));
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
    store.kill(inbox, acker);
    store.advance(S::LEASE * 2);
    assert!(fetch_rest::<S>(&mut store.inbox(TOPIC, GROUP, "b")).is_empty());
}

/// All records that it had not acknowledged, and none that it had.
pub fn records_of_a_dead_consumer_are_redelivered<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..100));
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    let mut first = acker(&mut inbox);
    let all = fetch_all::<S>(&mut inbox, 100);
    let (done, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| number::<S>(&it.record).is_multiple_of(3));
    let lost = set::<S>(&lost);
    acknowledge(&mut first, receipts::<S>(done));
    store.kill(inbox, first);
    store.advance(S::LEASE * 2);

    let mut inbox = store.inbox(TOPIC, GROUP, "b");
    let mut second = acker(&mut inbox);
    let again = fetch_rest::<S>(&mut inbox);
    let found = set::<S>(&again);
    assert!(found.is_superset(&lost), "lost: {:?}", lost.difference(&found));
    if S::ACKNOWLEDGES_EACH {
        assert_eq!(found, lost);
        assert_eq!(again.len(), lost.len());
    }
    acknowledge(&mut second, receipts::<S>(again));
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
}

/// By the store, across several consumers.
pub fn attempts_are_counted<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..10));
    for attempt in 1..=4 {
        let mut inbox = store.inbox(TOPIC, GROUP, &format!("consumer-{attempt}"));
        let acker = acker(&mut inbox);
        let all = fetch_all::<S>(&mut inbox, 10);
        let expected = if S::COUNTS_ATTEMPTS { attempt } else { 1 };
        assert!(all.iter().all(|delivery| delivery.attempt == expected), "{:?}", all.iter().map(|it| it.attempt).max());
        store.kill(inbox, acker);
        store.advance(S::LEASE * 2);
    }
}

/// In any order, a few at a time.
pub fn acknowledgements_come_in_any_order<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..200));
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    let mut acker = acker(&mut inbox);
    let mut all = fetch_all::<S>(&mut inbox, 200);
    // 7 and 200 have no common divisor, so this visits each once.
    all.sort_by_key(|delivery| number::<S>(&delivery.record) * 7 % 200);
    let mut left = receipts::<S>(all);
    while !left.is_empty() {
        let rest = left.split_off(left.len().min(11));
        acknowledge(&mut acker, std::mem::replace(&mut left, rest));
    }
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
}

/// By the consumer that had it first, and by the one that has it now.
pub fn acknowledging_twice_does_no_harm<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..10));
    let mut late = store.inbox(TOPIC, GROUP, "late");
    let mut late_acker = acker(&mut late);
    let first = fetch_all::<S>(&mut late, 10);
    if !S::HAS_LEASES {
        return;
    }
    store.advance(S::LEASE * 2);
    let mut inbox = store.inbox(TOPIC, GROUP, "b");
    let mut acker = acker(&mut inbox);
    let second = fetch_all::<S>(&mut inbox, 10);
    acknowledge(&mut acker, receipts::<S>(second));
    acknowledge(&mut late_acker, receipts::<S>(first));
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
    store.append(TOPIC, &numbered(10..20));
    assert_eq!(set::<S>(&fetch_all::<S>(&mut inbox, 10)), (10..20).collect());
}

/// To any consumer of the group.
pub fn returned_records_are_redelivered_at_once<S: Store>(store: &S) {
    if !S::GIVES_BACK {
        return;
    }
    store.append(TOPIC, &numbered(0..30));
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    let mut acker = acker(&mut inbox);
    let all = fetch_all::<S>(&mut inbox, 30);
    let (kept, given): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| number::<S>(&it.record) < 10);
    acker.give_back(receipts::<S>(given)).unwrap();
    let mut other = store.inbox(TOPIC, GROUP, "b");
    let again = fetch_rest::<S>(&mut other);
    assert_eq!(set::<S>(&again), (10..30).collect());
    acknowledge(&mut acker, receipts::<S>(kept));
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 20);
}

/// So that a pipeline extends it in time.
pub fn inboxes_report_their_lease<S: Store>(store: &S) {
    store.append(TOPIC, &[]);
    let inbox = store.inbox(TOPIC, GROUP, "a");
    assert_eq!(inbox.lease(), S::HAS_LEASES.then_some(S::LEASE));
}

/// Of all that has been taken.
pub fn keep_alive_extends_leases<S: Store>(store: &S) {
    if !S::HAS_LEASES {
        return;
    }
    store.append(TOPIC, &numbered(0..50));
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    let mut acker = acker(&mut inbox);
    let all = fetch_all::<S>(&mut inbox, 50);
    let mut other = store.inbox(TOPIC, GROUP, "b");
    for _ in 0..4 {
        store.advance(S::LEASE * 2 / 3);
        acker.keep_alive().unwrap();
        assert!(fetch_rest::<S>(&mut other).is_empty());
    }
    acknowledge(&mut acker, receipts::<S>(all));
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
}

/// Not earlier, and not later.
pub fn leases_expire_without_keep_alive<S: Store>(store: &S) {
    if !S::HAS_LEASES {
        return;
    }
    store.append(TOPIC, &numbered(0..50));
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    fetch_all::<S>(&mut inbox, 50);
    let mut other = store.inbox(TOPIC, GROUP, "b");
    store.advance(S::LEASE / 3);
    assert!(fetch_rest::<S>(&mut other).is_empty());
    store.advance(S::LEASE);
    assert_eq!(set::<S>(&fetch_all::<S>(&mut other, 50)).len(), 50);
}

/// Each gets all records.
pub fn groups_are_independent<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..50));
    for group in ["billing", "shipping"] {
        let mut inbox = store.inbox(TOPIC, group, "a");
        let mut acker = acker(&mut inbox);
        let all = fetch_all::<S>(&mut inbox, 50);
        assert_eq!(set::<S>(&all).len(), 50);
        if group == "billing" {
            acknowledge(&mut acker, receipts::<S>(all));
        }
    }
    assert_eq!(store.unacknowledged(TOPIC, "billing"), 0);
    assert_eq!(store.unacknowledged(TOPIC, "shipping"), 50);
}

/// Each record goes to one of them.
pub fn consumers_of_a_group_share_the_records<S: Store>(store: &S) {
    if !S::HAS_LEASES {
        // Which consumer has which partition depends on timing; the connector tests it.
        return;
    }
    store.append(TOPIC, &numbered(0..100));
    let (mut a, mut b) = (store.inbox(TOPIC, GROUP, "a"), store.inbox(TOPIC, GROUP, "b"));
    let mut all = Vec::new();
    for _ in 0..10 {
        all.extend(fetch::<S>(&mut a, 5, Duration::from_secs(1)));
        all.extend(fetch::<S>(&mut b, 5, Duration::from_secs(1)));
    }
    assert_eq!(all.len(), 100);
    assert_eq!(set::<S>(&all), (0..100).collect());
}

/// Four consumers at once, while records are appended.
pub fn consumers_in_threads_lose_nothing<S: Store>(store: &S) {
    const COUNT: u32 = 4_000;
    store.append(TOPIC, &numbered(0..100));
    let is_appended = &AtomicBool::new(false);
    let consume = |consumer: String| {
        let mut inbox = store.inbox(TOPIC, GROUP, &consumer);
        let mut acker = acker(&mut inbox);
        let clock = Clock::default();
        let deadline = clock.now() + S::PATIENCE * 3;
        let (mut mine, mut done) = (Vec::new(), Vec::new());
        let mut quiet = false;
        // It ends when there are no records for it and none with the others.
        while !(quiet && is_appended.load(Ordering::Acquire) && store.unacknowledged(TOPIC, GROUP) == 0) {
            assert!(clock.now() < deadline, "{} of {COUNT} are left", store.unacknowledged(TOPIC, GROUP));
            let some = fetch::<S>(&mut inbox, 37, Duration::from_millis(20));
            quiet = some.is_empty();
            mine.extend(numbers::<S>(&some));
            done.extend(receipts::<S>(some));
            match acker.acknowledge(&mut done) {
                // While consumers come and go, a store may refuse temporarily.
                Err(error) if error.is_transient() => {}
                result => result.unwrap_or_else(|error| panic!("cannot acknowledge: {error}")),
            }
        }
        mine
    };
    let mut all: Vec<u32> = std::thread::scope(|scope| {
        let consumers: Vec<_> = (0..4).map(|n| scope.spawn(move || consume(format!("consumer-{n}")))).collect();
        for start in (100..COUNT).step_by(100) {
            store.append(TOPIC, &numbered(start..start + 100));
        }
        is_appended.store(true, Ordering::Release);
        consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect()
    });
    all.sort_unstable();
    if S::HAS_LEASES {
        assert_eq!(all.len(), COUNT as usize, "a record was delivered twice");
    }
    all.dedup();
    assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
}

/// With no records available, and no longer than that.
pub fn fetch_waits_for_its_limit<S: Store>(store: &S) {
    store.append(TOPIC, &[]);
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    let clock = Clock::default();
    let start = clock.now();
    assert!(fetch::<S>(&mut inbox, 10, Duration::from_millis(60)).is_empty());
    let waited = clock.now() - start;
    assert!(waited >= Duration::from_millis(60), "returned after {waited:?}");
    assert!(fetch::<S>(&mut inbox, 10, Duration::ZERO).is_empty());
}

/// The fetch returns long before its limit.
pub fn fetch_sees_what_is_appended_while_it_waits<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..1));
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    fetch_all::<S>(&mut inbox, 1);
    let (starting, started) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            starting.send(()).expect("the test waits");
            fetch::<S>(&mut inbox, 10, Duration::from_secs(60))
        });
        started.recv().expect("the thread starts");
        store.append(TOPIC, &numbered(1..2));
        assert_eq!(numbers::<S>(&waiting.join().unwrap()), [1]);
    });
}

/// Empty, binary, and large ones.
pub fn payloads_are_stored_unchanged<S: Store>(store: &S) {
    let large: Vec<u8> = (0..500_000u32).map(|n| (n % 251) as u8).collect();
    let payloads = [Vec::new(), vec![0], (0..=255).collect(), b"\r\n*1\r\n".to_vec(), large, "grün ✓".into()];
    let records: Vec<_> = payloads.iter().map(|payload| (b"key \0\xff".to_vec(), payload.clone())).collect();
    store.append(TOPIC, &records);
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    let all = fetch_all::<S>(&mut inbox, payloads.len());
    for (delivery, payload) in all.iter().zip(&payloads) {
        assert_eq!(S::key(&delivery.record), b"key \0\xff");
        assert!(S::payload(&delivery.record) == payload, "a payload of {} bytes has changed", payload.len());
    }
}

/// And removes the written records from it.
pub fn outbox_writes_all_of_a_batch<S: Store>(store: &S) {
    let mut outbox = store.outbox(TOPIC);
    let mut batch: Vec<_> = (0..100).map(|n: u32| S::record(b"key", n.to_string().as_bytes())).collect();
    outbox.write(&mut batch).unwrap_or_else(|error| panic!("cannot write: {error}"));
    assert!(batch.is_empty());
    outbox.write(&mut batch).unwrap_or_else(|error| panic!("cannot write nothing: {error}"));
    let mut inbox = store.inbox(TOPIC, GROUP, "a");
    assert_eq!(numbers::<S>(&fetch_all::<S>(&mut inbox, 100)), (0..100).collect::<Vec<_>>());
    assert_eq!(store.contents(TOPIC).len(), 100);
}

/// So that each becomes a dead letter, and the others are written.
pub fn outbox_reports_refused_records_one_by_one<S: Store>(store: &S) {
    let mut outbox = store.outbox(TOPIC);
    let fine = |n: u32| S::record(b"key", n.to_string().as_bytes());
    let mut batch = vec![fine(0), S::refused_record(), fine(1), S::refused_record(), S::refused_record(), fine(2)];
    let mut refused = 0;
    while let Err(error) = outbox.write(&mut batch) {
        let index = error.refused_index().unwrap_or_else(|| panic!("it does not say which: {error}"));
        drop(batch.remove(index));
        refused += 1;
    }
    assert_eq!((refused, batch.len()), (3, 0));
    let contents = store.contents(TOPIC);
    assert_eq!(contents, [b"0", b"1", b"2"]);
}

/// Consumers come and go; each takes some records and acknowledges some.
pub fn progress_survives_a_restart<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..100));
    let mut done = BTreeSet::new();
    for run in 1..=4 {
        let mut inbox = store.inbox(TOPIC, GROUP, &format!("run-{run}"));
        let mut acker = acker(&mut inbox);
        let mut some = fetch_all::<S>(&mut inbox, 30);
        some.truncate(20);
        done.append(&mut set::<S>(&some));
        acknowledge(&mut acker, receipts::<S>(some));
        if S::ACKNOWLEDGES_EACH {
            assert_eq!(store.unacknowledged(TOPIC, GROUP), 100 - 20 * run);
        }
        store.kill(inbox, acker);
        store.advance(S::LEASE * 2);
    }
    let mut inbox = store.inbox(TOPIC, GROUP, "last");
    let rest = fetch_rest::<S>(&mut inbox);
    done.append(&mut set::<S>(&rest));
    assert_eq!(done, (0..100).collect());
}
