//! Retry: what is tried again, when, and that nothing else waits for it.

use std::sync::Arc;
use std::time::Duration;

use streamz::testing::Recorder;
use streamz::{ManualClock, Pipeline, Stream};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../retry.rs"]
mod example;

use example::{LATENCY, Order, Processed, Service, ServiceError, as_laid_down, resilient};

#[test]
fn an_order_is_tried_up_to_five_times_and_keeps_its_place() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("orders").clock(&clock).build();
    let service = Arc::new(Service::new([(1, 4), (2, 5)]));
    let called = Arc::clone(&service);
    let retry = resilient(move |cancel, order| called.process(cancel, order));
    let recorder = Recorder::new(
        Stream::from_iter(&pipeline, (0..20).map(|id| Order { id })).through(&retry),
    );

    // While two workers wait for their retries, the others have gone on with what the window allows.
    clock.advance(3 * LATENCY);
    assert_eq!(recorder.timed_items(), [(LATENCY, Processed { order: 0 })]);
    assert!((3..20).all(|id| service.calls(id).len() == 1));

    clock.advance(Duration::from_secs(2));
    let outputs: Vec<_> =
        recorder.timed_outputs().into_iter().map(|(_, output)| output).collect();
    assert!(recorder.is_ended());
    let error = outputs[1].as_ref().unwrap_err();
    assert_eq!((error.attempts(), error.take_item()), (5, Some(Order { id: 2 })));
    assert!(matches!(error.downcast_ref(), Some(ServiceError::Busy)));
    let ids = outputs.iter().flatten().map(|processed| processed.order);
    assert!(ids.eq([1].into_iter().chain(3..20)));

    for order in [1, 2] {
        assert_eq!(service.pauses(order).len(), 4);
        assert!(as_laid_down(&service.pauses(order)), "{:?}", service.pauses(order));
    }
    let stats = retry.stats();
    assert_eq!((stats.retries(), stats.recovered(), stats.exhausted()), (8, 1, 1));
    assert!(pipeline.join().is_complete());
}

#[test]
fn cancellation_ends_a_pause_at_once() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("orders").clock(&clock).build();
    let service = Arc::new(Service::new([(0, 5)]));
    let called = Arc::clone(&service);
    let retry = resilient(move |cancel, order| called.process(cancel, order));
    let recorder =
        Recorder::new(Stream::from_iter(&pipeline, [Order { id: 0 }]).through(&retry));
    clock.advance(LATENCY);
    assert_eq!(retry.stats().waiting(), 1);
    pipeline.cancel();
    assert!(
        recorder
            .timed_outputs()
            .iter()
            .all(|(_, output)| output.as_ref().is_err_and(|error| error.is_cancelled()))
    );
    assert_eq!((service.calls(0).len(), retry.stats().waiting()), (1, 0));
    assert!(!pipeline.join().is_complete());
}
