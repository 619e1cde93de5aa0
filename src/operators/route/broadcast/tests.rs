use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::{ErrorKind, ManualClock, PanicMessage, Pipeline, Sender, Stream, StreamError};

fn virtual_pipeline() -> (ManualClock, Pipeline) {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("news").clock(&clock).build();
    (clock, pipeline)
}

fn send(clock: &ManualClock, sender: &Sender<u32>, items: impl IntoIterator<Item = u32>) {
    items.into_iter().for_each(|item| sender.send(item).unwrap());
    clock.settle();
}

/// All items that come until the stage waits; an error as the number of missing items that it reports.
fn now(clock: &ManualClock, stream: &mut Stream<u32>) -> Vec<Result<u32, u64>> {
    let missing = |error: StreamError| error.downcast_ref::<Lagged>().map_or(0, Lagged::missed);
    // Each item received may make room for another one.
    let next = || {
        clock.settle();
        stream.try_recv().ok()
    };
    std::iter::from_fn(next).map(|item| item.map_err(missing)).collect()
}

fn oks(items: impl IntoIterator<Item = u32>) -> Vec<Result<u32, u64>> {
    items.into_iter().map(Ok).collect()
}

#[test]
fn a_subscriber_gets_items_after_it_subscribed() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 16);
    let hub = items.broadcast();
    let mut first = hub.subscribe();
    send(&clock, &sender, 0..3);
    let mut second = hub.subscribe();
    send(&clock, &sender, 3..5);
    assert_eq!(now(&clock, &mut first), oks(0..5));
    assert_eq!(now(&clock, &mut second), oks(3..5));
    drop((sender, hub));
    assert_eq!((first.count().unwrap(), second.count().unwrap()), (0, 0));
    let report = pipeline.join();
    assert!(report.is_complete());
    let stage = report.stage("broadcast").unwrap();
    assert!(stage.steps[0].balances());
    assert_eq!((stage.received(), stage.emitted(), stage.outputs.len()), (5, 7, 1));
}

#[test]
fn the_first_item_waits_for_the_first_subscriber() {
    let pipeline = Pipeline::new("news");
    let hub = Stream::from_iter(&pipeline, 0..100).broadcast();
    assert_eq!(hub.subscribe().collect::<Vec<_>>().unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn the_wait_for_the_first_subscriber_stays_in_the_report() {
    let (clock, pipeline) = virtual_pipeline();
    let hub = Stream::from_iter(&pipeline, 0..3).broadcast();
    clock.advance(Duration::from_secs(10));
    let blocked = || pipeline.report().stage("broadcast").unwrap().outputs[0].blocked;
    assert_eq!(blocked(), Duration::from_secs(10));
    let mut first = hub.subscribe();
    assert_eq!(now(&clock, &mut first), oks(0..3));
    assert_eq!(blocked(), Duration::from_secs(10));
}

#[test]
fn an_error_waits_for_the_first_subscriber_as_well() {
    let (clock, pipeline) = virtual_pipeline();
    let numbers = Stream::from_iter(&pipeline, ["x", "1"]).try_map(|text: &&str| text.parse::<u32>());
    let hub = numbers.broadcast();
    clock.settle();
    let mut first = hub.subscribe();
    assert_eq!(now(&clock, &mut first), [Err(0), Ok(1)]);
}

/// Cannot be cloned once the flag is set.
#[derive(Debug)]
struct Brittle(Arc<AtomicBool>);

impl Clone for Brittle {
    fn clone(&self) -> Self {
        assert!(!self.0.load(Ordering::Relaxed), "it breaks");
        Self(Arc::clone(&self.0))
    }
}

/// No subscriber can mistake an incomplete replay for a complete one, whether the input is open or not.
#[test]
fn a_replay_that_cannot_be_cloned_is_an_error_item() {
    for has_ended in [false, true] {
        let (clock, pipeline) = virtual_pipeline();
        let (sender, items) = Stream::channel(&pipeline, 16);
        let hub = items.through_hub(&Broadcast::new().with_replay(2));
        let first = hub.subscribe();
        let breaks = Arc::new(AtomicBool::new(false));
        sender.send(Brittle(Arc::clone(&breaks))).unwrap();
        let sender = (!has_ended).then_some(sender);
        clock.settle();
        breaks.store(true, Ordering::Relaxed);
        let late = hub.subscribe();
        clock.settle();
        drop(sender);
        let late: Vec<_> = late.into_iter().collect();
        let [Err(error)] = &late[..] else { panic!("ended {has_ended}: {late:?}") };
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Panicked, "broadcast"));
        assert_eq!(error.downcast_ref::<PanicMessage>().unwrap().to_string(), "it breaks");
        drop((hub, first));
        let report = pipeline.join();
        let stage = report.stage("broadcast").unwrap();
        assert!(stage.steps[0].balances());
        assert_eq!((stage.emitted(), stage.steps[0].errors_out), (1, 1), "ended {has_ended}");
    }
}

#[test]
fn without_subscribers_items_can_be_discarded_and_replayed() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 16);
    let hub = items.through_hub(&Broadcast::new().with_no_subscriber(NoSubscriber::Discard).with_replay(2));
    send(&clock, &sender, 0..5);
    let mut late = hub.subscribe();
    send(&clock, &sender, 5..6);
    assert_eq!(now(&clock, &mut late), oks(3..6));
    drop((sender, hub, late));
    let report = pipeline.join();
    assert_eq!(report.stage("broadcast").unwrap().steps[0].total_dropped(), 5);
}

#[test]
fn subscribers_without_a_bound_can_be_reported_together() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 16);
    let hub = items.through_hub(&Broadcast::new().with_buffer_size(usize::MAX));
    let subscribers = [hub.subscribe(), hub.subscribe()];
    send(&clock, &sender, 0..3);
    let report = pipeline.report();
    let outputs = &report.stage("broadcast").unwrap().outputs;
    let [all] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((all.queued, all.capacity), (6, usize::MAX));
    drop((sender, hub, subscribers));
    pipeline.join();
}

#[test]
fn a_subscriber_after_the_end_gets_the_replay_and_the_end() {
    let (clock, pipeline) = virtual_pipeline();
    let hub = Stream::from_iter(&pipeline, 0..5).through_hub(&Broadcast::new().with_replay(3));
    assert_eq!(hub.subscribe().count().unwrap(), 5);
    clock.settle();
    for _ in 0..2 {
        assert_eq!(hub.subscribe().collect::<Vec<_>>().unwrap(), [2, 3, 4]);
    }
    assert!(pipeline.join().is_complete());
    assert_eq!(hub.subscribe().collect::<Vec<_>>().unwrap(), [2, 3, 4]);
}

#[test]
fn a_cut_reaches_each_subscriber_even_a_late_one() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 16);
    let hub = items.broadcast();
    let streams = [hub.subscribe(), hub.subscribe()];
    send(&clock, &sender, 0..2);
    sender.cut("the line is dead");
    clock.settle();
    for stream in streams.into_iter().chain([hub.subscribe()]) {
        let error = stream.collect::<Vec<_>>().unwrap_err();
        assert!(error.is_cancelled() && format!("{error:?}").contains("the line is dead"), "{error:?}");
    }
    pipeline.join();
}

#[test]
fn the_slowest_subscriber_holds_back_the_others() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 100);
    let hub = items.through_hub(&Broadcast::new().with_buffer_size(2));
    // Both are there before the first item.
    let (mut quick, mut slow) = (hub.subscribe(), hub.subscribe());
    send(&clock, &sender, 0..100);
    drop(sender);
    // The third item finds room in one of the two, and the fourth is not accepted.
    assert_eq!(now(&clock, &mut quick), oks(0..3));
    assert_eq!(slow.recv().unwrap().unwrap(), 0);
    assert_eq!(now(&clock, &mut quick), oks(3..4));
    drop(slow);
    assert_eq!(now(&clock, &mut quick), oks(4..100));
    drop(hub);
    assert_eq!(quick.count().unwrap(), 0);
}

#[test]
fn a_slow_subscriber_can_lose_the_oldest_items_with_an_error() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 16);
    let lossy = Broadcast::new().with_buffer_size(4).with_slow_subscriber(SlowSubscriber::DropOldest);
    let hub = items.through_hub(&lossy);
    let (mut quick, mut slow) = (hub.subscribe(), hub.subscribe());
    for n in 0..10 {
        send(&clock, &sender, [n]);
        assert_eq!(now(&clock, &mut quick), oks([n]));
    }
    let mut expected = oks(7..10);
    expected.insert(0, Err(7));
    assert_eq!(now(&clock, &mut slow), expected);
    send(&clock, &sender, 10..12);
    assert_eq!(now(&clock, &mut slow), oks(10..12));
    assert_eq!(now(&clock, &mut quick), oks(10..12));
    drop((sender, hub, quick, slow));
    let report = pipeline.join();
    let stage = report.stage("broadcast").unwrap();
    assert!(stage.steps[0].balances());
    assert_eq!((stage.emitted(), stage.outputs[0].undelivered), (24, 7));
}

#[test]
fn a_slow_subscriber_with_an_error_item_holds_up_no_other() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 16);
    let lossy = Broadcast::new().with_buffer_size(4).with_slow_subscriber(SlowSubscriber::DropOldest);
    let hub = items.through_hub(&lossy);
    let (mut quick, mut slow) = (hub.subscribe(), hub.subscribe());
    sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
    assert_eq!(now(&clock, &mut quick), [Err(0)]);
    for n in 0..10 {
        send(&clock, &sender, [n]);
        assert_eq!(now(&clock, &mut quick), oks([n]));
    }
    assert_eq!(now(&clock, &mut slow), [Err(0), Err(8), Ok(8), Ok(9)]);
}

/// A pool sets the capacity of its input.
#[test]
fn a_slow_subscriber_with_too_little_room_holds_up_no_other() {
    for capacity in 0..3 {
        let (clock, pipeline) = virtual_pipeline();
        let (sender, items) = Stream::channel(&pipeline, 16);
        let hub = items.through_hub(&Broadcast::new().with_slow_subscriber(SlowSubscriber::DropOldest));
        let (mut quick, mut slow) = (hub.subscribe(), hub.subscribe());
        slow.set_capacity(capacity);
        for n in 0..10 {
            send(&clock, &sender, [n]);
            assert_eq!(now(&clock, &mut quick), oks([n]), "capacity {capacity}");
        }
        assert_eq!(now(&clock, &mut slow), [Err(8), Ok(8), Ok(9)], "capacity {capacity}");
    }
}

/// The missing and the received items add up, whatever the scheduler does.
#[test]
fn with_losses_each_item_comes_or_is_counted_as_missing() {
    let pipeline = Pipeline::new("news");
    let lossy = Broadcast::new().with_buffer_size(3).with_slow_subscriber(SlowSubscriber::DropOldest);
    let hub = Stream::from_iter(&pipeline, 0..20_000u32).through_hub(&lossy);
    let mut next = 0;
    let stream = hub.subscribe();
    drop(hub);
    for item in stream {
        match item {
            Ok(item) => {
                assert_eq!(item, next);
                next += 1;
            }
            Err(error) => next += u32::try_from(error.downcast_ref::<Lagged>().unwrap().missed()).unwrap(),
        }
    }
    assert_eq!(next, 20_000);
    assert!(pipeline.join().is_complete());
}

/// When it is cloned, the stream of a subscriber is dropped.
struct Leaving(Arc<Mutex<Option<Stream<Leaving>>>>);

impl Clone for Leaving {
    fn clone(&self) -> Self {
        drop(self.0.lock().take());
        Self(Arc::clone(&self.0))
    }
}

#[test]
fn an_item_for_a_subscriber_that_leaves_is_undelivered() {
    for slow in [SlowSubscriber::Block, SlowSubscriber::DropOldest, SlowSubscriber::Disconnect] {
        let (clock, pipeline) = virtual_pipeline();
        let (sender, items) = Stream::channel(&pipeline, 16);
        let hub = items.through_hub(&Broadcast::new().with_slow_subscriber(slow));
        let (leaving, staying) = (Arc::new(Mutex::new(Some(hub.subscribe()))), hub.subscribe());
        sender.send(Leaving(Arc::clone(&leaving))).unwrap();
        clock.settle();
        drop((sender, hub));
        assert_eq!(staying.count().unwrap(), 1);
        let report = pipeline.join();
        let stage = report.stage("broadcast").unwrap();
        assert_eq!((stage.emitted(), stage.outputs[0].undelivered), (2, 1), "{slow:?}");
    }
}

#[test]
fn an_item_that_waits_behind_errors_is_undelivered_at_the_end() {
    for is_cancelled in [false, true] {
        let (clock, pipeline) = virtual_pipeline();
        let (sender, items) = Stream::channel(&pipeline, 16);
        let lossy = Broadcast::new().with_buffer_size(3).with_slow_subscriber(SlowSubscriber::DropOldest);
        let hub = items.through_hub(&lossy);
        let slow = hub.subscribe();
        for _ in 0..3 {
            sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
        }
        send(&clock, &sender, [1]);
        if is_cancelled {
            pipeline.cancel();
        }
        drop(slow);
        drop((sender, hub));
        let report = pipeline.join();
        let stage = report.stage("broadcast").unwrap();
        assert_eq!((stage.emitted(), stage.outputs[0].undelivered), (1, 1), "cancelled {is_cancelled}");
    }
}

#[test]
fn a_slow_subscriber_can_be_disconnected() {
    let (clock, pipeline) = virtual_pipeline();
    let (sender, items) = Stream::channel(&pipeline, 16);
    let strict = Broadcast::new().with_buffer_size(2).with_slow_subscriber(SlowSubscriber::Disconnect);
    let hub = items.through_hub(&strict);
    let (mut quick, slow) = (hub.subscribe(), hub.subscribe());
    for n in 0..4 {
        send(&clock, &sender, [n]);
        assert_eq!(now(&clock, &mut quick), oks([n]));
    }
    let seen: Vec<_> = slow.into_iter().collect();
    assert_eq!(seen.iter().flatten().collect::<Vec<_>>(), [&0, &1]);
    let error = seen.last().unwrap().as_ref().unwrap_err();
    assert!(error.is_cancelled() && error.downcast_ref::<TooSlow>().is_some(), "{error:?}");
    drop((sender, hub));
    assert_eq!(quick.count().unwrap(), 0);
    assert!(pipeline.join().is_complete());
}

#[test]
fn errors_reach_each_subscriber() {
    let pipeline = Pipeline::new("news");
    let (sender, items) = Stream::channel(&pipeline, 16);
    let hub = items.broadcast();
    let streams = [hub.subscribe(), hub.subscribe()];
    sender.send(1u32).unwrap();
    sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
    drop((sender, hub));
    for stream in streams {
        let tally = stream.for_each(drop).unwrap();
        assert_eq!((tally.items, tally.errors), (1, 1));
    }
}

#[test]
fn without_hub_and_subscribers_everything_stops() {
    let pipeline = Pipeline::new("news");
    let hub = Stream::from_iter(&pipeline, 0u64..).broadcast();
    let (mut one, other) = (hub.subscribe(), hub.subscribe());
    drop((other, hub.clone()));
    one.recv().unwrap().unwrap();
    drop(hub);
    one.recv().unwrap().unwrap();
    drop(one);
    pipeline.join();
    let pipeline = Pipeline::new("news");
    drop(Stream::from_iter(&pipeline, 0u64..).broadcast());
    pipeline.join();
}

#[test]
fn subscribers_come_and_go_on_other_threads_while_items_flow() {
    let pipeline = Pipeline::new("news");
    let hub = Stream::from_iter(&pipeline, 0u64..).broadcast();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            let hub = hub.clone();
            threads.spawn(move || {
                for _ in 0..100 {
                    let items: Vec<u64> = hub.subscribe().take(3).collect().unwrap();
                    assert!(items[1] == items[0] + 1 && items[2] == items[0] + 2, "{items:?}");
                }
            });
        }
    });
    drop(hub);
    let report = pipeline.join();
    assert_eq!(report.stage("broadcast").unwrap().outputs.len(), 1);
}
