//! Tests of [`Aggregate`].

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::Aggregate;
use crate::folds::Fold;
use crate::testing::Harness;
use crate::windows::EventTime;
use crate::{AggregateWindow, ErrorKind, ManualClock, Pipeline, Stage, Stream, StreamError, folds};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ns(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

fn sums() -> Aggregate<u64, impl Fold<u64, State = u64, Result = u64>> {
    Aggregate::by(folds::sum(|n: &u64| *n))
}

/// Nanoseconds since the start of the harness's clock.
fn nanos(time: SystemTime) -> u64 {
    time.duration_since(ManualClock::new().wall()).unwrap().as_nanos() as u64
}

/// Start, end, result and count, in milliseconds.
fn seen<A>(windows: Vec<AggregateWindow<A>>) -> Vec<(u64, u64, A, u64)> {
    let one = |window: AggregateWindow<A>| {
        (nanos(window.start) / 1_000_000, nanos(window.end) / 1_000_000, window.result, window.count)
    };
    windows.into_iter().map(one).collect()
}

fn by_time<F: Fold<u64>>(
    aggregate: Aggregate<u64, F>,
    lateness: u64,
) -> Aggregate<u64, F, EventTime<impl Fn(&u64) -> SystemTime + Send + Sync + 'static>> {
    aggregate.with_event_time(|n| ManualClock::new().wall() + ms(*n), ms(lateness))
}

#[test]
fn without_any_limit_there_is_one_value_at_the_end() {
    let mut run = Harness::new(&sums());
    run.advance(ms(5));
    (1..=4).for_each(|n| run.item(n));
    run.advance(ms(5));
    assert!(run.items().is_empty());
    run.end();
    assert_eq!(seen(run.items()), [(0, 10, 10, 4)]);
    // And none for no items.
    let mut run = Harness::new(&sums());
    run.end();
    assert!(run.items().is_empty());
}

#[test]
fn an_item_exactly_at_a_boundary_is_in_the_next_window() {
    let mut run = Harness::new(&sums().with_time_window(ms(10)));
    run.item(1);
    run.advance(ms(10) - ns(1));
    run.item(2);
    assert!(run.items().is_empty());
    run.advance(ns(1));
    assert_eq!(seen(run.items()), [(0, 10, 3, 2)]);
    run.item(4);
    run.advance(ms(10));
    assert_eq!(seen(run.items()), [(10, 20, 4, 1)]);
}

/// D-8: in the Go counterpart, the time of a window is not restarted after one that was full.
#[test]
fn after_a_full_window_the_time_restarts() {
    let mut run = Harness::new(&sums().with_time_window(ms(10)).with_count_window(2));
    run.item(1);
    run.advance(ms(7));
    run.item(2);
    run.item(4);
    run.advance(ms(9));
    assert_eq!(seen(run.items()), [(0, 7, 3, 2)]);
    run.advance(ms(1));
    assert_eq!(seen(run.items()), [(7, 17, 4, 1)]);
}

/// D-7: in the Go counterpart, all windows share the first state.
#[test]
fn no_state_leaks_from_one_window_to_the_next() {
    let by_letter = Aggregate::new(HashMap::new, |counts: &mut HashMap<char, u32>, letter| {
        *counts.entry(*letter).or_default() += 1;
    });
    let mut run = Harness::new(&by_letter.with_count_window(2));
    "aabb".chars().for_each(|letter| run.item(letter));
    let results: Vec<_> = run.items().into_iter().map(|window| window.result).collect();
    assert_eq!(results, [HashMap::from([('a', 2)]), HashMap::from([('b', 2)])]);
}

#[test]
fn runs_share_no_state() {
    let sums = sums();
    let (mut one, mut other) = (Harness::new(&sums), Harness::new(&sums));
    one.item(1);
    other.item(2);
    one.end();
    other.end();
    assert_eq!((one.items()[0].result, other.items()[0].result), (1, 2));
}

#[test]
fn a_long_silence_needs_no_timers_and_shifts_no_window() {
    let mut run = Harness::new(&sums().with_time_window(ms(10)));
    assert_eq!(run.next_wake(), None);
    run.advance(ms(1_234));
    run.item(1);
    assert_eq!(run.next_wake(), Some(ms(6)));
    run.advance(ms(6));
    assert_eq!(seen(run.items()), [(1_230, 1_240, 1, 1)]);
}

#[test]
fn empty_windows_come_if_they_are_wanted() {
    let mut run = Harness::new(&sums().with_time_window(ms(10)).with_empty_windows(true));
    run.advance(ms(20));
    run.item(1);
    run.advance(ms(25));
    run.end();
    assert_eq!(seen(run.items()), [(0, 10, 0, 0), (10, 20, 0, 0), (20, 30, 1, 1), (30, 40, 0, 0)]);
}

#[test]
fn a_clock_that_jumps_skips_and_stretches_no_window() {
    let mut run = Harness::new(&sums().with_time_window(ms(10)).with_empty_windows(true)).with_capacity(1);
    run.item(1);
    run.clock().advance(ms(35));
    run.item(2);
    let mut windows = Vec::new();
    loop {
        let some = run.items();
        if some.is_empty() {
            break;
        }
        windows.extend(some);
    }
    assert_eq!(seen(windows), [(0, 10, 1, 1), (10, 20, 0, 0), (20, 30, 0, 0)]);
    run.end();
    assert_eq!(seen(run.items()), [(30, 35, 2, 1)]);
}

#[test]
fn a_stalled_consumer_stretches_and_shifts_no_window() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("stall").clock(&clock).build();
    let (input, stream) = Stream::channel(&pipeline, 100);
    let mut windows = stream.through(&sums().with_time_window(ms(10)).with_capacity(1));
    for n in 0..4 {
        input.send(n).unwrap();
        clock.advance(ms(10));
    }
    clock.advance(ms(5));
    drop(input);
    let all: Vec<_> = std::iter::from_fn(|| windows.recv()).map(Result::unwrap).collect();
    // Items that could not be taken in, for lack of room, arrived later by the clock.
    assert_eq!(seen(all), [(0, 10, 0, 1), (10, 20, 1, 1), (40, 45, 5, 2)]);
    pipeline.join();
}

#[test]
fn a_trigger_sends_a_window_at_once() {
    let mut run = Harness::new(&sums().with_trigger(|sum| *sum >= 10));
    for n in [4, 5, 6, 9, 1, 3] {
        run.item(n);
        run.advance(ms(1));
    }
    run.end();
    assert_eq!(seen(run.items()), [(0, 2, 15, 3), (2, 4, 10, 2), (4, 6, 3, 1)]);
}

#[test]
fn a_panic_fails_its_item_alone_and_one_in_the_trigger_none() {
    let fold = |sum: &mut u64, n: &u64| {
        assert!(*n != 2, "two");
        *sum += n;
    };
    let aggregate = Aggregate::new(|| 0, fold).with_trigger(|sum| if *sum == 4 { panic!("four") } else { *sum > 8 });
    let mut run = Harness::new(&aggregate);
    [2, 1, 3, 2, 5].into_iter().for_each(|n| run.item(n));
    let outputs = run.outputs();
    let carried: Vec<_> = outputs.iter().filter_map(|out| out.as_ref().err()).map(|e| e.take_item::<u64>()).collect();
    assert_eq!(carried, [Some(2), None, Some(2)]);
    assert_eq!(outputs.last().unwrap().as_ref().unwrap().result, 9);
    let step = &run.steps()[0];
    assert_eq!((step.failed, step.delivered), (2, 3));
}

#[test]
fn errors_pass_at_once_and_close_no_window() {
    let mut run = Harness::new(&sums().with_count_window(2));
    run.item(1);
    run.error(StreamError::new(ErrorKind::Failed, "before"));
    assert!(run.outputs().iter().all(Result::is_err));
    run.item(2);
    assert_eq!(run.items()[0].result, 3);
}

#[test]
fn items_held_at_a_cancel_are_counted_as_abandoned() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("cancel").clock(&clock).build();
    let (input, stream) = Stream::channel(&pipeline, 8);
    let windows = stream.through(&sums().with_time_window(ms(10)));
    (0..3).for_each(|n| input.send(n).unwrap());
    clock.advance(ms(9));
    let report = pipeline.abort();
    drop(windows);
    let step = &report.stage("aggregate").unwrap().steps[0];
    assert_eq!((step.received, step.delivered, step.abandoned), (3, 0, 3));
}

#[test]
fn by_event_time_items_are_folded_in_order_at_the_watermark() {
    let list = || Aggregate::new(Vec::new, |list: &mut Vec<u64>, n: &u64| list.push(*n));
    let mut run = Harness::new(&by_time(list().with_time_window(ms(10)), 5));
    for n in [103, 101, 112, 108, 118] {
        run.item(n);
    }
    assert_eq!(seen(run.items()), [(101, 111, vec![101, 103, 108], 3)]);
    run.item(113);
    run.item(100);
    let late = run.outputs().remove(0).unwrap_err();
    assert_eq!((late.kind(), late.take_item()), (ErrorKind::Late, Some(100_u64)));
    run.end();
    assert_eq!(seen(run.items()), [(111, 118, vec![112, 113, 118], 3)]);
    // Counted windows, too, are those of the sorted input.
    let mut run = Harness::new(&by_time(list().with_count_window(2), 100));
    [5, 3, 4, 1, 2].into_iter().for_each(|n| run.item(n));
    run.end();
    let results: Vec<_> = run.items().into_iter().map(|window| window.result).collect();
    assert_eq!(results, [vec![1, 2], vec![3, 4], vec![5]]);
}

#[test]
fn silence_folds_and_sends_kept_items() {
    let mut run = Harness::new(&by_time(sums(), 50).with_idle_timeout(ms(100)));
    [20, 10].into_iter().for_each(|n| run.item(n));
    run.advance(ms(99));
    assert!(run.items().is_empty());
    run.advance(ms(1));
    assert_eq!(seen(run.items()), [(10, 20, 30, 2)]);
    assert_eq!((run.next_wake(), run.steps()[0].held()), (None, 0));
    run.item(15);
    run.end();
    assert_eq!(seen(run.items()), [(20, 20, 15, 1)]);
}

/// One after the other: those of a list that is sorted first.
#[test]
fn disorder_within_lateness_does_not_change_the_windows() {
    for seed in 0..500 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let (lateness, count, duration) = (rng.u64(0..50), rng.usize(1..10), rng.u64(1..60));
        let empty = rng.bool();
        let mut now = 1_000;
        let mut events: Vec<(u64, u64)> = (0..rng.u32(1..100))
            .map(|_| {
                now += [0, 0, 1, 3, 90][rng.usize(..5)];
                (now + rng.u64(..=lateness), now)
            })
            .collect();
        events.sort_by_key(|(arrival, _)| *arrival);
        let windows = |lateness, events: &[(u64, u64)]| {
            let list = Aggregate::new(Vec::new, |list: &mut Vec<u64>, n: &u64| list.push(*n));
            let list = list.with_count_window(count).with_time_window(ms(duration)).with_empty_windows(empty);
            let mut run = Harness::new(&by_time(list, lateness));
            events.iter().for_each(|(_, n)| run.item(*n));
            run.end();
            let step = &run.steps()[0];
            assert_eq!((step.delivered, step.held()), (events.len() as u64, 0));
            seen(run.items())
        };
        let disordered = windows(lateness, &events);
        events.sort_by_key(|(_, time)| *time);
        assert_eq!(disordered, windows(0, &events), "seed {seed}");
        // Contiguous, and everything in it, in order.
        assert!(disordered.windows(2).all(|pair| pair[0].1 == pair[1].0 || !empty), "seed {seed}");
        let items: Vec<u64> = disordered.into_iter().flat_map(|window| window.2).collect();
        assert_eq!(items, events.iter().map(|(_, time)| *time).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
#[should_panic(expected = "`items` must be at least 1")]
fn a_count_of_0_is_refused() {
    let _ = sums().with_count_window(0);
}

#[test]
#[should_panic(expected = "`duration` must be greater than zero")]
fn no_time_at_all_is_refused() {
    let _ = sums().with_time_window(ms(0));
}

#[test]
#[should_panic(expected = "`with_empty_windows` needs `with_time_window`")]
fn empty_windows_without_a_time_are_refused() {
    let _ = sums().with_empty_windows(true).start();
}
