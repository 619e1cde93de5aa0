//! Load distribution by hash.

use std::collections::BTreeMap;
use std::time::Duration;

use streamz::testing::{Recorder, TestSource};
use streamz::{CancelToken, ManualClock, Pipeline, Stream};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../hash_distribution.rs"]
mod example;

use example::{Request, Response, distribute};

fn request(session: impl ToString, number: u32) -> Request {
    Request { session: session.to_string(), number }
}

fn response(worker: usize, request: &Request) -> Response {
    Response { session: request.session.clone(), number: request.number, worker }
}

fn places(workers: usize) -> BTreeMap<String, usize> {
    let pipeline = Pipeline::new("test");
    let requests = (0..3_000).map(|n| request(n % 1_000, n));
    let serve = |worker, _: &CancelToken, request: &Request| Ok(response(worker, request));
    let responses = distribute(Stream::from_iter(&pipeline, requests), workers, serve)
        .collect::<Vec<_>>()
        .unwrap();
    assert_eq!(responses.len(), 3_000);
    let mut places = BTreeMap::new();
    for response in responses {
        let place = *places.entry(response.session).or_insert(response.worker);
        assert_eq!(place, response.worker, "a session has one worker");
    }
    places
}

#[test]
fn sessions_have_fixed_workers_and_a_new_worker_moves_few() {
    let (five, six) = (places(5), places(6));
    assert_eq!(five, places(5));
    assert!(
        (0..5)
            .all(|worker| (150..250)
                .contains(&five.values().filter(|&&it| it == worker).count()))
    );
    let moved: Vec<usize> =
        five.iter().filter_map(|(key, &was)| Some(six[key]).filter(|&is| is != was)).collect();
    assert!(moved.iter().all(|&worker| worker == 5));
    assert!((130..205).contains(&moved.len()), "{} of 1000 moved; a sixth is 167", moved.len());
}

#[test]
fn requests_of_a_session_are_served_one_at_a_time() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, requests) = TestSource::new(&pipeline);
    let second = Duration::from_secs(1);
    let serve = move |worker, cancel: &CancelToken, request: &Request| {
        cancel.sleep(second)?;
        Ok(response(worker, request))
    };
    let responses = Recorder::new(distribute(requests, 1, serve));
    source.push_all([
        request("a", 1),
        request("a", 2),
        request("b", 1),
        request("a", 3),
        request("c", 1),
    ]);
    clock.advance(10 * second);

    let all = responses.timed_items();
    let times = |session: &str| -> Vec<(u64, u32)> {
        let of_it = all.iter().filter(|(_, response)| response.session == session);
        of_it.map(|(time, response)| (time.as_secs(), response.number)).collect()
    };
    // The output is in the order of the input, so what is finished early waits for those before it.
    assert_eq!(times("a"), [(1, 1), (2, 2), (3, 3)]);
    assert_eq!((times("b"), times("c")), (vec![(2, 1)], vec![(3, 1)]));
}
