//! `Pipeline`: who owns what, and how it ends.

mod dead_sources;
mod files;
mod folder;
mod follow;
mod from_fn;
mod intervals;
mod items;
mod lines;
mod names;
mod receivers;
mod restarts;
mod run;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use streamz::{
    AsyncMapper, BatchConfig, Batcher, BoxError, BoxProcessor, Buffer, CancelToken, Cause, DEFAULT_STACK_SIZE,
    DropReason, DroppingBuffer, ErrorKind, Flatten, ManualClock, Mapper, Monitor, Outcome, PanicMessage, ParMapper,
    Pipeline, Processor, ProcessorFn, RecvTimeoutError, Retry, Router, SendError, SlidingBuffer, Stage, StageKind,
    Stream, StreamError, Switch, TryRecvError, TumblingWindow,
};

use crate::{ms, virtual_pipeline};

const SECOND: Duration = Duration::from_secs(1);

/// A processor that takes 10 ms for each item.
fn slowly(stream: Stream<u64>) -> Stream<u64> {
    stream.async_map(1, |cancel: &CancelToken, n: &u64| {
        cancel.sleep(ms(10))?;
        streamz::ok(*n)
    })
}

#[test]
fn join_reports_every_stage() {
    let pipeline = Pipeline::new("report");
    let odds = Stream::from_iter(&pipeline, 0..100u64).filter(|n| n % 2 == 0).map(|n| n + 1);
    let sum = odds.named("sum").fold(0, |a, n| a + n);
    assert_eq!(sum.unwrap(), 2_500);
    let report = pipeline.join();
    let rows: Vec<_> = report.stages.iter().map(|s| (&*s.name, s.received(), s.emitted(), s.removed())).collect();
    assert_eq!(rows, [("source", 0, 100, 0), ("filter", 100, 50, 50), ("map", 50, 50, 0), ("sum", 50, 0, 0)]);
    let [input] = &report.stage("map").unwrap().inputs[..] else { panic!("{report}") };
    assert_eq!((&*input.stage, &*input.output), ("filter", ""));
    assert!(report.to_string().contains("bottleneck: "), "{report}");
}

#[test]
fn reasons_for_a_drop_have_words() {
    let words = [
        (DropReason::Overflow, "overflow"),
        (DropReason::Undeliverable, "undeliverable"),
        (DropReason::Superseded, "superseded"),
        (DropReason::RateLimited, "rate limited"),
        (DropReason::Unmatched, "unmatched"),
    ];
    words.iter().for_each(|(reason, words)| assert_eq!(reason.as_str(), *words));
}

#[test]
fn stages_with_the_same_name_are_distinguished() {
    let pipeline = Pipeline::new("names");
    let stream = Stream::from_iter(&pipeline, 0..3).map(|n: i32| n).map(|n| n).map(|n| n);
    assert_eq!(stream.count().unwrap(), 3);
    let report = pipeline.join();
    let names: Vec<_> = report.stages.iter().map(|s| &*s.name).collect();
    assert_eq!(names, ["source", "map", "map-2", "map-3", "count"]);
    assert_eq!(&*report.stage("map-2").unwrap().steps[0].name, "map-2");
}

/// A source hands over what it has before it asks its iterator for more, which may take any time.
///
/// The first item is handed over in any case, because the source looks for room; so the iterator blocks behind the second.
#[test]
fn an_item_does_not_wait_for_the_next_of_a_slow_iterator() {
    let pipeline = Pipeline::new("slow iterator");
    let (asked, is_asked) = crossbeam_channel::bounded(1);
    let (open, gate) = crossbeam_channel::bounded::<()>(0);
    let mut numbers = 0..3;
    let slow = std::iter::from_fn(move || {
        let next = numbers.next();
        if next == Some(2) {
            asked.send(()).unwrap();
            let _ = gate.recv();
        }
        next
    });
    let mut stream = Stream::from_iter(&pipeline, slow);
    is_asked.recv().unwrap();
    assert_eq!(stream.try_recv().unwrap().unwrap(), 0);
    assert_eq!(stream.try_recv().unwrap().unwrap(), 1);
    drop(open);
    assert_eq!(stream.recv().unwrap().unwrap(), 2);
    pipeline.join();
}

#[test]
fn a_drain_finishes_items_in_flight() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, stream) = Stream::channel(&pipeline, 100);
    let mut results = slowly(stream);
    (0..10).for_each(|n| sender.send(n).unwrap());
    clock.advance(ms(35));
    pipeline.drain();
    assert!(matches!(sender.send(10), Err(SendError::Closed(10))));
    clock.advance(ms(65));
    for n in 0..10 {
        assert_eq!(results.recv().unwrap().unwrap(), n);
    }
    assert!(results.recv().is_none());
    assert!(matches!(pipeline.join().outcome, Outcome::Drained));
}

#[test]
fn a_source_made_after_a_drain_has_ended() {
    let pipeline = Pipeline::new("drained");
    pipeline.drain();
    let (sender, stream) = Stream::channel(&pipeline, 1);
    assert!(matches!(sender.send(1), Err(SendError::Closed(1))));
    assert_eq!(stream.count().unwrap(), 0);
    let (foreign, receiver) = crossbeam_channel::bounded(1);
    foreign.send(1).unwrap();
    assert_eq!(Stream::from_receiver(&pipeline, receiver).count().unwrap(), 0);
    assert_eq!(Stream::from_iter(&pipeline, 0..).count().unwrap(), 0);
    assert_eq!(streamz::Inline::from_iter(&pipeline, 0..).count().unwrap(), 0);
    assert_eq!(Stream::lines(&pipeline, &b"a line"[..]).count().unwrap(), 0);
    assert_eq!(Stream::interval(&pipeline, SECOND).count().unwrap(), 0);
    assert!(matches!(pipeline.join().outcome, Outcome::Drained));
}

#[test]
fn a_drain_does_not_wait_for_the_latency_of_a_batch() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, stream) = Stream::channel(&pipeline, 100);
    let config = streamz::BatchConfig { max_size: 100, max_latency: Duration::from_secs(3_600) };
    let mut batches = stream.batch(config);
    sender.send(1).unwrap();
    clock.settle();
    pipeline.drain();
    assert_eq!(batches.recv().unwrap().unwrap(), [1]);
    assert!(batches.recv().is_none());
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[test]
fn drain_within_gives_up_at_its_limit_and_not_before() {
    for (limit, complete) in [(ms(100), true), (ms(99), false)] {
        let (clock, pipeline) = virtual_pipeline();
        let (sender, stream) = Stream::channel(&pipeline, 100);
        (0..10).for_each(|n| sender.send(n).unwrap());
        slowly(stream).spawn_for_each(drop);
        clock.settle();
        let report = pipeline.drain_within(limit);
        match report.outcome {
            Outcome::Drained => assert!(complete),
            Outcome::Cancelled(Cause::DrainTimedOut(after)) => assert!(!complete && after == limit),
            other => panic!("{other}"),
        }
        assert_eq!(clock.elapsed(), limit);
    }
}

#[test]
fn a_pipeline_has_a_time_limit_if_it_is_given_one() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("limited").clock(&clock).timeout(ms(50)).build();
    let mut ticks = Stream::interval(&pipeline, ms(20));
    clock.advance(ms(50));
    let mut seen = Vec::new();
    let last = loop {
        match ticks.recv().unwrap() {
            Ok(tick) => seen.push(tick),
            Err(error) => break error,
        }
    };
    assert!(seen.is_empty(), "a reader is told to stop before it reads on");
    assert!(last.is_cancelled());
    assert!(matches!(pipeline.join().outcome, Outcome::Cancelled(Cause::DeadlinePassed)));
}

#[test]
fn dropping_a_pipeline_cancels_it_and_waits_for_its_threads() {
    let running = Arc::new(AtomicUsize::new(0));
    let pipeline = Pipeline::new("dropped");
    for _ in 0..3 {
        let running = Arc::clone(&running);
        running.fetch_add(1, Ordering::SeqCst);
        pipeline.spawn("task", move |cancel| {
            assert_eq!(cancel.wait().to_string(), "pipeline dropped");
            running.fetch_sub(1, Ordering::SeqCst);
        });
    }
    drop(pipeline);
    assert_eq!(running.load(Ordering::SeqCst), 0);
}

#[test]
fn dropping_a_pipeline_on_one_of_its_threads_cancels_only() {
    let pipeline = Pipeline::new("inside");
    let token = pipeline.token();
    let (give, take) = crossbeam_channel::bounded::<Pipeline>(1);
    let (done, finished) = crossbeam_channel::bounded(1);
    pipeline.spawn("suicide", move |cancel| {
        drop(take.recv().unwrap());
        done.send(cancel.is_cancelled()).unwrap();
    });
    give.send(pipeline).unwrap();
    assert!(finished.recv().unwrap());
    assert!(matches!(token.cause(), Some(Cause::Dropped)));
}

#[test]
fn a_pipeline_can_be_joined_on_a_thread_of_another() {
    let outer = Pipeline::new("outer");
    outer.spawn("task", |_| {
        let inner = Pipeline::new("inner");
        assert_eq!(Stream::from_iter(&inner, 0..3).count().unwrap(), 3);
        assert!(inner.join().is_complete());
    });
    let report = outer.join();
    assert!(report.is_complete(), "{report}");
}

#[test]
fn a_task_that_panics_cancels_the_pipeline() {
    let pipeline = Pipeline::new("task");
    let stream = Stream::from_iter(&pipeline, 0u64..);
    pipeline.spawn("bad", |_| -> () { panic!("no luck") });
    let error = stream.for_each(drop).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("task `bad` panicked: no luck"));
    assert!(pipeline.join().faults.is_empty());
}

#[test]
fn every_calls_each_period_and_does_not_delay_the_end() {
    let (clock, pipeline) = virtual_pipeline();
    let calls = Arc::new(AtomicUsize::new(0));
    pipeline.every(ms(10), {
        let calls = Arc::clone(&calls);
        move || {
            calls.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (sender, stream) = Stream::<u8>::channel(&pipeline, 1);
    stream.spawn_for_each(drop);
    clock.advance(ms(35));
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    sender.finish();
    pipeline.join();
}

#[test]
fn the_first_error_stops_try_for_each() {
    let pipeline = Pipeline::new("first");
    let stream = Stream::from_iter(&pipeline, 0..).try_map(|n: &i64| if *n == 3 { Err("three") } else { Ok(*n) });
    let error = stream.try_for_each(|_| Ok::<(), BoxError>(())).unwrap_err();
    assert_eq!(error.take_item::<i64>(), Some(3));
    assert!(matches!(pipeline.join().outcome, Outcome::Cancelled(Cause::Failed(_))));
}

#[test]
fn an_error_of_the_sink_itself_stops_it() {
    let pipeline = Pipeline::new("own");
    let error = Stream::from_iter(&pipeline, 0..)
        .try_for_each(|n: u64| if n < 10 { Ok(()) } else { Err("ten is enough") })
        .unwrap_err();
    assert_eq!(error.stage(), "try_for_each");
    pipeline.join();
}

#[test]
fn terminal_operations_tell_complete_from_cut() {
    let cut = || {
        let pipeline = Pipeline::new("cut");
        let stream = Stream::from_iter(&pipeline, 0u64..);
        pipeline.cancel();
        (pipeline, stream)
    };
    let (_p, stream) = cut();
    assert!(stream.collect::<Vec<_>>().unwrap_err().is_cancelled());
    let (_p, stream) = cut();
    assert!(stream.count().unwrap_err().is_cancelled());
    let (_p, stream) = cut();
    assert!(stream.fold(0, |a, b| a + b).unwrap_err().is_cancelled());
    let (_p, stream) = cut();
    assert!(stream.first().unwrap_err().is_cancelled());
    let (_p, stream) = cut();
    assert!(stream.for_each(drop).unwrap_err().is_cancelled());
    let (_p, stream) = cut();
    let receiver = stream.into_receiver(1);
    assert_eq!(receiver.iter().count(), 0);
    assert!(receiver.cut().unwrap().is_cancelled());
}

#[test]
fn first_takes_one_item_and_stops_the_rest() {
    let pipeline = Pipeline::new("first");
    assert_eq!(Stream::from_iter(&pipeline, 7u64..).first().unwrap(), Some(7));
    pipeline.join();
    let pipeline = Pipeline::new("none");
    assert_eq!(Stream::from_iter(&pipeline, None::<u8>).first().unwrap(), None);
}

#[test]
fn a_receiver_can_be_selected_over() {
    let pipeline = Pipeline::new("receiver");
    let receiver = Stream::from_iter(&pipeline, 0..1_000).into_receiver(8);
    assert_eq!(receiver.iter().map(Result::unwrap).collect::<Vec<_>>(), (0..1_000).collect::<Vec<_>>());
    assert!(pipeline.join().is_complete());
    let pipeline = Pipeline::new("left");
    let receiver = Stream::from_iter(&pipeline, 0u64..).into_receiver(0);
    assert_eq!(receiver.recv().unwrap().unwrap(), 0);
    drop(receiver);
    pipeline.join();
}

#[test]
fn a_sender_waits_for_room_and_returns_unsent_items() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, mut stream) = Stream::channel(&pipeline, 2);
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    assert_eq!(sender.try_send(3).unwrap_err(), SendError::Full(3));
    assert_eq!(sender.send_timeout(3, ms(20)).unwrap_err(), SendError::Full(3));
    assert_eq!(clock.elapsed(), ms(20));
    assert_eq!(stream.recv().unwrap().unwrap(), 1);
    sender.try_send(3).unwrap();
    drop(stream);
    assert_eq!(sender.send(4).unwrap_err(), SendError::Closed(4));
    pipeline.join();
}

#[test]
fn a_channel_ends_with_its_last_sender() {
    let pipeline = Pipeline::new("senders");
    let (sender, mut stream) = Stream::channel(&pipeline, 4);
    let clone = sender.clone();
    sender.send('a').unwrap();
    drop(sender);
    clone.send('b').unwrap();
    assert_eq!(stream.try_recv().unwrap().unwrap(), 'a');
    assert_eq!(stream.try_recv().unwrap().unwrap(), 'b');
    assert_eq!(stream.try_recv().unwrap_err(), TryRecvError::Empty);
    drop(clone);
    assert_eq!(stream.try_recv().unwrap_err(), TryRecvError::Ended);
}

#[test]
fn a_feeder_that_panics_cuts_the_stream() {
    let pipeline = Pipeline::new("feeder");
    let (sender, stream) = Stream::channel(&pipeline, 4);
    std::thread::spawn(move || {
        sender.send(1).unwrap();
        panic!("the feeder fails");
    })
    .join()
    .unwrap_err();
    let results: Vec<_> = stream.into_iter().collect();
    assert_eq!(*results[0].as_ref().unwrap(), 1);
    let cut = results[1].as_ref().unwrap_err();
    assert!(cut.is_cancelled());
    let message = cut.downcast_ref::<PanicMessage>().unwrap();
    assert_eq!(message.message(), "the thread that fed the stream panicked");
    assert!(matches!(pipeline.join().outcome, Outcome::Cut(_)));
}

#[test]
fn a_feeder_cancelled_alone_cuts_the_stream_and_is_reported() {
    let pipeline = Pipeline::new("cut");
    let child = pipeline.child();
    let (sender, stream) = Stream::channel(&child, 4);
    let numbers = stream.with_token(&pipeline).map(|n: i32| n);
    sender.send(1).unwrap();
    child.cancel_because("connection lost");
    drop(sender);
    let (mut seen, mut cut) = (Vec::new(), None);
    numbers.for_each(|item| seen.push(item.unwrap())).unwrap_or_else(|error| {
        cut = Some(error);
        streamz::Tally::default()
    });
    assert_eq!(seen, [1]);
    assert!(cut.unwrap().is_cancelled());
    assert!(matches!(pipeline.join().outcome, Outcome::Cut(error) if error.is_cancelled()));
}

#[test]
fn a_sender_dropped_after_the_end_cuts_nothing() {
    let pipeline = Pipeline::new("complete");
    let child = pipeline.child();
    let (sender, stream) = Stream::channel(&child, 4);
    let stream = stream.with_token(&pipeline);
    sender.send(1).unwrap();
    sender.clone().finish();
    child.cancel();
    drop(sender);
    assert_eq!(stream.collect::<Vec<_>>().unwrap(), [1]);
    assert!(pipeline.join().is_complete());
}

#[test]
fn a_child_token_stops_its_part_and_upstream() {
    let pipeline = Pipeline::new("child");
    let child = pipeline.child();
    let stream = Stream::from_iter(&pipeline, 0u64..).with_token(&child).map(|n| n);
    child.cancel();
    assert!(stream.for_each(drop).unwrap_err().is_cancelled());
    assert!(matches!(pipeline.join().outcome, Outcome::Cut(error) if error.is_cancelled()));
}

#[test]
#[should_panic(expected = "does not belong to a Pipeline")]
fn a_bare_token_hosts_no_stage() {
    let _ = Stream::from_iter(&CancelToken::new(), [1]);
}

#[test]
#[should_panic(expected = "belongs to pipeline `b`, but its input to pipeline `a`")]
fn a_stage_and_its_input_are_of_one_pipeline() {
    let (a, b) = (Pipeline::new("a"), Pipeline::new("b"));
    let stream = Stream::from_iter(&a, [1]);
    let _ = streamz::Processor::process(&streamz::Mapper::new(|n: i32| n), &b, stream);
}

#[test]
#[should_panic(expected = "pipeline `over` has finished")]
fn a_finished_pipeline_hosts_nothing() {
    let pipeline = Pipeline::new("over");
    let token = pipeline.token();
    pipeline.join();
    let _ = Stream::from_iter(&token, [1]);
}

/// A pipeline that has done all its work at time 0, and is to be cancelled at 5 s.
fn complete(clock: &ManualClock) -> Pipeline {
    let pipeline = Pipeline::builder("done").clock(clock).timeout(5 * SECOND).build();
    assert_eq!(Stream::from_iter(&pipeline, 0..10).map(|n: u32| n).count().unwrap(), 10);
    wait_for_threads(&pipeline);
    pipeline
}

/// Waits until the threads are gone; they have no more to do.
fn wait_for_threads(pipeline: &Pipeline) {
    while pipeline.threads() > 0 {
        std::thread::yield_now();
    }
}

type Change = fn(&ManualClock, &CancelToken);

#[test]
fn the_outcome_is_fixed_when_the_last_thread_ends() {
    let changes: [(&str, Change); 4] = [
        ("the deadline", |clock, _| clock.advance(60 * SECOND)),
        ("a check after the deadline", |clock, token| {
            clock.advance(60 * SECOND);
            assert!(token.is_cancelled());
        }),
        ("a cancellation", |_, token| token.cancel()),
        ("a drain", |_, token| token.drain()),
    ];
    for (what, change) in changes {
        for joined_before in [true, false] {
            let clock = ManualClock::new();
            let pipeline = complete(&clock);
            let token = pipeline.token();
            let mut reports = vec![token.report()];
            if joined_before {
                reports.push(pipeline.join());
                change(&clock, &token);
            } else {
                change(&clock, &token);
                reports.push(pipeline.join());
            }
            reports.push(token.report());
            for report in reports {
                assert!(report.is_complete(), "{what}, joined before: {joined_before}: {}", report.outcome);
                assert_eq!(report.elapsed, Duration::ZERO, "{what}, joined before: {joined_before}");
            }
        }
    }
}

#[test]
fn a_report_of_a_running_pipeline_takes_its_time_from_the_clock() {
    let (clock, pipeline) = virtual_pipeline();
    let (_sender, _stream) = Stream::<u8>::channel(&pipeline, 1);
    clock.advance(3 * SECOND);
    assert_eq!(pipeline.report().elapsed, 3 * SECOND);
}

#[test]
fn an_abort_or_a_drop_after_the_end_changes_nothing() {
    let clock = ManualClock::new();
    assert!(complete(&clock).abort().is_complete());
    assert!(complete(&clock).drain_within(SECOND).is_complete());
    let pipeline = complete(&clock);
    let token = pipeline.token();
    drop(pipeline);
    assert!(token.report().is_complete());
}

#[test]
fn a_drain_stays_a_drain() {
    let (clock, pipeline) = virtual_pipeline();
    let (_sender, stream) = Stream::<u8>::channel(&pipeline, 1);
    stream.spawn_for_each(drop);
    clock.advance(SECOND);
    pipeline.drain();
    wait_for_threads(&pipeline);
    clock.advance(SECOND);
    pipeline.cancel();
    let report = pipeline.join();
    assert!(matches!(report.outcome, Outcome::Drained), "{}", report.outcome);
    assert_eq!(report.elapsed, SECOND);
}

/// The source is done at time 0; the caller takes a second for each of ten items.
#[test]
fn an_end_on_the_callers_thread_is_part_of_the_pipeline() {
    for (timeout, expected) in [(20 * SECOND, 10 * SECOND), (4 * SECOND, 4 * SECOND)] {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("slow").clock(&clock).timeout(timeout).build();
        let token = pipeline.token();
        let ended = Stream::from_iter(&pipeline, 0..10).for_each(|_| {
            wait_for_threads(&pipeline);
            assert!(matches!(token.report().outcome, Outcome::Running));
            let _ = token.sleep(SECOND);
        });
        assert_eq!(ended.is_ok(), timeout > expected);
        clock.advance(60 * SECOND);
        let report = pipeline.join();
        assert_eq!(report.elapsed, expected);
        match report.outcome {
            Outcome::Completed => assert!(timeout > expected),
            Outcome::Cancelled(Cause::DeadlinePassed) => assert!(timeout == expected),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_pipeline_with_a_stream_to_be_read_has_not_ended() {
    let (clock, pipeline) = virtual_pipeline();
    let token = pipeline.token();
    let mut stream = Stream::from_iter(&pipeline, 0..2);
    wait_for_threads(&pipeline);
    assert!(matches!(token.report().outcome, Outcome::Running));
    stream.recv().unwrap().unwrap();
    stream.recv().unwrap().unwrap();
    assert!(matches!(token.report().outcome, Outcome::Running));
    assert!(stream.recv().is_none());
    assert!(token.report().is_complete());
    // As if it had been dropped.
    clock.advance(SECOND);
    assert_eq!(pipeline.join().elapsed, Duration::ZERO);
    drop(stream);
}

#[test]
fn a_stream_that_is_never_read_does_not_hold_up_the_end() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("aside").clock(&clock).timeout(5 * SECOND).build();
    let (items, failed) = Stream::from_iter(&pipeline, 0..10).dead_letters();
    assert_eq!(items.count().unwrap(), 10);
    wait_for_threads(&pipeline);
    clock.advance(60 * SECOND);
    let report = pipeline.join();
    assert!(report.is_complete(), "{}", report.outcome);
    assert_eq!(report.elapsed, Duration::ZERO);
    drop(failed);
}

#[test]
fn a_pipeline_dropped_with_a_stream_to_be_read_was_cancelled() {
    let pipeline = Pipeline::new("open");
    let token = pipeline.token();
    let mut stream = Stream::from_iter(&pipeline, 0..10);
    wait_for_threads(&pipeline);
    drop(pipeline);
    assert!(stream.recv().unwrap().unwrap_err().is_cancelled());
    assert!(matches!(token.report().outcome, Outcome::Cancelled(Cause::Dropped)));
}

#[test]
fn a_new_stage_sets_an_ended_pipeline_running_again() {
    let clock = ManualClock::new();
    let pipeline = complete(&clock);
    clock.advance(SECOND);
    let (sender, stream) = Stream::channel(&pipeline, 1);
    assert!(matches!(pipeline.report().outcome, Outcome::Running));
    sender.send(1).unwrap();
    drop(sender);
    assert_eq!(stream.count().unwrap(), 1);
    clock.advance(SECOND);
    let report = pipeline.join();
    assert!(report.is_complete());
    assert_eq!(report.elapsed, SECOND);
}

#[test]
fn calls_at_each_period_are_not_part_of_the_time_that_it_took() {
    let (clock, pipeline) = virtual_pipeline();
    pipeline.every(SECOND, || {});
    assert_eq!(Stream::from_iter(&pipeline, 0..10).count().unwrap(), 10);
    while pipeline.threads() > 1 {
        std::thread::yield_now();
    }
    assert!(pipeline.report().is_complete());
    clock.advance(10 * SECOND);
    assert_eq!(pipeline.join().elapsed, Duration::ZERO);
}

/// One item at a time goes into a channel whose consumer takes 10 ms for each: the first is taken at once, the second
/// waits in the channel, the third for it.
#[test]
fn a_closure_that_waits_for_room_is_blocked_and_not_busy() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, stream) = Stream::channel(&pipeline, 1);
    slowly(stream).spawn_for_each(drop);
    Stream::from_iter(&pipeline, 0..3u64).map(move |n| sender.send(n).unwrap()).spawn_for_each(drop);
    clock.advance(ms(30));
    let report = pipeline.join();
    let map = report.stage("map").unwrap();
    assert_eq!((map.idle, map.busy, map.blocked), (ms(0), ms(0), ms(10)), "{report}");
    assert_eq!(map.outputs[0].blocked, ms(0), "its own output had room");
    let pool = report.stage("async_map").unwrap();
    assert_eq!((pool.idle, pool.asleep, pool.busy, pool.blocked), (ms(30), ms(30), ms(0), ms(0)));
    assert_eq!(&*report.bottleneck().unwrap().name, "async_map");
    assert!(report.to_string().ends_with("bottleneck: async_map (busy 0 %, asleep 100 % of the time)"), "{report}");
}

#[test]
fn an_end_that_waits_in_its_closure_is_not_busy() {
    let (clock, pipeline) = virtual_pipeline();
    let token = pipeline.token();
    let numbers = || Stream::from_iter(&pipeline, 0..3);
    let pause = || token.sleep(ms(10)).unwrap();
    numbers().named("for_each").for_each(|_| pause()).unwrap();
    numbers().named("try_for_each").try_for_each(|_| token.sleep(ms(10))).unwrap();
    numbers().named("fold").fold((), |(), _| pause()).unwrap();
    numbers().inline().tap(move |_| token.sleep(ms(10)).unwrap()).named("inline").collect::<Vec<_>>().unwrap();
    numbers().named("spawned").spawn_for_each({
        let token = pipeline.token();
        move |_| token.sleep(ms(10)).unwrap()
    });
    clock.advance(ms(30));
    let report = pipeline.join();
    for name in ["for_each", "try_for_each", "fold", "inline", "spawned"] {
        let stage = report.stage(name).unwrap();
        assert_eq!((stage.idle, stage.asleep, stage.busy, stage.blocked), (ms(30), ms(30), ms(0), ms(0)), "{name}");
    }
}

/// The closure of the stage reads a stream of its own, whose only item comes after 10 ms.
#[test]
fn a_closure_that_waits_for_an_item_is_idle() {
    let (clock, pipeline) = virtual_pipeline();
    let ticks = || {
        let token = pipeline.token();
        move || Stream::interval(&token, ms(10))
    };
    let (by_hand, by_an_end) = (ticks(), ticks());
    let one = || Stream::from_iter(&pipeline, [0]);
    one().named("outer").spawn_for_each(move |_| assert_eq!(by_hand().recv().unwrap().unwrap(), 1));
    one().map(move |_| by_an_end().named("inner").first().unwrap()).spawn_for_each(drop);
    clock.advance(ms(10));
    let report = pipeline.join();
    for name in ["outer", "map", "inner"] {
        let stage = report.stage(name).unwrap();
        assert_eq!((stage.idle, stage.busy, stage.blocked), (ms(10), ms(0), ms(0)), "{name}");
    }
}

#[test]
fn a_consumer_is_idle_until_it_gets_an_item_and_then_busy() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, received) = Stream::channel(&pipeline, 4);
    let mut received = received.map(|n: u32| n).named("received");
    let empty = |stream: &mut Stream<u32>| assert_eq!(stream.try_recv().unwrap_err(), TryRecvError::Empty);
    empty(&mut received);
    clock.advance(ms(10));
    sender.send(0).unwrap();
    assert_eq!(received.recv().unwrap().unwrap(), 0);
    clock.advance(ms(5));
    empty(&mut received);
    empty(&mut received);
    assert_eq!(received.recv_timeout(ms(7)).unwrap_err(), RecvTimeoutError::Timeout);
    (0..2).for_each(|n| sender.send(n).unwrap());
    clock.settle();
    (0..2).for_each(|n| assert_eq!(received.try_recv().unwrap().unwrap(), n));
    clock.advance(ms(1));
    drop(received);
    clock.advance(ms(100));
    let report = pipeline.join();
    let row = report.stage("received").unwrap();
    assert_eq!((row.kind, row.received(), row.at_work), (StageKind::Consumer, 3, 0));
    assert_eq!((row.idle, row.busy), (ms(10 + 7), ms(5 + 1)));
    assert_eq!(&*row.inputs[0].stage, "map");
    assert_eq!(report.stage("map").unwrap().outputs[0].reader.as_deref(), Some("received"));
}

#[test]
fn a_pipeline_lasts_until_its_consumer_is_done() {
    let (clock, pipeline) = virtual_pipeline();
    let mut received = Stream::from_iter(&pipeline, 0..3);
    while let Some(item) = received.recv() {
        item.unwrap();
        clock.advance(ms(10));
    }
    let report = pipeline.join();
    assert_eq!(report.elapsed, ms(30));
    assert!(report.to_string().ends_with("bottleneck: none: `source` waits for its consumer"), "{report}");
}

#[test]
fn a_stream_can_be_passed_on_after_a_caller_received_from_it() {
    let pipeline = Pipeline::new("header");
    let mut lines = Stream::from_iter(&pipeline, 0..10);
    assert_eq!(lines.recv().unwrap().unwrap(), 0);
    assert_eq!(lines.count().unwrap(), 9);
    let report = pipeline.join();
    let received = |name: &str| report.stage(name).unwrap().received();
    assert_eq!((received("recv"), received("count")), (1, 9));
    assert_eq!(report.stage("source").unwrap().outputs[0].reader.as_deref(), Some("count"));
}

#[test]
fn a_task_that_waits_is_not_busy() {
    let (clock, pipeline) = virtual_pipeline();
    pipeline.spawn("task", |cancel| cancel.sleep(ms(10)).unwrap());
    pipeline.every(ms(7), || {});
    clock.advance(ms(10));
    wait_for_keepers(&pipeline);
    let report = pipeline.join();
    for name in ["task", "every"] {
        let task = report.stage(name).unwrap();
        assert_eq!((task.idle, task.busy), (ms(10), ms(0)), "{name}");
    }
}

/// Waits until only the thread of [`Pipeline::every`] is left.
fn wait_for_keepers(pipeline: &Pipeline) {
    while pipeline.threads() > 1 {
        std::thread::yield_now();
    }
}

type Items = BoxProcessor<u64, u64>;

/// A processor of each kind that starts threads of its own.
fn kinds() -> Vec<(&'static str, Items)> {
    let config = BatchConfig { max_size: 2, max_latency: SECOND };
    let call = |_: &CancelToken, n: &u64| streamz::ok(*n);
    let routes = || ProcessorFn::new("route", |_, stream: Stream<u64>| stream.map(|n| n));
    vec![
        ("mapper", Mapper::new(|n: u64| n).boxed()),
        ("fused", Mapper::new(|n: u64| n).fuse(Mapper::new(|n| n)).boxed()),
        ("batcher", Batcher::new(config).then(Flatten::new()).boxed()),
        ("pool", AsyncMapper::new(call).with_workers(4).boxed()),
        ("keyed pool", AsyncMapper::keyed(|n: &u64| *n, call).with_workers(4).boxed()),
        ("rayon", ParMapper::new(|n: u64| n).boxed()),
        ("dropping buffer", DroppingBuffer::new(4).boxed()),
        ("sliding buffer", SlidingBuffer::new(4).boxed()),
        ("router", Router::new().add_route("all", |_| true, routes()).boxed()),
        ("switch", Switch::new().case("all", |_| true, routes()).boxed()),
        ("monitor", Monitor::new(SECOND).on_stats(drop).boxed()),
        ("items", ProcessorFn::new("items", |_, stream: Stream<u64>| stream.dead_letters().0).boxed()),
        ("split", ProcessorFn::new("split", |_, stream: Stream<u64>| stream.split(|_| true).0).boxed()),
        ("fan-in", ProcessorFn::new("fan-in", |_, stream: Stream<u64>| stream.merge([])).boxed()),
    ]
}

/// Three items that are there before the stage is built.
fn three(pipeline: &Pipeline) -> Stream<u64> {
    let (sender, stream) = Stream::channel(pipeline, 3);
    (0..3).for_each(|n| sender.send(n).unwrap());
    stream
}

/// What a cut says whose reason is that there was no thread.
fn internal(cut: &StreamError) -> &dyn std::error::Error {
    assert!(cut.is_cancelled(), "{cut}");
    let reason = cut.downcast_ref::<StreamError>().expect("a reason of ours");
    assert_eq!(reason.kind(), ErrorKind::Internal);
    std::error::Error::source(reason).unwrap()
}

#[test]
fn a_stage_without_a_thread_is_not_complete() {
    for (kind, processor) in kinds() {
        let pipeline = Pipeline::builder("none").max_threads(0).build();
        let error = three(&pipeline).through(&processor).collect::<Vec<_>>().expect_err(kind);
        assert!(internal(&error).to_string().contains("its maximum of 0 threads"), "{kind}");
        let report = pipeline.join();
        assert!(matches!(&report.outcome, Outcome::Cut(cut) if cut.is_cancelled()), "{kind}: {report}");
    }
}

#[test]
fn a_source_or_branch_without_a_thread_is_not_complete() {
    let pipeline = Pipeline::builder("none").max_threads(0).build();
    let internal = |error: StreamError| _ = internal(&error);
    internal(Stream::from_iter(&pipeline, 0..3).count().unwrap_err());
    internal(Stream::lines(&pipeline, &b"a line"[..]).count().unwrap_err());
    internal(Stream::interval(&pipeline, SECOND).count().unwrap_err());
    internal(streamz::Inline::from_iter(&pipeline, 0..3).map(|n| n).spawn("inline").count().unwrap_err());
    internal(three(&pipeline).dead_letters().1.count().unwrap_err());
    for half in [three(&pipeline).split(|n| n % 2 == 0).0, three(&pipeline).split(|n| n % 2 == 0).1] {
        internal(half.count().unwrap_err());
    }
    assert!(matches!(pipeline.join().outcome, Outcome::Cut(_)));
}

type Start = fn(&Pipeline);

#[test]
fn a_task_without_a_thread_cancels_the_pipeline() {
    let starts: [(&str, Start); 4] = [
        ("spawn_for_each", |pipeline| three(pipeline).spawn_for_each(|_| panic!("there is no thread to call it"))),
        ("spawn", |pipeline| {
            let task = pipeline.spawn("task", |_| -> () { panic!("there is no thread to call it") });
            assert_eq!(task.join().unwrap_err().kind(), ErrorKind::Internal);
        }),
        ("a sink", |pipeline| {
            let task = three(pipeline).spawn(|_| -> () { panic!("there is no thread to call it") });
            assert_eq!(task.join().unwrap_err().kind(), ErrorKind::Internal);
        }),
        ("every", |pipeline| pipeline.every(SECOND, || panic!("there is no thread to call it"))),
    ];
    for (what, start) in starts {
        let pipeline = Pipeline::builder("none").max_threads(0).build();
        start(&pipeline);
        let outcome = pipeline.join().outcome;
        assert!(matches!(outcome, Outcome::Cancelled(Cause::Because(_))), "{what}: {outcome}");
    }
    let pipeline = Pipeline::builder("none").max_threads(0).build();
    let receiver = three(&pipeline).into_receiver(3);
    assert!(receiver.recv().is_err());
    internal(&receiver.cut().unwrap());
    assert!(matches!(pipeline.join().outcome, Outcome::Cancelled(_)));
}

#[test]
fn a_pool_with_some_of_its_threads_does_all_of_the_work() {
    for threads in 1..4 {
        let pipeline = Pipeline::builder("few").max_threads(threads).build();
        let (sender, stream) = Stream::channel(&pipeline, 3);
        let pool = stream.async_map(4, |_: &CancelToken, n: &u64| streamz::ok(*n));
        assert_eq!(pipeline.threads(), threads);
        (0..3).for_each(|n| sender.send(n).unwrap());
        drop(sender);
        assert_eq!(pool.collect::<Vec<_>>().unwrap(), [0, 1, 2]);
        assert!(pipeline.join().is_complete());
    }
}

#[test]
fn a_thread_that_has_ended_makes_room_for_another() {
    let pipeline = Pipeline::builder("one").max_threads(1).build();
    for _ in 0..3 {
        assert_eq!(Stream::from_iter(&pipeline, 0..3).count().unwrap(), 3);
        wait_for_threads(&pipeline);
    }
    assert!(pipeline.join().is_complete());
}

#[test]
fn a_stack_size_that_is_refused_cuts_the_stage() {
    let pipeline = Pipeline::builder("huge").stack_size(usize::MAX / 4).build();
    let error = Stream::from_iter(&pipeline, 0..3).count().unwrap_err();
    internal(&error);
    pipeline.join();
}

#[test]
fn a_small_stack_is_rounded_up() {
    let pipeline = Pipeline::builder("small").stack_size(0).build();
    let (sender, stream) = Stream::channel(&pipeline, 1);
    let counted = stream.map(|n: u8| n);
    sender.send(1).unwrap();
    drop(sender);
    assert_eq!(counted.count().unwrap(), 1);
    pipeline.join();
}

/// What `DEFAULT_STACK_SIZE` promises, in debug and release builds.
#[test]
fn items_of_64_kib_fit_on_the_default_stack() {
    type Large = [u8; 64 * 1024];
    fn sink(stream: Stream<Large>) {
        stream.spawn_for_each(|item| assert_eq!(item.unwrap()[0], 1));
    }
    fn shift(item: Large) -> Large {
        item
    }
    let pipeline = Pipeline::new("large");
    // Whose threads are not the pipeline's.
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(DEFAULT_STACK_SIZE).build().unwrap();
    let rayon = Arc::new(rayon);
    let source = || Stream::from_iter(&pipeline, std::iter::repeat_with(|| [1; 64 * 1024]).take(5));
    let copy = |_: &CancelToken, item: &Large| streamz::ok(*item);
    let (good, failed) = source().dead_letters();
    failed.spawn_for_each(drop);
    let (left, right) = source().split(|item: &Large| item[0] == 1);
    let eight = |steps: streamz::Steps<streamz::steps::NoSteps<Large>>| {
        let four = steps.map(shift).filter(|item| item[0] == 1).map(shift).try_map(|item| streamz::ok(*item));
        four.filter(|item| item[0] == 1).map(shift).filter(|item| item[0] == 1).map(shift)
    };
    for stream in [
        source(),
        source().map(shift).filter(|item| item[0] == 1),
        source().stage("eight", eight),
        source().stage("apart", |steps| steps.map(shift).chunk(2).flatten().map(shift)),
        source().async_map(2, copy),
        source().through(&ParMapper::new(shift).with_pool(rayon)),
        source().chunk(2).flatten(),
        source().batch(BatchConfig { max_size: 2, max_latency: SECOND }).flatten(),
        source().buffer(2),
        source().through(&SlidingBuffer::new(5)),
        source().through(&Retry::new(AsyncMapper::new(copy))),
        source().through(&Router::new().add_route("all", |_| true, Mapper::new(shift))),
        source().through(&TumblingWindow::new(SECOND)).map(|window| window.items).flatten(),
        source().merge([source()]),
        good,
        left,
        right,
    ] {
        sink(stream);
    }
    let report = pipeline.join();
    assert!(report.is_complete(), "{report}");
}

type Give<'a> = Box<dyn FnOnce() + 'a>;

#[test]
fn a_name_with_a_nul_byte_is_refused_where_it_is_given() {
    const BAD: &str = "a\0b";
    let mapper = || Mapper::new(|n: u64| n);
    let numbers = |pipeline: &Pipeline| Stream::from_iter(pipeline, 0..3u64);
    let call = |_: &CancelToken, n: &u64| streamz::ok(*n);
    let config = BatchConfig { max_size: 2, max_latency: SECOND };
    let pipeline = Pipeline::new("names");
    let gives: Vec<(&str, Give<'_>)> = vec![
        ("pipeline", Box::new(|| drop(Pipeline::new(BAD)))),
        ("builder", Box::new(|| drop(Pipeline::builder(BAD)))),
        ("spawn", Box::new(|| drop(pipeline.spawn(BAD, |_| {})))),
        ("end", Box::new(|| drop(numbers(&pipeline).named(BAD)))),
        ("inline", Box::new(|| drop(numbers(&pipeline).inline().named(BAD)))),
        ("inline stage", Box::new(|| drop(numbers(&pipeline).inline().map(|n| n).spawn(BAD)))),
        ("stage", Box::new(|| drop(numbers(&pipeline).stage(BAD, |s| s.map(|n| n))))),
        ("mapper", Box::new(|| drop(mapper().with_name(BAD)))),
        ("fused", Box::new(|| drop(mapper().fuse(mapper()).with_name(BAD)))),
        ("pool", Box::new(|| drop(AsyncMapper::new(call).with_name(BAD)))),
        ("retry", Box::new(|| drop(Retry::new(AsyncMapper::new(call)).with_name(BAD)))),
        ("batcher", Box::new(|| drop(Batcher::<u64>::new(config).with_name(BAD)))),
        ("window", Box::new(|| drop(TumblingWindow::<u64>::new(SECOND).with_name(BAD)))),
        ("buffer", Box::new(|| drop(Buffer::<u64>::new(1).with_name(BAD)))),
        ("dropping buffer", Box::new(|| drop(DroppingBuffer::<u64>::new(1).with_name(BAD)))),
        ("sliding buffer", Box::new(|| drop(SlidingBuffer::<u64>::new(1).with_name(BAD)))),
        ("router", Box::new(|| drop(Router::<u64, u64>::new().with_name(BAD)))),
        ("switch", Box::new(|| drop(Switch::<u64, u64>::new().with_name(BAD)))),
        ("processor of a closure", Box::new(|| drop(ProcessorFn::new(BAD, |_, s: Stream<u64>| s)))),
        ("unnamed by its author", Box::new(|| drop(numbers(&pipeline).through(&Unnameable(mapper()))))),
    ];
    for (what, give) in gives {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(give)).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert_eq!(message, "`name` must not contain a NUL byte: \"a\\0b\"", "{what}");
    }
    // Nothing was half started, and what is merely unusual is a name.
    for name in ["", "a name of more than the fifteen bytes that Linux keeps", "größer\n"] {
        assert_eq!(numbers(&pipeline).stage(name, |s| s.map(|n| n)).count().unwrap(), 3);
    }
    assert!(pipeline.join().faults.is_empty());
}

/// A stage whose own `name` is not one for a thread.
struct Unnameable<S>(S);

impl<S: Stage<In = u64, Out = u64>> Processor for Unnameable<S> {
    type In = u64;
    type Out = u64;

    fn process(&self, cancel: &CancelToken, input: Stream<u64>) -> Stream<u64> {
        input.with_token(cancel).through(&self.0).inline().map(|n| n).spawn("a\0b")
    }

    fn name(&self) -> &str {
        "a\0b"
    }
}

/// What a service is made of: it has a `drop` of its own, so its fields cannot be moved out.
struct Service {
    pipeline: Pipeline,
    requests: Option<streamz::Sender<u32>>,
    report: std::sync::mpsc::Sender<streamz::Report>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.requests = None;
        assert!(!self.pipeline.is_finished());
        self.report.send(self.pipeline.drain_within(Duration::MAX)).unwrap();
    }
}

#[test]
fn a_struct_can_drain_its_pipeline_on_drop() {
    let (report, reports) = std::sync::mpsc::channel();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let pipeline = Pipeline::new("service");
    let (requests, stream) = Stream::channel(&pipeline, 4);
    stream.spawn_for_each(move |_: Result<u32, StreamError>| _ = gate.recv());
    requests.send(1).unwrap();
    requests.send(2).unwrap();
    let service = Service { pipeline, requests: Some(requests), report };
    // It is not at its end before the gate opens.
    assert!(service.pipeline.join_timeout(Duration::ZERO).is_none());
    let dropped = std::thread::spawn(move || drop(service));
    drop(open);
    dropped.join().unwrap();
    assert_eq!(reports.recv().unwrap().stage("for_each").unwrap().received(), 2);
}

#[test]
fn a_pipeline_can_be_joined_repeatedly() {
    let pipeline = Pipeline::new("again");
    assert!(pipeline.is_finished());
    let numbers = Stream::from_iter(&pipeline, 0..3);
    assert!(!pipeline.is_finished());
    assert_eq!(numbers.count().unwrap(), 3);
    let first = pipeline.join();
    assert!(pipeline.is_finished());
    let again = pipeline.join_timeout(Duration::ZERO).unwrap();
    assert_eq!((first.elapsed, first.stages.len()), (again.elapsed, again.stages.len()));
    assert!(pipeline.abort().is_complete());
}
