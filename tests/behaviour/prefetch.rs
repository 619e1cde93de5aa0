//! Stages with many keys compute those of the next items in advance: see `operators/prefetch.rs`. Debug builds do so from
//! the third key on.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use fastrand::Rng;
use streamz::testing::Harness;
use streamz::{
    BatchConfig, Batcher, Dedupe, ErrorKind, Mapper, PanicMessage, Pipeline, Processor, Scan, SessionWindow,
    SlidingWindow, Stage, Stream, StreamError, TumblingWindow,
};

use crate::ms;

/// The most keys that are computed in advance.
const AHEAD: u32 = 16;

/// For each of 300 items at hand, how many keys have been computed when it is processed, itself included.
fn leads(pipeline: &Pipeline) -> Vec<u32> {
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Call {
        Key(u32),
        Fold(u32),
    }
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (of_key, of_fold) = (Arc::clone(&calls), Arc::clone(&calls));
    let scan = Scan::new(|| (), move |(), n| of_fold.lock().unwrap().push(Call::Fold(n))).with_key(
        move |n: &u32| {
            of_key.lock().unwrap().push(Call::Key(*n));
            *n
        },
        1_000,
    );
    let (sender, stream) = Stream::channel(pipeline, 1_000);
    (0..300).for_each(|n| sender.send(n).unwrap());
    drop(sender);
    assert_eq!(stream.through(&scan).count().unwrap(), 300);
    let calls = calls.lock().unwrap();
    let of = |wanted: fn(u32) -> Call| (0..300).map(wanted).collect::<Vec<_>>();
    let (keys, folds): (Vec<Call>, Vec<_>) = calls.iter().partition(|call| matches!(call, Call::Key(_)));
    assert_eq!((keys, folds), (of(Call::Key), of(Call::Fold)));
    let (mut known, mut leads) = (0, Vec::new());
    for call in &*calls {
        match *call {
            Call::Key(n) => known = n + 1,
            Call::Fold(n) => leads.push(known - n),
        }
    }
    leads
}

#[test]
fn each_key_is_computed_once_in_order_and_a_few_items_ahead() {
    let leads = leads(&Pipeline::new("test"));
    assert_eq!(leads.iter().max(), Some(&AHEAD));
    // The last of each group, and of each chunk of the input, and the first items of all are not ahead of any other.
    assert!(leads.iter().filter(|lead| **lead > 1).count() > 250, "{leads:?}");
}

#[cfg(feature = "latency")]
#[test]
fn an_item_whose_time_is_measured_pays_for_its_own_key() {
    let pipeline = Pipeline::builder("test").latencies(streamz::Latencies::all()).build();
    assert_eq!(leads(&pipeline), [1; 300]);
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Item {
    key: u32,
    number: u64,
    bomb: Option<Bomb>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bomb {
    Key,
    Hash,
    Equal,
    Drop,
    /// Not a panic: a time out of range.
    Time,
    Fold,
    Weight,
    /// A panic of the function for the time, whose payload panics when it is dropped, and so does that of that panic.
    Nested,
}

/// A payload that panics with another one when it is dropped.
struct Nested(u32);

impl Drop for Nested {
    fn drop(&mut self) {
        if let Some(rest) = self.0.checked_sub(1) {
            panic_any(Self(rest));
        }
    }
}

/// A key that panics on request.
#[derive(Debug, Clone)]
struct Key(Item);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert_ne!(self.0.bomb, Some(Bomb::Hash), "hash");
        self.0.key.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        assert!(![self.0.bomb, other.0.bomb].contains(&Some(Bomb::Equal)), "equal");
        self.0.key == other.0.key
    }
}

impl Eq for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        assert_ne!(self.0.bomb, Some(Bomb::Drop), "drop");
    }
}

fn key(item: &Item) -> Key {
    assert_ne!(item.bomb, Some(Bomb::Key), "key");
    if item.bomb == Some(Bomb::Nested) && item.number.is_multiple_of(2) {
        panic_any(Nested(2));
    }
    Key(*item)
}

/// What went wrong with which item, without times.
fn text(error: &StreamError) -> String {
    let panicked = error.downcast_ref::<PanicMessage>().map(|message| message.message().to_owned());
    format!("{:?} {panicked:?} {:?}", error.kind(), error.take_item::<Item>())
}

/// Compares a stage whose input is at hand with a harness, which gives it one item at a time.
#[track_caller]
fn agrees<S: Stage<In = Item, Out: Debug>>(what: &str, stage: &S, inputs: &[Result<Item, u64>]) {
    let error = |number: &u64| StreamError::new(ErrorKind::Failed, format!("input {number}"));
    let mut harness = Harness::new(stage).with_capacity(usize::MAX);
    let pipeline = Pipeline::new("test");
    let (sender, stream) = Stream::channel(&pipeline, inputs.len());
    for input in inputs {
        match input {
            Ok(item) => {
                harness.item(*item);
                sender.send(*item).unwrap();
            }
            Err(number) => {
                harness.error(error(number));
                sender.send_error(error(number)).unwrap();
            }
        }
    }
    harness.end();
    drop(sender);
    let shown = |output: Result<S::Out, StreamError>| match output {
        Ok(output) => {
            let text = format!("{output:?}");
            // The key of a window is now the test's.
            _ = catch_unwind(AssertUnwindSafe(|| drop(output)));
            text
        }
        Err(error) => text(&error),
    };
    let expected: Vec<String> = harness.outputs().into_iter().map(shown).collect();
    let found: Vec<String> = stream.through(stage).into_iter().map(shown).collect();
    assert_eq!(found, expected, "{what}");
    let report = pipeline.join();
    let (found, expected) = (&report.stages[1].steps[0], &harness.steps()[0]);
    assert_eq!(
        (found.received, found.failed, found.delivered, found.filtered, found.evicted_keys),
        (expected.received, expected.failed, expected.delivered, expected.filtered, expected.evicted_keys),
        "{what}"
    );
}

#[test]
fn an_item_fails_or_succeeds_alone_whatever_comes_next() {
    for seed in 0..60 {
        let rng = &mut Rng::with_seed(seed);
        let (keys, bombs) = (rng.u32(4..60), rng.u32(0..4));
        let bomb = |rng: &mut Rng| {
            use Bomb::{Drop, Equal, Fold, Hash, Key, Nested, Time, Weight};
            let all = [Key, Hash, Equal, Drop, Time, Fold, Weight, Nested];
            (rng.u32(0..10) < bombs).then(|| all[rng.usize(0..all.len())])
        };
        let inputs: Vec<_> = (0..rng.u64(50..400))
            .map(|number| {
                let key = rng.u32(0..keys);
                if rng.u32(0..20) == 0 { Err(number) } else { Ok(Item { key, number, bomb: bomb(rng) }) }
            })
            .collect();
        let time = |item: &Item| {
            if item.bomb == Some(Bomb::Nested) {
                panic_any(Nested(2));
            }
            let millis = if item.bomb == Some(Bomb::Time) { u64::MAX / 4 } else { item.number };
            SystemTime::UNIX_EPOCH + ms(millis)
        };
        let max_keys = rng.usize(3..40);
        let what = |name| format!("{name}, seed {seed}");
        let tumbling = TumblingWindow::new(ms(20)).with_event_time(time, ms(5)).with_key(key).with_max_keys(max_keys);
        agrees(&what("tumbling"), &tumbling, &inputs);
        let sliding = SlidingWindow::new(ms(40)).with_slide(ms(15)).with_event_time(time, ms(5)).with_key(key);
        agrees(&what("sliding"), &sliding, &inputs);
        agrees(&what("session"), &SessionWindow::new(key).with_gap(ms(30)).with_event_time(time, ms(5)), &inputs);
        let scan = Scan::new(
            || 0,
            |sum: &mut u64, item: Item| {
                assert_ne!(item.bomb, Some(Bomb::Fold), "fold");
                *sum += item.number;
                (item.key, *sum)
            },
        );
        agrees(&what("scan"), &scan.with_key(key, max_keys), &inputs);
        let batches = || Batcher::new(BatchConfig { max_size: 3, max_latency: ms(0) }).with_key(key, max_keys);
        let weigh = |item: &Item| {
            assert_ne!(item.bomb, Some(Bomb::Weight), "weight");
            1
        };
        agrees(&what("batcher"), &batches().with_weight(weigh, 2), &inputs);
        let dedupe = || Dedupe::new(key).with_max_keys(max_keys);
        agrees(&what("dedupe"), &dedupe(), &inputs);
        let number = |item: Item| {
            assert_ne!(item.bomb, Some(Bomb::Fold), "map");
            item.number
        };
        agrees(&what("plain steps"), &dedupe().fuse(Mapper::new(number)), &inputs);
        agrees(&what("steps"), &dedupe().fuse(batches()), &inputs);
    }
}

#[test]
fn keys_that_nothing_needs_any_more_are_dropped_one_by_one() {
    let scan = Scan::new(|| (), |(), item: Item| item.number).with_key(key, 1_000).with_capacity(0);
    let pipeline = Pipeline::new("test");
    let (sender, stream) = Stream::channel(&pipeline, 100);
    for number in 0..100 {
        let bomb = (number > 20).then_some(Bomb::Drop);
        sender.send(Item { key: number as u32, number, bomb }).unwrap();
    }
    // The stage ends while keys of items that it has not received are left, and their drop panics.
    let first: Vec<u64> = stream.through(&scan).take(20).collect::<Vec<_>>().unwrap();
    assert_eq!(first, (0..20).collect::<Vec<_>>());
    drop(sender);
    let report = pipeline.join();
    assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()), "{report}");
}
