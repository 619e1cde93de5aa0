use std::collections::{HashMap, HashSet};

use streamz::{AsyncMapper, BoxError, CancelToken, Router, Stream};

use super::pipeline;

#[derive(Debug, Clone)]
struct Request {
    session_id: String,
}

#[derive(Debug)]
struct Response {
    session_id: String,
    thread: String,
}

fn process_request(_: &CancelToken, request: &Request) -> Result<Response, BoxError> {
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    Ok(Response { session_id: request.session_id.clone(), thread })
}

fn fnv(text: &str) -> u32 {
    text.bytes()
        .fold(0x811c_9dc5, |hash, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte))
}

// [pattern]
fn build_load_balanced_pipeline(
    cancel: &CancelToken,
    requests: Stream<Request>,
) -> Stream<Response> {
    let worker = |index| {
        AsyncMapper::new(process_request).with_workers(4).with_name(format!("worker-{index}"))
    };

    let mut router = Router::new();
    for index in 0..5 {
        let is_its_own = move |request: &Request| fnv(&request.session_id) % 5 == index;
        router = router.add_route(format!("worker-{index}"), is_its_own, worker(index));
    }

    router.process_to_single(cancel, requests)
}
// [/pattern]

#[test]
fn a_session_is_always_served_by_the_same_worker() {
    let (_clock, pipeline) = pipeline();
    let requests = (0..1_000).map(|n| Request { session_id: format!("session {}", n % 50) });
    let responses =
        build_load_balanced_pipeline(&pipeline, Stream::from_iter(&pipeline, requests));
    let mut workers: HashMap<String, HashSet<String>> = HashMap::new();
    for response in responses {
        let Response { session_id, thread } = response.unwrap();
        // `worker-3-0 go`: the pool, the thread in it, the pipeline.
        let worker = thread.split('-').take(2).collect::<Vec<_>>().join("-");
        workers.entry(session_id).or_default().insert(worker);
    }
    assert_eq!(workers.len(), 50);
    assert!(workers.values().all(|of_session| of_session.len() == 1), "{workers:?}");
    assert_eq!(workers.values().flatten().collect::<HashSet<_>>().len(), 5);
}
