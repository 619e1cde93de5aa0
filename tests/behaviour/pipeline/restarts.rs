//! `Stream::restarting`: sources that fail and are built again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use streamz::{Cancelled, ManualClock, Outcome, PanicMessage, Restart, RestartAttempt, Result, Stream, StreamError};

use crate::{logged, ms, virtual_pipeline, virtual_pipeline_of};

/// What a source does after it has given some numbers.
#[derive(Clone, Copy)]
enum Then {
    Ends,
    Fails,
    Panics,
}

/// The numbers from `first` to before `end`.
fn numbers(first: u64, end: u64, then: Then) -> impl Iterator<Item = Result<u64, &'static str>> + Send {
    (first..end).map(Ok).chain(
        std::iter::once_with(move || match then {
            Then::Ends => None,
            Then::Fails => Some(Err("reset")),
            Then::Panics => panic!("reset"),
        })
        .flatten(),
    )
}

/// All that comes until the source waits.
fn found(clock: &ManualClock, stream: &mut Stream<u64>) -> Vec<Result<u64>> {
    let next = || {
        clock.settle();
        stream.try_recv().ok()
    };
    std::iter::from_fn(next).collect()
}

fn items(clock: &ManualClock, stream: &mut Stream<u64>) -> Vec<u64> {
    found(clock, stream).into_iter().map(|item| item.expect("no error")).collect()
}

#[test]
fn a_failed_source_is_rebuilt_after_a_delay() {
    logged::keep();
    let (clock, pipeline) = virtual_pipeline();
    let mut runs = [(0, Then::Fails), (0, Then::Panics), (3, Then::Fails), (2, Then::Ends)].into_iter();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let restart = Restart::resuming({
        let seen = Arc::clone(&seen);
        move |attempt: &RestartAttempt| {
            seen.lock().unwrap().push((attempt.failures(), attempt.sent()));
            let (count, then) = runs.next().unwrap();
            streamz::ok(numbers(attempt.sent(), attempt.sent() + count, then))
        }
    });
    let restart = restart.base_delay(ms(100)).with_jitter(false);
    let stats = restart.stats();
    let mut stream = Stream::restarting(&pipeline.named("flaky feed"), restart);

    assert_eq!(items(&clock, &mut stream), []);
    assert_eq!((stats.failures(), stats.restarts(), stats.is_waiting()), (1, 0, true));
    clock.advance(ms(99));
    assert_eq!((items(&clock, &mut stream), stats.restarts()), (vec![], 0));
    clock.advance(ms(1));
    assert_eq!((items(&clock, &mut stream), stats.failures()), (vec![], 2));
    // Twice as long after the second failure in a row, and as at first after items.
    clock.advance(ms(199));
    assert_eq!(items(&clock, &mut stream), []);
    clock.advance(ms(1));
    assert_eq!(items(&clock, &mut stream), [0, 1, 2]);
    clock.advance(ms(100));
    assert_eq!(items(&clock, &mut stream), [3, 4]);
    assert!(stream.recv().is_none());
    assert_eq!((stats.failures(), stats.restarts(), stats.is_waiting()), (3, 3, false));
    assert_eq!(*seen.lock().unwrap(), [(0, 0), (1, 0), (2, 0), (1, 3)]);

    let report = pipeline.join();
    assert!(report.is_complete(), "{report}");
    let stage = report.stage("flaky feed").unwrap();
    assert_eq!((stage.failed_calls(), stage.emitted(), stage.failed()), (3, 5, 0));
    // The first of each row.
    let lines = logged::with("`flaky feed`");
    assert_eq!(lines, ["streamz: `flaky feed` has failed and is restarted: reset"; 2]);
}

#[test]
fn a_source_that_cannot_be_built_is_retried() {
    let (clock, pipeline) = virtual_pipeline();
    let restart = Restart::resuming(|attempt: &RestartAttempt| match attempt.failures() {
        0 => Err("refused"),
        1 => panic!("no such host"),
        _ => Ok(numbers(0, 2, Then::Ends)),
    });
    let restart = restart.base_delay(ms(1)).max_delay(ms(1)).with_jitter(false);
    let stats = restart.stats();
    let mut stream = Stream::restarting(&pipeline, restart);
    clock.advance(ms(2));
    assert_eq!(items(&clock, &mut stream), [0, 1]);
    assert_eq!((stats.failures(), stats.restarts()), (2, 1));
}

#[test]
fn the_last_error_cuts_the_stream() {
    type Check = fn(&StreamError) -> bool;
    let cases: [(Then, Check); 2] = [
        (Then::Fails, |error| error.to_string().contains("cancelled") || std::error::Error::source(error).is_some()),
        (Then::Panics, |error| error.downcast_ref::<PanicMessage>().is_some()),
    ];
    for (then, check) in cases {
        let (clock, pipeline) = virtual_pipeline();
        let restart = Restart::resuming(move |attempt: &RestartAttempt| {
            let count = if attempt.sent() == 0 && attempt.failures() == 1 { 2 } else { 0 };
            streamz::ok(numbers(0, count, then))
        });
        let restart = restart.max_attempts(3).with_seed(7);
        let stats = restart.stats();
        let mut stream = Stream::restarting(&pipeline, restart);
        clock.advance(ms(60_000));
        let mut found = found(&clock, &mut stream);
        let last = found.pop().unwrap().unwrap_err();
        assert!(last.is_cancelled() && check(&last), "{last:?}");
        assert_eq!(found.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [0, 1]);
        assert!(stream.recv().is_none());
        // One, two with items, and three in a row: of which the second is the first.
        assert_eq!((stats.failures(), stats.is_waiting()), (4, false));
        let report = pipeline.join();
        assert!(!report.is_complete(), "{report}");
    }
}

#[test]
fn one_attempt_restarts_nothing() {
    let (_, pipeline) = virtual_pipeline();
    let restart = Restart::resuming(|_| streamz::ok(numbers(0, 0, Then::Fails))).max_attempts(1);
    let mut stream = Stream::restarting(&pipeline, restart);
    assert!(stream.recv().unwrap().unwrap_err().is_cancelled());
    assert!(stream.recv().is_none());
}

#[test]
fn a_restarted_source_skips_items_already_sent() {
    let (clock, pipeline) = virtual_pipeline();
    let mut end = 0;
    let restart = Restart::from_start(move |_| {
        end += 3;
        // The third run breaks within what was sent before.
        streamz::ok(numbers(0, if end == 9 { 2 } else { end }, if end > 9 { Then::Ends } else { Then::Fails }))
    });
    let restart = restart.base_delay(ms(10)).with_jitter(false);
    let stats = restart.stats();
    let mut stream = Stream::restarting(&pipeline, restart);
    // What is skipped begins no new row: the last pause is the second of its row.
    clock.advance(ms(10 + 10 + 20));
    assert_eq!(items(&clock, &mut stream), (0..12).collect::<Vec<_>>());
    assert_eq!(stats.skipped(), 3 + 2 + 6);
    assert!(stream.recv().is_none());
}

#[test]
fn a_cancellation_ends_the_pause_at_once_and_so_does_a_drain() {
    for drains in [false, true] {
        let (clock, pipeline) = virtual_pipeline();
        let restart = Restart::resuming(|_| Err::<std::iter::Empty<Result<u64, &str>>, _>("refused"));
        let restart = restart.base_delay(ms(u64::MAX));
        let mut stream = Stream::restarting(&pipeline, restart);
        clock.settle();
        if drains {
            pipeline.drain();
            assert!(stream.recv().is_none());
            assert!(matches!(pipeline.join().outcome, Outcome::Drained));
        } else {
            pipeline.cancel();
            assert!(stream.recv().unwrap().unwrap_err().is_cancelled());
            assert!(matches!(pipeline.join().outcome, Outcome::Cancelled(_)));
        }
    }
}

#[test]
fn a_source_that_waits_learns_that_its_consumer_left() {
    for builds in [false, true] {
        let (clock, pipeline) = virtual_pipeline();
        let restart = Restart::resuming(move |attempt: &RestartAttempt| {
            let token = attempt.token().clone();
            let nap = move || token.sleep(Duration::from_secs(3_600)).map(|()| 0_u64);
            if builds {
                nap()?;
            }
            Ok::<_, Cancelled>(std::iter::from_fn(move || Some(nap())))
        });
        let stats = restart.stats();
        let stream = Stream::restarting(&pipeline, restart);
        clock.settle();
        drop(stream);
        clock.settle();
        assert_eq!(pipeline.threads(), 0, "the call goes on");
        assert_eq!(stats.failures(), 0);
        assert!(pipeline.join().is_complete() && !pipeline.is_cancelled());
    }
}

#[test]
fn a_source_that_cancels_its_token_cuts_its_stream() {
    for fails in [false, true] {
        let (_, pipeline) = virtual_pipeline();
        let restart = Restart::resuming(move |attempt: &RestartAttempt| {
            attempt.token().cancel_because("enough");
            streamz::ok(numbers(0, 1, if fails { Then::Fails } else { Then::Ends }))
        });
        let mut stream = Stream::restarting(&pipeline, restart);
        let error = loop {
            if let Err(error) = stream.recv().unwrap() {
                break error;
            }
        };
        assert!(error.is_cancelled() && format!("{error:#}").ends_with("enough"), "{error:#}");
        assert!(stream.recv().is_none());
        assert!(matches!(pipeline.join().outcome, Outcome::Cut(_)));
    }
}

#[test]
fn a_source_that_is_interrupted_has_not_failed() {
    let (clock, pipeline) = virtual_pipeline();
    let restart = Restart::resuming(|attempt: &RestartAttempt| {
        let token = attempt.token().clone();
        streamz::ok(std::iter::from_fn(move || Some(token.sleep(ms(1000)).map(|()| 1_u64))))
    });
    let stats = restart.stats();
    let mut stream = Stream::restarting(&pipeline, restart);
    clock.advance(ms(1500));
    assert_eq!(items(&clock, &mut stream), [1]);
    pipeline.cancel();
    assert!(stream.recv().unwrap().unwrap_err().is_cancelled());
    pipeline.join();
    assert_eq!(stats.failures(), 0);
}

#[test]
fn a_source_is_dropped_before_the_next_is_built() {
    struct Open(Arc<AtomicU64>);
    impl Drop for Open {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let (clock, pipeline) = virtual_pipeline_of(1);
    let open = Arc::new(AtomicU64::new(0));
    let restart = Restart::resuming({
        let open = Arc::clone(&open);
        move |_| {
            assert_eq!(open.fetch_add(1, Ordering::Relaxed), 0);
            let guard = Open(Arc::clone(&open));
            streamz::ok(numbers(0, 1, Then::Fails).inspect(move |_| _ = &guard))
        }
    });
    let restart = restart.base_delay(ms(0));
    let mut stream = Stream::restarting(&pipeline, restart);
    for _ in 0..5 {
        assert_eq!(stream.recv().unwrap().unwrap(), 0);
    }
    drop(stream);
    clock.settle();
    pipeline.join();
    assert_eq!(open.load(Ordering::Relaxed), 0);
}

#[test]
#[should_panic(expected = "`max_delay` (1ms) must not be less than `base_delay` (2ms)")]
fn a_longest_pause_below_the_first_is_refused() {
    let (_, pipeline) = virtual_pipeline();
    let restart = Restart::resuming(|_| streamz::ok(numbers(0, 0, Then::Ends))).base_delay(ms(2)).max_delay(ms(1));
    drop(Stream::restarting(&pipeline, restart));
}
