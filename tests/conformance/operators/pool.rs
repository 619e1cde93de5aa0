//! Operators that work on several items at a time.

use streamz::{AsyncMapper, CancelToken, ParMapper, Processor, with_init};

use super::{ITEMS, Registry};
use crate::common::faults::{Faults, Refused};
use crate::common::item::Item;
use crate::common::models::each;
use crate::common::seen::Seen;
use crate::subject::{Closure, Site, Subject};

pub fn register(registry: &mut Registry) {
    registry.add(
        Subject::new(
            "AsyncMapper",
            &["AsyncMapper"],
            ITEMS,
            |site| AsyncMapper::new(call(site)).with_workers(3),
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "AsyncMapper: a state for each worker",
            &["AsyncMapper", "with_init"],
            ITEMS,
            |site| {
                let call = call(site);
                let counted = move |calls: &mut u64, cancel: &CancelToken, item: &Item| {
                    *calls += 1;
                    call(cancel, item)
                };
                AsyncMapper::new(with_init(|| 0, counted)).with_workers(3)
            },
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "AsyncMapper: small window and queue",
            &["AsyncMapper"],
            ITEMS,
            |site| AsyncMapper::new(call(site)).with_workers(4).with_window(4).with_queue_size(1),
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "AsyncMapper: one worker",
            &["AsyncMapper"],
            ITEMS,
            |site| AsyncMapper::new(call(site)).with_workers(1).with_window(1),
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "AsyncMapper: unordered",
            &["AsyncMapper"],
            ITEMS,
            |site| AsyncMapper::new(call(site)).with_workers(3).with_ordered(false),
            plus_one,
        )
        .closure(Closure::Fails)
        .sleeps()
        .unordered(),
    );
    for (name, workers, window) in [("AsyncMapper: keyed", 3, 1024), ("AsyncMapper: keyed, small window", 2, 2)] {
        registry.add(
            Subject::new(
                name,
                &["AsyncMapper"],
                ITEMS,
                move |site| {
                    let mapper = AsyncMapper::keyed(|item: &Item| item.value() % 4, call(site));
                    mapper.with_workers(workers).with_window(window)
                },
                plus_one,
            )
            .closure(Closure::Fails)
            .sleeps(),
        );
    }
    registry.add(
        Subject::new(
            "AsyncMapper: keyed, unordered, keys that panic",
            &["AsyncMapper"],
            ITEMS,
            |site| {
                let key = move |item: &Item| {
                    site.faults.panic_only(item.value());
                    item.value() % 4
                };
                let none = Site { faults: Faults::None, asleep: site.asleep };
                AsyncMapper::keyed(key, call(none)).with_workers(3).with_ordered(false)
            },
            plus_one,
        )
        .closure(Closure::Panics)
        .unordered()
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "then: AsyncMapper, AsyncMapper",
            &[],
            ITEMS,
            |site| {
                let none = Site { faults: Faults::None, asleep: false };
                AsyncMapper::new(call(site)).with_workers(2).then(AsyncMapper::new(call(none)).with_workers(2))
            },
            |input, faults| plus_one(&plus_one(input, faults), Faults::None),
        )
        .closure(Closure::Fails)
        .sleeps(),
    );
    registry.add(
        Subject::new(
            "Combine",
            &["Combine"],
            ITEMS,
            |site| {
                let mapper = AsyncMapper::new(call(site)).with_workers(3);
                mapper.combine(|item: Item, result| match result {
                    Ok(made) => {
                        let value = made.value() + 100;
                        // Before the result is made: it would be leaked if this panics.
                        drop(made);
                        Ok(item.with_value(value))
                    }
                    Err(error) => Err((item, error)),
                })
            },
            |input, faults| each(input, faults, true, |value| vec![Seen::Value(value + 101)]),
        )
        .groups()
        .closure(Closure::Fails)
        .sleeps(),
    );
    for (name, window) in [("ParMapper", 1024), ("ParMapper: window 2", 2)] {
        registry.add(
            Subject::new(
                name,
                &["ParMapper"],
                ITEMS,
                move |site| {
                    ParMapper::new(move |item: Item| {
                        site.faults.panic_only(item.value());
                        let value = item.value() + 1;
                        item.with_value(value)
                    })
                    .with_window(window)
                },
                |input, faults| each(input, faults, false, |value| vec![Seen::Value(value + 1)]),
            )
            .closure(Closure::Panics),
        );
    }
}

pub fn call(site: Site) -> impl Fn(&CancelToken, &Item) -> Result<Item, Refused> + Send + Sync + 'static {
    move |cancel, item| {
        site.wait(cancel);
        // Some take longer than others, so that they would overtake one another if they could.
        for _ in 0..item.value() % 3 {
            std::thread::yield_now();
        }
        site.faults.check(item.value())?;
        Ok(item.sibling(item.value() + 1))
    }
}

pub fn plus_one(input: &[Seen], faults: Faults) -> Vec<Seen> {
    each(input, faults, true, |value| vec![Seen::Value(value + 1)])
}
