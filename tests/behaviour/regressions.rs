//! Faults that were found and mended, a test for each.

mod drops_that_panic;
mod keys_that_panic;
mod operators_that_panic;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use streamz::{ManualClock, Outcome, Pipeline, Stream};

use crate::ms;

/// All of its items go down a filter on the same thread, so it never finds its output full.
#[test]
fn an_endless_operator_can_be_cancelled_behind_a_filter() {
    let pipeline = Pipeline::new("endless");
    let (started, has_started) = std::sync::mpsc::sync_channel(1);
    let none = Stream::from_iter(&pipeline, [0u64]).stage("none", move |s| {
        s.flat_map(|n| n..).filter(move |_| {
            let _ = started.try_send(());
            false
        })
    });
    has_started.recv().unwrap();
    pipeline.cancel();
    assert!(none.count().unwrap_err().is_cancelled());
    pipeline.join();
}

#[test]
fn an_endless_operator_still_hands_over_its_items() {
    let pipeline = Pipeline::new("endless");
    let mut some =
        Stream::from_iter(&pipeline, [0u64]).stage("some", |s| s.flat_map(|n| n..).filter(|n| *n == 0 || *n == 1_000));
    assert_eq!(some.recv().unwrap().unwrap(), 0);
    assert_eq!(some.recv().unwrap().unwrap(), 1_000);
    pipeline.abort();
}

#[test]
fn a_channel_that_was_full_when_its_stream_was_cut_says_so() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("full").clock(&clock).build();
    let receiver = Stream::from_iter(&pipeline, 0u64..).into_receiver(4);
    clock.settle();
    pipeline.cancel();
    let items: Vec<u64> = receiver.iter().map(Result::unwrap).collect();
    // The one in hand may find room before its thread learns of the end.
    assert!(items == [0, 1, 2, 3] || items == [0, 1, 2, 3, 4], "{items:?}");
    assert!(receiver.cut().unwrap().is_cancelled());
    pipeline.join();
}

#[test]
fn pipelines_meet_over_a_channel_without_capacity() {
    let (one, other) = (Pipeline::new("one"), Pipeline::new("other"));
    let receiver = Stream::from_iter(&one, 0..100).into_receiver(0);
    let numbers = Stream::from_receiver(&other, (*receiver).clone()).map(|item: streamz::Result<i32>| item.unwrap());
    drop(receiver);
    assert_eq!(numbers.collect::<Vec<_>>().unwrap(), (0..100).collect::<Vec<_>>());
}

/// The closure sends into a second stream, which its reader reads in turn with the first.
#[test]
fn emitted_items_are_handed_over_while_the_closure_waits() {
    for _ in 0..50 {
        let pipeline = Pipeline::new("two streams");
        let (side, mut side_stream) = Stream::channel(&pipeline, 1);
        let mut main = Stream::from_iter(&pipeline, 0..200u32).map(move |n| {
            side.send(n).unwrap();
            n
        });
        for n in 0..200 {
            assert_eq!(main.recv().unwrap().unwrap(), n);
            assert_eq!(side_stream.recv().unwrap().unwrap(), n);
        }
        drop((main, side_stream));
        pipeline.join();
    }
}

#[test]
fn virtual_time_never_goes_back() {
    for _ in 0..200 {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("busy").clock(&clock).build();
        let together = Arc::new(std::sync::Barrier::new(3));
        pipeline.spawn("busy", {
            let together = Arc::clone(&together);
            // Runs for a little longer, so that both find the pipeline running and wait.
            move |_| {
                together.wait();
                (0..200).for_each(|_| std::thread::yield_now());
            }
        });
        let movers = [1, 10].map(|seconds| {
            let (clock, together) = (clock.clone(), Arc::clone(&together));
            std::thread::spawn(move || {
                together.wait();
                clock.advance(Duration::from_secs(seconds));
            })
        });
        for mover in movers {
            mover.join().unwrap();
        }
        assert!(clock.elapsed() >= Duration::from_secs(10));
        pipeline.join();
    }
}

#[test]
fn a_wait_for_a_foreign_channel_ends_with_the_item() {
    let clock = ManualClock::new();
    let (one, other) =
        (Pipeline::builder("one").clock(&clock).build(), Pipeline::builder("other").clock(&clock).build());
    let receiver = Stream::from_iter(&one, [1]).into_receiver(4);
    let mut items = Stream::from_receiver(&other, (*receiver).clone());
    assert_eq!(items.recv_timeout(ms(5_000)).unwrap().unwrap().unwrap(), 1);
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[test]
fn an_end_on_its_own_thread_learns_that_its_stream_was_cut() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("cut").clock(&clock).build();
    let (_sender, stream) = Stream::<u32>::channel(&pipeline, 1);
    let last = Arc::new(Mutex::new(None));
    stream.spawn_for_each({
        let last = Arc::clone(&last);
        move |item| *last.lock().unwrap() = Some(item)
    });
    clock.settle();
    let report = pipeline.abort();
    assert!(last.lock().unwrap().take().unwrap().unwrap_err().is_cancelled());
    assert!(matches!(report.outcome, Outcome::Cancelled(_)));
}

#[test]
fn a_part_that_was_cut_is_not_a_complete_pipeline() {
    let pipeline = Pipeline::new("part");
    let child = pipeline.child();
    let stream = Stream::from_iter(&pipeline, 0u64..).with_token(&child).map(|n| n);
    child.cancel();
    assert!(stream.count().is_err());
    let report = pipeline.join();
    assert!(!report.is_complete() && matches!(report.outcome, Outcome::Cut(_)));
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "an item that panics when it is dropped");
    }
}

#[test]
fn a_rayon_task_survives_an_item_that_panics_when_dropped() {
    let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    let pipeline = Pipeline::new("bomb");
    let (entered, has_entered) = std::sync::mpsc::channel();
    let (leave, may_leave) = crossbeam_channel::bounded::<()>(0);
    let mapper = streamz::ParMapper::new(move |bomb: Bomb| {
        std::mem::forget(bomb);
        entered.send(()).unwrap();
        let _ = may_leave.recv();
    });
    let results = Stream::from_iter(&pipeline, (0..3).map(|_| Bomb)).through(&mapper.with_pool(pool));
    has_entered.recv().unwrap();
    // All three are with the pool, which has one thread.
    while pipeline.report().stage("par_map").unwrap().received() < 3 {
        std::thread::yield_now();
    }
    pipeline.cancel();
    drop(leave); // the first task ends, the others find that they are not wanted
    drop(results);
    pipeline.join();
}

#[test]
fn a_run_that_turns_out_long_is_broken_up_and_keeps_its_order() {
    let pipeline = Pipeline::new("runs");
    let gate = Arc::new(AtomicBool::new(false));
    let mapper = streamz::ParMapper::new({
        let gate = Arc::clone(&gate);
        move |n: u64| {
            // Slow from here on: each of these alone takes longer than a run should.
            if n >= 5_000 {
                let sum = (0..400_000u64).fold(n, |sum, i| std::hint::black_box(sum.wrapping_mul(31) ^ i));
                gate.fetch_or(sum == 1, Ordering::Relaxed);
            }
            n
        }
    });
    let numbers = Stream::from_iter(&pipeline, 0..5_300u64).through(&mapper).collect::<Vec<_>>().unwrap();
    assert_eq!(numbers, (0..5_300).collect::<Vec<_>>());
}

#[test]
fn a_closure_is_let_go_of_before_join_returns() {
    for _ in 0..300 {
        let owned = Arc::new(());
        let pipeline = Pipeline::new("owned");
        let kept = Arc::clone(&owned);
        let stream = Stream::from_iter(&pipeline, 0..20u32).par_map(move |n| {
            let _ = &kept;
            n
        });
        assert_eq!(stream.count().unwrap(), 20);
        pipeline.join();
        assert_eq!(Arc::strong_count(&owned), 1);
    }
}

#[test]
fn a_pipeline_may_feed_another_whose_thread_reads_it() {
    let (one, other) = (Pipeline::new("one"), Pipeline::new("other"));
    let numbers = Stream::from_iter(&one, 0..1_000u32).map(|n| n * 2);
    let sum = Stream::from_iter(&other, numbers).lift().fold(0, |sum, n| sum + n);
    assert_eq!(sum.unwrap(), 999_000);
    assert!(one.join().is_complete() && other.join().is_complete());
}

#[test]
fn items_held_by_a_sinks_steps_at_a_stop_are_abandoned() {
    let pipeline = Pipeline::new("abandoned");
    let token = pipeline.child();
    let stop = token.clone();
    let source = Stream::from_iter(&pipeline, 0..10).with_token(&token);
    let steps = source.inline().tap(move |n| {
        if *n == 4 {
            stop.cancel();
        }
    });
    assert!(steps.chunk(10).count().unwrap_err().is_cancelled());
    let report = pipeline.join();
    let stage = report.stage("count").unwrap();
    assert_eq!(stage.abandoned(), 5, "{report}");
    assert!(stage.steps.iter().all(|step| step.balances()));
}
