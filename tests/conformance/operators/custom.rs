//! Operators made by users, and stages made of several steps.

use streamz::{BoxStage, Custom, Emit, Filter, Mapper, Operator, Processor, ProcessorFn, Stage, Stream};

use super::{ITEMS, Registry};
use crate::common::faults::Faults;
use crate::common::item::Item;
use crate::common::models::each;
use crate::common::seen::Seen;
use crate::subject::{Closure, Subject};

pub fn register(registry: &mut Registry) {
    registry.add(Subject::new(
        "Custom: laggards",
        &[],
        ITEMS,
        |_| Custom::new("laggards", Laggards::default),
        laggards,
    ));
    registry.add(
        Subject::new("Custom: pairs", &["Custom"], ITEMS, |_| Custom::new("pairs", Pairs::default), pairs).groups(),
    );
    registry.add(
        Subject::new(
            "fused: map, filter, try_map",
            &[],
            ITEMS,
            |site| {
                let (add, some, last) = steps(site.faults);
                add.fuse(some).fuse(last)
            },
            fused,
        )
        .closure(Closure::Fails),
    );
    registry.add(
        Subject::new(
            "boxed: map, filter, try_map",
            &[],
            ITEMS,
            |site| {
                let (add, some, last) = steps(site.faults);
                BoxStage::fused("boxed", [add.boxed_stage(), some.boxed_stage(), last.boxed_stage()])
            },
            fused,
        )
        .closure(Closure::Fails),
    );
    registry.add(
        Subject::new(
            "boxed: pairs, pairs, map",
            &[],
            ITEMS,
            |site| {
                let map = Mapper::new(move |item: Item| {
                    site.faults.panic_only(item.value());
                    item
                });
                let pairs = || Custom::new("pairs", Pairs::default).boxed_stage();
                BoxStage::fused("boxed", [pairs(), pairs(), map.boxed_stage()])
            },
            |input, faults| {
                each(&pairs(&pairs(input, Faults::None), Faults::None), faults, false, |value| vec![Seen::Value(value)])
            },
        )
        .groups()
        .closure(Closure::Panics),
    );
    registry.add(
        Subject::new(
            "fused to the right: pairs, pairs, map",
            &[],
            ITEMS,
            |site| {
                let map = Mapper::new(move |item: Item| {
                    site.faults.panic_only(item.value());
                    item
                });
                Custom::new("pairs", Pairs::default).fuse(Custom::new("pairs", Pairs::default).fuse(map))
            },
            |input, faults| {
                each(&pairs(&pairs(input, Faults::None), Faults::None), faults, false, |value| vec![Seen::Value(value)])
            },
        )
        .groups()
        .closure(Closure::Panics),
    );
    registry.add(
        Subject::new(
            "Stream::stage",
            &[],
            ITEMS,
            |site| {
                ProcessorFn::new("outer", move |_, items: Stream<Item>| {
                    items.stage("inner", |steps| {
                        steps.filter(|item| !(item.value() + 1).is_multiple_of(5)).map(move |item| {
                            site.faults.panic_only(item.value());
                            let value = item.value() + 1;
                            item.with_value(value)
                        })
                    })
                })
            },
            |input, faults| {
                let kept: Vec<Seen> = input
                    .iter()
                    .filter(|seen| !matches!(seen, Seen::Value(value) if (value + 1).is_multiple_of(5)))
                    .cloned()
                    .collect();
                each(&kept, faults, false, |value| vec![Seen::Value(value + 1)])
            },
        )
        .closure(Closure::Panics),
    );
    registry.add(
        Subject::new(
            "then: pairs, map",
            &[],
            ITEMS,
            |site| {
                Custom::new("pairs", Pairs::default).then(Mapper::new(move |item: Item| {
                    site.faults.panic_only(item.value());
                    item
                }))
            },
            |input, faults| each(&pairs(input, Faults::None), faults, false, |value| vec![Seen::Value(value)]),
        )
        .groups()
        .closure(Closure::Panics),
    );
}

fn steps(
    faults: Faults,
) -> (impl Stage<In = Item, Out = Item>, impl Stage<In = Item, Out = Item>, impl Stage<In = Item, Out = Item>) {
    let add = Mapper::new(|item: Item| {
        let value = item.value() + 1;
        item.with_value(value)
    });
    let some = Filter::new(|item: &Item| !item.value().is_multiple_of(5));
    let last = Mapper::fallible(move |item: &Item| faults.check(item.value() - 1).map(|()| item.sibling(item.value())));
    (add, some, last)
}

fn fused(input: &[Seen], faults: Faults) -> Vec<Seen> {
    let kept: Vec<Seen> = input
        .iter()
        .filter(|seen| !matches!(seen, Seen::Value(value) if (value + 1).is_multiple_of(5)))
        .cloned()
        .collect();
    // The item that failed in the last step has been through the first.
    let shift = |seen| match seen {
        Seen::Made(kind, Some(value)) => Seen::Made(kind, Some(value + 1)),
        other => other,
    };
    each(&kept, faults, true, |value| vec![Seen::Value(value + 1)]).into_iter().map(shift).collect()
}

/// Holds every other item back until the next one comes, and then emits both: an operator that holds items, and has
/// more to say than there may be room for.
#[derive(Default)]
struct Pairs {
    held: Option<Item>,
    second: Option<Item>,
}

impl Pairs {
    fn speak(&mut self, out: &mut impl Emit<Item>) {
        if self.second.is_some() {
            if let Some(first) = self.held.take() {
                out.emit(first);
                if out.is_full() {
                    return;
                }
            }
            if let Some(second) = self.second.take() {
                out.emit(second);
            }
        }
    }
}

impl Operator for Pairs {
    type In = Item;
    type Out = Item;

    fn item(&mut self, item: Item, out: &mut impl Emit<Item>) {
        if self.held.is_none() {
            self.held = Some(item);
        } else {
            self.second = Some(item);
            self.speak(out);
        }
    }

    fn error(&mut self, error: streamz::StreamError, out: &mut impl Emit<Item>) {
        // What is held came before the error.
        if let Some(first) = self.held.take() {
            out.emit(first);
        }
        out.error(error);
    }

    fn resume(&mut self, out: &mut impl Emit<Item>) -> bool {
        self.speak(out);
        self.second.is_some()
    }

    fn end(&mut self, out: &mut impl Emit<Item>) {
        if let Some(first) = self.held.take() {
            out.emit(first);
        }
    }

    fn held(&self) -> u64 {
        u64::from(self.held.is_some()) + u64::from(self.second.is_some())
    }
}

/// Holds each odd item back until the next odd one comes; all else passes it by. So items are not settled in the order in which
/// they came, and the operator says nothing about marks.
#[derive(Default)]
struct Laggards {
    held: Option<Item>,
}

impl Operator for Laggards {
    type In = Item;
    type Out = Item;

    fn item(&mut self, item: Item, out: &mut impl Emit<Item>) {
        let next = if item.value().is_multiple_of(2) { Some(item) } else { self.held.replace(item) };
        next.into_iter().for_each(|item| out.emit(item));
    }

    fn end(&mut self, out: &mut impl Emit<Item>) {
        self.held.take().into_iter().for_each(|item| out.emit(item));
    }

    fn held(&self) -> u64 {
        u64::from(self.held.is_some())
    }
}

fn laggards(input: &[Seen], _: Faults) -> Vec<Seen> {
    let mut held = None;
    let mut one = |seen: &Seen| match *seen {
        Seen::Value(value) if value % 2 == 1 => held.replace(Seen::Value(value)),
        _ => Some(seen.clone()),
    };
    let mut out: Vec<Seen> = input.iter().filter_map(&mut one).collect();
    out.extend(held);
    out
}

/// Holding back changes when items come out, not which and not in what order.
fn pairs(input: &[Seen], _: Faults) -> Vec<Seen> {
    input.to_vec()
}
