//! API gateway: every request gets its own answer, and the service is spared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, CancelToken, ManualClock, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../api_gateway.rs"]
mod example;

use example::{Request, Response, gateway};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn request(id: u64) -> Request {
    Request { id, key: "secret".to_owned(), endpoint: format!("e{id}") }
}

fn all_well(_: &CancelToken, batch: &[Request]) -> Result<Vec<Response>, BoxError> {
    Ok(batch.iter().map(|request| request.answer(200, &request.endpoint)).collect())
}

struct Rig {
    clock: ManualClock,
    pipeline: Pipeline,
    source: TestSource<Request>,
    responses: Recorder<Response>,
}

fn rig(
    service: impl Fn(&CancelToken, &[Request]) -> Result<Vec<Response>, BoxError>
    + Send
    + Sync
    + 'static,
) -> Rig {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("gateway").clock(&clock).build();
    let (source, requests) = TestSource::with_capacity(&pipeline, 5_000);
    let responses = Recorder::new(gateway(requests, service, |_| {}));
    Rig { clock, pipeline, source, responses }
}

impl Rig {
    /// The answers since the last time, and when they came.
    fn answers(&self) -> Vec<(Duration, u64, u16)> {
        self.responses
            .timed_items()
            .into_iter()
            .map(|(time, response)| (time, response.id, response.status))
            .collect()
    }
}

#[test]
fn requests_wait_50_ms_at_most_and_invalid_ones_not_at_all() {
    let rig = rig(all_well);
    rig.source.push_all([request(1), Request { key: String::new(), ..request(2) }, request(3)]);
    rig.source.push(Request { endpoint: String::new(), ..request(4) });
    assert_eq!(rig.answers(), [(ms(0), 2, 401), (ms(0), 4, 401)]);
    rig.clock.advance(ms(50));
    assert_eq!(rig.answers(), [(ms(50), 1, 200), (ms(50), 3, 200)]);
    rig.source.push_all((10..20).map(request));
    assert!(rig.answers().iter().map(|it| it.0).eq([ms(50); 10]));
    rig.source.end();
    assert!(rig.pipeline.join().is_complete());
}

#[test]
fn invalid_requests_take_no_share_of_1000_per_second() {
    let rig = rig(all_well);
    let invalid = |id| Request { key: String::new(), ..request(id) };
    rig.source
        .push_all((0..4_000).map(|id| if id % 2 == 0 { request(id) } else { invalid(id) }));
    rig.clock.advance(ms(10_000));
    let served: Vec<_> =
        rig.answers().into_iter().filter(|(.., status)| *status == 200).collect();
    // Ten at once, to begin with, and then one in a millisecond; they come in batches of ten.
    let expected = (0..2_000).map(|n: u64| (ms((n / 10) * 10), n * 2, 200));
    assert!(served.into_iter().eq(expected));
    rig.source.end();
    assert!(rig.pipeline.join().is_complete());
}

#[test]
fn each_request_of_a_failed_batch_is_answered() {
    let rig = rig(|cancel, batch| match batch[0].id {
        0 => Err("out of order".into()),
        10 => Ok(Vec::new()),
        20 => panic!("a fault of its own"),
        30 => cancel.sleep(ms(1_000)).map(|()| Vec::new()).map_err(BoxError::from),
        _ => all_well(cancel, batch),
    });
    for first in [40, 0, 50, 10, 60, 20, 70, 30] {
        rig.source.push_all((first..first + 10).map(request));
        rig.clock.advance(ms(1_000));
    }
    let mut found: Vec<_> =
        rig.answers().into_iter().map(|(_, id, status)| (id, status)).collect();
    found.sort_unstable();
    let status = |id| match id / 10 {
        0..=2 => 502,
        3 => 504,
        _ => 200,
    };
    assert!(found.into_iter().eq((0..80).map(|id| (id, status(id)))));
    rig.source.end();
    assert!(rig.pipeline.join().is_complete());
}

#[test]
fn an_open_circuit_refuses_requests_without_calling() {
    let (is_down, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(0)));
    let (down, count) = (Arc::clone(&is_down), Arc::clone(&asked));
    let rig = rig(move |cancel, batch| {
        *count.lock() += 1;
        if down.load(Ordering::Relaxed) { Err("down".into()) } else { all_well(cancel, batch) }
    });
    let mut next = 0;
    let mut batch = || {
        rig.source.push_all((next..next + 10).map(request));
        next += 10;
        let answers = rig.answers();
        assert_eq!(answers.len(), 10);
        // Time for the next burst.
        rig.clock.advance(ms(10));
        answers[0].2
    };
    let statuses: Vec<_> = (0..8).map(|_| batch()).collect();
    assert_eq!((statuses, *asked.lock()), (vec![502, 502, 502, 502, 502, 503, 503, 503], 5));

    is_down.store(false, Ordering::Relaxed);
    rig.clock.advance(ms(300));
    assert_eq!([batch(), batch(), batch(), batch()], [200; 4]);
    rig.source.end();
    assert!(rig.pipeline.join().is_complete());
}
