//! State of a stage when a closure of it waits through the library: the stage has announced the room that it made in
//! its input, and has handed over the items it emitted before.
//!
//! The closures here park, as `send`, `recv` and `sleep` do.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::clock::wait::{Waiter, hooks};
use crate::edge::edge;
use crate::error::Result;
use crate::{CancelToken, DeadLetterQueue, ErrorKind, Pipeline, SlidingBuffer, Stream, StreamError};

/// The duration of a wait that nothing ends.
const LIMIT: Duration = Duration::from_secs(5);

/// Waits once, where it is called first.
type Wait = Arc<dyn Fn() + Send + Sync>;

/// The remaining work after the closure has waited.
type Then = Option<Box<dyn FnOnce()>>;

fn failure() -> StreamError {
    StreamError::new(ErrorKind::Failed, "origin")
}

/// A waiter that can be moved to another thread before it waits.
fn waiter() -> Waiter {
    Waiter::for_thread(&Clock::default(), "probe".into())
}

/// Parks the calling thread; returns whether a wake ended that.
fn is_woken(waiter: &Waiter) -> bool {
    let clock = Clock::default();
    let deadline = clock.now() + LIMIT;
    waiter.park(Some(deadline));
    clock.now() < deadline
}

/// A stream whose edge is full, and a wait for room in it. The room made by taking one to three items is not worth
/// announcing by itself.
fn full(pipeline: &Pipeline, first: Result<u32>) -> (Stream<u32>, Wait, Receiver<bool>) {
    let (mut sender, receiver) = edge(8, false);
    let items = std::iter::once(first).chain((1..8).map(Ok));
    items.for_each(|item| _ = sender.push(item));
    sender.hand_over();
    let waiter = waiter();
    assert!(!sender.want_room(waiter.wake()), "the edge must be full for this case to mean anything");
    // It ends when its content has been read, and not before room was announced: that would wake the waiter, too.
    let (announced, was_announced) = channel();
    let once = Mutex::new(Some((waiter, sender)));
    let wait = move || {
        let Some((waiter, mut sender)) = once.lock().take() else { return };
        announced.send(is_woken(&waiter)).unwrap();
        sender.end(crate::edge::End::Finished);
    };
    (Stream::from_edge(receiver, pipeline.token(), "feeder".into()), Arc::new(wait), was_announced)
}

#[track_caller]
fn announces_room(what: &str, first: Result<u32>, run: impl FnOnce(Stream<u32>, Wait) -> Then) {
    let pipeline = Pipeline::new("room");
    let (stream, wait, was_announced) = full(&pipeline, first);
    let then = run(stream, wait);
    assert!(was_announced.recv().unwrap(), "{what}: room was not announced before the wait");
    if let Some(then) = then {
        then();
    }
    pipeline.join();
}

#[test]
fn a_stage_announces_room_before_its_closure_waits() {
    announces_room("map", Ok(0), |stream, wait| {
        stream.map(move |_| wait()).count().unwrap();
        None
    });
    announces_room("flat_map", Ok(0), |stream, wait| {
        stream.flat_map(move |_| [wait()]).count().unwrap();
        None
    });
    announces_room("partition", Ok(0), |stream, wait| {
        let parts = stream.partition(2, move |n| {
            wait();
            *n
        });
        parts.into_iter().for_each(|part| part.spawn_for_each(drop));
        None
    });
    announces_room("dead letters", Err(failure()), |stream, wait| {
        let token = stream.token().clone();
        let output = DeadLetterQueue::new().on_failure(move |_| wait()).process(&token, stream);
        output.failed.spawn_for_each(drop);
        output.items.count().unwrap();
        None
    });
    announces_room("sliding buffer", Ok(0), |stream, wait| {
        let kept = stream.through(&SlidingBuffer::new(1).on_drop(move |_| wait()));
        // Not read before: otherwise nothing would be dropped.
        Some(Box::new(move || assert!(kept.count().unwrap() > 0)))
    });
}

#[test]
fn a_sink_announces_room_before_its_closure_waits() {
    announces_room("for_each", Ok(0), |stream, wait| {
        stream.for_each(|_| wait()).unwrap();
        None
    });
    announces_room("try_for_each", Ok(0), |stream, wait| {
        let waits = |_| {
            wait();
            crate::ok(())
        };
        stream.try_for_each(waits).unwrap();
        None
    });
    announces_room("fold", Ok(0), |stream, wait| {
        stream.fold((), |(), _| wait()).unwrap();
        None
    });
    announces_room("collect", Ok(0), |stream, wait| {
        /// Waits while it collects.
        struct Waits;
        thread_local! { static WAIT: Mutex<Option<Wait>> = const { Mutex::new(None) }; }
        impl FromIterator<u32> for Waits {
            fn from_iter<I: IntoIterator<Item = u32>>(items: I) -> Self {
                let wait = WAIT.with(|wait| wait.lock().take()).unwrap();
                items.into_iter().for_each(|_| wait());
                Self
            }
        }
        WAIT.with(|slot| *slot.lock() = Some(wait));
        let Waits = stream.collect().unwrap();
        None
    });
    announces_room("spawn_for_each", Ok(0), |stream, wait| {
        stream.spawn_for_each(move |_| wait());
        None
    });
    announces_room("an inline step", Ok(0), |stream, wait| {
        stream.inline().map(move |_| wait()).count().unwrap();
        None
    });
    announces_room("an inline step that is not plain", Ok(0), |stream, wait| {
        stream.inline().flat_map(move |_| [wait()]).first().unwrap();
        None
    });
    announces_room("a sink within a sink", Ok(0), |stream, wait| {
        let inner = Pipeline::new("inner");
        stream
            .for_each(|_| {
                Stream::from_iter(&inner, 0..3).for_each(|_| wait()).unwrap();
            })
            .unwrap();
        None
    });
    assert_eq!(hooks(), 0, "a sink leaves its hook behind");
}

#[test]
fn calls_that_return_have_announced_room() {
    announces_room("iteration", Ok(0), |stream, wait| {
        stream.into_iter().for_each(|_| wait());
        None
    });
    announces_room("recv", Ok(0), |mut stream, wait| {
        while stream.recv().is_some() {
            wait();
        }
        None
    });
    announces_room("try_recv", Ok(0), |mut stream, wait| {
        stream.try_recv().unwrap().unwrap();
        wait();
        None
    });
    announces_room("recv_timeout", Ok(0), |mut stream, wait| {
        stream.recv_timeout(LIMIT).unwrap().unwrap();
        wait();
        None
    });
}

#[test]
fn a_sink_whose_closure_panics_leaves_no_hook_behind() {
    let pipeline = Pipeline::new("panics");
    let stream = Stream::from_iter(&pipeline, 0..3);
    assert!(crate::panic::catch(|| stream.for_each(|_| panic!("the closure"))).is_err());
    assert_eq!(hooks(), 0);
}

/// The number of items in the outputs of `stage` before and after a closure of it waits.
#[derive(Clone)]
struct Look {
    stage: &'static str,
    token: CancelToken,
    seen: Sender<(usize, usize)>,
}

impl Look {
    fn queued(&self) -> usize {
        let report = self.token.report();
        report.stage(self.stage).unwrap().outputs.iter().map(|output| output.queued).sum()
    }

    fn wait(&self) {
        let waiter = waiter();
        waiter.wake().post();
        let before = self.queued();
        waiter.park(None);
        self.seen.send((before, self.queued())).unwrap();
    }
}

/// `run` builds a stage of this name that forwards 0 and 1, and then calls the closure that counts. Returns the outputs
/// that are not read yet.
#[track_caller]
fn hands_over<Out>(stage: &'static str, third: Result<u32>, run: impl FnOnce(Stream<u32>, Look) -> Out) {
    let pipeline = Pipeline::new("open");
    let (mut sender, receiver) = edge(8, false);
    [Ok(0), Ok(1), third].into_iter().for_each(|item| _ = sender.gather(item));
    sender.end(crate::edge::End::Finished);
    let (seen, was_seen) = channel();
    let look = Look { stage, token: pipeline.token(), seen };
    let output = run(Stream::from_edge(receiver, pipeline.token(), "feeder".into()), look);
    // The first item is handed over at once, because the edge is new.
    assert_eq!(was_seen.recv().unwrap(), (1, 2), "{stage}: queued before and after the wait");
    drop(output);
    pipeline.join();
}

#[test]
fn a_stage_hands_over_before_its_closure_waits() {
    hands_over("map", Ok(2), |stream, look| {
        stream.map(move |n| {
            if n == 2 {
                look.wait();
            }
        })
    });
    hands_over("partition", Ok(2), |stream, look| {
        stream.partition(1, move |n| {
            if *n == 2 {
                look.wait();
            }
        })
    });
    hands_over("dead_letters", Err(failure()), |stream, look| {
        let token = stream.token().clone();
        DeadLetterQueue::new().on_failure(move |_| look.wait()).process(&token, stream)
    });
}
