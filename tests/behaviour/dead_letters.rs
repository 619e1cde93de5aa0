//! `DeadLetterQueue`: no failure is lost, in whatever order the outputs are read.

use std::sync::{Arc, Mutex};

use streamz::{
    Cause, DeadLetterQueue, DlqOutput, ErrorKind, FailureLimit, Outcome, Overflow, Pipeline, Stream, StreamError,
};

use crate::virtual_pipeline;

/// Odd numbers fail.
fn halves(pipeline: &Pipeline, numbers: std::ops::Range<u32>) -> Stream<u32> {
    Stream::from_iter(pipeline, numbers)
        .try_map(|n: &u32| if n % 2 == 1 { Err(format!("{n} is odd")) } else { Ok(n / 2) })
}

fn letters(failed: Stream<streamz::DeadLetter>) -> Vec<u32> {
    failed.into_iter().map(|letter| letter.unwrap().into_item::<u32>().unwrap().0).collect()
}

fn odds(until: u32) -> Vec<u32> {
    (1..until).step_by(2).collect()
}

#[test]
fn a_letter_carries_the_item_and_says_where_and_why_it_failed() {
    let pipeline = Pipeline::new("dlq");
    let (items, failed) = halves(&pipeline, 0..4).dead_letters();
    assert_eq!(items.collect::<Vec<_>>().unwrap(), [0, 1]);
    let letter = failed.into_iter().next().unwrap().unwrap();
    let letter = letter.into_item::<String>().expect_err("the item is not a String");
    let (item, error) = letter.into_item::<u32>().unwrap();
    assert_eq!((item, error.stage(), error.kind()), (1, "map", ErrorKind::Failed));
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "1 is odd");
}

#[test]
fn nothing_is_lost_when_the_items_are_read_first() {
    let pipeline = Pipeline::new("dlq");
    let (items, failed) = halves(&pipeline, 0..200).dead_letters();
    assert_eq!(items.count().unwrap(), 100);
    assert_eq!(letters(failed), odds(200));
    assert!(pipeline.join().is_complete());
}

#[test]
fn nothing_is_lost_when_the_failures_are_read_first() {
    let pipeline = Pipeline::new("dlq");
    let (items, failed) = halves(&pipeline, 0..200).dead_letters();
    assert_eq!(letters(failed), odds(200));
    assert_eq!(items.count().unwrap(), 100);
    assert!(pipeline.join().is_complete());
}

#[test]
fn unread_failures_block_the_stage_but_not_its_cancellation() {
    let (clock, pipeline) = virtual_pipeline();
    let output = DeadLetterQueue::new().with_failed_buffer_size(3).process(&pipeline, halves(&pipeline, 0..1_000));
    output.items.spawn_for_each(drop);
    clock.settle();
    assert_eq!(output.stats.failed(), 4); // three wait, one is in hand
    let report = pipeline.abort();
    let stage = report.stage("dead_letters").unwrap();
    let full: Vec<_> = stage.outputs.iter().filter(|output| output.undelivered > 0).map(|o| &*o.name).collect();
    assert_eq!(full, ["failed"]);
}

#[test]
fn dropped_failures_are_counted_and_block_nothing() {
    let pipeline = Pipeline::new("dlq");
    let DlqOutput { items, failed, stats, .. } = DeadLetterQueue::new().process(&pipeline, halves(&pipeline, 0..1_000));
    drop(failed);
    assert_eq!(items.count().unwrap(), 500);
    pipeline.join();
    assert_eq!((stats.items(), stats.failed(), stats.undeliverable()), (500, 500, 500));
}

#[test]
fn dropped_items_are_counted_and_block_nothing() {
    let pipeline = Pipeline::new("dlq");
    let DlqOutput { items, failed, .. } = DeadLetterQueue::new().process(&pipeline, halves(&pipeline, 0..1_000));
    drop(items);
    assert_eq!(letters(failed), odds(1_000));
    let report = pipeline.join();
    let stage = report.stage("dead_letters").unwrap();
    let undelivered: u64 = stage.outputs.iter().map(|output| output.undelivered).sum();
    assert_eq!(stage.removed() + undelivered, 500);
}

#[test]
fn dropping_both_stops_the_source() {
    let pipeline = Pipeline::new("dlq");
    let (items, failed) = halves(&pipeline, 0..u32::MAX).dead_letters();
    drop(failed);
    drop(items);
    pipeline.join();
}

#[test]
fn overflow_drops_the_newest_or_the_oldest_exactly() {
    for (overflow, kept) in [(Overflow::DropNewest, vec![1, 3, 5]), (Overflow::DropOldest, vec![15, 17, 19])] {
        let (clock, pipeline) = virtual_pipeline();
        let queue = DeadLetterQueue::new().with_failed_buffer_size(3).with_overflow(overflow);
        let output = queue.process(&pipeline, halves(&pipeline, 0..20));
        output.items.spawn_for_each(drop);
        clock.settle();
        assert_eq!((output.stats.failed(), output.stats.dropped()), (10, 7));
        assert_eq!(letters(output.failed), kept);
        let report = pipeline.join();
        let step = &report.stage("dead_letters").unwrap().steps[0];
        assert_eq!((step.errors_in, step.errors_out, step.errors_absorbed), (10, 3, 7));
    }
}

#[test]
fn the_newest_failure_is_never_dropped_in_place_of_the_oldest() {
    for round in 0..5_000 {
        let pipeline = Pipeline::new("dlq");
        let queue = DeadLetterQueue::new().with_failed_buffer_size(1).with_overflow(Overflow::DropOldest);
        let output = queue.process(&pipeline, halves(&pipeline, 0..20));
        drop(output.items);
        assert_eq!(letters(output.failed).last(), Some(&19), "round {round}");
        pipeline.join();
    }
}

#[test]
fn the_hook_sees_every_failure_even_if_it_panics() {
    let pipeline = Pipeline::new("dlq");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let queue = DeadLetterQueue::new().on_failure({
        let seen = Arc::clone(&seen);
        move |error| {
            let item = error.with_item_ref(|n: &u32| *n).unwrap();
            seen.lock().unwrap().push(item);
            assert_ne!(item, 3, "a hook that panics");
        }
    });
    let output = queue.process(&pipeline, halves(&pipeline, 0..6));
    assert_eq!(output.items.count().unwrap(), 3);
    assert_eq!(letters(output.failed), [1, 3, 5]);
    assert_eq!(*seen.lock().unwrap(), [1, 3, 5]);
}

#[test]
fn too_many_failures_stop_the_pipeline() {
    let limits = [
        (FailureLimit::Count(10), 11),
        (FailureLimit::Ratio { ratio: 0.4, min_items: 20 }, 10), // at the 20th item, 10 of them bad
        (FailureLimit::Ratio { ratio: 0.4, min_items: 21 }, 10), // the 21st is a good one
    ];
    for (limit, at) in limits {
        let (clock, pipeline) = virtual_pipeline();
        let queue = DeadLetterQueue::new().with_limit(limit);
        let output = queue.process(&pipeline, halves(&pipeline, 0..u32::MAX));
        output.items.spawn_for_each(drop);
        output.failed.spawn_for_each(drop);
        clock.settle();
        let report = pipeline.join();
        match report.outcome {
            Outcome::Cancelled(Cause::TooManyFailures { failed, .. }) => assert_eq!(failed, at, "{limit:?}"),
            other => panic!("{limit:?}: {other}"),
        }
    }
}

#[test]
fn cancellation_is_never_a_dead_letter() {
    let pipeline = Pipeline::new("dlq");
    let (sender, stream) = Stream::<u32>::channel(&pipeline, 4);
    let (items, failed) = stream.dead_letters();
    sender.send_error(StreamError::new(ErrorKind::Cancelled, "elsewhere")).unwrap();
    sender.finish();
    assert!(items.into_iter().next().unwrap().unwrap_err().is_cancelled());
    assert_eq!(failed.count().unwrap(), 0);
}

#[test]
#[should_panic(expected = "`ratio` must be between 0.0 and 1.0, not 1.5")]
fn an_invalid_ratio_is_refused() {
    let _ = DeadLetterQueue::<u32>::new().with_limit(FailureLimit::Ratio { ratio: 1.5, min_items: 1 });
}

// D-18: the failures of a second run were never delivered, and two runs at once sent on a closed channel.
#[test]
fn every_run_has_its_own_failures() {
    let queue = DeadLetterQueue::new();
    for _ in 0..2 {
        let pipelines = [Pipeline::new("one"), Pipeline::new("another")];
        let outputs = pipelines.each_ref().map(|pipeline| queue.process(pipeline, halves(pipeline, 0..50)));
        for DlqOutput { items, failed, stats } in outputs {
            assert_eq!(items.count().unwrap(), 25);
            assert_eq!(letters(failed), odds(50));
            assert_eq!((stats.items(), stats.failed()), (25, 25));
        }
    }
}
