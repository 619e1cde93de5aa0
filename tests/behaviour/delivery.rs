//! Delivery: what a store is told, and when. That every operator keeps its marks is in the conformance suite.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use streamz::delivery::{Acker, Delivery, DeliveryConfig, Inbox, Outbox, StoreError};
use streamz::{
    Aggregate, AsyncMapper, BatchConfig, Batcher, BoxError, Broadcast, CancelToken, Cause, Custom, Delay, Emit,
    ErrorKind, FanOut, GroupBy, ManualClock, Operator, Outcome, Pipeline, SessionWindow, SlowSubscriber, Stream,
    TumblingWindow,
};

use crate::logged;

/// A store in memory that does what it is told, and notes what it was asked.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: VecDeque<u64>,
    /// After how many fetches the store is out of reach, so that the source waits, whatever is acknowledged.
    fetches: Option<u32>,
    /// What the next calls fail with.
    fetch_errors: VecDeque<StoreError>,
    ack_errors: VecDeque<StoreError>,
    write_errors: VecDeque<StoreError>,
    calls: Vec<String>,
    acknowledged: Vec<u64>,
    given_back: Vec<u64>,
    written: Vec<u64>,
    /// Records that it never takes, one report each.
    refuses: Vec<u64>,
    panics: bool,
    lease: Option<Duration>,
}

impl Store {
    fn with(count: u64) -> Self {
        let store = Self::default();
        store.state().waiting = (0..count).collect();
        store
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn acknowledged(&self) -> Vec<u64> {
        let mut all = self.state().acknowledged.clone();
        all.sort_unstable();
        all
    }
}

impl Inbox for Store {
    type Record = u64;
    type Receipt = u64;
    type Acker = Store;

    fn fetch(&mut self, max: usize, _: Duration, records: &mut Vec<Delivery<u64, u64>>) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(error) = state.fetch_errors.pop_front() {
            return Err(error);
        }
        if let Some(left) = &mut state.fetches {
            *left = left.checked_sub(1).ok_or_else(|| StoreError::transient("out of reach"))?;
        }
        let count = max.min(state.waiting.len());
        let fetched: Vec<u64> = state.waiting.drain(..count).collect();
        drop(state);
        records.extend(fetched.into_iter().map(|n| Delivery::new(n, n)));
        Ok(())
    }

    fn is_exhausted(&self) -> bool {
        self.state().waiting.is_empty()
    }

    fn lease(&self) -> Option<Duration> {
        self.state().lease
    }

    fn acker(&mut self) -> Result<Store, StoreError> {
        Ok(self.clone())
    }
}

impl Acker for Store {
    type Receipt = u64;

    fn acknowledge(&mut self, receipts: &mut Vec<u64>) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(error) = state.ack_errors.pop_front() {
            return Err(error);
        }
        if state.panics {
            drop(state);
            panic!("the acker");
        }
        state.calls.push(format!("ack {}", receipts.len()));
        state.acknowledged.append(receipts);
        Ok(())
    }

    fn give_back(&mut self, receipts: Vec<u64>) -> Result<(), StoreError> {
        self.state().given_back.extend(receipts);
        Ok(())
    }

    fn keep_alive(&mut self) -> Result<(), StoreError> {
        self.state().calls.push("keep alive".to_owned());
        Ok(())
    }
}

impl Outbox for Store {
    type Record = u64;

    fn write(&mut self, batch: &mut Vec<u64>) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(index) = batch.iter().position(|n| state.refuses.contains(n)) {
            return Err(StoreError::refused(index, format!("record {} is too large", batch[index])));
        }
        match state.write_errors.pop_front() {
            Some(error) => {
                // A part of it was written.
                let first = batch.remove(0);
                state.written.push(first);
                Err(error)
            }
            None => {
                state.written.append(batch);
                Ok(())
            }
        }
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Each record is acknowledged by itself, and at once.
fn one_by_one() -> DeliveryConfig {
    DeliveryConfig {
        epoch: 1,
        ack_interval: Duration::ZERO,
        keep_alive: Some(Duration::ZERO),
        ..DeliveryConfig::default()
    }
}

/// As [`one_by_one`], and with no more than `count` records in flight: the source waits, so its stream does not end.
fn open_end(count: usize) -> DeliveryConfig {
    DeliveryConfig { max_unacked: count, ..one_by_one() }
}

fn on_a_clock() -> (ManualClock, Pipeline) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("delivery").clock(&clock).capacity(100).build();
    (clock, pipeline)
}

fn deliver(pipeline: &Pipeline, store: &Store, config: DeliveryConfig) -> Stream<u64> {
    Stream::deliver(pipeline, store.clone(), config).unwrap()
}

#[test]
fn a_record_is_acknowledged_when_the_next_one_is_asked_for() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(4);
    let mut records = deliver(&pipeline, &store, open_end(3)).map(|n| n + 10);
    assert_eq!(records.recv().unwrap().unwrap(), 10);
    clock.settle();
    assert!(store.acknowledged().is_empty(), "it may still be in work");
    assert_eq!(records.recv().unwrap().unwrap(), 11);
    clock.settle();
    assert_eq!(store.acknowledged(), [0]);
}

#[test]
fn a_report_counts_error_items_and_no_marks() {
    type Build = fn(Stream<u64>) -> Stream<u64>;
    let stages: [(&str, Build); 7] = [
        ("map-2", |stream| stream.map(|n| n)),
        ("flat_map", |stream| stream.flat_map(|n| [n])),
        ("map-2", |stream| stream.map(|n| n).buffer(4)),
        ("async_map", |stream| stream.async_map(2, |_: &CancelToken, n: &u64| streamz::ok(*n))),
        ("async_map", |stream| {
            let mapper = AsyncMapper::new(|_: &CancelToken, n: &u64| streamz::ok(*n));
            stream.through(&mapper.with_workers(2).with_ordered(false))
        }),
        ("par_map", |stream| stream.par_map(|n| n)),
        ("fan_out", |stream| {
            let [one] = stream.fan_out();
            one
        }),
    ];
    for (name, build) in stages {
        let (_clock, pipeline) = on_a_clock();
        let store = Store::with(9);
        let records = deliver(&pipeline, &store, one_by_one());
        let some_fail = records.try_map(|n| if n % 3 == 0 { Err("a multiple of 3") } else { Ok(*n) });
        let results: Vec<_> = std::iter::from_fn({
            let mut stream = build(some_fail);
            move || stream.recv()
        })
        .collect();
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 3, "{name}");
        let report = pipeline.join();
        assert_eq!(store.acknowledged(), (0..9).collect::<Vec<_>>(), "{name}: {report}");
        let step = &report.stage(name).unwrap().steps[0];
        assert_eq!((step.received, step.errors_in, step.errors_out), (6, 3, 3), "{name}: {report}");
    }
}

/// Its items are dropped, and what was made of a record has not been processed.
#[test]
fn a_record_for_a_dropped_branch_is_not_acknowledged() {
    // The store cannot be reached before the branch has been dropped.
    let out_of_reach = || {
        let store = Store::with(6);
        store.state().fetches = Some(0);
        store
    };
    let recover = |clock: &ManualClock, store: &Store| {
        clock.settle();
        store.state().fetches = None;
        clock.advance(Duration::from_secs(60));
    };
    let (clock, pipeline) = on_a_clock();
    let store = out_of_reach();
    let (even, mut odd) = deliver(&pipeline, &store, one_by_one()).split(|n| n % 2 == 0);
    drop(even);
    recover(&clock, &store);
    assert_eq!(take_all(&clock, &mut odd), 3);
    assert_eq!(store.acknowledged(), [1, 3, 5]);

    let (clock, pipeline) = on_a_clock();
    let store = out_of_reach();
    let records = deliver(&pipeline, &store, one_by_one());
    let (items, mut letters) = records.try_map(|n| if n % 2 == 0 { Ok(*n) } else { Err("odd") }).dead_letters();
    drop(items);
    recover(&clock, &store);
    assert_eq!(take_all(&clock, &mut letters), 3);
    assert_eq!(store.acknowledged(), [1, 3, 5]);
}

/// The marks of all its records come behind the batch.
#[test]
fn no_record_of_a_dropped_batch_is_acknowledged() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(6);
    store.state().fetches = Some(0);
    let batches = deliver(&pipeline, &store, one_by_one())
        .batch(BatchConfig { max_size: 3, max_latency: Duration::from_secs(1) });
    let (first, mut second) = batches.split(|batch| batch[0] == 0);
    drop(first);
    clock.settle();
    store.state().fetches = None;
    clock.advance(Duration::from_secs(60));
    assert_eq!(take_all(&clock, &mut second), 1);
    assert_eq!(store.acknowledged(), [3, 4, 5]);
}

/// The record between the two of the first batch was dropped before, and its mark was lost there.
#[test]
fn a_loss_before_a_batch_does_not_hide_one_behind_it() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(6);
    store.state().fetches = Some(0);
    let (one, others) = deliver(&pipeline, &store, one_by_one()).split(|n| *n == 1);
    let batches = others.batch(BatchConfig { max_size: 2, max_latency: Duration::from_secs(1) });
    let (first, mut rest) = batches.split(|batch| *batch == [0, 2]);
    drop((one, first));
    clock.settle();
    store.state().fetches = None;
    clock.advance(Duration::from_secs(60));
    assert_eq!(take_all(&clock, &mut rest), 2);
    assert_eq!(store.acknowledged(), [3, 4, 5]);
}

/// The mark behind the records comes when the one that left is forgotten already.
#[test]
fn a_record_for_a_subscriber_that_has_left_is_not_acknowledged() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(2);
    let records = deliver(&pipeline, &store, DeliveryConfig { epoch: 2, ..one_by_one() });
    let hub = Broadcast::new().with_buffer_size(1).process(&pipeline, records);
    let (leaves, mut stays) = (hub.subscribe(), hub.subscribe());
    clock.settle();
    drop(leaves);
    assert_eq!(take_all(&clock, &mut stays), 2);
    assert!(store.acknowledged().is_empty(), "record 0 was sent to both");
}

/// Sends the records, of which the second fails, to a subscriber that takes them and to one that does not, until all have
/// been sent. Returns what the other one finds then, and which records are acknowledged in the end.
fn sent_to_a_slow_subscriber(slow: SlowSubscriber) -> (Vec<Option<u64>>, Vec<u64>) {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(6);
    let wait = AsyncMapper::new(|token: &CancelToken, n: &u64| {
        token.sleep(ms(10))?;
        streamz::ok(*n)
    });
    let records = deliver(&pipeline, &store, one_by_one()).through(&wait.with_workers(1));
    let some_fail = records.try_map(|n| if *n == 1 { Err("one") } else { Ok(*n) });
    let hub = Broadcast::new().with_buffer_size(1).with_slow_subscriber(slow).process(&pipeline, some_fail);
    let lags = hub.subscribe();
    hub.subscribe().spawn_for_each(drop);
    drop(hub);
    clock.settle();
    clock.advance(ms(100));
    let seen = lags.into_iter().map(Result::ok).collect();
    pipeline.join();
    (seen, store.acknowledged())
}

/// What it missed is redelivered, an error item as well.
#[test]
fn a_record_for_a_subscriber_that_is_cut_is_not_acknowledged() {
    let (seen, acknowledged) = sent_to_a_slow_subscriber(SlowSubscriber::Disconnect);
    assert_eq!(seen, [Some(0), None], "the second is the error of the cut");
    assert_eq!(acknowledged, [0, 2, 3, 4, 5]);
}

/// As those that a dropping buffer has dropped.
#[test]
fn a_record_that_was_evicted_from_a_lagging_subscriber_is_acknowledged() {
    let (seen, acknowledged) = sent_to_a_slow_subscriber(SlowSubscriber::DropOldest);
    assert!(seen.len() < 6, "{seen:?}");
    assert_eq!(acknowledged, [0, 1, 2, 3, 4, 5]);
}

/// The same for a group that ends by itself: the mark comes with a record of another group.
#[test]
fn a_record_for_a_group_that_has_left_is_not_acknowledged() {
    let slow = |time: fn(u64) -> Duration| {
        AsyncMapper::new(move |token: &CancelToken, n: &u64| {
            let _ = token.sleep(time(*n));
            streamz::ok(*n)
        })
        .with_workers(1)
    };
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(3);
    let records = deliver(&pipeline, &store, DeliveryConfig { epoch: 3, ..one_by_one() });
    // The first group ends while its second record is still in it. The other one lets the mark pass.
    let groups = GroupBy::new(
        |n: &u64| *n == 2,
        move |is_last, group: Stream<u64>| {
            let group = group.through(&slow(|_| ms(10)));
            if *is_last { group } else { group.take(1) }
        },
    );
    let mut rest = records.through(&slow(|n| ms(if n == 2 { 20 } else { 0 }))).through(&groups);
    clock.settle();
    clock.advance(ms(30));
    assert_eq!(take_all(&clock, &mut rest), 2);
    assert!(store.acknowledged().is_empty(), "record 1 was dropped");
}

/// The second of two streams in a row, which has only later records, shares a batch with the end of the first.
#[test]
fn a_chain_does_not_hide_the_loss_of_a_batch() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(4);
    store.state().fetches = Some(1);
    let records = deliver(&pipeline, &store, DeliveryConfig { fetch: 3, ..one_by_one() });
    let hub = Broadcast::new().with_buffer_size(10).process(&pipeline, records);
    let early = hub.subscribe();
    clock.settle();
    let late = hub.subscribe();
    drop(hub);
    let batches = early
        .take_while(|n| *n == 0)
        .chain([late])
        .batch(BatchConfig { max_size: 2, max_latency: Duration::from_secs(3600) });
    let (first, mut rest) = batches.split(|batch| *batch == [0, 3]);
    drop(first);
    clock.settle();
    store.state().fetches = None;
    clock.advance(Duration::from_secs(60));
    assert_eq!(take_all(&clock, &mut rest), 0);
    assert!(store.acknowledged().is_empty(), "{:?}", store.acknowledged());
}

#[test]
fn no_more_is_fetched_than_may_be_in_flight() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(10);
    let mut records = deliver(&pipeline, &store, open_end(4));
    clock.settle();
    assert_eq!(store.state().waiting.len(), 6);
    (0..3).for_each(|_| drop(records.recv()));
    clock.settle();
    assert_eq!(store.acknowledged(), [0, 1]);
    assert_eq!(store.state().waiting.len(), 4);
}

#[test]
fn a_fetch_of_any_size_takes_what_there_is() {
    let (_, pipeline) = on_a_clock();
    let store = Store::with(3);
    let config = DeliveryConfig { fetch: usize::MAX, max_unacked: usize::MAX, ..one_by_one() };
    assert_eq!(deliver(&pipeline, &store, config).count().unwrap(), 3);
    pipeline.join();
    assert_eq!(store.acknowledged(), [0, 1, 2]);
}

#[test]
fn a_store_that_fails_temporarily_is_retried_with_backoff() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(2);
    store.state().fetch_errors = (0..3).map(|_| StoreError::transient("the server is down")).collect();
    store.state().ack_errors = (0..2).map(|_| StoreError::transient("the server is down")).collect();
    let mut records = deliver(&pipeline, &store, one_by_one());
    clock.advance(ms(699));
    assert!(records.try_recv().is_err());
    clock.advance(ms(1));
    assert_eq!((records.recv().unwrap().unwrap(), records.recv().unwrap().unwrap()), (0, 1));
    assert!(records.recv().is_none());
    clock.advance(ms(299));
    assert!(store.acknowledged().is_empty());
    clock.advance(ms(1));
    assert_eq!(store.acknowledged(), [0, 1]);
    assert!(pipeline.join().is_complete());
}

#[test]
fn a_store_that_fails_for_good_cuts_the_stream() {
    let pipeline = Pipeline::new("refused");
    let store = Store::with(2);
    store.state().fetch_errors.push_back(StoreError::permanent("wrong password"));
    let cut = deliver(&pipeline, &store, one_by_one()).collect::<Vec<_>>().unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::Cancelled);
    assert_eq!(std::error::Error::source(&cut).unwrap().to_string(), "wrong password");
    assert!(matches!(pipeline.join().outcome, Outcome::Cut(_)));
}

#[test]
fn an_acker_that_fails_for_good_cancels_the_pipeline() {
    for panics in [false, true] {
        let (clock, pipeline) = on_a_clock();
        let store = Store::with(20);
        if panics {
            store.state().panics = true;
        } else {
            store.state().ack_errors.push_back(StoreError::permanent("no permission"));
        }
        let mut records = deliver(&pipeline, &store, open_end(5));
        (0..2).for_each(|_| drop(records.recv()));
        clock.settle();
        let Some(Cause::Because(reason)) = pipeline.cause() else { panic!("{:?}", pipeline.cause()) };
        assert_eq!(reason.to_string(), if panics { "the acker" } else { "no permission" });
        drop(records);
        assert!(pipeline.join().faults.is_empty());
    }
}

#[test]
fn acknowledgements_are_batched_and_the_lease_is_extended() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(10);
    let config = DeliveryConfig { max_unacked: 8, ack_interval: ms(10), keep_alive: Some(ms(100)), ..one_by_one() };
    let mut records = deliver(&pipeline, &store, config);
    (0..3).for_each(|_| drop(records.recv()));
    clock.settle();
    clock.advance(ms(5));
    drop(records.recv());
    clock.advance(ms(5));
    assert_eq!(store.state().calls, ["ack 3"]);
    clock.advance(ms(195));
    assert_eq!(store.state().calls, ["ack 3", "keep alive", "keep alive"]);
}

#[test]
fn a_limit_below_a_stages_held_records_is_logged_once() {
    logged::keep();
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("holds-all").clock(&clock).build();
    let store = Store::with(100);
    let config = BatchConfig { max_size: 10, max_latency: Duration::from_secs(100) };
    let out = deliver(&pipeline, &store, open_end(5)).batch(config);
    out.spawn_for_each(drop);
    clock.settle();
    clock.advance(ms(29_999));
    assert!(logged::of_threads("holds-all").is_empty());
    clock.advance(ms(1));
    let lines = logged::of_threads("holds-all");
    assert!(lines[0].starts_with("streamz: `deliver` fetches nothing: 5 records are in flight"), "{lines:?}");
    assert!(lines[0].contains("for 30s") && lines[0].contains("`max_unacked` must be larger"), "{lines:?}");
    // The batch times out, the next one is held as well, and that is not said again.
    clock.advance(ms(200_000));
    assert_eq!(logged::of_threads("holds-all").len(), 1);
    assert!(!store.acknowledged().is_empty());
}

#[test]
fn a_limit_that_is_reached_again_and_again_is_not_logged() {
    logged::keep();
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("moves-on").clock(&clock).build();
    let store = Store::with(100);
    let config = BatchConfig { max_size: 10, max_latency: Duration::from_secs(29) };
    deliver(&pipeline, &store, open_end(5)).batch(config).spawn_for_each(drop);
    for _ in 0..12 {
        clock.settle();
        clock.advance(ms(10_000));
    }
    assert!(store.acknowledged().len() >= 15);
    assert_eq!(logged::of_threads("moves-on"), Vec::<String>::new());
}

/// When the first three calls of `keep_alive` come.
fn keep_alive_calls(lease: Option<Duration>, keep_alive: Option<Duration>) -> Vec<Duration> {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(2);
    store.state().lease = lease;
    let records = deliver(&pipeline, &store, DeliveryConfig { keep_alive, ..open_end(1) });
    let start = clock.now();
    clock.settle();
    let mut calls = Vec::new();
    while calls.len() < 3 && clock.now() - start < Duration::from_secs(60) {
        clock.advance(ms(500));
        if store.state().calls.pop().is_some() {
            calls.push(clock.now() - start);
        }
    }
    drop(records);
    calls
}

#[test]
fn leases_are_extended_three_times_as_often_as_they_expire() {
    let seconds = |seconds: [u64; 3]| seconds.map(Duration::from_secs);
    assert_eq!(keep_alive_calls(Some(ms(6_000)), None), seconds([2, 4, 6]));
    assert_eq!(keep_alive_calls(Some(ms(6_000)), Some(ms(1_000))), seconds([1, 2, 3]));
    assert_eq!(keep_alive_calls(None, None), seconds([10, 20, 30]));
    assert_eq!(keep_alive_calls(Some(ms(6_000)), Some(Duration::ZERO)), []);
    assert_eq!(keep_alive_calls(Some(Duration::ZERO), None), []);
}

#[test]
fn a_keep_alive_too_long_for_the_lease_is_refused() {
    let pipeline = Pipeline::new("lease");
    let store = Store::with(1);
    store.state().lease = Some(ms(6_000));
    for keep_alive in [ms(2_001), Duration::MAX] {
        let config = DeliveryConfig { keep_alive: Some(keep_alive), ..DeliveryConfig::default() };
        let error = Stream::deliver(&pipeline, store.clone(), config).unwrap_err();
        let expected =
            format!("`keep_alive` is {keep_alive:?}, and must be at most 2s, a third of the inbox's lease of 6s");
        assert_eq!(error.to_string(), expected);
        assert!(!error.is_transient());
    }
    let config = DeliveryConfig { keep_alive: Some(ms(2_000)), ..DeliveryConfig::default() };
    drop(Stream::deliver(&pipeline, store, config).unwrap());
}

#[test]
fn a_cancel_returns_unprocessed_records() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(10);
    let mut records = deliver(&pipeline, &store, open_end(6)).map(|n| n);
    (0..3).for_each(|_| drop(records.recv()));
    clock.settle();
    pipeline.cancel();
    drop(records);
    pipeline.join();
    assert_eq!(store.acknowledged(), [0, 1]);
    let mut given_back = store.state().given_back.clone();
    given_back.sort_unstable();
    assert_eq!(given_back, (2..given_back.len() as u64 + 2).collect::<Vec<_>>());
}

#[test]
fn an_end_that_stops_at_an_error_does_not_acknowledge_it() {
    let pipeline = Pipeline::new("stops");
    let store = Store::with(10);
    let stopped = deliver(&pipeline, &store, one_by_one()).try_for_each(|n| if n == 4 { Err("four") } else { Ok(()) });
    stopped.unwrap_err();
    pipeline.join();
    let acknowledged = store.acknowledged();
    assert!(acknowledged.len() <= 4 && acknowledged.iter().all(|n| *n < 4), "{acknowledged:?}");
}

#[test]
fn a_record_is_acknowledged_when_all_branches_have_processed_it() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(6);
    let branches = FanOut::new(2).process(&pipeline, deliver(&pipeline, &store, open_end(5)));
    let [mut one, mut two]: [Stream<u64>; 2] = branches.try_into().unwrap();
    (0..4).for_each(|_| drop(one.recv()));
    clock.settle();
    assert!(store.acknowledged().is_empty());
    (0..2).for_each(|_| drop(two.recv()));
    clock.settle();
    assert_eq!(store.acknowledged(), [0]);
    // What the branch that goes has not processed is not.
    drop(two);
    drop(one.recv());
    clock.settle();
    assert_eq!(store.acknowledged(), [0]);
}

/// A batch or window that is still open keeps its own records, and no others.
fn only_the_open_ones_are_kept<Out: Send + 'static>(of: impl FnOnce(Stream<u64>) -> Stream<Out>, expected: &[u64]) {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(6);
    store.state().fetches = Some(1);
    let mut out = of(deliver(&pipeline, &store, DeliveryConfig { fetch: 5, ..one_by_one() }));
    take_all(&clock, &mut out);
    assert_eq!(store.acknowledged(), expected);
    pipeline.drain();
    while out.recv().is_some() {}
    pipeline.join();
    assert_eq!(store.acknowledged(), [0, 1, 2, 3, 4]);
    assert!(store.state().given_back.is_empty());
}

/// Takes the available items, and those that come because of that.
fn take_all<T: Send + 'static>(clock: &ManualClock, stream: &mut Stream<T>) -> usize {
    let mut taken = 0;
    loop {
        clock.settle();
        let before = taken;
        taken += std::iter::from_fn(|| stream.try_recv().ok()).count();
        if taken == before {
            // What was asked for in vain has acknowledged the last one.
            clock.settle();
            if stream.try_recv().is_err() {
                return taken;
            }
            taken += 1;
        }
    }
}

#[test]
fn an_open_batch_keeps_its_own_records_only() {
    let config = BatchConfig { max_size: 2, max_latency: Duration::MAX };
    only_the_open_ones_are_kept(|records| records.batch(config.clone()), &[0, 1, 2, 3]);
    // Keys 0 1 0 0 0: the batch of 1 is open, so only what came before it is sure to be done.
    let keyed = Batcher::new(config).with_key(|n: &u64| u64::from(*n == 1), 10);
    only_the_open_ones_are_kept(|records| records.through(&keyed), &[0]);
}

#[test]
fn a_failed_item_does_not_settle_an_older_held_one() {
    let fold = |sum: &mut u64, n: &u64| if *n == 1 { panic!("one") } else { *sum += n };
    let sums = Aggregate::new(|| 0, fold).with_count_window(3);
    // 0 2 3 are a window, and so are 4 and all later items.
    only_the_open_ones_are_kept(|records| records.through(&sums), &[0, 1, 2, 3]);
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(2);
    let mut out = deliver(&pipeline, &store, open_end(2)).through(&sums);
    clock.settle();
    assert!(out.try_recv().unwrap().is_err(), "1 has failed");
    assert!(out.try_recv().is_err());
    clock.settle();
    assert!(store.acknowledged().is_empty(), "0 is held");
}

fn at_second(n: &u64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_secs(*n)
}

#[test]
fn an_open_window_keeps_its_own_records_only() {
    let tumbling = TumblingWindow::new(Duration::from_secs(2));
    let tumbling = tumbling.with_event_time(at_second, Duration::ZERO);
    only_the_open_ones_are_kept(|records| records.through(&tumbling), &[0, 1, 2, 3]);
    // A session of the keys 0 and 1 that continues, and one of 2 that has ended.
    let sessions = SessionWindow::new(|n: &u64| n / 2).with_gap(Duration::from_millis(500));
    let sessions = sessions.with_event_time(at_second, Duration::ZERO);
    only_the_open_ones_are_kept(|records| records.through(&sessions), &[0, 1, 2, 3]);
}

#[test]
fn in_an_unordered_pool_a_slow_call_delays_its_marks() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(9);
    let calls = AsyncMapper::new(|cancel: &streamz::CancelToken, n: &u64| {
        if *n == 3 {
            cancel.sleep(ms(1_000))?;
        }
        Ok::<_, streamz::BoxError>(*n)
    });
    let mut out = deliver(&pipeline, &store, open_end(8)).through(&calls.with_workers(2).with_ordered(false));
    take_all(&clock, &mut out);
    // Those before it, except for any whose mark came out when the slow call had been taken.
    assert!(store.acknowledged().iter().all(|n| *n < 3), "{:?}", store.acknowledged());
    clock.advance(ms(1_000));
    take_all(&clock, &mut out);
    assert_eq!(store.acknowledged(), (0..9).collect::<Vec<_>>());
}

/// The marks behind the slow call wait, and are no part of what the window limits.
#[test]
fn an_unordered_pool_continues_beside_a_slow_call() {
    fn call(cancel: &CancelToken, n: &u64) -> Result<u64, BoxError> {
        if *n == 3 {
            cancel.sleep(ms(1_000))?;
        }
        Ok(*n)
    }
    for keyed in [false, true] {
        let (clock, pipeline) = on_a_clock();
        let store = Store::with(301);
        let records = deliver(&pipeline, &store, open_end(300));
        let mut out = if keyed {
            let calls = AsyncMapper::keyed(|n: &u64| *n, call).with_ordered(false);
            records.through(&calls.with_workers(2).with_window(4))
        } else {
            let calls = AsyncMapper::new(call).with_ordered(false);
            records.through(&calls.with_workers(2).with_window(4))
        };
        let count = take_all(&clock, &mut out);
        // One call is in progress. Some of the three before it have been acknowledged, and each of them made room for another.
        let acknowledged = store.acknowledged();
        assert!(acknowledged.iter().all(|n| *n < 3), "{acknowledged:?}");
        assert_eq!(count, (299 + acknowledged.len()).min(300));
        clock.advance(ms(1_000));
        take_all(&clock, &mut out);
        assert_eq!(store.acknowledged(), (0..301).collect::<Vec<_>>());
    }
}

/// Keeps every second item until the end.
#[derive(Default)]
struct Hoarder {
    kept: Vec<u64>,
}

impl Operator for Hoarder {
    type In = u64;
    type Out = u64;

    fn item(&mut self, item: u64, out: &mut impl Emit<u64>) {
        if item.is_multiple_of(2) { self.kept.push(item) } else { out.emit(item) }
    }

    fn end(&mut self, out: &mut impl Emit<u64>) {
        self.kept.drain(..).for_each(|item| out.emit(item));
    }

    fn held(&self) -> u64 {
        self.kept.len() as u64
    }
}

#[test]
fn a_custom_operator_that_holds_items_holds_later_marks() {
    only_the_open_ones_are_kept(|records| records.through(&Custom::new("hoard", Hoarder::default)), &[]);
}

#[test]
fn records_sent_to_a_foreign_channel_are_not_acknowledged() {
    let pipeline = Pipeline::new("foreign");
    let store = Store::with(5);
    let receiver = deliver(&pipeline, &store, one_by_one()).into_receiver(10);
    assert_eq!(receiver.iter().count(), 5);
    drop(receiver);
    assert!(pipeline.join().is_complete());
    assert!(store.acknowledged().is_empty());
    assert_eq!(store.state().given_back.len(), 5);
}

#[test]
fn records_are_acknowledged_after_they_have_been_rewritten() {
    let (_clock, pipeline) = on_a_clock();
    let (from, to) = (Store::with(10), Store::default());
    to.state().write_errors = (0..2).map(|_| StoreError::transient("the file is locked")).collect();
    let batches = BatchConfig { max_size: 4, max_latency: ms(10) };
    let (records, token) = (deliver(&pipeline, &from, one_by_one()), pipeline.token());
    let outbox = to.clone();
    let (done, finished) = std::sync::mpsc::channel();
    pipeline.spawn("writer", move |_| done.send(records.deliver_to(outbox, batches)).unwrap());
    // Two pauses: 0.1 s each, because the first call had written something.
    token.sleep(ms(199)).unwrap();
    assert!(from.acknowledged().is_empty());
    token.sleep(ms(100)).unwrap();
    assert_eq!(finished.recv().unwrap().unwrap(), 10);
    assert!(pipeline.join().is_complete());
    assert_eq!(to.state().written, (0..10).collect::<Vec<_>>());
    assert_eq!(from.acknowledged(), (0..10).collect::<Vec<_>>());
}

#[test]
fn permanently_refused_records_are_not_acknowledged() {
    let pipeline = Pipeline::new("refuses");
    let (from, to) = (Store::with(10), Store::default());
    to.state().write_errors.push_back(StoreError::permanent("record 1 is too large"));
    let batches = BatchConfig { max_size: 4, max_latency: ms(10) };
    let error = deliver(&pipeline, &from, one_by_one()).deliver_to(to, batches).unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "record 1 is too large");
    pipeline.join();
    assert!(from.acknowledged().is_empty());
    assert!(!from.state().given_back.is_empty());
}

#[test]
fn a_refused_record_is_a_dead_letter_and_the_rest_is_written() {
    let (clock, pipeline) = on_a_clock();
    let (from, to) = (Store::with(10), Store::default());
    to.state().refuses = vec![1, 2, 4, 5, 6, 7];
    to.state().write_errors.push_back(StoreError::transient("the file is locked"));
    let batches = BatchConfig { max_size: 4, max_latency: ms(10) };
    let numbers = deliver(&pipeline, &from, one_by_one()).try_map(|n| if *n == 9 { Err("nine") } else { Ok(*n) });
    let (written, dead) = numbers.deliver_through(to.clone(), batches).dead_letters();
    let (letters, received) = std::sync::mpsc::channel();
    dead.spawn_for_each(move |letter| letters.send(letter.unwrap()).unwrap());
    let (counts, counted) = std::sync::mpsc::channel();
    written.spawn_for_each(move |count| counts.send(count.unwrap()).unwrap());
    clock.settle();
    clock.advance(ms(1_000));
    assert_eq!(counted.iter().collect::<Vec<_>>(), [2, 0, 1]);
    assert_eq!(to.state().written, [0, 3, 8]);
    let dead: Vec<(u64, String, String)> = received
        .iter()
        .map(|letter| {
            let stage = letter.error().stage().to_owned();
            let (item, error) = letter.into_item::<u64>().unwrap();
            (item, stage, std::error::Error::source(&error).unwrap().to_string())
        })
        .collect();
    let too_large = |n: u64| (n, "write".to_owned(), format!("record {n} is too large"));
    let mut expected: Vec<_> = [1, 2, 4, 5, 6, 7].map(too_large).into();
    expected.push((9, "map".to_owned(), "nine".to_owned()));
    let by_number = |it: &(u64, String, String)| it.0;
    let mut dead = dead;
    dead.sort_by_key(by_number);
    assert_eq!(dead, expected);
    assert!(pipeline.join().is_complete());
    assert_eq!(from.acknowledged(), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_refused_record_ends_a_sink_and_is_not_acknowledged() {
    let pipeline = Pipeline::new("strict");
    let (from, to) = (Store::with(10), Store::default());
    to.state().refuses = vec![1];
    let batches = BatchConfig { max_size: 4, max_latency: ms(10) };
    let error = deliver(&pipeline, &from, one_by_one()).deliver_to(to, batches).unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "record 1 is too large");
    pipeline.join();
    assert!(from.acknowledged().is_empty());
}

#[test]
fn a_permanent_store_failure_cancels_the_pipeline() {
    let (clock, pipeline) = on_a_clock();
    let (from, to) = (Store::with(10), Store::default());
    // In the first call, and after it has waited.
    to.state().write_errors = [StoreError::transient("locked"), StoreError::permanent("no permission")].into();
    let batches = BatchConfig { max_size: 4, max_latency: ms(10) };
    let written = deliver(&pipeline, &from, one_by_one()).deliver_through(to, batches);
    written.spawn_for_each(drop);
    clock.settle();
    clock.advance(ms(1_000));
    let Some(Cause::Because(reason)) = pipeline.cause() else { panic!("{:?}", pipeline.cause()) };
    assert_eq!(reason.to_string(), "no permission");
    let report = pipeline.join();
    assert!(report.faults.is_empty());
    assert!(from.acknowledged().is_empty());
    assert_eq!(report.stage("write").unwrap().steps[1].abandoned, 1);
}

#[test]
fn a_cancel_ends_the_wait_for_a_store_that_does_not_recover() {
    let (clock, pipeline) = on_a_clock();
    let (from, to) = (Store::with(10), Store::default());
    to.state().write_errors = (0..10).map(|_| StoreError::transient("locked")).collect();
    let batches = BatchConfig { max_size: 10, max_latency: ms(10) };
    let written = deliver(&pipeline, &from, open_end(9)).deliver_through(to, batches);
    written.spawn_for_each(drop);
    clock.settle();
    clock.advance(ms(500));
    pipeline.cancel();
    pipeline.join();
    assert!(from.acknowledged().is_empty());
    assert_eq!(from.state().given_back.len(), 9);
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let pipeline = Pipeline::new("numbers");
    for config in [
        DeliveryConfig { fetch: 0, ..DeliveryConfig::default() },
        DeliveryConfig { epoch: 0, ..DeliveryConfig::default() },
        DeliveryConfig { max_unacked: 0, ..DeliveryConfig::default() },
        DeliveryConfig { max_deliveries: Some(0), ..DeliveryConfig::default() },
    ] {
        let made = std::panic::catch_unwind(|| drop(Stream::deliver(&pipeline, Store::default(), config)));
        let message = *made.unwrap_err().downcast::<String>().unwrap_or_default();
        assert!(message.is_empty() || message.contains("must be at least 1"), "{message}");
    }
}

/// All but the last record are in flight, one in each epoch, and the output is not read.
fn kept_by_a_buffer(of: impl FnOnce(Stream<u64>) -> Stream<u64>) -> Vec<u64> {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(11);
    let mut out = of(deliver(&pipeline, &store, open_end(10)));
    clock.settle();
    assert_eq!(store.state().waiting.len(), 1, "it must not block");
    std::iter::from_fn(|| out.try_recv().ok()).map(Result::unwrap).take_while(|n| *n < 10).collect()
}

#[test]
fn marks_take_no_room_from_the_items_in_a_buffer() {
    assert_eq!(kept_by_a_buffer(|records| records.dropping_buffer(4)), [0, 1, 2, 3]);
    assert_eq!(kept_by_a_buffer(|records| records.sliding_buffer(4)), [6, 7, 8, 9]);
    assert_eq!(kept_by_a_buffer(|records| records.delay(Duration::ZERO).sliding_buffer(1)), [9]);
}

#[test]
fn marks_do_not_count_towards_the_limit_of_a_delay() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(11);
    let out = deliver(&pipeline, &store, open_end(10)).through(&Delay::new(ms(10)).with_max_items(4));
    clock.settle();
    assert_eq!(pipeline.report().stage("delay").unwrap().steps[0].received, 4);
    drop(out);
}

#[test]
fn marks_do_not_count_as_queued_in_a_report() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(11);
    let out = deliver(&pipeline, &store, open_end(10));
    clock.settle();
    assert_eq!(pipeline.report().stage("deliver").unwrap().outputs[0].queued, 10);
    let receiver = out.map(|n| n).into_receiver(2);
    clock.settle();
    let report = pipeline.report();
    let queued: Vec<usize> =
        report.stages.iter().flat_map(|stage| &stage.outputs).map(|output| output.queued).collect();
    assert!(queued.iter().sum::<usize>() <= 10, "{report}");
    drop(receiver);
}

#[test]
fn the_report_counts_acknowledged_and_returned_records() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(10);
    let mut records = deliver(&pipeline, &store, open_end(6));
    (0..4).for_each(|_| drop(records.recv()));
    clock.settle();
    pipeline.cancel();
    drop(records);
    let report = pipeline.join();
    let step = &report.stage("deliver-ack").unwrap().steps[0];
    let (acknowledged, given_back) = (store.acknowledged().len() as u64, store.state().given_back.len() as u64);
    assert_eq!((step.received, step.delivered, step.abandoned), (acknowledged + given_back, acknowledged, given_back));
    assert_eq!(acknowledged, 3);
}

#[test]
fn all_that_may_be_in_flight_does_not_wait_for_others() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(23);
    let config = DeliveryConfig { ack_interval: Duration::MAX, ..open_end(5) };
    let mut out = deliver(&pipeline, &store, config);
    let mut seen = 0;
    for _ in 0..5 {
        clock.settle();
        seen += std::iter::from_fn(|| out.try_recv().ok()).count();
    }
    assert_eq!(seen, 23);
}

/// The thread that feeds the receiver waits for room, and finds a mark for each record behind that.
#[test]
fn a_foreign_channel_passes_any_number_of_marks_in_a_row() {
    let pipeline = Pipeline::new("foreign");
    let store = Store::with(60_000);
    let few = deliver(&pipeline, &store, one_by_one()).filter(|n| *n < 2);
    let receiver = few.into_receiver(0);
    while pipeline.report().stage("filter").unwrap().steps[0].received < 60_000 {
        std::thread::yield_now();
    }
    assert_eq!(receiver.iter().count(), 2);
    drop(receiver);
    pipeline.join();
    assert_eq!(store.state().given_back.len(), 60_000);
}

#[test]
fn a_named_source_names_its_acknowledging_thread() {
    let pipeline = Pipeline::new("named");
    let records = Stream::deliver(&pipeline.named("orders"), Store::with(3), one_by_one()).unwrap();
    assert_eq!(records.count().unwrap(), 3);
    let report = pipeline.join();
    assert_eq!(report.stages.iter().map(|stage| &*stage.name).collect::<Vec<_>>(), ["orders", "orders-ack", "count"]);
}

#[test]
fn par_fold_acknowledges_a_record_after_all_before_it() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(4);
    let records = deliver(&pipeline, &store, one_by_one());
    let token = pipeline.token().clone();
    let folding = pipeline.spawn("fold", move |_| {
        let work = move |sum, n: u64| {
            let length = if n == 1 { ms(100) } else { ms(10) };
            token.sleep(length).map_or(sum, |()| sum + n)
        };
        records.par_fold(2, || 0, work, |a, b| a + b)
    });
    clock.advance(ms(9));
    assert!(store.acknowledged().is_empty(), "they are in work");
    clock.advance(ms(1));
    assert_eq!(store.acknowledged(), [0]);
    clock.advance(ms(89));
    assert_eq!(store.acknowledged(), [0], "the other worker has folded all others, but not the second");
    clock.advance(ms(1));
    assert_eq!(store.acknowledged(), [0, 1, 2, 3]);
    assert_eq!(folding.join().unwrap(), 6);
    assert!(pipeline.join().is_complete());
}

#[test]
fn par_fold_loses_the_records_that_it_has_not_folded() {
    let (clock, pipeline) = on_a_clock();
    let store = Store::with(6);
    let records = deliver(&pipeline, &store, one_by_one());
    let folding = pipeline.spawn("fold", move |_| {
        records.par_try_fold(2, || 0, |sum, n| if n == 3 { Err("three") } else { Ok(sum + n) }, |a, b| a + b)
    });
    clock.settle();
    assert!(folding.join().is_err());
    assert!(!pipeline.join().is_complete());
    assert!(store.acknowledged().iter().all(|record| *record < 3), "{:?}", store.acknowledged());
}
