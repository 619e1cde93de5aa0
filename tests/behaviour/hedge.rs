//! `Hedge`: second tries, their threads, and what they may cost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::bounded;
use streamz::testing::Recorder;
use streamz::{
    AsyncMapper, Call, CallStage, CancelToken, Cause, ErrorKind, Hedge, HedgeStats, ManualClock, Outcome, Pipeline,
    Stream, StreamError,
};

use crate::common::threads;
use crate::{ms, virtual_pipeline};

/// A try: it takes this number of milliseconds, and then succeeds or fails.
type Try = (u64, bool);

/// The tries of each item, as they are to go, and what was seen of them.
#[derive(Clone, Default)]
struct Script {
    tries: HashMap<u32, Vec<Try>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// The item, the number of the try, when it began, and whether it saw that it was cancelled.
type Seen = (u32, usize, u64, bool);

impl Script {
    fn new<const N: usize>(tries: [(u32, &[Try]); N]) -> Self {
        let tries = tries.into_iter().map(|(item, tries)| (item, tries.to_vec())).collect();
        Self { tries, seen: Arc::default() }
    }

    fn call(
        &self,
        clock: &ManualClock,
    ) -> impl Fn(&CancelToken, &u32) -> Result<usize, String> + Send + Sync + 'static {
        let (script, clock, made) = (self.clone(), clock.clone(), Mutex::new(HashMap::new()));
        move |cancel, item| {
            let number = {
                let mut made = made.lock().unwrap();
                let made = made.entry(*item).or_insert(0);
                *made += 1;
                *made
            };
            let began = clock.elapsed().as_millis() as u64;
            let (time, works) = script.tries[item][number - 1];
            let cancelled = cancel.sleep(ms(time)).is_err();
            script.seen.lock().unwrap().push((*item, number, began, cancelled));
            if works && !cancelled { Ok(number) } else { Err(format!("{item}, try {number}")) }
        }
    }

    /// In the order in which they ended.
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// When a result came, and what it was.
type Timed = (u64, Result<usize, StreamError>);

/// The results of the items of a script, each a call that is hedged after 50 ms, and when they came.
fn results(script: &Script, items: u32) -> (Vec<Timed>, HedgeStats) {
    let (clock, pipeline) = virtual_pipeline();
    let hedge = Hedge::new(AsyncMapper::new(script.call(&clock)).with_workers(3), ms(50));
    let results = Recorder::new(Stream::from_iter(&pipeline, 0..items).through(&hedge));
    clock.advance(Duration::from_secs(10));
    let timed = results.timed_outputs().into_iter().map(|(at, result)| (at.as_millis() as u64, result)).collect();
    assert!(pipeline.join().is_complete());
    (timed, hedge.stats())
}

#[test]
fn a_call_that_returns_before_the_delay_is_made_once() {
    let script = Script::new([(0, &[(49, true)])]);
    let (results, stats) = results(&script, 1);
    assert!(matches!(results[..], [(49, Ok(1))]), "{results:?}");
    assert_eq!(script.seen(), [(0, 1, 0, false)]);
    assert_eq!((stats.hedges(), stats.without_thread()), (0, 0));
}

#[test]
fn the_second_try_wins_over_a_slow_one_and_cancels_it() {
    let script = Script::new([(0, &[(9_000, true), (20, true)])]);
    let (results, stats) = results(&script, 1);
    assert!(matches!(results[..], [(70, Ok(2))]), "{results:?}");
    assert_eq!(script.seen(), [(0, 2, 50, false), (0, 1, 0, true)]);
    assert_eq!((stats.hedges(), stats.wins()), (1, 1));
}

#[test]
fn the_first_try_wins_over_a_slower_second_one_and_cancels_it() {
    let script = Script::new([(0, &[(60, true), (9_000, true)])]);
    let (results, stats) = results(&script, 1);
    assert!(matches!(results[..], [(60, Ok(1))]), "{results:?}");
    assert_eq!(script.seen(), [(0, 1, 0, false), (0, 2, 50, true)]);
    assert_eq!((stats.hedges(), stats.wins()), (1, 0));
}

#[test]
fn a_failure_before_the_delay_is_not_hedged() {
    let script = Script::new([(0, &[(20, false)])]);
    let (results, stats) = results(&script, 1);
    let [(20, Err(error))] = &results[..] else { panic!("{results:?}") };
    assert_eq!((error.kind(), error.attempts(), error.take_item::<u32>()), (ErrorKind::Failed, 1, Some(0)));
    assert_eq!(stats.hedges(), 0);
}

#[test]
fn the_other_try_is_waited_for_if_one_fails() {
    let script = Script::new([(0, &[(60, false), (30, true)]), (1, &[(100, true), (10, false)])]);
    let (results, stats) = results(&script, 2);
    assert!(matches!(results[..], [(80, Ok(2)), (100, Ok(1))]), "{results:?}");
    assert_eq!((stats.hedges(), stats.wins()), (2, 1));
}

#[test]
fn if_both_fail_the_item_fails_with_the_later_error() {
    let script = Script::new([(0, &[(90, false), (10, false)])]);
    let (results, _) = results(&script, 1);
    let [(90, Err(error))] = &results[..] else { panic!("{results:?}") };
    assert_eq!((error.attempts(), error.take_item::<u32>()), (2, Some(0)));
    assert!(format!("{error:#}").contains("0, try 1"), "{error:#}");
}

#[test]
fn a_panic_is_a_failure_of_its_try() {
    let (clock, pipeline) = virtual_pipeline();
    let tries = Mutex::new(0);
    let call = AsyncMapper::new(move |cancel: &CancelToken, item: &u32| {
        let number = {
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            *tries
        };
        cancel.sleep(ms(40 + 30 * number)).unwrap();
        assert!(*item == 1 && number == 2, "on purpose");
        streamz::ok(number)
    });
    let hedge = Hedge::new(call.with_workers(1), ms(50));
    let results = Recorder::new(Stream::from_iter(&pipeline, [1, 0]).through(&hedge));
    clock.advance(Duration::from_secs(1));
    let kinds: Vec<_> =
        results.timed_outputs().into_iter().map(|(_, result)| result.map_err(|error| error.kind())).collect();
    assert_eq!(kinds, [Ok(2), Err(ErrorKind::Panicked)]);
}

#[test]
fn cancellation_ends_both_tries() {
    let (clock, pipeline) = virtual_pipeline();
    let script = Script::new([(0, &[(9_000, true), (9_000, true)])]);
    let hedge = Hedge::new(AsyncMapper::new(script.call(&clock)).with_workers(1), ms(50));
    Stream::from_iter(&pipeline, 0..1).through(&hedge).spawn_for_each(drop);
    clock.advance(ms(60));
    pipeline.cancel();
    let report = pipeline.join();
    assert!(matches!(report.outcome, Outcome::Cancelled(Cause::Requested)), "{report}");
    assert_eq!(clock.elapsed(), ms(60));
    let mut seen = script.seen();
    seen.sort();
    assert_eq!(seen, [(0, 1, 0, true), (0, 2, 50, true)]);
}

#[test]
fn second_tries_end_with_the_budget() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = AsyncMapper::new(|cancel: &CancelToken, _: &u32| cancel.sleep(ms(100))).with_workers(1);
    let hedge = Hedge::new(calls, ms(50)).with_budget(0.25).with_budget_reserve(2);
    let stats = hedge.stats();
    Stream::from_iter(&pipeline, 0..22).through(&hedge).spawn_for_each(drop);
    clock.advance(Duration::from_secs(3));
    // The reserve, and every fourth call after that.
    assert_eq!((stats.hedges(), stats.over_budget(), stats.wins()), (7, 15, 0));
    assert!(pipeline.join().is_complete());
}

#[test]
fn with_a_budget_of_1_every_call_may_have_a_second_try() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = AsyncMapper::new(|cancel: &CancelToken, _: &u32| cancel.sleep(ms(100))).with_workers(4);
    let hedge = Hedge::new(calls, ms(50)).with_budget(1.0).with_budget_reserve(0);
    let stats = hedge.stats();
    Stream::from_iter(&pipeline, 0..20).through(&hedge).spawn_for_each(drop);
    clock.advance(Duration::from_secs(3));
    assert_eq!((stats.hedges(), stats.over_budget()), (20, 0));
    assert!(pipeline.join().is_complete());
}

#[test]
fn the_delay_follows_the_calls_if_it_is_a_percentile() {
    let (clock, pipeline) = virtual_pipeline();
    // 10 ms, but every tenth 100 ms.
    let calls = |cancel: &CancelToken, item: &u64| cancel.sleep(ms(if item % 10 == 9 { 100 } else { 10 }));
    let hedge = Hedge::new(AsyncMapper::new(calls).with_workers(1), Duration::from_secs(9)).with_percentile(0.8);
    let stats = hedge.stats();
    Stream::from_iter(&pipeline, 0..40).through(&hedge).spawn_for_each(drop);
    clock.advance(Duration::from_secs(3));
    // None in the first 20 calls; then those that take more than 10 ms.
    assert_eq!(stats.hedges(), 2);
    assert!(pipeline.join().is_complete());
}

/// The first try blocks in something foreign, and knows nothing of its token.
#[test]
fn a_try_that_has_lost_holds_up_no_result() {
    let name = threads::unique_name('h');
    let pipeline = Pipeline::new(name.as_str());
    let (release, blocked) = bounded::<()>(0);
    let is_first = Mutex::new(true);
    let calls = AsyncMapper::new(move |_: &CancelToken, item: &u32| {
        let first = std::mem::replace(&mut *is_first.lock().unwrap(), false);
        if first {
            _ = blocked.recv();
        }
        streamz::ok((*item, first))
    });
    let hedge = Hedge::new(calls.with_workers(1), Duration::ZERO);
    let results = Stream::from_iter(&pipeline, 0..3).through(&hedge).collect::<Vec<_>>().unwrap();
    assert_eq!(results, [(0, false), (1, false), (2, false)]);
    // The pipeline waits for it.
    assert!(pipeline.join_timeout(Duration::ZERO).is_none());
    drop(release);
    assert!(pipeline.join().is_complete());
    threads::wait_until_gone(&name);
}

#[test]
fn without_a_thread_the_call_is_made_by_the_worker() {
    for max_threads in [2, 3] {
        let clock = ManualClock::new();
        // The worker and the sink; then one for the first try.
        let pipeline = Pipeline::builder("few").clock(&clock).max_threads(max_threads).build();
        let script = Script::new([(0, &[(90, true), (10, true)])]);
        let hedge = Hedge::new(AsyncMapper::new(script.call(&clock)).with_workers(1), ms(50));
        let stats = hedge.stats();
        let (sender, items) = Stream::channel(&pipeline, 1);
        items.through(&hedge).spawn_for_each(|result| assert_eq!(result.unwrap(), 1));
        sender.send(0).unwrap();
        clock.advance(ms(100));
        assert_eq!(script.seen(), [(0, 1, 0, false)], "{max_threads} threads");
        assert_eq!((stats.hedges(), stats.without_thread()), (0, 1), "{max_threads} threads");
        drop(sender);
        assert!(pipeline.join().is_complete());
    }
}

#[test]
fn threads_are_reused_and_end_with_the_stage() {
    let name = threads::unique_name('h');
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder(name.as_str()).clock(&clock).build();
    let used = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&used);
    let calls = AsyncMapper::new(move |cancel: &CancelToken, _: &u32| {
        seen.lock().unwrap().push(std::thread::current().id());
        cancel.sleep(ms(10))
    });
    let hedge = Hedge::new(calls.with_workers(2), ms(50));
    let results = Recorder::new(Stream::from_iter(&pipeline, 0..20).through(&hedge));
    clock.advance(Duration::from_secs(1));
    assert_eq!(results.items().len(), 20);
    let used: std::collections::HashSet<_> = used.lock().unwrap().drain(..).collect();
    assert!(used.len() <= 2, "{used:?}");
    // Without a join: the stage has ended.
    drop(hedge);
    threads::wait_until_gone(&name);
    assert!(pipeline.join().is_complete());
}

#[test]
fn outside_of_a_pipeline_nothing_is_hedged() {
    let clock = ManualClock::new();
    let script = Script::new([(0, &[(90, true)])]);
    let hedge = Hedge::new(AsyncMapper::new(script.call(&clock)), ms(50));
    assert_eq!(hedge.to_call().call(&CancelToken::with_clock(&clock), &0).unwrap(), 1);
}
