use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use streamz::{Aggregate, AggregateWindow, CancelToken, FanOut, Processor, Stream};

use super::{after, pipeline};

#[derive(Debug, Clone)]
struct Event {
    kind: &'static str,
    value: f64,
    user_id: u32,
}

#[derive(Debug, PartialEq)]
enum Analytics {
    EventCounts { window: SystemTime, event_types: HashMap<&'static str, u32> },
    Revenue { window: SystemTime, revenue: f64 },
    UniqueUsers { window: SystemTime, unique_users: usize },
}

// [pattern]
fn build_analytics_pipeline(cancel: &CancelToken, events: Stream<Event>) -> Stream<Analytics> {
    let minute = Duration::from_secs(60);
    let type_counter =
        Aggregate::new(HashMap::new, |counts: &mut HashMap<_, _>, event: &Event| {
            *counts.entry(event.kind).or_default() += 1;
        })
        .with_time_window(minute)
        .with_name("type-counter");
    let revenue_summer = Aggregate::new(
        || 0.0,
        |sum: &mut f64, event: &Event| {
            if event.kind == "purchase" {
                *sum += event.value;
            }
        },
    )
    .with_time_window(minute)
    .with_name("revenue-tracker");
    let unique_users = Aggregate::new(HashSet::new, |users: &mut HashSet<_>, event: &Event| {
        users.insert(event.user_id);
    })
    .with_time_window(minute)
    .with_name("unique-users");

    let [a, b, c] = <[_; 3]>::try_from(FanOut::new(3).process(cancel, events))
        .expect("as many as asked for");
    let type_counts = type_counter.process(cancel, a);
    let revenue = revenue_summer.process(cancel, b);
    let users = unique_users.process(cancel, c);

    // It ends when all three have ended: no last window is lost.
    let counts = type_counts.map(|AggregateWindow { start, result, .. }| {
        Analytics::EventCounts { window: start, event_types: result }
    });
    let revenue = revenue.map(|AggregateWindow { start, result, .. }| Analytics::Revenue {
        window: start,
        revenue: result,
    });
    let users = users.map(|AggregateWindow { start, result, .. }| Analytics::UniqueUsers {
        window: start,
        unique_users: result.len(),
    });
    counts.merge([revenue, users])
}
// [/pattern]

#[test]
fn three_figures_per_minute_come_from_one_stream() {
    let (clock, pipeline) = pipeline();
    let event = |n: u32| Event {
        kind: if n.is_multiple_of(2) { "purchase" } else { "view" },
        value: f64::from(n),
        user_id: n % 3,
    };
    let events = Stream::from_iter(&pipeline, (0..10).map(event));
    let figures =
        after(&clock, Duration::from_secs(60), build_analytics_pipeline(&pipeline, events));
    assert_eq!(figures.len(), 3, "{figures:?}");
    for figure in figures {
        match figure {
            Analytics::EventCounts { event_types, .. } => {
                assert_eq!(event_types, HashMap::from([("purchase", 5), ("view", 5)]));
            }
            Analytics::Revenue { revenue, .. } => assert_eq!(revenue, 20.0),
            Analytics::UniqueUsers { unique_users, .. } => assert_eq!(unique_users, 3),
        }
    }
}
