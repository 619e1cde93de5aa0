//! `AsyncMapper::keyed`: one item of a key at a time, in order, whatever the schedule.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use fastrand::Rng;
use streamz::{AsyncMapper, CancelToken, ErrorKind, Pipeline, Retry, Stream, StreamError};

use crate::{ms, virtual_pipeline};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Event {
    key: u32,
    number: u32,
    /// How long its call takes: turns of the scheduler, or virtual milliseconds.
    work: u32,
}

/// Watches the calls: fails if two of one key overlap, or come in the wrong order.
#[derive(Default)]
struct Watch {
    keys: Mutex<HashMap<u32, (bool, Option<u32>)>>,
    begun: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    faults: Mutex<Vec<String>>,
}

impl Watch {
    fn call(&self, event: &Event, work: impl FnOnce()) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut keys = self.keys.lock().unwrap();
        let (busy, last) = keys.entry(event.key).or_default();
        if *busy || last.is_some_and(|last| last >= event.number) {
            self.faults.lock().unwrap().push(format!("{event:?} when busy {busy}, after {last:?}"));
        }
        (*busy, *last) = (true, Some(event.number));
        drop(keys);
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        work();
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        self.keys.lock().unwrap().get_mut(&event.key).unwrap().0 = false;
    }

    #[track_caller]
    fn check(&self, what: &str) {
        assert_eq!(*self.faults.lock().unwrap(), [""; 0], "{what}");
    }
}

/// Random events: few keys or many, some of them hot; quick or slow.
fn events(rng: &mut Rng, count: u32) -> Vec<Event> {
    let keys = rng.u32(1..30);
    let (hot, slow) = (rng.u32(0..100), rng.u32(1..6));
    (0..count)
        .map(|number| {
            let key = if rng.u32(0..100) < hot { 0 } else { rng.u32(0..keys) };
            Event { key, number, work: rng.u32(0..slow) }
        })
        .collect()
}

fn mapper(
    watch: &Arc<Watch>,
    slow: bool,
) -> AsyncMapper<Event, Event, String, impl Fn(&CancelToken, &Event) -> Result<Event, String> + use<>> {
    let watch = Arc::clone(watch);
    AsyncMapper::keyed(
        |event: &Event| event.key,
        move |cancel: &CancelToken, event: &Event| {
            watch.call(event, || {
                if slow {
                    cancel.sleep(ms(event.work.into())).unwrap();
                } else {
                    (0..event.work).for_each(|_| std::thread::yield_now());
                }
            });
            if event.number.is_multiple_of(7) { Err("a seventh".to_owned()) } else { Ok(*event) }
        },
    )
}

/// What came out, failed or not.
fn number(result: Result<Event, StreamError>) -> u32 {
    result.map_or_else(|error| error.take_item::<Event>().unwrap().number, |event| event.number)
}

#[test]
fn items_of_a_key_run_in_order_under_any_schedule() {
    for seed in 0..150 {
        let rng = &mut Rng::with_seed(seed);
        let count = if seed.is_multiple_of(10) { 3_000 } else { rng.u32(1..300) };
        let (events, workers, ordered) = (events(rng, count), rng.usize(1..6), rng.bool());
        let window = workers + [0, 1, 10, 1_000][rng.usize(..4)];
        let what = format!("seed {seed}, {workers} workers, window {window}, ordered {ordered}");
        let watch = Arc::<Watch>::default();
        let mapper = mapper(&watch, false).with_workers(workers).with_window(window).with_ordered(ordered);
        let pipeline = Pipeline::builder("keyed").capacity(rng.usize(0..5)).build();
        let results = Stream::from_iter(&pipeline, events.clone()).through(&mapper.with_capacity(rng.usize(0..9)));
        let mut numbers: Vec<u32> = results.into_iter().map(number).collect();
        if !ordered {
            numbers.sort_unstable();
        }
        assert!(numbers.into_iter().eq(0..count), "{what}");
        watch.check(&what);
        assert_eq!(watch.begun.load(Ordering::SeqCst), events.len(), "{what}");
        let report = pipeline.join();
        assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{what}: {report}");
    }
}

/// How long the calls take at most, in any order, if no worker waits while an item may start: at each moment either all
/// workers are busy, or one works on the key with the most to do (Graham's bound).
fn longest_time(events: &[Event], workers: usize) -> u64 {
    let mut keys: BTreeMap<u32, u64> = BTreeMap::new();
    events.iter().for_each(|event| *keys.entry(event.key).or_default() += u64::from(event.work));
    let (all, chain) = (keys.values().sum::<u64>(), keys.values().max().copied().unwrap_or(0));
    let workers = u64::try_from(workers).unwrap();
    (all + (workers - 1) * chain) / workers
}

#[test]
fn no_worker_waits_while_there_is_an_item_whose_key_is_free() {
    for seed in 0..100 {
        let rng = &mut Rng::with_seed(seed);
        let (events, workers) = (events(rng, 60), rng.usize(1..8));
        let (clock, pipeline) = virtual_pipeline();
        let watch = Arc::<Watch>::default();
        let mapper = mapper(&watch, true).with_workers(workers).with_window(100);
        let results = Stream::from_iter(&pipeline, events.clone()).through(&mapper);
        clock.advance(ms(longest_time(&events, workers)));
        assert_eq!(pipeline.threads(), 0, "seed {seed}, {workers} workers");
        assert!(results.into_iter().map(number).eq(0..60));
        watch.check("virtual time");
    }
}

#[test]
fn different_keys_run_in_parallel_and_equal_ones_in_turn() {
    for (keys, time) in [(10, 10), (5, 20), (1, 100)] {
        let (clock, pipeline) = virtual_pipeline();
        let watch = Arc::<Watch>::default();
        let events = (0..10).map(move |number| Event { key: number % keys, number, work: 10 });
        let results = Stream::from_iter(&pipeline, events).through(&mapper(&watch, true).with_workers(10));
        clock.advance(ms(time - 1));
        assert_ne!(pipeline.threads(), 0);
        clock.advance(ms(1));
        assert_eq!(pipeline.threads(), 0);
        assert_eq!(watch.most_at_once.load(Ordering::SeqCst), usize::try_from(keys).unwrap());
        assert_eq!(results.into_iter().count(), 10);
    }
}

#[test]
fn a_hot_key_keeps_no_other_from_its_turn_within_the_window() {
    let (clock, pipeline) = virtual_pipeline();
    let watch = Arc::<Watch>::default();
    // Nine of ten items are of the hot key, whose calls never return.
    let events = (0..).map(|number| match number % 10 {
        9 => Event { key: number, number, work: 1 },
        _ => Event { key: 0, number, work: 1_000_000 },
    });
    let results = Stream::from_iter(&pipeline, events)
        .through(&mapper(&watch, true).with_workers(2).with_window(100).with_ordered(false));
    clock.advance(ms(1_000));
    // One of the hot key, and all of the others in reach: with each that ends the window moves on by one.
    let others = watch.begun.load(Ordering::SeqCst) - 1;
    assert_eq!(others, 11, "the window is full of the hot key when 11 others have passed: 110 items, 11 of them out");
    drop(results);
    pipeline.abort();
}

#[test]
fn two_hot_keys_and_two_workers_leave_the_rest_its_turn() {
    let (clock, pipeline) = virtual_pipeline();
    let watch = Arc::<Watch>::default();
    // Of each hundred items one is of another key.
    let events = (0..1_000).map(|number| match number % 100 {
        50 => Event { key: number, number, work: 1 },
        _ => Event { key: number % 2, number, work: 1 },
    });
    let mapper = mapper(&watch, true).with_workers(2).with_ordered(false);
    let mut results = Stream::from_iter(&pipeline, events).through(&mapper);
    // All items take 1 ms, two at a time: no item is later than its place by more than a few.
    let mut seen = 0;
    for _ in 0..510 {
        clock.advance(ms(1));
        while let Ok(result) = results.try_recv() {
            assert!(number(result).abs_diff(seen) <= 10);
            seen += 1;
        }
    }
    assert_eq!(seen, 1_000);
    pipeline.join();
}

#[test]
fn a_retry_around_it_holds_up_its_own_key_only() {
    let (clock, pipeline) = virtual_pipeline();
    let order = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&order);
    let calls = AsyncMapper::keyed_by_ref(
        |item: &(String, u32)| item.0.as_str(),
        move |_: &CancelToken, item: &(String, u32)| {
            let mut order = tell.lock().unwrap();
            order.push(item.1);
            if item.1 == 0 && order.len() < 4 { Err("not yet") } else { Ok(item.1) }
        },
    );
    let items = [("a", 0), ("a", 1), ("b", 2), ("b", 3)].map(|(key, number)| (key.to_owned(), number));
    let retry = Retry::new(calls.with_workers(2)).with_jitter(false);
    let results = Stream::from_iter(&pipeline, items).through(&retry);
    clock.advance(ms(99));
    let mut begun = order.lock().unwrap().clone();
    begun.sort_unstable();
    assert_eq!(begun, [0, 2, 3]);
    clock.advance(ms(1));
    assert_eq!(order.lock().unwrap()[3..], [0, 1]);
    assert_eq!(results.collect::<Vec<_>>().unwrap(), [0, 1, 2, 3]);
    pipeline.join();
}

#[test]
fn a_key_that_cannot_be_found_fails_its_item_alone() {
    let pipeline = Pipeline::new("keyed");
    let key = |number: &u32| {
        assert_ne!(*number, 3, "no key for");
        number % 2
    };
    let mapper = AsyncMapper::keyed(key, |_: &CancelToken, number: &u32| streamz::ok(*number)).with_workers(3);
    let results: Vec<_> = Stream::from_iter(&pipeline, 0..6).through(&mapper).into_iter().collect();
    for (number, result) in (0..).zip(&results) {
        match result {
            Ok(seen) => assert_eq!(*seen, number),
            Err(error) => {
                assert_eq!((number, error.kind(), error.take_item::<u32>()), (3, ErrorKind::Panicked, Some(3)));
            }
        }
    }
    let report = pipeline.join();
    let step = &report.stage("async_map").unwrap().steps[0];
    assert_eq!((step.received, step.delivered, step.failed), (6, 5, 1));
}

#[test]
fn items_waiting_for_their_key_at_a_stop_are_abandoned() {
    let (clock, pipeline) = virtual_pipeline();
    let watch = Arc::<Watch>::default();
    let events = (0..).map(|number| Event { key: 0, number, work: 10 });
    let results = Stream::from_iter(&pipeline, events).through(&mapper(&watch, true).with_workers(3).with_window(20));
    clock.settle();
    let report = pipeline.abort();
    let step = &report.stage("async_map").unwrap().steps[0];
    assert_eq!((step.received, step.abandoned), (20, 20));
    assert_eq!(watch.begun.load(Ordering::SeqCst), 1);
    drop(results);
}

/// Waits for what must come; a hang would otherwise show as one.
fn soon<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(Duration::from_secs(60)).expect("what must come, comes")
}

#[test]
fn items_delayed_by_a_slow_key_start_on_all_workers_at_once() {
    for ended in [false, true] {
        // First, so that it goes last: a failure opens the gates before it waits for the workers.
        let pipeline = Pipeline::new("keyed");
        let (asked, asks) = unbounded();
        let (open, gate) = bounded::<()>(0);
        let (began, begun) = unbounded();
        let (release, held) = bounded::<()>(0);
        let key = move |number: &u32| {
            asked.send(()).unwrap();
            if *number == 0 {
                let _ = gate.recv();
            }
            *number
        };
        let call = move |_: &CancelToken, number: &u32| {
            began.send(()).unwrap();
            let _ = held.recv();
            streamz::ok(*number)
        };
        let (input, stream) = Stream::channel(&pipeline, 8);
        let results = stream.through(&AsyncMapper::keyed(key, call).with_workers(4));
        (0..4).for_each(|number| input.send(number).unwrap());
        let input = (!ended).then_some(input);
        (0..4).for_each(|_| soon(&asks));
        // The other workers have nothing to do now, and had better wait.
        (0..1_000).for_each(|_| std::thread::yield_now());
        assert!(begun.is_empty());
        drop(open);
        (0..4).for_each(|_| soon(&begun));
        drop((release, input));
        assert_eq!(results.collect::<Vec<_>>().unwrap(), [0, 1, 2, 3]);
        pipeline.join();
    }
}

#[test]
fn eligible_items_start_before_later_ones() {
    let pipeline = Pipeline::new("keyed");
    let (asked, asks) = unbounded();
    let (open, gate) = bounded::<()>(0);
    let (began, begun) = unbounded();
    let (release, held) = bounded::<()>(0);
    let key = move |number: &u32| {
        asked.send(*number).unwrap();
        if *number == 1 {
            let _ = gate.recv();
        }
        *number
    };
    let call = move |_: &CancelToken, number: &u32| {
        began.send(*number).unwrap();
        if *number < 3 {
            let _ = held.recv();
        }
        streamz::ok(())
    };
    let (input, stream) = Stream::channel(&pipeline, 8);
    let results = stream.through(&AsyncMapper::keyed(key, call).with_workers(3).with_ordered(false));
    (0..4).for_each(|number| input.send(number).unwrap());
    assert_eq!(soon(&begun), 0);
    (0..4).for_each(|_| assert!(soon(&asks) < 4));
    // Two more calls begin, and three workers are busy; 3 is in the slot of one of them.
    drop(open);
    let mut two = [soon(&begun), soon(&begun)];
    two.sort_unstable();
    assert_eq!(two, [1, 2]);
    input.send(4).unwrap();
    release.send(()).unwrap();
    assert_eq!((soon(&begun), soon(&begun)), (3, 4));
    drop((release, input));
    assert_eq!(results.count().unwrap(), 5);
    pipeline.join();
}

/// Four workers, of which two are in slow calls and two at rest. One of the slow ones was at rest too, as the one that the
/// next item would have woken, until it took over what another had found.
#[test]
fn a_worker_that_takes_over_leaves_another_on_watch() {
    let (clock, pipeline) = virtual_pipeline();
    let (begun, begins) = unbounded();
    let token = pipeline.token();
    let key = move |number: &u32| {
        if *number == 0 {
            let _ = token.sleep(ms(1));
        }
        *number
    };
    let call = move |cancel: &CancelToken, number: &u32| {
        begun.send(*number).unwrap();
        cancel.sleep(ms(1_000)).map(|()| *number)
    };
    let (input, stream) = Stream::channel(&pipeline, 8);
    let results = stream.through(&AsyncMapper::keyed(key, call).with_workers(4).with_ordered(false));
    clock.settle();
    for number in [0, 1] {
        input.send(number).unwrap(); // 1 waits until 0 has found its lane
        clock.settle();
    }
    clock.advance(ms(1));
    let mut slow = [begins.recv().unwrap(), begins.recv().unwrap()];
    slow.sort_unstable();
    assert_eq!(slow, [0, 1]);
    for number in [2, 3] {
        input.send(number).unwrap();
        clock.settle();
        assert_eq!(begins.try_recv(), Ok(number));
    }
    drop(input);
    clock.advance(ms(1_000));
    assert_eq!(results.count().unwrap(), 4);
    pipeline.join();
}

#[test]
fn workers_that_wait_for_the_last_key_leave_when_it_is_found() {
    for last_fails in [false, true] {
        let (clock, pipeline) = virtual_pipeline();
        let token = pipeline.token();
        let key = move |number: &u32| {
            let _ = token.sleep(ms(1));
            assert!(!last_fails, "no key for {number}");
            *number
        };
        let calls = AsyncMapper::keyed(key, |_: &CancelToken, number: &u32| streamz::ok(*number));
        let results = Stream::from_iter(&pipeline, [7]).through(&calls.with_workers(3));
        clock.settle();
        assert_eq!(pipeline.threads(), 3);
        clock.advance(ms(1));
        assert_eq!(pipeline.threads(), 0);
        assert_eq!(results.into_iter().count(), 1);
    }
}

/// What the workers of a pool are at, and what has been sent to it.
#[derive(Default)]
struct Progress {
    sent: Vec<Event>,
    /// The numbers of the items whose keys have been requested; whose keys are known; whose calls have started.
    asked: BTreeSet<u32>,
    found: BTreeSet<u32>,
    begun: BTreeSet<u32>,
    /// Keys whose calls are in progress.
    calling: BTreeSet<u32>,
}

impl Progress {
    fn busy(&self) -> usize {
        self.asked.len() - self.found.len() + self.calling.len()
    }

    /// What an idle worker could do when that many results have come out.
    fn neglected(&self, passed: usize, window: usize) -> Option<String> {
        let in_window = self.sent.iter().take(passed + window);
        let not_taken = in_window.clone().find(|event| !self.asked.contains(&event.number));
        // What comes behind an item whose key has not been found waits for it.
        let sorted = in_window.take_while(|event| self.found.contains(&event.number));
        let mut waiting = sorted.filter(|event| !self.begun.contains(&event.number));
        let not_begun = waiting.find(|event| !self.calling.contains(&event.key));
        not_taken
            .map(|event| format!("{event:?} is not taken"))
            .or_else(|| not_begun.map(|event| format!("{event:?} is not begun")))
    }
}

#[test]
fn a_worker_rests_only_if_nothing_may_be_taken_or_started() {
    for seed in 0..300 {
        let rng = &mut Rng::with_seed(seed);
        let (workers, ordered) = (rng.usize(1..7), rng.bool());
        let window = workers + [0, 1, 4, 100][rng.usize(..4)];
        let (slowest_key, longest_call) = (rng.u64(1..4), rng.u32(1..30));
        let what = format!("seed {seed}, {workers} workers, window {window}, ordered {ordered}");
        let mut events = events(rng, 60);
        events.iter_mut().for_each(|event| event.work = rng.u32(0..longest_call));
        let progress = Arc::<Mutex<Progress>>::default();
        let (clock, pipeline) = virtual_pipeline();
        let (token, of_keys, of_calls) = (pipeline.token(), Arc::clone(&progress), Arc::clone(&progress));
        let key = move |event: &Event| {
            of_keys.lock().unwrap().asked.insert(event.number);
            let _ = token.sleep(ms(u64::from(event.number) % slowest_key));
            of_keys.lock().unwrap().found.insert(event.number);
            event.key
        };
        let call = move |cancel: &CancelToken, event: &Event| {
            let mut progress = of_calls.lock().unwrap();
            progress.begun.insert(event.number);
            assert!(progress.calling.insert(event.key));
            drop(progress);
            let _ = cancel.sleep(ms(event.work.into()));
            assert!(of_calls.lock().unwrap().calling.remove(&event.key));
            streamz::ok(*event)
        };
        let mapper = AsyncMapper::keyed(key, call).with_workers(workers).with_window(window).with_ordered(ordered);
        let (input, stream) = Stream::channel(&pipeline, 100);
        let mut results = stream.through(&mapper.with_capacity(100));
        let (mut passed, mut to_send) = (0, events.into_iter());
        while passed < 60 {
            for event in to_send.by_ref().take(rng.usize(0..4)) {
                progress.lock().unwrap().sent.push(event);
                input.send(event).unwrap();
                if rng.bool() {
                    clock.settle();
                }
            }
            clock.advance(ms(rng.u64(0..2)));
            while let Ok(result) = results.try_recv() {
                result.unwrap();
                passed += 1;
            }
            let progress = progress.lock().unwrap();
            if progress.busy() < workers {
                assert_eq!(progress.neglected(passed, window), None, "{what}, {passed} out");
            }
        }
        drop(input);
        pipeline.join();
    }
}
