//! Topics, groups, leases, retention and status.

mod common;

use std::time::{Duration, SystemTime};

use common::{Bench, LEASE, acknowledge, fetch, inbox, kill, options, positions, receipts};
use streamz::ManualClock;
use streamz::delivery::{Acker, Inbox};
use streamz_journal::{Journal, Record, Retention, Start};

#[test]
fn records_are_kept_with_all_their_parts() {
    let bench = Bench::new();
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_234);
    let before = SystemTime::UNIX_EPOCH - Duration::from_millis(7);
    let mut writer = bench.journal.writer("t").unwrap();
    let batch = [
        Record::new("first").with_key("k").with_time(time).with_header("reason", "late").with_header("reason", [0]),
        Record::new("").with_time(before),
        Record::new([0, 255]).with_key([7; 3]),
    ];
    assert_eq!(writer.append(&batch).unwrap(), 1..4);
    assert_eq!(writer.append(&[]).unwrap(), 4..4);
    let entries = bench.journal.read("t", 0, 10).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((&*entries[0].key, &*entries[0].payload, entries[0].time), (&b"k"[..], &b"first"[..], time));
    assert_eq!(entries[0].header("reason"), Some(&b"late"[..]));
    assert_eq!((entries[1].payload.len(), entries[1].time), (0, before));
    assert_eq!((entries[1].headers.len(), entries[1].header("reason")), (0, None));
    // A record without a time has that of the clock.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800);
    assert_eq!((&*entries[2].payload, entries[2].time), (&[0, 255][..], now));
    assert_eq!(Record::from(entries[0].clone()), batch[0]);
}

#[test]
fn read_looks_without_taking() {
    let bench = Bench::new();
    bench.append(0..10);
    let read = |from, max| bench.journal.read("t", from, max).unwrap().iter().map(|it| it.position).collect::<Vec<_>>();
    assert_eq!(read(i64::MIN, 2), [1, 2]);
    assert_eq!(read(9, usize::MAX), [9, 10]);
    assert_eq!(read(11, 5), []);
    assert_eq!(read(1, 0), []);
    assert!(bench.journal.read("unknown", 0, 5).unwrap().is_empty());
    assert_eq!(fetch(&mut bench.inbox("a"), 100).len(), 10);
}

#[test]
fn topics_have_separate_positions() {
    let bench = Bench::new();
    for (topic, count) in [("a", 3), ("b'; --", 5), ("", 1), ("a", 2)] {
        let batch = vec![Record::new(topic); count];
        bench.journal.writer(topic).unwrap().append(&batch).unwrap();
    }
    let status = bench.journal.status().unwrap();
    let ends: Vec<_> = status.iter().map(|topic| (topic.topic.as_str(), topic.first, topic.next)).collect();
    assert_eq!(ends, [("a", 1, 6), ("b'; --", 1, 6), ("", 1, 2)]);
    assert_eq!(status[1].bytes, 5 * 6);
}

#[test]
fn a_new_group_starts_at_its_configured_position() {
    let bench = Bench::new();
    bench.append(0..10);
    let cases = [(Start::Earliest, 1), (Start::Latest, 12), (Start::At(4), 4), (Start::At(-5), 1), (Start::At(99), 12)];
    bench.journal.inbox("t", "late", options("a").start(Start::Latest)).unwrap();
    bench.append(10..11);
    for (number, (start, first)) in cases.into_iter().enumerate() {
        let group = format!("group-{number}");
        let mut inbox = bench.journal.inbox("t", &group, options("a").start(start)).unwrap();
        let found = fetch(&mut inbox, 1);
        let expected = if first < 12 { vec![first] } else { Vec::new() };
        assert_eq!(positions(&found), expected, "{start:?}");
    }
    // An existing group continues where it is.
    let mut late = bench.journal.inbox("t", "late", options("b").start(Start::Earliest)).unwrap();
    assert_eq!(positions(&fetch(&mut late, 10)), [11]);
}

#[test]
fn acknowledged_records_take_no_room() {
    let bench = Bench::new();
    let rows = || bench.sqlite().query_row("SELECT count(*) FROM held", [], |row| row.get::<_, i64>(0)).unwrap();
    bench.append(0..10_000);
    let mut inbox = bench.inbox("a");
    let mut acker = inbox.acker().unwrap();
    let mut all = Vec::new();
    while all.len() < 10_000 {
        all.extend(fetch(&mut inbox, 500));
    }
    assert_eq!(rows(), 20);
    assert_eq!(bench.status().low_water, 1);
    let (odd, even): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.record.position % 2 == 1);
    acknowledge(&mut acker, &odd);
    assert_eq!((rows(), bench.status().low_water), (5_000, 2));
    acknowledge(&mut acker, &even[1..]);
    assert_eq!((rows(), bench.status().low_water), (1, 2));
    acknowledge(&mut acker, &even[..1]);
    assert_eq!((rows(), bench.status().low_water), (0, 10_001));
    assert_eq!(bench.status().acknowledged, 10_000);
}

#[test]
fn an_expired_lease_redelivers_records_with_attempt_2() {
    let bench = Bench::new();
    bench.append(0..10);
    let (mut dead, mut other) = (bench.inbox("dead"), bench.inbox("other"));
    let mut late = dead.acker().unwrap();
    let held = fetch(&mut dead, 6);
    kill(dead);
    bench.clock.advance(LEASE - Duration::from_millis(1));
    assert_eq!(positions(&fetch(&mut other, 100)), [7, 8, 9, 10]);
    bench.clock.advance(Duration::from_millis(1));
    let again = fetch(&mut other, 4);
    assert_eq!(positions(&again), [1, 2, 3, 4]);
    assert!(again.iter().all(|delivery| delivery.attempt == 2));
    assert_eq!(positions(&fetch(&mut other, 100)), [5, 6]);
    assert_eq!(bench.status().redelivered, 6);

    // The first consumer may acknowledge now, but it neither extends nor gives back what it no longer holds.
    late.keep_alive().unwrap();
    late.give_back(receipts(&held)).unwrap();
    assert!(fetch(&mut other, 100).is_empty());
    acknowledge(&mut late, &held[..3]);
    assert_eq!(bench.status().unacknowledged(), 7);
}

/// Calls `change` when a fetch has found nothing and waits; returns how many records it then returned.
fn fetch_while(bench: &Bench, change: impl FnOnce()) -> usize {
    let mut inbox = bench.inbox("a");
    // A check of the ranges leaves its trace in this column.
    let file = bench.sqlite();
    file.execute_batch("UPDATE groups SET look_at = -1").unwrap();
    let has_looked = || file.query_row("SELECT look_at <> -1 FROM groups", [], |row| row.get::<_, bool>(0)).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut records = Vec::new();
            inbox.fetch(100, Duration::from_secs(60), &mut records).unwrap();
            records.len()
        });
        while !has_looked() {
            std::thread::yield_now();
        }
        change();
        waiting.join().unwrap()
    })
}

#[test]
fn a_fetch_that_waits_sees_a_lease_expire() {
    let bench = Bench::new();
    bench.append(0..10);
    let mut dead = bench.inbox("dead");
    assert_eq!(fetch(&mut dead, 10).len(), 10);
    kill(dead);
    assert_eq!(fetch_while(&bench, || bench.clock.advance(LEASE)), 10);
}

#[test]
fn a_waiting_fetch_sees_records_appended_here_and_elsewhere() {
    let bench = Bench::new();
    assert_eq!(fetch_while(&bench, || bench.append(0..1)), 1);
    let elsewhere = Journal::open(bench.path()).unwrap();
    assert_eq!(fetch_while(&bench, || common::append(&elsewhere, 1..4)), 3);
}

#[test]
fn a_consumer_gets_its_own_records_back_after_their_lease() {
    let bench = Bench::new();
    bench.append(0..3);
    let mut inbox = bench.inbox("a");
    let mut acker = inbox.acker().unwrap();
    let first = fetch(&mut inbox, 10);
    bench.clock.advance(LEASE);
    let second = fetch(&mut inbox, 10);
    assert_eq!(second[0].attempt, 2);
    // Of the first attempt: the second one is still in flight.
    acker.give_back(receipts(&first)).unwrap();
    assert!(fetch(&mut inbox, 10).is_empty());
    acker.give_back(receipts(&second)).unwrap();
    assert_eq!(fetch(&mut inbox, 10)[0].attempt, 3);
}

#[test]
fn a_restarted_consumer_may_take_over_its_records() {
    let bench = Bench::new();
    bench.append(0..10);
    let (mut dead, mut other) = (bench.inbox("worker-1"), bench.inbox("worker-2"));
    assert_eq!(fetch(&mut dead, 4).len(), 4);
    assert_eq!(fetch(&mut other, 4).len(), 4);
    kill(dead);
    let mut inbox = bench.journal.inbox("t", "g", options("worker-1").take_over(true)).unwrap();
    let found = fetch(&mut inbox, 100);
    assert_eq!(positions(&found), [1, 2, 3, 4, 9, 10]);
    assert_eq!((found[0].attempt, found[5].attempt), (2, 1));
}

#[test]
fn dropping_an_inbox_returns_undelivered_records() {
    let bench = Bench::new();
    let record = Record::new([b'x'; 100]);
    bench.journal.writer("t").unwrap().append(&vec![record; 50]).unwrap();
    let mut inbox = bench.journal.inbox("t", "g", options("a").fetch_bytes(1_000)).unwrap();
    assert_eq!(positions(&fetch(&mut inbox, 30)), (1..=10).collect::<Vec<_>>());
    assert_eq!(positions(&fetch(&mut inbox, 5)), (11..=15).collect::<Vec<_>>());
    assert_eq!(bench.status().in_flight, 30);
    drop(inbox);
    assert_eq!((bench.status().in_flight, bench.status().backlog), (15, 35));
    assert_eq!(positions(&fetch(&mut bench.inbox("b"), 100)), (16..=50).collect::<Vec<_>>());
}

#[test]
fn a_fetch_reads_at_least_one_record() {
    let bench = Bench::new();
    bench.append(0..3);
    let mut inbox = bench.journal.inbox("t", "g", options("a").fetch_bytes(0)).unwrap();
    for position in 1..=3 {
        assert_eq!(positions(&fetch(&mut inbox, 10)), [position]);
    }
}

#[test]
fn a_clock_that_jumps_loses_nothing() {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let hour = Duration::from_secs(3_600);
    for (name, other) in [("ahead", start + hour), ("back", start - hour)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.journal");
        let open = |clock: &ManualClock| Journal::options().clock(clock).open(&path).unwrap();
        let (before, after) = (ManualClock::starting_at(start), ManualClock::starting_at(other));
        common::append(&open(&before), 0..10);
        let mut dead = inbox(&open(&before), "dead");
        assert_eq!(fetch(&mut dead, 10).len(), 10);
        kill(dead);

        let mut inbox = inbox(&open(&after), "b");
        if name == "back" {
            assert!(fetch(&mut inbox, 10).is_empty());
            after.advance(LEASE);
        }
        assert_eq!(fetch(&mut inbox, 100).len(), 10, "{name}");
        after.advance(LEASE - Duration::from_millis(1));
        assert!(fetch(&mut inbox, 100).is_empty(), "{name}");
    }
}

#[test]
fn a_bounded_inbox_ends_at_the_record_that_was_newest() {
    let bench = Bench::new();
    bench.append(0..10);
    let mut inbox = bench.journal.inbox("t", "g", options("job").bounded(true)).unwrap();
    bench.append(10..20);
    assert!(!inbox.is_exhausted());
    assert_eq!(fetch(&mut inbox, 7).len(), 7);
    assert!(!inbox.is_exhausted());
    assert_eq!(fetch(&mut inbox, 7).len(), 3);
    // It holds them itself, and does not wait for that.
    assert!(fetch(&mut inbox, 7).is_empty());
    assert!(inbox.is_exhausted());

    let mut empty = bench.journal.inbox("empty", "g", options("job").bounded(true)).unwrap();
    assert!(fetch(&mut empty, 7).is_empty());
    assert!(empty.is_exhausted());
}

#[test]
fn a_bounded_inbox_waits_for_the_lease_of_the_dead() {
    let bench = Bench::new();
    bench.append(0..10);
    let mut dead = bench.inbox("dead");
    assert_eq!(fetch(&mut dead, 4).len(), 4);
    kill(dead);
    let mut job = bench.journal.inbox("t", "g", options("job").bounded(true)).unwrap();
    assert_eq!(positions(&fetch(&mut job, 100)), [5, 6, 7, 8, 9, 10]);
    assert!(fetch(&mut job, 100).is_empty());
    assert!(!job.is_exhausted());
    bench.clock.advance(LEASE / 2);
    job.acker().unwrap().keep_alive().unwrap();
    bench.clock.advance(LEASE / 2);
    assert_eq!(positions(&fetch(&mut job, 100)), [1, 2, 3, 4]);
    assert!(fetch(&mut job, 100).is_empty());
    assert!(job.is_exhausted());
}

#[test]
fn a_bounded_inbox_takes_nothing_beyond_its_bound() {
    let bench = Bench::new();
    bench.append(0..10);
    let mut job = bench.journal.inbox("t", "g", options("job").bounded(true)).unwrap();
    bench.append(10..30);
    let mut dead = bench.inbox("dead");
    assert_eq!(fetch(&mut dead, 15).len(), 15);
    assert_eq!(fetch(&mut dead, 5).len(), 5);
    kill(dead);
    bench.clock.advance(LEASE);
    assert_eq!(positions(&fetch(&mut job, 100)), (1..=10).collect::<Vec<_>>());
    assert!(fetch(&mut job, 100).is_empty());
    assert!(job.is_exhausted());
    assert_eq!(positions(&fetch(&mut bench.inbox("other"), 100)), (11..=30).collect::<Vec<_>>());
}

#[test]
fn a_bounded_inbox_leaves_live_consumers_their_records() {
    let bench = Bench::new();
    bench.append(0..10);
    let mut living = bench.inbox("living");
    let mut acker = living.acker().unwrap();
    assert_eq!(fetch(&mut living, 4).len(), 4);
    let mut job = bench.journal.inbox("t", "g", options("job").bounded(true).lease(LEASE * 10)).unwrap();
    assert_eq!(fetch(&mut job, 100).len(), 6);
    for _ in 0..2 {
        assert!(fetch(&mut job, 100).is_empty());
        assert!(!job.is_exhausted());
        bench.clock.advance(LEASE / 2);
        acker.keep_alive().unwrap();
    }
    assert!(fetch(&mut job, 100).is_empty());
    assert!(job.is_exhausted());
}

#[test]
fn status_shows_where_each_record_is() {
    let bench = Bench::new();
    assert!(bench.journal.group_status("t", "g").unwrap().is_none());
    bench.append(0..100);
    bench.clock.advance(Duration::from_secs(5));
    let (mut a, mut b) = (bench.inbox("a"), bench.inbox("b"));
    let mut acker = a.acker().unwrap();
    let first = fetch(&mut a, 40);
    bench.clock.advance(Duration::from_secs(10));
    fetch(&mut b, 20);
    acknowledge(&mut acker, &first[..10]);
    acker.give_back(receipts(&first[10..15])).unwrap();

    let status = bench.status();
    assert_eq!((status.backlog, status.in_flight, status.acknowledged), (45, 45, 10));
    assert_eq!((status.redelivered, status.skipped, status.low_water), (0, 0, 11));
    assert_eq!(status.oldest_unacknowledged, Some(Duration::from_secs(15)));
    let consumers: Vec<_> = status.consumers.iter().map(|it| (&*it.consumer, it.in_flight, it.lease_left)).collect();
    assert_eq!(consumers, [("a", 25, LEASE - Duration::from_secs(10)), ("b", 20, LEASE)]);
    assert_eq!(bench.journal.status().unwrap()[0].groups, [status]);

    bench.clock.advance(LEASE);
    let status = bench.status();
    assert_eq!((status.backlog, status.in_flight, status.consumers.len()), (90, 0, 0));
}

#[test]
fn trimming_never_touches_what_a_group_needs() {
    let bench = Bench::new();
    let trim = |retention: Retention| bench.journal.trim("t", &retention).unwrap();
    let first = || bench.journal.status().unwrap()[0].first;
    bench.append(0..5_000);
    assert_eq!(trim(Retention::acknowledged()), 0, "without a group, everything is needed");
    let mut inbox = bench.inbox("a");
    let mut acker = inbox.acker().unwrap();
    let mut slow = bench.journal.inbox("t", "slow", options("a")).unwrap();
    let mut slow_acker = slow.acker().unwrap();
    // Groups are processed by name: the one that needs most is in the middle.
    bench.journal.inbox("t", "zealous", options("a").start(Start::Latest)).unwrap();
    let (all, some) = (fetch(&mut inbox, 5_000), fetch(&mut slow, 3_000));
    acknowledge(&mut acker, &all);
    acknowledge(&mut slow_acker, &some[1..]);
    assert_eq!(trim(Retention::acknowledged()), 0);
    acknowledge(&mut slow_acker, &some[..1]);
    assert_eq!(trim(Retention::new()), 0, "no limits");
    assert_eq!(trim(Retention::new().max_records(4_000)), 1_000);
    assert_eq!(trim(Retention::acknowledged()), 2_000);
    assert_eq!(first(), 3_001);
    assert!(bench.journal.remove_group("t", "slow").unwrap());
    assert!(!bench.journal.remove_group("t", "slow").unwrap());
    assert_eq!(trim(Retention::acknowledged()), 2_000);
    // Positions continue.
    assert_eq!((first(), bench.journal.status().unwrap()[0].bytes), (5_001, 0));
    assert_eq!(bench.journal.writer("t").unwrap().append(&[Record::new("x")]).unwrap(), 5_001..5_002);
    assert_eq!(positions(&fetch(&mut inbox, 10)), [5_001]);
    assert_eq!(bench.journal.trim("unknown", &Retention::acknowledged()).unwrap(), 0);
}

#[test]
fn limits_of_age_and_bytes_count_from_the_oldest() {
    let bench = Bench::new();
    let mut writer = bench.journal.writer("t").unwrap();
    for _ in 0..10 {
        writer.append(&[Record::new([0; 90]).with_key([0; 10])]).unwrap();
        bench.clock.advance(Duration::from_secs(60));
    }
    let mut inbox = bench.inbox("a");
    let all = fetch(&mut inbox, 10);
    acknowledge(&mut inbox.acker().unwrap(), &all);
    let trim = |retention: Retention| bench.journal.trim("t", &retention).unwrap();
    assert_eq!(trim(Retention::new().max_age(Duration::from_secs(480))), 2);
    assert_eq!(trim(Retention::new().max_bytes(550)), 3);
    assert_eq!(trim(Retention::new().max_bytes(500).max_age(Duration::from_secs(300)).max_records(5)), 0);
    assert_eq!(bench.journal.status().unwrap()[0].bytes, 500);
}

#[test]
fn trimmed_unacknowledged_records_count_as_skipped() {
    let bench = Bench::new();
    bench.append(0..100);
    let mut inbox = bench.inbox("a");
    let mut acker = inbox.acker().unwrap();
    let held = fetch(&mut inbox, 40);
    acknowledge(&mut acker, &held[..10]);
    let retention = Retention::new().max_records(70).even_unacknowledged();
    assert_eq!(bench.journal.trim("t", &retention).unwrap(), 30);
    let status = bench.status();
    assert_eq!((status.backlog, status.in_flight, status.acknowledged, status.skipped), (60, 10, 10, 20));
    assert_eq!(bench.journal.trim("t", &Retention::new().max_records(50).even_unacknowledged()).unwrap(), 20);
    let status = bench.status();
    assert_eq!((status.backlog, status.in_flight, status.acknowledged, status.skipped), (50, 0, 10, 40));
    acknowledge(&mut acker, &held);
    assert_eq!(positions(&fetch(&mut inbox, 1)), [51]);
}

#[test]
fn a_journal_with_a_retention_trims_as_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.journal");
    let journal = Journal::options().retention(Retention::acknowledged()).open(path).unwrap();
    let mut writer = journal.writer("t").unwrap();
    let mut inbox = inbox(&journal, "a");
    let mut acker = inbox.acker().unwrap();
    for _ in 0..40 {
        writer.append(&vec![Record::new("x"); 512]).unwrap();
        let some = fetch(&mut inbox, 512);
        acknowledge(&mut acker, &some);
    }
    let status = journal.status().unwrap();
    assert!(status[0].next - status[0].first <= 4_096 + 512, "{status:?}");
}

#[test]
fn handles_may_be_sent_and_shared() {
    fn sent<T: Send + 'static>() {}
    fn shared<T: Sync>() {}
    sent::<streamz_journal::JournalInbox>();
    sent::<streamz_journal::JournalAcker>();
    sent::<streamz_journal::Writer>();
    sent::<Journal>();
    shared::<Journal>();
    shared::<streamz_journal::JournalError>();
}

#[test]
fn reopening_finds_everything_as_it_was() {
    let bench = Bench::new();
    bench.append(0..100);
    let mut inbox = bench.inbox("a");
    let mut acker = inbox.acker().unwrap();
    let some = fetch(&mut inbox, 50);
    acknowledge(&mut acker, &some[20..]);
    let before = bench.journal.status().unwrap();
    kill(inbox);
    let again = Journal::options().clock(&bench.clock).open(bench.path()).unwrap();
    assert_eq!(again.status().unwrap(), before);
}

#[test]
fn a_clock_before_1970_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::starting_at(SystemTime::UNIX_EPOCH - Duration::from_secs(1_000_000));
    let journal = Journal::options().clock(&clock).open(directory.path().join("test.journal")).unwrap();
    common::append(&journal, 0..10);
    let mut inbox = inbox(&journal, "a");
    let mut acker = inbox.acker().unwrap();
    let some = fetch(&mut inbox, 10);
    acker.give_back(receipts(&some[..5])).unwrap();
    assert_eq!(positions(&fetch(&mut inbox, 10)), [1, 2, 3, 4, 5]);
    clock.advance(LEASE);
    assert_eq!(fetch(&mut inbox, 100).len(), 10);
}
