use std::collections::BTreeMap;

use streamz::testing::Recorder;
use streamz::{AsyncMapper, BoxError, CancelToken, CircuitBreaker, Retry, Router, Stream};

use super::pipeline;

#[derive(Debug, Clone)]
struct ServiceRequest {
    id: u32,
    service: &'static str,
    requires_auth: bool,
    include_user_data: bool,
}

#[derive(Debug, Clone)]
struct Answer(u32);

#[derive(Debug, PartialEq)]
struct ServiceResponse {
    request: u32,
}

fn call_auth_service(_: &CancelToken, request: &ServiceRequest) -> Result<Answer, BoxError> {
    Ok(Answer(request.id))
}

fn call_user_service(_: &CancelToken, request: &ServiceRequest) -> Result<Answer, BoxError> {
    Ok(Answer(request.id))
}

fn call_order_service(_: &CancelToken, request: &ServiceRequest) -> Result<Answer, BoxError> {
    Ok(Answer(request.id))
}

fn transform_to_response(answers: Stream<Answer>) -> Stream<ServiceResponse> {
    answers.map(|Answer(request)| ServiceResponse { request })
}

// [pattern]
fn build_microservice_router(
    cancel: &CancelToken,
    requests: Stream<ServiceRequest>,
) -> BTreeMap<&'static str, Stream<ServiceResponse>> {
    let auth_service = CircuitBreaker::new(
        Retry::new(AsyncMapper::new(call_auth_service).with_workers(5)).max_attempts(3),
    )
    .failure_threshold(0.3);
    let user_service =
        CircuitBreaker::new(AsyncMapper::new(call_user_service).with_workers(10))
            .failure_threshold(0.5);
    let order_service = AsyncMapper::new(call_order_service).with_workers(20);

    // A request may need several services.
    let service_router = Router::new()
        .all_matches()
        .add_route("auth", |request: &ServiceRequest| request.requires_auth, auth_service)
        .add_route(
            "user",
            |request: &ServiceRequest| request.service == "user" || request.include_user_data,
            user_service,
        )
        .add_route(
            "order",
            |request: &ServiceRequest| request.service == "order",
            order_service,
        )
        .with_buffer_size(100);

    let mut outputs = service_router.process_to_routes(cancel, requests);
    let services = ["auth", "user", "order"];
    services.map(|service| (service, transform_to_response(outputs.take(service)))).into()
}
// [/pattern]

#[test]
fn each_service_gets_its_own_part_of_the_request() {
    let (clock, pipeline) = pipeline();
    let request = |id, service, requires_auth, include_user_data| ServiceRequest {
        id,
        service,
        requires_auth,
        include_user_data,
    };
    let requests = [
        request(1, "user", true, false),
        request(2, "order", true, true),
        request(3, "order", false, false),
    ];
    let responses =
        build_microservice_router(&pipeline, Stream::from_iter(&pipeline, requests));
    let recorders: Vec<_> =
        responses.into_iter().map(|(name, stream)| (name, Recorder::new(stream))).collect();
    clock.settle();
    for (name, recorder) in recorders {
        let asked: Vec<_> =
            recorder.timed_items().into_iter().map(|(_, response)| response.request).collect();
        let expected = match name {
            "auth" | "user" => [1, 2],
            _ => [2, 3],
        };
        assert_eq!(asked, expected, "{name}");
    }
}
