//! Keys whose `Hash`, `Eq`, `Clone` or `Drop` panics now and then: what they are in fails, and nothing is lost.

use std::any::Any;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use streamz::{
    Aggregate, AggregateWindow, AsyncMapper, BatchConfig, Batcher, CancelToken, Dedupe, Keyed, Mapper, Partition,
    Pipeline, Processor, Scan, SessionWindow, SlidingWindow, Stream, StreamError, TumblingWindow, Window,
};

use crate::ms;

use crate::common::{books, faults};

const ITEMS: u32 = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Hash,
    Eq,
    Clone,
    Drop,
}

/// Which calls panic.
#[derive(Debug, Clone, Copy)]
enum When {
    Once(u64),
    Every(u64),
}

/// Counts the calls of one piece of code, and panics in some.
struct Trap {
    code: Code,
    when: When,
    calls: AtomicU64,
}

impl Trap {
    fn step_on(&self, code: Code) {
        // A panic while another one unwinds ends the process, whatever the library does.
        if code != self.code || std::thread::panicking() {
            return;
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let panics = match self.when {
            When::Once(at) => call == at,
            When::Every(period) => call.is_multiple_of(period),
        };
        if panics {
            faults::panic_on_purpose();
        }
    }
}

struct Key {
    id: u32,
    trap: Arc<Trap>,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.trap.step_on(Code::Hash);
        // So that some hashes are alike.
        (self.id / 2).hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.trap.step_on(Code::Eq);
        self.id == other.id
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        self.trap.step_on(Code::Clone);
        Self { id: self.id, trap: Arc::clone(&self.trap) }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.trap.step_on(Code::Drop);
    }
}

/// When, whose, and a number to tell it by.
type Item = (u64, u32, u32);

fn time(item: &Item) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(item.0)
}

/// What can be found in an output: items.
trait Contents: Send + 'static {
    fn numbers(&self) -> Vec<u32>;
}

impl Contents for Item {
    fn numbers(&self) -> Vec<u32> {
        vec![self.2]
    }
}

impl Contents for Vec<Item> {
    fn numbers(&self) -> Vec<u32> {
        self.iter().map(|item| item.2).collect()
    }
}

impl Contents for Window<Item> {
    fn numbers(&self) -> Vec<u32> {
        self.items.numbers()
    }
}

impl Contents for AggregateWindow<Vec<Item>> {
    fn numbers(&self) -> Vec<u32> {
        self.result.numbers()
    }
}

impl<W: Contents> Contents for Keyed<Key, W> {
    fn numbers(&self) -> Vec<u32> {
        self.window.numbers()
    }
}

fn carried(error: &StreamError) -> Vec<u32> {
    fn of<C: Contents>(error: &StreamError) -> Option<Vec<u32>> {
        error.take_item::<C>().map(|item| item.numbers())
    }
    let found = of::<Item>(error).or_else(|| of::<Window<Item>>(error));
    found.or_else(|| of::<AggregateWindow<Vec<Item>>>(error)).unwrap_or_default()
}

struct Case {
    what: String,
    trap: Arc<Trap>,
    items: Vec<Item>,
}

impl Case {
    /// `copies` is how often each item comes out.
    fn check<P: Processor<In = Item, Out: Contents>>(&self, name: &str, copies: usize, processor: &P) {
        let what = format!("{name}, {}", self.what);
        let pipeline = Pipeline::new("keys");
        let mut seen = BTreeMap::<u32, usize>::new();
        let output = Stream::from_iter(&pipeline, self.items.clone()).through(processor);
        output
            .for_each(|output| {
                let numbers = output.as_ref().map_or_else(carried, Contents::numbers);
                numbers.into_iter().for_each(|n| *seen.entry(n).or_default() += 1);
                // The keys that come out are ours to drop.
                let _: Result<(), Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(|| drop(output)));
            })
            .unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let report = pipeline.join();
        books::check_steps(&report).unwrap_or_else(|fault| panic!("{what}: {fault}"));
        assert!(report.is_complete(), "{what}: {report}");
        let steps = || report.stages.iter().flat_map(|stage| &stage.steps);
        assert!(steps().all(|step| step.abandoned == 0 && step.held() == 0), "{what}: {report}");
        let filtered: u64 = steps().map(|step| step.filtered).sum();
        assert_eq!(seen.len() as u64 + filtered, u64::from(ITEMS), "{what}: lost, {report}");
        assert!(seen.values().all(|times| *times <= copies), "{what}: {seen:?}");
        let most_failed = match self.trap.when {
            When::Once(_) => self.items.len() as u64 / 10,
            When::Every(_) => u64::from(ITEMS),
        };
        let failed: u64 = steps().map(|step| step.failed).sum();
        assert!(failed <= most_failed, "{what}: {failed} failed, {report}");
    }
}

fn for_all_traps(check: impl Fn(&Case, &dyn Fn() -> Box<dyn Fn(&Item) -> Key + Send + Sync>)) {
    faults::silence();
    for code in [Code::Hash, Code::Eq, Code::Clone, Code::Drop] {
        for when in [When::Once(1), When::Once(40), When::Every(1), When::Every(2), When::Every(3), When::Every(7)] {
            for seed in 0..3 {
                let rng = &mut Rng::with_seed(seed);
                let mut now = 1_000;
                let items = (0..ITEMS).map(|n| {
                    now += rng.u64(..3);
                    (now - rng.u64(..20), rng.u32(..12), n)
                });
                let items = items.collect();
                let trap = Arc::new(Trap { code, when, calls: AtomicU64::new(0) });
                let case = Case { what: format!("{code:?} {when:?}, seed {seed}"), trap: Arc::clone(&trap), items };
                let key = move || {
                    trap.calls.store(0, Ordering::Relaxed);
                    let trap = Arc::clone(&trap);
                    Box::new(move |item: &Item| Key { id: item.1, trap: Arc::clone(&trap) }) as Box<_>
                };
                check(&case, &key);
            }
        }
    }
}

#[test]
fn a_key_that_panics_loses_nothing_of_a_window() {
    for_all_traps(|case, key| {
        let tumbling = || TumblingWindow::new(ms(15)).with_key(key()).with_event_time(time, ms(20));
        case.check("tumbling windows", 1, &tumbling());
        case.check("two keys", 1, &tumbling().with_max_keys(2).max_count(3));
        case.check("fused", 1, &Mapper::new(|item: Item| item).fuse(tumbling()).fuse(Mapper::new(|window| window)));
        let sliding = SlidingWindow::new(ms(30)).with_slide(ms(15)).with_key(key());
        case.check("sliding windows", 2, &sliding.with_event_time(time, ms(20)));
        let session = SessionWindow::new(key()).with_gap(ms(8)).with_event_time(time, ms(20));
        case.check("sessions", 1, &session);
        case.check("sessions by arrival", 1, &SessionWindow::new(key()).with_gap(ms(1)));
        let list = |list: &mut Vec<Item>, item: &Item| list.push(*item);
        case.check("states", 1, &tumbling().aggregate(Vec::new, list));
        // It has no keys; the items that it folds have.
        let aggregate = Aggregate::new(Vec::new, {
            let key = key();
            move |items: &mut Vec<Item>, item: &Item| {
                assert!(key(item) == key(item).clone());
                items.push(*item);
            }
        });
        case.check("values", 1, &aggregate.with_time_window(ms(15)).with_event_time(time, ms(20)));
    });
}

#[test]
fn a_key_that_panics_loses_nothing_of_a_batch() {
    for_all_traps(|case, key| {
        let config = BatchConfig { max_size: 4, max_latency: ms(1) };
        let batcher = |keys| Batcher::new(config.clone()).with_key(key(), keys).with_weight(|item| item.1 as usize, 30);
        case.check("batches", 1, &batcher(3));
        case.check("batches of all keys", 1, &batcher(100));
    });
}

#[test]
fn a_key_that_panics_fails_its_item_alone() {
    for_all_traps(|case, key| {
        case.check("dedupe", 1, &Dedupe::new(key()));
        case.check("dedupe of few", 1, &Dedupe::new(key()).with_max_keys(3).refresh_on_duplicate(true));
        let last = || Scan::new(|| 0, |_: &mut u32, item: Item| item);
        case.check("scan", 1, &last().with_key(key(), 100));
        let few = last().with_key(key(), 3).with_ttl(ms(5)).on_removal(|_, _, _| None);
        case.check("scan of few", 1, &few);
        let call = |_: &CancelToken, item: &Item| streamz::ok(*item);
        case.check("pool", 1, &AsyncMapper::keyed(key(), call).with_workers(2));
        let partition = Partition::new(key()).with_partitions(3).each(|_| Mapper::new(|item: Item| item));
        case.check("partition", 1, &partition);
        let split = key();
        let even = Mapper::new(|item: Item| item).fuse(streamz::Filter::new(move |item: &Item| {
            let (one, other) = (split(item), split(item));
            one == other.clone()
        }));
        case.check("filter", 1, &even);
    });
}
