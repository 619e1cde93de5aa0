//! The producer of a stream is notified when its consumer has left, even while it has nothing to send.

use std::any::Any;

use streamz::{ErrorKind, Inline, Pipeline, SendError, Stream, StreamReceiver};

use super::{kinds, ms, virtual_pipeline};

/// Reads a little of a stream and drops it.
type Look = (&'static str, fn(StreamReceiver<u64>));

const LOOKS: &[Look] = &[
    ("at once", drop),
    ("after an item", |receiver| {
        assert_eq!(receiver.recv().unwrap().unwrap(), 1);
    }),
    ("after all items", |receiver| assert_eq!((&receiver).into_iter().take(2).count(), 2)),
    ("after a receive that found nothing", |receiver| {
        assert_eq!(receiver.iter().take(2).count(), 2);
        assert!(receiver.try_recv().is_err() && receiver.is_empty() && !receiver.clone().is_full());
    }),
    ("with a clone", |receiver| drop((receiver.clone(), receiver))),
    ("on another thread", |receiver| std::thread::spawn(move || drop(receiver)).join().unwrap()),
    ("closed beside a plain receiver", |receiver| {
        let plain = (*receiver).clone();
        receiver.close();
        assert!(plain.iter().count() <= 2);
    }),
];

#[test]
fn dropping_a_receiver_stops_a_quiet_source() {
    for (what, look) in LOOKS {
        for capacity in [1, 2, 4] {
            let (clock, pipeline) = virtual_pipeline();
            let (input, stream) = Stream::channel(&pipeline, 4);
            let receiver = stream.map(|n: u64| n).into_receiver(capacity);
            input.send(1).unwrap();
            input.send(2).unwrap();
            look(receiver);
            clock.settle();
            assert!(input.is_closed(), "{what}, capacity {capacity}");
            assert!(pipeline.join().is_complete(), "{what}, capacity {capacity}");
        }
    }
}

#[test]
fn a_clone_of_a_receiver_keeps_the_stream_going() {
    let (clock, pipeline) = virtual_pipeline();
    let (input, stream) = Stream::channel(&pipeline, 4);
    let receiver = stream.into_receiver(4);
    let clone = receiver.clone();
    drop(receiver);
    clock.settle();
    input.send(1).unwrap();
    assert_eq!(clone.recv().unwrap().unwrap(), 1);
    drop(clone);
    clock.settle();
    assert_eq!(input.send(2), Err(SendError::Closed(2)));
}

#[test]
fn a_plain_receiver_keeps_the_stream_going() {
    let (clock, pipeline) = virtual_pipeline();
    let (input, stream) = Stream::channel(&pipeline, 4);
    let receiver = stream.into_receiver(4);
    let plain = (*receiver).clone();
    drop(receiver);
    clock.settle();
    input.send(1).unwrap();
    assert_eq!(plain.recv().unwrap().unwrap(), 1);
    drop(plain);
    input.send(2).unwrap();
    clock.settle();
    assert!(input.is_closed());
}

#[test]
fn a_clone_of_a_receiver_that_was_closed_learns_of_it() {
    let (clock, pipeline) = virtual_pipeline();
    let (input, stream) = Stream::channel(&pipeline, 4);
    let receiver = stream.into_receiver(4);
    let clone = receiver.clone();
    input.send(1).unwrap();
    clock.settle();
    receiver.close();
    clock.settle();
    assert_eq!(clone.iter().map(Result::unwrap).collect::<Vec<_>>(), [1]);
    let error = clone.cut().unwrap();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(input.is_closed());
    assert!(pipeline.join().is_complete());
}

#[test]
fn a_full_channel_can_be_closed_beside_a_plain_receiver() {
    for capacity in [0, 1] {
        let (clock, pipeline) = virtual_pipeline();
        let (input, stream) = Stream::channel(&pipeline, 4);
        let receiver = stream.into_receiver(capacity);
        let plain = (*receiver).clone();
        (0..3).for_each(|n| input.send(n).unwrap());
        clock.settle();
        receiver.close();
        clock.settle();
        assert!(input.is_closed(), "capacity {capacity}");
        assert_eq!(plain.iter().count(), capacity);
        assert!(pipeline.join().is_complete());
    }
}

#[test]
fn dropping_any_consumer_stops_a_quiet_source() {
    type End = (&'static str, fn(Stream<u64>) -> Box<dyn Any>);
    let ends: [End; 4] = [
        ("stream", |stream| Box::new(stream)),
        ("iterator", |stream| Box::new(stream.into_iter())),
        ("receiver", |stream| Box::new(stream.into_receiver(1))),
        ("inline", |stream| Box::new(stream.inline().map(|n| n))),
    ];
    for (kind, processor) in kinds() {
        for (end, hold) in ends {
            let (clock, pipeline) = virtual_pipeline();
            let (input, stream) = Stream::channel(&pipeline, 4);
            let held = hold(stream.through(&processor));
            clock.settle();
            assert!(!input.is_closed(), "{kind}, {end}");
            drop(held);
            clock.settle();
            assert!(input.is_closed(), "{kind}, {end}");
        }
    }
}

#[test]
fn streams_of_a_dropped_pipeline_are_cut() {
    type End = (&'static str, fn(Stream<u64>) -> streamz::Result<u64>);
    let ends: [End; 9] = [
        ("recv", |mut stream| stream.recv().unwrap()),
        ("iteration", |stream| stream.into_iter().last().unwrap()),
        ("for_each", |stream| stream.for_each(|item| panic!("{item:?}")).map(|tally| tally.items)),
        ("try_for_each", |stream| stream.try_for_each(|_| streamz::ok(())).map(|tally| tally.items)),
        ("collect", |stream| stream.collect::<Vec<_>>().map(|items| items.len() as u64)),
        ("fold", |stream| stream.fold(0, |sum, n| sum + n)),
        ("count", |stream| stream.count()),
        ("first", |stream| stream.first().map(|first| first.unwrap_or(0))),
        ("inline", |stream| stream.inline().map(|n| n).count()),
    ];
    for (end, read) in ends {
        let pipeline = Pipeline::new("dropped");
        let stream = Stream::from_iter(&pipeline, 0..3);
        let token = pipeline.token();
        drop(pipeline);
        let stages = token.report().stages.len();
        let error = read(stream).expect_err(end);
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{end}");
        assert_eq!(error.downcast_ref::<streamz::Cause>().unwrap().to_string(), "pipeline dropped", "{end}");
        assert_eq!(token.report().stages.len(), stages, "{end}: the report is final");
    }
}

#[test]
fn streams_of_a_joined_pipeline_can_be_read() {
    let pipeline = Pipeline::new("joined");
    let [one, other] = [(); 2].map(|()| Stream::from_iter(&pipeline, 0..3));
    assert!(pipeline.join().is_complete());
    assert_eq!(one.into_iter().collect::<streamz::Result<Vec<_>>>().unwrap(), [0, 1, 2]);
    assert_eq!(other.inline().map(|n| n * n).collect::<Vec<_>>().unwrap(), [0, 1, 4]);
}

#[test]
#[should_panic(expected = "stage `source` cannot start: pipeline `joined` has finished")]
fn a_source_cannot_begin_on_a_pipeline_that_has_finished() {
    let pipeline = Pipeline::new("joined");
    let inline = Inline::from_iter(&pipeline, 0..3);
    pipeline.join();
    let _ = inline.count();
}

#[test]
fn a_wait_ends_at_the_deadline_of_its_token() {
    let (clock, pipeline) = virtual_pipeline();
    let (input, stream) = Stream::channel(&pipeline.with_timeout(ms(10)), 1);
    input.send(1).unwrap();
    // The limit comes later, so that a wait that ignores the deadline ends, too.
    assert_eq!(input.send_timeout(2, ms(50)), Err(SendError::Closed(2)));
    assert_eq!(clock.elapsed(), ms(10));
    drop(stream);

    let (_input, stream) = Stream::<u64>::channel(&pipeline, 1);
    let mut stream = stream.with_token(&pipeline.with_timeout(ms(10)));
    let error = stream.recv_timeout(ms(50)).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(clock.elapsed(), ms(20));
}

#[test]
fn a_channel_made_after_a_drain_is_ended() {
    let (_clock, pipeline) = virtual_pipeline();
    pipeline.drain();
    let (input, mut stream) = Stream::channel(&pipeline, 1);
    assert!(input.is_closed());
    assert_eq!(input.send(1), Err(SendError::Closed(1)));
    assert!(stream.recv().is_none());
}

#[test]
fn a_channel_that_is_full_has_the_counts_up_to_date() {
    let (clock, pipeline) = virtual_pipeline();
    let receiver = Stream::from_iter(&pipeline, 0..100).into_receiver(3);
    clock.settle();
    // One is in the hands of its thread.
    assert_eq!(pipeline.report().stage("into_receiver").unwrap().received(), 4);
    drop(receiver);
}
