//! Content routing.

use std::sync::Arc;
use std::time::Duration;

use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, CancelToken, ManualClock, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../content_routing.rs"]
mod example;

use example::{Done, Event, Kind, Services, route};

/// Each alert takes its time; the rest takes none.
struct Slow(Duration);

impl Services for Slow {
    fn alert(&self, cancel: &CancelToken, _: &Event) -> Result<(), BoxError> {
        Ok(cancel.sleep(self.0)?)
    }

    fn handle(&self, _: &CancelToken, event: &Event) -> Result<(), BoxError> {
        if event.id == 13 { Err("not today".into()) } else { Ok(()) }
    }

    fn record(&self, _: &CancelToken, _: &[Event]) -> Result<(), BoxError> {
        Ok(())
    }
}

fn event(id: u32, kind: Kind, is_urgent: bool, wants_metrics: bool) -> Event {
    Event { id, kind, is_urgent, wants_metrics, millis: 1 }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn an_event_takes_all_matching_routes_at_their_own_pace() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, events) = TestSource::new(&pipeline);
    let mut routes = route(&pipeline, events, &Arc::new(Slow(ms(300))));
    let [critical, normal, analytics] =
        ["critical", "normal", "analytics"].map(|name| Recorder::new(routes.take(name)));

    source.play([
        (ms(0), event(1, Kind::Order, true, true)),
        (ms(10), event(2, Kind::View, false, true)),
        (ms(20), event(3, Kind::Error, false, false)),
        (ms(30), event(4, Kind::View, false, false)),
    ]);
    clock.advance(ms(10_000));

    // Both alerts are under way at once.
    assert_eq!(
        critical.timed_items(),
        [(ms(300), Done::Alerted(1)), (ms(320), Done::Alerted(3))]
    );
    assert_eq!(normal.timed_items(), [(ms(10), Done::Handled(2)), (ms(30), Done::Handled(4))]);
    assert_eq!(analytics.timed_items(), [(ms(5_000), Done::Recorded(vec![1, 2]))]);
    let counts = ["critical", "normal", "analytics"].map(|name| routes.stats.items(name));
    assert_eq!(
        (counts, routes.stats.total_items(), routes.stats.unmatched()),
        ([2, 2, 2], 4, 0)
    );
}

#[test]
fn a_slow_route_blocks_others_only_when_its_buffer_is_full() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, events) = TestSource::new(&pipeline);
    let mut routes = route(&pipeline, events, &Arc::new(Slow(ms(1_000))));
    let [_critical, normal] =
        ["critical", "normal"].map(|name| Recorder::new(routes.take(name)));

    // 20 are being alerted, 100 wait.
    source.push_all((0..120).map(|id| event(id, Kind::Error, false, false)));
    source.push(event(500, Kind::View, false, false));
    assert_eq!(normal.items(), [Done::Handled(500)]);
    assert!(routes.stats.blocking().is_empty());

    source.push_all((120..300).map(|id| event(id, Kind::Error, false, false)));
    source.push(event(501, Kind::View, false, false));
    assert_eq!(routes.stats.blocking(), ["critical"]);
    assert!(normal.items().is_empty());
    clock.advance(ms(20_000));
    assert_eq!(normal.items(), [Done::Handled(501)]);
}

#[test]
fn a_failure_stays_on_its_route_with_the_event_in_it() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, events) = TestSource::new(&pipeline);
    let mut routes = route(&pipeline, events, &Arc::new(Slow(ms(0))));
    let [normal, analytics] =
        ["normal", "analytics"].map(|name| Recorder::new(routes.take(name)));
    source.push(event(13, Kind::View, false, true));
    source.end();
    drop(routes);
    pipeline.join();

    let failed: Vec<_> =
        normal.timed_outputs().into_iter().map(|(_, output)| output.unwrap_err()).collect();
    assert_eq!((failed.len(), failed[0].stage()), (1, "handle"));
    assert_eq!(failed[0].take_item::<Event>().map(|event| event.id), Some(13));
    assert_eq!(analytics.items(), [Done::Recorded(vec![13])]);
}
