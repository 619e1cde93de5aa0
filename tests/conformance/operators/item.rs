//! Operators that look at one item at a time.

use streamz::{
    BoxProcessor, Dedupe, Enumerate, FallibleMapper, Filter, FilterMap, FlatMap, Flatten, Lift, MapErr, Mapper,
    Processor, Recover, Sample, Scan, Skip, SkipWhile, StreamError, Take, TakeWhile, Tap, Unbatcher,
};

use super::{ITEMS, Registry};
use crate::common::faults::{Faults, Refused, panic_on_purpose};
use crate::common::item::Item;
use crate::common::models::{self, each};
use crate::common::seen::{Kind, Seen};
use crate::subject::{Closure, Subject};

pub fn register(registry: &mut Registry) {
    one_for_one(registry);
    fewer(registry);
    more(registry);
    beside(registry);
}

fn one_for_one(registry: &mut Registry) {
    registry.add(
        Subject::new(
            "Mapper",
            &["Mapper"],
            ITEMS,
            |site| {
                Mapper::new(move |item: Item| {
                    site.faults.panic_only(item.value());
                    let value = item.value() + 1000;
                    item.with_value(value)
                })
            },
            |input, faults| each(input, faults, false, |value| vec![Seen::Value(value + 1000)]),
        )
        .closure(Closure::Panics),
    );
    registry.add(
        Subject::new(
            "FallibleMapper",
            &["FallibleMapper"],
            ITEMS,
            |site| {
                Mapper::fallible(move |item: &Item| {
                    site.faults.check(item.value()).map(|()| item.sibling(item.value() + 1000))
                })
            },
            |input, faults| each(input, faults, true, |value| vec![Seen::Value(value + 1000)]),
        )
        .closure(Closure::Fails),
    );
    registry.add(
        Subject::new(
            "Scan",
            &["Scan"],
            ITEMS,
            |site| {
                Scan::new(
                    || 0,
                    move |sum, item: Item| {
                        site.faults.panic_only(item.value());
                        *sum += item.value();
                        item.with_value(*sum)
                    },
                )
            },
            models::running_sum,
        )
        .closure(Closure::Panics),
    );
    registry.add(
        Subject::new(
            "KeyedScan: two keys",
            &["KeyedScan", "Removal"],
            (ITEMS.0, |(sum, _): &(u64, Option<Item>)| Seen::Value(*sum)),
            |site| {
                let scan = Scan::new(
                    || 0,
                    move |sum: &mut u64, item: Item| {
                        site.faults.panic_only(item.value());
                        *sum += item.value();
                        (*sum, Some(item))
                    },
                );
                scan.with_key(|item: &Item| item.value() % 3, 2).on_removal(|_, sum, _| Some((sum + 10_000, None)))
            },
            |input, faults| models::sums_by_key(input, faults, 2, Some(10_000), |value| value % 3),
        )
        .closure(Closure::Panics),
    );
    registry.add(Subject::new(
        "Enumerate",
        &["Enumerate"],
        (ITEMS.0, |(number, item): &(u64, Item)| Seen::Value(1_000 * number + item.value())),
        |_| Enumerate::new(),
        |input, _| {
            let mut numbers = 0..;
            let one = |seen: &Seen| match *seen {
                Seen::Value(value) => Seen::Value(1_000 * numbers.next().unwrap_or_default() + value),
                _ => seen.clone(),
            };
            input.iter().map(one).collect()
        },
    ));
    registry.add(Subject::new(
        "Lift",
        &["Lift"],
        (|item: Item| if item.value() % 4 == 2 { Err(Refused(item.value())) } else { Ok(item) }, Seen::of::<Item>),
        |_| Lift::<Item, Refused>::new(),
        |input, _| {
            each(input, Faults::None, true, |value| {
                vec![if value % 4 == 2 { Seen::Made(Kind::Failed, None) } else { Seen::Value(value) }]
            })
        },
    ));
}

fn fewer(registry: &mut Registry) {
    registry.add(
        Subject::new(
            "Filter",
            &["Filter"],
            ITEMS,
            |site| {
                Filter::new(move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value() % 3 != 1
                })
            },
            |input, faults| {
                each(input, faults, true, |value| (value % 3 != 1).then_some(Seen::Value(value)).into_iter().collect())
            },
        )
        .closure(Closure::Panics),
    );
    registry.add(
        Subject::new(
            "FilterMap",
            &["FilterMap"],
            ITEMS,
            |site| {
                FilterMap::new(move |item: Item| {
                    site.faults.panic_only(item.value());
                    let value = item.value();
                    (value % 3 != 1).then(|| item.with_value(value * 2))
                })
            },
            |input, faults| {
                each(input, faults, false, |value| {
                    (value % 3 != 1).then_some(Seen::Value(value * 2)).into_iter().collect()
                })
            },
        )
        .closure(Closure::Panics),
    );
    registry.add(
        Subject::new("Take", &["Take"], ITEMS, |_| Take::new(20), |input, _| models::take(input, 20)).ends_early(),
    );
    registry.add(
        Subject::new(
            "TakeWhile",
            &["TakeWhile"],
            ITEMS,
            |site| {
                TakeWhile::new(move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value() < 17
                })
            },
            |input, faults| models::take_while(input, faults, |value| value < 17),
        )
        .closure(Closure::Panics)
        .ends_early(),
    );
    registry.add(Subject::new("Skip", &["Skip"], ITEMS, |_| Skip::new(3), |input, _| models::skip(input, 3)));
    registry.add(
        Subject::new(
            "SkipWhile",
            &["SkipWhile"],
            ITEMS,
            |site| {
                SkipWhile::new(move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value() < 5
                })
            },
            |input, faults| models::skip_while(input, faults, |value| value < 5),
        )
        .closure(Closure::Panics),
    );
    registry.add(Subject::new(
        "Sample",
        &["Sample"],
        ITEMS,
        |_| Sample::new(0.5).with_seed(7),
        |input, _| models::sample(input, 0.5, 7),
    ));
    registry.add(Subject::new("Sample: all", &["Sample"], ITEMS, |_| Sample::new(1.0), |input, _| input.to_vec()));
    registry.add(
        Subject::new(
            "Dedupe",
            &["Dedupe"],
            ITEMS,
            |site| {
                Dedupe::new(move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value() / 3
                })
            },
            |input, faults| models::dedupe(input, faults, |value| value / 3),
        )
        .closure(Closure::Panics),
    );
}

fn more(registry: &mut Registry) {
    registry.add(
        Subject::new(
            "FlatMap: 0 to 3 for each",
            &["FlatMap"],
            ITEMS,
            |site| {
                FlatMap::new(move |item: Item| {
                    site.faults.panic_only(item.value());
                    (0..item.value() % 4).map(move |more| item.sibling(item.value() + more))
                })
            },
            |input, faults| {
                each(input, faults, false, |value| (0..value % 4).map(|more| Seen::Value(value + more)).collect())
            },
        )
        .closure(Closure::Panics),
    );
    registry.add(
        Subject::new(
            "FlatMap: 300 for each",
            &["FlatMap"],
            ITEMS,
            |site| {
                FlatMap::new(move |item: Item| {
                    site.faults.panic_only(item.value());
                    (0..300).map(move |more| item.sibling(item.value() * 1000 + more))
                })
            },
            |input, faults| {
                each(input, faults, false, |value| (0..300).map(|more| Seen::Value(value * 1000 + more)).collect())
            },
        )
        .closure(Closure::Panics),
    );
    registry.add(Subject::new(
        "Flatten",
        &["Flatten"],
        (|item: Item| (!item.value().is_multiple_of(3)).then_some(item), Seen::of::<Item>),
        |_| Flatten::<Option<Item>>::new(),
        |input, _| {
            each(input, Faults::None, false, |value| {
                (value % 3 != 0).then_some(Seen::Value(value)).into_iter().collect()
            })
        },
    ));
    registry.add(Subject::new(
        "Unbatcher",
        &["Unbatcher"],
        (|item: Item| vec![item.sibling(item.value() + 1), item], Seen::of::<Item>),
        |_| Unbatcher::<Item>::new(),
        |input, _| each(input, Faults::None, false, |value| vec![Seen::Value(value + 1), Seen::Value(value)]),
    ));
}

fn beside(registry: &mut Registry) {
    registry.add(
        Subject::new(
            "Tap",
            &["Tap"],
            ITEMS,
            |site| Tap::new(move |item: &Item| site.faults.panic_only(item.value())),
            // It cannot lose the item, whatever its closure does.
            |input, _| input.to_vec(),
        )
        .closure(Closure::Panics),
    );
    registry.add(Subject::new(
        "MapErr",
        &["MapErr"],
        ITEMS,
        |_| {
            let fails =
                |item: &Item| if item.value() % 4 == 2 { Err(Refused(0)) } else { Ok(item.sibling(item.value())) };
            let without_item = |error: StreamError| {
                drop(error.take_item::<Item>());
                error
            };
            Mapper::fallible(fails).then(MapErr::new(without_item))
        },
        |input, _| {
            each(input, Faults::None, false, |value| {
                vec![if value % 4 == 2 { Seen::Made(Kind::Failed, None) } else { Seen::Value(value) }]
            })
        },
    ));
    registry.add(recover("Recover: fused to what fails", |fails, recovers| fails.fuse(recovers).boxed()));
    registry.add(recover("Recover", |fails, recovers| fails.then(recovers).boxed()));
}

type Fails = FallibleMapper<Item, Item, Refused, fn(&Item) -> Result<Item, Refused>>;
type Recovers = Recover<Item, fn(&StreamError) -> Option<Item>>;

/// Every fourth item fails, and every second of those is recovered.
fn recover(name: &'static str, join: fn(Fails, Recovers) -> BoxProcessor<Item, Item>) -> Subject<Item, Item> {
    let fail = |item: &Item| if item.value() % 4 == 2 { Err(Refused(0)) } else { Ok(item.sibling(item.value())) };
    let recover = |error: &StreamError| match error.take_item::<Item>() {
        // It cannot lose the error, whatever its closure does.
        None => panic_on_purpose(),
        Some(item) => {
            let value = item.value();
            (value % 8 == 2).then(|| item.with_value(value + 500))
        }
    };
    let build = move |_| join(Mapper::fallible(fail as fn(&_) -> _), Recover::new(recover as fn(&_) -> _));
    Subject::new(name, &["Recover"], ITEMS, build, |input, _| {
        each(input, Faults::None, false, |value| {
            vec![match value % 8 {
                2 => Seen::Value(value + 500),
                6 => Seen::Made(Kind::Failed, None),
                _ => Seen::Value(value),
            }]
        })
    })
}
