//! Stages with many keys compute those of the next items in advance: see `operators/prefetch.rs`. Debug builds do so from
//! the third key on.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use fastrand::Rng;
use streamz::testing::Harness;
use streamz::{
    BatchConfig, Batcher, Dedupe, ErrorKind, PanicMessage, Pipeline, Scan, SessionWindow, SlidingWindow, Stage, Stream,
    StreamError, TumblingWindow,
};

use crate::ms;

/// The most keys that are computed in advance.
const AHEAD: u32 = 16;

#[test]
fn each_key_is_computed_once_in_order_and_a_few_items_ahead() {
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
    let pipeline = Pipeline::new("test");
    let (sender, stream) = Stream::channel(&pipeline, 1_000);
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
    assert_eq!(leads.iter().max(), Some(&AHEAD));
    // The last of each group, and of each chunk of the input, and the first items of all are not ahead of any other.
    assert!(leads.iter().filter(|lead| **lead > 1).count() > 250, "{leads:?}");
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
            let all = [Bomb::Key, Bomb::Hash, Bomb::Equal, Bomb::Drop, Bomb::Time];
            (rng.u32(0..10) < bombs).then(|| all[rng.usize(0..all.len())])
        };
        let inputs: Vec<_> = (0..rng.u64(50..400))
            .map(|number| {
                let key = rng.u32(0..keys);
                if rng.u32(0..20) == 0 { Err(number) } else { Ok(Item { key, number, bomb: bomb(rng) }) }
            })
            .collect();
        let time = |item: &Item| {
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
                *sum += item.number;
                (item.key, *sum)
            },
        );
        agrees(&what("scan"), &scan.with_key(key, max_keys), &inputs);
        let batches = BatchConfig { max_size: 3, max_latency: ms(0) };
        agrees(&what("batcher"), &Batcher::new(batches).with_key(key, max_keys), &inputs);
        agrees(&what("dedupe"), &Dedupe::new(key).with_max_keys(max_keys), &inputs);
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
