use std::collections::BTreeMap;

use streamz::{
    AsyncMapper, BoxError, BoxProcessor, CancelToken, Mapper, Processor, Router, Stream,
};

use super::pipeline;

#[derive(Debug, Clone)]
struct Event {
    kind: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Priority {
    Normal,
    High,
    Critical,
}

#[derive(Debug, Clone)]
struct ProcessedEvent {
    kind: &'static str,
    priority: Priority,
    handled_by: &'static str,
}

fn pipeline_of(priority: Priority) -> BoxProcessor<Event, ProcessedEvent> {
    Mapper::new(move |event: Event| ProcessedEvent {
        kind: event.kind,
        priority,
        handled_by: "",
    })
    .boxed()
}

fn build_user_event_pipeline() -> BoxProcessor<Event, ProcessedEvent> {
    pipeline_of(Priority::Normal)
}

fn build_system_event_pipeline() -> BoxProcessor<Event, ProcessedEvent> {
    pipeline_of(Priority::Critical)
}

fn build_business_event_pipeline() -> BoxProcessor<Event, ProcessedEvent> {
    pipeline_of(Priority::High)
}

fn handle_critical(
    _: &CancelToken,
    event: &ProcessedEvent,
) -> Result<ProcessedEvent, BoxError> {
    Ok(ProcessedEvent { handled_by: "critical", ..event.clone() })
}

fn handle_high(_: &CancelToken, event: &ProcessedEvent) -> Result<ProcessedEvent, BoxError> {
    Ok(ProcessedEvent { handled_by: "high", ..event.clone() })
}

fn handle_normal(_: &CancelToken, event: &ProcessedEvent) -> Result<ProcessedEvent, BoxError> {
    Ok(ProcessedEvent { handled_by: "normal", ..event.clone() })
}

// [pattern]
fn build_multi_stage_routing_pipeline(
    cancel: &CancelToken,
    events: Stream<Event>,
) -> Stream<ProcessedEvent> {
    // Stage 1: by the type of the event.
    let type_router = Router::new()
        .add_route(
            "user-events",
            |event: &Event| event.kind.starts_with("user."),
            build_user_event_pipeline(),
        )
        .add_route(
            "system-events",
            |event: &Event| event.kind.starts_with("system."),
            build_system_event_pipeline(),
        )
        .add_route(
            "business-events",
            |event: &Event| event.kind.starts_with("business."),
            build_business_event_pipeline(),
        )
        .with_name("type-router");
    let priority_inputs = type_router.process_to_single(cancel, events);

    // Stage 2: by priority.
    let priority_router = Router::new()
        .add_route(
            "critical",
            |event: &ProcessedEvent| event.priority >= Priority::Critical,
            AsyncMapper::new(handle_critical).with_workers(20),
        )
        .add_route(
            "high",
            |event: &ProcessedEvent| event.priority >= Priority::High,
            AsyncMapper::new(handle_high).with_workers(10),
        )
        .with_default(AsyncMapper::new(handle_normal).with_workers(5));
    priority_router.process_to_single(cancel, priority_inputs)
}
// [/pattern]

#[test]
fn an_event_is_routed_by_type_and_then_by_priority() {
    let (_clock, pipeline) = pipeline();
    let kinds = ["user.login", "system.down", "business.sale", "user.logout", "odd"];
    let events = Stream::from_iter(&pipeline, kinds.map(|kind| Event { kind }));
    let handled =
        build_multi_stage_routing_pipeline(&pipeline, events).collect::<Vec<_>>().unwrap();
    let handled: BTreeMap<_, _> =
        handled.into_iter().map(|event| (event.kind, event.handled_by)).collect();
    let expected = [
        ("business.sale", "high"),
        ("system.down", "critical"),
        ("user.login", "normal"),
        ("user.logout", "normal"),
    ];
    assert_eq!(handled, BTreeMap::from(expected));
    // What matches no route is dropped, and the report says so.
    let report = pipeline.join();
    assert_eq!(report.stage("type-router").unwrap().steps[0].total_dropped(), 1);
}
