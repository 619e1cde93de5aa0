use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use streamz::{AsyncMapper, BoxError, CancelToken, Processor, Router, Stream, Tap};

use super::{after, ms, pipeline};

#[derive(Debug, Clone)]
struct Request {
    user_id: String,
}

#[derive(Debug)]
struct Response {
    variant: &'static str,
    duration: Duration,
}

fn process_variant_a(cancel: &CancelToken, _: &Request) -> Result<Response, BoxError> {
    let began = cancel.now();
    cancel.sleep(ms(20))?;
    Ok(Response { variant: "variant-a", duration: cancel.now() - began })
}

fn process_variant_b(cancel: &CancelToken, _: &Request) -> Result<Response, BoxError> {
    let began = cancel.now();
    cancel.sleep(ms(30))?;
    Ok(Response { variant: "variant-b", duration: cancel.now() - began })
}

fn fnv(text: &str) -> u32 {
    text.bytes()
        .fold(0x811c_9dc5, |hash, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte))
}

static REQUESTS: Mutex<BTreeMap<&str, u32>> = Mutex::new(BTreeMap::new());
static RESPONSE_TIMES: Mutex<BTreeMap<&str, Vec<Duration>>> = Mutex::new(BTreeMap::new());

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
        let monitor = Tap::new(move |response: &Response| {
            *REQUESTS.lock().unwrap().entry(variant).or_default() += 1;
            RESPONSE_TIMES.lock().unwrap().entry(variant).or_default().push(response.duration);
        });
        monitor.process(cancel, outputs.take(variant))
    });
    Stream::fan_in(cancel, monitored)
}
// [/pattern]

#[test]
fn about_a_tenth_of_the_users_gets_variant_b() {
    let (clock, pipeline) = pipeline();
    let requests = (0..2_000).map(|user| Request { user_id: format!("user {user}") });
    let responses = build_ab_test_pipeline(&pipeline, Stream::from_iter(&pipeline, requests));
    let responses = after(&clock, Duration::from_secs(60), responses);
    let of_b = responses.iter().filter(|response| response.variant == "variant-b").count();
    assert_eq!(responses.len(), 2_000);
    assert!((140..=260).contains(&of_b), "{of_b}");
    let counted = REQUESTS.lock().unwrap().clone();
    assert_eq!(
        counted,
        BTreeMap::from([("default", 2_000 - of_b as u32), ("variant-b", of_b as u32)])
    );
    let times = RESPONSE_TIMES.lock().unwrap();
    assert_eq!(times["default"], vec![ms(20); 2_000 - of_b]);
    assert_eq!(times["variant-b"], vec![ms(30); of_b]);
}
