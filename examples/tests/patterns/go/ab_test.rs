use std::collections::BTreeMap;
use std::sync::Mutex;

use streamz::{AsyncMapper, BoxError, CancelToken, Processor, Router, Stream, Tap};

use super::pipeline;

#[derive(Debug, Clone)]
struct Request {
    user_id: String,
}

#[derive(Debug)]
struct Response {
    variant: &'static str,
}

fn process_variant_a(_: &CancelToken, _: &Request) -> Result<Response, BoxError> {
    Ok(Response { variant: "variant-a" })
}

fn process_variant_b(_: &CancelToken, _: &Request) -> Result<Response, BoxError> {
    Ok(Response { variant: "variant-b" })
}

fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte))
}

static METRICS: Mutex<BTreeMap<&str, u32>> = Mutex::new(BTreeMap::new());

// [pattern]
fn build_ab_test_pipeline(cancel: &CancelToken, requests: Stream<Request>) -> Stream<Response> {
    let variant_a = AsyncMapper::new(process_variant_a).with_workers(15).with_name("variant-a");
    let variant_b = AsyncMapper::new(process_variant_b).with_workers(5).with_name("variant-b");

    // One user in ten gets variant B, and always the same one.
    let ab_router = Router::new()
        .add_route("variant-b", |request: &Request| fnv(&request.user_id) % 100 < 10, variant_b)
        .with_default(variant_a)
        .with_name("ab-test-router");
    let mut outputs = ab_router.process_to_routes(cancel, requests);

    // Each variant is observed separately; then both are merged.
    let monitored = ["variant-b", "default"].map(|variant| {
        let monitor = Tap::new(move |_: &Response| *METRICS.lock().unwrap().entry(variant).or_default() += 1);
        monitor.process(cancel, outputs.take(variant))
    });
    Stream::fan_in(cancel, monitored)
}
// [/pattern]

#[test]
fn about_a_tenth_of_the_users_gets_variant_b() {
    let (_clock, pipeline) = pipeline();
    let requests = (0..2_000).map(|user| Request { user_id: format!("user {user}") });
    let responses = build_ab_test_pipeline(&pipeline, Stream::from_iter(&pipeline, requests));
    let responses = responses.collect::<Vec<_>>().unwrap();
    let of_b = responses.iter().filter(|response| response.variant == "variant-b").count();
    assert_eq!(responses.len(), 2_000);
    assert!((140..=260).contains(&of_b), "{of_b}");
    let counted = METRICS.lock().unwrap().clone();
    assert_eq!(counted, BTreeMap::from([("default", 2_000 - of_b as u32), ("variant-b", of_b as u32)]));
}
