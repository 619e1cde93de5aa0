//! Tests with a pipeline between the inbox and a sink.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use streamz::delivery::{DeliveryConfig, Failure, Outbox, Replay, StoredRecord, TooManyDeliveries};
use streamz::prelude::*;

use crate::tests::{GROUP, TOPIC, fetch_all, number, numbered};
use crate::{RecordOf, Store, acker};

/// Small numbers, so that every limit is met.
fn config() -> DeliveryConfig {
    DeliveryConfig {
        fetch: 50,
        epoch: 16,
        max_unacked: 400,
        wait: Duration::from_millis(50),
        ..DeliveryConfig::default()
    }
}

/// The numbers of the records, with their keys.
fn deliver<S: Store>(store: &S, pipeline: &Pipeline, consumer: &str) -> Stream<(Vec<u8>, u32)> {
    let inbox = store.inbox(TOPIC, GROUP, consumer);
    let stream = Stream::deliver(pipeline, inbox, config()).unwrap_or_else(|error| panic!("cannot deliver: {error}"));
    stream.map(|record| (S::key(&record).to_vec(), number::<S>(&record)))
}

/// After a drain, each record has been processed once, and is acknowledged.
pub fn a_drained_pipeline_has_acknowledged_everything<S: Store>(store: &S) {
    const COUNT: u32 = 2_000;
    store.append(TOPIC, &numbered(0..COUNT));
    let pipeline = Pipeline::builder("drained").timeout(S::PATIENCE * 3).build();
    let pool = AsyncMapper::keyed(
        |it: &(Vec<u8>, u32)| it.0.clone(),
        |_: &CancelToken, it: &(Vec<u8>, u32)| streamz::ok(it.1),
    );
    let batches = deliver(store, &pipeline, "a")
        .through(&pool.with_workers(4))
        .flat_map(|number: u32| [number, number])
        .batch(BatchConfig { max_size: 7, max_latency: Duration::from_millis(5) });
    let token = pipeline.token();
    let mut seen = Vec::new();
    batches
        .for_each(|batch| {
            seen.extend(batch.expect("no errors"));
            if seen.len() == 2 * COUNT as usize {
                token.drain();
            }
        })
        .expect("the stream ends");
    let report = pipeline.join();
    assert!(matches!(report.outcome, streamz::Outcome::Drained), "{report}");
    seen.sort_unstable();
    assert_eq!(seen, (0..COUNT).flat_map(|number| [number, number]).collect::<Vec<_>>());
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
}

/// The records processed before the cancellation and those that the next pipeline gets are all records.
pub fn a_cancelled_pipeline_loses_nothing<S: Store>(store: &S) {
    const COUNT: u32 = 1_000;
    store.append(TOPIC, &numbered(0..COUNT));
    let mut seen = BTreeSet::new();
    for run in 0.. {
        let pipeline = Pipeline::builder("cancelled").timeout(S::PATIENCE * 3).build();
        let token = pipeline.token();
        let mut count = 0;
        let outcome = deliver(store, &pipeline, &format!("run-{run}")).buffer(64).for_each(|item| {
            let Ok((_, number)) = item else { return };
            seen.insert(number);
            count += 1;
            if seen.len() == COUNT as usize {
                token.drain();
            } else if count == 300 {
                token.cancel();
            }
        });
        pipeline.join();
        if seen.len() == COUNT as usize {
            outcome.expect("the stream ends");
            break;
        }
        store.advance(S::LEASE * 2);
    }
    assert_eq!(seen, (0..COUNT).collect());
    // Records processed by a cancelled run may be redelivered.
    let mut inbox = store.inbox(TOPIC, GROUP, "rest");
    let mut acker = acker(&mut inbox);
    let left = usize::try_from(store.unacknowledged(TOPIC, GROUP)).expect("a number of records");
    store.advance(S::LEASE * 2);
    let rest = fetch_all::<S>(&mut inbox, left);
    crate::acknowledge(&mut acker, rest.into_iter().map(|delivery| delivery.receipt).collect());
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
}

/// The record at which it stopped is redelivered, and so are all records in flight.
pub fn a_sink_that_stops_acknowledges_nothing_it_did_not_process<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..200));
    let pipeline = Pipeline::builder("stopped").timeout(S::PATIENCE * 3).build();
    let mut seen = BTreeSet::new();
    let stopped = deliver(store, &pipeline, "a").try_for_each(|(_, number)| {
        if seen.len() == 100 {
            return Err("the database is gone");
        }
        seen.insert(number);
        Ok(())
    });
    assert!(stopped.is_err());
    pipeline.abort();
    store.advance(S::LEASE * 2);
    let left = usize::try_from(store.unacknowledged(TOPIC, GROUP)).expect("a number of records");
    assert!(left >= 100, "{left} are left");
    let mut inbox = store.inbox(TOPIC, GROUP, "b");
    let rest: BTreeSet<_> = fetch_all::<S>(&mut inbox, left).iter().map(|it| number::<S>(&it.record)).collect();
    assert_eq!(seen.union(&rest).copied().collect::<BTreeSet<_>>(), (0..200).collect());
}

/// A failed record is acknowledged when it has been stored elsewhere.
pub fn failures_are_acknowledged_when_they_are_stored<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..200));
    let pipeline = Pipeline::builder("failures").timeout(S::PATIENCE * 3).build();
    let token = pipeline.token();
    let (done, failed) = deliver(store, &pipeline, "a")
        .try_map(|it: &(Vec<u8>, u32)| if it.1 % 10 == 3 { Err("it ends in 3") } else { Ok(it.1) })
        .dead_letters();
    let mut outbox = store.outbox("dead");
    let (put_aside, counted) = mpsc::channel();
    let also = put_aside.clone();
    failed.spawn_for_each(move |letter| {
        let Ok(letter) = letter else { return };
        let ((key, number), _) = letter.into_item::<(Vec<u8>, u32)>().expect("the item");
        outbox.write(&mut vec![S::record(&key, number.to_string().as_bytes())]).expect("it is stored");
        put_aside.send(()).expect("the test waits");
    });
    done.spawn_for_each(move |item| {
        if item.is_ok() {
            also.send(()).expect("the test waits");
        }
    });
    for _ in 0..200 {
        counted.recv_timeout(S::PATIENCE).expect("all are processed");
    }
    token.drain();
    pipeline.join();
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
    let mut dead: Vec<u32> =
        store.contents("dead").iter().map(|it| String::from_utf8_lossy(it).parse().expect("a number")).collect();
    dead.sort_unstable();
    assert_eq!(dead, (0..200).filter(|number| number % 10 == 3).collect::<Vec<_>>());
}

/// A record that has been delivered too often comes as an error.
pub fn records_delivered_too_often_are_dead_letters<S: Store>(store: &S) {
    if !S::COUNTS_ATTEMPTS {
        return;
    }
    store.append(TOPIC, &numbered(0..20));
    for attempt in 0..2 {
        let mut inbox = store.inbox(TOPIC, GROUP, &format!("killed-{attempt}"));
        let acker = acker(&mut inbox);
        fetch_all::<S>(&mut inbox, 20);
        store.kill(inbox, acker);
        store.advance(S::LEASE * 2);
    }
    store.append(TOPIC, &numbered(20..30));
    let pipeline = Pipeline::builder("poison").timeout(S::PATIENCE * 3).build();
    let token = pipeline.token();
    let config = DeliveryConfig { max_deliveries: Some(2), ..config() };
    let (mut poison, mut fine) = (0, 0);
    Stream::deliver(&pipeline, store.inbox(TOPIC, GROUP, "last"), config)
        .unwrap_or_else(|error| panic!("cannot deliver: {error}"))
        .for_each(|item| {
            match item {
                Ok(_) => fine += 1,
                Err(error) => {
                    assert_eq!(error.downcast_ref::<TooManyDeliveries>().map(|it| it.attempt), Some(3));
                    poison += 1;
                }
            }
            if poison + fine == 30 {
                token.drain();
            }
        })
        .expect("the stream ends");
    pipeline.join();
    assert_eq!((poison, fine), (20, 10));
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
}

/// When every record that was there at the start has been processed and acknowledged, even if there was none.
pub fn a_bounded_pipeline_ends_by_itself<S: Store>(store: &S) {
    for range in [0..0, 0..300] {
        store.append(TOPIC, &numbered(range.clone()));
        let Some(inbox) = store.bounded_inbox(TOPIC, GROUP, "job") else { return };
        let pipeline = Pipeline::builder("bounded").timeout(S::PATIENCE * 3).build();
        let stream =
            Stream::deliver(&pipeline, inbox, config()).unwrap_or_else(|error| panic!("cannot deliver: {error}"));
        // Results that are emitted only at the end must not delay the end. (There must be fewer than `max_unacked`.)
        let numbers = stream
            .map(|record| number::<S>(&record))
            .batch(BatchConfig { max_size: 1_000_000, max_latency: Duration::MAX })
            .flat_map(|batch: Vec<u32>| batch)
            .collect::<Vec<_>>();
        let report = pipeline.join();
        let mut numbers = numbers.unwrap_or_else(|error| panic!("{error}: {report}"));
        assert!(report.is_complete(), "{report}");
        numbers.sort_unstable();
        assert_eq!(numbers, range.collect::<Vec<_>>());
        assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
    }
}

/// From a topic to another one.
pub fn records_written_elsewhere_are_acknowledged<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..300));
    let pipeline = Pipeline::builder("copy").timeout(S::PATIENCE * 3).build();
    let token = pipeline.token();
    let batches = BatchConfig { max_size: 20, max_latency: Duration::from_millis(5) };
    let made = AtomicU32::new(0);
    let written = deliver(store, &pipeline, "a")
        .map(move |(key, number)| {
            if made.fetch_add(1, Ordering::Relaxed) == 299 {
                token.drain();
            }
            S::record(&key, (number + 1_000).to_string().as_bytes())
        })
        .deliver_to(store.outbox("copies"), batches);
    pipeline.join();
    assert_eq!(written.unwrap_or_else(|error| panic!("cut: {error}")), 300);
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
    let mut copies: Vec<u32> =
        store.contents("copies").iter().map(|it| String::from_utf8_lossy(it).parse().expect("a number")).collect();
    copies.sort_unstable();
    assert_eq!(copies, (1_000..1_300).collect::<Vec<_>>());
}

/// All records of a topic, as a group of this name receives them.
fn read<S: Store>(store: &S, topic: &str, group: &str, count: usize) -> Vec<RecordOf<S>> {
    let mut inbox = store.inbox(topic, group, "reader");
    fetch_all::<S>(&mut inbox, count).into_iter().map(|delivery| delivery.record).collect()
}

/// A dead letter has the key and payload of its record, and says why it failed, in which stage, and where the record
/// is.
pub fn dead_letters_say_what_failed_and_where_it_was<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..100));
    let positions: BTreeMap<_, _> =
        read(store, TOPIC, "before", 100).iter().map(|record| (number::<S>(record), record.position())).collect();
    let pipeline = Pipeline::builder("put aside").timeout(S::PATIENCE * 3).build();
    let token = pipeline.token();
    let inbox = store.inbox(TOPIC, GROUP, "a");
    let seen = AtomicU32::new(0);
    let check = move |record: &RecordOf<S>| {
        if seen.fetch_add(1, Ordering::Relaxed) == 99 {
            token.drain();
        }
        let number = number::<S>(record);
        if number % 10 == 3 { Err("it ends in 3") } else { Ok(number) }
    };
    let (done, failed) = Stream::deliver(&pipeline, inbox, config())
        .unwrap_or_else(|error| panic!("cannot deliver: {error}"))
        .through(&Mapper::fallible(check).with_name("check"))
        .dead_letters();
    done.spawn_for_each(drop);
    let batches = BatchConfig { max_size: 20, max_latency: Duration::from_millis(5) };
    let written = failed.into_records::<RecordOf<S>>().deliver_to(store.outbox("dead"), batches);
    pipeline.join();
    assert_eq!(written.unwrap_or_else(|error| panic!("cut: {error}")), 10);
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
    let letters = read(store, "dead", "look", 10);
    for letter in &letters {
        let number = number::<S>(letter);
        assert_eq!(S::key(letter), format!("key-{}", number % 4).as_bytes());
        let failure = Failure::read(letter).expect("a dead letter");
        assert_eq!((&*failure.reason, &*failure.stage), ("it ends in 3", "check"));
        assert_eq!((failure.attempts, failure.replays), (1, 0));
        assert_eq!((&*failure.topic, &failure.position), (TOPIC, &positions[&number]));
    }
    let numbers: BTreeSet<_> = letters.iter().map(number::<S>).collect();
    assert_eq!(numbers, (0..100).filter(|number| number % 10 == 3).collect());
}

/// A payload that is not text costs one record, not the pipeline. It is stored unchanged.
pub fn records_that_cannot_be_decoded_are_dead_letters<S: Store>(store: &S) {
    const GARBAGE: &[u8] = &[0xff, 0x00, 0xfe];
    let mut records = numbered(0..50);
    records.iter_mut().step_by(10).for_each(|(_, payload)| *payload = GARBAGE.to_vec());
    store.append(TOPIC, &records);
    let pipeline = Pipeline::builder("decode").timeout(S::PATIENCE * 3).build();
    let token = pipeline.token();
    let seen = AtomicU32::new(0);
    let decode = move |record: &RecordOf<S>| {
        if seen.fetch_add(1, Ordering::Relaxed) == 49 {
            token.drain();
        }
        Ok::<u32, BoxError>(std::str::from_utf8(S::payload(record))?.parse()?)
    };
    let (numbers, failed) = Stream::deliver(&pipeline, store.inbox(TOPIC, GROUP, "a"), config())
        .unwrap_or_else(|error| panic!("cannot deliver: {error}"))
        .try_map(decode)
        .dead_letters();
    let (sender, decoded) = mpsc::channel();
    numbers.spawn_for_each(move |number| sender.send(number.expect("no errors")).expect("the test waits"));
    let batches = BatchConfig { max_size: 20, max_latency: Duration::from_millis(5) };
    let written = failed.into_records::<RecordOf<S>>().deliver_to(store.outbox("dead"), batches);
    pipeline.join();
    assert_eq!(written.unwrap_or_else(|error| panic!("cut: {error}")), 5);
    assert_eq!(store.unacknowledged(TOPIC, GROUP), 0);
    let decoded: BTreeSet<u32> = decoded.iter().collect();
    assert_eq!(decoded, (0..50).filter(|number| number % 10 != 0).collect());
    for letter in read(store, "dead", "look", 5) {
        assert_eq!(S::payload(&letter), GARBAGE);
        let reason = Failure::read(&letter).expect("a dead letter").reason;
        assert!(reason.contains("invalid utf-8"), "{reason}");
    }
}

/// In two runs of one group, the second of which continues where the first has ended.
pub fn dead_letters_are_replayed_up_to_a_limit<S: Store>(store: &S) {
    store.append(TOPIC, &numbered(0..60));
    let error = StreamError::new(ErrorKind::Failed, "check").with_source("the server was down");
    let put_aside = |record: RecordOf<S>| Failure::new(&error, &record).put_aside(record);
    let mut letters = read(store, TOPIC, "look", 60).into_iter().map(put_aside).collect();
    store.outbox("dead").write(&mut letters).unwrap_or_else(|error| panic!("cannot write: {error}"));
    for limit in [12, 8] {
        let pipeline = Pipeline::builder("replay").timeout(S::PATIENCE * 3).build();
        let replay = Replay::new()
            .with_config(config())
            .with_filter(|failure, record| failure.topic == TOPIC && number::<S>(record).is_multiple_of(3))
            .with_limit(limit);
        let batches = BatchConfig { max_size: 5, max_latency: Duration::from_millis(5) };
        let count = Stream::replay(&pipeline, store.inbox("dead", "replay", "a"), replay)
            .unwrap_or_else(|error| panic!("cannot replay: {error}"))
            .deliver_to(store.outbox(TOPIC), batches);
        let report = pipeline.join();
        assert_eq!(count.unwrap_or_else(|error| panic!("cut: {error}")), limit);
        assert!(report.is_complete(), "{report}");
    }
    let left = store.unacknowledged("dead", "replay");
    assert!(if S::TOTAL_ORDER { left == 2 } else { left <= 40 }, "{left} are left");
    let all = read(store, TOPIC, "check", 80);
    let replayed: Vec<_> = all.iter().filter(|record| record.header(Failure::REPLAYS).is_some()).collect();
    for record in &replayed {
        assert_eq!(record.header(Failure::REPLAYS), Some(&b"1"[..]));
        assert_eq!(Failure::read(*record), None);
        assert_eq!(S::key(record), format!("key-{}", number::<S>(record) % 4).as_bytes());
    }
    let mut numbers: Vec<_> = replayed.iter().map(|record| number::<S>(record)).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..60).step_by(3).collect::<Vec<_>>());
}
