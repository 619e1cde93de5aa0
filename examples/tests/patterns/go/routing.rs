use std::time::Duration;

use streamz::{
    AsyncMapper, BatchConfig, Batcher, BoxError, CancelToken, Flatten, Processor, Router,
    RouterOutput, Stream,
};

use super::{after, pipeline};

#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: u32,
    priority: &'static str,
    kind: &'static str,
    collect_metrics: bool,
    handled_as: &'static str,
}

fn handle_critical(_: &CancelToken, event: &Event) -> Result<Event, BoxError> {
    Ok(Event { handled_as: "critical", ..event.clone() })
}

fn handle_normal(_: &CancelToken, event: &Event) -> Result<Event, BoxError> {
    Ok(Event { handled_as: "normal", ..event.clone() })
}

// [pattern]
fn build_routing_pipeline(cancel: &CancelToken, events: Stream<Event>) -> RouterOutput<Event> {
    let critical_processor = AsyncMapper::new(handle_critical).with_workers(20);
    let normal_processor = AsyncMapper::new(handle_normal).with_workers(10);
    let analytics_processor =
        Batcher::new(BatchConfig { max_size: 1_000, max_latency: Duration::from_secs(5) });

    let router = Router::new()
        .all_matches()
        .add_route(
            "critical",
            |event: &Event| event.priority == "critical" || event.kind == "error",
            critical_processor,
        )
        // All routes emit one type, so batches are flattened.
        .add_route(
            "analytics",
            |event: &Event| event.collect_metrics,
            analytics_processor.then(Flatten::new()),
        )
        .with_default(normal_processor)
        .with_buffer_size(100);

    router.process_to_routes(cancel, events)
}
// [/pattern]

#[test]
fn an_event_takes_all_matching_routes_or_the_default() {
    let (clock, pipeline) = pipeline();
    let event = |id, priority, kind, collect_metrics| Event {
        id,
        priority,
        kind,
        collect_metrics,
        handled_as: "",
    };
    let events = [
        event(1, "critical", "login", true),
        event(2, "low", "error", false),
        event(3, "low", "login", true),
        event(4, "low", "login", false),
    ];
    let mut routes = build_routing_pipeline(&pipeline, Stream::from_iter(&pipeline, events));
    let streams = ["critical", "analytics", "default"].map(|name| routes.take(name));
    drop(routes);
    let recorders = streams.map(streamz::testing::Recorder::new);
    after(&clock, Duration::from_secs(5), Stream::from_iter(&pipeline, [()]));
    let ids = recorders.map(|recorder| {
        recorder
            .timed_items()
            .into_iter()
            .map(|(_, event)| (event.id, event.handled_as))
            .collect::<Vec<_>>()
    });
    assert_eq!(
        ids,
        [vec![(1, "critical"), (2, "critical")], vec![(1, ""), (3, "")], vec![(4, "normal")]]
    );
}
