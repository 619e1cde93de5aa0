//! Operators that put items together by their time.

use std::time::{Duration, SystemTime};

use streamz::{
    Aggregate, AggregateWindow, Keyed, Revised, SessionWindow, SlidingWindow, SortByTime, TumblingWindow, Window, folds,
};

use super::{ITEMS, Registry};
use crate::common::item::Item;
use crate::common::models::{self, Failing};
use crate::common::seen::Seen;
use crate::subject::{Closure, Ends, Subject};

/// From items to windows of items.
const WINDOWS: Ends<Item, Window<Item>> = (|item| item, |window| Seen::of::<Vec<Item>>(&window.items));

/// The same for each key.
const KEYED: Ends<Item, Keyed<u64, Window<Item>>> = (|item| item, |keyed| Seen::of::<Vec<Item>>(&keyed.window.items));

/// The time of an item is its value, in seconds; well after the epoch, so that models need no times before it.
fn time(item: &Item) -> SystemTime {
    SystemTime::UNIX_EPOCH + seconds(second(item.value()))
}

fn second(value: u64) -> u64 {
    value + 1_000
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// So long that there is only one window, whatever the clock says.
const ALL_TIME: Duration = Duration::from_secs(10_000 * 365 * 24 * 3_600);

pub fn register(registry: &mut Registry) {
    registry.add(
        Subject::new(
            "TumblingWindow by event time",
            &["TumblingWindow", "Window"],
            WINDOWS,
            |site| {
                let time = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    time(item)
                };
                TumblingWindow::new(seconds(4)).with_event_time(time, Duration::ZERO)
            },
            |input, faults| models::windows(input, faults, Failing::BeforeItsTime, (4, 4), second),
        )
        .closure(Closure::Panics)
        .holds(4)
        .room(|_| 16),
    );
    registry.add(
        Subject::new(
            "TumblingWindow by arrival, keyed, max_count",
            &["Keyed"],
            KEYED,
            |site| {
                let key = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value() % 3
                };
                TumblingWindow::new(ALL_TIME).with_key(key).max_count(2).with_capacity(5)
            },
            |input, faults| models::counted_windows(input, faults, 2, |value| value % 3),
        )
        .closure(Closure::Panics)
        .holds(3)
        .room(|_| 5),
    );
    registry.add(
        Subject::new(
            "TumblingWindow with corrections",
            &["Revised"],
            (|item| item, |revised: &Revised<Window<Item>>| Seen::of::<Vec<Item>>(&revised.window.items)),
            |site| {
                let time = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    time(item)
                };
                TumblingWindow::new(seconds(4)).with_event_time(time, Duration::ZERO).with_corrections(seconds(6))
            },
            |input, faults| models::windows(input, faults, Failing::BeforeItsTime, (4, 4), second),
        )
        .closure(Closure::Panics)
        .holds(4)
        .room(|_| 16),
    );
    registry.add(
        Subject::new(
            "SlidingWindow by event time",
            &["SlidingWindow"],
            WINDOWS,
            |site| {
                let time = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    time(item)
                };
                SlidingWindow::new(seconds(5)).with_slide(seconds(2)).with_event_time(time, Duration::ZERO)
            },
            |input, faults| models::windows(input, faults, Failing::BeforeItsTime, (5, 2), second),
        )
        .closure(Closure::Panics)
        .holds(1)
        .room(|_| 16),
    );
    registry.add(
        Subject::new(
            "SlidingWindow with corrections",
            &[],
            (|item| item, |revised: &Revised<Window<Item>>| Seen::of::<Vec<Item>>(&revised.window.items)),
            |site| {
                let time = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    time(item)
                };
                let windows = SlidingWindow::new(seconds(5)).with_slide(seconds(2));
                windows.with_event_time(time, Duration::ZERO).with_corrections(seconds(6))
            },
            |input, faults| models::windows(input, faults, Failing::BeforeItsTime, (5, 2), second),
        )
        .closure(Closure::Panics)
        .holds(1)
        .room(|_| 16),
    );
    registry.add(
        Subject::new(
            "SlidingWindow that sums",
            &[],
            (|item| item, |window: &AggregateWindow<u64>| Seen::Value(window.result)),
            |site| {
                let sum = folds::sum(move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value()
                });
                let last_six = SlidingWindow::new(seconds(6)).with_slide(seconds(3));
                last_six.with_event_time(time, Duration::ZERO).with_capacity(3).aggregate_by(sum)
            },
            |input, faults| {
                let windows = models::windows(input, faults, Failing::InItsTime, (6, 3), second);
                windows.into_iter().map(sum).collect()
            },
        )
        .closure(Closure::Panics)
        .holds(2)
        .room(|_| 3),
    );
    registry.add(
        Subject::new(
            "SessionWindow by event time",
            &["SessionWindow"],
            KEYED,
            |site| {
                let key = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value() / 3
                };
                let sessions = SessionWindow::new(key).with_gap(seconds(2));
                sessions.with_event_time(time, Duration::ZERO)
            },
            |input, faults| models::sessions(input, faults, 2, second, |value| value / 3),
        )
        .closure(Closure::Panics)
        .holds(4)
        .room(|_| 16),
    );
    registry.add(
        Subject::new(
            "SessionWindow with corrections",
            &[],
            (
                |item| item,
                |keyed: &Keyed<u64, Revised<Window<Item>>>| Seen::of::<Vec<Item>>(&keyed.window.window.items),
            ),
            |site| {
                let key = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value() / 3
                };
                let sessions = SessionWindow::new(key).with_gap(seconds(2));
                sessions.with_event_time(time, Duration::ZERO).with_corrections(seconds(6))
            },
            |input, faults| models::sessions(input, faults, 2, second, |value| value / 3),
        )
        .closure(Closure::Panics)
        .holds(4)
        .room(|_| 16),
    );
    registry.add(
        Subject::new(
            "SessionWindow by arrival, max_count",
            &[],
            KEYED,
            |site| {
                let key = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    0
                };
                SessionWindow::new(key).with_gap(ALL_TIME).max_count(4)
            },
            |input, faults| models::counted_windows(input, faults, 4, |_| 0),
        )
        .closure(Closure::Panics)
        .holds(3)
        .room(|_| 16),
    );
    aggregates(registry);
    sorted(registry);
}

fn sorted(registry: &mut Registry) {
    /// Goes back and forth.
    fn shuffled(value: u64) -> u64 {
        value + 5 * (value * 7 % 3)
    }
    registry.add(
        Subject::new(
            "SortByTime",
            &["SortByTime"],
            ITEMS,
            |site| {
                let time = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    SystemTime::UNIX_EPOCH + seconds(second(shuffled(item.value())))
                };
                SortByTime::new(time, seconds(8)).with_max_items(4)
            },
            |input, faults| models::sorted_by_time(input, faults, (8, 4), |value| second(shuffled(value))),
        )
        .closure(Closure::Panics)
        .holds(2),
    );
}

fn aggregates(registry: &mut Registry) {
    const SUMS: Ends<Item, AggregateWindow<u64>> = (|item| item, |window| Seen::Value(window.result));
    registry.add(
        Subject::new(
            "Aggregate by count",
            &["Aggregate", "AggregateWindow"],
            SUMS,
            |site| {
                let fold = move |sum: &mut u64, item: &Item| {
                    site.faults.panic_only(item.value());
                    *sum += item.value();
                };
                Aggregate::new(|| 0, fold).with_count_window(3).with_time_window(ALL_TIME)
            },
            |input, faults| models::counted_windows(input, faults, 3, |_| 0).into_iter().map(sum).collect(),
        )
        .closure(Closure::Panics)
        .holds(2),
    );
    registry.add(
        Subject::new(
            "Aggregate by event time",
            &[],
            SUMS,
            |site| {
                let time = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    time(item)
                };
                let sums = Aggregate::by(folds::sum(Item::value)).with_capacity(4);
                sums.with_event_time(time, seconds(2)).with_count_window(2)
            },
            // Each item waits for two younger ones that pass.
            |input, faults| models::delayed_pairs(input, faults, 2).into_iter().map(sum).collect(),
        )
        .closure(Closure::Panics)
        .holds(3)
        .room(|_| 4),
    );
}

/// A window as the sum of its items.
fn sum(seen: Seen) -> Seen {
    match seen {
        Seen::Group(values) => Seen::Value(values.iter().sum()),
        other => other,
    }
}
