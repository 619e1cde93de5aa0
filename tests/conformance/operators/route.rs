//! Operators with several streams.

use std::time::{Duration, SystemTime};

use streamz::{
    Broadcast, CancelToken, FanIn, FanOut, GroupBy, Interleave, Join, JoinSide, Mapper, MergeSorted, Pair, Partition,
    ProcessorFn, Router, Split, Stream, Switch,
};

use super::{ITEMS, Registry};
use crate::common::faults::Faults;
use crate::common::item::Item;
use crate::common::models::{each, hit};
use crate::common::seen::Seen;
use crate::subject::Closure;
use crate::subject::Subject;

pub fn register(registry: &mut Registry) {
    routes(registry);
    registry.add(Subject::new(
        "FanIn: one of three has something",
        &["FanIn"],
        ITEMS,
        |_| {
            ProcessorFn::new("outer", |cancel: &CancelToken, items: Stream<Item>| {
                let empty = || Stream::from_iter(cancel, Vec::new());
                FanIn::new().process(cancel, [empty(), items, empty()])
            })
        },
        |input, _| input.to_vec(),
    ));
    registry.add(Subject::new(
        "chain: the second of three has something",
        &[],
        ITEMS,
        |_| {
            ProcessorFn::new("outer", |cancel: &CancelToken, items: Stream<Item>| {
                let empty = || Stream::from_iter(cancel, Vec::new());
                empty().chain([items, empty()])
            })
        },
        |input, _| input.to_vec(),
    ));
    registry.add(
        Subject::new(
            "zip: two copies",
            &[],
            ITEMS,
            |_| {
                ProcessorFn::new("outer", |_: &CancelToken, items: Stream<Item>| {
                    let [one, other] = items.fan_out();
                    one.zip(other).map(|(item, copy): (Item, Item)| {
                        // First: if its drop panics, the item must not have been returned already.
                        drop(copy);
                        item
                    })
                })
            },
            |input, _| input.to_vec(),
        )
        .groups(),
    );
    registry.add(Subject::new(
        "Interleave: one of three has something",
        &["Interleave"],
        ITEMS,
        |_| {
            ProcessorFn::new("outer", |cancel: &CancelToken, items: Stream<Item>| {
                let empty = || Stream::from_iter(cancel, Vec::new());
                Interleave::new().process(cancel, [empty(), items, empty()])
            })
        },
        |input, _| input.to_vec(),
    ));
    registry.add(
        Subject::new(
            "MergeSorted: one of three has something",
            &["MergeSorted"],
            ITEMS,
            |site| {
                ProcessorFn::new("outer", move |cancel: &CancelToken, items: Stream<Item>| {
                    let key = move |item: &Item| {
                        site.faults.panic_only(item.value());
                        item.value()
                    };
                    let empty = || Stream::from_iter(cancel, Vec::new());
                    MergeSorted::new(key).process(cancel, [empty(), items, empty()])
                })
            },
            |input, faults| only(input, faults, |_| true),
        )
        .closure(Closure::Panics),
    );
    joins(registry);
    // The others have been dropped, so that the stage stops when the one is not read.
    registry.add(
        Subject::new(
            "FanOut: one of three is read",
            &["FanOut"],
            ITEMS,
            |_| {
                ProcessorFn::new("outer", |cancel: &CancelToken, items: Stream<Item>| {
                    let mut streams = FanOut::new(3).process(cancel, items);
                    streams.swap_remove(1)
                })
            },
            |input, _| input.to_vec(),
        )
        .unread(),
    );
    registry.add(
        Subject::new(
            "FanOut and FanIn",
            &["FanOut", "FanIn"],
            ITEMS,
            |_| {
                ProcessorFn::new("outer", |cancel: &CancelToken, items: Stream<Item>| {
                    let streams = FanOut::new(2).process(cancel, items);
                    FanIn::new().process(cancel, streams)
                })
            },
            |input, faults| {
                let copies = |value| vec![Seen::Value(value), Seen::Value(value)];
                each(input, faults, true, copies)
            },
        )
        .unordered(),
    );
    registry.add(
        Subject::new(
            "Split: the rest",
            &["Split", "SplitOutput"],
            ITEMS,
            |site| {
                ProcessorFn::new("outer", move |cancel: &CancelToken, items: Stream<Item>| {
                    let even = move |item: &Item| {
                        site.faults.panic_only(item.value());
                        item.value().is_multiple_of(2)
                    };
                    let output = Split::new(even).process(cancel, items);
                    drop(output.matched);
                    output.rest
                })
            },
            |input, faults| only(input, faults, |value| value % 2 == 1),
        )
        .closure(Closure::Panics)
        .unread(),
    );
}

/// Joins whose result is the input.
fn joins(registry: &mut Registry) {
    fn time(item: &Item) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(item.value())
    }
    registry.add(
        Subject::new(
            "Join: two copies",
            &["Join", "JoinSide"],
            ITEMS,
            |site| {
                ProcessorFn::new("outer", move |_: &CancelToken, items: Stream<Item>| {
                    let key = move |item: &Item| {
                        site.faults.panic_only(item.value());
                        item.value()
                    };
                    let [one, other] = items.fan_out();
                    let left = JoinSide::new(key, time, Duration::ZERO);
                    let join = Join::new(left, JoinSide::new(Item::value, time, Duration::ZERO), Duration::ZERO);
                    one.join(other, &join).map(|(item, copy): (Item, Item)| {
                        // First: if its drop panics, the item must not have been returned already.
                        drop(copy);
                        item
                    })
                })
            },
            |input, faults| {
                let copies =
                    |value| vec![Seen::Value(value); input.iter().filter(|seen| **seen == Seen::Value(value)).count()];
                let one = |seen: &Seen| match *seen {
                    Seen::Value(value) => hit(faults, value, true).map_or_else(|| copies(value), |failed| vec![failed]),
                    _ => vec![seen.clone()],
                };
                input.iter().flat_map(one).collect()
            },
        )
        .closure(Closure::Panics)
        .unordered()
        .groups(),
    );
    registry.add(
        Subject::new(
            "Join: outer, the other is empty",
            &["Pair"],
            ITEMS,
            |_| {
                ProcessorFn::new("outer", |cancel: &CancelToken, items: Stream<Item>| {
                    let side = || JoinSide::new(Item::value, time, Duration::ZERO);
                    let join = Join::new(side(), side(), Duration::from_secs(2)).outer();
                    let empty = Stream::from_iter(cancel, Vec::new());
                    join.process(cancel, empty, items).filter_map(|pair: Pair<Item, Item>| pair.right())
                })
            },
            |input, _| input.to_vec(),
        )
        .unordered()
        .groups(),
    );
}

/// Routes whose processors do nothing.
fn routes(registry: &mut Registry) {
    fn same() -> Mapper<Item, Item, fn(Item) -> Item> {
        Mapper::new(|item| item)
    }
    registry.add(
        Subject::new(
            "Router",
            &["Router"],
            ITEMS,
            |site| {
                let third = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value().is_multiple_of(3)
                };
                Router::new().add_route("thirds", third, same()).with_default(same())
            },
            |input, faults| only(input, faults, |_| true),
        )
        .closure(Closure::Panics)
        .unordered(),
    );
    registry.add(
        Subject::new(
            "Router: all matches, no default",
            &["Router"],
            ITEMS,
            |site| {
                let all = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    true
                };
                let thirds = |item: &Item| item.value().is_multiple_of(3);
                Router::new().add_route("all", all, same()).add_route("thirds", thirds, same()).all_matches()
            },
            |input, faults| {
                let copies = |value| vec![Seen::Value(value); if value.is_multiple_of(3) { 2 } else { 1 }];
                each(input, faults, true, copies)
            },
        )
        .closure(Closure::Panics)
        .unordered(),
    );
    registry.add(
        Subject::new(
            "Switch",
            &["Switch"],
            ITEMS,
            |site| {
                let even = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value().is_multiple_of(2)
                };
                Switch::new().case("even", even, same()).case("odd", |_| true, same())
            },
            |input, faults| only(input, faults, |_| true),
        )
        .closure(Closure::Panics)
        .unordered(),
    );
    registry.add(
        Subject::new(
            "Partition: each",
            &["Partition", "PartitionEach", "PartitionOutput"],
            ITEMS,
            |site| {
                let key = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value()
                };
                Partition::new(key).with_partitions(3).each(|_| same())
            },
            |input, faults| only(input, faults, |_| true),
        )
        .closure(Closure::Panics)
        .unordered(),
    );
    // The hub has been dropped, so that the stage stops when the subscriber has left.
    registry.add(Subject::new(
        "Broadcast: one subscriber",
        &["Broadcast"],
        ITEMS,
        |_| {
            ProcessorFn::new("outer", |cancel: &CancelToken, items: Stream<Item>| {
                Broadcast::new().process(cancel, items).subscribe()
            })
        },
        |input, _| input.to_vec(),
    ));
    for (name, max_groups) in [("GroupBy", 64), ("GroupBy: one group at a time", 1)] {
        registry.add(
            Subject::new(
                name,
                &["GroupBy"],
                ITEMS,
                move |site| {
                    let key = move |item: &Item| {
                        site.faults.panic_only(item.value());
                        item.value() % 3
                    };
                    GroupBy::new(key, |_, items: Stream<Item>| items.map(|item| item)).with_max_groups(max_groups)
                },
                |input, faults| only(input, faults, |_| true),
            )
            .closure(Closure::Panics)
            .unordered(),
        );
    }
}

/// What the stream contains if items that do not belong to it go elsewhere.
fn only(input: &[Seen], faults: Faults, belongs: fn(u64) -> bool) -> Vec<Seen> {
    let one = |seen: &Seen| match *seen {
        Seen::Value(value) => hit(faults, value, true).or_else(|| belongs(value).then(|| seen.clone())),
        _ => Some(seen.clone()),
    };
    input.iter().filter_map(one).collect()
}
