//! Geographic partitions.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use streamz::testing::{Recorder, TestSource};
use streamz::{ErrorKind, ManualClock, Mapper, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../geo_partitions.rs"]
mod example;

use example::{Region, Request, Response, distribute};

fn request(id: &str) -> Request {
    Request { id: id.to_owned() }
}

#[test]
fn the_region_is_the_prefix_of_the_id() {
    let cases = [
        ("us-west-12345", Region::UsWest),
        ("us-east-1", Region::UsEast),
        ("eu-1", Region::Eu),
        ("eu-west-1", Region::Eu),
        ("asia-1", Region::Asia),
        ("africa-1", Region::Other),
        ("us-north-1", Region::Other),
        ("us-west", Region::Other),
        ("us", Region::Other),
        ("eu", Region::Other),
        ("", Region::Other),
        ("US-WEST-1", Region::Other),
    ];
    for (id, region) in cases {
        assert_eq!(Region::of(id), region, "{id:?}");
    }
    for (index, region) in Region::ALL.into_iter().enumerate() {
        assert_eq!(region as usize, index, "the order of the partitions");
    }
}

#[test]
fn each_region_serves_its_requests_in_order_on_its_threads() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, requests) = TestSource::new(&pipeline);
    let seen: Arc<Mutex<HashSet<(Region, String)>>> = Arc::default();
    let (regions, stats) = distribute(&pipeline, requests, |region| {
        let seen = Arc::clone(&seen);
        Mapper::new(move |request: Request| {
            seen.lock()
                .insert((region, thread::current().name().unwrap_or_default().to_owned()));
            Response { id: request.id, served_in: region }
        })
        .with_name(format!("{region:?}"))
    });
    let regions = regions
        .into_iter()
        .map(|(region, stream)| (region, Recorder::new(stream)))
        .collect::<Vec<_>>();
    source.push_all(
        ["eu-1", "us-west-1", "eu-2", "us-east-1", "mars-1", "eu-3", "us-west-2"].map(request),
    );
    source.end();
    assert!(pipeline.join().is_complete());

    let served: Vec<_> = regions.iter().map(|(region, it)| (*region, it.items())).collect();
    let response = |region, ids: &[&str]| {
        let response = |id: &&str| Response { id: (*id).to_owned(), served_in: region };
        (region, ids.iter().map(response).collect::<Vec<_>>())
    };
    let expected = [
        response(Region::UsWest, &["us-west-1", "us-west-2"]),
        response(Region::UsEast, &["us-east-1"]),
        response(Region::Eu, &["eu-1", "eu-2", "eu-3"]),
        response(Region::Asia, &[]),
        response(Region::Other, &["mars-1"]),
    ];
    assert_eq!(served, expected);
    assert_eq!(stats.items_per_partition(), [2, 1, 3, 0, 1]);
    let seen = seen.lock();
    assert!(
        seen.iter().all(|(region, thread)| thread.contains(&format!("{region:?}"))),
        "{seen:?}"
    );
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_region_that_fails_fails_its_own_requests_only() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, requests) = TestSource::new(&pipeline);
    let (regions, _) = distribute(&pipeline, requests, |region| {
        Mapper::new(move |request: Request| {
            assert!(region != Region::Eu, "the cable is cut");
            Response { id: request.id, served_in: region }
        })
    });
    let regions = regions
        .into_iter()
        .map(|(region, stream)| (region, Recorder::new(stream)))
        .collect::<Vec<_>>();
    source.push_all(["eu-1", "asia-1", "eu-2", "asia-2"].map(request));
    source.end();
    pipeline.join();
    for (region, recorder) in regions {
        let outputs = recorder.timed_outputs();
        let failed = outputs
            .iter()
            .filter(|(_, it)| it.as_ref().is_err_and(|e| e.kind() == ErrorKind::Panicked))
            .count();
        let expected = match region {
            Region::Eu => (2, 2),
            Region::Asia => (2, 0),
            _ => (0, 0),
        };
        assert_eq!((outputs.len(), failed), expected, "{region:?}");
    }
}
