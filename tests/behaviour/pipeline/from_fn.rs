//! `Stream::from_fn`: items that a closure makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use streamz::{CancelToken, Cancelled, Cause, Outcome, PanicMessage, Stream};

use crate::{ms, virtual_pipeline, virtual_pipeline_of};

#[test]
fn a_closure_is_called_until_it_returns_none() {
    let (_, pipeline) = virtual_pipeline();
    let mut n = 0;
    let numbers = Stream::from_fn(&pipeline, move |_| {
        n += 1;
        assert!(n <= 4, "called after its end");
        streamz::ok((n < 4).then_some(n))
    });
    assert_eq!(numbers.collect::<Vec<_>>().unwrap(), [1, 2, 3]);
    let report = pipeline.join();
    assert!(report.is_complete());
    assert_eq!(report.stage("from_fn").unwrap().emitted(), 3);
}

#[test]
fn a_closure_is_called_only_when_there_is_room() {
    for capacity in [0, 1, 3] {
        let (clock, pipeline) = virtual_pipeline_of(capacity);
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let mut stream =
            Stream::from_fn(&pipeline, move |_| streamz::ok(Some(counted.fetch_add(1, Ordering::Relaxed))));
        clock.settle();
        assert_eq!(calls.load(Ordering::Relaxed), capacity as u64);
        for n in 0..5 {
            assert_eq!(stream.recv().unwrap().unwrap(), n);
            clock.settle();
            assert!(calls.load(Ordering::Relaxed) <= n + 1 + capacity as u64, "capacity {capacity}");
        }
        drop(stream);
        pipeline.join();
    }
}

#[test]
fn an_error_or_a_panic_of_a_closure_cuts_the_stream() {
    for panics in [false, true] {
        let (_, pipeline) = virtual_pipeline();
        let mut left = 2;
        let mut stream = Stream::from_fn(&pipeline, move |_| {
            left -= 1;
            match left {
                0 if panics => panic!("broken"),
                0 => Err("broken"),
                _ => Ok(Some(left)),
            }
        });
        assert_eq!(stream.recv().unwrap().unwrap(), 1);
        let error = stream.recv().unwrap().unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "broken");
        assert_eq!(error.downcast_ref::<PanicMessage>().is_some(), panics);
        assert!(stream.recv().is_none());
        assert!(!pipeline.join().is_complete());
    }
}

#[test]
fn a_closure_that_waits_is_interrupted() {
    let (clock, pipeline) = virtual_pipeline();
    let mut stream = Stream::from_fn(&pipeline, |cancel: &CancelToken| {
        cancel.sleep(ms(10))?;
        Ok::<_, Cancelled>(Some(1))
    });
    clock.advance(ms(15));
    assert_eq!(stream.recv().unwrap().unwrap(), 1);
    pipeline.cancel();
    assert!(stream.recv().unwrap().unwrap_err().is_cancelled());
    assert!(stream.recv().is_none());
    assert!(matches!(pipeline.join().outcome, Outcome::Cancelled(_)));
}

#[test]
fn a_closure_that_waits_learns_that_its_consumer_left() {
    let (clock, pipeline) = virtual_pipeline();
    let (causes, cause) = std::sync::mpsc::channel();
    let mut first = true;
    let mut stream = Stream::from_fn(&pipeline, move |cancel: &CancelToken| {
        if !std::mem::take(&mut first) {
            cancel.sleep(Duration::from_secs(3_600)).inspect_err(|_| causes.send(cancel.cause()).unwrap())?;
        }
        Ok::<_, Cancelled>(Some(1))
    });
    clock.settle();
    assert_eq!(stream.recv().unwrap().unwrap(), 1);
    drop(stream);
    clock.settle();
    assert_eq!(pipeline.threads(), 0, "the call goes on");
    assert!(matches!(cause.recv().unwrap(), Some(Cause::ConsumerGone)));
    assert!(pipeline.join().is_complete() && !pipeline.is_cancelled());
}

#[test]
fn a_closure_that_cancels_its_token_cuts_its_stream() {
    for fails in [false, true] {
        let (_, pipeline) = virtual_pipeline();
        let mut stream = Stream::from_fn(&pipeline, move |cancel: &CancelToken| {
            cancel.cancel_because("enough");
            if fails { Err(cancel.check().unwrap_err()) } else { Ok(Some(1)) }
        });
        assert!(fails || stream.recv().unwrap().unwrap() == 1);
        let error = stream.recv().unwrap().unwrap_err();
        assert!(error.is_cancelled() && format!("{error:#}").ends_with("enough"), "{error:#}");
        assert!(stream.recv().is_none());
        assert!(matches!(pipeline.join().outcome, Outcome::Cut(_)));
    }
}

#[test]
fn a_drain_ends_it_between_two_calls() {
    let (clock, pipeline) = virtual_pipeline_of(2);
    let mut n = 0;
    let stream = Stream::from_fn(&pipeline, move |_| {
        n += 1;
        streamz::ok(Some(n))
    });
    clock.settle();
    pipeline.drain();
    assert_eq!(stream.collect::<Vec<_>>().unwrap(), [1, 2]);
    assert!(matches!(pipeline.join().outcome, Outcome::Drained));
}
